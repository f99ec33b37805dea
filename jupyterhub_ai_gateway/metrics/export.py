"""All counts of one process, and how they are written out for a scraper."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from typing_extensions import override

from ..errors import LimitFault
from . import families
from .cells import MAX_OUTCOMES, OTHER, Cell, Histogram, known_outcome
from .families import FAMILIES, NAMESPACE, Family


class AuthCache(Protocol):
    """The counts of whatever remembers who is calling; `auth.TokenResolver` is one."""

    hits: int
    misses: int
    stale: int
    lookups: int
    errors: int

    def __len__(self) -> int:
        """Return how many tokens are remembered."""


@dataclass(frozen=True, slots=True)
class ConfigurationState:
    """What is in use and how that came: `loaded_at` is when the configuration in use was read.

    `last_error` says why the newest file is not in use, None when it is. It names paths of the
    configuration and never a value, because `/health` shows it to everybody.
    """

    loaded_at: datetime
    endpoints: int
    successes: int = 1
    failures: int = 0
    last_error: str | None = None


class LedgerState(Protocol):
    """The counts of what writes requests down; `usage.ledger.Ledger` is one."""

    written: int
    journaled: int
    failures: int

    @property
    def queued(self) -> int:
        """Return how many requests wait."""

    @property
    def is_away(self) -> bool:
        """Say whether the database takes nothing now."""


class BatchCounts(NamedTuple):
    """How many batches a process works on, how many of their lines are open, and how lines ended."""

    running: int
    open_lines: int
    answered: int
    failed: int


class DeploymentState(NamedTuple):
    """How one deployment fares; `failures` are all that there ever were.

    `error_rate` and `latency_s` are of late, None where nothing is known.
    """

    endpoint: str
    deployment: str
    failures: int
    is_resting: bool
    state: str
    is_slow: bool = False
    error_rate: float | None = None
    latency_s: float | None = None


class PoolState(NamedTuple):
    """The slots of one pool; `waits` are all requests that ever waited, `waited_s` how long together.

    `slots`, `all_in_use` and `all_waiting` are of all processes that share it, the rest of this one.
    `is_apart` is true while it goes by its own part, because the store that they share does not answer.
    """

    pool: str
    slots: int
    in_use: int
    waiting: int
    waits: int
    waited_s: float
    refused: int
    all_in_use: int
    all_waiting: int
    is_apart: bool = False


class Metrics:
    """All counts of one process.

    `max_series` bounds how many combinations of endpoint, operation, provider and model are kept apart,
    those of endpoints that are gone included, because counts never vanish; what comes later is counted
    as `other`. A combination is shown once it has been used.
    """

    def __init__(self, namespace: str = NAMESPACE, max_series: int = 2000) -> None:
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", namespace):
            raise ValueError(f"{namespace!r} cannot begin the name of a metric: letters, digits and _ only")
        self.namespace = namespace
        self._max_series = max_series
        self._cells: dict[tuple[str, str, str, str], Cell] = {}
        self._other = Cell((OTHER, OTHER, OTHER, OTHER))
        self._refused: dict[tuple[str, int, str], int] = {}
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        self._auth: AuthCache | None = None
        self._connections: Callable[[], int] | None = None
        self._configuration: Callable[[], ConfigurationState] | None = None
        self._version: str | None = None
        self._ledger: LedgerState | None = None
        self._limits: Callable[[], tuple[int, int]] | None = None
        self._deployments: Callable[[], Iterable[DeploymentState]] | None = None
        self._pools: Callable[[], Iterable[PoolState]] | None = None
        self._batches: Callable[[], BatchCounts] | None = None

    def cell(self, *, endpoint: str, operation: str, provider: str, model: str) -> Cell:
        """Return the cell of these labels, made when they are new: the same one after a reload.

        `endpoint` is what callers ask for, `model` what the provider is asked for.
        """
        labels = (endpoint, operation, provider, model)
        found = self._cells.get(labels)
        if found is not None:
            return found
        if len(self._cells) >= self._max_series:
            return self._other
        made = self._cells[labels] = Cell(labels)
        return made

    def refused(self, *, operation: str, status: int, slug: str) -> None:
        """Count a request that never reached an endpoint: no token, no scope, no such model."""
        key = (known_outcome(operation), status, known_outcome(slug))
        if key not in self._refused and len(self._refused) >= MAX_OUTCOMES:
            key = (OTHER, status // 100 * 100, OTHER)
        self._refused[key] = self._refused.get(key, 0) + 1

    def watch_auth(self, cache: AuthCache) -> None:
        """Show the counts of what remembers who is calling."""
        self._auth = cache

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Show how many connections to providers are open."""
        self._connections = count

    def watch_configuration(self, state: Callable[[], ConfigurationState]) -> None:
        """Show what configuration is in use."""
        self._configuration = state

    def watch_version(self, version: str) -> None:
        """Show which version runs."""
        self._version = version

    def watch_ledger(self, ledger: LedgerState) -> None:
        """Show how the writing down of requests goes."""
        self._ledger = ledger

    def watch_limits(self, counts: Callable[[], tuple[int, int]]) -> None:
        """Show how many counters there are, and how often their store did not answer."""
        self._limits = counts

    def watch_deployments(self, states: Callable[[], Iterable[DeploymentState]]) -> None:
        """Show how the deployments of endpoints that have a choice fare."""
        self._deployments = states

    def watch_pools(self, states: Callable[[], Iterable[PoolState]]) -> None:
        """Show how many slots there are, and who waits for one."""
        self._pools = states

    def watch_batches(self, counts: Callable[[], BatchCounts]) -> None:
        """Show how far batches are."""
        self._batches = counts

    def snapshot(self) -> Snapshot:
        """Copy what is counted now, quickly; to be written out where it does not hold up requests."""
        cells = [cell.copy() for cell in (*self._cells.values(), self._other) if _is_used(cell)]
        singles = dict(self._singles())
        return Snapshot(self.namespace, cells, dict(self._refused), singles, self._process)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the text for a scraper that sent this Accept header, and its content type."""
        return self.snapshot().render(accept)

    def _singles(self) -> Iterator[tuple[Family, Mapping[tuple[str, ...], float]]]:
        """Give the families that no cell counts, each with its values by label values."""
        yield families.SERIES, {(): len(self._cells)}
        if self._version is not None:
            yield families.BUILD, {(self._version,): 1}
        if self._connections is not None:
            yield families.UPSTREAM_CONNECTIONS, {(): self._connections()}
        if self._deployments is not None:
            states = list(self._deployments())
            names = [(each.endpoint, each.deployment) for each in states]
            failures = [float(each.failures) for each in states]
            resting = [float(each.is_resting) for each in states]
            yield families.DEPLOYMENT_FAILURES, dict(zip(names, failures, strict=True))
            yield families.DEPLOYMENT_RESTING, dict(zip(names, resting, strict=True))
            slow = [float(each.is_slow) for each in states]
            yield families.DEPLOYMENT_SLOW, dict(zip(names, slow, strict=True))
            yield (
                families.DEPLOYMENT_ERROR_RATE,
                {
                    name: each.error_rate
                    for name, each in zip(names, states, strict=True)
                    if each.error_rate is not None
                },
            )
            yield (
                families.DEPLOYMENT_LATENCY,
                {
                    name: each.latency_s
                    for name, each in zip(names, states, strict=True)
                    if each.latency_s is not None
                },
            )
            yield (
                families.DEPLOYMENT_STATE,
                {(*name, each.state): 1.0 for name, each in zip(names, states, strict=True)},
            )
        if self._pools is not None:
            yield from _pool_singles(list(self._pools()))
        if self._ledger is not None:
            yield from _ledger_singles(self._ledger)
        if self._limits is not None:
            counters, errors = self._limits()
            yield families.COUNTERS, {(): counters}
            yield families.STORE_ERRORS, {(): errors}
        if self._batches is not None:
            yield from _batch_singles(self._batches())
        if self._auth is not None:
            yield from _auth_singles(self._auth)
        if self._configuration is not None:
            yield from _configuration_singles(self._configuration())


def _pool_singles(
    states: Sequence[PoolState],
) -> Iterator[tuple[Family, Mapping[tuple[str, ...], float]]]:
    yield families.POOL_SLOTS, {(each.pool,): each.slots for each in states}
    yield families.POOL_IN_USE, {(each.pool,): each.in_use for each in states}
    yield families.POOL_WAITING, {(each.pool,): each.waiting for each in states}
    yield families.POOL_WAITS, {(each.pool,): each.waits for each in states}
    yield families.POOL_WAITED, {(each.pool,): each.waited_s for each in states}
    yield families.POOL_REFUSED, {(each.pool,): each.refused for each in states}
    yield families.POOL_ALL_IN_USE, {(each.pool,): each.all_in_use for each in states}
    yield families.POOL_ALL_WAITING, {(each.pool,): each.all_waiting for each in states}
    yield families.POOL_APART, {(each.pool,): float(each.is_apart) for each in states}


def _ledger_singles(ledger: LedgerState) -> Iterator[tuple[Family, Mapping[tuple[str, ...], float]]]:
    yield families.LEDGER_ROWS, {("written",): ledger.written, ("failed",): ledger.failures}
    yield families.LEDGER_QUEUE, {(): ledger.queued}
    yield families.LEDGER_JOURNAL, {(): ledger.journaled}
    yield families.LEDGER_AWAY, {(): float(ledger.is_away)}


def _batch_singles(counts: BatchCounts) -> Iterator[tuple[Family, Mapping[tuple[str, ...], float]]]:
    yield families.BATCHES, {(): counts.running}
    yield families.BATCH_QUEUE, {(): counts.open_lines}
    yield families.BATCH_LINES, {("ok",): counts.answered, ("failed",): counts.failed}


def _auth_singles(auth: AuthCache) -> Iterator[tuple[Family, Mapping[tuple[str, ...], float]]]:
    yield families.AUTH_ANSWERS, {("hit",): auth.hits, ("miss",): auth.misses, ("stale",): auth.stale}
    yield families.AUTH_TOKENS, {(): len(auth)}
    yield families.HUB_LOOKUPS, {(): auth.lookups}
    yield families.HUB_ERRORS, {(): auth.errors}


def _configuration_singles(
    state: ConfigurationState,
) -> Iterator[tuple[Family, Mapping[tuple[str, ...], float]]]:
    yield families.RELOADS, {("success",): state.successes, ("failure",): state.failures}
    yield families.LOADED_WELL, {(): float(state.last_error is None)}
    yield families.LOADED_AT, {(): state.loaded_at.timestamp()}
    yield families.ENDPOINTS, {(): state.endpoints}


class Snapshot(Collector):
    """What was counted at one moment, as prometheus_client wants to collect it."""

    def __init__(
        self,
        namespace: str,
        cells: list[Cell],
        refused: Mapping[tuple[str, int, str], int],
        singles: Mapping[Family, Mapping[tuple[str, ...], float]],
        process: CollectorRegistry,
    ) -> None:
        self._namespace = namespace
        self._cells = cells
        self._refused = refused
        self._singles = singles
        self._process = process

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the text in the format that the Accept header prefers, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    @override
    def collect(self) -> Iterable[Metric]:
        yield from self._histograms()
        values: dict[Family, dict[tuple[str, ...], float]] = defaultdict(lambda: defaultdict(float))
        for cell in self._cells:
            _add_counts(values, cell)
        for (operation, status, outcome), count in self._refused.items():
            values[families.REQUESTS]["", operation, "", "", str(status), outcome] += count
        for family in FAMILIES:
            samples = {**self._singles.get(family, {}), **values.get(family, {})}
            if samples:
                yield self._metric(family, samples)
        yield from self._process.collect()

    def _metric(self, family: Family, samples: Mapping[tuple[str, ...], float]) -> Metric:
        kind = CounterMetricFamily if family.kind == families.COUNTER else GaugeMetricFamily
        metric = kind(family.full_name(self._namespace), family.help, labels=family.labels)
        for labels, value in samples.items():
            metric.add_metric(labels, value)
        return metric

    def _histograms(self) -> Iterator[Metric]:
        made = {
            family: HistogramMetricFamily(family.name, family.help, labels=family.labels)
            for family in FAMILIES
            if family.kind == families.HISTOGRAM
        }
        for cell in self._cells:
            labels = _gen_ai_labels(cell)
            for error_type, histogram in _by_error(cell).items():
                _add(made[families.DURATION], families.DURATION, (*labels, error_type), histogram)
            _add(made[families.FIRST_TOKEN], families.FIRST_TOKEN, labels, cell.first_token)
            _add(made[families.PER_TOKEN], families.PER_TOKEN, labels, cell.per_token)
            _add(made[families.TOKEN_USAGE], families.TOKEN_USAGE, (*labels, "input"), cell.input_tokens)
            _add(made[families.TOKEN_USAGE], families.TOKEN_USAGE, (*labels, "output"), cell.output_tokens)
        yield from (metric for metric in made.values() if metric.samples)


def _is_used(cell: Cell) -> bool:
    return bool(cell.in_flight or cell.durations)


def _is_limit(slug: str) -> bool:
    return slug in (LimitFault.slug, "insufficient_quota")


def _is_upstream(slug: str) -> bool:
    return slug.startswith("upstream_")


def _gen_ai_labels(cell: Cell) -> tuple[str, ...]:
    endpoint, operation, provider, model = cell.labels
    return (
        endpoint,
        families.OPERATION_NAMES.get(operation, operation),
        families.PROVIDER_NAMES.get(provider, provider),
        model,
    )


def _by_error(cell: Cell) -> dict[str, Histogram]:
    """Join the histograms of one outcome, whatever the status."""
    joined: dict[str, Histogram] = {}
    for (_, slug), histogram in cell.durations.items():
        if slug in joined:
            joined[slug].add(histogram)
        else:
            joined[slug] = histogram.copy()
    return joined


def _add(
    metric: HistogramMetricFamily, family: Family, labels: tuple[str, ...], histogram: Histogram
) -> None:
    added = list(accumulate(histogram.counts))
    if added[-1]:
        bounds = [*(str(bound) for bound in family.buckets), "+Inf"]
        metric.add_metric(labels, list(zip(bounds, added, strict=True)), histogram.total)


def _add_counts(values: dict[Family, dict[tuple[str, ...], float]], cell: Cell) -> None:
    labels = cell.labels
    values[families.IN_FLIGHT][labels] = cell.in_flight
    values[families.UNKNOWN_USAGE][labels] = cell.unknown_usages
    values[families.COST][labels] = cell.cost_nanousd / 1e9
    values[families.UNPRICED][labels] = cell.unpriced
    for token_type, tokens in _tokens(cell):
        values[families.TOKEN_TOTAL][(*labels, token_type)] = tokens
    for (status, slug), histogram in cell.durations.items():
        count = sum(histogram.counts)
        values[families.REQUESTS][(*labels, str(status), slug or "ok")] += count
        if _is_limit(slug):
            values[families.LIMIT_HITS][(*labels, slug)] += count
        elif _is_upstream(slug):
            values[families.UPSTREAM_ERRORS][(*labels, slug)] += count


def _tokens(cell: Cell) -> Iterator[tuple[str, float]]:
    yield "input", cell.input_tokens.total
    yield "cached_input", cell.cached_input_tokens
    yield "output", cell.output_tokens.total
    yield "reasoning", cell.reasoning_tokens
