"""Lines, paths, the journal and the verdicts, each by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.batches.answers import TRIES, Collected, judge
from jupyterhub_ai_gateway.batches.desk import decode_caller, encode_caller
from jupyterhub_ai_gateway.batches.folders import Folder, check_output, deliver, open_input
from jupyterhub_ai_gateway.batches.journal import Journal, Record
from jupyterhub_ai_gateway.batches.lines import Problem, Rules, answer_line, read_line, tokens_of
from jupyterhub_ai_gateway.errors import Fault, RequestFault
from jupyterhub_ai_gateway.handlers.multipart import Begin, Form
from jupyterhub_ai_gateway.vocabulary import Caller

MESSAGES = [{"role": "user", "content": "Hi"}]
OPENAI = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}


def text(document: Any) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("document", "rules", "expected"),
    [
        ({**OPENAI, "body": {"model": "m", "messages": MESSAGES}}, Rules(), ("a", "chat", "m")),
        (
            {**OPENAI, "body": {"model": "m", "messages": MESSAGES}},
            Rules(model="theirs"),
            ("a", "chat", "theirs"),
        ),
        ({"messages": MESSAGES, "max_tokens": 5}, Rules(model="m"), ("line-7", "chat", "m")),
        ({"prompt": "x", "model": "m"}, Rules(), ("line-7", "completions", "m")),
        ({"input": ["x"], "model": "m", "custom_id": "own"}, Rules(), ("own", "embeddings", "m")),
        ({"input": "x", "model": "m"}, Rules(url="/v1/responses"), ("line-7", "responses", "m")),
        ({**OPENAI, "url": "/v1/messages", "body": {"model": "m"}}, Rules(), ("a", "messages", "m")),
    ],
)
def test_both_kinds_of_lines_are_read(document: Any, rules: Rules, expected: tuple[str, ...]) -> None:
    line = read_line(text(document), 7, rules)
    assert line is not None
    assert (line.custom_id, line.operation.name, line.model) == expected
    body = json.loads(line.body)
    assert body["model"] == expected[2]
    assert "custom_id" not in body


@pytest.mark.parametrize(
    ("line", "rules", "code"),
    [
        (b"{", Rules(), "invalid_json_line"),
        (b"\xff{}", Rules(), "invalid_json_line"),
        (b"[" * 100_000, Rules(), "invalid_json_line"),
        (text({**OPENAI, "body": []}), Rules(), "invalid_json_line"),
        (text({**OPENAI, "body": {}}), Rules(), "missing_required_parameter"),
        (text({**OPENAI, "body": {"model": ""}}), Rules(), "invalid_value"),
        (text({"messages": MESSAGES}), Rules(), "missing_required_parameter"),
        (text({"model": "m"}), Rules(), "invalid_request"),
        (text({"messages": MESSAGES, "model": "m", "stream": True}), Rules(), "invalid_request"),
        (text({**OPENAI, "url": "/v1/files", "body": {}}), Rules(), "invalid_url"),
        (text({**OPENAI, "custom_id": "x" * 513, "body": {"model": "m"}}), Rules(), "invalid_value"),
    ],
)
def test_a_line_that_is_wrong_says_why_and_quotes_nothing(line: bytes, rules: Rules, code: str) -> None:
    with pytest.raises(Problem) as problem:
        read_line(line, 1, rules)
    assert problem.value.code == code


def test_a_pretty_answer_becomes_one_line_with_its_numbers_as_they_were() -> None:
    body = b'{\n  "n": 1.10,\n  "big": 12345678901234567890\n}'
    line = answer_line("a", "req_1", 200, body)
    assert b"\n" not in line
    assert b'"n":1.10' in line
    assert json.loads(answer_line("a", "req_1", 500, b"<html>"))["response"]["body"] == "<html>"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"usage": {"prompt_tokens": 3, "completion_tokens": 4}}', (3, 4)),
        (b'{"usage": {"input_tokens": 3, "output_tokens": 4}}', (3, 4)),
        (b'{"usage": {"prompt_tokens": 3}}', (3, None)),
        (b'{"usage": null}', (None, None)),
        (b"nothing", (None, None)),
    ],
)
def test_tokens_are_what_the_answer_says(body: bytes, expected: tuple[int | None, int | None]) -> None:
    assert tokens_of(body) == expected


@pytest.mark.parametrize(
    ("status", "headers", "tries", "expected"),
    [
        (200, {}, 1, ("keep", 0)),
        (400, {}, 1, ("keep", 0)),
        (404, {}, 1, ("keep", 0)),
        (429, {"Retry-After": "7"}, 1, ("all", 7)),
        (429, {"Retry-After": "7"}, 500, ("all", 7)),
        (429, {"Retry-After": "7", "retry-after-ms": "6500"}, 1, ("all", 6.5)),
        (429, {"Retry-After": "86400", "x-should-retry": "false"}, 1, ("all", 300)),
        (429, {"x-should-retry": "false"}, 1, ("keep", 0)),
        (429, {}, 3, ("all", 4)),
        (503, {"Retry-After": "5"}, 9, ("all", 5)),
        (502, {}, 1, ("one", 1)),
        (502, {}, TRIES, ("keep", 0)),
        (504, {}, 2, ("one", 2)),
        (500, {"x-should-retry": "false"}, 1, ("keep", 0)),
        (429, {"Retry-After": "soon"}, 1, ("all", 1)),
    ],
)
def test_limits_wait_providers_are_tried_again_and_the_rest_is_an_answer(
    status: int, headers: dict[str, str], tries: int, expected: tuple[str, float]
) -> None:
    reply = Collected()
    reply.respond(status, list(headers.items()), b"{}")
    assert judge(reply, tries) == expected


def record(number: int, is_ok: bool = True) -> Record:
    return Record(number, is_ok, 1, None, msgspec.Raw(b'{"n":%d}' % number))


async def test_a_journal_knows_after_a_crash_what_was_written(tmp_path: Path) -> None:
    first = Journal(tmp_path, 1)
    await asyncio.gather(*(first.add(record(number, number != 3)) for number in (5, 3, 1)))
    await first.close()
    part = tmp_path / "part-000001.jsonl"
    whole = part.read_bytes()
    for cut in range(len(whole) + 1):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / part.name).write_bytes(whole[:cut])
        again = Journal(folder, 2)
        known = whole[:cut].count(b"\n")
        assert len(again) == known
        await again.add(record(9))
        if 1 not in again:
            await again.add(record(1))
        await again.add(record(5))  # twice: the first one counts
        await again.close()
        numbers = [each.number for each in again.records()]
        assert numbers == sorted(set(numbers))
        assert {1, 9} <= set(numbers)
        assert again.tally.completed + again.tally.failed == len(numbers)
        assert all(bytes(each.text) == b'{"n":%d}' % each.number for each in again.records())


async def test_a_journal_that_could_not_write_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, 1)
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        await journal.add(record(1))
    monkeypatch.setattr(os, "fsync", real)
    with pytest.raises(OSError, match="No space"):
        await journal.add(record(2))
    assert len(journal) == 0
    await journal.close()


def readable(path: Path | str, *allowed: str, name: str = "alice") -> bytes | None:
    try:
        with open_input(str(path), allowed, name) as file:
            return file.read()
    except RequestFault as fault:
        assert not path or str(path) not in fault.public
        return None


def test_no_path_leads_out_of_the_allowed_folders(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "alice", tmp_path / "bob"
    (mine / "deep").mkdir(parents=True)
    theirs.mkdir()
    (mine / "deep" / "in.jsonl").write_bytes(b"mine")
    (theirs / "in.jsonl").write_bytes(b"theirs")
    (tmp_path / "alice-2").mkdir()
    (tmp_path / "alice-2" / "in.jsonl").write_bytes(b"neighbour")
    (mine / "link").symlink_to(theirs / "in.jsonl")
    (mine / "folder").symlink_to(theirs)
    os.mkfifo(mine / "pipe")
    allowed = f"{tmp_path}/{{username}}"
    assert readable(mine / "deep" / "in.jsonl", allowed) == b"mine"
    assert readable(f"{mine}//deep/in.jsonl", allowed) == b"mine"
    for path in (
        theirs / "in.jsonl",
        f"{mine}/../bob/in.jsonl",
        f"{mine}/deep/../../bob/in.jsonl",
        mine / "link",
        mine / "folder" / "in.jsonl",
        mine / "pipe",
        mine / "deep",
        mine,
        mine / "nothing",
        tmp_path / "alice-2" / "in.jsonl",
        "/etc/hostname",
        "deep/in.jsonl",
        f"{mine}/deep/in.jsonl\0",
        "",
    ):
        assert readable(path, allowed) is None, path
    for name in ("..", ".", "", "a/b", "../bob", "al\nice"):
        assert readable(theirs / "in.jsonl", allowed, name=name) is None
    assert readable(mine / "deep" / "in.jsonl") is None


def test_results_go_to_allowed_folders_as_a_whole(tmp_path: Path) -> None:
    mine = tmp_path / "alice"
    (mine / "out").mkdir(parents=True)
    (tmp_path / "bob").mkdir()
    (mine / "away").symlink_to(tmp_path / "bob")
    source = tmp_path / "source"
    source.write_bytes(b"result")
    allowed = [f"{tmp_path}/{{username}}"]
    check_output(f"{mine}/out", allowed, "alice")
    deliver(source, f"{mine}/out", "r.jsonl", allowed, "alice")
    assert os.listdir(mine / "out") == ["r.jsonl"]
    assert (mine / "out" / "r.jsonl").read_bytes() == b"result"
    (mine / "out" / ".r.jsonl.partial").symlink_to(tmp_path / "bob" / "stolen")
    with pytest.raises(OSError):
        deliver(source, f"{mine}/out", "r.jsonl", allowed, "alice")
    for path in (f"{mine}/away", f"{tmp_path}/bob", f"{mine}/out/../../bob", f"{mine}/none", "/tmp"):
        with pytest.raises(RequestFault):
            check_output(path, allowed, "alice")
    assert os.listdir(tmp_path / "bob") == []


def test_uploads_that_a_crash_left_are_deleted_after_a_day(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "batches")
    folder.prepare()
    old, new = folder.uploads / "old", folder.uploads / "new"
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (1, 1))
    folder.forget_stale_uploads()
    assert os.listdir(folder.uploads) == ["new"]
    assert (folder.root.stat().st_mode & 0o777) == 0o700


def test_a_caller_survives_being_written_down_with_all_that_bounds_them() -> None:
    usual = Caller("", "")
    other: dict[type, Any] = {
        str: "x",
        bool: True,
        tuple: ("a", "b"),
        frozenset: frozenset({"c", "d"}),
        type(None): "y",
    }
    names = [each.name for each in dataclasses.fields(Caller) if each.init]
    caller = Caller(**{name: other[type(getattr(usual, name))] for name in names})
    assert all(getattr(caller, name) != getattr(usual, name) for name in names)
    assert decode_caller(encode_caller(caller)) == caller


@given(
    st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    st.integers(min_value=1, max_value=50),
)
def test_a_form_is_the_same_however_it_is_cut(contents: list[bytes], size: int) -> None:
    contents = [each.replace(b"--b", b"") for each in contents]
    body = b"preamble\r\n"
    for index, content in enumerate(contents):
        head = f'--b  \r\nContent-Disposition: form-data; name="f{index}"; filename="n ü {index}"\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    body += b"--b--\r\nepilogue"
    form = Form('multipart/form-data; boundary="b"')
    found: list[list[Any]] = []
    for at in range(0, len(body), size):
        for event in form.feed(body[at : at + size]):
            if isinstance(event, Begin):
                found.append([event.name, event.filename, b""])
            else:
                found[-1][2] += event.data
    form.close()
    assert found == [[f"f{n}", f"n ü {n}", content] for n, content in enumerate(contents)]


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/mixed; boundary=b"])
def test_what_is_no_form_is_refused(kind: str) -> None:
    with pytest.raises(Fault):
        Form(kind)
