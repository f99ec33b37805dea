"""The framing without sockets, its laws, and a race against tornado's parser over random requests."""

from __future__ import annotations

import copy
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado import httputil

from jupyterhub_ai_gateway.errors import RequestFault
from jupyterhub_ai_gateway.handlers.framing import (
    DateLine,
    Head,
    RawHeaders,
    RequestReader,
    encode_fields,
)

from .fronts import ALL, Answer, Book, cuts, get, post, request, serve
from .hostile import SMUGGLED, TABLE, Hostile

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
names = st.text(TOKEN, min_size=1, max_size=12).filter(
    lambda name: (
        name.lower()
        not in ("host", "connection", "upgrade", "expect", "content-length", "transfer-encoding")
    )
)
visible = [chr(code) for code in range(0x20, 0x100) if code != 0x7F] + ["\t"]
values = st.text(visible, max_size=20).map(lambda value: value.strip(" \t"))
fields = st.lists(st.tuples(names, values), max_size=6)
paths = st.text(string.ascii_letters + string.digits + "/?&=%-._~:@!$'()*+,;[]|\"<>^`{}", max_size=20)
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read_all(pieces: list[bytes]) -> tuple[list[dict[str, Any]], RequestFault | None]:
    """Return every complete request, and the fault that ended the reading."""
    reader = RequestReader(65536, 128)
    found: list[dict[str, Any]] = []
    head: Head | None = None
    body = b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while True:
                if head is None:
                    head, body = reader.next_head(), b""
                    if head is None:
                        break
                while not reader.is_body_done and (more := reader.next_piece()):
                    body += more
                if not reader.is_body_done:
                    break
                found.append(as_parsed(head, body))
                if not head.is_keep_alive:
                    return found, None
                head = None
    except RequestFault as fault:
        return found, fault
    return found, None


def as_parsed(head: Head, body: bytes) -> dict[str, Any]:
    method, path, version = head.start_line
    return {
        "method": method,
        "path": path,
        "version": version,
        "headers": sorted([name, value] for name, value in head.headers.get_all()),
        "body": body.decode("latin-1"),
    }


# Reading


@pytest.mark.parametrize("hostile", TABLE, ids=lambda hostile: hostile.name)
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_hostile_bytes_never_become_a_request(hostile: Hostile, seed: int | None) -> None:
    data = (hostile.data + SMUGGLED)[:3000]
    if hostile.status != 413:  # the length of a body is the connection's concern
        found, fault = read_all(cuts(data, seed))
        assert found == []
        assert len(data) == 3000 or (fault is not None and fault.status == hostile.status)


def test_fault_quotes_nothing_of_the_request() -> None:
    for hostile in TABLE:
        _, fault = read_all([hostile.data])
        assert fault is None or "gateway.test" not in str(fault)


