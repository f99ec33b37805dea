"""OpenAI's Responses API towards a provider, without memory: requests written, answers and streams read.

Source: https://platform.openai.com/docs/api-reference/responses and /responses-streaming,
https://platform.openai.com/docs/guides/reasoning (encrypted content; read 2026-11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ..vocabulary import Usage
from .canonical import (
    FILTER,
    LENGTH,
    STOP,
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
    Refusal,
    Request,
    Result,
    Text,
    Thinking,
    Tool,
    Used,
)
from .chat_back import effort_of, object_of
from .codec import (
    Back,
    ToldError,
    broken,
    calls_of,
    data_url,
    ended_early,
    merged,
    objects_of,
    results_of,
    thoughts,
)
from .loss import DROPPED, Loss, Refused, Verb
from .responses import UsageObject

MAKER = "openai"
LACKS: Mapping[str, Verb] = {
    "n": Refused("asks for more than one answer"),
    "stop": Refused("ends the answer at a text, which OpenAI's Responses do not offer"),
    "seed": DROPPED,
    "top_k": DROPPED,
    "frequency_penalty": DROPPED,
    "presence_penalty": DROPPED,
    "logit_bias": DROPPED,
    "service_tier": DROPPED,
    "has_cache": DROPPED,
}


class ResponsesBack:
    """The half of the Responses API that faces a provider."""

    def encode_request(self, back: Back, loss: Loss) -> dict[str, Json]:
        request = back.request
        if request.n == 1:
            request.n = None
        loss.lose(request, LACKS)
        _unsample(request, back, loss)
        body: dict[str, Json] = {"input": list(_input(back, loss)), "store": False}
        plain = {
            "max_output_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_logprobs": request.top_logprobs,
            "prompt_cache_key": request.cache_key,
            "user": request.user,
        }
        body.update((name, value) for name, value in plain.items() if value is not None)
        include = ["message.output_text.logprobs"] if request.logprobs else []
        reasoning = _reasoning(request) if back.manners.takes_reasoning else None
        if reasoning is None and request.reasoning is not None and not request.reasoning.is_off:
            loss.drop(request.names.get("reasoning", "reasoning"))
        if back.manners.takes_reasoning:
            include.append("reasoning.encrypted_content")
        if reasoning is not None:
            body["reasoning"] = reasoning
        if include:
            body["include"] = include
        _tools(body, back)
        text = _text_config(request)
        if text:
            body["text"] = text
        if request.is_stream:
            body["stream"] = True
        return body

    def decode_answer(self, document: Json, back: Back) -> Answer:
        output = document.get("output") if isinstance(document, dict) else None
        if not isinstance(output, list):
            raise broken("the answer has no output")
        parts = [part for item in output for part in _read_item(item, back)]
        model = document.get("model")
        candidate = Candidate(parts, _finish(document, parts))
        return Answer(
            [candidate], model if isinstance(model, str) else None, usage_of(document.get("usage"))
        )

    def decoder(self, back: Back) -> ResponsesReader:
        return ResponsesReader(back)


def _unsample(request: Request, back: Back, loss: Loss) -> None:
    """Leave out how to draw, for models that refuse to be told."""
    if back.manners.takes_sampling:
        return
    for attribute in ("temperature", "top_p"):
        if getattr(request, attribute) not in (None, 1):
            loss.drop(request.names.get(attribute, attribute))
        setattr(request, attribute, None)


def _reasoning(request: Request) -> Json:
    asked = request.reasoning
    if asked is None:
        return None
    effort = effort_of(request)
    written = {} if effort is None else {"effort": effort}
    if not asked.is_off and not asked.is_hidden:
        written["summary"] = asked.summary or "auto"
    return written


def _input(back: Back, loss: Loss) -> Iterator[Json]:
    calls = calls_of(back.request)
    for turn in merged(back.request.turns):
        if turn.role == "system":
            words = [part.text for part in turn.parts if isinstance(part, Text)]
            yield {"role": "system", "content": "\n\n".join(words)}
        elif turn.role == "assistant":
            own = {id(part) for part in thoughts(turn.parts, MAKER)}
            for part in turn.parts:
                if not isinstance(part, Thinking) or id(part) in own:
                    yield from _said(part, back)
        else:
            results, rest = results_of(turn.parts)
            yield from (_result(result, calls, back, loss) for result in results)
            content = [_content(part, loss) for part in rest]
            if content:
                yield {"role": "user", "content": content}


def _said(part: Part, back: Back) -> Iterator[Json]:
    if isinstance(part, Text | Refusal) and part.text:
        yield {"role": "assistant", "content": part.text}
    elif isinstance(part, Thinking) and part.opaque is not None:
        blob = part.opaque.blob
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        own = "rs_" + hashlib.sha256(blob.encode()).hexdigest()[:32]
        yield {"type": "reasoning", "id": own, "summary": summary, "encrypted_content": blob}
    elif isinstance(part, Call):
        named = {"call_id": back.names.id(part.id), "name": back.names.of(part.name)}
        if part.is_custom:
            yield {"type": "custom_tool_call", **named, "input": part.arguments}
        else:
            yield {"type": "function_call", **named, "arguments": part.arguments or "{}"}


def _result(result: Result, calls: Mapping[str, Call], back: Back, loss: Loss) -> Json:
    call = calls.get(result.call_id)
    is_custom = result.is_custom or (call is not None and call.is_custom)
    output: Json = [_content(part, loss) for part in result.parts]
    if all(isinstance(part, Text) for part in result.parts):
        output = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    if result.is_error:
        mark = {"type": "input_text", "text": "Error:"}
        output = f"Error: {output}" if isinstance(output, str) else [mark, *output]
    kind = "custom_tool_call_output" if is_custom else "function_call_output"
    return {"type": kind, "call_id": back.names.id(result.call_id), "output": output}


def _content(part: Part, loss: Loss) -> Json:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if not isinstance(part, Media) or part.text is not None:
        title = f"{part.name}:\n" if isinstance(part, Media) and part.name else ""
        return {"type": "input_text", "text": title + str(getattr(part, "text", "") or "")}
    if part.kind == "image":
        return {
            "type": "input_image",
            "image_url": data_url(part, "image/png"),
            "detail": part.detail or "auto",
        }
    if part.kind == "audio":
        loss.refuse("messages", "holds a sound, which OpenAI's Responses do not take")
    if part.url is not None:
        return {"type": "input_file", "file_url": part.url}
    return {
        "type": "input_file",
        "filename": part.name or "file.pdf",
        "file_data": data_url(part, "application/pdf"),
    }


def _tools(body: dict[str, Json], back: Back) -> None:
    request = back.request
    if not request.tools:
        return
    body["tools"] = [_tool(tool, back) for tool in request.tools]
    if request.parallel_tools is not None:
        body["parallel_tool_calls"] = request.parallel_tools
    choice = request.choice
    if isinstance(choice, str):
        body["tool_choice"] = choice
    elif isinstance(choice, Named):
        named = [_named(name, back) for name in choice.names]
        if choice.must and len(named) == 1:
            body["tool_choice"] = named[0]
        else:
            mode = "required" if choice.must else "auto"
            body["tool_choice"] = {"type": "allowed_tools", "mode": mode, "tools": named}


def _named(name: str, back: Back) -> Json:
    return {"type": "custom" if name in back.customs else "function", "name": back.names.of(name)}


def _tool(tool: Tool, back: Back) -> Json:
    written: dict[str, Json] = {
        "type": "custom" if tool.is_custom else "function",
        "name": back.names.of(tool.name),
    }
    if tool.description is not None:
        written["description"] = tool.description
    if tool.is_custom:
        if isinstance(tool.grammar, dict):
            written["format"] = {"type": "grammar", **tool.grammar}
        return written
    schema = tool.schema or {"type": "object", "properties": {}}
    # Left out it would be true here, and false where the request comes from
    return {**written, "parameters": schema, "strict": bool(tool.strict)}


def _text_config(request: Request) -> dict[str, Json]:
    text: dict[str, Json] = {}
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    shape = request.shape
    if shape is None:
        return text
    if shape.schema is None:
        return {**text, "format": {"type": "json_object"}}
    form: dict[str, Json] = {"type": "json_schema", "name": shape.name or "answer", "schema": shape.schema}
    form["strict"] = bool(shape.strict)
    if shape.description is not None:
        form["description"] = shape.description
    return {**text, "format": form}


def usage_of(value: Json) -> Usage | None:
    """Read a usage object."""
    try:
        return msgspec.convert(value, UsageObject).usage() if isinstance(value, dict) else None
    except msgspec.ValidationError:
        return None


def _finish(document: Mapping[str, Json], parts: Sequence[Part]) -> str:
    details = document.get("incomplete_details")
    why = details.get("reason") if isinstance(details, dict) else None
    if document.get("status") == "incomplete":
        return FILTER if why == "content_filter" else LENGTH
    return TOOLS if any(isinstance(part, Call) for part in parts) else STOP


def _read_item(item: Json, back: Back) -> Iterator[Part]:
    if not isinstance(item, dict):
        raise broken("an item of the answer is not an object")
    kind = item.get("type")
    if kind == "message":
        yield from _read_message(item)
    elif kind == "reasoning":
        words = [
            piece["text"]
            for name in ("summary", "content")
            for piece in objects_of(item.get(name))
            if isinstance(piece.get("text"), str)
        ]
        yield Thinking("\n\n".join(words), _opaque(item))
    elif kind in ("function_call", "custom_tool_call"):
        yield _read_call(item, back)


def _read_message(item: Mapping[str, Json]) -> Iterator[Part]:
    for piece in objects_of(item.get("content")):
        if piece.get("type") == "refusal":
            yield Refusal(str(piece.get("refusal") or ""))
        elif isinstance(piece.get("text"), str):
            cites = tuple(cite for note in objects_of(piece.get("annotations")) for cite in _citation(note))
            yield Text(piece["text"], cites, tuple(objects_of(piece.get("logprobs"))))


def _citation(note: Json) -> Iterator[Citation]:
    if isinstance(note, dict) and note.get("type") == "url_citation" and isinstance(note.get("url"), str):
        yield Citation(note["url"], note.get("title"), None, note.get("start_index"), note.get("end_index"))


def _opaque(item: Mapping[str, Json]) -> Opaque | None:
    kept = item.get("encrypted_content")
    return Opaque(MAKER, kept) if isinstance(kept, str) and kept else None


def _read_call(item: Mapping[str, Json], back: Back) -> Call:
    id_, name = item.get("call_id"), item.get("name")
    if not isinstance(id_, str) or not isinstance(name, str):
        raise broken("a tool call has no id or no name")
    arguments = item.get("input" if item.get("type") == "custom_tool_call" else "arguments")
    return back.call(id_, name, arguments if isinstance(arguments, str) else "")


class ResponsesReader:
    """Reads the life of a response. One item is open at a time."""

    def __init__(self, back: Back) -> None:
        self._back = back
        self._next = 0
        self._open: tuple[int, Part, tuple[Json, ...]] | None = None  # its number, itself, where it is
        self._citations: list[Citation] = []
        self._has_calls = False
        self._finish: str | None = None
        self._told_words = False

    def feed(self, name: str, body: bytes) -> Iterator[Event]:
        event = object_of(body)
        kind = str(event.get("type") or name)
        if kind in ("error", "response.failed"):
            response = event.get("response")
            error = response.get("error") if isinstance(response, dict) else event.get("error") or event
            raise ToldError(msgspec.json.encode({"error": error}))
        if kind == "response.created":
            response = event.get("response")
            model = response.get("model") if isinstance(response, dict) else None
            yield Begin(model if isinstance(model, str) else None)
        elif kind in ("response.completed", "response.incomplete"):
            yield from self._end(event)
        elif kind == "response.output_item.added":
            yield from self._item(event)
        elif kind == "response.output_item.done":
            yield from self._done(event)
        elif kind.endswith(".delta"):
            yield from self._delta(kind, event)
        elif kind == "response.output_text.annotation.added":
            self._citations += _citation(event.get("annotation"))

    def close(self) -> Iterator[Event]:
        if self._finish is None:
            raise ended_early()
        yield from self._shut()
        yield Finish(self._finish)

    def _end(self, event: Mapping[str, Json]) -> Iterator[Event]:
        response = event.get("response")
        if not isinstance(response, dict):
            raise broken("the stream ends without a response")
        usage = usage_of(response.get("usage"))
        if usage is not None:
            yield Used(usage)
        self._finish = _finish(response, ())
        if self._finish == STOP and self._has_calls:
            self._finish = TOOLS

    def _item(self, event: Mapping[str, Json]) -> Iterator[Event]:
        item = event.get("item")
        if not isinstance(item, dict):
            raise broken("an item of the stream is not an object")
        kind = item.get("type")
        if kind in ("function_call", "custom_tool_call"):
            self._has_calls = True
            call = _read_call(item, self._back)
            yield from self._begin(
                Call(call.id, call.name, "", call.is_custom), (event.get("output_index"),)
            )
        elif kind == "reasoning":
            yield from self._begin(Thinking(), (event.get("output_index"),))

    def _delta(self, kind: str, event: Mapping[str, Json]) -> Iterator[Event]:
        text = event.get("delta")
        if not isinstance(text, str) or not text:
            return
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            place = (event.get("output_index"), event.get("content_index"))
            part = Refusal("") if kind == "response.refusal.delta" else Text("")
            if self._open is None or self._open[2] != place:
                yield from self._begin(part, place)
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            piece = event.get("summary_index") or event.get("content_index")
            if self._told_words and piece and self._open is not None and len(self._open[2]) == 1:
                text = "\n\n" + text if self._piece != piece else text
            self._piece = piece
        elif kind not in (
            "response.function_call_arguments.delta",
            "response.custom_tool_call_input.delta",
        ):
            return
        if self._open is None:
            raise broken("a delta of the stream belongs to no item")
        self._told_words = True
        yield Delta(self._open[0], text, tuple(objects_of(event.get("logprobs"))))

    _piece: Json = None

    def _done(self, event: Mapping[str, Json]) -> Iterator[Event]:
        item = event.get("item")
        opened = self._open
        if opened is None or not isinstance(item, dict):
            return
        opaque = None
        if isinstance(opened[1], Thinking):
            opaque = _opaque(item)
        elif isinstance(opened[1], Call) and not self._told_words:
            call = _read_call(item, self._back)  # told as a whole
            if call.arguments:
                yield Delta(opened[0], call.arguments)
        yield from self._shut(opaque)

    def _begin(self, part: Part, place: tuple[Json, ...]) -> Iterator[Event]:
        yield from self._shut()
        self._open = (self._next, part, place)
        self._told_words = False
        self._piece = None
        yield Open(self._next, part)
        self._next += 1

    def _shut(self, opaque: Opaque | None = None) -> Iterator[Event]:
        if self._open is not None:
            yield Close(self._open[0], opaque, tuple(self._citations))
            self._open = None
            self._citations = []
