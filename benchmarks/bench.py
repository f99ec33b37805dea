"""One run of the benchmark: who takes part, the interleaved rounds, and numbers out of their reports."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .bodies import TOKEN, Bodies
from .load import Parameters, Report, press
from .machine import Cores
from .subjects import GATEWAY, NGINX, VARIANTS, Ground, LeftOutError, Subject

CHUNKS = 50
UNKNOWN = float("nan")

Reports = dict[str, list[Report]]
"""For each subject one report per round; the rounds are interleaved."""

Pick = Callable[[Report], float]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long it all takes: so many rounds of so many seconds, and a ledger of so many rows."""

    rounds: int
    seconds: float
    warmup: float
    starts: int
    hold_s: float
    ledger_rows: int


DEFAULT = Pace(rounds=5, seconds=0.8, warmup=0.25, starts=5, hold_s=4.0, ledger_rows=1_000_000)
QUICK = Pace(rounds=2, seconds=0.3, warmup=0.1, starts=1, hold_s=1.0, ledger_rows=10_000)


@dataclass(slots=True)
class Bench:
    """What takes part, what was measured, and what went wrong so far."""

    ground: Ground
    bodies: Bodies
    pace: Pace
    subjects: list[Subject]
    reports: dict[str, Reports] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def has_gateway(self) -> bool:
        return any(subject.name == GATEWAY for subject in self.subjects)

    def rounds(self, name: str, parameters: Parameters) -> Reports:
        """Put every subject under the same load in turns."""
        return self.rounds_of(name, [(subject, parameters) for subject in self.subjects])

    def rounds_of(self, name: str, turns: Sequence[tuple[Subject, Parameters]]) -> Reports:
        """Put each subject under its load in turns, round by round, and keep what was measured."""
        found: Reports = {subject.name: [] for subject, _ in turns}
        for _ in range(self.pace.rounds):
            for subject, parameters in turns:
                report = press(subject, self.ground.cores.rest, parameters)
                found[subject.name].append(self.checked(name, subject, report))
        self.reports[name] = found
        return found

    def checked(self, name: str, subject: Subject, report: Report) -> Report:
        """Note it when replies were wrong or missing."""
        where = f"{name}, {subject.name}"
        if report.errors:
            self.problems.append(f"{where}: {report.errors} errors, first: {report.first_error}")
        elif not report.replies and not report.chunks:
            self.problems.append(f"{where}: no reply at all")
        return report

    def chats(self, body: Path, connections: int) -> Parameters:
        """Return options of the load generator under which each reply is compared with the right one."""
        return {**self._options(body, connections), "expect": self.bodies.reply}

    def streamed(self, body: Path, connections: int, factor: float = 1.0) -> Parameters:
        """Return options under which the chunks of each stream are counted; `factor` lengthens the time."""
        options = self._options(body, connections)
        return {**options, "chunks": CHUNKS, "seconds": self.pace.seconds * factor}

    def _options(self, body: Path, connections: int) -> Parameters:
        times = {"seconds": self.pace.seconds, "warmup": self.pace.warmup}
        return {"body": body, "connections": connections, "token": TOKEN, **times}


def begin(cores: Cores, folder: Path, stack: contextlib.ExitStack, pace: Pace) -> Bench:
    """Start everything that takes part; what cannot is left out with a note, or is a problem."""
    ground = Ground.lay(cores, folder, stack)
    bodies = Bodies.write(folder, ground.upstream_port)
    bench = Bench(ground, bodies, pace, [ground.direct()])
    _join(bench, ground.nginx)
    for variant in VARIANTS:
        _join(bench, lambda variant=variant: ground.gateway(variant))  # type: ignore[misc]
    return bench


def _join(bench: Bench, start: Callable[[], Subject]) -> None:
    try:
        bench.subjects.append(start())
    except LeftOutError as why:
        bench.notes.append(str(why))
    except RuntimeError as error:
        bench.problems.append(str(error))


def rate(report: Report) -> float:
    return report.requests_per_s


def cpu(report: Report) -> float:
    return report.cpu_per_reply_us


def core_share(report: Report) -> float:
    return report.core_share


def median_latency(report: Report) -> float:
    return report.latency.median if report.latency else UNKNOWN


def tail(report: Report) -> float:
    return report.latency.p99 / report.latency.median if report.latency else UNKNOWN


def chunk_rate(report: Report) -> float:
    return report.chunks_per_s


def chunk_cpu(report: Report) -> float:
    return report.cpu_per_chunk_us


def chunk_median(report: Report) -> float:
    return report.chunk_latency.median if report.chunk_latency else UNKNOWN


def chunk_p99(report: Report) -> float:
    return report.chunk_latency.p99 if report.chunk_latency else UNKNOWN


def medians(reports: Reports, pick: Pick) -> dict[str, float]:
    """Return for each subject the median over the rounds."""
    return {name: statistics.median(map(pick, rounds)) for name, rounds in reports.items()}


def ratio(reports: Reports, pick: Pick, above: str = GATEWAY, below: str = NGINX) -> float | None:
    """Return the median of the ratios within each round; None when one of the two is missing."""
    return middle(
        pick(ours) / pick(theirs)
        for ours, theirs in zip(reports.get(above, ()), reports.get(below, ()), strict=False)
        if pick(theirs)
    )


def middle(numbers: Iterable[float]) -> float | None:
    """Return the median; None of nothing."""
    found = list(numbers)
    return statistics.median(found) if found else None
