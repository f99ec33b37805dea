"""What is within a Gemini request that concerns everybody: other models, files and tools of the account.

Google's APIs read each name in two spellings, `fileData` and `file_data`, and take a single object where a
list belongs; so does this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..errors import RequestFault
from .parameters import Parameters, Told
from .policy import GEMINI_REFUSED, GEMINI_VERBS, INNER, REFUSE, REFUSE_WITHIN, camel, refused, snake

Fields = dict[str, msgspec.Raw]

MAX_MODEL_CHARS = 256

_LIST = b"["[0]
_NOTHING = (b"null", b"false")
_MAY_NAME_FILES = re.compile(rb'"file(?:Data|_data|Uri|_uri)"|\\u')
_OPAQUE = frozenset({"args", "response", "inlineData", "inline_data"})
"""What is the caller's own, whatever the keys in it are called."""
_FILE = ("fileData", "file_data")
_URI = ("fileUri", "file_uri")
_OWN_HOSTS = ("googleapis.com", "cloud.google.com")
_PUBLIC_HOST = "storage.googleapis.com"
_WITHIN = ("generateContentRequest", "generate_content_request")
_COUNTED_AT_VERTEX = frozenset({"contents", "systemInstruction", "tools", "generationConfig"})
_CONFIG = "generationConfig"
_TUNED = frozenset(
    (
        *("temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences", "seed"),
        *("presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs", "thinkingConfig"),
        *("responseMimeType", "responseJsonSchema", "responseModalities", "mediaResolution"),
    )
)
"""What an operator may fill in."""
_TUNING = {"maxOutputTokens": "maxOutputTokens", "candidateCount": "n"}

_fields = msgspec.json.Decoder(Fields).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def put_model(fields: Fields, path_model: str | None) -> str:
    """Write the path's model into the fields, whatever they say, and return it."""
    model = (path_model or "").removeprefix("models/")
    if not model or len(model) > MAX_MODEL_CHARS:
        text = f"The path names no model of 1 to {MAX_MODEL_CHARS} characters."
        raise RequestFault(text, param="model")
    fields["model"] = msgspec.Raw(_encode(model))
    return model


def tuning(fields: Fields) -> Fields:
    """Return how long an answer may be, and of how many choices, by the names that the estimator knows."""
    config = _opened(fields.get("generationConfig") or fields.get("generation_config"))
    return {_TUNING[camel(name)]: raw for name, raw in config.items() if camel(name) in _TUNING}


def apply(parameters: Parameters, fields: Fields) -> tuple[Fields, Told]:
    """Change a request as an endpoint's parameters say, whose names are those of `generationConfig` too.

    Each counts in both spellings. What would be filled in and is no field of this format is left out.
    """
    names = parameters.names
    top = {_named(name, names): raw for name, raw in fields.items() if camel(name) != _CONFIG}
    config = next((fields[name] for name in (_CONFIG, snake(_CONFIG)) if name in fields), None)
    given = {_named(name, names): raw for name, raw in _opened(config).items()}
    found, told = parameters.apply({**top, **given})
    kept = {camel(name): raw for name, raw in found.items() if name in top}
    tuned = {camel(name): raw for name, raw in found.items() if name not in top}
    own = _TUNED.union(map(camel, given))
    known = {name: raw for name, raw in tuned.items() if name in own}
    if known:
        kept[_CONFIG] = msgspec.Raw(_encode(known))
    return kept, told


def _named(name: str, names: frozenset[str]) -> str:
    """Return the spelling of a name that the operator uses."""
    return camel(name) if camel(name) in names else snake(camel(name))


def check(name: str, raw: msgspec.Raw) -> None:
    """Refuse what is in a field and reaches beyond the request. `RequestFault` names it."""
    kind = camel(name)
    if kind in GEMINI_REFUSED:
        for each in _objects(raw):
            for key, value in each.items():
                if camel(key) in GEMINI_REFUSED[kind] and bytes(value) not in _NOTHING:
                    raise refused(camel(key), f"{name}.{key}")
    elif _MAY_NAME_FILES.search(raw):
        for place, uri in _files(raw):
            if not is_public(uri):
                raise refused("fileData", f"{name}: {place}")


def inner(raw: msgspec.Raw) -> msgspec.Raw:
    """Follow the same verbs in the request within a request for counting; its model is for us to say."""
    fields = _opened(raw)
    for name, verb in GEMINI_VERBS.items():
        if name not in fields:
            continue
        if verb is REFUSE_WITHIN:
            check(name, fields[name])
        elif verb is REFUSE and bytes(fields[name]) not in _NOTHING:
            raise refused(name)
        elif verb is INNER:
            raise RequestFault(f"{name} cannot hold another one.", param=name)
    fields.pop("model", None)
    return msgspec.Raw(_encode(fields))


def _opened(raw: msgspec.Raw | None) -> Fields:
    """Open an object; nothing for what is none, of which the provider will say what it thinks."""
    if raw is None:
        return {}
    try:
        return _fields(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _objects(raw: msgspec.Raw) -> list[Fields]:
    """Open an object, or each of a list of them."""
    if memoryview(raw)[0] != _LIST:
        return [_opened(raw)]
    try:
        return [_opened(each) for each in msgspec.json.decode(raw, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _files(raw: msgspec.Raw) -> Iterator[tuple[str, Any]]:
    """Yield the places and addresses of all files that are named by their address."""
    try:
        waiting: list[Any] = [_decode(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
            continue
        if not isinstance(found, dict):
            continue
        for key, value in found.items():
            if key in _FILE:
                files = value if isinstance(value, list) else [value]
                yield from ((key, uri) for each in files for uri in _uris(each))
            elif key not in _OPAQUE:
                waiting.append(value)


def _uris(file: Any) -> list[Any]:
    return [file[name] for name in _URI if name in file] if isinstance(file, dict) else []


def is_public(uri: Any) -> bool:
    """Say whether the provider reads an address as anybody could, without the account's permissions."""
    if not isinstance(uri, str):
        return uri is None
    try:
        parts = urlsplit(uri.strip())
        host = (parts.hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    if parts.scheme.lower() not in ("http", "https"):
        return False  # gs:// and files/… are read with the account's own permissions
    return bool(host) and (host == _PUBLIC_HOST or not host.endswith(_OWN_HOSTS))


def as_count_request(fields: MutableMapping[str, msgspec.Raw]) -> None:
    """Rewrite a request for counting as Google AI Studio takes it: more than contents is a request within.

    Source: https://ai.google.dev/api/tokens (read 2026-11).
    """
    model = fields.pop("model", None)
    if set(fields) == {"contents"}:
        return
    whole = {**fields}
    for name in _WITHIN:
        whole.update(_opened(whole.pop(name, None)))
    if model is not None:
        whole["model"] = msgspec.Raw(_encode(f"models/{_decode(model)}"))
    fields.clear()
    fields["generateContentRequest"] = msgspec.Raw(_encode(whole))


def as_vertex_count(fields: MutableMapping[str, msgspec.Raw]) -> None:
    """Rewrite a request for counting as Vertex AI takes it: a request within is the request."""
    fields.pop("model", None)
    for name in _WITHIN:
        within = _opened(fields.pop(name, None))
        fields.update((each, raw) for each, raw in within.items() if camel(each) in _COUNTED_AT_VERTEX)
