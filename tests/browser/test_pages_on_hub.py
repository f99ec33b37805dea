"""The pages of a real gateway on a real Hub, in a real Chromium: the tasks of each kind of person."""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import subprocess
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from fakes.anthropic import TEXT, Claude
from fakes.upstream import FakeUpstream, Gate, Reply, chat_chunk, chat_completion
from integration.gateway import RunningGateway, running_gateway
from integration.hub import GatewayHub, start_gateway_hub
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from served import KEY, endpoint

from jupyterhub_ai_gateway.storage import Batch, Database, RequestRow

from .audit import AXE, is_too_wide, keep, narrow, scheme, violations, wide
from .chromium import CHROMEDRIVER, CHROMIUM, Browser, chromium
from .test_docs_on_hub import log_in

pytestmark = [
    pytest.mark.hub,
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason="needs Chromium"),
]

ROOT = Path(__file__).parent.parent.parent
HOSTILE = "<img src=x onerror=document.title='owned'>"
HOSTILE_GROUP = "<b>g</b>'\"-101"

ROLES = f"""
WATCH = "custom:" + NAME + ":group-usage"
c.JupyterHub.custom_scopes[WATCH] = {{"description": "See what groups use"}}
c.JupyterHub.load_groups = {{
    "ai": {{"users": ["alice"]}},
    "physics-101": {{"users": ["alice", "carol"]}},
    {HOSTILE_GROUP!r}: {{"users": ["carol"]}},
}}
c.JupyterHub.load_roles += [
    {{"name": "looks-after-it", "users": ["admin"], "scopes": [ACCESS, FULL, "custom:" + NAME + ":admin"]}},
    {{"name": "teaches-physics", "users": ["ira"], "scopes": [ACCESS, FULL, WATCH + "!group=physics-101"]}},
    {{"name": "learns-physics", "groups": ["physics-101"], "scopes": [ACCESS, FULL]}},
    {{"name": "only-in", "users": ["dora"], "scopes": [ACCESS]}},
]
c.Authenticator.allowed_users |= {{"ira", "carol", "dora"}}
c.JupyterHub.services[-2]["oauth_client_allowed_scopes"] = [*OPERATIONS, "custom:" + NAME + ":admin", WATCH]
"""
CONFIG = {
    "keys": {"enabled": True},
    "policies": [
        {
            "name": "course",
            "resource": "cost_usd",
            "limit": 50,
            "window": "month",
            "count": "group",
            "scope": {"group": "physics-*"},
        },
        {"name": "budget", "resource": "cost_usd", "limit": 4, "window": "month", "endpoints": "chat"},
        {"name": "pace", "resource": "requests", "limit": 500, "window": "hour"},
        {"name": "at-once", "resource": "concurrency", "limit": 8},
    ],
}
PROVIDERS: dict[str, FakeUpstream] = {}
USAGE = {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300}


def endpoints(up: FakeUpstream, claude: FakeUpstream | None = None) -> list[dict[str, Any]]:
    anthropic = {"anthropic_api_key": KEY, "anthropic_api_base": f"{claude.url}/v1" if claude else up.url}
    theirs = {"provider": "anthropic", "name": "claude-sonnet-4-5", "config": anthropic}
    offer = {"capabilities": ["tools"], "data_class": "internal", "context_length": 128000}
    price = {"input_per_mtok": 1000, "output_per_mtok": 4000}
    dead = endpoint("fragile", None)
    places = [
        {**endpoint("fragile", up), "name": "first"},
        {**endpoint("fragile", up), "name": "second", "priority": 2},
    ]
    for place in places:
        del place["endpoint_type"]
    return [
        endpoint("chat", up, price=price, description="For everyday questions. " + HOSTILE),
        endpoint("gpt-4o-mini", up, aliases=["small"], **offer),
        endpoint("vectors", up, "embeddings"),
        {"name": "claude", "endpoint_type": "llm/v1/chat", "model": theirs},
        {key: value for key, value in dead.items() if key != "model"} | {"deployments": places},
    ]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    started = start_gateway_hub(tmp_path_factory.mktemp("hub"), more=ROLES)
    yield started
    started.hub.stop()


