"""The story of one request: identify, admit, choose, send, relay, settle.

Knows neither the web framework nor the wire's details: a request comes as a `Call`, the answer leaves by a
`Reply`. Whoever runs `serve` as a task cancels it when the caller leaves; whatever happens, the exchange
with the provider is closed at once and the request is counted once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from ..accounting import CALLER_LEFT, Outcome
from ..dialects.dialect import DIALECT_OF
from ..dialects.opening import Asked, open_request
from ..errors import Draining, Fault, LimitsUnavailable
from ..limits import StoreUnavailable
from ..router import Catalogue, Endpoint
from ..router.catalogue import AtProvider
from ..uploads import Holding
from ..vocabulary import Caller, Operation, Place
from . import stored
from .admitted import serve
from .call import Call, Reply, Running
from .faults import answer_fault
from .parameters import applied
from .rooms import Rooms
from .serving import Serving

log = logging.getLogger(__name__)


class Gateway:
    """Serves calls from a catalogue, which `use` replaces at any time for the calls that come then.

    With `logs_requests` each request makes a line of INFO, without any of its content.
    """

    def __init__(self, rooms: Rooms, catalogue: Catalogue, *, logs_requests: bool = False) -> None:
        self._rooms = rooms
        self.catalogue = catalogue
        self._logs_requests = logs_requests
        self.holding = Holding()
        """How much of the forms that arrive is in memory."""
        self._settling: set[asyncio.Future[None]] = set()
        self._running: dict[str, Serving] = {}

    def use(self, catalogue: Catalogue) -> None:
        """Serve the calls that come from now on from this catalogue."""
        self.catalogue = catalogue
        self._rooms.client.keep_only(catalogue.origins)

    async def serve(self, call: Call, reply: Reply) -> None:
        """Answer one call, whatever it takes; only a bug is raised, and the cancelling of this task."""
        rooms = self._rooms
        began = rooms.clock()
        try:
            caller = self._peek(call) or await self.identify(call)
            named = rooms.clock()
            asked = (
                _open(call)
                if call.upload is None
                else await call.upload.open(call.operation, call.path_model)
            )
            name = asked.asked_model or self.catalogue.usual_name(call.operation, caller)
            endpoint = self._offer(call).endpoint(name, call.operation, caller)
            told = None if endpoint.parameters is None else applied(endpoint.parameters, call, asked)
            owned, pinned = stored.keeping(rooms, endpoint, call, caller, asked)
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
        serving = Serving(rooms, call, caller, endpoint, asked, reply, outcome, told)
        serving.owned, serving.pinned = owned, pinned
        self._running[call.id] = serving
        try:
            await serve(serving, self.catalogue.data_rules)
        except BaseException:
            if outcome.slug is CALLER_LEFT and rooms.is_stopping:
                outcome.slug = Draining.slug
            raise
        finally:
            outcome.took_s = rooms.clock() - began
            self._running.pop(call.id, None)
            if serving.cell is not None and serving.cell is not cell:
                cell = cell.move(serving.cell)
            cell.end(outcome.status, outcome.slug, outcome.took_s, outcome.first_byte_s, outcome.usage)
            later = serving.settle()
            if later is not None:
                self._settle_later(later)
            if outcome.is_billable:
                cell.charge(outcome.cost_nanousd)
            if self._logs_requests:
                _log_request(call, caller, endpoint, outcome)

    def stop(self) -> None:
        """Say that requests which still run are about to be cancelled."""
        self._rooms.is_stopping = True

    async def stored(
        self, caller: Caller, given: str, method: str, action: str, query: str
    ) -> bytes | None:
        """Ask for a response that a provider keeps for a caller; None when there is none of this id.

        `action` is "", "/cancel" or "/input_items". `Fault` for what the provider says against it.
        """
        return await stored.stored(self._rooms, self.catalogue, caller, given, method, action, query)

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

    def _settle_later(self, settling: Awaitable[None]) -> None:
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
        caller = self._peek(call)
        if caller is None:
            caller = await self._rooms.resolver.resolve(call.token)
            self._rooms.resolver.rules.require(caller, call.operation.scope)
        return caller

    def _peek(self, call: Call) -> Caller | None:
        """Do so where it is known at once; None where somebody has to be asked."""
        resolver = self._rooms.resolver
        caller = call.caller or (resolver.peek(call.token) if call.token else None)
        if caller is not None:
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


def _open(call: Call) -> Asked:
    """Read what the gateway has to know of a request."""
    if call.form is not None:
        return call.form.open(call.operation, call.body, call.path_model)
    return open_request(call.operation, call.body, call.path_model, path_streams=bool(call.path_streams))


async def _quietly(settling: Awaitable[None]) -> None:
    """Wait for a store; one that does not answer forgets the reservation by itself."""
    try:
        await settling
    except StoreUnavailable as error:
        log.warning("The store of limits did not take what a request used: %s", error)


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
