"""Google's Gemini API towards a provider: requests written, answers and streams read.

Source: https://ai.google.dev/api/generate-content; below /gemini-api/docs thinking, thought-signatures,
function-calling and structured-output (read 2026-11).
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from ..vocabulary import Usage
from .canonical import (
    FILTER,
    LENGTH,
    NONE,
    PAUSE,
    REQUIRED,
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
    Turn,
    Used,
)
from .chat_back import object_of
from .codec import (
    Back,
    ToldError,
    arguments_object,
    broken,
    calls_of,
    custom_schema,
    encode_json,
    ended_early,
    items_of,
    merged,
    objects_of,
    packed,
    results_of,
    system_apart,
)
from .gemini import UsageObject
from .gemini_request import is_public
from .loss import DROPPED, Loss, Verb

MAKER = "gemini"
NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google takes in the place of a signature that is lost, as it says where it tells of signatures."""

LACKS: Mapping[str, Verb] = {
    "logit_bias": DROPPED,
    "verbosity": DROPPED,
    "service_tier": DROPPED,
    "cache_key": DROPPED,
    "has_cache": DROPPED,
    "user": DROPPED,
}
_CONFIG = {
    "maxOutputTokens": "max_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "stopSequences": "stop",
    "seed": "seed",
    "candidateCount": "n",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}
FINISHES: Mapping[str, str] = {
    "MAX_TOKENS": LENGTH,
    "SAFETY": FILTER,
    "RECITATION": FILTER,
    "LANGUAGE": FILTER,
    "BLOCKLIST": FILTER,
    "PROHIBITED_CONTENT": FILTER,
    "SPII": FILTER,
    "MODEL_ARMOR": FILTER,
    "IMAGE_SAFETY": FILTER,
    "IMAGE_PROHIBITED_CONTENT": FILTER,
    "IMAGE_RECITATION": FILTER,
    "CONTINUATION": PAUSE,
}
_BROKEN = (
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MALFORMED_RESPONSE",
    "MISSING_THOUGHT_SIGNATURE",
)
"""What says that there is no answer: the model wrote what cannot be read."""
_BUDGETS: Mapping[str, int] = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
_LEVELS: Mapping[str, str] = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
_LEVEL_OF_BUDGET = ((0, "none"), (1024, "low"), (8192, "medium"))
_LEAST_OF_PRO = 128
_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Gemini:
    """What a model of this family takes, by the version in its name; one without is a new one."""

    version: tuple[int, int]
    is_pro: bool

    @classmethod
    def named(cls, model: str) -> Gemini:
        found = _VERSION.search(model)
        if found is None:
            return cls((99, 0) if "gemini" in model else (0, 0), "pro" in model)
        return cls((int(found[1]), int(found[2] or 0)), "pro" in model)

    @property
    def thinks(self) -> bool:
        return self.version >= (2, 5)

    @property
    def has_levels(self) -> bool:
        """Say whether thinking is asked for by level, and calls of tools must be signed."""
        return self.version >= (3, 0)


class GeminiBack:
    """The half of the Gemini API that faces a provider."""

    def encode_request(self, back: Back, loss: Loss) -> dict[str, Json]:
        request = back.request
        loss.lose(request, LACKS)
        if request.parallel_tools is False:
            loss.drop(request.names.get("parallel_tools", "parallel_tools"))
        gemini = Gemini.named(back.manners.model)
        system, turns = system_apart(request)
        told = [{"text": part.text} for part in system if part.text]
        contents = list(_Contents(back, loss, gemini.has_levels).of(turns))
        body: dict[str, Json] = {
            "contents": contents or [{"role": "user", "parts": told or [{"text": ""}]}]
        }
        if told and contents:
            body["systemInstruction"] = {"parts": told}
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(tool, back) for tool in request.tools]}]
            config = _calling(request, back)
            if config:
                body["toolConfig"] = {"functionCallingConfig": config}
        config = _config(request)
        thinking = _thinking(request, gemini, loss)
        if thinking:
            config["thinkingConfig"] = thinking
        if config:
            body["generationConfig"] = config
        return body

    def decode_answer(self, document: Json, back: Back) -> Answer:
        if not isinstance(document, dict):
            raise broken("the answer is not an object")
        found = document.get("candidates")
        candidates = [_candidate(each, back) for each in found] if isinstance(found, list) else []
        if not candidates:
            if not _is_blocked(document):
                raise broken("the answer has no candidates")
            candidates = [Candidate([], FILTER)]
        return Answer(candidates, _model(document), usage_of(document.get("usageMetadata")))

    def decoder(self, back: Back) -> GeminiReader:
        return GeminiReader(back)


