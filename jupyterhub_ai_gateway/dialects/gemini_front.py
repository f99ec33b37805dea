"""Google's Gemini API towards a caller: requests read, answers and streams written.

Google's own reader takes each name in two spellings, and one object where a list of them belongs; this one
does too. A signature is bytes in this format: what only its maker can read is in base64 within.

Source: https://ai.google.dev/api/generate-content and /caching; google-genai 3.4 `types.py` (read 2026-11).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping

from ..vocabulary import Usage
from .canonical import (
    CONTEXT,
    FILTER,
    LENGTH,
    PAUSE,
    REFUSED,
    STOP,
    STOP_SEQUENCE,
    TOOLS,
    Answer,
    Begin,
    Call,
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
    Role,
    Shape,
    Text,
    Thinking,
    Tool,
    Turn,
    Used,
)
from .codec import MAX_HELD_CHARS, Context, arguments_object, broken, encode_json, merged, unwrap, wrap
from .gemini_back import MAKER
from .loss import DROPPED, IGNORED, MAPPED, Loss, Reader, Refused, Table, wrong
from .policy import camel

_SERVER = Refused("is of a tool that Google itself runs")
_ACCOUNT = Refused("is of the provider's account")
_KIND = Refused("asks for an answer of another kind than words")

REQUEST: Table = {
    "contents": MAPPED,
    "systemInstruction": MAPPED,
    "tools": MAPPED,
    "toolConfig": MAPPED,
    "generationConfig": MAPPED,
    "model": IGNORED,
    "safetySettings": DROPPED,
    "serviceTier": MAPPED,
    "cachedContent": _ACCOUNT,
    "labels": IGNORED,
    "store": IGNORED,
    "modelArmorConfig": _ACCOUNT,
    "outputConfig": _ACCOUNT,
    "continuationToken": Refused("goes on with an answer of Google's own"),
}
CONTENT: Table = {"role": MAPPED, "parts": MAPPED}
PART: Table = {
    "text": MAPPED,
    "thought": MAPPED,
    "thoughtSignature": MAPPED,
    "inlineData": MAPPED,
    "fileData": MAPPED,
    "functionCall": MAPPED,
    "functionResponse": MAPPED,
    "executableCode": _SERVER,
    "codeExecutionResult": _SERVER,
    "toolCall": _SERVER,
    "toolResponse": _SERVER,
    "mediaResolution": DROPPED,
    "mediaProcessing": DROPPED,
    "videoMetadata": DROPPED,
    "partMetadata": IGNORED,
    "audioTranscription": IGNORED,
    "speechMetadata": IGNORED,
    "documentMetadata": IGNORED,
    "spreadsheetMetadata": IGNORED,
    "audioMetadata": IGNORED,
}
BLOB: Table = {"data": MAPPED, "mimeType": MAPPED, "displayName": MAPPED}
FILE_DATA: Table = {"fileUri": MAPPED, "mimeType": MAPPED, "displayName": MAPPED}
CALL: Table = {
    "id": MAPPED,
    "name": MAPPED,
    "args": MAPPED,
    "partialArgs": Refused("is a call that is not complete"),
    "willContinue": Refused("is a call that is not complete"),
}
RESPONSE: Table = {
    "id": MAPPED,
    "name": MAPPED,
    "response": MAPPED,
    "parts": MAPPED,
    "willContinue": Refused("is a result that is not complete"),
    "scheduling": DROPPED,
}
RESPONSE_PART: Table = {
    "inlineData": MAPPED,
    "fileData": MAPPED,
    "mediaResolution": DROPPED,
    "mediaProcessing": DROPPED,
    "videoMetadata": DROPPED,
    "documentMetadata": IGNORED,
    "spreadsheetMetadata": IGNORED,
    "audioMetadata": IGNORED,
}
TOOL: Table = {
    "functionDeclarations": MAPPED,
    **dict.fromkeys(
        (
            "googleSearch",
            "googleSearchRetrieval",
            "googleMaps",
            "codeExecution",
            "urlContext",
            "computerUse",
            "enterpriseWebSearch",
            "fileSearch",
            "retrieval",
            "mcpServers",
            "parallelAiSearch",
            "exaAiSearch",
        ),
        Refused("is a tool that only Google's own models know"),
    ),
}
DECLARATION: Table = {
    "name": MAPPED,
    "description": MAPPED,
    "parameters": MAPPED,
    "parametersJsonSchema": MAPPED,
    "response": DROPPED,
    "responseJsonSchema": DROPPED,
    "behavior": DROPPED,
}
TOOL_CONFIG: Table = {
    "functionCallingConfig": MAPPED,
    "retrievalConfig": DROPPED,
    "includeServerSideToolInvocations": IGNORED,
}
CALLING: Table = {"mode": MAPPED, "allowedFunctionNames": MAPPED, "streamFunctionCallArguments": DROPPED}
CONFIG: Table = {
    "temperature": MAPPED,
    "topP": MAPPED,
    "topK": MAPPED,
    "candidateCount": MAPPED,
    "maxOutputTokens": MAPPED,
    "stopSequences": MAPPED,
    "responseLogprobs": MAPPED,
    "logprobs": MAPPED,
    "presencePenalty": MAPPED,
    "frequencyPenalty": MAPPED,
    "seed": MAPPED,
    "responseMimeType": MAPPED,
    "responseSchema": MAPPED,
    "responseJsonSchema": MAPPED,
    "responseFormat": Refused("is a list of shapes that only Google's own models know"),
    "thinkingConfig": MAPPED,
    "responseModalities": MAPPED,
    "speechConfig": _KIND,
    "imageConfig": DROPPED,
    "mediaResolution": DROPPED,
    "audioTimestamp": DROPPED,
    "audioTranscriptionConfig": _KIND,
    "translationConfig": _KIND,
    "enableAffectiveDialog": DROPPED,
    "enableEnhancedCivicAnswers": DROPPED,
    "routingConfig": _ACCOUNT,
    "modelSelectionConfig": _ACCOUNT,
}
THINKING: Table = {"includeThoughts": MAPPED, "thinkingBudget": MAPPED, "thinkingLevel": MAPPED}
_NAMES = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "candidateCount": "n",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "seed": "seed",
    "responseMimeType": "shape",
    "thinkingConfig": "reasoning",
}
_TIERS = {"flex": "flex", "priority": "priority", "standard": "default"}
_ROLES: Mapping[str, Role] = {"user": "user", "model": "assistant", "function": "user", "system": "system"}

FINISHES: Mapping[str, str] = {
    STOP: "STOP",
    STOP_SEQUENCE: "STOP",
    TOOLS: "STOP",
    LENGTH: "MAX_TOKENS",
    CONTEXT: "MAX_TOKENS",
    FILTER: "SAFETY",
    REFUSED: "SAFETY",
    PAUSE: "OTHER",
}


class GeminiFront:
    """The half of the Gemini API that faces a caller."""

    def decode_request(self, fields: dict[str, Json], loss: Loss) -> Request:
        reader = Reader(_camel(fields), "", REQUEST, loss)
        request = Request(turns=[*_system(reader), *_Conversation(loss).read(reader)])
        request.tools = [
            tool for place, item in _items(reader, "tools") for tool in _tools(item, place, loss)
        ]
        tier = reader.text("serviceTier")
        request.service_tier = None if tier is None else _TIERS.get(tier.lower())
        _choose(reader, request)
        _configure(reader, request)
        return request

    def encode_answer(self, answer: Answer, context: Context) -> Json:
        candidates = []
        for index, candidate in enumerate(answer.candidates):
            parts = [written for part in candidate.parts for written in _parts(part)]
            made: dict[str, Json] = {
                "content": {"parts": parts or [{"text": ""}], "role": "model"},
                "finishReason": FINISHES[candidate.finish or STOP],
                "index": index,
            }
            texts = [part for part in candidate.parts if isinstance(part, Text)]
            made |= _told(
                [cite for part in texts for cite in part.citations],
                [each for part in texts for each in part.logprobs],
            )
            candidates.append(made)
        document = {"candidates": candidates, **_head(context, answer.model)}
        if answer.usage is not None:
            document["usageMetadata"] = usage_object(answer.usage)
        return document

    def encoder(self, context: Context) -> GeminiStream:
        return GeminiStream(context)


# Reading


def _camel(value: Json) -> Json:
    """Return an object with its names in the usual spelling."""
    return {camel(name): item for name, item in value.items()} if isinstance(value, dict) else value


def _child(reader: Reader, name: str, table: Table) -> Reader | None:
    value = reader.any(name)
    return None if value is None else Reader(_camel(value), reader.place(name), table, reader.loss)


def _items(reader: Reader, name: str) -> Iterator[tuple[str, Json]]:
    """Yield the objects of a list, or the one that stands in its place."""
    value = reader.any(name)
    if isinstance(value, dict):
        yield reader.place(name), value
    else:
        yield from reader.items(name)


def _system(reader: Reader) -> Iterator[Turn]:
    value = reader.any("systemInstruction")
    if isinstance(value, str):
        yield Turn("system", [Text(value)])
        return
    content = _child(reader, "systemInstruction", CONTENT)
    if content is None:
        return
    parts = []
    for place, item in _items(content, "parts"):
        part = Reader(_camel(item), place, PART, reader.loss)
        text = part.text("text")
        if text is None:
            raise wrong(place, "must be text")
        parts.append(Text(text))
    yield Turn("system", parts)


class _Conversation:
    """Reads contents. A result is of the call that has its id, or else the first one of its name."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._open: list[tuple[str, str]] = []
        self._count = 0

    def read(self, reader: Reader) -> list[Turn]:
        turns = [self._turn(item, place) for place, item in _items(reader, "contents")]
        return [Turn(turn.role, list(_joined(turn.parts))) for turn in merged(turns)]

    def _turn(self, item: Json, place: str) -> Turn:
        if isinstance(item, str):
            return Turn("user", [Text(item)])
        reader = Reader(_camel(item), place, CONTENT, self._loss)
        role = reader.text("role") or "user"
        if role not in _ROLES:
            raise wrong(reader.place("role"), "must be user or model")
        parts = [part for where, each in _items(reader, "parts") for part in self._part(each, where)]
        return Turn(_ROLES[role], parts)

    def _part(self, item: Json, place: str) -> Iterator[Part]:
        reader = Reader(_camel(item), place, PART, self._loss)
        opaque = _opaque(reader.text("thoughtSignature"))
        if "functionCall" in reader:
            yield self._call(reader, opaque)
            return
        if "functionResponse" in reader:
            yield self._result(reader)
            return
        if "inlineData" in reader or "fileData" in reader:
            yield _media(reader)
        elif reader.flag("thought"):
            yield Thinking(reader.text("text") or "", opaque, is_redacted=not reader.text("text"))
            return
        elif reader.text("text") is None and opaque is None:
            raise wrong(place, "must hold text, inlineData, fileData, functionCall or functionResponse")
        elif reader.text("text"):
            yield Text(reader.required("text"))
        if opaque is not None:
            yield Thinking("", opaque, is_redacted=True)

    def _call(self, reader: Reader, opaque: Opaque | None) -> Call:
        call = _child(reader, "functionCall", CALL)
        assert call is not None  # noqa: S101 - who calls has looked
        name = call.required("name")
        id_ = call.text("id") or f"call_{self._count}"
        self._count += 1
        self._open.append((id_, name))
        return Call(id_, name, encode_json(call.object("args") or {}).decode(), opaque=opaque)

    def _result(self, reader: Reader) -> Result:
        result = _child(reader, "functionResponse", RESPONSE)
        assert result is not None  # noqa: S101 - who calls has looked
        name, id_ = result.text("name") or "", result.text("id")
        known = next(
            (each for each in self._open if (each[0] == id_) or (not id_ and each[1] == name)), None
        )
        if known is not None:
            self._open.remove(known)
            id_ = known[0]
        if id_ is None:
            raise wrong(result.place("name"), "is of no function that was called")
        text, is_error = _told_by(result.object("response") or {})
        parts: list[Text | Media] = [Text(text)]
        for place, item in _items(result, "parts"):
            parts.append(_media(Reader(_camel(item), place, RESPONSE_PART, self._loss)))
        return Result(id_, parts, is_error)


