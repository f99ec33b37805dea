"""What is on offer: made from a configuration as a whole, and replaced as a whole."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from email.utils import format_datetime
from functools import cached_property, lru_cache
from random import random

import msgspec
from typing_extensions import override

from ..config import (
    DataClass,
    DataRuleConfig,
    DeploymentConfig,
    EndpointConfig,
    GatewayConfig,
    LimitConfig,
    MaintenanceConfig,
    MlflowConfig,
    ModelConfig,
    OfferConfig,
    Order,
    ProbeConfig,
    TariffConfig,
    fold,
)
from ..dialects.bridge import FRONTS_OF, Bridge
from ..dialects.dialect import DIALECT_OF
from ..dialects.parameters import Parameters
from ..dialects.vectors import BACKS as VECTORS
from ..dialects.vectors import VectorBridge, fronts_of
from ..errors import ConfigFault, Forbidden, NotFound, RequestFault
from ..metrics import Cell, DeploymentState, Metrics
from ..providers.base import Provider
from ..upstream.base import Origin, Target
from ..usage.price import CONFIGURED, Period, Price, Rates, Tariff
from ..usage.table import PriceTable
from ..vocabulary import (
    CHAT,
    COUNT_CONTENT,
    COUNT_TOKENS,
    EMBEDDINGS,
    FEDERATED,
    GENERATE_CONTENT,
    INPUT_TOKENS,
    MESSAGES,
    OPENAI_OPERATIONS,
    RESPONSES,
    Caller,
    Operation,
    Place,
    Timeouts,
    utcnow,
)
from .federation import by_state
from .fit import NO_OFFER, Needs, is_choosy, nothing_fits, rank, why_not
from .health import Health, Healths
from .order import NOBODY, Pace, RetryBudget, ordered
from .split import Split, make_split
from .states import Found, for_deployment, in_window, under_maintenance

STAR = re.compile(r"[A-Za-z0-9_.:/@+\-]{1,200}")
"""What the star of a pattern can stand for."""
_CUT_OUT = b"..."
_SHORTEST_SECRET = 8

OPERATION_OF: Mapping[str, Operation] = {each.endpoint_type: each for each in reversed(OPENAI_OPERATIONS)}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a host. `sent_model` is the host's name of it as JSON, None where its URL says it.

    `targets` has a place for each operation that callers may ask for, `stream_targets` the same where the
    answer is streamed; `bridges` are for those whose format the host does not speak. What only counts and
    is not offered by the host is in `estimates`. `price` is None where nobody knows it.
    With `takes_star` the host's name of the model has a `*` in it, for what the pattern's star stands for;
    then `find_price` finds the price of a name.
    """

    provider: Provider
    targets: Mapping[Operation, Target]
    sent_model: msgspec.Raw | None
    timeouts: Timeouts
    secrets: tuple[bytes, ...] = field(repr=False)
    price: Price | None = None
    name: str = "1"
    weight: float = 1.0
    priority: int = 1
    health: Health = field(default_factory=Health)
    cells: Mapping[Operation, Cell] = field(default_factory=dict)
    offer: OfferConfig = NO_OFFER
    pool: str | None = None
    probe: ProbeConfig | None = None
    windows: tuple[MaintenanceConfig, ...] = ()
    keys: tuple[Deployment, ...] = ()
    """The same with each of its keys, the first one included, where there are several; else none.

    The `health` of one says whether its key rests.
    """
    takes_star: bool = False
    find_price: Callable[[str], Price | None] = lambda model: None
    stream_targets: Mapping[Operation, Target] = field(default_factory=dict)
    bridges: Mapping[Operation, Bridge | VectorBridge] = field(default_factory=dict)
    estimates: frozenset[Operation] = frozenset()
    place: Place | None = None
    sunset: tuple[str, str] | None = None
    """The header that tells the day on which it ends; None where that is not known."""

    def serves(self, operation: Operation) -> bool:
        """Say whether it can be asked for an operation, be it by translation."""
        return operation in self.targets or operation in self.estimates

    def keys_to_try(self, now: float) -> list[Deployment]:
        """Return those of its keys that do not rest; when all do, the one whose rest ends first."""
        awake = [key for key in self.keys if not key.health.is_resting(now)]
        return awake or [min(self.keys, key=lambda key: key.health.rests_until)]

    def maintenance(self) -> Found | None:
        """Return why it is not to be asked now; None when it may be."""
        found = in_window(self.windows, utcnow()) if self.windows else None
        return found or self.health.maintenance

    def state(self, now: float) -> Found:
        """Return the state it is in."""
        return self.maintenance() or self.health.state(now)

    def named(self, star: str | None) -> tuple[msgspec.Raw | None, str | None, Price | None]:
        """Return the host's name of the model, as JSON and as text, and its price."""
        name = self.provider.model_name
        if not self.takes_star or star is None or name is None:
            return self.sent_model, name, self.price
        name = name.replace("*", star)
        return msgspec.Raw(msgspec.json.encode(name)), name, self.price or self.find_price(name)

    @property
    def rate(self) -> int | None:
        """Return what a thousand tokens of input and of output cost together, for comparing; or None."""
        return None if self.price is None else self.price.estimate_nanousd(1000, 1000)

    def without_secrets(self, data: bytes) -> bytes:
        """Cut out the host's credentials, which some hosts quote where something went wrong."""
        for secret in self.secrets:
            if secret in data:
                data = data.replace(secret, _CUT_OUT)
        return data


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What callers name as `model`. `scope` is the full name of the one that it needs besides the usual.

    `operation` is the one of its type; `cells` count each that it serves, at its first deployment.
    `fallbacks` stand in for it when it fails, those of `at_limit` when a budget is used up. With
    `is_federated` deployments that run come before those that would have to be started.
    """

    name: str
    operation: Operation
    description: str | None
    scope: str | None
    is_hidden: bool
    limit: LimitConfig | None
    deployments: tuple[Deployment, ...]
    cells: Mapping[Operation, Cell]
    order: Order = "weighted"
    retries: int = 0
    aliases: tuple[str, ...] = ()
    mlflow: MlflowConfig = field(default_factory=MlflowConfig)
    fallbacks: list[Endpoint] = field(default_factory=list)
    at_limit: list[Endpoint] = field(default_factory=list)
    budget: RetryBudget = field(default_factory=RetryBudget)
    pace: Pace = field(default_factory=Pace)
    parameters: Parameters | None = None
    data_class: DataClass | None = None
    is_choosy: bool = False
    """True when there may be requests that one of its deployments, or of its stand-ins', cannot serve."""
    may_close: bool = False
    """True when one of these may be under maintenance."""

    stored_responses: bool = False
    """True where the provider may keep Responses for whoever made them."""

    is_sticky: bool = False
    """True when it, or a stand-in, keeps conversations where they were."""
    is_federated: bool = False
    deadline_s: float | None = None
    """How long a request may take as a whole; None for no such limit."""

    def star(self, asked_model: str) -> str | None:
        """Return what the star of a pattern stands for; None where the name is no pattern."""
        return asked_model[len(self.name) - 1 :] if self.name.endswith("*") else None

    @property
    def deployment(self) -> Deployment:
        """Return the first one of the configuration."""
        return self.deployments[0]

    @property
    def has_choice(self) -> bool:
        """Say whether there is another way than one attempt at one deployment, at once."""
        has_others = len(self.deployments) > 1 or self.retries > 0 or bool(self.fallbacks)
        return has_others or self.deployments[0].pool is not None or bool(self.deployments[0].keys)

    def owns(self, deployment: Deployment) -> bool:
        """Say whether a deployment is one of its own, and no stand-in's."""
        return any(each.cells is deployment.cells for each in self.deployments)

    def cell_of(self, deployment: Deployment, operation: Operation) -> Cell:
        """Return where a request to a deployment is counted; one to a stand-in is still this endpoint's."""
        is_own = deployment is self.deployments[0] or self.owns(deployment)
        return deployment.cells[operation] if is_own else self.cells[operation]

    def route(
        self,
        operation: Operation,
        now: float,
        draw: Callable[[], float],
        needs: Needs | None = None,
        key: bytes = b"",
        left_out: dict[str, str] | None = None,
    ) -> list[Deployment]:
        """Return the deployments in the order in which to try them, those of stand-ins last.

        With `needs`, those that do not meet them are left out, and so are stand-ins for data of a lower
        class than this endpoint's; `RequestFault` says why each was when nobody is left. Those under
        maintenance are left out; `Maintenance` when all are. `key` is what "sticky" keeps together.
        `left_out` gets the names of those that are left out, and why each was.
        """
        found: list[Deployment] = []
        left_out = {} if left_out is None else left_out
        closed: list[Found] = []
        for own in (self, *self.fallbacks):
            able = [each for each in own.deployments if each.serves(operation)]
            if needs is not None:
                needed = needs if own is self else needs.at_least(self.data_class)
                able = self._fitting(own, able, needed, left_out)
            if self.may_close:
                able = self._open(own, able, closed, left_out)
            chosen = ordered(able, own.order, now, draw, key, own.slow(now))
            found += by_state(chosen, now) if self.is_federated and own is self else chosen
        if not found and closed:
            raise under_maintenance(self.name, closed, utcnow())
        if not found and left_out:
            raise nothing_fits(self.name, list(left_out.items()))
        return found

    def slow(self, now: float) -> Set[str]:
        """Return the names of those of its deployments that are slow at present."""
        return self.pace.slow(self.deployments, now) if len(self.deployments) > 1 else NOBODY

    def _fitting(
        self, own: Endpoint, able: list[Deployment], needs: Needs, left_out: dict[str, str]
    ) -> list[Deployment]:
        fitting = []
        for each in able:
            reason = why_not(each.offer, needs)
            if reason is None:
                fitting.append(each)
            else:
                left_out[self._name_of(own, each)] = reason
        return fitting

    def instead_for(self, caller: Caller) -> list[Endpoint]:
        """Return those that serve a caller once a budget for this one is used up."""
        return [each for each in self.at_limit if each.is_open_to(caller)]

    def _open(
        self, own: Endpoint, able: list[Deployment], closed: list[Found], left_out: dict[str, str]
    ) -> list[Deployment]:
        """Return those that are not under maintenance; `closed` gets what is known of the others."""
        found = [(each, each.maintenance()) for each in able]
        closed += [why for _, why in found if why is not None]
        left_out.update(
            (self._name_of(own, each), "is under maintenance") for each, why in found if why is not None
        )
        return [each for each, why in found if why is None]

    def _name_of(self, own: Endpoint, deployment: Deployment) -> str:
        return deployment.name if own is self else f"{own.name}/{deployment.name}"

    def is_open_to(self, caller: Caller) -> bool:
        """Say whether this caller may use it."""
        has_scope = self.scope is None or self.scope in caller.scopes
        return has_scope and self.operation.scope in caller.operations and caller.may_reach(self.name)

    def is_known_to(self, caller: Caller) -> bool:
        """Say whether this caller may learn that it exists."""
        return not self.is_hidden or self.is_open_to(caller)