@pytest.mark.parametrize("byte", range(256))
def test_no_byte_passes_that_tornado_refuses(byte: int) -> None:
    odd = bytes([byte])
    for data, line in (
        (b"GET / HTTP/1.1\r\nHost: a\r\nA" + odd + b"B: c\r\n\r\n", b"A" + odd + b"B: c"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b" + odd + b"c\r\n\r\n", b"A: b" + odd + b"c"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + odd + b"\r\n\r\n", b"A: " + odd),
    ):
        found, fault = read_all([data])
        try:
            theirs = httputil.HTTPHeaders.parse(line.decode("latin-1"))
        except httputil.HTTPInputError:
            assert fault is not None
        else:
            wanted = [["Host", "a"], *([name, value] for name, value in theirs.get_all())]
            assert fault is not None or found[0]["headers"] == sorted(wanted)
    found, fault = read_all([b"GET /a" + odd + b"b HTTP/1.1\r\nHost: a\r\n\r\n"])
    try:
        line_of = httputil.parse_request_start_line(f"GET /a{chr(byte)}b HTTP/1.1")
    except httputil.HTTPInputError:
        assert fault is not None
    else:
        assert fault is not None or found[0]["path"] == line_of.path


def test_long_head_is_refused_before_it_ends() -> None:
    reader = RequestReader(100, 10)
    reader.feed(b"GET / HTTP/1.1\r\nA: " + b"b" * 60)
    assert reader.next_head() is None
    reader.feed(b"b" * 60)
    with pytest.raises(RequestFault) as caught:
        reader.next_head()
    assert caught.value.status == 431


def test_nonsense_is_refused_before_a_line_ends() -> None:
    _, fault = read_all([b"\x16\x03\x01"])
    assert fault is not None


def test_expectation_is_known() -> None:
    for line, version, expected in (
        ("Expect: 100-Continue", "HTTP/1.1", True),
        ("Expect: something", "HTTP/1.1", False),
        ("Expect: 100-continue", "HTTP/1.0", False),
        ("X-Expect: 100-continue", "HTTP/1.1", False),
    ):
        reader = RequestReader(65536, 128)
        reader.feed(request("POST", "/", line, version=version))
        head = reader.next_head()
        assert head is not None
        assert head.expects_continue is expected


# A head after one like it

FIRST = b"POST /a HTTP/1.1\r\nHost: a.b\r\nA: b\r\nContent-Length: 12\r\nC: d\r\n\r\n"


def heads_alike() -> list[bytes]:
    """Return what is the first head but for one byte, or for what its length says."""
    changed = [
        FIRST[:at] + other + FIRST[at + kept :]
        for at in range(len(FIRST))
        for other in (b"", b"0", b"1", b"\r", b"\n", b" ", b":", b"\t", b"\0", b"x", b"\r\n", b"\r\nA: b")
        for kept in (0, 1)
    ]
    lengths = (b"0", b"7", b"00000000000000007", b"0" * 17 + b"7", b"0" * 18 + b"7", b"-7", b"+7", b"7_0")
    lengths += (b"", b" 7", b"7 ", b"7, 7", b"7\r\nContent-Length: 7", b"7\r\nTransfer-Encoding: chunked")
    return [FIRST, *changed, *(FIRST.replace(b"12", length) for length in lengths)]


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_head_after_one_like_it_is_read_as_it_would_be_alone(is_cut: bool) -> None:
    for second in heads_alike():
        data = second + b"0123456789abSMUGGLED"
        pieces = [data[:40], data[40:]] if is_cut else [data]
        alone, fault = read_all(pieces)
        found, fault_after = read_all([FIRST + b"0123456789ab", *pieces])
        assert found[1:] == alone, second
        assert (fault_after and fault_after.public) == (fault and fault.public), second


def test_heads_that_differ_by_their_length_alone_share_notes_and_others_do_not() -> None:
    reader = RequestReader(65536, 128)
    noted = []
    for text in (FIRST, FIRST.replace(b"12", b"0"), FIRST.replace(b"a.b", b"a.c")):
        reader.feed(text)
        head = reader.next_head()
        assert head is not None
        reader.feed(b"x" * (head.body_bytes or 0))
        reader.next_piece()
        noted.append(head.headers.notes)
        assert head.headers["Content-Length"] == str(head.body_bytes)
    assert noted[0] is noted[1]
    assert noted[0] is not noted[2]


# Headers


@quick
@given(fields, st.lists(names, max_size=4))
def test_raw_headers_are_like_tornados(pairs: list[tuple[str, str]], others: list[str]) -> None:
    text = "GET / HTTP/1.1\r\n" + "".join(f"{n}: {v} \r\n" for n, v in pairs) + "\r\n"
    theirs = httputil.HTTPHeaders()
    for name, value in pairs:
        theirs.add(name, value)
    for touch in (False, True):
        ours = RawHeaders(text.encode("latin-1"))
        if touch:
            assert list(ours.get_all()) == list(theirs.get_all())
        for name in [*[n for n, _ in pairs], *others, "Host"]:
            for form in (name, name.upper(), name.lower()):
                assert (form in ours) == (form in theirs)
                assert ours.get(form) == theirs.get(form)
                assert ours.get(form, "other") == theirs.get(form, "other")
                assert ours.get_list(form) == theirs.get_list(form)
                if form in theirs:
                    assert ours[form] == theirs[form]
        assert 5 not in ours
        assert bool(ours) == bool(theirs)
        assert ours.__dict__["_is_raw"] is not touch
        with pytest.raises(KeyError):
            ours["absent-for-sure"]
        assert dict(ours) == dict(theirs)
        assert ours == theirs
        assert str(ours) == str(theirs)
        assert isinstance(ours, httputil.HTTPHeaders)


def test_raw_headers_can_be_changed() -> None:
    headers = RawHeaders(b"GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n")
    headers["B"] = "4"
    headers.add("C", "5")
    del headers["A"]
    assert list(headers.get_all()) == [("B", "4"), ("C", "5")]
    assert headers.get("a") is None
    assert "A" not in headers
    assert copy.copy(headers) == headers
    assert not hasattr(headers, "no_such_attribute")
    assert not hasattr(RawHeaders(b"GET / HTTP/1.1\r\n\r\n"), "no_such_attribute")


def test_raw_headers_find_names_at_the_start_of_a_line_only() -> None:
    headers = RawHeaders(b"GET /a:b HTTP/1.1\r\nX-A: host: b\r\nXhost: c\r\n\r\n")
    assert headers.get("Host") is None
    assert headers.get("A") is None
    assert "a" not in headers


def test_lower_case_has_the_same_length() -> None:
    assert all(len(chr(code).lower()) == 1 for code in range(256))


# Writing


def test_fields_refuse_what_would_break_the_line() -> None:
    assert encode_fields([("A", "b"), ("C", "")]) == "A: b\r\nC: \r\n"
    for bad in ("\r", "\n", "\r\n", "\0"):
        for pair in (("A", f"b{bad}c"), (f"A{bad}", "b")):
            with pytest.raises(ValueError):
                encode_fields([pair])


def test_date_changes_with_the_second() -> None:
    date = DateLine()
    assert date.at(0.0) == "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    assert date.at(0.9) == "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    assert date.at(1.0) == "Date: Thu, 01 Jan 1970 00:00:01 GMT\r\n"


# The race: the same requests give the same messages, on every server


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[bytes, list[dict[str, Any]]]:
    """A few valid requests in a row, and what they say."""
    data, wanted = b"", []
    for _ in range(draw(st.integers(1, 4))):
        one, parsed = draw(requests())
        data += one
        wanted.append(parsed)
    return data, wanted


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    method = draw(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]))
    path = "/" + draw(paths)
    pairs = [("Host", "gateway.test"), *draw(fields)]
    body = draw(st.binary(max_size=300))
    framing = draw(st.sampled_from(["none", "counted", "chunked"]))
    if framing == "none":
        body = b""
    elif framing == "counted":
        pairs.insert(draw(st.integers(0, len(pairs))), ("Content-Length", str(len(body))))
    else:
        pairs.append(("Transfer-Encoding", "chunked"))
    blanks = st.sampled_from(["", " ", "\t "])
    lines = "".join(f"{name}:{draw(blanks)}{value}\r\n" for name, value in pairs)
    head = f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
    headers = httputil.HTTPHeaders()
    for name, value in pairs:
        headers.add(name, value)
    parsed = {
        "method": method,
        "path": path,
        "version": "HTTP/1.1",
        "headers": sorted([name, value] for name, value in headers.get_all()),
        "body": body.decode("latin-1"),
    }
    return head + (body if framing != "chunked" else chop(body, draw(st.integers(0, 99)))), parsed


