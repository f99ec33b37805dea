"""Who is next, where models run on one's own machines and there are more requests than slots.

`fair` decides, without a clock or a loop of its own; `pools` lets requests wait for it. Where several
processes share a pool, `shared` lets requests wait, and `pool_store` and its script decide for all.
"""

from __future__ import annotations

from .fair import FairShare, Ticket, Who
from .pool_store import PoolStore
from .pools import Pool, Pools
from .shared import SharedPool, SharedPools

__all__ = ["FairShare", "Pool", "PoolStore", "Pools", "SharedPool", "SharedPools", "Ticket", "Who"]
