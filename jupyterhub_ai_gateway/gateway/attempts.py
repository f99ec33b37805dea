"""One deployment after the other, until one answers or says that the request is wrong."""

from __future__ import annotations

import asyncio
from random import random

from ..dialects.owned import not_theirs
from ..errors import DeadlineExceeded, Fault, QueueFull, Untranslatable, UpstreamFault, UpstreamTimeout
from ..router import Deployment
from ..router.health import OF_A_KEY, is_its_own_fault
from ..router.order import pause_s
from ..scheduling import Pool, Ticket
from ..scheduling.fair import who_asks
from ..vocabulary import Usage, Wishes
from .attempt import attempt
from .faults import log_upstream
from .serving import NO_WISHES, Serving
from .stream import Stream

_BATCH = Wishes(priority="batch")
_JUST_S = 0.01
"""Clocks that are read one after the other differ by less."""


async def try_one(serving: Serving) -> None:
    """Ask the only deployment there is, once."""
    await _try(serving, serving.endpoint.deployment)


async def try_each(serving: Serving) -> None:
    """Try one deployment after the other, until one answers, or says that the request is wrong."""
    endpoint, clock = serving.endpoint, serving.rooms.clock
    endpoint.budget.earn()
    route = _route(serving)
    last: Fault | None = None
    for turn in range(endpoint.retries + 1):
        if last is not None:
            route = await _next_route(serving, turn, route, last)
        for index, deployment in enumerate(route):
            is_last = turn == endpoint.retries and index == len(route) - 1
            serving.may_try_others = not is_last
            try:
                pool = serving.rooms.pools.get(deployment.pool)
                await (
                    _try(serving, deployment) if pool is None else _try_in_turn(serving, deployment, pool)
                )
                return
            except (QueueFull, Untranslatable) as fault:
                last = fault
                if is_last or serving.left_s() <= 0.0:
                    raise
            except UpstreamFault as fault:
                last = fault
                if is_last or not _may_go_on(serving, fault):
                    raise
                serving.outcome.tried(serving.call.id, clock(), fault.status, fault.slug)
                log_upstream(serving.call, endpoint, deployment, fault)


async def _next_route(
    serving: Serving, turn: int, route: list[Deployment], last: Fault
) -> list[Deployment]:
    """Wait before all are tried again; return whom to try. The `last` fault, when nobody can be in time.

    Whoever asked to be left alone is, for that long.
    """
    clock = serving.rooms.clock
    now = clock()
    asked_s = [each.health.asked_until - now for each in route]
    wait_s = pause_s(turn, asked_s, serving.left_s(), random)
    if wait_s is None:
        raise last
    await asyncio.sleep(wait_s)
    now = clock()
    found = [each for each in _route(serving) if each.health.asked_until <= now]
    if not found or serving.left_s() <= 0.0:
        raise last
    return found


def _route(serving: Serving) -> list[Deployment]:
    """Return whom to try, in this order."""
    endpoint = serving.endpoint
    left_out: dict[str, str] = {}
    route = endpoint.route(
        serving.call.operation, serving.rooms.clock(), random, serving.needs, serving.key, left_out
    )
    serving.outcome.left_out = left_out
    if serving.pinned is not None:
        route = [each for each in route if each.name == serving.pinned and endpoint.owns(each)]
        if not route:
            raise not_theirs()
    return route if serving.rooms.pools.is_empty else _roomy_first(serving, route)


def _roomy_first(serving: Serving, route: list[Deployment]) -> list[Deployment]:
    """Put those of the first tier with a free slot first: nobody waits beside one."""
    pools, now, first = serving.rooms.pools, serving.rooms.clock(), route[0]
    mine = {id(each) for each in serving.endpoint.deployments}

    def has_room(each: Deployment) -> bool:
        pool = pools.get(each.pool)
        is_near = each.priority == first.priority and id(each) in mine
        return is_near and not each.health.is_resting(now) and (pool is None or pool.has_room)

    return sorted(route, key=lambda each: not has_room(each))


async def _try_in_turn(serving: Serving, deployment: Deployment, pool: Pool) -> None:
    """Make an attempt once the pool has a slot for it; `QueueFull` when it does not get one."""
    ticket = await _wait_for(serving, pool)
    try:
        await _try(serving, deployment)
    finally:
        pool.leave(ticket, _tokens(serving.outcome.usage))


