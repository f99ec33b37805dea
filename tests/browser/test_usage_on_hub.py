"""The page of one's own use, from a real gateway on a real Hub, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from fakes.upstream import FakeUpstream, Reply, chat_completion
from integration.gateway import running_gateway
from integration.hub import GatewayHub, start_gateway_hub
from served import KEY, endpoint

from .audit import keep
from .chromium import CHROMEDRIVER, CHROMIUM, Browser, chromium
from .test_docs_on_hub import log_in

pytestmark = [
    pytest.mark.hub,
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason="needs Chromium"),
]

ADMIN = """
c.JupyterHub.load_roles += [
    {"name": "looks-after-it", "users": ["admin"], "scopes": [ACCESS, FULL, "custom:" + NAME + ":admin"]}
]
c.JupyterHub.services[-2]["oauth_client_allowed_scopes"] = [*OPERATIONS, "custom:" + NAME + ":admin"]
"""
CONFIG = {
    "policies": [
        {"name": "daily", "resource": "tokens", "limit": 1000, "window": "day"},
        {"name": "budget", "resource": "cost_usd", "limit": 2, "window": "month", "endpoints": "chat"},
        {"name": "pace", "resource": "requests", "limit": 3, "window": "hour"},
    ]
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    started = start_gateway_hub(tmp_path_factory.mktemp("hub"), more=ADMIN)
    yield started
    started.hub.stop()


@pytest.fixture(scope="module", autouse=True)
def used(hub: GatewayHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the gateway, and let alice use up her hour; an alias with a hostile name is one of hers."""
    usage = {"prompt_tokens": 200, "completion_tokens": 100}
    price = {"input_per_mtok": 1000, "output_per_mtok": 4000}
    folder = tmp_path_factory.mktemp("gateway")
    with FakeUpstream(key=KEY) as up:
        up.always(Reply.json({**chat_completion("Hi"), "usage": usage, "model": "gpt-4o-mini"}))
        endpoints = [endpoint("chat", up, price=price)]
        with running_gateway(hub, folder, endpoints, config=CONFIG):
            token = hub.hub.token("alice")
            for status in (200, 200, 200, 429):
                answer = requests.post(
                    f"{hub.service_url}v1/chat/completions",
                    json={"model": "chat", "messages": [{"role": "user", "content": "Hi"}]},
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=30,
                )
                assert answer.status_code == status
            yield


@pytest.fixture
def browser(tmp_path: Path, hub: GatewayHub) -> Iterator[Browser]:
    with chromium(tmp_path) as fresh:
        fresh.hosts()
        yield fresh
        fresh.assert_quiet(hub.hub.url.split("/")[2])


def opened(browser: Browser, hub: GatewayHub, name: str) -> None:
    browser.open(f"{hub.service_url}usage")
    log_in(browser, name)
    browser.find("#totals")
    browser.console()


def test_a_person_sees_what_they_used_and_what_is_left(browser: Browser, hub: GatewayHub) -> None:
    opened(browser, hub, "alice")
    totals = browser.text("#totals").splitlines()
    assert totals == ["Requests", "4", "Input tokens", "600", "Output tokens", "300", "Cost", "$1.80"]
    limits = browser.text("#limits")
    assert "100 of 1,000 tokens per day left" in limits
    assert "$0.20 of $2.00 per month left" in limits
    assert "0 of 3 requests per hour left" in limits
    assert "Resets in" in limits
    assert len(browser.driver.find_elements("css selector", ".limit.low")) == 3
    assert len(browser.driver.find_elements("css selector", "#chart g.day")) == 30
    outcomes = browser.driver.find_elements("css selector", "#requests td:nth-child(3)")
    assert [each.text for each in outcomes] == ["Limit used up", "Answered", "Answered", "Answered"]
    browser.click("#requests tbody tr:last-child button")
    explained = browser.wait_text("dialog", "This request")
    assert "chat → openai → gpt-4o-mini" in explained
    assert "daily, budget, pace" in explained
    assert "price by configuration" in explained
    keep(browser, "usage-light")


def test_time_and_measure_are_chosen(browser: Browser, hub: GatewayHub) -> None:
    opened(browser, hub, "alice")
    browser.choose("#days", "7 days")
    browser.choose("#measure", "Requests")
    browser._wait().until(lambda _: len(browser.driver.find_elements("css selector", "#chart g.day")) == 7)
    browser.find('#chart svg[aria-label^="Requests by day"]')
    browser.click("details summary")
    assert "4" in browser.text("#by-day")
    browser.driver.set_window_size(390, 844)
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    keep(browser, "usage-dark-phone")
    width = browser.driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= browser.driver.execute_script("return window.innerWidth")


def test_others_are_seen_by_who_looks_after_it_alone(
    browser: Browser, hub: GatewayHub, tmp_path: Path
) -> None:
    opened(browser, hub, "alice")
    assert browser.driver.find_elements("css selector", "#user") == []
    (tmp_path / "second").mkdir()
    with chromium(tmp_path / "second") as second:
        opened(second, hub, "admin")
        assert "None yet." in second.text("#requests")
        second.type("#user", "*")
        second.click("#choice button")
        second.wait_text("#by-model", "alice")
        assert "$1.80" in second.text("#by-model")
        keep(second, "usage-admin")
        second.assert_quiet(hub.hub.url.split("/")[2])


def test_a_person_without_the_scope_is_told_so(browser: Browser, hub: GatewayHub) -> None:
    browser.excused.append("status of 403")
    browser.open(f"{hub.service_url}usage")
    log_in(browser, "bob")
    assert "403" in browser.wait_text("body", "ai-gateway")