def write_history(url: str) -> None:
    """Write four weeks of use, with a hostile user's name among them."""
    database = Database(
        url, day_of=lambda at_ms: datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d")
    )
    database.upgrade()
    now = datetime.now(timezone.utc)
    rows = []
    for number in range(600):
        who = ["alice", "carol", "bob", HOSTILE][number % 4]
        at = now - timedelta(days=1 + number % 27, minutes=number)
        rows.append(
            RequestRow(
                request_id=f"req_old_{number}",
                at_ms=round(at.timestamp() * 1000),
                caller=f"user:{who}",
                endpoint=["chat", "gpt-4o-mini", "vectors"][number % 3],
                operation="chat",
                status=200 if number % 17 else 429,
                outcome="ok" if number % 17 else "insufficient_quota",
                charged_group=["physics-101", "physics-101", None, HOSTILE_GROUP][number % 4],
                provider="openai",
                sent_model=HOSTILE if who == HOSTILE else "gpt-4o-mini",
                answered_model=HOSTILE if who == HOSTILE else "gpt-4o-mini",
                attempts=1,
                input_tokens=150 + number,
                output_tokens=40 + number % 90,
                cost_nanousd=(number % 40) * 900_000,
                price_source="configuration",
                took_ms=900.0 + number,
                auth_ms=0.4,
                wait_ms=1.0,
                upstream_ms=700.0 + number,
                rules="course, budget",
            )
        )
    for start in range(0, len(rows), 200):
        database.write(Batch(f"b{start}", rows[start : start + 200], [], []), 0)
    database.close()


@pytest.fixture(scope="module")
def up(gateway: RunningGateway) -> FakeUpstream:
    """Return the provider behind the gateway."""
    return PROVIDERS[gateway.url]


