"""Takes connections from a listening socket: all that wait, in one turn of the loop.

The loop's own servers take one in each turn, so of many who begin together while the loop is busy the last
waited for a second and more.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

log = logging.getLogger(__name__)

BACKLOG = 2048
AT_ONCE = 256
PAUSE_S = 1.0
"""How long nothing is accepted once the process has no descriptor left."""
_WITHOUT_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Makes a protocol for each connection to `listening`, which is its own from now on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        *,
        ssl_context: ssl.SSLContext | None = None,
        handshake_s: float | None = None,
    ) -> None:
        self._loop, self._listening, self._make = loop, listening, make
        self._ssl_context, self._handshake_s = ssl_context, handshake_s
        self._opening: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        listening.listen(BACKLOG)
        loop.add_reader(listening.fileno(), self._accept)

    def close(self) -> None:
        """Accept nothing more; connections that are open stay."""
        if self._resuming is not None:
            self._resuming.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        for task in self._opening:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                peer, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _WITHOUT_ROOM:
                    self._pause(error)
                    return
                continue  # whoever it was is gone again
            peer.setblocking(False)
            if peer.family != socket.AF_UNIX:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._open(peer))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, peer: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make, peer, ssl=self._ssl_context, ssl_handshake_timeout=self._handshake_s
            )
        except (OSError, asyncio.TimeoutError):  # a handshake that came to nothing
            peer.close()

    def _pause(self, error: OSError) -> None:
        log.error("No connection can be accepted for %g s: %s", PAUSE_S, error.strerror)
        self._loop.remove_reader(self._listening.fileno())
        self._resuming = self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listening.fileno(), self._accept)
