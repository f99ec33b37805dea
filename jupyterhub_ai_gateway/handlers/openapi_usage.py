"""The part of our OpenAPI document that is about use, limits and overrides."""

from __future__ import annotations

from typing import NamedTuple

from ..config.model import RESOURCES
from ..usage.reports import GROUPINGS
from .schemas import INTEGER, STRING, Json, described, nullable, thing

ACCESS = "access"
"""Instead of a scope's name: access to the service is enough."""
ADMIN_SCOPE = "admin"


class UsagePath(NamedTuple):
    """One method of one path, its parameters, and what a good answer is."""

    method: str
    path: str
    name: str
    scope: str
    summary: str
    text: str
    parameters: tuple[Json, ...]
    answer: Json
    status: str = "200"
    media_type: str = "application/json"


def _query(name: str, text: str, schema: Json = STRING) -> Json:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _path(name: str, text: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": STRING}


_WHOSE = (
    _query("user", "Whose use; `*` for everybody's. Others than yourself need the admin scope."),
    _query("group", "The use that this group pays for. Needs `admin`, or the group's `group-usage`."),
)
_DAYS = (
    _query("since", "The first day, such as 2026-10-01; 30 days before `until` by default."),
    _query("until", "The last day; today by default."),
)
_WHAT = (
    _query("endpoint", "Only that of this endpoint."),
    _query("provider", "Only that of this provider."),
)
_BY = _query("by", f"In groups of {', '.join(GROUPINGS)}; several with commas. By day unless said.")
_ANYTHING: Json = {"type": "object", "additionalProperties": True}
_LIST: Json = {"type": "array", "items": _ANYTHING}

OVERRIDE: Json = thing(
    "who resource amount reason ends",
    who=described(STRING, "Such as user:alice, group:physics-101 or service:NAME."),
    resource={"enum": list(RESOURCES)},
    amount=described(
        {"type": ["number", "string"]}, "More than the limit, or less with a minus; dollars for cost_usd."
    ),
    reason=STRING,
    ends=described(STRING, "When it ends: a day, or a time such as 2026-11-27T18:00:00Z."),
    starts=described(nullable("string"), "When it begins; now by default."),
    policy=described(nullable("string"), "The one rule that it is for; all of the resource by default."),
)

KEY_WISH: Json = thing(
    "name scopes expires",
    name=described(STRING, "Whose it is: key:NAME in limits and the ledger."),
    scopes=described(
        {"anyOf": [STRING, {"type": "array", "items": STRING}]},
        "Such as all, chat:create or post:/openai/v1/embeddings.",
    ),
    expires=described(STRING, "never, a time from now such as 90d, or a day such as 2027-01-31."),
    endpoints=described(
        {"anyOf": [STRING, {"type": "array", "items": STRING}, {"type": "null"}]},
        "The endpoints that it is for, with *; all by default.",
    ),
    owner=described(nullable("string"), "Who answers for it."),
    note=described(nullable("string"), "What it is for."),
)

PATHS = (
    UsagePath(
        "get",
        "/api/usage",
        "getUsage",
        ACCESS,
        "What was used",
        "Sums of requests, tokens and cost in groups of your choice, and where each of your limits stands.",
        (
            *_DAYS,
            _BY,
            *_WHOSE,
            *_WHAT,
            _query("model", "Only that of this model of a provider's."),
            _query(
                "order",
                "The largest first, by one of these sums.",
                {"enum": ["cost_usd", "tokens", "requests"]},
            ),
            _query("limit", "How many sums at most; `is_cut` says whether there are more.", INTEGER),
        ),
        thing("since until usage", since=STRING, until=STRING, usage=_LIST, total=_ANYTHING, limits=_LIST),
    ),
    UsagePath(
        "get",
        "/api/summary",
        "getSummary",
        ACCESS,
        "Today, this week, this month",
        "Your use of the last days by model and by who pays, and where each of your limits stands.",
        (),
        thing("caller limits", caller=_ANYTHING, time_zone=STRING, limits=_LIST, usage=_ANYTHING),
    ),
    UsagePath(
        "get",
        "/api/models",
        "listMyModels",
        ACCESS,
        "Models, with state and price",
        "The models that you may use: their cards, how they fare, what they cost, which rules count, and "
        "who answers `instead` when a budget is used up.",
        (),
        thing("models", models=_LIST),
    ),
    UsagePath(
        "get",
        "/api/requests",
        "listRequests",
        ACCESS,
        "The newest requests",
        "Newest first, without anything that was asked or answered.",
        (
            _query("limit", "How many, 50 by default.", INTEGER),
            _query("before_ms", "Only those before this time, in milliseconds since 1970.", INTEGER),
            *_WHOSE,
            *_WHAT,
            _query("outcome", "Only those that ended like this, such as `ok` or an error's code."),
        ),
        thing("requests", requests=_LIST),
    ),
    UsagePath(
        "get",
        "/api/requests/{id}",
        "getRequest",
        ACCESS,
        "A request explained",
        "Which rules counted, which providers were tried, where the time went, tokens and cost. Yours "
        "alone, unless you hold the admin scope.",
        (_path("id", "The x-request-id of its answer."),),
        _ANYTHING,
    ),
    UsagePath(
        "get",
        "/api/export",
        "exportUsage",
        ACCESS,
        "Export",
        "Sums by day in the columns of the FinOps FOCUS specification, or each request.",
        (
            *_DAYS,
            _query("rows", "`focus` (the default) or `requests`.", {"enum": ["focus", "requests"]}),
            _query("format", "`csv` (the default) or `json`, a line each.", {"enum": ["csv", "json"]}),
            *_WHOSE,
            *_WHAT,
        ),
        STRING,
        media_type="text/csv",
    ),
    UsagePath(
        "get",
        "/api/overrides",
        "listOverrides",
        ADMIN_SCOPE,
        "Overrides",
        "Temporary changes of rules that count now or will.",
        (_query("all", "`true` for those that are over as well.", {"enum": ["true", "false"]}),),
        thing("overrides", overrides=_LIST),
    ),
    UsagePath(
        "post",
        "/api/overrides",
        "createOverride",
        ADMIN_SCOPE,
        "Override a rule",
        "Give somebody more for a time, or less, with a reason. It counts at once and is audited.",
        (),
        _ANYTHING,
        status="201",
    ),
    UsagePath(
        "delete",
        "/api/overrides/{id}",
        "deleteOverride",
        ADMIN_SCOPE,
        "End an override",
        "End it before its time.",
        (_path("id", "Its id."),),
        {},
        status="204",
    ),
    UsagePath(
        "get",
        "/api/deployments",
        "listDeployments",
        ADMIN_SCOPE,
        "Deployments",
        "Where the models run, and how each place fares: its state, and why.",
        (),
        thing("deployments", deployments=_LIST),
    ),
    UsagePath(
        "get",
        "/api/keys",
        "listKeys",
        ADMIN_SCOPE,
        "Gateway keys",
        "The keys that count. Never a key itself.",
        (_query("all", "`true` for those that ended as well.", {"enum": ["true", "false"]}),),
        thing("keys", keys=_LIST),
    ),
    UsagePath(
        "post",
        "/api/keys",
        "createKey",
        ADMIN_SCOPE,
        "Make a key",
        "For a system that has no token of the Hub. `key` in the answer is shown this once.",
        (),
        _ANYTHING,
        status="201",
    ),
    UsagePath(
        "delete",
        "/api/keys/{name}",
        "revokeKey",
        ADMIN_SCOPE,
        "End a key",
        "End the keys of a name, or the one of an id, here at once and elsewhere within seconds.",
        (_path("name", "Its name or its id."),),
        {},
        status="204",
    ),
    UsagePath(
        "get",
        "/api/inflight",
        "listInflight",
        ADMIN_SCOPE,
        "Requests in flight",
        "What is being answered now, the oldest first, without any content.",
        (),
        thing("requests count", requests=_LIST, count=INTEGER),
    ),
    UsagePath(
        "delete",
        "/api/inflight/{id}",
        "stopRequest",
        ADMIN_SCOPE,
        "Stop a request",
        "It ends with an error for its caller, is charged for what was done, and you are in the audit log.",
        (_path("id", "Its x-request-id."), _query("reason", "Why, for the audit log.")),
        {},
        status="204",
    ),
    UsagePath(
        "post",
        "/api/keys/{name}/rotate",
        "rotateKey",
        ADMIN_SCOPE,
        "Replace a key",
        "Another key with the same scopes. The old one ends at once, or after a `grace` such as 24h.",
        (_path("name", "Its name or its id."),),
        _ANYTHING,
        status="201",
    ),
    UsagePath(
        "get",
        "/api/pools",
        "listPools",
        ADMIN_SCOPE,
        "Pools",
        "The slots of the operator's own machines: how many, who has them, who waits, who had how much.",
        (),
        thing("pools", pools=_LIST),
    ),
    UsagePath(
        "get",
        "/api/standing",
        "listStanding",
        ADMIN_SCOPE,
        "Who is near a limit",
        "Of the rules that somebody has come under lately, those that are used up most. With `group-usage` "
        "those of one's groups.",
        (
            _query("percent", "Only those used up to this part at least; 50 by default.", INTEGER),
            _query("limit", "How many, 50 by default.", INTEGER),
        ),
        thing("limits count", limits=_LIST, count=INTEGER, rules=INTEGER),
    ),
    UsagePath(
        "get",
        "/api/configuration",
        "getConfiguration",
        ADMIN_SCOPE,
        "The configuration in use",
        "Endpoints and policies in use, no secret or address, and whether the newest file is good.",
        (),
        thing("loaded_at endpoints policies", loaded_at=STRING, endpoints=_LIST, policies=_LIST),
    ),
    UsagePath(
        "get",
        "/api/audit",
        "listAudit",
        ADMIN_SCOPE,
        "The audit log",
        "What staff did, newest first.",
        (_query("limit", "How many, 100 by default.", INTEGER),),
        thing("audit", audit=_LIST),
    ),
)

OVERRIDE_EXAMPLE: Json = {
    "summary": "More dollars for a thesis",
    "value": {
        "who": "user:alice",
        "resource": "cost_usd",
        "amount": 20,
        "reason": "thesis",
        "ends": "2026-12-18",
    },
}

KEY_EXAMPLE: Json = {
    "summary": "A key for a system that builds course material",
    "value": {
        "name": "course-builder",
        "scopes": ["chat:create"],
        "expires": "90d",
        "endpoints": ["gpt-*"],
    },
}
