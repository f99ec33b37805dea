"""How an endpoint chooses among its deployments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from .model import ORDERS, Order
from .report import Block
from .words import hint, kind_of, listed, shown


def read_order(block: Block) -> Order:
    """Read by what the deployments of a tier are ordered."""
    text = block.text("order")
    if text and text not in ORDERS:
        block.error("order", f"must be {listed(ORDERS)}, found {shown(text)}{hint(text, ORDERS)}")
    return cast(Order, text or ORDERS[0])


def read_whole(block: Block, key: str, default: int, least: int, most: int) -> int:
    """Read a whole number within bounds."""
    value = block.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        block.error(key, f"must be a whole number from {least} to {most}, found {shown(value)}")
        return default
    return value


def read_weight(block: Block) -> float:
    """Read a share; 0 is for those that serve only when the others of their tier fail."""
    value = block.get("weight")
    if value is None:
        return 1.0
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= cast(float, value) <= 1e6 or not math.isfinite(cast(float, value)):
        block.error("weight", f"must be a number from 0 to 1000000, found {shown(value)}")
        return 1.0
    return float(cast(float, value))


def read_names(block: Block, key: str) -> tuple[str, ...]:
    """Read a name or a list of names."""
    value = block.get(key)
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        block.error(key, f"must be a list of names, found {kind_of(value)}")
        return ()
    return tuple(cast("Sequence[str]", names))
