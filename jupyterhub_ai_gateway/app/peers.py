"""What the workers of one gateway tell each other: their counts, by sockets that only they can open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from ..metrics import Metrics
from ..metrics.merge import merged

log = logging.getLogger(__name__)

WAIT_S = 5.0
MAX_BYTES = 64 * 1024 * 1024


class Peers:
    """Tells this worker's counts at the socket `own`, and joins them with those at `others`."""

    def __init__(self, own: Path, others: Sequence[Path], metrics: Metrics) -> None:
        self._own, self._others, self._metrics = own, others, metrics
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listen; that the socket is there says that this worker serves."""
        self._own.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._tell, self._own)

    def stop(self) -> None:
        """Tell nothing more."""
        if self._server is not None:
            self._server.close()

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the counts of all workers, in the format of the Accept header, and its content type.

        One that does not answer is left out, until it is replaced.
        """
        texts = await asyncio.gather(*(self._ask(path) for path in self._others))
        own, _ = await asyncio.to_thread(self._metrics.snapshot().render)
        known = [own.decode(), *(text for text in texts if text is not None)]
        return await asyncio.to_thread(merged, known, accept)

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            text, _ = await asyncio.to_thread(self._metrics.snapshot().render)
            writer.write(text)
            await writer.drain()
        except ConnectionError:
            pass  # it has left
        finally:
            writer.close()

    async def _ask(self, path: Path) -> str | None:
        try:
            return await asyncio.wait_for(_read(path), WAIT_S)
        except (OSError, asyncio.TimeoutError, ValueError) as error:
            log.info("A worker does not tell its counts: %s", type(error).__name__)
            return None


async def _read(path: Path) -> str:
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_BYTES)
    try:
        return (await reader.read(-1)).decode()
    finally:
        writer.close()
