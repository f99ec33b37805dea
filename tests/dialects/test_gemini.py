"""Google's answers and streams, however they are cut; and every field of the SDK's types has its verb."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.gemini import USAGE, event, piece, text_events
from fakes.upstream import BYTE_BY_BYTE, WHOLE, Cuts, random_cuts
from google.genai import types
from pydantic.alias_generators import to_camel

from jupyterhub_ai_gateway.dialects import gemini, gemini_request
from jupyterhub_ai_gateway.dialects.policy import GEMINI_REFUSED, GEMINI_VERBS, snake
from jupyterhub_ai_gateway.errors import Fault, LimitFault, UpstreamBroken
from jupyterhub_ai_gateway.vocabulary import Usage

CUTS: dict[str, Cuts] = {
    "whole": WHOLE,
    "bytes": BYTE_BY_BYTE,
    **{f"{i}": random_cuts(i) for i in range(5)},
}


def tap_of(is_array: bool) -> Any:
    tap = gemini.GeminiTap()
    return gemini.ArrayTap(tap) if is_array else tap


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (USAGE, Usage(20, 14, 11, 5)),
        ({"promptTokenCount": 7}, Usage(7)),
        ({"promptTokenCount": 7, "toolUsePromptTokenCount": 3}, Usage(10)),
        # where the total shows that thinking is counted within the candidates
        (
            {
                "promptTokenCount": 7,
                "candidatesTokenCount": 9,
                "thoughtsTokenCount": 5,
                "totalTokenCount": 16,
            },
            Usage(7, 9, None, 5),
        ),
        (
            {
                "promptTokenCount": 7,
                "promptTokensDetails": [
                    {"modality": "IMAGE", "tokenCount": 2},
                    {"modality": "AUDIO", "tokenCount": 3},
                    {"modality": "IMAGE", "tokenCount": 1},
                ],
                "candidatesTokenCount": 4,
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
            },
            Usage(7, 4, input_audio_tokens=3, input_image_tokens=3, output_audio_tokens=4),
        ),
        ({}, None),
        ({"promptTokenCount": -1}, None),
        ({"promptTokenCount": "many"}, None),
    ],
)
def test_usage_is_told_by_kind(told: dict[str, Any], usage: Usage | None) -> None:
    answer = gemini.read_answer(json.dumps(piece([{"text": "x"}], "STOP", told)).encode())
    assert answer == (usage, False, "gemini-3-pro-001")


def test_answer_that_is_no_answer() -> None:
    assert gemini.read_answer(b'{"error": {"code": 500}}').is_error
    with pytest.raises(UpstreamBroken):
        gemini.read_answer(b"[]x")


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("is_array", [False, True])
def test_tap_reads_a_stream_however_it_is_cut(cut: Cuts, is_array: bool) -> None:
    tap = tap_of(is_array)
    whole = b"".join(text_events())
    passed = b"".join(tap.feed(part) for part in cut(whole)) + tap.close()
    assert tap.usage == Usage(20, 14, 11, 5)
    assert tap.answered_model == "gemini-3-pro-001"
    if not is_array:
        assert passed == whole
    else:
        assert json.loads(passed) == [json.loads(each[6:]) for each in text_events()]


@pytest.mark.parametrize("is_array", [False, True])
def test_stream_without_a_finish_reason_has_no_end(is_array: bool) -> None:
    tap = tap_of(is_array)
    # what looks like an end is a caller's own text, or a function's argument
    args = {"functionCall": {"name": "f", "args": {"finishReason": "STOP", "error": {"code": 1}}}}
    tap.feed(event(piece([{"text": '"finishReason": "STOP"'}])) + event(piece([args])))
    assert not tap.has_error
    with pytest.raises(UpstreamBroken, match="in the middle"):
        tap.close()


def test_event_too_long_for_an_array_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemini, "MAX_EVENT_BYTES", 100)
    monkeypatch.setattr(gemini.GeminiTap, "max_held_bytes", 100)
    with pytest.raises(UpstreamBroken) as caught:
        tap_of(True).feed(b"data: " + b"x" * 200)
    assert "longer than 100 bytes" in str(caught.value.detail)


def test_error_in_google_s_words() -> None:
    fault = LimitFault("Slow down.", retry_after_s=1.2, more={"rule": "calls"})
    error = json.loads(gemini.error_object(fault, "req_1"))["error"]
    assert (error["code"], error["status"], error["message"]) == (429, "RESOURCE_EXHAUSTED", "Slow down.")
    info, retry = error["details"]
    assert info["metadata"] == {"rule": "calls", "request_id": "req_1"}
    assert retry["retryDelay"] == "2s"
    assert json.loads(gemini.error_object(Fault("x"), "r"))["error"]["status"] == "INTERNAL"
    assert gemini.error_event(fault, "r").startswith(b'data: {"error":')


def test_tuning_has_the_estimator_s_names() -> None:
    fields = {"generation_config": b'{"max_output_tokens": 5, "candidateCount": 2, "topK": 1}'}
    found = gemini_request.tuning(fields)  # type: ignore[arg-type]
    assert {name: bytes(raw) for name, raw in found.items()} == {"maxOutputTokens": b"5", "n": b"2"}


FORWARDED = {
    # of the request
    *("toolConfig", "safetySettings", "serviceTier", "continuationToken"),
    # of its generationConfig: how an answer is made
    *("temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences"),
    *("responseLogprobs", "logprobs", "presencePenalty", "frequencyPenalty", "seed"),
    *("responseMimeType", "responseSchema", "responseJsonSchema", "responseFormat", "responseModalities"),
    *("mediaResolution", "speechConfig", "audioTimestamp", "thinkingConfig", "imageConfig"),
    *("enableEnhancedCivicAnswers", "enableAffectiveDialog", "audioTranscriptionConfig"),
    "translationConfig",
    # of tools that work with nobody's account
    *("googleSearch", "googleMaps", "codeExecution", "computerUse", "functionDeclarations"),
    *("enterpriseWebSearch", "googleSearchRetrieval", "parallelAiSearch", "urlContext", "exaAiSearch"),
}
"""What concerns the one request alone, as far as we know: read before it is added to."""

OF_THE_SDK = {
    *("httpOptions", "shouldReturnHttpResponse", "automaticFunctionCalling", "automaticContinuation"),
    "generationOutputConfig",  # `outputConfig` on the wire
}
"""What google-genai keeps to itself, or sends under another name."""


@pytest.mark.parametrize("kind", [types.GenerateContentConfig, types.GenerationConfig, types.Tool])
def test_every_field_of_the_sdk_has_a_verb(kind: Any) -> None:
    decided = {*GEMINI_VERBS, *FORWARDED, *OF_THE_SDK}.union(*GEMINI_REFUSED.values())
    assert {to_camel(name) for name in kind.model_fields} - decided == set()


def test_every_verb_counts_in_both_spellings() -> None:
    assert all(GEMINI_VERBS[snake(name)] == verb for name, verb in GEMINI_VERBS.items())
    assert snake("generateContentRequest") == "generate_content_request"
    assert gemini_request.camel("cached_content") == "cachedContent"
