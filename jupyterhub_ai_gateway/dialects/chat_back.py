"""OpenAI's chat completions towards a provider: requests written, answers and streams read.

Source: https://platform.openai.com/docs/api-reference/chat (read 2026-11); where compatible hosts differ:
https://docs.vllm.ai/en/latest/features/reasoning_outputs.html, https://docs.mistral.ai/api/ and
https://docs.mistral.ai/capabilities/reasoning/ (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

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
    Shape,
    Text,
    Thinking,
    Tool,
    Turn,
    Used,
)
from .codec import (
    MAX_HELD_CHARS,
    Back,
    ToldError,
    broken,
    custom_schema,
    data_url,
    decode_json,
    ended_early,
    merged,
    objects_of,
    only_names,
    packed,
    results_of,
    text_of,
    thoughts,
    unpacked,
)
from .loss import DROPPED, Loss, Verb
from .openai_answer import read_usage

MISTRAL = "mistral"
"""Whose models sign their thoughts for themselves."""
LACKS: Mapping[str, Verb] = {"service_tier": DROPPED, "has_cache": DROPPED}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
_BUDGETS = ((1024, "minimal"), (4096, "low"), (16384, "medium"), (32768, "high"))
_FINISHES: Mapping[str, str] = {
    "stop": STOP,
    "length": LENGTH,
    "tool_calls": TOOLS,
    "function_call": TOOLS,
    "content_filter": FILTER,
    "model_length": LENGTH,
    "eos": STOP,
    "eos_token": STOP,
    "stop_sequence": STOP,
}
_AUDIO_FORMATS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}


def effort_of(request: Request) -> str | None:
    """Return how hard to think, in OpenAI's words."""
    asked = request.reasoning
    if asked is None:
        return None
    if asked.is_off:
        return "none"
    if asked.effort is not None:
        return "xhigh" if asked.effort == "max" else asked.effort
    if asked.budget_tokens is not None:
        return next((name for most, name in _BUDGETS if asked.budget_tokens <= most), "xhigh")
    return None


class ChatBack:
    """The half of chat completions that faces a provider."""

    def encode_request(self, back: Back, loss: Loss) -> dict[str, Json]:
        request, manners = only_names(back.request), back.manners
        loss.lose(request, LACKS)
        body: dict[str, Json] = {"messages": [*_messages(back, loss)]}
        plain = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
            "logit_bias": request.logit_bias,
            "logprobs": request.logprobs,
            "top_logprobs": request.top_logprobs,
            "n": request.n,
            "seed" if not manners.is_mistral else "random_seed": request.seed,
            manners.max_tokens: request.max_tokens,
            "stop": request.stop or None,
            "verbosity": None if manners.is_mistral else request.verbosity,
        }
        body.update((name, value) for name, value in plain.items() if value is not None)
        if request.tools:
            body["tools"] = [_tool(tool, back) for tool in request.tools]
            if request.parallel_tools is not None:
                body["parallel_tool_calls"] = request.parallel_tools
        if request.choice is not None and request.tools:
            body["tool_choice"] = _choice(request.choice, back)
        if request.shape is not None:
            body["response_format"] = _format(request.shape)
        _tuning(body, request, back, loss)
        if request.is_stream:
            body["stream"] = True
        return body

    def decode_answer(self, document: Json, back: Back) -> Answer:
        choices = document.get("choices") if isinstance(document, dict) else None
        if not isinstance(choices, list) or not choices:
            raise broken("the answer has no choices")
        usage = document.get("usage")
        model = document.get("model")
        return Answer(
            [_candidate(choice, back) for choice in choices],
            model if isinstance(model, str) else None,
            None if usage is None else usage_of(usage),
        )

    def decoder(self, back: Back) -> ChatReader:
        return ChatReader(back)


def _tuning(body: dict[str, Json], request: Request, back: Back, loss: Loss) -> None:
    """Write what only some hosts know."""
    manners = back.manners
    effort = effort_of(request)
    if effort is not None and manners.takes_reasoning:
        body["reasoning_effort"] = effort
    elif request.reasoning is not None and not request.reasoning.is_adaptive and effort != "none":
        loss.drop(request.names.get("reasoning", "reasoning"))
    for attribute, name, is_taken in (
        ("top_k", "top_k", manners.takes_top_k),
        ("cache_key", "prompt_cache_key", manners.takes_cache_key),
        ("user", "user", manners.takes_user),
    ):
        value = getattr(request, attribute)
        if value is None:
            continue
        if is_taken:
            body[name] = value
        else:
            loss.drop(request.names.get(attribute, attribute))


