"""Cohere's API of version 2 towards a provider: chats written, answers and streams read.

Source: https://docs.cohere.com/reference/chat and /chat-stream, https://docs.cohere.com/docs/reasoning
(read 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..vocabulary import Usage
from .canonical import (
    LENGTH,
    REQUIRED,
    STOP,
    STOP_SEQUENCE,
    TOOLS,
    Answer,
    Begin,
    Call,
    Candidate,
    Close,
    Delta,
    Event,
    Finish,
    Json,
    Media,
    Named,
    Open,
    Part,
    Refusal,
    Request,
    Result,
    Text,
    Thinking,
    Tool,
    Turn,
    Used,
)
from .chat_back import call_id, object_of
from .codec import (
    Back,
    ToldError,
    broken,
    custom_schema,
    data_url,
    encode_json,
    ended_early,
    merged,
    objects_of,
    only_names,
    packed,
    results_of,
    text_of,
    unpacked,
)
from .loss import DROPPED, Loss, Refused, Verb

LACKS: Mapping[str, Verb] = {
    "n": Refused("asks for more than one answer"),
    "logprobs": Refused("asks for probabilities"),
    "top_logprobs": DROPPED,
    "parallel_tools": DROPPED,
    "logit_bias": DROPPED,
    "verbosity": DROPPED,
    "service_tier": DROPPED,
    "cache_key": DROPPED,
    "user": DROPPED,
    "has_cache": DROPPED,
}
_FINISHES: Mapping[str, str] = {
    "COMPLETE": STOP,
    "STOP_SEQUENCE": STOP_SEQUENCE,
    "MAX_TOKENS": LENGTH,
    "TOOL_CALL": TOOLS,
}
FAILED = ("ERROR", "TIMEOUT", "ERROR_TOXIC", "ERROR_LIMIT")
_BUDGETS = {"minimal": 512, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 31000}


class CohereBack:
    """The half of Cohere's chat that faces a provider."""

    def encode_request(self, back: Back, loss: Loss) -> dict[str, Json]:
        request = only_names(back.request)
        if request.n == 1:
            request.n = None
        if request.parallel_tools is True:
            request.parallel_tools = None
        loss.lose(request, LACKS)
        messages = [message for turn in merged(request.turns) for message in _messages(turn, back, loss)]
        body: dict[str, Json] = {"messages": messages, "stream": request.is_stream}
        plain = {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "p": request.top_p,
            "k": request.top_k,
            "seed": request.seed,
            "stop_sequences": request.stop or None,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
            "thinking": _thinking(request),
            "response_format": _format(request),
        }
        body.update((name, value) for name, value in plain.items() if value is not None)
        _tools(body, request, back)
        return body

    def decode_answer(self, document: Json, back: Back) -> Answer:
        message = document.get("message") if isinstance(document, dict) else None
        if not isinstance(message, dict):
            raise broken("the answer has no message")
        reason = document.get("finish_reason")
        if isinstance(reason, str) and reason in FAILED:
            raise broken(f"the answer ended with {reason}")
        candidate = Candidate(list(_said(message, back)), _FINISHES.get(str(reason), STOP))
        return Answer([candidate], None, usage_of(document.get("usage")))

    def decoder(self, back: Back) -> CohereReader:
        return CohereReader(back)


def _messages(turn: Turn, back: Back, loss: Loss) -> Iterator[Json]:
    if turn.role == "system":
        yield {"role": "system", "content": "\n\n".join(p.text for p in turn.parts if isinstance(p, Text))}
    elif turn.role == "assistant":
        yield _assistant(turn, back)
    else:
        results, rest = results_of(turn.parts)
        for result in results:
            yield _result(result, back, loss)
        if rest:
            yield {"role": "user", "content": [_content(part, loss) for part in rest]}


def _result(result: Result, back: Back, loss: Loss) -> Json:
    if any(isinstance(part, Media) and part.text is None for part in result.parts):
        loss.refuse("messages", "holds a picture or a file that a tool gave")
    words = [part.text or "" for part in result.parts if isinstance(part, Text | Media)]
    text = "\n".join(words)
    content = f"Error: {text}" if result.is_error else text
    return {"role": "tool", "tool_call_id": back.names.id(result.call_id), "content": content}


