"""The keys of `model.config`, each by the kind that its provider gave it. Values never enter an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

from ..errors import ConfigFault
from .model import ProviderSchema, Setting, SettingKind
from .report import Block, Report
from .secrets import Resolver, Secret
from .words import hint, kind_of, listed, shown_key

T = TypeVar("T")
HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~\-]+"
MOST_KEYS = 100
UNIX = "http+unix"
_SOCKET = re.compile(r"(?i:%2f)[A-Za-z0-9%._~\-]{1,300}")
OWN_HEADERS = (
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
"""Headers that belong to the connection; an operator's value for one could only break it."""


def read_settings(
    value: object, path: str, schema: ProviderSchema, resolver: Resolver, report: Report
) -> Mapping[str, object]:
    """Read `model.config`: every setting of the schema, defaults filled in."""
    block = Block({} if value is None else value, path, report)
    before = len(report.errors)
    settings = {setting.name: _setting(block, setting, schema, resolver) for setting in schema.settings}
    block.refuse_unknown()
    if schema.check is not None and len(report.errors) == before:
        for name, problem in schema.check(settings):
            block.error(name, problem)
    return MappingProxyType(settings)


def read_with_keys(
    value: object, path: str, schema: ProviderSchema, resolver: Resolver, report: Report
) -> list[Mapping[str, object]]:
    """Read `model.config` in which a key may be a list of keys: once for each of them."""
    keys = {
        setting.name: value[setting.name]
        for setting in schema.settings
        if setting.kind == "secret"
        and isinstance(value, Mapping)
        and isinstance(value.get(setting.name), list)
    }
    lengths = {len(each) for each in keys.values()}
    if not keys or not isinstance(value, Mapping):
        return [read_settings(value, path, schema, resolver, report)]
    if len(lengths) > 1 or not 1 <= max(lengths) <= MOST_KEYS:
        report.error(f"{path}.{next(iter(keys))}", f"must be a list of 1 to {MOST_KEYS} keys, all as long")
        return [{setting.name: _default(setting) for setting in schema.settings}]
    found = []
    for index in range(max(lengths)):
        before = len(report.errors)
        one = {**value, **{name: each[index] for name, each in keys.items()}}
        found.append(read_settings(one, path, schema, resolver, report))
        paths = {f"{path}.{name}": f"{path}.{name}[{index}]" for name in keys}
        fresh = [(paths.get(at, at), problem) for at, problem in report.errors[before:]]
        report.errors[before:] = [each for each in fresh if each not in report.errors[:before]]
    return found


def _setting(block: Block, setting: Setting, schema: ProviderSchema, resolver: Resolver) -> object:
    value = block.get(setting.name)
    if value is None and setting.required:
        block.missing(setting.name, f"is required by the provider {schema.name}")
    if setting.kind == "group":
        return _group(value, block.at(setting.name), setting, schema, resolver, block.report)
    if value is None:
        return _default(setting)
    read = _READERS[setting.kind]
    return block.report.collect(lambda: read(value, block.at(setting.name), setting, resolver), None)


def _group(
    value: object, path: str, group: Setting, schema: ProviderSchema, resolver: Resolver, report: Report
) -> Mapping[str, object]:
    block = Block({} if value is None else value, path, report)
    settings = {setting.name: _setting(block, setting, schema, resolver) for setting in group.settings}
    block.refuse_unknown()
    return MappingProxyType(settings)


def _default(setting: Setting) -> object:
    if setting.kind == "headers":
        return setting.default or ()
    if setting.kind == "secret" and isinstance(setting.default, str):
        return Secret(setting.default)
    return setting.default


def _read_secret(value: object, path: str, setting: Setting, resolver: Resolver) -> object:
    return resolver.secret(value, path)


def _read_text(value: object, path: str, setting: Setting, resolver: Resolver) -> str:
    if isinstance(value, date):
        value = value.isoformat()
    if not isinstance(value, str):
        quotes = "; put it in quotes" if isinstance(value, (bool, int, float)) else ""
        raise ConfigFault(path, f"must be text, found {kind_of(value)}{quotes}")
    text = resolver.text(value, path)
    if not text or not text.isprintable():
        raise ConfigFault(path, "holds a control character" if text else "is empty")
    return text


