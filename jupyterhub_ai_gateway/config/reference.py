"""The reference page of the configuration, written from the code that reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from ..vocabulary import Timeouts
from .batches import DEFAULT_FRAMEWORK
from .connections import CONNECTIONS, dns_rows
from .health import HEALTH, health_rows
from .limits import LIMIT_KEYS, PERIOD_UNITS_S
from .model import (
    COMBINES,
    ENDPOINT_TYPES,
    ORDERS,
    RESOURCES,
    BatchesConfig,
    LedgerConfig,
    ProviderSchema,
    Setting,
    StoreConfig,
)
from .parse import TYPE_KEYS
from .policies import SCOPES, UNITS
from .prices import KINDS, PER_REQUEST, PER_SECOND, PER_UNIT
from .routing_pages import (
    DATA_RULES,
    POOLS,
    STATE_HOOK,
    STATES,
    data_rule_rows,
    maintenance_rows,
    offer_rows,
    pool_rows,
    probe_rows,
)

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


def reference_page() -> str:
    """Return `docs/reference/configuration.md`."""
    return f"{_HEAD}\n{_keys()}".rstrip() + "\n"


def _keys() -> str:
    rows = [
        (
            "name",
            "yes",
            "What callers give as `model`: letters, digits, `_`, `-` and `.`. With a `*` at the end it "
            "is a pattern: `openai/*` takes every name that begins so, and what the star stands for is the "
            "model.",
        ),
        ("endpoint_type", "yes", f"{_code(ENDPOINT_TYPES)}. Also spelled {_code(TYPE_KEYS[1:])}."),
        (
            "model.provider",
            "yes",
            "One of the [providers](providers.md). Case, `-` and `_` make no difference.",
        ),
        ("model.name", "usually", "The provider's own name of the model."),
        ("model.config", "", "The provider's [settings](providers.md#settings)."),
        ("model.tls", "", "Files in PEM for TLS with this provider, below."),
        ("model.addresses", "", "`public`: only where the provider is at a public address, below."),
        ("deployments", "", "Where the model runs, in place of `model`: a list, described below."),
        (
            "order",
            "",
            f"How the deployments of a tier are ordered: {_code(ORDERS)}. `weighted`, by chance, is usual.",
        ),
        ("retries", "", "How often all deployments are tried again after all have failed; 0 by default."),
        ("fallbacks", "", "Endpoints of the same type that stand in when all deployments have failed."),
        (
            "at_limit.use",
            "",
            "An endpoint of the same type, or several, the first of which that can serves the requests for "
            "which a [budget](../howto/courses-and-budgets.md#when-the-budget-is-used-up) has too little "
            "left.",
        ),
        (
            "cluster",
            "",
            "The cluster of FIRST's paths `/resource_server/CLUSTER/FRAMEWORK/v1/…`, for all deployments.",
        ),
        ("framework", "", f"The framework of the same; `{DEFAULT_FRAMEWORK}` by default."),
        ("aliases", "", "Other names under which callers find it; they may hold `/` and `:`."),
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
        (
            "price",
            "",
            "What it costs: a tariff (below), a list of which the last that holds counts, or `0` for free.",
        ),
        ("parameters", "", "What becomes of the fields that callers send; described below."),
        *offer_rows(),
        ("probe", "", "What its server is asked now and then; see below."),
        ("pool", "", "One of `pools`, whose slots its requests take."),
        ("hidden", "", "`true`: for those who may not use it, it does not exist."),
        (
            "stored_responses",
            "",
            "`true`: Responses may be kept in the provider's account (`store`), and gone on from by "
            "`previous_response_id`, each by the caller who made it alone.",
        ),
        ("description", "", "A text for the list of models."),
        ("timeouts", "", "Seconds, by the names of the table below; also at the top of the file, for all."),
        (
            "deadline_s",
            "",
            "How long a request may take as a whole, in seconds: waiting for a slot, all attempts and the "
            "answer. Without it only the timeouts count. Also at the top of the file, for all.",
        ),
        ("health", "", "When a deployment is sick or slow, below; also at the top of the file, for all."),
        ("mlflow", "", "How MLflow's paths are answered, below; also at the top of the file, for all."),
    ]
    defaults = Timeouts()
    limits = [(each.name, _number(getattr(defaults, each.name))) for each in fields(Timeouts)]
    return "\n".join(
        [
            "## Endpoints\n",
            "`endpoints` (or `routes`, as older MLflow files have it) is a list of:\n",
            _table(("key", "required", "meaning"), [(f"`{key}`", *rest) for key, *rest in rows]),
            "\n## Deployments\n",
            _DEPLOYMENTS,
            _table(
                ("key", "required", "meaning"), [(f"`{key}`", *rest) for key, *rest in _deployment_rows()]
            ),
            "\n## MLflow\n",
            _MLFLOW,
            _table(("key", "default", "meaning"), [(f"`{key}`", *rest) for key, *rest in _mlflow_rows()]),
            _SPLITS,
            "\n## Parameters\n",
            _PARAMETERS,
            _table(("key", "meaning"), [(f"`{key}`", text) for key, text in _parameter_rows()]),
            "\n## Data\n",
            DATA_RULES,
            _table(_HEADS, [(f"`{key}`", *rest) for key, *rest in data_rule_rows()]),
            "\n## Pools\n",
            POOLS,
            _table(_HEADS, [(f"`{key}`", *rest) for key, *rest in pool_rows()]),
            "\n## States\n",
            STATES,
            "A `probe`:\n",
            _table(_HEADS, [(f"`{key}`", *rest) for key, *rest in probe_rows()]),
            "\nAn entry of `maintenance`:\n",
            _table(_HEADS, [(f"`{key}`", *rest) for key, *rest in maintenance_rows()]),
            STATE_HOOK,
            "\n## Health\n",
            HEALTH,
            _table(("key", "default", "meaning"), [(f"`{key}`", *rest) for key, *rest in health_rows()]),
            "\n## Policies\n",
            _POLICIES,
            _table(("key", "required", "meaning"), [(f"`{key}`", *rest) for key, *rest in _policy_rows()]),
            "\nBeside `policies`:\n",
            _table(("key", "meaning"), [(f"`{key}`", text) for key, text in _beside_policies()]),
            "\n## Prices\n",
            _PRICES,
            _table(("key", "meaning"), [(f"`{key}`", text) for key, text in _price_rows()]),
            "\n## Ledger\n",
            "Where requests are written down. `ledger: false` switches it off.\n",
            _table(("key", "default", "meaning"), [(f"`{key}`", *rest) for key, *rest in _ledger_rows()]),
            "\n## Store\n",
            "Where limits and the slots of pools count. Without it that is the process itself, which is "
            "exact for one process.\n",
            _table(("key", "default", "meaning"), [(f"`{key}`", *rest) for key, *rest in _store_rows()]),
            "\n## Batches\n",
            _BATCHES,
            _table(("key", "default", "meaning"), [(f"`{key}`", *rest) for key, *rest in _batches_rows()]),
            "\n## Keys of the gateway's own\n",
            _KEYS,
            "\n## Timeouts\n",
            _table(("key", "default, in seconds"), [(f"`{name}`", value) for name, value in limits]),
            CONNECTIONS,
            _table(("key", "default", "meaning"), [(f"`{key}`", *rest) for key, *rest in dns_rows()]),
            "\n## Keys and other secrets\n",
            "A provider's key may stand in the file itself, or be named: `$NAME` and `{env: NAME}` read\n"
            "an environment variable, `{file: PATH}` a file, and so does a text that is the path of a\n"
            "file that exists (relative ones count from the configuration's folder). Files are watched\n"
            "like the configuration.\n\n"
            "In the place of one key there may be a list of keys of the same provider. The first is used;\n"
            "one that is refused, or has no more requests left, rests, and the next is used.\n",
        ]
    )


_KEYS = """`keys: {enabled: true}` lets callers in with keys that the gateway made, besides those with a
token of the Hub. [Gateway keys](../howto/gateway-keys.md) says how they are made. They are kept, hashed,
in the ledger's database. Off by default.
"""

_HEADS = ("key", "required", "meaning")

_DEPLOYMENTS = """A model may run in several places.
[How a deployment is chosen](../explanation/routing.md) says when which of them is asked.

