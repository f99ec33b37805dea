"""Requests that are wrong on purpose, each followed by one that must never be seen.

Ours answers every one with the status given here and closes. Tornado's own server does the same, except
for what `STOCK_DIFFERS` names: there it is laxer, or ends the connection in another way.
"""

from __future__ import annotations

from dataclasses import dataclass

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
HOST = b"Host: gateway.test\r\n"

SERVES = "serves"  # takes it for a valid request
CLOSES = "closes"  # without an answer
SAYS_400 = "says 400"


@dataclass(frozen=True)
class Hostile:
    name: str
    data: bytes
    status: int = 400


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def body(*lines: bytes, body: bytes = b"") -> bytes:
    return head(*lines, first=b"POST / HTTP/1.1") + body


def chunks(body: bytes) -> bytes:
    return head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.1") + body


TABLE = [
    # Lines
    Hostile("bare LF throughout", b"GET / HTTP/1.1\nHost: gateway.test\n\n"),
    Hostile("bare LF after the request line", b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    Hostile("bare LF after a header", head(b"A: b\nC: d")),
    Hostile("bare LF at the end", b"GET / HTTP/1.1\r\n" + HOST + b"\n"),
    Hostile("bare CR in a value", head(b"A: b\rC: d")),
    Hostile("bare CR at the end of a value", head(b"A: b\r")),
    Hostile("CR CR LF", head(b"A: b\r", b"C: d")),
    Hostile("folded header", head(b"A: b", b" c")),
    Hostile("folded header with a tab", head(b"A: b", b"\tc")),
    Hostile("folded Content-Length", body(b"Content-Length:", b" 3", body=b"abc")),
    Hostile("space before the first header", b"GET / HTTP/1.1\r\n " + HOST + b"\r\n"),
    Hostile("space before the colon", head(b"A : b")),
    Hostile("tab before the colon", head(b"A\t: b")),
    Hostile("space before Content-Length's colon", body(b"Content-Length : 3", body=b"abc")),
    Hostile("NUL in a value", head(b"A: b\0c")),
    Hostile("control byte in a value", head(b"A: b\x01c")),
    Hostile("vertical tab in a value", head(b"A: \x0bb")),
    Hostile("DEL in a value", head(b"A: b\x7fc")),
    Hostile("NUL in a name", head(b"A\0: b")),
    Hostile("high byte in a name", head(b"A\xe4: b")),
    Hostile("bracket in a name", head(b"A[: b")),
    Hostile("empty name", head(b": b")),
    Hostile("no colon", head(b"Ab")),
    # Host
    Hostile("no Host", head(host=b"")),
    Hostile("two Hosts", head(b"Host: other.test")),
    Hostile("the same Host twice", head(b"Host: gateway.test")),
    Hostile("two Hosts in one", head(host=b"Host: gateway.test, other.test\r\n")),
    Hostile("a path in Host", head(host=b"Host: gateway.test/a\r\n")),
    Hostile("an at sign in Host", head(host=b"Host: me@gateway.test\r\n")),
    # The request line
    Hostile("two spaces before the target", head(first=b"GET  / HTTP/1.1")),
    Hostile("two spaces before the version", head(first=b"GET /  HTTP/1.1")),
    Hostile("a space in the target", head(first=b"GET /a b HTTP/1.1")),
    Hostile("a space at the end", head(first=b"GET / HTTP/1.1 ")),
    Hostile("a space at the start", head(first=b" GET / HTTP/1.1")),
    Hostile("tabs for spaces", head(first=b"GET\t/\tHTTP/1.1")),
    Hostile("bare LF in the request line", b"GET /\n0: HTTP/1.1\r\n" + HOST + b"\r\n"),
    Hostile("bare CR in the request line", b"GET /\r0: HTTP/1.1\r\n" + HOST + b"\r\n"),
    Hostile("no version", b"GET /\r\n\r\n"),
    Hostile("HTTP/0.9", head(first=b"GET / HTTP/0.9")),
    Hostile("HTTP/1.2", head(first=b"GET / HTTP/1.2")),
    Hostile("HTTP/1.10", head(first=b"GET / HTTP/1.10")),
    Hostile("HTTP/2.0", head(first=b"GET / HTTP/2.0")),
    Hostile("lower-case http", head(first=b"GET / http/1.1")),
    Hostile("another protocol", head(first=b"GET / RTSP/1.0")),
    Hostile("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Hostile("lower-case method", head(first=b"get / HTTP/1.1")),
    Hostile("unknown method", head(first=b"STEAL / HTTP/1.1")),
    Hostile("method with a colon", head(first=b"GET: / HTTP/1.1")),
    Hostile("control byte in the target", head(first=b"GET /a\x01b HTTP/1.1")),
    Hostile("NUL in the target", head(first=b"GET /a\0b HTTP/1.1")),
    Hostile("high byte in the target", head(first=b"GET /\xe4 HTTP/1.1")),
    Hostile("target that is no path", head(first=b"GET a HTTP/1.1")),
    Hostile("star for GET", head(first=b"GET * HTTP/1.1")),
    Hostile("URL with a user", head(first=b"GET http://me@gateway.test/ HTTP/1.1")),
    Hostile("URL without a host", head(first=b"GET http:///a HTTP/1.1")),
    Hostile("URL of another scheme", head(first=b"GET ftp://gateway.test/ HTTP/1.1")),
    Hostile("two empty lines first", b"\r\n\r\n" + head()),
    Hostile("a CR first", b"\r" + head()),
    Hostile("an LF first", b"\n" + head()),
    Hostile("a CR after an empty line", b"\r\n\r" + head()),
    Hostile("a NUL first", b"\0" + head()),
    Hostile("TLS to a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    # Counted bodies
    Hostile("equal lengths", body(b"Content-Length: 3", b"Content-Length: 3", body=b"abc")),
    Hostile("different lengths", body(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd")),
    Hostile("equal lengths in one", body(b"Content-Length: 3, 3", body=b"abc")),
    Hostile("different lengths in one", body(b"Content-Length: 3, 4", body=b"abcd")),
    Hostile("signed length", body(b"Content-Length: +3", body=b"abc")),
    Hostile("negative length", body(b"Content-Length: -1")),
    Hostile("hexadecimal length", body(b"Content-Length: 0x3", body=b"abc")),
    Hostile("length with an underscore", body(b"Content-Length: 1_0", body=b"abcdefghij")),
    Hostile("length with a space", body(b"Content-Length: 1 0", body=b"abcdefghij")),
    Hostile("length with a fraction", body(b"Content-Length: 3.0", body=b"abc")),
    Hostile("length in superscript", body(b"Content-Length: \xb3", body=b"abc")),
    Hostile("empty length", body(b"Content-Length:", body=b"")),
    Hostile("endless length", body(b"Content-Length: " + b"9" * 40)),
    # Both, and Transfer-Encoding
    Hostile(
        "length before chunked",
        body(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    Hostile(
        "chunked before length",
        body(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    ),
    Hostile("gzip", body(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n")),
    Hostile("identity", body(b"Transfer-Encoding: identity", body=b"0\r\n\r\n")),
    Hostile("gzip, chunked", body(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    Hostile("chunked, gzip", body(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n")),
    Hostile("chunked twice", body(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    Hostile(
        "two chunked headers",
        body(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    Hostile("comma chunked", body(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n")),
    Hostile("chunked with a parameter", body(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n")),
    Hostile("quoted chunked", body(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    Hostile("xchunked", body(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    Hostile("empty coding", body(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    Hostile("vertical tab chunked", body(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    Hostile(
        "chunked in HTTP/1.0",
        head(b"Transfer-Encoding: chunked", b"Connection: keep-alive", first=b"POST / HTTP/1.0")
        + b"0\r\n\r\n",
    ),
    # Chunks
    Hostile("chunk extension", chunks(b"3;a=b\r\nabc\r\n0\r\n\r\n")),
    Hostile("extension on the last chunk", chunks(b"3\r\nabc\r\n0;a\r\n\r\n")),
    Hostile("extension with a line feed", chunks(b'3;a="\n"\r\nabc\r\n0\r\n\r\n')),
    Hostile("endless extension", chunks(b"3;" + b"a" * 70000)),
    Hostile("space after the size", chunks(b"3 \r\nabc\r\n0\r\n\r\n")),
    Hostile("space before the size", chunks(b" 3\r\nabc\r\n0\r\n\r\n")),
    Hostile("0x before the size", chunks(b"0x3\r\nabc\r\n0\r\n\r\n")),
    Hostile("signed size", chunks(b"+3\r\nabc\r\n0\r\n\r\n")),
    Hostile("negative size", chunks(b"-3\r\nabc\r\n0\r\n\r\n")),
    Hostile("size with an underscore", chunks(b"1_0\r\nabcdefghijklmnop\r\n0\r\n\r\n")),
    Hostile("size that is no number", chunks(b"three\r\nabc\r\n0\r\n\r\n")),
    Hostile("empty size", chunks(b"\r\nabc\r\n0\r\n\r\n")),
    Hostile("endless size", chunks(b"0" * 70 + b"3\r\nabc\r\n0\r\n\r\n")),
    Hostile("enormous size", chunks(b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n")),
    Hostile("bare LF after the size", chunks(b"3\nabc\r\n0\r\n\r\n")),
    Hostile("bare LF after the chunk", chunks(b"3\r\nabc\n0\r\n\r\n")),
    Hostile("no line end after the chunk", chunks(b"3\r\nabcdef\r\n0\r\n\r\n")),
    Hostile("trailer", chunks(b"3\r\nabc\r\n0\r\nA: b\r\n\r\n")),
    Hostile("trailer that sets a length", chunks(b"3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n")),
    Hostile("bare LF at the end of the chunks", chunks(b"3\r\nabc\r\n0\r\n\n")),
    # Too much
    Hostile("one header too long", head(b"A: " + b"b" * 70000), status=431),
    Hostile("a target too long", head(first=b"GET /" + b"a" * 70000 + b" HTTP/1.1"), status=431),
    Hostile("headers too many", head(*[b"A: b"] * 129), status=431),
    Hostile("headers without end", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 12000, status=431),
    Hostile("a body too long", body(b"Content-Length: 99999999999"), status=413),
]

STOCK_DIFFERS = {
    # Tornado looks at Host, method and target further up, in HTTPServerRequest and its router
    **dict.fromkeys(
        (
            "no Host",
            "two Hosts",
            "the same Host twice",
            "two Hosts in one",
            "a path in Host",
            "an at sign in Host",
            "lower-case method",
            "unknown method",
            "high byte in the target",
            "target that is no path",
            "star for GET",
            "URL with a user",
            "URL without a host",
            "URL of another scheme",
        ),
        SERVES,
    ),
    # It still repairs these; bare LF until its version 6.7
    **dict.fromkeys(
        (
            "bare LF throughout",
            "bare LF after the request line",
            "bare LF after a header",
            "bare LF at the end",
            "HTTP/1.2",
            "equal lengths",
            "equal lengths in one",
            "chunked in HTTP/1.0",
            "headers too many",
            "a CR first",
            "an LF first",
            "a CR after an empty line",
        ),
        SERVES,
    ),
    **dict.fromkeys(
        (
            "endless extension",
            "endless size",
            "one header too long",
            "a target too long",
            "headers without end",
        ),
        CLOSES,
    ),
    "a body too long": SAYS_400,
}
