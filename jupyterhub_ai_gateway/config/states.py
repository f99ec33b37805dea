"""How it is known that a deployment is well: what to ask it, and when it is under maintenance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from ..errors import ConfigFault
from .model import PROBES, MaintenanceConfig, ProbeConfig, ProbeKind
from .policies import read_patterns
from .report import Block, Report
from .secrets import Resolver
from .settings import url_problem
from .words import hint, kind_of, listed, shown

MOST_WINDOWS = 1000
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(
    r"(?P<days>[a-z, ]+?)\s+(?P<start>\d\d?:\d\d)\s*-\s*(?P<end>\d\d?:\d\d)", re.IGNORECASE
)
_HOOK = re.compile(r"[A-Za-z_][\w.]*(?::[A-Za-z_]\w*)?", re.ASCII)


def read_probe(block: Block, resolver: Resolver, usual: ProbeConfig | None = None) -> ProbeConfig | None:
    """Read what a deployment is asked now and then; a word alone is its kind."""
    value = block.get("probe")
    if value is None:
        return usual
    inner = Block({"kind": value} if isinstance(value, str) else value, block.at("probe"), block.report)
    probe = ProbeConfig(
        kind=_kind(inner),
        url=_url(inner, resolver),
        interval_s=_seconds(inner, "interval_s", 30.0, 1.0),
        timeout_s=_seconds(inner, "timeout_s", 5.0, 0.1),
        cluster=inner.text("cluster"),
        key=None
        if inner.get("key") is None
        else inner.report.collect(lambda: resolver.secret(inner.get("key"), inner.at("key")), None),
    )
    if probe.kind == "first" and probe.url is None and not inner.report.errors:
        inner.missing("url", "is required by the kind first")
    inner.refuse_unknown()
    return probe


def _kind(block: Block) -> ProbeKind:
    text = block.required_text("kind")
    for known in PROBES:
        if text == known:
            return known
    if text:
        block.error("kind", f"must be {listed(PROBES)}, found {shown(text)}{hint(text, PROBES)}")
    return PROBES[0]


def _url(block: Block, resolver: Resolver) -> str | None:
    text = block.text("url")
    if not text:
        return None

    def read() -> str:
        found = resolver.text(text, block.at("url"))
        problem = url_problem(found, may_have_query=True)
        if problem:
            raise ConfigFault(block.at("url"), problem)
        return found

    return block.report.collect(read, None)


def _seconds(block: Block, key: str, default: float, least: float) -> float:
    value = block.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= 86_400:
        block.error(key, f"must be a number of seconds from {least:g} to 86400, found {shown(value)}")
        return default
    return float(value)


def read_maintenance(value: object, report: Report, time_zone: str) -> tuple[MaintenanceConfig, ...]:
    """Read the calendar `maintenance`. Times without an offset are of the time zone."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        report.error("maintenance", f"must be a list, found {kind_of(value)}")
        return ()
    if len(value) > MOST_WINDOWS:
        report.error("maintenance", f"must have {MOST_WINDOWS} entries at most, found {len(value)}")
        return ()
    zone = ZoneInfo(time_zone)
    return tuple(
        _window(Block(entry, f"maintenance[{index}]", report), zone) for index, entry in enumerate(value)
    )


def _window(block: Block, zone: ZoneInfo) -> MaintenanceConfig:
    starts, ends = _moment(block, "starts", zone), _moment(block, "ends", zone)
    days, minutes = _weekly(block)
    is_once = "starts" in block or "ends" in block
    if is_once == ("weekly" in block):
        block.missing("starts", "and ends are required, or weekly in their place")
    elif is_once and not ("starts" in block and "ends" in block):
        block.missing("ends" if "starts" in block else "starts", "is required")
    elif starts and ends and ends <= starts:
        block.error("ends", "must be after starts")
    window = MaintenanceConfig(
        text=block.required_text("text"),
        starts=starts,
        ends=ends,
        days=days,
        minutes=minutes,
        zone=zone,
        endpoints=read_patterns(block, "endpoints"),
        deployments=read_patterns(block, "deployments"),
    )
    block.refuse_unknown()
    return window


def _moment(block: Block, key: str, zone: ZoneInfo) -> datetime | None:
    text = block.text(key)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        block.error(key, f"must be a time such as 2026-12-01 08:00, found {shown(text)}")
        return None
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment


def _weekly(block: Block) -> tuple[frozenset[int], tuple[int, int]]:
    text = block.text("weekly")
    if not text:
        return frozenset(), (0, 0)
    match = _WEEKLY.fullmatch(text)
    if match is not None:
        words = [word for word in re.split(r"[, ]+", match["days"].lower()) if word]
        days = set(range(7)) if words == ["daily"] else {_day(word) for word in words}
        start, end = _minute(match["start"]), _minute(match["end"])
        if -1 not in (*days, start, end) and start != end:
            return frozenset(days), (start, end)
    block.error(
        "weekly",
        f'must be days and hours, such as "tue 08:00-12:00" or "daily 03:00-03:30", found {shown(text)}',
    )
    return frozenset(), (0, 0)


def _day(word: str) -> int:
    return next((number for number, day in enumerate(DAYS) if word.startswith(day)), -1)


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    found = int(hour) * 60 + int(minute)
    return found if int(minute) < 60 and found <= 24 * 60 else -1


def read_hook(block: Block) -> str | None:
    """Read the name of the operator's own function: `package.module:function`, or an entry point's."""
    text = block.text("state_hook")
    if text and not _HOOK.fullmatch(text):
        block.error(
            "state_hook", f"must be package.module:function, or an entry point; found {shown(text)}"
        )
    return text