```yaml
endpoints:
  - name: llama
    endpoint_type: llm/v1/chat
    deployments:
      - {name: cluster-a, model: {provider: vllm, name: llama, config: {api_base: "http://a:8000/v1"}}}
      - {name: cluster-b, model: {provider: vllm, name: llama, config: {api_base: "http://b:8000/v1"}}}
      - name: rented
        priority: 2
        model: {provider: openai, name: gpt-4o-mini, config: {openai_api_key: $OPENAI_API_KEY}}
```
"""


def _deployment_rows() -> list[tuple[str, str, str]]:
    return [
        ("name", "", "What headers and the ledger call it; its number by default."),
        ("model", "yes", "As an endpoint's `model`."),
        ("weight", "", "Its share within its tier, 1 by default; 0 for only when the others fail."),
        ("priority", "", "Its tier; 1, the default, is asked first."),
        ("cluster", "", "The cluster of FIRST's paths; the endpoint's by default."),
        ("framework", "", "The framework of FIRST's paths; the endpoint's by default."),
        ("price", "", "Its own price; the endpoint's by default."),
        ("timeouts", "", "Its own timeouts; the endpoint's by default."),
        (
            "context_length",
            "",
            "This, `pool`, `probe` and what else the endpoint says of itself, of its own.",
        ),
    ]


_PARAMETERS = """An endpoint's `parameters` change what callers send, before it goes to any deployment:

