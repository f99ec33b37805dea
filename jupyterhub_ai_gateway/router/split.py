"""A name that stands for several endpoints, each with a share of its requests: MLflow's traffic split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..config import MlflowConfig, SplitConfig
from ..vocabulary import Caller, Operation

if TYPE_CHECKING:
    from .catalogue import Endpoint


@dataclass(frozen=True, slots=True)
class Split:
    """What callers name as `model`, without limits and scopes of its own: those of the destinations count.

    `shares` are of a hundred. A destination whose deployments all fail has the other ones stand in.
    """

    name: str
    operation: Operation
    destinations: tuple[Endpoint, ...]
    shares: tuple[int, ...]
    mlflow: MlflowConfig = field(default_factory=MlflowConfig)

    def draw(self, chance: float) -> Endpoint:
        """Return a destination by a random number from 0 to 1, 1 excluded."""
        left = chance * sum(self.shares)
        for endpoint, share in zip(self.destinations, self.shares, strict=True):
            left -= share
            if left < 0:
                return endpoint
        return self.destinations[-1]

    def closed_to(self, caller: Caller) -> Endpoint | None:
        """Return a destination that this caller may not use; the split is open when there is none."""
        return next((each for each in self.destinations if not each.is_open_to(caller)), None)


def make_split(
    config: SplitConfig, operation: Operation, endpoints: Mapping[str, Endpoint], mlflow: MlflowConfig
) -> Split:
    """Make a split; destinations without a share get nothing, not even as stand-ins."""
    given = [(endpoints[name], share) for name, share in config.destinations if share > 0]
    own = [each for each, _ in given]
    destinations = tuple(_with_stand_ins(each, own) for each in own)
    return Split(config.name, operation, destinations, tuple(share for _, share in given), mlflow)


def _with_stand_ins(endpoint: Endpoint, others: Sequence[Endpoint]) -> Endpoint:
    known = [endpoint, *endpoint.fallbacks]
    added = [each for each in others if not any(each is other for other in known)]
    return replace(endpoint, fallbacks=[*endpoint.fallbacks, *added])
