"""The Hub's own look: our pages stand in its `page.html`, with its style and its navigation bar.

The template is that of the JupyterHub which is installed beside us; style, script and logo come from the
Hub itself. Its inline script is left out: nothing of ours needs it, and the Content-Security-Policy of
our pages allows none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import jinja2
from jupyterhub._data import DATA_FILES_PATH
from typing_extensions import override

TEMPLATES = Path(__file__).parent / "templates"
_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>.*?</script>", re.DOTALL)


class _HubTemplates(jinja2.FileSystemLoader):
    """The Hub's templates, without scripts that stand in the page."""

    @override
    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        source, name, is_current = super().get_source(environment, template)
        return _INLINE_SCRIPT.sub("", source), name, is_current


class Look:
    """Renders our pages for a Hub that browsers reach at `hub_url`, which ends with a slash."""

    def __init__(self, hub_url: str) -> None:
        folder = Path(DATA_FILES_PATH)
        loaders = [jinja2.FileSystemLoader(TEMPLATES), _HubTemplates(folder / "templates")]
        self._hub_url = hub_url
        self._environment = jinja2.Environment(loader=jinja2.ChoiceLoader(loaders), autoescape=True)
        has_dark = (folder / "static" / "js" / "darkmode.js").is_file()
        self._scripts = ["components/bootstrap/dist/js/bootstrap.bundle.min.js"]
        self._scripts += ["js/darkmode.js"] if has_dark else []

    def render(self, template: str, *, user: str, is_hub_admin: bool, **names: Any) -> str:
        """Write a page for somebody who is logged in."""
        hub_url = self._hub_url
        return self._environment.get_template(template).render(
            base_url=hub_url,
            logout_url=f"{hub_url}logout",
            login_url=f"{hub_url}login",
            user=SimpleNamespace(name=user),
            parsed_scopes={"admin-ui": True} if is_hub_admin else {},
            no_spawner_check=True,
            static_url=lambda path, **_: f"{hub_url}static/{path}",
            hub_scripts=self._scripts,
            **names,
        )


def content_security_policy(hub_url: str) -> str:
    """Return the policy of our pages: they run and load what we and the Hub ship, and speak to us alone."""
    parts = urlsplit(hub_url)
    hub = f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
    return (
        f"default-src 'none'; script-src 'self'{hub}; style-src 'self'{hub}; img-src 'self' data:{hub}; "
        f"font-src 'self'{hub}; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    )
