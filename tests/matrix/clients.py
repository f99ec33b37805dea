"""The official SDKs as callers, each with a conversation in its own format."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import anthropic
import cohere
import cohere.core.api_error
import openai
from anthropic import AsyncAnthropic
from google import genai
from google.genai import errors, types
from mistralai.client import Mistral
from mistralai.client import errors as mistral_errors
from mistralai.client.utils import BackoffStrategy, RetryConfig
from openai import AsyncOpenAI
from served import PREFIX, Served


@dataclass
class Got:
    """What a caller got. `usage` has input, cached, output and reasoning as the format tells them."""

    text: str = ""
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    thinking: str = ""
    finish: str | None = None
    model: str = ""
    usage: dict[str, int | None] = field(default_factory=dict)


class Client:
    """A conversation. `tools` are by name the JSON Schema of their arguments."""

    limited: type[Exception] = Exception
    refused: type[Exception] = Exception
    broken: type[Exception] | tuple[type[Exception], ...] = Exception
    tells_reasoning = True

    def __init__(self, running: Served) -> None:
        self.turns: list[Any] = []
        self.system: str | None = None
        self.tools: dict[str, Any] = {}
        self.schema: Any = None
        self.thinks = False
        self.connect(running)

    def connect(self, running: Served) -> None:
        raise NotImplementedError

    def say(self, text: str, image: str | None = None) -> None:
        raise NotImplementedError

    def give(self, results: list[tuple[str, str]]) -> None:
        raise NotImplementedError

    async def ask(self, *, stream: bool) -> Got:
        raise NotImplementedError

    async def open(self) -> Any:
        """Begin a stream, and return it after its first event."""
        raise NotImplementedError

    async def close(self) -> None:
        await self.sdk.close()

    def headers_of(self, error: Any) -> Any:
        """Return the headers of the answer that an exception is about."""
        return error.response.headers

    sdk: Any


class ChatClient(Client):
    """OpenAI's SDK with chat completions."""

    limited, refused, broken = openai.RateLimitError, openai.BadRequestError, openai.APIError

    def connect(self, running: Served) -> None:
        self.sdk = AsyncOpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0)

    def say(self, text: str, image: str | None = None) -> None:
        content: Any = text
        if image is not None:
            content = [
                {"type": "text", "text": text},
                {"type": "image_url", "image_url": {"url": image}},
            ]
        self.turns.append({"role": "user", "content": content})

    def give(self, results: list[tuple[str, str]]) -> None:
        self.turns += [{"role": "tool", "tool_call_id": id_, "content": text} for id_, text in results]

    def _arguments(self) -> dict[str, Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        given: dict[str, Any] = {"model": "model", "messages": [*system, *self.turns], "max_tokens": 4000}
        if self.tools:
            given["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": schema}}
                for name, schema in self.tools.items()
            ]
        if self.schema:
            form = {"name": "answer", "schema": self.schema, "strict": True}
            given["response_format"] = {"type": "json_schema", "json_schema": form}
        if self.thinks:
            given["reasoning_effort"] = "low"
        return given

    async def ask(self, *, stream: bool) -> Got:
        if not stream:
            answer = await self.sdk.chat.completions.create(**self._arguments())
            message, finish, usage = (
                answer.choices[0].message,
                answer.choices[0].finish_reason,
                answer.usage,
            )
            told, model = message.model_dump(exclude_none=True), answer.model
        else:
            told, finish, usage, model = await self._streamed()
        self.turns.append(told)
        calls = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in told.get("tool_calls", ())
        ]
        return Got(
            told.get("content") or "",
            calls,
            told.get("reasoning_content", ""),
            finish,
            model,
            {
                "input": usage.prompt_tokens,
                "cached": usage.prompt_tokens_details.cached_tokens,
                "output": usage.completion_tokens,
                "reasoning": usage.completion_tokens_details
                and usage.completion_tokens_details.reasoning_tokens,
            },
        )

    async def _streamed(self) -> Any:
        options = {"include_usage": True}
        chunks = await self.sdk.chat.completions.create(
            **self._arguments(), stream=True, stream_options=options
        )
        told: dict[str, Any] = {"role": "assistant"}
        finish = usage = None
        async for chunk in chunks:
            usage, model = chunk.usage or usage, chunk.model
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                delta = choice.delta.model_dump(exclude_none=True)
                for name in ("content", "reasoning_content"):
                    if name in delta:
                        told[name] = told.get(name, "") + delta[name]
                if "reasoning_details" in delta:
                    told.setdefault("reasoning_details", []).extend(delta["reasoning_details"])
                for call in delta.get("tool_calls", ()):
                    calls = told.setdefault("tool_calls", [])
                    index = call.pop("index")
                    if index == len(calls):
                        calls.append(call)
                    else:
                        calls[index]["function"]["arguments"] += call["function"]["arguments"]
        return told, finish, usage, model

    async def open(self) -> Any:
        stream = await self.sdk.chat.completions.create(**self._arguments(), stream=True)
        await stream.__anext__()
        return stream


