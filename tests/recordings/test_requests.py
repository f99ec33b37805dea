"""What real clients sent: passed on but for what the policy declares, and said again without loss."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import cohere
import msgspec
import pytest
from anthropic.types import message_create_params
from dialects.test_round_trip import seen
from fakes.gemini import body_complaint
from fakes.strictly import as_arguments, complaint
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from jupyterhub_ai_gateway.dialects.bridge import BACKS, FRONTS, Bridge, Crossing
from jupyterhub_ai_gateway.dialects.canonical import Request
from jupyterhub_ai_gateway.dialects.codec import Back, Manners
from jupyterhub_ai_gateway.dialects.loss import Loss
from jupyterhub_ai_gateway.dialects.opening import Asked, close_request, open_request
from jupyterhub_ai_gateway.dialects.policy import SHARED_TOOLS
from jupyterhub_ai_gateway.errors import RequestFault
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    CONVERSE,
    EMBEDDINGS,
    GENERATE_CONTENT,
    IMAGES,
    MESSAGES,
    MISTRAL_CHAT,
    RESPONSES,
    Operation,
)

from .cassettes import Recording, requests

ASKED = requests(CHAT, COMPLETIONS, EMBEDDINGS, IMAGES, MESSAGES, RESPONSES, GENERATE_CONTENT, COHERE_CHAT)
TRANSLATED = [each for each in ASKED if each.operation in FRONTS]
DECLARED = {"model", "stream_options", "store"}
"""What is ours to set in a request of these clients."""
ACCOUNT_S = {MESSAGES: ("container", "mcp_servers"), RESPONSES: ("previous_response_id",)}
"""What uses the account that all callers share, as these tools of Responses do."""
REFUSED = re.compile(
    r"the older form of tools|is a tool of the type|is of a tool that the provider itself runs|"
    r"names a file of the provider's account|asks for more than one answer|ends the answer at a text|"
    r"which Bedrock does not fetch|which Cohere's chat does not take|\.type must be text, image, document"
)
"""What none but the client's own vendor can do, or not the other one."""
DROPPED: dict[Operation, set[str]] = {
    CHAT: {
        *("frequency_penalty", "presence_penalty", "seed", "service_tier", "temperature", "top_p"),
        *("parallel_tool_calls", "reasoning", "reasoning_effort", "safe_prompt", "verbosity"),
    },
    COHERE_CHAT: set(),
    COMPLETIONS: {"seed", "temperature"},
    MESSAGES: {"cache_control", "context_management", "temperature", "thinking", "top_k", "top_p"},
    RESPONSES: {
        *("context_management", "service_tier", "text.verbosity", "parallel_tool_calls", "reasoning"),
        *("temperature", "top_p"),
    },
    GENERATE_CONTENT: {
        f"generationConfig.{name}" for name in ("temperature", "topK", "topP", "thinkingConfig")
    },
}
"""What only tunes, and is left out for at least one of the others."""
OWN_DROPPED = {"context_management", "service_tier", "safe_prompt"}
"""What has no word in `canonical`."""


def opened(recording: Recording) -> Asked:
    assert recording.operation is not None
    path_model = None if "model" in recording.asked else "model"
    return open_request(
        recording.operation, recording.request, path_model, path_streams=recording.is_stream
    )


def manners(recording: Recording, back: Operation) -> Manners:
    model = recording.asked.get("model") or re.sub(r".*/models/([^:]+).*", r"\1", recording.path)
    other = "gemini-3-flash" if back is GENERATE_CONTENT else "model"
    return Manners(
        model=model if back is recording.operation else other,
        where="model/1",
        takes_top_k=True,
        takes_cache_key=True,
        takes_custom_tools=back in (CHAT, RESPONSES),
        is_mistral=recording.sdk == "mistral" and back is CHAT,
    )


def crossing(recording: Recording, back: Operation) -> Crossing:
    asked, front = opened(recording), recording.operation
    assert front is not None
    bridge = Bridge(front, back, manners(recording, back))
    return bridge.cross(
        asked.fields, is_stream=asked.is_stream, wants_usage=True, request_id="req_1", created=1
    )


def test_there_are_requests_of_every_kind() -> None:
    counts = Counter(each.operation for each in ASKED)
    assert counts[COHERE_CHAT] >= 3
    # Mistral's SDK asks at OpenAI's paths, so its requests are among those of chat completions
    assert all(counts[each] >= 5 for each in FRONTS if each not in (COHERE_CHAT, MISTRAL_CHAT)), counts