def _content(part: Part, loss: Loss) -> Json:
    if isinstance(part, Text | Refusal):
        return {"type": "text", "text": part.text}
    if isinstance(part, Media) and part.text is not None:
        return {"type": "text", "text": f"{part.name}:\n{part.text}" if part.name else part.text}
    if isinstance(part, Media) and part.kind == "image":
        image = {"url": data_url(part, "image/png")}
        if part.detail is not None:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    return loss.refuse("messages", "holds a sound or a file, which Cohere's chat does not take")


def _assistant(turn: Turn, back: Back) -> Json:
    message: dict[str, Json] = {"role": "assistant"}
    words = text_of(turn.parts)
    thought = "".join(p.text for p in turn.parts if isinstance(p, Thinking) and p.opaque is None)
    calls = [_call(part, back) for part in turn.parts if isinstance(part, Call)]
    if calls:
        message["tool_calls"] = calls
        if thought:
            message["tool_plan"] = thought
    thinking = [{"type": "thinking", "thinking": thought}] if thought and not calls else []
    if words or not calls:
        message["content"] = [*thinking, {"type": "text", "text": words or " "}]
    return message


def _call(part: Call, back: Back) -> Json:
    arguments = packed(part.arguments) if part.is_custom else part.arguments or "{}"
    function = {"name": back.names.of(part.name), "arguments": arguments}
    return {"id": back.names.id(part.id), "type": "function", "function": function}


def _tools(body: dict[str, Json], request: Request, back: Back) -> None:
    tools, choice = request.tools, request.choice
    if isinstance(choice, Named):
        tools = [tool for tool in tools if tool.name in choice.names]
        choice = REQUIRED
    if not tools:
        return
    body["tools"] = [_tool(tool, back) for tool in tools]
    if choice in ("none", REQUIRED):
        body["tool_choice"] = choice.upper()
    if any(tool.strict for tool in tools):
        body["strict_tools"] = True


def _tool(tool: Tool, back: Back) -> Json:
    schema, told = custom_schema(tool.grammar) if tool.is_custom else (tool.schema, "")
    function = {
        "name": back.names.of(tool.name),
        "parameters": schema or {"type": "object", "properties": {}},
    }
    if tool.description or told:
        function["description"] = (tool.description or "") + told
    return {"type": "function", "function": function}


def _thinking(request: Request) -> Json:
    asked = request.reasoning
    if asked is None:
        return None
    if asked.is_off:
        return {"type": "disabled"}
    budget = asked.budget_tokens or _BUDGETS.get(asked.effort or "")
    return {"type": "enabled", **({"token_budget": budget} if budget else {})}


def _format(request: Request) -> Json:
    if request.shape is None:
        return None
    schema = request.shape.schema
    return {"type": "json_object", **({} if schema is None else {"json_schema": schema})}


def ended_badly(delta: Mapping[str, Json]) -> str | None:
    """Return what the last event of a stream says of a failure; None for one that ended well."""
    reason, words = delta.get("finish_reason"), delta.get("error")
    if reason not in FAILED:
        return None
    return words if isinstance(words, str) and words else str(reason)


def usage_of(value: Json) -> Usage | None:
    """Read a usage object: what is billed, where that is told, and what was read and written elsewhere."""
    if not isinstance(value, dict):
        return None
    for told in (value.get("billed_units"), value.get("tokens")):
        if isinstance(told, dict):
            into, out = _count(told.get("input_tokens")), _count(told.get("output_tokens"))
            if into is not None or out is not None:
                return Usage(into, out, _count(value.get("cached_tokens")))
    return None


def _count(value: Json) -> int | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= 10**12 else None