class MessagesClient(Client):
    """Anthropic's SDK."""

    limited, refused, broken = anthropic.RateLimitError, anthropic.BadRequestError, anthropic.APIError
    tells_reasoning = False

    def connect(self, running: Served) -> None:
        base = f"{running.url}{PREFIX}"
        self.sdk = AsyncAnthropic(base_url=base, auth_token="t-alice", api_key=None, max_retries=0)

    def say(self, text: str, image: str | None = None) -> None:
        content: Any = text
        if image is not None:
            kind, _, data = image.removeprefix("data:").partition(";base64,")
            source = {"type": "base64", "media_type": kind, "data": data}
            content = [{"type": "text", "text": text}, {"type": "image", "source": source}]
        self.turns.append({"role": "user", "content": content})

    def give(self, results: list[tuple[str, str]]) -> None:
        blocks = [{"type": "tool_result", "tool_use_id": id_, "content": text} for id_, text in results]
        self.turns.append({"role": "user", "content": blocks})

    def _arguments(self) -> dict[str, Any]:
        given: dict[str, Any] = {"model": "model", "messages": self.turns, "max_tokens": 4000}
        if self.system:
            given["system"] = self.system
        if self.tools:
            given["tools"] = [{"name": name, "input_schema": schema} for name, schema in self.tools.items()]
        if self.schema:
            given["output_config"] = {"format": {"type": "json_schema", "schema": self.schema}}
        if self.thinks:
            given["thinking"] = {"type": "enabled", "budget_tokens": 1500}
        return given

    async def ask(self, *, stream: bool) -> Got:
        if stream:
            async with self.sdk.messages.stream(**self._arguments()) as events:
                message = await events.get_final_message()
        else:
            message = await self.sdk.messages.create(**self._arguments())
        blocks = [block.model_dump(exclude_none=True) for block in message.content]
        for block in blocks:
            block.pop("parsed_output", None)
        self.turns.append({"role": "assistant", "content": blocks})
        usage = message.usage
        return Got(
            "".join(block["text"] for block in blocks if block["type"] == "text"),
            [
                (block["id"], block["name"], block["input"])
                for block in blocks
                if block["type"] == "tool_use"
            ],
            "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            message.stop_reason,
            message.model,
            {
                "input": usage.input_tokens + (usage.cache_read_input_tokens or 0),
                "cached": usage.cache_read_input_tokens,
                "output": usage.output_tokens,
            },
        )

    async def open(self) -> Any:
        stream = await self.sdk.messages.create(**self._arguments(), stream=True)
        await stream.__anext__()
        return stream


