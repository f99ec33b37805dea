"""`jupyterhub-ai-gateway bench`: how fast a chat endpoint answers many questions at once.

The options, and the keys of the result, are those of FIRST's `benchmark-serving.py`, which has them from
SGLang's `bench_serving`. Lengths are counted in words and characters: there is no tokenizer to download.

Source: examples/load-testing of github.com/auroraGPT-ANL/inference-gateway (read 2026-11).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import aiohttp

from .prompts import Prompt, made_up, sharegpt, tokens_in
from .token_file import Trouble

BACKENDS = ("vllm", "openai", "vllm-chat", "openai-chat")
DATASETS = ("sharegpt", "random")
TIMEOUT_S = 6 * 3600
_TRIAL_TOKENS = 32
_BAR = 30


@dataclass(slots=True)
class Measured:
    """One question's answer. Times are in seconds; `gaps_s` lie between the pieces of the answer."""

    is_ok: bool = False
    took_s: float = 0.0
    first_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    output_tokens: int = 0
    error: str = ""


class Load:
    """Asks one URL. `extra` is what each request has besides the usual."""

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None,
        *,
        is_stream: bool,
        checks_tls: bool,
        extra: Mapping[str, Any],
    ) -> None:
        self._url = url
        self._model = model
        self._is_stream = is_stream
        self._extra = extra
        self._checks_tls = checks_tls
        self._headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Load:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._checks_tls)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, prompt: Prompt) -> Measured:
        """Ask one question."""
        assert self._session is not None  # noqa: S101 - entered
        measured = Measured()
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt.text}],
            "temperature": 0.0,
            "max_tokens": prompt.output_tokens,
            "stream": self._is_stream,
            **self._extra,
        }
        began = time.perf_counter()
        try:
            async with self._session.post(self._url, json=body, headers=self._headers) as response:
                if response.status != 200:
                    measured.error = f"status {response.status}: {_code(await response.text())}"
                    return measured
                if self._is_stream:
                    await self._read_stream(response, began, measured)
                else:
                    _read_answer(await response.json(), measured)
            measured.took_s = time.perf_counter() - began
            measured.first_s = measured.first_s or measured.took_s
            measured.is_ok = True
        except (
            aiohttp.ClientError,
            asyncio.TimeoutError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
        ) as error:
            measured.error = type(error).__name__
        return measured

    async def _read_stream(
        self, response: aiohttp.ClientResponse, began: float, measured: Measured
    ) -> None:
        """Read a stream as FIRST's script does: every line is a chunk with a choice, or `[DONE]`."""
        text = ""
        latest = began
        told: int | None = None
        async for raw in response.content:
            line = raw.decode().strip().removeprefix("data: ")
            if not line or line == "[DONE]":
                continue
            chunk = json.loads(line)
            usage = chunk.get("usage")
            if usage is not None:
                told = usage["completion_tokens"]
                if not chunk["choices"]:
                    continue  # asked for with --extra-request-body
            piece = chunk["choices"][0]["delta"].get("content")
            if piece:
                now = time.perf_counter()
                if measured.first_s:
                    measured.gaps_s.append(now - latest)
                else:
                    measured.first_s = now - began
                latest = now
                text += piece
        measured.output_tokens = tokens_in(text) if told is None else told


def _read_answer(document: dict[str, Any], measured: Measured) -> None:
    text = document["choices"][0]["message"]["content"] or ""
    usage = document.get("usage") or {}
    measured.output_tokens = usage.get("completion_tokens") or tokens_in(text)


def _code(text: str) -> str:
    """Return what an error is called; never what it says of the question."""
    try:
        error = json.loads(text)["error"]
        return str(error.get("code") or error.get("type") or "error")[:80]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "error"


async def run_load(
    load: Load,
    prompts: Sequence[Prompt],
    *,
    rate: float,
    concurrency: int | None,
    dice: random.Random,
    progress: Callable[[int, int], None],
) -> tuple[list[Measured], float]:
    """Ask everything; return the answers in the order of the questions, and how long it took.

    `rate` is in questions per second, by chance around that, infinite for all at once.
    """
    slots = asyncio.Semaphore(concurrency) if concurrency else None
    finished = failed = 0

    async def one(prompt: Prompt) -> Measured:
        nonlocal finished, failed
        if slots is None:
            measured = await load.ask(prompt)
        else:
            async with slots:
                measured = await load.ask(prompt)
        finished += 1
        failed += not measured.is_ok
        progress(finished, failed)
        return measured

    began = time.perf_counter()
    tasks = []
    for prompt in prompts:
        tasks.append(asyncio.create_task(one(prompt)))
        if not math.isinf(rate):
            await asyncio.sleep(dice.expovariate(rate))
    return list(await asyncio.gather(*tasks)), time.perf_counter() - began


