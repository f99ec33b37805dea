"""Every metric of the gateway: its name, its labels, what it says. `reference()` is the page about them.

The naming rule: what OpenTelemetry's conventions for generative AI define carries their name and their
buckets, dots and units as Prometheus writes them (`gen_ai.server.request.duration` in seconds becomes
`gen_ai_server_request_duration_seconds`). Everything else is `NAMESPACE_THING_UNIT`, with `_total` for what
only grows. Label values come from the configuration or from fixed lists: never a user's name, a path, or
anything that a caller typed.

Source: github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md (read 2026-11;
still in development there).
"""

from __future__ import annotations

from dataclasses import dataclass

NAMESPACE = "jupyterhub_ai_gateway"

Buckets = tuple[float, ...]

# The conventions' own, and above them what long streams and cold models need
DURATION_S: Buckets = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(163.84, 327.68),
)
FIRST_TOKEN_S: Buckets = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
PER_TOKEN_S: Buckets = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS: Buckets = tuple(float(4**power) for power in range(14))

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
OPERATION_NAMES = {"completions": "text_completion", "messages": "chat", "responses": "chat"}
"""What the conventions call an operation of ours, where the name differs."""
PROVIDER_NAMES = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""What the conventions call a provider of ours, where the name differs."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `name` without its namespace, `kind`, what it says, its labels in order.

    `is_ours` is true for those that carry the namespace. A counter's name is without `_total`.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: Buckets = ()
    is_ours: bool = True

    def full_name(self, namespace: str) -> str:
        """Return the name as scraped."""
        name = f"{namespace}_{self.name}" if self.is_ours else self.name
        return f"{name}_total" if self.kind == COUNTER else name


