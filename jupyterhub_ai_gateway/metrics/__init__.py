"""What happened, in numbers. Counting costs a request next to nothing; text is made when it is asked for.

`families` says which metrics there are, `cells` counts, `export` writes them out.
"""

from __future__ import annotations

from .cells import Cell
from .export import (
    AuthCache,
    BatchCounts,
    ConfigurationState,
    DeploymentState,
    Metrics,
    PoolState,
    Snapshot,
)
from .families import FAMILIES, NAMESPACE, reference

__all__ = [
    "FAMILIES",
    "NAMESPACE",
    "AuthCache",
    "BatchCounts",
    "Cell",
    "ConfigurationState",
    "DeploymentState",
    "Metrics",
    "PoolState",
    "Snapshot",
    "reference",
]