```yaml
endpoints:
  - name: llama
    endpoint_type: llm/v1/chat
    model: {provider: vllm, name: llama}
    parameters:
      drop: [logit_bias, tools.web_search*]
      error: [n]
      rename: {max_tokens: max_completion_tokens}
      default: {temperature: 0.2, chat_template_kwargs: {enable_thinking: false}}
      clamp: {max_completion_tokens: 4096, temperature: {min: 0, max: 1.5}}
```

Names are those of the top level of a request, as the caller's format has them: an answer's length is
`max_tokens` in one and `max_output_tokens` in another, so name both. Of Google's format they are also those
of `generationConfig`, spelled either way: `max_output_tokens` is `maxOutputTokens`. The keys are applied in
the order of this table; null counts as missing. The headers `x-ai-gateway-dropped-params` and
`x-ai-gateway-clamped-params` name what was left out or changed. An endpoint with `parameters` takes no
forms with files.

"""


def _parameter_rows() -> list[tuple[str, str]]:
    return [
        ("error", "Fields with which a request is refused (`parameter_refused`)."),
        (
            "drop",
            "Fields that are left out. `tools.NAME` leaves out tools of a kind, such as those that a "
            "provider runs itself; `*` at its end stands for anything.",
        ),
        ("rename", "Fields that get another name, unless there is one of that name."),
        ("default", "Values of fields that are missing."),
        ("clamp", "The largest number, or `min` and `max`. A field that is missing stays so."),
    ]


_POLICIES = """`policies` is a list of rules: who may use how much of what, in which time.
[How limits count](../explanation/limits.md) says how they work together.

