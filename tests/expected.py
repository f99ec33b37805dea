"""Log lines that a test causes on purpose."""

from __future__ import annotations

import logging


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


class ExpectedLog:
    """What a test says about the log lines of WARNING or worse that it causes on purpose."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def take(self, part: str) -> list[str]:
        """Return the lines that hold `part`, at least one, and count them as expected."""
        found = [line for line in self._recorder.lines if part in line]
        assert found, f"no log line holds {part!r}; there are {self._recorder.lines}"
        self._recorder.lines = [line for line in self._recorder.lines if part not in line]
        return found
