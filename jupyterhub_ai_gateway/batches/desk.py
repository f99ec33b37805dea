"""What callers can do with files and jobs: theirs alone, within the limits that the operator set."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from ..config import BatchesConfig
from ..errors import Forbidden, LimitsUnavailable, NotFound, RequestFault
from ..gateway import Gateway
from ..storage import FileRow, JobRow, JobStore, StorageUnavailable
from ..vocabulary import Caller, Place
from .folders import Folder, check_output
from .lines import OPERATION_OF_URL

log = logging.getLogger(__name__)

T = TypeVar("T")

MIN_EXPIRES_S, MAX_EXPIRES_S = 3600, 2_592_000
MAX_UPLOADS = 4
"""How many files of one caller may arrive at once in one process."""
MAX_NOTES = 16
MAX_NAME_CHARS = 255
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
PURPOSES = ("batch", "user_data")
"""What an upload may be for: nothing here reads files but batches."""


class Desk:
    """Takes files and jobs in, and tells of them.

    Every question is asked for an owner: what is another's is not there.
    """

    def __init__(self, config: BatchesConfig, store: JobStore, folder: Folder, gateway: Gateway) -> None:
        self.config = config
        self.folder = folder
        self.wake: Callable[[], None] = lambda: None
        """Called when there is a new job."""
        self.cancelled: Callable[[str], None] = lambda job_id: None
        """Called when a job is to end."""
        self.live: Callable[[str], tuple[int, int] | None] = lambda job_id: None
        """How far a job is that runs in this process: completed and failed lines."""
        self._store = store
        self._gateway = gateway
        self._uploads: Counter[str] = Counter()

    # Files

    async def upload(self, caller: Caller) -> Upload:
        """Begin to take a file in; `RequestFault` when the caller has too many already."""
        count, size = await self._ask(lambda: self._store.held(caller.key))
        if count >= self.config.files_per_user or size >= self.config.bytes_per_user:
            raise self._full()
        if self._uploads[caller.key] >= MAX_UPLOADS:
            text = f"You upload {MAX_UPLOADS} files already, which is as many as may arrive at once."
            raise RequestFault(text, slug="quota_exceeded")
        self._uploads[caller.key] += 1
        try:
            return await asyncio.to_thread(
                Upload, self.folder, self.config.file_bytes, lambda: self._arrived(caller)
            )
        except OSError as error:
            self._arrived(caller)
            raise storage_full(error) from error

    def _arrived(self, caller: Caller) -> None:
        self._uploads[caller.key] -= 1
        if not self._uploads[caller.key]:
            del self._uploads[caller.key]

    async def keep(
        self, caller: Caller, upload: Upload, filename: str, purpose: str, expires_s: int | None
    ) -> FileRow:
        """Keep an upload that has arrived."""
        if purpose not in PURPOSES:
            raise RequestFault(
                f"purpose must be {PURPOSES[0]}: files are for batches here.",
                slug="invalid_purpose",
                param="purpose",
            )
        now_ms = _now_ms()
        longest_ms = self.config.retention_days * DAY_MS
        kept_ms = longest_ms if expires_s is None else min(longest_ms, expires_s * 1000)
        name = "".join(letter for letter in filename if letter.isprintable())[-MAX_NAME_CHARS:]
        row = FileRow(
            id=f"file-{uuid.uuid4().hex}",
            owner=caller.key,
            filename=name or "input.jsonl",
            purpose=purpose,
            bytes=upload.size,
            created_ms=now_ms,
            expires_ms=now_ms + kept_ms,
        )
        await asyncio.to_thread(upload.move_to, self.folder.file(row.id))
        config = self.config
        is_kept = await self._ask(
            lambda: self._store.add_file(
                row, most_files=config.files_per_user, most_bytes=config.bytes_per_user
            )
        )
        if not is_kept:
            await asyncio.to_thread(self.folder.forget_file, row.id)
            raise self._full()
        return row

    async def file(self, caller: Caller, file_id: str) -> FileRow:
        """Return a file; `NotFound` when the caller has none of this name."""
        found = await self._ask(lambda: self._store.file(file_id, caller.key))
        if found is None:
            raise _no_file(file_id)
        return found

    async def files(
        self, caller: Caller, purpose: str | None, after: str | None, limit: int, oldest_first: bool
    ) -> list[FileRow]:
        """Return the caller's files."""
        return await self._ask(
            lambda: self._store.files(
                caller.key, purpose=purpose, after=after, limit=limit, oldest_first=oldest_first
            )
        )

    async def delete_file(self, caller: Caller, file_id: str) -> None:
        """Delete a file. A job that reads it has a copy of its own."""
        if not await self._ask(lambda: self._store.delete_file(file_id, caller.key)):
            raise _no_file(file_id)
        await asyncio.to_thread(self.folder.forget_file, file_id)

    # Jobs

    async def create(
        self,
        caller: Caller,
        project: str | None,
        *,
        input_file_id: object,
        endpoint: object,
        window: object,
        metadata: object,
        keep: object = None,
    ) -> JobRow:
        """Take a job in as OpenAI's form has it; `RequestFault` for what is wrong with it."""
        if not isinstance(input_file_id, str):
            raise RequestFault("input_file_id must name a file.", param="input_file_id")
        if endpoint not in OPERATION_OF_URL:
            raise RequestFault(
                f"endpoint must be of {', '.join(OPERATION_OF_URL)}.",
                slug="invalid_endpoint",
                param="endpoint",
            )
        text, window_ms = self._window(window)
        file = await self.file(caller, input_file_id)
        row = self._row(
            caller,
            "openai",
            file.id,
            window_ms,
            completion_window=text,
            url=endpoint,
            notes=_notes(metadata),
            keep_s=_keep_s(keep),
            project=project,
        )
        return await self._add(caller, row)

    async def create_for(
        self,
        caller: Caller,
        project: str | None,
        place: Place | None,
        *,
        input_: str,
        model: str,
        output_folder: str | None,
    ) -> JobRow:
        """Take a job in as FIRST's form has it: all lines for one model, from a file or a path."""
        if input_.startswith("file-") and "/" not in input_:
            await self.file(caller, input_)
        if await self._ask(lambda: self._store.active_with(caller.key, input_)):
            raise RequestFault("A batch with this input file has not ended yet.", slug="batch_ongoing")
        if output_folder is not None:
            allowed = self.config.output_folders
            await asyncio.to_thread(check_output, output_folder, allowed, caller.name)
        row = self._row(
            caller,
            "first",
            input_,
            self.config.window_hours * HOUR_MS,
            completion_window=f"{self.config.window_hours}h",
            model=model,
            cluster=place.cluster if place else None,
            framework=place.framework if place else None,
            project=project,
            output_folder=output_folder,
        )
        return await self._add(caller, row)

    async def job(self, caller: Caller, job_id: str) -> JobRow:
        """Return a job; `NotFound` when the caller has none of this name."""
        found = await self._ask(lambda: self._store.job(job_id, caller.key))
        return self._current(_known_job(found, job_id))

    async def jobs(
        self, caller: Caller, *, after: str | None = None, limit: int = 10_000, statuses: Sequence[str] = ()
    ) -> list[JobRow]:
        """Return the caller's jobs, newest first."""
        found = await self._ask(
            lambda: self._store.jobs(caller.key, after=after, limit=limit, statuses=statuses)
        )
        return [self._current(each) for each in found]

    async def cancel(self, caller: Caller, job_id: str) -> JobRow:
        """End a job: no further line is begun, what is answered stays."""
        found = await self._ask(lambda: self._store.cancel(job_id, caller.key, _now_ms()))
        row = _known_job(found, job_id)
        if row.status not in ("cancelling", "cancelled"):
            raise RequestFault(
                f"This batch is {row.status}, so there is nothing to cancel.",
                slug="batch_ended",
                status=409,
            )
        self.cancelled(row.id)
        return self._current(row)

    async def _add(self, caller: Caller, row: JobRow) -> JobRow:
        if row.project is not None and row.project not in caller.groups:
            raise Forbidden(
                "You are in no group of this name that could pay for the batch.", slug="unknown_project"
            )
        await asyncio.to_thread(self._take_input, caller, row)
        try:
            is_added = await self._ask(
                lambda: self._store.add_job(row, most_active=self.config.jobs_per_user)
            )
        except BaseException:
            await asyncio.to_thread(self.folder.forget_job, row.id)
            raise
        if not is_added:
            await asyncio.to_thread(self.folder.forget_job, row.id)
            raise RequestFault(
                f"You have {self.config.jobs_per_user} batches that have not ended, which is as many as "
                "this gateway allows. Wait for one, or cancel it.",
                slug="quota_exceeded",
            )
        self.wake()
        return row

    def _take_input(self, caller: Caller, row: JobRow) -> None:
        config = self.config
        try:
            if row.input.startswith("file-") and "/" not in row.input:
                self.folder.take_file(row.input, row.id)
            else:
                self.folder.take_path(
                    row.input, config.input_folders, caller.name, row.id, config.file_bytes
                )
        except OSError as error:
            self.folder.forget_job(row.id)
            raise storage_full(error) from error
        except RequestFault:
            self.folder.forget_job(row.id)
            raise

    def _row(self, caller: Caller, form: str, input_: str, window_ms: int, **more: Any) -> JobRow:
        now_ms = _now_ms()
        return JobRow(
            id=f"batch_{uuid.uuid4().hex}" if form == "openai" else str(uuid.uuid4()),
            owner=caller.key,
            form=form,
            caller=encode_caller(caller),
            input=input_,
            created_ms=now_ms,
            expires_ms=now_ms + window_ms,
            output_file=f"file-{uuid.uuid4().hex}",
            error_file=f"file-{uuid.uuid4().hex}",
            **more,
        )

    def _window(self, window: object) -> tuple[str, int]:
        match = re.fullmatch(r"([1-9][0-9]{0,3})([hd])", window) if isinstance(window, str) else None
        hours = 0 if match is None else int(match[1]) * (24 if match[2] == "d" else 1)
        if match is None or hours > self.config.window_hours:
            raise RequestFault(
                f"completion_window must be such as 24h, and at most {self.config.window_hours}h.",
                param="completion_window",
            )
        return match[0], hours * HOUR_MS

    def _current(self, row: JobRow) -> JobRow:
        """Put in how far a job is that runs here: the database knows it a little later."""
        counts = self.live(row.id)
        if counts is not None and row.ended_ms is None:
            row.completed, row.failed = counts
        return row

    def _full(self) -> RequestFault:
        return RequestFault(
            f"You may have {self.config.files_per_user} files, of {self.config.bytes_per_user} bytes "
            "together. Delete some that you do not need any more.",
            slug="quota_exceeded",
        )

    async def _ask(self, question: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(question)
        except StorageUnavailable as error:
            raise LimitsUnavailable(
                "The database of batches does not answer right now; try again in a minute.",
                slug="ledger_unavailable",
                detail=str(error),
                retry_after_s=60.0,
            ) from error


class Upload:
    """A file while it arrives. Blocks, but for `size`. `ended` is called once, by `discard`."""

    def __init__(self, folder: Folder, most_bytes: int, ended: Callable[[], None]) -> None:
        self.size = 0
        self._ended: Callable[[], None] | None = ended
        self._most_bytes = most_bytes
        self._path: Path | None = folder.uploads / uuid.uuid4().hex
        self._file: BinaryIO = self._path.open("xb")

    def write(self, piece: bytes) -> None:
        """Take a piece in; `RequestFault` when it is too much, or does not fit on the disk."""
        self.size += len(piece)
        if self.size > self._most_bytes:
            raise RequestFault(
                f"The file is longer than {self._most_bytes} bytes.", slug="file_too_large", status=413
            )
        try:
            self._file.write(piece)
        except OSError as error:
            raise storage_full(error) from error

    def move_to(self, path: Path) -> None:
        """Put the whole file in its place."""
        assert self._path is not None  # noqa: S101 - it is moved once
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.replace(path)
        except OSError as error:
            raise storage_full(error) from error
        self._path = None

    def discard(self) -> None:
        """End it, and delete what has arrived unless it was moved."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None


def storage_full(error: OSError) -> LimitsUnavailable:
    """Return the fault of a disk that takes nothing."""
    log.error("The folder of batches cannot be written: %s", error.strerror or type(error).__name__)
    return LimitsUnavailable(
        "The gateway cannot store files right now; its log says why.",
        slug="storage_full",
        retry_after_s=60.0,
    )


def encode_caller(caller: Caller) -> str:
    """Write down who a job is for, with all that bounds what they may do. There is no token in it."""
    values = {each.name: getattr(caller, each.name) for each in fields(Caller) if each.init}
    plain = {
        name: sorted(value) if isinstance(value, frozenset) else value for name, value in values.items()
    }
    return msgspec.json.encode(plain).decode()


def decode_caller(text: str) -> Caller:
    """Read what `encode_caller` wrote."""
    values: dict[str, Any] = msgspec.json.decode(text)
    usual = Caller("", "")
    for name, value in values.items():
        kind = type(getattr(usual, name))
        if kind in (tuple, frozenset):
            values[name] = kind(value)
    return Caller(**values)


def _notes(metadata: object) -> str | None:
    """Check the caller's own words, which OpenAI bounds as well."""
    if metadata is None:
        return None
    is_right = isinstance(metadata, dict) and len(metadata) <= MAX_NOTES
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        is_right = is_right and isinstance(value, str) and len(key) <= 64 and len(value) <= 512
    if not is_right:
        raise RequestFault(
            "metadata must be up to 16 pairs of texts, of 64 and 512 characters at most.", param="metadata"
        )
    return msgspec.json.encode(metadata).decode()


def _keep_s(keep: object) -> int | None:
    """Check `output_expires_after`."""
    if keep is None:
        return None
    seconds = keep.get("seconds") if isinstance(keep, dict) else None
    if not isinstance(seconds, int) or not MIN_EXPIRES_S <= seconds <= MAX_EXPIRES_S:
        raise RequestFault(
            f"output_expires_after needs seconds, from {MIN_EXPIRES_S} to {MAX_EXPIRES_S}.",
            param="output_expires_after",
        )
    return seconds


def _known_job(row: JobRow | None, job_id: str) -> JobRow:
    if row is None:
        text = "".join(letter for letter in job_id[:64] if letter.isalnum() or letter in "-_")
        raise NotFound(f"You have no batch {text}.", slug="batch_not_found")
    return row


def _no_file(file_id: str) -> NotFound:
    text = "".join(letter for letter in file_id[:64] if letter.isalnum() or letter in "-_")
    return NotFound(f"You have no file {text}.", slug="file_not_found")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