def _messages(back: Back, loss: Loss) -> Iterator[Json]:
    for turn in merged(back.request.turns):
        if turn.role == "system":
            yield {"role": "system", "content": "\n\n".join(_texts(turn.parts))}
        elif turn.role == "assistant":
            yield _assistant(turn, back)
        else:
            yield from _user(turn, back, loss)


def _texts(parts: Iterable[Part]) -> list[str]:
    return [part.text for part in parts if isinstance(part, Text) and part.text]


def _user(turn: Turn, back: Back, loss: Loss) -> Iterator[Json]:
    results, rest = results_of(turn.parts)
    shown: list[Part] = []
    for result in results:
        media = [part for part in result.parts if isinstance(part, Media)]
        text = "\n".join(_texts(result.parts))
        if media:
            shown += [Text(f"From the tool call {back.names.id(result.call_id)}:"), *media]
            text = text or "The result follows in the next message."
        if result.is_error:
            text = f"Error: {text}"
        yield {"role": "tool", "tool_call_id": back.names.id(result.call_id), "content": text}
    parts = [*shown, *rest]
    if parts:
        yield {"role": "user", "content": _content(parts, loss)}


def _content(parts: Sequence[Part], loss: Loss) -> Json:
    if all(isinstance(part, Text) for part in parts):
        return "\n\n".join(_texts(parts))
    return [_content_part(part, loss) for part in parts if not (isinstance(part, Text) and not part.text)]


def _content_part(part: Part, loss: Loss) -> Json:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if not isinstance(part, Media):
        return {"type": "text", "text": part.text if isinstance(part, Refusal | Thinking) else ""}
    if part.text is not None:
        title = f"{part.name}:\n" if part.name else ""
        return {"type": "text", "text": title + part.text}
    if part.kind == "image":
        image: dict[str, Json] = {"url": data_url(part, "image/png")}
        if part.detail is not None:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    if part.kind == "audio" and part.base64 is not None:
        form = _AUDIO_FORMATS.get(part.media_type or "", (part.media_type or "audio/wav").split("/")[-1])
        return {"type": "input_audio", "input_audio": {"data": part.base64, "format": form}}
    if part.base64 is None:
        loss.refuse("messages", "holds a file by its address")
    file = {"file_data": data_url(part, "application/pdf"), "filename": part.name or "file.pdf"}
    return {"type": "file", "file": file}


def _assistant(turn: Turn, back: Back) -> Json:
    message: dict[str, Json] = {"role": "assistant"}
    words = text_of(turn.parts)
    refusal = "".join(part.text for part in turn.parts if isinstance(part, Refusal))
    calls = [_call(part, back) for part in turn.parts if isinstance(part, Call)]
    thought = "".join(
        part.text for part in turn.parts if isinstance(part, Thinking) and part.opaque is None
    )
    if words or not (calls or refusal):
        message["content"] = words
    if refusal and not words:
        message["content"] = refusal
    if calls:
        message["tool_calls"] = calls
    if back.manners.is_mistral:
        own = [_mistral_thought(part) for part in thoughts(turn.parts, MISTRAL)]
        if own:
            message["content"] = [*own, *([{"type": "text", "text": words}] if words else [])]
    elif thought and back.manners.takes_reasoning:
        message["reasoning_content"] = thought
    return message


def _mistral_thought(part: Thinking) -> Json:
    words = [{"type": "text", "text": part.text}] if part.text else []
    signed = {} if part.opaque is None else {"signature": part.opaque.blob}
    return {"type": "thinking", "thinking": words, **signed}


