"""The table that a person reads, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .bench import Bench
from .budget import BUDGETS, MISSED
from .measures import Row


def table(rows: Sequence[Row], subjects: Sequence[str]) -> str:
    """Lay out the rows: a column per subject, then the judged number, its bar and its goal."""
    lines = [["", *subjects, "measured against", "bar", "goal"]]
    for row in rows:
        lines.append([_title(row), *(_number(row.values.get(name)) for name in subjects), *_verdict(row)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    numbers = range(1, len(subjects) + 1)
    texts = [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def _title(row: Row) -> str:
    return f"{row.title} ({row.unit})" if row.unit else row.title


def _number(value: float | None) -> str:
    if value is None or value != value:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _verdict(row: Row) -> list[str]:
    if row.budget is None:
        return [f"{row.judged:.2f} of nginx" if row.judged is not None else "", "", ""]
    budget = BUDGETS[row.budget]
    measured = f"{_number(row.judged)} {budget.unit}" if row.judged is not None else ""
    return [measured, budget.text(row.judged, budget.bar), budget.text(row.judged, budget.goal)]


def missed_bars(rows: Sequence[Row]) -> list[str]:
    """Name the rows whose bar is missed; one that was not measured is none of them."""
    judged = [(row, BUDGETS[row.budget]) for row in rows if row.budget is not None]
    return [row.title for row, budget in judged if MISSED in budget.text(row.judged, budget.bar)]


def document(bench: Bench, rows: Sequence[Row], about: dict[str, Any]) -> dict[str, Any]:
    """Return everything that was measured, each round apart, for JSON. `about` says when and where."""
    return {
        **about,
        "rows": [asdict(row) for row in rows],
        "budgets": {name: asdict(budget) for name, budget in BUDGETS.items()},
        "rounds": {
            measure: {name: [asdict(report) for report in rounds] for name, rounds in found.items()}
            for measure, found in bench.reports.items()
        },
        "problems": bench.problems,
        "notes": bench.notes,
    }
