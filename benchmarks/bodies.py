"""What is asked: bodies as the OpenAI SDK writes them, kept as files for the load generator."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path

from .subjects import HELD, PACED

TOKEN = "t-000000"
MESSAGES = 100
MESSAGE_BYTES = 1000


def _request(model: str, messages: list[dict[str, str]], **more: object) -> bytes:
    document = {"messages": messages, "model": model, "max_completion_tokens": 256, "temperature": 0.7}
    return json.dumps({**document, **more}, separators=(",", ":")).encode()


def _short() -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "You are a helpful tutor of a course on numerical methods."},
        {"role": "user", "content": "Hello! In one sentence: when does Newton's method fail to converge?"},
    ]


def _conversation() -> list[dict[str, str]]:
    sentence = 'As for "step 3":\n\tthe residual falls to 1e-9, so I would stop there – wouldn\'t you? '
    content = (sentence * (MESSAGE_BYTES // len(sentence) + 1))[:MESSAGE_BYTES]
    return [{"role": ("user", "assistant")[turn % 2], "content": content} for turn in range(MESSAGES)]


@dataclass(frozen=True, slots=True)
class Bodies:
    """The files: a short chat, a long conversation, streams, one model of many, and the right reply."""

    chat: Path
    conversation: Path
    stream: Path
    paced: Path
    held: Path
    numbered: Path
    reply: Path

    @classmethod
    def write(cls, folder: Path, upstream_port: int) -> Bodies:
        """Write the requests, and ask the upstream itself for the reply that all must give."""
        texts = {
            "chat": _request("chat", _short()),
            "conversation": _request("chat", _conversation()),
            "stream": _request("chat", _short(), stream=True),
            "paced": _request(PACED, _short(), stream=True),
            "held": _request(HELD, _short(), stream=True),
            "numbered": _request("m-@@@@@@", _short()),
        }
        texts["reply"] = ask(upstream_port, texts["chat"])
        for name, text in texts.items():
            (folder / f"{name}.json").write_bytes(text)
        return cls(**{name: folder / f"{name}.json" for name in texts})


def ask(port: int, body: bytes, token: str = TOKEN) -> bytes:
    """Ask once and return the reply's body; RuntimeError unless its status is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {text[:300]!r}")
    return text
