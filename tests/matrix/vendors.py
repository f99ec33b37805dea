"""Vendors on real sockets, each strict in its own format, who say what a test tells them to.

A `Say` is what the model says, in words that are nobody's; a vendor writes it down in its format, whole or
streamed, and checks what it is sent against the vendor's own published types. `Seen` is what it was sent,
in words that are nobody's again.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cohere
from anthropic.types import message_create_params as messages_types
from fakes.gemini import SIGNATURE as GEMINI_SIGNATURE
from fakes.gemini import body_complaint as gemini_complaint
from fakes.gemini import event as gemini_event
from fakes.gemini import piece as gemini_piece
from fakes.strictly import as_arguments, complaint
from fakes.upstream import FakeUpstream, Reply, Request
from mistralai.client.chat import Chat
from openai.types.chat import completion_create_params as chat_types
from openai.types.responses import response_create_params as responses_types
from served import KEY


@dataclass
class Say:
    """What the model says. `calls` are the id, the name and the arguments of each."""

    text: str = ""
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    thinking: str = ""
    breaks: bool = False
    """True for a stream that ends in an error after its first words."""


@dataclass
class Seen:
    """What the vendor was sent."""

    system: str = ""
    said: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    schema: Any = None
    max_tokens: int | None = None
    choice: Any = None


USAGE = {"input": 20, "cached": 5, "output": 9, "reasoning": 4}


class Vendor:
    """What all vendors share. `provider` and `name` are how the gateway is told about it."""

    provider = ""
    model = ""
    keeps_thoughts = True
    """True where the thoughts of one turn come back with the next one, as their maker left them."""
    counts_reasoning = True

    def __init__(self, up: FakeUpstream) -> None:
        self.up = up
        self.says: deque[Say] = deque()
        self.seen: list[Seen] = []
        self.documents: list[Any] = []
        up.always(self)

    def endpoint(self, kind: str = "chat", **more: Any) -> dict[str, Any]:
        model = {"provider": self.provider, "name": self.model, "config": self.config()}
        return {"name": "model", "endpoint_type": f"llm/v1/{kind}", "model": model, **more}

    def config(self) -> dict[str, Any]:
        raise NotImplementedError

    def __call__(self, request: Request) -> Reply:
        document = request.document
        wrong = self.check(request, document)
        if wrong is not None:
            return self.refuse(400, f"strict: {wrong}")
        self.documents.append(document)
        self.seen.append(self.read(document))
        say = self.says.popleft() if self.says else Say("Hello from the vendor.")
        if self.is_stream(request, document):
            return self.streamed(*self.stream(say))
        return Reply.json(self.whole(say))

    def streamed(self, *steps: Any) -> Reply:
        return Reply.stream(*steps)

    def is_stream(self, request: Request, document: Any) -> bool:
        return bool(document.get("stream"))

    def check(self, request: Request, document: Any) -> str | None:
        raise NotImplementedError

    def read(self, document: Any) -> Seen:
        raise NotImplementedError

    def whole(self, say: Say) -> Any:
        raise NotImplementedError

    def stream(self, say: Say) -> Iterator[Any]:
        raise NotImplementedError

    def refuse(self, status: int, message: str, *headers: tuple[str, str]) -> Reply:
        return Reply.error(status, message, headers=list(headers))


def halves(text: str) -> list[str]:
    """Cut a text into pieces, in the middle of words too."""
    third = max(1, len(text) // 3)
    return [text[at : at + third] for at in range(0, len(text), third)]


class ChatVendor(Vendor):
    """A host that speaks chat completions, and tells its thoughts as vLLM does."""

    provider = "tgi"
    model = "qwen3"

    def config(self) -> dict[str, Any]:
        return {"api_base": f"{self.up.url}/v1", "api_key": KEY}

    def check(self, request: Request, document: Any) -> str | None:
        if request.path != "/v1/chat/completions" or request.header("authorization") != f"Bearer {KEY}":
            return "path or key"
        plain = json.loads(request.body)
        plain.pop("top_k", None)
        for message in plain["messages"]:
            message.pop("reasoning_content", None)
        kind = (
            chat_types.CompletionCreateParamsStreaming
            if plain.get("stream")
            else chat_types.CompletionCreateParamsNonStreaming
        )
        return complaint(plain, kind) or _orphans(document["messages"])

    def read(self, document: Any) -> Seen:
        seen = Seen(max_tokens=document.get("max_tokens"), choice=document.get("tool_choice"))
        for message in document["messages"]:
            content = message.get("content")
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
            words = "".join(part.get("text", "") for part in parts)
            if message["role"] == "system":
                seen.system += words
            elif message["role"] == "tool":
                seen.results.append((message["tool_call_id"], words))
            elif words:
                seen.said.append(words)
            images = [part["image_url"] for part in parts if part["type"] == "image_url"]
            seen.images += [each if isinstance(each, str) else each["url"] for each in images]
            if message.get("reasoning_content"):
                seen.thoughts.append(message["reasoning_content"])
            for call in message.get("tool_calls", ()):
                function = call["function"]
                seen.calls.append((call["id"], function["name"], json.loads(function["arguments"])))
        seen.tools = [tool["function"]["name"] for tool in document.get("tools", ())]
        form = document.get("response_format")
        seen.schema = form and form["json_schema"]["schema"]
        return seen

    def whole(self, say: Say) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": say.text or None}
        if say.thinking:
            message["reasoning_content"] = say.thinking
        if say.calls:
            message["tool_calls"] = [_chat_call(*call) for call in say.calls]
        finish = "tool_calls" if say.calls else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        return {**self._head("chat.completion"), "choices": [choice], "usage": _chat_usage()}

    def stream(self, say: Say) -> Iterator[Any]:
        yield self._chunk({"role": "assistant", "content": ""})
        for piece in halves(say.thinking):
            yield self._chunk({"reasoning_content": piece})
        for piece in halves(say.text):
            yield self._chunk({"content": piece})
            if say.breaks:
                yield {"error": {"message": "The engine died.", "type": "server_error", "code": 500}}
                return
        for index, (id_, name, arguments) in enumerate(say.calls):
            begun = {
                "index": index,
                "id": id_,
                "type": "function",
                "function": {"name": name, "arguments": ""},
            }
            yield self._chunk({"tool_calls": [begun]})
            for piece in halves(json.dumps(arguments)):
                yield self._chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield self._chunk({}, "tool_calls" if say.calls else "stop")
        yield {**self._head("chat.completion.chunk"), "choices": [], "usage": _chat_usage()}
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: Any, finish: str | None = None) -> Any:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1_760_000_000, "model": "qwen3-32b"}


class MistralVendor(ChatVendor):
    """Mistral, whose thoughts are pieces of the content, and whose calls have ids of nine letters."""

    provider = "mistral"
    model = "magistral-medium"

    def check(self, request: Request, document: Any) -> str | None:
        if request.path != "/v1/chat/completions" or request.header("authorization") != f"Bearer {KEY}":
            return "path or key"
        for message in document["messages"]:
            for call in message.get("tool_calls") or ():
                if re.fullmatch("[A-Za-z0-9]{9}", call["id"]) is None:
                    return "Tool call id must be a-z, A-Z, 0-9, with a length of 9."
        schema = dict(document)
        form = schema.get("response_format")
        if form and form["type"] == "json_schema":  # the SDK's name for it is another than the wire's
            inner = dict(form["json_schema"])
            schema["response_format"] = {**form, "json_schema": inner}
        return as_arguments(schema, Chat.complete, set()) or _orphans(document["messages"])

    def read(self, document: Any) -> Seen:
        seen = super().read(document)
        for message in document["messages"]:
            for part in message["content"] if isinstance(message.get("content"), list) else ():
                if part["type"] == "thinking":
                    words = "".join(each["text"] for each in part["thinking"])
                    assert part["signature"] == _signature(words), "its own signature did not come back"
                    seen.thoughts.append(words)
        return seen

    def whole(self, say: Say) -> Any:
        document = super().whole(say)
        message = document["choices"][0]["message"]
        if say.thinking:
            text = [{"type": "text", "text": say.text}] if say.text else []
            thought = message.pop("reasoning_content")
            message["content"] = [_mistral_thought(thought, signature=_signature(thought)), *text]
        return document

    def stream(self, say: Say) -> Iterator[Any]:
        """Say it in Mistral's pieces: a call is whole, and the usage is in the last one of all."""
        yield self._chunk({"role": "assistant", "content": ""})
        for piece in halves(say.thinking):
            yield self._chunk({"content": [_mistral_thought(piece)]})
        if say.thinking:
            signed = {"type": "thinking", "thinking": [], "signature": _signature(say.thinking)}
            yield self._chunk({"content": [signed]})
        for piece in halves(say.text):
            yield self._chunk({"content": piece})
            if say.breaks:
                yield {
                    "object": "error",
                    "message": "The engine died.",
                    "type": "server_error",
                    "code": "500",
                }
                return
        if say.calls:
            calls = [{**_chat_call(*call), "index": index} for index, call in enumerate(say.calls)]
            yield self._chunk({"content": "", "tool_calls": calls})
        yield {
            **self._chunk({"content": ""}, "tool_calls" if say.calls else "stop"),
            "usage": _chat_usage(),
        }
        yield b"data: [DONE]\n\n"


