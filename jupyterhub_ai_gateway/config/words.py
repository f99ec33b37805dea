"""How errors name what they found: short, and never the value of what may be a secret."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

_SHOWN_LETTERS = 60
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")
_LONGEST_WORD = 20
_MOST_DIGITS = 4


def kind_of(value: object) -> str:
    """Say what a value is, without the value."""
    if value is None:
        return "nothing"
    for types, name in (
        (bool, "true or false"),
        (str, "text"),
        ((int, float), "a number"),
        (Mapping, "a mapping"),
        ((list, tuple), "a list"),
    ):
        if isinstance(value, types):
            return name
    return f"a value of type {type(value).__name__}"


def shown(value: object) -> str:
    """Say what was found where no secret belongs: numbers and texts as they are, cut when long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        if abs(value) < 1e15:
            return repr(value)
        return f"{value:g}" if isinstance(value, float) else "a huge number"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN_LETTERS else value[:_SHOWN_LETTERS] + "…")
    return kind_of(value)


def shown_key(key: object) -> str:
    """Name a key that nobody expected: as much of it as looks like a key.

    With a blank forgotten, `{openai_api_key:sk-123}` is a key that ends in a secret.
    """
    match = _KEY.match(str(key))
    text = match[0] if match else ""
    words = re.split(r"[_.\-]", text)
    digits = sum(letter.isdigit() for letter in text)
    if not match or digits > _MOST_DIGITS or max(map(len, words)) > _LONGEST_WORD:
        return "…"
    return text if text == key else f"{text}…"


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that `word` was probably meant to be."""
    known = sorted(names)
    close = difflib.get_close_matches(
        word.strip().lower(), [name.lower() for name in known], n=1, cutoff=0.6
    )
    return next((name for name in known if name.lower() == close[0]), None) if close else None


def hint(word: str, names: Iterable[str]) -> str:
    """Return "; did you mean X?", or nothing when nothing is near."""
    near = nearest(word, names)
    return f"; did you mean {near}?" if near else ""


def listed(names: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
