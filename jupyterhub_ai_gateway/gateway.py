"""The story of one request: identify, admit, choose, send, relay, settle.

Knows neither the web framework nor the wire's details: a request comes as a `Call`, the answer leaves by a
`Reply`. Whoever runs `serve` as a task cancels it when the caller leaves; whatever happens, the exchange
with the provider is closed at once and the request is counted once.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from random import random
from typing import NamedTuple, Protocol, cast

import msgspec

from .accounting import CALLER_LEFT, Outcome, settle
from .auth import TokenResolver
from .dialects import gemini_request
from .dialects.anthropic import allowed_betas
from .dialects.bridge import BridgeTap, Crossing
from .dialects.dialect import ANTHROPIC, DIALECT_OF, GEMINI_ARRAY, OPENAI, Dialect
from .dialects.faults import JSON, fault_headers
from .dialects.gemini import ArrayTap
from .dialects.media import MediaTap, passed_type
from .dialects.mlflow import MlflowForm
from .dialects.needs import needs_of, prefix_of
from .dialects.openai_answer import with_encoding
from .dialects.openai_stream import StreamTap, data_of
from .dialects.opening import (
    Asked,
    close_request,
    close_translated,
    estimated_count,
    form_fields,
    open_request,
    policed,
)
from .dialects.owned import OwnedIds, not_theirs
from .dialects.parameters import Parameters, Told
from .dialects.vectors import VectorCrossing
from .errors import (
    Draining,
    Fault,
    LimitFault,
    LimitsUnavailable,
    QueueFull,
    RequestFault,
    Stopped,
    Untranslatable,
    UpstreamBroken,
    UpstreamFault,
)
from .limits import Admission, Demand, Estimate, Gate, StoreUnavailable
from .metrics import Cell, Metrics
from .passage import Passage
from .providers.base import Provider
from .router import Catalogue, Deployment, Endpoint
from .router.catalogue import AtProvider
from .router.fit import Needs, demanded
from .router.health import OF_A_KEY, is_its_own_fault
from .scheduling import Pool, Pools, Ticket
from .scheduling.fair import who_asks
from .uploads import Holding, Upload
from .upstream.base import Client, Exchange, Target
from .usage.ledger import Ledger
from .vocabulary import (
    COUNT_CONTENT,
    COUNTING,
    EMBEDDINGS,
    GENERATE_CONTENT,
    MEDIA,
    RESPONSES,
    UPLOADS,
    WITHOUT_OUTPUT,
    Caller,
    Operation,
    Place,
    Usage,
    Wishes,
    utcnow,
)

log = logging.getLogger(__name__)

Headers = Sequence[tuple[str, str]]

_NO_WISHES, _BATCH = Wishes(), Wishes(priority="batch")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The longest answer that is not a stream. It is held in memory until it is known to be complete."""
MAX_REFUSAL_BYTES = 64 * 1024
MAX_HELD_BYTES = 256 * 1024
MAX_HELD_PIECES = 64
"""How much of a stream without content is held while another deployment could take over."""
EVENTS, ARRAY = "events", "array"
"""How a path asks for a stream."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""Before all deployments are tried again: any time up to these, as much as chance says."""

STREAM: Headers = (
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
)


class Reply(Protocol):
    """Writes one answer: `respond` alone, or `begin`, any number of `send`, then `end`.

    Once the caller is gone `send` raises an OSError and the others do nothing.
    """

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a complete answer."""

    def begin(self, status: int, headers: Headers) -> None:
        """Start an answer whose length is not known."""

    def send(self, piece: bytes) -> Awaitable[None] | None:
        """Write a piece; None, or what to await before the next one."""

    def end(self) -> None:
        """End the body properly."""

    def abort(self) -> None:
        """Cut an answer that has begun, so that nobody takes it for whole."""


@dataclass(slots=True)
class Call:
    """One request. `caller` is None when `token` has yet to say who it is; `id` is its x-request-id.

    `betas` is what its dialect's `beta_header` says, for the provider to hear; `path_model` is the model
    where the path names it; `project` is the group of the caller's that is to pay, None for the usual one;
    `provider` is the only one that may serve it, None for any. `place` is where the model is to run, None
    for wherever. `is_batch` is true for what can wait while others' requests do not. `upload` is a form
    that is still arriving; then `body` is empty. `path_streams` is what the path says of a stream:
    "events", an "array", or "" for nothing. `wishes` is what else they say in headers, None for nothing.
    """

    operation: Operation
    body: bytes = field(repr=False)
    id: str
    token: str | None = field(default=None, repr=False)
    caller: Caller | None = None
    betas: str | None = None
    path_model: str | None = None
    project: str | None = None
    form: MlflowForm | None = None
    """How the body is read where the path is one of MLflow's."""
    provider: str | None = None
    upload: Upload | None = None
    path_streams: str = ""
    wishes: Wishes | None = None
    place: Place | None = None
    is_batch: bool = False

    @property
    def dialect(self) -> Dialect:
        """Return the format in which the caller is answered."""
        return GEMINI_ARRAY if self.path_streams == ARRAY else DIALECT_OF[self.operation]


class Running(NamedTuple):
    """A request that is being answered, without anything of its content. `took_s` is its age."""

    request_id: str
    caller: Caller
    endpoint: str
    operation: str
    at_ms: int
    took_s: float
    is_stream: bool
    attempts: int
    provider: str | None
    deployment: str | None
    passed_bytes: int