def result_of(prompts: Sequence[Prompt], measured: Sequence[Measured], took_s: float) -> dict[str, Any]:
    """Return the numbers, under the names that FIRST's plots read."""
    well = [each for each in measured if each.is_ok]
    into = sum(prompt.input_tokens for prompt, each in zip(prompts, measured, strict=True) if each.is_ok)
    out = sum(each.output_tokens for each in well)
    per_token = [
        (each.took_s - each.first_s) / (each.output_tokens - 1) for each in well if each.output_tokens > 1
    ]
    gaps = [gap for each in well for gap in each.gaps_s]
    result: dict[str, Any] = {
        "duration": took_s,
        "completed": len(well),
        "failed": len(measured) - len(well),
        "total_input_tokens": into,
        "total_output_tokens": out,
        "total_output_tokens_retokenized": None,
        "request_throughput": len(well) / took_s,
        "input_throughput": into / took_s,
        "output_throughput": out / took_s,
        "total_throughput": (into + out) / took_s,
        "concurrency": sum(each.took_s for each in well) / took_s,
        "accept_length": None,
    }
    for name, values in (
        ("e2e_latency", [each.took_s for each in well]),
        ("ttft", [each.first_s for each in well]),
        ("tpot", per_token),
        ("itl", gaps),
    ):
        result.update(_spread(name, values))
    return result


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Return how values are spread, in milliseconds; None where there are none."""
    ms = sorted(value * 1000 for value in values)
    if not ms:
        return {f"{kind}_{name}_ms": None for kind in ("mean", "median", "std", "p95", "p99", "max")}
    return {
        f"mean_{name}_ms": statistics.fmean(ms),
        f"median_{name}_ms": statistics.median(ms),
        f"std_{name}_ms": statistics.pstdev(ms),
        f"p95_{name}_ms": _percentile(ms, 0.95),
        f"p99_{name}_ms": _percentile(ms, 0.99),
        f"max_{name}_ms": ms[-1],
    }


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile, between two values where it lies there."""
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(result: Mapping[str, Any]) -> str:
    """Write the numbers for people."""
    rows = [
        ("Successful requests", f"{result['completed']}"),
        ("Failed requests", f"{result['failed']}"),
        ("Duration", f"{result['duration']:.2f} s"),
        ("Requests", f"{result['request_throughput']:.2f} /s"),
        ("Input tokens, about", f"{result['total_input_tokens']} ({result['input_throughput']:.0f} /s)"),
        ("Output tokens", f"{result['total_output_tokens']} ({result['output_throughput']:.0f} /s)"),
        ("Requests at a time", f"{result['concurrency']:.1f}"),
    ]
    lines = [f"{name:<24}{value:>28}" for name, value in rows]
    lines.append(f"\n{'milliseconds':<24}{'mean':>10}{'median':>10}{'p95':>10}{'p99':>10}{'max':>10}")
    for name, title in (
        ("e2e_latency", "Whole answer"),
        ("ttft", "First token"),
        ("tpot", "Each further token"),
        ("itl", "Between two pieces"),
    ):
        cells = [result[f"{kind}_{name}_ms"] for kind in ("mean", "median", "p95", "p99", "max")]
        lines.append(
            f"{title:<24}" + "".join(f"{'-' if cell is None else f'{cell:.1f}':>10}" for cell in cells)
        )
    return "\n".join(lines)


def bench(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; the program's exit status."""
    arguments = parser_of_words().parse_args(words)
    try:
        result, errors = asyncio.run(_measure(arguments, environ))
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(summary(result))
    for text, count in errors.items():
        print(f"failed {count} times: {text}", file=sys.stderr)
    line = json.dumps(result)
    if arguments.print_json:
        print(line)
    path = Path(arguments.output_file or _usual_name(arguments))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    print(f"The numbers are in {path}", file=sys.stderr)
    return 0 if result["completed"] else 1


async def _measure(
    arguments: argparse.Namespace, environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, int]]:
    dice = random.Random(arguments.seed)  # noqa: S311 - no secret
    prompts = _prompts(arguments, dice)
    load = Load(
        _chat_url(arguments.base_url),
        arguments.model,
        environ.get("OPENAI_API_KEY") or environ.get("JUPYTERHUB_API_TOKEN"),
        is_stream=not arguments.disable_stream,
        checks_tls=not arguments.disable_ssl_verification,
        extra=_extra(arguments.extra_request_body),
    )
    async with load:
        first = prompts[0]
        trial = await load.ask(first._replace(output_tokens=min(first.output_tokens, _TRIAL_TOKENS)))
        if not trial.is_ok:
            raise Trouble(f"The first question failed, so no others were asked: {trial.error}")
        measured, took_s = await run_load(
            load,
            prompts,
            rate=arguments.request_rate,
            concurrency=arguments.max_concurrency,
            dice=dice,
            progress=_bar(len(prompts), is_shown=not arguments.disable_tqdm),
        )
    errors: dict[str, int] = {}
    for each in measured:
        if not each.is_ok:
            errors[each.error] = errors.get(each.error, 0) + 1
    about = {
        "backend": arguments.backend,
        "model": arguments.model,
        "dataset_name": arguments.dataset_name,
        "request_rate": None if math.isinf(arguments.request_rate) else arguments.request_rate,
        "max_concurrency": arguments.max_concurrency,
        "sharegpt_output_len": arguments.sharegpt_output_len,
        "random_input_len": arguments.random_input_len,
        "random_output_len": arguments.random_output_len,
        "random_range_ratio": arguments.random_range_ratio,
    }
    return {**about, **result_of(prompts, measured, took_s)}, errors