def _mistral_thought(text: str, **more: str) -> Any:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}], **more}


def _chat_call(id_: str, name: str, arguments: Any) -> Any:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def _chat_usage() -> Any:
    return {
        "prompt_tokens": USAGE["input"],
        "completion_tokens": USAGE["output"],
        "total_tokens": USAGE["input"] + USAGE["output"],
        "prompt_tokens_details": {"cached_tokens": USAGE["cached"]},
        "completion_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
    }


def _orphans(messages: Any) -> str | None:
    """Find what OpenAI refuses: a result without its call, or a call without its result."""
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "a tool message follows no call of its id"
            open_calls.discard(message["tool_call_id"])
        elif open_calls:
            return "a call was not answered"
        open_calls |= {call["id"] for call in message.get("tool_calls", ())}
    return None


class MessagesVendor(Vendor):
    """Anthropic, with the rules of extended thinking."""

    provider = "anthropic"
    model = "claude-sonnet-4-5"
    counts_reasoning = False

    def config(self) -> dict[str, Any]:
        return {"anthropic_api_base": f"{self.up.url}/v1", "anthropic_api_key": KEY}

    def check(self, request: Request, document: Any) -> str | None:
        if request.path != "/v1/messages" or request.header("x-api-key") != KEY:
            return "path or key"
        return self.check_document(document)

    def check_document(self, document: Any) -> str | None:
        kind = (
            messages_types.MessageCreateParamsStreaming
            if document.get("stream")
            else messages_types.MessageCreateParamsNonStreaming
        )
        return complaint(document, kind) or self._rules(document)

    def _rules(self, document: Any) -> str | None:
        messages = document["messages"]
        if messages[0]["role"] != "user":
            return "first message must use the user role"
        thinking = document.get("thinking", {})
        if thinking.get("budget_tokens", 0) >= document["max_tokens"]:
            return "max_tokens must be greater than thinking.budget_tokens"
        previous, open_calls = None, set()
        for message in messages:
            if message["role"] == previous:
                return "roles must alternate"
            previous = message["role"]
            blocks = message["content"] if isinstance(message["content"], list) else []
            if not message["content"]:
                return "content must not be empty"
            results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
            if results != open_calls:
                return "each tool_use must be followed by its tool_result"
            open_calls = {block["id"] for block in blocks if block["type"] == "tool_use"}
            for block in blocks:
                wrong = _block_wrong(block)
                if wrong is not None:
                    return wrong
            if open_calls and thinking.get("type") == "enabled" and blocks[0]["type"] != "thinking":
                return "Expected `thinking`, but found `tool_use`"
        return None

    def read(self, document: Any) -> Seen:
        seen = Seen(max_tokens=document["max_tokens"], choice=document.get("tool_choice"))
        system = document.get("system", [])
        seen.system = system if isinstance(system, str) else "".join(block["text"] for block in system)
        for message in document["messages"]:
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            words = "".join(block["text"] for block in blocks if block["type"] == "text")
            seen.said += [words] if words else []
            for block in blocks:
                self._block(block, seen)
        seen.tools = [tool["name"] for tool in document.get("tools", ())]
        form = document.get("output_config", {}).get("format")
        seen.schema = form and form["schema"]
        return seen

    def _block(self, block: Any, seen: Seen) -> None:
        if block["type"] == "tool_use":
            seen.calls.append((block["id"], block["name"], block["input"]))
        elif block["type"] == "tool_result":
            content = block["content"]
            words = content if isinstance(content, str) else "".join(each["text"] for each in content)
            seen.results.append((block["tool_use_id"], words))
        elif block["type"] == "thinking":
            seen.thoughts.append(block["thinking"])
        elif block["type"] == "image":
            source = block["source"]
            seen.images.append(f"data:{source['media_type']};base64,{source['data']}")

    def whole(self, say: Say) -> Any:
        content: list[Any] = []
        if say.thinking:
            signature = _signature(say.thinking)
            content.append({"type": "thinking", "thinking": say.thinking, "signature": signature})
        if say.text:
            content.append({"type": "text", "text": say.text})
        content += [
            {"type": "tool_use", "id": id_, "name": name, "input": given} for id_, name, given in say.calls
        ]
        return self._message(content, "tool_use" if say.calls else "end_turn", USAGE["output"])

    def stream(self, say: Say) -> Iterator[Any]:
        yield _event("message_start", message=self._message([], None, 1))
        yield _event("ping")
        for index, block in enumerate(self.whole(say)["content"]):
            yield from self._stream_block(index, block)
            if say.breaks:
                yield _event("error", error={"type": "overloaded_error", "message": "Overloaded"})
                return
        delta = {"stop_reason": "tool_use" if say.calls else "end_turn", "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage={"output_tokens": USAGE["output"]})
        yield _event("message_stop")

    def _stream_block(self, index: int, block: Any) -> Iterator[bytes]:
        empty = {
            "text": {"type": "text", "text": ""},
            "thinking": {"type": "thinking", "thinking": "", "signature": ""},
            "tool_use": {**block, "input": {}},
        }[block["type"]]
        yield _event("content_block_start", index=index, content_block=empty)
        deltas: list[Any] = []
        if block["type"] == "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in halves(block["text"])]
        elif block["type"] == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            pieces = ["", *halves(json.dumps(block["input"]))]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)

    def _message(self, content: Any, stop_reason: str | None, output: int) -> Any:
        usage = {
            "input_tokens": USAGE["input"] - USAGE["cached"],
            "cache_read_input_tokens": USAGE["cached"],
            "cache_creation_input_tokens": 0,
            "output_tokens": output,
        }
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def refuse(self, status: int, message: str, *headers: tuple[str, str]) -> Reply:
        kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "invalid_request_error")
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
        return Reply.json(body, status, list(headers))


