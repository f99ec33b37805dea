"""A form with files, `multipart/form-data`, as it passes: taken apart and put together piece by piece.

What leaves has a boundary that its sender cannot know, and heads of our own making. So whoever reads it
afterwards finds the parts that were found here, however lenient a reader it is.

Source: RFC 7578 and RFC 2046 section 5.1.1 (read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from ..errors import RequestFault

MAX_HEAD_BYTES = 8192
MAX_PARTS = 1000
_MAX_NAME_CHARS = 256

_PREAMBLE, _CONTENT, _DELIMITER, _HEAD, _DONE = range(5)
_FORM = re.compile(r"\s*multipart/form-data\s*(?:;|$)", re.IGNORECASE)
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\\]{1,70})"|([^\s;,"]{1,70}))\s*(?:;|$)', re.IGNORECASE)
_PARAMETER = r';\s*([A-Za-z*]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]+)\s*'
_DISPOSITION = re.compile(rf"\s*form-data\s*(?:{_PARAMETER})+", re.IGNORECASE)
_PARAMETERS = re.compile(_PARAMETER)
_NAME = re.compile(r'[^"\\\x00-\x1f\x7f]+')
_MEDIA_TYPE = re.compile(
    r'[A-Za-z0-9!#$&^_.+\-]{1,63}/[A-Za-z0-9!#$&^_.+\-]{1,63}(?:\s*;\s*[A-Za-z0-9\-]+=[A-Za-z0-9._+"\-]{1,64}){0,4}'
)
_UNSAFE: Final = {code: f"%{code:02X}" for code in (*range(32), 34, 92, 127)}
_CUT_ENDS = ((b"",), (b"", b"-", b"\r"))
"""What may follow a boundary on its line, but for blanks: with the whole line here, and without."""
_PLAIN = ("binary", "8bit", "7bit")


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part; its content follows. `filename` is None for a plain field."""

    name: str
    filename: str | None = None
    content_type: str | None = None


Event = Part | bytes
"""A part begins, or goes on."""


def is_form(content_type: str) -> bool:
    """Say whether a request's Content-Type is that of a form with files."""
    return _FORM.match(content_type) is not None


