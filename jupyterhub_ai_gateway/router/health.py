"""How a deployment fares, by the traffic that it gets: who is sick rests, then one request tries again.

A failure makes a deployment rest for a second, the next one for two, then four, up to a minute; one that
says how long to wait rests that long, and one whose credentials are refused rests a minute at once. A
success ends all that. No request is ever sent only to find out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import Fault, UpstreamFault
from .states import MAINTENANCE, RANK, READY, RESTING, Found

FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
LONGEST_ASKED_S = 3600.0
TRIAL_S = 10.0
"""How long others wait at most for the one request that finds out whether it is well again."""
_RATE = 0.2
_READY = Found(READY)
_RESTING = RANK[RESTING]
OF_A_KEY = ("upstream_auth_error", "upstream_rate_limited")
"""Failures that are one key's: another key of the same provider may be served."""
_CREDENTIALS = ("upstream_auth_error", "upstream_not_found")


@dataclass(slots=True)
class Health:
    """One deployment's. Times are of the gateway's clock, in seconds.

    `latency_s` is a running mean of the time until an answer begins, None while nothing is known.
    `failures` counts those in a row, `total_failures` all of them. `found` is what a probe says, `told`
    what the operator's hook says, which counts before it; None for nothing.
    """

    in_flight: int = 0
    latency_s: float | None = None
    failures: int = 0
    total_failures: int = 0
    rests_until: float = 0.0
    trial_until: float = 0.0
    failed_at: float = 0.0
    reason: str | None = None
    found: Found | None = None
    told: Found | None = None

    @property
    def said(self) -> Found | None:
        """Return what counts of what is said about it."""
        return self.told or self.found

    def rank(self, now: float) -> int:
        """Return how bad its state is; 0 for one that is ready."""
        if self.told is None and self.found is None:
            return _RESTING if self.is_resting(now) else 0
        return RANK[self.state(now).state]

    def state(self, now: float) -> Found:
        """Return its state, but for the calendar: of what is said and of its failures the worse."""
        said = self.said or _READY
        if self.is_resting(now) and RANK[said.state] < _RESTING:
            return Found(RESTING)
        return said

    @property
    def maintenance(self) -> Found | None:
        """Return why it is not to be asked, as far as a probe or a hook says."""
        said = self.said
        return said if said is not None and said.state == MAINTENANCE else None

    def begin(self, now: float) -> None:
        """Count a request that goes there. After a rest it is the one that finds out for all others."""
        self.in_flight += 1
        if self.failures and not self.is_resting(now):
            self.trial_until = now + TRIAL_S

    def end(self) -> None:
        """Count that it is over."""
        self.in_flight -= 1

    def is_resting(self, now: float) -> bool:
        """Say whether others should be asked first."""
        return now < self.rests_until or now < self.trial_until

    def succeeded(self, latency_s: float) -> None:
        """Take in an answer, be it a refusal that is the request's own fault."""
        self.failures, self.reason = 0, None
        self.rests_until = self.trial_until = 0.0
        known = self.latency_s
        self.latency_s = latency_s if known is None else known + _RATE * (latency_s - known)

    def failed(self, fault: Fault, now: float, began: float | None = None) -> None:
        """Take in a failure, and rest.

        Requests that had `began` before the last failure fail by the same outage: they are no further ones
        in a row, or an outage under load would at once be thought to be a long one.
        """
        self.total_failures += 1
        self.reason = fault.slug
        if began is not None and began < self.failed_at and fault.retry_after_s is None:
            return
        self.failures += 1
        self.failed_at, self.trial_until = now, 0.0
        self.rests_until = max(self.rests_until, now + self._rest_s(fault))

    def _rest_s(self, fault: Fault) -> float:
        if fault.retry_after_s is not None:
            return min(fault.retry_after_s, LONGEST_ASKED_S)
        if fault.slug in _CREDENTIALS:
            return LONGEST_REST_S
        return min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(self.failures - 1, 10))


@dataclass(slots=True)
class Healths:
    """Every deployment's, by endpoint and name: they outlive a new configuration."""

    _known: dict[tuple[str, str], Health] = field(default_factory=dict)

    def of(self, endpoint: str, deployment: str) -> Health:
        """Return one's health, made when it is new."""
        return self._known.setdefault((endpoint, deployment), Health())

    def keep_only(self, names: set[tuple[str, str]]) -> None:
        """Forget those of deployments that are gone."""
        for key in self._known.keys() - names:
            del self._known[key]


def is_its_own_fault(fault: Fault) -> bool:
    """Say whether a failure is the deployment's: then it rests, and another may serve the request."""
    return isinstance(fault, UpstreamFault) and fault.retry != "never"