def _call(part: Call, back: Back) -> Json:
    id_, name = back.names.id(part.id), back.names.of(part.name)
    if part.is_custom and back.manners.takes_custom_tools:
        return {"id": id_, "type": "custom", "custom": {"name": name, "input": part.arguments}}
    arguments = packed(part.arguments) if part.is_custom else part.arguments or "{}"
    call: dict[str, Json] = {
        "id": id_,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    if part.opaque is not None and part.opaque.maker == "gemini" and "gemini" in back.manners.model:
        call["extra_content"] = {"google": {"thought_signature": part.opaque.blob}}
    return call


def _tool(tool: Tool, back: Back) -> Json:
    name = back.names.of(tool.name)
    if tool.is_custom and back.manners.takes_custom_tools:
        custom: dict[str, Json] = {"name": name}
        if tool.description is not None:
            custom["description"] = tool.description
        if tool.grammar is not None:
            custom["format"] = {"type": "grammar", "grammar": tool.grammar}
        return {"type": "custom", "custom": custom}
    schema, told = custom_schema(tool.grammar) if tool.is_custom else (tool.schema, "")
    function: dict[str, Json] = {"name": name, "parameters": schema or {"type": "object", "properties": {}}}
    if tool.description is not None or told:
        function["description"] = (tool.description or "") + told
    if tool.strict is not None and not tool.is_custom:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: str | Named, back: Back) -> Json:
    if isinstance(choice, str):
        return "any" if choice == "required" and back.manners.is_mistral else choice
    name = choice.names[0]
    kind = "custom" if name in back.customs and back.manners.takes_custom_tools else "function"
    return {"type": kind, kind: {"name": back.names.of(name)}}


def _format(shape: Shape) -> Json:
    if shape.schema is None:
        return {"type": "json_object"}
    schema: dict[str, Json] = {"name": shape.name or "answer", "schema": shape.schema}
    if shape.strict is not None:
        schema["strict"] = shape.strict
    if shape.description is not None:
        schema["description"] = shape.description
    return {"type": "json_schema", "json_schema": schema}


def usage_of(value: Json) -> Usage | None:
    """Read a usage object."""
    return read_usage(msgspec.Raw(msgspec.json.encode(value)))


def _candidate(choice: Json, back: Back) -> Candidate:
    message = choice.get("message") if isinstance(choice, dict) else None
    if message is None and isinstance(choice, dict) and choice.get("finish_reason") == "content_filter":
        message = {}  # what is left of an answer that Azure's filter has taken back
    if not isinstance(message, dict):
        raise broken("a choice has no message")
    parts = list(_said(message, choice, back))
    finish = _FINISHES.get(str(choice.get("finish_reason")), STOP)
    if finish == STOP and any(isinstance(part, Call) for part in parts):
        finish = TOOLS
    return Candidate(parts, finish, _matched(choice))


def _matched(choice: Mapping[str, Json]) -> str | None:
    """Return the stop sequence that vLLM and SGLang tell."""
    value = choice.get("stop_reason") or choice.get("matched_stop")
    return value if isinstance(value, str) else None


def _said(message: Mapping[str, Json], choice: Mapping[str, Json], back: Back) -> Iterator[Part]:
    thought = _thought(message)
    if thought:
        yield Thinking(thought)
    content = message.get("content")
    for part in _pieces(content):
        if isinstance(part, Text):
            yield Text(part.text, list(_citations(message)), _logprobs(choice))
        else:
            yield part
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        yield Refusal(refusal)
    for image in objects_of(message.get("images")):
        yield from _image(image)
    for index, call in enumerate(objects_of(message.get("tool_calls"))):
        yield _read_call(call, index, back)


def _thought(message: Mapping[str, Json]) -> str:
    for name in ("reasoning_content", "reasoning"):
        value = message.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def _pieces(content: Json) -> Iterator[Text | Thinking]:
    """Read content: words, or Mistral's list of pieces."""
    if isinstance(content, str):
        if content:
            yield Text(content)
    elif isinstance(content, list):
        for piece in objects_of(content):
            if piece.get("type") == "thinking":
                words = [each.get("text") for each in objects_of(piece.get("thinking"))]
                text = "".join(word for word in words if isinstance(word, str))
                kept = piece.get("signature")
                opaque = Opaque(MISTRAL, kept) if isinstance(kept, str) and kept else None
                yield Thinking(text, opaque, is_redacted=opaque is not None and not text)
            elif isinstance(piece.get("text"), str):
                yield Text(piece["text"])
    elif content is not None:
        raise broken("the content of a message is neither text nor a list")


