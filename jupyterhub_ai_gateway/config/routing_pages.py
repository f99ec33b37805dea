"""What the JSON Schema and the reference page say of how requests are routed."""

from __future__ import annotations

from collections.abc import Mapping

from .model import CAPABILITIES, DATA_CLASSES, PROBES, PoolConfig

Schema = dict[str, object]
Rows = list[tuple[str, str, str]]

WORDS: Schema = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]
}

OFFER_SCHEMA: Mapping[str, Schema] = {
    "context_length": {"type": ["integer", "null"], "minimum": 1, "description": "In tokens."},
    "capabilities": {
        "type": ["array", "null"],
        "items": {"type": "string", "examples": list(CAPABILITIES)},
    },
    "region": {"type": ["string", "null"], "examples": ["eu", "eu-central-1"]},
    "data_class": {"enum": [*DATA_CLASSES, None]},
    "deprecation_date": {"type": ["string", "null"], "examples": ["2026-10-01"]},
}


def pool_schema() -> Schema:
    """Return the schema of an entry of `pools`."""
    seconds: Schema = {"type": ["number", "null"], "description": "In seconds."}
    weight: Schema = {"type": "number", "minimum": 0.001}
    weights: Schema = {"type": ["object", "null"], "additionalProperties": weight}
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "slots": {"type": "integer", "minimum": 1},
            "most_slots": {"type": ["integer", "null"], "minimum": 1},
            "queue": {"type": ["integer", "null"], "minimum": 0},
            **dict.fromkeys(("wait_s", "stream_wait_s", "half_life_s"), seconds),
            "groups": weights,
            "users": weights,
            "others": {"type": ["number", "null"]},
        },
        "required": ["name", "slots"],
        "additionalProperties": False,
    }


def probe_schema() -> Schema:
    """Return the schema of a deployment's `probe`."""
    return {
        "anyOf": [
            {"enum": [*PROBES, None]},
            {
                "type": "object",
                "properties": {
                    "kind": {"enum": list(PROBES)},
                    "url": {"type": ["string", "null"]},
                    "interval_s": {"type": ["number", "null"], "minimum": 1},
                    "timeout_s": {"type": ["number", "null"], "minimum": 0.1},
                    "cluster": {"type": ["string", "null"]},
                    "key": {"type": ["string", "object", "null"]},
                },
                "required": ["kind"],
                "additionalProperties": False,
            },
        ]
    }


def maintenance_schema() -> Schema:
    """Return the schema of an entry of `maintenance`."""
    moment: Schema = {"type": ["string", "null"], "examples": ["2026-12-01 08:00"]}
    return {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "starts": moment,
            "ends": moment,
            "weekly": {"type": ["string", "null"], "examples": ["tue 08:00-12:00", "daily 03:00-03:30"]},
            "endpoints": WORDS,
            "deployments": WORDS,
        },
        "required": ["text"],
        "additionalProperties": False,
    }


def data_rule_schema(scope: Schema) -> Schema:
    """Return the schema of an entry of `data_rules`."""
    return {
        "type": "object",
        "properties": {
            "scope": scope,
            "endpoints": WORDS,
            "data_class": {"enum": [*DATA_CLASSES, None]},
            "region": WORDS,
        },
        "additionalProperties": False,
    }


def offer_rows() -> Rows:
    """Return what an endpoint, and each of its deployments, may say of what it can serve."""
    words = ", ".join(f"`{word}`" for word in CAPABILITIES)
    classes = ", ".join(f"`{word}`" for word in DATA_CLASSES)
    return [
        ("context_length", "", "The longest request, in tokens; what is surely longer goes elsewhere."),
        (
            "capabilities",
            "",
            f"A list of what it can do. Requests that need one of {words} go only where it is in the list; "
            "other words are for people.",
        ),
        ("region", "", "Where it runs: `eu`, `eu-central-1`."),
        ("data_class", "", f"The highest class of data that may go there: {classes}."),
        ("deprecation_date", "", "The day on which it ends, such as `2026-10-01`, for the list of models."),
    ]


DATA_RULES = """`data_rules` say whose requests need which class of data, or a region. A caller may ask
for more by the headers `x-ai-gateway-data-class` and `x-ai-gateway-region`, never for less.

```yaml
endpoints:
  - name: chat
    endpoint_type: llm/v1/chat
    deployments:
      - {name: ours, data_class: restricted, region: eu, model: {provider: vllm, name: m}}
      - {name: rented, priority: 2, data_class: public, model: {provider: vllm, name: m}}
data_rules:
  - {scope: {group: medicine}, data_class: restricted, region: eu}
```
"""


