"""Server-sent events: bytes in, events out, however they were cut.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (read 2026-11).
"""

from __future__ import annotations

import re
from typing import Final

from .codec import broken

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
"""An event longer than this ends the stream: Responses repeats the whole answer in its last one."""
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_BOM = b"\xef\xbb\xbf"


class EventFrames:
    """Finds the events of a stream. An event is its name, which may be empty, and its data."""

    __slots__ = ("_held", "_is_first", "_longest")

    def __init__(self, longest: int = MAX_EVENT_BYTES) -> None:
        self._longest = longest
        self._held = b""
        self._is_first = True

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]:
        """Take a piece and return the events that it completes; `UpstreamBroken` for one too long."""
        data = self._held + piece
        if self._is_first and len(data) >= len(_BOM):
            self._is_first = False
            data = data.removeprefix(_BOM)
        events: list[tuple[str, bytes]] = []
        start = 0
        # A line end may be cut in two: look again at the last bytes that were held
        for end in _EVENT_END.finditer(data, max(0, len(self._held) - 3)):
            if end.end() > start:
                events += _read(data[start : end.end()])
                start = end.end()
        self._held = data[start:]
        if len(self._held) > self._longest:
            raise broken(f"an event of the stream is longer than {self._longest} bytes")
        return events

    def close(self) -> list[tuple[str, bytes]]:
        """Return the last event where the empty line after it is missing."""
        held, self._held = self._held, b""
        return _read(held)


def _read(event: bytes) -> list[tuple[str, bytes]]:
    name, lines = b"", []
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    return [(name.decode("utf-8", "replace"), b"\n".join(lines))] if lines else []
