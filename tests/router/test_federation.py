"""Which place first: by what is known of the model there, whatever else says."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from jupyterhub_ai_gateway.router import federation
from jupyterhub_ai_gateway.router.federation import State, by_state, state_of
from jupyterhub_ai_gateway.router.health import Health
from jupyterhub_ai_gateway.router.states import Found


@dataclass
class Somewhere:
    says: State = "running"
    number: int = 0
    health: Health = field(default_factory=Health)

    def state(self, now: float) -> Found:
        return self.health.state(now)


def test_running_comes_before_queued_before_free_before_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "state_of", lambda each, now: each.says)
    states: list[State] = ["running", "queued", "free", "online", "offline", "maintenance"]
    places = [Somewhere(state, number) for state in states for number in range(3)]
    mixed = random.Random(3).sample(places, len(places))
    found = by_state(mixed, 0.0)
    assert [each.says for each in found] == [state for state in states for _ in range(3)]
    for state in states:  # in one state the order stays what it was
        assert [each.number for each in found if each.says == state] == [
            each.number for each in mixed if each.says == state
        ]


def test_what_answers_runs_and_what_rests_does_not() -> None:
    rests = Somewhere(health=Health(rests_until=10.0))
    assert (state_of(rests, 5.0), state_of(rests, 10.0), state_of(Somewhere(), 0.0)) == (
        "offline",
        "running",
        "running",
    )
