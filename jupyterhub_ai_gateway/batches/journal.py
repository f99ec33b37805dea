"""What a job has done so far: a line for each answer, written before the answer counts.

Each process that works on a job appends to a part of its own, so that one that was thought to be dead
cannot spoil what its successor writes. The end of a part that a crash cut off is not read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec


class Record(msgspec.Struct, array_like=True):
    """One answered line. `text` is the line of the output, or of the errors unless `is_ok`."""

    number: int
    is_ok: bool
    input_tokens: int | None
    output_tokens: int | None
    text: msgspec.Raw


class _Where(NamedTuple):
    part: int
    offset: int


class Tally:
    """How many lines are done, and the tokens that they tell; None as long as none did."""

    def __init__(self) -> None:
        self.completed = self.failed = 0
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None

    def add(self, record: Record) -> None:
        """Count a line."""
        if record.is_ok:
            self.completed += 1
        else:
            self.failed += 1
        self.input_tokens = _sum(self.input_tokens, record.input_tokens)
        self.output_tokens = _sum(self.output_tokens, record.output_tokens)


_decode = msgspec.json.Decoder(Record).decode
_encode = msgspec.json.Encoder().encode


class Journal:
    """The answers of one job, in its folder. Open it in a thread; `add` is for the loop."""

    def __init__(self, folder: Path, epoch: int) -> None:
        self.tally = Tally()
        self._done: dict[int, _Where] = {}
        self._parts = sorted(folder.glob("part-*.jsonl"))
        for index, path in enumerate(self._parts):
            self._read(index, path)
        self._parts.append(folder / f"part-{epoch:06d}.jsonl")
        self._file: BinaryIO = self._parts[-1].open("xb")
        self._offset = 0
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._failure: OSError | None = None  # once set, the end of the part is not to be trusted

    def __contains__(self, number: object) -> bool:
        return number in self._done

    def __len__(self) -> int:
        return len(self._done)

    async def add(self, record: Record) -> None:
        """Return once the record is safe on disk; those that come at once share a write. OSError."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((record, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await asyncio.shield(written)

    async def close(self) -> None:
        """Wait for what is being written, and close the part."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.to_thread(self._file.close)

    def records(self) -> Iterator[Record]:
        """Return all records in the order of the lines. For a thread, once nothing is added any more."""
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in self._parts]
            for number in sorted(self._done):
                where = self._done[number]
                files[where.part].seek(where.offset)
                yield _decode(files[where.part].readline())

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            lines = [_encode(record) + b"\n" for record, _ in batch]
            if self._failure is None:
                try:
                    await asyncio.to_thread(self._append, lines)
                except OSError as error:
                    self._failure = error
            for (record, written), line in zip(batch, lines, strict=True):
                if self._failure is None:
                    self._note(record, len(self._parts) - 1, self._offset)
                    self._offset += len(line)
                if not written.done():
                    _settle(written, self._failure)
        self._writing = None

    def _append(self, lines: Iterable[bytes]) -> None:
        self._file.writelines(lines)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, part: int, path: Path) -> None:
        offset = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    self._note(_decode(line), part, offset)
                except msgspec.MsgspecError:
                    return
                offset += len(line)

    def _note(self, record: Record, part: int, offset: int) -> None:
        if record.number not in self._done:
            self._done[record.number] = _Where(part, offset)
            self.tally.add(record)


def _settle(written: asyncio.Future[None], failure: OSError | None) -> None:
    if failure is None:
        written.set_result(None)
    else:
        written.set_exception(failure)


def _sum(total: int | None, more: int | None) -> int | None:
    return total if more is None else (total or 0) + more
