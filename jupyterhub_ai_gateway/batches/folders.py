"""Where files are, and how a path that a caller names is opened: below what the operator allowed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigFault, NotFound, RequestFault

PIECE_BYTES = 1024 * 1024
_STALE_UPLOAD_S = 86_400
_USERNAME = "{username}"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_@+\-][A-Za-z0-9_.@+\-]*")


class Folder:
    """The folder of all batches: `files`, `jobs` with one folder each, and `uploads` that are not over.

    Nobody but the gateway's own account may read it. Several gateways that share a queue share it as well.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files, self.jobs, self.uploads = root / "files", root / "jobs", root / "uploads"

    def prepare(self) -> None:
        """Make what is missing; `ConfigFault` where that cannot be."""
        try:
            for each in (self.root, self.files, self.jobs, self.uploads):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.uploads / f"probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise ConfigFault("batches.folder", f"cannot be written: {error.strerror or error}") from None

    def file(self, file_id: str) -> Path:
        """Return where a file's content is."""
        return self.files / file_id

    def job(self, job_id: str) -> Path:
        """Return where a job's lines and answers are until it ends."""
        return self.jobs / job_id

    def input(self, job_id: str) -> Path:
        """Return where a job's own copy of its input is."""
        return self.job(job_id) / "input.jsonl"

    def take_file(self, file_id: str, job_id: str) -> None:
        """Give a job a file that was uploaded; it stays there when the caller deletes it."""
        self.job(job_id).mkdir(mode=0o700)
        try:
            os.link(self.file(file_id), self.input(job_id))
        except OSError:  # a file system without links
            shutil.copyfile(self.file(file_id), self.input(job_id))

    def take_path(self, path: str, allowed: Sequence[str], username: str, job_id: str, most: int) -> None:
        """Give a job a copy of a file of the caller's; `RequestFault` when it may not be read."""
        self.job(job_id).mkdir(mode=0o700)
        with open_input(path, allowed, username) as source, self.input(job_id).open("wb") as copy:
            copied = 0
            while piece := source.read(PIECE_BYTES):
                copied += len(piece)
                if copied > most:
                    raise RequestFault(
                        f"The input file is longer than {most} bytes.", slug="file_too_large"
                    )
                copy.write(piece)

    def forget_file(self, file_id: str) -> None:
        """Delete a file's content."""
        self.file(file_id).unlink(missing_ok=True)

    def forget_job(self, job_id: str) -> None:
        """Delete what a job needed while it ran."""
        shutil.rmtree(self.job(job_id), ignore_errors=True)

    def forget_stale_uploads(self) -> None:
        """Delete what uploads left behind that a crash cut off."""
        oldest = time.time() - _STALE_UPLOAD_S
        for each in self.uploads.iterdir():
            with suppress(OSError):
                if each.stat().st_mtime < oldest:
                    each.unlink()


class Lock:
    """Lets one process at a time work on the jobs of an SQLite file; the system frees it when that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take the lock, unless another process has it; True as long as it is ours."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def free(self) -> None:
        """Let another process have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def open_input(path: str, allowed: Sequence[str], username: str) -> Iterator[BinaryIO]:
    """Open a file to read. Not outside of `allowed`, through no symbolic link, and nothing but a file."""
    try:
        descriptor = _open_below(path, _expanded(allowed, username), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        raise _no_such_file() from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_such_file()
    with os.fdopen(descriptor, "rb") as file:
        yield file


def check_output(path: str, allowed: Sequence[str], username: str) -> None:
    """Raise `RequestFault` unless a folder of this path is there and results may be written to it."""
    try:
        os.close(_open_below(path, _expanded(allowed, username), os.O_RDONLY | os.O_DIRECTORY))
    except OSError:
        raise RequestFault(
            "output_folder_path is no folder that batches may write to here.",
            slug="path_not_allowed",
            param="output_folder_path",
        ) from None


def deliver(source: Path, path: str, name: str, allowed: Sequence[str], username: str) -> None:
    """Copy a result to a folder of the caller's, under this name, as a whole or not at all. OSError."""
    folder = _open_below(path, _expanded(allowed, username), os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        partial = f".{name}.partial"
        descriptor = os.open(partial, flags, 0o644, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as copy, source.open("rb") as file:
            shutil.copyfileobj(file, copy, PIECE_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _expanded(folders: Sequence[str], username: str) -> list[str]:
    """Put the caller's name in; one that is no plain word has no folder of its own."""
    is_plain = _PLAIN_NAME.fullmatch(username) is not None
    return [
        each.replace(_USERNAME, username).rstrip("/")
        for each in folders
        if is_plain or _USERNAME not in each
    ]


def _open_below(path: str, folders: Sequence[str], flags: int) -> int:
    """Open a path below one of these folders, step by step, so that no link leads out. OSError if not."""
    root = next((each for each in folders if path == each or path.startswith(f"{each}/")), None)
    if root is None or "\0" in path:
        raise FileNotFoundError
    steps = [step for step in path[len(root) :].split("/") if step]
    if any(step in (".", "..") for step in steps):
        raise FileNotFoundError
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for index, step in enumerate(steps):
        own = flags if index == len(steps) - 1 else os.O_RDONLY | os.O_DIRECTORY
        try:
            inner = os.open(step, own | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def _no_such_file() -> NotFound:
    return NotFound(
        "There is no such input file that batches may read here. Upload it with POST /v1/files, or put it "
        "into a folder that the operator of this gateway has opened for batches.",
        slug="file_not_found",
        param="input_file",
        status=400,
    )
