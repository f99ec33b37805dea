"""How a deployment fares, by the traffic that it gets: who is sick rests, then one request tries again.

A failure makes a deployment rest for a second, the next one for two, then four, up to a minute; one that
says how long to wait rests that long, and one whose credentials are refused rests a minute at once. A
success ends all that. No request is ever sent only to find out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import Fault, UpstreamFault

FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
LONGEST_ASKED_S = 3600.0
TRIAL_S = 10.0
"""How long others wait at most for the one request that finds out whether it is well again."""
_RATE = 0.2
_CREDENTIALS = ("upstream_auth_error", "upstream_not_found")


@dataclass(slots=True)
class Health:
    """One deployment's. Times are of the gateway's clock, in seconds.

    `latency_s` is a running mean of the time until an answer begins, None while nothing is known.
    `failures` counts those in a row, `total_failures` all of them.
    """

    in_flight: int = 0
    latency_s: float | None = None
    failures: int = 0
    total_failures: int = 0
    rests_until: float = 0.0
    reason: str | None = None

    def begin(self, now: float) -> None:
        """Count a request that goes there. After a rest it is the one that finds out for all others."""
        self.in_flight += 1
        if self.failures and now >= self.rests_until:
            self.rests_until = now + TRIAL_S

    def end(self) -> None:
        """Count that it is over."""
        self.in_flight -= 1

    def is_resting(self, now: float) -> bool:
        """Say whether others should be asked first."""
        return now < self.rests_until

    def succeeded(self, latency_s: float) -> None:
        """Take in an answer, be it a refusal that is the request's own fault."""
        self.failures, self.rests_until, self.reason = 0, 0.0, None
        known = self.latency_s
        self.latency_s = latency_s if known is None else known + _RATE * (latency_s - known)

    def failed(self, fault: Fault, now: float) -> None:
        """Take in a failure, and rest."""
        self.failures += 1
        self.total_failures += 1
        self.reason = fault.slug
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