def _told_by(response: Mapping[str, Json]) -> tuple[str, bool]:
    """Read a result: Google's own words for it are `output` and `error`, all else is told as it is."""
    if len(response) == 1:
        name, value = next(iter(response.items()))
        if name in ("output", "result", "error") and isinstance(value, str):
            return value, name == "error"
    return encode_json(response).decode(), "error" in response and len(response) == 1


def _opaque(signature: str | None) -> Opaque | None:
    """Read a signature: an envelope of ours, in base64, or Google's own."""
    if not signature:
        return None
    try:
        text = base64.b64decode(signature.replace("-", "+").replace("_", "/"), validate=True).decode()
    except (binascii.Error, ValueError):
        return Opaque(MAKER, signature)
    return unwrap(text, MAKER) if text.startswith("aig1.") else Opaque(MAKER, signature)


def signature_of(opaque: Opaque) -> str:
    """Return what a caller keeps, as bytes in base64."""
    return opaque.blob if opaque.maker == MAKER else base64.b64encode(wrap(opaque).encode()).decode()


def _joined(parts: list[Part] | tuple[Part, ...] | Json) -> Iterator[Part]:
    """Join what streams cut in pieces: words to words, thoughts to thoughts, up to their signature."""
    held: Text | Thinking | None = None
    for part in parts:
        if isinstance(held, Text) and isinstance(part, Text):
            held = Text(held.text + part.text)
        elif isinstance(held, Thinking) and isinstance(part, Thinking) and held.opaque is None:
            held = Thinking(held.text + part.text, part.opaque, part.is_redacted and not held.text)
        else:
            if held is not None:
                yield held
            held = part if isinstance(part, Text | Thinking) else None
            if held is None:
                yield part
    if held is not None:
        yield held


