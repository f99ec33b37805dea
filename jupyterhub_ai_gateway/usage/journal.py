"""Batches of the ledger in files, a line each, for as long as the database is away."""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from ..storage import Batch

log = logging.getLogger(__name__)

PREFIX = "ai-gateway-ledger-"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Batch).decode


class Journal:
    """Files of batches in a folder: one of this process's own, and those that ended processes left.

    A file is locked by the process that writes or reads it, so that no two read the same. Only their
    owner can read them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: tuple[Path, IO[bytes]] | None = None
        self._others: list[tuple[Path, IO[bytes]]] = []  # locked from `batches` until `forget`

    def append(self, batch: Batch) -> None:
        """Write a batch; it is on the disk when this returns."""
        if self._own is None:
            path = self._folder / f"{PREFIX}{uuid.uuid4().hex}.jsonl"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._own = path, os.fdopen(descriptor, "r+b")
        file = self._own[1]
        file.seek(0, os.SEEK_END)
        file.write(_encode(batch) + b"\n")
        file.flush()
        os.fsync(file.fileno())

    def batches(self) -> Iterator[Batch]:
        """Read every batch that is there, but for those of other living processes."""
        for path in self._folder.glob(f"{PREFIX}*.jsonl"):
            file = _locked(path)
            if file is not None:
                self._others.append((path, file))
        for _, file in self._held():
            file.seek(0)
            for line in file:
                batch = _read(line)
                if batch is not None:
                    yield batch

    def forget(self) -> None:
        """Delete what `batches` has read to its end."""
        for path, file in self._held():
            path.unlink(missing_ok=True)
            file.close()
        self._own, self._others = None, []

    def set_aside(self, batch: Batch) -> None:
        """Keep a batch that no database takes, for a person to look at."""
        path = self._folder / f"{PREFIX}refused.jsonl.txt"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(_encode(batch) + b"\n")

    def close(self) -> None:
        """Leave what is there to the next process."""
        for _, file in self._held():
            file.close()
        self._own, self._others = None, []

    def _held(self) -> list[tuple[Path, IO[bytes]]]:
        return [*self._others, *([] if self._own is None else [self._own])]


def _locked(path: Path) -> IO[bytes] | None:
    """Open a file that nobody else has; None for one that somebody has, this process included."""
    try:
        file = path.open("r+b")
    except OSError:
        return None  # it is gone
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    if path.exists():
        return file
    file.close()  # deleted by who had it, between the two steps
    return None


def _read(line: bytes) -> Batch | None:
    if not line.endswith(b"\n"):
        return None  # the end of a process that was killed while it wrote
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.error("A line of the ledger's journal cannot be read and is left out")
        return None
