"""The fake Bedrock is taken for the real one by AWS's own client, and notices what AWS would notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from botocore.session import Session

from . import anthropic
from .bedrock import (
    KEY_ID,
    REGION,
    SECRET,
    TEXT,
    USAGE,
    Bedrock,
    Refused,
    answer,
    check_conversation,
    check_shape,
    chunks,
    events,
    framed,
    service,
    told,
)
from .upstream import FakeUpstream

MODEL = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-micro-v1:0"
HELLO: Any = [{"role": "user", "content": [{"text": "Hi"}]}]


@pytest.fixture
def bedrock() -> Bedrock:
    return Bedrock()


@pytest.fixture
def up(bedrock: Bedrock) -> Iterator[FakeUpstream]:
    with FakeUpstream(is_strict=False) as up:
        up.always(bedrock)
        yield up


@pytest.fixture
def aws(up: FakeUpstream) -> Iterator[Any]:
    made = client(up)
    yield made
    made.close()


def client(up: FakeUpstream, key_id: str = KEY_ID, secret: str = SECRET, region: str = REGION) -> Any:
    session = Session()
    session.set_credentials(key_id, secret)
    config = Config(retries={"total_max_attempts": 1})
    return session.create_client(
        "bedrock-runtime", region_name=region, endpoint_url=up.url, config=config, verify=False
    )


def test_client_is_answered_whole_and_streamed(aws: Any, bedrock: Bedrock) -> None:
    whole = aws.converse(modelId=MODEL, messages=HELLO, inferenceConfig={"maxTokens": 5})
    assert whole["output"]["message"]["content"] == [{"text": "".join(TEXT)}]
    assert whole["usage"] == USAGE
    assert bedrock.asked[0][:2] == ("Converse", MODEL)
    content = [
        {"reasoningContent": {"reasoningText": {"text": "Let me see", "signature": "c2ln"}}},
        {"text": "I look."},
        {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"at": "the sky"}}},
    ]
    bedrock.says.append(content)
    stream = list(aws.converse_stream(modelId=MODEL, messages=HELLO)["stream"])
    inputs = [each["contentBlockDelta"]["delta"] for each in stream if "contentBlockDelta" in each]
    text = "".join(each["toolUse"]["input"] for each in inputs if "toolUse" in each)
    assert json.loads(text) == {"at": "the sky"}
    assert {"messageStop": {"stopReason": "tool_use"}} in stream
    assert stream[-1]["metadata"]["usage"] == USAGE


def test_claude_is_answered_whole_and_streamed(aws: Any) -> None:
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": []}
    whole = aws.invoke_model(
        modelId="anthropic.claude", body=json.dumps(body), contentType="application/json"
    )
    assert json.loads(whole["body"].read())["content"][0]["text"] == "".join(anthropic.TEXT)
    streamed = aws.invoke_model_with_response_stream(
        modelId="anthropic.claude", body=json.dumps(body), contentType="application/json"
    )
    kinds = [json.loads(each["chunk"]["bytes"])["type"] for each in streamed["body"]]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    counted = aws.count_tokens(
        modelId="anthropic.claude", input={"invokeModel": {"body": json.dumps(body)}}
    )
    assert counted["inputTokens"] == 20


def test_failure_within_a_stream_is_one_to_the_client(aws: Any, up: FakeUpstream) -> None:
    up.script(framed(*events([{"text": "Hello"}])[:2], told("throttlingException", "Slow down")))
    stream = aws.converse_stream(modelId=MODEL, messages=HELLO)["stream"]
    with pytest.raises(EventStreamError, match="throttlingException"):
        list(stream)
    stream.close()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"secret": "another"}, "InvalidSignatureException"),
        ({"key_id": "AKIDOTHER0123456789"}, "UnrecognizedClientException"),
        ({"region": "us-east-1"}, "InvalidSignatureException"),
    ],
)
def test_wrong_credentials_are_noticed(up: FakeUpstream, changed: dict[str, str], name: str) -> None:
    made = client(up, **changed)
    with pytest.raises(ClientError) as caught:
        made.converse(modelId=MODEL, messages=HELLO)
    made.close()
    assert caught.value.response["Error"]["Code"] == name


def test_changed_body_is_noticed(up: FakeUpstream, aws: Any) -> None:
    def change(request: Any, **_: Any) -> None:
        request.body = request.body.replace(b"Hi", b"Ho")

    aws.meta.events.register("before-send", change)
    with pytest.raises(ClientError, match="InvalidSignature"):
        aws.converse(modelId=MODEL, messages=HELLO)


TOOLS = {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}]}
CALL = {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "look", "input": {}}}]}


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"messages": HELLO * 2}, "alternate"),
        ({"messages": [CALL]}, "start with a user"),
        ({"messages": [*HELLO, CALL, *HELLO], "toolConfig": TOOLS}, "Expected toolResult"),
        ({"messages": [*HELLO, CALL]}, "toolConfig field must be defined"),
        ({"messages": [{"role": "user", "content": [{"text": " "}]}]}, "blank"),
        ({"messages": HELLO, "toolConfig": {"tools": [{"toolSpec": {"name": "a.b"}}]}}, "pattern"),
        ({"messages": HELLO, "toolConfig": {"tools": [{"toolSpec": {"name": "a"}}]}}, "inputSchema"),
        ({"messages": HELLO, "model": "x"}, "Unknown parameter"),
    ],
)
def test_conversation_that_aws_refuses_is_refused(asked: Any, complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        check_shape(service().operation_model("Converse").input_shape, {**asked, "modelId": MODEL})
        check_conversation(asked)


def test_answers_are_of_the_service_s_own_shapes() -> None:
    check_shape(service().operation_model("Converse").output_shape, answer([{"text": "a"}]))
    assert len(chunks(anthropic.events())) == len(anthropic.events())