def _media(reader: Reader) -> Media:
    blob = _child(reader, "inlineData", BLOB)
    if blob is not None:
        kind, name = blob.required("mimeType"), blob.text("displayName")
        data = blob.required("data").replace("-", "+").replace("_", "/")
        return Media(_kind_of(kind, blob), kind, base64=data, name=name)
    file = _child(reader, "fileData", FILE_DATA)
    if file is None:
        raise wrong(reader.path, "must hold inlineData or fileData")
    mime = file.text("mimeType")
    url = file.required("fileUri")
    if not url.startswith(("https://", "http://")):
        reader.loss.refuse(file.place("fileUri"), "names a file that only Google can read")
    return Media(_kind_of(mime or "", file), mime, url=url, name=file.text("displayName"))


def _kind_of(mime: str, reader: Reader) -> Json:
    family = mime.partition("/")[0]
    if family == "video":
        reader.loss.refuse(reader.path, "is a video")
    return family if family in ("image", "audio") else "file"


def _tools(item: Json, place: str, loss: Loss) -> Iterator[Tool]:
    reader = Reader(_camel(item), place, TOOL, loss)
    for where, each in _items(reader, "functionDeclarations"):
        declared = Reader(_camel(each), where, DECLARATION, loss)
        schema = declared.any("parametersJsonSchema")
        if schema is None:
            schema = json_schema(declared.any("parameters"))
        yield Tool(declared.required("name"), declared.text("description"), schema)


