"""The documentation says what the code does: pages are current, links lead somewhere.

Its code is run by `tests/documented`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.hub import ACCESS
from served import FULL, served
from traitlets.config import Config

from jupyterhub_ai_gateway import errors, metrics
from jupyterhub_ai_gateway.app.gateway_app import AIGateway
from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.handlers.routes import patterns
from jupyterhub_ai_gateway.providers.registry import Providers
from jupyterhub_ai_gateway.vocabulary import OPERATIONS
from tools import command_line, log_messages, paths, screenshots
from tools.reference import REFERENCE, pages

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINKS = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


MADE = pages()


@pytest.mark.parametrize("name", MADE)
def test_generated_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text() == MADE[name], "run: python -m tools.reference"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINKS.findall(path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_every_page_is_in_the_contents() -> None:
    for section in ("tutorial", "howto", "explanation", "reference"):
        folder = ROOT / "docs" / section
        listed = (folder / "index.md").read_text().splitlines()
        assert (
            sorted(page.stem for page in folder.glob("*.md") if page.stem not in (*listed, "index")) == []
        )


def test_every_log_message_is_explained() -> None:
    assert set(log_messages.found()) ^ set(log_messages.MEANINGS) == set()


def deployments() -> list[Any]:
    """Return every document of the files for Kubernetes."""
    files = sorted((ROOT / "deploy").rglob("*.yaml"))
    documents = [(path, each) for path in files for each in yaml.safe_load_all(path.read_text())]
    return [pytest.param(path, each, id=f"{path.name}-{each.get('kind')}") for path, each in documents]


def test_the_chart_s_values_configure_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    values = yaml.safe_load((ROOT / "deploy/zero-to-jupyterhub/values.yaml").read_text())
    monkeypatch.setenv("AI_GATEWAY_TOKEN", "secret-of-both")
    c = Config()
    c.KubeSpawner.environment = {"LANG": "C"}
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    for code in values["hub"]["extraConfig"].values():
        exec(compile(code, "extraConfig", "exec"), {"c": c})
    (service,) = c.JupyterHub.services
    assert (service["url"], service["api_token"]) == ("http://ai-gateway:8000", "secret-of-both")
    assert c.KubeSpawner.environment["OPENAI_BASE_URL"] == "http://proxy-public/services/ai-gateway/v1"


def test_the_pod_of_the_gateway_fits_the_command_and_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (ROOT / "deploy/zero-to-jupyterhub/ai-gateway.yaml").read_text()
    by_kind = {each["kind"]: each for each in yaml.safe_load_all(text)}
    (tmp_path / "openai").write_text("sk-example")
    written = by_kind["ConfigMap"]["data"]["config.yaml"].replace("/run/keys", str(tmp_path))
    environ = {"AI_GATEWAY_LEDGER": "postgresql+psycopg://u:p@db/ai"}
    assert parse(yaml.safe_load(written), Providers.installed().schemas, environ).warnings == ()
    pod = by_kind["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert by_kind["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    app = AIGateway()
    app.parse_command_line(container["args"])
    assert (app.host, app.port, app.drain_timeout_s) == ("0.0.0.0", 8000, 300)
    assert pod["spec"]["terminationGracePeriodSeconds"] > app.drain_timeout_s + app.drain_delay_s


def test_every_setting_is_documented_with_a_help() -> None:
    text = (REFERENCE / "settings.md").read_text()
    traits = {
        name: trait
        for name, trait in AIGateway.class_own_traits(config=True).items()
        if name != "generate_config"
    }
    for name, trait in traits.items():
        assert trait.help
        assert f"`{name}`" in text
    assert len(traits) < 32


def test_every_scope_is_documented() -> None:
    text = (REFERENCE / "scopes.md").read_text()
    for operation in OPERATIONS:
        assert f"custom:ai-gateway:{operation}" in text


def test_every_metric_is_documented() -> None:
    text = (REFERENCE / "metrics.md").read_text()
    for family in metrics.FAMILIES:
        assert family.name.replace(".", "_") in text


def test_every_slug_is_documented() -> None:
    text = (REFERENCE / "errors.md").read_text()
    found = {
        each.slug
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.Fault)
    }
    for path in (ROOT / "jupyterhub_ai_gateway").rglob("*.py"):
        found |= set(re.findall(r'slug="([a-z_]+)"', path.read_text()))
    internal = {"configuration", "not_found", "login_failed"}  # never an API's answer, or a page's
    assert sorted(slug for slug in found - internal if f"`{slug}`" not in text) == []


def test_every_route_is_on_the_page_of_paths() -> None:
    assert paths.undocumented() == []


def test_every_option_of_the_command_line_has_a_help() -> None:
    text = (REFERENCE / "command-line.md").read_text()
    assert re.findall(r"^\| (?!\*\*|---).* \|  \|$", text, re.MULTILINE) == []
    for name, _ in command_line.commands():
        assert f"\n## {name}\n" in text


def test_every_provider_is_on_its_page() -> None:
    text = (REFERENCE / "providers.md").read_text()
    for name, schema in Providers.installed().schemas.items():
        assert f"`{name}`" in text
        assert schema.retired is None or schema.retired in text


def test_every_documented_slug_is_one_that_the_code_has() -> None:
    """The other way round than `test_every_slug_is_documented`: what is gone leaves the page as well."""
    code = "".join(path.read_text() for path in (ROOT / "jupyterhub_ai_gateway").rglob("*.py"))
    rows = re.findall(r"^\| \d[^|]*\|([^|]*)\|", (REFERENCE / "errors.md").read_text(), re.MULTILINE)
    slugs = {slug for row in rows for slug in re.findall(r"`([a-z_]+)`", row)}
    assert len(slugs) > 50
    assert sorted(slug for slug in slugs if f'"{slug}"' not in code) == []


def sample(pattern: str) -> str:
    """Return a path that a route's pattern matches, mostly with names that nobody has."""
    if "(resp_" in pattern:
        return "v1/responses/resp_nothing"
    if pattern.startswith("gateway/proxy"):
        return "gateway/proxy/chat/v1/chat/completions"
    shown = paths.readable(pattern, ("nothing",) * 4)
    return shown.replace("nothing:nothing", "nothing:generateContent")


async def test_paths_of_others_want_the_scope_that_their_page_says() -> None:
    """Without the scope the caller learns nothing of what is there; with all scopes they get further."""
    wrong: dict[str, tuple[int, int]] = {}
    hi = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
    async with served() as running:
        nothing = running.knows("t-nothing", ACCESS)
        everything = running.knows("t-everything", ACCESS, FULL, "custom:ai-gateway:admin")
        for pattern, handler, _ in patterns():
            if "none" in paths.OTHERS.get(handler.__name__, ("none",))[0]:
                continue
            methods = paths.methods_of(handler)
            method, body = ("POST", hi) if "POST" in methods and "DELETE" not in methods else ("GET", None)
            refused = await running.ask(method, sample(pattern), body, token=nothing)
            further = await running.ask(method, sample(pattern), body, token=everything)
            if refused.status != 403 or further.status == 403:
                wrong[pattern] = (refused.status, further.status)
    assert wrong == {}


def test_pictures_that_are_shown_are_taken_and_have_words() -> None:
    text = "".join(path.read_text() for path in DOCUMENTS)
    shown = re.findall(r"^ *```\{screenshot\} (\S+)\n *:alt: (\S.+)$", text, re.MULTILINE)
    assert len(shown) == text.count("{screenshot}")
    assert {name for name, _ in shown} <= set(screenshots.TAKEN)
    assert set(screenshots.PAGES) <= {name for name, _ in shown}