class ResponsesClient(Client):
    """OpenAI's SDK with Responses; at a failed response its helper for streams raises a RuntimeError."""

    limited, refused = openai.RateLimitError, openai.BadRequestError
    broken = (openai.APIError, RuntimeError)

    def connect(self, running: Served) -> None:
        self.sdk = AsyncOpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0)

    def say(self, text: str, image: str | None = None) -> None:
        content: Any = text
        if image is not None:
            content = [
                {"type": "input_text", "text": text},
                {"type": "input_image", "image_url": image, "detail": "auto"},
            ]
        self.turns.append({"role": "user", "content": content})

    def give(self, results: list[tuple[str, str]]) -> None:
        self.turns += [
            {"type": "function_call_output", "call_id": id_, "output": text} for id_, text in results
        ]

    def _arguments(self) -> dict[str, Any]:
        given: dict[str, Any] = {"model": "model", "input": self.turns, "max_output_tokens": 4000}
        if self.system:
            given["instructions"] = self.system
        if self.tools:
            given["tools"] = [
                {"type": "function", "name": name, "parameters": schema, "strict": False}
                for name, schema in self.tools.items()
            ]
        if self.schema:
            form = {"type": "json_schema", "name": "answer", "schema": self.schema, "strict": True}
            given["text"] = {"format": form}
        if self.thinks:
            given["reasoning"] = {"effort": "low", "summary": "auto"}
            given["include"] = ["reasoning.encrypted_content"]
        return given

    async def ask(self, *, stream: bool) -> Got:
        if stream:
            response = await self._streamed()
        else:
            response = await self.sdk.responses.create(**self._arguments())
        items = [item.model_dump(exclude_none=True) for item in response.output]
        for item in items:
            item.pop("parsed_arguments", None)
            for part in item.get("content", ()):
                part.pop("parsed", None)
        self.turns += items
        calls = [
            (item["call_id"], item["name"], json.loads(item["arguments"]))
            for item in items
            if item["type"] == "function_call"
        ]
        thoughts = [
            each["text"] for item in items if item["type"] == "reasoning" for each in item["summary"]
        ]
        usage = response.usage
        return Got(
            response.output_text,
            calls,
            "".join(thoughts),
            response.status,
            response.model,
            {
                "input": usage.input_tokens,
                "cached": usage.input_tokens_details.cached_tokens,
                "output": usage.output_tokens,
                "reasoning": usage.output_tokens_details.reasoning_tokens,
            },
        )

    async def _streamed(self) -> Any:
        numbers, last = [], None
        given = self._arguments()
        async with self.sdk.responses.stream(**given) as events:
            async for event in events:
                numbers.append(event.sequence_number)
                last = event
            response = await events.get_final_response()
        assert numbers == list(range(len(numbers)))
        assert last is not None
        assert last.type == "response.completed"
        return response

    async def open(self) -> Any:
        stream = await self.sdk.responses.create(**self._arguments(), stream=True)
        await stream.__anext__()
        return stream


