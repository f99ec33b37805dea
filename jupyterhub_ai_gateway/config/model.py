"""What the operator's file means once it is read. Frozen values; nothing here reads, checks or prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from ..vocabulary import CHAT, COMPLETIONS, EMBEDDINGS, OPENAI_OPERATIONS, Place, Timeouts
from .connections import DnsConfig
from .health import HealthConfig
from .parameters import ParametersConfig
from .secrets import Secret

TEXT_TYPES = (CHAT.endpoint_type, COMPLETIONS.endpoint_type, EMBEDDINGS.endpoint_type)
"""What an endpoint can be in MLflow."""

ENDPOINT_TYPES = tuple(dict.fromkeys(each.endpoint_type for each in OPENAI_OPERATIONS))
"""What an endpoint can be, in names like MLflow's."""

SettingKind = Literal[
    "secret", "text", "url", "choice", "flag", "headers", "whole", "group", "json", "words"
]
LimitKey = Literal["user", "endpoint"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of `model.config`.

    What a provider gets, by kind: "secret" a `Secret`; "text" a str; "url" a str, http or https, without
    query and without a slash at the end; "choice" one of `choices`, which are lower-case; "flag" a bool;
    "headers" a tuple of pairs of a name and a `Secret`, () when there are none; "whole" an int above 0;
    "group" a mapping that has each of `settings`; "json" a `Secret` that is the text of a JSON object;
    "words" a tuple of str, of a list or of text with commas. A setting that the operator left out is
    `default` (a str becomes a `Secret` where the kind says so; a group has the defaults of its settings).
    """

    name: str
    kind: SettingKind
    required: bool = False
    default: object = None
    choices: tuple[str, ...] = ()
    help: str = ""
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderSchema:
    """What one provider takes in the configuration.

    `retired` says why a provider that used to exist is none any more: it is the operator's error text.
    `retired_models` are those whose own service is no more, by a pattern of their names, and why.
    `check` sees the settings once each of them is right, and yields a setting's name (`GROUP.NAME` for one
    within a group) and a problem for what only several together can get wrong; its texts never hold a
    value of a secret.
    """

    name: str
    settings: tuple[Setting, ...]
    endpoint_types: frozenset[str]
    model_name_required: bool = True
    retired: str | None = None
    retired_models: tuple[re.Pattern[str], str] | None = None
    check: Callable[[Mapping[str, object]], Iterable[tuple[str, str]]] | None = None


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """At most `calls` in `period_s` seconds, counted per user or for all users of the endpoint together.

    `renewal_period` is the period in the operator's words.
    """

    calls: int
    period_s: float
    key: LimitKey
    renewal_period: str


Resource = Literal["requests", "tokens", "input_tokens", "output_tokens", "cost_usd", "concurrency"]
RESOURCES: tuple[Resource, ...] = (
    *("requests", "tokens", "input_tokens", "output_tokens", "cost_usd", "concurrency"),
)
"""What a policy can limit. `tokens` are input and output together; `concurrency` is requests at a time."""

WindowUnit = Literal["second", "minute", "hour", "day", "week", "month", "term"]
Count = Literal["user", "member", "group", "all"]
Combine = Literal["max", "min", "sum", "priority"]
COMBINES: tuple[Combine, ...] = ("max", "min", "sum", "priority")


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """The time for which a policy counts: `number` of `unit`, rolling or by the calendar.

    A `term` is the time between the policy's own dates. `text` is the window in the operator's words.
    """

    number: int
    unit: WindowUnit
    is_rolling: bool
    text: str


@dataclass(frozen=True, slots=True)
class ScopeConfig:
    """Whom a policy is for, as patterns of names; everyone when all of them are empty."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def is_everyone(self) -> bool:
        """Say whether it is for all callers."""
        return not (self.users or self.groups or self.services or self.roles or self.keys)


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """At most `limit` of a resource in each window, for those in its scope.

    `limit` is a number of requests or tokens, or nanodollars for `cost_usd`. `window` is None for
    `concurrency`. `count` says who shares a counter: each "user" has one, each "member" has one in the
    group that pays, the "group" that pays has one, or "all" of the scope have one together. `endpoints`
    are patterns of names, empty for all. It counts from `starts` to the end of the day `ends`. With
    `shadow` it counts and refuses nobody. `unpriced` says whether a model without a price may be used
    under a limit of cost, `when_store_fails` whether requests go on when its store does not answer.
    """

    name: str
    resource: Resource
    limit: int
    window: WindowConfig | None
    count: Count
    scope: ScopeConfig
    endpoints: tuple[str, ...]
    priority: int
    shadow: bool
    unpriced: Literal["allow", "deny"]
    when_store_fails: Literal["open", "closed"]
    starts: date | None
    ends: date | None
    path: str


