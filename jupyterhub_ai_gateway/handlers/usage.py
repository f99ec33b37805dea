"""What was used, and what is left: everyone's own, for instructors their groups', for staff everybody's.

Nothing here shows what anybody asked or was answered: the ledger does not have it. Settings of the
application that are read: `accounts`, and what `openai` names.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, Protocol, TypeVar

import msgspec
from tornado import web
from typing_extensions import override

from ..auth import TokenResolver
from ..config.model import RESOURCES
from ..errors import LimitsUnavailable, NotFound, RequestFault
from ..limits import Gate, QuotaRule, StoreUnavailable, Take
from ..router import Deployment, Endpoint
from ..scheduling import Pools
from ..storage import AuditRow, Database, OverrideRow, StorageUnavailable
from ..storage.database import new_id
from ..usage.ledger import Ledger
from ..usage.price import dollars
from ..usage.reports import (
    FOCUS_COLUMNS,
    GROUPINGS,
    csv_lines,
    explained,
    focus_row,
    request_row,
    time_text,
    usage_row,
)
from ..vocabulary import ADMIN, GROUP_USAGE, Caller
from .looks import Looks, subject_of
from .openai import LIST_MODELS, CallerHandler

T = TypeVar("T")

MAX_DAYS = 3660
MAX_LISTED = 500
MAX_SUMS = 10_000
MAX_OVERRIDE_DAYS = 400
_FLUSH_S = 2.0
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Accounts(Protocol):
    """What the process keeps of limits and use. `database` is None where nothing is written down.

    `time_zone` is where days, weeks and months begin.
    """

    time_zone: str
    gate: Gate
    ledger: Ledger | None
    database: Database | None

    async def refresh(self) -> None:
        """Take what staff set, now."""


class AccountHandler(CallerHandler):
    """What they share: who asks, whose use they may see, and questions to the ledger."""

    caller: Caller

    @property
    def accounts(self) -> Accounts:
        """Return what the process keeps."""
        accounts: Accounts = self.settings["accounts"]
        return accounts

    @property
    def database(self) -> Database:
        """Return the ledger's; `NotFound` where there is none."""
        database = self.accounts.database
        if database is None:
            text = "This gateway keeps no ledger, so it cannot say who used what."
            raise NotFound(text, slug="no_ledger")
        return database

    @override
    async def prepare(self) -> None:
        self.caller = await self.gateway.name(await self.call(LIST_MODELS))
        if not self.caller.has_access:
            resolver: TokenResolver = self.settings["resolver"]
            resolver.rules.require(self.caller, LIST_MODELS.scope)  # names the missing access

    @property
    def is_admin(self) -> bool:
        """Say whether the caller holds the admin scope."""
        resolver: TokenResolver = self.settings["resolver"]
        return resolver.rules.scope(ADMIN) in self.caller.scopes

    def require_admin(self) -> None:
        """Raise `Forbidden` without the admin scope."""
        resolver: TokenResolver = self.settings["resolver"]
        resolver.rules.require_scope(self.caller, resolver.rules.scope(ADMIN))

    def watches(self, group: str | None) -> bool:
        """Say whether the caller may see what members of a group use as such; None is all of everybody."""
        if self.is_admin:
            return True
        resolver: TokenResolver = self.settings["resolver"]
        if resolver.rules.scope(GROUP_USAGE) in self.caller.scopes:
            return True
        return group is not None and group in self.caller.watched_groups

    def whose(self) -> dict[str, str]:
        """Return whose use is asked for, as columns: one's own, unless staff name others, or all."""
        user, group = self.get_query_argument("user", None), self.get_query_argument("group", None)
        is_own = user in (self.caller.name, self.caller.key) or (user is None and group is None)
        group = None if group == "*" else group
        if not is_own and not self.watches(group):
            self.require_admin()  # says what is missing
        where = {}
        if is_own:
            where["caller"] = self.caller.key
        elif user is not None and user != "*":
            where["caller"] = user if ":" in user else f"user:{user}"
        if group is not None:
            where["charged_group"] = group
        return where

    async def note_look(self, where: Mapping[str, str], action: str = "usage.view") -> None:
        """Write down that somebody looks at the use of others."""
        if where.get("caller") == self.caller.key:
            return
        looks: Looks = self.settings.setdefault("looks", Looks())
        subject, now_ms = subject_of(where), _now_ms()
        if looks.is_new(self.caller.key, action, subject, now_ms):
            database = self.database
            audit = AuditRow(now_ms, self.caller.key, action, subject, "{}")
            await self.ask_ledger(lambda: database.note(audit))

    def filters(self, *names: str) -> dict[str, str]:
        """Return what else of a request is asked for, as columns."""
        asked = {name: self.get_query_argument(name, None) for name in names}
        return {name: text for name, text in asked.items() if text is not None}

    def days(self) -> tuple[str, str]:
        """Return the first and the last day that is asked for; by default the last 30."""
        today = datetime.now(timezone.utc).date() + timedelta(days=1)  # wherever the day has begun
        until = self._day("until", today)
        since = self._day("since", until - timedelta(days=30))
        if not timedelta(0) <= until - since <= timedelta(days=MAX_DAYS):
            raise RequestFault(f"since must be before until, by {MAX_DAYS} days at most.", param="since")
        return since.isoformat(), until.isoformat()

    def _day(self, name: str, default: date) -> date:
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise RequestFault(f"{name} must be a day such as 2026-10-01.", param=name) from None

    def number(self, name: str, default: int, most: int) -> int:
        """Return a number of the query."""
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:18]) <= most:
            raise RequestFault(f"{name} must be a whole number from 1 to {most}.", param=name)
        return int(text)

    async def ask_ledger(self, question: Callable[[], T]) -> T:
        """Ask the database, once everything until now is written; `LimitsUnavailable` when it is away."""
        ledger = self.accounts.ledger
        try:
            if ledger is not None:
                await asyncio.to_thread(ledger.flush, _FLUSH_S)
            return await asyncio.to_thread(question)
        except StorageUnavailable as error:
            raise LimitsUnavailable(
                "The ledger's database does not answer right now; try again in a minute.",
                slug="ledger_unavailable",
                detail=str(error),
                retry_after_s=60.0,
            ) from error

    def write_json(self, document: object, status: int = 200) -> None:
        """Write an answer; amounts of money are exact numbers."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(_encode(document))

    def document(self) -> dict[str, Any]:
        """Return the body, a JSON object."""
        try:
            found = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise RequestFault("The request's body is not valid JSON.", slug="invalid_json") from None
        if not isinstance(found, dict):
            raise RequestFault("The request's body must be a JSON object.", slug="invalid_json")
        return found


class UsageHandler(AccountHandler):
    """`GET /api/usage`: what was used, in groups, and what is left of each limit."""

    @override
    async def get(self) -> None:
        since, until = self.days()
        where = self.whose()
        is_own = where == {"caller": self.caller.key}
        where |= self.filters("endpoint", "provider", "model")
        order, limit = self._order(), self.number("limit", MAX_SUMS, MAX_SUMS)
        names = [name for name in self.get_query_argument("by", "day").split(",") if name]
        unknown = [name for name in names if name not in GROUPINGS]
        if unknown:
            raise RequestFault(f"by must be of {', '.join(GROUPINGS)}.", param="by")
        by = [GROUPINGS[name] for name in names]
        database = self.database
        await self.note_look(where)
        rows = await self.ask_ledger(
            lambda: database.usage(since=since, until=until, by=by, where=where, order=order, limit=limit)
        )
        total = await self.ask_ledger(lambda: database.usage(since=since, until=until, by=(), where=where))
        answer: dict[str, Any] = {
            "since": since,
            "until": until,
            "usage": [usage_row(row) for row in rows],
            "total": usage_row(total[0]) if total else None,
            "is_cut": len(rows) == limit,
        }
        if is_own:
            answer["limits"] = await self._limits()
        self.write_json(answer)

    def _order(self) -> str | None:
        name = self.get_query_argument("order", None)
        if name is not None and name not in ORDERS:
            raise RequestFault(f"order must be of {', '.join(ORDERS)}.", param="order")
        return ORDERS[name] if name else None

    async def _limits(self) -> list[dict[str, Any]]:
        return await limits_of(self.accounts.gate, self.caller, self.gateway.catalogue.open_to(self.caller))


ORDERS = {"cost_usd": "cost_nanousd", "tokens": "tokens", "requests": "requests"}
"""By what sums can be ordered, and the ledger's name of it."""


