"""Failures on their way to the caller and to the log; what a provider wrote is in neither."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..dialects.dialect import OPENAI, Dialect
from ..dialects.faults import JSON, fault_headers
from ..errors import Fault, UpstreamBroken, UpstreamFault
from ..router import Deployment, Endpoint
from ..upstream.base import Exchange
from .call import Call, Headers, Reply

log = logging.getLogger(__name__)

MAX_REFUSAL_BYTES = 64 * 1024


class CallerGone(Exception):  # noqa: N818 - nobody's error
    """Nobody is left to read the answer."""


def answer_fault(
    reply: Reply, fault: Fault, request_id: str, headers: Headers, dialect: Dialect | None = None
) -> None:
    """Answer with a fault, in OpenAI's words unless another dialect is given.

    `headers` are added where the fault has none of the same name.
    """
    dialect = dialect or OPENAI
    own = [*JSON, ("x-request-id", request_id), *fault_headers(fault)]
    if dialect.id_header is not None:
        own.append((dialect.id_header, request_id))
    names = {name.lower() for name, _ in own}
    own += [(name, value) for name, value in headers if name.lower() not in names]
    reply.respond(fault.status, own, dialect.error_object(fault, request_id))


async def refusal(deployment: Deployment, exchange: Exchange) -> Fault:
    """Read what the provider says with its error status, as far as it can be read."""
    try:
        body = await exchange.read(MAX_REFUSAL_BYTES)
    except UpstreamFault:
        body = b""
    return deployment.provider.refusal(exchange.status, exchange.headers, body)


def require_type(headers: Mapping[bytes, bytes], wanted: bytes) -> None:
    found = headers.get(b"content-type", b"")
    if wanted not in found and wanted not in found.lower():
        raise UpstreamBroken(
            "The model's provider sent an answer of the wrong kind.",
            detail=f"its Content-Type has no {wanted.decode()}",
        )


def log_upstream(call: Call, endpoint: Endpoint, deployment: Deployment | None, fault: Fault) -> None:
    """Say which provider failed and how; never what it wrote. With a deployment: that others are tried."""
    level = logging.INFO if fault.status < 500 or deployment is not None else logging.WARNING
    where = endpoint.name if deployment is None else f"{endpoint.name}/{deployment.name}"
    name = (deployment or endpoint.deployment).provider.name
    reason = fault.detail or fault.slug
    log.log(level, "%s %s: provider %s: %s (%s)", call.id, where, name, fault.slug, reason)
