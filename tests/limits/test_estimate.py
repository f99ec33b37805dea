"""How large a request is thought to be: learned, bounded by what it asks for, blind to encoded images."""

from __future__ import annotations

import base64
import json
import os

import msgspec
import pytest

from jupyterhub_ai_gateway.limits.estimate import EVERY, IMAGE_TOKENS, SLOW_START, Estimator
from jupyterhub_ai_gateway.vocabulary import Usage


def fields(**values: object) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in values.items()}


def taught(output: int, times: int = 50, body: bytes = b"x" * 400) -> Estimator:
    estimator = Estimator()
    for _ in range(times):
        estimator.learn("chat", "user:alice", body, Usage(100, output), output * 6, False)
    return estimator


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_output_is_never_above_what_the_request_allows(name: str) -> None:
    estimator = taught(1000)
    assert estimator.output_tokens("chat", "user:alice", fields(**{name: 16})) == 17
    assert estimator.output_tokens("chat", "user:alice", fields(**{name: 16}, n=4)) == 65


def test_a_huge_maximum_is_not_what_is_reserved() -> None:
    estimator = taught(50)
    assert 50 <= estimator.output_tokens("chat", "user:alice", fields(max_tokens=1_000_000)) < 200
    assert estimator.output_tokens("new", "user:bob", fields(max_tokens=1_000_000)) < 1000


@pytest.mark.parametrize("value", [None, "many", -5, 0, 1.5, True, [], 10**30])
def test_a_maximum_that_is_none_is_passed_over(value: object) -> None:
    estimator = taught(50)
    usual = estimator.output_tokens("chat", "user:alice", {})
    assert estimator.output_tokens("chat", "user:alice", fields(max_tokens=value)) == usual


def test_a_caller_s_own_answers_count_before_everybody_s() -> None:
    estimator = taught(1000)
    for _ in range(50):
        estimator.learn("chat", "user:bob", b"x", Usage(1, 10), 60, False)
    assert estimator.output_tokens("chat", "user:bob", {}) < 100
    assert estimator.output_tokens("chat", "user:alice", {}) >= 1000


def test_input_is_bytes_over_the_endpoint_s_own_ratio() -> None:
    body = b"x" * 4000
    assert Estimator().input_tokens("chat", body) == 1001
    estimator = taught(10, times=200, body=b"x" * 800)  # 8 bytes per token
    assert estimator.input_tokens("chat", body) == pytest.approx(500, rel=0.05)
    assert estimator.input_tokens("other", body) == 1001


def test_an_encoded_image_counts_as_one_whatever_its_length() -> None:
    image = base64.b64encode(os.urandom(3_000_000))
    body = b'{"messages":[{"content":"data:image/png;base64,' + image + b'"},{"content":"Hi"}]}'
    assert IMAGE_TOKENS < Estimator().input_tokens("chat", body) < IMAGE_TOKENS + 100


def test_an_answer_that_was_cut_is_estimated_from_what_passed() -> None:
    estimator = Estimator()
    for _ in range(100):
        estimator.learn("chat", "user:alice", b"x" * 400, Usage(100, 50), 50 * 300, True)
    cut = estimator.of_cut("chat", b"x" * 400, 20 * 300, True)
    assert cut.is_estimated
    assert cut.input_tokens == pytest.approx(100, abs=3)
    assert cut.output_tokens == pytest.approx(20, abs=2)
    assert estimator.of_cut("chat", b"", 0, True).output_tokens == 0


def test_a_busy_endpoint_goes_on_learning() -> None:
    estimator = taught(10, times=SLOW_START)
    for _ in range(100 * EVERY):
        estimator.learn("chat", "user:alice", b"x" * 400, Usage(100, 500), 3000, False)
    assert estimator.output_tokens("chat", "user:alice", {}) >= 490


def test_what_is_remembered_is_bounded_and_goes_with_its_endpoint() -> None:
    estimator = Estimator(max_remembered=10)
    for number in range(50):
        estimator.learn("chat", f"user:{number}", b"x", Usage(1, 1), 5, False)
    assert len(estimator) == 10
    estimator.keep_only(set())
    assert estimator.input_tokens("chat", b"x" * 400) == 101


def test_a_provider_that_tells_costs_is_learned_from() -> None:
    estimator = Estimator()
    assert estimator.cost_nanousd("chat") > 0
    for _ in range(100):
        estimator.learn("chat", "u", b"x", Usage(1, 1, reported_nanousd=5_000), 5, False)
    assert estimator.cost_nanousd("chat") == pytest.approx(5_000, rel=0.1)


def test_a_file_is_guessed_by_its_length_and_teaches_nothing_of_texts() -> None:
    estimator = Estimator()
    before = estimator.input_tokens("chat", b"x" * 400)
    for _ in range(100):
        estimator.learn("chat", "user:alice", b"", Usage(1000, 10), 60, False)
    assert estimator.input_tokens("chat", b"x" * 400) == before
    assert estimator.upload_tokens(3_000_000) == 2001
    assert estimator.upload_tokens(None) == 1001
