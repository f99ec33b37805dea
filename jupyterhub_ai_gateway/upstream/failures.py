"""The faults of a provider's wire, in one voice. Callers learn what happened; only the log learns where."""

from __future__ import annotations

from ..errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from .base import Origin
from .names import NotPublicError


def unreachable(origin: Origin, reason: str) -> UpstreamUnreachable:
    """Return the fault of a provider to which there is no connection."""
    text = "The model's provider cannot be reached."
    return UpstreamUnreachable(text, detail=f"{origin.authority}: {reason}")


def not_public(origin: Origin, error: NotPublicError) -> UpstreamUnreachable:
    """Return the fault of a provider that is elsewhere than the operator lets it be."""
    text = (
        "The model's provider is not at a public address, as the operator of this gateway wants it to be."
    )
    return UpstreamUnreachable(text, detail=f"{origin.authority}: {error}")


def timed_out(origin: Origin, doing: str) -> UpstreamTimeout:
    """Return the fault of a provider that took too long."""
    text = f"The model's provider took too long ({doing})."
    return UpstreamTimeout(text, detail=f"{origin.authority}: timed out {doing}")


def broken(origin: Origin, reason: str) -> UpstreamBroken:
    """Return the fault of a provider that sent what is not an answer."""
    text = "The model's provider sent an answer that cannot be read."
    return UpstreamBroken(text, detail=f"{origin.authority}: {reason}")


def cut_short(origin: Origin, reason: str) -> UpstreamBroken:
    """Return the fault of a provider that stopped in the middle of an answer."""
    text = "The model's provider ended its answer in the middle."
    return UpstreamBroken(text, detail=f"{origin.authority}: {reason}")


def too_long(origin: Origin, limit: int) -> UpstreamBroken:
    """Return the fault of an answer that is longer than anything expected."""
    text = "The model's provider sent an answer that is too long."
    return UpstreamBroken(text, detail=f"{origin.authority}: more than {limit} bytes")
