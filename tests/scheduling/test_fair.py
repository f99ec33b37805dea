"""Fair share, simulated: who gets how much, and that nobody starves, whoever else is there."""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from jupyterhub_ai_gateway.config import PoolConfig
from jupyterhub_ai_gateway.errors import RequestFault
from jupyterhub_ai_gateway.scheduling import fair
from jupyterhub_ai_gateway.scheduling.fair import (
    BATCH,
    INTERACTIVE,
    FairShare,
    Ticket,
    Who,
    group_of,
    tuned,
    who_asks,
)
from jupyterhub_ai_gateway.vocabulary import Caller, Wishes

Tokens = Callable[[Who], float]


def pool(**more: Any) -> PoolConfig:
    return PoolConfig("gpus", **{"slots": 4, "queue": 100_000, **more})


@dataclass
class Simulation:
    """Everybody who `plays` keeps so many requests going at all times; each takes about a second."""

    share: FairShare
    seed: int = 1
    tokens: Tokens = lambda who: 100.0
    now: float = 0.0
    served: Counter[Who] = field(default_factory=Counter)
    had: Counter[Who] = field(default_factory=Counter)
    waits: dict[Who, list[float]] = field(default_factory=lambda: defaultdict(list))
    _ends: list[tuple[float, int, Ticket]] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def plays(self, who: Who, parallel: int = 1) -> None:
        for _ in range(parallel):
            self._ask(who)

    def run(self, until: float) -> None:
        while self._ends and self._ends[0][0] <= until:
            self.now, _, ticket = heapq.heappop(self._ends)
            who = ticket.who
            self.served[who] += 1
            self.had[who] += int(self.tokens(who))
            self._begun(self.share.leave(ticket, self.tokens(who), self.now))
            self._ask(who)
            assert self.share.in_use == len(self._ends)
            assert not self.share.waiting or self.share.in_use == self.share.slots, "a slot is idle"

    def _ask(self, who: Who) -> None:
        ticket, gone = self.share.ask(who, 100.0, self.now)
        assert gone is None
        if ticket.is_running:
            self._begun([ticket])

    def _begun(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self._number += 1
            self.waits[ticket.who].append(self.now - ticket.arrived)
            end = self.now + self._dice.uniform(0.5, 1.5)
            heapq.heappush(self._ends, (end, self._number, ticket))


def had(simulation: Simulation, group: str) -> int:
    return sum(tokens for who, tokens in simulation.had.items() if who.group == group)


def test_a_class_of_three_hundred_does_not_starve_one_user_and_the_other_way_round() -> None:
    config = pool(slots=8, groups=(("course", 1.0), ("lab", 1.0)))
    simulation = Simulation(FairShare(config))
    loop = Who("lab", "user:loop")
    students = [Who("course", f"user:s{number}") for number in range(300)]
    simulation.plays(loop, parallel=64)
    for student in students:
        simulation.plays(student, parallel=2)
    simulation.run(600.0)
    both = had(simulation, "lab") + had(simulation, "course")
    assert had(simulation, "lab") / both == pytest.approx(0.5, abs=0.07)
    counts = [simulation.served[student] for student in students]
    assert min(counts) >= 5
    assert max(counts) <= 2 * min(counts) + 2


def test_in_one_group_everybody_has_the_same_however_many_requests_they_send() -> None:
    simulation = Simulation(FairShare(pool(slots=8)))
    students = [Who("", f"user:s{number}") for number in range(30)]
    for student in students:
        simulation.plays(student)
    loop = Who("", "user:loop")
    simulation.plays(loop, parallel=200)
    simulation.run(400.0)
    fair_part = sum(simulation.served.values()) / 31
    assert simulation.served[loop] < 1.5 * fair_part
    assert min(simulation.served[student] for student in students) > 0.7 * fair_part


def test_shares_are_measured_in_tokens_not_in_requests() -> None:
    large = Who("", "user:large")
    simulation = Simulation(FairShare(pool()), tokens=lambda who: 1000.0 if who is large else 100.0)
    small = Who("", "user:small")
    simulation.plays(large, parallel=20)
    simulation.plays(small, parallel=20)
    simulation.run(1000.0)
    assert simulation.had[large] / simulation.had[small] == pytest.approx(1.0, abs=0.25)


def test_weights_are_shares_and_may_change_while_it_runs() -> None:
    config = pool(groups=(("a", 3.0), ("b", 1.0)), half_life_s=50.0)
    simulation = Simulation(FairShare(config))
    simulation.plays(Who("a", "user:1"), parallel=20)
    simulation.plays(Who("b", "user:2"), parallel=20)
    simulation.run(500.0)
    assert had(simulation, "a") / had(simulation, "b") == pytest.approx(3.0, rel=0.25)
    simulation.had.clear()
    simulation.share.use(replace(config, groups=(("a", 1.0), ("b", 3.0))), simulation.now)
    simulation.run(1500.0)
    assert had(simulation, "b") / had(simulation, "a") == pytest.approx(3.0, rel=0.25)


def test_sessions_of_a_user_share_what_the_user_has() -> None:
    simulation = Simulation(FairShare(pool()))
    many = [Who("", "user:a", f"s{number}") for number in range(10)]
    for who in many:
        simulation.plays(who, parallel=2)
    one = Who("", "user:b", "s")
    simulation.plays(one, parallel=20)
    simulation.run(500.0)
    assert simulation.served[one] / sum(simulation.served[who] for who in many) == pytest.approx(
        1.0, abs=0.3
    )
    assert max(simulation.served[who] for who in many) <= 2 * min(simulation.served[who] for who in many)


def test_no_slot_is_idle_while_somebody_waits_and_one_alone_has_them_all() -> None:
    simulation = Simulation(FairShare(pool(slots=4, groups=(("a", 1.0), ("b", 99.0)))))
    alone = Who("a", "user:1")
    simulation.plays(alone, parallel=50)
    simulation.run(100.0)
    assert simulation.served[alone] == pytest.approx(400, rel=0.1)


def test_interactive_comes_before_batch_and_batch_is_not_starved() -> None:
    simulation = Simulation(FairShare(pool(slots=4)))
    batch = Who("", "user:night", "", BATCH)
    simulation.plays(batch, parallel=100)
    people = [Who("", f"user:p{number}") for number in range(10)]
    for who in people:
        simulation.plays(who, parallel=2)
    simulation.run(400.0)
    share = simulation.served[batch] / sum(simulation.served.values())
    assert 0.5 / fair.OLDEST_EVERY < share < 1.2 / fair.OLDEST_EVERY


def test_who_had_much_is_not_starved_by_newcomers() -> None:
    config = pool(slots=4, half_life_s=1e6)
    simulation = Simulation(FairShare(config))
    heavy = Who("", "user:heavy")
    simulation.plays(heavy, parallel=20)
    simulation.run(500.0)
    for number in range(100):
        simulation.plays(Who("", f"user:new{number}"), parallel=5)
    before = simulation.served[heavy]
    simulation.run(1000.0)
    turns = simulation.served[heavy] - before
    assert turns >= 500 * 4 / fair.OLDEST_EVERY / 101 * 0.7
    assert turns < 500 * 4 / 20


def test_what_one_has_had_fades() -> None:
    share = FairShare(pool(half_life_s=10.0))
    ticket, _ = share.ask(Who("", "user:a"), 800.0, 0.0)
    share.leave(ticket, None, 0.0)
    ((_, _, _, used, _, _),) = list(share.shares(20.0))
    assert used == pytest.approx(200.0)


def test_what_was_reserved_is_put_right_by_what_was_used() -> None:
    share = FairShare(pool())
    ticket, _ = share.ask(Who("", "user:a"), 800.0, 0.0)
    share.leave(ticket, 300.0, 0.0)
    share.leave(ticket, 300.0, 0.0)  # a second time does nothing
    assert share.in_use == 0
    assert next(share.shares(0.0))[3] == pytest.approx(300.0)


def full(**more: Any) -> FairShare:
    share = FairShare(pool(slots=1, **more))
    share.ask(Who("", "user:runs"), 1.0, 0.0)
    return share


def test_when_too_many_wait_the_newest_of_who_has_most_has_to_go() -> None:
    share = full(queue=3)
    flood = Who("", "user:flood")
    waiting = [share.ask(flood, 1.0, float(number))[0] for number in range(1, 4)]
    own, gone = share.ask(flood, 1.0, 5.0)
    assert gone is own
    other, gone = share.ask(Who("", "user:other"), 1.0, 6.0)
    assert gone is waiting[-1]
    assert (other.is_waiting, gone.is_waiting, share.waiting) == (True, False, 3)


def test_batch_has_to_go_before_interactive() -> None:
    share = full(queue=2)
    batch, _ = share.ask(Who("", "user:a", "", BATCH), 1.0, 1.0)
    share.ask(Who("", "user:a"), 1.0, 2.0)
    _, gone = share.ask(Who("", "user:a"), 1.0, 3.0)
    assert gone is batch


def test_a_place_is_told_by_turns() -> None:
    share = full()
    mine = [share.ask(Who("", "user:me"), 1.0, float(number))[0] for number in range(1, 4)]
    for name in ("x", "y"):
        for number in range(2):
            share.ask(Who("", f"user:{name}"), 1.0, 10.0 + number)
    assert [share.place(ticket) for ticket in mine] == [3, 6, 7]
    assert share.wait_s(3) == pytest.approx(3 * share.hold_s)


def test_quitting_leaves_no_trace() -> None:
    share = full()
    tickets = [
        share.ask(Who("g", f"user:{number % 3}", str(number), number % 2), 1.0, 1.0)[0]
        for number in range(12)
    ]
    for ticket in tickets:
        share.quit(ticket)
        share.quit(ticket)
    assert share.waiting == 0
    assert sum(waiting for _, _, _, _, _, waiting in share.shares(2.0)) == 0
    assert share.fill(2.0) == []


def test_more_slots_start_those_who_wait() -> None:
    share = full()
    ticket, _ = share.ask(Who("", "user:a"), 1.0, 1.0)
    assert share.use(pool(slots=2), 2.0) == [ticket]
    assert (share.slots, share.in_use, share.waiting) == (2, 2, 0)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair, "MAX_NODES", 100)
    share = FairShare(pool(slots=1))
    for number in range(1000):
        ticket, _ = share.ask(Who("", f"user:{number % 400}", str(number)), 500.0, float(number))
        share.leave(ticket, 500.0, float(number))
        assert share._nodes <= 103
    counted = sum(
        1 + sum(1 + len(user.children) for user in group.children.values())
        for group in share._root.children.values()
    )
    assert counted == share._nodes