class Catalogue:
    """All endpoints of one configuration, in its order, and the names that stand for several of them."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        splits: Iterable[Split] = (),
        data_rules: Sequence[DataRuleConfig] = (),
    ) -> None:
        self._splits = {split.name: split for split in splits}
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._aliases = {alias: each for each in self._endpoints.values() for alias in each.aliases}
        patterns = [each for each in self._endpoints.values() if each.name.endswith("*")]
        self._patterns = sorted(patterns, key=lambda each: -len(each.name))
        self.data_rules = data_rules
        self.probed: frozenset[Origin] = frozenset()
        """Where else there are probes to send."""
        self._views: dict[Place, Catalogue] = {}

    def __len__(self) -> int:
        return len(self._endpoints)

    @property
    def origins(self) -> frozenset[Origin]:
        """Return every place that connections are kept to."""
        return self.probed | frozenset(
            target.origin
            for each in self._endpoints.values()
            for deployment in each.deployments
            for target in (*deployment.targets.values(), *deployment.stream_targets.values())
        )

    def endpoint(self, asked_model: str, operation: Operation, caller: Caller) -> Endpoint:
        """Find what a caller names, for an operation whose own scope they hold.

        `NotFound` when there is no such endpoint, as far as this caller may know; `Forbidden` without its
        scope; `RequestFault` when it is of another type.
        """
        found = self._find(asked_model, operation, caller)
        if found is None and asked_model in self._splits:
            found = self.split(asked_model, caller).draw(random())  # noqa: S311 - no secret
        if found is None or not found.is_known_to(caller):
            raise self._not_found(asked_model, caller)
        if not caller.may_reach(found.name) or found.scope not in (None, *caller.scopes):
            raise _forbidden(found, caller)
        if operation not in found.cells:
            raise _wrong_operation(found, operation)
        return found

    def usual_name(self, operation: Operation, caller: Caller) -> str:
        """Return the only endpoint of an operation that a caller may use; `RequestFault` without one."""
        found = [each.name for each in self.open_to(caller) if operation in each.cells]
        if len(found) == 1:
            return found[0]
        shown = f": {', '.join(found[:20])}" if found else " of GET /v1/models"
        raise RequestFault(f"model is missing: name one of the models{shown}.", param="model")

    def _find(
        self, name: str, operation: Operation | None = None, caller: Caller | None = None
    ) -> Endpoint | None:
        """Find an endpoint by its name, an alias, or the pattern that says most of the name.

        A view of a place also finds what serves this operation for this caller by the hosts' own names.
        """
        found = self._endpoints.get(name) or self._aliases.get(name)
        if found is not None or not self._patterns:
            return found
        for each in self._patterns:
            start = each.name[:-1]
            if name.startswith(start) and STAR.fullmatch(name, len(start)):
                return each
        return None

    def at_place(self, place: Place) -> Catalogue:
        """Return what is there at a place, by the hosts' own names of the models as well."""
        found = self._views.get(place)
        if found is None:
            found = _Placed(each for each in map(_placed(place), self._endpoints.values()) if each)
            if len(found) or place is FEDERATED:  # others are words of callers, and not kept
                self._views[place] = found
        return found

    @property
    def names(self) -> list[str]:
        """Return the names of all, in the configuration's order."""
        return list(self._endpoints)

    def states(self, now: float) -> list[DeploymentState]:
        """Return how the deployments fare, of those endpoints that have a choice."""
        return [
            DeploymentState(
                each.name,
                own.name,
                own.health.total_failures,
                own.health.is_resting(now),
                own.state(now).state,
                own.name in each.slow(now),
                own.health.error_rate(now),
                own.health.latency_s,
            )
            for each in self._endpoints.values()
            if each.has_choice or each.may_close
            for own in each.deployments
        ]

    @property
    def all(self) -> list[Endpoint]:
        """Return every endpoint, for those who look after them."""
        return list(self._endpoints.values())

    def named(self, name: str) -> Endpoint | Split | None:
        """Return what has this name, whoever asks, for what a path means by it; None for nothing."""
        return self._endpoints.get(name) or self._aliases.get(name) or self._splits.get(name)

    def split(self, name: str, caller: Caller) -> Split:
        """Return a split, all of whose destinations a caller may use.

        `NotFound` when there is no such split, or one with a destination that is hidden; `Forbidden`
        without a destination's scope.
        """
        found = self._splits.get(name)
        closed = None if found is None else found.closed_to(caller)
        if found is None or (closed is not None and not closed.is_known_to(caller)):
            raise self._not_found(name, caller)
        if closed is not None:
            raise _forbidden(closed, caller)
        return found

    def splits_open_to(self, caller: Caller) -> list[Split]:
        """Return the splits that a caller may use."""
        return [each for each in self._splits.values() if each.closed_to(caller) is None]

    def at(self, provider: str) -> AtProvider:
        """Return what is on offer at one provider, however its name is spelled."""
        return self._providers.get(fold(provider)) or AtProvider(provider, ())

    @cached_property
    def _providers(self) -> dict[str, AtProvider]:
        names = {own.provider.name for each in self._endpoints.values() for own in each.deployments}
        return {fold(name): AtProvider(name, self._endpoints.values()) for name in names}

    def open_to(self, caller: Caller) -> list[Endpoint]:
        """Return what a caller may use."""
        return [endpoint for endpoint in self._endpoints.values() if endpoint.is_open_to(caller)]

    def described(self, name: str, caller: Caller) -> Endpoint:
        """Return one that a caller may use; `NotFound` and `Forbidden` as `endpoint` has them."""
        found = self._find(name)
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