def _block_wrong(block: Any) -> str | None:
    if block["type"] == "text" and not block["text"].strip():
        return "text content blocks must be non-empty"
    if block["type"] == "thinking" and block["signature"] != _signature(block["thinking"]):
        return "Invalid `signature` in `thinking` block"
    return None


def _signature(thought: str) -> str:
    return f"signed:{thought[::-1]}"


def _event(name: str, **more: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **more})}\n\n".encode()


class ResponsesVendor(Vendor):
    """OpenAI, by its Responses API, without memory."""

    provider = "openai"
    model = "gpt-5"

    def config(self) -> dict[str, Any]:
        base = f"{self.up.url}/v1"
        return {"openai_api_base": base, "openai_api_key": KEY, "openai_format": "responses"}

    def check(self, request: Request, document: Any) -> str | None:
        if request.path != "/v1/responses" or request.header("authorization") != f"Bearer {KEY}":
            return "path or key"
        if document.get("store") is not False:
            return "this account is shared: nothing is to be stored"
        kind = (
            responses_types.ResponseCreateParamsStreaming
            if document.get("stream")
            else responses_types.ResponseCreateParamsNonStreaming
        )
        for item in document["input"] if isinstance(document["input"], list) else ():
            if item.get("type") == "reasoning" and not str(item["encrypted_content"]).startswith("sealed:"):
                return "The encrypted content could not be verified"
        return complaint(document, kind)

    def read(self, document: Any) -> Seen:
        seen = Seen(document.get("instructions") or "", max_tokens=document.get("max_output_tokens"))
        seen.choice = document.get("tool_choice")
        items = document["input"]
        for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
            self._item(item, seen)
        seen.tools = [tool["name"] for tool in document.get("tools", ())]
        form = document.get("text", {}).get("format")
        seen.schema = form and form["schema"]
        return seen

    def _item(self, item: Any, seen: Seen) -> None:
        kind = item.get("type", "message")
        if kind == "function_call":
            seen.calls.append((item["call_id"], item["name"], json.loads(item["arguments"])))
        elif kind == "function_call_output":
            output = item["output"]
            words = output if isinstance(output, str) else "".join(part["text"] for part in output)
            seen.results.append((item["call_id"], words))
        elif kind == "reasoning":
            seen.thoughts.append(item["encrypted_content"].removeprefix("sealed:")[::-1])
        elif kind == "message":
            content = item["content"]
            parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
            words = "".join(part.get("text", "") for part in parts)
            if item["role"] in ("system", "developer"):
                seen.system += words
            elif words:
                seen.said.append(words)
            seen.images += [part["image_url"] for part in parts if part["type"] == "input_image"]

    def whole(self, say: Say) -> Any:
        return self._response("completed", list(self._output(say)))

    def _output(self, say: Say) -> Iterator[Any]:
        if say.thinking:
            summary = [{"type": "summary_text", "text": say.thinking}]
            sealed = "sealed:" + say.thinking[::-1]
            yield {"id": "rs_1", "type": "reasoning", "summary": summary, "encrypted_content": sealed}
        if say.text:
            part = {"type": "output_text", "text": say.text, "annotations": [], "logprobs": []}
            message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
            yield {**message, "content": [part]}
        for id_, name, arguments in say.calls:
            call = {"id": f"fc_{id_}", "type": "function_call", "status": "completed", "call_id": id_}
            yield {**call, "name": name, "arguments": json.dumps(arguments)}

    def stream(self, say: Say) -> Iterator[Any]:
        for number, (name, more) in enumerate(self._events(say)):
            document = {"type": name, "sequence_number": number, **more}
            yield f"event: {name}\ndata: {json.dumps(document)}\n\n".encode()

    def _events(self, say: Say) -> Iterator[tuple[str, dict[str, Any]]]:
        begun = self._response("in_progress", [])
        yield "response.created", {"response": begun}
        yield "response.in_progress", {"response": begun}
        for index, item in enumerate(self._output(say)):
            yield from self._item_events(index, item)
            if say.breaks:
                error = {"code": "server_error", "message": "The engine died."}
                yield "response.failed", {"response": {**begun, "status": "failed", "error": error}}
                return
        yield "response.completed", {"response": self.whole(say)}

    def _item_events(self, index: int, item: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        at = {"item_id": item["id"], "output_index": index}
        empty = {
            "reasoning": {"summary": []},
            "message": {"content": []},
            "function_call": {"arguments": ""},
        }
        yield "response.output_item.added", {"output_index": index, "item": {**item, **empty[item["type"]]}}
        if item["type"] == "message":
            text = item["content"][0]["text"]
            blank = {"type": "output_text", "text": "", "annotations": []}
            yield "response.content_part.added", {**at, "content_index": 0, "part": blank}
            for piece in halves(text):
                yield (
                    "response.output_text.delta",
                    {**at, "content_index": 0, "delta": piece, "logprobs": []},
                )
            yield "response.output_text.done", {**at, "content_index": 0, "text": text, "logprobs": []}
            yield "response.content_part.done", {**at, "content_index": 0, "part": item["content"][0]}
        elif item["type"] == "reasoning":
            for piece in halves(item["summary"][0]["text"]):
                yield "response.reasoning_summary_text.delta", {**at, "summary_index": 0, "delta": piece}
        else:
            for piece in halves(item["arguments"]):
                yield "response.function_call_arguments.delta", {**at, "delta": piece}
            yield "response.function_call_arguments.done", {**at, "arguments": item["arguments"]}
        yield "response.output_item.done", {"output_index": index, "item": item}

    def _response(self, status: str, output: Any) -> Any:
        usage = {
            "input_tokens": USAGE["input"],
            "input_tokens_details": {"cached_tokens": USAGE["cached"]},
            "output_tokens": USAGE["output"],
            "output_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
            "total_tokens": USAGE["input"] + USAGE["output"],
        }
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_760_000_000,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "model": "gpt-5-2025-08-07",
            "output": output,
            "parallel_tool_calls": True,
            "store": False,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage if status == "completed" else None,
        }