GROUPS = pool(groups=(("physics", 2.0), ("course-*", 1.0)))
MEMBERS: list[tuple[tuple[str, ...], str | None, str]] = [
    ((), None, ""),
    (("other",), None, ""),
    (("course-b", "course-a"), None, "course-a"),
    (("course-a", "physics"), None, "physics"),
    (("course-a", "physics"), "course-a", "course-a"),
    (("physics",), "other", "physics"),
]


@pytest.mark.parametrize(("groups", "payer", "expected"), MEMBERS)
def test_whose_share_is_used(groups: tuple[str, ...], payer: str | None, expected: str) -> None:
    assert group_of(Caller("user", "alice", groups=groups), payer, GROUPS) == expected


def test_what_a_caller_says_of_itself() -> None:
    alice = Caller("user", "alice")
    assert who_asks(alice, None, Wishes(), GROUPS) == Who("", "user:alice", "", INTERACTIVE)
    wishes = Wishes(session="s" * 500, priority=" Batch")
    assert who_asks(alice, None, wishes, GROUPS) == Who("", "user:alice", "s" * 200, BATCH)
    with pytest.raises(RequestFault, match="x-ai-gateway-priority"):
        who_asks(alice, None, Wishes(priority="now"), GROUPS)


@pytest.mark.parametrize(
    ("slots", "waiting", "is_full", "expected"),
    [
        (16, 0, False, 16),
        (16, 0, True, 18),
        (16, 3, True, 14),
        (4, 1, True, 4),
        (64, 0, True, 64),
        (5, 9, False, 4),
    ],
)
def test_slots_follow_what_waits_inside_the_server(
    slots: int, waiting: int, is_full: bool, expected: int
) -> None:
    assert tuned(slots, least=4, most=64, waiting=waiting, is_full=is_full) == expected