@dataclass(slots=True)
class Rooms:
    """What the story needs of the house. `secret` makes the pseudonyms that providers see.

    `ledger` is None where nothing is written down. `pools` are the slots of the operator's own machines.
    """

    resolver: TokenResolver
    gate: Gate
    client: Client
    metrics: Metrics
    secret: bytes = field(repr=False)
    clock: Callable[[], float]
    ledger: Ledger | None = None
    pools: Pools = field(default_factory=lambda: Pools.none(time.monotonic))


class Gateway:
    """Serves calls from a catalogue, which `use` replaces at any time for the calls that come then.

    `keepalive_s` is the silence after which a stream gets a comment, 0 for never. With `logs_requests`
    each request makes a line of INFO, without any of its content.
    """

    def __init__(
        self, rooms: Rooms, catalogue: Catalogue, *, keepalive_s: float = 15.0, logs_requests: bool = False
    ) -> None:
        self._rooms = rooms
        self.catalogue = catalogue
        self.keepalive_s = keepalive_s
        self._logs_requests = logs_requests
        self.holding = Holding()
        """How much of the forms that arrive is in memory."""
        self.is_stopping = False
        """True once requests that still run are about to be cancelled."""
        self._settling: set[asyncio.Future[None]] = set()
        self._running: dict[str, _Serving] = {}

    def use(self, catalogue: Catalogue) -> None:
        """Serve the calls that come from now on from this catalogue."""
        self.catalogue = catalogue
        self._rooms.client.keep_only(catalogue.origins)

    async def serve(self, call: Call, reply: Reply) -> None:
        """Answer one call, whatever it takes; only a bug is raised, and the cancelling of this task."""
        rooms = self._rooms
        began = rooms.clock()
        try:
            caller = await self.identify(call)
            named = rooms.clock()
            asked = await _open(call)
            name = asked.asked_model or self.catalogue.usual_name(call.operation, caller)
            endpoint = self._offer(call).endpoint(name, call.operation, caller)
            told = None if endpoint.parameters is None else _apply(endpoint.parameters, call, asked)
            owned, pinned = self._keeping(endpoint, call, caller, asked)
            if rooms.ledger is not None and not rooms.ledger.is_open:
                raise _no_ledger()
        except Fault as fault:
            rooms.metrics.refused(operation=call.operation.name, status=fault.status, slug=fault.slug)
            if call.upload is not None:
                await call.upload.throw_away()
            timing = [("Server-Timing", f"gateway;dur={(rooms.clock() - began) * 1e3:.1f}")]
            answer_fault(reply, fault, call.id, timing, DIALECT_OF.get(call.operation))
            return
        outcome = Outcome(began, named)
        cell = endpoint.cells[call.operation]
        cell.begin()
        serving = _Serving(self, rooms, call, caller, endpoint, asked, reply, outcome, told)
        serving.owned, serving.pinned = owned, pinned
        self._running[call.id] = serving
        try:
            await serving.run()
        except BaseException:
            if outcome.slug is CALLER_LEFT and self.is_stopping:
                outcome.slug = Draining.slug
            raise
        finally:
            outcome.took_s = rooms.clock() - began
            self._running.pop(call.id, None)
            if serving.cell is not None and serving.cell is not cell:
                cell = cell.move(serving.cell)
            cell.end(outcome.status, outcome.slug, outcome.took_s, outcome.first_byte_s, outcome.usage)
            serving.settle()
            if outcome.is_billable:
                cell.charge(outcome.cost_nanousd)
            if self._logs_requests:
                _log_request(call, caller, endpoint, outcome)

    def running(self) -> list[Running]:
        """Return the requests that are being answered now, the oldest first."""
        return [serving.seen() for serving in self._running.values()]

    def end(self, request_id: str) -> Running | None:
        """Stop a request, which is answered and settled as such; None when it does not run any more."""
        serving = self._running.get(request_id)
        if serving is None or serving.task is None or serving.is_stopped:
            return None
        serving.is_stopped = True
        serving.task.cancel()
        return serving.seen()

    def _keeping(
        self, endpoint: Endpoint, call: Call, caller: Caller, asked: Asked
    ) -> tuple[OwnedIds | None, str | None]:
        """Let the provider keep a response where it may; and say which deployment has the one before."""
        if not endpoint.stored_responses or call.operation is not RESPONSES:
            return None, None
        owned = OwnedIds(self._rooms.secret, caller.key, endpoint.name)
        return owned, owned.adopt(asked)

    async def stored(
        self, caller: Caller, given: str, method: str, action: str, query: str
    ) -> bytes | None:
        """Ask for a response that a provider keeps for a caller; None when there is none of this id.

        `action` is "", "/cancel" or "/input_items". `Fault` for what the provider says against it.
        """
        for endpoint in self.catalogue.open_to(caller):
            owned = OwnedIds(self._rooms.secret, caller.key, endpoint.name)
            kept = owned.open(given) if endpoint.stored_responses else None
            for deployment in endpoint.deployments if kept is not None else ():
                if kept is not None and deployment.name == kept.deployment:
                    body = await self._ask_stored(deployment, kept.id, method, action, query)
                    return None if body is None else owned.rewrite(body, deployment.name)
        return None

    async def _ask_stored(
        self, deployment: Deployment, upstream_id: str, method: str, action: str, query: str
    ) -> bytes | None:
        provider = deployment.provider
        url, _, own_query = provider.url(RESPONSES).partition("?")
        queries = "&".join(each for each in (own_query, query) if each)
        url = f"{url}/{upstream_id}{action}" + (f"?{queries}" if queries else "")
        target = Target.from_url(
            url, provider.headers(), method=method, verify_tls=provider.verifies_tls, tls=provider.tls
        )
        exchange = await provider.send(self._rooms.client, target, b"", deployment.timeouts)
        try:
            if exchange.status == 404:
                return None
            if not 200 <= exchange.status < 300:
                raise await _refusal(deployment, exchange)
            return deployment.without_secrets(await exchange.read(MAX_ANSWER_BYTES))
        finally:
            exchange.close()

    def settle_later(self, settling: Awaitable[None]) -> None:
        """Let a store that is elsewhere know, whatever becomes of the request's own task."""
        task = asyncio.ensure_future(_quietly(settling))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def settled(self) -> None:
        """Wait until every store knows what was used."""
        while self._settling:
            await asyncio.gather(*self._settling)

    async def identify(self, call: Call) -> Caller:
        """Name the caller, who holds the scope of the operation; `AuthFault` otherwise."""
        resolver = self._rooms.resolver
        caller = call.caller or (resolver.peek(call.token) if call.token else None)
        if caller is None:
            caller = await resolver.resolve(call.token)
        resolver.rules.require(caller, call.operation.scope)
        return caller

    def check(self, caller: Caller, operation: Operation, model: str, place: Place | None = None) -> None:
        """Raise the fault with which a call for this model would be refused, apart from its limits."""
        self._rooms.resolver.rules.require(caller, operation.scope)
        catalogue = self.catalogue if place is None else self.catalogue.at_place(place)
        catalogue.endpoint(model, operation, caller)

    def _offer(self, call: Call) -> Catalogue | AtProvider:
        """Return what is on offer to a call: all of it, or what one provider or place has."""
        if call.provider is not None:
            return self.catalogue.at(call.provider)
        return self.catalogue if call.place is None else self.catalogue.at_place(call.place)

    async def name(self, call: Call) -> Caller:
        """Name the caller, whatever they may do; `AuthFault` for one whom the Hub does not know."""
        return call.caller or await self._rooms.resolver.resolve(call.token)