def account_s(recording: Recording) -> set[str]:
    """Return the fields of a request that must be refused."""
    assert recording.operation is not None
    found = {name for name in ACCOUNT_S.get(recording.operation, ()) if recording.asked.get(name)}
    kinds = {tool.get("type") for tool in recording.asked.get("tools") or ()}
    for name in ("messages", "input"):
        messages = recording.asked.get(name)
        contents = [each.get("content") for each in messages] if isinstance(messages, list) else []
        parts = [part for content in contents if isinstance(content, list) for part in content]
        if any((part.get("source") or part.get("file") or part).get("file_id") for part in parts):
            found.add(name)
    return found | ({"tools"} if recording.operation is RESPONSES and kinds & {*SHARED_TOOLS} else set())


@pytest.mark.parametrize("recording", ASKED, ids=str)
def test_request_passes_but_for_what_is_declared(recording: Recording) -> None:
    asked = opened(recording)
    operation = asked.format.operation
    refused = account_s(recording)
    if refused:
        with pytest.raises(RequestFault) as caught:
            close_request(asked, msgspec.Raw(b'"sent"'), lambda: "pseudonym")
        assert caught.value.param is not None
        assert re.split(r"[\[.]", caught.value.param)[0] in refused
        return
    sent = json.loads(close_request(asked, msgspec.Raw(b'"sent"'), lambda: "pseudonym"))
    changed = {name for name in {*sent, *recording.asked} if sent.get(name) != recording.asked.get(name)}
    assert changed <= DECLARED
    assert sent["model"] == "sent"
    assert sent.get("store") is (False if operation is RESPONSES else recording.asked.get("store"))
    if asked.is_stream and operation in (CHAT, COMPLETIONS):
        assert sent["stream_options"]["include_usage"] is True


def plainly(request: Request) -> Any:
    """Return what counts of a request: no description is an empty one, no choice is none of no tools."""
    found = seen(request)
    asked = request.reasoning
    return {
        **found,
        "tools": [(name, told or None, *rest) for name, told, *rest in found["tools"]],
        "choice": found["choice"] if request.tools else None,
        "effort": "some" if asked is not None and (asked.effort or asked.budget_tokens) else None,
    }


@pytest.mark.parametrize("recording", TRANSLATED, ids=str)
def test_request_is_the_same_once_it_was_said_in_its_own_words_again(recording: Recording) -> None:
    operation, loss = recording.operation, Loss("model/1")
    assert operation is not None
    if operation not in BACKS:  # text completions are asked of no one in translation
        return
    fields = {name: json.loads(bytes(raw)) for name, raw in opened(recording).fields.items()}
    try:
        request = FRONTS[operation].decode_request(fields, loss)
        expected = plainly(request)
        body = BACKS[operation].encode_request(Back.of(request, manners(recording, operation)), loss)
    except RequestFault as fault:
        assert REFUSED.search(fault.public)
        return
    again = FRONTS[operation].decode_request(json.loads(json.dumps(body)), Loss("model/1"))
    assert set(loss.dropped) <= OWN_DROPPED
    assert plainly(again) == expected
    if operation is MESSAGES:
        marks = recording.request.count(b'"cache_control"')
        assert json.dumps(body).count('"cache_control"') == marks


@pytest.mark.parametrize("recording", TRANSLATED, ids=str)
def test_what_others_are_asked_is_valid_and_what_is_lost_is_named(recording: Recording) -> None:
    assert recording.operation is not None
    for back in (CHAT, MESSAGES, RESPONSES, GENERATE_CONTENT, CONVERSE, COHERE_CHAT):
        if back is recording.operation:
            continue
        try:
            crossed = crossing(recording, back)
        except RequestFault as fault:
            assert REFUSED.search(fault.public), fault.public
            continue
        assert set(crossed.dropped) <= DROPPED[recording.operation], back.name
        if back is GENERATE_CONTENT and crossed.body["contents"][0]["role"] != "user":
            continue  # what was left of a conversation, which Google alone does not take
        assert invalid(back, crossed.body) is None


def invalid(back: Operation, body: Any) -> str | None:
    """Return what the vendor would say of a body; None for nothing."""
    if back is GENERATE_CONTENT:
        return body_complaint(json.dumps(body).encode())
    if back is COHERE_CHAT:
        return as_arguments({"model": "m", **body}, cohere.ClientV2.chat, {"stream"})
    if back is CONVERSE:
        return None  # botocore looks at it where it is signed
    module: Any = {
        CHAT: completion_create_params.CompletionCreateParamsNonStreaming,
        MESSAGES: message_create_params.MessageCreateParamsNonStreaming,
        RESPONSES: response_create_params.ResponseCreateParamsNonStreaming,
    }[back]
    plain = {
        "model": "m",
        **{name: value for name, value in body.items() if name not in ("stream", "top_k")},
    }
    if back is MESSAGES and "top_k" in body:
        plain["top_k"] = body["top_k"]
    for message in plain.get("messages", ()) if back is CHAT else ():
        message.pop("reasoning_content", None)  # which vLLM and others take
    return complaint(plain, module)
