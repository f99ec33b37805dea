"""The documentation page in a real Chromium, over the real handlers and a made-up API."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from .chromium import CHROMEDRIVER, CHROMIUM, Browser, chromium
from .stub import COOKIE, HOSTILE, PREFIX, Stub, running_stub

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason="needs Chromium"),
]

BROKEN_REQUEST = "Failed to load resource"  # what Chromium says of every answer with an error status


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with running_stub() as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, stub: Stub) -> Iterator[Browser]:
    """Start one browser for all tests, logged in as alice."""
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        browser.open(stub.url + "static/icon.svg")
        browser.driver.add_cookie({"name": COOKIE, "value": stub.cookie, "path": PREFIX})
        yield browser


@pytest.fixture
def page(shared: Browser, stub: Stub) -> Iterator[Browser]:
    """Open the page anew; afterwards the console is clean and nothing came from anywhere else."""
    stub.seen.clear()
    shared.open("about:blank")
    shared.console()
    shared.hosts()
    shared.open(stub.url + "docs")
    shared.find("#models table")
    yield shared
    assert [line for line in shared.console() if BROKEN_REQUEST not in line] == []
    assert shared.hosts() == {f"127.0.0.1:{stub.port}"}


def body_of(page: Browser) -> Any:
    return json.loads(page.find("#body").get_attribute("value") or "")


def write_body(page: Browser, text: str) -> None:
    """Paste: typing would go through the browser letter by letter."""
    script = "const [field, text] = arguments; field.value = text; field.dispatchEvent(new Event('input'))"
    page.driver.execute_script(script, page.find("#body"), text)


def code_of(page: Browser, name: str) -> str:
    page.tab(name)
    return page.find(f'[data-name="{name}"] code').get_attribute("textContent") or ""


def test_start_says_who_is_here_and_what_there_is(page: Browser) -> None:
    assert "alice" in page.text("#login_widget")
    assert page.find("#logout").get_attribute("href") == page.driver.execute_script(
        "return location.origin + '/hub/logout'"
    )
    assert "llama-3.3-70b" in page.text("#models")
    assert 'model="chat"' in page.text("#first-cell")
    assert page.text("#permissions") == ("access:services!service=ai-gateway custom:ai-gateway:chat:create")


def test_first_cell_is_python(page: Browser, stub: Stub) -> None:
    for name in ("#first-cell", "#client"):
        ast.parse(page.find(name).get_attribute("textContent") or "")
    assert f'base_url="{stub.url}v1"' in page.text("#client")


def test_chat_by_clicking(page: Browser, stub: Stub) -> None:
    page.go("createChatCompletion").click("#send")
    assert page.wait_text("#status", "Done") == "Done"
    answer = page.text("#answer")
    assert "short wavelengths far more" in answer
    assert "which is why the sky is blue." in answer
    assert page.text("#answer .fence") == "scattered = 1 / wavelength**4"
    facts = page.text(".facts")
    for part in ("200 OK", "18 in, 64 out", "9 of 10", "6 s", "req_7d31c0a9b2f84e5a"):
        assert part in facts
    assert (stub.seen[0]["model"], stub.seen[0]["stream"]) == ("chat", True)


def test_what_a_tab_shows_has_the_whole_width(page: Browser) -> None:
    page.go("createChatCompletion").click("#send")
    page.wait_text("#status", "Done")
    script = """return [...document.querySelectorAll('[role="tablist"]')].map((tabs) => {
      const panels = [...tabs.parentElement.querySelectorAll('[role="tabpanel"]')];
      const shown = panels.find((each) => each.offsetParent);
      const isBelow = shown.getBoundingClientRect().top >= tabs.getBoundingClientRect().bottom;
      return [isBelow, shown.offsetWidth / tabs.offsetWidth];
    })"""
    found = page.driver.execute_script(script)
    assert len(found) >= 2
    assert all(is_below and share > 0.98 for is_below, share in found), found


def test_answer_shows_while_it_is_made(page: Browser, stub: Stub) -> None:
    page.go("createChatCompletion").type("#message", "wait")
    page.click("#send")
    page.wait_text("#answer", "Sunlight is a mix")
    assert page.text("#status") == "Receiving …"
    assert "why the sky is blue" not in page.text("#answer")
    stub.open_gate()
    page.wait_text("#status", "Done")
    assert "why the sky is blue" in page.text("#answer")


def test_stop_keeps_what_came(page: Browser) -> None:
    page.go("createChatCompletion").type("#message", "stall")
    page.click("#send")
    page.wait_text("#answer", "Sunlight is a mix")
    page.click("#stop")
    page.wait_text("#status", "Stopped")
    assert "Sunlight is a mix" in page.text("#answer")
    assert page.find("#send").is_enabled()


def test_raw_answer_and_headers(page: Browser) -> None:
    page.go("createChatCompletion").click("#send")
    page.wait_text("#status", "Done")
    page.tab("Raw")
    raw = page.text("#raw")
    assert ": still here" in raw
    assert raw.endswith("data: [DONE]")
    page.tab("Headers")
    assert "text/event-stream" in page.text("#headers")


@pytest.mark.parametrize("is_streamed", [True, False])
def test_hostile_answer_stays_text(page: Browser, is_streamed: bool) -> None:
    page.go("createChatCompletion").type("#message", "hostile")
    if not is_streamed:
        page.click("#streamed")
    page.click("#send")
    page.wait_text("#status", "Done")
    assert page.text("#answer") == HOSTILE
    assert page.driver.title == "API · JupyterHub AI Gateway"
    assert page.driver.find_elements(By.CSS_SELECTOR, "#answer img, #answer script, #raw img") == []


def test_error_says_what_to_do(page: Browser) -> None:
    page.go("createChatCompletion").type("#message", "too much")
    page.click("#send")
    page.wait_text("#status", "Failed")
    assert "10 times per minute" in page.text("[role=alert]")
    assert "rate_limit_exceeded" in page.text("[role=alert]")
    assert "429" in page.text(".facts")
    assert "Try again in\n6 s" in page.text(".facts")


def test_stream_that_breaks_is_no_success(page: Browser) -> None:
    page.go("createChatCompletion").type("#message", "breaks")
    page.click("#send")
    page.wait_text("#status", "Failed on the way")
    assert "Sunlight" in page.text("#answer")
    assert "The provider stopped." in page.text("[role=alert]")


def test_tool_call_is_shown(page: Browser) -> None:
    page.go("createChatCompletion").choose("#example", "A tool that the model may call")
    page.type("#message", "umbrella")
    page.click("#send")
    page.wait_text("#status", "Done")
    assert 'get_weather({"place": "Bergen"})' in page.text("#answer .tool")


@pytest.mark.parametrize("example", ["Two texts", "Packed numbers"])
def test_vectors_are_compared(page: Browser, example: str) -> None:
    page.go("createEmbedding").choose("#example", example)
    page.click("#send")
    page.wait_text("#status", "Done")
    assert "0.6000, 0.8000, 0.0000" in page.text("#answer")
    assert "Cosine similarity of the two: 0.6000" in page.text("#answer")


def test_model_picker_writes_the_body(page: Browser, stub: Stub) -> None:
    page.go("createChatCompletion").choose("#model", "llama-3.3-70b")
    assert body_of(page)["model"] == "llama-3.3-70b"
    page.choose("#example", "A conversation with a system prompt")
    assert body_of(page)["model"] == "llama-3.3-70b"
    page.click("#send")
    page.wait_text("#status", "Done")
    assert stub.seen[0]["messages"][0]["role"] == "system"


def test_model_of_the_start_page_is_tried(page: Browser) -> None:
    page.find('[aria-label="Chat with llama-3.3-70b"]').click()
    page.find("#send")
    assert body_of(page)["model"] == "llama-3.3-70b"


def test_body_and_controls_follow_each_other(page: Browser) -> None:
    page.go("createChatCompletion").type("#message", "Say “hi”")
    assert body_of(page)["messages"][-1]["content"] == "Say “hi”"
    page.click("#streamed")
    assert body_of(page)["stream"] is False
    write_body(
        page, '{"model": "llama-3.3-70b", "stream": true, "messages": [{"role": "user", "content": "?"}]}'
    )
    assert page.find("#message").get_attribute("value") == "?"
    assert page.find("#model").get_attribute("value") == "llama-3.3-70b"
    assert page.find("#streamed").is_selected()


def test_what_is_no_json_is_not_sent(page: Browser, stub: Stub) -> None:
    page.go("createChatCompletion")
    write_body(page, '{"model": ')
    assert page.text("#body-problem") == "This is no JSON object yet."
    assert not page.find("#send").is_enabled()
    page.find("#body").send_keys(Keys.CONTROL, Keys.ENTER)
    assert page.text("#status") == "Nothing sent yet."
    assert stub.seen == []


def test_body_is_sent_as_it_is_written(page: Browser, stub: Stub) -> None:
    page.go("createChatCompletion")
    write_body(
        page,
        '{"model": "chat", "messages": [{"role": "user", "content": "?"}], "big": 12345678901234567890}',
    )
    page.click("#send")
    page.wait_text("#status", "Done")
    assert stub.seen[0]["big"] == 12345678901234567890


AWKWARD = {
    "model": "chat",
    "messages": [{"role": "user", "content": 'It\'s "quoted" \\ and\nlong — ünïcode \U0001f600'}],
    "stream": False,
    "seed": None,
    "vendor_field": {"deep": [True, 1.5, None]},
}


def test_python_sample_is_the_same_call(page: Browser, stub: Stub) -> None:
    page.go("createChatCompletion")
    write_body(page, json.dumps(AWKWARD))
    tree = ast.parse(code_of(page, "Python"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.keywords) > 2]
    assert len(calls) == 1
    sent = {keyword.arg: ast.literal_eval(keyword.value) for keyword in calls[0].keywords}
    others = sent.pop("extra_body")
    assert {**sent, **others} == AWKWARD
    assert ast.unparse(calls[0].func) == "client.chat.completions.create"


def test_curl_sample_is_the_same_call(page: Browser, stub: Stub) -> None:
    page.go("createChatCompletion")
    write_body(page, json.dumps(AWKWARD))
    words = shlex.split(code_of(page, "curl"))
    assert words[:2] == ["curl", f"{stub.url}v1/chat/completions"]
    assert json.loads(words[words.index("-d") + 1]) == AWKWARD
    assert "Authorization: Bearer $JUPYTERHUB_API_TOKEN" in words


@pytest.mark.parametrize(
    ("operation", "fields"),
    [("createTranscription", ["model=…", "file=@FILE"]), ("varyImage", ["model=…", "image=@FILE"])],
)
def test_form_is_shown_and_not_sent(page: Browser, stub: Stub, operation: str, fields: list[str]) -> None:
    page.go(operation)
    words = shlex.split(code_of(page, "curl"))
    assert [words[i + 1] for i, word in enumerate(words) if word == "-F"] == fields
    assert page.driver.find_elements(By.ID, "send") == []
    assert stub.seen == []


def test_operation_with_json_or_a_form_is_tried_with_json(page: Browser) -> None:
    page.go("editImage")
    assert body_of(page)["prompt"] == "Make it blue"
    assert page.find("#send").is_displayed()


def test_operation_without_a_body(page: Browser) -> None:
    page.go("listModels").click("#send")
    page.wait_text("#status", "Done")
    assert "llama-3.3-70b" in page.text("#answer table")


def test_keyboard_sends_stops_and_turns_tabs(page: Browser) -> None:
    page.go("createChatCompletion").type("#message", "stall")
    page.find("#message").send_keys(Keys.CONTROL, Keys.ENTER)
    page.wait_text("#answer", "Sunlight is a mix")
    page.find("#message").send_keys(Keys.ESCAPE)
    page.wait_text("#status", "Stopped")
    page.tab("Readable")
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.driver.switch_to.active_element.text == "Raw"
    assert ": still here" in page.text("#raw")


def test_copy_says_that_it_copied(page: Browser, stub: Stub) -> None:
    origin = stub.url.removesuffix(PREFIX)
    grant = {"origin": origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    page.click('[aria-label="Copy first cell"]')
    page.wait_text('[aria-label="Copy first cell"]', "Copied")
    copied = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == page.find("#first-cell").get_attribute("textContent")


def test_every_control_has_a_name(page: Browser) -> None:
    operations = page.driver.execute_script(
        "return [...document.querySelectorAll('#side a')].map(a => a.dataset.id)"
    )
    assert {"start", "createChatCompletion", "metrics"} <= set(operations)
    script = """
        const shown = (element) => element.checkVisibility();
        const isNamed = (button) =>
          button.textContent.trim() || button.ariaLabel || button.querySelector("img[alt]");
        const fields = [...document.querySelectorAll("input, select, textarea")].filter(shown);
        const buttons = [...document.querySelectorAll("button, a")].filter(shown);
        return [
          ...fields.filter((field) => !field.labels.length),
          ...buttons.filter((button) => !isNamed(button)),
        ].map((element) => element.outerHTML);
    """
    for operation in operations:
        page.go(operation)
        assert page.driver.execute_script(script) == []


def test_nothing_is_wider_than_a_phone(page: Browser, stub: Stub) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for operation in ("start", "createChatCompletion", "createEmbedding", "metrics"):
            page.open(f"{stub.url}docs#{operation}")
            page.driver.refresh()
            page.find("#start table" if operation == "start" else "#send")
            for summary in page.driver.find_elements(By.CSS_SELECTOR, "details.panel > summary"):
                summary.click()
            assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_policy_lets_nothing_else_run(page: Browser) -> None:
    script = """
        const done = arguments[0];
        document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
        const script = document.createElement("script");
        script.textContent = "document.title = 'owned'";
        document.body.append(script);
    """
    assert page.driver.execute_async_script(script) == "script-src-elem"
    assert page.driver.title == "API · JupyterHub AI Gateway"
    page.console()
