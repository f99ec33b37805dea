"""MLflow's own forms of a request and an answer, where they differ from OpenAI's.

Before 2.9 MLflow had a format of its own (`candidate_count`, `text`; answers with `candidates`), called
legacy here. Since then its bodies are OpenAI's, but for the temperature, whose range MLflow turns into
each provider's own, and for the chunks of streamed completions. What comes in is turned into OpenAI's form
before anything else reads it, what goes out is turned back at the very end.

Source: mlflow/gateway/schemas, mlflow/gateway/providers of 2.5.0, 2.8.1, 2.12.1, 3.18.0 (read 2026-11).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from ..errors import RequestFault, UpstreamBroken
from ..vocabulary import CHAT, COMPLETIONS, EMBEDDINGS, Operation
from .openai_stream import data_of
from .opening import Asked, Fields, open_request

FIRST_WITH_OPENAI_FORMAT = (2, 9)
FIRST_WITH_ANY_PROVIDER = (2, 8)
"""Older clients take a route of four providers alone."""
MOST_CANDIDATES = 5
MAX_CHUNK_BYTES = 1024 * 1024
"""A chunk longer than this is passed on as it is."""

_USER_AGENT = re.compile(r"\bmlflow-python-client/(\d{1,4})\.(\d{1,4})")
_LEGACY_ONLY = ("candidate_count", "text", "texts")
_OPENAI_ONLY = ("n", "input")
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_NOTHING: Final = (b"null", b"false")

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(Fields).decode
_number = msgspec.json.Decoder(float).decode
_whole = msgspec.json.Decoder(int).decode


def client_version(user_agent: str) -> tuple[int, int] | None:
    """Return the version of MLflow that asks; None for anybody else."""
    found = _USER_AGENT.search(user_agent)
    return None if found is None else (int(found[1]), int(found[2]))


def is_legacy(user_agent: str, body: bytes) -> bool:
    """Say whether a request wants MLflow's format before 2.9, by who asks, else by what it says."""
    version = client_version(user_agent)
    if version is not None and version < FIRST_WITH_OPENAI_FORMAT:
        return True
    names = _open(body) or {}
    has_legacy = any(name in names for name in _LEGACY_ONLY)
    return has_legacy and not any(name in names for name in _OPENAI_ONLY)


def operation_of(body: bytes) -> Operation:
    """Return what a body asks for, where the path does not say: by `messages`, `input` or `prompt`."""
    names = _open(body) or {}
    if "messages" in names:
        return CHAT
    return EMBEDDINGS if "input" in names else COMPLETIONS if "prompt" in names else CHAT


@dataclass(frozen=True, slots=True)
class MlflowForm:
    """How a request by one of MLflow's paths is read.

    `own_models` are what the body may give as its model although the path names one. The temperature
    is MLflow's, for `scaled` to turn into the provider's, unless `scales` is false; `default_temperature`
    is sent where the caller sends none.
    """

    is_legacy: bool = False
    scales: bool = True
    own_models: frozenset[str] = frozenset()
    default_temperature: float | None = None

    def open(self, operation: Operation, body: bytes, path_model: str | None) -> Asked:
        """Do what `open_request` does, after turning the body into OpenAI's form."""
        fields = _open(body)
        if fields is None:
            return open_request(operation, body, path_model)  # which says what is wrong with it
        if path_model is not None and _text(fields.get("model")) in self.own_models:
            del fields["model"]
        if self.is_legacy:
            _from_legacy(operation, fields)
        if self.default_temperature is not None and operation is not EMBEDDINGS:
            fields.setdefault("temperature", msgspec.Raw(_encode(self.default_temperature)))
        return open_request(operation, _encode(fields), path_model)

    def scaled(self, asked: Asked, scale: float) -> Asked:
        """Return a request with the temperature turned into a provider's range."""
        temperature = _as_number(asked.fields.get("temperature"))
        if not self.scales or scale == 1.0 or temperature is None:
            return asked
        fields = {**asked.fields, "temperature": msgspec.Raw(_encode(temperature * scale))}
        return replace(asked, fields=fields)


