"""One request with what its caller is told of it: the headers, and the ids that are theirs."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from ..accounting import Outcome
from ..dialects.bridge import Crossing
from ..dialects.dialect import Dialect
from ..dialects.opening import Asked
from ..dialects.owned import OwnedIds
from ..dialects.parameters import Told
from ..dialects.vectors import VectorCrossing
from ..router import Deployment, Endpoint
from ..vocabulary import Caller
from .call import Call, Headers, Reply
from .rooms import Rooms

_TIMING = "auth;dur=%.1f, queue;dur=%.1f, upstream;dur=%.1f, gateway;dur=%.1f"


@dataclass(slots=True)
class Answering:
    """One request that has an endpoint, seen from its answer."""

    rooms: Rooms
    call: Call
    caller: Caller
    endpoint: Endpoint
    asked: Asked
    reply: Reply
    outcome: Outcome
    told: Told | None = None
    """What the endpoint's parameters have changed."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    crossing: Crossing | VectorCrossing | None = None
    """The request in the words of the deployment that is tried, where those are not the caller's."""
    unheard: str = ""
    """What the caller said in its beta header, and the deployment that is tried does not hear."""
    sunset: tuple[str, str] | None = None
    """The header that warns of the end of the deployment that is tried."""
    owned: OwnedIds | None = None
    """The caller's own ids of responses, where the provider may keep them."""
    dialect: Dialect = field(init=False)
    """The format in which the caller is answered."""

    def timing(self) -> tuple[str, str]:
        """Return how the time until now was spent, in milliseconds.

        Source: https://www.w3.org/TR/server-timing/ (read 2026-11).
        """
        outcome = self.outcome
        began, named, upstream_s = outcome.began, outcome.named, outcome.upstream_s
        admitted = outcome.admitted or named
        waited_s = admitted - named + outcome.queued_s
        own_s = self.rooms.clock() - named - waited_s - upstream_s
        return (
            "Server-Timing",
            _TIMING % ((named - began) * 1e3, waited_s * 1e3, upstream_s * 1e3, own_s * 1e3),
        )

    def route_headers(self) -> Headers:
        """Return who answered, where there was a choice, when that ends, and what was left out for them."""
        is_whole = self.crossing is None and self.told is None and not self.unheard
        dropped = () if is_whole else self._dropped()
        if self.sunset is not None:
            dropped = (*dropped, self.sunset)
        if not self.endpoint.has_choice:
            return dropped
        outcome = self.outcome
        return (
            *dropped,
            ("x-ai-gateway-deployment", outcome.deployment or ""),
            ("x-ai-gateway-attempts", str(outcome.attempts)),
        )

    def _dropped(self) -> Headers:
        """Return the names of what was left out: by the parameters, the translation, of the beta header."""
        dropped = [] if self.crossing is None else self.crossing.dropped
        if self.told is not None:
            dropped = [*self.told.dropped, *dropped]
        if self.unheard:
            dropped = [*dropped, self.unheard]
        if not dropped:
            return ()
        names = ", ".join(name for name in dropped if name.isascii() and name.isprintable())
        return (("x-ai-gateway-dropped-params", names[:1024]),)

    def with_own_ids(self, data: bytes, deployment: Deployment) -> bytes:
        """Give the caller ids of their own for what the provider keeps."""
        if self.owned is None or self.crossing is not None or not self.endpoint.owns(deployment):
            return data
        return self.owned.rewrite(data, deployment.name)

    def pseudonym(self) -> str:
        """Return what stands for the caller at a provider."""
        return hmac.digest(self.rooms.secret, self.caller.key.encode(), "sha256").hex()[:32]
