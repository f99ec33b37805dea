"""Bedrock's Converse API towards a provider: requests written, answers read. Streams: `converse_stream`.

What is a blob is base64 in JSON. A request that is to be streamed has `stream`, which only says where it is
sent to.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and
https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-call.html (read 2026-11).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator

from .canonical import (
    STOP,
    Answer,
    Call,
    Candidate,
    Citation,
    Json,
    Media,
    Named,
    Opaque,
    Part,
    Refusal,
    Request,
    Result,
    Shape,
    Text,
    Thinking,
    Tool,
    Turn,
)
from .chat_back import effort_of
from .codec import (
    Back,
    arguments_object,
    broken,
    calls_of,
    custom_schema,
    encode_json,
    merged,
    objects_of,
    only_names,
    results_of,
    system_apart,
)
from .converse_fields import AUDIO, DOCUMENTS, IMAGES, LACKS, TIERS, Family
from .converse_stream import FINISHES, SEALED, ConverseReader, opaque_of, read_citation, read_usage
from .loss import Loss
from .messages_back import Claude, reason, sample

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9()\[\]-]+")
_USER = re.compile(r"[A-Za-z0-9\s:_@$#=/+,.-]{1,256}")
_JSON_ALONE = "Answer with one valid JSON object and nothing else."

Block = dict[str, Json]


class ConverseBack:
    """The half of the Converse API that faces Bedrock."""

    def encode_request(self, back: Back, loss: Loss) -> dict[str, Json]:
        request, family = only_names(back.request), Family.named(back.manners.model)
        if request.n == 1:
            request.n = None
        loss.lose(request, LACKS)
        if request.parallel_tools is False:
            loss.drop(request.names.get("parallel_tools", "parallel_tool_calls"))
        if request.has_cache and not family.takes_cache:
            loss.drop(request.names.get("has_cache", "cache_control"))
        writer = _Writer(back, family, loss)
        system, turns = system_apart(request)
        body: dict[str, Json] = {"messages": writer.messages(turns)}
        told = [block for part in system if part.text.strip() for block in writer.text(part)]
        if request.shape is not None and request.shape.schema is None:
            told.append({"text": _JSON_ALONE})
        if told:
            body["system"] = told
        _configure(body, request, family, loss)
        tools = writer.tools(request)
        if tools:
            body["toolConfig"] = tools
        if request.is_stream:
            body["stream"] = True
        return body

    def decode_answer(self, document: Json, back: Back) -> Answer:
        output = document.get("output") if isinstance(document, dict) else None
        message = output.get("message") if isinstance(output, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, list):
            raise broken("the answer has no content")
        maker = Family.named(back.manners.model).maker
        parts = [part for block in content for part in _read_block(block, back, maker)]
        reason_ = str(document.get("stopReason"))
        finish = FINISHES.get(reason_, STOP)
        if finish is None:
            raise broken(f"the model failed: {reason_}")
        return Answer([Candidate(parts, finish)], None, read_usage(document.get("usage")))

    def decoder(self, back: Back) -> ConverseReader:
        return ConverseReader(back, Family.named(back.manners.model).maker)


def _configure(body: dict[str, Json], request: Request, family: Family, loss: Loss) -> None:
    """Write all that tunes the answer."""
    more, output = _thinking(request, family, loss)
    draw = _drawing(request, family, more, loss)
    if more.get("reasoningConfig", {}).get("maxReasoningEffort") == "high":
        draw = _undrawn(draw, request, loss)
    given = {**draw, "stopSequences": [word for word in request.stop if word.strip()] or None}
    inference = {name: value for name, value in given.items() if value is not None}
    if inference:
        body["inferenceConfig"] = inference
    if more:
        body["additionalModelRequestFields"] = more
    if request.shape is not None and request.shape.schema is not None:
        output["textFormat"] = _format(request.shape)
    if output:
        body["outputConfig"] = output
    tier = request.service_tier or "auto"
    if tier in TIERS:
        body["serviceTier"] = {"type": TIERS[tier]}
    elif tier != "auto":
        loss.drop(request.names.get("service_tier", "service_tier"))
    if request.user is not None and _USER.fullmatch(request.user):
        body["requestMetadata"] = {"user": request.user}
    elif request.user is not None:
        loss.drop(request.names.get("user", "user"))


def _thinking(request: Request, family: Family, loss: Loss) -> tuple[Block, Block]:
    """Return what says how hard to think: for the family's own fields, and for Bedrock's output."""
    asked = request.reasoning
    if asked is None:
        return {}, {}
    if family.is_claude:
        claude = Claude.named(family.model)
        scratch: Block = {"max_tokens": request.max_tokens or claude.max_tokens}
        reason(scratch, request, claude, loss)
        more = {"thinking": scratch["thinking"]} if "thinking" in scratch else {}
        return more, scratch.get("output_config", {})
    effort = effort_of(request)
    if effort in (None, "none"):
        return {}, {}
    more = family.effort(effort or "")
    if not more:
        loss.drop(request.names.get("reasoning", "reasoning"))
    return more, {}


def _drawing(request: Request, family: Family, more: Block, loss: Loss) -> Block:
    """Return how to draw words; what only the family knows goes to `more`."""
    scratch: Block = {"thinking": True} if "thinking" in more else {}
    if family.is_claude:
        sample(scratch, request, Claude.named(family.model), loss)
    else:
        for name in ("temperature", "top_p", "top_k"):
            scratch[name] = getattr(request, name)
        if (request.temperature or 0) > 1:
            scratch["temperature"] = 1
            loss.drop(request.names.get("temperature", "temperature"))
    top_k = scratch.get("top_k")
    if top_k is not None:
        own = family.top_k(top_k)
        more.update(own)
        if not own:
            loss.drop(request.names.get("top_k", "top_k"))
    return {
        "maxTokens": request.max_tokens,
        "temperature": scratch.get("temperature"),
        "topP": scratch.get("top_p"),
    }


def _undrawn(draw: Block, request: Request, loss: Loss) -> Block:
    """Give up telling how to draw: Nova that thinks hard does as it likes, and for as long."""
    for attribute, name in (("max_tokens", "maxTokens"), ("temperature", "temperature"), ("top_p", "topP")):
        if draw[name] is not None:
            loss.drop(request.names.get(attribute, attribute))
    return {}


def _format(shape: Shape) -> Json:
    schema: Block = {"schema": encode_json(shape.schema).decode(), "name": shape.name or "answer"}
    if shape.description:
        schema["description"] = shape.description
    return {"type": "json_schema", "structure": {"jsonSchema": schema}}


class _Writer:
    """Writes the turns and tools of one request. Names of documents are told apart by numbers."""

    def __init__(self, back: Back, family: Family, loss: Loss) -> None:
        self._back = back
        self._family = family
        self._loss = loss
        self._documents: set[str] = set()

    def messages(self, turns: Iterable[Turn]) -> list[Block]:
        """Return the messages; those of which nothing is left are left out, and their neighbours joined."""
        written: list[Block] = []
        for turn in merged(turns):
            content = list(self._said(turn) if turn.role == "assistant" else self._shown(turn))
            if not content:
                continue
            if written and written[-1]["role"] == turn.role:
                written[-1]["content"] += content
            else:
                written.append({"role": turn.role, "content": content})
        return written

    def text(self, part: Text) -> Iterator[Block]:
        """Write words, and that all up to here is to be remembered."""
        yield {"text": part.text}
        yield from self._mark(part.cache)

    def tools(self, request: Request) -> Block | None:
        """Return the tools, and how to choose; none where nothing has to do with tools."""
        offered = request.tools
        if request.choice == "none" or not offered:
            used = {call.name: Tool(call.name) for call in calls_of(self._back.request).values()}
            if not used:
                return None
            offered = offered or list(used.values())  # a conversation with calls must have tools
            if request.choice == "none":
                self._loss.drop(request.names.get("choice", "tool_choice"))
        config: Block = {"tools": [block for tool in offered for block in self._tool(tool)]}
        choice = request.choice
        if isinstance(choice, Named):
            config["toolChoice"] = {"tool": {"name": self._back.names.of(choice.names[0])}}
        elif choice == "required":
            config["toolChoice"] = {"any": {}}
        elif choice == "auto":
            config["toolChoice"] = {"auto": {}}
        return config

    def _tool(self, tool: Tool) -> Iterator[Block]:
        schema, told = custom_schema(tool.grammar) if tool.is_custom else (tool.schema, "")
        if not isinstance(schema, dict) or "type" not in schema:
            schema = {"type": "object", **(schema or {"properties": {}})}
        spec: Block = {"name": self._back.names.of(tool.name), "inputSchema": {"json": schema}}
        if tool.description or told:
            spec["description"] = (tool.description or "") + told
        if tool.strict and not tool.is_custom:
            spec["strict"] = True
        yield {"toolSpec": spec}
        if self._family.is_claude:
            yield from self._mark(tool.cache)

    def _mark(self, cache: str | None) -> Iterator[Block]:
        if cache is None or not self._family.takes_cache:
            return
        is_long = cache == "1h" and self._family.is_claude
        yield {"cachePoint": {"type": "default", "ttl": "1h"} if is_long else {"type": "default"}}

    def _said(self, turn: Turn) -> Iterator[Block]:
        """Write what the model said: thoughts first, as far as whoever signed them is asked again."""
        said = [block for part in turn.parts for block in self._said_part(part)]
        if said:  # thoughts alone are taken for a beginning that is to be gone on with
            for part in turn.parts:
                yield from self._thought(part)
        yield from said

    def _thought(self, part: Part) -> Iterator[Block]:
        if not isinstance(part, Thinking) or part.opaque is None:
            return  # nobody takes what is not signed
        if part.is_redacted:
            if part.opaque.maker == SEALED:
                yield {"reasoningContent": {"redactedContent": part.opaque.blob}}
        elif part.opaque.maker == self._family.maker and part.text:
            thought = {"text": part.text, "signature": part.opaque.blob}
            yield {"reasoningContent": {"reasoningText": thought}}

    def _said_part(self, part: Part) -> Iterator[Block]:
        if isinstance(part, Text | Refusal) and part.text.strip():
            yield {"text": part.text}
        elif isinstance(part, Call):
            names = self._back.names
            given = {"input": part.arguments} if part.is_custom else arguments_object(part.arguments)
            call = {"toolUseId": names.id(part.id), "name": names.of(part.name), "input": given}
            yield {"toolUse": call}
            yield from self._mark(part.cache)

    def _shown(self, turn: Turn) -> Iterator[Block]:
        """Write what the user shows, results of tools first."""
        results, rest = results_of(turn.parts)
        for result in results:
            yield from self._result(result)
        written = [block for part in rest for block in self._shown_part(part)]
        yield from written
        if any("document" in block for block in written) and not any("text" in block for block in written):
            yield {"text": "The documents are above."}  # without words they are refused

    def _shown_part(self, part: Part) -> Iterator[Block]:
        if isinstance(part, Text) and part.text.strip():
            yield from self.text(part)
        elif isinstance(part, Media):
            yield self._media(part)
            yield from self._mark(part.cache)

    def _result(self, result: Result) -> Iterator[Block]:
        content: list[Block] = []
        for part in result.parts:
            if isinstance(part, Media):
                content.append(self._media(part))
            elif part.text.strip():
                content.append({"text": part.text})
        block: Block = {"toolUseId": self._back.names.id(result.call_id)}
        block["content"] = content or [{"text": "(nothing)"}]
        if result.is_error and self._family.takes_status:
            block["status"] = "error"
        elif result.is_error:
            block["content"] = [{"text": "The tool has failed:"}, *block["content"]]
        yield {"toolResult": block}
        yield from self._mark(result.cache)

    def _media(self, part: Media) -> Block:
        if part.url is not None:
            self._loss.refuse(
                "messages", "holds something by its address, which Bedrock does not fetch: send its content"
            )
        if part.kind == "file":
            return {"document": self._document(part)}
        kind = (part.media_type or ("image/png" if part.kind == "image" else "audio/wav")).lower()
        form = (
            AUDIO.get(kind) if part.kind == "audio" else kind.removeprefix("image/").replace("jpg", "jpeg")
        )
        if form is None or (part.kind == "image" and form not in IMAGES):
            self._loss.refuse("messages", f"holds {part.kind} of a type that Bedrock does not take")
        return {part.kind: {"format": form, "source": {"bytes": part.base64 or ""}}}

    def _document(self, part: Media) -> Block:
        usual = "application/pdf" if part.text is None else "text/plain"
        kind = (part.media_type or usual).partition(";")[0].lower()
        form = DOCUMENTS.get(kind, None if part.text is None else "txt")
        if form is None:
            self._loss.refuse("messages", "holds a file of a type that Bedrock does not take")
        data = base64.b64encode(part.text.encode()).decode() if part.text is not None else part.base64
        block: Block = {"format": form, "name": self._name(part.name), "source": {"bytes": data or ""}}
        if part.context:
            block["context"] = part.context
        if part.is_cited:
            block["citations"] = {"enabled": True}
        return block

    def _name(self, name: str | None) -> str:
        """Return a document's name in the letters that are allowed, different from the others'."""
        plain = _NOT_IN_NAMES.sub(" ", name or "").strip()[:180] or "document"
        found, number = plain, 1
        while found in self._documents:
            number += 1
            found = f"{plain} {number}"
        self._documents.add(found)
        return found


def _read_block(block: Json, back: Back, maker: str) -> Iterator[Part]:
    if not isinstance(block, dict):
        raise broken("a block of the answer is not an object")
    if isinstance(block.get("text"), str):
        yield Text(block["text"])
    elif "toolUse" in block:
        yield _read_call(block["toolUse"], back)
    elif "reasoningContent" in block:
        yield from _read_thought(block["reasoningContent"], maker)
    elif "citationsContent" in block:
        yield _read_cited(block["citationsContent"])


def _read_call(use: Json, back: Back) -> Call:
    id_, name = (use.get("toolUseId"), use.get("name")) if isinstance(use, dict) else (None, None)
    if not isinstance(id_, str) or not isinstance(name, str):
        raise broken("a tool call has no id or no name")
    return back.call(id_, name, encode_json(use.get("input") or {}).decode())


def _read_thought(inner: Json, maker: str) -> Iterator[Thinking]:
    if not isinstance(inner, dict):
        raise broken("a thought of the answer is not an object")
    told = inner.get("reasoningText")
    if isinstance(told, dict):
        yield Thinking(str(told.get("text") or ""), opaque_of(maker, told.get("signature")))
    elif isinstance(inner.get("redactedContent"), str):
        yield Thinking("", Opaque(SEALED, inner["redactedContent"]), is_redacted=True)


def _read_cited(cited: Json) -> Text:
    if not isinstance(cited, dict):
        raise broken("a block of the answer is not an object")
    words = [each.get("text") for each in objects_of(cited.get("content"))]
    told = objects_of(cited.get("citations"))
    found: list[Citation] = [cite for each in told for cite in read_citation(each)]
    return Text("".join(word for word in words if isinstance(word, str)), found)
