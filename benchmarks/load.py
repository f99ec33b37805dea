"""Runs the load generator and reads its report."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .build import compiled
from .machine import resident_mb, running
from .subjects import Subject

Parameters = Mapping[str, "str | int | float | Path"]
"""Options of load.c by name, such as `connections`."""


@dataclass(frozen=True, slots=True)
class Times:
    """How some times are spread, in microseconds."""

    count: int
    min: float
    median: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Report:
    """What the load generator measured. `cpu_us` is the subject's processor time, all processes of it."""

    seconds: float
    replies: int
    requests_per_s: float
    chunks: int
    chunks_per_s: float
    cpu_us: float
    latency: Times | None
    chunk_latency: Times | None
    errors: int
    first_error: str
    resident_mb: float | None = None

    @property
    def cpu_per_reply_us(self) -> float:
        return self.cpu_us / max(self.replies, 1)

    @property
    def cpu_per_chunk_us(self) -> float:
        return self.cpu_us / max(self.chunks, 1)

    @property
    def core_share(self) -> float:
        """Return which part of one core the subject used: near 1, it is what limits the rate."""
        return self.cpu_us / 1e6 / self.seconds


def read_report(text: str, resident: float | None = None) -> Report:
    """Read the JSON object that load.c prints last."""
    document = json.loads(text.strip().splitlines()[-1])
    return Report(
        seconds=document["seconds"],
        replies=document["replies"],
        requests_per_s=document["requests_per_s"],
        chunks=document["chunks"],
        chunks_per_s=document["chunks_per_s"],
        cpu_us=document.get("cpu_us", 0.0),
        latency=_times(document["latency"]),
        chunk_latency=_times(document["chunk_latency"]),
        errors=document["errors"],
        first_error=document["first_error"],
        resident_mb=resident,
    )


def _times(document: dict[str, Any] | None) -> Times | None:
    return None if document is None else Times(**document)


def command_for(port: int, parameters: Parameters, *flags: str) -> list[str]:
    """Return what runs load.c with these options; `flags` are options without a value."""
    values = [f"--{name}={value}" for name, value in parameters.items()]
    return [str(compiled("load")), f"--port={port}", *values, *(f"--{flag}" for flag in flags)]


def press(subject: Subject, core: int, parameters: Parameters) -> Report:
    """Put a subject under load from another core."""
    with running(_command(subject, parameters), core) as process:
        out, _ = process.communicate(timeout=_limit_s(parameters))
    return read_report(out)


def hold(subject: Subject, core: int, parameters: Parameters) -> Report:
    """Keep streams open and read how much memory that takes, at its highest."""
    with running([*_command(subject, parameters), "--hold"], core) as process:
        assert process.stdout is not None
        process.stdout.readline()  # "open"; load.c waits a bounded time for that
        highest = _watch_memory(subject, process, _limit_s(parameters))
        return read_report(process.stdout.read(), highest)


def _watch_memory(subject: Subject, process: subprocess.Popen[str], limit_s: float) -> float:
    highest, deadline = 0.0, time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < deadline:
        highest = max(highest, resident_mb(subject.pid))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    return highest


def _command(subject: Subject, parameters: Parameters) -> list[str]:
    processes = ",".join(str(pid) for pid in subject.processes)
    return command_for(subject.port, {"cpu-of": processes, **parameters})


def _limit_s(parameters: Parameters) -> float:
    """Return more than load.c can take: the times asked for, both graces, and some air."""
    return float(parameters.get("seconds", 1)) + float(parameters.get("warmup", 0)) + 20.0  # type: ignore[arg-type]