@dataclass(frozen=True, slots=True)
class TariffConfig:
    """Rates in picodollars per token by kind of token, per request and second, or per unit of a usage.

    `units` maps the names of a `Usage`'s fields, such as `images`.
    `above` are pairs of an input's length and other rates for longer ones; `minutes` are those of the
    day, in UTC, at which it holds.
    """

    rates: Mapping[str, int]
    above: tuple[tuple[int, Mapping[str, int]], ...] = ()
    request: int = 0
    second: int = 0
    minutes: tuple[int, int] | None = None
    units: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """Where requests are written down, None for nowhere, and how.

    `flush_s` is how long a row may wait in memory. `fail_open_s` is how long requests are served while
    the database is away, None for ever. `retention_days` is how long requests are kept, None for ever.
    """

    url: str | None = field(default="sqlite:///jupyterhub_ai_gateway.sqlite", repr=False)
    journal: str | None = None
    flush_s: float = 1.0
    fail_open_s: float | None = 3600.0
    retention_days: int | None = 400


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where limits count: in this process, or in a Redis at `url` that several share.

    `timeout_s` is how long it may take to answer.
    """

    url: str | None = field(default=None, repr=False)
    prefix: str = "ai-gateway"
    timeout_s: float = 1.0


@dataclass(frozen=True, slots=True)
class BatchesConfig:
    """Jobs of many requests, and the files that they read and write. None without a `folder`.

    `input_folders` and `output_folders` are where jobs may name paths; `{username}` in one stands for the
    caller's name. `concurrency` is how many lines run at once in one process, `jobs` how many jobs do, and
    above `give_way_above` other requests in progress no line is begun. The others bound what one caller may
    have: `jobs_per_user` that have not ended, `files_per_user`, `bytes_per_user`, and the sizes of one file
    and of one line. A job ends after `window_hours` at the latest, and is kept, with its files, for
    `retention_days`. Without a sign of life for `lease_s` another process takes a job over.
    """

    folder: str | None = None
    input_folders: tuple[str, ...] = ()
    output_folders: tuple[str, ...] = ()
    concurrency: int = 4
    jobs: int = 4
    give_way_above: int = 32
    jobs_per_user: int = 2
    files_per_user: int = 100
    bytes_per_user: int = 2 * 1024**3
    file_bytes: int = 200 * 1024**2
    line_bytes: int = 4 * 1024**2
    lines: int = 50_000
    window_hours: int = 168
    retention_days: int = 30
    lease_s: float = 30.0


@dataclass(frozen=True, slots=True)
class KeysConfig:
    """Whether callers may use keys that the gateway made, and keys that stand in its configuration.

    `fixed` are pairs of a caller's name and the key; each opens everything.
    """

    enabled: bool = False
    fixed: tuple[tuple[str, Secret], ...] = ()


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Files in PEM: certificates that count in place of the system's, our own certificate and its key.

    `changed` is when they were last written, so that another file of the same name is another connection.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    changed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which provider serves an endpoint, and with what.

    `provider` is a `ProviderSchema`'s own name, however the operator spelled it. `settings` has every
    setting of that schema; `others` are the same with each further key, where there are several. With
    `public_only` it has to be at a public address.
    """

    provider: str
    name: str | None
    settings: Mapping[str, object]
    others: tuple[Mapping[str, object], ...] = ()
    tls: TlsConfig | None = None
    public_only: bool = False


