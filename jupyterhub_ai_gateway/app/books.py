"""Everything about limits and the ledger that outlives a configuration, and what keeps it current."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ..auth.directory import Directory, Group
from ..config import GatewayConfig, LimitConfig, PolicyConfig, group_policies, read_limits
from ..errors import ConfigFault, HubUnavailable
from ..limits import (
    CounterStore,
    Gate,
    MemoryCounters,
    MemoryStore,
    Override,
    RuleBook,
    Store,
    StoreUnavailable,
)
from ..storage import Database, StorageUnavailable
from ..usage.journal import Journal
from ..usage.ledger import Ledger, LedgerOptions
from ..usage.table import PriceTable

log = logging.getLogger(__name__)

REFRESH_S = 5.0
GROUPS_S = 60.0
LIMITS = "limits/"
"""What the settings are called that replace endpoints' own limits."""


class Books:
    """The gate with its stores, the ledger with its database. Made from the first configuration.

    `time_zone` is that of the start, as the ledger's days are in it.
    `overlays` are the endpoints' limits that staff set; `changed` is called when they are others.
    """

    def __init__(self, config: GatewayConfig, directory: Directory) -> None:
        self.time_zone = config.time_zone
        zone = ZoneInfo(config.time_zone)
        self._started, self._config = config, config
        self._directory = directory
        self.database = _database(config, zone)
        self.ledger = None if self.database is None else _ledger(config, self.database)
        buckets, counters = _stores(config)
        self.counters = counters
        self.prices = PriceTable.shipped()
        self.gate = Gate(buckets, counters, _book(config, zone))
        self.overlays: dict[str, LimitConfig | None] = {}
        self.changed: Callable[[], None] = lambda: None
        self._groups: list[Group] = []
        self._group_problems: dict[str, str] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._hub_failed = False

    async def open(self) -> None:
        """Check the database, take up what was used before, and start. `ConfigFault` where that fails."""
        if self.database is not None and self.ledger is not None:
            await asyncio.to_thread(self.database.check)
            self.ledger.start()
            await self._take_up()
            await self._refresh_settings()
        await self.refresh_groups()
        self._refreshing = asyncio.create_task(self._keep_current())

    async def close(self) -> None:
        """Write everything down and let go."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing
        await self.counters.close()
        if self.database is not None and self.ledger is not None:
            await asyncio.to_thread(self.ledger.stop)
            self.database.close()

    def use(self, config: GatewayConfig) -> None:
        """Take the policies of a new configuration; databases and stores stay those of the start."""
        for name in ("ledger", "store", "time_zone"):
            if getattr(config, name) != getattr(self._started, name):
                log.warning("Configuration: %s is new, which counts after a restart", name)
        book = _book(config, ZoneInfo(self.time_zone))
        book.use_overrides(self.gate.book.overrides)
        book.use_groups(self._group_policies(config))
        self.gate.book = book
        self.gate.estimator.keep_only({endpoint.name for endpoint in config.endpoints})
        self._config = config

    def counts(self) -> tuple[int, int]:
        """Return how many counters are in memory, and how often a store did not answer."""
        counters = len(self.counters) if isinstance(self.counters, MemoryCounters) else 0
        return counters, self.gate.failures

    @property
    def needs_roles(self) -> bool:
        """Say whether callers' roles have to be known."""
        return self.gate.book.names_roles

    async def refresh(self) -> None:
        """Take what staff set, in this process or another, now."""
        if self.database is not None:
            await self._refresh_settings()

    async def _take_up(self) -> None:
        """Fill the counters with what the ledger knows of windows that are not over."""
        assert self.database is not None  # noqa: S101 - there is a ledger
        now_ms = self.gate.now_ms()
        try:
            known = await asyncio.to_thread(self.database.counters, now_ms)
        except StorageUnavailable as error:
            raise ConfigFault("ledger.url", f"the database cannot be read: {error}") from None
        for key, slot_ms, amount, expires_ms in known:
            seeding = self.counters.seed(key, slot_ms, amount, expires_ms)
            if seeding is not None:
                try:
                    await seeding
                except StoreUnavailable as error:
                    raise ConfigFault("store.url", f"the store does not answer: {error}") from None

    async def _keep_current(self) -> None:
        groups_at = time.monotonic() + GROUPS_S
        while True:
            await asyncio.sleep(REFRESH_S)
            await self._renew()
            await self.refresh()
            if time.monotonic() >= groups_at:
                groups_at = time.monotonic() + GROUPS_S
                await self.refresh_groups()

    async def _renew(self) -> None:
        """Keep a shared store from giving up the requests that run here."""
        renewing = self.counters.renew(self.gate.now_ms())
        if renewing is not None:
            try:
                await renewing
            except StoreUnavailable as error:
                log.info("The store of limits does not answer: %s", error)

    async def _refresh_settings(self) -> None:
        assert self.database is not None  # noqa: S101 - whoever calls has looked
        now_ms = self.gate.now_ms()
        try:
            rows = await asyncio.to_thread(self.database.overrides, now_ms)
            settings = await asyncio.to_thread(self.database.settings)
        except StorageUnavailable as error:
            log.info("Overrides stay as they are, as the database is away: %s", error)
            return
        overrides = tuple(
            Override(row.who, row.resource, row.amount, row.starts_ms, row.ends_ms, row.policy)
            for row in rows
        )
        if overrides != self.gate.book.overrides:
            self.gate.book.use_overrides(overrides)
        overlays = _overlays(settings)
        if overlays != self.overlays:
            self.overlays = overlays
            self.changed()

    async def refresh_groups(self) -> None:
        """Ask the Hub for its groups, where the configuration wants something of them."""
        if not self._config.policies_from_groups and not self.needs_roles:
            return
        try:
            self._groups = await self._directory.groups()
        except HubUnavailable as fault:
            if not self._hub_failed:
                log.warning("The policies of groups stay as they are: %s", fault.detail or fault.public)
            self._hub_failed = True
            return
        self._hub_failed = False
        self.gate.book.use_groups(self._group_policies(self._config))

    def _group_policies(self, config: GatewayConfig) -> list[PolicyConfig]:
        """Read the policies in groups' properties; a wrong one is told once, and the others count."""
        found: list[PolicyConfig] = []
        problems: dict[str, str] = {}
        for group in self._groups if config.policies_from_groups else ():
            policies, problem = group_policies(group.name, group.properties)
            found += policies
            if problem is not None:
                problems[group.name] = problem
                if self._group_problems.get(group.name) != problem:
                    log.warning("The policies of the group %r do not count: %s", group.name, problem)
        self._group_problems = problems
        return found


