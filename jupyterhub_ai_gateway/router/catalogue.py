"""What is on offer: made from a configuration as a whole, and replaced as a whole."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from ..config import EndpointConfig, GatewayConfig, LimitConfig, ModelConfig, TariffConfig
from ..errors import ConfigFault, Forbidden, NotFound, RequestFault
from ..metrics import Cell, Metrics
from ..providers.base import Provider
from ..upstream.base import Origin, Target
from ..usage.price import CONFIGURED, Period, Price, Rates, Tariff
from ..usage.table import PriceTable
from ..vocabulary import CHAT, COMPLETIONS, EMBEDDINGS, Caller, Operation, Timeouts

_CUT_OUT = b"..."
_SHORTEST_SECRET = 8

OPERATION_OF: Mapping[str, Operation] = {
    each.endpoint_type: each for each in (CHAT, COMPLETIONS, EMBEDDINGS)
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a host. `sent_model` is the host's name of it as JSON, None where its URL says it.

    `targets` has a place for each operation that the host speaks. `price` is None where nobody knows it.
    """

    provider: Provider
    targets: Mapping[Operation, Target]
    sent_model: msgspec.Raw | None
    timeouts: Timeouts
    secrets: tuple[bytes, ...] = field(repr=False)
    price: Price | None = None

    def without_secrets(self, data: bytes) -> bytes:
        """Cut out the host's credentials, which some hosts quote where something went wrong."""
        for secret in self.secrets:
            if secret in data:
                data = data.replace(secret, _CUT_OUT)
        return data


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What callers name as `model`. `scope` is the full name of the one that it needs besides the usual.

    `operation` is the one of its type; `cells` count each that it serves.
    """

    name: str
    operation: Operation
    description: str | None
    scope: str | None
    is_hidden: bool
    limit: LimitConfig | None
    deployment: Deployment
    cells: Mapping[Operation, Cell]

    def is_open_to(self, caller: Caller) -> bool:
        """Say whether this caller may use it."""
        has_scope = self.scope is None or self.scope in caller.scopes
        return has_scope and self.operation.scope in caller.operations

    def is_known_to(self, caller: Caller) -> bool:
        """Say whether this caller may learn that it exists."""
        return not self.is_hidden or self.is_open_to(caller)


class Catalogue:
    """All endpoints of one configuration, in its order."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}

    def __len__(self) -> int:
        return len(self._endpoints)

    @property
    def origins(self) -> frozenset[Origin]:
        """Return every place that connections are kept to."""
        return frozenset(
            target.origin
            for each in self._endpoints.values()
            for target in each.deployment.targets.values()
        )

    def endpoint(self, asked_model: str, operation: Operation, caller: Caller) -> Endpoint:
        """Find what a caller names, for an operation whose own scope they hold.

        `NotFound` when there is no such endpoint, as far as this caller may know; `Forbidden` without its
        scope; `RequestFault` when it is of another type.
        """
        found = self._endpoints.get(asked_model)
        if found is None or not found.is_known_to(caller):
            raise self._not_found(asked_model, caller)
        if found.scope is not None and found.scope not in caller.scopes:
            raise _forbidden(found, caller)
        if operation not in found.cells:
            raise _wrong_operation(found, operation)
        return found

    @property
    def names(self) -> list[str]:
        """Return the names of all, in the configuration's order."""
        return list(self._endpoints)

    def operation_of(self, name: str) -> Operation | None:
        """Return the operation of an endpoint's type; None when there is no such endpoint."""
        found = self._endpoints.get(name)
        return None if found is None else found.operation

    def open_to(self, caller: Caller) -> list[Endpoint]:
        """Return what a caller may use."""
        return [endpoint for endpoint in self._endpoints.values() if endpoint.is_open_to(caller)]

    def described(self, name: str, caller: Caller) -> Endpoint:
        """Return one that a caller may use; `NotFound` and `Forbidden` as `endpoint` has them."""
        found = self._endpoints.get(name)
        if found is None or not found.is_known_to(caller):
            raise self._not_found(name, caller)
        if not found.is_open_to(caller):
            raise _forbidden(found, caller)
        return found

    def any(self, name: str, caller: Caller) -> Endpoint:
        """Return an endpoint for those who look after all of them; `NotFound` when there is none."""
        found = self._endpoints.get(name)
        if found is None:
            raise self._not_found(name, caller)
        return found

    def _not_found(self, name: str, caller: Caller) -> NotFound:
        names = [endpoint.name for endpoint in self.open_to(caller)]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else "GET /v1/models lists those that you may use."
        text = f"There is no model {_shown(name)} for you here. {hint}"
        return NotFound(text, slug="model_not_found", param="model")