DataClass = Literal["public", "internal", "restricted"]
DATA_CLASSES: tuple[DataClass, ...] = ("public", "internal", "restricted")
"""How much data must be looked after, the least first."""

CAPABILITIES = ("vision", "audio", "files", "tools", "json_schema", "reasoning")
"""What a request can be seen to need. A deployment may have others, for people to read."""


@dataclass(frozen=True, slots=True)
class OfferConfig:
    """What a deployment can serve; None for what the operator does not say.

    `context_length` is the longest request with its answer, in tokens. `data_class` is the highest class
    of data that may go there, `deprecation_date` the day on which it ends.
    """

    context_length: int | None = None
    capabilities: frozenset[str] | None = None
    region: str | None = None
    data_class: DataClass | None = None
    deprecation_date: date | None = None


@dataclass(frozen=True, slots=True)
class DataRuleConfig:
    """What the requests of those in `scope` need: a data class, or one of some regions.

    `endpoints` are patterns of names, empty for all.
    """

    scope: ScopeConfig
    endpoints: tuple[str, ...]
    data_class: DataClass | None
    regions: tuple[str, ...]


Order = Literal["weighted", "least_in_flight", "lowest_latency", "cheapest", "sticky"]
ORDERS: tuple[Order, ...] = ("weighted", "least_in_flight", "lowest_latency", "cheapest", "sticky")


@dataclass(frozen=True, slots=True)
class DeploymentConfig:
    """One of the places where an endpoint's model runs.

    `priority` is its tier, 1 asked first; `weight` its share within the tier. `price` is None for what
    others say. Its requests take the slots of `pool`, where there is one. `place` is the cluster
    and the framework under which FIRST's paths have it, None for no such path.
    """

    name: str
    model: ModelConfig
    weight: float
    priority: int
    price: tuple[TariffConfig, ...] | None
    timeouts: Timeouts
    path: str
    offer: OfferConfig = OfferConfig()
    pool: str | None = None
    probe: ProbeConfig | None = None
    place: Place | None = None


MlflowAnswers = Literal["auto", "legacy", "openai"]
MLFLOW_ANSWERS: tuple[MlflowAnswers, ...] = ("auto", "legacy", "openai")


@dataclass(frozen=True, slots=True)
class MlflowConfig:
    """How requests by MLflow's paths are read and answered.

    `answers` says whether those below `/gateway` have the form before MLflow 2.9; "auto" is by who asks
    and what they send. With `scales_temperature` a temperature is turned into the provider's range as
    MLflow does it. `takes_model` is true where a body may name the model of the path once more.
    `default_temperature` is sent where the caller sends none, None for nothing.
    """

    answers: MlflowAnswers = "auto"
    scales_temperature: bool = True
    takes_model: bool = False
    default_temperature: float | None = None


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """A name that stands for other endpoints: pairs of an endpoint's name and its share, in per cent."""

    name: str
    endpoint_type: str
    destinations: tuple[tuple[str, int], ...]
    path: str


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """What callers see as one model. `path` is where it stands in the document: `endpoints[3]`.

    `scope` is the short name: `premium` for the Hub's `custom:SERVICE:premium`. A `hidden` endpoint does
    not exist for those who may not use it. `price` is the operator's own, None for what others say.

    A `name` that ends in `*` is a pattern: it stands for every name that begins like it, and what the
    star stands for takes the place of a `*` in the names of its models. `data_class` is what no stand-in
    may fall below.

    `deployments` are where its model runs, one at least; `model` is the first one's. `retries` is how often
    all of them are tried again, `fallbacks` are the endpoints that stand in for this one when it fails,
    `at_limit` those that do when a budget for it is used up, `aliases` its other names. `parameters` say
    what becomes of the fields that callers send. A request may take `deadline_s` as a whole, None for as
    long as its attempts do.
    """

    name: str
    endpoint_type: str
    model: ModelConfig
    limit: LimitConfig | None
    scope: str | None
    description: str | None
    timeouts: Timeouts
    path: str
    hidden: bool = False
    stored_responses: bool = False
    price: tuple[TariffConfig, ...] | None = None
    deployments: tuple[DeploymentConfig, ...] = ()
    order: Order = "weighted"
    retries: int = 0
    fallbacks: tuple[str, ...] = ()
    at_limit: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    mlflow: MlflowConfig = MlflowConfig()
    parameters: ParametersConfig | None = None
    data_class: DataClass | None = None
    deadline_s: float | None = None
    health: HealthConfig = field(default_factory=HealthConfig)

    @property
    def is_pattern(self) -> bool:
        """Say whether its name stands for many."""
        return self.name.endswith("*")