class CohereVendor(Vendor):
    """Cohere, version 2: thoughts before calls are its plan."""

    provider = "cohere"
    model = "command-a"
    counts_reasoning = False

    def config(self) -> dict[str, Any]:
        return {"cohere_api_base": f"{self.up.url}/v2", "cohere_api_key": KEY}

    def check(self, request: Request, document: Any) -> str | None:
        if request.path != "/v2/chat" or request.header("authorization") != f"Bearer {KEY}":
            return "path or key"
        return as_arguments(document, cohere.ClientV2.chat, {"stream"}) or _orphans(document["messages"])

    def read(self, document: Any) -> Seen:
        seen = Seen(max_tokens=document.get("max_tokens"), choice=document.get("tool_choice"))
        for message in document["messages"]:
            content = message.get("content")
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
            words = "".join(part.get("text", "") for part in parts)
            if message["role"] == "system":
                seen.system += words
            elif message["role"] == "tool":
                seen.results.append((message["tool_call_id"], words))
            elif words:
                seen.said.append(words)
            seen.images += [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
            if message.get("tool_plan"):
                seen.thoughts.append(message["tool_plan"])
            for call in message.get("tool_calls", ()):
                function = call["function"]
                seen.calls.append((call["id"], function["name"], json.loads(function["arguments"])))
        seen.tools = [tool["function"]["name"] for tool in document.get("tools", ())]
        seen.schema = document.get("response_format", {}).get("json_schema")
        return seen

    def whole(self, say: Say) -> Any:
        message: dict[str, Any] = {"role": "assistant"}
        if say.calls:
            message["tool_calls"] = [_chat_call(*call) for call in say.calls]
            message["tool_plan"] = say.thinking
        if say.text:
            message["content"] = [{"type": "text", "text": say.text}]
        finish = "TOOL_CALL" if say.calls else "COMPLETE"
        return {"id": "c-1", "finish_reason": finish, "message": message, "usage": self._usage()}

    def stream(self, say: Say) -> Iterator[Any]:
        started = {"message": {"role": "assistant", "content": []}}
        yield _event("message-start", id="c-1", delta=started)
        for piece in halves(say.thinking):
            yield _event("tool-plan-delta", delta={"message": {"tool_plan": piece}})
        if say.text:
            begun = {"message": {"content": {"type": "text", "text": ""}}}
            yield _event("content-start", index=0, delta=begun)
            for piece in halves(say.text):
                yield _event("content-delta", index=0, delta={"message": {"content": {"text": piece}}})
            yield _event("content-end", index=0)
        if say.breaks:
            failed = {"finish_reason": "ERROR", "error": "The engine died.", "usage": self._usage()}
            yield _event("message-end", delta=failed)
            return
        for index, (id_, name, given) in enumerate(say.calls):
            call = {"id": id_, "type": "function", "function": {"name": name, "arguments": ""}}
            yield _event("tool-call-start", index=index, delta={"message": {"tool_calls": call}})
            for piece in halves(json.dumps(given)):
                more = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
                yield _event("tool-call-delta", index=index, delta=more)
            yield _event("tool-call-end", index=index)
        finish = "TOOL_CALL" if say.calls else "COMPLETE"
        yield _event("message-end", delta={"finish_reason": finish, "usage": self._usage()})
        yield b"data: [DONE]\n\n"

    def refuse(self, status: int, message: str, *headers: tuple[str, str]) -> Reply:
        return Reply.json({"id": "e-1", "message": message}, status, list(headers))

    def _usage(self) -> Any:
        tokens = {"input_tokens": USAGE["input"], "output_tokens": USAGE["output"]}
        counts = {"input_tokens": USAGE["input"] + 90, "output_tokens": USAGE["output"] + 1}
        return {"billed_units": tokens, "tokens": counts, "cached_tokens": USAGE["cached"]}


class GeminiVendor(Vendor):
    """Gemini 3 at Google AI Studio, with its rules for signatures."""

    provider = "gemini"
    model = "gemini-3-pro"
    _is_thought = False

    def config(self) -> dict[str, Any]:
        return {"gemini_api_base": f"{self.up.url}/v1beta", "gemini_api_key": KEY}

    def is_stream(self, request: Request, document: Any) -> bool:
        return request.target.endswith(":streamGenerateContent?alt=sse")

    def check(self, request: Request, document: Any) -> str | None:
        verb = "streamGenerateContent" if self.is_stream(request, document) else "generateContent"
        if request.path != f"/v1beta/models/{self.model}:{verb}" or request.header("x-goog-api-key") != KEY:
            return "path or key"
        return gemini_complaint(request.body)

    def read(self, document: Any) -> Seen:
        config = document.get("generationConfig", {})
        seen = Seen(max_tokens=config.get("maxOutputTokens"), choice=document.get("toolConfig"))
        for part in document.get("systemInstruction", {}).get("parts", ()):
            seen.system += part["text"]
        for content in document["contents"]:
            parts = content["parts"]
            words = "".join(part.get("text", "") for part in parts if not part.get("thought"))
            seen.said += [words] if words else []
            for part in parts:
                self._part(part, seen)
                self._is_thought = bool(part.get("thought"))
        seen.tools = [
            each["name"] for tool in document.get("tools", ()) for each in tool["functionDeclarations"]
        ]
        seen.schema = config.get("responseJsonSchema")
        return seen

    def _part(self, part: Any, seen: Seen) -> None:
        if part.get("thought") and self._is_thought:
            seen.thoughts[-1] += part["text"]  # SDKs keep the pieces of a stream
        elif part.get("thought"):
            seen.thoughts.append(part["text"])
        elif "functionCall" in part:
            call = part["functionCall"]
            seen.calls.append((call["id"], call["name"], call["args"]))
        elif "functionResponse" in part:
            result = part["functionResponse"]
            seen.results.append((result["id"], result["response"]["output"]))
        elif "inlineData" in part:
            blob = part["inlineData"]
            kind = blob.get("mimeType") or blob["mime_type"]  # Google's SDK writes the other spelling
            seen.images.append(f"data:{kind};base64,{blob['data']}")

    def _parts(self, say: Say) -> list[Any]:
        parts: list[Any] = []
        if say.thinking:
            parts.append({"text": say.thinking, "thought": True})
        if say.text:
            parts.append({"text": say.text})
        calls = [
            {"functionCall": {"id": id_, "name": name, "args": given}} for id_, name, given in say.calls
        ]
        if calls:
            calls[0]["thoughtSignature"] = GEMINI_SIGNATURE
        return [*parts, *calls]

    def whole(self, say: Say) -> Any:
        return self._piece(self._parts(say), "STOP")

    def stream(self, say: Say) -> Iterator[Any]:
        for part in self._parts(say):
            cut = halves(part["text"]) if "text" in part else [None]
            for piece in cut:
                yield gemini_event(self._piece([part if piece is None else {**part, "text": piece}]))
                if say.breaks:
                    failure = {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}
                    yield gemini_event({"error": failure})
                    return
        yield gemini_event(self._piece([{"text": ""}], "STOP"))

    def _piece(self, parts: list[Any], finish: str | None = None) -> Any:
        usage = {
            "promptTokenCount": USAGE["input"],
            "cachedContentTokenCount": USAGE["cached"],
            "candidatesTokenCount": USAGE["output"] - USAGE["reasoning"],
            "thoughtsTokenCount": USAGE["reasoning"],
            "totalTokenCount": USAGE["input"] + USAGE["output"],
        }
        return gemini_piece(parts, finish, usage)

    def refuse(self, status: int, message: str, *headers: tuple[str, str]) -> Reply:
        word = {429: "RESOURCE_EXHAUSTED"}.get(status, "INVALID_ARGUMENT")
        return Reply.json({"error": {"code": status, "message": message, "status": word}}, status, headers)


VENDORS: dict[str, type[Vendor]] = {
    "chat completions": ChatVendor,
    "Messages": MessagesVendor,
    "Responses": ResponsesVendor,
    "Cohere": CohereVendor,
    "Mistral": MistralVendor,
    "Gemini": GeminiVendor,
}