# Writing


class _Contents:
    """Writes a conversation. `signs` is true where calls of the present turn must be signed."""

    def __init__(self, back: Back, loss: Loss, signs: bool) -> None:
        self._back = back
        self._loss = loss
        self._signs = signs
        self._calls = calls_of(back.request)

    def of(self, turns: Iterable[Turn]) -> Iterator[Json]:
        joined = list(merged(turns))
        present = max((at for at, turn in enumerate(joined) if _is_question(turn)), default=0)
        for at, turn in enumerate(joined):
            if turn.role == "assistant":
                parts = list(self._said(turn, signs=self._signs and at > present))
            else:
                results, rest = results_of(turn.parts)
                parts = [self._result(each) for each in results]
                parts += [written for part in rest for written in self._shown(part)]
            if parts:
                yield {"role": "model" if turn.role == "assistant" else "user", "parts": parts}

    def _said(self, turn: Turn, *, signs: bool) -> Iterator[dict[str, Json]]:
        """Write what the model said; the first of its calls in a turn that goes on has a signature."""
        signature: str | None = None
        for part in turn.parts:
            if isinstance(part, Call):
                own = _own(part.opaque)
                if own:
                    yield from _signed(signature)
                yield self._call(part, own or signature or (NO_SIGNATURE if signs else None))
                signs, signature = False, None
                continue
            yield from _signed(signature)
            signature = None
            if not isinstance(part, Thinking):
                yield from self._shown(part)
            elif part.opaque is None or part.opaque.maker == MAKER:
                signature = _own(part.opaque)
                if part.text:
                    yield {"text": part.text, "thought": True}
        yield from _signed(signature)

    def _call(self, call: Call, signature: str | None) -> dict[str, Json]:
        arguments = packed(call.arguments) if call.is_custom else call.arguments
        made: dict[str, Json] = {
            "name": self._back.names.of(call.name),
            "args": arguments_object(arguments),
        }
        if self._back.manners.takes_call_ids:
            made["id"] = self._back.names.id(call.id)
        return {"functionCall": made} | ({"thoughtSignature": signature} if signature else {})

    def _result(self, result: Result) -> dict[str, Json]:
        call = self._calls.get(result.call_id)
        words = [part for part in result.parts if isinstance(part, Text) or part.text is not None]
        text = "\n".join(part.text if isinstance(part, Text) else _media(part)["text"] for part in words)
        made: dict[str, Json] = {
            "name": self._back.names.of(result.call_id if call is None else call.name),
            "response": {"error" if result.is_error else "output": text},
        }
        if self._back.manners.takes_call_ids:
            made["id"] = self._back.names.id(result.call_id)
        media = [part for part in result.parts if isinstance(part, Media) and part.text is None]
        if media:
            made["parts"] = [written for part in media for written in self._shown(part)]
        return {"functionResponse": made}

    def _shown(self, part: Part) -> Iterator[dict[str, Json]]:
        if isinstance(part, Text | Refusal):
            if part.text:
                yield {"text": part.text}
        elif isinstance(part, Media):
            yield self._media(part)

    def _media(self, part: Media) -> dict[str, Json]:
        if part.url is not None and not is_public(part.url):
            self._loss.refuse("messages", "names a file of the provider's account, which everybody shares")
        return _media(part)


def _own(opaque: Opaque | None) -> str | None:
    return opaque.blob if opaque is not None and opaque.maker == MAKER else None


def _signed(signature: str | None) -> Iterator[dict[str, Json]]:
    """Write a signature that is of no call."""
    if signature:
        yield {"text": "", "thoughtSignature": signature}


def _is_question(turn: Turn) -> bool:
    """Say whether a turn of the user's has no results: from here on calls must be signed.

    One with both may go on with a turn, or begin one; a mark too many does no harm.
    """
    return turn.role == "user" and not any(isinstance(part, Result) for part in turn.parts)


