"""No secret and no content leaves where it belongs: canaries in every place, every sink looked through."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.hub import ACCESS
from fakes.upstream import FIN, FakeUpstream, Raw, Reply, chat_chunk
from served import KEY, WAYS, Answer, Served, endpoint, served, usual

TOKEN = "canary-token-of-a-user-1f3a"
PROMPT = "canary-prompt-77be"
ANSWER = "canary-answer-90ce"
SERVICE_TOKEN = "service-token"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Collect every line of every logger, at DEBUG."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def quoting(status: int) -> Reply:
    """Make an error that quotes everything the provider was sent."""
    return Reply.error(status, f"Bad key {KEY}; you said {PROMPT}; {ANSWER}")


SCRIPTS: list[Any] = [
    *(quoting(status) for status in (400, 401, 403, 404, 409, 422, 429, 500, 503)),
    Raw.of(FIN),
    Raw.of(b"HTTP/1.1 200 OK\r\nX-Echo: " + KEY.encode() + b"\r\n\r\n", FIN),
    Reply(200, [("Content-Type", "application/json")], ANSWER.encode()),
    Reply(200, [("Content-Type", "text/html")], (PROMPT + KEY).encode()),
    Reply.stream(chat_chunk({"content": ANSWER}), FIN),
    Reply.stream(chat_chunk({"content": ANSWER}), {"error": {"message": f"{KEY} {PROMPT}"}}),
]


async def tried(running: Served, up: FakeUpstream) -> list[Answer]:
    """Do everything that can go right or wrong, streaming and not."""
    answers: list[Answer] = []
    for is_stream in (False, True):
        for script in [*SCRIPTS, None]:
            if script is not None:
                up.script(script)
            answers.append(await running.chat(PROMPT, stream=is_stream, token=TOKEN, user=PROMPT))
    answers.append(await running.chat(PROMPT, model=PROMPT, token=TOKEN))
    answers.append(await running.chat(PROMPT, token=TOKEN + "-unknown"))
    answers.append(await running.chat(PROMPT, model="limited", token=TOKEN))
    answers.append(await running.chat(PROMPT, model="limited", token=TOKEN))
    answers.append(await running.ask("POST", "v1/chat/completions", body=PROMPT.encode(), token=TOKEN))
    answers.append(await running.ask("GET", f"v1/models/{PROMPT}?token={TOKEN}", token=TOKEN))
    answers.append(await running.ask("GET", f"{PROMPT}?api_key={TOKEN}", token=TOKEN))
    answers.append(await running.ask("GET", "v1/models", token=TOKEN))
    for path in ("health", "metrics", "openapi.json", "ping", ""):
        answers.append(await running.ask("GET", path, token=TOKEN))
    return answers


@pytest.mark.parametrize("way", WAYS)
async def test_no_canary_sings(way: str, log: io.StringIO, expected_log: Any) -> None:
    with FakeUpstream(key=KEY, text=ANSWER) as up:
        limited = endpoint("limited", up, limit={"calls": 1, "renewal_period": "day"})
        async with served(
            up, [*usual(up), limited], authenticate_prometheus=False, log_requests=True, **WAYS[way]
        ) as running:
            running.knows(TOKEN, ACCESS, "custom:ai-gateway:full-access", name="carol")
            answers = await tried(running, up)
            requests = list(up.requests)
    expected_log.take("provider openai")
    lines = log.getvalue()
    assert "carol" in lines  # the log is looked through, and has something to say
    for canary in (TOKEN, PROMPT, ANSWER, KEY, SERVICE_TOKEN):
        assert canary not in lines
    for answer in answers:
        whole = answer.body.decode() + str(answer.headers)
        assert TOKEN not in whole
        assert KEY not in whole
        assert KEY[-12:] not in whole
        assert SERVICE_TOKEN not in whole
    metrics = next(answer.body.decode() for answer in answers if b"# HELP" in answer.body)
    assert 'endpoint="chat"' in metrics
    for canary in (TOKEN, PROMPT, ANSWER, KEY, "carol"):
        assert canary not in metrics
    for request in requests:
        assert TOKEN not in str(request.headers) + request.body.decode()
        assert "carol" not in str(request.headers) + request.body.decode()
        assert request.document.get("user") != PROMPT