@pytest.fixture(scope="module")
def gateway(hub: GatewayHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Run the gateway over a ledger with a history, and a provider behind it."""
    folder = tmp_path_factory.mktemp("gateway")
    url = f"sqlite:///{folder}/ledger.sqlite"
    write_history(url)
    with FakeUpstream(key=KEY) as provider, FakeUpstream(is_strict=False) as claude:
        claude.always(Claude(KEY))
        provider.always(Reply.json({**chat_completion("Hi"), "usage": USAGE, "model": "gpt-4o-mini"}))
        config = {**CONFIG, "ledger": {"url": url, "flush_s": 0.05}}
        with running_gateway(hub, folder, endpoints(provider, claude), config=config) as started:
            for name in ("alice", "alice", "alice", "carol"):
                assert ask(hub, name).status_code == 200
            PROVIDERS[started.url] = provider
            yield started


def ask(hub: GatewayHub, name: str, model: str = "chat", **more: Any) -> requests.Response:
    return requests.post(
        f"{hub.service_url}v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "Hi"}], **more},
        headers={"Authorization": f"Bearer {hub.hub.token(name)}"},
        timeout=30,
    )


@pytest.fixture(scope="module")
def browsers(hub: GatewayHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Keep a browser for each person, logged in once."""
    open_now: dict[str, Any] = {}
    yield open_now
    for context, _ in open_now.values():
        context.__exit__(None, None, None)


@pytest.fixture
def person(
    hub: GatewayHub, up: FakeUpstream, browsers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Open a page as somebody; afterwards nothing was said in the console, and no other host was asked."""
    used: list[Browser] = []

    def open_page(name: str, path: str = "", *, is_refused: bool = False) -> Browser:
        if name not in browsers:
            context = chromium(tmp_path_factory.mktemp(f"chromium-{name}"))
            browser = context.__enter__()
            browsers[name] = (context, browser)
            browser.open(f"{hub.service_url}{path}")
            log_in(browser, name)
            browser.find("body")
        browser = browsers[name][1]
        wide(browser)
        scheme(browser, "light")
        browser.open("about:blank")
        browser.console()
        browser.hosts()
        browser.open(f"{hub.service_url}{path}")
        browser.find("#main" if not is_refused else "body")
        used.append(browser)
        return browser

    yield open_page
    for browser in used:
        browser.assert_quiet(hub.hub.url.split("/")[2])
        assert "owned" not in browser.driver.title
        wide(browser)


def all_of(browser: Browser, selector: str) -> list[str]:
    return [each.text for each in browser.driver.find_elements(By.CSS_SELECTOR, selector)]


PAGES = {
    "home": ("alice", "", "#models .model"),
    "playground": ("alice", "playground", "#model option"),
    "usage": ("alice", "usage", "#chart svg"),
    "docs": ("alice", "docs", "#models table"),
    "staff-usage": ("admin", "staff#usage", "#usage-chart svg"),
    "staff-limits": ("admin", "staff#limits", "#near *"),
    "staff-models": ("admin", "staff#models", "#staff-panel table"),
    "staff-inflight": ("admin", "staff#inflight", "#inflight *"),
    "staff-keys": ("admin", "staff#keys", "#staff-panel .primary"),
    "staff-configuration": ("admin", "staff#configuration", "#staff-panel table"),
    "staff-audit": ("admin", "staff#audit", "#staff-panel h2"),
    "instructor": ("ira", "staff", "#usage-chart svg"),
}


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core")
@pytest.mark.parametrize("name", PAGES)
def test_page_is_usable_by_everybody(name: str, person: Any) -> None:
    who, path, sign = PAGES[name]
    browser = person(who, path)
    browser.find(sign)
    assert browser.console() == []
    for theme in ("light", "dark"):
        scheme(browser, theme)
        wide(browser)
        assert violations(browser) == [], theme
        keep(browser, f"{name}-{theme}")
        narrow(browser)
        browser._wait().until(lambda _: not is_too_wide(browser))
        assert violations(browser) == [], f"{theme}, phone"
        keep(browser, f"{name}-{theme}-phone")
    browser.open("about:blank")
    browser.console()  # what the audit's own styles made it say


def test_a_person_finds_a_model_and_copies_a_cell_that_works(person: Any, hub: GatewayHub) -> None:
    browser = person("alice")
    browser.find("#models .model")
    assert all_of(browser, "#models h3") == ["chat", "gpt-4o-mini", "vectors", "claude", "fragile"]
    card = browser.text('[data-model="chat"]')
    assert HOSTILE in card
    assert "$1,000.00 in, $4,000.00 out" in card
    assert "Ready" in card
    assert "$4.00 per month" in card
    card = browser.text('[data-model="gpt-4o-mini"]')
    for part in ("small", "tools", "up to internal", "128,000 tokens"):
        assert part in card
    origin = hub.hub.url.rstrip("/")
    grant = {"origin": origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    browser.click('[aria-label="Call it: gpt-4o-mini"]')
    assert browser.find("#model").get_attribute("value") == "gpt-4o-mini"
    browser.click('[aria-label="Copy Python"]')
    browser.wait_text('[aria-label="Copy Python"]', "Copied")
    copied = browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    hub.hub.spawn("alice")
    environment = f"import os; os.environ.update(OPENAI_BASE_URL={hub.service_url + 'v1'!r}, "
    environment += "OPENAI_API_KEY=os.environ['JUPYTERHUB_API_TOKEN'])\n"
    assert hub.hub.run_in_kernel("alice", environment + copied).strip() == "Hi"
    for key, part in (
        ("magic", "%%ai openai-chat-custom:gpt-4o-mini"),
        ("r", "library(httr2)"),
        ("codex", "wire_api=responses"),
        ("opencode", "@ai-sdk/openai-compatible"),
        ("curl", "%%bash"),
    ):
        browser.click(f"#tab-{key}")
        assert part in browser.text("#snippet-panel")
    curl = browser.find("#snippet-panel code").get_attribute("textContent").removeprefix("%%bash\n")
    run = f"import subprocess\nprint(subprocess.check_output(['bash'], input={curl!r}, text=True))"
    assert '"content": "Hi"' in hub.hub.run_in_kernel("alice", environment + run)
    own = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    own += "%load_ext jupyterhub_ai_gateway\nprint(repr(get_ipython().run_line_magic('ai_limits', '')))"
    shown = hub.hub.run_in_kernel("alice", f"{environment}\n{own}")
    assert "of $4.00 per month" in shown
    hub.hub.stop_server("alice")


def pasted(browser: Browser, model: str, key: str) -> str:
    """Choose a model and a kind of client; return the cell."""
    browser.choose("#model", model)
    browser.click(f"#tab-{key}")
    return browser.find("#snippet-panel code").get_attribute("textContent") or ""


def environment_of(hub: GatewayHub) -> dict[str, str]:
    """Return what a server of the Hub has in its environment."""
    return {"OPENAI_BASE_URL": f"{hub.service_url}v1", "OPENAI_API_KEY": hub.hub.token("alice")}


def test_cells_for_other_clients_work(
    person: Any,
    hub: GatewayHub,
    up: FakeUpstream,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    browser = person("alice")
    browser.find("#models .model")
    for name, value in environment_of(hub).items():
        monkeypatch.setenv(name, value)
    scope: dict[str, Any] = {}
    exec(pasted(browser, "claude", "anthropic"), scope)
    scope["client"].close()
    assert capsys.readouterr().out == "".join(TEXT) + "\n"
    vectors = [{"object": "embedding", "index": index, "embedding": [1.0, 0.0]} for index in (0, 1)]
    up.script(Reply.json({"object": "list", "model": "m", "data": vectors, "usage": {"prompt_tokens": 4}}))
    embedding = pasted(browser, "vectors", "python")
    exec(embedding, scope)
    scope["client"].close()
    assert capsys.readouterr().out == "[2, 2]\n"


@pytest.mark.parametrize(
    ("model", "key", "program"),
    [
        ("claude", "claude", "claude"),
        ("gpt-4o-mini", "codex", "codex"),
        ("chat", "opencode", "opencode"),
    ],
)
def test_cells_for_coding_agents_tell_them_where_to_ask(
    model: str, key: str, program: str, person: Any, hub: GatewayHub, tmp_path: Path
) -> None:
    """In the place of the agents stand programs that say what they were told."""
    browser = person("alice")
    browser.find("#models .model")
    text = pasted(browser, model, key)
    agent = tmp_path / program
    agent.write_text('#!/bin/sh\nenv; for word in "$@"; do echo "word: $word"; done\n')
    agent.chmod(0o755)
    given = {**environment_of(hub), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    told = subprocess.check_output(["bash"], input=text, text=True, env=given)
    if program == "claude":
        assert f"ANTHROPIC_BASE_URL={hub.service_url.rstrip('/')}\n" in told
        assert f"ANTHROPIC_AUTH_TOKEN={given['OPENAI_API_KEY']}\n" in told
        assert "ANTHROPIC_MODEL=claude\n" in told
    elif program == "codex":
        assert f"word: model_providers.hub.base_url={given['OPENAI_BASE_URL']}\n" in told
        assert "word: model_providers.hub.env_key=OPENAI_API_KEY\n" in told
        assert "word: --model\nword: gpt-4o-mini\n" in told
    else:
        line = next(line for line in told.splitlines() if line.startswith("OPENCODE_CONFIG_CONTENT="))
        config = json.loads(line.partition("=")[2])
        assert config["model"] == "hub/chat"
        assert config["provider"]["hub"]["options"]["baseURL"] == "{env:OPENAI_BASE_URL}"


def test_the_cells_for_elsewhere_come_with_a_limited_token(person: Any, hub: GatewayHub) -> None:
    browser = person("alice")
    browser.find('[value="outside"]').click()
    token = browser.text("#token")
    scopes = "access:services!service=ai-gateway custom:ai-gateway:chat:create"
    assert scopes in token
    assert browser.find("#token a").get_attribute("href") == f"{hub.hub.url}hub/token"
    assert f'base_url="{hub.service_url}v1"' in browser.text("#snippet-panel")
    assert "%%ai" not in browser.text("#kinds")
    minted = requests.post(
        f"{hub.hub.api_url}/users/alice/tokens",
        json={"scopes": scopes.split(), "expires_in": 60},
        headers={"Authorization": f"Bearer {hub.hub.token('alice')}"},
        timeout=30,
    ).json()["token"]
    headers = {"Authorization": f"Bearer {minted}"}
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
    url = f"{hub.service_url}v1/chat/completions"
    assert requests.post(url, json=body, headers=headers, timeout=30).status_code == 200
    assert requests.get(f"{hub.service_url}v1/models", headers=headers, timeout=30).status_code == 403


def test_a_person_sees_what_is_left_and_has_a_request_explained(person: Any) -> None:
    browser = person("alice")
    assert "Today" in browser.text("#periods")
    assert "This month" in browser.text("#periods")
    limits = browser.text("#limits")
    assert "of $4.00 per month left" in limits
    assert "of 8 requests at a time left" in limits
    assert "Resets in" in limits
    assert len(all_of(browser, "#chart g.day")) == 30
    browser.choose("#by", "Course or group")
    browser.wait_text("#chart .legend", "physics-101")
    assert "physics-101" in browser.text("#by-group")
    browser.find("#use details summary").send_keys(Keys.ENTER)
    assert "physics-101" in browser.text("#by-day")
    browser.click("#requests tbody tr:first-child button")
    text = browser.text("dialog")
    for part in (
        "Answered (200 ok)",
        "chat → openai → gpt-4o-mini",
        "200 in, 100 out",
        "price by configuration",
    ):
        assert part in text, text
    assert "the group physics-101" in text
    keep(browser, "home-explained")
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert browser.driver.find_elements(By.CSS_SELECTOR, "dialog") == []
    assert browser.driver.switch_to.active_element.tag_name == "button"


def png() -> bytes:
    """Make the smallest picture there is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0\xb9P\r"))
        + chunk(b"IEND", b"")
    )


def last_sent(up: FakeUpstream) -> dict[str, Any]:
    document: dict[str, Any] = up.requests[-1].document
    return document


def test_a_person_talks_with_a_model(person: Any, up: FakeUpstream, tmp_path: Path) -> None:
    gate = Gate()
    usage = {"choices": [], "usage": USAGE}
    up.script(
        Reply.stream(
            chat_chunk({"content": "Well, "}), gate, chat_chunk({"content": HOSTILE}), usage, "[DONE]"
        )
    )
    browser = person("alice", "playground#chat")
    browser.find("#model option")
    browser.type("#system", "Be brief.")
    browser.type("#temperature", "0.5")
    picture = tmp_path / "dot.png"
    picture.write_bytes(png())
    browser.driver.find_element(By.ID, "image").send_keys(str(picture))
    browser.find("#attached img")
    browser.type("#message", "What is this?")
    browser.find("#message").send_keys(Keys.CONTROL, Keys.ENTER)
    browser.wait_text(".turn.assistant .text", "Well, ")
    assert browser.text(".turn.assistant .facts-line") == "Receiving …"
    gate.set()
    facts = browser.wait_text(".turn.assistant .facts-line", "$0.60")
    assert "200 tokens in, 100 out" in facts
    assert "first piece after" in facts
    assert browser.text(".turn.assistant .text") == f"Well, {HOSTILE}"
    assert "300 tokens, $0.60" in browser.text("#whole")
    sent = last_sent(up)
    assert (sent["temperature"], sent["messages"][0]) == (0.5, {"role": "system", "content": "Be brief."})
    url = sent["messages"][1]["content"][1]["image_url"]["url"]
    assert base64.b64decode(url.partition(",")[2]) == png()
    browser.click("#code")
    code = browser.find("dialog code:not(p code)").get_attribute("textContent") or ""
    compile(code, "shown", "exec")
    assert 'model="chat"' in code
    assert "temperature=0.5" in code
    assert 'Path("image1.png")' in code
    keep(browser, "playground-code")
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    keep(browser, "playground-talk")
    scheme(browser, "dark")
    narrow(browser)
    keep(browser, "playground-talk-phone-dark")
    stored = browser.driver.execute_script("return Object.keys({...sessionStorage, ...localStorage})")
    assert [name for name in stored if name != "jupyterhub-bs-theme"] == []
    browser.click("#clear")
    assert browser.driver.find_elements(By.CSS_SELECTOR, ".turn") == []


def test_the_code_that_is_shown_is_what_ran(person: Any, up: FakeUpstream, hub: GatewayHub) -> None:
    reply = Reply.stream(chat_chunk({"content": "Good"}), {"choices": [], "usage": USAGE}, "[DONE]")
    up.script(reply)
    browser = person("alice", "playground#gpt-4o-mini")
    browser.find("#model option")
    browser.type("#max_tokens", "17")
    browser.type("#message", 'Say "hi"\\ and ünïcode')
    browser.click("#send")
    browser.wait_text(".turn.assistant .facts-line", "tokens in")
    sent = last_sent(up)
    browser.click("#code")
    code = browser.find("dialog code:not(p code)").get_attribute("textContent") or ""
    up.script(reply)
    scope: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_of(hub).items():
            patch.setenv(name, value)
        exec(code, scope)
    again = last_sent(up)
    scope["client"].close()
    for each in (sent, again):
        each.pop("stream_options", None)
    assert again == sent


def test_an_image_is_for_models_that_take_one(person: Any) -> None:
    browser = person("alice", "playground#gpt-4o-mini")
    browser.wait_text("#about", "per million tokens")
    assert not browser.driver.find_element(By.ID, "image-label").is_displayed()
    browser.choose("#model", "chat")  # of which nobody says
    browser.wait_text("#about", "Whether it takes images is not known.")
    assert browser.driver.find_element(By.ID, "image-label").is_displayed()


def test_an_answer_is_stopped_in_the_middle(person: Any, up: FakeUpstream) -> None:
    up.script(Reply.stream(chat_chunk({"content": "Once upon"}), Gate()))
    browser = person("alice", "playground#gpt-4o-mini")
    browser.find("#model option")
    browser.type("#message", "A story")
    browser.click("#send")
    browser.wait_text(".turn.assistant .text", "Once upon")
    assert browser.driver.switch_to.active_element.text == "Stop"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.wait_text(".turn.assistant .facts-line", "Stopped by you")
    assert browser.find("#send").is_enabled()


def test_what_the_provider_says_of_an_error_stays_text(person: Any, up: FakeUpstream) -> None:
    up.script(Reply.error(400, f"No: {HOSTILE}"))
    browser = person("alice", "playground#gpt-4o-mini")
    browser.find("#model option")
    browser.type("#message", "?")
    browser.click("#send")
    assert HOSTILE in browser.wait_text(".turn.fault", "No:")
    assert browser.driver.find_elements(By.CSS_SELECTOR, ".turn.fault img") == []
    assert any("400" in line for line in browser.console())  # Chromium says so of every answer of an error


def test_staff_drill_down_and_export(person: Any, tmp_path: Path) -> None:
    browser = person("admin", "staff")
    browser.find("#usage-rows table")
    names = all_of(browser, "#usage-rows tbody td:first-child")
    assert set(names) == {"physics-101", HOSTILE_GROUP, "no group: themselves"}
    browser.click("#usage-rows tbody button")
    browser.wait_text("#chips", "Course or group:")
    browser.wait_text("#usage-by-title", "By user")
    browser.choose("#f-by", "User")
    browser.click("#chips button")
    browser._wait().until(lambda _: HOSTILE in all_of(browser, "#usage-rows tbody td:first-child"))
    keep(browser, "staff-users")
    browser.click("#usage-rows tbody button")
    browser.wait_text("#chips", "User:")
    browser.wait_text("#usage-by-title", "By model")
    saving = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", saving)
    for link, name in zip(
        browser.driver.find_elements(By.CSS_SELECTOR, "#usage-export a"), ("focus", "requests"), strict=True
    ):
        link.click()
        browser._wait().until(lambda _, name=name: [*tmp_path.glob(f"ai-gateway-{name}-*.csv")])
        (file,) = tmp_path.glob(f"ai-gateway-{name}-*.csv")
        assert len(file.read_text().splitlines()) > 10


def test_staff_filter_by_time_model_and_provider(person: Any) -> None:
    browser = person("admin", "staff")
    browser.find("#usage-rows table")
    whole = browser.text("#usage-total")
    browser.choose("#f-by", "Model")
    browser._wait().until(lambda _: "vectors" in all_of(browser, "#usage-rows tbody td:first-child"))
    browser.type("#f-endpoint", "vectors")
    browser.find("#f-endpoint").send_keys(Keys.ENTER)
    browser.wait_text("#chips", "Model: vectors")
    browser._wait().until(lambda _: all_of(browser, "#usage-rows tbody td:first-child") == ["vectors"])
    assert browser.text("#usage-total") != whole
    browser.choose("#f-by", "Day")
    browser._wait().until(lambda _: len(all_of(browser, "#usage-rows tbody tr")) > 5)
    browser.click("#usage-rows tbody button")  # a day becomes the time that is asked for
    browser.wait_text("#usage-by-title", "By user")
    since = browser.find("#f-since").get_attribute("value")
    assert since == browser.find("#f-until").get_attribute("value")
    assert len(all_of(browser, "#usage-chart g.day")) == 1
    browser.type("#f-provider", "anthropic")
    browser.find("#f-provider").send_keys(Keys.ENTER)
    browser.wait_text("#usage-rows", "Nothing in this time.")
    assert "Nothing was used in this day." in browser.text("#usage-chart")
    browser.choose("#f-measure", "Requests")
    browser.click("#chips button")  # without the model
    browser.wait_text("#chips", "Provider: anthropic")


def test_what_a_provider_calls_its_model_stays_text(person: Any) -> None:
    browser = person("admin", "staff")
    browser.find("#usage-rows table")
    browser.type("#f-user", HOSTILE)
    browser.find("#f-user").send_keys(Keys.ENTER)
    browser.wait_text("#chips", "User:")
    browser.choose("#f-by", "Provider’s model")
    browser._wait().until(lambda _: HOSTILE in all_of(browser, "#usage-rows tbody td:first-child"))
    browser.click("#usage-requests tbody button")
    assert HOSTILE in browser.wait_text("dialog", "Route").partition("Tokens")[0]
    assert browser.driver.find_elements(By.CSS_SELECTOR, "#main img, dialog img") == []


def test_staff_give_somebody_more_and_take_it_back(person: Any, hub: GatewayHub) -> None:
    for name in ("carol", "carol", "alice"):
        ask(hub, name)
    browser = person("admin", "staff#limits")
    assert "alice" in browser.wait_text("#near", "budget")
    browser.click('[aria-label="Give more … to user:alice of budget"]')
    assert browser.find("dialog [name=who]").get_attribute("value") == "user:alice"
    browser.type("dialog [name=amount]", "20")
    browser.type("dialog [name=reason]", f"thesis {HOSTILE}")
    keep(browser, "staff-override")
    browser.find("dialog [name=reason]").send_keys(Keys.ENTER)
    row = browser.wait_text("#overrides", "thesis")
    assert "+$20.00" in row
    assert HOSTILE in row
    summary = requests.get(
        f"{hub.service_url}api/summary",
        headers={"Authorization": f"Bearer {hub.hub.token('alice')}"},
        timeout=30,
    ).json()
    assert {each["rule"]: each["limit"] for each in summary["limits"]}["budget"] == 24
    browser.click("#overrides button")
    browser.wait_text("#overrides", "None counts now.")
    browser.click("#tab-audit")
    audit = browser.wait_text("#staff-panel", "Made an override")
    assert "Ended an override" in audit
    assert "admin" in audit


def test_staff_stop_a_request(person: Any, hub: GatewayHub, up: FakeUpstream) -> None:
    gate = Gate()
    up.script(Reply.stream(chat_chunk({"content": "Once"}), gate))
    response = requests.post(
        f"{hub.service_url}v1/chat/completions",
        json={"model": "chat", "stream": True, "messages": [{"role": "user", "content": "canary"}]},
        headers={"Authorization": f"Bearer {hub.hub.token('carol')}"},
        timeout=30,
        stream=True,
    )
    lines = response.iter_lines()
    assert b"Once" in next(lines)
    browser = person("admin", "staff#inflight")
    assert "chat" in browser.wait_text("#inflight", "carol")
    assert "canary" not in browser.text("body")
    keep(browser, "staff-inflight-one")
    browser.click("#inflight button")
    browser.type("dialog [name=reason]", "runs for an hour")
    browser.find("dialog [name=reason]").send_keys(Keys.ENTER)
    browser.wait_text("#inflight", "None.")
    assert b"stopped_by_staff" in b"".join(lines)
    response.close()
    gate.set()


def test_staff_make_a_key_and_end_it(person: Any, hub: GatewayHub) -> None:
    browser = person("admin", "staff#keys")
    browser.click("#staff-panel .primary")
    browser.type("dialog [name=name]", "course-builder")
    browser.type("dialog [name=note]", HOSTILE)
    browser.find("dialog [name=note]").send_keys(Keys.ENTER)
    browser._wait().until(lambda _: browser.driver.find_elements(By.CSS_SELECTOR, "dialog .snippet code"))
    key = browser.find("dialog .snippet code").get_attribute("textContent") or ""
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    url = f"{hub.service_url}v1/chat/completions"
    assert requests.post(url, json=body, headers=headers, timeout=30).status_code == 200
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    row = browser.wait_text("#staff-panel table", "course-builder")
    assert HOSTILE in row
    assert key not in browser.text("body")
    keep(browser, "staff-keys-one")
    browser.click("#staff-panel .danger")
    browser.click("dialog .primary")
    browser.wait_text("#staff-panel", "There is none.")
    assert requests.post(url, json=body, headers=headers, timeout=30).status_code == 401


def test_staff_see_which_model_rests_and_why(person: Any, hub: GatewayHub, up: FakeUpstream) -> None:
    up.script(Reply.error(401, "wrong key"), Reply.json(chat_completion("Hi")))
    assert ask(hub, "alice", "fragile").status_code == 200
    browser = person("admin", "staff#models")
    row = browser.wait_text("#staff-panel", "Resting")
    assert "refuses the gateway’s key" in row
    keep(browser, "staff-models-resting")
    home = person("alice")
    assert "Partly resting" in home.text('[data-model="fragile"]')


def test_an_instructor_sees_the_own_groups_alone(person: Any) -> None:
    browser = person("ira", "staff")
    browser.find("#usage-rows table")
    assert all_of(browser, "#tabs button") == ["Usage", "Limits"]
    assert all_of(browser, "#f-group option") == ["physics-101"]
    assert set(all_of(browser, "#usage-rows tbody td:first-child")) == {"alice", "carol"}
    assert HOSTILE_GROUP not in browser.text("body")
    browser.click("#tab-limits")
    browser.find("#near > *")
    assert "bob" not in browser.text("body")


def test_a_person_is_not_shown_what_is_for_staff(person: Any) -> None:
    browser = person("alice")
    assert "Staff" not in all_of(browser, ".gateway-nav a")
    refused = person("alice", "staff", is_refused=True)
    assert "custom:ai-gateway:admin" in refused.wait_text("body", "403")
    refused.console()  # Chromium says so of every page of an error


def test_a_person_without_the_scope_is_told_which(person: Any) -> None:
    browser = person("dora", "", is_refused=True)
    assert "custom:ai-gateway:docs:read" in browser.wait_text("body", "403")
    assert "dora" in browser.text("#login_widget")  # the way out is there
    if AXE.exists():
        assert violations(browser) == []
    keep(browser, "without-the-scope")
    browser.console()


def test_pages_are_walked_by_keys(person: Any) -> None:
    browser = person("alice")
    browser.find("#models .model")
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"
    browser.find("#tab-python").send_keys(Keys.ARROW_RIGHT)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "tab-magic"
    browser.driver.switch_to.active_element.send_keys(Keys.END)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "tab-opencode"


def test_staff_see_why_a_configuration_is_not_in_use(
    person: Any, hub: GatewayHub, up: FakeUpstream, gateway: RunningGateway
) -> None:
    file = gateway.log.with_name("gateway.yaml")
    good = file.read_text()
    browser = person("admin", "staff#configuration")
    assert "The newest file is in use" in browser.wait_text("#staff-panel", "In use since")

    def shown_after(text: str, part: str) -> str:
        file.write_text(text)
        gateway.process.send_signal(signal.SIGHUP)

        def look(_: Any) -> str | bool:
            browser.click("#tab-keys")
            browser.wait_text("#staff-panel", "Gateway keys")
            browser.click("#tab-configuration")
            seen = browser.wait_text("#staff-panel", "In use since")
            return seen if part in seen else False

        return str(browser._wait().until(look))

    wrong = json.loads(good)
    wrong["endpoints"][0]["endpoint_type"] = HOSTILE
    seen = shown_after(json.dumps(wrong), "The newest file is not in use")
    assert "endpoints[0].endpoint_type" in seen
    assert "Refused\nonce" in seen
    assert browser.driver.find_elements(By.CSS_SELECTOR, "#staff-panel img") == []
    keep(browser, "staff-configuration-refused")
    assert "The newest file is in use" in shown_after(good, "The newest file is in use")
