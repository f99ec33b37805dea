"""Who is next, where models run on one's own machines and there are more requests than slots.

`fair` decides, without a clock or a loop of its own; `pools` lets requests wait for it.
"""

from __future__ import annotations

from .fair import FairShare, Ticket, Who
from .pools import Pool, Pools

__all__ = ["FairShare", "Pool", "Pools", "Ticket", "Who"]