def _media(part: Media) -> dict[str, Json]:
    if part.text is not None:
        title = f"{part.name}:\n" if part.name else ""
        return {"text": title + part.text}
    if part.url is not None:
        kind = part.media_type or mimetypes.guess_type(urlsplit(part.url).path)[0]
        return {"fileData": {"fileUri": part.url} | ({"mimeType": kind} if kind else {})}
    usual = {"image": "image/png", "audio": "audio/wav", "file": "application/pdf"}[part.kind]
    return {"inlineData": {"mimeType": part.media_type or usual, "data": part.base64 or ""}}


def _declaration(tool: Tool, back: Back) -> dict[str, Json]:
    schema, told = custom_schema(tool.grammar) if tool.is_custom else (tool.schema, "")
    written: dict[str, Json] = {"name": back.names.of(tool.name)}
    if tool.description or told:
        written["description"] = (tool.description or "") + told
    if schema is not None:
        written["parametersJsonSchema"] = schema
    return written


def _calling(request: Request, back: Back) -> dict[str, Json]:
    choice = request.choice
    if isinstance(choice, Named):
        names = [back.names.of(name) for name in choice.names]
        return {"mode": "ANY" if choice.must else "VALIDATED", "allowedFunctionNames": names}
    if choice in (NONE, REQUIRED):
        return {"mode": "NONE" if choice == NONE else "ANY"}
    if any(tool.strict for tool in request.tools):
        return {"mode": "VALIDATED"}
    return {} if choice is None else {"mode": "AUTO"}


def _config(request: Request) -> dict[str, Json]:
    given = {name: getattr(request, attribute) for name, attribute in _CONFIG.items()}
    config = {name: value for name, value in given.items() if value is not None and value != []}
    if "logprobs" in config and not request.logprobs:
        del config["logprobs"]
    if request.shape is not None:
        config["responseMimeType"] = "application/json"
        if request.shape.schema is not None:
            config["responseJsonSchema"] = request.shape.schema
    return config


def _thinking(request: Request, gemini: Gemini, loss: Loss) -> dict[str, Json]:
    asked = request.reasoning
    if asked is None:
        return {}
    if not gemini.thinks:
        if not asked.is_off:
            loss.drop(request.names.get("reasoning", "reasoning"))
        return {}
    effort = "none" if asked.is_off else asked.effort
    written: dict[str, Json] = {} if effort == "none" or asked.is_hidden else {"includeThoughts": True}
    if gemini.has_levels:
        level = _level(effort, asked.budget_tokens, gemini)
        return written | ({"thinkingLevel": level} if level else {})
    budget = asked.budget_tokens if effort is None else _BUDGETS.get(effort)
    if asked.is_adaptive and effort is None:
        budget = -1
    if budget is not None and gemini.is_pro and 0 <= budget < _LEAST_OF_PRO:
        budget = _LEAST_OF_PRO  # it cannot be told not to think
    return written | ({"thinkingBudget": budget} if budget is not None else {})


def _level(effort: str | None, budget: int | None, gemini: Gemini) -> str | None:
    if effort is None and budget is not None and budget >= 0:
        effort = next((name for most, name in _LEVEL_OF_BUDGET if budget <= most), "high")
    level = _LEVELS.get(effort) if effort is not None else None
    return "LOW" if level == "MINIMAL" and gemini.is_pro else level


# Reading


def usage_of(value: Json) -> Usage | None:
    """Read a usage object."""
    try:
        return msgspec.convert(value, UsageObject).usage() if isinstance(value, dict) else None
    except msgspec.ValidationError:
        return None


def _model(document: Mapping[str, Json]) -> str | None:
    model = document.get("modelVersion")
    return model if isinstance(model, str) and model else None


def _is_blocked(document: Mapping[str, Json]) -> bool:
    feedback = document.get("promptFeedback")
    return isinstance(feedback, dict) and bool(feedback.get("blockReason"))


def finish_of(reason: Json, has_calls: bool) -> str:
    """Return why an answer ends. `UpstreamBroken` where the model wrote what is no answer."""
    if isinstance(reason, str) and reason in _BROKEN:
        raise broken(f"the model's answer is of no use: {reason}")
    found = FINISHES.get(reason, STOP) if isinstance(reason, str) else STOP
    return TOOLS if found == STOP and has_calls else found


