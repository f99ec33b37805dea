"""Forms: however they are cut, the same parts; whatever they hold, the provider finds the same ones."""

from __future__ import annotations

import random
from email import message_from_bytes
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.dialects.multipart import (
    MAX_HEAD_BYTES,
    MAX_PARTS,
    Event,
    FormReader,
    FormWriter,
    Part,
    boundary_of,
    is_form,
)
from jupyterhub_ai_gateway.errors import RequestFault

B = b"0xBoundary"
OURS = "f00d" * 12

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters='"\\', exclude_categories=["C"]),
    min_size=1,
    max_size=20,
)
CONTENTS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\r\n--0xBoundar", b"\n--0xBoundary\n", b"\r\n", b"--", b"\r"]),
)
PARTS = st.lists(st.tuples(NAMES, st.one_of(st.none(), NAMES), CONTENTS), max_size=5)
Found = list[tuple[str, str | None, bytes]]


def written(parts: Found, *, preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    body = preamble
    for name, filename, content in parts:
        more = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: audio/wav'
        head = f'Content-Disposition: form-data; name="{name}"{more}'
        body += b"--" + B + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--" + B + b"--\r\n" + epilogue


def joined(events: list[Event]) -> Found:
    found: Found = []
    for event in events:
        if isinstance(event, Part):
            found.append((event.name, event.filename, b""))
        else:
            name, filename, content = found[-1]
            found[-1] = (name, filename, content + event)
    return found


def read(pieces: list[bytes]) -> list[Event]:
    reader = FormReader(B)
    events = [event for piece in pieces for event in reader.feed(piece)]
    reader.close()
    return events


def cut(body: bytes, seed: int) -> list[bytes]:
    dice, pieces = random.Random(seed), []
    while body:
        size = dice.randint(1, 9)
        pieces.append(body[:size])
        body = body[size:]
    return pieces


def rewritten(events: list[Event], given: dict[str, str], replaced: dict[str, str]) -> bytes:
    writer = FormWriter(OURS, given, replaced)
    return b"".join([writer.begin(), *map(writer.add, events), writer.close()])


def as_python_reads(body: bytes) -> Found:
    """Read a form with the standard library, which shares no line with ours."""
    head = f"Content-Type: multipart/form-data; boundary={OURS}\r\n\r\n".encode()
    message = message_from_bytes(head + body, policy=HTTP)
    assert not message.defects
    found: Found = []
    for each in message.iter_parts():
        name = each.get_param("name", header="content-disposition")
        content = each.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((str(name), each.get_filename(), content))
    return found


@given(PARTS, st.integers(0, 1000))
def test_parts_are_the_same_however_they_are_cut(parts: Found, seed: int) -> None:
    body = written(parts, preamble=b"ignored\r\n", epilogue=b"\r\nignored --0xBoundary")
    assert (
        joined(read([body]))
        == joined(read(cut(body, seed)))
        == joined(read([bytes([each]) for each in body]))
    )
    assert joined(read([body])) == parts


@given(PARTS)
def test_what_is_written_reads_as_it_was(parts: Found) -> None:
    body = rewritten(read([written(parts)]), {}, {})
    reader = FormReader(OURS.encode())
    kept = [each for each in parts if each[0] != "model"]
    assert joined(reader.feed(body)) == kept
    reader.close()


def test_another_reader_finds_the_same() -> None:
    parts: Found = [("language", None, b"en"), ("file", "a b.wav", bytes(range(128)) + b"\n--0xBoundary\n")]
    body = rewritten(read([written(parts)]), {"model": "whisper-1"}, {})
    assert as_python_reads(body) == [("model", None, b"whisper-1"), *parts]


FIELDS: Found = [
    ("user", None, b"alice"),
    ("model", None, b"mine"),
    ("file", "a.wav", b"sound"),
    ("user", None, b"alice"),
    ("model", None, b"other"),
    ("note", None, b"kept"),
]


@pytest.mark.parametrize(
    ("given_fields", "replaced", "expected"),
    [
        ({"model": "theirs"}, {"user": "p"}, "model=theirs user=p file=sound note=kept"),
        ({}, {"user": "p"}, "user=p file=sound note=kept"),
        ({"model": "theirs", "user": "x"}, {"user": "p"}, "model=theirs user=x file=sound note=kept"),
        ({"model": "theirs"}, {}, "model=theirs user=alice file=sound user=alice note=kept"),
        ({"model": "theirs"}, {"other": "p"}, "model=theirs user=alice file=sound user=alice note=kept"),
    ],
)
def test_fields_of_ours_take_the_place_of_theirs(
    given_fields: dict[str, str], replaced: dict[str, str], expected: str
) -> None:
    body = rewritten(read([written(FIELDS)]), given_fields, replaced)
    reader = FormReader(OURS.encode())
    found = joined(reader.feed(body))
    assert " ".join(f"{name}={content.decode()}" for name, _, content in found) == expected


def test_content_that_another_reader_would_take_for_a_part_is_none() -> None:
    trick = b'x\n--0xBoundary\nContent-Disposition: form-data; name="model"\n\nexpensive\n'
    body = rewritten(read([written([("file", "a.wav", trick)])]), {"model": "cheap"}, {})
    assert [name for name, _, _ in as_python_reads(body)] == ["model", "file"]


def head(text: str) -> bytes:
    return f"--{B.decode()}\r\n{text}\r\n\r\nx\r\n--{B.decode()}--\r\n".encode()


@pytest.mark.parametrize(
    ("disposition", "part"),
    [
        ("form-data; name=a", Part("a")),
        ('FORM-DATA ; NAME = "a"', Part("a")),
        ('form-data; name="a"; filename="x;y.png"', Part("a", "x;y.png")),
        ('form-data; name="a"; filename="x\\"y.png"', Part("a", 'x"y.png')),
        ("form-data; name=\"a\"; filename*=UTF-8''x%20%C3%BC.png", Part("a", "x ü.png")),
        ('form-data; name="a"; filename="x.png"; filename*=UTF-8\'\'y.png', Part("a", "x.png")),
        ('form-data; name="ü[]"', Part("ü[]")),
    ],
)
def test_heads_that_clients_write(disposition: str, part: Part) -> None:
    (found, content) = read([head(f"Content-Disposition: {disposition}")])
    assert (found, content) == (part, b"x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Content-Type: text/plain",
        "Content-Disposition: attachment; name=a",
        "Content-Disposition: form-data",
        'Content-Disposition: form-data; name=""',
        'Content-Disposition: form-data; name="a"; name="b"',
        'Content-Disposition: form-data; name="a\\"b"',
        'Content-Disposition: form-data; name="a" b',
        'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="b"',
        'Content-Disposition: form-data;\r\n name="a"',
        'Content-Disposition : form-data; name="a"',
        'Content-Disposition: form-data; name="a"\nX: y',
        'Content-Disposition: form-data; name="a"\r\nContent-Type: text',
        'Content-Disposition: form-data; name="a"\r\nContent-Type: a/b; x="\x01"',
        'Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64',
        f'Content-Disposition: form-data; name="{"a" * 300}"',
        f'Content-Disposition: form-data; name="a"\r\nX: {"a" * MAX_HEAD_BYTES}',
    ],
)
def test_heads_that_could_be_read_in_two_ways_are_refused(text: str) -> None:
    for pieces in ([head(text)], [bytes([each]) for each in head(text)]):
        with pytest.raises(RequestFault) as caught:
            read(pieces)
        assert caught.value.slug == "invalid_form"


