"""What the halves of all codecs share: signatures in their envelope, data URLs, names of tools, turns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec

from ..errors import UpstreamBroken
from ..vocabulary import Usage
from .canonical import (
    Answer,
    Call,
    Event,
    Json,
    Media,
    MediaKind,
    Named,
    Opaque,
    Part,
    Request,
    Result,
    Role,
    Text,
    Thinking,
    Turn,
)
from .loss import Loss, wrong

encode_json = msgspec.json.Encoder().encode
decode_json = msgspec.json.Decoder().decode

ENVELOPE: Final = "aig1."
"""How what only its maker can read begins where a caller keeps it for us: `aig1.MAKER.BLOB`."""
_DATA_URL = re.compile(r"data:([\w.+/-]*)((?:;[\w.+=-]+)*?)(;base64)?,", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_-]+")
MAX_HELD_CHARS = 8 * 1024 * 1024
"""How much of an answer is held where a format repeats all of it at the end."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an answer is written with. `created` is seconds of Unix time; `model` is for an untold one.

    `request` is what was asked, for formats whose answers repeat some of it.
    """

    request_id: str
    created: int
    model: str
    request: Request
    wants_usage: bool = True


class Decoder(Protocol):
    """Reads a provider's stream, event by event."""

    def feed(self, name: str, body: bytes) -> Iterable[Event]:
        """Read one event. `UpstreamBroken` for one that cannot be read."""

    def close(self) -> Iterable[Event]:
        """Return what is left at the regular end; `UpstreamBroken` when it came too early."""


class Encoder(Protocol):
    """Writes a stream for a caller, event by event."""

    def encode(self, event: Event) -> bytes:
        """Write what an event is in this format; nothing where it has no such event."""

    def close(self) -> bytes:
        """Write what the stream ends with."""


@dataclass(frozen=True, slots=True)
class Manners:
    """Where a host departs from the format that it speaks, as far as translation is concerned.

    `max_tokens` is Chat's name of the bound, `default_max_tokens` the one of a format that must have one.
    `model` is the host's name of the model, `where` the deployment's name in errors. `longest_name` bounds
    the names of tools, `call_ids` is the pattern that ids of their calls must match. `is_chat` is true for
    a served MLflow model that takes messages. Without `names_model` the body does not say which model.
    """

    model: str = ""
    where: str = ""
    max_tokens: str = "max_tokens"
    takes_top_k: bool = False
    takes_custom_tools: bool = False
    takes_reasoning: bool = True
    takes_cache_key: bool = False
    takes_user: bool = True
    takes_sampling: bool = True
    takes_call_ids: bool = True
    is_mistral: bool = False
    is_chat: bool = False
    names_model: bool = True
    longest_name: int = 64
    call_ids: re.Pattern[str] = re.compile(r"[A-Za-z0-9_-]{1,64}")


def wrap(opaque: Opaque | None) -> str:
    """Return what a caller keeps of what only its maker can read; a bare envelope when that is nothing."""
    return f"{ENVELOPE}text." if opaque is None else f"{ENVELOPE}{opaque.maker}.{opaque.blob}"


def unwrap(kept: str | None, usual_maker: str) -> Opaque | None:
    """Read what a caller kept; `usual_maker` made what comes without an envelope."""
    if not kept:
        return None
    if not kept.startswith(ENVELOPE):
        return Opaque(usual_maker, kept)
    maker, _, blob = kept.removeprefix(ENVELOPE).partition(".")
    return Opaque(maker, blob) if blob else None


def media_of_url(url: str, path: str, kind: MediaKind = "image", **more: Any) -> Media:
    """Read a URL, which may hold the data itself."""
    if not url.startswith("data:"):
        if not url.startswith(("https://", "http://")):
            raise wrong(path, "must be a URL that begins with https:// or data:")
        return Media(kind, url=url, **more)
    found = _DATA_URL.match(url)
    if found is None or not found[3]:
        raise wrong(path, "must be a data URL in base64, such as data:image/png;base64,…")
    return Media(kind, found[1] or None, base64=url[found.end() :], **more)


def data_url(media: Media, default_type: str) -> str:
    """Return the URL of a medium."""
    return media.url or f"data:{media.media_type or default_type};base64,{media.base64 or ''}"


def text_of(parts: Iterable[Part]) -> str:
    """Join all words."""
    return "".join(part.text for part in parts if isinstance(part, Text))


def merged(turns: Iterable[Turn]) -> Iterator[Turn]:
    """Join turns of the same side that follow each other."""
    role: Role | None = None
    parts: list[Part] = []
    for turn in turns:
        if turn.role != role and role is not None:
            yield Turn(role, parts)
            parts = []
        role = turn.role
        parts = [*parts, *turn.parts]
    if role is not None:
        yield Turn(role, parts)


def system_apart(request: Request) -> tuple[list[Text], list[Turn]]:
    """Part what the operator of the conversation says from the rest, for formats that have a place for it.

    Whatever place it had, it comes first then, in its order.
    """
    system = [
        part
        for turn in request.turns
        if turn.role == "system"
        for part in turn.parts
        if isinstance(part, Text)
    ]
    return system, [turn for turn in request.turns if turn.role != "system"]


