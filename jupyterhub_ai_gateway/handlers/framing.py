"""HTTP/1 framing without sockets: bytes in, requests out; an answer's status and headers in, bytes out.

Two readers have to agree on every request head. llhttp (by way of httptools) sees each byte as it
arrives and refuses what is malformed; the lines here find the head's end and the body's length on their
own and refuse what llhttp lets through. Neither calls back per header, which is where a request's time
would go. Bodies are framed here alone: counted, or chunked without extensions and trailers.

Nothing here is lenient: RFC 9112 allows a server to repair some of this, and each repair is a way to
smuggle a second request past a proxy that repairs differently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import httptools
import msgspec
from tornado import httputil
from typing_extensions import override

from ..errors import RequestFault

_END_OF_HEAD = b"\r\n\r\n"
_BLANKS = " \t"
_HOST = re.compile(r"[A-Za-z0-9\-._~!$&'()*+;=%\[\]:]*")
_ABSOLUTE = re.compile(r"https?://([^/?#]+)([^#]*)", re.IGNORECASE)
_MAX_DIGITS = 18  # of Content-Length
_HEX = rb"[0-9A-Fa-f]{1,16}"

_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}


def malformed(problem: str) -> RequestFault:
    """Return the fault of a request that is not valid HTTP; `problem` quotes nothing of it."""
    return RequestFault(f"The request is not valid HTTP: {problem}.", slug="malformed_request")


def _too_long() -> RequestFault:
    text = "The request's headers are too long or too many."
    return RequestFault(text, slug="request_headers_too_large", status=431)


class RawHeaders(httputil.HTTPHeaders):
    """The headers of a request as they came, read by searching; a dictionary only when one is needed.

    `head` is the whole head, first line and final empty line included, known to be well formed. To look
    a name up is one search in it. Whatever else tornado's class can do, changes included, first builds
    tornado's own dictionary: its attributes, like the head's text, do not exist until `__getattr__` is
    asked for one.

    `notes` are for whoever reads the headers. Requests of one connection whose heads are the same, but for
    what `Content-Length` says, share them.
    """

    _text: str
    _lower: str

    def __init__(self, head: bytes, notes: dict[object, Any] | None = None) -> None:
        self._head = head
        self._is_raw = True  # True until tornado's dictionary has been built
        self.notes: dict[object, Any] = {} if notes is None else notes

    def __getattr__(self, name: str) -> Any:
        if name == "_text":
            self._text = text = self._head.decode("latin-1")
            return text
        if name == "_lower":
            self._lower = lower = self._text.lower()
            return lower
        if name.startswith("__") or not self.__dict__.get("_is_raw"):
            raise AttributeError(name)
        self._is_raw = False
        super().__init__()
        for line in self._text.split("\r\n")[1:-2]:
            field, _, value = line.partition(":")
            if field in self:
                self.add(field, value.strip(_BLANKS))
            else:
                self[field] = value.strip(_BLANKS)
        return getattr(self, name)

    def mentions(self, text: str) -> bool:
        """Say whether a text, in lower case, is anywhere in the head; True where that is not known."""
        return not self._is_raw or text in self._lower

    def _find(self, name: str) -> list[str]:
        mark = f"\r\n{name.lower()}:"
        values = []
        at = self._lower.find(mark)
        while at >= 0:
            at += len(mark)
            end = self._text.index("\r\n", at)
            values.append(self._text[at:end].strip(_BLANKS))
            at = self._lower.find(mark, end)
        return values

    @override
    def get(self, name: str, default: Any = None) -> Any:
        if not self._is_raw:
            return super().get(name, default)
        values = self._find(name)
        return ",".join(values) if values else default

    @override
    def get_list(self, name: str) -> list[str]:
        return self._find(name) if self._is_raw else super().get_list(name)

    @override
    def __getitem__(self, name: str) -> str:
        if not self._is_raw:
            return super().__getitem__(name)
        values = self._find(name)
        if not values:
            raise KeyError(name)
        return ",".join(values)

    @override
    def __contains__(self, name: object) -> bool:
        if not self._is_raw:
            return super().__contains__(name)
        return isinstance(name, str) and f"\r\n{name.lower()}:" in self._lower

    def __bool__(self) -> bool:
        return self._text.count("\r\n") > 2 if self._is_raw else len(self) > 0


class Head(msgspec.Struct, frozen=True, gc=False):
    """What a request says before its body. `body_bytes` is None when the body is chunked."""

    start_line: httputil.RequestStartLine
    headers: RawHeaders
    body_bytes: int | None
    is_keep_alive: bool
    expects_continue: bool


class _Last:
    """The last head of a connection, so that one that is the same but for its length is not read again.

    Clients send such heads one after the other, byte for byte the same around the digits of
    `Content-Length`. What both readers found of this one then holds of the next one, too: digits are all
    that differs, and neither `front` nor `back` has a head's end but at the end of `back`.
    """

    __slots__ = ("_back", "_front", "_head")

    _LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)

    def __init__(self, front: bytes, back: bytes, head: Head) -> None:
        self._front, self._back, self._head = front, back, head

    @classmethod
    def of(cls, data: bytes, head: Head) -> _Last | None:
        """Remember a head; None for one without a length, or with something to be done about it."""
        found = cls._LENGTH.search(data)
        headers = head.headers
        is_plain = headers._is_raw and "\r\nexpect:" not in headers._lower  # else the target had a host
        if found is None or not is_plain or data.startswith(b"\r\n"):
            return None
        return cls(data[: found.start(1)], data[found.end(1) :], head)

    def again(self, inbox: bytes) -> tuple[Head, int] | None:
        """Return the head that bytes begin with, and its length; None when it is not this one again."""
        front, back = self._front, self._back
        start = len(front)
        if not inbox.startswith(front):
            return None
        end = inbox.find(b"\r", start, start + _MAX_DIGITS + 1)
        digits = inbox[start:end]
        if end < 0 or not digits.isdigit() or not inbox.startswith(back, end):
            return None
        last, whole = self._head, end + len(back)
        headers = RawHeaders(inbox[:whole], last.headers.notes)
        return Head(last.start_line, headers, int(digits), last.is_keep_alive, False), whole


class ChunkedBody:
    """Takes a chunked body apart. Refuses extensions and trailers, which nobody here would read."""

    __slots__ = ("_left", "_pattern", "_start", "is_done")

    _FIRST = re.compile(rb"(" + _HEX + rb")\r\n"), re.compile(rb"(?:" + _HEX + rb"\r?)?")
    _NEXT = re.compile(rb"\r\n(" + _HEX + rb")\r\n"), re.compile(rb"(?:\r(?:\n(?:" + _HEX + rb"\r?)?)?)?")
    _LAST = re.compile(rb"\r\n"), re.compile(rb"\r?")

    def __init__(self) -> None:
        self._left = 0
        self._pattern, self._start = self._FIRST
        self.is_done = False

    def take(self, data: bytes) -> tuple[bytes, int]:
        """Return what `data` holds of the body, and how many of its bytes were used up.

        Hand in the rest again, in front of what arrives later.
        """
        pieces: list[bytes] = []
        at = 0
        while not self.is_done:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            line = self._pattern.match(data, at)
            if line is None:
                if self._start.fullmatch(data, at) is None:
                    raise malformed("a chunk is not framed as it should be")
                break
            at = line.end()
            self._turn(line)
        return b"".join(pieces), at

    def _turn(self, line: re.Match[bytes]) -> None:
        if self._pattern is self._LAST[0]:
            self.is_done = True
            return
        self._left = int(line.group(1), 16)
        self._pattern, self._start = self._NEXT if self._left else self._LAST


class RequestReader:
    """Turns the bytes of one connection into requests, strictly one after the other.

    `feed` what arrives; ask for `next_head`, then for `next_piece` until `is_body_done`, then for the
    next head. None, and an empty piece, mean that more bytes are needed. Faults are RequestFaults;
    nothing can be read after one.
    """

    __slots__ = (
        "_chunks",
        "_host",
        "_inbox",
        "_is_head_over",
        "_is_keep_alive",
        "_last",
        "_left",
        "_max_header_bytes",
        "_max_headers",
        "_parser",
        "_seen",
    )

    def __init__(self, max_header_bytes: int, max_headers: int) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_headers = max_headers
        self._inbox = b""
        self._seen = 0  # bytes at the front of the inbox that llhttp has been shown
        self._parser: httptools.HttpRequestParser | None = None
        self._is_head_over = False  # True once llhttp says so
        self._is_keep_alive = False
        self._left = 0  # bytes missing of a counted body
        self._chunks: ChunkedBody | None = None
        self._host = ""  # the last one found valid, so that a connection checks it once
        self._last: _Last | None = None

    @property
    def waiting_bytes(self) -> int:
        """Return how many bytes have arrived that no head and no piece has used up."""
        return len(self._inbox)

    @property
    def is_body_done(self) -> bool:
        """Say whether the body has been handed out to its end."""
        return self._left == 0 if self._chunks is None else self._chunks.is_done

    @property
    def has_rest_of_body(self) -> bool:
        """Say whether what is missing of a counted body has already arrived."""
        return self._chunks is None and self._left <= len(self._inbox)

    def feed(self, data: bytes) -> None:
        """Take bytes as they arrived."""
        self._inbox = self._inbox + data if self._inbox else data

    def clear(self) -> None:
        """Forget everything that waits."""
        self._inbox = b""
        self._parser = None
        self._last = None

    def next_head(self) -> Head | None:
        """Return the next request's head, or None when it is not complete."""
        inbox, seen = self._inbox, self._seen
        if len(inbox) == seen:
            return None
        if self._last is not None and not seen:
            again = self._last.again(inbox)
            if again is not None and again[1] <= self._max_header_bytes:
                return self._same_head(*again)
        found = inbox.find(_END_OF_HEAD, max(0, seen - 3))
        end = len(inbox) if found < 0 else found + 4
        if end > self._max_header_bytes:
            raise _too_long()
        self._show(inbox, seen, end)
        if self._is_head_over is not (found >= 0):
            raise malformed("the headers do not end where they should")
        if found < 0:
            self._seen = end
            return None
        self._seen = 0
        self._parser = None
        self._inbox = inbox[end:]
        data = inbox[:end]
        head = self._read(data)
        self._last = _Last.of(data, head)
        return head

    def _same_head(self, head: Head, end: int) -> Head:
        """Go on after a head that is the last one again."""
        self._inbox = self._inbox[end:]
        self._chunks = None
        self._left = head.body_bytes or 0
        return head

    def next_piece(self) -> bytes:
        """Return what has arrived of the body, which may be nothing."""
        inbox = self._inbox
        if not inbox:
            return b""
        if self._chunks is not None:
            piece, used = self._chunks.take(inbox)
            self._inbox = inbox[used:]
            return piece
        piece = inbox if len(inbox) <= self._left else inbox[: self._left]
        self._inbox = inbox[len(piece) :]
        self._left -= len(piece)
        return piece

    def on_headers_complete(self) -> None:
        """Note what llhttp found: the only call that it makes."""
        if self._parser is not None:
            self._is_head_over = True
            self._is_keep_alive = self._parser.should_keep_alive()

    def _show(self, inbox: bytes, start: int, end: int) -> None:
        parser = self._parser
        if start == 0 or parser is None:
            self._is_head_over = False
            self._parser = parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(inbox if end - start == len(inbox) else memoryview(inbox)[start:end])
        except httptools.HttpParserUpgrade:
            pass  # an offer to change the protocol, which is not taken up
        except httptools.HttpParserInvalidMethodError:
            raise malformed("it does not begin with a known method") from None
        except httptools.HttpParserError as error:
            raise malformed(str(error)) from None

    def _read(self, data: bytes) -> Head:
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 section 2.2: one empty line before a request is to be ignored
        headers = RawHeaders(data)
        text, lower = headers._text, headers._lower
        line = text[: text.index("\r\n")].split(" ")
        count = text.count("\r\n")
        if text.count("\n") != count or text.count("\r") != count:
            raise malformed("a line does not end in CR LF")  # llhttp allows some around the first line
        if len(line) != 3 or line[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise malformed("the request line is not METHOD TARGET HTTP/1.1")
        if count - 2 > self._max_headers:
            raise _too_long()
        method, target, version = line
        self._check_host(_only(text, lower, "\r\nhost:"), version)
        length = self._frame(text, lower, version)
        if target[0] != "/":
            target = _origin_form(method, target, headers)
        expects = "\r\nexpect:" in lower and version == "HTTP/1.1"
        return Head(
            httputil.RequestStartLine(method, target, version),
            headers,
            length,
            self._is_keep_alive,
            expects and headers["Expect"].lower() == "100-continue",
        )

    def _check_host(self, host: str | None, version: str) -> None:
        if host is None:
            if version == "HTTP/1.1":
                raise malformed("there is no Host header")
        elif host != self._host:
            if _HOST.fullmatch(host) is None:
                raise malformed("the Host header is not a host")
            self._host = host

    def _frame(self, text: str, lower: str, version: str) -> int | None:
        coding = _only(text, lower, "\r\ntransfer-encoding:")
        length = _only(text, lower, "\r\ncontent-length:")
        self._chunks = None
        self._left = 0
        if coding is not None:
            if length is not None or version != "HTTP/1.1" or coding.lower() != "chunked":
                raise malformed("Transfer-Encoding can only be chunked, alone, and in HTTP/1.1")
            self._chunks = ChunkedBody()
            return None
        if length is not None:
            if not (length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS):
                raise malformed("Content-Length is not a number")
            self._left = int(length)
        return self._left


def _only(text: str, lower: str, mark: str) -> str | None:
    """Return the value of the header that `mark` begins, None without it; refuse a second one."""
    at = lower.find(mark)
    if at < 0:
        return None
    at += len(mark)
    if lower.find(mark, at) >= 0:
        raise malformed("a header that may come once is repeated")
    return text[at : text.index("\r\n", at)].strip(_BLANKS)


def _origin_form(method: str, target: str, headers: RawHeaders) -> str:
    """Return the path of an absolute target, whose host then replaces the Host header.

    Source: RFC 9112 section 3.2.2 (read 2026-11).
    """
    if method == "CONNECT" or (method == "OPTIONS" and target == "*"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or _HOST.fullmatch(absolute[1]) is None:
        raise malformed("the request target is neither a path nor a URL")
    headers["Host"] = absolute[1]
    return absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"


def status_line(status: int) -> str:
    """Return the first line of an answer."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n"


def encode_fields(pairs: Sequence[tuple[str, str]]) -> str:
    """Return headers of an answer as lines; ValueError when one holds a line break or NUL."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in pairs])
    if fields.count("\r") != len(pairs) or fields.count("\n") != len(pairs) or "\0" in fields:
        raise ValueError("a header of the answer holds a line break or NUL")
    return fields


def refuse_framing(pairs: Sequence[tuple[str, str]]) -> None:
    """Raise ValueError when a header is named that the server writes itself."""
    for name in {name for name, _ in pairs} - _OTHERS:
        if name.lower() in _OURS:
            raise ValueError(f"{name} is written by the server itself")


_OURS = frozenset({"connection", "content-length", "date", "transfer-encoding"})
_OTHERS = frozenset(
    {
        *("Content-Type", "Server-Timing", "x-request-id", "RateLimit-Policy", "RateLimit"),
        *("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        *("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    }
)
"""Names that most answers have, and that need not be looked at each time."""


def has_body(method: str, status: int) -> bool:
    """Say whether an answer of this status to this method may carry a body."""
    return method != "HEAD" and status >= 200 and status not in (204, 304)


def may_tell_length(status: int) -> bool:
    """Say whether an answer of this status may carry Content-Length."""
    return status >= 200 and status not in (204, 304)


class DateLine:
    """The Date header, made once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._line = ""

    def at(self, now: float) -> str:
        """Return the whole line for this time of day, in seconds since 1970."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self._line