@dataclass(slots=True)
class _Serving:
    """One admitted request, from the limits to its last byte."""

    gateway: Gateway
    rooms: Rooms
    call: Call
    caller: Caller
    endpoint: Endpoint
    asked: Asked
    reply: Reply
    outcome: Outcome
    told: Told | None = None
    """What the endpoint's parameters have changed."""
    admission: Admission | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    stream: _Stream | None = None
    passage: Passage | None = None
    cell: Cell | None = None
    """Where it is counted once it has gone to a deployment."""
    crossing: Crossing | VectorCrossing | None = None
    """The request in the words of the deployment that is tried, where those are not the caller's."""
    unheard: str = ""
    """What the caller said in its beta header, and the deployment that is tried does not hear."""
    may_try_others: bool = False
    """True while another deployment could serve it, should this one fail."""
    needs: Needs | None = None
    """What a deployment has to meet; None where every one does."""
    key: bytes = b""
    owned: OwnedIds | None = None
    """The caller's own ids of responses, where the provider may keep them."""
    pinned: str | None = None
    """The only deployment that can go on from the response before."""
    is_stopped: bool = False
    """True once staff have stopped it."""
    dialect: Dialect = field(init=False)
    """The format in which the caller is answered."""
    task: asyncio.Task[None] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.dialect = self.call.dialect
        self.task = asyncio.current_task()
        if self.told is not None and self.told.clamped:
            self.headers.append(("x-ai-gateway-clamped-params", ", ".join(self.told.clamped)))

    def seen(self) -> Running:
        """Return what others may know of it."""
        outcome, call = self.outcome, self.call
        return Running(
            request_id=call.id,
            caller=self.caller,
            endpoint=self.endpoint.name,
            operation=call.operation.name,
            at_ms=outcome.at_ms,
            took_s=self.rooms.clock() - outcome.began,
            is_stream=self.asked.is_stream,
            attempts=outcome.attempts,
            provider=outcome.provider,
            deployment=outcome.deployment,
            passed_bytes=outcome.passed_bytes,
        )

    async def run(self) -> None:
        """Serve it; a fault is answered, and told in the outcome."""
        self.headers.append(("x-request-id", self.call.id))
        if self.dialect.id_header is not None:
            self.headers.append((self.dialect.id_header, self.call.id))
        try:
            self._state_needs()
            admission = self.rooms.gate.admit(self._demand())
            if not isinstance(admission, Admission):
                admission = await admission
            self.admission = admission
            if admission.states:
                self.headers += self._limit_headers(admission)
            self.outcome.admitted = self.rooms.clock()
            if self.endpoint.has_choice or self.pinned is not None:
                await self._try_each()
            else:
                await self._attempt(self.endpoint.deployment)
        except Fault as fault:
            self._fail(fault)
        except _CallerGone:
            return
        except asyncio.CancelledError:
            self._cut()
            raise
        finally:
            if self.stream is not None:
                self.stream.close()

    def _state_needs(self) -> None:
        """Say what the request needs, where that may leave a deployment out; a fault when it does all."""
        endpoint, wishes, rules = self.endpoint, self.call.wishes, self.gateway.catalogue.data_rules
        is_plain = not (endpoint.is_choosy or endpoint.may_close or endpoint.is_sticky)
        if is_plain and wishes is None and not rules:
            return
        if endpoint.is_sticky:
            self.key = self._session_key(wishes)
        wishes = wishes or _NO_WISHES
        needs = demanded(
            rules, self.caller, endpoint.name, data_class=wishes.data_class, region=wishes.region
        )
        if endpoint.is_choosy:
            tokens = self.rooms.gate.estimator.input_tokens(endpoint.name, self.call.body)
            needs = needs._replace(capabilities=needs_of(self.asked), tokens=tokens)
        self.needs = needs
        endpoint.route(self.call.operation, 0.0, random, needs)

    def _session_key(self, wishes: Wishes | None) -> bytes:
        """Return what stays at one deployment: a caller's session, else how a conversation begins."""
        if wishes is not None and wishes.session:
            return f"{self.caller.key} {wishes.session}".encode()
        return prefix_of(self.asked)

    def _cut(self) -> None:
        """Tell a caller who is still there why the request was cancelled."""
        if self.is_stopped:
            self._fail(_stopped())
        elif self.gateway.is_stopping:
            self._fail(Draining("The gateway is restarting; please send the request again."))

    def _demand(self) -> Demand:
        call, endpoint = self.call, self.endpoint
        return Demand(call.id, self.caller, endpoint.name, endpoint.limit, self._estimate, call.project)

    def _estimate(self) -> Estimate:
        """Guess how large the request will be."""
        estimator, name = self.rooms.gate.estimator, self.endpoint.name
        upload = self.call.upload
        if upload is not None:
            into = estimator.upload_tokens(upload.announced_bytes)
        else:
            into = estimator.input_tokens(name, self.call.body)
        if self.call.operation in COUNTING:
            return Estimate(into, 0, 0)
        out = 0
        if self.call.operation not in WITHOUT_OUTPUT:
            out = estimator.output_tokens(name, self.caller.key, self.asked.tuning)
        deployment = self.endpoint.deployment
        price = deployment.price
        if deployment.takes_star:
            price = deployment.named(self.endpoint.star(self.asked.asked_model))[2]
        if price is not None:
            return Estimate(into, out, price.estimate_nanousd(into, out))
        return Estimate(
            into, out, estimator.cost_nanousd(name) if deployment.provider.reports_cost else None
        )

    def _limit_headers(self, admission: Admission) -> Headers:
        headers = admission.headers()
        if self.dialect is ANTHROPIC:
            headers += admission.anthropic_headers(utcnow())
        return headers

    def settle(self) -> None:
        """Give back what was reserved, charge what was used, write it down: once, however it ended."""
        later = settle(
            self.outcome,
            call_id=self.call.id,
            body=self.call.body,
            is_stream=self.asked.is_stream,
            caller=self.caller,
            endpoint=self.endpoint.name,
            operation=self.call.operation,
            admission=self.admission,
            gate=self.rooms.gate,
            ledger=self.rooms.ledger,
        )
        if later is not None:
            self.gateway.settle_later(later)

    def _timing(self) -> tuple[str, str]:
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
            f"auth;dur={(named - began) * 1e3:.1f}, queue;dur={waited_s * 1e3:.1f}, "
            f"upstream;dur={upstream_s * 1e3:.1f}, gateway;dur={own_s * 1e3:.1f}",
        )

    async def _try_each(self) -> None:
        """Try one deployment after the other, until one answers, or says that the request is wrong."""
        endpoint, clock = self.endpoint, self.rooms.clock
        endpoint.budget.earn()
        for turn in range(endpoint.retries + 1):
            if turn:
                longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (turn - 1))
                await asyncio.sleep(random() * longest_s)  # noqa: S311 - no secret
            route = self._route()
            for index, deployment in enumerate(route):
                is_last = turn == endpoint.retries and index == len(route) - 1
                self.may_try_others = not is_last
                try:
                    pool = self.rooms.pools.get(deployment.pool)
                    await (self._try(deployment) if pool is None else self._try_in_turn(deployment, pool))
                    return
                except (QueueFull, Untranslatable):
                    if is_last:
                        raise
                except UpstreamFault as fault:
                    if is_last or not self._may_go_on(fault):
                        raise
                    self.outcome.tried(self.call.id, clock(), fault.status, fault.slug)
                    _log_upstream(self.call, endpoint, deployment, fault)

    def _route(self) -> list[Deployment]:
        """Return whom to try, in this order."""
        endpoint = self.endpoint
        route = endpoint.route(self.call.operation, self.rooms.clock(), random, self.needs, self.key)
        if self.pinned is not None:
            route = [each for each in route if each.name == self.pinned and endpoint.owns(each)]
            if not route:
                raise not_theirs()
        return route if self.rooms.pools.is_empty else self._roomy_first(route)

    def _roomy_first(self, route: list[Deployment]) -> list[Deployment]:
        """Put those of the first tier with a free slot first: nobody waits beside one."""
        pools, now, first = self.rooms.pools, self.rooms.clock(), route[0]
        mine = {id(each) for each in self.endpoint.deployments}

        def has_room(each: Deployment) -> bool:
            pool = pools.get(each.pool)
            is_near = each.priority == first.priority and id(each) in mine
            return is_near and not each.health.is_resting(now) and (pool is None or pool.has_room)

        return sorted(route, key=lambda each: not has_room(each))

    async def _try_in_turn(self, deployment: Deployment, pool: Pool) -> None:
        """Make an attempt once the pool has a slot for it; `QueueFull` when it does not get one."""
        ticket = await self._wait_for(pool)
        try:
            await self._try(deployment)
        finally:
            pool.leave(ticket, _tokens(self.outcome.usage))

    async def _wait_for(self, pool: Pool) -> Ticket:
        """Wait for a slot; a stream's caller hears comments meanwhile."""
        config, clock = pool.config, self.rooms.clock
        wishes = self.call.wishes or (_BATCH if self.call.is_batch else _NO_WISHES)
        payer = None if self.admission is None else self.admission.payer
        who = who_asks(self.caller, payer, wishes, config)
        estimate = self._estimate()
        wait_s = config.wait_s
        if self.asked.is_stream:
            wait_s = config.stream_wait_s
            if self.stream is None:
                self.stream = _Stream(self, self.gateway.keepalive_s)
        began = clock()
        try:
            return await pool.enter(who, estimate.input_tokens + estimate.output_tokens, wait_s)
        finally:
            self.outcome.queued_s += clock() - began

    async def _try(self, deployment: Deployment) -> None:
        """Make an attempt, and let the deployment's health know how it went."""
        health, clock = deployment.health, self.rooms.clock
        began = clock()
        health.begin(began)
        try:
            await (self._try_keys(deployment) if deployment.keys else self._attempt(deployment))
        except UpstreamFault as fault:
            if is_its_own_fault(fault):
                health.failed(fault, clock(), began)
            else:
                health.succeeded(clock() - began)
            raise
        finally:
            health.end()
        if self.outcome.slug:  # the provider told of an error after content, which the caller has
            health.failed(UpstreamFault("The model's provider failed within its answer."), clock(), began)
        else:
            health.succeeded(self.outcome.upstream_s)

    async def _try_keys(self, deployment: Deployment) -> None:
        """Make attempts with a deployment's keys, until one is neither refused nor used up."""
        clock, may_try_others = self.rooms.clock, self.may_try_others
        keys = deployment.keys_to_try(clock())
        for key in keys:
            is_last = key is keys[-1]
            self.may_try_others = may_try_others or not is_last
            try:
                await self._attempt(key)
                key.health.succeeded(self.outcome.upstream_s)
                return
            except UpstreamFault as fault:
                if fault.slug not in OF_A_KEY:
                    raise
                key.health.failed(fault, clock())
                if is_last or not self._may_go_on(fault):
                    raise
                self.outcome.tried(self.call.id, clock(), fault.status, fault.slug)
                _log_upstream(self.call, self.endpoint, deployment, fault)

    def _may_go_on(self, fault: UpstreamFault) -> bool:
        """Say whether another attempt may follow: nothing has been sent, and it is not one too many."""
        has_content = self.stream is not None and self.stream.has_content
        has_content = has_content or (self.passage is not None and self.passage.is_begun)
        is_here = self.call.upload is None or self.call.upload.may_repeat
        return is_its_own_fault(fault) and is_here and not has_content and self.endpoint.budget.spend()

    async def _attempt(self, deployment: Deployment) -> None:
        provider = deployment.provider
        self.cell = self.endpoint.cell_of(deployment, self.call.operation)
        if self.call.operation in deployment.estimates:
            self._count(deployment)
            return
        sent_model, model_name, price = deployment.sent_model, provider.model_name, deployment.price
        if deployment.takes_star:
            sent_model, model_name, price = deployment.named(self.endpoint.star(self.asked.asked_model))
        sending = self._send(deployment, sent_model)
        if self.asked.is_stream:
            if self.stream is None:
                self.stream = _Stream(self, self.gateway.keepalive_s)
            self.stream.begin(deployment, holds=self.may_try_others)
        outcome, clock = self.outcome, self.rooms.clock
        outcome.sent(clock(), provider.name, model_name, price)
        outcome.deployment = deployment.name
        exchange = await sending
        try:
            outcome.heard(clock())
            if not 200 <= exchange.status < 300:
                raise await _refusal(deployment, exchange)
            if self.call.operation in MEDIA:
                await self._pass(exchange, deployment)
            elif self.stream is not None:
                await self._relay(self.stream, exchange)
            else:
                await self._answer(exchange, deployment)
        finally:
            exchange.close()

    def _send(
        self, deployment: Deployment, sent_model: msgspec.Raw | None
    ) -> Coroutine[None, None, Exchange]:
        """Return what asks a deployment; `RequestFault` when the request is not for any."""
        call, asked, provider = self.call, self.asked, deployment.provider
        client, timeouts = self.rooms.client, deployment.timeouts
        target = (deployment.stream_targets if asked.is_stream else deployment.targets)[call.operation]
        if call.upload is not None:
            fields = form_fields(asked, sent_model, self._pseudonym, provider.amend)
            kind, form = call.upload.sent(*fields)
            return provider.upload(client, target, form, timeouts, [("Content-Type", kind)])
        body = self._body(deployment, sent_model)
        said = JSON if call.operation in UPLOADS else self._said_by_caller(provider)
        return provider.send(client, target, body, timeouts, said)

    async def _pass(self, exchange: Exchange, deployment: Deployment) -> None:
        """Let an answer through that is a stream of events, JSON, or something else of its operation."""
        kind, stream, outcome = exchange.headers.get(b"content-type", b""), self.stream, self.outcome
        if b"event-stream" in kind.lower():
            if stream is None:
                stream = self.stream = _Stream(self, self.gateway.keepalive_s)
                stream.begin(deployment, holds=False)
            await self._relay(stream, exchange)
            return
        content_type = passed_type(self.call.operation, kind)
        if stream is not None:  # some hosts do not know how to
            if stream.is_begun:
                _require_type(exchange.headers, b"event-stream")
            stream.close()
            self.stream = None
        self.passage = passage = Passage(
            self.reply, content_type, self._passage_headers, deployment.without_secrets
        )
        try:
            await passage.run(exchange)
        except OSError:
            raise _CallerGone from None
        finally:
            outcome.usage, outcome.answered_model = passage.usage, passage.answered_model
            outcome.passed_bytes = passage.passed_bytes
            if passage.whole:
                outcome.first_byte_s = None
        if passage.is_error:
            raise deployment.provider.refusal(500, exchange.headers, passage.whole)
        outcome.done(exchange.status)

    def _passage_headers(self) -> Headers:
        outcome = self.outcome
        outcome.heard(self.rooms.clock())
        outcome.first_byte_s = self.rooms.clock() - outcome.began
        return [*self.headers, self._timing(), *self._route_headers()]

    def _body(self, deployment: Deployment, sent_model: msgspec.Raw | None) -> bytes:
        """Write what a deployment is sent: what the caller wrote, or its translation."""
        bridge, provider = deployment.bridges.get(self.call.operation), deployment.provider
        form = self.call.form
        asked = self.asked if form is None else form.scaled(self.asked, provider.temperature_scale)
        if bridge is None:
            self.crossing = None
            return close_request(
                asked,
                sent_model,
                self._pseudonym,
                asks_for_usage=provider.takes_stream_usage and self.call.operation not in MEDIA,
                amend=provider.amend,
            )
        self.crossing = bridge.cross(
            policed(asked, self._pseudonym),
            is_stream=self.asked.is_stream,
            wants_usage=self.asked.wants_usage,
            request_id=self.call.id,
            created=int(utcnow().timestamp()),
        )
        return close_translated(
            bridge.back,
            self.crossing.body,
            sent_model if bridge.manners.names_model else None,
            asks_for_usage=self.asked.is_stream and provider.takes_stream_usage,
            amend=provider.amend,
        )

    def _count(self, deployment: Deployment) -> None:
        """Answer with our own guess of how many tokens a request has, and say that it is one."""
        outcome, provider = self.outcome, deployment.provider
        outcome.sent(self.rooms.clock(), provider.name, provider.model_name, deployment.price)
        outcome.deployment = deployment.name
        tokens = self.rooms.gate.estimator.input_tokens(self.endpoint.name, self.call.body)
        body = estimated_count(self.call.operation, tokens)
        outcome.passed_bytes = len(body)
        outcome.done(200)
        self.headers += (self._timing(), *self._route_headers(), ("x-ai-gateway-estimated", "true"))
        self.reply.respond(200, [*JSON, *self.headers], body)

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

    def _route_headers(self) -> Headers:
        """Return who answered, where that could have been somebody else, and what was left out for them."""
        dropped = self._dropped()
        if not self.endpoint.has_choice:
            return dropped
        outcome = self.outcome
        return (
            *dropped,
            ("x-ai-gateway-deployment", outcome.deployment or ""),
            ("x-ai-gateway-attempts", str(outcome.attempts)),
        )

    def _said_by_caller(self, provider: Provider) -> Headers:
        """Return the one header of the caller's that the provider may hear, less what reaches too far."""
        name, value, self.unheard = self.dialect.beta_header, self.call.betas, ""
        if name is None or not value:
            return ()
        if self.crossing is not None:
            self.unheard = name  # another format's host does not know it
            return ()
        kept, dropped = allowed_betas(value)
        if provider.betas is not None:
            dropped += [word for word in kept if word not in provider.betas]
            kept = [word for word in kept if word in provider.betas]
        if dropped:
            self.unheard = f"{name}: {', '.join(dropped)}"
        return ((name, ",".join(kept)),) if kept else ()

    async def _answer(self, exchange: Exchange, deployment: Deployment) -> None:
        _require_type(exchange.headers, b"json")
        body = await exchange.read(MAX_ANSWER_BYTES)
        body = deployment.provider.whole_answer(self.call.operation, self.asked.fields, body)
        outcome = self.outcome
        outcome.heard(self.rooms.clock())
        if self.crossing is None:
            answer = self.dialect.read_answer(body)
        else:
            body, answer = self.crossing.answer(body)
        outcome.usage, outcome.answered_model = answer.usage, answer.answered_model
        if answer.is_error:
            raise deployment.provider.refusal(500, exchange.headers, body)
        body = self.with_own_ids(body, deployment)
        if self.asked.format.operation is EMBEDDINGS:
            body = with_encoding(body, self.asked.wants_base64)
        outcome.passed_bytes = len(body)
        outcome.done(exchange.status)
        self.headers += (self._timing(), *self._route_headers())
        self.reply.respond(exchange.status, [*JSON, *self.headers], deployment.without_secrets(body))

    def with_own_ids(self, data: bytes, deployment: Deployment) -> bytes:
        """Give the caller ids of their own for what the provider keeps."""
        if self.owned is None or self.crossing is not None or not self.endpoint.owns(deployment):
            return data
        return self.owned.rewrite(data, deployment.name)

    async def _relay(self, stream: _Stream, exchange: Exchange) -> None:
        _require_type(exchange.headers, b"event-stream")
        tap = stream.tap
        try:
            await exchange.relay(stream.write)
            stream.finish()
        finally:
            self.outcome.usage, self.outcome.answered_model = tap.usage, tap.answered_model
        self.outcome.done(200, "upstream_error_in_stream" if tap.has_error else "")

    def _fail(self, fault: Fault) -> None:
        """Tell the caller: by the status as long as nothing has been sent, by an event afterwards."""
        if isinstance(fault, LimitFault):
            self.outcome.refused_by = str(fault.more.get("rule"))
        if isinstance(fault, UpstreamFault):
            _log_upstream(self.call, self.endpoint, None, fault)
        if self.stream is not None and self.stream.is_begun:
            self.outcome.done(200, fault.slug)
            self.stream.fail(fault)
        elif self.passage is not None and self.passage.is_begun:
            self.outcome.done(200, fault.slug)
            self.reply.abort()
        else:
            self.outcome.done(fault.status, fault.slug)
            self.headers += (self._timing(), *self._route_headers())
            answer_fault(self.reply, fault, self.call.id, self.headers, self.dialect)

    def _pseudonym(self) -> str:
        return hmac.digest(self.rooms.secret, self.caller.key.encode(), "sha256").hex()[:32]