def _read_url(value: object, path: str, setting: Setting, resolver: Resolver) -> str:
    text = _read_text(value, path, setting, resolver)
    problem = url_problem(text)
    if problem:
        raise ConfigFault(path, problem)
    return text.rstrip("/")


def url_problem(text: str, *, may_have_query: bool = False) -> str | None:
    """Say why a text is not the URL of a server; None when it is one."""
    if not all("!" <= letter <= "~" for letter in text):
        return "holds a blank or a character that is not ASCII, so it is no URL"
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port != 0
    except ValueError:
        return "is not a URL"
    if parts.scheme == UNIX and not _SOCKET.fullmatch(parts.netloc):
        return f"must be {UNIX}://, the path of a socket with %2F for each slash, and what follows the host"
    if parts.scheme == UNIX:
        return None if "#" not in text else "must be a URL without a fragment (#)"
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        return "must be a URL that begins with http:// or https:// and a host"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password; credentials belong in settings of their own, kept secret"
    if "#" in text or ("?" in text and not may_have_query):
        return "must be a URL without a query (?) and a fragment (#): the gateway adds paths to it"
    return None


def _read_choice(value: object, path: str, setting: Setting, resolver: Resolver) -> str:
    text = _read_text(value, path, setting, resolver)
    if text.lower() not in setting.choices:
        raise ConfigFault(path, f"must be {listed(setting.choices)}{hint(text, setting.choices)}")
    return text.lower()


def _read_whole(value: object, path: str, setting: Setting, resolver: Resolver) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigFault(path, "must be a whole number above 0")
    return value


def _read_flag(value: object, path: str, setting: Setting, resolver: Resolver) -> bool:
    if not isinstance(value, bool):
        raise ConfigFault(path, f"must be true or false, found {kind_of(value)}")
    return value


def _read_headers(
    value: object, path: str, setting: Setting, resolver: Resolver
) -> tuple[tuple[str, Secret], ...]:
    if not isinstance(value, Mapping):
        raise ConfigFault(path, f"must be a mapping of header names to values, found {kind_of(value)}")
    pairs: dict[str, tuple[str, Secret]] = {}
    for name, content in value.items():
        problem = _header_problem(name, pairs)
        if problem:
            raise ConfigFault(f"{path}.{shown_key(name)}", problem)
        pairs[name.lower()] = (name, resolver.header(content, f"{path}.{name}"))
    return tuple(pairs.values())


def _read_json(value: object, path: str, setting: Setting, resolver: Resolver) -> Secret:
    if isinstance(value, Mapping) and not (len(value) == 1 and {"env", "file"} & set(value)):
        return Secret(json.dumps(value, default=str))
    text = resolver.document(value, path)
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ConfigFault(path, "must be a JSON object, or the path of a file with one")
    return Secret(text)


def _read_words(value: object, path: str, setting: Setting, resolver: Resolver) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [word for word in value.split(",") if word.strip()]
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        raise ConfigFault(path, f"must be a list of texts, found {kind_of(value)}")
    return tuple(each.strip() for each in value)


def _header_problem(name: object, known: Mapping[str, object]) -> str | None:
    if not isinstance(name, str) or not re.fullmatch(HEADER_NAME, name):
        return "is not the name of a header"
    if name.lower() in OWN_HEADERS or name.lower().startswith("proxy-"):
        return "belongs to the connection and cannot be set"
    return "is given twice" if name.lower() in known else None


_READERS: Mapping[SettingKind, Callable[[object, str, Setting, Resolver], object]] = {
    "secret": _read_secret,
    "text": _read_text,
    "url": _read_url,
    "choice": _read_choice,
    "flag": _read_flag,
    "headers": _read_headers,
    "whole": _read_whole,
    "json": _read_json,
    "words": _read_words,
}
