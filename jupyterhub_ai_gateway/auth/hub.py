"""The wire to the Hub: one pool of connections, every question bounded in time, faults mapped to ours."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from ..errors import HubUnavailable

MAX_MODEL_BYTES = 4 * 1024 * 1024

SILENT_HUB = "The JupyterHub cannot say right now who you are; try again in a few seconds."


@dataclass(frozen=True, slots=True)
class HubReply:
    """A whole answer of the Hub. `document` is the JSON object in it, None when it is something else."""

    status: int
    document: dict[str, Any] | None
    retry_after_s: float | None


class HubClient:
    """Asks the Hub's API over one pool of connections, made on the loop that first uses it.

    `timeout_s` bounds each question as a whole. Redirects are not followed: they would carry a caller's
    token elsewhere.
    """

    def __init__(
        self, api_url: str, *, timeout_s: float, connections: int, ssl_context: ssl.SSLContext | None
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._timeout_s = timeout_s
        self._connections = connections
        self._ssl = ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> HubReply:
        """Send one request; `HubUnavailable` when no whole answer comes. No status is an error here."""
        try:
            return await asyncio.wait_for(self._ask(method, path, headers, body), self._timeout_s)
        except asyncio.TimeoutError:
            raise self._fault(f"no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._fault(f"{type(error).__name__}: {error}") from error

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> HubReply:
        url = f"{self._api_url}/{path}"
        options = {"headers": headers, "data": body, "allow_redirects": False}
        async with self._open().request(method, url, **options) as response:  # type: ignore[arg-type]
            text = bytearray()
            async for piece in response.content.iter_any():
                text += piece
                if len(text) > MAX_MODEL_BYTES:
                    raise self._fault(f"an answer above {MAX_MODEL_BYTES} bytes")
            wait = response.headers.get("Retry-After", "")
            wait_s = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else None
            return HubReply(response.status, _json_object(bytes(text)), wait_s)

    def _fault(self, detail: str) -> HubUnavailable:
        return HubUnavailable(SILENT_HUB, detail=detail, retry_after_s=self._timeout_s)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            secure: ssl.SSLContext | bool = True if self._ssl is None else self._ssl
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=secure),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    async def close(self) -> None:
        """Close every connection; a later question opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
