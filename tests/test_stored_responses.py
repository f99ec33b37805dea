"""Responses that a provider keeps: by the real SDK, and never by anybody but who made them."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from fakes.hub import ACCESS
from fakes.upstream import BYTE_BY_BYTE, FakeUpstream, Reply, Request
from openai import AsyncOpenAI
from served import FULL, KEY, WAYS, served

from jupyterhub_ai_gateway.dialects.owned import Kept, OwnedIds


def event(name: str, number: int, response: Any) -> bytes:
    document = {"type": name, "sequence_number": number, "response": response}
    return f"event: {name}\ndata: {json.dumps(document)}\n\n".encode()


class Keeper:
    """A provider that keeps what it is asked to."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def __call__(self, request: Request) -> Reply:
        assert request.header("authorization") == f"Bearer {KEY}"
        parts = request.path.removeprefix("/v1/responses").strip("/").split("/")
        if parts[0]:
            return self._about(request, *parts)
        document = request.document
        previous = document.get("previous_response_id")
        if previous is not None and previous not in self.kept:
            return Reply.error(400, f"Previous response with id '{previous}' not found.")
        response = self._response(f"resp_{len(self.kept):040x}", previous)
        if document.get("store", True):
            self.kept[response["id"]] = response
        if not document.get("stream"):
            return Reply.json(response)
        begun = {**response, "status": "in_progress", "output": []}
        events = [("response.created", begun), ("response.completed", response)]
        return Reply.stream(*(event(name, at, what) for at, (name, what) in enumerate(events)))

    def _about(self, request: Request, name: str, action: str = "") -> Reply:
        if name not in self.kept:
            return Reply.error(404, f"Response with id '{name}' not found.")
        if request.method == "DELETE":
            del self.kept[name]
            return Reply.json({"id": name, "object": "response", "deleted": True})
        if action == "input_items":
            return Reply.json(
                {"object": "list", "data": [], "has_more": False, "first_id": "", "last_id": ""}
            )
        status = "cancelled" if action == "cancel" else "completed"
        return Reply.json({**self.kept[name], "status": status})

    def _response(self, name: str, previous: str | None) -> dict[str, Any]:
        text = {"type": "output_text", "text": f'not "{name}"', "annotations": []}
        item = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
        usage = {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5,
        }
        return {
            "id": name,
            "object": "response",
            "created_at": 1_760_000_000,
            "status": "completed",
            "model": "gpt-5",
            "output": [{**item, "content": [text]}],
            "parallel_tool_calls": True,
            "previous_response_id": previous,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
        }


def endpoint(up: FakeUpstream, **more: Any) -> dict[str, Any]:
    config = {"openai_api_key": KEY, "openai_api_base": f"{up.url}/v1"}
    model = {"provider": "openai", "name": "gpt-5", "config": config}
    return {
        "name": "chat",
        "endpoint_type": "llm/v1/chat",
        "stored_responses": True,
        "model": model,
        **more,
    }


def client(running: Any, token: str = "t-alice") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=running.base_url, api_key=token, max_retries=0)


@pytest.mark.parametrize("way", WAYS)
async def test_a_conversation_that_the_provider_keeps(way: str) -> None:
    with FakeUpstream(is_strict=False) as up:
        keeper = Keeper()
        up.always(keeper)
        async with served(None, [endpoint(up)], **WAYS[way]) as running, client(running) as ai:
            first = await ai.responses.create(model="chat", input="Hi")
            (own,) = keeper.kept
            assert first.id.startswith(f"{own}~1~")
            assert first.output_text == f'not "{own}"'  # words are the model's
            second = await ai.responses.create(model="chat", input="And?", previous_response_id=first.id)
            assert up.requests[1].document["previous_response_id"] == own
            assert second.previous_response_id == first.id
            assert (await ai.responses.retrieve(first.id)).id == first.id
            assert (await ai.responses.cancel(first.id)).status == "cancelled"
            assert [item async for item in ai.responses.input_items.list(first.id)] == []
            await ai.responses.delete(first.id)
            assert own not in keeper.kept
            with pytest.raises(openai.NotFoundError):
                await ai.responses.retrieve(first.id)


