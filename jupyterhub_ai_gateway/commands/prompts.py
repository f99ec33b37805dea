"""What a benchmark asks: conversations of a ShareGPT file, or made-up ones."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .token_file import Trouble

_WORDS = (
    "light",
    "water",
    "question",
    "answer",
    "number",
    "between",
    "because",
    "energy",
    "of",
    "the",
    "and",
    "is",
)


class Prompt(NamedTuple):
    """One question. Lengths are in tokens, as far as a length of a text tells."""

    text: str
    input_tokens: int
    output_tokens: int


def tokens_in(text: str) -> int:
    """Guess how many tokens a text has: four characters each."""
    return max(1, len(text) // 4)


def sharegpt(
    path: Path, count: int, dice: random.Random, output_tokens: int | None, context: int | None
) -> list[Prompt]:
    """Take questions of a ShareGPT file: the first turn of conversations with an answer."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Trouble(f"{path} is no ShareGPT file: {type(error).__name__}") from None
    pairs = list(_pairs(document))
    dice.shuffle(pairs)
    found: list[Prompt] = []
    for question, answer in pairs:
        prompt = Prompt(question, tokens_in(question), output_tokens or tokens_in(answer))
        is_short = prompt.input_tokens < 2 or prompt.output_tokens < 2
        is_long = context is not None and prompt.input_tokens + prompt.output_tokens > context
        if not is_short and not is_long:
            found.append(prompt)
        if len(found) == count:
            break
    if not found:
        raise Trouble(f"{path} has no conversation that fits.")
    return found


def _pairs(document: Any) -> Iterator[tuple[str, str]]:
    for entry in document if isinstance(document, list) else ():
        turns = entry.get("conversations", entry.get("conversation")) if isinstance(entry, dict) else None
        if isinstance(turns, list) and len(turns) >= 2:
            question, answer = (turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2])
            if isinstance(question, str) and isinstance(answer, str):
                yield question, answer


def made_up(
    count: int, dice: random.Random, input_tokens: int, output_tokens: int, range_ratio: float
) -> list[Prompt]:
    """Make questions of random words, from `range_ratio` of the lengths up to all of them."""

    def length(most: int) -> int:
        return dice.randint(max(1, int(most * range_ratio)), most)

    found = []
    for _ in range(count):
        words = [dice.choice(_WORDS) for _ in range(length(input_tokens))]
        found.append(Prompt(" ".join(words), len(words), length(output_tokens)))
    return found
