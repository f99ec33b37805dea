"""`python -m benchmarks`: measure, print the table, and end with 1 when something was wrong."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from .bench import DEFAULT, QUICK, begin
from .build import NoCompilerError, compiled
from .machine import choose_cores, describe, is_supported, load_average
from .measures import MEASURES, take
from .report import document, missed_bars, table

BUSY = 0.5


def read_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds, to see that it runs")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="this one; may be repeated")
    parser.add_argument("--check", action="store_true", help="end with 1 when a bar is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round of every measure here")
    return parser.parse_args(words)


def main() -> int:
    arguments = read_arguments()
    if not is_supported():
        print("The benchmark needs Linux: its upstream and its load generator are made of epoll.")
        return 0
    signal.signal(signal.SIGTERM, _leave)
    try:
        for name in ("upstream", "load"):
            compiled(name)
    except NoCompilerError as problem:
        print(problem, file=sys.stderr)
        return 1
    return _measure(arguments)


def _leave(number: int, _frame: object) -> NoReturn:
    """End by way of every `finally`, so that what was started ends too."""
    raise SystemExit(128 + number)


def _measure(arguments: argparse.Namespace) -> int:
    cores = choose_cores()
    about = {"when": datetime.now(timezone.utc).isoformat(timespec="minutes"), "machine": describe()}
    notes = [] if cores.apart else ["There is one core only: what is measured and what measures share it."]
    if (load := load_average()) > BUSY:
        notes.append(f"The machine is busy (load average {load:.1f}): expect noise.")
    os.sched_setaffinity(0, {cores.rest})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        bench = begin(cores, folder, stack, QUICK if arguments.quick else DEFAULT)
        bench.notes[:0] = notes
        rows = take(bench, arguments.only or MEASURES)
    print(f"\n{about['when']} · {about['machine']}\n")
    print(table(rows, [subject.name for subject in bench.subjects]))
    for line in (*bench.notes, *(f"WRONG: {problem}" for problem in bench.problems)):
        print(f"\n{line}")
    if arguments.json:
        arguments.json.write_text(json.dumps(document(bench, rows, about), indent=1))
    missed = missed_bars(rows)
    return 1 if bench.problems or (arguments.check and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
