"""What is written for Converse is what Bedrock takes, nothing is lost in silence, answers come back whole.

The judges are botocore's description of the service, and the rules of the fake.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.bedrock import USAGE, answer, check_conversation, check_shape, events, parsed, service
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_ai_gateway.dialects.bridge import BACKS, FRONTS
from jupyterhub_ai_gateway.dialects.canonical import (
    Call,
    Candidate,
    Citation,
    Close,
    Delta,
    Finish,
    Media,
    Named,
    Opaque,
    Open,
    Reasoning,
    Refusal,
    Request,
    Result,
    Shape,
    Text,
    Thinking,
    Tool,
    Turn,
    Used,
)
from jupyterhub_ai_gateway.dialects.codec import Back, Manners, ToldError
from jupyterhub_ai_gateway.dialects.converse_fields import LACKS, TABLES, UNSAID, Family
from jupyterhub_ai_gateway.dialects.event_stream import EventStreamDecoder
from jupyterhub_ai_gateway.dialects.loss import MAPPED, Loss
from jupyterhub_ai_gateway.errors import Untranslatable, UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import CHAT, CONVERSE, Usage

CODEC = BACKS[CONVERSE]
SHAPE = service().operation_model("Converse").input_shape
CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-2-lite-v1:0"
LLAMA = "meta.llama3-1-8b-instruct-v1:0"
GPT = "openai.gpt-oss-120b-1:0"
PNG = base64.b64encode(b"\x89PNG").decode()
HI = Turn("user", [Text("Hi")])
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOK = Tool("look", "Look there.", CITY)


def encode(model: str, *turns: Turn, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """Write a request, see that Bedrock takes it, and return it with what was lost."""
    loss = Loss("the deployment x/1")
    body = CODEC.encode_request(Back.of(Request(list(turns) or [HI], **more), Manners(model=model)), loss)
    body = json.loads(json.dumps(body))
    judged = {**body, "modelId": model}
    assert judged.pop("stream", None) is (True if more.get("is_stream") else None)
    check_shape(SHAPE, judged)
    check_conversation(judged)
    return body, list(loss.dropped)


def content(body: dict[str, Any]) -> list[Any]:
    return [block for message in body["messages"] for block in message["content"]]


# Every member has a verb


def structures(shape: Any, seen: dict[str, Any]) -> dict[str, Any]:
    """Find every structure of a request, but for those within members that are never written."""
    inner = shape
    while inner.type_name == "list":
        inner = inner.member
    if inner.type_name != "structure" or inner.is_document_type or inner.name in seen:
        return seen
    seen[inner.name] = inner
    for name, member in inner.members.items():
        if TABLES.get(inner.name, {}).get(name) is not UNSAID:
            structures(member, seen)
    return seen


def test_every_member_has_a_verb() -> None:
    found = {name: set(shape.members) for name, shape in structures(SHAPE, {}).items()}
    assert set(TABLES) == set(found)
    unknown = {name: members - set(TABLES[name]) for name, members in found.items()}
    assert not any(unknown.values()), unknown  # an older botocore may know less
    assert {verb for table in TABLES.values() for verb in table.values()} == {MAPPED, UNSAID}


def written(shape: Any, value: Any) -> Iterator[tuple[str, str]]:
    """Find every member that a document has."""
    if shape.type_name == "list":
        for each in value:
            yield from written(shape.member, each)
    elif shape.type_name == "structure" and not shape.is_document_type:
        for name, each in value.items():
            yield shape.name, name
            yield from written(shape.members[name], each)


def everything() -> Request:
    """Ask for all that there is."""
    return Request(
        [
            Turn("system", [Text("Be kind.", cache="1h")]),
            Turn(
                "user",
                [
                    Text("Look.", cache="5m"),
                    Media("image", "image/png", PNG),
                    Media(
                        "file",
                        "application/pdf",
                        PNG,
                        name="a/b.pdf",
                        context="From the web.",
                        is_cited=True,
                        cache="1h",
                    ),
                    Media("audio", "audio/mpeg", PNG),
                ],
            ),
            Turn(
                "assistant",
                [
                    Thinking("Hm.", Opaque("anthropic", "c2ln")),
                    Thinking("", Opaque("bedrock", PNG), is_redacted=True),
                    Text("I look."),
                    Call("c1", "look", '{"city":"Bern"}'),
                ],
            ),
            Turn(
                "user",
                [
                    Result(
                        "c1",
                        [Text("Rain"), Media("image", "image/jpeg", PNG), Media("file", None, text="x")],
                        is_error=True,
                    )
                ],
            ),
        ],
        [Tool("look", "Look there.", CITY, strict=True, cache="5m")],
        Named(["look"]),
        max_tokens=9000,
        temperature=0.5,
        stop=["END"],
        shape=Shape("answer", CITY, True, "The answer."),
        service_tier="flex",
        user="0123abcd",
        is_stream=True,
    )


def test_every_mapped_member_is_written() -> None:
    requests = [everything(), *(Request([HI], [LOOK], choice) for choice in ("auto", "required"))]
    requests.append(Request([HI], top_p=0.5, reasoning=Reasoning("low")))
    found = {("ConverseRequest", "modelId")}  # in the path
    for request in requests:
        for model in (CLAUDE.replace("4-5", "4-6"), NOVA):
            loss = Loss("x")
            body = CODEC.encode_request(Back.of(request, Manners(model=model)), loss)
            body.pop("stream", None)
            check_shape(SHAPE, {**body, "modelId": model})
            found |= set(written(SHAPE, parsed(SHAPE, body, "")))
    mapped = {
        (name, member) for name, table in TABLES.items() for member in table if table[member] is MAPPED
    }
    assert mapped - found == set()
    assert found - mapped == set()


def test_every_attribute_of_a_request_is_written_or_named() -> None:
    """Each attribute that callers can give changes the body, or is named as lost, or is refused."""
    given = {
        "choice": "required",
        "parallel_tools": False,
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "stop": ["END"],
        "seed": 5,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "logit_bias": {"5": 1},
        "shape": Shape("a", CITY),
        "reasoning": Reasoning("high"),
        "verbosity": "low",
        "service_tier": "priority",
        "cache_key": "k",
        "user": "u",
        "top_logprobs": 2,
        "has_cache": True,
    }
    for model in (CLAUDE, NOVA, LLAMA, GPT):
        plain, nothing = encode(model, HI, tools=[LOOK])
        assert nothing == []
        for name, value in given.items():
            body, dropped = encode(model, HI, tools=[LOOK], **{name: value})
            takes = name == "has_cache" and model in (CLAUDE, NOVA)  # then it is in the parts
            assert takes or (body != plain) or dropped, f"{name} vanished"
            assert not (body != plain and dropped), name
    for name in ("n", "logprobs"):
        with pytest.raises(Untranslatable, match=r"cannot be translated for the deployment x/1"):
            encode(CLAUDE, HI, **{name: 2})
    rest = {"turns", "tools", "names", "is_stream", "n", "logprobs", "echo", "spaces"}
    assert set(Request.__dataclass_fields__) == {*given, *rest}
    assert set(LACKS) <= {*given, "n", "logprobs"}


# How things are said


def test_turns_are_in_order_and_nothing_is_blank() -> None:
    body, _ = encode(
        LLAMA,
        Turn("system", [Text("A"), Text(" ")]),
        HI,
        Turn("assistant", [Text("  "), Thinking("Hm.", Opaque("anthropic", "c2ln"))]),
        Turn("system", [Text("B")]),
        Turn("user", [Text("there"), Text("")]),
        Turn("assistant", [Refusal("No.")]),
        Turn("user", [Text("Why?")]),
    )
    assert body["system"] == [{"text": "A"}, {"text": "B"}]
    assert [(message["role"], message["content"]) for message in body["messages"]] == [
        ("user", [{"text": "Hi"}, {"text": "there"}]),
        ("assistant", [{"text": "No."}]),
        ("user", [{"text": "Why?"}]),
    ]


def test_thoughts_go_back_to_who_signed_them_alone() -> None:
    said = Turn(
        "assistant",
        [
            Text("Yes."),
            Thinking("unsigned"),
            Thinking("theirs", Opaque("openai", "eA==")),
            Thinking("ours", Opaque("amazon", "eA==")),
            Thinking("", Opaque("anthropic", "eA=="), is_redacted=True),
            Thinking("", Opaque("bedrock", "eQ=="), is_redacted=True),
        ],
    )
    body, dropped = encode(NOVA, HI, said, HI)
    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "ours", "signature": "eA=="}}},
        {"reasoningContent": {"redactedContent": "eQ=="}},
        {"text": "Yes."},
    ]
    assert dropped == []


@pytest.mark.parametrize(
    ("model", "asked", "fields", "output", "dropped"),
    [
        (
            NOVA,
            Reasoning("minimal"),
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            None,
            [],
        ),
        (
            NOVA,
            Reasoning(budget_tokens=9000),
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}},
            None,
            [],
        ),
        (NOVA, Reasoning(is_off=True), None, None, []),
        (NOVA, Reasoning("none"), None, None, []),
        (NOVA, Reasoning(is_adaptive=True), None, None, []),
        ("amazon.nova-pro-v1:0", Reasoning("low"), None, None, ["reasoning"]),
        (GPT, Reasoning("xhigh"), {"reasoning_effort": "high"}, None, []),
        (LLAMA, Reasoning("low"), None, None, ["reasoning"]),
        (
            CLAUDE,
            Reasoning(budget_tokens=2000),
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            None,
            [],
        ),
        (
            "anthropic.claude-opus-4-6-v1",
            Reasoning("low"),
            {"thinking": {"type": "adaptive"}},
            {"effort": "low"},
            [],
        ),
    ],
)
def test_thinking_is_asked_for_in_each_family_s_way(
    model: str, asked: Reasoning, fields: Any, output: Any, dropped: list[str]
) -> None:
    body, lost = encode(model, HI, reasoning=asked, max_tokens=4000)
    assert body.get("additionalModelRequestFields") == fields
    assert body.get("outputConfig") == output
    assert lost == dropped


def test_nova_that_thinks_hard_is_not_told_how_long_and_says_so() -> None:
    body, lost = encode(NOVA, HI, reasoning=Reasoning("high"), max_tokens=4000, temperature=0.5)
    assert "inferenceConfig" not in body
    assert lost == ["max_tokens", "temperature"]


@pytest.mark.parametrize(
    ("model", "fields", "dropped"),
    [
        (CLAUDE, {"top_k": 5}, []),
        ("mistral.mistral-large-2407-v1:0", {"top_k": 5}, []),
        (NOVA, {"inferenceConfig": {"topK": 5}}, []),
        ("cohere.command-r-v1:0", {"k": 5}, []),
        (LLAMA, None, ["top_k"]),
    ],
)
def test_top_k_is_said_in_each_family_s_way(model: str, fields: Any, dropped: list[str]) -> None:
    body, lost = encode(model, HI, top_k=5)
    assert body.get("additionalModelRequestFields") == fields
    assert lost == dropped


def test_heat_is_bounded_and_named() -> None:
    for model in (CLAUDE, LLAMA):
        body, lost = encode(model, HI, temperature=1.7)
        assert body["inferenceConfig"]["temperature"] == 1
        assert lost == ["temperature"]


def marks(body: dict[str, Any]) -> list[Any]:
    blocks = [*body.get("system", ()), *body["toolConfig"]["tools"], *content(body)]
    return [block["cachePoint"] for block in blocks if "cachePoint" in block]


def test_what_is_to_be_remembered_is_said_where_the_family_takes_it() -> None:
    turns = [Turn("system", [Text("A", cache="1h")]), Turn("user", [Text("Hi", cache="5m")])]
    tools = [Tool("look", schema=CITY, cache="1h")]
    names = {"has_cache": "cache_control"}
    hour, usual = {"type": "default", "ttl": "1h"}, {"type": "default"}
    body, lost = encode(CLAUDE, *turns, tools=tools, has_cache=True, names=names)
    assert (marks(body), lost) == ([hour, hour, usual], [])
    body, lost = encode(NOVA, *turns, tools=tools, has_cache=True, names=names)
    assert (marks(body), lost) == ([usual, usual], [])
    body, lost = encode(LLAMA, *turns, tools=tools, has_cache=True, names=names)
    assert (marks(body), lost) == ([], ["cache_control"])


def test_documents_have_words_beside_them_and_names_of_their_own() -> None:
    files = [
        Media("file", "application/pdf", PNG, name="año/2026_final.pdf"),
        Media("file", "application/pdf", PNG, name="a o 2026 final pdf"),
        Media("file", None, text="Grüße", name="notes.txt"),
        Media("file", "text/markdown; charset=utf-8", PNG),
    ]
    body, _ = encode(CLAUDE, Turn("user", files))
    documents = [block["document"] for block in content(body) if "document" in block]
    assert [(each["format"], each["name"]) for each in documents] == [
        ("pdf", "a o 2026 final pdf"),
        ("pdf", "a o 2026 final pdf 2"),
        ("txt", "notes txt"),
        ("md", "document"),
    ]
    assert base64.b64decode(documents[2]["source"]["bytes"]).decode() == "Grüße"
    assert content(body)[-1] == {"text": "The documents are above."}


@pytest.mark.parametrize(
    "media",
    [
        Media("image", url="https://x/y.png"),
        Media("file", url="https://x/y.pdf"),
        Media("image", "image/tiff", PNG),
        Media("audio", "audio/midi", PNG),
        Media("file", "application/zip", PNG),
    ],
)
def test_media_that_bedrock_does_not_take_are_refused(media: Media) -> None:
    with pytest.raises(Untranslatable, match="Bedrock does not"):
        encode(NOVA, Turn("user", [Text("Look"), media]))


CALLED = Turn("assistant", [Call("c1", "look", '{"city":"Bern"}'), Call("c/2", "a.b", "")])
GIVEN = Turn("user", [Result("c1", [Text("Rain")]), Result("c/2", [Text(" ")], is_error=True), Text("So?")])


def test_tools_over_two_turns() -> None:
    tools = [LOOK, Tool("a.b", schema={}), Tool("free", "Write.", is_custom=True)]
    body, _ = encode(NOVA, HI, CALLED, GIVEN, tools=tools)
    calls = [block["toolUse"] for block in content(body) if "toolUse" in block]
    results = [block["toolResult"] for block in content(body) if "toolResult" in block]
    assert [call["toolUseId"] for call in calls] == [result["toolUseId"] for result in results]
    assert calls[0] == {"toolUseId": "c1", "name": "look", "input": {"city": "Bern"}}
    assert [result.get("status") for result in results] == [None, "error"]
    specs = [tool["toolSpec"] for tool in body["toolConfig"]["tools"]]
    assert specs[0] == {"name": "look", "description": "Look there.", "inputSchema": {"json": CITY}}
    assert specs[1]["name"] == calls[1]["name"] != "a.b"
    assert specs[1]["inputSchema"]["json"] == {"type": "object", "properties": {}}
    assert specs[2]["inputSchema"]["json"]["required"] == ["input"]
    body, _ = encode(LLAMA, HI, CALLED, GIVEN, tools=tools)
    failed = [block["toolResult"] for block in content(body) if "toolResult" in block][1]
    assert "status" not in failed
    assert failed["content"][0] == {"text": "The tool has failed:"}


@pytest.mark.parametrize(
    ("choice", "told", "offered", "dropped"),
    [
        (None, None, ["look", "dig"], []),
        ("auto", {"auto": {}}, ["look", "dig"], []),
        ("required", {"any": {}}, ["look", "dig"], []),
        (Named(["dig"]), {"tool": {"name": "dig"}}, ["look", "dig"], []),
        (Named(["dig"], must=False), {"auto": {}}, ["dig"], []),
        ("none", None, [], []),
    ],
)
def test_choice_of_tools(choice: Any, told: Any, offered: list[str], dropped: list[str]) -> None:
    body, lost = encode(CLAUDE, HI, tools=[LOOK, Tool("dig", schema=CITY)], choice=choice)
    config = body.get("toolConfig", {"tools": []})
    assert config.get("toolChoice") == told
    assert [tool["toolSpec"]["name"] for tool in config["tools"]] == offered
    assert lost == dropped


def test_conversation_with_calls_keeps_tools_whatever_is_chosen() -> None:
    body, lost = encode(CLAUDE, HI, CALLED, GIVEN, tools=[LOOK], choice="none")
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["look"]
    assert lost == ["tool_choice"]
    body, lost = encode(CLAUDE, HI, CALLED, GIVEN)
    assert len(body["toolConfig"]["tools"]) == 2
    assert lost == []


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body, _ = encode(NOVA, HI, shape=Shape())
    assert "JSON object" in body["system"][0]["text"]
    assert "outputConfig" not in body


@pytest.mark.parametrize(
    ("tier", "told", "dropped"),
    [
        ("auto", None, []),
        ("default", "default", []),
        ("standard_only", "default", []),
        ("scale", None, ["service_tier"]),
    ],
)
def test_tier(tier: str, told: str | None, dropped: list[str]) -> None:
    body, lost = encode(NOVA, HI, service_tier=tier)
    assert body.get("serviceTier") == (told and {"type": told})
    assert lost == dropped


def test_families_are_known_by_every_form_of_a_name() -> None:
    found = {
        name: Family.named(name).vendor
        for name in (
            "anthropic.claude-3-haiku-20240307-v1:0",
            "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/global.anthropic.claude-opus-4-6-v1",
        )
    }
    assert set(found.values()) == {"anthropic"}
    assert Family.named("zai.glm-4.6").vendor == "zai"
    assert Family.named("arn:aws:bedrock:eu-west-1:1:application-inference-profile/a1b2").vendor == ""


names = st.text("abc.-_/é ", max_size=70)
words = st.text(max_size=20)
ids = st.sampled_from(["c1", "c/2", "c" * 70, "ü"])
parts = st.one_of(
    words.map(Text),
    words.map(Refusal),
    st.builds(Media, st.just("image"), st.sampled_from([None, "image/png", "image/jpg"]), st.just(PNG)),
    st.builds(Media, st.just("file"), st.just("text/csv"), st.just(PNG), name=names),
    st.builds(Thinking, words, st.sampled_from([None, Opaque("anthropic", "eA=="), Opaque("meta", "x")])),
)


@st.composite
def conversations(draw: Any) -> list[Turn]:
    turns = [HI]
    for _ in range(draw(st.integers(0, 4))):
        called = draw(st.lists(ids, max_size=2, unique=True))
        mine = [part for part in draw(st.lists(parts, max_size=3)) if not isinstance(part, Media)]
        turns.append(Turn("assistant", [*mine, *(Call(each, draw(names) or "x", "{") for each in called)]))
        theirs = [
            part for part in draw(st.lists(parts, max_size=3)) if not isinstance(part, Thinking | Refusal)
        ]
        results = [Result(each, draw(st.lists(words.map(Text), max_size=2))) for each in called]
        turns.append(Turn("user", [*results, *theirs]))
        turns += draw(st.lists(st.builds(Turn, st.just("system"), st.lists(words.map(Text))), max_size=1))
    return turns


@settings(max_examples=150)
@given(conversations(), st.sampled_from([CLAUDE, NOVA, LLAMA]), st.booleans())
def test_bedrock_takes_whatever_is_written(turns: list[Turn], model: str, has_tools: bool) -> None:
    encode(model, *turns, tools=[LOOK] if has_tools else [])


# Answers

BACK = Back.of(Request([HI], [LOOK, Tool("free", is_custom=True)]), Manners(model=NOVA))
BLOCKS: list[Any] = [
    {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": base64.b64encode(b"sealed").decode()}},
    {"text": "I look."},
    {
        "citationsContent": {
            "content": [{"text": "It rains."}],
            "citations": [
                {
                    "title": "Weather",
                    "sourceContent": [{"text": "rain"}],
                    "location": {"web": {"url": "https://w/"}},
                },
                {"title": "A file", "location": {"documentPage": {"documentIndex": 0}}},
            ],
        }
    },
    {"toolUse": {"toolUseId": "c1", "name": "look", "input": {"city": "Bern"}}},
    {"toolUse": {"toolUseId": "c2", "name": "free", "input": {"input": "words"}}},
]
PARTS = [
    Thinking("Let me see.", Opaque("amazon", "c2ln")),
    Thinking("", Opaque("bedrock", "c2VhbGVk"), is_redacted=True),
    Text("I look."),
    Text("It rains.", (Citation("https://w/", "Weather", "rain"),)),
    Call("c1", "look", '{"city":"Bern"}'),
    Call("c2", "free", "words", is_custom=True),
]


def plain(parts: Any) -> list[Any]:
    """Return parts to compare: arguments as objects, citations as tuples."""
    found = []
    for part in parts:
        if isinstance(part, Call) and not part.is_custom:
            part = Call(part.id, part.name, json.dumps(json.loads(part.arguments)))
        found.append(Text(part.text, tuple(part.citations)) if isinstance(part, Text) else part)
    return found


def test_answer_is_read_whole() -> None:
    found = CODEC.decode_answer(answer(BLOCKS), BACK)
    assert plain(found.candidates[0].parts) == plain(PARTS)
    assert found.candidates[0].finish == "tools"
    assert found.usage == Usage(20, 9, 11, cache_write_tokens=2)
    assert found.model is None


def read_stream(messages: list[bytes], back: Back = BACK) -> list[Any]:
    reader = CODEC.decoder(back)
    found: list[Any] = []
    for message in EventStreamDecoder().feed(b"".join(messages)):
        found += reader.feed(message.text(":event-type") or "error", message.payload)
    return [*found, *reader.close()]


def collected(events_: list[Any]) -> Candidate:
    """Put the events of a stream together; parts are open one at a time."""
    candidate, opened, text = Candidate(), None, ""
    for each in events_:
        if isinstance(each, Open):
            assert opened is None
            assert each.index == len(candidate.parts)
            opened, text = each, ""
        elif isinstance(each, Delta):
            assert opened is not None
            assert each.index == opened.index
            text += each.text
        elif isinstance(each, Close):
            assert opened is not None
            candidate.parts.append(closed(opened.part, text, each))
            opened = None
        elif isinstance(each, Finish):
            candidate.finish = each.reason
    assert opened is None
    return candidate


def closed(part: Any, text: str, close: Close) -> Any:
    if isinstance(part, Call):
        return Call(part.id, part.name, text, part.is_custom)
    if isinstance(part, Thinking):
        return Thinking(text, close.opaque, part.is_redacted)
    return Text(text, close.citations)


def test_stream_is_read_as_the_whole_answer_is() -> None:
    found = read_stream(events(BLOCKS))
    assert plain(collected(found).parts) == plain(PARTS)
    assert collected(found).finish == "tools"
    assert [each for each in found if isinstance(each, Used)] == [
        Used(Usage(20, 9, 11, cache_write_tokens=2))
    ]


def test_block_that_is_not_closed_is_closed_by_the_next_and_by_the_end() -> None:
    messages = [
        each for each in events([{"text": "One."}, {"text": "Two."}]) if b"contentBlockStop" not in each
    ]
    assert [part.text for part in collected(read_stream(messages)).parts] == ["One.", "Two."]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("told", "finish"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop_sequence"),
        ("guardrail_intervened", "filter"),
        ("content_filtered", "filter"),
        ("model_context_window_exceeded", "context"),
        ("something_new", "stop"),
    ],
)
def test_every_reason_of_an_end(told: str, finish: str) -> None:
    assert CODEC.decode_answer(answer([{"text": "a"}], told), BACK).candidates[0].finish == finish
    assert collected(read_stream(events([{"text": "a"}], told))).finish == finish


@pytest.mark.parametrize("told", ["malformed_model_output", "malformed_tool_use"])
def test_failure_of_the_model_is_no_answer(told: str) -> None:
    with pytest.raises(UpstreamBroken):
        CODEC.decode_answer(answer([{"text": "a"}], told), BACK)
    with pytest.raises(UpstreamBroken):
        read_stream(events([{"text": "a"}], told))


def test_every_reason_of_botocore_s_is_known() -> None:
    from jupyterhub_ai_gateway.dialects.converse_stream import FINISHES

    shape = service().operation_model("Converse").output_shape.members["stopReason"]
    assert set(shape.enum) == set(FINISHES)


def test_hours_in_the_cache_are_told_apart() -> None:
    usage = {**USAGE, "cacheDetails": [{"ttl": "5m", "inputTokens": 1}, {"ttl": "1h", "inputTokens": 1}]}
    found = CODEC.decode_answer({**answer([{"text": "a"}]), "usage": usage}, BACK).usage
    assert found is not None
    assert found.cache_write_1h_tokens == 1
    for odd in (None, {}, {"inputTokens": "many"}, {"inputTokens": -1}):
        assert CODEC.decode_answer({**answer([]), "usage": odd}, BACK).usage is None


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"output": {}},
        {"output": {"message": {"content": "x"}}},
        answer(["x"]),  # type: ignore[list-item]
        answer([{"toolUse": {"name": "x"}}]) | {"stopReason": "tool_use"},
        answer([{"reasoningContent": "x"}]),
        answer([{"citationsContent": "x"}]),
    ],
)
def test_what_is_no_answer_is_broken(document: Any) -> None:
    with pytest.raises(UpstreamBroken):
        CODEC.decode_answer(document, BACK)


@pytest.mark.parametrize(
    "told",
    [
        [("contentBlockDelta", {"delta": 5, "contentBlockIndex": 0})],
        [("contentBlockDelta", {"delta": {"toolUse": {"input": "{"}}, "contentBlockIndex": 0})],
        [("contentBlockStart", {"start": {"toolUse": {"name": "x"}}, "contentBlockIndex": 0})],
        [("contentBlockDelta", {"delta": {"reasoningContent": {"redactedContent": "*"}}})],
        [("messageStart", [])],
        [("messageStart", {"role": "assistant"})],
    ],
)
def test_stream_that_cannot_be_read_is_broken(told: list[tuple[str, Any]]) -> None:
    reader = CODEC.decoder(BACK)
    with pytest.raises(UpstreamBroken):
        for name, document in told:
            list(reader.feed(name, json.dumps(document).encode()))
        list(reader.close())


def test_error_in_a_stream_is_told_as_it_came() -> None:
    with pytest.raises(ToldError) as caught:
        list(CODEC.decoder(BACK).feed("error", b'{"type":"error"}'))
    assert caught.value.body == b'{"type":"error"}'


def test_long_arguments_of_a_custom_tool_are_bounded() -> None:
    reader = CODEC.decoder(BACK)
    start = {"start": {"toolUse": {"toolUseId": "c", "name": "free"}}, "contentBlockIndex": 0}
    list(reader.feed("contentBlockStart", json.dumps(start).encode()))
    piece = {"delta": {"toolUse": {"input": "x" * 1024 * 1024}}, "contentBlockIndex": 0}
    with pytest.raises(UpstreamBroken):
        for _ in range(9):
            list(reader.feed("contentBlockDelta", json.dumps(piece).encode()))


def test_what_a_model_said_can_be_said_to_it_again() -> None:
    """An answer goes to a caller of chat completions, comes back with the next turn, and is as it was."""
    found = CODEC.decode_answer(answer(BLOCKS[:1] + BLOCKS[2:3] + BLOCKS[4:5]), BACK)
    results = [Result("c1", [Text("Rain")])]
    request = Request([HI, Turn("assistant", found.candidates[0].parts), Turn("user", results)], [LOOK])
    body = CODEC.encode_request(Back.of(request, Manners(model=NOVA)), Loss("x"))
    assert body["messages"][1]["content"] == BLOCKS[:1] + BLOCKS[2:3] + BLOCKS[4:5]
    assert CHAT in FRONTS
