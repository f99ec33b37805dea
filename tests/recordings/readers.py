"""What the vendors' own SDKs read of an answer: the measure for what our parsers read, and write.

Each SDK is given the bytes by a transport of its own HTTP library, so all of its parser is at work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import anthropic
import botocore.session
import cohere
import httpx
import openai
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from google import genai
from google.genai import types
from mistralai.client import Mistral

from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    CONVERSE,
    GENERATE_CONTENT,
    MESSAGES,
    RESPONSES,
    Operation,
)

_STREAM: Any = {"stream": True, "stream_options": {"include_usage": True}}
HI: Any = [{"role": "user", "content": "Hi"}]
ENDS: Mapping[str, str] = {
    **dict.fromkeys(("stop", "end_turn", "STOP", "completed", "COMPLETE", "stop_sequence", "eos"), "stop"),
    **dict.fromkeys(("STOP_SEQUENCE", "pause_turn", "compaction"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "MAX_TOKENS", "max_output_tokens"), "length"),
    **dict.fromkeys(("tool_calls", "tool_use", "TOOL_CALL", "function_call"), "stop"),
    **dict.fromkeys(
        ("content_filter", "SAFETY", "refusal", "guardrail_intervened", "content_filtered"), "filter"
    ),
}
"""Why an answer ends, in one word for all formats: tools are a stop, which some formats call so."""


@dataclass
class Said:
    """One answer of several. `calls` are id, name, and the arguments as JSON."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: list[tuple[str | None, str, Any]] = field(default_factory=list)
    end: str | None = None


@dataclass
class Heard:
    """What a caller got. Tokens are counted as we count them: caches and thoughts are included."""

    said: list[Said] = field(default_factory=list)
    model: str | None = None
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None

    def choice(self, index: int) -> Said:
        while len(self.said) <= index:
            self.said.append(Said())
        return self.said[index]

    @property
    def tokens(self) -> tuple[int | None, int | None]:
        return self.input, self.output


class _Tape:
    """Gives an SDK the answer that lies on it."""

    body = b""
    is_stream = False

    def transport(self, library: Any = httpx) -> Any:
        """Return it as a transport of a library that is httpx, or one that has grown out of it."""

        def play(_: Any) -> Any:
            kind = "text/event-stream" if self.is_stream else "application/json"
            return library.Response(200, headers={"content-type": kind}, content=self.body)

        return library.MockTransport(play)


def _client(kind: type) -> Any:
    """Return a client of an SDK's own kind that plays the tape."""
    assert kind.__base__ is not None
    library = import_module(kind.__base__.__module__.partition(".")[0])
    return kind(transport=TAPE.transport(library))


TAPE = _Tape()


def heard(operation: Operation, body: bytes, *, is_stream: bool, sdk: str = "") -> Heard:
    """Read an answer with the SDK of a format; `sdk` is "mistral" for the other one of chat completions."""
    TAPE.body, TAPE.is_stream = body, is_stream
    read, client = _READERS[sdk or operation]
    return read(client(), is_stream)


def heard_from(client: Any, operation: Operation, *, is_stream: bool) -> Heard:
    """Ask a model of the name "m" with a client of the format's SDK."""
    return _READERS[operation][0](client, is_stream)


@cache
def _openai() -> openai.OpenAI:
    return openai.OpenAI(api_key="x", max_retries=0, http_client=_client(openai.DefaultHttpxClient))


@cache
def _anthropic() -> anthropic.Anthropic:
    client = _client(anthropic.DefaultHttpxClient)
    return anthropic.Anthropic(api_key="x", max_retries=0, http_client=client)


@cache
def _mistral() -> Mistral:
    return Mistral(api_key="x", client=httpx.Client(transport=TAPE.transport(), follow_redirects=True))


@cache
def _cohere() -> cohere.ClientV2:
    return cohere.ClientV2(api_key="x", httpx_client=httpx.Client(transport=TAPE.transport()))


@cache
def _google() -> genai.Client:
    options = types.HttpOptions(client_args={"transport": TAPE.transport()})
    return genai.Client(api_key="x", http_options=options)


@cache
def _bedrock() -> Any:
    session = botocore.session.Session()
    client = session.create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"max_attempts": 0}),
    )
    client.meta.events.register("before-send", lambda request, **_: _aws(request.url))
    return client