def _citations(message: Mapping[str, Json]) -> Iterator[Citation]:
    for note in objects_of(message.get("annotations")):
        cite = note.get("url_citation")
        if isinstance(cite, dict) and isinstance(cite.get("url"), str):
            yield Citation(
                cite["url"], cite.get("title"), None, cite.get("start_index"), cite.get("end_index")
            )


def _logprobs(choice: Mapping[str, Json]) -> Sequence[Json]:
    logprobs = choice.get("logprobs")
    found = logprobs.get("content") if isinstance(logprobs, dict) else None
    return found if isinstance(found, list) else ()


def _image(image: Mapping[str, Json]) -> Iterator[Media]:
    found = image.get("image_url")
    url = found.get("url") if isinstance(found, dict) else None
    if isinstance(url, str) and url.startswith("data:") and ";base64," in url:
        kind, _, data = url[5:].partition(";base64,")
        yield Media("image", kind, base64=data)


def _read_call(call: Json, index: int, back: Back) -> Call:
    if not isinstance(call, dict):
        raise broken("a tool call is not an object")
    inner = call.get("function") or call.get("custom")
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise broken("a tool call has no name")
    arguments = inner.get("arguments", inner.get("input"))
    if isinstance(arguments, dict):  # Ollama and a few others
        arguments = msgspec.json.encode(arguments).decode()
    if arguments is not None and not isinstance(arguments, str):
        raise broken("the arguments of a tool call are no text")
    return back.call(call_id(call.get("id"), index), inner["name"], arguments or "", _signature(call))


def call_id(given: Json, index: int) -> str:
    """Return a call's id, one of ours where a host gives none."""
    return given if isinstance(given, str) and given else f"call_{index}"


def _signature(call: Mapping[str, Json]) -> Opaque | None:
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    kept = google.get("thought_signature") if isinstance(google, dict) else None
    return Opaque("gemini", kept) if isinstance(kept, str) and kept else None


