"""In which state a deployment is: calendars, what answers to probes mean, hooks, and what follows."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jupyterhub_ai_gateway.config import MaintenanceConfig, ProbeConfig
from jupyterhub_ai_gateway.config.report import Report
from jupyterhub_ai_gateway.config.states import read_maintenance
from jupyterhub_ai_gateway.errors import ConfigFault, UpstreamUnreachable
from jupyterhub_ai_gateway.router.health import Health
from jupyterhub_ai_gateway.router.probes import load_hook, read_answer, read_hook_answer
from jupyterhub_ai_gateway.router.states import Found, for_deployment, in_window, under_maintenance

BERLIN = "Europe/Berlin"


def windows(*entries: dict[str, Any]) -> tuple[MaintenanceConfig, ...]:
    report = Report()
    found = read_maintenance([{"text": "Work.", **entry} for entry in entries], report, BERLIN)
    assert report.errors == []
    return found


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN))


ONCE = {"starts": "2026-12-01 08:00", "ends": "2026-12-01T12:00"}
UTC = {"starts": "2026-12-01T08:00Z", "ends": "2026-12-01T12:00+00:00"}
TUESDAY = {"weekly": "tue 08:00-12:00"}
NIGHT = {"weekly": "Sat, sunday 22:00-02:00"}
DAILY = {"weekly": "daily 03:00 - 3:30"}
CALENDAR: list[tuple[dict[str, Any], str, str | None]] = [
    (ONCE, "2026-12-01 07:59:59", None),
    (ONCE, "2026-12-01 08:00", "2026-12-01 12:00"),
    (ONCE, "2026-12-01 12:00", None),
    (UTC, "2026-12-01 08:30", None),
    (UTC, "2026-12-01 09:00", "2026-12-01 13:00"),
    (TUESDAY, "2026-12-01 08:00", "2026-12-01 12:00"),
    (TUESDAY, "2026-12-02 08:00", None),
    (TUESDAY, "2026-12-08 11:59", "2026-12-08 12:00"),
    (NIGHT, "2026-12-05 21:59", None),
    (NIGHT, "2026-12-05 23:00", "2026-12-06 02:00"),
    (NIGHT, "2026-12-06 01:00", "2026-12-06 02:00"),
    (NIGHT, "2026-12-07 01:59", "2026-12-07 02:00"),
    (NIGHT, "2026-12-08 01:00", None),
    (DAILY, "2026-12-08 03:29", "2026-12-08 03:30"),
    (DAILY, "2026-06-08 03:29", "2026-06-08 03:30"),
]


@pytest.mark.parametrize(("entry", "now", "end"), CALENDAR)
def test_the_calendar(entry: dict[str, Any], now: str, end: str | None) -> None:
    found = in_window(windows(entry), at(now).astimezone(timezone.utc))
    assert (None if found is None else found.until) == (None if end is None else at(end))


def test_of_several_windows_the_one_that_ends_last_counts() -> None:
    found = in_window(windows(ONCE, {**DAILY, "weekly": "daily 08:00-09:00"}), at("2026-12-01 08:30"))
    assert found is not None
    assert found.until == at("2026-12-01 12:00")


def test_a_window_is_for_those_it_names() -> None:
    calendar = windows({**ONCE, "endpoints": "llama*", "deployments": ["gpu1", "gpu2"]}, DAILY)
    assert len(for_deployment(calendar, "llama-70b", "gpu1")) == 2
    assert len(for_deployment(calendar, "llama-70b", "gpu3")) == 1
    assert len(for_deployment(calendar, "other", "gpu1")) == 1


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({}, "starts"),
        ({"starts": "2026-12-01 08:00"}, "ends"),
        ({"starts": "tomorrow", "ends": "2026-12-01"}, "starts"),
        ({"starts": "2026-12-02", "ends": "2026-12-01"}, "ends"),
        ({"weekly": "tue"}, "weekly"),
        ({"weekly": "someday 08:00-09:00"}, "weekly"),
        ({"weekly": "tue 08:00-08:00"}, "weekly"),
        ({"weekly": "tue 08:61-09:00"}, "weekly"),
        ({**ONCE, **TUESDAY}, "starts"),
        ({**ONCE, "extra": 1}, "extra"),
    ],
)
def test_what_is_wrong_in_a_calendar_is_named(entry: dict[str, Any], path: str) -> None:
    report = Report()
    read_maintenance([{"text": "Work.", **entry}], report, BERLIN)
    assert [found for found, _ in report.errors] == [f"maintenance[0].{path}"]


MODELS = json.dumps({"data": [{"id": "llama"}, {"id": "mixtral"}]}).encode()
METRICS = b"""# HELP vllm:num_requests_waiting Number of requests waiting.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_running{model_name="llama"} 7.0
vllm:num_requests_waiting{engine="0",model_name="llama"} 3.0
vllm:num_requests_waiting{engine="1",model_name="llama"} 2.0
"""
JOBS = json.dumps(
    {
        "running": [{"Models": "Llama, phi", "Cluster": "s"}, "junk", {"Models": None}],
        "queued": [{"Models": "mixtral"}],
        "stopped": [{"Models": "cold"}],
    }
).encode()
UP = b'{"sophia": true, "polaris": false}'
ANSWERS: list[tuple[str, str | None, int, bytes, str | None]] = [
    ("health", "llama", 200, b"", "ready"),
    ("health", "llama", 503, b"", "loading"),
    ("health", "llama", 500, b"", "down"),
    ("health", "llama", 404, b"", None),
    ("models", "llama", 200, MODELS, "ready"),
    ("models", "gemma", 200, MODELS, "down"),
    ("models", None, 200, MODELS, None),
    ("models", "llama", 401, MODELS, None),
    ("models", "llama", 200, b"<html>", None),
    ("models", "llama", 200, b'{"models": [{"name": "llama"}]}', "ready"),
    ("vllm", "llama", 200, METRICS, "ready"),
    ("vllm", "llama", 302, METRICS, None),
    ("first", "llama", 200, JOBS, "ready"),
    ("first", "phi", 200, JOBS, "ready"),
    ("first", "mixtral", 200, JOBS, "queued"),
    ("first", "cold", 200, JOBS, "loading"),
    ("first", "llama", 200, b"[]", None),
    ("first", "llama", 200, b'{"running": 5}', "loading"),
]


@pytest.mark.parametrize(("kind", "model", "status", "body", "state"), ANSWERS)
def test_what_an_answer_means(
    kind: Any, model: str | None, status: int, body: bytes, state: str | None
) -> None:
    looked = read_answer(ProbeConfig(kind), model, status, body)
    assert (None if looked.found is None else looked.found.state) == state
    assert looked.waiting == (5 if body is METRICS and status == 200 else None)


@pytest.mark.parametrize(
    ("cluster", "state"), [("sophia", "ready"), ("polaris", "maintenance"), ("x", None)]
)
def test_first_s_clusters(cluster: str, state: str | None) -> None:
    found = read_answer(ProbeConfig("first", cluster=cluster), "llama", 200, UP).found
    assert (None if found is None else found.state) == state


NOW = 1000.0


def health(found: str | None = None, told: str | None = None, rests: float = 0.0) -> Health:
    made = Health(rests_until=NOW + rests)
    made.found = None if found is None else Found(found)
    made.told = None if told is None else Found(told)
    return made


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (health(), "ready"),
        (health(rests=5), "resting"),
        (health("ready", rests=5), "resting"),
        (health("loading", rests=5), "resting"),
        (health("down", rests=5), "down"),
        (health("down"), "down"),
        (health("down", "ready"), "ready"),
        (health(told="maintenance"), "maintenance"),
    ],
)
def test_of_what_is_known_the_worse_counts_and_a_hook_before_a_probe(known: Health, state: str) -> None:
    assert known.state(NOW).state == state
    assert (known.rank(NOW) == 0) == (state == "ready")


def test_a_success_ends_a_rest_and_not_what_a_probe_found() -> None:
    known = health("queued")
    known.failed(UpstreamUnreachable("x"), NOW)
    known.succeeded(0.1, NOW, NOW)
    assert known.state(NOW).state == "queued"


def test_a_maintenance_is_told_in_the_operator_s_words() -> None:
    now = datetime(2026, 12, 1, 8, tzinfo=timezone.utc)
    later = now + timedelta(hours=2)
    fault = under_maintenance(
        "llama", [Found("maintenance", "New GPUs", later), Found("maintenance", "Other")], now
    )
    assert (fault.status, fault.slug, fault.retry_after_s) == (503, "maintenance", 7200.0)
    assert fault.public == (
        "The model llama is under maintenance. New GPUs. It should be back at 2026-12-01 10:00 UTC."
    )
    unknown = under_maintenance("llama", [Found("maintenance")], now)
    assert (unknown.retry_after_s, unknown.headers) == (300.0, (("x-should-retry", "false"),))


@pytest.mark.parametrize(
    ("answer", "state"),
    [(None, None), ("queued", "queued"), ({"state": "down", "text": "x"}, "down")],
)
def test_what_a_hook_says(answer: Any, state: str | None) -> None:
    found = read_hook_answer(answer)
    assert (None if found is None else found.state) == state


@pytest.mark.parametrize("answer", ["asleep", {}, {"state": "ready", "until": "soon"}, 5])
def test_nonsense_of_a_hook_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"state|until"):
        read_hook_answer(answer)


@pytest.mark.parametrize(
    "name", ["no_such_module:f", "json:no_such", "json:__doc__", "no_such_entry_point"]
)
def test_a_hook_that_is_none_is_a_mistake_of_the_configuration(name: str) -> None:
    with pytest.raises(ConfigFault, match="state_hook"):
        load_hook(name)
