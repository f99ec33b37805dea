"""Reading the Hub's configuration object as its file left it, without changing it.

It maps sections, which are named after classes, to their values. A value that the operator only added to
(`c.JupyterHub.services.append(…)`) is still lazy: the addition, to be joined to a default later.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any


def value_of(c: Any, section: str, key: str) -> Any:
    """Return what the operator set, or None."""
    return c[section].get(key) if section in c else None


def having(c: Any, ending: str, key: str) -> list[str]:
    """Return the sections of that kind which have a value: KubeSpawner's hides Spawner's."""
    return [name for name in c if name.endswith(ending) and key in c[name]]


def is_lazy(value: Any) -> bool:
    return hasattr(value, "get_value")


def as_list(value: Any) -> list[Any]:
    """Return a list of its own, whatever the operator's is made of."""
    if is_lazy(value):
        # A copy: the lazy value would remember what it was joined to
        kind: set[Any] | list[Any] = set() if value.to_dict().get("update") else []
        value = copy.deepcopy(value).get_value(kind)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return list(value or ())


def as_dict(value: Any) -> dict[str, Any]:
    if is_lazy(value):
        value = copy.deepcopy(value).get_value({})
    return dict(value or {})


def union(there: Iterable[str], more: Iterable[str]) -> list[str]:
    """Return both without repetition, in order."""
    return list(dict.fromkeys([*there, *more]))