async def limits_of(gate: Gate, caller: Caller, endpoints: Sequence[Endpoint]) -> list[dict[str, Any]]:
    """Describe every rule that counts for a caller, and where it stands."""
    standing = gate.standing(caller, [endpoint.name for endpoint in endpoints])
    amounts = await used_of(gate, [take for _, take in standing])
    return [
        limit_of(rule, take.limit, amount, take.expires_ms)
        for (rule, take), amount in zip(standing, amounts, strict=True)
    ]


async def used_of(gate: Gate, takes: Sequence[Take]) -> tuple[int | None, ...]:
    """Return what was used of rules; None where their store does not answer."""
    try:
        used = gate.counters.used(takes, gate.now_ms())
        return used if isinstance(used, tuple) else await used
    except StoreUnavailable:
        return (None,) * len(takes)


def limit_of(rule: QuotaRule, limit: int, used: int | None, resets_ms: int) -> dict[str, Any]:
    """Describe where a rule stands; amounts of `cost_usd` in dollars, None what nobody can say.

    `is_budget` is true of what does not come back while somebody waits: money, and what counts for days.
    """

    def amount(value: int | None) -> int | Decimal | None:
        return dollars(value) if rule.resource == "cost_usd" and value is not None else value

    return {
        "rule": rule.name,
        "resource": rule.resource,
        "window": rule.window_text.removeprefix("per "),
        "counts": rule.whose,
        "endpoints": list(rule.endpoints) or None,
        "limit": amount(limit),
        "used": amount(used),
        "remaining": amount(None if used is None else max(0, limit - used)),
        "resets_at": time_text(resets_ms) if resets_ms else None,
        "is_budget": rule.is_long,
        "shadow": rule.is_soft,
    }