class _Stream:
    """A streamed answer: begins with the first piece, or with the first comment after a long silence.

    While another deployment could take over, the pieces before the first content are held, so that an
    error that a provider tells inside its stream is no different from one that it tells by its status.
    """

    __slots__ = (
        "_deployment",
        "_held",
        "_held_bytes",
        "_is_full",
        "_keepalive_s",
        "_loop",
        "_serving",
        "_spoke",
        "_timer",
        "has_content",
        "is_begun",
        "tap",
    )

    def __init__(self, serving: _Serving, keepalive_s: float) -> None:
        self._serving = serving
        self._keepalive_s = keepalive_s
        self.is_begun = False  # True once the answer's head is out
        self.has_content = False  # True once anything of a provider's is out
        self._is_full = False  # True while the caller has to read before more is sent
        self._loop = asyncio.get_running_loop()
        self._spoke = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if keepalive_s > 0:
            self._timer = self._loop.call_later(keepalive_s, self._break_silence)
        self.tap: StreamTap | MediaTap | BridgeTap | ArrayTap
        self._use(serving.dialect.tap(serving.asked))  # it may fail before there is a deployment

    def _use(self, tap: StreamTap | MediaTap | BridgeTap) -> None:
        is_array = self._serving.dialect.is_array
        self.tap = ArrayTap(cast(StreamTap | BridgeTap, tap)) if is_array else tap

    def begin(self, deployment: Deployment, *, holds: bool) -> None:
        """Expect the answer of a deployment, in the place of one that failed."""
        self._deployment = deployment
        serving = self._serving
        if serving.crossing is None:
            self._use(serving.dialect.tap(serving.asked))
        else:
            self._use(serving.crossing.tap(lambda body: deployment.provider.refusal(500, {}, body)))
        self._held: list[bytes] | None = [] if holds else None
        self._held_bytes = 0

    def write(self, piece: bytes) -> Awaitable[None] | None:
        """Pass on what the tap lets through."""
        passed = self.tap.feed(piece)
        if not passed:
            return None
        if self._serving.owned is not None:
            passed = self._serving.with_own_ids(passed, self._deployment)
        if self._held is not None:
            passed = self._hold(passed)
            if not passed:
                return None
        outcome = self._serving.outcome
        outcome.passed_bytes += len(passed)
        if outcome.first_byte_s is None:
            outcome.first_byte_s = self._serving.rooms.clock() - outcome.began
        self.has_content = True
        waiting = self._send(self._deployment.without_secrets(passed))
        if self.tap.failure is not None:
            raise self.tap.failure
        return None if waiting is None else self._wait(waiting)

    def _hold(self, passed: bytes) -> bytes:
        """Keep what is no content yet; return all of it once there is some, or too much is held."""
        assert self._held is not None  # noqa: S101 - whoever calls has looked
        self._held.append(passed)
        self._held_bytes += len(passed)
        if self.tap.has_error:
            raise self._deployment.provider.refusal(500, {}, data_of(self.tap.latest_event))
        is_enough = self._held_bytes > MAX_HELD_BYTES or len(self._held) > MAX_HELD_PIECES
        if not is_enough and self._serving.dialect.content.search(passed) is None:
            return b""
        held, self._held = b"".join(self._held), None
        return held

    def finish(self) -> None:
        """End the answer, now that the provider has; `UpstreamBroken` when that was too early."""
        rest = self.tap.close()
        if self._held:
            rest = b"".join(self._held) + rest
            self._serving.outcome.passed_bytes += len(rest)
        if rest:
            self.has_content = True
            self._send(self._deployment.without_secrets(rest))
        self._serving.reply.end()

    def fail(self, fault: Fault) -> None:
        """End the answer with an event that SDKs raise as an error."""
        try:
            if self.has_content and not self.tap.is_aligned:
                self._send(b"\n\n")
            event = self._serving.dialect.error_event(fault, self._serving.call.id)
            self._send(self.tap.last(event, is_first=not self.has_content))
        except _CallerGone:
            return
        self._serving.reply.end()

    def close(self) -> None:
        """Write no more comments."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, data: bytes) -> Awaitable[None] | None:
        if not self.is_begun:
            self._begin()
        self._spoke = self._loop.time()
        try:
            return self._serving.reply.send(data)
        except OSError:
            raise _CallerGone from None

    async def _wait(self, waiting: Awaitable[None]) -> None:
        self._is_full = True
        try:
            await waiting
        except OSError:
            raise _CallerGone from None
        finally:
            self._is_full = False

    def _begin(self) -> None:
        serving = self._serving
        self.is_begun = True
        kind = ("Content-Type", serving.dialect.stream_type)
        serving.reply.begin(
            200, [kind, *STREAM, *serving.headers, serving._timing(), *serving._route_headers()]
        )

    def _break_silence(self) -> None:
        silence_s = self._loop.time() - self._spoke
        if silence_s >= self._keepalive_s:
            silence_s = 0.0
            self._comment()
        if self._timer is not None:
            self._timer = self._loop.call_later(self._keepalive_s - silence_s, self._break_silence)

    def _comment(self) -> None:
        if self._is_full or (self.has_content and not self.tap.is_aligned):
            return
        try:
            self._send(self._serving.dialect.keep_alive)
        except _CallerGone:
            self.close()  # whoever runs this request is told by the connection


def _apply(parameters: Parameters, call: Call, asked: Asked) -> Told:
    """Change what is asked as the endpoint's parameters say."""
    if call.upload is not None:
        text = "The operator of this gateway has set this model's parameters, which a form would pass by. "
        raise RequestFault(text + "Send JSON.", slug="unsupported_content_type", status=415)
    if asked.format.operation in (GENERATE_CONTENT, COUNT_CONTENT):
        asked.fields, told = gemini_request.apply(parameters, asked.fields)
    else:
        asked.fields, told = parameters.apply(asked.fields)
    return told