class _Placed(Catalogue):
    """The endpoints of one place. They are found by the hosts' names of their models, too."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        super().__init__(endpoints)
        self._by_model: dict[str, list[Endpoint]] = {}
        for each in self._endpoints.values():
            for name in dict.fromkeys(own.provider.model_name for own in each.deployments):
                if name is not None:
                    self._by_model.setdefault(name, []).append(each)

    @override
    def _find(
        self, name: str, operation: Operation | None = None, caller: Caller | None = None
    ) -> Endpoint | None:
        own = super()._find(name)
        if operation is None or caller is None:
            return own
        found = [*([own] if own else []), *self._by_model.get(name, ())]
        fitting = [each for each in found if operation in each.cells and each.is_open_to(caller)]
        return next(iter([*fitting, *found]), None)


def _placed(place: Place) -> Callable[[Endpoint], Endpoint | None]:
    def view(endpoint: Endpoint) -> Endpoint | None:
        if place == FEDERATED:
            return replace(endpoint, is_federated=True)
        own = tuple(each for each in endpoint.deployments if each.place == place)
        cells = {operation: cell for each in reversed(own) for operation, cell in each.cells.items()}
        return replace(endpoint, deployments=own, cells=cells, fallbacks=[], at_limit=[]) if own else None

    return view


class AtProvider:
    """What endpoints offer at one provider, by its own names of the models, and by theirs.

    Each is an endpoint like any other, less its deployments elsewhere. `operations` are those whose
    format the provider speaks itself; without any there is no such provider here.
    """

    def __init__(self, name: str, endpoints: Iterable[Endpoint]) -> None:
        self.name = name
        self.operations: frozenset[Operation] = frozenset()
        self._models: dict[str, list[Endpoint]] = {}
        named: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            by_model: dict[str, list[Deployment]] = {}
            for own in endpoint.deployments:
                if own.provider.name == name:
                    by_model.setdefault(own.provider.model_name or endpoint.name, []).append(own)
                    self.operations |= own.provider.speaks(endpoint.operation.endpoint_type)
            for model, deployments in by_model.items():
                here = replace(endpoint, deployments=tuple(deployments), fallbacks=[], at_limit=[])
                self._models.setdefault(model, []).append(here)
                named.update((each, here) for each in (endpoint.name, *endpoint.aliases))
        self._own = list(self._models)
        for word, here in named.items():
            self._models.setdefault(word, [here])

    def endpoint(self, asked_model: str, operation: Operation, caller: Caller) -> Endpoint:
        """Find what a caller names, as `Catalogue.endpoint` does; of several the first that fits."""
        known = [each for each in self._models.get(asked_model, ()) if each.is_known_to(caller)]
        if not known:
            text = f"There is no model {_shown(asked_model)} of {self.name} for you here. "
            hint = f"GET /{self.name}/v1/models lists those that you may use."
            raise NotFound(text + hint, slug="model_not_found", param="model")
        fit = [each for each in known if each.is_open_to(caller) and operation in each.cells]
        chosen = (fit or known)[0]
        return Catalogue((chosen,)).endpoint(chosen.name, operation, caller)

    def open_to(self, caller: Caller) -> dict[str, Endpoint]:
        """Return what a caller may use, by the provider's own names."""
        found: dict[str, Endpoint] = {}
        for model in self._own:
            fit = [each for each in self._models[model] if each.is_open_to(caller)]
            found.update((model, each) for each in fit[:1])
        return found