class RequestsHandler(AccountHandler):
    """`GET /api/requests`: the newest requests, newest first."""

    @override
    async def get(self) -> None:
        where = self.whose() | self.filters("endpoint", "provider", "outcome")
        before = self.get_query_argument("before_ms", None)
        before_ms = None if before is None else self.number("before_ms", 0, 10**15)
        limit = self.number("limit", 50, MAX_LISTED)
        database = self.database
        await self.note_look(where)
        rows = await self.ask_ledger(
            lambda: database.requests(where=where, before_ms=before_ms, limit=limit)
        )
        self.write_json({"requests": [request_row(row) for row in rows]})


class RequestHandler(AccountHandler):
    """`GET /api/requests/{id}`: one request explained. Somebody else's does not exist."""

    @override
    async def get(self, request_id: str) -> None:
        database = self.database
        row = await self.ask_ledger(lambda: database.request(request_id))
        if row is None or not (row["caller"] == self.caller.key or self.watches(row["charged_group"])):
            raise NotFound("There is no request of this name.", slug="request_not_found")
        await self.note_look({"caller": row["caller"]})
        self.write_json(explained(row))


class ExportHandler(AccountHandler):
    """`GET /api/export`: requests or FOCUS' sums, as CSV or JSON lines, streamed."""

    @override
    async def get(self) -> None:
        since, until = self.days()
        where = self.whose() | self.filters("endpoint", "provider")
        kind = self.get_query_argument("rows", "focus")
        format_ = self.get_query_argument("format", "csv")
        if kind not in ("focus", "requests") or format_ not in ("csv", "json"):
            raise RequestFault("rows must be focus or requests, format must be csv or json.")
        database = self.database
        await self.note_look(where, "usage.export")
        if kind == "focus":
            by = list(GROUPINGS.values())
            found = await self.ask_ledger(
                lambda: database.usage(since=since, until=until, by=by, where=where, limit=1_000_000)
            )
            rows: Iterator[dict[str, Any]] = map(focus_row, found)
        else:
            rows = map(request_row, database.export(_midnight_ms(since), _midnight_ms(until, 1), where))
        columns = FOCUS_COLUMNS if kind == "focus" else REQUEST_COLUMNS
        lines = csv_lines(rows, columns) if format_ == "csv" else _json_lines(rows)
        media_type = "text/csv; charset=utf-8" if format_ == "csv" else "application/jsonl"
        self.set_header("Content-Type", media_type)
        name = f"ai-gateway-{kind}-{since}-{until}.{'csv' if format_ == 'csv' else 'jsonl'}"
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        await self._send(lines)

    async def _send(self, lines: Iterator[str]) -> None:
        while True:
            piece = await self.ask_ledger(lambda: "".join(islice(lines, 1000)))
            if not piece:
                break
            self.write(piece)
            await self.flush()
        self.finish()


REQUEST_COLUMNS = (
    *(
        "at",
        "request_id",
        "caller",
        "server",
        "charged_group",
        "endpoint",
        "operation",
        "status",
        "outcome",
    ),
    *("provider", "sent_model", "answered_model", "is_stream", "attempts", "input_tokens", "output_tokens"),
    *("cached_input_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens"),
    *("input_audio_tokens", "input_image_tokens", "output_audio_tokens", "is_estimated", "cost_usd"),
    *(
        "price_source",
        "took_ms",
        "first_byte_ms",
        "auth_ms",
        "wait_ms",
        "upstream_ms",
        "rules",
        "refused_by",
    ),
    "shadow",
    "asked_endpoint",
    "deployment",
)


