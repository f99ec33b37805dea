"""Anthropic's Messages API towards a provider: requests written, answers and streams read.

Source: https://platform.claude.com/docs/en/api/messages and /streaming; below /docs/en/build-with-claude
extended-thinking, adaptive-thinking, effort and structured-outputs (read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ..vocabulary import Usage
from .anthropic import UsageObject
from .canonical import (
    CONTEXT,
    LENGTH,
    PAUSE,
    REFUSED,
    STOP,
    STOP_SEQUENCE,
    TOOLS,
    Answer,
    Begin,
    Call,
    Candidate,
    Citation,
    Close,
    Delta,
    Event,
    Finish,
    Json,
    Media,
    Named,
    Opaque,
    Open,
    Part,
    Reasoning,
    Refusal,
    Request,
    Result,
    Text,
    Thinking,
    Tool,
    Turn,
    Used,
)
from .chat_back import object_of
from .codec import (
    MAX_HELD_CHARS,
    Back,
    ToldError,
    arguments_object,
    broken,
    custom_schema,
    encode_json,
    ended_early,
    merged,
    objects_of,
    only_names,
    results_of,
    system_apart,
    thoughts,
    unpacked,
)
from .loss import DROPPED, Loss, Refused, Verb

MAKER = "anthropic"
LACKS: Mapping[str, Verb] = {
    "n": Refused("asks for more than one answer"),
    "logprobs": Refused("asks for probabilities"),
    "top_logprobs": DROPPED,
    "seed": DROPPED,
    "frequency_penalty": DROPPED,
    "presence_penalty": DROPPED,
    "logit_bias": DROPPED,
    "verbosity": DROPPED,
    "service_tier": DROPPED,
    "cache_key": DROPPED,
}
_FINISHES: Mapping[str, str] = {
    "end_turn": STOP,
    "stop_sequence": STOP_SEQUENCE,
    "max_tokens": LENGTH,
    "tool_use": TOOLS,
    "pause_turn": PAUSE,
    "refusal": REFUSED,
    "model_context_window_exceeded": CONTEXT,
}
_BUDGETS: Mapping[str, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24576,
    "max": 32000,
}
LEAST_BUDGET = 1024
_VERSION = re.compile(r"claude-(?:(?:opus|sonnet|haiku|[a-z]+)-)?(\d+)(?:[-.](\d{1,2}))?(?![\d])")
_EFFORTS: Mapping[str, str] = {"minimal": "low", "none": "low"}


@dataclass(frozen=True, slots=True)
class Claude:
    """What a model of this family takes, by the version in its name; an unknown one is a new one."""

    version: tuple[int, int]
    is_opus: bool = False

    @classmethod
    def named(cls, model: str) -> Claude:
        found = _VERSION.search(model)
        version = (int(found[1]), int(found[2] or 0)) if found else (99, 0)
        return cls(version, "opus" in model)

    @property
    def max_tokens(self) -> int:
        """Return the bound where the caller gives none."""
        if self.version < (3, 5):
            return 4096
        return 8192 if self.version < (3, 7) else 32000

    @property
    def is_adaptive(self) -> bool:
        """Say whether it decides by itself how long to think."""
        return self.version >= (4, 6)

    @property
    def has_effort(self) -> bool:
        """Say whether it is told how hard to work; of the models 4.5 only Opus is."""
        return self.version >= (4, 6) or (self.is_opus and self.version == (4, 5))

    @property
    def takes_both(self) -> bool:
        """Say whether temperature and top_p may be given together."""
        return self.version < (4, 1)

    @property
    def is_sampled(self) -> bool:
        """Say whether temperature, top_p and top_k may be given at all."""
        return self.version < (4, 7)


class MessagesBack:
    """The half of the Messages API that faces a provider."""

    def encode_request(self, back: Back, loss: Loss) -> dict[str, Json]:
        request = only_names(back.request)
        if request.n == 1:
            request.n = None
        loss.lose(request, LACKS)
        claude = Claude.named(back.manners.model)
        system, turns = system_apart(request)
        body: dict[str, Json] = {"max_tokens": request.max_tokens or claude.max_tokens}
        if system:
            body["system"] = [_text(part) for part in system if part.text]
        written = [_message(turn, back, loss) for turn in merged(turns)]
        body["messages"] = [message for message in written if message["content"]]
        if request.tools:
            body["tools"] = [_tool(tool, back) for tool in request.tools]
            choice = _choice(request, back)
            if choice is not None:
                body["tool_choice"] = choice
        if request.stop:
            body["stop_sequences"] = [word for word in request.stop if word.strip()]
        if request.user is not None:
            body["metadata"] = {"user_id": request.user}
        reason(body, request, claude, loss)
        sample(body, request, claude, loss)
        _shape(body, request)
        if request.is_stream:
            body["stream"] = True
        return body

    def decode_answer(self, document: Json, back: Back) -> Answer:
        content = document.get("content") if isinstance(document, dict) else None
        if not isinstance(content, list):
            raise broken("the answer has no content")
        parts = [part for block in content for part in _read_block(block, back)]
        model, matched = document.get("model"), document.get("stop_sequence")
        finish = _FINISHES.get(str(document.get("stop_reason")), STOP)
        candidate = Candidate(parts, finish, matched if isinstance(matched, str) else None)
        usage = _usage(UsageObject(), document.get("usage")).usage()
        return Answer([candidate], model if isinstance(model, str) else None, usage)

    def decoder(self, back: Back) -> MessagesReader:
        return MessagesReader(back)


def _marked(block: dict[str, Json], cache: str | None) -> dict[str, Json]:
    if cache is not None:
        control = {"type": "ephemeral"}  # which is for five minutes; some hosts refuse to be told so
        block["cache_control"] = control if cache == "5m" else {**control, "ttl": cache}
    return block


def _text(part: Text) -> dict[str, Json]:
    return _marked({"type": "text", "text": part.text}, part.cache)


def _message(turn: Turn, back: Back, loss: Loss) -> dict[str, Json]:
    if turn.role == "assistant":
        return {"role": "assistant", "content": list(_said(turn, back))}
    results, rest = results_of(turn.parts)
    content = [_result(result, back, loss) for result in results]
    content += [block for part in rest for block in _shown(part, loss)]
    return {"role": "user", "content": content}


def _said(turn: Turn, back: Back) -> Iterator[Json]:
    for part in thoughts(turn.parts, MAKER):
        if part.opaque is None:
            continue  # without a signature nobody takes it
        if part.is_redacted:
            yield {"type": "redacted_thinking", "data": part.opaque.blob}
        else:
            yield {"type": "thinking", "thinking": part.text, "signature": part.opaque.blob}
    for each in turn.parts:
        if isinstance(each, Text | Refusal) and each.text.strip():
            yield {"type": "text", "text": each.text}
        elif isinstance(each, Call):
            input_ = {"input": each.arguments} if each.is_custom else arguments_object(each.arguments)
            block: dict[str, Json] = {
                "type": "tool_use",
                "id": back.names.id(each.id),
                "name": back.names.of(each.name),
                "input": input_,
            }
            yield _marked(block, each.cache)


def _shown(part: Part, loss: Loss) -> Iterator[dict[str, Json]]:
    if isinstance(part, Text):
        if part.text.strip():
            yield _text(part)
    elif isinstance(part, Media):
        yield _marked(_media(part, loss), part.cache)


def _media(part: Media, loss: Loss) -> dict[str, Json]:
    if part.kind == "audio":
        loss.refuse("messages", "holds a sound, and Claude takes none")
    source: dict[str, Json]
    if part.text is not None:
        source = {"type": "text", "media_type": "text/plain", "data": part.text}
    elif part.url is not None:
        source = {"type": "url", "url": part.url}
    else:
        usual = "image/png" if part.kind == "image" else "application/pdf"
        source = {"type": "base64", "media_type": part.media_type or usual, "data": part.base64}
    if part.kind == "image":
        return {"type": "image", "source": source}
    block: dict[str, Json] = {"type": "document", "source": source}
    for name, value in (("title", part.name), ("context", part.context)):
        if value is not None:
            block[name] = value
    if part.is_cited:
        block["citations"] = {"enabled": True}
    return block


def _result(result: Result, back: Back, loss: Loss) -> dict[str, Json]:
    content = [block for part in result.parts for block in _shown(part, loss)]
    block: dict[str, Json] = {"type": "tool_result", "tool_use_id": back.names.id(result.call_id)}
    if content:
        block["content"] = content
    if result.is_error:
        block["is_error"] = True
    return _marked(block, result.cache)


def _tool(tool: Tool, back: Back) -> dict[str, Json]:
    schema, told = custom_schema(tool.grammar) if tool.is_custom else (tool.schema, "")
    if not isinstance(schema, dict) or "type" not in schema:
        schema = {"type": "object", **(schema or {"properties": {}})}
    written: dict[str, Json] = {"name": back.names.of(tool.name), "input_schema": schema}
    if tool.description or told:
        written["description"] = (tool.description or "") + told
    if tool.strict:
        written["strict"] = True
    return _marked(written, tool.cache)


def _choice(request: Request, back: Back) -> Json:
    choice = request.choice
    if isinstance(choice, Named):
        written: dict[str, Json] = {"type": "tool", "name": back.names.of(choice.names[0])}
    elif choice is None:
        if request.parallel_tools is not False:
            return None
        written = {"type": "auto"}
    else:
        written = {"type": "any" if choice == "required" else choice}
    if request.parallel_tools is not None and written["type"] != "none":
        written["disable_parallel_tool_use"] = not request.parallel_tools
    return written


def reason(body: dict[str, Json], request: Request, claude: Claude, loss: Loss) -> None:
    asked = request.reasoning
    name = request.names.get("reasoning", "reasoning")
    if asked is None:
        return
    if asked.effort not in (None, "none") and claude.has_effort:
        effort = _EFFORTS.get(asked.effort or "", asked.effort)
        if effort == "xhigh" and claude.version < (4, 7):
            effort = "high"
        body["output_config"] = {"effort": effort}
    if asked.is_off or not _may_think(request):
        if not asked.is_off:
            loss.drop(name)
        return
    if claude.version < (3, 7):
        loss.drop(name)
    elif claude.is_adaptive:
        body["thinking"] = {"type": "adaptive"}
        if claude.version >= (4, 7):
            body["thinking"]["display"] = "summarized"
    else:
        _budget(body, asked, loss, name)


def _budget(body: dict[str, Json], asked: Reasoning, loss: Loss, name: str) -> None:
    budget = asked.budget_tokens or _BUDGETS.get(asked.effort or "medium", _BUDGETS["medium"])
    budget = min(max(budget, LEAST_BUDGET), body["max_tokens"] - 1)
    if budget < LEAST_BUDGET:
        loss.drop(name)  # there is no room for thoughts
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _may_think(request: Request) -> bool:
    """Say whether thoughts may be asked for: not in the middle of calls whose own thoughts are lost, and
    not where a tool is prescribed."""
    if isinstance(request.choice, Named) or request.choice == "required":
        return False
    for turn in reversed(request.turns):
        if turn.role == "user" and not any(isinstance(part, Result) for part in turn.parts):
            return True
        if turn.role == "assistant" and any(isinstance(part, Call) for part in turn.parts):
            return any(part.opaque is not None for part in thoughts(turn.parts, MAKER))
    return True


def sample(body: dict[str, Json], request: Request, claude: Claude, loss: Loss) -> None:
    """Write how to draw, as far as the model lets itself be told."""
    given = {
        name: getattr(request, name)
        for name in ("temperature", "top_p", "top_k")
        if getattr(request, name) is not None
    }
    if not claude.is_sampled or "thinking" in body:
        for name in given:
            if not (name == "temperature" and given[name] == 1):
                loss.drop(request.names.get(name, name))
        return
    if "temperature" in given and "top_p" in given and not claude.takes_both:
        del given["top_p"]
        loss.drop(request.names.get("top_p", "top_p"))
    if given.get("temperature", 0) > 1:
        given["temperature"] = 1
        loss.drop(request.names.get("temperature", "temperature"))
    body.update(given)


def _shape(body: dict[str, Json], request: Request) -> None:
    shape = request.shape
    if shape is None:
        return
    if shape.schema is None:
        told = "Answer with one valid JSON object and nothing else."
        body.setdefault("system", []).append({"type": "text", "text": told})
        return
    body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": shape.schema}


def _usage(known: UsageObject, value: Json) -> UsageObject:
    try:
        return known.updated(msgspec.convert(value, UsageObject)) if isinstance(value, dict) else known
    except msgspec.ValidationError:
        return known


def _read_block(block: Json, back: Back) -> Iterator[Part]:
    if not isinstance(block, dict):
        raise broken("a block of the answer is not an object")
    kind = block.get("type")
    if kind == "text":
        cites = tuple(cite for each in objects_of(block.get("citations")) for cite in _citation(each))
        yield Text(str(block.get("text") or ""), cites)
    elif kind == "thinking":
        yield Thinking(str(block.get("thinking") or ""), _opaque(block.get("signature")))
    elif kind == "redacted_thinking":
        yield Thinking("", _opaque(block.get("data")), is_redacted=True)
    elif kind == "tool_use":
        id_, name = block.get("id"), block.get("name")
        if not isinstance(id_, str) or not isinstance(name, str):
            raise broken("a tool call has no id or no name")
        yield back.call(id_, name, encode_json(block.get("input") or {}).decode())


def _opaque(value: Json) -> Opaque | None:
    return Opaque(MAKER, value) if isinstance(value, str) and value else None


def _citation(found: Json) -> Iterator[Citation]:
    if isinstance(found, dict) and isinstance(found.get("url"), str):
        yield Citation(found["url"], found.get("title"), found.get("cited_text"))


class MessagesReader:
    """Reads the events of a message."""

    def __init__(self, back: Back) -> None:
        self._back = back
        self._told = UsageObject()
        self._open: dict[int, _Block] = {}
        self._next = 0
        self._finish: Finish | None = None
        self._is_complete = False

    def feed(self, name: str, body: bytes) -> Iterator[Event]:
        event = object_of(body)
        kind = event.get("type") or name
        if kind == "error":
            raise ToldError(body)
        if kind == "message_start":
            yield from self._start(event)
        elif kind == "content_block_start":
            yield from self._block_start(event)
        elif kind == "content_block_delta":
            yield from self._block_delta(event)
        elif kind == "content_block_stop":
            index = event.get("index")
            if not isinstance(index, int):
                raise broken("a block that ends has no number")
            block = self._open.pop(index, None)
            if block is not None:
                yield from block.close()
        elif kind == "message_delta":
            yield from self._message_delta(event)
        elif kind == "message_stop":
            self._is_complete = True

    def close(self) -> Iterator[Event]:
        if not self._is_complete:
            raise ended_early()
        yield self._finish or Finish(STOP)

    def _start(self, event: Mapping[str, Json]) -> Iterator[Event]:
        message = event.get("message")
        if not isinstance(message, dict):
            raise broken("the stream begins without a message")
        self._told = _usage(self._told, message.get("usage"))
        model = message.get("model")
        yield Begin(model if isinstance(model, str) else None, self._told.usage())

    def _message_delta(self, event: Mapping[str, Json]) -> Iterator[Event]:
        self._told = _usage(self._told, event.get("usage"))
        usage: Usage | None = self._told.usage()
        if usage is not None:
            yield Used(usage)
        delta = event.get("delta")
        if isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str):
            matched = delta.get("stop_sequence")
            reason = _FINISHES.get(delta["stop_reason"], STOP)
            self._finish = Finish(reason, matched if isinstance(matched, str) else None)

    def _block_start(self, event: Mapping[str, Json]) -> Iterator[Event]:
        found: Sequence[Part] = list(_read_block(event.get("content_block"), self._back))
        index = event.get("index")
        if not isinstance(index, int):
            raise broken("a block has no number")
        for part in found:
            whole = ""
            if isinstance(part, Call):
                whole = part.arguments
                part = Call(part.id, part.name, "", part.is_custom)
            self._open[index] = _Block(self._next, part, self._back, whole)
            yield Open(self._next, part)
            self._next += 1

    def _block_delta(self, event: Mapping[str, Json]) -> Iterator[Event]:
        delta, index = event.get("delta"), event.get("index")
        if not isinstance(delta, dict) or not isinstance(index, int):
            raise broken("a delta of the stream has no content")
        block = self._open.get(index)
        if block is not None:
            yield from block.more(delta)


class _Block:
    """A block that is being read. `whole` are the arguments of a call that came with its beginning.

    They come so where code that Claude runs calls the tool; no others follow then.
    """

    def __init__(self, index: int, part: Part, back: Back, whole: str = "") -> None:
        self._whole = "" if whole == "{}" else whole
        self._index = index
        self._part = part
        self._opaque = part.opaque if isinstance(part, Thinking) else None
        self._citations: list[Citation] = []
        is_held = isinstance(part, Call) and part.is_custom and not back.manners.takes_custom_tools
        self._held: list[str] | None = [] if is_held else None
        self._held_chars = 0

    def more(self, delta: Mapping[str, Json]) -> Iterator[Event]:
        kind = delta.get("type")
        if kind == "signature_delta":
            self._opaque = _opaque(delta.get("signature")) or self._opaque
            return
        if kind == "citations_delta":
            self._citations += _citation(delta.get("citation"))
            return
        field = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
        text = delta.get(field.get(str(kind), ""))
        if not isinstance(text, str) or not text:
            return
        self._whole = ""
        if self._held is None:
            yield Delta(self._index, text)
            return
        self._held.append(text)
        self._held_chars += len(text)
        if self._held_chars > MAX_HELD_CHARS:
            raise broken("the text of a custom tool is too long")

    def close(self) -> Iterator[Event]:
        if self._held:
            yield Delta(self._index, unpacked("".join(self._held)))
        elif self._whole:
            yield Delta(self._index, self._whole)
        yield Close(self._index, self._opaque, tuple(self._citations))
