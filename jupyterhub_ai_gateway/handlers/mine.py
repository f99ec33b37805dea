"""What the first page and the notebook's commands tell a caller of themselves: models, sums, limits.

A few sums of the ledger's roll-ups for one caller, however many requests are behind them. Settings of the
application that are read: those that `usage` names, and `loaded_at`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from tornado import web
from typing_extensions import override

from ..router import Deployment, Endpoint
from ..router.states import READY
from ..usage.reports import usage_row
from ..vocabulary import Caller
from .openai import model_card
from .usage import AccountHandler, limits_of

SHOWN_DAYS = 30
DEGRADED = "degraded"
_SUMS = ("requests", "failures", "input_tokens", "output_tokens", "cost_usd", "unpriced", "estimated")


class SummaryHandler(AccountHandler):
    """`GET /api/summary`: today, this week, this month and the last days of one's own, and one's limits.

    Without a ledger there are the limits alone, and `usage` is null.
    """

    @override
    async def get(self) -> None:
        caller, gate = self.caller, self.accounts.gate
        endpoints = self.gateway.catalogue.open_to(caller)
        answer: dict[str, Any] = {
            "caller": {"name": caller.name, "kind": caller.kind, "groups": sorted(caller.groups)},
            "time_zone": self.accounts.time_zone,
            "limits": await limits_of(gate, caller, endpoints),
            "usage": None,
        }
        if self.accounts.database is not None:
            answer["usage"] = await self._usage()
        self.write_json(answer)

    async def _usage(self) -> dict[str, Any]:
        database = self.database
        today = date.fromisoformat(database.day_of(self.accounts.gate.now_ms()))
        starts = {
            "today": today,
            "week": today - timedelta(days=today.weekday()),
            "month": today.replace(day=1),
        }
        first = min(*starts.values(), today - timedelta(days=SHOWN_DAYS - 1))
        found = await self.ask_ledger(
            lambda: database.usage(
                since=first.isoformat(),
                until=today.isoformat(),
                by=("day", "endpoint", "charged_group"),
                where={"caller": self.caller.key},
            )
        )
        rows = [usage_row(row) for row in found]
        return {
            "today": today.isoformat(),
            "periods": {
                name: {"since": start.isoformat(), **period_of(rows, start.isoformat())}
                for name, start in starts.items()
            },
            "days": [{name: row[name] for name in ("day", "endpoint", "group", *_SUMS)} for row in rows],
        }


def period_of(rows: Iterable[Mapping[str, Any]], since: str) -> dict[str, Any]:
    """Add up the rows of days from `since` on: all of them, by model, and by who pays."""
    mine = [row for row in rows if row["day"] >= since]
    return {
        "total": _sum(mine),
        "by_model": _grouped(mine, "endpoint"),
        "by_group": _grouped(mine, "group"),
    }


def _grouped(rows: list[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    keys = dict.fromkeys(row[name] for row in rows)
    sums = [{name: key, **_sum(row for row in rows if row[name] == key)} for key in keys]
    return sorted(sums, key=lambda each: (each["cost_usd"], each["requests"]), reverse=True)


def _sum(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    found = list(rows)
    return {name: sum((row[name] for row in found), start=_zero(name)) for name in _SUMS}


def _zero(name: str) -> int | Decimal:
    return Decimal(0) if name == "cost_usd" else 0


class MyModelsHandler(AccountHandler):
    """`GET /api/models`: the models that one may use: their cards, state, price, paths, and the limits."""

    @override
    async def get(self) -> None:
        now, created = time.monotonic(), self.settings["loaded_at"]()
        self.write_json(
            {
                "models": [
                    {
                        **model_of(endpoint, created, now, self._rules),
                        "instead": [each.name for each in endpoint.instead_for(self.caller)],
                    }
                    for endpoint in self.gateway.catalogue.open_to(self.caller)
                ]
            }
        )

    def _rules(self, endpoint: Endpoint) -> list[str]:
        """Return the names of the rules that a request of the caller's would come under."""
        return _rule_names(self.accounts.gate.book.rules, self.caller, endpoint.name)


def _rule_names(rules: Callable[..., Any], caller: Caller, endpoint: str) -> list[str]:
    return [rule.name for rule in rules(caller, endpoint)[1] if not rule.is_soft]


def model_of(
    endpoint: Endpoint, created: int, now: float, rules: Callable[[Endpoint], list[str]]
) -> dict[str, Any]:
    """Describe a model for the person who chooses: its card, and what the card does not say.

    `state` is that of the place which fares best, but "degraded" where it is ready and another is not.
    `price` is the first place's, None where nobody knows it.
    """
    card = model_card(endpoint, created)
    if card["state"] == READY and any(each.state(now).state != READY for each in endpoint.deployments):
        card["state"] = DEGRADED
    return {
        "model": endpoint.deployment.provider.model_name,
        "price": price_of(endpoint.deployment),
        "operation": endpoint.operation.scope,
        "paths": sorted({each.public_path.replace("MODEL", endpoint.name) for each in endpoint.cells}),
        "scope": endpoint.scope,
        "rules": rules(endpoint),
        **card,
    }


def price_of(deployment: Deployment) -> dict[str, Any] | None:
    """Return dollars per million tokens and per request, as they are now, and who says so."""
    tariff = None if deployment.price is None else deployment.price.tariff()
    if deployment.price is None or tariff is None:
        return None
    rates = tariff.rates
    return {
        "input_per_mtok": Decimal(rates.input) / 1_000_000,
        "output_per_mtok": Decimal(rates.output) / 1_000_000,
        "cache_read_per_mtok": Decimal(rates.cache_read) / 1_000_000,
        "per_request": Decimal(tariff.request) / 10**12,
        "per_second": Decimal(tariff.second) / 10**12,
        "source": deployment.price.source,
    }


ROUTES: tuple[tuple[str, type[web.RequestHandler], dict[str, Any]], ...] = (
    ("api/summary", SummaryHandler, {}),
    ("api/models", MyModelsHandler, {}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