def _candidate(found: Json, back: Back) -> Candidate:
    if not isinstance(found, dict):
        raise broken("a candidate is not an object")
    parts: list[Part] = []
    calls = len(calls_of(back.request))
    for at, part in enumerate(parts_of(found), calls):
        for read in _read_part(part, at, back):
            _join(parts, read)
    logprobs = logprobs_of(found)
    cites = tuple(citations_of(found))
    if logprobs or cites:
        for index, read in enumerate(parts):
            if isinstance(read, Text):
                parts[index] = Text(read.text, cites, logprobs)
                break
    has_calls = any(isinstance(part, Call) for part in parts)
    return Candidate(parts, finish_of(found.get("finishReason"), has_calls))


def parts_of(candidate: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Return the parts of a candidate's content."""
    content = candidate.get("content")
    return objects_of(content.get("parts")) if isinstance(content, dict) else []


def _read_part(part: Mapping[str, Json], at: int, back: Back) -> Iterator[Part]:
    """Read a part; `at` makes an id for a call without one, another for each of a conversation."""
    signature = part.get("thoughtSignature")
    opaque = Opaque(MAKER, signature) if isinstance(signature, str) and signature else None
    call, blob, text = part.get("functionCall"), part.get("inlineData"), part.get("text")
    if isinstance(call, dict):
        yield _read_call(call, at, opaque, back)
        return
    if isinstance(blob, dict):
        yield _read_media(blob)
    elif isinstance(text, str) and text:
        yield Thinking(text) if part.get("thought") is True else Text(text)
    elif _is_code(part):
        yield Text(_code(part))
    if opaque is not None:
        yield Thinking("", opaque, is_redacted=True)


def _read_call(call: Mapping[str, Json], at: int, opaque: Opaque | None, back: Back) -> Call:
    name, id_ = call.get("name"), call.get("id")
    if not isinstance(name, str) or not name:
        raise broken("a function call has no name")
    arguments = encode_json(call.get("args") or {}).decode()
    return back.call(id_ if isinstance(id_, str) and id_ else f"call_{at}", name, arguments, opaque)


def _read_media(blob: Mapping[str, Json]) -> Media:
    kind, data = blob.get("mimeType"), blob.get("data")
    if not isinstance(data, str):
        raise broken("a picture of the answer has no data")
    family = str(kind).partition("/")[0]
    mime = kind if isinstance(kind, str) else None
    if family == "image":
        return Media("image", mime, base64=data)
    return Media("audio" if family == "audio" else "file", mime, base64=data)


def _is_code(part: Mapping[str, Json]) -> bool:
    return isinstance(part.get("executableCode"), dict) or isinstance(part.get("codeExecutionResult"), dict)


def _code(part: Mapping[str, Json]) -> str:
    """Tell of code that the host ran by itself as words, which is what other formats have for it."""
    code = part.get("executableCode") or part.get("codeExecutionResult")
    assert isinstance(code, dict)  # noqa: S101 - `_is_code` has looked
    return f"\n```\n{code.get('code') or code.get('output') or ''}\n```\n"


def _join(parts: list[Part], part: Part) -> None:
    """Add a part; words that go on are one."""
    last = parts[-1] if parts else None
    if isinstance(last, Text) and isinstance(part, Text):
        parts[-1] = Text(last.text + part.text)
    elif isinstance(last, Thinking) and isinstance(part, Thinking) and not part.is_redacted:
        if last.opaque is None:
            parts[-1] = Thinking(last.text + part.text)
        else:
            parts.append(part)
    else:
        parts.append(part)


def citations_of(candidate: Mapping[str, Json]) -> Iterator[Citation]:
    """Read where an answer comes from: what it cites, and what it was searched from."""
    told = candidate.get("citationMetadata")
    if isinstance(told, dict):
        for cite in objects_of(told.get("citationSources") or told.get("citations")):
            if isinstance(cite.get("uri"), str):
                yield Citation(cite["uri"], cite.get("title"))
    grounding = candidate.get("groundingMetadata")
    if not isinstance(grounding, dict):
        return
    chunks = [
        each.get("web") if isinstance(each, dict) else None
        for each in items_of(grounding.get("groundingChunks"))
    ]
    for support in items_of(grounding.get("groundingSupports")):
        yield from _supported(support, chunks)


def _supported(support: Json, chunks: Sequence[Json]) -> Iterator[Citation]:
    if not isinstance(support, dict):
        return
    segment = support.get("segment")
    quote = segment.get("text") if isinstance(segment, dict) else None
    for index in items_of(support.get("groundingChunkIndices")):
        web = chunks[index] if isinstance(index, int) and 0 <= index < len(chunks) else None
        if isinstance(web, dict) and isinstance(web.get("uri"), str):
            yield Citation(web["uri"], web.get("title"), quote if isinstance(quote, str) else None)


def logprobs_of(candidate: Mapping[str, Json]) -> Sequence[Json]:
    """Read the probabilities of tokens, as Chat has them."""
    told = candidate.get("logprobsResult")
    chosen = told.get("chosenCandidates") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(chosen, list):
        return ()
    top = told.get("topCandidates") or []
    found = []
    for at, each in enumerate(chosen):
        others = top[at].get("candidates") if at < len(top) and isinstance(top[at], dict) else None
        found.append({**_logprob(each), "top_logprobs": [_logprob(other) for other in others or ()]})
    return found


def _logprob(found: Json) -> dict[str, Json]:
    token = str(found.get("token") or "") if isinstance(found, dict) else ""
    value = found.get("logProbability") if isinstance(found, dict) else None
    return {"token": token, "logprob": value or 0.0, "bytes": list(token.encode())}


class GeminiReader:
    """Reads a stream. Each event is a piece of an answer, whose words go on from the last one's."""

    def __init__(self, back: Back) -> None:
        self._back = back
        self._calls = len(calls_of(back.request))
        self._has_begun = False
        self._next = 0
        self._open: dict[int, tuple[int, Part]] = {}
        self._cites: dict[int, tuple[Citation, ...]] = {}
        self._with_calls: set[int] = set()
        self._finishes: dict[int, str] = {}

    def feed(self, name: str, body: bytes) -> Iterator[Event]:
        piece = object_of(body)
        if piece.get("error"):
            raise ToldError(body)
        if not self._has_begun:
            self._has_begun = True
            yield Begin(_model(piece))
        for candidate in objects_of(piece.get("candidates")):
            yield from self._candidate(candidate)
        if _is_blocked(piece) and not piece.get("candidates"):
            self._finishes[0] = FILTER
        usage = usage_of(piece.get("usageMetadata"))
        if usage is not None:
            yield Used(usage)

    def close(self) -> Iterator[Event]:
        if not self._finishes:
            raise ended_early()
        for candidate in list(self._open):
            yield from self._shut(candidate)
        for candidate, reason in self._finishes.items():
            yield Finish(reason, candidate=candidate)

    def _candidate(self, found: Mapping[str, Json]) -> Iterator[Event]:
        index = found.get("index") or 0
        if not isinstance(index, int):
            raise broken("a candidate has no number")
        logprobs = logprobs_of(found)
        for part in parts_of(found):
            for read in _read_part(part, self._calls + self._next, self._back):
                yield from self._part(index, read, logprobs)
                logprobs = ()
        self._cites[index] = self._cites.get(index, ()) + tuple(citations_of(found))
        reason = found.get("finishReason")
        if isinstance(reason, str):
            self._finishes[index] = finish_of(reason, index in self._with_calls)

    def _part(self, candidate: int, part: Part, logprobs: Sequence[Json]) -> Iterator[Event]:
        if isinstance(part, Text) or (isinstance(part, Thinking) and not part.is_redacted):
            opened = self._open.get(candidate)
            if opened is None or type(opened[1]) is not type(part):
                yield from self._begin(candidate, type(part)(""))
            index, _ = self._open[candidate]
            yield Delta(index, part.text, logprobs)
            return
        if isinstance(part, Call):
            self._with_calls.add(candidate)
            yield from self._begin(candidate, Call(part.id, part.name, "", part.is_custom, part.opaque))
            yield Delta(self._open[candidate][0], part.arguments)
        else:
            yield from self._begin(candidate, part)
        yield from self._shut(candidate)

    def _begin(self, candidate: int, part: Part) -> Iterator[Event]:
        yield from self._shut(candidate)
        self._open[candidate] = (self._next, part)
        yield Open(self._next, part, candidate)
        self._next += 1

    def _shut(self, candidate: int) -> Iterator[Event]:
        opened = self._open.pop(candidate, None)
        if opened is None:
            return
        index, part = opened
        cites = self._cites.pop(candidate, ()) if isinstance(part, Text) else ()
        opaque = part.opaque if isinstance(part, Thinking) else None
        yield Close(index, opaque, cites)
