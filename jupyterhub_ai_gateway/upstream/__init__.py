"""The wire to providers: one promise (`base`), kept by two clients."""

from __future__ import annotations

import ssl

from .base import Client


def make_client(kind: str, *, ssl_context: ssl.SSLContext | None = None) -> Client:
    """Make the client named "lean" or "aiohttp". aiohttp is imported where it is asked for."""
    if kind == "lean":
        from .lean import LeanClient

        return LeanClient(ssl_context=ssl_context)
    from .stock import StockClient

    return StockClient(ssl_context=ssl_context)