def _tokens(usage: Usage | None) -> int | None:
    """Return how many tokens were read and written; None where nobody said."""
    if usage is None or usage.input_tokens is None:
        return None
    return usage.input_tokens + (usage.output_tokens or 0)


class _CallerGone(Exception):  # noqa: N818 - nobody's error
    """Nobody is left to read the answer."""


async def _open(call: Call) -> Asked:
    """Read what the gateway has to know of a request, which may still be arriving."""
    if call.upload is not None:
        return await call.upload.open(call.operation, call.path_model)
    if call.form is not None:
        return call.form.open(call.operation, call.body, call.path_model)
    return open_request(call.operation, call.body, call.path_model, path_streams=bool(call.path_streams))


async def _refusal(deployment: Deployment, exchange: Exchange) -> Fault:
    """Read what the provider says with its error status, as far as it can be read."""
    try:
        body = await exchange.read(MAX_REFUSAL_BYTES)
    except UpstreamFault:
        body = b""
    return deployment.provider.refusal(exchange.status, exchange.headers, body)


def _require_type(headers: Mapping[bytes, bytes], wanted: bytes) -> None:
    found = headers.get(b"content-type", b"")
    if wanted not in found and wanted not in found.lower():
        raise UpstreamBroken(
            "The model's provider sent an answer of the wrong kind.",
            detail=f"its Content-Type has no {wanted.decode()}",
        )


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