def _book(config: GatewayConfig, zone: ZoneInfo) -> RuleBook:
    return RuleBook(config.policies, config.combine, zone, now_ms=lambda: time.time_ns() // 1_000_000)


def _stores(config: GatewayConfig) -> tuple[Store, CounterStore]:
    if config.store.url is None:
        return MemoryStore(), MemoryCounters()
    from ..limits.redis_store import RedisStore

    store = RedisStore(config.store.url, prefix=config.store.prefix, timeout_s=config.store.timeout_s)
    return store.buckets, store


def _database(config: GatewayConfig, zone: ZoneInfo) -> Database | None:
    def day_of(at_ms: int) -> str:
        return datetime.fromtimestamp(at_ms / 1000, zone).strftime("%Y-%m-%d")

    return None if config.ledger.url is None else Database(config.ledger.url, day_of=day_of)


def _ledger(config: GatewayConfig, database: Database) -> Ledger:
    ledger = config.ledger
    folder = database.folder if ledger.journal is None else Path(ledger.journal).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigFault("ledger.journal", f"{folder} is not a folder")
    options = LedgerOptions(ledger.flush_s, ledger.fail_open_s, ledger.retention_days)
    return Ledger(database, Journal(folder), options)


def _overlays(settings: dict[str, Any]) -> dict[str, LimitConfig | None]:
    """Return the limits that staff set, by endpoint; None for an endpoint that is to have none."""
    return {
        name[len(LIMITS) :]: read_limits(value)
        for name, value in settings.items()
        if name.startswith(LIMITS)
    }
