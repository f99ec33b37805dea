"""One attempt: the request goes to a deployment, and its answer to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import msgspec

from ..dialects.anthropic import allowed_betas
from ..dialects.faults import JSON
from ..dialects.media import passed_type
from ..dialects.openai_answer import with_encoding
from ..dialects.opening import close_request, close_translated, estimated_count, form_fields, policed
from ..errors import UpstreamTimeout
from ..passage import Passage
from ..providers.base import Provider
from ..router import Deployment
from ..upstream.base import Exchange
from ..upstream.deadline import timeout
from ..vocabulary import EMBEDDINGS, MEDIA, UPLOADS, utcnow
from .call import Headers
from .faults import CallerGone, refusal, require_type
from .serving import Serving
from .stream import Stream

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The longest answer that is not a stream. It is held in memory until it is known to be complete."""


async def attempt(serving: Serving, deployment: Deployment) -> None:
    """Ask a deployment and pass on what it answers; a `Fault` when it does not, or not well."""
    provider = deployment.provider
    serving.sunset = deployment.sunset
    serving.cell = serving.endpoint.cell_of(deployment, serving.call.operation)
    if serving.call.operation in deployment.estimates:
        _count(serving, deployment)
        return
    sent_model, model_name, price = deployment.sent_model, provider.model_name, deployment.price
    if deployment.takes_star:
        sent_model, model_name, price = deployment.named(serving.endpoint.star(serving.asked.asked_model))
    sending = _send(serving, deployment, sent_model)
    if serving.asked.is_stream:
        if serving.stream is None:
            serving.stream = Stream(serving, serving.rooms.keepalive_s)
        serving.stream.begin(deployment, holds=serving.may_try_others)
    outcome, clock = serving.outcome, serving.rooms.clock
    outcome.sent(clock(), provider.name, model_name, price)
    outcome.deployment = deployment.name
    exchange = await (sending if serving.deadline_s is None else _in_time(serving, sending))
    try:
        outcome.heard(clock())
        if not 200 <= exchange.status < 300:
            raise await refusal(deployment, exchange)
        if serving.call.operation in MEDIA:
            await _pass(serving, exchange, deployment)
        elif serving.stream is not None:
            await _relay(serving, serving.stream, exchange)
        else:
            await _answer(serving, exchange, deployment)
    finally:
        exchange.close()


def _send(
    serving: Serving, deployment: Deployment, sent_model: msgspec.Raw | None
) -> Coroutine[None, None, Exchange]:
    """Return what asks a deployment; `RequestFault` when the request is not for any."""
    call, asked, provider = serving.call, serving.asked, deployment.provider
    client, timeouts = serving.rooms.client, serving.timeouts(deployment)
    target = (deployment.stream_targets if asked.is_stream else deployment.targets)[call.operation]
    if call.upload is not None:
        fields = form_fields(asked, sent_model, serving.pseudonym, provider.amend)
        kind, form = call.upload.sent(*fields)
        return provider.upload(client, target, form, timeouts, [("Content-Type", kind)])
    body = _body(serving, deployment, sent_model)
    said = JSON if call.operation in UPLOADS else _said_by_caller(serving, provider)
    return provider.send(client, target, body, timeouts, said)


async def _in_time(serving: Serving, sending: Coroutine[None, None, Exchange]) -> Exchange:
    """Wait for an answer's head no longer than there is time, be it a token that is waited for."""
    try:
        async with timeout(max(0.0, serving.left_s())):
            return await sending
    except (TimeoutError, asyncio.TimeoutError):
        raise UpstreamTimeout("The model's provider took too long (waiting for an answer).") from None


async def _pass(serving: Serving, exchange: Exchange, deployment: Deployment) -> None:
    """Let an answer through that is a stream of events, JSON, or something else of its operation."""
    kind, stream, outcome = exchange.headers.get(b"content-type", b""), serving.stream, serving.outcome
    if b"event-stream" in kind.lower():
        if stream is None:
            stream = serving.stream = Stream(serving, serving.rooms.keepalive_s)
            stream.begin(deployment, holds=False)
        await _relay(serving, stream, exchange)
        return
    content_type = passed_type(serving.call.operation, kind)
    if stream is not None:  # some hosts do not know how to
        if stream.is_begun:
            require_type(exchange.headers, b"event-stream")
        stream.close()
        serving.stream = None
    serving.passage = passage = Passage(
        serving.reply, content_type, lambda: _passage_headers(serving), deployment.without_secrets
    )
    try:
        await passage.run(exchange)
    except OSError:
        raise CallerGone from None
    finally:
        outcome.usage, outcome.answered_model = passage.usage, passage.answered_model
        outcome.passed_bytes = passage.passed_bytes
        if passage.whole:
            outcome.first_byte_s = None
    if passage.is_error:
        raise deployment.provider.refusal(500, exchange.headers, passage.whole)
    outcome.done(exchange.status)


