"""Tokens that expire: fetched when one is needed, and again before it is too old.

However many requests wait, one of them fetches. A token that is about to expire is still used by the others
meanwhile, and by all of them when the new one is refused.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from ..errors import ELSEWHERE, Fault, UpstreamRefused
from ..upstream.base import Client, Target
from ..vocabulary import Timeouts

log = logging.getLogger(__name__)

EARLY_S = 300.0
"""How long before its end a token is replaced, where it lasts that long."""
RETRY_S = 10.0
"""After a failure, how long a token that still serves is used before another is asked for."""
USUAL_LIFETIME_S = 300.0
"""How long a token is trusted that does not say how long it lasts."""
MAX_BYTES = 64 * 1024
TIMEOUTS = Timeouts(connect_s=10.0, first_byte_s=30.0, idle_s=30.0, total_s=30.0)

_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_TOKEN = re.compile(r"[!-~]{1,32768}")


class Fetched(NamedTuple):
    """A token, and for how many seconds it is good."""

    token: str
    lifetime_s: float


Fetch = Callable[[Client], Awaitable[Fetched]]


class TokenCache:
    """One token. `clock` is in seconds, of any origin."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._token: str | None = None
        self._refresh_at = self._expires_at = 0.0

    @property
    def texts(self) -> tuple[str, ...]:
        """Return what must never be relayed."""
        return () if self._token is None else (self._token,)

    async def get(self, client: Client) -> str:
        """Return a token that is good. `UpstreamFault` when there is none to be had."""
        token, now = self._token, self._clock()
        if token is not None and (now < self._refresh_at or self._may_serve(now)):
            return token
        async with self._fetching:
            token, now = self._token, self._clock()
            if token is not None and now < self._refresh_at:
                return token  # somebody else has fetched it while we waited
            return await self._renew(client)

    def renounce(self, token: str) -> None:
        """Forget a token that the host does not take."""
        if self._token == token:
            self._token = None

    def _may_serve(self, now: float) -> bool:
        """Say whether the old token serves while somebody fetches the new one."""
        return self._fetching.locked() and now < self._expires_at

    async def _renew(self, client: Client) -> str:
        try:
            found = await self._fetch(client)
        except Fault as fault:
            now = self._clock()
            if self._token is None or now >= self._expires_at:
                raise
            self._refresh_at = min(now + RETRY_S, self._expires_at)
            log.warning("A new token could not be had, the old one is used: %s", fault.detail or fault.slug)
            return self._token
        if not _TOKEN.fullmatch(found.token):
            raise refused_token("the token has characters that no header may hold")
        now = self._clock()
        self._token = found.token
        self._expires_at = now + found.lifetime_s
        self._refresh_at = self._expires_at - min(EARLY_S, found.lifetime_s / 4)
        return found.token


def refused_token(detail: str) -> UpstreamRefused:
    """Return the fault of credentials for which there is no token."""
    return UpstreamRefused(
        "The gateway gets no credentials for the model's provider. The operator has to look at them.",
        slug="upstream_auth_error",
        detail=detail,
        retry=ELSEWHERE,
        headers=[("x-should-retry", "false")],
    )


class _Answer(msgspec.Struct):
    access_token: str | None = None
    expires_in: int | float | str | None = None
    error: str | None = None


_answer = msgspec.json.Decoder(_Answer).decode


async def ask_token(
    client: Client,
    target: Target,
    form: Mapping[str, str] | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Fetched:
    """Ask for a token as OAuth2 has it; `form` is the body, None for a GET.

    Source: RFC 6749 sections 4.4 and 5 (read 2026-11).
    """
    body = b"" if form is None else urlencode(form).encode()
    exchange = await client.send(target, headers, body, TIMEOUTS)
    try:
        raw = await exchange.read(MAX_BYTES)
    finally:
        exchange.close()
    try:
        found = _answer(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _Answer()
    where = f"{target.origin.authority}"
    if exchange.status != 200:
        code = found.error if found.error and _CODE.fullmatch(found.error) else "no reason"
        raise refused_token(f"{where} gave no token: {exchange.status}, {code}")
    if not found.access_token:
        raise refused_token(f"{where} gave an answer without a token")
    return Fetched(found.access_token, _seconds(found.expires_in))


def form_target(url: str, *headers: tuple[str, str]) -> Target:
    """Return where a form is posted to."""
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    return Target.from_url(
        url, [("Accept", "application/json"), ("Accept-Encoding", "identity"), kind, *headers]
    )


def basic(user: str, password: str) -> tuple[str, str]:
    """Return the header of Basic authentication."""
    return ("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def _seconds(value: float | str | None) -> float:
    """Read a lifetime, which some say in text."""
    try:
        seconds = float(value) if value is not None else USUAL_LIFETIME_S
    except ValueError:
        return USUAL_LIFETIME_S
    return seconds if 0 < seconds < 10**7 else USUAL_LIFETIME_S
