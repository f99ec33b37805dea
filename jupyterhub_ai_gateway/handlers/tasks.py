"""The requests that are being answered now, and how each is named."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from itertools import count


class RequestIds:
    """Names requests, such as `req_5f3a9c01d2e4_1a`: a part for the process, and a number within it."""

    def __init__(self) -> None:
        self._start = f"req_{secrets.token_hex(6)}_"
        self._numbers = count(1)

    def next(self) -> str:
        """Return the next name."""
        return f"{self._start}{next(self._numbers):x}"


class Tasks:
    """Holds the tasks that answer requests, so that they can be waited for, and ended."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        # Kept, as until Python 3.12 each question for the running loop is one for the kernel
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._running)

    def start(self, answering: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run it, and hold it until it calls `ended`, or was ended by `end`."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = loop.create_task(answering)
        self._running.add(task)
        return task

    def ended(self, task: asyncio.Task[None] | None) -> None:
        """Part from a task whose work is over: cheaper than a callback for each request."""
        if task is not None:
            self._running.discard(task)

    def end(self, task: asyncio.Task[None]) -> None:
        """Cancel a task that `start` made, which may not have begun and so would never call `ended`."""
        task.add_done_callback(self._running.discard)
        task.cancel()

    def track(self, task: asyncio.Task[None]) -> None:
        """Hold a task that somebody else runs."""
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def wait(self, seconds: float) -> bool:
        """Wait until none runs; False when some still do after that time."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        return not self._running

    async def cancel(self) -> None:
        """End what still runs, and wait for the ends."""
        running = tuple(self._running)
        for task in running:
            self.end(task)
        await asyncio.gather(*running, return_exceptions=True)