def build(
    config: GatewayConfig,
    make: Callable[[ModelConfig], Provider],
    metrics: Metrics,
    full_scope: Callable[[str], str],
    prices: PriceTable | None = None,
    limits: Mapping[str, LimitConfig | None] | None = None,
    healths: Healths | None = None,
) -> Catalogue:
    """Make the catalogue of a configuration.

    `make` turns an endpoint's model into its provider, `full_scope` turns `premium` into the Hub's
    `custom:NAME:premium`. `prices` are those of endpoints without a price of their own, `limits` those
    that staff set in the place of the configuration's, `healths` what is known of how deployments fare.
    `ConfigFault` names the endpoint that cannot be
    served.
    """
    overlaid = [replace(each, limit=(limits or {}).get(each.name, each.limit)) for each in config.endpoints]
    healths = healths or Healths()
    choosy = {
        each.name for each in config.endpoints if any(is_choosy(own.offer) for own in each.deployments)
    }
    sticky = {each.name for each in config.endpoints if each.order == "sticky"}
    builder = _Builder(make, metrics, full_scope, prices, healths, choosy, sticky, config)
    endpoints = {each.name: builder.endpoint(each) for each in overlaid}
    for each in overlaid:
        endpoints[each.name].fallbacks.extend(endpoints[name] for name in each.fallbacks)
        endpoints[each.name].at_limit.extend(endpoints[name] for name in each.at_limit)
    healths.keep_only(
        {
            (each.name, name)
            for each in endpoints.values()
            for own in each.deployments
            for name in (own.name, *(key_name(own.name, index) for index in range(len(own.keys))))
        }
    )
    splits = [
        make_split(each, OPERATION_OF[each.endpoint_type], endpoints, config.mlflow)
        for each in config.splits
    ]
    return Catalogue(endpoints.values(), splits, config.data_rules)


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes endpoints of their configuration; what it has is what `build` got."""

    make: Callable[[ModelConfig], Provider]
    metrics: Metrics
    full_scope: Callable[[str], str]
    prices: PriceTable | None
    healths: Healths
    choosy: Set[str]
    sticky: Set[str]
    whole: GatewayConfig

    def endpoint(self, config: EndpointConfig) -> Endpoint:
        deployments = tuple(self._deployment(config, each) for each in config.deployments)
        cells = {
            operation: cell for each in reversed(deployments) for operation, cell in each.cells.items()
        }
        floor = config.data_class or min((each.offer.data_class for each in deployments), key=rank)
        return Endpoint(
            name=config.name,
            operation=OPERATION_OF[config.endpoint_type],
            description=config.description,
            scope=None if config.scope is None else self.full_scope(config.scope),
            is_hidden=config.hidden,
            limit=config.limit,
            deployments=deployments,
            cells=cells,
            order=config.order,
            retries=config.retries,
            aliases=config.aliases,
            mlflow=config.mlflow,
            parameters=None if config.parameters is None else Parameters(config.parameters),
            data_class=floor,
            is_choosy=not self.choosy.isdisjoint((config.name, *config.fallbacks))
            or (floor is not None and bool(config.fallbacks)),
            stored_responses=config.stored_responses,
            deadline_s=config.deadline_s,
            is_sticky=not self.sticky.isdisjoint((config.name, *config.fallbacks)),
            may_close=bool(self.whole.maintenance or self.whole.state_hook)
            or any(each.probe is not None for each in deployments),
        )

    def _deployment(self, endpoint: EndpointConfig, config: DeploymentConfig) -> Deployment:
        first = self._with_key(endpoint, config)
        if not config.model.others:
            return first
        models = [replace(config.model, settings=settings, others=()) for settings in config.model.others]
        others = (self._with_key(endpoint, replace(config, model=model)) for model in models)
        keys = tuple(
            replace(
                each,
                cells=first.cells,
                health=self.healths.of(endpoint.name, key_name(config.name, index), endpoint.health),
            )
            for index, each in enumerate((first, *others))
        )
        return replace(first, keys=keys)

    def _with_key(self, endpoint: EndpointConfig, config: DeploymentConfig) -> Deployment:
        provider = self.make(config.model)
        where = f"{endpoint.name}/{config.name}"
        try:
            ways = _Ways.of(provider, endpoint.endpoint_type, where)
        except ValueError as error:
            raise ConfigFault(f"{config.path}.model.config", f"makes no usable URL: {error}") from None
        sent_model = config.model.name
        takes_star = endpoint.is_pattern and "*" in (sent_model or "")
        if takes_star and any("*" in each.path or "%2A" in each.path for each in ways.targets.values()):
            problem = f"{provider.name} has the model in its URL, so a pattern cannot name it"
            raise ConfigFault(f"{config.path}.model.name", problem)
        return Deployment(
            provider,
            ways.targets,
            None if sent_model is None else msgspec.Raw(msgspec.json.encode(sent_model)),
            config.timeouts,
            _secrets(provider),
            _price(config, provider, self.prices),
            name=config.name,
            weight=config.weight,
            priority=config.priority,
            place=config.place,
            health=self.healths.of(endpoint.name, config.name, endpoint.health),
            cells={
                each: self.metrics.cell(
                    endpoint=endpoint.name,
                    operation=each.name,
                    provider=provider.name,
                    model=sent_model or endpoint.name,
                )
                for each in (*ways.targets, *ways.estimates)
            },
            offer=config.offer,
            sunset=_sunset(config.offer.deprecation_date),
            pool=config.pool,
            probe=config.probe,
            windows=for_deployment(self.whole.maintenance, endpoint.name, config.name),
            takes_star=takes_star,
            find_price=_finder(provider.name, self.prices),
            stream_targets=ways.stream_targets,
            bridges=ways.bridges,
            estimates=ways.estimates,
        )


@dataclass(frozen=True, slots=True)
class _Ways:
    """How a deployment is reached, for each operation that callers may ask for."""

    targets: Mapping[Operation, Target]
    stream_targets: Mapping[Operation, Target]
    bridges: Mapping[Operation, Bridge | VectorBridge]
    estimates: frozenset[Operation]

    @classmethod
    def of(cls, provider: Provider, endpoint_type: str, where: str) -> _Ways:
        """Find the ways: straight where the host speaks a caller's format, by translation elsewhere."""
        spoken = provider.speaks(endpoint_type)
        best = next((each for each in (*provider.translates, EMBEDDINGS) if each in spoken), None)
        straight = {
            each: each
            for each in spoken
            if each.endpoint_type == endpoint_type
            and each in DIALECT_OF
            and not (each is CHAT and provider.is_stranger)
        }
        bridges: dict[Operation, Bridge | VectorBridge] = {}
        if best is not None:
            manners = replace(provider.manners(), where=f"the deployment {where}")
            if best in VECTORS:
                bridges = {each: VectorBridge(each, best, manners) for each in fronts_of(straight)}
            strangers = [each for each in FRONTS_OF.get(endpoint_type, ()) if each not in straight]
            bridges |= {each: Bridge(each, best, manners) for each in strangers}
        backs = straight | {front: bridge.back for front, bridge in bridges.items()}
        counting = {
            COUNT_TOKENS: MESSAGES,
            INPUT_TOKENS: RESPONSES,
            COUNT_CONTENT: GENERATE_CONTENT,
        }
        return cls(
            {front: provider.target(back) for front, back in backs.items()},
            {front: provider.stream_target(back) for front, back in backs.items()},
            bridges,
            frozenset(each for each, of in counting.items() if of in backs and each not in backs),
        )


