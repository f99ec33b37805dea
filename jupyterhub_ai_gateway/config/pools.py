"""Pools of slots that deployments on one's own GPUs share, and who has which share of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from .model import PoolConfig
from .report import Block, Report
from .routing import read_whole
from .words import kind_of, shown

MOST_SLOTS = 100_000
MOST_WAITING = 100_000
MOST_POOLS = 1000
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}")


def read_pools(value: object, report: Report) -> tuple[PoolConfig, ...]:
    """Read the list `pools`."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        report.error("pools", f"must be a list, found {kind_of(value)}")
        return ()
    if len(value) > MOST_POOLS:
        report.error("pools", f"must have {MOST_POOLS} entries at most, found {len(value)}")
        return ()
    found = [_pool(Block(entry, f"pools[{index}]", report)) for index, entry in enumerate(value)]
    names: dict[str, str] = {}
    for pool in found:
        if names.setdefault(pool.name, pool.path) is not pool.path:
            report.error(f"{pool.path}.name", f"must be different: {names[pool.name]} has it too")
    return tuple(found)


def _pool(block: Block) -> PoolConfig:
    usual = PoolConfig("", 1)
    name = block.required_text("name")
    if name and not _NAME.fullmatch(name):
        block.error("name", f"must be letters, digits, _, - and . alone, found {shown(name)}")
    slots = read_whole(block, "slots", 0, 1, MOST_SLOTS)
    if "slots" not in block:
        block.missing("slots", "is required: how many requests at a time")
    pool = PoolConfig(
        name=name,
        slots=slots or 1,
        most_slots=read_whole(block, "most_slots", 0, 1, MOST_SLOTS) or None,
        queue=read_whole(block, "queue", usual.queue, 0, MOST_WAITING),
        wait_s=_seconds(block, "wait_s", usual.wait_s),
        stream_wait_s=_seconds(block, "stream_wait_s", usual.stream_wait_s),
        half_life_s=_seconds(block, "half_life_s", usual.half_life_s),
        groups=_weights(block, "groups"),
        users=_weights(block, "users"),
        others=_weight(block, "others", block.get("others"), usual.others),
        path=block.path,
    )
    if pool.most_slots is not None and pool.most_slots < pool.slots:
        block.error("most_slots", "must not be less than slots")
    block.refuse_unknown()
    return pool


def _seconds(block: Block, key: str, default: float) -> float:
    value = block.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.01 <= value <= 1e7:
        block.error(key, f"must be a number of seconds from 0.01 to 10000000, found {shown(value)}")
        return default
    return float(value)


def _weights(block: Block, key: str) -> tuple[tuple[str, float], ...]:
    value = block.get(key)
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        block.error(
            key, f"must be a mapping of names, or patterns with *, to weights, found {kind_of(value)}"
        )
        return ()
    return tuple((str(name), _weight(block, key, weight, 1.0)) for name, weight in value.items())


def _weight(block: Block, key: str, value: object, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        block.error(key, f"must be a number above 0, found {shown(value)}")
        return default
    if not 0.001 <= value <= 1e6:
        block.error(key, f"must be a number from 0.001 to 1000000, found {shown(value)}")
        return default
    return float(value)
