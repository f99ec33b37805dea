"""Batches of one process: joined with the gateway, started and stopped with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ..batches import Desk, Folder, Holder, Rights, Runner
from ..config import BatchesConfig
from ..errors import ConfigFault
from ..gateway import Gateway
from ..metrics import Metrics
from ..storage import Database, JobStore

log = logging.getLogger(__name__)


class Batches:
    """The desk and the runner; neither where the configuration has no `batches`."""

    def __init__(
        self,
        config: BatchesConfig,
        database: Database | None,
        gateway: Gateway,
        rights: Rights,
        tasks: Holder,
        new_id: Callable[[], str],
    ) -> None:
        self._config = config
        self.desk: Desk | None = None
        self._runner: Runner | None = None
        if config.folder is None:
            return
        if database is None:
            raise ConfigFault("batches", "need the ledger's database, which ledger: false takes away")
        store, folder = JobStore(database), Folder(Path(config.folder).expanduser().absolute())
        self.desk = Desk(config, store, folder, gateway)
        self._runner = Runner(config, store, folder, gateway, tasks=tasks, new_id=new_id, rights=rights)
        self.desk.wake, self.desk.cancelled = self._runner.wake, self._runner.cancelled
        self.desk.live = self._runner.live

    def watch(self, metrics: Metrics) -> None:
        """Show how far batches are."""
        runner = self._runner
        if runner is not None:
            metrics.watch_batches(lambda: runner.counts)

    async def start(self) -> None:
        """Work on jobs from now on. `ConfigFault` when the folder cannot be used."""
        if self._runner is not None:
            await self._runner.start()

    def use(self, config: BatchesConfig) -> None:
        """Take note of a new configuration, which counts after a restart."""
        if config != self._config:
            log.warning("Configuration: batches is new, which counts after a restart")

    def halt(self) -> None:
        """Begin no further line."""
        if self._runner is not None:
            self._runner.halt()

    async def stop(self) -> None:
        """Let go of every job."""
        if self._runner is not None:
            await self._runner.stop()