class ChatReader:
    """Reads a stream of chunks. A candidate has one part open at a time."""

    def __init__(self, back: Back) -> None:
        self._back = back
        self._has_begun = False
        self._next = 0
        self._open: dict[int, _OpenPart] = {}
        self._calls: dict[tuple[int, int], int] = {}
        self._finishes: dict[int, tuple[str, str | None]] = {}

    def feed(self, name: str, body: bytes) -> Iterator[Event]:
        if body == b"[DONE]":
            return
        chunk = object_of(body)
        if chunk.get("error") or chunk.get("object") == "error":  # Mistral, and older vLLMs
            raise ToldError(body)
        model = chunk.get("model")
        if not self._has_begun and (model or chunk.get("choices")):  # Azure's first event has neither
            self._has_begun = True
            yield Begin(model if isinstance(model, str) and model else None)
        for choice in objects_of(chunk.get("choices")):
            yield from self._choice(choice)
        usage = chunk.get("usage")
        found = None if usage is None else usage_of(usage)
        if found is not None:
            yield Used(found)

    def close(self) -> Iterator[Event]:
        if not self._finishes:
            raise ended_early()
        for candidate in list(self._open):
            yield from self._shut(candidate)
        for candidate, (reason, matched) in self._finishes.items():
            yield Finish(reason, matched, candidate)

    def _choice(self, choice: Mapping[str, Json]) -> Iterator[Event]:
        candidate = choice.get("index") or 0
        if not isinstance(candidate, int):
            raise broken("a choice has no number")
        delta = choice.get("delta")
        if isinstance(delta, dict):
            thought = _thought(delta)
            if thought:
                yield from self._words(candidate, Thinking(), thought)
            for part in _pieces(delta.get("content")):
                yield from self._words(candidate, type(part)(""), part.text, _logprobs(choice))
                if isinstance(part, Thinking) and part.opaque is not None:
                    self._open[candidate].opaque = part.opaque
            refusal = delta.get("refusal")
            if isinstance(refusal, str) and refusal:
                yield from self._words(candidate, Refusal(""), refusal)
            for call in objects_of(delta.get("tool_calls")):
                yield from self._call(candidate, call)
            yield from self._rest(candidate, delta)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            found = _FINISHES.get(reason, STOP)
            if found == STOP and any(key[0] == candidate for key in self._calls):
                found = TOOLS
            self._finishes[candidate] = (found, _matched(choice))

    def _rest(self, candidate: int, delta: Mapping[str, Json]) -> Iterator[Event]:
        for image in objects_of(delta.get("images")):
            for media in _image(image):
                yield from self._begin(candidate, media)
                yield from self._shut(candidate)
        found = tuple(_citations(delta))
        opened = self._open.get(candidate)
        if found and opened is not None:
            opened.citations += found

    def _words(
        self, candidate: int, part: Part, text: str, logprobs: Sequence[Json] = ()
    ) -> Iterator[Event]:
        opened = self._open.get(candidate)
        if opened is None or type(opened.part) is not type(part):
            yield from self._begin(candidate, part)
            opened = self._open[candidate]
        if text:
            yield Delta(opened.index, text, logprobs)

    def _call(self, candidate: int, call: Json) -> Iterator[Event]:
        if not isinstance(call, dict):
            raise broken("a tool call is not an object")
        inner = call.get("function") or call.get("custom") or {}
        if not isinstance(inner, dict):
            raise broken("a tool call has no function")
        number = self._number(candidate, call, inner)
        key = (candidate, number)
        if key not in self._calls:
            name = inner.get("name")
            if not isinstance(name, str) or not name:
                raise broken("a tool call begins without a name")
            part = self._back.call(call_id(call.get("id"), number), name, "", _signature(call))
            yield from self._begin(candidate, part)
            self._calls[key] = self._open[candidate].index
        opened = self._open.get(candidate)
        if opened is None or opened.index != self._calls[key]:
            raise broken("the arguments of two tool calls are mixed")
        arguments = inner.get("arguments", inner.get("input"))
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        if isinstance(arguments, str) and arguments:
            yield from opened.more(arguments)

    def _number(self, candidate: int, call: Mapping[str, Json], inner: Mapping[str, Json]) -> int:
        """Return which call this is; some hosts leave the index out and send each call whole."""
        index = call.get("index")
        if isinstance(index, int):
            return index
        seen = [number for own, number in self._calls if own == candidate]
        is_new = isinstance(inner.get("name"), str) and bool(inner.get("name"))
        return (max(seen, default=-1) + 1) if is_new or not seen else max(seen)

    def _begin(self, candidate: int, part: Part) -> Iterator[Event]:
        yield from self._shut(candidate)
        is_held = isinstance(part, Call) and part.is_custom and not self._back.manners.takes_custom_tools
        self._open[candidate] = _OpenPart(self._next, part, is_held)
        yield Open(self._next, part, candidate)
        self._next += 1

    def _shut(self, candidate: int) -> Iterator[Event]:
        opened = self._open.pop(candidate, None)
        if opened is not None:
            yield from opened.close()


class _OpenPart:
    """A part that is being read. The arguments of a custom tool that came as JSON are held to the end."""

    def __init__(self, index: int, part: Part, is_held: bool) -> None:
        self.index = index
        self.part = part
        self.citations: tuple[Citation, ...] = ()
        self.opaque: Opaque | None = None
        self._held: list[str] | None = [] if is_held else None
        self._held_chars = 0

    def more(self, arguments: str) -> Iterator[Event]:
        if self._held is None:
            yield Delta(self.index, arguments)
            return
        self._held.append(arguments)
        self._held_chars += len(arguments)
        if self._held_chars > MAX_HELD_CHARS:
            raise broken("the text of a custom tool is too long")

    def close(self) -> Iterator[Event]:
        if self._held:
            yield Delta(self.index, unpacked("".join(self._held)))
        yield Close(self.index, self.opaque, self.citations)


def object_of(body: bytes) -> dict[str, Json]:
    """Read an event; `UpstreamBroken` for what is no JSON object."""
    try:
        found = decode_json(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise broken("an event of the stream is not valid JSON") from None
    if not isinstance(found, dict):
        raise broken("an event of the stream is not an object")
    return found