```yaml
endpoints:
  - {name: chat, endpoint_type: llm/v1/chat, model: {provider: vllm, name: our-model}}
time_zone: Europe/Berlin
policies:
  - name: everyone
    resource: tokens
    limit: 100000
    window: day
  - name: courses
    scope: {group: nbgrader-*}
    resource: cost_usd
    limit: 50
    window: month
    count: group
```
"""


def _policy_rows() -> list[tuple[str, str, str]]:
    return [
        ("name", "", "What refusals, headers and pages call it; its place in the file by default."),
        ("resource", "yes", f"{_code(RESOURCES)}."),
        ("limit", "yes", "How much: a whole number, or dollars for `cost_usd`."),
        (
            "window",
            "yes, but for concurrency",
            f"{_code(UNITS)}, with a number before it if need be: `5 minutes`. A `term` is the time from "
            "`starts` to `ends`.",
        ),
        (
            "rolling",
            "",
            "`true` for the last so many minutes or days, `false` for those of the calendar. By default "
            "`true` up to hours, `false` from days on. A rolling month has 30 days.",
        ),
        (
            "scope",
            "",
            f"Whom it is for: a mapping of {_code(list(SCOPES)[:5])} to a name or a list of names, in "
            "which `*` stands for anything. Everyone by default.",
        ),
        ("endpoints", "", "For which: a name or a list, with `*`. All by default."),
        (
            "count",
            "",
            "Who shares a counter: each `user` has one (the default), each `member` has one in the group "
            "that pays, the `group` that pays has one, or `all` of the scope have one together.",
        ),
        ("priority", "", "Which one counts with `combine: priority`; the highest."),
        ("shadow", "", "`true`: it counts and tells what it would have refused, and refuses nobody."),
        (
            "unpriced",
            "",
            "Under a limit of `cost_usd`: whether a model without a price is refused (`deny`, the default) "
            "or not (`allow`).",
        ),
        (
            "when_store_fails",
            "",
            "Whether requests go on (`open`, the default) or are refused (`closed`) while the store of "
            "limits does not answer.",
        ),
        ("starts", "", "The first day on which it counts, such as `2026-10-01`."),
        ("ends", "", "The last day."),
    ]


def _beside_policies() -> list[tuple[str, str]]:
    return [
        (
            "combine",
            "Of several policies for one caller about the same resource, window, endpoints and count, "
            f"which amount counts: {_code(COMBINES)}. `max` by default.",
        ),
        (
            "policies_from_groups",
            "`true`: policies also stand in the properties of Hub groups, under `ai_gateway`, `policies`, "
            "each for its own group.",
        ),
        ("time_zone", "Where days begin, such as `Europe/Berlin`; `UTC` by default."),
    ]


_PRICES = """An endpoint's own `price` counts before what the provider reports (OpenRouter does), and that
before the table of public prices that comes with the package. A model that nobody prices is *unpriced*,
not free.

```yaml
endpoints:
  - name: claude
    endpoint_type: llm/v1/chat
    model: {provider: anthropic, name: claude-sonnet-4-5, config: {anthropic_api_key: $ANTHROPIC_API_KEY}}
    price:
      input_per_mtok: 3
      output_per_mtok: 15
      cache_read_per_mtok: 0.30
      above:
        - input_tokens: 200000
          input_per_mtok: 6
          output_per_mtok: 22.50
```
"""


_UNIT_NAMES = dict(
    zip(PER_UNIT, ("image that is made", "minute of a recording", "search unit of Cohere's"), strict=True)
)


def _price_rows() -> list[tuple[str, str]]:
    kinds = ", ".join(f"`{key}`" for key in KINDS)
    return [
        (
            "input_per_mtok",
            f"Dollars per million tokens; the others are {kinds.partition(', ')[2]}. A kind "
            "that is not given costs what its whole does.",
        ),
        (PER_REQUEST, "Dollars for each request."),
        (PER_SECOND, "Dollars for each second that a request takes, for GPUs of one's own."),
        *(
            (key, f"Dollars for each {text}, where the provider tells.")
            for key, text in _UNIT_NAMES.items()
        ),
        ("above", "Other prices of all tokens of a request whose input is longer than `input_tokens`."),
        ("hours", "When it holds, in UTC: `16:30-00:30`. Always by default."),
    ]


def _ledger_rows() -> list[tuple[str, str, str]]:
    usual = LedgerConfig()
    return [
        (
            "url",
            f"`{usual.url}`",
            "`sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`; may be named "
            "like a key. An SQLite file is made and upgraded by itself, a server's tables by "
            "`jupyterhub-ai-gateway db upgrade`.",
        ),
        ("journal", "beside the file", "The folder for what cannot be written while the database is away."),
        (
            "flush_s",
            _number(usual.flush_s),
            "How long a request may wait to be written.",
        ),
        (
            "fail_open_s",
            _number(usual.fail_open_s),
            "How long requests are served while the database is away; `null` for ever, `0` not at all.",
        ),
        (
            "retention_days",
            str(usual.retention_days),
            "How long requests are kept; `null` for ever. Their sums by day are always kept.",
        ),
    ]


def _store_rows() -> list[tuple[str, str, str]]:
    usual = StoreConfig()
    return [
        (
            "url",
            "",
            "`redis://HOST:6379/0`, `rediss://…` or `unix://…`, Redis or Valkey; may be named like a "
            "key. Needs the extra `redis`.",
        ),
        ("prefix", f"`{usual.prefix}`", "What its keys begin with."),
        ("timeout_s", _number(usual.timeout_s), "How long it may take to answer."),
    ]


_BATCHES = """[How to offer batches](../howto/batches.md). There are none without this section.

