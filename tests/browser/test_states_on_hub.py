"""Every page as a person meets it: on the first day, after a semester, where nothing is written down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from fakes.upstream import FakeUpstream, Reply, chat_chunk, chat_completion
from integration.gateway import running_gateway
from integration.hub import GatewayHub, start_gateway_hub
from served import KEY

from .audit import AXE, cut_tables, is_too_wide, keep, narrow, scheme, violations, wide
from .chromium import CHROMEDRIVER, CHROMIUM, Browser, chromium
from .semester import COURSES, LONG_GROUP, LONG_MODEL, LONG_USER, write_semester
from .test_docs_on_hub import log_in

pytestmark = [
    pytest.mark.hub,
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason="needs Chromium"),
    pytest.mark.skipif(not AXE.exists(), reason="needs axe-core"),
]

ROLES = f"""
WATCH = "custom:" + NAME + ":group-usage"
c.JupyterHub.custom_scopes[WATCH] = {{"description": "See what groups use"}}
c.JupyterHub.load_groups = {{
    "ai": {{"users": ["alice"]}},
    "physics-101": {{"users": ["alice"]}},
    "statistics-201": {{"users": ["alice"]}},
    {LONG_GROUP!r}: {{"users": ["alice"]}},
}}
c.JupyterHub.load_roles += [
    {{"name": "looks-after-it", "users": ["admin"], "scopes": [ACCESS, FULL, "custom:" + NAME + ":admin"]}},
    {{"name": "teaches", "users": ["ira"],
      "scopes": [ACCESS, FULL, WATCH + "!group=physics-101", WATCH + "!group={LONG_GROUP}"]}},
    {{"name": "only-in", "users": ["dora"], "scopes": [ACCESS]}},
]
c.Authenticator.allowed_users |= {{"ira", "dora"}}
c.JupyterHub.services[-2]["oauth_client_allowed_scopes"] = [*OPERATIONS, "custom:" + NAME + ":admin", WATCH]
"""
COURSE = {"scope": {"group": [course for course in COURSES if course]}, "resource": "cost_usd"}
USAGE = {"prompt_tokens": 1200, "completion_tokens": 300}
FAR_EAST = "Pacific/Kiritimati"
"""Where a day begins before it does anywhere else."""
POLICIES = [
    {"name": "course-budget", "limit": 400, "window": "month", "count": "group", **COURSE},
    {"name": "student-budget", "limit": 0.25, "window": "month", "count": "member", **COURSE},
    {"name": "tokens-a-day", "resource": "tokens", "limit": 50000, "window": "day"},
    {"name": "pace", "resource": "requests", "limit": 20, "window": "minute"},
    {"name": "at-once", "resource": "concurrency", "limit": 4},
]


def endpoints(up: FakeUpstream) -> list[dict[str, Any]]:
    """Make models as a Hub has them: with and without a price, one with a long name."""

    def model(name: str, sent: str, **more: Any) -> dict[str, Any]:
        config = {"openai_api_key": KEY, "openai_api_base": f"{up.url}/v1"}
        kind = "embeddings" if name == "embeddings" else "chat"
        served = {"provider": "openai", "name": sent, "config": config}
        return {"name": name, "endpoint_type": f"llm/v1/{kind}", "model": served, **more}

    free = {"input_per_mtok": 0, "output_per_mtok": 0}
    return [
        model("gpt-4o-mini", "gpt-4o-mini", description="For everyday questions.", capabilities=["tools"]),
        model(
            "claude-sonnet",
            "claude-sonnet-4-5",
            price={"input_per_mtok": 3, "output_per_mtok": 15},
            description="Slower and dearer; for what the small one does not manage.",
            limit={"renewal_period": "hour", "calls": 30},
            at_limit={"use": LONG_MODEL},
            data_class="internal",
            context_length=200_000,
        ),
        model(
            LONG_MODEL,
            LONG_MODEL,
            price=free,
            data_class="restricted",
            context_length=131_072,
            capabilities=["tools", "vision", "structured-outputs"],
            description="Runs on the university's own machines: nothing leaves the house.",
        ),
        model("embeddings", "text-embedding-3-small"),
        model("in-house", "in-house-1"),
    ]


@dataclass
class World:
    """A running gateway, and the name of what is behind it."""

    name: str
    url: str
    up: FakeUpstream


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    started = start_gateway_hub(tmp_path_factory.mktemp("hub"), more=ROLES)
    yield started
    started.hub.stop()


@pytest.fixture(scope="module", params=["semester", "first-day", "no-ledger"])
def world(
    request: pytest.FixtureRequest, hub: GatewayHub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp(request.param)
    config: dict[str, Any] = {"policies": POLICIES}
    url = f"sqlite:///{folder}/ledger.sqlite"
    is_written = request.param != "no-ledger"
    config["ledger"] = {"url": url, "flush_s": 0.05} if is_written else False
    config["keys"] = {"enabled": is_written}
    if request.param == "first-day":
        config["time_zone"] = FAR_EAST
    if request.param == "semester":
        write_semester(url)
        config["maintenance"] = [
            {"weekly": "daily 00:00-24:00", "endpoints": "in-house", "text": "The GPUs are being replaced."}
        ]
    with FakeUpstream(key=KEY) as up:
        up.always(Reply.json({**chat_completion("Hi"), "usage": USAGE, "model": "gpt-4o-mini"}))
        with running_gateway(hub, folder, endpoints(up), config=config):
            if request.param == "semester":
                for model in ("gpt-4o-mini", "claude-sonnet", LONG_MODEL):
                    ask(hub, "alice", model)
                usage = {"prompt_tokens": 20_000, "completion_tokens": 10_000}
                up.script(
                    Reply.json({**chat_completion("Hi"), "usage": usage, "model": "claude-sonnet-4-5"})
                )
                ask(hub, "alice", "claude-sonnet")  # nearly all of a month's budget
                staff(hub)
            yield World(request.param, hub.service_url, up)


def ask(hub: GatewayHub, name: str, model: str) -> None:
    answer = requests.post(
        f"{hub.service_url}v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "Hi"}]},
        headers={"Authorization": f"Bearer {hub.hub.token(name)}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text


def staff(hub: GatewayHub) -> None:
    """Do what staff do in a semester: an override, a key."""
    headers = {"Authorization": f"Bearer {hub.hub.token('admin')}"}
    more = {"who": f"user:{LONG_USER}", "resource": "cost_usd", "amount": 20}
    more["ends"] = (datetime.now(timezone.utc) + timedelta(days=30)).isoformat()
    reason = "Bachelor's thesis on the measurement of something that takes a whole line to describe"
    lab = {"who": "group:physics-101", "resource": "tokens", "amount": 2_000_000}
    for path, body in (
        ("overrides", {**more, "reason": reason}),
        ("overrides", {**more, **lab, "reason": "Lab week"}),
        ("keys", {"name": "course-builder", "note": "Weekly sheets", "expires": "90d", "scopes": ["all"]}),
    ):
        answer = requests.post(f"{hub.service_url}api/{path}", json=body, headers=headers, timeout=30)
        assert answer.status_code == 201, answer.text


@pytest.fixture(scope="module")
def browsers() -> Iterator[dict[str, Any]]:
    """Keep a browser for each person, logged in once."""
    open_now: dict[str, Any] = {}
    yield open_now
    for context, _ in open_now.values():
        context.__exit__(None, None, None)


PAGES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "alice": (
        ("home", "", "#found"),
        ("playground", "playground", "#model option"),
        ("usage", "usage", "#found"),
        ("docs", "docs", "#models table"),
    ),
    "ira": (
        ("staff-usage", "staff#usage", "#usage-rows *"),
        ("staff-limits", "staff#limits", "#near *"),
    ),
    "admin": (
        ("staff-usage", "staff#usage", "#usage-rows *"),
        ("staff-limits", "staff#limits", "#overrides *"),
        ("staff-models", "staff#models", "#staff-panel table"),
        ("staff-inflight", "staff#inflight", "#inflight *"),
        ("staff-keys", "staff#keys", "#staff-panel h2"),
        ("staff-configuration", "staff#configuration", "#staff-panel table"),
        ("staff-audit", "staff#audit", "#staff-panel h2"),
    ),
    "dora": (("refused", "", "h1"),),
}


def opened(
    browsers: dict[str, Any], who: str, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Browser:
    """Return somebody's browser on an empty page, logged in."""
    if who not in browsers:
        context = chromium(tmp_path_factory.mktemp(f"chromium-{who}"))
        browsers[who] = (context, context.__enter__())
        browser: Browser = browsers[who][1]
        browser.open(world.url)
        log_in(browser, who)
        browser.find("h1")
    browser = browsers[who][1]
    browser.open("about:blank")
    wide(browser)
    scheme(browser, "light")
    browser.console()
    browser.hosts()
    return browser


