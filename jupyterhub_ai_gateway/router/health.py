"""How a deployment fares, by the traffic that it gets: who is sick rests, then one request tries again.

A failure makes a deployment rest for a second, the next one in a row for two, then four, up to a minute; a
success ends that. One that says how long to wait rests that long, and one whose credentials are refused
rests a minute: only a request that was sent afterwards can show that this is over. One of whose requests
too many fail, be there successes between, rests for longer, each time twice as long. No request is ever
sent only to find out.

Pure: what time it is comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import HealthConfig
from ..errors import Fault, UpstreamFault
from .states import MAINTENANCE, RANK, READY, RESTING, Found
from .window import Window

FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
LONGEST_ASKED_S = 3600.0
TRIAL_S = 10.0
"""How long others wait at most for the one request that finds out whether it is well again."""
SLOW_BY_S = 0.1
"""By how much a time must differ besides, to be called slow: below it is no matter."""
_RATE = 0.2
_READY = Found(READY)
_RESTING = RANK[RESTING]
_NO_RULES = HealthConfig()
OF_A_KEY = ("upstream_auth_error", "upstream_rate_limited")
"""Failures that are one key's: another key of the same provider may be served."""
_CREDENTIALS = ("upstream_auth_error", "upstream_not_found")
_FULL = "upstream_rate_limited"
"""It is not sick, but has enough to do: that is no error of the window's."""


@dataclass(slots=True)
class Health:
    """One deployment's. Times are of the gateway's clock, in seconds.

    `latency_s` is a running mean of the time until an answer begins, None while nothing is known.
    `failures` counts those in a row, `total_failures` all of them. `asked_until` is for how long its
    provider wants to be left alone, `ejected_until` for how long it is out because of its error rate, which
    has been so `ejections` times of late. `found` is what a probe says, `told` what the operator's hook
    says, which counts before it; None for nothing.
    """

    in_flight: int = 0
    latency_s: float | None = None
    failures: int = 0
    total_failures: int = 0
    rests_until: float = 0.0
    trial_until: float = 0.0
    failed_at: float = float("-inf")
    reason: str | None = None
    found: Found | None = None
    told: Found | None = None
    rules: HealthConfig = _NO_RULES
    asked_until: float = 0.0
    ejected_until: float = 0.0
    ejections: int = 0
    needs_trial: bool = False
    """True until a request has shown that it is well again."""
    window: Window = field(init=False)

    def __post_init__(self) -> None:
        self.window = Window(self.rules.window_s, self.rules.min_requests)

    def use(self, rules: HealthConfig) -> None:
        """Judge by these rules from now on."""
        self.rules = rules
        self.window.use(rules.window_s, rules.min_requests)

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
        if self.needs_trial and not self.is_resting(now):
            self.trial_until = now + TRIAL_S

    def end(self) -> None:
        """Count that it is over."""
        self.in_flight -= 1

    def is_resting(self, now: float) -> bool:
        """Say whether others should be asked first."""
        return now < self.rests_until or now < self.trial_until

    def error_rate(self, now: float) -> float | None:
        """Return which part of the window's requests failed; None where there were none."""
        requests, errors = self.window.counts(now)
        return errors / requests if requests else None

    def recent_s(self, now: float, kind: int) -> float | None:
        """Return how long answers of a kind have lately taken to begin; None where too few did."""
        return self.window.recent_s[kind] if now < self.window.recent_until else None

    def is_slower_than(self, now: float, kind: int, other_s: float | None) -> bool:
        """Say whether it is by far slower than something else."""
        factor, recent_s = self.rules.slow_factor, self.recent_s(now, kind)
        if factor is None or recent_s is None or other_s is None:
            return False
        return recent_s > factor * other_s and recent_s > other_s + SLOW_BY_S

    def succeeded(self, latency_s: float, now: float, began: float, *, is_stream: bool = False) -> None:
        """Take in an answer, be it a refusal that is the request's own fault.

        Those of requests that had `began` before a provider asked to be left alone do not show that this is
        over.
        """
        self.window.answered(now, latency_s, 1 if is_stream else 0)
        known = self.latency_s
        self.latency_s = latency_s if known is None else known + _RATE * (latency_s - known)
        if self.needs_trial:
            self._recover(now, began)

    def _recover(self, now: float, began: float) -> None:
        if began > self.failed_at:
            self.asked_until = 0.0
        self.failures = 0
        self.trial_until = 0.0
        self.rests_until = max(self.asked_until, self.ejected_until)
        if self.rests_until <= now:
            self.needs_trial, self.reason = False, None

    def failed(self, fault: Fault, now: float, began: float | None = None) -> None:
        """Take in a failure, and rest.

        Requests that had `began` before the last failure fail by the same outage: they are no further ones
        in a row, or an outage under load would at once be thought to be a long one. All of them count in
        the window.
        """
        self.total_failures += 1
        self.reason = fault.slug
        self.needs_trial = True
        if fault.slug != _FULL:
            self.window.failed(now)
            self._eject(now)
        if began is not None and began < self.failed_at and fault.retry_after_s is None:
            return
        self.failures += 1
        self.failed_at, self.trial_until = now, 0.0
        rest_s = self._rest_s(fault)
        self.rests_until = max(self.rests_until, now + rest_s)
        if fault.retry_after_s is not None or fault.slug in _CREDENTIALS:
            self.asked_until = max(self.asked_until, now + rest_s)

    def _rest_s(self, fault: Fault) -> float:
        if fault.retry_after_s is not None:
            return min(fault.retry_after_s, LONGEST_ASKED_S)
        if fault.slug in _CREDENTIALS:
            return LONGEST_REST_S
        return min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(self.failures - 1, 10))

    def _eject(self, now: float) -> None:
        """Rest for long when too many of the window's requests have failed."""
        rules = self.rules
        if rules.max_error_rate is None or now < self.ejected_until:
            return
        requests, errors = self.window.counts(now)
        if requests < rules.min_requests or errors < rules.max_error_rate * requests:
            return
        calm = int((now - self.ejected_until) / rules.window_s)  # windows without another time
        self.ejections = max(0, self.ejections - calm) + 1
        rest_s = min(rules.longest_rest_s, rules.rest_s * 2.0 ** min(self.ejections - 1, 20))
        self.ejected_until = now + rest_s
        self.rests_until = max(self.rests_until, self.ejected_until)
        self.window.clear()


@dataclass(slots=True)
class Healths:
    """Every deployment's, by endpoint and name: they outlive a new configuration."""

    _known: dict[tuple[str, str], Health] = field(default_factory=dict)

    def of(self, endpoint: str, deployment: str, rules: HealthConfig = _NO_RULES) -> Health:
        """Return one's health, made when it is new; it is judged by these rules."""
        health = self._known.get((endpoint, deployment))
        if health is None:
            health = self._known[endpoint, deployment] = Health(rules=rules)
        health.use(rules)
        return health

    def keep_only(self, names: set[tuple[str, str]]) -> None:
        """Forget those of deployments that are gone."""
        for key in self._known.keys() - names:
            del self._known[key]


def is_its_own_fault(fault: Fault) -> bool:
    """Say whether a failure is the deployment's: then it rests, and another may serve the request."""
    return isinstance(fault, UpstreamFault) and fault.retry != "never"