def key_name(deployment: str, index: int) -> str:
    """Return what the health of a deployment's key is filed under; no deployment's name holds a blank."""
    return f"{deployment} key {index + 1}"


def _finder(provider: str, prices: PriceTable | None) -> Callable[[str], Price | None]:
    """Return what finds the prices of a provider's models, and remembers the latest."""
    return lru_cache(256)(lambda model: None if prices is None else prices.find(provider, model))


def _price(config: DeploymentConfig, provider: Provider, prices: PriceTable | None) -> Price | None:
    """Return the operator's price, else the one of the table; what a provider reports comes with it."""
    if config.price is not None:
        return Price(tuple(map(_tariff, config.price)), CONFIGURED)
    name = config.model.name
    return None if prices is None or "*" in (name or "") else prices.find(provider.name, name)


def _tariff(config: TariffConfig) -> Tariff:
    return Tariff(
        Rates.of(**config.rates),
        tuple((start, Rates.of(**{**config.rates, **rates})) for start, rates in config.above),
        request=config.request,
        second=config.second,
        period=Period(minutes=config.minutes),
        units=config.units,
    )


def _sunset(day: date | None) -> tuple[str, str] | None:
    """Return the header that warns of an end, at the first moment of its day.

    Source: RFC 8594 section 3 (read 2026-11).
    """
    if day is None:
        return None
    moment = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    return "Sunset", format_datetime(moment, usegmt=True)


def _secrets(provider: Provider) -> tuple[bytes, ...]:
    """Return what to look for: the long ones, as a short one might be any word."""
    return tuple(secret.encode() for secret in provider.secrets() if len(secret) >= _SHORTEST_SECRET)


def _forbidden(endpoint: Endpoint, caller: Caller) -> Forbidden:
    if not caller.may_reach(endpoint.name):
        text = f"The gateway key {caller.name} is not for the model {endpoint.name}."
        return Forbidden(text, slug="model_not_allowed", param="model")
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
    paths = " or ".join(sorted({f"POST {each.public_path}" for each in endpoint.cells}))
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
