"""Write the pages that are made from the code: `python -m tools.reference`; a test says if they are old."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jupyterhub_ai_gateway import metrics
from jupyterhub_ai_gateway.app.gateway_app import AIGateway
from jupyterhub_ai_gateway.config import json_schema, reference_page
from jupyterhub_ai_gateway.providers.registry import Providers

from . import command_line, formats, log_messages, paths, providers, scopes

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
SHOWN_BY_ENVIRONMENT = {
    "config_file": "`config.yaml`",
    "docs_title": "`JupyterHub AI Gateway`",
    "host": "`localhost`",
    "hub_api_url": "`http://localhost:8000/hub/api`",
    "metrics_namespace": "`jupyterhub_ai_gateway`",
    "port": "`5000`",
    "service_name": "`ai-gateway`",
    "service_prefix": "`/`",
}
"""Defaults that depend on the environment, without any."""


def pages() -> Mapping[str, str]:
    """Return every page by its file's name."""
    schemas = Providers.installed().schemas
    return {
        "command-line.md": command_line.page(),
        "configuration.md": reference_page(),
        "formats.md": formats.page(),
        "config.schema.json": json.dumps(json_schema(schemas), indent=1) + "\n",
        "log-messages.md": log_messages.page(),
        "metrics.md": metrics.reference(),
        "paths.md": paths.page(),
        "providers.md": providers.page(),
        "scopes.md": scopes.page(),
        "settings.md": settings(),
    }


def settings() -> str:
    """Describe the traits."""
    traits = AIGateway.class_own_traits(config=True)
    rows = [_row(name, trait) for name, trait in sorted(traits.items()) if name != "generate_config"]
    return "\n".join([_SETTINGS, "| setting | default | meaning |", "| --- | --- | --- |", *rows]) + "\n"


def _row(name: str, trait: object) -> str:
    default = SHOWN_BY_ENVIRONMENT.get(name) or _default(getattr(trait, "default_value", None))
    return f"| `{name}` | {default} | {getattr(trait, 'help', '')} |"


def _default(value: object) -> str:
    return "" if value in ("", None) or not isinstance(value, (str, int, float, bool)) else f"`{value}`"


_SETTINGS = """# Settings

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

What is set when the gateway starts, and stays until it ends: addresses, times, the parts it is made of.
What it serves stands in [the configuration](configuration.md) instead.

In `jupyterhub_ai_gateway_config.py` these are `c.AIGateway.NAME = VALUE`, on the [command
line](command-line.md) `--AIGateway.NAME=VALUE`. A name in capitals is the environment variable with the
same meaning.
"""


def main() -> None:
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