class GeminiClient(Client):
    """Google's SDK; what it fails with has a `code`, and hides the answer in `response`."""

    limited = refused = errors.ClientError
    broken = errors.APIError

    def connect(self, running: Served) -> None:
        options = types.HttpOptions(
            base_url=f"{running.url}{PREFIX}", retry_options=types.HttpRetryOptions(attempts=1)
        )
        self.sdk = genai.Client(api_key="t-alice", http_options=options)

    async def close(self) -> None:
        await self.sdk.aio.aclose()
        self.sdk.close()

    def say(self, text: str, image: str | None = None) -> None:
        parts = [types.Part(text=text)]
        if image is not None:
            kind, _, data = image.removeprefix("data:").partition(";base64,")
            blob = types.Blob(mime_type=kind, data=base64.b64decode(data))
            parts.append(types.Part(inline_data=blob))
        self.turns.append(types.Content(role="user", parts=parts))

    def give(self, results: list[tuple[str, str]]) -> None:
        names = {
            part.function_call.id: part.function_call.name
            for content in self.turns
            for part in content.parts or ()
            if part.function_call is not None
        }
        parts = [
            types.Part(
                function_response=types.FunctionResponse(id=id_, name=names[id_], response={"output": text})
            )
            for id_, text in results
        ]
        self.turns.append(types.Content(role="user", parts=parts))

    def _config(self) -> types.GenerateContentConfig:
        config = types.GenerateContentConfig(
            max_output_tokens=4000,
            system_instruction=self.system,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        if self.tools:
            declared: list[Any] = [
                types.FunctionDeclaration(name=name, parameters_json_schema=schema)
                for name, schema in self.tools.items()
            ]
            config.tools = [types.Tool(function_declarations=declared)]
        if self.schema:
            config.response_mime_type = "application/json"
            config.response_json_schema = self.schema
        if self.thinks:
            config.thinking_config = types.ThinkingConfig(thinking_level="LOW", include_thoughts=True)
        return config

    async def ask(self, *, stream: bool) -> Got:
        asked: dict[str, Any] = {"model": "model", "contents": self.turns, "config": self._config()}
        if stream:
            chunks = await self.sdk.aio.models.generate_content_stream(**asked)
            pieces = [piece async for piece in chunks]
        else:
            pieces = [await self.sdk.aio.models.generate_content(**asked)]
        contents = [piece.candidates[0].content for piece in pieces if piece.candidates]
        self.turns += contents
        parts = [part for content in contents for part in content.parts or ()]
        used = pieces[-1].usage_metadata
        return Got(
            "".join(part.text or "" for part in parts if not part.thought),
            [
                (part.function_call.id, part.function_call.name, part.function_call.args)
                for part in parts
                if part.function_call
            ],
            "".join(part.text or "" for part in parts if part.thought),
            str(pieces[-1].candidates[0].finish_reason.value),
            pieces[-1].model_version,
            {
                "input": used.prompt_token_count,
                "cached": used.cached_content_token_count,
                "output": used.candidates_token_count + (used.thoughts_token_count or 0),
                "reasoning": used.thoughts_token_count,
            },
        )

    async def open(self) -> Any:
        asked: dict[str, Any] = {"model": "model", "contents": self.turns, "config": self._config()}
        stream = await self.sdk.aio.models.generate_content_stream(**asked)
        await stream.__anext__()
        return _Closing(stream, self.sdk)


class _Closing:
    """A stream of Google's, whose connection is closed with the client's others."""

    def __init__(self, stream: Any, sdk: Any) -> None:
        self._stream = stream
        self._sdk = sdk

    async def close(self) -> None:
        await self._stream.aclose()
        await self._sdk.aio.aclose()


class Failed(Exception):  # noqa: N818 - what a caller of Cohere's makes of a last event that says ERROR
    """Cohere's SDK raises nothing for a stream that fails: its last event says so."""


class CohereClient(Client):
    """Cohere's SDK, which keeps the pieces of a message as they came."""

    limited, refused = cohere.TooManyRequestsError, cohere.BadRequestError
    broken = Failed
    tells_reasoning = False

    def connect(self, running: Served) -> None:
        self.sdk = cohere.AsyncClientV2(
            base_url=f"{running.url}{PREFIX}".rstrip("/"), api_key="t-alice", max_retries=0
        )

    async def close(self) -> None:
        await self.sdk._client_wrapper.httpx_client.httpx_client.aclose()

    def headers_of(self, error: Any) -> Any:
        return error.headers

    def say(self, text: str, image: str | None = None) -> None:
        content: Any = text
        if image is not None:
            content = [
                {"type": "text", "text": text},
                {"type": "image_url", "image_url": {"url": image}},
            ]
        self.turns.append({"role": "user", "content": content})

    def give(self, results: list[tuple[str, str]]) -> None:
        self.turns += [{"role": "tool", "tool_call_id": id_, "content": text} for id_, text in results]

    def _arguments(self) -> dict[str, Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        given: dict[str, Any] = {"model": "model", "messages": [*system, *self.turns], "max_tokens": 4000}
        if self.tools:
            given["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": schema}}
                for name, schema in self.tools.items()
            ]
        if self.schema:
            given["response_format"] = {"type": "json_object", "json_schema": self.schema}
        if self.thinks:
            given["thinking"] = {"type": "enabled", "token_budget": 1500}
        return given

    async def ask(self, *, stream: bool) -> Got:
        if stream:
            told, finish, usage = await self._streamed()
        else:
            answer = await self.sdk.chat(**self._arguments())
            told, finish = answer.message.model_dump(exclude_none=True), answer.finish_reason
            usage = answer.usage
        self.turns.append(told)
        pieces = told.get("content", ())
        return Got(
            "".join(piece.get("text", "") for piece in pieces),
            [
                (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in told.get("tool_calls", ())
            ],
            told.get("tool_plan", "") + "".join(piece.get("thinking", "") for piece in pieces),
            finish,
            "",
            {
                "input": int(usage.billed_units.input_tokens),
                "cached": int(usage.cached_tokens),
                "output": int(usage.billed_units.output_tokens),
            },
        )

    async def _streamed(self) -> Any:
        told: dict[str, Any] = {"role": "assistant"}
        kinds: list[str] = []
        async for event in self.sdk.chat_stream(**self._arguments()):
            kinds.append(event.type)
            inner = event.delta.model_dump(exclude_none=True) if getattr(event, "delta", None) else {}
            message = inner.get("message", {})
            if event.type == "tool-plan-delta":
                told["tool_plan"] = told.get("tool_plan", "") + message["tool_plan"]
            elif event.type == "content-start":
                told.setdefault("content", []).append(message["content"])
                assert event.index == len(told["content"]) - 1
            elif event.type == "content-delta":
                _grow(told["content"][event.index], message["content"])
            elif event.type == "tool-call-start":
                told.setdefault("tool_calls", []).append(message["tool_calls"])
                assert event.index == len(told["tool_calls"]) - 1
            elif event.type == "tool-call-delta":
                _grow(told["tool_calls"][event.index], message["tool_calls"])
            elif event.type == "message-end":
                if inner["finish_reason"] == "ERROR":
                    raise Failed(inner["error"])
                finish, usage = inner["finish_reason"], event.delta.usage
        assert (kinds[0], kinds[-1]) == ("message-start", "message-end")
        for kind in ("content", "tool-call"):
            assert kinds.count(f"{kind}-start") == kinds.count(f"{kind}-end")
        return told, finish, usage

    async def open(self) -> Any:
        opened = self.sdk.with_raw_response.chat_stream(**self._arguments())
        answer = await opened.__aenter__()
        await answer.data.__anext__()
        return _Ending(opened, answer.data)


def _grow(known: dict[str, Any], more: dict[str, Any]) -> None:
    """Add the words of a delta to what it is of; what is new to it is taken as it is."""
    for name, value in more.items():
        if isinstance(value, dict):
            _grow(known.setdefault(name, {}), value)
        else:
            known[name] = known.get(name, "") + value


class _Ending:
    """A stream of Cohere's: its events, within what holds the connection."""

    def __init__(self, opened: Any, events: Any) -> None:
        self._opened = opened
        self._events = events

    async def close(self) -> None:
        await self._events.aclose()
        await self._opened.__aexit__(None, None, None)


class MistralClient(Client):
    """Mistral's SDK, to which a chunk that is none is an answer that cannot be read."""

    limited = refused = mistral_errors.SDKError
    broken = mistral_errors.MistralError

    def connect(self, running: Served) -> None:
        self.sdk = Mistral(
            server_url=f"{running.url}{PREFIX}".rstrip("/"),
            api_key="t-alice",
            retry_config=RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False),
        )

    async def close(self) -> None:
        await self.sdk.__aexit__(None, None, None)
        self.sdk.__exit__(None, None, None)

    def headers_of(self, error: Any) -> Any:
        return error.headers

    def say(self, text: str, image: str | None = None) -> None:
        content: Any = text
        if image is not None:
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": image}]
        self.turns.append({"role": "user", "content": content})

    def give(self, results: list[tuple[str, str]]) -> None:
        self.turns += [{"role": "tool", "tool_call_id": id_, "content": text} for id_, text in results]

    def _arguments(self) -> dict[str, Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        given: dict[str, Any] = {"model": "model", "messages": [*system, *self.turns], "max_tokens": 4000}
        if self.tools:
            given["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": schema}}
                for name, schema in self.tools.items()
            ]
        if self.schema:
            form = {"name": "answer", "schema_definition": self.schema, "strict": True}
            given["response_format"] = {"type": "json_schema", "json_schema": form}
        if self.thinks:
            given["reasoning_effort"] = "low"
        return given

    async def ask(self, *, stream: bool) -> Got:
        if stream:
            told, finish, usage, model = await self._streamed()
        else:
            answer = await self.sdk.chat.complete_async(**self._arguments())
            choice = answer.choices[0]
            told, finish = choice.message.model_dump(exclude_none=True), choice.finish_reason
            usage, model = answer.usage, answer.model
        self.turns.append(told)
        content = told.get("content") or ""
        pieces = [{"type": "text", "text": content}] if isinstance(content, str) else content
        more = usage.additional_properties
        return Got(
            "".join(piece["text"] for piece in pieces if piece["type"] == "text"),
            [
                (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in told.get("tool_calls") or ()
            ],
            "".join(
                each["text"]
                for piece in pieces
                if piece["type"] == "thinking"
                for each in piece["thinking"]
            ),
            finish,
            model,
            {
                "input": usage.prompt_tokens,
                "cached": more["prompt_tokens_details"]["cached_tokens"],
                "output": usage.completion_tokens,
                "reasoning": more.get("completion_tokens_details", {}).get("reasoning_tokens"),
            },
        )

    async def _streamed(self) -> Any:
        told: dict[str, Any] = {"role": "assistant"}
        pieces: list[Any] = []
        finish = usage = model = None
        async with await self.sdk.chat.stream_async(**self._arguments()) as events:
            async for event in events:
                chunk = event.data
                usage, model = chunk.usage or usage, chunk.model
                for choice in chunk.choices:
                    delta = choice.delta.model_dump(exclude_none=True)
                    finish = choice.finish_reason or finish
                    _add(pieces, delta.get("content") or [])
                    if delta.get("tool_calls"):
                        told.setdefault("tool_calls", []).extend(delta["tool_calls"])
        return {**told, "content": pieces}, finish, usage, model

    async def open(self) -> Any:
        stream = await self.sdk.chat.stream_async(**self._arguments())
        await stream.__anext__()
        return _Leaving(stream)


def _add(pieces: list[Any], content: Any) -> None:
    """Add what a chunk says: words to words, thoughts to thoughts, up to their signature."""
    for piece in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        last = pieces[-1] if pieces else {}
        if last.get("type") != piece["type"] or "signature" in last:
            pieces.append(piece)
        elif piece["type"] == "text":
            last["text"] += piece["text"]
        else:
            last["thinking"] += piece["thinking"]
            last.update({name: piece[name] for name in ("signature",) if name in piece})


class _Leaving:
    """A stream of Mistral's."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def close(self) -> None:
        await self._stream.__aexit__(None, None, None)


CLIENTS: dict[str, type[Client]] = {
    "chat completions": ChatClient,
    "Messages": MessagesClient,
    "Responses": ResponsesClient,
    "Gemini": GeminiClient,
    "Cohere": CohereClient,
    "Mistral": MistralClient,
}
