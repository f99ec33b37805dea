"""Which deployments can serve a request at all: pure functions of what is offered and what is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from ..config import DataClass, DataRuleConfig, OfferConfig, ScopeConfig
from ..config.model import CAPABILITIES, DATA_CLASSES
from ..errors import RequestFault
from ..vocabulary import Caller

SURELY = 1.25
"""An estimate of tokens may be wrong: only what is too long by a quarter is surely too long."""

NO_OFFER = OfferConfig()


class Needs(NamedTuple):
    """What a request needs. `tokens` is how long it is thought to be, 0 where that does not matter.

    `regions` are sets of regions, each of which must have the deployment's in it: one set for each who
    demands it.
    """

    capabilities: frozenset[str] = frozenset()
    tokens: int = 0
    data_class: DataClass | None = None
    regions: tuple[tuple[str, ...], ...] = ()

    def at_least(self, data_class: DataClass | None) -> Needs:
        """Return the same needs with a data class that is not below this one."""
        return self._replace(data_class=higher(self.data_class, data_class))


NOTHING = Needs()


def higher(one: DataClass | None, other: DataClass | None) -> DataClass | None:
    """Return the higher of two classes; None is the lowest."""
    return one if rank(one) >= rank(other) else other


def rank(data_class: DataClass | None) -> int:
    """Return how high a class is. One that nobody has set is no higher than public."""
    return 0 if data_class is None else DATA_CLASSES.index(data_class)


def why_not(offer: OfferConfig, needs: Needs) -> str | None:
    """Say why a deployment cannot serve a request, in the end of a sentence; None when it can.

    What the operator does not say of a deployment never leaves it out, but for data: there it must be
    said.
    """
    if rank(needs.data_class) > rank(offer.data_class):
        return f"is for {offer.data_class or 'public'} data, not for {needs.data_class}"
    for regions in needs.regions:
        if not is_in_one(offer.region, regions):
            where = f"in the region {offer.region}" if offer.region else "in no region that is known"
            return f"is {where}, not in {' or '.join(regions)}"
    if offer.capabilities is not None:
        missing = [word for word in CAPABILITIES if word in needs.capabilities - offer.capabilities]
        if missing:
            return f"has no {' and no '.join(missing)}"
    length = offer.context_length
    if length is not None and needs.tokens > SURELY * length:
        return f"takes {length} tokens, and this request has about {needs.tokens}"
    return None


def is_in_one(region: str | None, regions: Sequence[str]) -> bool:
    """Say whether a region is one of some, or a part of one: eu-central-1 is in eu."""
    return region is not None and any(region == each or region.startswith(f"{each}-") for each in regions)


def is_choosy(offer: OfferConfig) -> bool:
    """Say whether there may be requests that a deployment cannot serve, whoever sends them."""
    return offer.capabilities is not None or offer.context_length is not None


def demanded(
    rules: Iterable[DataRuleConfig],
    caller: Caller,
    endpoint: str,
    *,
    data_class: str | None,
    region: str | None,
) -> Needs:
    """Return what the data of a request needs, by the operator's rules and by what its caller says.

    The highest class counts, and every region. `RequestFault` for a word of the caller's that is none.
    """
    highest = _read_class(data_class)
    regions = [_read_regions(region)] if region is not None else []
    for rule in rules:
        if _is_for(rule.scope, caller) and _matches(rule.endpoints, endpoint):
            highest = higher(highest, rule.data_class)
            if rule.regions:
                regions.append(rule.regions)
    return Needs(data_class=highest, regions=tuple(regions))


def _read_class(text: str | None) -> DataClass | None:
    if text is None:
        return None
    for known in DATA_CLASSES:
        if text.strip().lower() == known:
            return known
    raise RequestFault(
        f"The header x-ai-gateway-data-class must be {', '.join(DATA_CLASSES[:-1])} or {DATA_CLASSES[-1]}.",
        param="x-ai-gateway-data-class",
    )


def _read_regions(text: str) -> tuple[str, ...]:
    words = tuple(word.strip().lower() for word in text.split(","))
    if all(word and word.isprintable() and len(word) <= 63 for word in words):
        return words
    raise RequestFault(
        "The header x-ai-gateway-region must be a region, or several with commas between them.",
        param="x-ai-gateway-region",
    )


def _matches(patterns: Sequence[str], name: str) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_for(scope: ScopeConfig, caller: Caller) -> bool:
    if scope.is_everyone:
        return True
    names = scope.users if caller.kind == "user" else scope.services
    sets = (((caller.name,), names), (caller.groups, scope.groups), (caller.roles, scope.roles))
    return any(fnmatchcase(name, pattern) for found, wanted in sets for name in found for pattern in wanted)


def nothing_fits(endpoint: str, left_out: Sequence[tuple[str, str]]) -> RequestFault:
    """Return the fault of a request that no deployment can serve, with the reason of each.

    `left_out` are names of deployments and what `why_not` says of them.
    """
    reasons = dict(left_out)
    is_too_long = all(" tokens, and this request " in reason for reason in reasons.values())
    if len(reasons) == 1:
        text = f"The model {endpoint} cannot serve this request: it {next(iter(reasons.values()))}."
    else:
        each = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
        text = f"No deployment of the model {endpoint} can serve this request: {each}."
    return RequestFault(
        text,
        slug="context_length_exceeded" if is_too_long else "no_deployment_fits",
        param="model",
        more={"left_out": reasons},
    )