def chop(body: bytes, seed: int) -> bytes:
    pieces = cuts(body, seed) if len(body) > 1 else [body] if body else []
    return b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("kind", ALL)
def test_random_pipelines_arrive_as_sent(kind: str) -> None:
    with serve(kind, Book()) as front:

        @quick
        @given(pipelines(), st.integers(0, 10_000))
        def race(pipeline: tuple[bytes, list[dict[str, Any]]], seed: int) -> None:
            data, wanted = pipeline
            with front.connect() as peer:
                peer.send_cut(data, seed)
                assert [peer.answer().json for _ in wanted] == wanted

        race()


@settings(quick, max_examples=300)
@given(pipelines(), st.integers(0, 10_000))
def test_random_pipelines_read_the_same_however_they_are_cut(
    pipeline: tuple[bytes, list[dict[str, Any]]], seed: int
) -> None:
    data, wanted = pipeline
    for pieces in ([data], cuts(data, seed), cuts(data, None)):
        assert read_all(pieces) == (wanted, None)


ODDITIES = [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"1", b"-", b"+", b"\xff"]
ODDITIES += [b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"\r\n\r\n"]


def test_what_is_damaged_is_never_read_more_laxly_than_by_tornado() -> None:
    with serve("stock", Book()) as front:

        @settings(quick, max_examples=250)
        @given(pipelines(), st.data())
        def race(pipeline: tuple[bytes, list[dict[str, Any]]], data: st.DataObject) -> None:
            damaged = pipeline[0]
            for _ in range(data.draw(st.integers(1, 3))):
                at = data.draw(st.integers(0, len(damaged)))
                end = at + data.draw(st.integers(0, 3))
                damaged = damaged[:at] + data.draw(st.sampled_from([b"", *ODDITIES])) + damaged[end:]
            found, _ = read_all([damaged])
            with front.connect() as peer:
                peer.send(damaged)
                for ours in found:
                    answer: Answer = peer.answer()
                    assert answer.status == 200
                    assert answer.json == ours

        race()


def test_two_requests_in_one_piece_leave_the_second_for_later() -> None:
    reader = RequestReader(65536, 128)
    reader.feed(post("/one", b"abc") + get("/two"))
    head = reader.next_head()
    assert head is not None
    assert not reader.is_body_done
    assert reader.has_rest_of_body
    assert reader.next_piece() == b"abc"
    assert reader.is_body_done
    assert reader.waiting_bytes == len(get("/two"))
