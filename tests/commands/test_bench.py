"""`bench`, against a real gateway, and its numbers against ones that were worked out by hand."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes.upstream import FakeUpstream, Reply, chat_chunk
from served import KEY, PREFIX, Served, endpoint, served

from jupyterhub_ai_gateway.commands.bench import Measured, _bar, bench, result_of, summary
from jupyterhub_ai_gateway.commands.prompts import Prompt, made_up, sharegpt
from jupyterhub_ai_gateway.commands.token_file import Trouble

KEYS = {
    *("backend", "dataset_name", "request_rate", "max_concurrency", "sharegpt_output_len"),
    *("random_input_len", "random_output_len", "random_range_ratio", "duration", "completed"),
    *("total_input_tokens", "total_output_tokens", "total_output_tokens_retokenized"),
    *("request_throughput", "input_throughput", "output_throughput", "concurrency", "accept_length"),
    *(
        f"{kind}_{what}_ms"
        for what in ("e2e_latency", "ttft", "tpot", "itl")
        for kind in ("mean", "median", "std", "p99")
    ),
    "p95_itl_ms",
}
"""What FIRST's script writes."""


async def run(
    gateway: Served, folder: Path, path: str, *words: str, token: str = "t-alice"
) -> tuple[int, str, str]:
    """Run the command in this process, with the words of a command line."""
    words = (
        "--base-url",
        f"{gateway.url}{PREFIX}{path}",
        "--output-file",
        str(folder / "out.jsonl"),
        *words,
    )
    out, err = io.StringIO(), io.StringIO()

    def measure() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                return bench(words, {"OPENAI_API_KEY": token})
            except SystemExit as end:
                assert isinstance(end.code, int)
                return end.code

    return await asyncio.to_thread(measure), out.getvalue(), err.getvalue()


def conversations(folder: Path) -> Path:
    file = folder / "ShareGPT.json"
    entries: list[Any] = [
        {
            "conversations": [
                {"from": "human", "value": f"Question {n} " * 5},
                {"from": "gpt", "value": "word " * 20},
            ]
        }
        for n in range(30)
    ]
    odd = [{"conversations": []}, {"conversation": [{"value": 1}, {}]}, 5, {"conversations": [1, 2]}]
    file.write_text(json.dumps([*entries, *odd]))
    return file


