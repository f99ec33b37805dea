"""The pieces of the benchmark: they compile, they work together, and a wrong answer is an error."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bench import DEFAULT, QUICK
from benchmarks.bodies import Bodies, ask
from benchmarks.budget import BUDGETS, Budget
from benchmarks.build import compiled
from benchmarks.hub import answer
from benchmarks.load import Report, command_for, read_report
from benchmarks.machine import free_port
from benchmarks.measures import MEASURES, Row
from benchmarks.report import missed_bars, table

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    """The port of a running upstream."""
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen([str(compiled("upstream"))], stdout=subprocess.PIPE, text=True)
        stack.enter_context(process)
        stack.callback(process.terminate)
        assert process.stdout is not None
        yield int(process.stdout.readline())


@pytest.fixture
def bodies(upstream: int, tmp_path: Path) -> Bodies:
    return Bodies.write(tmp_path, upstream)


def load(port: int, **parameters: str | int | float | Path) -> Report:
    """Send twenty requests over four connections."""
    options = {"connections": 4, "requests": 20, "seconds": 20, "token": "t-000000"}
    named = {name.replace("_", "-"): value for name, value in parameters.items()}
    command = command_for(port, {**options, **named})
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return read_report(done.stdout)


@pytest.mark.parametrize("name", ["chat", "conversation", "numbered"])
def test_right_replies_are_no_errors(upstream: int, bodies: Bodies, name: str) -> None:
    report = load(upstream, body=getattr(bodies, name), expect=bodies.reply)
    assert report.errors == 0, report.first_error
    assert report.replies >= 20
    assert report.latency is not None
    assert 0 < report.latency.min <= report.latency.median <= report.latency.p99 <= report.latency.max


def test_chunks_are_counted_and_timed(upstream: int, bodies: Bodies) -> None:
    report = load(upstream, body=bodies.stream, chunks=50)
    assert report.errors == 0, report.first_error
    assert report.chunks >= 20 * 50
    assert report.chunk_latency is not None
    # Each chunk but the last of a stream carries the time at which it was written
    assert report.chunk_latency.count >= 20 * 49
    assert report.chunk_latency.min > 0


def test_one_wrong_byte_is_an_error(upstream: int, bodies: Bodies, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_bytes(bodies.reply.read_bytes().replace(b"Hello!", b"hello!"))
    report = load(upstream, body=bodies.chat, expect=wrong)
    assert report.errors >= 20
    assert report.replies == 0
    assert report.first_error.startswith("body")


@pytest.mark.parametrize("change", [b"", b" "])
def test_another_length_is_an_error(upstream: int, bodies: Bodies, tmp_path: Path, change: bytes) -> None:
    wrong = tmp_path / "wrong.json"
    whole = bodies.reply.read_bytes()
    wrong.write_bytes(whole + change if change else whole[:-1])
    assert load(upstream, body=bodies.chat, expect=wrong).errors >= 20


@pytest.mark.parametrize("chunks", [49, 51])
def test_another_number_of_chunks_is_an_error(upstream: int, bodies: Bodies, chunks: int) -> None:
    report = load(upstream, body=bodies.stream, chunks=chunks)
    assert report.errors >= 20
    assert report.first_error == "body: not the number of chunks"


def test_a_body_that_is_no_stream_is_an_error(upstream: int, bodies: Bodies) -> None:
    assert load(upstream, body=bodies.chat, chunks=50).errors >= 20


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (b"data: [DONE]\n\n", "not the number of chunks"),
        (b'data: {"object":"chat.completion.chunk","a":1}\n\n', "the stream ended without [DONE]"),
        (b"event: what\n\n", "event: what"),
        (b"data: [DONE]\n\ndata: [DONE]\n\n", "data: [DONE]"),
    ],
)
def test_a_stream_must_end_as_streams_do(bodies: Bodies, tmp_path: Path, stream: bytes, fault: str) -> None:
    with canned(tmp_path, stream) as port:
        report = load(port, body=bodies.stream, chunks=1, connections=1, requests=1)
    assert report.errors >= 1
    assert fault in report.first_error


@contextlib.contextmanager
def canned(folder: Path, body: bytes) -> Iterator[int]:
    """Serve one body, whatever is asked."""
    file = folder / "canned"
    file.write_bytes(body)
    with subprocess.Popen(
        [sys.executable, "-c", CANNED, str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


CANNED = """
import http.server, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = pathlib.Path(sys.argv[1]).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_no_token_is_an_error(upstream: int, bodies: Bodies) -> None:
    report = load(upstream, body=bodies.chat, expect=bodies.reply, token="")
    assert report.errors >= 20
    assert report.first_error.startswith("status: 401")


@pytest.mark.parametrize("body", [b"[]", b'{"model":"m"}', b'{"messages":[]}', b"{"])
def test_upstream_refuses_what_is_no_request(upstream: int, body: bytes) -> None:
    with pytest.raises(RuntimeError, match="status 400"):
        ask(upstream, body)


def test_nobody_listening_is_an_error(bodies: Bodies, upstream: int) -> None:
    report = load(free_port(), body=bodies.chat, expect=bodies.reply)
    assert report.errors
    assert report.first_error.startswith("connect")


def test_usage_comes_when_asked(upstream: int) -> None:
    request = {"model": "m", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
    text = ask(upstream, json.dumps(request).encode()).decode()
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert len(chunks) == 51
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["usage"]["total_tokens"] == 69


def test_hub_knows_every_token() -> None:
    known = answer("GET /hub/api/user HTTP/1.1\r\nAuthorization: token t-000042\r\n")
    assert known.startswith(b"HTTP/1.1 200")
    assert json.loads(known.partition(b"\r\n\r\n")[2])["name"] == "u-000042"
    assert answer("GET /hub/api/user HTTP/1.1\r\nAuthorization: token x\r\n").startswith(b"HTTP/1.1 403")


def test_bars_are_judged() -> None:
    assert Budget(2.0, None, "s").text(2.0, 2.0) == "≤ 2 met"
    assert Budget(2.0, None, "s").text(2.01, 2.0) == "≤ 2 missed"
    assert Budget(0.25, None, "of nginx", at_least=True).text(0.24, 0.25) == "≥ 0.25 missed"
    assert Budget(0.25, None, "of nginx", at_least=True).text(None, 0.25) == "≥ 0.25 not measured"


def test_table_names_what_is_missed() -> None:
    slow = Row("requests/s", "", {"nginx": 70_000.0, "gateway": 7_000.0}, 0.1, "rate")
    unknown = Row("start", "s", {}, None, "start")
    assert missed_bars([slow, unknown]) == ["requests/s"]
    text = table([slow, unknown], ["nginx", "gateway"])
    assert "70,000" in text
    assert "≥ 0.25 missed" in text
    assert "≤ 2 not measured" in text


def test_quick_is_quicker_than_the_rest() -> None:
    assert QUICK.rounds * QUICK.seconds < DEFAULT.rounds * DEFAULT.seconds
    assert set(BUDGETS) >= {"rate", "cpu", "added", "tail", "chunks", "conversation", "memory", "start"}
    assert list(MEASURES)[:2] == ["start", "memory"]