ProbeKind = Literal["health", "models", "vllm", "first"]
PROBES: tuple[ProbeKind, ...] = ("health", "models", "vllm", "first")


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """What a deployment is asked now and then: something that costs nothing.

    `url` is None for the usual one of its kind. `cluster` and `key` are for the kind "first".
    """

    kind: ProbeKind
    url: str | None = None
    interval_s: float = 30.0
    timeout_s: float = 5.0
    cluster: str | None = None
    key: Secret | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MaintenanceConfig:
    """A time of maintenance: once from `starts` to `ends`, or on `days` (0 is Monday) between `minutes`.

    `minutes` are those of the day in `zone`; when the second is not after the first it is of the next day.
    `endpoints` and `deployments` are patterns of names, empty for all.
    """

    text: str
    starts: datetime | None
    ends: datetime | None
    days: frozenset[int]
    minutes: tuple[int, int]
    zone: ZoneInfo
    endpoints: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Slots that deployments on one's own machines share.

    `slots` is how many requests run at a time; with `most_slots` it is tuned between the two. At most
    `queue` requests wait, streams for `stream_wait_s`, others for `wait_s`. What everybody has had counts
    half after `half_life_s`. `groups` and `users` are patterns of names and their weights, `others` is the
    weight of all together who are in none of the groups.
    """

    name: str
    slots: int
    most_slots: int | None = None
    queue: int = 1000
    wait_s: float = 60.0
    stream_wait_s: float = 600.0
    half_life_s: float = 3600.0
    groups: tuple[tuple[str, float], ...] = ()
    users: tuple[tuple[str, float], ...] = ()
    others: float = 1.0
    path: str = ""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """A whole configuration. `files` are all that were read for it, secrets' files included.

    `combine` says which of several policies about the same counts, `policies_from_groups` whether those in
    the properties of Hub groups count too, `time_zone` where the calendar's
    windows and the ledger's days begin. `splits` are names that stand for several endpoints, `mlflow` is
    how MLflow's paths are answered where an endpoint does not say.
    """

    endpoints: tuple[EndpointConfig, ...]
    policies: tuple[PolicyConfig, ...] = ()
    combine: Combine = "max"
    policies_from_groups: bool = False
    time_zone: str = "UTC"
    ledger: LedgerConfig = LedgerConfig()
    store: StoreConfig = StoreConfig()
    batches: BatchesConfig = BatchesConfig()
    splits: tuple[SplitConfig, ...] = ()
    mlflow: MlflowConfig = MlflowConfig()
    keys: KeysConfig = KeysConfig()
    data_rules: tuple[DataRuleConfig, ...] = ()
    pools: tuple[PoolConfig, ...] = ()
    maintenance: tuple[MaintenanceConfig, ...] = ()
    state_hook: str | None = None
    proxy_from_environment: bool = False
    dns: DnsConfig = field(default_factory=DnsConfig)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    files: tuple[Path, ...] = field(default=(), compare=False)
