"""Taking connections: all that wait at once, none once closed, and on through a lack of descriptors."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest
from expected import ExpectedLog

from jupyterhub_ai_gateway.handlers import acceptor as acceptor_module
from jupyterhub_ai_gateway.handlers.acceptor import Acceptor


class Greeting(asyncio.Protocol):
    """Counts itself, and says hello."""

    made = 0

    def connection_made(self, transport: Any) -> None:
        Greeting.made += 1
        transport.write(b"hello")
        self.transport = transport


def listening() -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    return server


async def greeted(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.readexactly(5)
    finally:
        writer.close()


async def test_all_that_wait_are_taken_in_one_turn() -> None:
    server = listening()
    taking = Acceptor(asyncio.get_running_loop(), server, Greeting)
    port = server.getsockname()[1]
    peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    Greeting.made = 0
    for _ in range(4):  # the accepting, the tasks, and what they call
        await asyncio.sleep(0)
    assert Greeting.made == 100
    assert [peer.recv(5) for peer in peers] == [b"hello"] * 100
    for peer in peers:
        peer.close()
    taking.close()


async def test_once_closed_nothing_is_taken_and_what_is_open_stays() -> None:
    server = listening()
    port = server.getsockname()[1]
    taking = Acceptor(asyncio.get_running_loop(), server, Greeting)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.readexactly(5) == b"hello"
    taking.close()
    with pytest.raises(OSError):
        await greeted(port)
    assert not reader.at_eof()
    writer.close()


class Full(socket.socket):
    """A socket that cannot accept for lack of descriptors, until it is told that it can."""

    is_full = True
    refusals = 0

    def accept(self) -> Any:
        if self.is_full:
            self.refusals += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_a_lack_of_descriptors_is_told_and_passes(
    monkeypatch: pytest.MonkeyPatch, expected_log: ExpectedLog
) -> None:
    monkeypatch.setattr(acceptor_module, "PAUSE_S", 0.01)
    server = Full()
    server.bind(("127.0.0.1", 0))
    port = server.getsockname()[1]
    taking = Acceptor(asyncio.get_running_loop(), server, Greeting)
    waiting = asyncio.ensure_future(greeted(port))
    while not server.refusals:
        await asyncio.sleep(0)
    server.is_full = False
    assert await waiting == b"hello"
    expected_log.take("No connection can be accepted")
    taking.close()


async def test_whoever_is_gone_again_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(socket.socket):
        times = 3

        def accept(self) -> Any:
            if self.times:
                self.times -= 1
                raise ConnectionAbortedError
            return super().accept()

    server = Gone()
    server.bind(("127.0.0.1", 0))
    taking = Acceptor(asyncio.get_running_loop(), server, Greeting)
    assert await greeted(server.getsockname()[1]) == b"hello"
    taking.close()
