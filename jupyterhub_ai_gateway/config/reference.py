"""The reference page of the configuration, written from the code that reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields

from ..vocabulary import Timeouts
from .limits import LIMIT_KEYS, PERIOD_UNITS_S
from .model import ENDPOINT_TYPES, ProviderSchema, Setting
from .parse import TYPE_KEYS

_HEAD = """# Configuration

<!-- Written by `python -m tools.reference`; a test checks that it is current. -->

The gateway reads one YAML file, in the structure of MLflow's AI Gateway and of the original
jupyterhub-ai-gateway, or the same from Python: `c.AIGateway.endpoints = [...]`.

```yaml
endpoints:
  - name: chat
    endpoint_type: llm/v1/chat
    model:
      provider: openai
      name: gpt-4o-mini
      config:
        openai_api_key: $OPENAI_API_KEY
    limit:
      renewal_period: minute
      calls: 20
```

`jupyterhub-ai-gateway check --config config.yaml` says what a file would serve, or everything that is
wrong with it. A running gateway takes a changed file by itself, and on SIGHUP; when the new one is wrong
the old one stays in use, and the log and `/health` say why.
"""


def reference_page(providers: Mapping[str, ProviderSchema]) -> str:
    """Return `docs/reference/configuration.md`."""
    unique = {schema.name: schema for schema in providers.values()}
    names = {
        name: sorted(key for key, schema in providers.items() if schema.name == name) for name in unique
    }
    parts = [
        _HEAD,
        _keys(),
        "## Providers\n",
        *(_provider(unique[name], names[name]) for name in sorted(unique)),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _keys() -> str:
    rows = [
        ("name", "yes", "What callers give as `model`: letters, digits, `_`, `-` and `.`."),
        ("endpoint_type", "yes", f"{_code(ENDPOINT_TYPES)}. Also spelled {_code(TYPE_KEYS[1:])}."),
        ("model.provider", "yes", "One of the providers below. Case, `-` and `_` make no difference."),
        ("model.name", "usually", "The provider's own name of the model."),
        ("model.config", "", "The provider's settings, below."),
        ("limit.calls", "with limit", "How many calls at once; they come back evenly over the period."),
        (
            "limit.renewal_period",
            "with limit",
            f"{_code(PERIOD_UNITS_S)}, also in the plural and with a number: `5 minutes`.",
        ),
        (
            "limit.key",
            "",
            f"Whom the limit counts: {_code(LIMIT_KEYS)}. By default `user`, each for themselves.",
        ),
        (
            "scope",
            "",
            "A scope that callers need besides the usual: `premium` for `custom:SERVICE:premium`.",
        ),
        ("hidden", "", "`true`: for those who may not use it, it does not exist."),
        ("description", "", "A text for the list of models."),
        ("timeouts", "", "Seconds, by the names of the table below; also at the top of the file, for all."),
    ]
    defaults = Timeouts()
    limits = [(each.name, _number(getattr(defaults, each.name))) for each in fields(Timeouts)]
    return "\n".join(
        [
            "## Endpoints\n",
            "`endpoints` (or `routes`, as older MLflow files have it) is a list of:\n",
            _table(("key", "required", "meaning"), [(f"`{key}`", *rest) for key, *rest in rows]),
            "\n## Timeouts\n",
            _table(("key", "default, in seconds"), [(f"`{name}`", value) for name, value in limits]),
            "\n## Keys and other secrets\n",
            "A provider's key may stand in the file itself, or be named: `$NAME` and `{env: NAME}` read\n"
            "an environment variable, `{file: PATH}` a file, and so does a text that is the path of a\n"
            "file that exists (relative ones count from the configuration's folder). Files are watched\n"
            "like the configuration.\n",
        ]
    )


def _number(value: object) -> str:
    return "none" if value is None else f"{value:g}"


def _provider(schema: ProviderSchema, names: Iterable[str]) -> str:
    others = [name for name in names if name != schema.name]
    lines = [f"### {schema.name}\n"]
    if schema.retired:
        return "\n".join([*lines, schema.retired[0].upper() + schema.retired[1:] + ".\n"])
    if others:
        lines.append(f"Also {_code(others)}.\n")
    lines.append(f"Serves {_code(sorted(schema.endpoint_types))}.\n")
    if schema.settings:
        lines.append(
            _table(("setting", "kind", "required", "default", "meaning"), map(_row, schema.settings))
        )
        lines.append("")
    return "\n".join(lines)


def _row(setting: Setting) -> tuple[str, ...]:
    kind = _code(setting.choices) if setting.choices else setting.kind
    default = "" if setting.default in (None, ()) else f"`{setting.default}`"
    return f"`{setting.name}`", kind, "yes" if setting.required else "", default, setting.help


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
