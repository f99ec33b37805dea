"""Collects everything that is wrong with a document, so that it can be put right in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import ConfigFault
from .words import hint, kind_of, shown, shown_key

T = TypeVar("T")
Locate = Callable[[str], int | None]
"""Finds the line of a path such as `endpoints[3].limit.calls`."""


class Report:
    """What was found wrong (`error`) or strange (`warn`), each with its path, in the document's order."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str]] = []
        self.warnings: list[tuple[str, str]] = []

    def error(self, path: str, problem: str) -> None:
        """Note what must be put right. What is read from there is a placeholder that nobody will see."""
        self.errors.append((path, problem))

    def warn(self, path: str, problem: str) -> None:
        """Note what is probably not meant."""
        self.warnings.append((path, problem))

    def collect(self, read: Callable[[], T], placeholder: T) -> T:
        """Return what `read` returns; on a `ConfigFault` note it and return the placeholder."""
        try:
            return read()
        except ConfigFault as fault:
            self.error(fault.path, fault.problem)
            return placeholder

    def fault(self, files: Sequence[Path], locate: Locate) -> ConfigFault:
        """Return one fault with all errors, a line for each."""
        (path, first), *others = [(path, _with_line(path, text, locate)) for path, text in self.errors]
        problem = "\n".join([first, *(f"{path}: {text}" for path, text in others)])
        return ConfigFault(path, problem, files=tuple(files))

    def warning_lines(self, locate: Locate) -> tuple[str, ...]:
        """Return the warnings, each with its path."""
        return tuple(f"{path}: {_with_line(path, text, locate)}" for path, text in self.warnings)


class Block:
    """One mapping of the document. It remembers which keys were asked for; the others are unknown."""

    def __init__(self, value: object, path: str, report: Report) -> None:
        self.path = path
        self.report = report
        self._values: Mapping[object, object] = {}
        self._asked: set[str] = set()
        self.is_mapping = isinstance(value, Mapping)
        if isinstance(value, Mapping):
            self._values = value
        else:
            report.error(path, f"must be a mapping, found {kind_of(value)}")

    def __contains__(self, key: str) -> bool:
        """Say whether a key is there with a value other than null."""
        return self._values.get(key) is not None

    def has(self, key: str) -> bool:
        """Say whether a key is there, be it null."""
        return key in self._values

    def at(self, key: str) -> str:
        """Return the path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str) -> object:
        """Return a value, None for one that is null or missing."""
        self._asked.add(key)
        return self._values.get(key)

    def error(self, key: str, problem: str) -> None:
        """Note an error at a key."""
        self.report.error(self.at(key), problem)

    def missing(self, key: str, problem: str) -> None:
        """Note that a required key is missing, unless the whole mapping is."""
        if self.is_mapping:
            self.error(key, problem)

    def text(self, key: str) -> str | None:
        """Return a text without blanks around it, None when it is not there."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            quotes = "; put it in quotes" if isinstance(value, (bool, int, float)) else ""
            self.error(key, f"must be text, found {shown(value)}{quotes}")
            return ""
        if not value.strip() or not value.isprintable():
            self.error(
                key,
                "must be text of one line, found "
                + ("none" if not value.strip() else "a control character"),
            )
            return ""
        return value.strip()

    def required_text(self, key: str) -> str:
        """Return a text that must be there."""
        value = self.text(key)
        if value is None:
            self.missing(key, "is required")
        return value or ""

    def unknown(self) -> Iterable[object]:
        """Return the keys that nobody asked for."""
        return [key for key in self._values if key not in self._asked]

    def warn_unknown(self, also: Iterable[str] = ()) -> None:
        """Warn of keys that have no meaning here. MLflow ignores them, so its files may have some."""
        for key in self.unknown():
            self.report.warn(
                self.at(shown_key(key)), "is not a key of this place and is ignored" + self._hint(key, also)
            )

    def refuse_unknown(self, also: Iterable[str] = ()) -> None:
        """Refuse keys that have no meaning here: they can only be mistakes."""
        for key in self.unknown():
            self.error(
                shown_key(key), "is not a key of this place" + self._hint(key, also) + self._allowed(also)
            )

    def _hint(self, key: object, also: Iterable[str]) -> str:
        return hint(str(key), {*self._asked, *also})

    def _allowed(self, also: Iterable[str]) -> str:
        names = sorted({*self._asked, *also})
        return f" (known: {', '.join(names)})" if names else " (there are none)"


def _with_line(path: str, text: str, locate: Locate) -> str:
    line = locate(path)
    return text if line is None else f"{text} (line {line})"