def _json_lines(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield _encode(row).decode() + "\n"


def _midnight_ms(day: str, days_later: int = 0) -> int:
    at = datetime.combine(date.fromisoformat(day), datetime.min.time(), timezone.utc)
    return round((at + timedelta(days=days_later)).timestamp() * 1000)


class OverridesHandler(AccountHandler):
    """`/api/overrides`: temporary changes of rules, each with a reason and an end."""

    methods = "GET, POST"

    @override
    async def get(self) -> None:
        self.require_admin()
        wants_all = self.get_query_argument("all", "") in ("1", "true")
        database = self.database
        rows = await self.ask_ledger(lambda: database.overrides(_now_ms(), all_of_them=wants_all))
        self.write_json({"overrides": [override_of(row) for row in rows]})

    @override
    async def post(self) -> None:
        self.require_admin()
        row = read_override(self.document(), self.caller.key, _now_ms())
        audit = AuditRow(
            row.created_ms, self.caller.key, "override.create", row.id, _encode(override_of(row)).decode()
        )
        database = self.database
        await self.ask_ledger(lambda: database.add_override(row, audit))
        await self.accounts.refresh()
        self.write_json(override_of(row), 201)


class OverrideHandler(AccountHandler):
    """`DELETE /api/overrides/{id}`: end one before its time."""

    methods = "DELETE"

    @override
    async def delete(self, override_id: str) -> None:
        self.require_admin()
        now_ms = _now_ms()
        audit = AuditRow(now_ms, self.caller.key, "override.revoke", override_id, "{}")
        database = self.database
        if not await self.ask_ledger(lambda: database.revoke_override(override_id, now_ms, audit)):
            raise NotFound("There is no override of this name that still counts.", slug="not_found")
        await self.accounts.refresh()
        self.set_status(204)
        self.finish()


class DeploymentsHandler(AccountHandler):
    """`GET /api/deployments`: where the models run, and how each place fares. Never its address or key."""

    @override
    async def get(self) -> None:
        self.require_admin()
        now = time.monotonic()
        self.write_json(
            {
                "deployments": [
                    deployment_of(endpoint, each, now)
                    for endpoint in self.gateway.catalogue.all
                    for each in endpoint.deployments
                ]
            }
        )


def deployment_of(endpoint: Endpoint, deployment: Deployment, now: float) -> dict[str, Any]:
    """Describe a deployment and its health; times in seconds."""
    health, state = deployment.health, deployment.state(now)
    rests_s = health.rests_until - now
    requests, errors = health.window.counts(now)
    error_rate = errors / requests if requests else None
    return {
        "endpoint": endpoint.name,
        "deployment": deployment.name,
        "provider": deployment.provider.name,
        "model": deployment.provider.model_name,
        "priority": deployment.priority,
        "weight": deployment.weight,
        "state": state.state,
        "state_text": state.text,
        "state_until": None if state.until is None else state.until.isoformat(timespec="seconds"),
        "reason": health.reason,
        "error_rate": None if error_rate is None else round(error_rate, 3),
        "recent_requests": requests,
        "slow": deployment.name in endpoint.slow(now),
        "rests_s": round(rests_s, 3) if rests_s > 0 else None,
        "in_flight": health.in_flight,
        "latency_s": None if health.latency_s is None else round(health.latency_s, 3),
        "failures": health.total_failures,
        "keys": [
            {
                "key": index + 1,
                "state": "resting" if key.health.is_resting(now) else "ready",
                "reason": key.health.reason,
            }
            for index, key in enumerate(deployment.keys)
        ],
        "price_source": None if deployment.price is None else deployment.price.source,
    }


class PoolsHandler(AccountHandler):
    """`GET /api/pools`: the slots of the operator's own machines, who has them, and who waits."""

    @override
    async def get(self) -> None:
        self.require_admin()
        pools: Pools = self.settings["pools"]
        self.write_json({"pools": [await pool.described() for pool in pools.all]})


class AuditHandler(AccountHandler):
    """`GET /api/audit`: what staff did, newest first."""

    @override
    async def get(self) -> None:
        self.require_admin()
        limit = self.number("limit", 100, MAX_LISTED)
        database = self.database
        rows = await self.ask_ledger(lambda: database.audit_log(limit=limit))
        self.write_json(
            {
                "audit": [
                    {
                        "at": time_text(row.at_ms),
                        "actor": row.actor,
                        "action": row.action,
                        "object": row.object,
                        "detail": json.loads(row.detail),
                    }
                    for row in rows
                ]
            }
        )


def override_of(row: OverrideRow) -> dict[str, Any]:
    """Describe an override; its amount in the resource's own unit."""
    is_money = row.resource == "cost_usd"
    return {
        "id": row.id,
        "who": row.who,
        "policy": row.policy,
        "resource": row.resource,
        "amount": dollars(row.amount) if is_money else row.amount,
        "reason": row.reason,
        "starts": time_text(row.starts_ms),
        "ends": time_text(row.ends_ms),
        "created_at": time_text(row.created_ms),
        "created_by": row.created_by,
        "revoked_at": None if row.revoked_ms is None else time_text(row.revoked_ms),
        "revoked_by": row.revoked_by,
    }


def read_override(document: Mapping[str, Any], actor: str, now_ms: int) -> OverrideRow:
    """Read what an admin sends. `RequestFault` names the field that is wrong."""
    known = ("who", "policy", "resource", "amount", "reason", "starts", "ends")
    for name in document:
        if name not in known:
            raise RequestFault(
                f"There is no such field; there are {', '.join(known)}.", param=str(name)[:64]
            )
    who = _text(document, "who")
    kind, separator, name = who.partition(":")
    if not separator or kind not in ("user", "group", "service", "key") or not name:
        raise RequestFault(
            "who must be such as user:alice, group:physics-101, service:NAME or key:NAME.", param="who"
        )
    resource = _text(document, "resource")
    if resource not in RESOURCES:
        raise RequestFault(f"resource must be one of {', '.join(RESOURCES)}.", param="resource")
    policy = document.get("policy")
    if policy is not None and not isinstance(policy, str):
        raise RequestFault("policy must be the name of a rule, or be left out.", param="policy")
    starts_ms = _time_ms(document, "starts", now_ms)
    ends_ms = _time_ms(document, "ends", None)
    if not max(now_ms, starts_ms) < ends_ms <= starts_ms + MAX_OVERRIDE_DAYS * 86_400_000:
        text = f"ends must be in the future, after starts, and within {MAX_OVERRIDE_DAYS} days of it."
        raise RequestFault(text, param="ends")
    return OverrideRow(
        id=new_id("override"),
        who=who,
        resource=resource,
        amount=_amount(document.get("amount"), resource),
        reason=_text(document, "reason"),
        starts_ms=starts_ms,
        ends_ms=ends_ms,
        created_ms=now_ms,
        created_by=actor,
        policy=policy,
    )


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > 500 or not value.isprintable():
        raise RequestFault(f"{name} must be text of one line, up to 500 characters.", param=name)
    return value.strip()


def _amount(value: object, resource: str) -> int:
    """Return an amount in the unit of the ledger; more than the limit, or less with a minus."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise RequestFault("amount must be a number.", param="amount")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise RequestFault("amount must be a number.", param="amount") from None
    unit = 10**9 if resource == "cost_usd" else 1
    if not amount.is_finite() or amount == 0 or abs(amount * unit) > 10**18 or (amount * unit) % 1 != 0:
        raise RequestFault("amount must be a whole number other than 0, or dollars.", param="amount")
    return int(amount * unit)


def _time_ms(document: Mapping[str, Any], name: str, default: int | None) -> int:
    value = document.get(name)
    if value is None and default is not None:
        return default
    text = value if isinstance(value, str) else ""
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        text = f"{name} must be a time such as 2026-11-27T18:00:00Z, or a day."
        raise RequestFault(text, param=name) from None
    aware = at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)
    return round(aware.timestamp() * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


ROUTES: tuple[tuple[str, type[web.RequestHandler], dict[str, Any]], ...] = (
    ("api/usage", UsageHandler, {}),
    ("api/requests", RequestsHandler, {}),
    ("api/requests/([A-Za-z0-9_.-]{1,80})", RequestHandler, {}),
    ("api/export", ExportHandler, {}),
    ("api/overrides", OverridesHandler, {}),
    ("api/overrides/([A-Za-z0-9_]{1,80})", OverrideHandler, {}),
    ("api/deployments", DeploymentsHandler, {}),
    ("api/pools", PoolsHandler, {}),
    ("api/audit", AuditHandler, {}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
