"""An endpoint's `parameters`: what becomes of the fields that callers send, by the operator's will."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from .report import Block, Report
from .words import kind_of, shown

TOOL = "tools."
"""What the name of a kind of tool begins with, in `drop`."""
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,63}")
_TOOL = re.compile(r"[A-Za-z0-9_\-]{1,64}\*?")
_OURS = ("model", "stream", "stream_options")
_OF_THE_ACCOUNT = (
    *("user", "safety_identifier", "metadata", "store", "previous_response_id", "conversation"),
    *("background", "prompt", "mcp_servers", "container"),
)
"""What the gateway itself replaces or refuses; an operator may drop it, or refuse it to all."""
KEYS = ("drop", "error", "rename", "default", "clamp")


@dataclass(frozen=True, slots=True)
class ParametersConfig:
    """What is dropped, refused and renamed, by the caller's names, and then filled in and bounded.

    `dropped_tools` are kinds of tools, as patterns that may end in a star; `defaults` are JSON; `bounds`
    are the least and the most, None for no such bound.
    """

    dropped: tuple[str, ...] = ()
    dropped_tools: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    defaults: tuple[tuple[str, bytes], ...] = ()
    bounds: tuple[tuple[str, float | None, float | None], ...] = ()


def read_parameters(value: object, path: str, report: Report) -> ParametersConfig | None:
    """Read the policy of an endpoint; None for none."""
    if value is None:
        return None
    block = Block(value, path, report)
    drop, refused = _names(block, "drop"), _names(block, "error")
    for name in refused:
        if name in drop:
            block.error("error", f"{shown(name)} is in drop too: take one of them out")
    found = ParametersConfig(
        tuple(name for name in drop if not name.startswith(TOOL)),
        tuple(name[len(TOOL) :] for name in drop if name.startswith(TOOL)),
        refused,
        _renamed(block),
        _defaults(block),
        _bounds(block),
    )
    block.refuse_unknown()
    if block.is_mapping and found == ParametersConfig():
        report.error(path, f"says nothing: it takes {', '.join(KEYS)}")
    return found


def _names(block: Block, key: str) -> tuple[str, ...]:
    value = block.get(key)
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        block.error(key, f"must be a list of names, found {kind_of(value)}")
        return ()
    names = []
    for index, name in enumerate(value):
        where = f"{key}[{index}]"
        is_tool = key == "drop" and isinstance(name, str) and name.startswith(TOOL)
        if is_tool and _TOOL.fullmatch(name[len(TOOL) :]) is None:
            block.error(where, f"must name a kind of tool, such as tools.web_search, found {shown(name)}")
        elif is_tool or _is_field(block, where, name):
            names.append(name)
    return tuple(names)


def _is_field(block: Block, where: str, name: object, *, is_set: bool = False) -> bool:
    """Note what is wrong with a name; say whether it is fine. With `is_set` the field would get a value."""
    if not isinstance(name, str) or _FIELD.fullmatch(name) is None:
        block.error(where, f"must be the name of a field, found {shown(name)}")
    elif name in _OURS:
        block.error(where, f"{name} is for the gateway itself to set")
    elif is_set and name in _OF_THE_ACCOUNT:
        block.error(where, f"{name} reaches into the provider's account; it can only be dropped or refused")
    else:
        return True
    return False


def _mapping(block: Block, key: str) -> Mapping[object, object]:
    value = block.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        block.error(key, f"must be a mapping, found {kind_of(value)}")
        return {}
    return value


def _renamed(block: Block) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for old, new in _mapping(block, "rename").items():
        where = f"rename.{old}"
        if _is_field(block, where, old) and _is_field(block, where, new, is_set=True):
            if old == new:
                block.error(where, "is its name already")
            found.append((str(old), str(new)))
    return tuple(found)


def _defaults(block: Block) -> tuple[tuple[str, bytes], ...]:
    found: list[tuple[str, bytes]] = []
    for name, value in _mapping(block, "default").items():
        where = f"default.{name}"
        if not _is_field(block, where, name, is_set=True):
            continue
        encoded = _json(value)
        if encoded is None:
            block.error(where, "must be a value that JSON has, and not null")
        else:
            found.append((str(name), encoded))
    return tuple(found)


def _json(value: object) -> bytes | None:
    try:
        encoded = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    is_same = msgspec.json.decode(encoded) == value  # JSON has no infinity, and no names but texts
    return encoded if is_same and value is not None else None


def _bounds(block: Block) -> tuple[tuple[str, float | None, float | None], ...]:
    found: list[tuple[str, float | None, float | None]] = []
    for name, value in _mapping(block, "clamp").items():
        where = f"clamp.{name}"
        if not _is_field(block, where, name, is_set=True):
            continue
        if isinstance(value, Mapping):
            inner = Block(value, block.at(where), block.report)
            least, most = _number(inner, "min"), _number(inner, "max")
            inner.refuse_unknown()
            if least is None and most is None:
                block.error(where, "must have a min or a max")
            elif least is not None and most is not None and least > most:
                block.error(where, f"has a min of {shown(least)}, above its max of {shown(most)}")
        else:
            least, most = None, _as_number(value)
            if most is None:
                block.error(where, f"must be a number, or a mapping with min and max, found {shown(value)}")
        found.append((str(name), least, most))
    return tuple(found)


def _number(block: Block, key: str) -> float | None:
    value = block.get(key)
    number = _as_number(value)
    if value is not None and number is None:
        block.error(key, f"must be a number, found {shown(value)}")
    return number


def _as_number(value: object) -> float | None:
    """Return a number as it is, whole ones whole; None for what is none, or has no end."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None