async def _wait_for(serving: Serving, pool: Pool) -> Ticket:
    """Wait for a slot; a stream's caller hears comments meanwhile."""
    config, clock = pool.config, serving.rooms.clock
    wishes = serving.call.wishes or (_BATCH if serving.call.is_batch else NO_WISHES)
    payer = None if serving.admission is None else serving.admission.payer
    who = who_asks(serving.caller, payer, wishes, config)
    estimate = serving.estimate()
    wait_s = config.wait_s
    if serving.asked.is_stream:
        wait_s = config.stream_wait_s
        if serving.stream is None:
            serving.stream = Stream(serving, serving.rooms.keepalive_s)
    wait_s = min(wait_s, max(0.0, serving.left_s()))
    began = clock()
    try:
        return await pool.enter(who, estimate.input_tokens + estimate.output_tokens, wait_s)
    finally:
        serving.outcome.queued_s += clock() - began


async def _try(serving: Serving, deployment: Deployment) -> None:
    """Make an attempt, and let the deployment's health know how it went."""
    health, clock, outcome = deployment.health, serving.rooms.clock, serving.outcome
    if serving.call.operation in deployment.estimates:
        await attempt(serving, deployment)  # which asks nobody
        return
    began = clock()
    health.begin(began)
    try:
        await (_try_keys(serving, deployment) if deployment.keys else attempt(serving, deployment))
    except UpstreamFault as fault:
        now = clock()
        if isinstance(fault, UpstreamTimeout) and serving.left_s() <= _JUST_S:
            raise _too_late(serving, deployment, now) from fault  # which says nothing of the deployment
        if is_its_own_fault(fault):
            health.failed(fault, now, began)
        else:
            health.succeeded(now - began, now, began)
        raise
    finally:
        health.end()
    now = clock()
    if outcome.slug:  # the provider told of an error after content, which the caller has
        health.failed(UpstreamFault("The model's provider failed within its answer."), now, began)
    else:
        health.succeeded(outcome.answer_s, now, began, is_stream=serving.asked.is_stream)


async def _try_keys(serving: Serving, deployment: Deployment) -> None:
    """Make attempts with a deployment's keys, until one is neither refused nor used up."""
    clock, may_try_others = serving.rooms.clock, serving.may_try_others
    keys = deployment.keys_to_try(clock())
    for key in keys:
        is_last = key is keys[-1]
        serving.may_try_others = may_try_others or not is_last
        began = clock()
        try:
            await attempt(serving, key)
            key.health.succeeded(serving.outcome.upstream_s, clock(), began)
            return
        except UpstreamFault as fault:
            if fault.slug not in OF_A_KEY:
                raise
            key.health.failed(fault, clock())
            if is_last or not _may_go_on(serving, fault):
                raise
            serving.outcome.tried(serving.call.id, clock(), fault.status, fault.slug)
            log_upstream(serving.call, serving.endpoint, deployment, fault)


def _too_late(serving: Serving, deployment: Deployment, now: float) -> DeadlineExceeded:
    """Return the fault of a request whose time is over, and log whom it waited for."""
    endpoint = serving.endpoint
    fault = DeadlineExceeded(
        f"The model {endpoint.name} did not answer within {serving.deadline_s:g} seconds, all that "
        "a request gets here. Ask for a shorter answer, or try again later.",
        retry_after_s=max(1.0, deployment.health.rests_until - now),
        detail=f"it waited for {deployment.name}",
    )
    log_upstream(serving.call, endpoint, None, fault)
    return fault


def _may_go_on(serving: Serving, fault: UpstreamFault) -> bool:
    """Say whether another attempt may follow: nothing has been sent, and it is not one too many."""
    has_content = serving.stream is not None and serving.stream.has_content
    has_content = has_content or (serving.passage is not None and serving.passage.is_begun)
    is_here = serving.call.upload is None or serving.call.upload.may_repeat
    if not (is_its_own_fault(fault) and is_here) or has_content or serving.left_s() <= 0.0:
        return False
    return serving.endpoint.budget.spend()


def _tokens(usage: Usage | None) -> int | None:
    """Return how many tokens were read and written; None where nobody said."""
    if usage is None or usage.input_tokens is None:
        return None
    return usage.input_tokens + (usage.output_tokens or 0)
