"""Amazon Bedrock as a vendor of the matrix: by Converse, and Claude natively."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fakes.bedrock import KEY_ID, REGION, SECRET, Bedrock, Refused, chunks, framed, refused, told
from fakes.event_stream import event
from fakes.upstream import FakeUpstream, Reply, Request

from matrix.vendors import USAGE, MessagesVendor, Say, Seen, Vendor, halves

AWS = {"aws_region": REGION, "aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}


class ConverseVendor(Vendor):
    """A model of Amazon's that thinks, by the Converse API."""

    provider = "bedrock"
    model = "eu.amazon.nova-2-lite-v1:0"
    counts_reasoning = False

    def __init__(self, up: FakeUpstream) -> None:
        super().__init__(up)
        self.bedrock = Bedrock()

    def config(self) -> dict[str, Any]:
        return {"aws_config": AWS, "api_base": self.up.url}

    def check(self, request: Request, document: Any) -> str | None:
        try:
            self.bedrock.check_identity(request)
            _, model, _ = self.bedrock.read(request)
        except Refused as error:
            return error.message
        for message in document["messages"]:
            for block in message["content"]:
                thought = block.get("reasoningContent", {}).get("reasoningText")
                if thought and thought["signature"] != _signature(thought["text"]):
                    return "invalid signature in reasoningContent"
        return None if model == self.model else f"no such model: {model}"

    def is_stream(self, request: Request, document: Any) -> bool:
        return request.path.endswith("converse-stream")

    def read(self, document: Any) -> Seen:
        seen = Seen("".join(block["text"] for block in document.get("system", ())))
        seen.max_tokens = document.get("inferenceConfig", {}).get("maxTokens")
        config = document.get("toolConfig", {})
        seen.tools = [tool["toolSpec"]["name"] for tool in config.get("tools", ())]
        seen.choice = config.get("toolChoice")
        form = document.get("outputConfig", {}).get("textFormat")
        seen.schema = form and json.loads(form["structure"]["jsonSchema"]["schema"])
        for message in document["messages"]:
            words = "".join(block.get("text", "") for block in message["content"])
            seen.said += [words] if words else []
            for block in message["content"]:
                self._block(block, seen)
        return seen

    def _block(self, block: Any, seen: Seen) -> None:
        if "toolUse" in block:
            use = block["toolUse"]
            seen.calls.append((use["toolUseId"], use["name"], use["input"]))
        elif "toolResult" in block:
            result = block["toolResult"]
            seen.results.append((result["toolUseId"], "".join(each["text"] for each in result["content"])))
        elif "reasoningContent" in block:
            seen.thoughts.append(block["reasoningContent"]["reasoningText"]["text"])
        elif "image" in block:
            image = block["image"]
            seen.images.append(f"data:image/{image['format']};base64,{image['source']['bytes']}")

    def whole(self, say: Say) -> Any:
        return {
            "output": {"message": {"role": "assistant", "content": list(self._content(say))}},
            "stopReason": "tool_use" if say.calls else "end_turn",
            "usage": _usage(),
            "metrics": {"latencyMs": 3},
        }

    def _content(self, say: Say) -> Iterator[Any]:
        if say.thinking:
            text = {"text": say.thinking, "signature": _signature(say.thinking)}
            yield {"reasoningContent": {"reasoningText": text}}
        if say.text:
            yield {"text": say.text}
        for id_, name, given in say.calls:
            yield {"toolUse": {"toolUseId": id_, "name": name, "input": given}}

    def stream(self, say: Say) -> Iterator[Any]:
        yield event("messageStart", {"role": "assistant"})
        for index, block in enumerate(self._content(say)):
            yield from self._stream_block(index, block)
            if say.breaks:
                yield told("modelStreamErrorException", "The engine died.")
                return
        yield event("messageStop", {"stopReason": "tool_use" if say.calls else "end_turn"})
        yield event("metadata", {"usage": _usage(), "metrics": {"latencyMs": 3}})

    def _stream_block(self, index: int, block: Any) -> Iterator[bytes]:
        at = {"contentBlockIndex": index}
        deltas: list[Any]
        if "toolUse" in block:
            use = dict(block["toolUse"])
            deltas = [{"toolUse": {"input": piece}} for piece in halves(json.dumps(use.pop("input")))]
            yield event("contentBlockStart", {**at, "start": {"toolUse": use}})
        elif "text" in block:
            deltas = [{"text": piece} for piece in halves(block["text"])]
        else:
            thought = block["reasoningContent"]["reasoningText"]
            deltas = [{"reasoningContent": {"text": piece}} for piece in halves(thought["text"])]
            deltas.append({"reasoningContent": {"signature": thought["signature"]}})
        for delta in deltas:
            yield event("contentBlockDelta", {**at, "delta": delta})
        yield event("contentBlockStop", at)

    def streamed(self, *steps: Any) -> Reply:
        return framed(*steps)

    def refuse(self, status: int, message: str, *headers: tuple[str, str]) -> Reply:
        return _refused(status, message, *headers)


class ClaudeVendor(MessagesVendor):
    """Claude at Bedrock, in its own format."""

    provider = "bedrock"
    model = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"

    def __init__(self, up: FakeUpstream) -> None:
        super().__init__(up)
        self.bedrock = Bedrock()

    def config(self) -> dict[str, Any]:
        return {"aws_config": AWS, "api_base": self.up.url}

    def check(self, request: Request, document: Any) -> str | None:
        try:
            self.bedrock.check_identity(request)
            _, model, _ = self.bedrock.read(request)
        except Refused as error:
            return error.message
        plain = {**document, "model": model, "stream": self.is_stream(request, document)}
        del plain["anthropic_version"]
        return self.check_document(plain)

    def is_stream(self, request: Request, document: Any) -> bool:
        return request.path.endswith("invoke-with-response-stream")

    def streamed(self, *steps: Any) -> Reply:
        return framed(
            *(each for step in steps for each in (chunks([step]) if isinstance(step, bytes) else [step]))
        )

    def refuse(self, status: int, message: str, *headers: tuple[str, str]) -> Reply:
        return _refused(status, message, *headers)


def _refused(status: int, message: str, *headers: tuple[str, str]) -> Reply:
    name = {429: "ThrottlingException", 400: "ValidationException"}[status]
    return refused(status, name, message, *headers)


def _signature(thought: str) -> str:
    return f"c2lnbmVk{thought[::-1]}"


def _usage() -> Any:
    into = USAGE["input"] - USAGE["cached"]
    return {
        "inputTokens": into,
        "cacheReadInputTokens": USAGE["cached"],
        "outputTokens": USAGE["output"],
        "totalTokens": USAGE["input"] + USAGE["output"],
    }


AT_BEDROCK: dict[str, type[Vendor]] = {
    "Converse": ConverseVendor,
    "Messages at Bedrock": ClaudeVendor,
}
