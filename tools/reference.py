"""Write the pages that are made from the code: `python -m tools.reference`; a test says if they are old."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jupyterhub_ai_gateway import metrics
from jupyterhub_ai_gateway.app.gateway_app import AIGateway
from jupyterhub_ai_gateway.config import json_schema, reference_page
from jupyterhub_ai_gateway.providers.registry import Providers

from . import formats, log_messages

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
        "configuration.md": reference_page(schemas),
        "formats.md": formats.page(),
        "config.schema.json": json.dumps(json_schema(schemas), indent=1) + "\n",
        "log-messages.md": log_messages.page(),
        "metrics.md": metrics.reference(),
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


_SETTINGS = """# Command line and settings

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

    jupyterhub-ai-gateway --config config.yaml
    jupyterhub-ai-gateway check --config config.yaml

| flag | |
| --- | --- |
| `-c`, `--config` | the YAML file of endpoints |
| `-H`, `--host` | the address to listen on |
| `-p`, `--port` | the port to listen on |
| `-m`, `--metrics`, `--no-metrics` | have `/metrics`, or not |
| `-f`, `--settings` | a Python file with the settings below |
| `--generate-config` | write that file, with every setting and its default |
| `--show-config` | print what was set |
| `--AIGateway.NAME=VALUE` | any setting below |
| `start` | start the gateway as MLflow does, with `--config-path` and `--workers` |
| `auth`, `bench` | for those who use a gateway: [a token and a benchmark](../howto/first.md) |
| `start` | start the gateway as MLflow does, with `--config-path` and `--workers 1` |
| `import` | turn another gateway's configuration into one for this gateway |
| `--admin-port` | a second port with `/ping` and `/metrics`, for this machine unless it has a host |
| `keys create`, `list`, `revoke`, `rotate`, `import` | for [gateway keys](../howto/gateway-keys.md) |
| `openai-gateway` | in the place of [LucienShui's openai-gateway](compatibility-openai-gateway.md) |
| `check` | say what a configuration would serve, or all that is wrong with it |

A process that the Hub starts needs no flag but `--config`: the Hub tells it the rest by its environment.
By hand, `JUPYTERHUB_API_URL` and `JUPYTERHUB_API_TOKEN` say where the Hub is and who the service is. SIGHUP
reads the configuration anew, SIGTERM and SIGINT end the process once running requests are over.

One process is enough for thousands of requests at once. `start --workers N` runs N of them on one port.
They share limits and pools by `store.url` (Redis) and need a ledger on PostgreSQL, or `ledger: false`;
`/metrics` of any of them is of all. A worker that dies is replaced.

## Settings

In `jupyterhub_ai_gateway_config.py` these are `c.AIGateway.NAME = VALUE`. A name in capitals is the
environment variable with the same meaning.
"""


def main() -> None:
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
