"""What a provider sends is read with suspicion: whatever is wrong in it, it is the provider's fault."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fakes.upstream import sse
from matrix.bedrock import AT_BEDROCK
from matrix.vendors import VENDORS, Say

from jupyterhub_ai_gateway.dialects.bridge import FRONTS, Bridge
from jupyterhub_ai_gateway.dialects.codec import Manners
from jupyterhub_ai_gateway.dialects.dialect import DIALECT_OF
from jupyterhub_ai_gateway.dialects.event_stream import EventStreamDecoder
from jupyterhub_ai_gateway.dialects.opening import FORMATS, Asked
from jupyterhub_ai_gateway.errors import UpstreamBroken, UpstreamFault
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    CONVERSE,
    GENERATE_CONTENT,
    MESSAGES,
    MISTRAL_CHAT,
    RESPONSES,
    Operation,
)

BACKS: dict[str, Operation] = {
    "chat completions": CHAT,
    "Messages": MESSAGES,
    "Responses": RESPONSES,
    "Cohere": COHERE_CHAT,
    "Mistral": CHAT,
    "Gemini": GENERATE_CONTENT,
    "Converse": CONVERSE,
}
HI = [{"role": "user", "content": "Hi"}]
ASKED: dict[Operation, dict[str, Any]] = {
    CHAT: {"messages": HI},
    COMPLETIONS: {"prompt": "Hi"},
    MESSAGES: {"messages": HI, "max_tokens": 9},
    RESPONSES: {"input": "Hi"},
    GENERATE_CONTENT: {"contents": [{"parts": [{"text": "Hi"}]}]},
    COHERE_CHAT: {"messages": HI},
    MISTRAL_CHAT: {"messages": HI},
}
SAYS = (
    Say("Good morning.", thinking="Hm."),
    Say("Let me look.", calls=[("callid001", "get_weather", {"city": "Oslo"})], thinking="Hm."),
)
ODD: tuple[Any, ...] = (None, 5, -1, 0.5, "x", "", True, [], {}, [5], ["x"], [None], [[]], {"a": 1}, 10**30)


class _Silent:
    def always(self, script: Any) -> None:
        """Vendors say what they answer; here they are only asked for their words."""


def vendor(name: str) -> Any:
    return {**VENDORS, **AT_BEDROCK}[name](_Silent())  # type: ignore[arg-type]


def tap(front: Operation, name: str) -> Any:
    return crossing(front, name, is_stream=True).tap(lambda body: UpstreamBroken("told"))


def crossing(front: Operation, name: str, *, is_stream: bool = False) -> Any:
    raw = {key: msgspec.Raw(json.dumps(value).encode()) for key, value in ASKED[front].items()}
    bridge = Bridge(front, BACKS[name], Manners(model="claude-sonnet-4-5", is_mistral=name == "Mistral"))
    return bridge.cross(raw, is_stream=is_stream, wants_usage=True, request_id="req_1", created=1)


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value within a document."""
    yield path
    if isinstance(document, dict | list):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from places(value, (*path, key))


def bent(document: Any, chance: random.Random) -> Any:
    """Return a document of which one value is another one, or is not there."""
    path = chance.choice([each for each in places(document) if each] or [()])
    if not path:
        return chance.choice(ODD)
    made = copy.deepcopy(document)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if chance.random() < 0.2:
        del inner[path[-1]]
    else:
        inner[path[-1]] = chance.choice(ODD)
    return made


def events(name: str, say: Say) -> list[tuple[bytes, Any]]:
    """Return the events of a stream: the lines before its data, and that as a document where it is one."""
    if name == "Converse":
        told = EventStreamDecoder().feed(b"".join(vendor(name).stream(say)))
        return [
            (b"event: %b\n" % each.text(":event-type").encode(), json.loads(each.payload)) for each in told
        ]
    found = []
    for each in vendor(name).stream(say):
        head, _, data = (each if isinstance(each, bytes) else sse(each)[0]).rpartition(b"data: ")
        text = data.strip()
        found.append((head, None if text == b"[DONE]" else json.loads(text)))
    return found


