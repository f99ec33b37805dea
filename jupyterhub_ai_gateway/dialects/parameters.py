"""The operator's will about the fields that callers send: an endpoint's `parameters`.

In this order: some are refused, some dropped, some renamed; then what is missing is filled in, and numbers
are brought within their bounds. null counts as missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from ..config import ParametersConfig
from ..errors import RequestFault
from .policy import type_of, typed_items

Fields = dict[str, msgspec.Raw]

_NULL = b"null"
_NOTHING = msgspec.Raw()
_NEED_TOOLS = ("tool_choice", "parallel_tool_calls")
_encode = msgspec.json.Encoder().encode
_number = msgspec.json.Decoder(int | float).decode


class Told(NamedTuple):
    """What callers should know: the names of what was left out, and of numbers that were changed."""

    dropped: tuple[str, ...] = ()
    clamped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameters:
    """One endpoint's policy."""

    config: ParametersConfig

    @property
    def names(self) -> frozenset[str]:
        """Return every name of a field that it is about."""
        config = self.config
        found = {*config.dropped, *config.refused, *(name for pair in config.renamed for name in pair)}
        found.update(name for name, _ in config.defaults)
        return frozenset(found.union(name for name, _, _ in config.bounds))

    def apply(self, given: Fields) -> tuple[Fields, Told]:
        """Return the fields as the operator wants them. `RequestFault` for one that is refused."""
        fields = {name: raw for name, raw in given.items() if bytes(raw) != _NULL}
        for name in self.config.refused:
            if name in fields:
                text = (
                    f"{name}: the operator of this gateway does not allow it for this model. Leave it out."
                )
                raise RequestFault(text, slug="parameter_refused", param=name)
        dropped = [name for name in self.config.dropped if fields.pop(name, None) is not None]
        if self.config.dropped_tools and "tools" in fields:
            dropped += self._drop_tools(fields)
        for old, new in self.config.renamed:
            dropped += _rename(fields, old, new)
        for name, value in self.config.defaults:
            fields.setdefault(name, msgspec.Raw(value))
        bounds = self.config.bounds
        clamped = tuple(name for name, least, most in bounds if _clamp(fields, name, least, most))
        return fields, Told(tuple(dropped), clamped)

    def _drop_tools(self, fields: Fields) -> list[str]:
        """Take tools out by their kind, and what makes no sense without them."""
        tools = typed_items(fields["tools"])
        gone = {kind for _, kind in tools if kind is not None and self._drops(kind)}
        if not gone:
            return []
        kept = [raw for raw, kind in tools if kind not in gone]
        dropped = [f"tools.{kind}" for kind in sorted(gone)]
        if kept:
            fields["tools"] = msgspec.Raw(_encode(kept))
            if "tool_choice" in fields and type_of(fields["tool_choice"]) in gone:
                del fields["tool_choice"]
                dropped.append("tool_choice")
            return dropped
        del fields["tools"]
        return dropped + [name for name in _NEED_TOOLS if fields.pop(name, None) is not None]

    def _drops(self, kind: str) -> bool:
        return any(
            kind.startswith(each[:-1]) if each.endswith("*") else kind == each
            for each in self.config.dropped_tools
        )


def _rename(fields: Fields, old: str, new: str) -> list[str]:
    """Rename a field; one that has the new name already stays, and the old one is named as dropped."""
    raw = fields.pop(old, None)
    if raw is None:
        return []
    if new in fields:
        return [old]
    fields[new] = raw
    return []


def _clamp(fields: Fields, name: str, least: float | None, most: float | None) -> bool:
    """Bring a number within its bounds; say whether that changed it."""
    try:
        value = _number(fields.get(name, _NOTHING))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False  # not there, or no number: the provider will say what it thinks of it
    bound = value
    if least is not None and value < least:
        bound = least
    elif most is not None and value > most:
        bound = most
    if bound == value:
        return False
    fields[name] = msgspec.Raw(_encode(bound))
    return True
