"""Works on jobs: takes one that nobody has, sends its lines, writes its files, and lets go of it.

Lines go through the same admission, routing and ledger as every request, a few at a time and after
everybody else's. What is done is known by the journal, so that a process can end at any time.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from ..config import BatchesConfig
from ..gateway import Gateway
from ..metrics import BatchCounts
from ..storage import JobRow, JobStore, StorageUnavailable
from .desk import DAY_MS
from .folders import Folder, Lock
from .means import Holder, Means, Rights
from .work import Work

log = logging.getLogger(__name__)

POLL_S = 2.0
"""How often the queue is looked at for jobs that other processes took in, or let go of."""
TIDY_S = 600.0
CRASHED_WAIT_MS = 30_000
"""How long nobody takes a job on which a bug was met."""


class Runner(Means):
    """The jobs of one process."""

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
        super().__init__(config, store, folder, gateway, tasks=tasks, new_id=new_id, rights=rights)
        self._worker = uuid.uuid4().hex
        self._wake = asyncio.Event()
        self._working: dict[str, tuple[Work, asyncio.Task[None]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._tidy_at = 0.0
        self._lock = Lock(folder.root / "lock")
        self._has_lock = False  # true: no other process works on the jobs of this SQLite file
        self._is_away = False  # true: the database did not answer the last time

    async def start(self) -> None:
        """Begin to look for jobs. `ConfigFault` when the folder cannot be used."""
        await asyncio.to_thread(self.folder.prepare)
        self._looking = asyncio.create_task(self._look())

    def halt(self) -> None:
        """Begin no further line; those that are under way end as the tasks of requests do."""
        self.is_stopping = True
        for work, _ in self._working.values():
            work.halt.set()

    async def stop(self) -> None:
        """Let go of every job, for another process or the next start."""
        self.halt()
        self._wake.set()
        if self._looking is not None:
            await self._looking
        await asyncio.gather(*(task for _, task in self._working.values()))
        self._lock.free()

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def cancelled(self, job_id: str) -> None:
        """End a job that runs here at once; elsewhere it ends by what the database says."""
        found = self._working.get(job_id)
        if found is not None:
            found[0].end("cancelled")
        self._wake.set()

    def live(self, job_id: str) -> tuple[int, int] | None:
        """Return how many lines of a job that runs here have an answer, and how many failed."""
        found = self._working.get(job_id)
        return None if found is None else found[0].counts

    @property
    def counts(self) -> BatchCounts:
        """Return what is shown as metrics."""
        return BatchCounts(len(self._working), self.open_lines, self.answered, self.failed)

    async def _look(self) -> None:
        while not self.is_stopping:
            self._wake.clear()
            try:
                if await self._may_work():
                    await self._take_jobs()
                await self._tidy()
                self._is_away = False
            except StorageUnavailable as error:
                if not self._is_away:
                    log.info("No batch is begun, as the database is away: %s", error)
                self._is_away = True
            except OSError as error:
                log.error("The folder of batches cannot be used: %s", error.strerror)
            except Exception:  # the door between batches and the process: others have nothing of it
                log.exception("Looking for batches failed")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_S)

    async def _may_work(self) -> bool:
        """Say whether jobs may be taken: with SQLite one process does, and takes up what others left."""
        if not self.store.is_local or self._has_lock:
            return True
        if not await asyncio.to_thread(self._lock.take):
            return False
        await asyncio.to_thread(self.store.release_all)
        self._has_lock = True
        return True

    async def _take_jobs(self) -> None:
        while len(self._working) < self.config.jobs and not self.is_stopping:
            now_ms, lease_ms = self.now_ms(), self.lease_ms()
            job = await asyncio.to_thread(self.store.claim, self._worker, now_ms, lease_ms)
            if job is None:
                return
            work = Work(self, job)
            task = asyncio.create_task(self._work(work, job))
            self._working[job.id] = (work, task)

    async def _work(self, work: Work, job: JobRow) -> None:
        try:
            await work.run()
        except StorageUnavailable as error:
            log.info("The batch %s waits, as the database is away: %s", job.id, error)
        except OSError as error:
            log.error("The batch %s waits, as its files cannot be written: %s", job.id, error.strerror)
            await self._let_go(job, crashed=False)
        except Exception:  # the door between a batch and the process: it is tried again, a few times
            log.exception("The batch %s failed", job.id)
            await self._let_go(job, crashed=True)
        finally:
            del self._working[job.id]
            self._wake.set()

    async def _let_go(self, job: JobRow, *, crashed: bool) -> None:
        with suppress(StorageUnavailable):
            at_ms = self.now_ms() + CRASHED_WAIT_MS
            await asyncio.to_thread(lambda: self.store.release(job, at_ms, crashed=crashed))

    async def _tidy(self) -> None:
        """Delete what is too old."""
        now = time.monotonic()
        if now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_S
        await asyncio.to_thread(self._delete_old)

    def _delete_old(self) -> None:
        now_ms = self.now_ms()
        while names := self.store.take_expired_files(now_ms):
            for name in names:
                self.folder.forget_file(name)
        while names := self.store.take_old_jobs(now_ms - self.config.retention_days * DAY_MS):
            for name in names:
                self.folder.forget_job(name)
        self.folder.forget_stale_uploads()