def _said(message: Mapping[str, Json], back: Back) -> Iterator[Part]:
    plan = message.get("tool_plan")
    if isinstance(plan, str) and plan:
        yield Thinking(plan)
    for piece in objects_of(message.get("content")):
        if isinstance(piece.get("thinking"), str):
            yield Thinking(piece["thinking"])
        elif isinstance(piece.get("text"), str):
            yield Text(piece["text"])
    for index, call in enumerate(objects_of(message.get("tool_calls"))):
        yield _read_call(call, index, back)


def _read_call(call: Json, index: int, back: Back) -> Call:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise broken("a tool call has no name")
    arguments = function.get("arguments")
    id_ = call_id(call.get("id"), index)
    return back.call(id_, function["name"], arguments if isinstance(arguments, str) else "")


class CohereReader:
    """Reads the events of a chat. One part is open at a time."""

    def __init__(self, back: Back) -> None:
        self._back = back
        self._next = 0
        self._open: Part | None = None
        self._held: list[str] = []
        self._calls = 0
        self._finish: str | None = None

    def feed(self, name: str, body: bytes) -> Iterator[Event]:
        if body.strip() == b"[DONE]":
            return
        event = object_of(body)
        kind = str(event.get("type") or name)
        delta = event.get("delta")
        message = delta.get("message") if isinstance(delta, dict) else None
        told = message if isinstance(message, dict) else {}
        if kind == "message-start":
            yield Begin()
        elif kind in ("content-start", "content-delta"):
            yield from self._content(told.get("content"))
        elif kind == "tool-plan-delta":
            yield from self._words(Thinking(), told.get("tool_plan"))
        elif kind == "tool-call-start":
            yield from self._begin(_read_call(told.get("tool_calls"), self._calls, self._back))
            self._calls += 1
        elif kind == "tool-call-delta":
            yield from self._arguments(told.get("tool_calls"))
        elif kind in ("content-end", "tool-call-end"):
            yield from self._shut()
        elif kind == "message-end":
            yield from self._end(delta)

    def close(self) -> Iterator[Event]:
        if self._finish is None:
            raise ended_early()
        yield from self._shut()
        yield Finish(self._finish)

    def _end(self, delta: Json) -> Iterator[Event]:
        if not isinstance(delta, dict):
            raise broken("the stream ends without a reason")
        failure = ended_badly(delta)
        if failure is not None:
            raise ToldError(encode_json({"message": failure}))
        usage = usage_of(delta.get("usage"))
        if usage is not None:
            yield Used(usage)
        self._finish = _FINISHES.get(str(delta.get("finish_reason")), STOP)

    def _content(self, content: Json) -> Iterator[Event]:
        if not isinstance(content, dict):
            raise broken("a delta of the stream has no content")
        if isinstance(content.get("thinking"), str):
            yield from self._words(Thinking(), content["thinking"])
        elif isinstance(content.get("text"), str):
            yield from self._words(Text(""), content["text"])

    def _words(self, part: Part, text: Json) -> Iterator[Event]:
        if not isinstance(text, str) or not text:
            return
        if type(self._open) is not type(part):
            yield from self._begin(part)
        yield Delta(self._next - 1, text)

    def _arguments(self, call: Json) -> Iterator[Event]:
        function = call.get("function") if isinstance(call, dict) else None
        text = function.get("arguments") if isinstance(function, dict) else None
        if not isinstance(self._open, Call):
            raise broken("a delta of the stream belongs to no tool call")
        if not isinstance(text, str) or not text:
            return
        if self._open.is_custom:
            self._held.append(text)
        else:
            yield Delta(self._next - 1, text)

    def _begin(self, part: Part) -> Iterator[Event]:
        yield from self._shut()
        started = ""
        if isinstance(part, Call):
            started, part = part.arguments, Call(part.id, part.name, "", part.is_custom)
        self._open = part
        yield Open(self._next, part)
        self._next += 1
        if started:
            yield Delta(self._next - 1, started)

    def _shut(self) -> Iterator[Event]:
        if self._open is None:
            return
        if self._held:
            yield Delta(self._next - 1, unpacked("".join(self._held)))
            self._held = []
        self._open = None
        yield Close(self._next - 1)
