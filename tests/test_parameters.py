"""An endpoint's parameters as callers see them."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.upstream import FakeUpstream, Reply
from jsonschema import Draft202012Validator
from served import KEY, WAYS, endpoint, served
from test_media import media
from test_uploads import BOUNDARY, form, part

from jupyterhub_ai_gateway.config import json_schema, parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

every_way = pytest.mark.parametrize("way", WAYS)
POLICY = {
    "drop": ["logit_bias", "tools.web_search*"],
    "error": ["n"],
    "rename": {"max_tokens": "max_completion_tokens"},
    "default": {"temperature": 0.2, "chat_template_kwargs": {"enable_thinking": False}},
    "clamp": {"max_completion_tokens": 100, "temperature": 1},
}


def upstream() -> FakeUpstream:
    return FakeUpstream(key=KEY)


@every_way
@pytest.mark.parametrize("stream", [False, True])
async def test_request_goes_on_as_the_operator_wants_it(way: str, stream: bool) -> None:
    with upstream() as up:
        async with served(up, [endpoint("chat", up, parameters=POLICY)], **WAYS[way]) as running:
            answer = await running.chat(
                max_tokens=5000, logit_bias={"1": 2}, tools=[{"type": "web_search"}], stream=stream
            )
            assert answer.status == 200
            assert answer.headers["x-ai-gateway-dropped-params"] == "logit_bias, tools.web_search"
            assert answer.headers["x-ai-gateway-clamped-params"] == "max_completion_tokens"
            answer = await running.chat(temperature=0.5, stream=stream)
            assert "x-ai-gateway-dropped-params" not in answer.headers
            assert "x-ai-gateway-clamped-params" not in answer.headers
        first, second = (request.document for request in up.requests)
    assert first["max_completion_tokens"] == 100
    assert first["temperature"] == 0.2
    assert first["chat_template_kwargs"] == {"enable_thinking": False}
    assert not {"max_tokens", "logit_bias", "tools"} & set(first)
    assert second["temperature"] == 0.5


@every_way
async def test_what_is_not_allowed_goes_nowhere(way: str) -> None:
    with upstream() as up:
        async with served(up, [endpoint("chat", up, parameters=POLICY)], **WAYS[way]) as running:
            answer = await running.chat(n=2)
            assert (answer.status, answer.error["code"], answer.error["param"]) == (
                400,
                "parameter_refused",
                "n",
            )
        assert up.requests == []


async def test_every_deployment_gets_the_same() -> None:
    with upstream() as up:
        model = endpoint("chat", up)["model"]
        both = [{"model": model}, {"model": model, "priority": 2}]
        one = {"name": "chat", "endpoint_type": "llm/v1/chat", "deployments": both, "parameters": POLICY}
        up.script(Reply.error(500, "down"))
        async with served(up, [one]) as running:
            answer = await running.chat(max_tokens=5000)
            assert answer.headers["x-ai-gateway-attempts"] == "2"
        first, second = (request.document for request in up.requests)
    assert first == second
    assert first["max_completion_tokens"] == 100


async def test_a_smaller_answer_reserves_less() -> None:
    policies = [{"name": "tokens", "resource": "output_tokens", "limit": 150, "window": "day"}]
    with upstream() as up:
        endpoints = [endpoint("chat", up, parameters={"clamp": {"max_tokens": 10}})]
        async with served(up, endpoints, config={"policies": policies}) as running:
            for _ in range(3):  # five tokens each; what is reserved would not leave room for the second
                assert (await running.chat(max_tokens=100_000)).status == 200


async def test_form_does_not_pass_them_by() -> None:
    kind = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    body = form(
        part("model", b"painter"), part("prompt", b"x"), part("n", b"9"), part("image", b"x", "a.png")
    )
    with upstream() as up:
        endpoints = [media(up, "painter", "images", parameters={"clamp": {"n": 1}})]
        async with served(up, endpoints) as running:
            answer = await running.ask("POST", "v1/images/edits", body=body, headers=[kind])
            assert (answer.status, answer.error["code"]) == (415, "unsupported_content_type")
            asked: dict[str, Any] = {"model": "painter", "prompt": "x", "n": 9}
            answer = await running.ask("POST", "v1/images/generations", asked)
            assert answer.headers["x-ai-gateway-clamped-params"] == "n"
        assert [request.document["n"] for request in up.requests] == [1]


def test_what_is_asked_by_forms_alone_has_none() -> None:
    model = {"provider": "vllm", "name": "whisper"}
    one = {
        "name": "x",
        "endpoint_type": "llm/v1/transcriptions",
        "model": model,
        "parameters": {"drop": ["a"]},
    }
    with pytest.raises(ConfigFault) as caught:
        parse({"endpoints": [one]}, Providers.installed().schemas, {})
    assert caught.value.path == "endpoints[0].parameters"


@pytest.mark.parametrize(
    ("policy", "is_fine"),
    [
        (POLICY, True),
        ({"clamp": {"a": {"min": 1}}}, True),
        ({"drop": None, "error": ["a"]}, True),
        ({}, False),
        ({"drop": "a"}, False),
        ({"clamp": {"a": "x"}}, False),
        ({"clamp": {"a": {}}}, False),
        ({"other": []}, False),
    ],
)
def test_schema_and_parser_agree(policy: Any, is_fine: bool) -> None:
    schemas = Providers.installed().schemas
    one = {"name": "x", "endpoint_type": "llm/v1/chat", "model": {"provider": "vllm", "name": "m"}}
    document = {"endpoints": [{**one, "parameters": policy}]}
    assert Draft202012Validator(json_schema(schemas)).is_valid(document) is is_fine
    if is_fine:
        parse(document, schemas, {})
    else:
        with pytest.raises(ConfigFault, match="parameters"):
            parse(document, schemas, {})
