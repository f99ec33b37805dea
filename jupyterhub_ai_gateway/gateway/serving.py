"""One admitted request: what it needs, what it may use, how it fails, and how it is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import random
from typing import cast

from ..accounting import settle
from ..config.model import DataRuleConfig
from ..dialects.dialect import ANTHROPIC
from ..dialects.needs import needs_of, prefix_of
from ..dialects.parameters import Told
from ..errors import Fault, LimitFault, RequestFault, UpstreamFault
from ..limits import Admission, Demand, Estimate
from ..limits.headers import WARNING
from ..metrics import Cell
from ..passage import Passage
from ..router import Deployment, Endpoint
from ..router.fit import NOTHING, Needs, demanded
from ..vocabulary import COUNTING, WITHOUT_OUTPUT, Timeouts, Wishes, utcnow
from .answering import Answering
from .call import Headers, Running
from .faults import answer_fault, log_upstream
from .stream import Stream

NO_WISHES = Wishes()
NEVER = "never"
CLAMPED = "x-ai-gateway-clamped-params"


@dataclass(slots=True)
class Serving(Answering):
    """One request that has an endpoint, from the limits to its last byte."""

    admission: Admission | None = None
    stream: Stream | None = None
    passage: Passage | None = None
    cell: Cell | None = None
    """Where it is counted once it has gone to a deployment."""
    may_try_others: bool = False
    """True while another deployment could serve it, should this one fail."""
    needs: Needs | None = None
    """What a deployment has to meet; None where every one does."""
    key: bytes = b""
    pinned: str | None = None
    """The only deployment that can go on from the response before."""
    asked_endpoint: str | None = None
    """The endpoint that the caller asked for, where another one serves it in its place."""
    used_up: str | None = None
    """The rule for whose sake that is so."""
    deadline_s: float | None = None
    """How much time it gets as a whole; None for as much as it takes."""
    is_stopped: bool = False
    """True once staff have stopped it."""
    task: asyncio.Task[None] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.dialect = self.call.dialect
        self.task = self.call.task or asyncio.current_task()
        self.deadline_s = self.endpoint.deadline_s
        if self.told is not None:
            told, self.told = self.told, None
            self.tell(told)

    def left_s(self) -> float:
        """Return how much of its time is left."""
        if self.deadline_s is None:
            return float("inf")
        return self.outcome.began + self.deadline_s - self.rooms.clock()

    def timeouts(self, deployment: Deployment) -> Timeouts:
        """Return how long to wait for a deployment: no longer than there is time."""
        timeouts = deployment.timeouts
        if self.deadline_s is None:
            return timeouts
        left_s = max(0.0, self.left_s())
        return replace(timeouts, total_s=min(left_s, timeouts.total_s or left_s))

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

    def state_needs(self, rules: Sequence[DataRuleConfig], kept: Needs | None = None) -> None:
        """Say what the request needs, where that may leave a deployment out; a fault when it does all.

        `kept` is what its data needs besides, whichever endpoint serves it.
        """
        endpoint, wishes = self.endpoint, self.call.wishes
        is_plain = not (endpoint.is_choosy or endpoint.may_close or endpoint.is_sticky)
        if is_plain and wishes is None and not rules and kept is None:
            return
        if endpoint.is_sticky:
            self.key = self._session_key(wishes)
        wishes = wishes or NO_WISHES
        if wishes.substitute not in (None, NEVER):
            raise RequestFault(
                f"The header x-ai-gateway-substitute must be {NEVER}, or be left out.",
                param="x-ai-gateway-substitute",
            )
        needs = demanded(
            rules, self.caller, endpoint.name, data_class=wishes.data_class, region=wishes.region
        )
        if kept is not None:
            needs = needs.at_least(kept.data_class)._replace(regions=(*needs.regions, *kept.regions))
        if endpoint.is_choosy:
            tokens = self.rooms.gate.estimator.input_tokens(endpoint.name, self.call.body)
            needs = needs._replace(capabilities=needs_of(self.asked), tokens=tokens)
        self.needs = needs
        endpoint.route(self.call.operation, 0.0, random, needs)

    def turn_to(self, endpoint: Endpoint, rules: Sequence[DataRuleConfig]) -> None:
        """Let another endpoint serve it; a fault where none of its deployments can.

        What the data needed stays, and is no less than the class of the endpoint before. It gets no more
        time than either endpoint gives.
        """
        needs = (self.needs or NOTHING).at_least(self.endpoint.data_class)
        self.endpoint, self.needs, self.key = endpoint, None, b""
        self.state_needs(rules, needs)
        if endpoint.deadline_s is not None:
            self.deadline_s = min(endpoint.deadline_s, self.deadline_s or endpoint.deadline_s)

    def tell(self, told: Told) -> None:
        """Say what an endpoint's parameters have changed, besides what was said before."""
        if self.told is not None:
            told = Told((*self.told.dropped, *told.dropped), (*self.told.clamped, *told.clamped))
        self.told = told
        self.headers = [each for each in self.headers if each[0] != CLAMPED]
        if told.clamped:
            self.headers.append((CLAMPED, ", ".join(dict.fromkeys(told.clamped))))

    def _session_key(self, wishes: Wishes | None) -> bytes:
        """Return what stays at one deployment: a caller's session, else how a conversation begins."""
        if wishes is not None and wishes.session:
            return f"{self.caller.key} {wishes.session}".encode()
        return prefix_of(self.asked)

    def demand(self) -> Demand:
        call, endpoint = self.call, self.endpoint
        return Demand(call.id, self.caller, endpoint.name, endpoint.limit, self.estimate, call.project)

    def estimate(self) -> Estimate:
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

    def limit_headers(self, admission: Admission) -> Headers:
        headers = admission.headers()
        if self.dialect is ANTHROPIC:
            headers += admission.anthropic_headers(utcnow())
        if self.used_up is None:
            return headers
        low = [f"{self.used_up}: used up", *(text for name, text in headers if name == WARNING)]
        return (*(each for each in headers if each[0] != WARNING), (WARNING, ", ".join(low)))

    def settle(self) -> Awaitable[None] | None:
        """Give back what was reserved, charge what was used, write it down: once, however it ended."""
        return settle(
            self.outcome,
            call_id=self.call.id,
            body=self.call.body,
            is_stream=self.asked.is_stream,
            caller=self.caller,
            endpoint=self.endpoint.name,
            asked_endpoint=self.asked_endpoint,
            operation=self.call.operation,
            admission=self.admission,
            gate=self.rooms.gate,
            ledger=self.rooms.ledger,
        )

    def fail(self, fault: Fault) -> None:
        """Tell the caller: by the status as long as nothing has been sent, by an event afterwards."""
        if isinstance(fault, LimitFault):
            self.outcome.refused_by = str(fault.more.get("rule"))
        if isinstance(fault, UpstreamFault):
            log_upstream(self.call, self.endpoint, None, fault)
        if not self.outcome.left_out:
            self.outcome.left_out = cast("Mapping[str, str]", fault.more.get("left_out", {}))
        if self.outcome.tries:
            fault.more = {**fault.more, "tried": self.outcome.tried_before(fault)}
        if self.stream is not None and self.stream.is_begun:
            self.outcome.done(200, fault.slug)
            self.stream.fail(fault)
        elif self.passage is not None and self.passage.is_begun:
            self.outcome.done(200, fault.slug)
            self.reply.abort()
        else:
            self.outcome.done(fault.status, fault.slug)
            self.headers += (self.timing(), *self.route_headers())
            answer_fault(self.reply, fault, self.call.id, self.headers, self.dialect)