class Names:
    """Names of tools and of their calls in the words of a host that takes fewer letters than the caller's.

    What has to be changed gets a short hash, so that two names never meet; `of` and `back` are inverse.
    """

    __slots__ = ("_back", "_call_ids", "_longest")

    def __init__(self, request: Request, manners: Manners) -> None:
        self._longest = manners.longest_name
        self._call_ids = manners.call_ids
        self._back = {
            self.of(tool.name): tool.name for tool in request.tools if self.of(tool.name) != tool.name
        }

    def of(self, name: str) -> str:
        """Return the host's name of a tool."""
        if len(name) <= self._longest and _NAME.fullmatch(name):
            return name
        mark = hashlib.sha256(name.encode()).hexdigest()[:8]
        return re.sub(r"[^A-Za-z0-9_-]", "_", name)[: self._longest - 9] + "_" + mark

    def back(self, name: str) -> str:
        """Return the caller's name of a tool."""
        return self._back.get(name, name)

    def id(self, call_id: str) -> str:
        """Return the host's id of a call; the same for its result."""
        if self._call_ids.fullmatch(call_id):
            return call_id
        return hashlib.sha256(call_id.encode()).hexdigest()[:9]


@dataclass(frozen=True, slots=True)
class Back:
    """What a back half is given: the request that it wrote decides how the answer is read."""

    request: Request
    names: Names
    manners: Manners
    customs: frozenset[str]

    @classmethod
    def of(cls, request: Request, manners: Manners) -> Back:
        customs = frozenset(tool.name for tool in request.tools if tool.is_custom)
        return cls(request, Names(request, manners), manners, customs)

    def call(self, id_: str, name: str, arguments: str, opaque: Opaque | None = None) -> Call:
        """Return a call as the caller knows the tool."""
        own = self.names.back(name)
        is_custom = own in self.customs
        if is_custom and not self.manners.takes_custom_tools:
            arguments = unpacked(arguments)
        return Call(id_, own, arguments, is_custom, opaque)


def packed(text: str) -> str:
    """Return a custom tool's text as arguments, for hosts whose tools all take JSON."""
    return encode_json({"input": text}).decode()


def unpacked(arguments: str) -> str:
    """Return a custom tool's text of arguments that a model wrote, or those if they are something else."""
    try:
        found = decode_json(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    if isinstance(found, dict) and isinstance(found.get("input"), str):
        return str(found["input"])
    return arguments


def custom_schema(grammar: Json) -> tuple[Json, str]:
    """Return the schema of a custom tool for hosts without them, and what the model is told about it."""
    schema = {
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": False,
    }
    if not isinstance(grammar, dict) or "definition" not in grammar:
        return schema, ""
    return (
        schema,
        f"\n\nThe input must follow this {grammar.get('syntax', '')} grammar:\n{grammar['definition']}",
    )


def arguments_object(arguments: str) -> dict[str, Json]:
    """Return arguments as an object, for formats that have them so."""
    try:
        found = decode_json(arguments) if arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        return {"invalid_json": arguments}
    return found if isinstance(found, dict) else {"value": found}


def results_of(parts: Sequence[Part]) -> tuple[list[Result], list[Part]]:
    """Part the results of tools from what else the user says."""
    return (
        [part for part in parts if isinstance(part, Result)],
        [part for part in parts if not isinstance(part, Result)],
    )


def calls_of(request: Request) -> dict[str, Call]:
    """Return all calls of a conversation by their ids."""
    return {part.id: part for turn in request.turns for part in turn.parts if isinstance(part, Call)}


def only_names(request: Request) -> Request:
    """Offer only the tools that may be chosen, for formats that cannot say so otherwise."""
    choice = request.choice
    if not isinstance(choice, Named) or (choice.must and len(choice.names) == 1):
        return request
    tools = [tool for tool in request.tools if tool.name in choice.names]
    return replace(request, tools=tools, choice="required" if choice.must else "auto")


def thoughts(parts: Iterable[Part], maker: str | None) -> Iterator[Thinking]:
    """Return the thoughts that a host may be sent: its own, and those that anybody can read."""
    for part in parts:
        if isinstance(part, Thinking) and (part.opaque is None or part.opaque.maker == maker):
            yield part


def usage_or_none(usage: Usage | None) -> Usage:
    """Return a usage, of which nothing may be known."""
    return usage or Usage()


def broken(detail: str) -> UpstreamBroken:
    """Return the fault of an answer that cannot be read; `detail` never quotes it."""
    return UpstreamBroken("The model's provider sent an answer that cannot be read.", detail=detail)


def items_of(value: Json) -> list[Json]:
    """Return the items of a list that a provider sent; none where there is none. `UpstreamBroken` else."""
    if value is None or value is False or value == {} or value == "":
        return []
    if not isinstance(value, list):
        raise broken("what must be a list is none")
    return value


def objects_of(value: Json) -> list[dict[str, Json]]:
    """Return the objects of such a list; `UpstreamBroken` where one of them is none."""
    found = items_of(value)
    if not all(isinstance(each, dict) for each in found):
        raise broken("what must be a list of objects holds something else")
    return found


def ended_early() -> UpstreamBroken:
    """Return the fault of a stream that stops in the middle."""
    return UpstreamBroken(
        "The model's provider ended its answer in the middle.", detail="the stream has no end"
    )


class ToldError(Exception):
    """A provider tells an error where an answer should be; `body` is what it says."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class FrontCodec(Protocol):
    """The half that faces a caller."""

    def decode_request(self, fields: dict[str, Json], loss: Loss) -> Request:
        """Read a request; `RequestFault` names the field that is wrong."""

    def encode_answer(self, answer: Answer, context: Context) -> Json:
        """Write an answer."""

    def encoder(self, context: Context) -> Encoder:
        """Return what writes a stream."""


class BackCodec(Protocol):
    """The half that faces a provider."""

    def encode_request(self, back: Back, loss: Loss) -> dict[str, Json]:
        """Write a request, all but the model; `Untranslatable` for what the format cannot say."""

    def decode_answer(self, document: Json, back: Back) -> Answer:
        """Read an answer; `UpstreamBroken` for what is none."""

    def decoder(self, back: Back) -> Decoder:
        """Return what reads a stream."""