_CELL = ("endpoint", "operation", "provider", "model")
_GEN_AI = ("endpoint", "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

DURATION = Family(
    "gen_ai_server_request_duration_seconds",
    HISTOGRAM,
    "Time from a request's last byte to its answer's last, streams to their end. "
    "error_type is empty for a success",
    (*_GEN_AI, "error_type"),
    DURATION_S,
    is_ours=False,
)
FIRST_TOKEN = Family(
    "gen_ai_server_time_to_first_token_seconds",
    HISTOGRAM,
    "Time to the first byte of a streamed answer that ended well",
    _GEN_AI,
    FIRST_TOKEN_S,
    is_ours=False,
)
PER_TOKEN = Family(
    "gen_ai_server_time_per_output_token_seconds",
    HISTOGRAM,
    "Time per output token after the first, of streamed answers whose usage is known",
    _GEN_AI,
    PER_TOKEN_S,
    is_ours=False,
)
TOKEN_USAGE = Family(
    "gen_ai_client_token_usage",
    HISTOGRAM,
    "Tokens of one request as the provider reported them; a request whose usage is unknown is not in it",
    (*_GEN_AI, "gen_ai_token_type"),
    TOKENS,
    is_ours=False,
)
REQUESTS = Family(
    "requests",
    COUNTER,
    "Requests that are over. outcome is ok or an error's code; without an endpoint: refused before one was "
    "found",
    (*_CELL, "status", "outcome"),
)
IN_FLIGHT = Family("requests_in_flight", GAUGE, "Requests that are not over yet, streams included", _CELL)
TOKEN_TOTAL = Family(
    "tokens",
    COUNTER,
    "Tokens that the providers reported. cached_input is part of input, reasoning part of output",
    (*_CELL, "token_type"),
)
UNKNOWN_USAGE = Family(
    "requests_without_usage", COUNTER, "Successful requests whose usage the provider did not report", _CELL
)
COST = Family("cost_usd", COUNTER, "Dollars that requests cost, estimates included", _CELL)
UNPRICED = Family(
    "requests_unpriced", COUNTER, "Requests that a provider worked on and whose cost nobody knows", _CELL
)
LIMIT_HITS = Family(
    "rate_limit_hits", COUNTER, "Requests that the gateway's own limits refused", (*_CELL, "outcome")
)
UPSTREAM_ERRORS = Family(
    "upstream_errors", COUNTER, "Requests that failed at the provider", (*_CELL, "outcome")
)
UPSTREAM_CONNECTIONS = Family("upstream_connections", GAUGE, "Open connections to providers, idle or not")
DEPLOYMENT_FAILURES = Family(
    "deployment_failures",
    COUNTER,
    "Attempts at a deployment that failed by its own fault, of endpoints that have a choice",
    ("endpoint", "deployment"),
)
DEPLOYMENT_RESTING = Family(
    "deployment_resting", GAUGE, "1 while a deployment rests after failures", ("endpoint", "deployment")
)
DEPLOYMENT_SLOW = Family(
    "deployment_slow",
    GAUGE,
    "1 while a deployment's answers take by far longer to begin than is usual, there or in its tier",
    ("endpoint", "deployment"),
)
DEPLOYMENT_ERROR_RATE = Family(
    "deployment_error_rate",
    GAUGE,
    "Which part of a deployment's requests of the last minute, or what the configuration says, has failed",
    ("endpoint", "deployment"),
)
DEPLOYMENT_LATENCY = Family(
    "deployment_latency_seconds",
    GAUGE,
    "How long a deployment's answers lately took: streams until they began, others until they ended",
    ("endpoint", "deployment"),
)
DEPLOYMENT_STATE = Family(
    "deployment_state",
    GAUGE,
    "1 for the state a deployment is in: ready, queued, loading, resting, down, maintenance",
    ("endpoint", "deployment", "state"),
)
POOL_SLOTS = Family(
    "pool_slots",
    GAUGE,
    "Requests that a pool runs at a time, in all processes that share it; do not add them up",
    ("pool",),
)
POOL_IN_USE = Family(
    "pool_slots_in_use", GAUGE, "Slots of a pool that this process' requests have", ("pool",)
)
POOL_WAITING = Family(
    "pool_waiting_requests", GAUGE, "Requests of this process that wait for a slot of a pool", ("pool",)
)
POOL_ALL_IN_USE = Family(
    "pool_all_slots_in_use",
    GAUGE,
    "Slots of a pool that are taken, in all processes that share it; do not add them up",
    ("pool",),
)
POOL_ALL_WAITING = Family(
    "pool_all_waiting_requests",
    GAUGE,
    "Requests that wait for a slot of a pool, in all processes that share it; do not add them up",
    ("pool",),
)
POOL_APART = Family(
    "pool_apart",
    GAUGE,
    "1 while this process goes by its own part of a pool's slots, as the store is away or others not back",
    ("pool",),
)
POOL_WAITS = Family(
    "pool_waits", COUNTER, "Requests that have waited for a slot, however it ended", ("pool",)
)
POOL_WAITED = Family("pool_wait_seconds", COUNTER, "How long they have waited, all together", ("pool",))
POOL_REFUSED = Family(
    "pool_refusals", COUNTER, "Requests that were sent away, for want of room or of time", ("pool",)
)
AUTH_ANSWERS = Family(
    "auth_cache_answers",
    COUNTER,
    "Answers to who is calling: hit (from memory), miss (not in memory), stale (past its time, because the "
    "Hub failed)",
    ("result",),
)
AUTH_TOKENS = Family("auth_cache_tokens", GAUGE, "Tokens in memory, known and unknown ones")
HUB_LOOKUPS = Family("hub_lookups", COUNTER, "Questions to the Hub about a token")
HUB_ERRORS = Family("hub_lookup_errors", COUNTER, "Questions to the Hub about a token without an answer")
LEDGER_ROWS = Family(
    "ledger_requests",
    COUNTER,
    "Requests that the ledger took: written (in the database), or failed (batches that it did not take)",
    ("result",),
)
LEDGER_QUEUE = Family("ledger_queued_requests", GAUGE, "Requests that wait to be written")
LEDGER_JOURNAL = Family("ledger_journaled_requests", GAUGE, "Requests in the journal alone")
LEDGER_AWAY = Family("ledger_database_away", GAUGE, "1 while the ledger's database does not take anything")
COUNTERS = Family("limit_counters", GAUGE, "Counters of policies in memory; 0 where they are elsewhere")
STORE_ERRORS = Family(
    "limit_store_errors", COUNTER, "Times the store of limits did not answer a request's question"
)
BATCHES = Family("batches_running", GAUGE, "Batches that this process works on")
BATCH_QUEUE = Family(
    "batch_lines_in_flight", GAUGE, "Lines of batches that were begun and have no answer yet"
)
BATCH_LINES = Family(
    "batch_lines", COUNTER, "Lines of batches that got an answer: ok, or failed", ("outcome",)
)
RELOADS = Family(
    "configuration_loads", COUNTER, "Times the configuration was read, the start included", ("result",)
)
LOADED_WELL = Family(
    "configuration_last_load_successful", GAUGE, "1 when the file that is in use is the newest, else 0"
)
LOADED_AT = Family(
    "configuration_loaded_timestamp_seconds", GAUGE, "When the configuration in use was read"
)
ENDPOINTS = Family("configuration_endpoints", GAUGE, "Endpoints of the configuration in use")
SERIES = Family("metric_cells", GAUGE, "Combinations of endpoint, operation, provider and model in memory")
BUILD = Family("build_info", GAUGE, "Always 1; the label says which version runs", ("version",))

FAMILIES = (
    *(DURATION, FIRST_TOKEN, PER_TOKEN, TOKEN_USAGE),
    *(REQUESTS, IN_FLIGHT, TOKEN_TOTAL, UNKNOWN_USAGE, COST, UNPRICED),
    *(LIMIT_HITS, UPSTREAM_ERRORS, UPSTREAM_CONNECTIONS, DEPLOYMENT_FAILURES, DEPLOYMENT_RESTING),
    *(DEPLOYMENT_SLOW, DEPLOYMENT_ERROR_RATE, DEPLOYMENT_LATENCY, DEPLOYMENT_STATE),
    *(POOL_SLOTS, POOL_IN_USE, POOL_WAITING, POOL_WAITS, POOL_WAITED, POOL_REFUSED),
    *(POOL_ALL_IN_USE, POOL_ALL_WAITING, POOL_APART),
    *(LEDGER_ROWS, LEDGER_QUEUE, LEDGER_JOURNAL, LEDGER_AWAY, COUNTERS, STORE_ERRORS),
    *(BATCHES, BATCH_QUEUE, BATCH_LINES),
    *(AUTH_ANSWERS, AUTH_TOKENS, HUB_LOOKUPS, HUB_ERRORS),
    *(RELOADS, LOADED_WELL, LOADED_AT, ENDPOINTS, SERIES, BUILD),
)
"""All of them, in the order of the text and of the documentation."""


def reference() -> str:
    """Return `docs/reference/metrics.md`, made from `FAMILIES`."""
    lines = [_INTRODUCTION]
    for title, is_ours in (("OpenTelemetry's names", False), ("The gateway's own", True)):
        lines += [f"## {title}", "", "| Name | Kind | Labels | Says |", "| --- | --- | --- | --- |"]
        lines += [_row(family) for family in FAMILIES if family.is_ours is is_ours]
        lines.append("")
    lines += ["## Buckets", "", "| Name | Upper bounds |", "| --- | --- |"]
    lines += [
        f"| `{family.name}` | {', '.join(f'{bound:.12g}' for bound in family.buckets)} |"
        for family in FAMILIES
        if family.buckets
    ]
    return "\n".join([*lines, "", _OUTLOOK])


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    return f"| `{family.full_name(NAMESPACE)}` | {family.kind} | {labels} | {family.help} |"


_INTRODUCTION = """\
# Metrics

<!-- Written by `python -m jupyterhub_ai_gateway.metrics`; change that module instead. -->

`GET {prefix}metrics` answers in Prometheus' text format, or in OpenMetrics when the scraper asks for it.
The scraper sends a Hub token that holds the Hub's own scope `read:metrics`; nothing else is needed.

What OpenTelemetry's conventions for generative AI define carries their name, so that their dashboards
fit. Everything else begins with the namespace, `jupyterhub_ai_gateway` unless it is configured otherwise.
Durations run to the end of a stream. No label holds a user, a path or anything that a caller typed:
`endpoint` is a name of the configuration, `model` what the provider is asked for, `outcome` is `ok` or
the `code` of the error that the caller got. At most 2000 combinations of endpoint, operation, provider
and model are kept apart; what comes later is `other`. A combination appears with its first request.
"""

_OUTLOOK = """\
The process's own (`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`, …)
are there as well, as prometheus_client names them.

## Coming from the original gateway

| There | Here |
| --- | --- |
| `NAMESPACE_http_requests_total{endpoint,method,status}` | `NAMESPACE_requests_total`; its `endpoint` is \
the endpoint's name, not the path |
| `NAMESPACE_http_request_duration_seconds` | `gen_ai_server_request_duration_seconds` |
| `NAMESPACE_http_request_size_bytes`, `…_response_size_bytes` | `gen_ai_client_token_usage` |
"""