def json_schema(value: Json) -> Json:
    """Return the JSON Schema of Google's own `Schema`, whose types are in capitals.

    Source: https://ai.google.dev/api/caching#Schema (read 2026-11).
    """
    if isinstance(value, list):
        return [json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    schema: dict[str, Json] = {}
    for name, item in ((camel(name), item) for name, item in value.items()):
        if name == "properties" and isinstance(item, dict):
            schema[name] = {key: json_schema(each) for key, each in item.items()}
        elif name in ("items", "anyOf", "additionalProperties"):
            schema[name] = json_schema(item)
        elif name in _COUNTS and isinstance(item, str) and item.isdigit():
            schema[name] = int(item)
        elif name == "type":
            schema[name] = item.lower() if isinstance(item, str) else item
        elif name not in ("propertyOrdering", "nullable"):
            schema[name] = item
    if value.get("nullable") is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema


_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def _choose(reader: Reader, request: Request) -> None:
    config = _child(reader, "toolConfig", TOOL_CONFIG)
    calling = None if config is None else _child(config, "functionCallingConfig", CALLING)
    if calling is None:
        return
    mode, names = (calling.text("mode") or "AUTO").upper(), calling.texts("allowedFunctionNames")
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"):
        raise wrong(calling.place("mode"), "must be AUTO, ANY, NONE or VALIDATED")
    request.names["choice"] = "toolConfig"
    if names and mode in ("ANY", "VALIDATED"):
        request.choice = Named(names, must=mode == "ANY")
    else:
        request.choice = {"ANY": "required", "NONE": "none"}.get(mode, "auto")
    if mode == "VALIDATED":
        request.tools = [
            Tool(each.name, each.description, each.schema, strict=True) for each in request.tools
        ]


def _configure(reader: Reader, request: Request) -> None:
    config = _child(reader, "generationConfig", CONFIG)
    if config is None:
        return
    request.temperature, request.top_p = config.number("temperature"), config.number("topP")
    top_k = config.number("topK")
    request.top_k = None if top_k is None else round(top_k)
    request.n, request.max_tokens = config.integer("candidateCount"), config.integer("maxOutputTokens")
    request.stop, request.seed = config.texts("stopSequences"), config.integer("seed")
    request.logprobs, request.top_logprobs = config.flag("responseLogprobs"), config.integer("logprobs")
    request.presence_penalty = config.number("presencePenalty")
    request.frequency_penalty = config.number("frequencyPenalty")
    for modality in config.texts("responseModalities"):
        if modality.upper() not in ("TEXT", "MODALITY_UNSPECIFIED"):
            reader.loss.refuse(config.place("responseModalities"), _KIND.why)
    request.shape = _shape(config)
    request.reasoning = _reasoning(config)
    names = config.names_of(_NAMES)
    request.names |= {attribute: config.place(name) for attribute, name in names.items()}


def _shape(config: Reader) -> Shape | None:
    kind = config.text("responseMimeType") or "text/plain"
    schema = config.any("responseJsonSchema")
    if schema is None:
        schema = json_schema(config.any("responseSchema"))
    if kind == "application/json":
        return Shape(schema=schema, strict=True if schema is not None else None)
    if kind != "text/plain" or schema is not None:
        config.loss.refuse(config.place("responseMimeType"), "asks for a shape that others do not have")
    return None


def _reasoning(config: Reader) -> Reasoning | None:
    thinking = _child(config, "thinkingConfig", THINKING)
    if thinking is None:
        return None
    level, budget = thinking.text("thinkingLevel"), thinking.integer("thinkingBudget")
    known = None if level is None or level.upper() == "THINKING_LEVEL_UNSPECIFIED" else level.lower()
    return Reasoning(
        known,
        budget if budget is not None and budget > 0 else None,
        is_adaptive=known is None and (budget is None or budget < 0),
        is_off=budget == 0,
        is_hidden=not thinking.flag("includeThoughts"),
    )


# Writing


def _head(context: Context, model: str | None) -> dict[str, Json]:
    return {"modelVersion": model or context.model, "responseId": context.request_id}


def usage_object(usage: Usage) -> dict[str, Json]:
    """Return usage in Google's words: thinking is counted apart. What is unknown is left out."""
    into, out, thought = usage.input_tokens, usage.output_tokens, usage.reasoning_tokens
    written = {
        "promptTokenCount": into,
        "candidatesTokenCount": None if out is None else max(0, out - (thought or 0)),
        "thoughtsTokenCount": thought,
        "cachedContentTokenCount": usage.cached_input_tokens,
        "totalTokenCount": None if into is None or out is None else into + out,
    }
    return {name: value for name, value in written.items() if value is not None}


def _parts(part: Part) -> Iterator[dict[str, Json]]:
    """Write a part of an answer."""
    if isinstance(part, Text | Refusal):
        if part.text:
            yield {"text": part.text}
    elif isinstance(part, Thinking):
        yield _thought(part.text, part.opaque)
    elif isinstance(part, Call):
        yield _call(part, part.arguments)
    elif isinstance(part, Media) and part.base64 is not None:
        yield {"inlineData": {"mimeType": part.media_type or "image/png", "data": part.base64}}


def _thought(text: str, opaque: Opaque | None) -> dict[str, Json]:
    if opaque is not None and opaque.maker == MAKER and not text:
        return {"text": "", "thoughtSignature": opaque.blob}  # as Google itself tells it
    signed = {} if opaque is None else {"thoughtSignature": signature_of(opaque)}
    return {"text": text, "thought": True, **signed}


def _call(call: Call, arguments: str) -> dict[str, Json]:
    made = {"id": call.id, "name": call.name, "args": arguments_object(arguments)}
    signed = {} if call.opaque is None else {"thoughtSignature": signature_of(call.opaque)}
    return {"functionCall": made, **signed}


def _told(cites: list[Citation], logprobs: list[Json]) -> dict[str, Json]:
    """Return what a candidate says beside its content."""
    told: dict[str, Json] = {}
    if cites:
        told["citationMetadata"] = {"citationSources": [_citation(cite) for cite in cites]}
    if logprobs:
        told["logprobsResult"] = {
            "chosenCandidates": [_logprob(each) for each in logprobs],
            "topCandidates": [
                {"candidates": [_logprob(other) for other in each.get("top_logprobs") or ()]}
                for each in logprobs
            ],
        }
    return told


def _citation(cite: Citation) -> Json:
    given = {"uri": cite.url, "title": cite.title, "startIndex": cite.start, "endIndex": cite.end}
    return {name: value for name, value in given.items() if value is not None}


def _logprob(found: Json) -> Json:
    return {"token": found.get("token"), "logProbability": found.get("logprob")}


class GeminiStream:
    """Writes pieces of an answer. A call is written whole, and what it cost at the end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._model: str | None = None
        self._usage: Usage | None = None
        self._open: dict[int, Open] = {}
        self._held: list[str] = []
        self._held_chars = 0
        self._finishes: dict[int, str] = {}

    def encode(self, event: Event) -> bytes:
        write = _WRITERS[type(event)]
        return write(self, event)

    def close(self) -> bytes:
        candidates = []
        for index, reason in self._finishes.items():
            made = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": reason}
            candidates.append({**made, "index": index})
        return self._write(candidates)

    def _on_begin(self, event: Begin) -> bytes:
        self._model, self._usage = event.model, event.usage
        return b""

    def _on_used(self, event: Used) -> bytes:
        self._usage = event.usage
        return b""

    def _on_open(self, event: Open) -> bytes:
        self._open[event.index] = event
        part = event.part
        if isinstance(part, Media):
            return self._piece(event.candidate, list(_parts(part)))
        words = part.text if isinstance(part, Text | Thinking | Refusal) else ""
        return self._words(event, words) if words else b""

    def _on_delta(self, event: Delta) -> bytes:
        opened = self._open[event.index]
        if isinstance(opened.part, Call):
            self._held.append(event.text)
            self._held_chars += len(event.text)
            if self._held_chars > MAX_HELD_CHARS:
                raise broken("the arguments of a tool call are too long")
            return b""
        return self._words(opened, event.text, list(event.logprobs))

    def _on_close(self, event: Close) -> bytes:
        opened = self._open.pop(event.index)
        part = opened.part
        if event.citations:
            return self._piece(opened.candidate, [{"text": ""}], _told(list(event.citations), []))
        if isinstance(part, Call):
            arguments, self._held, self._held_chars = "".join(self._held), [], 0
            return self._piece(opened.candidate, [_call(part, arguments or part.arguments)])
        if isinstance(part, Thinking):
            opaque = event.opaque or part.opaque
            if opaque is not None:
                signed = {"text": "", "thought": True, "thoughtSignature": signature_of(opaque)}
                is_own = opaque.maker == MAKER and part.is_redacted
                return self._piece(opened.candidate, [_thought("", opaque) if is_own else signed])
        return b""

    def _on_finish(self, event: Finish) -> bytes:
        self._finishes[event.candidate] = FINISHES[event.reason]
        return b""

    def _words(self, opened: Open, text: str, logprobs: list[Json] | None = None) -> bytes:
        part: dict[str, Json] = {"text": text}
        if isinstance(opened.part, Thinking):
            part["thought"] = True
        return self._piece(opened.candidate, [part], _told([], logprobs or []))

    def _piece(self, candidate: int, parts: list[dict[str, Json]], told: Json = None) -> bytes:
        if not parts:
            return b""
        content = {"content": {"parts": parts, "role": "model"}, "index": candidate}
        return self._write([content | (told or {})], is_last=False)

    def _write(self, candidates: list[Json], *, is_last: bool = True) -> bytes:
        document = {"candidates": candidates, **_head(self._context, self._model)}
        if is_last and self._usage is not None:
            document["usageMetadata"] = usage_object(self._usage)
        return b"data: " + encode_json(document) + b"\r\n\r\n"


_WRITERS: Mapping[type, Callable[[GeminiStream, Json], bytes]] = {
    Begin: GeminiStream._on_begin,
    Used: GeminiStream._on_used,
    Open: GeminiStream._on_open,
    Delta: GeminiStream._on_delta,
    Close: GeminiStream._on_close,
    Finish: GeminiStream._on_finish,
}
