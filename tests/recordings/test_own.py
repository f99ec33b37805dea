"""What we recorded ourselves, of servers that run on any machine: as received, with what was asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import openai
import pytest
from fakes.upstream import FIN, FakeUpstream, Raw, Request
from served import Served, served

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.dialects.bridge import Bridge
from jupyterhub_ai_gateway.dialects.codec import Manners
from jupyterhub_ai_gateway.providers.registry import Providers
from jupyterhub_ai_gateway.vocabulary import CHAT, COMPLETIONS, RESPONSES, SERVING

from .cassettes import OWN, Recording, own
from .readers import heard, heard_from
from .test_translation import FRONTS, check, crossing

EVERY = list(own())
SERVED = [each for each in EVERY if each.operation is SERVING and each.status == 200]
REFUSED = [each for each in EVERY if each.status >= 400]
OPENAI = [each for each in EVERY if each.operation in (CHAT, RESPONSES)]
MOST_BYTES = 300_000


def words_of(recording: Recording) -> list[str]:
    (document,) = recording.documents
    if "predictions" in document:
        return list(document["predictions"])
    return [each["message"]["content"] for each in document["choices"]]


def test_each_has_a_note_and_all_are_small() -> None:
    notes = {path.stem: json.loads(path.read_text()) for path in OWN.glob("*.json")}
    assert {path.stem for path in OWN.glob("*.http")} == set(notes)
    for note in notes.values():
        assert set(note) == {"server", "when", "operation", "path", "request"}
    assert sum(path.stat().st_size for path in OWN.iterdir()) < MOST_BYTES


def test_note_says_the_operation() -> None:
    for each in EVERY:
        note = json.loads((OWN / f"{each.name}.json").read_text())
        assert each.operation is not None and each.operation.name == note["operation"]


@pytest.mark.parametrize("recording", SERVED, ids=str)
def test_what_a_served_model_says_reaches_every_caller(recording: Recording) -> None:
    said = words_of(recording)
    for front in (*FRONTS, COMPLETIONS):
        if len(said) > 1 and front not in (CHAT, COMPLETIONS):
            continue  # several are asked for by those alone who can hear them
        body, answer = crossing(front, recording).answer(recording.body)
        if answer.usage is not None:  # what is not known is null, which the types do not know
            check(front, json.loads(body), heard(front, body, is_stream=False), is_event=False)
        got = heard(front, body, is_stream=False)
        assert [each.text for each in got.said] == said
        usage = recording.documents[0].get("usage")
        assert got.output == (usage and usage["completion_tokens"])


@pytest.mark.parametrize("recording", SERVED, ids=str)
def test_what_was_asked_is_what_we_ask(recording: Recording) -> None:
    is_chat = "messages" in recording.asked
    manners = Manners(where="m/1", is_chat=is_chat, takes_user=False, names_model=False)
    if "inputs" in recording.asked and len(recording.asked["inputs"]) > 1:
        return
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello!"}]}
    if is_chat:
        fields["max_tokens"] = recording.asked["max_tokens"]
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    crossed = Bridge(CHAT, SERVING, manners).cross(
        raw, is_stream=False, wants_usage=False, request_id="req_1", created=1
    )
    assert crossed.body == recording.asked


@pytest.mark.parametrize("recording", REFUSED, ids=str)
def test_refusal_of_a_served_model_is_told(recording: Recording) -> None:
    model = {"provider": "mlflow-model-serving", "config": {"model_server_url": "http://127.0.0.1:1"}}
    providers = Providers.installed()
    document = {"endpoints": [{"name": "x", "endpoint_type": "llm/v1/chat", "model": model}]}
    provider = providers.make(parse(document, providers.schemas, {}).endpoints[0].model)
    fault = provider.refusal(recording.status, {}, recording.body)
    assert (fault.status, fault.slug) == (400, "upstream_invalid_request")
    assert fault.public.split() == recording.documents[0]["message"].split()


@pytest.mark.parametrize("recording", [*SERVED, *OPENAI], ids=str)
async def test_replayed_as_received_the_sdk_hears_it(recording: Recording) -> None:
    """Not a byte of the answer is ours: its head and the lengths of its chunks are the server's."""
    with FakeUpstream(is_strict=False) as up:
        up.always(_Replayed(recording))
        async with served(None, [_endpoint(up, recording)]) as running:
            front = CHAT if recording.operation is SERVING else recording.operation
            got = await asyncio.to_thread(_hear, front, running, recording.is_stream)
    if recording.operation is SERVING:
        assert [each.text for each in got.said] == words_of(recording)
    else:
        assert recording.operation is not None
        assert got == heard(recording.operation, recording.body, is_stream=recording.is_stream)


class _Replayed:
    def __init__(self, recording: Recording) -> None:
        self._answer = (OWN / f"{recording.name}.http").read_bytes()

    def __call__(self, request: Request) -> Raw:
        return Raw.of(self._answer, FIN)


def _endpoint(up: FakeUpstream, recording: Recording) -> dict[str, Any]:
    if recording.operation is SERVING:
        kind = "chat" if "messages" in recording.asked else "inputs"
        config = {"model_server_url": up.url, "model_server_format": kind}
        model = {"provider": "mlflow-model-serving", "name": "served", "config": config}
    else:
        config = {"openai_api_key": "sk-0123456789", "openai_api_base": f"{up.url}/v1"}
        model = {"provider": "openai", "name": "tiny", "config": config}
    return {"name": "m", "endpoint_type": "llm/v1/chat", "model": model}


def _hear(front: Any, running: Served, is_stream: bool) -> Any:
    with openai.OpenAI(base_url=running.base_url, api_key="t-alice", max_retries=0) as client:
        return heard_from(client, front, is_stream=is_stream)
