"""The fake keeps its own promises: what rests on it is only as true as it is."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import openai
import pytest
import requests

from fakes.upstream import (
    BYTE_BY_BYTE,
    FIN,
    RESET,
    STALL,
    FakeUpstream,
    Gate,
    Raw,
    Reply,
    chat_completion,
    random_cuts,
)


def client_of(up: FakeUpstream, key: str = "sk-test") -> openai.OpenAI:
    return openai.OpenAI(base_url=up.base_url, api_key=key, max_retries=0, timeout=10)


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}], **more
    )


def test_usual_answers_satisfy_the_openai_sdk() -> None:
    with FakeUpstream(text="Good morning to you") as up, client_of(up) as client:
        assert ask(client).choices[0].message.content == "Good morning to you"
        chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
        said = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        assert "".join(said) == "Good morning to you"
        assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert not chunks[-1].choices
        assert chunks[-1].usage.completion_tokens == 4
        plain = client.completions.create(model="m", prompt="Once")
        assert plain.choices[0].text == "Good morning to you"
        floats = client.embeddings.create(model="m", input=["a", "b"], encoding_format="float")
        encoded = client.embeddings.create(model="m", input=["a", "b"])  # the SDK asks for base64
        assert [row.embedding for row in floats.data] == [row.embedding for row in encoded.data]
        assert up.requests[-1].document["encoding_format"] == "base64"
        assert [model.id for model in client.models.list()] == ["gpt-4o-mini", "text-embedding-3-small"]


@pytest.mark.parametrize("cuts", [BYTE_BY_BYTE, random_cuts(7)])
def test_cuts_change_nothing(cuts: Any) -> None:
    with FakeUpstream(cuts=cuts) as up, client_of(up) as client:
        text = "".join(c.choices[0].delta.content or "" for c in ask(client, stream=True))
        assert text == up.text


def test_strict_vendor_refuses_in_openai_shape() -> None:
    with FakeUpstream(models=["gpt-4o-mini"]) as up:
        with client_of(up, key="sk-other") as client, pytest.raises(openai.AuthenticationError):
            ask(client)
        with client_of(up) as client:
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                client.embeddings.create(model="other", input="a")
            with pytest.raises(openai.BadRequestError, match="non-empty"):
                client.chat.completions.create(model="gpt-4o-mini", messages=[])
        headers = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
        chat = f"{up.base_url}/chat/completions"
        twice = requests.post(chat, headers=headers, data='{"model": "a", "model": "b"}', timeout=10)
        assert (twice.status_code, twice.json()["error"]["param"]) == (400, "model")
        assert requests.post(chat, headers=headers, data="[]", timeout=10).status_code == 400
        plain = {**headers, "Content-Type": "text/plain"}
        assert requests.post(chat, headers=plain, data="{}", timeout=10).status_code == 400
        assert requests.post(f"{up.url}/v2/chat", headers=headers, data="{}", timeout=10).status_code == 404
        assert up.requests[-1].complaint == "Invalid URL (POST /v2/chat)"


def test_scripts_are_played_in_order_then_the_usual() -> None:
    with FakeUpstream() as up, client_of(up) as client:
        up.script(
            Reply.error(429, "Slow down.", [("Retry-After", "2")]),
            lambda request: Reply.json(chat_completion(request.document["model"])),
        )
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client)
        assert caught.value.response.headers["retry-after"] == "2"
        assert ask(client).choices[0].message.content == "gpt-4o-mini"
        assert ask(client).choices[0].message.content == up.text


def connect(up: FakeUpstream) -> socket.socket:
    return socket.create_connection(("127.0.0.1", up.port), timeout=10)


ASK = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


def test_gate_holds_and_peer_leaving_is_seen() -> None:
    gate = Gate()
    with FakeUpstream(is_strict=False) as up, connect(up) as peer:
        up.script(Raw.of(b"first", gate, b"second", STALL))
        peer.sendall(ASK)
        request = up.take()
        assert peer.recv(5) == b"first"
        assert gate.reached.wait(10)
        gate.set()
        assert peer.recv(6) == b"second"
        assert not request.closed.is_set()
        peer.close()
        assert request.closed.wait(10)
        assert request.was_cut_short
        assert not request.answered.is_set()


@pytest.mark.parametrize("end", [FIN, RESET])
def test_cut_ends_the_connection_at_the_byte(end: Any) -> None:
    gate = Gate()
    reply = Reply.json({"a": "b" * 100})
    with FakeUpstream(is_strict=False) as up, connect(up) as peer:
        up.script(Raw.of(reply.wire[:50], gate, end))
        peer.sendall(ASK)
        assert peer.recv(1000) == reply.wire[:50]
        gate.set()
        if end is FIN:
            assert peer.recv(1000) == b""
        else:
            with pytest.raises(ConnectionResetError):
                peer.recv(1000)


def test_reset_of_the_peer_is_seen() -> None:
    with FakeUpstream(is_strict=False) as up:
        up.script(Raw.of(STALL))
        with connect(up) as peer:
            peer.sendall(ASK)
            request = up.take()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert request.closed.wait(10)


def test_failing_script_fails_the_test() -> None:
    with pytest.raises(KeyError), FakeUpstream() as up:
        up.script(lambda request: request.document["missing"])
        headers = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
        body = json.dumps({"model": "a", "prompt": "b"})
        with pytest.raises(requests.ConnectionError):
            requests.post(f"{up.base_url}/completions", headers=headers, data=body, timeout=10)
