"""How large a request will be, guessed before it is sent and, where nobody tells, afterwards.

No tokeniser: a request's bytes over the bytes per token that this endpoint's requests have had; for the
answer, what this caller's answers from this endpoint have usually been, and somewhat more. Both are learned
from what providers report. What looks like an encoded image counts as an image, not by its length.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from ..vocabulary import Usage

BYTES_PER_TOKEN = 4.0
STREAM_BYTES_PER_TOKEN = 200.0
ANSWER_BYTES_PER_TOKEN = 5.0
OUTPUT_TOKENS, OUTPUT_SPREAD = 300.0, 200.0
IMAGE_TOKENS = 1500
COST_NANOUSD = 10_000_000.0
UPLOAD_BYTES, UPLOAD_BYTES_PER_TOKEN = 1_500_000, 1500
"""About what a compressed recording, and an image, make."""
MAX_REMEMBERED = 20_000
SLOW_START, EVERY = 200, 8
_RATE = 0.1
_SPREADS = 2.0
_SEARCHED_BYTES = 8192
_ENCODED = re.compile(rb"[A-Za-z0-9+/]{4000,}={0,2}")
_MAXIMA = ("max_completion_tokens", "max_tokens", "max_output_tokens", "maxOutputTokens")
_NUMBER = re.compile(rb"[1-9]\d{0,8}")

Fields = Mapping[str, msgspec.Raw]


class _Size:
    """A running mean, and how far it usually is from what comes."""

    __slots__ = ("mean", "spread")

    def __init__(self, mean: float, spread: float) -> None:
        self.mean, self.spread = mean, spread

    def learn(self, value: float) -> None:
        miss = value - self.mean
        self.mean += _RATE * miss
        self.spread += _RATE * (abs(miss) - self.spread)


_UNKNOWN = _Size(OUTPUT_TOKENS, OUTPUT_SPREAD)


class _Endpoint:
    """What an endpoint's requests have been like."""

    __slots__ = ("answer_bytes", "cost", "input_bytes", "output", "requests", "stream_bytes")

    def __init__(self) -> None:
        self.input_bytes = BYTES_PER_TOKEN
        self.stream_bytes = STREAM_BYTES_PER_TOKEN
        self.answer_bytes = ANSWER_BYTES_PER_TOKEN
        self.output = _Size(OUTPUT_TOKENS, OUTPUT_SPREAD)
        self.cost = COST_NANOUSD
        self.requests = 0


class Estimator:
    """Learns by endpoint, and by caller and endpoint for at most `MAX_REMEMBERED` pairs."""

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._endpoints: dict[str, _Endpoint] = {}
        self._callers: OrderedDict[tuple[str, str], _Size] = OrderedDict()

    def __len__(self) -> int:
        return len(self._callers)

    def input_tokens(self, endpoint: str, body: bytes) -> int:
        """Guess what a request's body is in tokens."""
        text_bytes, images = _sizes(body)
        known = self._endpoints.get(endpoint)
        ratio = BYTES_PER_TOKEN if known is None else known.input_bytes
        return int(text_bytes / ratio) + images * IMAGE_TOKENS + 1

    def upload_tokens(self, announced_bytes: int | None) -> int:
        """Guess what a file is in tokens, of which only the length is known, or not even that."""
        return (UPLOAD_BYTES if announced_bytes is None else announced_bytes) // UPLOAD_BYTES_PER_TOKEN + 1

    def output_tokens(self, endpoint: str, caller: str, fields: Fields) -> int:
        """Guess what the answer will be, never above what the request allows."""
        known = self._endpoints.get(endpoint)
        size = self._callers.get((caller, endpoint)) or (known and known.output)
        size = size or _UNKNOWN
        guess = int(size.mean + _SPREADS * size.spread)
        choices = _number(fields.get("n")) or 1
        most = [limit for limit in (_number(fields.get(name)) for name in _MAXIMA) if limit is not None]
        return min([guess, *most]) * choices + 1

    def cost_nanousd(self, endpoint: str) -> int:
        """Guess what a request costs at a provider that tells only afterwards."""
        known = self._endpoints.get(endpoint)
        return max(1, int(COST_NANOUSD if known is None else known.cost))

    def of_cut(self, endpoint: str, body: bytes, passed_bytes: int, is_stream: bool) -> Usage:
        """Guess the usage of an answer whose usage nobody told, from what passed of it."""
        known = self._endpoints.get(endpoint) or _Endpoint()
        ratio = known.stream_bytes if is_stream else known.answer_bytes
        output = 0 if passed_bytes <= 0 else int(passed_bytes / ratio) + 1
        return Usage(self.input_tokens(endpoint, body), output, is_estimated=True)

    def learn(
        self, endpoint: str, caller: str, body: bytes, usage: Usage, passed_bytes: int, is_stream: bool
    ) -> None:
        """Take in what a request really was. `passed_bytes` is the length of its answer.

        Of a busy endpoint's requests one in `EVERY` is enough.
        """
        known = self._endpoints.get(endpoint)
        if known is None:
            known = self._endpoints[endpoint] = _Endpoint()
        known.requests += 1
        if known.requests > SLOW_START and known.requests % EVERY:
            return
        if usage.input_tokens and 0 < len(body) < _SEARCHED_BYTES:
            known.input_bytes += _RATE * (len(body) / usage.input_tokens - known.input_bytes)
        if usage.reported_nanousd is not None:
            known.cost += _RATE * (usage.reported_nanousd - known.cost)
        output = usage.output_tokens
        if not output:
            return
        if is_stream:
            known.stream_bytes += _RATE * (passed_bytes / output - known.stream_bytes)
        else:
            known.answer_bytes += _RATE * (passed_bytes / output - known.answer_bytes)
        known.output.learn(output)
        self._size(caller, endpoint, output).learn(output)

    def keep_only(self, endpoints: set[str]) -> None:
        """Forget endpoints that a new configuration does not have."""
        for name in [name for name in self._endpoints if name not in endpoints]:
            del self._endpoints[name]

    def _size(self, caller: str, endpoint: str, output: int) -> _Size:
        key = (caller, endpoint)
        size = self._callers.get(key)
        if size is None:
            if len(self._callers) >= self._max_remembered:
                self._callers.popitem(last=False)
            size = self._callers[key] = _Size(output, output / 2)
        else:
            self._callers.move_to_end(key)
        return size


def _sizes(body: bytes) -> tuple[int, int]:
    """Return how much of a body is text, in bytes, and how many encoded images or the like are in it."""
    if len(body) < _SEARCHED_BYTES or b"base64" not in body:
        return len(body), 0  # to look for it would cost more than all else that a long request does
    encoded = images = 0
    for match in _ENCODED.finditer(body):
        images += 1
        encoded += match.end() - match.start()
    return len(body) - encoded, images


def _number(raw: msgspec.Raw | None) -> int | None:
    if raw is None:
        return None
    text = bytes(raw)
    return int(text) if _NUMBER.fullmatch(text) else None
