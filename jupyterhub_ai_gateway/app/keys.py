"""Keeps the ring of gateway keys as the database has it, and writes down when they were last used."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from ..auth import KeyBook, KeyRing, ScopeRules
from ..config import KeysConfig
from ..errors import ConfigFault
from ..storage import Database, KeyTable, StorageRefused, StorageUnavailable

log = logging.getLogger(__name__)

REFRESH_S = 5.0
"""A key that another process made or ended counts, or does not, after this time."""
NOTED_EACH = 12
"""Uses are written down once in so many refreshes: once a minute."""


class KeyKeeper:
    """The keys of a gateway: `ring` is None where nobody may come with one, `book` where none are made."""

    def __init__(self, config: KeysConfig, rules: ScopeRules, database: Database | None) -> None:
        self._table = KeyTable(database) if config.enabled and database is not None else None
        self.book = None if self._table is None else KeyBook(self._table)
        has_keys = self._table is not None or config.fixed
        self.ring = KeyRing(rules, fixed=config.fixed) if has_keys else None
        self._config = config
        self._version: str | None = "not read"
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False

    def use(self, config: KeysConfig) -> None:
        """Take the keys of a new configuration; whether keys are made is settled at the start."""
        if config.enabled != self._config.enabled or bool(config.fixed) != bool(self._config.fixed):
            log.warning("Configuration: keys is new, which counts after a restart")
        elif self.ring is not None and config.fixed != self._config.fixed:
            self.ring.use_fixed(config.fixed)
            self._config = config

    async def open(self) -> None:
        """Read the keys, and keep them current from now on. `ConfigFault` when they cannot be read."""
        if self._table is None:
            return
        try:
            await asyncio.to_thread(self._read)
        except (StorageUnavailable, StorageRefused) as error:
            raise ConfigFault("ledger.url", f"the keys cannot be read: {error}") from None
        self._task = asyncio.create_task(self._keep_current())

    async def close(self) -> None:
        """Write down the last uses and let go."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            await self.note_uses()

    async def refresh(self) -> None:
        """Take what the database has, now."""
        if self._table is None:
            return
        try:
            await asyncio.to_thread(self._read)
        except (StorageUnavailable, StorageRefused) as error:
            if not self._is_failing:
                log.warning("The gateway's keys stay as they are, as the database is away: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False

    def _read(self) -> None:
        assert self._table is not None  # noqa: S101 - whoever calls has looked
        assert self.ring is not None  # noqa: S101
        version = self._table.version()
        if version == self._version:
            self.ring.confirm()
            return
        self.ring.use(self._table.rows())
        self._version = version

    async def note_uses(self) -> None:
        """Write down when keys were used; what cannot be written is forgotten."""
        uses = {} if self.ring is None else self.ring.take_uses()
        if uses and self._table is not None:
            try:
                await asyncio.to_thread(self._table.note_uses, uses)
            except (StorageUnavailable, StorageRefused) as error:
                log.info("The last use of %d keys is not written down: %s", len(uses), error)

    async def _keep_current(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()
            turn += 1
            if turn % NOTED_EACH == 0:
                await self.note_uses()
