"""Asks the Hub once per token and remembers the answer, through floods of guesses and a silent Hub."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import HubUnavailable, Unauthenticated
from ..vocabulary import Caller
from .hub import SILENT_HUB, HubClient, HubReply
from .keys import PREFIX, KeyRing
from .scopes import Model, ScopeRules

log = logging.getLogger(__name__)

MAX_TOKEN_CHARS = 512


class _Known:
    """A token that the Hub knows. Times are of the resolver's clock."""

    __slots__ = ("caller", "fresh_until", "model", "stale_until")

    def __init__(self, caller: Caller, model: Model, fresh_until: float, stale_until: float) -> None:
        self.caller = caller
        self.model = model
        self.fresh_until = fresh_until
        self.stale_until = stale_until


@dataclass(frozen=True, slots=True)
class _Failure:
    """No word from the Hub. `is_hub`: it was asked and failed, rather than not asked for lack of room."""

    reason: str
    retry_after_s: float
    is_hub: bool = True


_Answer = _Known | _Failure | None
"""What a look-up learned; None is the Hub's word that it does not know the token."""

_Flight = asyncio.Task[_Answer]


class TokenResolver:
    """Turns tokens into callers: asks the Hub once per token and remembers the answer for a while.

    Tokens are remembered by their SHA-256, at most `max_tokens` that are known and as many that are not,
    apart, so that guesses cannot push out what is known. Known ones count for `ttl_s`, unknown ones and
    callers who may do nothing for `negative_ttl_s`. When the Hub fails, a token goes on for up to
    `grace_s` after the Hub last confirmed it. Concurrent questions about one token share one look-up;
    at most `max_lookups` run at once, a quarter of them kept for tokens that were known before, and at
    most `max_waiting` wait. `token_url` is where a person gets a token.

    `hits`, `misses`, `stale` count answers from memory, not from memory, and past their time because the
    Hub failed; `lookups` and `errors` count questions to the Hub and those that it did not answer.
    """

    def __init__(
        self,
        api_url: str,
        service_name: str,
        *,
        access_scopes: Iterable[str],
        ttl_s: float = 60.0,
        negative_ttl_s: float = 10.0,
        grace_s: float = 300.0,
        max_tokens: int = 10_000,
        max_lookups: int = 64,
        max_waiting: int = 1_000,
        timeout_s: float = 5.0,
        token_url: str = "/hub/token",  # noqa: S107  a path, no secret
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = ScopeRules(service_name, frozenset(access_scopes))
        self.keys: KeyRing | None = None
        """The gateway's own keys, which nobody is asked about."""
        self.asks_hub = True
        """False where there is no Hub, and keys are all there is."""
        self.roles_of: Callable[[Caller], Awaitable[tuple[str, ...]]] | None = None
        """Finds a caller's roles, where a policy asks for them."""
        self.client = HubClient(
            api_url, timeout_s=timeout_s, connections=max_lookups, ssl_context=ssl_context
        )
        self.hits = self.misses = self.stale = self.lookups = self.errors = 0
        self._ttl_s, self._negative_ttl_s, self._grace_s = ttl_s, negative_ttl_s, grace_s
        self._max_tokens, self._max_waiting, self._timeout_s = max_tokens, max_waiting, timeout_s
        self._token_url = token_url
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()  # SHA-256 → when to ask again
        self._flights: dict[bytes, _Flight] = {}
        reserved = max(1, max_lookups // 4)
        self._known_slots = asyncio.Semaphore(reserved)
        self._slots = asyncio.Semaphore(max(1, max_lookups - reserved))
        self._max_flights = max_lookups + max_waiting
        self._is_failing = False  # true: the last question to the Hub got no answer
        self._probe_at = 0.0

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    def peek(self, token: str) -> Caller | None:
        """Return the caller of a token that is known and fresh, else None; never asks."""
        key = _digest(token)
        known = self._known.get(key)
        if known is None or known.fresh_until <= self._clock():
            return None if self.keys is None else self.keys.find(token)
        self._known.move_to_end(key)
        self.hits += 1
        return known.caller

    async def resolve(self, token: str | None) -> Caller:
        """Return the token's owner. `Unauthenticated`, or `HubUnavailable` when nobody can say."""
        return (await self._resolve(token)).caller

    async def model(self, token: str) -> dict[str, Any] | None:
        """Return the Hub's own model of the token's owner, None for a token that it does not know."""
        try:
            known = await self._resolve(token)
        except Unauthenticated:
            return None
        return dict(known.model) or None  # a key is nobody's whom the Hub knows

    def refusal(self, token: str | None) -> Unauthenticated:
        """Make the fault of a request whose token the Hub does not know, or that has none."""
        slug = "invalid_api_key" if token else "missing_api_key"
        headers = [("WWW-Authenticate", "Bearer")]
        if not self.asks_hub or (token is not None and token.startswith(PREFIX)):
            what = "There is no such gateway key, or it has ended." if token else "This request has no key."
            text = f"{what} Whoever runs this gateway can make another."
            return Unauthenticated(text, slug=slug, headers=headers)
        what = "The JupyterHub does not know this API key." if token else "This request has no API key."
        return Unauthenticated(
            f"{what} The key is a JupyterHub token: in a notebook it is in the environment variable "
            f"JUPYTERHUB_API_TOKEN, elsewhere make one at {self._token_url}",
            slug=slug,
            headers=headers,
        )

    def clear(self) -> None:
        """Forget every answer."""
        self._known.clear()
        self._unknown.clear()

    async def close(self) -> None:
        """Stop asking and close the connections to the Hub."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self.client.close()

    async def _resolve(self, token: str | None) -> _Known:
        if not token:
            raise self.refusal(None)
        if not _may_be_token(token):
            raise self.refusal(token)
        caller = None if self.keys is None else self.keys.find(token)
        if caller is not None:
            return _Known(caller, {}, 0.0, 0.0)
        if token.startswith(PREFIX) or not self.asks_hub:
            raise self.refusal(token)
        key = _digest(token)
        now = self._clock()
        known = self._known.get(key)
        if known is not None and now < known.fresh_until:
            self._known.move_to_end(key)
            self.hits += 1
            return known
        if now < self._unknown.get(key, now):
            self.hits += 1
            raise self.refusal(token)
        self.misses += 1
        if known is not None and self._is_failing and now < known.stale_until:
            self._probe(key, token, now)
            self.stale += 1
            return known
        return self._conclude(key, token, await self._share(key, token))

    async def _share(self, key: bytes, token: str) -> _Answer:
        """Join the look-up of this token, or start it. A caller who leaves does not end it for others."""
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= self._max_flights and key not in self._known:
                return _Failure("too many unknown tokens at once", 1.0, is_hub=False)
            flight = self._start(key, token)
        return await asyncio.shield(flight)

    def _start(self, key: bytes, token: str) -> _Flight:
        flight = asyncio.get_running_loop().create_task(self._look_up(key, token))
        self._flights[key] = flight
        return flight

    def _probe(self, key: bytes, token: str, now: float) -> None:
        """While the Hub fails nobody with a known token waits for it: one look-up at a time finds out."""
        if now >= self._probe_at and key not in self._flights:
            self._probe_at = now + self._timeout_s
            self._start(key, token)

    def _conclude(self, key: bytes, token: str, answer: _Answer) -> _Known:
        if answer is None:
            raise self.refusal(token)
        if isinstance(answer, _Known):
            return answer
        known = self._known.get(key)
        if known is not None and self._clock() < known.stale_until:
            self.stale += 1
            return known
        raise HubUnavailable(
            SILENT_HUB,
            detail=answer.reason,
            retry_after_s=answer.retry_after_s,
        )

    async def _look_up(self, key: bytes, token: str) -> _Answer:
        """Ask, remember, return the answer. Never a fault: there may be nobody left to hear it."""
        try:
            answer = await self._ask_in_turn(
                token, self._known_slots if key in self._known else self._slots
            )
        finally:
            self._flights.pop(key, None)
        self._note_health(answer)
        self._remember(key, answer)
        return answer

    async def _ask_in_turn(self, token: str, slots: asyncio.Semaphore) -> _Answer:
        try:
            await asyncio.wait_for(slots.acquire(), self._timeout_s)
        except asyncio.TimeoutError:
            return _Failure("too many look-ups at once", 1.0, is_hub=False)
        self.lookups += 1
        asked_at = self._clock()
        try:
            reply = await self.client.ask("GET", "user", {"Authorization": f"token {token}"})
        except HubUnavailable as fault:
            return _Failure(fault.detail or "", self._timeout_s)
        finally:
            slots.release()
        answer = self._read(reply, asked_at)
        if self.roles_of is None or not isinstance(answer, _Known) or not answer.caller.operations:
            return answer
        try:
            answer.caller = replace(answer.caller, roles=await self.roles_of(answer.caller))
        except HubUnavailable as fault:
            return _Failure(fault.detail or "", self._timeout_s)
        return answer

    def _read(self, reply: HubReply, asked_at: float) -> _Answer:
        """Take the Hub at its word only when the answer is the Hub's: JSON, not a proxy's error page."""
        document = reply.document
        if document is not None and reply.status in (401, 403, 404):
            return None
        if document is not None and reply.status == 200:
            try:
                caller = self.rules.caller(document)
            except (KeyError, TypeError, AttributeError):
                return _Failure("an answer that describes neither a user nor a service", self._timeout_s)
            return self._known_from(caller, document, asked_at)
        wait_s = self._timeout_s if reply.retry_after_s is None else reply.retry_after_s
        kind = "" if document is not None else " without JSON"
        return _Failure(f"status {reply.status}{kind}", max(1.0, min(wait_s, 60.0)))

    def _known_from(self, caller: Caller, model: Model, now: float) -> _Known:
        ttl_s = self._ttl_s if caller.operations else min(self._ttl_s, self._negative_ttl_s)
        return _Known(caller, model, now + ttl_s, now + max(ttl_s, self._grace_s))

    def _note_health(self, answer: _Answer) -> None:
        """Say once in the log that the Hub stopped or began to answer, not once per request."""
        if not isinstance(answer, _Failure):
            if self._is_failing:
                log.info("The Hub can be asked again who is calling")
            self._is_failing = False
        elif answer.is_hub:
            self.errors += 1
            self._probe_at = self._clock() + min(1.0, self._timeout_s)
            if not self._is_failing:
                log.warning(
                    "The Hub cannot be asked who is calling: %s. Known tokens go on for %d s",
                    answer.reason,
                    self._grace_s,
                )
            self._is_failing = True

    def _remember(self, key: bytes, answer: _Answer) -> None:
        if isinstance(answer, _Failure):
            return
        if answer is None:
            self._known.pop(key, None)
            self._unknown[key] = self._clock() + self._negative_ttl_s
            self._unknown.move_to_end(key)
        else:
            self._unknown.pop(key, None)
            self._known[key] = answer
            self._known.move_to_end(key)
        self._trim()

    def _trim(self) -> None:
        """Keep both memories bounded, and let go of the least used where they are of no use any more."""
        now = self._clock()
        while self._unknown and (len(self._unknown) > self._max_tokens or _first(self._unknown) <= now):
            self._unknown.popitem(last=False)
        while self._known and (
            len(self._known) > self._max_tokens or _first(self._known).stale_until <= now
        ):
            self._known.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _may_be_token(token: str) -> bool:
    return len(token) <= MAX_TOKEN_CHARS and token.isascii() and token.isprintable() and " " not in token


def _first(memory: OrderedDict[bytes, Any]) -> Any:
    return next(iter(memory.values()))
