"""What each way to fail of a provider is to each caller: the right exception of their SDK, in its words."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from expected import ExpectedLog
from fakes.upstream import STALL, FakeUpstream, Raw, Reply
from served import served

from matrix.clients import CLIENTS
from matrix.vendors import ChatVendor


class Case(NamedTuple):
    """What a provider does, the status that a caller sees, and what is in the ledger and the metrics."""

    reply: Reply | Raw
    status: int
    slug: str
    words: str
    is_logged: bool = False


def told(status: int, **error: Any) -> Reply:
    return Reply.json({"error": error}, status)


TOO_LONG = "This model's maximum context length is 128000 tokens."
CASES = {
    "its key is dead": Case(
        told(401, message="Incorrect API key sk-abcdefghijkl"), 502, "upstream_auth_error", "operator", True
    ),
    "it limits": Case(told(429, message="Slow down."), 429, "upstream_rate_limited", "Slow down."),
    "it is overloaded": Case(told(503, message="Busy."), 503, "upstream_overloaded", "Busy.", True),
    "the conversation is too long": Case(
        told(400, message=TOO_LONG, code="context_length_exceeded"),
        *(400, "upstream_context_too_long", "maximum context length"),
    ),
    "it refuses the content": Case(
        told(400, message="It was filtered.", code="content_filter"),
        *(400, "upstream_content_refused", "It was filtered."),
    ),
    "the request is wrong": Case(
        told(400, message="No such role."), 400, "upstream_invalid_request", "No such role."
    ),
    "it garbles": Case(
        Reply(headers=[("Content-Type", "application/json")], body=[b'{"choices": 5}']),
        *(502, "upstream_broken", "cannot be read", True),
    ),
    "it answers nothing in time": Case(Raw.of(STALL), 504, "upstream_timeout", "provider", True),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("front", [name for name in CLIENTS if name != "chat completions"])
async def test_each_failure_is_told_in_the_callers_words(
    front: str, case: str, expected_log: ExpectedLog
) -> None:
    reply, status, slug, words, is_logged = CASES[case]
    with FakeUpstream(is_strict=False) as up:
        up.always(reply)
        vendor = ChatVendor(up)
        up.always(reply)
        timeouts = {"first_byte_s": 0.5} if slug == "upstream_timeout" else {}
        async with served(
            None, [vendor.endpoint(**({"timeouts": timeouts} if timeouts else {}))]
        ) as running:
            client = CLIENTS[front](running)
            client.say("Hello!")
            with pytest.raises(Exception, match=words) as caught:
                await client.ask(stream=False)
            assert status_of(caught.value) == status
            assert "sk-" not in str(caught.value)
            metrics = running.service.metrics.render()[0].decode()
            await client.close()
    assert f'outcome="{slug}"' in metrics
    if is_logged:
        expected_log.take(slug)


def status_of(error: Any) -> int | None:
    """Return the status of an SDK's exception, however it calls it."""
    found = getattr(error, "status_code", None) or getattr(error, "code", None)
    return int(found) if isinstance(found, int) else None
