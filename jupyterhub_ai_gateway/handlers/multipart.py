"""A form with a file, read while it arrives, however it is cut. No input or output.

Source: RFC 7578 and RFC 2046 section 5.1 (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from typing import NamedTuple

from ..errors import RequestFault

MAX_HEAD_BYTES = 8192
MAX_PARTS = 32


class Begin(NamedTuple):
    """A part begins. `filename` is None for one that is no file."""

    name: str
    filename: str | None


class Piece(NamedTuple):
    """Some of the part's content."""

    data: bytes


Event = Begin | Piece


class Form:
    """Feed it pieces; what is in them comes back as events. `close` says whether that was all."""

    def __init__(self, content_type: str) -> None:
        boundary = _header(content_type).get_param("boundary", header="content-type")
        if not content_type.lower().startswith("multipart/form-data") or not isinstance(boundary, str):
            raise RequestFault("Send the file as a form: multipart/form-data.", slug="invalid_form")
        self._delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
        self._unread = bytearray(b"\r\n")  # so that the first delimiter is like all others
        self._stage = "preamble"
        self._parts = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Return what is known now. `RequestFault` when this is no form."""
        self._unread += data
        while True:
            stage = self._stage
            if stage in ("preamble", "body"):
                yield from self._content(stage == "body")
            elif stage == "delimited":
                self._after_delimiter()
            elif stage == "head":
                yield from self._head()
            else:
                self._unread.clear()
            if self._stage == stage:
                return

    def close(self) -> None:
        """Raise `RequestFault` unless the form has ended."""
        if self._stage != "end":
            raise _broken()

    def _content(self, is_told: bool) -> Iterator[Event]:
        at = self._unread.find(self._delimiter)
        sure = at if at >= 0 else max(0, len(self._unread) - len(self._delimiter) + 1)
        data = bytes(self._unread[:sure])
        if at >= 0:
            del self._unread[: at + len(self._delimiter)]
            self._stage = "delimited"
        else:
            del self._unread[:sure]
        if is_told and data:
            yield Piece(data)

    def _after_delimiter(self) -> None:
        if self._unread.startswith(b"--"):
            self._stage = "end"
            return
        at = self._unread.find(b"\r\n")
        if at > 0 and self._unread[:at].strip(b" \t"):
            raise _broken()
        if at >= 0:
            del self._unread[: at + 2]
            self._stage = "head"
        elif len(self._unread) > MAX_HEAD_BYTES:
            raise _broken()

    def _head(self) -> Iterator[Event]:
        at = self._unread.find(b"\r\n\r\n")
        if at < 0:
            if len(self._unread) > MAX_HEAD_BYTES:
                raise _broken()
            return
        head = bytes(self._unread[:at]).decode("utf-8", "replace")
        del self._unread[: at + 4]
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _broken()
        self._stage = "body"
        yield _begin(head)


def _begin(head: str) -> Begin:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            message = _header(value.strip(), "content-disposition")
            field = message.get_param("name", header="content-disposition")
            if isinstance(field, str):
                return Begin(field, message.get_filename())
    raise _broken()


def _header(value: str, name: str = "content-type") -> Message:
    message = Message()
    message[name] = "".join(letter for letter in value if letter.isprintable())
    return message


def _broken() -> RequestFault:
    return RequestFault("The form in this request is malformed, or was cut short.", slug="invalid_form")
