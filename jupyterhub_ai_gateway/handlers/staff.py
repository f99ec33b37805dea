"""What those who look after the gateway see besides the ledger, and what they can do.

Requests in flight, who is near a limit, and the configuration that is in use, as far as it holds no
secret. Settings of the application that are read: those that `usage` names, and `status`.
"""

from __future__ import annotations

import logging
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
from tornado import web
from typing_extensions import override

from ..config import DeploymentConfig, EndpointConfig, GatewayConfig, PolicyConfig
from ..errors import NotFound, RequestFault
from ..gateway import Running
from ..limits import QuotaRule
from ..metrics import ConfigurationState
from ..storage import AuditRow
from ..usage.price import dollars
from ..usage.reports import time_text
from .usage import MAX_LISTED, AccountHandler, limit_of, used_of

log = logging.getLogger(__name__)

MAX_RULES_ASKED = 5_000
"""Of how many rules the store is asked at once; the newest ones, where there are more."""
MAX_REASON = 500


class Status(Protocol):
    """What the process says of its configuration."""

    @property
    def config(self) -> GatewayConfig:
        """Return what is in use."""

    def configuration(self) -> ConfigurationState:
        """Return since when, and whether the newest file was good."""


class InflightHandler(AccountHandler):
    """`GET /api/inflight`: the requests that are being answered now, the oldest first."""

    @override
    async def get(self) -> None:
        self.require_admin()
        running = self.gateway.running()
        self.write_json(
            {"requests": [running_of(each) for each in running[:MAX_LISTED]], "count": len(running)}
        )


class RunningHandler(AccountHandler):
    """`DELETE /api/inflight/{id}`: stop one of them. It is settled, answered with an error, and audited."""

    methods = "DELETE"

    @override
    async def delete(self, request_id: str) -> None:
        self.require_admin()
        reason = self.get_query_argument("reason", "").strip()
        if len(reason) > MAX_REASON or not reason.isprintable():
            raise RequestFault(f"reason must be one line of up to {MAX_REASON} characters.", param="reason")
        stopped = self.gateway.end(request_id)
        if stopped is None:
            raise NotFound("No request of this name is running.", slug="request_not_found")
        log.info("%s: stopped by %s", request_id, self.caller.key)
        if self.accounts.database is not None:
            database, audit = self.accounts.database, self._audit(stopped, reason)
            await self.ask_ledger(lambda: database.note(audit))
        self.set_status(204)
        self.finish()

    def _audit(self, stopped: Running, reason: str) -> AuditRow:
        detail = {"caller": stopped.caller.key, "endpoint": stopped.endpoint, "reason": reason}
        now_ms, text = self.accounts.gate.now_ms(), msgspec.json.encode(detail).decode()
        return AuditRow(now_ms, self.caller.key, "request.stop", stopped.request_id, text)


def running_of(running: Running) -> dict[str, Any]:
    """Describe a request that runs; nothing of what it asks."""
    caller = running.caller
    return {
        "request_id": running.request_id,
        "user": caller.key,
        "server": caller.server_name,
        "endpoint": running.endpoint,
        "operation": running.operation,
        "at": time_text(running.at_ms),
        "age_s": round(running.took_s, 3),
        "is_stream": running.is_stream,
        "attempts": running.attempts,
        "provider": running.provider,
        "deployment": running.deployment,
    }


class StandingHandler(AccountHandler):
    """`GET /api/standing`: who is near a limit, the nearest first.

    It knows the rules that somebody has come under since the policies changed or the process started.
    Instructors see their groups' rules, and those of members as such.
    """

    @override
    async def get(self) -> None:
        if not (self.watches(None) or self.caller.watched_groups):
            self.require_admin()
        limit = self.number("limit", 50, MAX_LISTED)
        part = self.number("percent", 50, 100) / 100
        gate = self.accounts.gate
        standing = [each for each in gate.all_standing() if self._sees(each[0])][-MAX_RULES_ASKED:]
        amounts = await used_of(gate, [take for _, take in standing])
        near = [
            {"who": rule.subject, **limit_of(rule, take.limit, amount, take.expires_ms)}
            for (rule, take), amount in zip(standing, amounts, strict=True)
            if amount and amount >= take.limit * part
        ]
        near.sort(key=lambda each: each["used"] / each["limit"] if each["limit"] else 2, reverse=True)
        self.write_json({"limits": near[:limit], "count": len(near), "rules": len(standing)})

    def _sees(self, rule: QuotaRule) -> bool:
        subject = rule.subject
        is_group = subject.startswith("group:")
        return self.watches(subject[len("group:") :].partition(" ")[0] if is_group else None)


class ConfigurationHandler(AccountHandler):
    """`GET /api/configuration`: what is in use, and the newest file's fate. No secret, no address."""

    @override
    async def get(self) -> None:
        self.require_admin()
        status: Status = self.settings["status"]
        state = status.configuration()
        self.write_json(
            {
                "loaded_at": state.loaded_at.isoformat(timespec="seconds"),
                "successes": state.successes,
                "failures": state.failures,
                "last_error": state.last_error,
                **configuration_of(status.config),
            }
        )


def configuration_of(config: GatewayConfig) -> dict[str, Any]:
    """Describe a configuration: what is named here is shown, everything else is not."""
    ledger = config.ledger
    return {
        "files": [path.name for path in config.files],
        "warnings": list(config.warnings),
        "time_zone": config.time_zone,
        "combine": config.combine,
        "policies_from_groups": config.policies_from_groups,
        "ledger": {
            "kind": _kind(ledger.url),
            "retention_days": ledger.retention_days,
            "fail_open_s": ledger.fail_open_s,
        },
        "store": {"kind": _kind(config.store.url)},
        "endpoints": [_endpoint(each) for each in config.endpoints],
        "policies": [_policy(each) for each in config.policies],
    }


def _kind(url: str | None) -> str | None:
    return None if url is None else urlsplit(url).scheme.partition("+")[0]


def _endpoint(config: EndpointConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "endpoint_type": config.endpoint_type,
        "description": config.description,
        "scope": config.scope,
        "hidden": config.hidden,
        "aliases": list(config.aliases),
        "limit": None
        if config.limit is None
        else f"{config.limit.calls} per {config.limit.renewal_period}",
        "order": config.order,
        "retries": config.retries,
        "fallbacks": list(config.fallbacks),
        "at_limit": list(config.at_limit),
        "deployments": [_deployment(each) for each in config.deployments],
    }


def _deployment(config: DeploymentConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "provider": config.model.provider,
        "model": config.model.name,
        "settings": sorted(
            name for name, value in config.model.settings.items() if value not in (None, ())
        ),
        "weight": config.weight,
        "priority": config.priority,
        "has_price": config.price is not None,
        "timeouts": _plain(config.timeouts),
    }


def _policy(config: PolicyConfig) -> dict[str, Any]:
    shown: dict[str, Any] = _plain(config)
    shown["window"] = None if config.window is None else config.window.text
    if config.resource == "cost_usd":
        shown["limit"] = dollars(config.limit)
    return shown


def _plain(value: Any) -> Any:
    """Turn frozen values that hold no secret into a document."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, date):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


ROUTES: tuple[tuple[str, type[web.RequestHandler], dict[str, Any]], ...] = (
    ("api/inflight", InflightHandler, {}),
    ("api/inflight/([A-Za-z0-9_.-]{1,80})", RunningHandler, {}),
    ("api/standing", StandingHandler, {}),
    ("api/configuration", ConfigurationHandler, {}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
