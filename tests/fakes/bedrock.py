"""Amazon Bedrock, as a script for `fakes.upstream`: as strict about signatures and bodies.

Signatures are checked with botocore's own signer, bodies with botocore's description of the service.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/ and
https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html (read 2026-11).
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import create_loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from . import anthropic
from .event_stream import event, exception
from .upstream import Reply, Request

REGION = "eu-central-1"
KEY_ID = "AKIDEXAMPLE01234567"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TEXT = ["Hello", " from", " the fake", " Bedrock."]
USAGE = {
    "inputTokens": 7,
    "outputTokens": 9,
    "totalTokens": 29,
    "cacheReadInputTokens": 11,
    "cacheWriteInputTokens": 2,
}
OPERATIONS = {
    "invoke": "InvokeModel",
    "invoke-with-response-stream": "InvokeModelWithResponseStream",
    "converse": "Converse",
    "converse-stream": "ConverseStream",
    "count-tokens": "CountTokens",
}
CLAUDE_KNOWN = (anthropic.KNOWN - {"model", "stream"}) | {
    *("anthropic_version", "anthropic_beta", "output_config"),
}
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


class Refused(Exception):  # noqa: N818 - not a failure of the fake
    """An error of AWS's, by its name."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status, self.name, self.message = status, name, message


def refused(status: int, name: str, message: str, *headers: tuple[str, str]) -> Reply:
    """Refuse as AWS does."""
    kind = f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    own = [("x-amzn-RequestId", "aws-request"), ("x-amzn-ErrorType", kind)]
    return Reply.json({"message": message}, status, [*own, *headers])


def framed(*steps: Any) -> Reply:
    """Answer with an event stream of these messages; gates and ends go as they are."""
    kind = ("Content-Type", "application/vnd.amazon.eventstream")
    return Reply(200, [kind, ("x-amzn-RequestId", "aws-request")], list(steps))


def chunks(events: Sequence[bytes]) -> list[bytes]:
    """Put events of Anthropic's format into an event stream, padded as AWS pads them."""
    found = []
    for each in events:
        data = each.partition(b"\ndata: ")[2].rstrip(b"\n")
        found.append(event("chunk", {"bytes": base64.b64encode(data).decode(), "p": "abcdefgh"}))
    return found


def told(name: str, message: str) -> bytes:
    """Fail within a stream."""
    return exception(name, {"message": message})


@functools.cache
def service() -> ServiceModel:
    """Read botocore's description of the service."""
    return ServiceModel(create_loader().load_service_model("bedrock-runtime", "service-2"))