def boundary_of(content_type: str) -> bytes:
    """Return what stands between the parts. `RequestFault` for a Content-Type that does not say."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise _malformed("its Content-Type has no boundary")
    return (found[1] or found[2]).encode("latin-1", "replace")


class FormReader:
    """Takes a form apart. `feed` every piece, however it was cut, then `close`.

    Holds no more than a head, or what may be the beginning of a boundary.
    """

    __slots__ = ("_delimiter", "_held", "_parts", "_stage")

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = b"\r\n"  # the first boundary may be the first line
        self._stage = _PREAMBLE
        self._parts = 0

    @property
    def is_done(self) -> bool:
        """Say whether the last part is over."""
        return self._stage == _DONE

    def feed(self, piece: bytes) -> list[Event]:
        """Return what is in a piece. `RequestFault` when it is no form."""
        self._held += piece
        events: list[Event] = []
        while self._step(events):
            pass
        return events

    def close(self) -> None:
        """Say that there is no more. `RequestFault` when that is too early."""
        if self._stage != _DONE:
            raise _malformed("it ends in the middle")

    def _step(self, events: list[Event]) -> bool:
        """Take one thing out of what is held; False when more has to come first."""
        if self._stage in (_CONTENT, _PREAMBLE):
            return self._read_content(events)
        if self._stage == _DELIMITER:
            return self._read_delimiter()
        if self._stage == _HEAD:
            return self._read_head(events)
        self._held = b""  # what comes after the last boundary is nobody's
        return False

    def _read_content(self, events: list[Event]) -> bool:
        held, delimiter = self._held, self._delimiter
        at = held.find(delimiter)
        end = at if at >= 0 else max(0, len(held) - len(delimiter) + 1)
        if end and self._stage == _CONTENT:
            events.append(held[:end])
        if at < 0:
            self._held = held[end:]
            return False
        self._held = held[at + len(delimiter) :]
        self._stage = _DELIMITER
        return True

    def _read_delimiter(self) -> bool:
        held = self._held
        if held.startswith(b"--"):
            self._stage = _DONE
            return True
        end = held.find(b"\r\n")
        padding = (held if end < 0 else held[:end]).strip(b" \t")
        if len(held if end < 0 else held[:end]) > 64 or padding not in _CUT_ENDS[end < 0]:
            raise _malformed("something else follows a boundary on its line")
        if end < 0:
            return False
        self._held = held[end:]  # the line's end, which begins an empty head too
        self._stage = _HEAD
        return True

    def _read_head(self, events: list[Event]) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if (len(self._held) if end < 0 else end) > MAX_HEAD_BYTES:
            raise _malformed("a part's head is too long")
        if end < 0:
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} parts")
        events.append(_read_part(self._held[2:end]))
        self._held = self._held[end + 4 :]
        self._stage = _CONTENT
        return True


class FormWriter:
    """Puts a form together. What `begin`, `add` and `close` return is sent, in that order.

    The fields `given` come first, in the place of any that are there; those of `replaced` take the place
    of one that is there. `boundary` must be such that no content can hold it.
    """

    __slots__ = ("_boundary", "_given", "_is_open", "_is_skipping", "_replaced", "_seen")

    def __init__(self, boundary: str, given: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        self._boundary = boundary
        self._given = given
        self._replaced = replaced
        self._seen: set[str] = set()
        self._is_open = False  # True once a part has begun, whose line has no end yet
        self._is_skipping = False  # True while the content of a part is left out

    @property
    def content_type(self) -> str:
        """Return the form's Content-Type."""
        return f"multipart/form-data; boundary={self._boundary}"

    def begin(self) -> bytes:
        """Return the fields that are ours."""
        return b"".join(self._field(name, value) for name, value in self._given.items())

    def add(self, event: Event) -> bytes:
        """Return what to send of an event; nothing for a part that is left out."""
        if isinstance(event, bytes):
            return b"" if self._is_skipping else event
        name = event.name
        self._is_skipping = name in self._given or name in self._replaced or name == "model"
        if not self._is_skipping:
            return self._head(event)
        if name in self._given or name not in self._replaced or name in self._seen:
            return b""
        self._seen.add(name)
        return self._field(name, self._replaced[name])

    def close(self) -> bytes:
        """Return the end."""
        return f"{self._line_end()}--{self._boundary}--\r\n".encode("ascii")

    def _field(self, name: str, value: str) -> bytes:
        return self._head(Part(name)) + value.encode()

    def _head(self, part: Part) -> bytes:
        lines = [
            f'{self._line_end()}--{self._boundary}\r\nContent-Disposition: form-data; name="{part.name}"'
        ]
        if part.filename is not None:
            lines[0] += f'; filename="{part.filename.translate(_UNSAFE)}"'
        if part.content_type is not None:
            lines.append(f"Content-Type: {part.content_type}")
        self._is_open = True
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _line_end(self) -> str:
        return "\r\n" if self._is_open else ""


def _read_part(head: bytes) -> Part:
    """Read a part's head, without the empty line after it."""
    try:
        text = head.decode()
    except UnicodeDecodeError:
        raise _malformed("a part's head is not UTF-8") from None
    fields: dict[str, str] = {}
    for line in text.split("\r\n"):
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name != name.strip() or name in fields or "\r" in value or "\n" in line:
            raise _malformed("a part's head cannot be read")
        fields[name] = value.strip()
    if fields.get("content-transfer-encoding", "binary").lower() not in _PLAIN:
        raise _malformed("a part is encoded (Content-Transfer-Encoding); send it as it is")
    content_type = fields.get("content-type")
    if content_type is not None and _MEDIA_TYPE.fullmatch(content_type) is None:
        raise _malformed("a part's Content-Type is none")
    return _named(fields.get("content-disposition", ""), content_type)


def _named(disposition: str, content_type: str | None) -> Part:
    pairs = _PARAMETERS.findall(disposition)
    found = {name.lower(): _unquoted(value) for name, value in pairs}
    name = found.get("name", "")
    is_read = _DISPOSITION.fullmatch(disposition) is not None and len(found) == len(pairs)
    if not is_read or _NAME.fullmatch(name) is None or len(name) > _MAX_NAME_CHARS:
        raise _malformed("a part has no name that can be read (Content-Disposition)")
    filename = found.get("filename")
    if filename is None and "filename*" in found:
        filename = unquote(found["filename*"].rpartition("'")[2])
    return Part(name, filename, content_type)


def _unquoted(value: str) -> str:
    """Take off the quotation marks, and the backslash before one within."""
    return value[1:-1].replace('\\"', '"') if value.startswith('"') else value


def _malformed(problem: str) -> RequestFault:
    return RequestFault(f"The form cannot be read: {problem}.", slug="invalid_form")