class _Raw:
    """A body as urllib3 has it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, amt: int = 0, decode_content: bool | None = None) -> Iterator[bytes]:
        yield self._body

    def read(self, *_: Any, **__: Any) -> bytes:
        return self._body

    def close(self) -> None:
        pass


def _aws(url: str) -> AWSResponse:
    kind = "application/vnd.amazon.eventstream" if TAPE.is_stream else "application/json"
    return AWSResponse(url, 200, {"content-type": kind}, _Raw(TAPE.body))


def _json(text: str | None) -> Any:
    """Read arguments; models write what is no JSON, too."""
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text


def _chat(client: Any, is_stream: bool) -> Heard:
    create = client.chat.completions.create
    if not is_stream:
        return _completion(create(model="m", messages=HI).model_dump())
    return _chunks(chunk.model_dump() for chunk in create(model="m", messages=HI, **_STREAM))


def _mistral_chat(client: Any, is_stream: bool) -> Heard:
    chat = client.chat
    if not is_stream:
        return _completion(chat.complete(model="m", messages=HI).model_dump())
    return _chunks(event.data.model_dump() for event in chat.stream(model="m", messages=HI))


def _completion(document: Any) -> Heard:
    got = Heard(model=document["model"])
    _counted(got, document.get("usage"))
    for choice in document["choices"]:
        said, message = got.choice(choice["index"]), choice["message"] or {}  # Azure's filter leaves none
        _words(said, message)
        for call in message.get("tool_calls") or ():
            function = call["function"]
            said.calls.append((call.get("id"), function["name"], _arguments(function["arguments"])))
        said.end = ENDS[choice["finish_reason"]]
    return got


def _arguments(value: Any) -> Any:
    return _json(value) if isinstance(value, str) or value is None else value


def _chunks(chunks: Iterable[Any]) -> Heard:
    got, calls = Heard(), dict[tuple[int, int], list[Any]]()
    for chunk in chunks:
        got.model = got.model or chunk["model"]
        _counted(got, chunk.get("usage"))
        for choice in chunk["choices"]:
            said, delta = got.choice(choice["index"]), choice["delta"] or {}
            _words(said, delta)
            for call in delta.get("tool_calls") or ():
                at = (choice["index"], call.get("index") or 0)
                _more(calls.setdefault(at, [None, "", ""]), call)
            if choice.get("finish_reason"):
                said.end = ENDS[choice["finish_reason"]]
    for (index, _), (id_, name, arguments) in sorted(calls.items()):
        got.choice(index).calls.append((id_, name, _json(arguments)))
    return got


def _more(call: list[Any], delta: Any) -> None:
    function = delta.get("function") or {}
    arguments = function.get("arguments") or ""
    call[0] = call[0] or delta.get("id")
    call[1] = call[1] or function.get("name") or ""
    call[2] += arguments if isinstance(arguments, str) else json.dumps(arguments)


def _words(said: Said, message: Any) -> None:
    content = message.get("content")
    for piece in content if isinstance(content, list) else [{"text": content}]:
        said.text += piece.get("text") or ""
        said.thinking += "".join(each["text"] for each in piece.get("thinking") or ())
    said.thinking += message.get("reasoning_content") or message.get("reasoning") or ""
    said.refusal += message.get("refusal") or ""


def _counted(got: Heard, usage: Any) -> None:
    if not usage:
        return
    into, out = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    got.input, got.output = usage["prompt_tokens"], usage["completion_tokens"]
    got.cached, got.reasoning = into.get("cached_tokens"), out.get("reasoning_tokens")
    if got.cached is None:
        got.cached = usage.get("prompt_cache_hit_tokens")
    if got.reasoning and usage["total_tokens"] == (got.input or 0) + (got.output or 0) + got.reasoning:
        got.output = (got.output or 0) + got.reasoning


def _text(client: Any, is_stream: bool) -> Heard:
    create = client.completions.create
    answer = create(model="m", prompt="Hi", stream=is_stream)
    got = Heard()
    for chunk in answer if is_stream else [answer]:
        got.model = got.model or chunk.model
        _counted(got, chunk.usage and chunk.usage.model_dump())
        for choice in chunk.choices:
            said = got.choice(choice.index)
            said.text += choice.text
            said.end = ENDS[choice.finish_reason] if choice.finish_reason else said.end
    return got


def _messages(client: Any, is_stream: bool) -> Heard:
    messages = client.beta.messages  # which knows what needs a header as well
    asked: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": HI}
    if is_stream:
        with messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = messages.create(**asked)
    usage, said = message.usage, Said()
    for block in message.content:
        if block.type == "text":
            said.text += block.text
        elif block.type == "thinking":
            said.thinking += block.thinking
        elif block.type == "tool_use":
            said.calls.append((block.id, block.name, block.input))
    said.end = ENDS[message.stop_reason]
    cached, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    into, out = (usage.input_tokens or 0) + (cached or 0) + (written or 0), usage.output_tokens
    into = None if usage.input_tokens is None else into
    for each in usage.model_dump().get("iterations") or ():
        if each["type"] == "compaction":
            into, out = (into or 0) + each["input_tokens"], out + each["output_tokens"]
            cached = (cached or 0) + each["cache_read_input_tokens"]
    return Heard([said], message.model, into, out, cached)


def _responses(client: Any, is_stream: bool) -> Heard:
    create = client.responses.create
    if not is_stream:
        return _response(create(model="m", input="Hi"))
    words, last = "", None
    for event in create(model="m", input="Hi", stream=True):
        if event.type == "response.output_text.delta":
            words += event.delta
        last = event
    assert last is not None and last.type in ("response.completed", "response.incomplete")
    got = _response(last.response)
    assert words == got.said[0].text
    return got


def _response(response: Any) -> Heard:
    said = Said(text=response.output_text)
    for item in response.output:
        if item.type == "function_call":
            said.calls.append((item.call_id, item.name, _json(item.arguments)))
        elif item.type == "custom_tool_call":
            said.calls.append((item.call_id, item.name, item.input))
        elif item.type == "reasoning":
            said.thinking += "\n\n".join(piece.text for piece in (*item.summary, *(item.content or ())))
        elif item.type == "message":
            said.refusal += "".join(each.refusal for each in item.content if each.type == "refusal")
    details = response.incomplete_details
    said.end = ENDS[details.reason if details and details.reason else response.status]
    got = Heard([said], response.model)
    if response.usage is not None:
        usage = response.usage
        got.input, got.output = usage.input_tokens, usage.output_tokens
        got.cached = usage.input_tokens_details and usage.input_tokens_details.cached_tokens
        got.reasoning = usage.output_tokens_details and usage.output_tokens_details.reasoning_tokens
    return got


def _generated(client: Any, is_stream: bool) -> Heard:
    models, got = client.models, Heard()
    asked: dict[str, Any] = {"model": "m", "contents": "Hi"}
    pieces: Any = (
        models.generate_content_stream(**asked) if is_stream else [models.generate_content(**asked)]
    )
    for piece in pieces:
        got.model = got.model or piece.model_version
        usage = piece.usage_metadata
        if usage is not None:
            into = [usage.prompt_token_count, usage.tool_use_prompt_token_count]
            got.input = sum(each or 0 for each in into) if into != [None, None] else None
            told = [usage.candidates_token_count, usage.thoughts_token_count]
            got.output = sum(each or 0 for each in told) if told != [None, None] else None
            got.cached, got.reasoning = usage.cached_content_token_count, usage.thoughts_token_count
        for candidate in piece.candidates or ():
            said = got.choice(candidate.index or 0)
            for part in (candidate.content and candidate.content.parts) or ():
                _part(said, part)
            said.end = ENDS[candidate.finish_reason.value] if candidate.finish_reason else said.end
    return got


def _part(said: Said, part: types.Part) -> None:
    if part.function_call is not None:
        call = part.function_call
        said.calls.append((call.id, call.name or "", call.args or {}))
    elif part.executable_code is not None:  # which others are told as words
        said.text += f"\n```\n{part.executable_code.code}\n```\n"
    elif part.code_execution_result is not None:
        said.text += f"\n```\n{part.code_execution_result.output}\n```\n"
    elif part.thought:
        said.thinking += part.text or ""
    else:
        said.text += part.text or ""


def _converse(client: Any, is_stream: bool) -> Heard:
    asked: dict[str, Any] = {"modelId": "m", "messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    if is_stream:
        return _converse_events(client.converse_stream(**asked)["stream"])
    answer, said = client.converse(**asked), Said()
    for block in answer["output"]["message"]["content"]:
        cited = block.get("citationsContent", {}).get("content", ())
        said.text += block.get("text", "") + "".join(each["text"] for each in cited)
        said.thinking += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
        if "toolUse" in block:
            use = block["toolUse"]
            said.calls.append((use["toolUseId"], use["name"], use["input"]))
    said.end = ENDS[answer["stopReason"]]
    return _aws_counted(Heard([said]), answer["usage"])


def _converse_events(events: Iterable[Any]) -> Heard:
    got, said, arguments = Heard(), Said(), list[str]()
    for event in events:
        if "contentBlockStart" in event and "toolUse" in event["contentBlockStart"]["start"]:
            use = event["contentBlockStart"]["start"]["toolUse"]
            said.calls.append((use["toolUseId"], use["name"], None))
            arguments.append("")
        delta = event.get("contentBlockDelta", {}).get("delta", {})
        said.text += delta.get("text", "")
        said.thinking += delta.get("reasoningContent", {}).get("text", "")
        if "toolUse" in delta:
            arguments[-1] += delta["toolUse"].get("input", "")
        if "messageStop" in event:
            said.end = ENDS[event["messageStop"]["stopReason"]]
        if "usage" in event.get("metadata", {}):
            _aws_counted(got, event["metadata"]["usage"])
    said.calls = [(*call[:2], _json(text)) for call, text in zip(said.calls, arguments, strict=True)]
    got.said = [said]
    return got


def _aws_counted(got: Heard, usage: Any) -> Heard:
    got.cached = usage.get("cacheReadInputTokens")
    got.input = usage["inputTokens"] + (got.cached or 0) + usage.get("cacheWriteInputTokens", 0)
    got.output = usage["outputTokens"]
    return got


def _cohere_chat(client: Any, is_stream: bool) -> Heard:
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    if not is_stream:
        answer = client.chat(**asked)
        document, said = answer.model_dump(), Said()
        message = document["message"]
        said.thinking = message.get("tool_plan") or ""
        said.text = "".join(each.get("text") or "" for each in message.get("content") or ())
        for call in message.get("tool_calls") or ():
            said.calls.append((call["id"], call["function"]["name"], _json(call["function"]["arguments"])))
        said.end = ENDS[document["finish_reason"]]
        return _cohere_counted(Heard([said]), document["usage"])
    got, said, calls = Heard(), Said(), list[list[str]]()
    for event in client.chat_stream(**asked):
        document = event.model_dump()
        message = (document.get("delta") or {}).get("message") or {}
        if event.type in ("content-delta", "content-start"):
            said.text += message["content"].get("text") or ""
        if event.type == "tool-plan-delta":
            said.thinking += message.get("tool_plan") or ""
        if event.type == "tool-call-start":
            function = message["tool_calls"]["function"]
            calls.append([message["tool_calls"]["id"], function["name"], function["arguments"]])
        if event.type == "tool-call-delta":
            calls[-1][2] += message["tool_calls"]["function"]["arguments"]
        if event.type == "message-end":
            said.end = ENDS[document["delta"]["finish_reason"]]
            _cohere_counted(got, document["delta"]["usage"])
    said.calls = [(id_, name, _json(arguments)) for id_, name, arguments in calls]
    got.said = [said]
    return got


def _cohere_counted(got: Heard, usage: Any) -> Heard:
    tokens = usage["billed_units"]  # as the bill has them
    got.input, got.output = int(tokens["input_tokens"]), int(tokens["output_tokens"])
    return got


_READERS: Mapping[Any, tuple[Callable[[Any, bool], Heard], Callable[[], Any]]] = {
    CHAT: (_chat, _openai),
    "mistral": (_mistral_chat, _mistral),
    COMPLETIONS: (_text, _openai),
    MESSAGES: (_messages, _anthropic),
    RESPONSES: (_responses, _openai),
    GENERATE_CONTENT: (_generated, _google),
    CONVERSE: (_converse, _bedrock),
    COHERE_CHAT: (_cohere_chat, _cohere),
}
