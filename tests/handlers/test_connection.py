"""One suite for tornado's HTTPServer and ours on both loops: what they promise, and hostile requests.

Where tornado's own server behaves otherwise, the test says so in so many words.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado import httputil, web
from tornado.iostream import StreamClosedError
from tornado.locks import Event
from typing_extensions import override

from jupyterhub_ai_gateway.handlers.connection import Connection, ConnectionLimits, HTTPServer

from .certificates import write_certificate
from .fronts import (
    ALL,
    OURS,
    Answer,
    Book,
    CutOff,
    Front,
    Message,
    Peer,
    answer_parsed,
    chunked,
    get,
    leave,
    post,
    request,
    serve,
    take,
)
from .hostile import CLOSES, SAYS_400, SMUGGLED, STOCK_DIFFERS, TABLE, Hostile

every_front = pytest.mark.parametrize("kind", ALL)
our_fronts = pytest.mark.parametrize("kind", OURS)
SEEDS = [None, *range(5)]
every_cut = pytest.mark.parametrize("seed", SEEDS)

QUICK = ConnectionLimits(
    header_timeout_s=0.1,
    body_timeout_s=0.1,
    idle_timeout_s=0.1,
    write_timeout_s=0.1,
    linger_s=0.1,
)


def text(status: int, body: bytes = b"", *headers: tuple[str, str]) -> Any:
    """Answer every request with this, in one go."""
    return lambda message: message.wire.respond(status, headers, body)


# Messages


@every_front
def test_connection_is_kept_for_the_next_request(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        for path in ("/one", "/two?a=b", "/three"):
            answer = peer.ask(post(path, b"hello"))
            assert answer.status == 200
            assert answer.get("Connection") is None
            assert answer.json["path"] == path
            assert answer.json["body"] == "hello"


@every_front
def test_connection_closes_when_asked_to(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        answer = peer.ask(get("/", "Connection: close"))
        assert answer.get("Connection") == "close"
        assert peer.is_closed()


@our_fronts
def test_close_among_other_options_closes(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        assert peer.ask(get("/", "Connection: foo, Close")).get("Connection") == "close"
        assert peer.is_closed()


@every_front
def test_http_1_0_closes_unless_asked_to_keep(kind: str) -> None:
    with serve(kind, Book()) as front:
        with front.connect() as peer:
            assert peer.ask(get(version="HTTP/1.0")).json["version"] == "HTTP/1.0"
            assert peer.is_closed()
        with front.connect() as peer:
            for _ in range(2):
                answer = peer.ask(get("/", "Connection: keep-alive", version="HTTP/1.0"))
                assert (answer.get("Connection") or "").lower() == "keep-alive"


@every_front
def test_http_1_0_needs_no_host(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        assert peer.ask(b"GET / HTTP/1.0\r\n\r\n").status == 200


@every_front
@every_cut
def test_bodies_arrive_however_they_are_cut(kind: str, seed: int | None) -> None:
    wanted = [(f"/{n}", bytes(range(256)) * n) for n in (0, 1, 3)]
    with serve(kind, Book()) as front, front.connect() as peer:
        for path, body in wanted:
            peer.send_cut(post(path, body), seed)
            assert peer.answer().json["body"] == body.decode("latin-1")
            peer.send_cut(chunked(path, body[:100], body[100:101], body[101:]), seed)
            assert peer.answer().json["body"] == body.decode("latin-1")


@every_front
@every_cut
def test_pipelined_requests_are_answered_in_order(kind: str, seed: int | None) -> None:
    paths = [f"/{n}" for n in range(8)]
    data = b"".join(
        post(path, path.encode()) if n % 3 == 0 else chunked(path, b"ab", b"c") if n % 3 == 1 else get(path)
        for n, path in enumerate(paths)
    )
    with serve(kind, Book()) as front, front.connect() as peer:
        peer.send_cut(data, seed)
        assert [peer.answer().json["path"] for _ in paths] == paths


@every_front
def test_next_pipelined_request_waits_for_the_answer_before(kind: str) -> None:
    book = Book(on_finish=leave)
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(get("/first") + get("/second"))
        first = take(book.finished)
        assert front.call(book.heads.qsize) == 1
        front.call(answer_parsed, first)
        assert peer.answer().json["path"] == "/first"
        front.call(answer_parsed, take(book.finished))
        assert peer.answer().json["path"] == "/second"


@our_fronts
def test_hundreds_of_pipelined_requests_do_not_pile_up_on_the_stack(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        peer.send(get("/") * 1500)
        assert [peer.answer().status for _ in range(1500)] == [200] * 1500


@every_front
def test_empty_line_before_a_request_is_ignored(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        for _ in range(2):
            assert peer.ask(b"\r\n" + get("/here")).json["path"] == "/here"


@every_front
def test_repeated_headers_are_joined(kind: str) -> None:
    with serve(kind, Book(on_finish=answer_list)) as front, front.connect() as peer:
        answer = peer.ask(get("/", "X-One: a", "x-one:  b,c ", "X-Two:"))
        assert answer.body == b"a,b,c|['a', 'b,c']||['']|None"


def answer_list(message: Message) -> None:
    fields = message.headers
    seen = [fields.get("X-ONE"), fields.get_list("x-one"), fields["x-two"], fields.get_list("X-Two")]
    text(200, "|".join(map(str, [*seen, fields.get("X-Three")])).encode())(message)


@every_front
def test_head_204_and_304_have_no_body(kind: str) -> None:
    def respond(message: Message) -> None:
        message.wire.respond(int(message.line.path[1:]), [("ETag", '"a"')], b"some body")

    with serve(kind, Book(on_finish=respond)) as front, front.connect() as peer:
        for _ in range(2):
            answer = peer.ask(request("HEAD", "/200"))
            assert (answer.status, answer.get("Content-Length")) == (200, "9")
            for status in (204, 304):
                answer = peer.ask(get(f"/{status}"))
                assert (answer.status, answer.get("Content-Length"), answer.body) == (status, None, b"")
                assert answer.get("Transfer-Encoding") is None
        assert peer.ask(get("/200")).body == b"some body"


@every_front
def test_upgrade_is_served_as_an_ordinary_request(kind: str) -> None:
    upgrades = [
        get("/a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        post("/b", b"body", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
        request("POST", "/c", "Connection: upgrade", "Upgrade: x", "Transfer-Encoding: chunked")
        + b"4\r\nbody\r\n0\r\n\r\n",
        request("CONNECT", "other.test:443"),
    ]
    with serve(kind, Book()) as front, front.connect() as peer:
        peer.send(b"".join(upgrades) + get("/after"))
        answers = [peer.answer() for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        paths = ["/a", "/b", "/c", "other.test:443", "/after"]
        assert [answer.json["path"] for answer in answers] == paths
        assert [answer.json["body"] for answer in answers] == ["", "body", "body", "", ""]


@our_fronts
def test_absolute_target_becomes_path_and_host(kind: str) -> None:
    # Tornado's own server hands the whole URL on as the path.
    targets = {
        "http://real.test:8000/a?b=c": ("/a?b=c", "real.test:8000"),
        "HTTPS://real.test": ("/", "real.test"),
        "http://real.test?b": ("/?b", "real.test"),
        "http://[::1]:80/": ("/", "[::1]:80"),
    }
    with serve(kind, Book()) as front, front.connect() as peer:
        for target, (path, host) in targets.items():
            seen = peer.ask(get(target)).json
            assert seen["path"] == path
            assert [v for n, v in seen["headers"] if n == "Host"] == [host]
        assert peer.ask(request("OPTIONS", "*")).json["path"] == "*"


@our_fronts
def test_answers_carry_a_date_and_no_server(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        answer = peer.ask(get())
        assert (answer.get("Date") or "").endswith(" GMT")
        assert answer.get("Server") is None


# Hostile framing


@every_front
@pytest.mark.parametrize("hostile", TABLE, ids=lambda hostile: hostile.name)
def test_hostile_request_is_refused(kind: str, hostile: Hostile) -> None:
    book = Book()
    stock = STOCK_DIFFERS.get(hostile.name) if kind == "stock" else None
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(hostile.data + SMUGGLED)
        if stock == CLOSES:
            assert peer.is_closed()
        elif stock in (None, SAYS_400):
            answer = peer.answer()
            assert answer.status == (400 if stock == SAYS_400 else hostile.status)
            assert kind == "stock" or is_refusal(answer)
            assert peer.is_closed()
        else:
            assert peer.answer().status == 200
            return
        assert book.finished.empty()


def is_refusal(answer: Answer) -> bool:
    """A refusal looks like every other error of the gateway."""
    body = answer.json
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    assert answer.get("Connection") == "close"
    assert answer.get("Content-Type") == "application/json"
    assert answer.get("x-request-id")
    return True


@our_fronts
@pytest.mark.parametrize("seed", [None, 1])
def test_hostile_requests_are_refused_however_they_are_cut(kind: str, seed: int | None) -> None:
    book = Book()
    with serve(kind, book) as front:
        for hostile in TABLE:
            data = hostile.data + SMUGGLED
            if len(data) > 2000:
                continue
            with front.connect() as peer:
                with contextlib.suppress(ConnectionError):  # it may be refused before its end
                    peer.send_cut(data, seed)
                assert peer.answer().status == hostile.status, hostile.name
                assert peer.is_closed()
        assert book.finished.empty()


@every_front
def test_refused_body_is_told_as_a_close(kind: str) -> None:
    book = Book()
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        take(book.data)
        peer.send(b"nonsense\r\n")
        assert peer.answer().status == 400
        message = take(book.closed)
        assert message.body == b"abc"
        assert message.events == ["headers", "close"]


# Limits


@our_fronts
def test_body_limit_is_the_servers_own_answer(kind: str) -> None:
    book = Book()
    with serve(kind, book, ConnectionLimits(max_body_bytes=10)) as front:
        with front.connect() as peer:
            assert peer.ask(post("/", b"x" * 10)).status == 200
            answer = peer.ask(post("/", b"x" * 11))
            assert answer.status == 413
            assert answer.json["error"]["code"] == "request_too_large"
            assert is_refusal(answer)
            assert peer.is_closed()
        take(book.closed)
        with front.connect() as peer:
            answer = peer.ask(chunked("/", b"x" * 6, b"x" * 5))
            assert answer.status == 413
            assert is_refusal(answer)
        assert take(book.closed).events == ["headers", "close"]


@our_fronts
def test_delegate_may_answer_a_long_body_in_its_own_words(kind: str) -> None:
    def refuse(message: Message) -> None:
        text(413, b"ours")(message)

    book = Book(on_headers=refuse)
    with serve(kind, book, ConnectionLimits(max_body_bytes=10)) as front, front.connect() as peer:
        peer.send(request("POST", "/", "Content-Length: 1000000"))
        answer = peer.answer()
        assert (answer.status, answer.body, answer.get("Connection")) == (413, b"ours", "close")


@every_front
def test_delegate_may_allow_a_longer_body(kind: str) -> None:
    def allow(message: Message) -> None:
        message.conn.set_max_body_size(20)

    limits = ConnectionLimits(max_body_bytes=10)
    with serve(kind, Book(on_headers=allow), limits) as front, front.connect() as peer:
        assert peer.ask(post("/", b"x" * 20)).status == 200
        assert peer.ask(chunked("/", b"x" * 20)).status == 200
        assert peer.ask(post("/", b"x" * 21)).status in (413, 400)


@our_fronts
def test_refusal_can_be_read_while_the_body_is_still_sent(kind: str) -> None:
    body = b"x" * 3_000_000
    with serve(kind, Book(), ConnectionLimits(max_body_bytes=10)) as front, front.connect() as peer:
        peer.send(post("/", body))
        assert peer.answer().status == 413
        assert peer.is_closed()


@our_fronts
def test_peer_that_never_stops_sending_is_cut_off(kind: str) -> None:
    limits = ConnectionLimits(max_body_bytes=10, linger_bytes=100_000, linger_s=3600)
    with serve(kind, Book(), limits) as front, front.connect() as peer:
        peer.send(request("POST", "/", "Content-Length: 11"))
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                peer.send(b"x" * 65536)


# Timeouts: only that they come, never how soon


@our_fronts
def test_headers_that_do_not_end_time_out(kind: str) -> None:
    with serve(kind, Book(), QUICK) as front, front.connect() as peer:
        answer = peer.ask(b"GET / HTTP/1.1\r\nHost: a")
        assert answer.status == 408
        assert answer.json["error"]["code"] == "request_timeout"
        assert peer.is_closed()


@our_fronts
def test_silent_connection_is_closed_without_a_word(kind: str) -> None:
    with serve(kind, Book(), QUICK) as front, front.connect() as peer:
        assert peer.is_closed()


@our_fronts
def test_idle_connection_is_closed_without_a_word(kind: str) -> None:
    with serve(kind, Book(), QUICK) as front, front.connect() as peer:
        assert peer.ask(get()).status == 200
        assert peer.is_closed()


@our_fronts
def test_body_that_stops_arriving_times_out(kind: str) -> None:
    book = Book()
    with serve(kind, book, QUICK) as front, front.connect() as peer:
        answer = peer.ask(request("POST", "/", "Content-Length: 5") + b"abc")
        assert answer.status == 408
        assert take(book.closed).events == ["headers", "close"]


@our_fronts
def test_slow_answer_has_no_timeout(kind: str) -> None:
    book = Book(on_finish=leave)
    with serve(kind, book, QUICK) as front, front.connect() as peer, front.connect() as other:
        peer.send(get())
        message = take(book.finished)
        assert other.is_closed()  # by now the sweep has seen both
        front.call(answer_parsed, message)
        assert peer.answer().status == 200


@our_fronts
def test_peer_that_does_not_read_is_given_up(kind: str) -> None:
    lost: queue.Queue[str] = queue.Queue()

    def pour(message: Message) -> None:
        message.conn.set_close_callback(lambda: lost.put("lost"))
        message.wire.begin(200, [])
        while message.wire.send(b"x" * 65536) is None:
            pass

    with serve(kind, Book(on_finish=pour), QUICK) as front, front.connect() as peer:
        peer.send(get())
        assert take(lost) == "lost"


# Expect: 100-continue


@every_front
def test_continue_is_said_when_the_body_is_wanted(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        for _ in range(2):
            peer.send(
                request(
                    "POST",
                    "/",
                    "Expect: 100-Continue" if front.is_ours else "Expect: 100-continue",
                    "Content-Length: 3",
                )
            )
            assert peer.head().status == 100
            peer.send(b"abc")
            assert peer.answer().json["body"] == "abc"


@every_front
def test_continue_is_said_once_the_delegate_is_ready(kind: str) -> None:
    ready = Event()
    book = Book(on_headers=lambda message: ready.wait())
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 3"))
        take(book.heads)
        front.call(ready.set)
        assert peer.head().status == 100
        peer.send(b"abc")
        assert peer.answer().json["body"] == "abc"


@every_front
def test_continue_is_not_said_when_the_answer_is_there(kind: str) -> None:
    with serve(kind, Book(on_headers=text(401, b"no"))) as front, front.connect() as peer:
        answer = peer.ask(request("POST", "/", "Expect: 100-continue", "Content-Length: 3"))
        assert (answer.status, answer.body) == (401, b"no")
        if front.is_ours:  # tornado waits for the body, then closes
            assert answer.get("Connection") == "close"
            assert peer.is_closed()


@our_fronts
def test_continue_is_not_said_to_http_1_0_or_when_the_body_came_along(kind: str) -> None:
    with serve(kind, Book()) as front, front.connect() as peer:
        assert peer.ask(post("/", b"abc", "Expect: 100-continue")).status == 200
        old = post("/", b"abc", "Expect: 100-continue", version="HTTP/1.0")
        peer.send(old[:-3])
        peer.send(old[-3:])
        assert peer.answer().status == 200


# Early answers


@every_front
def test_early_answer_can_be_read_while_the_body_is_still_sent(kind: str) -> None:
    book = Book(on_headers=text(403, b"not you"))
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(request("POST", "/", "Content-Length: 2000000"))
        if front.is_ours:  # tornado resets a connection that it has not read
            peer.send(b"x" * 1_000_000)
        answer = peer.answer()
        assert (answer.status, answer.body) == (403, b"not you")
        if front.is_ours:  # tornado does not tell
            assert answer.get("Connection") == "close"
            peer.send(b"x" * 1_000_000)
        assert peer.is_closed()
        assert book.data.empty()
        assert book.finished.empty()


@our_fronts
def test_early_answer_keeps_the_connection_when_the_body_is_there_already(kind: str) -> None:
    book = Book(on_headers=text(403, b"not you"))
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(post("/", b"some body") + post("/", b"another"))
        for _ in range(2):
            answer = peer.answer()
            assert (answer.status, answer.get("Connection")) == (403, None)
        assert peer.ask(get()).status == 403
        assert book.finished.empty()
        assert book.closed.empty()


@every_front
def test_early_answer_to_a_chunked_body_closes(kind: str) -> None:
    with serve(kind, Book(on_headers=text(403, b"no"))) as front, front.connect() as peer:
        assert peer.ask(chunked("/", b"abc")).status == 403
        assert peer.is_closed()


# Back-pressure


@every_front
def test_reading_waits_for_the_delegate(kind: str) -> None:
    gate = Event()
    book = Book(on_data=lambda message: gate.wait())
    body = b"x" * 20_000_000
    with serve(kind, book) as front, front.connect() as peer:
        sending = threading.Thread(target=peer.send, args=(post("/", body),))
        sending.start()
        first = take(book.data)
        front.wait_until(lambda: is_full(front, first))
        assert front.call(lambda: len(first.pieces)) == 1
        front.call(gate.set)
        assert len(peer.answer().json["body"]) == len(body)
        sending.join()


def is_full(front: Front, message: Message) -> bool:
    """Say whether the server has stopped to read; tornado simply does not go on."""
    return not front.is_ours or message.server_conn._is_paused


@every_front
def test_headers_wait_for_the_delegate(kind: str) -> None:
    gate = Event()
    book = Book(on_headers=lambda message: gate.wait())
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(post("/", b"abc"))
        message = take(book.heads)
        assert front.call(lambda: message.events) == ["headers"]
        front.call(gate.set)
        assert peer.answer().json["body"] == "abc"


@our_fronts
def test_what_is_sent_ahead_is_bounded(kind: str) -> None:
    book = Book(on_finish=leave)
    count = 20_000
    with serve(kind, book) as front, front.connect() as peer:
        sending = threading.Thread(target=peer.send, args=(get("/" + "a" * 500) * count,))
        sending.start()
        first = take(book.finished)
        front.wait_until(lambda: is_full(front, first))
        waiting = front.call(lambda: first.server_conn._reader.waiting_bytes)
        assert waiting < 65536 + 2 * 262144  # the limit, and what a loop reads at once
        book.on_finish = text(200)
        front.call(text(200), first)
        assert [peer.answer().status for _ in range(count)] == [200] * count
        sending.join()


@every_front
def test_writing_waits_for_a_slow_reader(kind: str) -> None:
    full: queue.Queue[int] = queue.Queue()

    async def pour(message: Message) -> None:
        message.wire.begin(200, [])
        for n in range(400):
            pending = message.wire.send(b"x" * 65536)
            if pending is not None:
                full.put(n)
                await pending
        message.wire.end()

    tasks: list[asyncio.Task[None]] = []
    book = Book(on_finish=lambda message: tasks.append(asyncio.create_task(pour(message))))
    with serve(kind, book) as front, Peer(front.port, receive_bytes=4096) as peer:
        peer.send(get())
        assert take(full) < 300
        assert full.empty()
        assert len(peer.answer().body) == 400 * 65536
        front.run(asyncio.wait_for(tasks[0], 10))


# Hang-ups


def watch(message: Message, told: queue.Queue[str]) -> None:
    message.conn.set_close_callback(lambda: told.put("callback"))


@every_front
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("how", ["close", "half", "reset"])
def test_hangup_is_told_once(kind: str, begun: bool, how: str) -> None:
    told: queue.Queue[str] = queue.Queue()

    def wait(message: Message) -> None:
        watch(message, told)
        if begun:
            message.wire.begin(200, [])
            message.wire.send(b"piece")

    book = Book(on_finish=wait)
    with serve(kind, book) as front:
        with front.connect() as peer:
            peer.send(get())
            message = take(book.finished)
            if begun:
                assert peer.head().status == 200
                assert peer.chunk() == b"piece"  # tornado misses a reset in between the two
            hang_up(peer, how)
            assert take(told) == "callback"
        front.wait_until_empty()
        assert message.events == ["headers", "finish"]
        assert told.empty()


def hang_up(peer: Peer, how: str) -> None:
    if how == "half":
        peer.socket.shutdown(socket.SHUT_WR)
        return
    if how == "reset":
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


@every_front
@pytest.mark.parametrize("how", ["close", "half", "reset"])
def test_hangup_in_the_body_is_told_once(kind: str, how: str) -> None:
    told: queue.Queue[str] = queue.Queue()
    book = Book(on_headers=lambda message: watch(message, told))
    with serve(kind, book) as front:
        with front.connect() as peer:
            peer.send(request("POST", "/", "Content-Length: 5") + b"abc")
            take(book.data)
            hang_up(peer, how)
            message = take(book.closed)
        front.wait_until_empty()
        assert message.events == ["headers", "close"]
        assert told.empty()  # as tornado has it: one of the two


@our_fronts
@pytest.mark.parametrize("how", ["close", "half"])
def test_hangup_is_noticed_while_nothing_is_read(kind: str, how: str) -> None:
    told: queue.Queue[str] = queue.Queue()
    book = Book(on_finish=lambda message: watch(message, told))
    with serve(kind, book, ConnectionLimits(header_timeout_s=1.0)) as front, front.connect() as peer:
        peer.send(get())
        message = take(book.finished)
        while not front.call(is_full, front, message):
            peer.send(get("/" + "a" * 5000))
        peer.send(get("/unread"))
        hang_up(peer, how)
        assert take(told) == "callback"


@our_fronts
def test_callback_set_after_the_hangup_is_called(kind: str) -> None:
    told: queue.Queue[str] = queue.Queue()
    book = Book(on_finish=leave)
    with serve(kind, book) as front:
        with front.connect() as peer:
            peer.send(get())
            message = take(book.finished)
        front.wait_until_empty()
        front.call(watch, message, told)
        assert take(told) == "callback"


@every_front
def test_writing_after_the_hangup_fails_quietly(kind: str) -> None:
    book = Book(on_finish=lambda message: message.wire.begin(200, []))
    with serve(kind, book) as front:
        with front.connect() as peer:
            peer.send(get())
            message = take(book.finished)
        front.wait_until_empty()
        with pytest.raises(StreamClosedError):
            front.call(message.wire.send, b"late")
        with pytest.raises(StreamClosedError):
            front.run(wait_for_write(message))
        front.call(message.wire.end)
        front.call(message.wire.abort)


async def wait_for_write(message: Message) -> None:
    await message.conn.write(b"late")


@every_front
def test_hangup_ends_the_wait_of_a_slow_writer(kind: str) -> None:
    full: queue.Queue[str] = queue.Queue()

    async def pour(message: Message) -> None:
        message.wire.begin(200, [])
        with pytest.raises(StreamClosedError):
            while True:
                pending = message.wire.send(b"x" * 65536)
                if pending is not None:
                    full.put("full")
                    await pending
        full.put("over")

    tasks: list[asyncio.Task[None]] = []
    book = Book(on_finish=lambda message: tasks.append(asyncio.create_task(pour(message))))
    with serve(kind, book) as front:
        with Peer(front.port, receive_bytes=4096) as peer:
            peer.send(get())
            assert take(full) == "full"
        while take(full) != "over":
            pass
        front.run(asyncio.wait_for(tasks[0], 10))


# Wire


@every_front
def test_wire_streams_in_chunks(kind: str) -> None:
    book = Book(on_finish=leave)
    with serve(kind, book) as front, front.connect() as peer:
        for _ in range(2):
            peer.send(get())
            message = take(book.finished)
            front.call(message.wire.begin, 200, [("Content-Type", "text/event-stream")])
            assert peer.head().get("Transfer-Encoding") == "chunked"
            for piece in (b"one", b"two\r\n\r\n", b"x" * 70000):
                front.call(message.wire.send, piece)
                assert peer.chunk() == piece  # it is there before the next is sent
            assert front.call(message.wire.send, b"") is None
            front.call(message.wire.end)
            assert peer.chunk() == b""


@every_front
def test_wire_streams_until_the_end_to_http_1_0(kind: str) -> None:
    def stream(message: Message) -> None:
        message.wire.begin(200, [])
        message.wire.send(b"one ")
        message.wire.send(b"two")
        message.wire.end()

    with serve(kind, Book(on_finish=stream)) as front:
        for lines in ([], ["Connection: keep-alive"]):
            with front.connect() as peer:
                answer = peer.ask(get("/", *lines, version="HTTP/1.0"))
                assert answer.body == b"one two"
                assert answer.get("Transfer-Encoding") is None
                assert peer.is_closed()


@every_front
def test_wire_streams_nothing_to_head(kind: str) -> None:
    def stream(message: Message) -> None:
        message.wire.begin(200, [("X-A", "b")])
        assert message.wire.send(b"one") is None
        message.wire.end()

    with serve(kind, Book(on_finish=stream)) as front, front.connect() as peer:
        for _ in range(2):
            answer = peer.ask(request("HEAD", "/"))
            assert (answer.status, answer.get("X-A")) == (200, "b")
        assert peer.ask(get()).body == b"one"


@every_front
def test_wire_abort_shows_that_the_answer_is_cut_off(kind: str) -> None:
    told: queue.Queue[str] = queue.Queue()

    def cut(message: Message) -> None:
        watch(message, told)
        message.wire.begin(200, [])
        message.wire.send(b"one")
        message.wire.abort()
        message.wire.abort()

    book = Book(on_finish=cut)
    with serve(kind, book) as front, front.connect() as peer:
        with pytest.raises(CutOff) as caught:
            peer.ask(get())
        assert caught.value.body == b"one"
        front.wait_until_empty()
        assert told.empty()  # whoever closes needs no telling


@our_fronts
def test_wire_abort_resets_what_only_the_end_would_end(kind: str) -> None:
    book = Book(on_finish=lambda message: message.wire.begin(200, []))
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(get(version="HTTP/1.0"))
        assert peer.head().status == 200
        front.call(take(book.finished).wire.abort)
        with pytest.raises(ConnectionResetError):
            peer.reader.read()


@every_front
def test_wire_abort_before_the_answer_just_closes(kind: str) -> None:
    book = Book(on_finish=lambda message: message.wire.abort())
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(get())
        assert peer.is_closed()


@every_front
@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "b\r\nX-B: c"),
        ("X-A", "b\n"),
        ("X-A", "b\r"),
        ("X-A\r\nX-B", "c"),
        ("X-A", "\0"),
        ("Content-Length", "3"),
        ("transfer-encoding", "chunked"),
        ("Connection", "close"),
        ("Date", "now"),
    ],
)
def test_wire_refuses_headers_that_would_break_the_framing(kind: str, header: tuple[str, str]) -> None:
    def answer(message: Message) -> None:
        with pytest.raises(ValueError):
            message.wire.begin(200, [header])
        with pytest.raises(ValueError):
            message.wire.respond(200, [header], b"body")
        message.wire.respond(500, [], b"instead")

    with serve(kind, Book(on_finish=answer)) as front, front.connect() as peer:
        for _ in range(2):
            answered = peer.ask(get())
            assert (answered.status, answered.body) == (500, b"instead")


@every_front
def test_wire_knows_no_reason_for_an_unknown_status(kind: str) -> None:
    with serve(kind, Book(on_finish=text(529, b"busy"))) as front, front.connect() as peer:
        assert peer.ask(get()).status == 529


@our_fronts
def test_an_answer_cannot_begin_twice(kind: str) -> None:
    failures: queue.Queue[Exception] = queue.Queue()

    def answer(message: Message) -> None:
        message.wire.begin(200, [])
        try:
            message.wire.respond(200, [], b"again")
        except RuntimeError as error:
            failures.put(error)
        message.wire.end()
        message.wire.respond(200, [], b"again")  # too late to reach anybody

    with serve(kind, Book(on_finish=answer)) as front, front.connect() as peer:
        assert peer.ask(get()).body == b""
        assert peer.ask(get()).body == b""
        take(failures)


# tornado's own interface


def headers_of(**fields: str) -> httputil.HTTPHeaders:
    return httputil.HTTPHeaders({name.replace("_", "-"): value for name, value in fields.items()})


@every_front
def test_http_connection_interface(kind: str) -> None:
    def answer(message: Message) -> None:
        conn = message.conn
        line = httputil.ResponseStartLine("", 201, "Made up")
        length = {"Content_Length": "6"} if message.line.path == "/length" else {}
        assert conn.write_headers(line, headers_of(X_A="b", **length), b"one").done()
        assert conn.write(b"two").done()
        conn.finish()

    with serve(kind, Book(on_finish=answer)) as front, front.connect() as peer:
        for _ in range(2):
            assert peer.ask(get("/length")).body == b"onetwo"
            answered = peer.ask(get("/chunked"))
            assert answered.pieces == [b"one", b"two"]
            assert (answered.status, answered.get("X-A")) == (201, "b")
        assert peer.ask(get("/until", version="HTTP/1.0")).body == b"onetwo"


@every_front
@pytest.mark.parametrize("length", ["2", "4"])
def test_body_that_breaks_its_promised_length_closes(kind: str, length: str) -> None:
    errors: queue.Queue[Exception] = queue.Queue()

    def answer(message: Message) -> None:
        line = httputil.ResponseStartLine("", 200, "OK")
        message.conn.write_headers(line, headers_of(Content_Length=length))
        try:
            message.conn.write(b"abc")
            message.conn.finish()
        except httputil.HTTPOutputError as error:
            errors.put(error)

    with serve(kind, Book(on_finish=answer)) as front, front.connect() as peer:
        with pytest.raises(CutOff):
            peer.ask(get())
        take(errors)


@every_front
def test_line_break_in_a_header_is_a_value_error(kind: str) -> None:
    def answer(message: Message) -> None:
        bad = headers_of()
        bad["X-A"] = "b\r\nX-B: c"
        for reason, fields in (("OK", bad), ("OK\r\nX-B: c", headers_of())):
            line = httputil.ResponseStartLine("", 200, reason)
            with pytest.raises(ValueError):
                message.conn.write_headers(line, fields, b"")
        line = httputil.ResponseStartLine("", 500, "Instead")
        message.conn.write_headers(line, headers_of(Content_Length="7"), b"instead")
        message.conn.finish()

    with serve(kind, Book(on_finish=answer)) as front, front.connect() as peer:
        for _ in range(2):
            assert peer.ask(get()).body == b"instead"


@our_fronts
@pytest.mark.parametrize("where", ["headers", "data", "finish"])
def test_bug_in_a_delegate_is_a_500_and_a_traceback(kind: str, where: str, expected_log: Any) -> None:
    def fail(message: Message) -> None:
        raise ZeroDivisionError("a bug")

    with serve(kind, Book(**{f"on_{where}": fail})) as front:
        with front.connect() as peer:
            answer = peer.ask(post("/", b"abc"))
            assert answer.status == 500
            assert b"a bug" not in answer.body
            assert peer.is_closed()
        with front.connect() as peer:
            assert peer.ask(post("/", b"abc")).status == 500
    expected_log.take("Uncaught exception")


@our_fronts
def test_bug_in_what_a_delegate_waits_for_is_a_500(kind: str, expected_log: Any) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    book = Book(on_data=lambda message: fail())
    with serve(kind, book) as front, front.connect() as peer:
        assert peer.ask(post("/", b"abc")).status == 500
        take(book.closed)
    expected_log.take("Uncaught exception")


@every_front
def test_input_error_of_a_delegate_is_a_400(kind: str) -> None:
    def refuse(message: Message) -> None:
        raise httputil.HTTPInputError("secret")

    book = Book(on_headers=refuse)
    with serve(kind, book) as front, front.connect() as peer:
        answer = peer.ask(get())
        assert answer.status == 400
        assert b"secret" not in answer.body
        take(book.closed)


# Where a request comes from


def answer_context(message: Message) -> None:
    request_ = httputil.HTTPServerRequest(
        connection=message.conn, start_line=message.line, headers=message.headers
    )
    assert message.conn.context.address_family in (socket.AF_INET, socket.AF_UNIX)
    assert str(message.conn.context)
    text(200, f"{request_.remote_ip} {request_.protocol}".encode())(message)


@every_front
@pytest.mark.parametrize(
    ("lines", "trusted", "expected"),
    [
        ([], [], b"127.0.0.1 http"),
        (["X-Forwarded-For: 4.4.4.4", "X-Forwarded-Proto: https"], [], b"4.4.4.4 https"),
        (["X-Forwarded-For: 4.4.4.4, 5.5.5.5"], [], b"5.5.5.5 http"),
        (["X-Forwarded-For: 4.4.4.4, 5.5.5.5"], ["5.5.5.5"], b"4.4.4.4 http"),
        (["X-Forwarded-For: 4.4.4.4", "X-Forwarded-For: 5.5.5.5"], ["5.5.5.5"], b"4.4.4.4 http"),
        (["X-Forwarded-For: 5.5.5.5"], ["5.5.5.5"], b"5.5.5.5 http"),
        (["X-Real-Ip: 6.6.6.6", "X-Forwarded-For: 4.4.4.4"], [], b"6.6.6.6 http"),
        (["X-Real-Ip: nonsense"], [], b"127.0.0.1 http"),
        (["X-Forwarded-For: 2620:0:1cfe:face:b00c::3"], [], b"2620:0:1cfe:face:b00c::3 http"),
        (["X-Scheme: https", "X-Forwarded-Proto: http"], [], b"127.0.0.1 https"),
        (["X-Forwarded-Proto: http, https"], [], b"127.0.0.1 https"),
        (["X-Forwarded-Proto: gopher"], [], b"127.0.0.1 http"),
    ],
)
def test_proxy_headers_are_believed_when_told_to(
    kind: str, lines: list[str], trusted: list[str], expected: bytes
) -> None:
    book = Book(on_finish=answer_context)
    options = {"xheaders": True, "trusted_downstream": trusted}
    with serve(kind, book, **options) as front, front.connect() as peer:
        assert peer.ask(get("/", *lines)).body == expected
        assert peer.ask(get()).body == b"127.0.0.1 http"  # nothing of it stays


@every_front
def test_proxy_headers_are_not_believed_by_default(kind: str) -> None:
    with serve(kind, Book(on_finish=answer_context)) as front, front.connect() as peer:
        answer = peer.ask(get("/", "X-Forwarded-For: 4.4.4.4", "X-Scheme: https"))
        assert answer.body == b"127.0.0.1 http"


# TLS


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    certificate, key = write_certificate(tmp_path_factory.mktemp("tls"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


@every_front
def test_tls_serves_the_same(kind: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    told: queue.Queue[str] = queue.Queue()
    book = Book(on_finish=answer_context)
    with serve(kind, book, ssl_context=tls[0], client_tls=tls[1]) as front:
        with front.connect() as peer:
            assert peer.ask(get()).body == b"127.0.0.1 https"
            book.on_finish = answer_parsed
            body = "x" * 1_000_000
            assert peer.ask(post("/", body.encode())).json["body"] == body
            book.on_finish = lambda message: watch(message, told)
            peer.send(get())
            for _ in range(3):
                take(book.finished)
        assert take(told) == "callback"


@our_fronts
def test_tls_refuses_the_same(kind: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    limits = ConnectionLimits(max_body_bytes=10)
    with serve(kind, Book(), limits, ssl_context=tls[0], client_tls=tls[1]) as front:
        with front.connect() as peer:
            peer.send(post("/", b"x" * 200_000))
            assert peer.answer().status == 413
        with front.connect() as peer:
            assert peer.ask(b"nonsense\r\n\r\n").status == 400


# Unix sockets


@our_fronts
def test_unix_sockets_are_served(kind: str, tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "gateway.sock"))
    with serve(kind, Book(on_finish=answer_context)) as front:
        front.run(front.server.start([listening]))
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(tmp_path / "gateway.sock"))
            peer.sendall(get("/", "Connection: close"))
            assert peer.makefile("rb").read().endswith(b"0.0.0.0 http")


# Stopping


@our_fronts
def test_stop_closes_idle_connections_and_lets_answers_finish(kind: str) -> None:
    book = Book(on_finish=leave)
    with serve(kind, book) as front, contextlib.ExitStack() as stack:
        idle, new, asking, streaming, sending = [stack.enter_context(front.connect()) for _ in range(5)]
        idle.send(get())
        front.call(text(200), take(book.finished))
        assert idle.answer().status == 200
        asking.send(get())
        asked = take(book.finished)
        streaming.send(get())
        streamed = take(book.finished)
        front.call(streamed.wire.begin, 200, [])
        assert streaming.head().get("Connection") is None
        sending.send(post("/", b"abc")[:-1])
        take(book.data)
        front.wait_until(lambda: front.server.open_connections == 5)

        front.call(front.server.stop)
        assert idle.is_closed()
        assert new.is_closed()
        with pytest.raises(ConnectionError):
            front.connect()
        front.call(text(200), asked)
        assert asking.answer().get("Connection") == "close"
        assert asking.is_closed()
        front.call(streamed.wire.send, b"more")
        front.call(streamed.wire.end)
        assert streaming.chunk() == b"more"
        assert streaming.chunk() == b""
        assert streaming.is_closed()
        sending.send(b"c")
        front.call(text(200), take(book.finished))
        assert sending.answer().get("Connection") == "close"
        assert sending.is_closed()
        front.wait_until(lambda: front.server.open_connections == 0)


@our_fronts
def test_close_all_connections_returns_when_they_are_gone(kind: str) -> None:
    told: queue.Queue[str] = queue.Queue()
    book = Book(on_finish=lambda message: watch(message, told))
    with serve(kind, book) as front, front.connect() as peer:
        peer.send(get())
        take(book.finished)
        front.run(front.server.close_all_connections())
        assert take(told) == "callback"
        assert peer.is_closed()
        assert front.call(lambda: front.server.open_connections) == 0
        take(book.gone)


@our_fronts
def test_requests_cost_no_task_and_no_timer(kind: str) -> None:
    made: list[object] = []
    with serve(kind, Book()) as front, front.connect() as peer:
        assert peer.ask(get()).status == 200

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **more)

        front.loop.set_task_factory(factory)
        for _ in range(20):
            assert peer.ask(post("/", b"abc")).status == 200
        assert made == []


# A tornado application


class Streaming(web.RequestHandler):
    """Streams, and notes what becomes of it."""

    told: queue.Queue[str] = queue.Queue()

    async def get(self) -> None:
        self.set_header("Content-Type", "text/plain")
        for n in range(3):
            self.write(f"piece {n}\n")
            await self.flush()

    async def put(self) -> None:
        self.over = Event()
        self.write("begun")
        await self.flush()
        await self.over.wait()

    @override
    def on_connection_close(self) -> None:
        self.told.put("closed")
        self.over.set()


class Form(web.RequestHandler):
    def get(self) -> None:
        self.write({"hello": self.get_argument("name", "nobody")})

    def post(self) -> None:
        self.write({"hello": self.get_body_argument("name")})

    def put(self) -> None:
        raise ZeroDivisionError("a bug")


@web.stream_request_body
class Upload(web.RequestHandler):
    async def prepare(self) -> None:
        self.count = 0
        if self.request.headers.get("X-Refuse"):
            raise web.HTTPError(403)

    @override
    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self.count += len(chunk)

    def put(self) -> None:
        self.write(str(self.count))


@contextlib.contextmanager
def serve_app(kind: str, **options: Any) -> Iterator[Front]:
    app = web.Application(
        [("/stream", Streaming), ("/form", Form), ("/upload", Upload)],
        log_function=lambda handler: None,
        gzip=True,
    )
    with serve(kind, app, **options) as front:
        yield front


@every_front
def test_application_streams_with_flush(kind: str) -> None:
    with serve_app(kind) as front, front.connect() as peer:
        for _ in range(2):
            answer = peer.ask(get("/stream"))
            assert answer.pieces == [b"piece 0\n", b"piece 1\n", b"piece 2\n"]


@every_front
def test_application_works_unchanged(kind: str, expected_log: Any) -> None:
    with serve_app(kind) as front, front.connect() as peer:
        answer = peer.ask(get("/form?name=me"))
        assert answer.json == {"hello": "me"}
        again = peer.ask(get("/form?name=me", f"If-None-Match: {answer.get('Etag')}"))
        assert again.status == 304
        kind_of = "Content-Type: application/x-www-form-urlencoded"
        assert peer.ask(post("/form", b"name=you", kind_of)).json == {"hello": "you"}
        assert peer.ask(chunked("/form", b"name=you")).status == 400
        assert peer.ask(request("HEAD", "/form")).status == 405
        assert peer.ask(request("DELETE", "/form", "Content-Length: 0")).status == 405
        assert peer.ask(get("/nowhere")).status == 404
        zipped = peer.ask(get("/form?name=" + "a" * 2000, "Accept-Encoding: gzip"))
        assert zipped.get("Content-Encoding") == "gzip"
        assert peer.ask(get("/form")).json == {"hello": "nobody"}
    expected_log.take("Missing argument name")


@every_front
def test_application_takes_a_streamed_body(kind: str) -> None:
    with serve_app(kind) as front, front.connect() as peer:
        body = b"x" * 1_000_000
        for data in (
            request("PUT", "/upload", f"Content-Length: {len(body)}") + body,
            request("PUT", "/upload", "Transfer-Encoding: chunked")
            + b"f4240\r\n"
            + body
            + b"\r\n0\r\n\r\n",
        ):
            assert peer.ask(data).body == b"1000000"
        refused = request("PUT", "/upload", "X-Refuse: 1", "Content-Length: 1000000")
        assert peer.ask(refused).status == 403


@every_front
def test_application_is_told_of_a_hangup_once(kind: str) -> None:
    with serve_app(kind) as front:
        with front.connect() as peer:
            peer.send(request("PUT", "/stream", "Content-Length: 0"))
            assert peer.head().status == 200
            assert peer.chunk() == b"begun"
        assert take(Streaming.told) == "closed"
    assert Streaming.told.empty()


@every_front
def test_application_answers_its_own_bugs(kind: str, expected_log: Any) -> None:
    with serve_app(kind) as front, front.connect() as peer:
        assert peer.ask(request("PUT", "/form", "Content-Length: 0")).status == 500
        assert peer.ask(get("/form")).status == 200
    expected_log.take("Uncaught exception")


@our_fronts
def test_application_does_not_name_its_server(kind: str) -> None:
    with serve_app(kind) as front, front.connect() as peer:
        answer = peer.ask(get("/form"))
        assert answer.get("Server") is None
        assert len(answer.get_all("Date")) == 1


class Tape(asyncio.Transport):
    """What asyncio would send, kept."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    @override
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    @override
    def write(self, data: Any) -> None:
        self.writes.append(data)

    @override
    def abort(self) -> None:
        pass


async def test_complete_answer_is_one_write() -> None:
    book = Book(on_finish=text(200, b"body", ("X-A", "b")))
    server = HTTPServer(book)
    await server.start([])
    link, tape = Connection(server, asyncio.get_running_loop()), Tape()
    link.connection_made(tape)
    for n in range(3):
        link.data_received(post("/", b"abc"))
        assert len(tape.writes) == n + 1
        assert tape.writes[n].endswith(b"\r\n\r\nbody")
    link.connection_lost(None)
