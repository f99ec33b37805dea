"""Responses that a provider keeps for a caller, under ids that are the caller's own."""

from __future__ import annotations

from ..dialects.opening import Asked
from ..dialects.owned import OwnedIds
from ..router import Catalogue, Deployment, Endpoint
from ..vocabulary import RESPONSES, Caller
from .attempt import MAX_ANSWER_BYTES
from .call import Call
from .faults import refusal
from .rooms import Rooms


def keeping(
    rooms: Rooms, endpoint: Endpoint, call: Call, caller: Caller, asked: Asked
) -> tuple[OwnedIds | None, str | None]:
    """Let the provider keep a response where it may; and say which deployment has the one before."""
    if not endpoint.stored_responses or call.operation is not RESPONSES:
        return None, None
    owned = OwnedIds(rooms.secret, caller.key, endpoint.name)
    return owned, owned.adopt(asked)


async def stored(
    rooms: Rooms, catalogue: Catalogue, caller: Caller, given: str, method: str, action: str, query: str
) -> bytes | None:
    """Ask for a response that a provider keeps for a caller; None when there is none of this id.

    `action` is "", "/cancel" or "/input_items". `Fault` for what the provider says against it.
    """
    for endpoint in catalogue.open_to(caller):
        owned = OwnedIds(rooms.secret, caller.key, endpoint.name)
        kept = owned.open(given) if endpoint.stored_responses else None
        for deployment in endpoint.deployments if kept is not None else ():
            if kept is not None and deployment.name == kept.deployment:
                body = await _ask(rooms, deployment, kept.id, method, action, query)
                return None if body is None else owned.rewrite(body, deployment.name)
    return None


async def _ask(
    rooms: Rooms, deployment: Deployment, upstream_id: str, method: str, action: str, query: str
) -> bytes | None:
    provider = deployment.provider
    url, _, own_query = provider.url(RESPONSES).partition("?")
    queries = "&".join(each for each in (own_query, query) if each)
    url = f"{url}/{upstream_id}{action}" + (f"?{queries}" if queries else "")
    target = provider.reach(url, provider.headers(), method=method)
    exchange = await provider.send(rooms.client, target, b"", deployment.timeouts)
    try:
        if exchange.status == 404:
            return None
        if not 200 <= exchange.status < 300:
            raise await refusal(deployment, exchange)
        return deployment.without_secrets(await exchange.read(MAX_ANSWER_BYTES))
    finally:
        exchange.close()
