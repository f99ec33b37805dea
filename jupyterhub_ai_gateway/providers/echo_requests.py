"""What the echo wants of a request: the shape of every field that it reads. Whatever else is there passes.

A host would refuse the same with a 400. The texts here name fields and types, never what is in them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ..vocabulary import CHAT, COMPLETIONS, EMBEDDINGS

Document = dict[str, Any]

MAX_CHOICES = 16
MAX_PROMPTS = 128
MAX_INPUTS = 2048
MAX_DIMENSIONS = 4096

_FIELD = re.compile(r"at `\$\.([a-z_]+)|missing required field `([a-z_]+)`$")
_Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
_Text = str | Annotated[list[str | int | list[int]], Meta(min_length=1)]


class BadRequestError(Exception):
    """What a host would refuse; `param` names the field, where it is one."""

    def __init__(self, message: str, param: str | None) -> None:
        super().__init__(message)
        self.param = param


class _Message(Struct):
    role: str
    content: Any = None


class _Function(Struct):
    name: str
    parameters: Document | None = None


class _Tool(Struct):
    function: _Function | None = None


class _Named(Struct):
    name: str | None = None


class _ToolChoice(Struct):
    function: _Named | None = None


class _JsonSchema(Struct):
    schema: Document | None = None


class _ResponseFormat(Struct):
    type: str
    json_schema: _JsonSchema | None = None


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Request(Struct):
    model: str = ""


class _Generation(_Request, kw_only=True):
    n: _Choices | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class _Chat(_Generation, kw_only=True):
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _ToolChoice | None = None
    response_format: _ResponseFormat | None = None


class _Completion(_Generation, kw_only=True):
    prompt: _Text


class _Embeddings(_Request, kw_only=True):
    input: _Text
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    encoding_format: str | None = None


_SHAPES = {CHAT.path: _Chat, COMPLETIONS.path: _Completion, EMBEDDINGS.path: _Embeddings}


def read_request(path: str, body: bytes) -> Document:
    """Return the body as it is, its fields checked; `BadRequestError` where one has another shape."""
    try:
        request: Document = msgspec.json.decode(body)
        msgspec.convert(request, _SHAPES[path])
    except msgspec.DecodeError as error:
        field = _FIELD.search(str(error))
        raise BadRequestError(str(error), field and (field[1] or field[2])) from None
    return request


def texts(request: Document, name: str, most: int) -> list[str]:
    """Return a field's texts, at most `most`; the numbers of tokens count as words."""
    value = request[name]
    items = value if isinstance(value, list) else [value]
    if all(isinstance(item, int) for item in items):
        items = [items]
    if any(isinstance(item, int) for item in items):
        raise BadRequestError(f"{name} mixes texts and numbers.", name)
    if len(items) > most:
        raise BadRequestError(f"{name} may hold {most} texts at most.", name)
    return [" ".join(map(str, item)) if isinstance(item, list) else item for item in items]
