"""Notices that a file was changed, by looking at it now and then. No thread, no inotify, no content."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

Signature = tuple[int, int, int, str]


class FileWatch:
    """Tells, poll by poll, whether one of some files is another than it was.

    Editors' renames, writes in place and Kubernetes' swap of a `..data` link all count. A change counts
    once two polls in a row see the same, so that a half-written file is left alone; a file that is gone
    counts when it is back, different.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._known: dict[Path, Signature | None] = {path: _signature(path) for path in paths}
        self._seen = dict(self._known)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return what is watched."""
        return tuple(self._known)

    def watch(self, paths: Iterable[Path]) -> None:
        """Watch these instead. What is known of those among them that were watched already stays."""
        known = {path: self._known[path] if path in self._known else _signature(path) for path in paths}
        self._seen = {path: self._seen.get(path, signature) for path, signature in known.items()}
        self._known = known

    def changed(self) -> bool:
        """Look once; say whether something has changed and stood still since the last look."""
        now = {path: _signature(path) for path in self._known}
        is_still, self._seen = now == self._seen, now
        if not is_still:
            return False
        fresh = {path: seen for path, seen in now.items() if seen is not None and seen != self._known[path]}
        self._known.update(fresh)
        return bool(fresh)


def _signature(path: Path) -> Signature | None:
    """Return what tells one state of a file from another; None while there is none."""
    try:
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size, os.path.realpath(path)
    except OSError:
        return None
