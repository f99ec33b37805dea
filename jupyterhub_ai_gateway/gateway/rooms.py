"""What the story of a request needs of the rest of the house."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..auth import TokenResolver
from ..limits import Gate
from ..metrics import Metrics
from ..scheduling import Pools
from ..upstream.base import Client
from ..usage.ledger import Ledger


@dataclass(slots=True)
class Rooms:
    """`secret` makes the pseudonyms that providers see.

    `ledger` is None where nothing is written down. `pools` are the slots of the operator's own machines.
    `keepalive_s` is the silence after which a stream gets a comment, 0 for never.
    """

    resolver: TokenResolver
    gate: Gate
    client: Client
    metrics: Metrics
    secret: bytes = field(repr=False)
    clock: Callable[[], float]
    ledger: Ledger | None = None
    pools: Pools = field(default_factory=lambda: Pools.none(time.monotonic))
    keepalive_s: float = 15.0
    is_stopping: bool = False
    """True once requests that still run are about to be cancelled."""