def _passage_headers(serving: Serving) -> Headers:
    outcome = serving.outcome
    outcome.heard(serving.rooms.clock())
    outcome.first_byte_s = serving.rooms.clock() - outcome.began
    return [*serving.headers, serving.timing(), *serving.route_headers()]


def _body(serving: Serving, deployment: Deployment, sent_model: msgspec.Raw | None) -> bytes:
    """Write what a deployment is sent: what the caller wrote, or its translation."""
    bridge, provider = deployment.bridges.get(serving.call.operation), deployment.provider
    form = serving.call.form
    asked = serving.asked if form is None else form.scaled(serving.asked, provider.temperature_scale)
    if bridge is None:
        serving.crossing = None
        return close_request(
            asked,
            sent_model,
            serving.pseudonym,
            asks_for_usage=provider.takes_stream_usage and serving.call.operation not in MEDIA,
            amend=provider.amend,
        )
    serving.crossing = bridge.cross(
        policed(asked, serving.pseudonym),
        is_stream=serving.asked.is_stream,
        wants_usage=serving.asked.wants_usage,
        request_id=serving.call.id,
        created=int(utcnow().timestamp()),
    )
    return close_translated(
        bridge.back,
        serving.crossing.body,
        sent_model if bridge.manners.names_model else None,
        asks_for_usage=serving.asked.is_stream and provider.takes_stream_usage,
        amend=provider.amend,
    )


def _count(serving: Serving, deployment: Deployment) -> None:
    """Answer with our own guess of how many tokens a request has, and say that it is one."""
    outcome, provider = serving.outcome, deployment.provider
    outcome.sent(serving.rooms.clock(), provider.name, provider.model_name, deployment.price)
    outcome.deployment = deployment.name
    tokens = serving.rooms.gate.estimator.input_tokens(serving.endpoint.name, serving.call.body)
    body = estimated_count(serving.call.operation, tokens)
    outcome.passed_bytes = len(body)
    outcome.done(200)
    serving.headers += (serving.timing(), *serving.route_headers(), ("x-ai-gateway-estimated", "true"))
    serving.reply.respond(200, [*JSON, *serving.headers], body)


def _said_by_caller(serving: Serving, provider: Provider) -> Headers:
    """Return the one header of the caller's that the provider may hear, less what reaches too far."""
    name, value, serving.unheard = serving.dialect.beta_header, serving.call.betas, ""
    if name is None or not value:
        return ()
    if serving.crossing is not None:
        serving.unheard = name  # another format's host does not know it
        return ()
    kept, dropped = allowed_betas(value)
    if provider.betas is not None:
        dropped += [word for word in kept if word not in provider.betas]
        kept = [word for word in kept if word in provider.betas]
    if dropped:
        serving.unheard = f"{name}: {', '.join(dropped)}"
    return ((name, ",".join(kept)),) if kept else ()


async def _answer(serving: Serving, exchange: Exchange, deployment: Deployment) -> None:
    require_type(exchange.headers, b"json")
    body = await exchange.read(MAX_ANSWER_BYTES)
    body = deployment.provider.whole_answer(serving.call.operation, serving.asked.fields, body)
    outcome = serving.outcome
    outcome.heard(serving.rooms.clock())
    if serving.crossing is None:
        answer = serving.dialect.read_answer(body)
    else:
        body, answer = serving.crossing.answer(body)
    outcome.usage, outcome.answered_model = answer.usage, answer.answered_model
    if answer.is_error:
        raise deployment.provider.refusal(500, exchange.headers, body)
    if serving.owned is not None:
        body = serving.with_own_ids(body, deployment)
    if serving.asked.format.operation is EMBEDDINGS:
        body = with_encoding(body, serving.asked.wants_base64)
    outcome.passed_bytes = len(body)
    outcome.done(exchange.status)
    serving.headers += (serving.timing(), *serving.route_headers())
    serving.reply.respond(exchange.status, [*JSON, *serving.headers], deployment.without_secrets(body))


async def _relay(serving: Serving, stream: Stream, exchange: Exchange) -> None:
    require_type(exchange.headers, b"event-stream")
    tap = stream.tap
    try:
        await exchange.relay(stream.write)
        stream.finish()
    finally:
        serving.outcome.usage, serving.outcome.answered_model = tap.usage, tap.answered_model
    serving.outcome.done(200, "upstream_error_in_stream" if tap.has_error else "")
