"""Random days of a gateway: whatever happens in whatever order, ledger, counters and sums agree."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from databases import utc_day
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_ai_gateway.accounting import Outcome, settle
from jupyterhub_ai_gateway.config.policies import read_policies
from jupyterhub_ai_gateway.config.report import Report
from jupyterhub_ai_gateway.errors import LimitFault
from jupyterhub_ai_gateway.limits import (
    Admission,
    Demand,
    Estimate,
    Gate,
    MemoryCounters,
    MemoryStore,
    RuleBook,
)
from jupyterhub_ai_gateway.storage import Database
from jupyterhub_ai_gateway.usage.journal import Journal
from jupyterhub_ai_gateway.usage.ledger import Ledger, LedgerOptions
from jupyterhub_ai_gateway.usage.price import Price, Rates, Tariff
from jupyterhub_ai_gateway.vocabulary import CHAT, Caller, Usage

NOON = 1_795_176_000_000
LIMITS = {"tokens": 1_000, "cost_usd": 3_000_000, "concurrency": 3}
POLICIES = [
    {"name": "t", "resource": "tokens", "limit": LIMITS["tokens"], "window": "day", "count": "all"},
    {"name": "c", "resource": "cost_usd", "limit": 0.003, "window": "month", "count": "user"},
    {"name": "n", "resource": "concurrency", "limit": LIMITS["concurrency"], "count": "all"},
    {"name": "r", "resource": "requests", "limit": 12, "window": "hour"},
]
PRICE = Price((Tariff(Rates.of(input=1_000_000, output=2_000_000)),), "configuration")
BODY = b"x" * 400

ENDS = ("ok", "ok without usage", "left", "left before it was sent", "failed", "cut")
numbers = st.integers(0, 300)
step = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from(("alice", "bob")), numbers, numbers),
    st.tuples(st.just("end"), st.integers(0, 5), st.sampled_from(ENDS), numbers),
    st.tuples(st.just("wait"), st.integers(1, 9 * 3600)),
)


@dataclass
class Day:
    """A gate and a ledger on a clock of the test's own, and what should have been written down."""

    folder: Path
    now_ms: int = NOON
    running: list[tuple[str, Caller, Outcome, Admission, int]] = field(default_factory=list)
    names: int = 0
    tokens: int = 0
    cost: int = 0

    def __post_init__(self) -> None:
        self.database = Database(f"sqlite:///{self.folder}/l.sqlite", day_of=utc_day)
        self.database.check()
        self.ledger = Ledger(
            self.database, Journal(self.folder), LedgerOptions(0.01, retention_days=None), now_ms=self.time
        )
        self.counters = MemoryCounters()
        book = RuleBook(
            read_policies(POLICIES, "policies", Report()), "max", ZoneInfo("UTC"), now_ms=self.time
        )
        self.gate = Gate(
            MemoryStore(), self.counters, book, clock=lambda: self.now_ms / 1000, now_ms=self.time
        )

    def time(self) -> int:
        return self.now_ms

    def begin(self, who: str, into: int, out: int) -> None:
        self.names += 1
        name, caller = f"r{self.names}", Caller("user", who)
        outcome = Outcome(0.0, 0.0)
        outcome.at_ms = self.now_ms
        estimate = Estimate(into, out, PRICE.estimate_nanousd(into, out))
        try:
            admission = self.gate.admit(Demand(name, caller, "chat", None, lambda: estimate))
        except LimitFault as fault:
            outcome.done(429, fault.slug)
            self.settle(name, caller, outcome, None)
            return
        assert isinstance(admission, Admission)
        for state in admission.states:
            assert state.remaining >= 0
        self.running.append((name, caller, outcome, admission, into))

    def end(self, index: int, how: str, out: int) -> None:
        if not self.running:
            return
        name, caller, outcome, admission, into = self.running.pop(index % len(self.running))
        outcome.took_s = 1.0
        if how != "left before it was sent":
            outcome.sent(0.0, "openai", "gpt", PRICE)
        if how == "ok":
            outcome.usage = Usage(into, out)
        if how.startswith("ok"):
            outcome.passed_bytes = out * 5
            outcome.done(200)
        elif how == "failed":
            outcome.done(502, "upstream_error")
        elif how == "cut":
            outcome.passed_bytes = out * 5 + 1
            outcome.done(200, "upstream_broken")
        self.settle(name, caller, outcome, admission)

    def settle(self, name: str, caller: Caller, outcome: Outcome, admission: Admission | None) -> None:
        usual: dict[str, Any] = {"body": BODY, "is_stream": False, "endpoint": "chat", "operation": CHAT}
        settle(
            outcome,
            call_id=name,
            caller=caller,
            admission=admission,
            gate=self.gate,
            ledger=self.ledger,
            **usual,
        )
        if outcome.usage is not None:
            self.tokens += (outcome.usage.input_tokens or 0) + (outcome.usage.output_tokens or 0)
            self.cost += outcome.cost_nanousd or 0

    def close(self) -> None:
        while self.running:
            self.end(0, "left", 0)
        self.ledger.start()
        self.ledger.stop()


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=60))
def test_ledger_counters_and_sums_agree_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        day = Day(Path(folder))
        for kind, *arguments in steps:
            if kind == "begin":
                day.begin(*arguments)
            elif kind == "end":
                day.end(*arguments)
            else:
                day.now_ms += arguments[0] * 1000
            assert len(day.running) <= LIMITS["concurrency"]
            assert day.counters.open_reservations == len(day.running)
        day.close()
        assert day.counters.open_reservations == 0
        rows = day.database.requests(where={}, limit=1000)
        assert len(rows) == day.names
        assert sum((row["input_tokens"] or 0) + (row["output_tokens"] or 0) for row in rows) == day.tokens
        assert sum(row["cost_nanousd"] or 0 for row in rows) == day.cost
        totals = day.database.usage(since="2000-01-01", until="2999-01-01", by=(), where={})
        if rows:
            assert totals[0]["requests"] == day.names
            assert totals[0]["input_tokens"] + totals[0]["output_tokens"] == day.tokens
            assert totals[0]["cost_nanousd"] == day.cost
        kept: dict[str, int] = {}
        for counter in day.database.counters(0):
            assert counter.amount > 0
            resource = counter.key.partition("/")[0]
            kept[resource] = kept.get(resource, 0) + counter.amount
        assert kept.get("tokens", 0) == day.tokens
        assert kept.get("cost_usd", 0) == day.cost
        day.database.close()