STATES = """How a deployment is known to be well, besides its answers.
[How a deployment is chosen](../explanation/routing.md#states) says what follows from a state.

```yaml
endpoints:
  - name: llama
    endpoint_type: llm/v1/chat
    probe: vllm
    model: {provider: vllm, name: llama, config: {api_base: "http://gpu1:8000/v1"}}
maintenance:
  - {weekly: "tue 08:00-10:00", text: "The cluster is patched."}
  - {starts: 2026-12-01 08:00, ends: 2026-12-02 18:00, endpoints: llama, text: "New GPUs."}
```
"""


STATE_HOOK = """
`state_hook` names a function of your own, `package.module:function` or an entry point of the group
`jupyterhub_ai_gateway.state_hooks`. Every half minute it is called with the names of an endpoint and a
deployment, and returns `None` or a mapping of `state`, `text` and `until` (a datetime), for which it counts
before a probe. It may be a coroutine function; any other runs in a thread.
"""


def probe_rows() -> Rows:
    """Return the keys of a `probe`."""
    return [
        (
            "kind",
            "yes",
            "`health` asks for the server's `/health`, `models` for its list of models, `vllm` for its "
            "`/metrics`, `first` for a status of FIRST's form. The kind alone may stand for the mapping.",
        ),
        ("url", "for `first`", "What to ask in place of the usual address."),
        ("interval_s", "", "How often, in seconds, a fifth more or less by chance; 30 by default."),
        ("timeout_s", "", "How long the answer may take, in seconds; 5 by default."),
        ("cluster", "", "For `first`: whose state counts where clusters are listed, not models."),
        ("key", "", "A Bearer token for it; may be named like a key."),
    ]


def maintenance_rows() -> Rows:
    """Return the keys of an entry of `maintenance`."""
    return [
        ("text", "yes", "What callers read."),
        ("starts", "this and ends", "When it begins, in the `time_zone` unless the time has an offset."),
        ("ends", "", "When it ends."),
        (
            "weekly",
            "or this",
            "Days and hours: `tue 08:00-12:00`, `sat, sun 22:00-02:00`, `daily 03:00-03:30`.",
        ),
        ("endpoints", "", "Which: a name or a list, with `*`. All by default."),
        ("deployments", "", "Which of their deployments. All by default."),
    ]


POOLS = """A pool is a number of slots that deployments on one's own machines share, by their `pool`.
[Own GPUs](../howto/own-gpus.md) says how the slots are shared out.

```yaml
endpoints:
  - name: llama
    endpoint_type: llm/v1/chat
    pool: gpus
    model: {provider: vllm, name: llama, config: {api_base: "http://gpu1:8000/v1"}}
pools:
  - name: gpus
    slots: 16
    groups: {physics: 3, "course-*": 1}
```
"""


def pool_rows() -> Rows:
    """Return the keys of an entry of `pools`."""
    usual = PoolConfig("", 1)
    return [
        ("name", "yes", "What deployments call it."),
        ("slots", "yes", "How many requests run at a time, in all processes that share a `store`."),
        ("most_slots", "", "With it the slots are tuned between the two, by the `vllm` probe."),
        ("queue", "", f"How many requests may wait; {usual.queue} by default."),
        (
            "wait_s",
            "",
            f"How long a request waits that is no stream; {usual.wait_s:g} s by default.",
        ),
        ("stream_wait_s", "", f"How long a stream waits; {usual.stream_wait_s:g} s by default."),
        (
            "half_life_s",
            "",
            f"After how long what somebody has had counts half; {usual.half_life_s:g} s by default.",
        ),
        ("groups", "", "Groups of the Hub, or patterns with `*`, and their weights."),
        ("others", "", "The weight of all together who are in none of these groups; 1 by default."),
        ("users", "", "Callers such as `user:alice`, or patterns, and their weights within their group."),
    ]


def data_rule_rows() -> Rows:
    """Return the keys of an entry of `data_rules`."""
    return [
        ("scope", "", "Whose requests, as in a policy; everyone's by default."),
        ("endpoints", "", "To which: a name or a list, with `*`. All by default."),
        ("data_class", "this or region", "The class of their data."),
        ("region", "this or data_class", "A region, or a list of which one will do; `eu` has `eu-west-1`."),
    ]