```yaml
endpoints:
  - {name: chat, endpoint_type: llm/v1/chat, model: {provider: vllm, name: our-model}}
batches:
  folder: /srv/ai-gateway/batches
  input_folders: ["/srv/projects/{username}"]
```
"""


def _batches_rows() -> list[tuple[str, str, str]]:
    usual = BatchesConfig()
    texts = {
        "concurrency": "How many lines run at once in one process.",
        "jobs": "How many batches are worked on at once in one process.",
        "give_way_above": "While the process answers more other requests than that, no line is begun.",
        "jobs_per_user": "How many batches of one caller may be there that have not ended.",
        "files_per_user": "How many files one caller may have.",
        "bytes_per_user": "How many bytes these may have together.",
        "file_bytes": "The longest file.",
        "line_bytes": "The longest line.",
        "lines": "The most lines of a batch.",
        "window_hours": "The longest `completion_window`: a batch that has not ended by then expires.",
        "retention_days": "How long files, and batches that have ended, are kept.",
    }
    return [
        (
            "folder",
            "",
            "Where files and batches are kept; required. All processes that share a PostgreSQL "
            "ledger must share it as well.",
        ),
        (
            "input_folders",
            "none",
            "Below which folders a batch may name its input file, a list; "
            "`{username}` stands for the caller's name.",
        ),
        ("output_folders", "none", "Below which folders a batch may have its results written."),
        *((name, str(getattr(usual, name)), text) for name, text in texts.items()),
        (
            "lease_s",
            _number(usual.lease_s),
            "After so many seconds without a sign of life another process "
            "takes over what a process was working on.",
        ),
    ]


def _number(value: object) -> str:
    return "none" if value is None else f"{value:g}"


_MLFLOW = "What counts for MLflow's paths alone, under `mlflow`.\n"

_SPLITS = """
An entry with `destinations` in the place of a model is a traffic split, as MLflow 3.8 writes it: a name
that stands for several endpoints of one type. Each request goes to one of them by chance; its limits and
scopes are those of the endpoint that was drawn, whose stand-ins the others are. Who may not use all of them
may not use the split. `destinations` are each a `name` and a `traffic_percentage`, which add up to 100;
`task_type` is the type, `routing_strategy` `TRAFFIC_SPLIT`.
"""


def _mlflow_rows() -> list[tuple[str, str, str]]:
    return [
        (
            "answers",
            "`auto`",
            "The form of answers below `/gateway`: `legacy` as before MLflow 2.9, `openai` as since, "
            "`auto` by who asks.",
        ),
        (
            "scale_temperature",
            "`true`",
            "Turn a temperature into the provider's range, as MLflow does; for Anthropic it is halved.",
        ),
        (
            "model_in_body",
            "`refuse`",
            "What becomes of a `model` that repeats the one of the path: `refuse` it, as MLflow does, or "
            "`ignore` it.",
        ),
        ("default_temperature", "", "Sent where the caller sends none; MLflow 2 sent 0."),
    ]


def provider_section(schema: ProviderSchema, others: Iterable[str]) -> str:
    """Return what one provider takes in the configuration; `others` are its other names."""
    others = list(others)
    lines = [f"### {schema.name}\n"]
    if others:
        lines.append(f"Also {_code(others)}.\n")
    lines.append(f"Serves {_code(sorted(schema.endpoint_types))}.\n")
    if schema.settings:
        lines.append(_table(("setting", "kind", "required", "default", "meaning"), _rows(schema.settings)))
        lines.append("")
    return "\n".join(lines)


def _rows(settings: Iterable[Setting], within: str = "") -> Iterable[tuple[str, ...]]:
    for setting in settings:
        yield _row(setting, within)
        yield from _rows(setting.settings, f"{within}{setting.name}.")


def _row(setting: Setting, within: str) -> tuple[str, ...]:
    kind = _code(setting.choices) if setting.choices else setting.kind
    default = "" if setting.default in (None, ()) else f"`{setting.default}`"
    return f"`{within}{setting.name}`", kind, "yes" if setting.required else "", default, setting.help


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