def build(
    config: GatewayConfig,
    make: Callable[[ModelConfig], Provider],
    metrics: Metrics,
    full_scope: Callable[[str], str],
    prices: PriceTable | None = None,
    limits: Mapping[str, LimitConfig | None] | None = None,
) -> Catalogue:
    """Make the catalogue of a configuration.

    `make` turns an endpoint's model into its provider, `full_scope` turns `premium` into the Hub's
    `custom:NAME:premium`. `prices` are those of endpoints without a price of their own, `limits` those
    that staff set in the place of the configuration's. `ConfigFault` names the endpoint that cannot be
    served.
    """
    overlaid = [replace(each, limit=(limits or {}).get(each.name, each.limit)) for each in config.endpoints]
    return Catalogue([_endpoint(each, make, metrics, full_scope, prices) for each in overlaid])


def _endpoint(
    config: EndpointConfig,
    make: Callable[[ModelConfig], Provider],
    metrics: Metrics,
    full_scope: Callable[[str], str],
    prices: PriceTable | None,
) -> Endpoint:
    operation = OPERATION_OF[config.endpoint_type]
    provider = make(config.model)
    try:
        targets = {each: provider.target(each) for each in provider.speaks(config.endpoint_type)}
    except ValueError as error:
        raise ConfigFault(f"{config.path}.model.config", f"makes no usable URL: {error}") from None
    sent_model = config.model.name
    raw = None if sent_model is None else msgspec.Raw(msgspec.json.encode(sent_model))
    return Endpoint(
        name=config.name,
        operation=operation,
        description=config.description,
        scope=None if config.scope is None else full_scope(config.scope),
        is_hidden=config.hidden,
        limit=config.limit,
        deployment=Deployment(
            provider, targets, raw, config.timeouts, _secrets(provider), _price(config, provider, prices)
        ),
        cells={
            each: metrics.cell(
                endpoint=config.name,
                operation=each.name,
                provider=provider.name,
                model=sent_model or config.name,
            )
            for each in targets
        },
    )


def _price(config: EndpointConfig, provider: Provider, prices: PriceTable | None) -> Price | None:
    """Return the operator's price, else the one of the table; what a provider reports comes with it."""
    if config.price is not None:
        return Price(tuple(map(_tariff, config.price)), CONFIGURED)
    return None if prices is None else prices.find(provider.name, config.model.name)


def _tariff(config: TariffConfig) -> Tariff:
    return Tariff(
        Rates.of(**config.rates),
        tuple((start, Rates.of(**{**config.rates, **rates})) for start, rates in config.above),
        request=config.request,
        second=config.second,
        period=Period(minutes=config.minutes),
    )


def _secrets(provider: Provider) -> tuple[bytes, ...]:
    """Return what to look for: the long ones, as a short one might be any word."""
    return tuple(secret.encode() for secret in provider.secrets() if len(secret) >= _SHORTEST_SECRET)


def _forbidden(endpoint: Endpoint, caller: Caller) -> Forbidden:
    missing = endpoint.scope if endpoint.scope not in (None, *caller.scopes) else endpoint.operation.scope
    text = f"The model {endpoint.name} needs the scope {missing}, which this token lacks. "
    if caller.server_name is not None:
        text += (
            "A notebook server's token keeps the scopes that it was started with: "
            "after a new grant, stop the server and start it again."
        )
    else:
        text += "An administrator of the Hub can grant it."
    return Forbidden(text, param="model")


def _wrong_operation(endpoint: Endpoint, operation: Operation) -> RequestFault:
    paths = " or ".join(sorted(f"POST /v1{each.path}" for each in endpoint.cells))
    if operation.endpoint_type == endpoint.operation.endpoint_type:
        text = f"The model {endpoint.name} does not speak this format; call {paths}."
        return RequestFault(text, slug="wrong_format", param="model")
    text = (
        f"The model {endpoint.name} is of the type {endpoint.operation.endpoint_type}, called by {paths}."
    )
    return RequestFault(text, slug="wrong_endpoint_type", param="model")


def _shown(name: str) -> str:
    """Return a caller's text for their own error: printable, and no longer than a name."""
    text = "".join(letter for letter in name if letter.isprintable())
    return text if len(text) <= 64 else f"{text[:64]}…"
