"""One job in the hands of one process, from the first look at its lines to its files."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ..errors import Fault
from ..gateway import Call
from ..storage import FileRow, JobRow, StorageUnavailable
from ..vocabulary import Place
from .answers import Collected, Stop, Verdict, bug, judge
from .desk import DAY_MS, decode_caller
from .folders import deliver
from .journal import Journal, Record
from .lines import Line, Problem, Rules, answer_line, custom_id_of, read_line, tokens_of, unsent_line
from .means import Means

log = logging.getLogger(__name__)

BEAT_S = 1.0
RECHECK_S = 300.0
MAX_CRASHES = 3
MAX_PROBLEMS = 20
"""How many wrong lines are told of."""
_CROWDED_WAIT_S = 0.2
_READ_AT_ONCE = 64

_ENDINGS = {
    "expired": (
        "batch_expired",
        "This request was not answered before the batch's completion window ended.",
    ),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was answered."),
    "failed": ("batch_failed", "The batch ended before this request was answered."),
}


class Work:
    """A job. `halt` is set once no further line is to be begun, `poke` to look at the database at once."""

    def __init__(self, runner: Means, job: JobRow) -> None:
        self.job = job
        self.halt = asyncio.Event()
        self.poke = asyncio.Event()
        self._runner = runner
        self._config = runner.config
        self._caller = decode_caller(job.caller)
        self._place = None if job.cluster is None else Place(job.cluster, job.framework or "")
        self._rules = Rules(job.url, job.model)
        self._journal: Journal | None = None
        self._ending: str | None = job.ending
        self._stop: Stop | None = None
        self._has_files = job.crashes <= MAX_CRASHES  # False when the answers cannot be written any more
        self._is_lost = False  # True once another process may have the job
        self._broken: BaseException | None = None
        self._held_until = time.monotonic() + runner.config.lease_s
        self._wait_until = 0.0
        self._recheck_at = math.inf
        self._lines: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many lines have an answer, and how many failed."""
        if self._journal is None:
            return self.job.completed, self.job.failed
        return self._journal.tally.completed, self._journal.tally.failed

    async def run(self) -> None:
        """Bring the job to its end, or as far as this process gets."""
        runner, job = self._runner, self.job
        if runner.is_stopping:
            self.halt.set()
        folder = runner.folder.job(job.id)
        if not await asyncio.to_thread(runner.folder.input(job.id).exists):
            await asyncio.to_thread(lambda: folder.mkdir(mode=0o700, exist_ok=True))
            self._has_files = False
            self.end("failed", Stop("input_lost", "The input of this batch is not there any more."))
        self._journal = await asyncio.to_thread(Journal, folder, job.epoch)
        self._beating = asyncio.create_task(self._keep())
        try:
            if job.crashes >= MAX_CRASHES:
                self.end("failed", Stop("internal_error", "The gateway failed on this batch; see its log."))
            if job.status == "cancelling":
                self.end("cancelled")
            if self._ending is None:
                await self._recheck()
            if self._ending is None and not job.total:
                await self._validate()
            if self._ending is None:
                await self._send_all()
            if not self._is_lost and (self._ending or not runner.is_stopping):
                await self._finish()
            elif not self._is_lost:
                await asyncio.to_thread(runner.store.release, job, 0)
        finally:
            await self._stop_beating()
            await self._journal.close()

    # Whose it is, and whether it goes on

    async def _keep(self) -> None:
        """Keep the job ours, write down how far it is, and notice what ends it."""
        while True:
            try:
                await self._beat()
            except StorageUnavailable as error:
                log.info("The batch %s does not reach the database: %s", self.job.id, error)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.poke.wait(), min(BEAT_S, self._config.lease_s / 4))
            self.poke.clear()

    async def _stop_beating(self) -> None:
        self._beating.cancel()
        with suppress(asyncio.CancelledError):
            await self._beating

    async def _beat(self, **changes: Any) -> None:
        runner, job, journal = self._runner, self.job, self._journal
        assert journal is not None  # noqa: S101 - it is opened first
        began = time.monotonic()
        tally = journal.tally
        changes.update(
            completed=tally.completed,
            failed=tally.failed,
            input_tokens=tally.input_tokens,
            output_tokens=tally.output_tokens,
        )
        status = await asyncio.to_thread(runner.store.beat, job, runner.lease_ms(), changes)
        if status is None:
            log.info("The batch %s is in the hands of another process", job.id)
            self._is_lost = True
            self.halt.set()
            return
        self._held_until = began + self._config.lease_s
        if status == "cancelling":
            self.end("cancelled")
        elif runner.now_ms() >= job.expires_ms:
            self.end("expired")
        elif began >= self._recheck_at:
            await self._recheck()

    async def _recheck(self) -> None:
        """Ask the Hub whether it still knows the caller."""
        self._recheck_at = time.monotonic() + RECHECK_S
        caller = await self._runner.rights(self._caller)
        if caller is None:
            self.end(
                "failed", Stop("caller_gone", "The Hub does not know the owner of this batch any more.")
            )
        else:
            self._caller = caller

    def end(self, ending: str, stop: Stop | None = None) -> None:
        """Begin no further line, and let the job end as this; the first word counts."""
        if self._ending is None:
            self._ending, self._stop = ending, stop
            self.halt.set()

    # The lines before anything is sent

    async def _validate(self) -> None:
        total, problems = await asyncio.to_thread(self._check_lines)
        self.job.total = total
        if problems:
            document = {"object": "list", "data": problems}
            self.job.errors = msgspec.json.encode(document).decode()
            self.end("failed")
            return
        now_ms = self._runner.now_ms()
        self.job.begun_ms = now_ms
        await self._beat(status="in_progress", total=total, begun_ms=now_ms)

    def _check_lines(self) -> tuple[int, list[dict[str, Any]]]:
        """Count the lines, and say what is wrong with the file. Blocks."""
        problems: list[dict[str, Any]] = []
        seen: set[str] = set()
        open_to: set[tuple[str, str]] = set()
        total = 0
        for number, text in self._texts():
            try:
                line = read_line(self._whole(text), number, self._rules)
                if line is None:
                    continue
                total += 1
                self._check(line, seen, open_to)
                if total > self._config.lines:
                    raise Problem("too_many_lines", f"A batch has {self._config.lines} lines at most.")
            except Problem as problem:
                problems.append(_told(problem, number))
                if len(problems) >= MAX_PROBLEMS or problem.code == "too_many_lines":
                    break
        if not total and not problems:
            problems.append(_told(Problem("empty_file", "The file has no lines."), None))
        return total, problems

    def _check(self, line: Line, seen: set[str], open_to: set[tuple[str, str]]) -> None:
        if line.custom_id in seen:
            raise Problem("duplicate_custom_id", "custom_id is that of an earlier line.", "custom_id")
        seen.add(line.custom_id)
        key = (line.model, line.operation.name)
        if key not in open_to:
            fault = self._refusal(line)
            if fault is not None:
                raise Problem(fault.slug, fault.public, fault.param)
            open_to.add(key)

    def _refusal(self, line: Line) -> Fault | None:
        """Return why the caller may not use a line's model; None when they may."""
        gateway = self._runner.gateway
        try:
            gateway.check(self._caller, line.operation, line.model, self._place)
        except Fault as fault:
            return fault
        return None

    def _whole(self, text: bytes) -> bytes:
        if len(text) > self._config.line_bytes:
            raise Problem("line_too_long", f"A line has {self._config.line_bytes} bytes at most.")
        return text

    def _texts(self) -> Iterator[tuple[int, bytes]]:
        """Return the file's lines, counted from 1; of one that is too long, a little more than allowed."""
        most = self._config.line_bytes + 1
        with self._runner.folder.input(self.job.id).open("rb") as file:
            number = 0
            while text := file.readline(most):
                number += 1
                if not text.endswith(b"\n"):
                    _skip_line(file, most)
                yield number, text.rstrip(b"\r\n")

    # Sending

    async def _send_all(self) -> None:
        room = asyncio.Semaphore(self._config.concurrency)
        try:
            async for line in self._unsent():
                await room.acquire()
                if self.halt.is_set():
                    break
                task = asyncio.create_task(self._send(line))
                self._lines.add(task)
                self._runner.open_lines += 1
                self._runner.tasks.track(task)
                task.add_done_callback(self._line_ended)
                task.add_done_callback(lambda _: room.release())
        finally:
            if self._lines:
                await asyncio.wait(self._lines)
        if self._broken is not None:
            raise self._broken

    def _line_ended(self, task: asyncio.Task[None]) -> None:
        self._lines.discard(task)
        self._runner.open_lines -= 1
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
            self.halt.set()

    async def _unsent(self) -> AsyncIterator[Line]:
        """Return the lines that have no answer, in the order of the file."""
        texts = self._texts()
        while chunk := await asyncio.to_thread(lambda: list(islice(texts, _READ_AT_ONCE))):
            for number, text in chunk:
                try:
                    line = read_line(self._whole(text), number, self._rules)
                except Problem as problem:  # the operator's bounds are others than when it was counted
                    self.end("failed", Stop(problem.code, problem.message, number, problem.param))
                    return
                if line is not None and number not in self._done:
                    yield line

    @property
    def _done(self) -> Journal:
        assert self._journal is not None  # noqa: S101 - it is opened first
        return self._journal

    async def _send(self, line: Line) -> None:
        """Get an answer to a line and write it down, unless the job ends before."""
        tries = 0
        while await self._turn():
            tries += 1
            verdict = await self._try(line, tries)
            if verdict is None:
                return
            if verdict.action == "all":
                self._wait_until = max(self._wait_until, time.monotonic() + verdict.wait_s)
            else:
                await self._pause(verdict.wait_s)

    async def _try(self, line: Line, tries: int) -> Verdict | None:
        """Send a line, and keep its answer; otherwise say what to wait for, None when nothing is.

        A line's slot is free once its answer is written, so that no more answers than there are slots can
        be lost with the process.
        """
        async with self._runner.slots:
            if self.halt.is_set():
                return None
            request_id = self._runner.new_id()
            reply = await self._ask(line, request_id)
            if reply is None:
                return None
            verdict = judge(reply, tries)
            if verdict.action != "keep":
                return verdict
            await self._keep_answer(line, request_id, reply)
            return None

    async def _turn(self) -> bool:
        """Wait until a line may be sent; False when none may any more."""
        while not self.halt.is_set():
            wait_s = self._wait_until - time.monotonic()
            if wait_s <= 0 and self._runner.is_crowded:
                wait_s = _CROWDED_WAIT_S
            if wait_s <= 0 and time.monotonic() >= self._held_until:
                wait_s = BEAT_S  # nobody has confirmed that the job is ours
            if wait_s <= 0:
                return True
            await self._pause(wait_s)
        return False

    async def _ask(self, line: Line, request_id: str) -> Collected | None:
        """Send a line through the gateway; None when a stop cut it off, or the job has to end."""
        runner = self._runner
        call = Call(
            line.operation,
            line.body,
            request_id,
            caller=self._caller,
            project=self.job.project,
            place=self._place,
            is_batch=True,
        )
        reply = Collected()
        try:
            await runner.gateway.serve(call, reply)
        except Exception:  # the door between a line and its job: the line has failed, the others go on
            log.exception("%s: uncaught exception for a line of the batch %s", request_id, self.job.id)
            reply = bug()
        if runner.is_stopping and reply.status == 503:
            return None
        if reply.status in (403, 404):
            fault = self._refusal(line)
            if fault is not None:
                self.end("failed", Stop(fault.slug, fault.public, line.number, fault.param))
                return None
        return reply

    async def _pause(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.halt.wait(), seconds)

    async def _keep_answer(self, line: Line, request_id: str, reply: Collected) -> None:
        text = answer_line(line.custom_id, request_id, reply.status, reply.body)
        into, out = tokens_of(reply.body)
        record = Record(line.number, 200 <= reply.status < 300, into, out, msgspec.Raw(text))
        await self._done.add(record)
        self._runner.answered += record.is_ok
        self._runner.failed += not record.is_ok

    # The end

    async def _finish(self) -> None:
        """Write the files, and end the job."""
        runner, job = self._runner, self.job
        ending = self._ending or "completed"
        if self._stop is not None:
            document = {"object": "list", "data": [msgspec.to_builtins(self._stop)]}
            job.errors = msgspec.json.encode(document).decode()
        await self._beat(
            status="finalizing", ending=ending, errors=job.errors, finalizing_ms=runner.now_ms()
        )
        if self._is_lost:
            return
        has_files = job.begun_ms is not None and self._has_files
        rows = await asyncio.to_thread(self._write_files, ending) if has_files else []
        await self._stop_beating()
        tally = self._done.tally
        ids = [row.id for row in rows]
        changes = {
            "status": ending,
            "errors": job.errors,
            "total": job.total,
            "completed": tally.completed,
            "failed": job.total - tally.completed if job.begun_ms else 0,
            "input_tokens": tally.input_tokens,
            "output_tokens": tally.output_tokens,
            "has_output": job.output_file in ids,
            "has_errors": job.error_file in ids,
            "ended_ms": runner.now_ms(),
        }
        if await asyncio.to_thread(runner.store.finish, job, changes, rows):
            await asyncio.to_thread(runner.folder.forget_job, job.id)
            log.info("The batch %s is %s: %d of %d lines", job.id, ending, tally.completed, job.total)

    def _write_files(self, ending: str) -> list[FileRow]:
        """Write what is answered and what failed, each as a whole or not at all. Blocks."""
        job, folder = self.job, self._runner.folder
        own = folder.job(job.id)
        partial = {file_id: own / f"{file_id}.partial" for file_id in (job.output_file, job.error_file)}
        with ExitStack() as stack:
            good, bad = (stack.enter_context(path.open("wb")) for path in partial.values())
            for record in self._done.records():
                (good if record.is_ok else bad).write(bytes(record.text) + b"\n")
            if ending in _ENDINGS:
                code, message = _ENDINGS[ending]
                for number, custom_id in self._unanswered():
                    bad.write(unsent_line(job.id, number, custom_id, code, message) + b"\n")
            for file in (good, bad):
                file.flush()
                os.fsync(file.fileno())
        rows = []
        for file_id, path in partial.items():
            if path.stat().st_size or (file_id == job.output_file and ending == "completed"):
                kind = "output" if file_id == job.output_file else "errors"
                rows.append(self._publish(file_id, path, kind))
        return rows

    def _unanswered(self) -> Iterator[tuple[int, str]]:
        for number, text in self._texts():
            if number not in self._done:
                custom_id = custom_id_of(text, number)
                if custom_id is not None:
                    yield number, custom_id

    def _publish(self, file_id: str, path: Path, kind: str) -> FileRow:
        """Put a file in its place, and a copy where the caller wants one."""
        job, config = self.job, self._config
        now_ms = self._runner.now_ms()
        kept_ms = min(config.retention_days * DAY_MS, (job.keep_s or 1 << 40) * 1000)
        if job.output_folder is not None:
            name = f"{job.id}.{kind}.jsonl"
            try:
                deliver(path, job.output_folder, name, config.output_folders, self._caller.name)
            except OSError as error:
                log.warning("The batch %s could not write to its output folder: %s", job.id, error.strerror)
        size = path.stat().st_size
        path.replace(self._runner.folder.file(file_id))
        return FileRow(
            id=file_id,
            owner=job.owner,
            filename=f"{job.id}_{kind}.jsonl",
            purpose="batch_output",
            bytes=size,
            created_ms=now_ms,
            expires_ms=now_ms + kept_ms,
        )


def _skip_line(file: BinaryIO, most: int) -> None:
    """Read to the end of a line that is too long."""
    while (rest := file.readline(most)) and not rest.endswith(b"\n"):
        pass


def _told(problem: Problem, number: int | None) -> dict[str, Any]:
    return {
        "code": problem.code,
        "message": problem.message,
        "param": problem.param,
        "line": number,
    }
