"""What the gateway may cost: bars that it must meet and goals that it should."""

from __future__ import annotations

from dataclasses import dataclass

MET, MISSED, UNKNOWN = "met", "missed", "not measured"


@dataclass(frozen=True, slots=True)
class Budget:
    """A bar and a goal for one number; `unit` follows the number in print."""

    bar: float
    goal: float | None
    unit: str
    at_least: bool = False

    def is_met(self, value: float, limit: float) -> bool:
        return value >= limit if self.at_least else value <= limit

    def text(self, value: float | None, limit: float | None) -> str:
        """Say a limit and whether the value meets it, such as `≥ 0.25 met`."""
        if limit is None:
            return ""
        verdict = UNKNOWN if value is None else MET if self.is_met(value, limit) else MISSED
        return f"{'≥' if self.at_least else '≤'} {limit:g} {verdict}"


BUDGETS = {
    "rate": Budget(0.25, 0.5, "of nginx", at_least=True),
    "cpu": Budget(4.5, 2.0, "× nginx"),
    "added": Budget(2.0, 1.2, "× what nginx adds"),
    "tail": Budget(3.0, 2.0, "× the median"),
    "chunks": Budget(0.8, 1.1, "of nginx", at_least=True),
    "conversation": Budget(5.0, 3.5, "× nginx"),
    "memory": Budget(120.0, 80.0, "MB"),
    "start": Budget(2.0, 1.0, "s"),
    "tokens": Budget(1.1, None, "× with one token"),
    "endpoints": Budget(1.1, None, "× with one endpoint"),
    "rows": Budget(1.1, None, "× with an empty ledger"),
}