@pytest.mark.parametrize("tail", [b"x\r\n", b"\tx\r\n", b" " * 70 + b"\r\n", b"-x\r\n", b"\rx"])
def test_boundary_s_line_holds_nothing_else(tail: bytes) -> None:
    for pieces in ([b"--" + B + tail], [bytes([each]) for each in b"--" + B + tail]):
        with pytest.raises(RequestFault):
            read(pieces)


def test_blanks_after_a_boundary_are_nothing() -> None:
    body = written([("a", None, b"x")]).replace(B + b"\r\n", B + b" \t\r\n")
    assert joined(read([body])) == [("a", None, b"x")]


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(RequestFault, match=f"more than {MAX_PARTS} parts"):
        read([written([("a", None, b"")] * (MAX_PARTS + 1))])


def test_what_is_held_has_a_bound() -> None:
    reader = FormReader(B)
    reader.feed(b"--" + B + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n')
    for _ in range(100):
        reader.feed(b"\r\n--0xBoundar" * 100)
        assert len(reader._held) <= len(B) + 4
    with pytest.raises(RequestFault, match="head is too long"):
        FormReader(B).feed(b"--" + B + b"\r\n" + b"x" * (MAX_HEAD_BYTES + 3))


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=utf-8; boundary="a b:c"', b"a b:c"),
        ("Multipart/Form-Data;BOUNDARY=abc ; x=y", b"abc"),
    ],
)
def test_boundaries_that_clients_write(content_type: str, boundary: bytes) -> None:
    assert is_form(content_type)
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'a' * 71}"],
)
def test_form_without_a_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(RequestFault, match="no boundary"):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/mixed; boundary=x", "multipart/form-datax", ""]
)
def test_what_is_no_form(content_type: str) -> None:
    assert not is_form(content_type)
