"""Batches, and the places that FIRST's paths name."""

from __future__ import annotations

import re

from ..vocabulary import Place
from .model import BatchesConfig
from .report import Block, Report
from .routing import read_names, read_whole
from .words import listed, shown

PLACE = r"[A-Za-z0-9_.\-]+"
DEFAULT_FRAMEWORK = "api"
RESERVED_CLUSTERS = ("v1", "health", "status", "whoami", "list-endpoints", "data", "api", "docs")
"""Words that stand in FIRST's paths where a cluster's name does."""

BOUNDS: dict[str, tuple[int, int]] = {
    "concurrency": (1, 1000),
    "jobs": (1, 100),
    "give_way_above": (0, 1_000_000),
    "jobs_per_user": (1, 10_000),
    "files_per_user": (1, 1_000_000),
    "bytes_per_user": (1024, 1 << 50),
    "file_bytes": (1024, 1 << 40),
    "line_bytes": (1024, 100 * 1024**2),
    "lines": (1, 10_000_000),
    "window_hours": (1, 24 * 365),
    "retention_days": (1, 3650),
}
"""The least and the most of each number."""
LEASE_S = (1.0, 3600.0)


def read_batches(value: object, report: Report) -> BatchesConfig:
    """Read `batches`; without it there are none."""
    if value is None or value is False:
        return BatchesConfig()
    block = Block(value, "batches", report)
    usual = BatchesConfig()
    numbers = {
        name: read_whole(block, name, getattr(usual, name), *bounds) for name, bounds in BOUNDS.items()
    }
    found = BatchesConfig(
        folder=block.required_text("folder") or None,
        input_folders=_folders(block, "input_folders"),
        output_folders=_folders(block, "output_folders"),
        lease_s=_lease_s(block, usual.lease_s),
        **numbers,
    )
    block.refuse_unknown()
    return found


def read_place(block: Block) -> Place | None:
    """Read the cluster and the framework of a deployment."""
    cluster, framework = block.text("cluster"), block.text("framework")
    if cluster is None and framework is not None:
        block.error("framework", "stands without a cluster")
    for key, word in (("cluster", cluster), ("framework", framework)):
        if word and not re.fullmatch(PLACE, word):
            block.error(key, f"must be letters, digits, _, - and . alone, found {shown(word)}")
    if cluster in RESERVED_CLUSTERS:
        block.error(
            "cluster", f"must not be {listed(RESERVED_CLUSTERS)}, which FIRST's own paths begin with"
        )
    return None if not cluster else Place(cluster, framework or DEFAULT_FRAMEWORK)


def _folders(block: Block, key: str) -> tuple[str, ...]:
    folders = read_names(block, key)
    for folder in folders:
        if not folder.startswith("/") or ".." in folder.split("/"):
            block.error(
                key, f"must be whole paths, such as /srv/batches/{{username}}; found {shown(folder)}"
            )
    return folders


def _lease_s(block: Block, default: float) -> float:
    value = block.get("lease_s")
    if value is None:
        return default
    least, most = LEASE_S
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        block.error(
            "lease_s", f"must be a number of seconds from {least:g} to {most:g}, found {shown(value)}"
        )
        return default
    return float(value)
