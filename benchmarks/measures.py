"""The measures: what is run, in which order, and which rows of the table come of it."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .bench import (
    Bench,
    Pick,
    Reports,
    chunk_cpu,
    chunk_median,
    chunk_p99,
    chunk_rate,
    core_share,
    cpu,
    median_latency,
    medians,
    middle,
    rate,
    ratio,
    tail,
)
from .bodies import TOKEN, ask
from .load import Parameters, hold, press
from .machine import free_port, running
from .rows import fill
from .subjects import DIRECT, GATEWAY, NGINX, VARIANTS, LeftOutError, Subject

STREAMS_HELD = 1000
MANY_TOKENS = 10_000
MANY_ENDPOINTS = 500
START_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a number per subject, and one that is judged, by `budget` if it names one.

    `judged` is None when it could not be measured, for want of nginx as a rule.
    """

    title: str
    unit: str
    values: dict[str, float]
    judged: float | None = None
    budget: str | None = None


def _beside_nginx(title: str, unit: str, reports: Reports, pick: Pick, budget: str | None = None) -> Row:
    return Row(title, unit, medians(reports, pick), ratio(reports, pick), budget)


def start(bench: Bench) -> list[Row]:
    """Time from starting a process to its first answer."""
    if not bench.has_gateway:
        return []
    value = middle(_start_once(bench) for _ in range(bench.pace.starts))
    return [Row("start to first answer", "s", {} if value is None else {GATEWAY: value}, value, "start")]


def _start_once(bench: Bench) -> float:
    ground, port = bench.ground, free_port()
    command = ground.gateway_command(VARIANTS[0], ("chat",), port, "started")
    body, log = bench.bodies.chat.read_bytes(), ground.folder / "started.out"
    began = time.monotonic()
    with running(command, ground.cores.subject, environ=ground.gateway_environ(), log=log) as process:
        while time.monotonic() < began + START_LIMIT_S and process.poll() is None:
            with contextlib.suppress(OSError):
                ask(port, body)
                return time.monotonic() - began
            time.sleep(0.002)
    raise RuntimeError(f"no answer within {START_LIMIT_S:g} s; it wrote:\n{log.read_text()[-2000:]}")


def memory(bench: Bench) -> list[Row]:
    """Hold 1,000 streams open, at five chunks a second each."""
    options: Parameters = {
        "body": bench.bodies.held,
        "connections": STREAMS_HELD,
        "chunks": 600,
        "token": TOKEN,
        "seconds": bench.pace.hold_s,
    }
    reports: Reports = {}
    for subject in bench.subjects:
        report = hold(subject, bench.ground.cores.rest, options)
        reports[subject.name] = [bench.checked("memory", subject, report)]
    bench.reports["memory"] = reports
    held = medians(reports, lambda report: report.resident_mb or 0.0)
    title = f"{STREAMS_HELD:,} open streams"
    return [
        Row(f"memory, {title}", "MB", held, held.get(GATEWAY), "memory"),
        _beside_nginx(f"median latency of a chunk, {title}", "µs", reports, chunk_median),
    ]


def one(bench: Bench) -> list[Row]:
    """One connection: what a request costs when nothing else is going on."""
    reports = bench.rounds("one", bench.chats(bench.bodies.chat, 1))
    values, judged = _added(reports)
    return [
        _beside_nginx("requests/s, 1 connection", "", reports, rate),
        _beside_nginx("CPU per request, 1 connection", "µs", reports, cpu),
        _beside_nginx("median latency, 1 connection", "µs", reports, median_latency),
        Row("added latency, 1 connection", "µs", values, judged, "added"),
    ]


def _added(reports: Reports) -> tuple[dict[str, float], float | None]:
    """Return what each adds to the upstream's own median latency, and ours over nginx's."""
    bare = [median_latency(report) for report in reports[DIRECT]]
    added = {
        name: [median_latency(report) - own for report, own in zip(rounds, bare, strict=True)]
        for name, rounds in reports.items()
        if name != DIRECT
    }
    pairs = zip(added.get(GATEWAY, ()), added.get(NGINX, ()), strict=False)
    judged = middle(ours / theirs for ours, theirs in pairs if theirs > 0)
    return {name: value for name, all_ in added.items() if (value := middle(all_)) is not None}, judged


def many(bench: Bench) -> list[Row]:
    """32 connections: the rate that one core gives."""
    reports = bench.rounds("many", bench.chats(bench.bodies.chat, 32))
    return [
        _beside_nginx("requests/s, 32 connections", "", reports, rate, "rate"),
        _beside_nginx("CPU per request, 32 connections", "µs", reports, cpu, "cpu"),
        Row("part of its core used, 32 connections", "", medians(reports, core_share)),
    ]