def _prompts(arguments: argparse.Namespace, dice: random.Random) -> list[Prompt]:
    if arguments.dataset_name == "random":
        return made_up(
            arguments.num_prompts,
            dice,
            arguments.random_input_len,
            arguments.random_output_len,
            arguments.random_range_ratio,
        )
    if not arguments.dataset_path:
        raise Trouble("--dataset-name sharegpt needs --dataset-path: nothing is downloaded here.")
    return sharegpt(
        Path(arguments.dataset_path),
        arguments.num_prompts,
        dice,
        arguments.sharegpt_output_len,
        arguments.sharegpt_context_len,
    )


def _bar(total: int, *, is_shown: bool) -> Callable[[int, int], None]:
    """Return what draws how far it is, on a terminal."""
    began = time.perf_counter()
    if not is_shown or not sys.stderr.isatty():
        return lambda finished, failed: None

    def draw(finished: int, failed: int) -> None:
        filled = _BAR * finished // total
        speed = finished / max(1e-9, time.perf_counter() - began)
        bar = "█" * filled + "·" * (_BAR - filled)
        end = "\n" if finished == total else ""
        text = f"\r{bar} {finished}/{total}, {failed} failed, {speed:.1f}/s "
        print(text, end=end, file=sys.stderr, flush=True)

    return draw


def _chat_url(base_url: str) -> str:
    """Return where to ask: the URL as it is when it ends so (as FIRST's script wants it), else below it."""
    base = base_url.rstrip("/")
    return base if base.endswith("chat/completions") else f"{base}/chat/completions"


def _extra(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Trouble("--extra-request-body must be a JSON object.")
    return found


def _usual_name(arguments: argparse.Namespace) -> str:
    day = datetime.now(timezone.utc).strftime("%m%d")
    return f"{arguments.backend}_{day}_{arguments.num_prompts}_{arguments.dataset_name}.jsonl"


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _rate(text: str) -> float:
    rate = float(text)
    if not rate > 0:
        raise argparse.ArgumentTypeError("must be above 0, or inf")
    return rate


def parser_of_words() -> argparse.ArgumentParser:
    """Return what reads the words after the command."""
    parser = argparse.ArgumentParser(
        prog="jupyterhub-ai-gateway bench",
        description="Ask a chat endpoint many questions, and say how fast it answers. "
        "The token is in OPENAI_API_KEY, or JUPYTERHUB_API_TOKEN.",
    )
    add = parser.add_argument
    add("--backend", choices=BACKENDS, default="vllm", help="all of them are asked as OpenAI's chat is")
    add("--base-url", required=True, help="ends in chat/completions, or is what OpenAI's clients are given")
    add("--model", required=True, help="which model is asked")
    add("--dataset-name", choices=DATASETS, default="sharegpt", help="where the questions come from")
    add("--dataset-path", help="the ShareGPT file")
    add("--num-prompts", type=_count, default=1000, help="how many questions")
    add("--request-rate", type=_rate, default=math.inf, help="questions per second; all at once unless set")
    add("--max-concurrency", type=_count, help="how many at a time; any number unless set")
    add("--output-file", help="the file to which a line of JSON is appended")
    add(
        "--sharegpt-output-len",
        type=_count,
        help="ask for so many tokens, whatever the file's answers have",
    )
    add("--sharegpt-context-len", type=_count, help="leave out what is longer than that")
    add("--random-input-len", type=_count, default=256, help="words of a random question")
    add("--random-output-len", type=_count, default=128, help="tokens of its answer")
    add(
        "--random-range-ratio",
        type=float,
        default=0.5,
        help="the shortest of both, as a share of the longest",
    )
    add("--extra-request-body", help="a JSON object that each request has besides")
    add("--disable-stream", action="store_true", help="ask for whole answers")
    add("--disable-ssl-verification", action="store_true", help="take any certificate")
    add("--disable-tqdm", action="store_true", help="show no progress")
    add("--print-json", action="store_true", help="print the line of JSON as well")
    add("--seed", type=int, default=1, help="the same questions for the same number")
    return parser