def _open(body: bytes) -> Fields | None:
    try:
        return _fields(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _text(raw: msgspec.Raw | None) -> str | None:
    try:
        return None if raw is None else msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _as_number(raw: msgspec.Raw | None) -> float | None:
    try:
        return None if raw is None else _number(raw)
    except msgspec.DecodeError:
        return None


def _from_legacy(operation: Operation, fields: Fields) -> None:
    """Turn a request of the format before 2.9 into OpenAI's, in place. What is not named stays."""
    if bytes(fields.get("stream", b"false")) not in _NOTHING:
        text = (
            "stream: MLflow's format before 2.9 has no streams. Call /endpoints/NAME/invocations for one."
        )
        raise RequestFault(text, param="stream")
    if operation is EMBEDDINGS:
        _rename_texts(fields)
        return
    if "n" in fields:
        raise RequestFault("Invalid parameter `n`. Use `candidate_count` instead.", param="n")
    if "candidate_count" in fields:
        fields["n"] = _candidates(fields.pop("candidate_count"))
    if "temperature" in fields:
        temperature = _as_number(fields["temperature"])
        if temperature is None or not 0.0 <= temperature <= 1.0:
            text = "temperature must be a number from 0 to 1 in MLflow's format before 2.9."
            raise RequestFault(text, param="temperature")
        fields["temperature"] = msgspec.Raw(_encode(2.0 * temperature))


def _candidates(raw: msgspec.Raw) -> msgspec.Raw:
    try:
        is_right = 1 <= _whole(raw) <= MOST_CANDIDATES
    except msgspec.DecodeError:
        is_right = False
    if not is_right:
        text = f"candidate_count must be a whole number from 1 to {MOST_CANDIDATES}."
        raise RequestFault(text, param="candidate_count")
    return raw


def _rename_texts(fields: Fields) -> None:
    given = [name for name in ("input", "text", "texts") if name in fields]
    if len(given) > 1:
        raise RequestFault(f"{' and '.join(given)} mean the same; send one of them.", param=given[1])
    if given:
        fields["input"] = fields.pop(given[0])


def legacy_answer(operation: Operation, body: bytes) -> bytes:
    """Turn a whole answer of OpenAI's form into the one before MLflow 2.9."""
    try:
        document = msgspec.json.decode(body)
        usage = document.get("usage") or {}
        metadata = {
            "input_tokens": usage.get("prompt_tokens"),
            "output_tokens": 0 if operation is EMBEDDINGS else usage.get("completion_tokens"),
            "total_tokens": usage.get("total_tokens"),
            "model": document.get("model"),
            "route_type": operation.endpoint_type,
        }
        if operation is EMBEDDINGS:
            found = {"embeddings": [each["embedding"] for each in document["data"]]}
        else:
            found = {"candidates": [_candidate(operation, each) for each in document["choices"]]}
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, RecursionError):
        text = "The model's provider sent an answer that cannot be told in MLflow's format before 2.9."
        raise UpstreamBroken(text, detail="the answer is not of OpenAI's form") from None
    return _encode({**found, "metadata": metadata})


def _candidate(operation: Operation, choice: dict[str, Any]) -> dict[str, Any]:
    metadata = {"finish_reason": choice.get("finish_reason")}
    if operation is COMPLETIONS:
        return {"text": choice["text"], "metadata": metadata}
    message = choice["message"]
    return {
        "message": {"role": message.get("role"), "content": message.get("content")},
        "metadata": metadata,
    }


class CompletionChunks:
    """Turns streamed completions into chunks that every MLflow reads: `text` as OpenAI has it, and `delta`.

    `feed` every piece, then `close`; what they return is sent.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Take a piece, however it was cut, and return what can be sent."""
        data = self._held + piece
        done: list[bytes] = []
        start = 0
        for end in _EVENT_END.finditer(data):
            done.append(_chunk(data[start : end.end()]))
            start = end.end()
        self._held = data[start:]
        if len(self._held) > MAX_CHUNK_BYTES:
            done.append(self.close())
        return b"".join(done)

    def close(self) -> bytes:
        """Return what is left."""
        held, self._held = self._held, b""
        return held


def _chunk(event: bytes) -> bytes:
    """Return an event with `delta` beside each `text`; any other event as it is."""
    try:
        document = msgspec.json.decode(data_of(event))
        for choice in document["choices"]:
            choice["delta"] = {"role": "assistant", "content": choice["text"]}
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
        return event
    document["object"] = "text_completion_chunk"
    return b"data: " + _encode(document) + b"\n\n"