def _log_upstream(call: Call, endpoint: Endpoint, deployment: Deployment | None, fault: Fault) -> None:
    """Say which provider failed and how; never what it wrote. With a deployment: that others are tried."""
    level = logging.INFO if fault.status < 500 or deployment is not None else logging.WARNING
    where = endpoint.name if deployment is None else f"{endpoint.name}/{deployment.name}"
    name = (deployment or endpoint.deployment).provider.name
    reason = fault.detail or fault.slug
    log.log(level, "%s %s: provider %s: %s (%s)", call.id, where, name, fault.slug, reason)


async def _quietly(settling: Awaitable[None]) -> None:
    """Wait for a store; one that does not answer forgets the reservation by itself."""
    try:
        await settling
    except StoreUnavailable as error:
        log.warning("The store of limits did not take what a request used: %s", error)


def _stopped() -> Stopped:
    text = "Somebody who looks after this gateway stopped the request. Ask them before you send it again."
    return Stopped(text, headers=[("x-should-retry", "false")])


def _no_ledger() -> LimitsUnavailable:
    return LimitsUnavailable(
        "The gateway cannot write down right now what is used; try again in a few minutes.",
        slug="ledger_unavailable",
        retry_after_s=60.0,
    )


def _log_request(call: Call, caller: Caller, endpoint: Endpoint, outcome: Outcome) -> None:
    log.info(
        "%s %s %s %s: %d%s in %.3f s",
        call.id,
        caller.key,
        call.operation.name,
        endpoint.name,
        outcome.status,
        f" {outcome.slug}" if outcome.slug else "",
        outcome.took_s,
    )