def written(head: bytes, document: Any) -> bytes:
    text = b"[DONE]" if document is None else json.dumps(document).encode()
    return head + b"data: " + text + b"\n\n"


@pytest.mark.parametrize("seed", range(400))
@pytest.mark.parametrize("name", BACKS)
def test_a_bent_stream_is_read_or_is_the_providers_fault(name: str, seed: int) -> None:
    chance = random.Random(seed)
    stream = events(name, SAYS[seed % 2])
    at = chance.randrange(len(stream))
    if stream[at][1] is None:
        at -= 1
    stream[at] = (stream[at][0], bent(stream[at][1], chance))
    reader = tap(chance.choice(list(FRONTS)), name)
    with contextlib.suppress(UpstreamFault):
        for head, document in stream:
            reader.feed(written(head, document))
        reader.close()


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("name", BACKS)
def test_a_bent_answer_is_read_or_is_the_providers_fault(name: str, seed: int) -> None:
    chance = random.Random(seed)
    document = bent(vendor(name).whole(SAYS[seed % 2]), chance)
    with contextlib.suppress(UpstreamFault):
        crossing(chance.choice(list(FRONTS)), name).answer(json.dumps(document).encode())


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("name", {**BACKS, "Mistral": MISTRAL_CHAT})
def test_a_bent_stream_passes_as_it_came_where_it_is_not_translated(name: str, seed: int) -> None:
    chance = random.Random(seed)
    stream = events(name, SAYS[seed % 2])
    at = chance.randrange(len(stream) - 1)
    stream[at] = (stream[at][0], bent(stream[at][1], chance))
    dialect = DIALECT_OF.get({**BACKS, "Mistral": MISTRAL_CHAT}[name])
    if dialect is None:
        return  # nobody asks in Converse
    asked = Asked(FORMATS[CHAT], {}, "model", True, True, False)
    reader, sent = dialect.tap(asked), b"".join(written(head, document) for head, document in stream)
    passed = reader.feed(sent)
    with contextlib.suppress(UpstreamBroken):
        passed += reader.close()
    assert passed == sent


@pytest.mark.parametrize("data", [b"{", b"[1]", b"5", b'"x"', b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("name", BACKS)
def test_an_event_that_is_no_object_ends_the_stream(name: str, data: bytes) -> None:
    reader = tap(CHAT, name)
    head, document = events(name, SAYS[0])[0]
    reader.feed(written(head, document))
    with pytest.raises(UpstreamBroken):
        reader.feed(b"data: " + data + b"\n\n")


@pytest.mark.parametrize(
    ("name", "kind", "document"),
    [
        ("chat completions", "", {"choices": 5}),
        ("chat completions", "", {"choices": [5]}),
        ("chat completions", "", {"choices": [{"delta": {"tool_calls": [5]}}]}),
        ("chat completions", "", {"choices": [{"delta": {"content": 5}}]}),
        ("Mistral", "", {"choices": [{"delta": {"content": ["x"]}}]}),
        ("Messages", "content_block_delta", {"type": "content_block_delta", "delta": {"text": "x"}}),
        ("Messages", "content_block_stop", {"type": "content_block_stop", "index": "x"}),
        ("Responses", "", {"type": "response.output_item.added", "item": 5}),
        ("Cohere", "", {"type": "content-delta", "delta": {"message": {"content": 5}}}),
        ("Gemini", "", {"candidates": [5]}),
        ("Gemini", "", {"candidates": [{"content": {"parts": 5}}]}),
        ("Converse", "contentBlockDelta", {"delta": 5}),
    ],
)
def test_nothing_that_makes_no_sense_is_passed_over(name: str, kind: str, document: Any) -> None:
    reader = tap(CHAT, name)
    with pytest.raises(UpstreamBroken):
        reader.feed(b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(document).encode()))


def test_every_format_is_here() -> None:
    assert set(BACKS) == {*VENDORS, *AT_BEDROCK} - {"Messages at Bedrock"}
    assert set(ASKED) == set(FRONTS)
