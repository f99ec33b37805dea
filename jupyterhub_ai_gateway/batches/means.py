"""What working on jobs takes: who answers lines, where things are, and how much at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..config import BatchesConfig
from ..errors import HubUnavailable
from ..gateway import Gateway
from ..storage import JobStore
from ..vocabulary import Caller
from .folders import Folder

Rights = Callable[[Caller], Awaitable[Caller | None]]


class Holder(Protocol):
    """Holds the tasks of requests, so that a process that stops waits for them."""

    def __len__(self) -> int:
        """Return how many there are."""

    def track(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it is over."""


class Means:
    """Shared by all jobs of a process. `rights` asks the Hub for a caller: None once it forgot them.

    `new_id` names requests. `tasks` are those of all requests in progress, so that batches give way.
    """

    def __init__(
        self,
        config: BatchesConfig,
        store: JobStore,
        folder: Folder,
        gateway: Gateway,
        *,
        tasks: Holder,
        new_id: Callable[[], str],
        rights: Rights,
    ) -> None:
        self.config = config
        self.store = store
        self.folder = folder
        self.gateway = gateway
        self.tasks = tasks
        self.new_id = new_id
        self.slots = asyncio.Semaphore(config.concurrency)
        self.open_lines = 0
        """How many of the tasks are lines of batches."""
        self.answered = self.failed = 0
        """How many lines got an answer that was written down, and how many an error."""
        self.is_stopping = False
        """True once no further line is begun."""
        self._rights = rights

    @property
    def is_crowded(self) -> bool:
        """Say whether others' requests come first just now."""
        return len(self.tasks) - self.open_lines > self.config.give_way_above

    async def rights(self, caller: Caller) -> Caller | None:
        """Return the caller as the Hub knows them now; the same where it does not say."""
        try:
            return await self._rights(caller)
        except HubUnavailable:
            return caller

    def now_ms(self) -> int:
        """Return the time of day."""
        return time.time_ns() // 1_000_000

    def lease_ms(self) -> int:
        """Return until when a job is ours that is claimed now."""
        return self.now_ms() + int(self.config.lease_s * 1000)