class Bedrock:
    """A script for each request.

    It knows one access key, or the bearer `token`. `says` are the contents of the next answers by
    Converse, as lists of its blocks; after them comes `TEXT`. `reason` is why answers end. `asked` are the
    documents that were validated, with the operation and the model.
    """

    def __init__(
        self,
        key_id: str = KEY_ID,
        secret: str = SECRET,
        session_token: str | None = None,
        *,
        token: str | None = None,
        region: str = REGION,
    ) -> None:
        self.credentials = Credentials(key_id, secret, session_token)
        self.token = token
        self.region = region
        self.says: deque[list[dict[str, Any]]] = deque()
        self.reason: str | None = None
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, request: Request) -> Reply:
        try:
            self.check_identity(request)
            operation, model, document = self.read(request)
            self.asked.append((operation, model, document))
            if "embed" in model:
                return embedding(document, model)
            return self._answer(operation, document)
        except Refused as error:
            request.complaint = error.message
            return refused(error.status, error.name, error.message)

    # Who asks

    def check_identity(self, request: Request) -> None:
        """Refuse what is not signed as AWS wants it."""
        value = request.header("authorization") or ""
        if value.startswith("Bearer "):
            if self.token is None or value != f"Bearer {self.token}":
                raise Refused(403, "AccessDeniedException", "Authentication failed: API Key is not valid.")
            return
        found = _AUTHORIZATION.fullmatch(value)
        if found is None or self.token is not None:
            raise Refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        key_id, day, region, name, signed, signature = found.groups()
        if key_id != self.credentials.access_key or request.header("x-amz-security-token") != (
            self.credentials.token
        ):
            text = "The security token included in the request is invalid."
            raise Refused(403, "UnrecognizedClientException", text)
        if (region, name) != (self.region, "bedrock"):
            text = f"Credential should be scoped to a valid region, not '{region}'."
            raise Refused(403, "InvalidSignatureException", text)
        self._check_time(request.header("x-amz-date") or "", day)
        self._check_signature(request, signed.split(";"), signature)

    def _check_time(self, stamp: str, day: str) -> None:
        when = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        is_near = abs(datetime.now(timezone.utc) - when) < timedelta(minutes=5)
        if not is_near or stamp[:8] != day:
            raise Refused(403, "InvalidSignatureException", f"Signature expired: {stamp}")

    def _check_signature(self, request: Request, signed: list[str], signature: str) -> None:
        there = {name.lower() for name, _ in request.headers}
        must = {"host", *(name for name in there if name == "content-type" or name.startswith("x-amz-"))}
        if signed != sorted(signed) or not must <= set(signed) <= there:
            text = "The request signature must cover host, content-type and all x-amz-* headers"
            raise Refused(403, "IncompleteSignatureException", text)
        headers = {name: request.header(name) for name in signed}
        url = f"http://{request.header('host')}{request.target}"
        theirs = AWSRequest(request.method, url, headers, request.body)
        theirs.context["timestamp"] = request.header("x-amz-date")
        signer = SigV4Auth(self.credentials, "bedrock", self.region)
        canonical = signer.canonical_request(theirs)
        if signer.signature(signer.string_to_sign(theirs, canonical), theirs) != signature:
            text = (
                f"The request signature we calculated does not match. The Canonical String was {canonical}"
            )
            raise Refused(403, "InvalidSignatureException", text)

    # What is asked

    def read(self, request: Request) -> tuple[str, str, Any]:
        """Return the operation, the model and the document; refuse what the service would."""
        parts = request.target.split("/")
        if request.method != "POST" or len(parts) != 4 or parts[1] != "model" or parts[3] not in OPERATIONS:
            raise Refused(404, "UnknownOperationException", "")
        operation, model = OPERATIONS[parts[3]], unquote(parts[2])
        name, version = (
            request.header(f"x-amzn-bedrock-guardrail{each}") for each in ("identifier", "version")
        )
        if (name is None) != (version is None):
            raise _invalid("Both the guardrail's identifier and its version must be there, or none.")
        if request.header("content-type") != "application/json":
            raise Refused(400, "ValidationException", "The content type is not valid")
        try:
            document = json.loads(request.body)
        except ValueError:
            raise Refused(400, "SerializationException", "") from None
        if "embed" in model:
            check_embedding(document, model)
        elif operation.startswith("InvokeModel"):
            check_claude(document, model)
        else:
            shape = service().operation_model(operation).input_shape
            check_shape(shape, {**document, "modelId": model})
            if operation == "CountTokens":
                if not re.match(r"(anthropic|amazon|meta)\.", model):
                    raise Refused(400, "ValidationException", "The provided model doesn't support counting")
                check_claude(json.loads(base64.b64decode(document["input"]["invokeModel"]["body"])), model)
            else:
                check_conversation(document)
        return operation, model, document

    # What is answered

    def _answer(self, operation: str, document: Any) -> Reply:
        if operation == "CountTokens":
            return Reply.json({"inputTokens": 20})
        if operation == "InvokeModel":
            return Reply.json(anthropic._message([{"type": "text", "text": "".join(anthropic.TEXT)}]))
        if operation == "InvokeModelWithResponseStream":
            return framed(*chunks(anthropic.events()))
        content = self.says.popleft() if self.says else [{"text": "".join(TEXT)}]
        if operation == "ConverseStream":
            return framed(*events(content, self.reason))
        return Reply.json(answer(content, self.reason))


def answer(content: list[dict[str, Any]], reason: str | None = None) -> dict[str, Any]:
    """Make a whole answer."""
    return {
        "metrics": {"latencyMs": 5},
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason or _reason(content),
        "usage": USAGE,
    }