async def test_streamed_under_any_cut() -> None:
    with FakeUpstream(is_strict=False, cuts=BYTE_BY_BYTE) as up:
        up.always(Keeper())
        async with served(None, [endpoint(up)]) as running, client(running) as ai:
            async with ai.responses.stream(model="chat", input="Hi") as events:
                names = {
                    event.response.id
                    for event in [each async for each in events]
                    if hasattr(event, "response")
                }
            (name,) = names
            assert (await ai.responses.retrieve(name)).id == name


async def test_ids_are_their_owner_s_alone() -> None:
    with FakeUpstream(is_strict=False) as up:
        keeper = Keeper()
        up.always(keeper)
        both = [endpoint(up), {**endpoint(up), "name": "other"}]
        async with (
            served(None, both) as running,
            client(running) as ai,
            client(running, running.knows("t-bob", ACCESS, FULL)) as bob,
        ):
            first = await ai.responses.create(model="chat", input="Hi")
            (own,) = keeper.kept
            forged = f"{own}~1~{'0' * 32}"
            for who, name in ((bob, first.id), (ai, own), (ai, forged), (bob, own)):
                with pytest.raises(openai.NotFoundError):
                    await who.responses.retrieve(name)
                with pytest.raises(openai.NotFoundError):
                    await who.responses.delete(name)
                with pytest.raises(openai.BadRequestError) as caught:
                    await who.responses.create(model="chat", input="x", previous_response_id=name)
                assert caught.value.code == "previous_response_not_found"
            with pytest.raises(openai.BadRequestError):
                await ai.responses.create(model="other", input="x", previous_response_id=first.id)
            assert len(up.requests) == 1


async def test_where_it_is_not_allowed_nothing_is_kept() -> None:
    with FakeUpstream(is_strict=False) as up:
        keeper = Keeper()
        up.always(keeper)
        async with served(None, [endpoint(up, stored_responses=False)]) as running, client(running) as ai:
            first = await ai.responses.create(model="chat", input="Hi")
            assert "~" not in first.id
            assert keeper.kept == {}
            with pytest.raises(openai.BadRequestError, match="previous_response_id"):
                await ai.responses.create(model="chat", input="x", previous_response_id=first.id)
            with pytest.raises(openai.NotFoundError):
                await ai.responses.retrieve(first.id)


async def test_the_conversation_goes_on_where_it_is() -> None:
    with FakeUpstream(is_strict=False) as a, FakeUpstream(is_strict=False) as b:
        keepers = [Keeper(), Keeper()]
        deployments = []
        for up, keeper, name in zip((a, b), keepers, "ab", strict=True):
            up.always(keeper)
            deployments.append(
                {"name": name, "model": endpoint(up)["model"], "priority": len(deployments) + 1}
            )
        both = {**endpoint(a), "deployments": deployments}
        del both["model"]
        async with served(None, [both]) as running, client(running) as ai:
            a.script(Reply.error(500, "Oops"))
            first = await ai.responses.create(model="chat", input="Hi")
            assert "~b~" in first.id
            second = await ai.responses.create(model="chat", input="And?", previous_response_id=first.id)
            assert "~b~" in second.id
            assert len(a.requests) == 1


def test_what_is_sealed_opens_for_its_caller_at_its_endpoint() -> None:
    kept = Kept("eu-1", "resp_1a")
    own = OwnedIds(b"secret", "user:alice", "chat")
    sealed = own.seal(kept)
    assert own.open(sealed) == kept
    for other in (
        OwnedIds(b"other", "user:alice", "chat"),
        OwnedIds(b"secret", "user:bob", "chat"),
        OwnedIds(b"secret", "user:alice", "chat2"),
    ):
        assert other.open(sealed) is None
    assert own.open(sealed.replace("eu-1", "eu-2")) is None
    assert own.rewrite(b'{"text":"\\"resp_1a\\""}', "eu-1") == b'{"text":"\\"resp_1a\\""}'
