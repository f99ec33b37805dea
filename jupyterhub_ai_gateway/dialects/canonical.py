"""The few types in which strangers meet: a request, an answer, and the events of a stream.

Private to this folder. A codec of a format has up to two halves: the front reads requests and writes
answers, the back writes requests and reads answers; only `bridge` joins two of them. Plain values that are
made anew for each request, so nobody shares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..vocabulary import Usage

Json = Any
"""A value as JSON has it."""

Role = Literal["system", "user", "assistant"]
MediaKind = Literal["image", "audio", "file"]

STOP, STOP_SEQUENCE, LENGTH, TOOLS, FILTER, REFUSED, CONTEXT, PAUSE = (
    "stop",
    "stop_sequence",
    "length",
    "tools",
    "filter",
    "refused",
    "context",
    "pause",
)
"""Why an answer ends. LENGTH is the caller's bound, CONTEXT the model's; PAUSE is to be gone on with."""

AUTO, NONE, REQUIRED = "auto", "none", "required"


@dataclass(frozen=True, slots=True)
class Opaque:
    """What only its maker can read: a signature, or an encrypted thought.

    `maker` is the family of models that made it, such as `anthropic`; nobody else is sent it.
    """

    maker: str
    blob: str


@dataclass(frozen=True, slots=True)
class Citation:
    """Where something in a text comes from. `start` and `end` count characters of the text, if known."""

    url: str
    title: str | None = None
    quote: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Words. `cache` asks to remember all up to here, for "5m" or "1h"; `logprobs` are as Chat has them."""

    text: str
    citations: Sequence[Citation] = ()
    logprobs: Sequence[Json] = ()
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """A picture, a sound or a file: by value (`base64`), by `url`, or as plain `text`; one of the three."""

    kind: MediaKind
    media_type: str | None = None
    base64: str | None = None
    url: str | None = None
    text: str | None = None
    name: str | None = None
    detail: str | None = None
    context: str | None = None
    is_cited: bool = False
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model wants to be run. `arguments` is JSON, or any text where `is_custom`."""

    id: str
    name: str
    arguments: str = ""
    is_custom: bool = False
    opaque: Opaque | None = None
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave."""

    call_id: str
    parts: Sequence[Text | Media] = ()
    is_error: bool = False
    is_custom: bool = False
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the model thought. `is_redacted` is true where all of it is within `opaque`."""

    text: str = ""
    opaque: Opaque | None = None
    is_redacted: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model's own words of why it will not answer."""

    text: str


Part = Text | Media | Call | Result | Thinking | Refusal


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says. Results of tools are the user's."""

    role: Role
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the caller can run. `grammar` is what a custom tool's text must follow, OpenAI's way."""

    name: str
    description: str | None = None
    schema: Json = None
    strict: bool | None = None
    is_custom: bool = False
    grammar: Json = None
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """The tools that the model must choose from, when `must` is true; else those that it may use."""

    names: Sequence[str]
    must: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """What the answer's text must be: JSON, of a schema where there is one."""

    name: str | None = None
    schema: Json = None
    strict: bool | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much to think: by `effort` (none, minimal, low, medium, high, xhigh, max) or `budget_tokens`.

    `is_adaptive` leaves it to the model; `summary` is how the thoughts are told, as OpenAI has it.
    """

    effort: str | None = None
    budget_tokens: int | None = None
    is_adaptive: bool = False
    is_off: bool = False
    summary: str | None = None
    is_hidden: bool = False


@dataclass(slots=True)
class Request:
    """What a caller asks for. None is not given.

    `names` says what the caller calls an attribute that was given, such as `max_completion_tokens`;
    `has_cache` is true when a part of it asks to be remembered. `echo` is what the caller's format repeats
    in its answer; `spaces` are the namespace and the name of tools that are known by both together.
    """

    turns: list[Turn] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    choice: str | Named | None = None
    parallel_tools: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Json = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    shape: Shape | None = None
    reasoning: Reasoning | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    cache_key: str | None = None
    user: str | None = None
    has_cache: bool = False
    is_stream: bool = False
    names: dict[str, str] = field(default_factory=dict)
    echo: dict[str, Json] = field(default_factory=dict)
    spaces: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class Candidate:
    """One answer of several."""

    parts: list[Part] = field(default_factory=list)
    finish: str | None = None
    stop_sequence: str | None = None


@dataclass(slots=True)
class Answer:
    """A complete answer. `model` is what the provider calls the model that gave it."""

    candidates: list[Candidate]
    model: str | None = None
    usage: Usage | None = None


# The events of a stream. Parts are numbered across all candidates in the order in which they begin; those
# of one candidate are open one at a time.


@dataclass(frozen=True, slots=True)
class Begin:
    """The answer has begun. `usage` is what is known of it already."""

    model: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """A part begins: an empty Text, Thinking or Refusal, a Call without arguments, or a whole Media."""

    index: int
    part: Part
    candidate: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """More of the part that is open: words, or arguments."""

    index: int
    text: str
    logprobs: Sequence[Json] = ()


@dataclass(frozen=True, slots=True)
class Close:
    """A part is complete."""

    index: int
    opaque: Opaque | None = None
    citations: Sequence[Citation] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """A candidate is complete."""

    reason: str
    stop_sequence: str | None = None
    candidate: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """What it cost, as far as it is known; a later one replaces an earlier."""

    usage: Usage


Event = Begin | Open | Delta | Close | Finish | Used