def events(content: list[dict[str, Any]], reason: str | None = None) -> list[bytes]:
    """Make a whole stream."""
    found = [event("messageStart", {"role": "assistant", "p": "abc"})]
    for index, block in enumerate(content):
        found += _block_events(index, block)
    stop = {"stopReason": reason or _reason(content), "p": "abcde"}
    return [
        *found,
        event("messageStop", stop),
        event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 5}, "p": "a"}),
    ]


def _reason(content: list[dict[str, Any]]) -> str:
    return "tool_use" if any("toolUse" in block for block in content) else "end_turn"


def _block_events(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    if "toolUse" in block:
        use = dict(block["toolUse"])
        use.pop("input")
        yield event("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": use}})
    for delta in _deltas(block):
        yield event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": "abcd"})
    yield event("contentBlockStop", {"contentBlockIndex": index, "p": "ab"})


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    ((kind, value),) = block.items()
    yield from _DELTAS[kind](value)


def _tool_deltas(use: dict[str, Any]) -> Iterator[dict[str, Any]]:
    text = json.dumps(use["input"])
    for at in range(0, len(text), 5):
        yield {"toolUse": {"input": text[at : at + 5]}}


def _reasoning_deltas(inner: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "redactedContent" in inner:
        yield {"reasoningContent": inner}
        return
    for word in re.findall(r"\s*\S+", inner["reasoningText"]["text"]):
        yield {"reasoningContent": {"text": word}}
    yield {"reasoningContent": {"signature": inner["reasoningText"]["signature"]}}


def _cited_deltas(cited: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from ({"text": each["text"]} for each in cited["content"])
    yield from ({"citation": each} for each in cited["citations"])


_DELTAS: dict[str, Callable[[Any], Iterator[dict[str, Any]]]] = {
    "text": lambda text: ({"text": word} for word in re.findall(r"\s*\S+|\s+$", text)),
    "toolUse": _tool_deltas,
    "reasoningContent": _reasoning_deltas,
    "citationsContent": _cited_deltas,
}


# What AWS checks


def _invalid(message: str) -> Refused:
    return Refused(400, "ValidationException", message)


def check_embedding(document: Any, model: str) -> None:
    """Refuse what a model that embeds refuses."""
    if "cohere" in model:
        known = {"texts", "input_type", "truncate", "embedding_types"}
        known |= {"output_dimension"} if "v4" in model else set()
        required, count = {"texts", "input_type"}, len(document.get("texts", ()))
    else:
        known = {"inputText", "dimensions", "normalize"} if "v2" in model else {"inputText"}
        required, count = {"inputText"}, 1
    if not required <= set(document) <= known:
        raise _invalid("Malformed input request: extraneous or missing keys")
    if not 1 <= count <= 96 or document.get("inputText") == "":
        raise _invalid("Malformed input request: expected maxItems: 96, minLength: 1")


def vector(text: str, length: int) -> list[float]:
    """Embed a text, somehow."""
    return [float(len(text)), *([0.5] * (length - 1))]


def embedding(document: Any, model: str) -> Reply:
    """Answer a model that embeds; a word is a token."""
    texts = document.get("texts") or [document["inputText"]]
    vectors = [
        vector(text, document.get("dimensions") or document.get("output_dimension") or 4) for text in texts
    ]
    tokens = sum(len(text.split()) for text in texts)
    if "cohere" not in model:
        return Reply.json({"embedding": vectors[0], "inputTextTokenCount": tokens})
    told = {"float": vectors} if "embedding_types" in document else vectors
    answer_ = {"embeddings": told, "id": "e-1", "response_type": "embeddings_by_type", "texts": texts}
    return Reply.json(answer_, headers=[("X-Amzn-Bedrock-Input-Token-Count", str(tokens))])


def check_claude(document: Any, model: str) -> None:
    """Refuse what Claude on Bedrock refuses."""
    if document.get("anthropic_version") != "bedrock-2023-05-31":
        raise _invalid("Malformed input request: #: required key [anthropic_version] not found")
    if unknown := set(document) - CLAUDE_KNOWN:
        raise _invalid(f"Malformed input request: #: extraneous key [{unknown.pop()}] is not permitted")
    if not isinstance(document.get("max_tokens"), int):
        raise _invalid("Malformed input request: #: required key [max_tokens] not found")
    has_effort = "effort" in document.get("output_config", {})
    has_beta = "opus" in model and "effort-2025-11-24" in document.get("anthropic_beta", ())
    if has_effort and "-4-5" in model and not has_beta:
        raise _invalid("This model does not support the effort parameter.")


def check_shape(shape: Any, document: Any) -> None:
    """Refuse a document that is not of a shape."""
    report = ParamValidator().validate(parsed(shape, document, "#"), shape)
    if report.has_errors():
        raise _invalid(report.generate_report())


def parsed(shape: Any, value: Any, path: str) -> Any:
    """Return a document as botocore has it: what is base64 in JSON as bytes."""
    if getattr(shape, "is_document_type", False):
        return value
    if shape.type_name == "structure" and isinstance(value, dict):
        return {
            name: parsed(shape.members[name], each, f"{path}/{name}") if name in shape.members else each
            for name, each in value.items()
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [parsed(shape.member, each, f"{path}/{index}") for index, each in enumerate(value)]
    if shape.type_name == "map" and isinstance(value, dict):
        return {name: parsed(shape.value, each, f"{path}/{name}") for name, each in value.items()}
    if shape.type_name == "blob":
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError):
            raise Refused(400, "SerializationException", f"{path} is no base64") from None
    if shape.type_name == "string" and isinstance(value, str):
        _check_string(shape, value, path)
    return value


def _check_string(shape: Any, value: str, path: str) -> None:
    if shape.enum and value not in shape.enum:
        raise _invalid(f"{path}: {value} is not a valid enum value")
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, value):
        raise _invalid(f"{path}: failed to satisfy constraint: regular expression pattern: {pattern}")
    if len(value) > shape.metadata.get("max", len(value)):
        raise _invalid(f"{path}: is too long")


def check_conversation(document: Any) -> None:
    """Refuse a conversation whose turns are not in order."""
    messages = document.get("messages", [])
    if not messages or messages[0]["role"] != "user":
        raise _invalid(
            "A conversation must start with a user message. Try again with a conversation that does."
        )
    open_ids: set[str] = set()
    for index, message in enumerate(messages):
        if index and message["role"] == messages[index - 1]["role"]:
            raise _invalid("A conversation must alternate between user and assistant roles.")
        _check_content(message, index)
        kinds = {kind for block in message["content"] for kind in block}
        if kinds & {"toolUse", "toolResult"} and "toolConfig" not in document:
            raise _invalid("The toolConfig field must be defined when using toolUse and toolResult blocks.")
        results = {
            block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block
        }
        if results != open_ids:
            raise _invalid(f"Expected toolResult blocks at messages.{index}.content for: {open_ids}")
        open_ids = {block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block}


def _check_content(message: Any, index: int) -> None:
    content, role = message["content"], message["role"]
    if not content:
        raise _invalid(f"The content field in the Message object at messages.{index} is empty.")
    kinds = [next(iter(block)) for block in content]
    if role == "assistant" and {"image", "document", "toolResult", "video", "audio"} & set(kinds):
        raise _invalid("User messages cannot be of the assistant")
    if role == "user" and {"toolUse", "reasoningContent"} & set(kinds):
        raise _invalid("Assistant content in a user message")
    if "document" in kinds and "text" not in kinds:
        raise _invalid("The message must have a text block when it has a document.")
    for block in content:
        if "text" in block and not block["text"].strip():
            raise _invalid(f"The text field in the ContentBlock object at messages.{index} is blank.")
        name = block.get("document", {}).get("name", "a")
        if not re.fullmatch(r"[A-Za-z0-9()\[\]-]+( [A-Za-z0-9()\[\]-]+)*", name):
            raise _invalid(
                "The document file name can only contain alphanumeric characters, single blanks, …"
            )
    if kinds[0] == "cachePoint":
        raise _invalid("A cachePoint must follow content")
