"""SQL's only home: tables, their migrations, and every statement.

Everything here blocks, and runs in threads: the ledger's writer, and one for each question of a page.
"""

from __future__ import annotations

from .database import Database, StorageRefused, StorageUnavailable
from .jobs import JobStore
from .keys import KeyTable
from .rows import (
    AttemptRow,
    AuditRow,
    Batch,
    Counter,
    FileRow,
    JobRow,
    KeyRow,
    OverrideRow,
    RequestRow,
)

__all__ = [
    "AttemptRow",
    "AuditRow",
    "Batch",
    "Counter",
    "Database",
    "FileRow",
    "JobRow",
    "JobStore",
    "KeyRow",
    "KeyTable",
    "OverrideRow",
    "RequestRow",
    "StorageRefused",
    "StorageUnavailable",
]
