"""Writes down every request, off its path: a queue, a thread, and a journal for when the database is away.

A request's row waits at most `flush_s` in memory, so that is what a killed process loses; one that is
stopped loses nothing. While the database is away, batches go to a file beside it, and from there to the
database once it is back, also by the next process. Each batch is written once, whatever happens between.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..storage import AttemptRow, Batch, Counter, Database, RequestRow, StorageRefused, StorageUnavailable
from .journal import Journal

log = logging.getLogger(__name__)

MAX_QUEUED = 100_000
BATCH_ROWS = 500
"""Not more: the thread that writes them shares its processor with the loop."""
_NICE = 5
_PURGE_EVERY_S = 600.0
SUM_EVERY_S = 30.0
"""How often the roll-ups are brought up to date, when no report asks for them."""
_PURGE_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """How long a row may wait (`flush_s`), how long requests are served while the database is away
    (`fail_open_s`, None for ever), and how many days requests are kept (None for ever; sums always are).
    """

    flush_s: float = 1.0
    fail_open_s: float | None = 3600.0
    retention_days: int | None = 400
    retry_s: float = 5.0


@dataclass(slots=True)
class _Charges:
    """What requests used of rules' windows, added up until the next batch."""

    amounts: dict[tuple[str, int], list[int]] = field(default_factory=dict)

    def add(self, charges: Sequence[Counter]) -> None:
        for key, slot_ms, amount, expires_ms in charges:
            known = self.amounts.get((key, slot_ms))
            if known is None:
                self.amounts[key, slot_ms] = [amount, expires_ms]
            else:
                known[0] += amount

    def rows(self) -> list[Counter]:
        return [Counter(key, slot, amount, end) for (key, slot), (amount, end) in self.amounts.items()]


class Ledger:
    """Takes rows from the loop, writes them in a thread of its own. `clock` is monotonic, in seconds.

    `written` counts requests in the database, `journaled` those in the journal alone; `failures` counts
    batches that the database did not take.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        options: LedgerOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.database = database
        self.options = options
        self._journal = journal
        self._clock, self._now_ms = clock, now_ms
        self._queue: deque[tuple[RequestRow, Sequence[AttemptRow], Sequence[Counter]]] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._away_since: float | None = None  # None: the last batch was taken
        self._retry_at = 0.0
        self._purge_at = 0.0
        self._sum_at = clock() + SUM_EVERY_S
        self._turned = threading.Condition()
        self._recorded = 0
        self._handled = 0  # of those recorded, how many are written, journaled or set aside
        self.written = self.journaled = self.failures = 0

    @property
    def is_open(self) -> bool:
        """Say whether requests may be served: what they use can be written down, now or soon enough."""
        away_since, fail_open_s = self._away_since, self.options.fail_open_s
        if away_since is not None and fail_open_s is not None:
            return self._clock() - away_since < fail_open_s
        return len(self._queue) < MAX_QUEUED

    @property
    def is_away(self) -> bool:
        """Say whether the database did not take the last batch."""
        return self._away_since is not None

    @property
    def queued(self) -> int:
        """Return how many requests wait to be written."""
        return self._recorded - self._handled

    def record(
        self, request: RequestRow, attempts: Sequence[AttemptRow], charges: Sequence[Counter]
    ) -> None:
        """Take the row of a request that is over; never waits. For the loop's thread alone."""
        self._queue.append((request, attempts, charges))
        self._recorded += 1

    def start(self) -> None:
        """Write from now on."""
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write everything that is there, to the journal if need be, and end. Blocks."""
        self._is_stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._journal.close()

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all that was recorded so far is in the database or the journal. Blocks."""
        wanted = self._recorded
        if self._handled >= wanted:
            return True
        self._wake.set()
        with self._turned:
            return self._turned.wait_for(lambda: self._handled >= wanted, timeout_s)

    # The thread

    def _run(self) -> None:
        _step_back()
        while True:
            self._wake.wait(self.options.flush_s)
            is_last = self._is_stopping
            self._wake.clear()
            try:
                self._turn()
            except OSError:  # of the journal: what was taken so far is lost, the thread has to live
                log.exception("The ledger's journal cannot be written")
            if is_last and not self._queue:
                self._sum_up()
                return

    def _turn(self) -> None:
        if self._away_since is not None and self._clock() < self._retry_at and not self._is_stopping:
            self._drain_to_journal()
        else:
            while self._queue:
                self._write(self._take())
            if self._away_since is None or self._clock() >= self._retry_at:
                self._replay()
        with self._turned:
            self._turned.notify_all()
        if self._away_since is None and not self._is_stopping:
            if self._clock() >= self._sum_at:
                self._sum_up()
            if self._clock() >= self._purge_at:
                self._purge()

    def _take(self) -> Batch:
        requests: list[RequestRow] = []
        attempts: list[AttemptRow] = []
        charges = _Charges()
        while self._queue and len(requests) < BATCH_ROWS:
            request, tries, used = self._queue.popleft()
            requests.append(request)
            attempts.extend(tries)
            charges.add(used)
        return Batch(uuid.uuid4().hex, requests, attempts, charges.rows())

    def _write(self, batch: Batch) -> None:
        try:
            self.database.write(batch, self._now_ms())
        except StorageUnavailable as error:
            self._went_away(error)
            self._keep(batch)
        except StorageRefused:
            log.exception("The ledger's database refused a batch, which is set aside")
            self._journal.set_aside(batch)
        else:
            self.written += len(batch.requests)
            self._came_back()
        finally:
            self._handled += len(batch.requests)

    def _keep(self, batch: Batch) -> None:
        self._journal.append(batch)
        self.journaled += len(batch.requests)

    def _drain_to_journal(self) -> None:
        while self._queue:
            batch = self._take()
            self._keep(batch)
            self._handled += len(batch.requests)

    def _replay(self) -> None:
        """Bring what is in the journal to the database, a batch at once."""
        for batch in self._journal.batches():
            try:
                self.database.write(batch, self._now_ms())
            except StorageUnavailable as error:
                self._went_away(error)
                return
            except StorageRefused:
                log.exception("The ledger's database refused a batch, which is set aside")
                self._journal.set_aside(batch)
                continue
            self.written += len(batch.requests)
            self.journaled -= min(self.journaled, len(batch.requests))
            self._came_back()
        self._journal.forget()

    def _went_away(self, error: StorageUnavailable) -> None:
        self.failures += 1
        self._retry_at = self._clock() + self.options.retry_s
        if self._away_since is None:
            self._away_since = self._clock()
            log.error("The ledger's database is away, its journal takes over: %s", error)

    def _came_back(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            log.warning("The ledger's database is back")

    def _sum_up(self) -> None:
        self._sum_at = self._clock() + SUM_EVERY_S
        try:
            if self._away_since is None:
                self.database.sum_up()
        except StorageUnavailable as error:
            log.info("The ledger's sums stay behind for now: %s", error)

    def _purge(self) -> None:
        days = self.options.retention_days
        now_ms = self._now_ms()
        before_ms = 0 if days is None else now_ms - days * 86_400_000
        self._purge_at = self._clock() + _PURGE_EVERY_S
        try:
            for _ in range(_PURGE_ROUNDS):
                if not self.database.purge(before_ms, now_ms) or self._queue or self._is_stopping:
                    return
        except StorageUnavailable as error:
            log.info("Old rows of the ledger were not deleted: %s", error)


def _step_back() -> None:
    """Let the loop go first where both want one processor; on Linux a thread has a priority of its own."""
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
