"""Pictures of the pages, for the documentation: `python -m tools.screenshots`, as `make docs` does.

A real JupyterHub with its real proxy, a real gateway over a ledger with five weeks of a course, and a real
Chromium: each page light and dark, some as on a phone. Only the models behind it are none. The pictures go
to `docs/_pictures`, which is not kept in the repository.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import requests  # noqa: E402 - the tests' parts are found there
from browser.audit import narrow, scheme, wide  # noqa: E402
from browser.chromium import CHROMEDRIVER, CHROMIUM, Browser, chromium  # noqa: E402
from browser.test_docs_on_hub import log_in  # noqa: E402
from fakes.upstream import FakeUpstream, Reply, chat_completion  # noqa: E402
from integration.gateway import running_gateway  # noqa: E402
from integration.hub import GatewayHub, start_gateway_hub, wait_until  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from served import KEY  # noqa: E402

from jupyterhub_ai_gateway.storage import Batch, Database, RequestRow  # noqa: E402

PICTURES = ROOT / "docs" / "_pictures"
THEMES = ("light", "dark")
PHONES = ("home", "playground")
"""Pages that are taken as on a phone as well, as NAME-phone."""
TALLEST = 1500
ANSWER = (
    "Sunlight is a mix of all colours. The air scatters short wavelengths far more than long ones, by the "
    "fourth power of the frequency, so blue light reaches your eye from every side of the sky.\n\n"
    "At sunset the light comes a long way through the air: the blue is scattered out, and red is left."
)
STUDENTS = ["alice", "ben", "chiara", "dmitri", "emine", "farid", "grace", "hanna"]
ROLES = f"""
WATCH = "custom:" + NAME + ":group-usage"
c.JupyterHub.custom_scopes[WATCH] = {{"description": "See what groups use"}}
c.JupyterHub.load_groups = {{
    "ai": {{"users": []}},
    "physics-101": {{"users": {STUDENTS[:6]!r}}},
    "linguistics": {{"users": {STUDENTS[5:]!r}}},
}}
c.JupyterHub.load_roles += [
    {{"name": "looks-after-it", "users": ["admin"], "scopes": [ACCESS, FULL, "custom:" + NAME + ":admin"]}},
    {{"name": "teaches", "users": ["ira"], "scopes": [ACCESS, FULL, WATCH + "!group=physics-101"]}},
    {{"name": "learns", "groups": ["physics-101", "linguistics"], "scopes": [ACCESS, FULL]}},
]
c.Authenticator.allowed_users |= {{"ira", *{STUDENTS!r}}}
c.JupyterHub.services[-2]["oauth_client_allowed_scopes"] = [*OPERATIONS, "custom:" + NAME + ":admin", WATCH]
c.Spawner.environment = {{
    "OPENAI_BASE_URL": c.JupyterHub.bind_url + "services/" + NAME + "/v1",
    "OPENAI_API_KEY": lambda spawner: spawner.api_token,
    "PYTHONPATH": {str(ROOT)!r},
}}
c.Spawner.default_url = "/lab"
"""
CONFIG: Mapping[str, Any] = {
    "keys": {"enabled": True},
    "time_zone": "Europe/Berlin",
    "policies": [
        {
            "name": "course",
            "resource": "cost_usd",
            "limit": 20,
            "window": "month",
            "count": "group",
            "scope": {"group": "*"},
        },
        {"name": "student", "resource": "cost_usd", "limit": 1, "window": "day"},
        {"name": "pace", "resource": "requests", "limit": 20, "window": "minute"},
        {"name": "daily", "resource": "tokens", "limit": 500_000, "window": "day"},
    ],
}
MODELS = (
    ("chat", "openai", "gpt-4o-mini", "For everyday questions", ["tools", "vision"], "internal", 128_000),
    ("large", "openai", "gpt-5", "For what is hard", ["tools", "vision", "reasoning"], "public", 400_000),
    ("llama", "vllm", "llama-3.3-70b", "On our own machines", ["tools"], "restricted", 131_072),
)
SHARES = (("chat", 60, 9_000_000), ("large", 25, 90_000_000), ("llama", 15, 0))
"""What is asked how often, and what a request costs at most, in nanodollars."""
TODAY = {"prompt_tokens": 41_000, "completion_tokens": 6_500, "total_tokens": 47_500}
"""What a request to the large model took today."""
NOTEBOOK_CELLS = ("%load_ext jupyterhub_ai_gateway", "%ai_limits", "%ai_usage")


def main() -> int:
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists()):
        print("Chromium is not installed: python tools/system_packages.py browser", file=sys.stderr)
        return 1
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir()
    with tempfile.TemporaryDirectory() as folder, standing(Path(folder)) as hub:
        for name, take in PAGES.items():
            take(hub, Path(folder), name)
            print(f"{name}: {', '.join(each.name for each in sorted(PICTURES.glob(f'{name}-*')))}")
    return 0


@contextmanager
def standing(folder: Path) -> Iterator[GatewayHub]:
    """Start everything, and let students ask."""
    with ExitStack() as stack:
        hub = start_gateway_hub(folder / "hub", proxy="chp", more=ROLES)
        stack.callback(hub.hub.stop)
        (folder / "gateway").mkdir()
        url = f"sqlite:///{folder}/gateway/ledger.sqlite"
        write_history(url)
        up = stack.enter_context(FakeUpstream(key=KEY, text=ANSWER))
        config = {**CONFIG, "ledger": {"url": url, "flush_s": 0.05}}
        stack.enter_context(running_gateway(hub, folder / "gateway", endpoints(up), config=config))
        for name in (*STUDENTS, *STUDENTS[:4], *STUDENTS[:1] * 2):
            up.script(Reply.json({**chat_completion(ANSWER, model="gpt-5"), "usage": TODAY}))
            ask(hub, name, "large")
        yield hub


def endpoints(up: FakeUpstream) -> list[dict[str, Any]]:
    """Return the models of a centre: rented ones, one on its own machines, embeddings, a painter."""
    hosts: Mapping[str, dict[str, Any]] = {
        "openai": {"openai_api_key": KEY, "openai_api_base": f"{up.url}/v1", "openai_format": "chat"},
        "vllm": {"api_base": f"{up.url}/v1", "api_key": KEY},
    }
    chats: list[dict[str, Any]] = [
        {
            "name": name,
            "endpoint_type": "llm/v1/chat",
            "description": about,
            "model": {"provider": provider, "name": model, "config": hosts[provider]},
            "capabilities": capabilities,
            "data_class": data_class,
            "context_length": length,
        }
        for name, provider, model, about, capabilities, data_class, length in MODELS
    ]
    chats[-1]["price"] = 0
    others = [("vectors", "embeddings", "text-embedding-3-small"), ("painter", "images", "gpt-image-1")]
    return chats + [
        {
            "name": name,
            "endpoint_type": f"llm/v1/{kind}",
            "model": {"provider": "openai", "name": model, "config": _plain(hosts["openai"])},
        }
        for name, kind, model in others
    ]


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "openai_format"}


def write_history(url: str) -> None:
    """Write five weeks of use: more on weekdays, more before a deadline."""
    database = Database(url, day_of=lambda at_ms: _day(at_ms).strftime("%Y-%m-%d"))
    database.upgrade()
    dice, now = random.Random(7), datetime.now(timezone.utc)
    rows = [
        _row(dice, now - timedelta(days=day, minutes=dice.randrange(30, 500)), len(STUDENTS) * day + number)
        for day in range(1, 36)
        for number in range(int((4 if _day_of_week(now, day) > 4 else 14) * (1.6 if day < 8 else 1)))
    ]
    for start in range(0, len(rows), 200):
        database.write(Batch(f"b{start}", rows[start : start + 200], [], []), 0)
    database.close()


def _day(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc)


def _day_of_week(now: datetime, days_ago: int) -> int:
    return (now - timedelta(days=days_ago)).weekday()


def _row(dice: random.Random, at: datetime, number: int) -> RequestRow:
    model, _, most = dice.choices(SHARES, [share for _, share, _ in SHARES])[0]
    who = dice.choices(STUDENTS, range(len(STUDENTS), 0, -1))[0]
    group = "physics-101" if STUDENTS.index(who) < 6 else "linguistics"
    took = dice.uniform(400, 6000)
    provider, name = {each[0]: each[1:3] for each in MODELS}[model]
    return RequestRow(
        request_id=f"req_{number}_{dice.getrandbits(40):x}",
        at_ms=round(at.timestamp() * 1000),
        caller=f"user:{who}",
        endpoint=model,
        operation="chat",
        status=200,
        outcome="ok",
        server="",
        charged_group=group,
        provider=provider,
        sent_model=name,
        answered_model=name,
        attempts=1,
        input_tokens=dice.randrange(80, 2500),
        output_tokens=dice.randrange(40, 900),
        cost_nanousd=dice.randrange(most // 3, most) if most else 0,
        price_source="configuration" if not most else "genai-prices",
        took_ms=took,
        first_byte_ms=took / 5,
        auth_ms=0.4,
        wait_ms=0.2,
        upstream_ms=took - 2,
        rules="course, student, pace, daily",
    )


def ask(hub: GatewayHub, name: str, model: str = "chat") -> None:
    requests.post(
        f"{hub.service_url}v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "Why is the sky blue?"}]},
        headers={"Authorization": f"Bearer {hub.hub.token(name)}"},
        timeout=30,
    ).raise_for_status()


# The pages


@contextmanager
def opened(hub: GatewayHub, folder: Path, who: str, url: str) -> Iterator[Browser]:
    """Open an address as somebody."""
    with tempfile.TemporaryDirectory(dir=folder) as profile, chromium(Path(profile)) as browser:
        scheme(browser, "light")
        browser.open(url)
        log_in(browser, who)
        yield browser


def keep(browser: Browser, name: str, *, sign: str = "body") -> None:
    """Take the page in both colours, once `sign` is there, and as on a phone."""

    for theme in THEMES:
        scheme(browser, theme)
        browser.find(sign.replace("THEME", theme))
        for is_phone in (False, True) if name in PHONES else (False,):
            (narrow if is_phone else wide)(browser)
            height = browser.driver.execute_script("return document.documentElement.scrollHeight")
            clip = {
                "x": 0,
                "y": 0,
                "width": 390 if is_phone else 1280,
                "height": min(int(height), TALLEST),
                "scale": 1,
            }
            asked = {"captureBeyondViewport": True, "clip": clip}
            picture = browser.driver.execute_cdp_cmd("Page.captureScreenshot", asked)
            file = PICTURES / f"{name}{'-phone' if is_phone else ''}-{theme}.png"
            file.write_bytes(base64.b64decode(picture["data"]))
    wide(browser)


def home(hub: GatewayHub, folder: Path, name: str) -> None:
    with opened(hub, folder, "alice", hub.service_url) as browser:
        browser.find("#models .model")
        keep(browser, name)


def playground(hub: GatewayHub, folder: Path, name: str) -> None:
    with opened(hub, folder, "alice", f"{hub.service_url}playground#chat") as browser:
        browser.find("#model option")
        browser.type("#message", "Why is the sky blue, and the sunset red?")
        browser.click("#send")
        browser.wait_text(".turn.assistant .facts-line", "tokens in")
        keep(browser, name)


def docs(hub: GatewayHub, folder: Path, name: str) -> None:
    with opened(hub, folder, "alice", f"{hub.service_url}docs") as browser:
        browser.find("#models table")
        browser.go("createChatCompletion").type("#message", "Why is the sky blue?")
        browser.click("#send")
        browser.wait_text("#status", "Done")
        keep(browser, name)


def usage(hub: GatewayHub, folder: Path, name: str) -> None:
    with opened(hub, folder, "alice", f"{hub.service_url}usage") as browser:
        browser.find("#chart svg")
        keep(browser, name)


def staff(hub: GatewayHub, folder: Path, name: str) -> None:
    with opened(hub, folder, "admin", f"{hub.service_url}staff") as browser:
        browser.find("#usage-chart svg")
        browser.find("#usage-rows table")
        keep(browser, name)


def instructor(hub: GatewayHub, folder: Path, name: str) -> None:
    with opened(hub, folder, "ira", f"{hub.service_url}staff") as browser:
        browser.find("#usage-chart svg")
        browser.find("#usage-rows table")
        keep(browser, name)


def notebook(hub: GatewayHub, folder: Path, name: str) -> None:
    """Run the notebook's cells in JupyterLab by keys, as a person does."""
    home_folder = hub.hub.folder / "home" / "alice"
    settings = home_folder / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "themes.jupyterlab-settings").write_text('{"adaptive-theme": true}')
    news = '{"fetchNews": "false", "checkForUpdates": false}'
    (settings / "notification.jupyterlab-settings").write_text(news)
    cells = [
        {"cell_type": "code", "id": f"c{number}", "metadata": {}, "source": text, "outputs": []}
        for number, text in enumerate(NOTEBOOK_CELLS)
    ]
    document = {
        "cells": [{**each, "execution_count": None} for each in cells],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (home_folder / "usage.ipynb").write_text(json.dumps(document))
    hub.hub.spawn("alice")
    with opened(hub, folder, "alice", f"{hub.hub.url}hub/user/alice/lab/tree/usage.ipynb") as browser:
        browser.find(".jp-Notebook .jp-CodeCell .cm-content")
        wait_until("kernel", lambda: _is_idle(browser), 120)
        for number in range(len(NOTEBOOK_CELLS)):
            _run_cell(browser, number)
        wait_until("tables", lambda: _has_tables(browser))
        if browser.driver.find_elements("css selector", ".jp-OutputArea mjx-container"):
            raise SystemExit("JupyterLab takes amounts of money for formulas")
        ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("b").key_up(Keys.CONTROL).perform()
        browser.driver.execute_script("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        keep(browser, name, sign='body[data-jp-theme-name="JupyterLab THEME" i]')
    hub.hub.stop_server("alice")


def _run_cell(browser: Browser, number: int) -> None:
    """Run a cell by its key, and return once it has; a press may be lost while JupyterLab starts."""
    for patience_s in (20, 20, 120):
        browser.driver.find_elements("css selector", ".jp-CodeCell .cm-content")[number].click()
        ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
        with suppress(TimeoutError):
            wait_until("end of the cell", lambda: _has_run(browser, number), patience_s)
            return
    raise SystemExit(f"JupyterLab did not run: {NOTEBOOK_CELLS[number]}")


def _has_run(browser: Browser, number: int) -> bool | None:
    prompt = browser.driver.find_elements("css selector", ".jp-CodeCell .jp-InputPrompt")[number].text
    return True if any(each.isdigit() for each in prompt) else None


def _is_idle(browser: Browser) -> bool | None:
    found = browser.driver.find_elements(
        "css selector", ".jp-NotebookPanel .jp-Notebook-ExecutionIndicator"
    )
    return True if any(each.get_attribute("data-status") == "idle" for each in found) else None


def _has_tables(browser: Browser) -> bool | None:
    return True if len(browser.driver.find_elements("css selector", ".jp-OutputArea table")) >= 2 else None


PAGES = {
    "home": home,
    "playground": playground,
    "docs": docs,
    "usage": usage,
    "staff": staff,
    "instructor": instructor,
    "notebook": notebook,
}

TAKEN = (*PAGES, *(f"{name}-phone" for name in PHONES))
"""The names of all pictures, each in both colours."""

if __name__ == "__main__":
    sys.exit(main())
