"""What vendors' replies cost: the record adds up, and the price is the vendor's own arithmetic."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.dialects import anthropic, openai_answer
from jupyterhub_ai_gateway.usage.price import Period, Price, Rates, Tariff, dollars, picodollars
from jupyterhub_ai_gateway.usage.table import PriceTable
from jupyterhub_ai_gateway.vocabulary import Usage

AT = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
TABLE = PriceTable.shipped()


def openai(usage: str) -> Usage:
    read = openai_answer.read_answer(f'{{"choices":[],"usage":{usage}}}'.encode()).usage
    assert read is not None
    return read


def claude(usage: str) -> Usage:
    read = anthropic.read_answer(f'{{"type":"message","usage":{usage}}}'.encode()).usage
    assert read is not None
    return read


# Each: who, model, the usage as it came, the vendor's arithmetic in dollars per million tokens
RECORDED = [
    # platform.openai.com/docs/guides/prompt-caching; gpt-4o is 2.50 in, 1.25 cached, 10.00 out
    (
        "openai",
        "gpt-4o",
        openai(
            '{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,'
            '"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},'
            '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}'
        ),
        "86*2.50 + 1920*1.25 + 300*10",
    ),
    # platform.openai.com/docs/guides/reasoning: reasoning is part of the output and costs the same
    (
        "openai",
        "o3",
        openai(
            '{"prompt_tokens":75,"completion_tokens":1186,"total_tokens":1261,'
            '"prompt_tokens_details":{"cached_tokens":0},'
            '"completion_tokens_details":{"reasoning_tokens":1024}}'
        ),
        "75*2 + 1186*8",
    ),
    # platform.openai.com/docs/guides/audio; gpt-audio: text 2.50 and 10, audio 32 and 64
    (
        "openai",
        "gpt-audio",
        openai(
            '{"prompt_tokens":152,"completion_tokens":117,"total_tokens":269,'
            '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":120},'
            '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":90}}'
        ),
        "32*2.50 + 120*32 + 27*10 + 90*64",
    ),
    # platform.claude.com/docs/en/build-with-claude/prompt-caching, "1-hour cache duration";
    # Sonnet 4.5 is 3 in, 3.75 written for five minutes, 6 for an hour, 0.30 read, 15 out
    (
        "anthropic",
        "claude-sonnet-4-5-20250929",
        claude(
            '{"input_tokens":2048,"cache_read_input_tokens":1800,"cache_creation_input_tokens":248,'
            '"output_tokens":503,"cache_creation":{"ephemeral_5m_input_tokens":148,'
            '"ephemeral_1h_input_tokens":100}}'
        ),
        "2048*3 + 1800*0.30 + 148*3.75 + 100*6 + 503*15",
    ),
    # The same page's long-context tier: above 200,000 tokens all of them cost more
    (
        "anthropic",
        "claude-sonnet-4-5",
        claude('{"input_tokens":150000,"cache_read_input_tokens":60000,"output_tokens":1000}'),
        "150000*6 + 60000*0.60 + 1000*22.50",
    ),
    # docs.x.ai/docs/guides/reasoning: reasoning beside completion_tokens, inside total_tokens
    (
        "xai",
        "grok-3-mini",
        openai(
            '{"prompt_tokens":37,"completion_tokens":60,"total_tokens":407,'
            '"completion_tokens_details":{"reasoning_tokens":310}}'
        ),
        "37*0.30 + 370*0.50",
    ),
    # Embeddings have no output
    (
        "openai",
        "text-embedding-3-small",
        openai('{"prompt_tokens":8,"total_tokens":8}'),
        "8*0.02",
    ),
]


@pytest.mark.parametrize(("provider", "model", "usage", "arithmetic"), RECORDED)
def test_recorded_reply_costs_what_the_vendor_says(
    provider: str, model: str, usage: Usage, arithmetic: str
) -> None:
    expected = sum(
        Decimal(count) * Decimal(rate)
        for count, rate in (part.strip().split("*") for part in arithmetic.split("+"))
    )
    price = TABLE.find(provider, model)
    assert price is not None
    cost = price.cost_nanousd(usage, 1.0, AT)
    assert cost is not None
    assert dollars(cost) == (expected / 1_000_000).quantize(Decimal("1e-9"))
    parts = usage.parts()
    assert sum(parts[:6]) == usage.input_tokens
    assert sum(parts[6:]) == (usage.output_tokens or 0)


def test_deepseek_and_moonshot_tell_their_caches_in_fields_of_their_own() -> None:
    deepseek = openai('{"prompt_tokens":100,"completion_tokens":5,"prompt_cache_hit_tokens":64}')
    moonshot = openai('{"prompt_tokens":100,"completion_tokens":5,"cached_tokens":64}')
    assert deepseek.cached_input_tokens == moonshot.cached_input_tokens == 64


def test_a_cost_that_the_provider_reports_is_read_in_nanodollars() -> None:
    usage = openai('{"prompt_tokens":194,"completion_tokens":2,"cost":0.00014}')
    assert usage.reported_nanousd == 140_000
    for cost in ("-1", '"0.2"', "1e99", "null"):
        assert openai(f'{{"prompt_tokens":1,"completion_tokens":1,"cost":{cost}}}').reported_nanousd is None


counts = st.none() | st.integers(0, 10**9)


@given(st.tuples(*[counts] * 9))
def test_parts_add_up_whatever_a_provider_tells(numbers: tuple[int | None, ...]) -> None:
    usage = Usage(*numbers)
    parts = usage.parts()
    assert sum(parts[:6]) == (usage.input_tokens or 0)
    assert sum(parts[6:]) == (usage.output_tokens or 0)
    assert min(parts) >= 0


def test_unknown_is_not_free() -> None:
    price = Price((Tariff(Rates.of(input=1_000_000, output=2_000_000)),), "configuration")
    assert price.cost_nanousd(None, 1.0, AT) is None
    assert price.cost_nanousd(Usage(10, None), 1.0, AT) is None
    assert price.cost_nanousd(Usage(None, 10), 1.0, AT) is None
    assert price.cost_nanousd(Usage(10, 0), 1.0, AT) == 10_000


def test_an_own_gpu_costs_by_the_second_whatever_it_says() -> None:
    price = Price((Tariff(Rates.of(), second=10**9),), "configuration")  # a thousandth of a dollar
    assert price.cost_nanousd(None, 2.5, AT) == 2_500_000


@pytest.mark.parametrize(
    ("minute", "holds"), [(0, True), (29, True), (30, False), (1409, False), (1410, True), (1439, True)]
)
def test_hours_may_cross_midnight(minute: int, holds: bool) -> None:
    period = Period(minutes=(1410, 30))
    assert period.holds(AT.replace(hour=minute // 60, minute=minute % 60)) is holds


def test_the_last_tariff_that_holds_counts() -> None:
    usual, night = Rates.of(input=2_000_000), Rates.of(input=1_000_000)
    later = Tariff(
        Rates.of(input=5_000_000), period=Period(start=datetime(2027, 1, 1, tzinfo=timezone.utc))
    )
    price = Price((Tariff(usual), Tariff(night, period=Period(minutes=(0, 360))), later), "configuration")
    costs = [
        price.cost_nanousd(Usage(1, 0), 0.0, at)
        for at in (AT, AT.replace(hour=3), datetime(2027, 1, 1, tzinfo=timezone.utc))
    ]
    assert costs == [2_000, 1_000, 5_000]


def test_every_price_of_the_table_can_be_read() -> None:
    providers = TABLE._providers
    for name, known in providers.items():
        for entry in known["models"]:
            price = TABLE.find(name, entry["id"])
            assert price is None or price.tariffs, entry["id"]


def test_a_model_that_the_table_lacks_has_no_price() -> None:
    for provider, model in product(("openai", "vllm", "nobody"), ("gpt-99-unheard-of", None)):
        assert TABLE.find(provider, model) is None


def test_a_price_in_dollars_is_exact_to_six_decimals() -> None:
    assert picodollars(Decimal("0.0375")) == 37_500
    assert dollars(1_234_567_890) == Decimal("1.234567890")


def test_an_estimate_is_0_only_for_what_is_free() -> None:
    tiny = Price((Tariff(Rates.of(input=1)),), "configuration")
    assert tiny.estimate_nanousd(0, 0) == 1
    assert Price((Tariff(Rates.of(), second=5),), "configuration").estimate_nanousd(0, 0) >= 1
    assert Price((Tariff(Rates.of()),), "configuration").estimate_nanousd(10**6, 10**6) == 0


MEASURED = Tariff(Rates.of(), units={"images": 4 * 10**10, "audio_seconds": 10**8, "search_units": 0})


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(images=2, audio_seconds=0.0), 80_000_000),
        (Usage(images=0, audio_seconds=90.5), 9_050_000),
        (Usage(images=1, audio_seconds=1.0, search_units=5), 40_100_000),
        (Usage(images=1), None),  # how long a recording was, nobody has told
        (Usage(5, 7), None),
        (None, None),
    ],
)
def test_units_cost_what_they_count_and_nobody_guesses_them(usage: Usage | None, cost: int | None) -> None:
    assert Price((MEASURED,), "x").cost_nanousd(usage, 1.0) == cost


def test_units_are_thought_of_before_they_are_counted() -> None:
    assert Price((MEASURED,), "x").estimate_nanousd(1, 1) == 40_000_000 + 60 * 100_000
    assert not MEASURED.is_free
    assert Tariff(Rates.of(), units={"images": 0}).is_free
