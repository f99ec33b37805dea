"""Values that fit a JSON Schema, as far as types, required keys, enums and references go.

The schema comes from a caller, so nothing about it is taken for granted, and the work is bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec

_DEPTH = 8
_MAX_VALUES = 1000
_MAX_ITEMS = 8
_MAX_CHARS = 1000


def sample_of(schema: Any) -> Any:
    """Return a value for a schema. Beyond the bounds, what is left out is null or missing."""
    return _Sampler(schema, _MAX_VALUES).value(schema, _DEPTH)


@dataclass(slots=True)
class _Sampler:
    """Makes one value. `left` is how many more values, or pieces of long ones, may go into it."""

    root: Any
    left: int

    def value(self, schema: Any, depth: int) -> Any:
        self.left -= 1
        if not isinstance(schema, dict) or depth == 0 or self.left < 0:
            return None
        if "$ref" in schema:
            return self.value(self._resolved(schema["$ref"]), depth - 1)
        for key in ("const", "default"):
            if key in schema:
                return self._given(schema[key])
        if _list(schema, "enum"):
            return self._given(schema["enum"][0])
        for key in ("anyOf", "oneOf", "allOf"):
            if _list(schema, key):
                return self.value(schema[key][0], depth - 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = kind[0] if kind else "null"
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            count = min(max(1, _number(schema, "minItems", 1)), _MAX_ITEMS)
            return [self.value(schema.get("items"), depth - 1) for _ in range(math.ceil(count))]
        if kind in ("integer", "number"):
            least = _number(schema, "minimum", 1)
            return math.ceil(least) if kind == "integer" else least
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return self._given("echo".ljust(math.ceil(min(_number(schema, "minLength", 0), _MAX_CHARS)), "o"))

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        found: dict[str, Any] = {}
        for name in _list(schema, "required"):
            if self.left <= 0:
                break
            found[str(name)] = self.value(known.get(str(name), {}), depth - 1)
        return found

    def _given(self, value: Any) -> Any:
        """Return a value that is there already, and count how long it is."""
        self.left -= len(msgspec.json.encode(value)) // 8
        return value

    def _resolved(self, reference: Any) -> Any:
        if not isinstance(reference, str) or len(reference) > _MAX_CHARS:
            return None
        found = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(part) if isinstance(found, dict) and part else found
        return found


def _list(schema: dict[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _number(schema: dict[str, Any], key: str, default: int) -> float:
    value = schema.get(key)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else default
