"""What the operator's file means once it is read. Frozen values; nothing here reads, checks or prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..vocabulary import CHAT, COMPLETIONS, EMBEDDINGS, Timeouts

ENDPOINT_TYPES = (CHAT.endpoint_type, COMPLETIONS.endpoint_type, EMBEDDINGS.endpoint_type)
"""What an endpoint can be, in MLflow's names."""

SettingKind = Literal["secret", "text", "url", "choice", "flag", "headers"]
LimitKey = Literal["user", "endpoint"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of `model.config`.

    What a provider gets, by kind: "secret" a `Secret`; "text" a str; "url" a str, http or https, without
    query and without a slash at the end; "choice" one of `choices`, which are lower-case; "flag" a bool;
    "headers" a tuple of pairs of a name and a `Secret`, () when there are none. A setting that the
    operator left out is `default` (a str becomes a `Secret` where the kind says so).
    """

    name: str
    kind: SettingKind
    required: bool = False
    default: object = None
    choices: tuple[str, ...] = ()
    help: str = ""


@dataclass(frozen=True, slots=True)
class ProviderSchema:
    """What one provider takes in the configuration.

    `retired` says why a provider that used to exist is none any more: it is the operator's error text.
    `check` sees the settings once each of them is right, and yields a setting's name and a problem for
    what only several together can get wrong; its texts never hold a value of a secret.
    """

    name: str
    settings: tuple[Setting, ...]
    endpoint_types: frozenset[str]
    model_name_required: bool = True
    retired: str | None = None
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


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which provider serves an endpoint, and with what.

    `provider` is a `ProviderSchema`'s own name, however the operator spelled it. `settings` has every
    setting of that schema.
    """

    provider: str
    name: str | None
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """What callers see as one model. `path` is where it stands in the document: `endpoints[3]`.

    `scope` is the short name: `premium` for the Hub's `custom:SERVICE:premium`. A `hidden` endpoint does
    not exist for those who may not use it.
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


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """A whole configuration. `files` are all that were read for it, secrets' files included."""

    endpoints: tuple[EndpointConfig, ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)
    files: tuple[Path, ...] = field(default=(), compare=False)