@pytest.mark.parametrize("world", ["first-day"], indirect=True)
def test_days_are_those_of_the_gateways_time_zone(
    world: World, browsers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    browser = opened(browsers, "admin", world, tmp_path_factory)
    here = browser.driver.execute_script("return Intl.DateTimeFormat().resolvedOptions().timeZone")
    assert here != FAR_EAST
    browser.open(f"{world.url}staff#usage")
    note = browser.wait_text("#usage-zone", FAR_EAST)
    assert note.startswith("Days begin at midnight of the time zone")
    days = {f"{datetime.now(ZoneInfo(FAR_EAST)):%Y-%m-%d}"}
    days.add(str(browser.find("#f-until").get_attribute("value")))
    days.add(f"{datetime.now(ZoneInfo(FAR_EAST)):%Y-%m-%d}")
    assert len(days) <= 2  # two only at midnight there


EVERY_LOOK = [("light", wide), ("light", narrow), ("dark", wide), ("dark", narrow)]
TWO_LOOKS = [("light", wide), ("dark", narrow)]
"""Of pages that differ from others by little."""
NEED_A_LEDGER = ("usage", "staff-usage", "staff-audit")


@pytest.mark.parametrize(
    ("who", "name", "path", "sign"),
    [pytest.param(who, *page, id=f"{who}-{page[0]}") for who, pages in PAGES.items() for page in pages],
)
def test_page_is_usable_in_this_state(
    who: str,
    name: str,
    path: str,
    sign: str,
    world: World,
    browsers: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    browser = opened(browsers, who, world, tmp_path_factory)
    browser.open(f"{world.url}{path}")
    if world.name == "no-ledger" and name in NEED_A_LEDGER:
        browser.wait_text("#main", "keeps no ledger")
    else:
        browser.find(sign)
    expected = who == "dora" or world.name == "no-ledger"
    assert [line for line in browser.console() if not (expected and "status of 40" in line)] == []
    for theme, size in EVERY_LOOK if world.name == "semester" else TWO_LOOKS:
        scheme(browser, theme)
        size(browser)
        browser._wait().until(lambda _: not is_too_wide(browser))
        assert size is narrow or cut_tables(browser) == []
        assert violations(browser) == [], (theme, size.__name__)
        keep(browser, f"{world.name}-{who}-{name}-{theme}-{size.__name__}")
    wide(browser)
    assert browser.hosts() <= {world.url.split("/")[2]}


@pytest.mark.parametrize("world", ["semester"], indirect=True)
def test_a_budget_that_runs_out_says_until_when_and_who_answers_then(
    world: World, browsers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    browser = opened(browsers, "alice", world, tmp_path_factory)
    browser.open(world.url)
    words = browser.text("#budgets")
    assert "% of your budget “student-budget”" in words
    assert "It resets in" in words
    assert f"When it is used up, requests to claude-sonnet go to {LONG_MODEL}." in words
    assert f"then {LONG_MODEL} answers" in browser.text('[data-model="claude-sonnet"]')
    pieces = [chat_chunk({"content": "From here"}), {"choices": [], "usage": USAGE}, "[DONE]"]
    world.up.script(Reply.stream(*pieces))
    browser.open(f"{world.url}playground#claude-sonnet")
    browser.find("#model option")
    browser.type("#max_tokens", "60000")  # more than the rest pays for
    browser.type("#message", "Hello")
    browser.click("#send")
    facts = browser.wait_text(".turn.assistant .facts-line", "answered by")
    assert f"answered by {LONG_MODEL}, as your budget for claude-sonnet is used up" in facts
    keep(browser, "playground-substituted")
    browser.open(world.url)
    row = browser.wait_text("#requests tbody tr:first-child", LONG_MODEL)
    assert f"{LONG_MODEL}, for claude-sonnet" in row
    browser.click("#requests tbody tr:first-child button")
    assert "a budget for it was used up" in browser.wait_text("dialog", "Asked for")
    keep(browser, "home-substituted")
    assert browser.console() == []
    assert browser.hosts() <= {world.url.split("/")[2]}
