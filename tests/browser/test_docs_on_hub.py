"""The documentation page of a real gateway on a real Hub, in a real Chromium: login, proxy, a stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.upstream import FakeUpstream, Gate, Reply, chat_chunk
from integration.gateway import running_gateway
from integration.hub import PASSWORD, GatewayHub, start_gateway_hub
from served import KEY, usual

from .chromium import CHROMEDRIVER, CHROMIUM, Browser, chromium

pytestmark = [
    pytest.mark.hub,
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason="needs Chromium"),
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    started = start_gateway_hub(tmp_path_factory.mktemp("hub"), proxy="chp")
    yield started
    started.hub.stop()


@pytest.fixture(scope="module")
def upstream(hub: GatewayHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeUpstream]:
    """Run the gateway, and a provider behind it."""
    with FakeUpstream(key=KEY) as up, running_gateway(hub, tmp_path_factory.mktemp("gateway"), usual(up)):
        yield up


@pytest.fixture
def browser(tmp_path: Path, hub: GatewayHub) -> Iterator[Browser]:
    """Start a browser that has never been here; afterwards it has complained of nothing."""
    with chromium(tmp_path) as fresh:
        fresh.hosts()
        yield fresh
        fresh.assert_quiet(hub.hub.url.split("/")[2])


def log_in(browser: Browser, name: str) -> None:
    """Fill in the Hub's form."""
    browser.type("#username_input", name)
    browser.type("#password_input", PASSWORD)
    browser.click("#login_submit")


def test_person_logs_in_and_chats(browser: Browser, hub: GatewayHub, upstream: FakeUpstream) -> None:
    gate = Gate()
    upstream.script(
        Reply.stream(
            chat_chunk({"content": "Sunlight is a mix"}),
            gate,
            chat_chunk({"content": " of all colours."}, finish_reason="stop"),
            "[DONE]",
        )
    )
    browser.open(hub.service_url + "docs")
    log_in(browser, "alice")
    browser.find("#models table")
    assert browser.driver.current_url == hub.service_url + "docs"
    assert "alice" in browser.text("#login_widget")
    assert "vectors" in browser.text("#models table")
    browser.go("createChatCompletion").type("#message", "Why is the sky blue?")
    browser.click("#send")
    browser.wait_text("#answer", "Sunlight is a mix")
    assert browser.text("#status") == "Receiving …"  # the Hub's proxy has passed a piece on
    gate.set()
    browser.wait_text("#status", "Done")
    assert "of all colours." in browser.text("#answer")
    assert "200 OK" in browser.text(".facts")


def test_person_without_access_stops_at_the_hub(
    browser: Browser, hub: GatewayHub, upstream: FakeUpstream
) -> None:
    browser.excused.append("status of 403")
    browser.open(hub.service_url + "docs")
    log_in(browser, "bob")
    assert "403" in browser.wait_text("body", "403")
    assert "/hub/api/oauth2/authorize" in browser.driver.current_url


def test_link_logs_out_of_the_hub(browser: Browser, hub: GatewayHub, upstream: FakeUpstream) -> None:
    browser.open(hub.service_url + "docs")
    log_in(browser, "alice")
    browser.find("#models table")
    browser.click("#logout")
    browser.find("#username_input, .container")
    browser.open(hub.hub.url + "hub/home")
    browser.find("#username_input")
