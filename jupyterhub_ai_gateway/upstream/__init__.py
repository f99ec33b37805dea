"""The wire to providers: one promise (`base`), kept by two clients."""

from __future__ import annotations

import ssl

from ..config import DnsConfig
from .base import Client
from .names import Names


def make_client(
    kind: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    uses_environment: bool = False,
    dns: DnsConfig | None = None,
) -> Client:
    """Make the client named "lean" or "aiohttp", which is imported where it is needed.

    With `uses_environment` proxies are those of the environment; only aiohttp's client knows them.
    """
    names = Names(dns)
    if kind == "lean" and not uses_environment:
        from .lean import LeanClient

        return LeanClient(ssl_context=ssl_context, names=names)
    from .stock import StockClient

    return StockClient(ssl_context=ssl_context, uses_environment=uses_environment, names=names)
