"""Whether a document is what a vendor's published types say: every field known, every value of its type.

The SDKs' own types are the judge. They are walked here because pydantic would let unknown fields and lazy
lists through.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from typing import Any

import pydantic
import typing_extensions

_LISTS = (list, collections.abc.Iterable, collections.abc.Sequence)


def complaint(value: Any, kind: Any, path: str = "") -> str | None:
    """Return what is wrong with a value, the first thing found; None when it is all right."""
    if typing_extensions.is_typeddict(kind):
        return _object(value, kind, path)
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return _model(value, kind, path)
    kind = _without_alias(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Annotated, typing_extensions.Required, typing_extensions.NotRequired):
        return complaint(value, typing.get_args(kind)[0], path)
    if origin is typing.Literal:
        return None if value in typing.get_args(kind) else f"{path}: {value!r} is not one of {kind}"
    if origin in (typing.Union, types.UnionType):
        return _union(value, kind, path)
    if origin in _LISTS:
        return _list(value, typing.get_args(kind)[0], path)
    if origin in (dict, collections.abc.Mapping):
        if not isinstance(value, dict):
            return f"{path}: not an object"
        inner = typing.get_args(kind)[1]
        return _first(complaint(item, inner, f"{path}.{name}") for name, item in value.items())
    return _plain(value, kind, path)


def _without_alias(kind: Any) -> Any:
    """Return what a named type stands for."""
    while True:
        origin = typing.get_origin(kind)
        if isinstance(kind, typing_extensions.TypeAliasType):
            kind = kind.__value__
        elif isinstance(origin, typing_extensions.TypeAliasType):
            kind = origin.__value__[typing.get_args(kind)]
        else:
            return kind


def _plain(value: Any, kind: Any, path: str) -> str | None:
    if kind in (Any, object):
        return None
    if kind is None or kind is type(None):
        return None if value is None else f"{path}: not null"
    if kind is float:
        is_right = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind is int:
        is_right = isinstance(value, int) and not isinstance(value, bool)
    elif kind in (str, bool, dict, list):
        is_right = isinstance(value, kind)
    else:
        return f"{path}: no JSON is {kind}"
    return None if is_right else f"{path}: {type(value).__name__} is not {kind.__name__}"


def _object(value: Any, kind: Any, path: str) -> str | None:
    if not isinstance(value, dict):
        return f"{path}: not an object"
    hints = typing_extensions.get_type_hints(kind, include_extras=True)
    for name in kind.__required_keys__:
        if name not in value:
            return f"{path}.{name}: missing"
    for name, item in value.items():
        if name not in hints:
            return f"{path}.{name}: unknown to {kind.__name__}"
        found = complaint(item, hints[name], f"{path}.{name}")
        if found is not None:
            return found
    return None


def _model(value: Any, kind: type[pydantic.BaseModel], path: str) -> str | None:
    if not isinstance(value, dict):
        return f"{path}: not an object"
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    for name, field in fields.items():
        if field.is_required() and name not in value:
            return f"{path}.{name}: missing"
    for name, item in value.items():
        if name not in fields:
            return f"{path}.{name}: unknown to {kind.__name__}"
        found = complaint(item, fields[name].annotation, f"{path}.{name}")
        if found is not None:
            return found
    return None


def as_arguments(
    value: dict[str, Any], function: typing.Callable[..., Any], passed: set[str]
) -> str | None:
    """Return what is wrong with a body whose fields are arguments of an SDK; `passed` are others it has."""
    hints = typing_extensions.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        is_required = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        if is_required and name not in value:
            return f"{name}: missing"
    for name, item in value.items():
        if name in passed:
            continue
        if name not in hints:
            return f"{name}: unknown"
        found = complaint(item, hints[name], name)
        if found is not None:
            return found
    return None


def _union(value: Any, kind: Any, path: str) -> str | None:
    found = []
    for each in typing.get_args(kind):
        one = complaint(value, each, path)
        if one is None:
            return None
        found.append(one)
    return max(found, key=len)  # the one that got furthest says most


def _list(value: Any, kind: Any, path: str) -> str | None:
    if not isinstance(value, list):
        return f"{path}: not a list"
    return _first(complaint(item, kind, f"{path}[{index}]") for index, item in enumerate(value))


def _first(found: typing.Iterator[str | None]) -> str | None:
    return next((each for each in found if each is not None), None)


def fields_of(kind: Any) -> set[str]:
    """Return the names of a type's fields."""
    return set(typing_extensions.get_type_hints(kind))