def crowd(bench: Bench) -> list[Row]:
    """256 connections: is one served as well as another?"""
    reports = bench.rounds("crowd", bench.chats(bench.bodies.chat, 256))
    tails = medians(reports, tail)
    return [
        _beside_nginx("requests/s, 256 connections", "", reports, rate),
        _beside_nginx("CPU per request, 256 connections", "µs", reports, cpu),
        _beside_nginx("median latency, 256 connections", "µs", reports, median_latency),
        Row("p99 over median, 256 connections", "", tails, tails.get(GATEWAY), "tail"),
    ]


def conversation(bench: Bench) -> list[Row]:
    """A conversation of 100 messages, about 100 kB."""
    reports = bench.rounds("conversation", bench.chats(bench.bodies.conversation, 8))
    title = "CPU per request, conversation of 100 messages"
    return [_beside_nginx(title, "µs", reports, cpu, "conversation")]


def streams(bench: Bench) -> list[Row]:
    """32 streams as fast as they go."""
    reports = bench.rounds("streams", bench.streamed(bench.bodies.stream, 32))
    return [
        _beside_nginx("chunks/s, 32 streams", "", reports, chunk_rate, "chunks"),
        _beside_nginx("CPU per chunk, 32 streams", "µs", reports, chunk_cpu),
        Row("part of its core used, 32 streams", "", medians(reports, core_share)),
    ]


def pace(bench: Bench) -> list[Row]:
    """32 streams at 50 chunks a second each: how late is a chunk?"""
    reports = bench.rounds("pace", bench.streamed(bench.bodies.paced, 32, factor=1.5))
    return [
        _beside_nginx("median latency of a chunk, 32 × 50/s", "µs", reports, chunk_median),
        _beside_nginx("p99 latency of a chunk, 32 × 50/s", "µs", reports, chunk_p99),
        _beside_nginx("CPU per chunk, 32 × 50/s", "µs", reports, chunk_cpu),
    ]


def growth(bench: Bench) -> list[Row]:
    """What a request costs with many known tokens, many endpoints, and a ledger of many rows.

    Each side is a process of its own, so that all it has to remember is what is measured.
    """
    if not bench.has_gateway:
        return []
    with contextlib.ExitStack() as stack:
        ground = dataclasses.replace(bench.ground, stack=stack)
        few = ground.gateway(VARIANTS[0], _numbered(1), "few")
        tokens = ground.gateway(VARIANTS[0], _numbered(1), "tokens")
        endpoints = ground.gateway(VARIANTS[0], _numbered(MANY_ENDPOINTS), "endpoints")
        fill(ground.ledger_file("rows"), bench.pace.ledger_rows)
        rows = ground.gateway(VARIANTS[0], _numbered(1), "rows")
        plain: Parameters = {**bench.chats(bench.bodies.numbered, 32), "token": "t-@@@@@@"}
        known: Parameters = {**plain, "tokens": MANY_TOKENS}
        _introduce(bench, tokens, known)
        many_models: Parameters = {**plain, "models": MANY_ENDPOINTS}
        turns = [(few, plain), (tokens, known), (endpoints, many_models), (rows, plain)]
        return list(_growth_rows(bench.rounds_of("growth", turns), bench.pace.ledger_rows))


def _introduce(bench: Bench, tokens: Subject, known: Parameters) -> None:
    """Send one request with each token, so that the Hub need not be asked while it is measured."""
    once: Parameters = {**known, "requests": MANY_TOKENS, "seconds": 30.0, "warmup": 0}
    bench.checked("growth", tokens, press(tokens, bench.ground.cores.rest, once))


def _numbered(count: int) -> list[str]:
    return [f"m-{number:06d}" for number in range(count)]


def _growth_rows(reports: Reports, ledger_rows: int) -> Iterable[Row]:
    values = medians(reports, cpu)
    titles = {
        "tokens": f"{MANY_TOKENS:,} known tokens",
        "endpoints": f"{MANY_ENDPOINTS} endpoints",
        "rows": f"{ledger_rows:,} rows in the ledger",
    }
    for name, title in titles.items():
        judged = ratio(reports, cpu, name, "few")
        yield Row(f"CPU per request, {title}", "µs", {GATEWAY: values[name]}, judged, name)


MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "start": start,
    "memory": memory,
    "one": one,
    "many": many,
    "crowd": crowd,
    "conversation": conversation,
    "streams": streams,
    "pace": pace,
    "growth": growth,
}
"""In the order in which they run: memory while the processes are fresh."""


def take(bench: Bench, names: Iterable[str]) -> list[Row]:
    """Run the named measures; one that fails is a problem, and the others still run."""
    rows: list[Row] = []
    for name in (name for name in MEASURES if name in names):
        print(f"{name}: {(MEASURES[name].__doc__ or '').splitlines()[0]}", file=sys.stderr, flush=True)
        try:
            rows += MEASURES[name](bench)
        except (RuntimeError, LeftOutError, OSError, subprocess.TimeoutExpired) as error:
            bench.problems.append(f"{name}: {error}")
    return rows
