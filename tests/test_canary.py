"""No secret and no content leaves where it belongs: canaries in every place, every sink looked through."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.hub import ACCESS
from fakes.upstream import FIN, FakeUpstream, Raw, Reply, chat_chunk
from served import KEY, WAYS, Answer, Served, endpoint, served, usual
from test_media import media

TOKEN = "canary-token-of-a-user-1f3a"
PROMPT = "canary-prompt-77be"
ANSWER = "canary-answer-90ce"
FILE_NAME = "canary-file-name-4d2e.wav"
FILE = "canary-in-a-file-b7a1"
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


FILE_SCRIPTS: list[Any] = [
    *(
        Reply.error(status, f"Bad key {KEY}; your file {FILE_NAME} with {FILE}; {ANSWER}")
        for status in (400, 401, 413, 429, 500)
    ),
    Raw.of(FIN),
    Reply(200, [("Content-Type", "text/html")], (FILE + KEY).encode()),
    Reply(200, [("Content-Type", "text/plain")], [f"{ANSWER} {KEY}".encode(), FIN]),
    Reply.stream({"type": "transcript.text.delta", "delta": ANSWER}, FIN),
    Reply.stream(
        {"type": "transcript.text.delta", "delta": ANSWER}, {"error": {"message": f"{KEY} {FILE}"}}
    ),
    None,
]


def form(*fields: tuple[str, str, str | None]) -> dict[str, Any]:
    """Make a form's body and headers."""
    body = ""
    for name, content, filename in fields:
        more = f'; filename="{filename}"' if filename else ""
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{content}\r\n'
    headers = [("Content-Type", "multipart/form-data; boundary=b")]
    return {"body": f"{body}--b--\r\n".encode(), "headers": headers}


async def tried_files(running: Served, up: FakeUpstream) -> list[bytes]:
    """Send files that go right and wrong; everything that came back."""
    found: list[bytes] = []
    fine = form(("model", "listener", None), ("user", PROMPT, None), ("file", FILE, FILE_NAME))
    for script in FILE_SCRIPTS:
        if script is not None:
            up.script(script)
        head = [("Authorization", f"Bearer {TOKEN}"), *fine["headers"]]
        with contextlib.suppress(ConnectionError):
            path = "/services/ai-gateway/v1/audio/transcriptions"
            found.append(await running.raw("POST", path, fine["body"], head))
    wrong = [
        form(("model", PROMPT, None), ("file", FILE, FILE_NAME)),
        form(("file", FILE, FILE_NAME)),
        form((f'{FILE}"', FILE, FILE_NAME)),
    ]
    wrong.append({**fine, "body": fine["body"][:-6]})
    for each in wrong:
        answer = await running.ask("POST", "v1/audio/transcriptions", token=TOKEN, **each)
        found.append(answer.body + str(answer.headers).encode())
    answer = await running.ask("POST", "v1/audio/transcriptions", token=TOKEN + "-unknown", **fine)
    return [*found, answer.body, (await running.ask("GET", "metrics")).body]


@pytest.mark.parametrize("way", WAYS)
async def test_no_canary_sings_of_files(way: str, log: io.StringIO, expected_log: Any) -> None:
    with FakeUpstream(key=KEY, text=ANSWER) as up:
        listener = media(up, "listener", "transcriptions")
        async with served(
            up, [listener], authenticate_prometheus=False, log_requests=True, **WAYS[way]
        ) as running:
            running.knows(TOKEN, ACCESS, "custom:ai-gateway:full-access", name="carol")
            answers = await tried_files(running, up)
            requests = list(up.requests)
    expected_log.take("provider openai")
    lines = log.getvalue()
    assert "carol" in lines
    for canary in (TOKEN, PROMPT, ANSWER, FILE, FILE_NAME, KEY, SERVICE_TOKEN):
        assert canary not in lines
    for answer in answers:
        for canary in (TOKEN, KEY, KEY[-12:], SERVICE_TOKEN):
            assert canary.encode() not in answer
    for canary in (FILE, FILE_NAME, PROMPT, ANSWER, "carol"):
        assert canary.encode() not in answers[-1]
    assert any(FILE_NAME.encode() in request.body for request in requests)
    for request in requests:
        whole = str(request.headers).encode() + request.body
        assert not any(canary.encode() in whole for canary in (TOKEN, PROMPT, "carol"))


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