async def test_a_run_with_firsts_flags_has_firsts_keys_and_no_failure(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(up, [endpoint("chat", up, cluster="sophia", framework="vllm")]) as gateway:
            code, out, err = await run(
                gateway,
                tmp_path,
                "resource_server/v1/chat/completions",
                *("--backend", "vllm", "--model", "chat", "--dataset-name", "sharegpt"),
                *("--dataset-path", str(conversations(tmp_path))),
                *("--num-prompts", "20", "--request-rate", "500", "--max-concurrency", "4"),
                *("--disable-ssl-verification", "--extra-request-body", '{"top_p": 0.5}'),
            )
            assert code == 0, err
            (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
            result = json.loads(line)
            assert set(result) >= KEYS
            assert (result["completed"], result["failed"]) == (20, 0)
            assert (result["request_rate"], result["max_concurrency"]) == (500, 4)
            assert result["median_ttft_ms"] <= result["median_e2e_latency_ms"]
            assert "Successful requests" in out
            assert re.search(r"First token +[0-9.]+", out)
            assert len(up.requests) == 21  # one to begin with
            first = up.requests[0].document
            assert first["max_tokens"] <= 32
            assert (first["temperature"], first["stream"], first["top_p"]) == (0.0, True, 0.5)
            assert first["messages"][0]["role"] == "user"
            code, _, _ = await run(
                gateway,
                tmp_path,
                "v1",
                *("--model", "chat", "--dataset-name", "random", "--num-prompts", "3"),
                *("--disable-stream", "--print-json"),
            )
            assert code == 0
            assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
            assert up.requests[-1].document["stream"] is False


async def test_failures_are_counted_by_what_they_are_called(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        limited = endpoint("chat", up, limit={"calls": 6, "renewal_period": "day"})
        async with served(up, [limited]) as gateway:
            words = ("--model", "chat", "--dataset-name", "random", "--num-prompts", "10")
            code, out, err = await run(gateway, tmp_path, "v1", *words)
            assert code == 0
            assert re.search(r"Failed requests +5\b", out)
            assert "failed 5 times: status 429: rate_limit_exceeded" in err
            code, _, err = await run(gateway, tmp_path, "v1", *words, token="wrong")
            assert (code, "invalid_api_key" in err) == (1, True)


async def test_what_is_no_chunk_is_a_failure_as_in_firsts_script(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(
            Reply.stream(chat_chunk({"content": "a"}), "[DONE]"),
            Reply.stream(chat_chunk({"content": "a"}), {"error": {"message": "x", "type": "y"}}),
        )
        async with served(up) as gateway:
            code, out, _ = await run(
                gateway,
                tmp_path,
                "v1",
                *("--model", "chat", "--dataset-name", "random", "--num-prompts", "2"),
                *("--max-concurrency", "1"),
            )
            assert code == 0
            assert re.search(r"Failed requests +1\b", out)


@pytest.mark.parametrize(
    "words",
    [
        ("--num-prompts", "0"),
        ("--request-rate", "0"),
        ("--backend", "nothing"),
        ("--dataset-name", "sharegpt"),
        ("--dataset-name", "sharegpt", "--dataset-path", "nowhere.json"),
        ("--dataset-name", "random", "--extra-request-body", "[]"),
    ],
)
async def test_words_that_are_wrong_are_said(tmp_path: Path, words: tuple[str, ...]) -> None:
    async with served(None) as gateway:
        code, out, err = await run(gateway, tmp_path, "v1", "--model", "chat", *words)
        assert (code != 0, out, err != "") == (True, "", True)
        assert "Traceback" not in err


def test_numbers_are_those_that_one_works_out_by_hand() -> None:
    prompts = [Prompt("a", 10, 5), Prompt("b", 20, 5), Prompt("c", 30, 5)]
    measured = [
        Measured(True, 1.0, 0.2, [0.1, 0.3], 5),
        Measured(True, 3.0, 0.4, [0.5], 1),
        Measured(False, error="status 500"),
    ]
    found = result_of(prompts, measured, 4.0)
    assert (found["completed"], found["failed"]) == (2, 1)
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (30, 6)
    assert (found["request_throughput"], found["output_throughput"]) == (0.5, 1.5)
    assert found["concurrency"] == 1.0
    assert (found["mean_e2e_latency_ms"], found["p99_e2e_latency_ms"]) == (2000, pytest.approx(2980))
    assert found["median_ttft_ms"] == pytest.approx(300)
    assert found["mean_tpot_ms"] == pytest.approx(200)  # 0.8 s for four further tokens
    assert found["max_itl_ms"] == 500
    none = result_of(prompts, [Measured()] * 3, 1.0)
    assert none["median_ttft_ms"] is None
    assert "-" in summary(none)


def test_progress_is_drawn_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        is_terminal = True

        def isatty(self) -> bool:
            return self.is_terminal

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    draw = _bar(4, is_shown=True)
    draw(2, 1)
    draw(4, 1)
    first, second = screen.getvalue().split("\r")[1:]
    assert first.count("█") == 15
    assert "2/4, 1 failed" in first
    assert second.count("█") == 30
    assert second.endswith("\n")
    _bar(4, is_shown=False)(1, 0)
    screen.is_terminal = False
    _bar(4, is_shown=True)(1, 0)
    assert screen.getvalue().count("\r") == 2


def test_the_same_seed_makes_the_same_questions(tmp_path: Path) -> None:
    def made(seed: int) -> list[Prompt]:
        return made_up(20, random.Random(seed), 50, 30, 0.5)

    assert made(1) == made(1) != made(2)
    assert all(25 <= each.input_tokens <= 50 and 15 <= each.output_tokens <= 30 for each in made(1))
    file = conversations(tmp_path)
    some = sharegpt(file, 5, random.Random(1), None, None)
    assert len(some) == 5
    assert sharegpt(file, 100, random.Random(1), 9, None)[0].output_tokens == 9
    assert len(sharegpt(file, 100, random.Random(1), None, None)) == 30
    with pytest.raises(Trouble):
        sharegpt(file, 5, random.Random(1), None, 3)


def test_the_command_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jupyterhub_ai_gateway", "bench", "--help"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for flag in (
        *("--backend", "--model", "--base-url", "--dataset-name", "--dataset-path", "--output-file"),
        *("--num-prompts", "--request-rate", "--max-concurrency", "--disable-ssl-verification"),
        *("--disable-stream", "--extra-request-body"),
    ):
        assert flag in done.stdout
