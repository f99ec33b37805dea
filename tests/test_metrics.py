"""Every metric: counted once, bounded, and documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from jupyterhub_ai_gateway.metrics import FAMILIES, Cell, ConfigurationState, Metrics, reference
from jupyterhub_ai_gateway.vocabulary import Usage

NS = "jupyterhub_ai_gateway_"
REPO = Path(__file__).parents[1]


class Auth:
    """What a resolver counts."""

    hits, misses, stale, lookups, errors = 7, 3, 1, 4, 2

    def __len__(self) -> int:
        return 5


def cell_of(metrics: Metrics, endpoint: str = "chat", operation: str = "chat") -> Cell:
    return metrics.cell(endpoint=endpoint, operation=operation, provider="mistral", model="large")


def count(
    cell: Cell,
    status: int = 200,
    slug: str = "",
    *,
    duration_s: float = 0.5,
    first_byte_s: float | None = None,
    usage: Usage | None = None,
) -> None:
    cell.begin()
    cell.end(status, slug, duration_s, first_byte_s, usage)


def samples(metrics: Metrics, name: str = "") -> Iterator[Sample]:
    for family in parse_text(metrics.render()[0].decode()):
        yield from (sample for sample in family.samples if sample.name == name or not name)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Add up the samples of this name that have these labels."""
    found = [sample.value for sample in samples(metrics, name) if labels.items() <= sample.labels.items()]
    assert found, f"no {name} with {labels}"
    return sum(found)


def test_every_request_is_counted_once() -> None:
    metrics = Metrics()
    cell = cell_of(metrics)
    count(cell)
    count(cell)
    count(cell, 429, "rate_limit_exceeded")
    count(cell, 502, "upstream_unreachable")
    count(cell, 400, "upstream_error")
    metrics.refused(operation="chat", status=401, slug="invalid_api_key")
    total = NS + "requests_total"
    assert value(metrics, total) == 6
    assert value(metrics, total, endpoint="chat", outcome="ok", status="200") == 2
    assert value(metrics, total, endpoint="", operation="chat", outcome="invalid_api_key") == 1
    assert value(metrics, "gen_ai_server_request_duration_seconds_count") == 5
    assert value(metrics, NS + "rate_limit_hits_total") == 1
    assert value(metrics, NS + "upstream_errors_total") == 2


def test_in_flight_falls_back_to_zero() -> None:
    metrics = Metrics()
    cell = cell_of(metrics)
    cell.begin()
    cell.begin()
    assert value(metrics, NS + "requests_in_flight") == 2
    cell.end(200, "", 1.0, None, None)
    cell.end(499, "client_closed_request", 1.0, None, None)
    assert value(metrics, NS + "requests_in_flight") == 0


@pytest.mark.parametrize(
    ("duration_s", "bound"), [(0.0, "0.01"), (0.01, "0.01"), (0.0101, "0.02"), (400.0, "+Inf")]
)
def test_a_duration_falls_into_its_bucket(duration_s: float, bound: str) -> None:
    metrics = Metrics()
    count(cell_of(metrics), duration_s=duration_s)
    buckets = [
        (sample.labels["le"], sample.value)
        for sample in samples(metrics, "gen_ai_server_request_duration_seconds_bucket")
    ]
    assert next(le for le, added in buckets if added) == bound
    assert buckets[-1] == ("+Inf", 1)
    assert [added for _, added in buckets] == sorted(added for _, added in buckets)


def test_durations_of_failures_stand_apart() -> None:
    metrics = Metrics()
    cell = cell_of(metrics)
    count(cell, duration_s=2.0)
    count(cell, 502, "upstream_error", duration_s=0.25)
    count(cell, 400, "upstream_error", duration_s=0.25)
    total = "gen_ai_server_request_duration_seconds_sum"
    assert value(metrics, total, error_type="") == 2.0
    assert value(metrics, total, error_type="upstream_error") == 0.5


def test_names_of_the_conventions() -> None:
    metrics = Metrics()
    count(cell_of(metrics, "old", "completions"), usage=Usage(1, 1))
    labels = {
        "endpoint": "old",
        "gen_ai_operation_name": "text_completion",
        "gen_ai_provider_name": "mistral_ai",
        "gen_ai_request_model": "large",
    }
    assert value(metrics, "gen_ai_client_token_usage_count", gen_ai_token_type="input", **labels) == 1


