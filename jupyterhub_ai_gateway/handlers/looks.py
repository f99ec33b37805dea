"""Who looked at the use of others: written into the audit log, once an hour for the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

EVERY_MS = 3_600_000
MOST = 10_000


class Looks:
    """Remembers at most `MOST` looks; one that is forgotten early is written down again."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def is_new(self, actor: str, action: str, subject: str, now_ms: int) -> bool:
        """Say whether somebody has not looked at this in the last hour; from now on they have."""
        key = (actor, action, subject)
        known_ms = self._known.get(key)
        if known_ms is not None and now_ms - known_ms < EVERY_MS:
            return False
        self._known[key] = now_ms
        self._known.move_to_end(key)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return True


def subject_of(where: Mapping[str, str]) -> str:
    """Name whose use it is: `user:bob`, `group:physics`, both, or `*` for everybody's."""
    group = where.get("charged_group")
    names = [where.get("caller"), None if group is None else f"group:{group}"]
    return " ".join(name for name in names if name) or "*"
