"""What a caller says in headers besides the request: what their data needs, and how it is to be served."""

from __future__ import annotations

from tornado import httputil

from ..vocabulary import Wishes

NAMES = (
    *("x-ai-gateway-data-class", "x-ai-gateway-region", "x-session-id", "x-ai-gateway-priority"),
    "x-ai-gateway-substitute",
)
_MARKS = ("x-ai-gateway-", "x-session-id")


def wishes_from_headers(headers: httputil.HTTPHeaders) -> Wishes | None:
    """Read them; None where there are none, as is usual."""
    mentions = getattr(headers, "mentions", None)
    if mentions is not None and not any(map(mentions, _MARKS)):
        return None
    found = Wishes(*(headers.get(name) for name in NAMES))
    return None if found == Wishes() else found