def test_tokens_by_kind() -> None:
    metrics = Metrics()
    cell = cell_of(metrics)
    count(cell, usage=Usage(100, 20, 80, 5))
    count(cell, usage=Usage(10, 2))
    total = NS + "tokens_total"
    kinds = {"input": 110, "output": 22, "cached_input": 80, "reasoning": 5}
    assert {kind: value(metrics, total, token_type=kind) for kind in kinds} == kinds
    assert value(metrics, "gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 22


def test_unknown_usage_is_not_zero() -> None:
    metrics = Metrics()
    cell = cell_of(metrics)
    count(cell)
    count(cell, 502, "upstream_error")
    count(cell, usage=Usage(3, None))
    assert value(metrics, NS + "requests_without_usage_total") == 1
    assert value(metrics, "gen_ai_client_token_usage_count") == 1


def test_pace_of_streams() -> None:
    metrics = Metrics()
    cell = cell_of(metrics)
    count(cell, duration_s=2.5, first_byte_s=0.5, usage=Usage(5, 11))
    count(cell, duration_s=2.5, first_byte_s=0.5)
    count(cell, duration_s=2.5, usage=Usage(5, 11))
    count(cell, 502, "upstream_broken", duration_s=2.5, first_byte_s=0.5, usage=Usage(5, 11))
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_count") == 2
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_count") == 1
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_sum") == 0.2


def test_a_reload_finds_the_same_cell() -> None:
    metrics = Metrics()
    assert cell_of(metrics) is cell_of(metrics)
    assert cell_of(metrics) is not cell_of(metrics, "other-endpoint")


def test_cells_are_bounded() -> None:
    metrics = Metrics(max_series=3)
    for number in range(10):
        count(cell_of(metrics, f"endpoint-{number}"))
    assert value(metrics, NS + "requests_total", endpoint="other") == 7
    assert value(metrics, NS + "requests_total") == 10
    assert value(metrics, NS + "metric_cells") == 3


def test_outcomes_are_bounded() -> None:
    metrics = Metrics()
    cell = cell_of(metrics)
    for number in range(500):
        count(cell, 400 + number % 100, f"slug_{number}")
        metrics.refused(operation=f"operation_{number}", status=400 + number % 100, slug="not_found")
    total = NS + "requests_total"
    assert value(metrics, total, endpoint="chat") == value(metrics, total, endpoint="") == 500
    assert len(list(samples(metrics, total))) < 140


def test_a_stranger_s_text_is_no_label() -> None:
    canary = "My password is: hunter2\n"
    metrics = Metrics()
    count(cell_of(metrics), 400, canary)
    metrics.refused(operation=canary, status=404, slug=canary)
    body, _ = metrics.render()
    assert b"hunter2" not in body
    assert value(metrics, NS + "requests_total", outcome="other") == 2


def test_unused_cells_are_not_shown() -> None:
    metrics = Metrics()
    cell_of(metrics)
    assert not list(samples(metrics, NS + "requests_in_flight"))


def test_watched_values() -> None:
    metrics = Metrics()
    metrics.watch_auth(Auth())
    metrics.watch_connections(lambda: 12)
    metrics.watch_version("1.2.3")
    loaded = datetime(2026, 11, 20, tzinfo=timezone.utc)
    metrics.watch_configuration(lambda: ConfigurationState(loaded, 4, 2, 1, "endpoints[0].name: is empty"))
    results = {"hit": 7, "miss": 3, "stale": 1}
    assert {r: value(metrics, NS + "auth_cache_answers_total", result=r) for r in results} == results
    assert value(metrics, NS + "auth_cache_tokens") == 5
    assert value(metrics, NS + "hub_lookup_errors_total") == 2
    assert value(metrics, NS + "upstream_connections") == 12
    assert value(metrics, NS + "build_info", version="1.2.3") == 1
    assert value(metrics, NS + "configuration_loads_total", result="failure") == 1
    assert value(metrics, NS + "configuration_last_load_successful") == 0
    assert value(metrics, NS + "configuration_loaded_timestamp_seconds") == loaded.timestamp()
    assert value(metrics, NS + "configuration_endpoints") == 4
    assert value(metrics, "process_resident_memory_bytes") > 0


def test_a_snapshot_does_not_change() -> None:
    metrics = Metrics()
    cell = cell_of(metrics)
    count(cell, usage=Usage(1, 1), first_byte_s=0.1)
    before = metrics.snapshot()
    text = [line for line in before.render()[0].splitlines() if not line.startswith(b"process_")]
    count(cell, 500, "internal_error")
    count(cell, usage=Usage(1, 1), first_byte_s=0.1)
    metrics.refused(operation="chat", status=401, slug="invalid_api_key")
    again = [line for line in before.render()[0].splitlines() if not line.startswith(b"process_")]
    assert again == text


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0;"),
    ],
)
def test_the_scraper_chooses_the_format(accept: str, content_type: str) -> None:
    metrics = Metrics()
    count(cell_of(metrics), usage=Usage(1, 1), first_byte_s=0.1)
    body, found = metrics.render(accept)
    assert found.startswith(content_type)
    parse = parse_openmetrics if "openmetrics" in found else parse_text
    assert any(family.name == NS + "requests" for family in parse(body.decode()))


def test_namespace_can_be_another() -> None:
    metrics = Metrics("campus")
    count(cell_of(metrics))
    assert value(metrics, "campus_requests_total") == 1
    assert value(metrics, "gen_ai_server_request_duration_seconds_count") == 1
    with pytest.raises(ValueError, match="cannot begin"):
        Metrics("campus-1")


def test_names_follow_the_rule() -> None:
    for family in FAMILIES:
        name = family.full_name("ns")
        assert re.fullmatch(r"(ns|gen_ai)_[a-z_]+", name)
        assert name.startswith("gen_ai_") is not family.is_ours
        assert name.endswith("_total") is (family.kind == "counter")
        assert not {"user", "path", "token_id"} & set(family.labels)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_everything_shown_is_documented() -> None:
    metrics = Metrics()
    metrics.watch_auth(Auth())
    metrics.watch_version("1")
    count(cell_of(metrics), usage=Usage(1, 2), first_byte_s=0.1)
    text = reference()
    for sample in samples(metrics):
        if not sample.name.startswith("process_"):
            assert f"`{re.sub(r'_(bucket|count|sum)$', '', sample.name)}`" in text


def test_reference_page_is_current() -> None:
    page = REPO / "docs" / "reference" / "metrics.md"
    assert page.read_text() == reference(), "run: python -m jupyterhub_ai_gateway.metrics"
