"""What people and staff see of the ledger: their own, everybody's with the admin scope, no one else's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, Reply, chat_completion
from served import FULL, KEY, WAYS, Served, endpoint, served

from jupyterhub_ai_gateway.usage.reports import FOCUS_COLUMNS, csv_lines

ADMIN = "custom:ai-gateway:admin"
USAGE = {"prompt_tokens": 100, "completion_tokens": 50}
DAILY = {"name": "daily", "resource": "requests", "limit": 2, "window": "day"}
COURSE = {
    "name": "course",
    "resource": "cost_usd",
    "limit": 1,
    "window": "month",
    "count": "group",
    "scope": {"group": "physics"},
}


@asynccontextmanager
async def running(folder: Path, *policies: dict[str, Any], **more: Any) -> AsyncIterator[Served]:
    """Run a gateway with alice, bob (of physics) and root, who looks after it."""
    price = {"input_per_mtok": 2, "output_per_mtok": 10}
    config = {
        "policies": list(policies),
        "ledger": {"url": f"sqlite:///{folder}/ledger.sqlite", "flush_s": 0.01},
    }
    with FakeUpstream(key=KEY) as up:
        up.always(Reply.json({**chat_completion("Hi"), "usage": USAGE}))
        endpoints = [endpoint("chat", up, price=price), endpoint("other", up, price=0)]
        async with served(up, endpoints, config=config, **more) as gateway:
            gateway.knows("t-bob", ACCESS, FULL, name="bob", groups=("physics",))
            gateway.knows("t-root", ACCESS, ADMIN, name="root")
            yield gateway


def tomorrow(hours: int = 24) -> str:
    return (datetime.now(timezone.utc) + timedelta(hours=hours)).isoformat()


def override(**more: Any) -> dict[str, Any]:
    return {
        "who": "user:alice",
        "resource": "requests",
        "amount": 1,
        "reason": "thesis",
        "ends": tomorrow(),
        **more,
    }


async def test_my_usage_by_whatever_i_want(tmp_path: Path) -> None:
    async with running(tmp_path, DAILY) as gateway:
        await gateway.chat()
        await gateway.chat(model="other")
        await gateway.chat(token="t-bob")
        answer = await gateway.ask("GET", "api/usage?by=endpoint,model,group,user")
        document = answer.json
        assert [(row["endpoint"], row["cost_usd"], row["user"]) for row in document["usage"]] == [
            ("chat", 0.0007, "user:alice"),
            ("other", 0, "user:alice"),
        ]
        assert document["usage"][0]["model"] == "gpt-4o-mini"
        assert document["usage"][0]["group"] is None
        assert document["total"]["requests"] == 2
        assert document["total"]["input_tokens"] == 200
        (rule,) = document["limits"]
        assert (rule["rule"], rule["limit"], rule["used"], rule["remaining"]) == ("daily", 2, 2, 0)
        assert rule["resets_at"].endswith("Z")
        assert (rule["window"], rule["counts"], rule["shadow"]) == ("day", "each user", False)
        by_day = (await gateway.ask("GET", "api/usage")).json["usage"]
        assert [row["day"] for row in by_day] == [datetime.now(timezone.utc).date().isoformat()]


async def test_what_is_left_is_told_in_the_rules_own_unit(tmp_path: Path) -> None:
    async with running(tmp_path, COURSE) as gateway:
        await gateway.chat(token="t-bob")
        (rule,) = (await gateway.ask("GET", "api/usage", token="t-bob")).json["limits"]
        assert (rule["limit"], rule["used"], rule["remaining"]) == (1, 0.0007, 0.9993)
        assert rule["counts"] == "the group physics as a whole"
        assert (await gateway.ask("GET", "api/usage")).json["limits"] == []


@pytest.mark.parametrize(
    "path",
    [
        "api/usage?user=bob",
        "api/usage?user=*",
        "api/usage?group=physics",
        "api/requests?user=*",
        "api/export?user=*",
        "api/overrides",
        "api/audit",
        "api/deployments",
        "api/2.0/gateway/limits/chat",
        "api/2.0/endpoints/limits/chat",
    ],
)
async def test_others_are_for_holders_of_the_admin_scope(path: str, tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        answer = await gateway.ask("GET", path)
        assert (answer.status, answer.error["code"]) == (403, "insufficient_scope")
        assert ADMIN in answer.error["message"]
        assert (await gateway.ask("GET", path, token="t-root")).status == 200


async def test_who_has_no_access_sees_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        gateway.knows("t-out", FULL, ADMIN, name="out")
        for path in ("api/usage", "api/requests", "api/overrides", "api/requests/req_1"):
            assert (await gateway.ask("GET", path, token="t-out")).status == 403
            assert (await gateway.ask("GET", path, token=None)).status == 401


async def test_an_admin_sees_everybody_by_user_and_group(tmp_path: Path) -> None:
    async with running(tmp_path, COURSE) as gateway:
        await gateway.chat()
        await gateway.chat(token="t-bob")
        rows = (await gateway.ask("GET", "api/usage?by=user&user=*", token="t-root")).json["usage"]
        assert [(row["user"], row["requests"]) for row in rows] == [("user:alice", 1), ("user:bob", 1)]
        rows = (await gateway.ask("GET", "api/usage?by=group&group=physics", token="t-root")).json["usage"]
        assert [(row["group"], row["requests"]) for row in rows] == [("physics", 1)]
        document = (await gateway.ask("GET", "api/usage?user=bob", token="t-root")).json
        assert document["total"]["requests"] == 1
        assert "limits" not in document


async def test_my_own_request_explained_and_nobody_elses(tmp_path: Path) -> None:
    async with running(tmp_path, DAILY) as gateway:
        name = (await gateway.chat("a canary")).headers["x-request-id"]
        answer = await gateway.ask("GET", f"api/requests/{name}")
        found = answer.json
        assert (found["request_id"], found["outcome"], found["cost_usd"]) == (name, "ok", 0.0007)
        assert found["rules"] == ["daily"]
        assert found["tries"][0]["provider"] == "openai"
        assert found["timing_ms"]["total"] >= found["timing_ms"]["upstream"] > 0
        assert "canary" not in answer.body.decode()
        for token in ("t-bob", None):
            refused = await gateway.ask("GET", f"api/requests/{name}", token=token)
            assert refused.status == (401 if token is None else 404)
        assert (await gateway.ask("GET", f"api/requests/{name}", token="t-root")).status == 200
        listed = (await gateway.ask("GET", "api/requests")).json["requests"]
        assert [each["request_id"] for each in listed] == [name]
        assert (await gateway.ask("GET", "api/requests?before_ms=5")).json["requests"] == []


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("api/usage?by=colour", "by"),
        ("api/usage?since=yesterday", "since"),
        ("api/usage?since=2026-02-01&until=2026-01-01", "since"),
        ("api/requests?limit=0", "limit"),
        ("api/requests?limit=x", "limit"),
        ("api/requests?before_ms=-1", "before_ms"),
    ],
)
async def test_a_wrong_question_is_told_what_is_wrong(path: str, param: str, tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        answer = await gateway.ask("GET", path)
        assert (answer.status, answer.error["param"]) == (400, param)


async def test_export_in_focus_columns(tmp_path: Path) -> None:
    async with running(tmp_path, COURSE) as gateway:
        await gateway.chat()
        await gateway.chat(token="t-bob")
        answer = await gateway.ask("GET", "api/export?user=*", token="t-root")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert "attachment" in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
        assert tuple(rows[0]) == FOCUS_COLUMNS
        assert {(row["SubAccountId"], row["BillingAccountId"]) for row in rows} == {
            ("user:alice", "user:alice"),
            ("user:bob", "physics"),
        }
        assert {(row["BilledCost"], row["BillingCurrency"]) for row in rows} == {("0.000700000", "USD")}
        assert rows[0]["ChargePeriodStart"] < rows[0]["ChargePeriodEnd"]


async def test_export_of_requests_as_csv_and_json_lines(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        names = [(await gateway.chat()).headers["x-request-id"] for _ in range(3)]
        await gateway.chat(token="t-bob")
        answer = await gateway.ask("GET", "api/export?rows=requests&format=json")
        lines = [json.loads(line) for line in answer.body.splitlines()]
        assert [line["request_id"] for line in lines] == names
        assert lines[0]["cost_usd"] == 0.0007
        answer = await gateway.ask("GET", "api/export?rows=requests")
        rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
        assert [row["request_id"] for row in rows] == names


def test_csv_has_no_formulas() -> None:
    lines = "".join(csv_lines([{"a": '=cmd|"/C calc"!A0', "b": "-1"}, {"a": "+x", "b": 3}], ("a", "b")))
    rows = list(csv.reader(io.StringIO(lines)))
    assert rows == [["a", "b"], ['\'=cmd|"/C calc"!A0', "'-1"], ["'+x", "3"]]


@pytest.mark.parametrize("way", WAYS)
async def test_an_override_counts_at_once_and_is_audited(way: str, tmp_path: Path) -> None:
    async with running(tmp_path, DAILY, **WAYS[way]) as gateway:
        assert [(await gateway.chat()).status for _ in range(3)] == [200, 200, 429]
        made = await gateway.ask("POST", "api/overrides", override(), token="t-root")
        assert made.status == 201
        assert made.json["created_by"] == "user:root"
        assert [(await gateway.chat()).status for _ in range(2)] == [200, 429]
        listed = (await gateway.ask("GET", "api/overrides", token="t-root")).json["overrides"]
        assert [each["id"] for each in listed] == [made.json["id"]]
        another = await gateway.ask("POST", "api/overrides", override(amount=5), token="t-root")
        assert another.status == 201
        assert (await gateway.chat()).status == 200
        path = f"api/overrides/{made.json['id']}"
        assert (await gateway.ask("DELETE", path, token="t-root")).status == 204
        assert (await gateway.ask("DELETE", path, token="t-root")).status == 404
        audit = (await gateway.ask("GET", "api/audit", token="t-root")).json["audit"]
        assert [(each["actor"], each["action"]) for each in audit] == [
            ("user:root", "override.revoke"),
            ("user:root", "override.create"),
            ("user:root", "override.create"),
        ]
        assert audit[2]["detail"]["reason"] == "thesis"
        assert (await gateway.ask("POST", "api/overrides", override())).status == 403


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"who": "alice"}, "who"),
        ({"who": "role:x"}, "who"),
        ({"resource": "apples"}, "resource"),
        ({"amount": 0}, "amount"),
        ({"amount": "lots"}, "amount"),
        ({"amount": 0.5}, "amount"),
        ({"amount": True}, "amount"),
        ({"reason": " "}, "reason"),
        ({"reason": None}, "reason"),
        ({"ends": "2020-01-01"}, "ends"),
        ({"ends": None}, "ends"),
        ({"ends": "2999-01-01"}, "ends"),
        ({"starts": "soon"}, "starts"),
        ({"policy": 3}, "policy"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_override_is_told_what_is_wrong(
    change: dict[str, Any], param: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as gateway:
        answer = await gateway.ask("POST", "api/overrides", override(**change), token="t-root")
        assert (answer.status, answer.error["param"]) == (400, param)
        assert (await gateway.ask("GET", "api/audit", token="t-root")).json["audit"] == []


async def test_dollars_of_an_override_are_exact(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        more = override(resource="cost_usd", amount="0.1", who="group:physics", policy="course")
        made = await gateway.ask("POST", "api/overrides", more, token="t-root")
        assert (made.status, made.json["amount"]) == (201, 0.1)
        assert gateway.service.books.gate.book.overrides[0].amount == 100_000_000


async def test_mlflow_sets_and_gets_limits(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        path = "api/2.0/gateway/limits/"
        assert (await gateway.ask("GET", f"{path}chat", token="t-root")).json == {"limits": []}
        limits = [{"calls": 1, "key": None, "renewal_period": "minute"}]
        answer = await gateway.ask("POST", path, {"route": "chat", "limits": limits}, token="t-root")
        told = {"limits": [{"calls": 1, "key": "user", "renewal_period": "minute"}]}
        assert (answer.status, answer.json) == (200, told)
        assert (await gateway.ask("GET", "api/2.0/endpoints/limits/chat", token="t-root")).json == told
        assert [(await gateway.chat()).status for _ in range(2)] == [200, 429]
        assert (await gateway.chat(model="other")).status == 200
        assert (
            await gateway.ask("POST", path, {"route": "chat", "limits": []}, token="t-root")
        ).status == 200
        assert (await gateway.chat()).status == 200
        await gateway.service.reload()
        assert (await gateway.chat()).status == 200
        audit = (await gateway.ask("GET", "api/audit", token="t-root")).json["audit"]
        assert [each["action"] for each in audit] == ["limits.set"] * 2
        for document, status in (
            ({"route": "nope", "limits": []}, 404),
            ({"route": "chat", "limits": [{"calls": 0, "renewal_period": "minute"}]}, 400),
            ({"route": "chat", "limits": {}}, 400),
        ):
            assert (await gateway.ask("POST", path, document, token="t-root")).status == status
        assert (await gateway.ask("POST", path, {"route": "chat", "limits": []})).status == 403


async def test_limits_that_staff_set_outlive_a_restart(tmp_path: Path) -> None:
    limits = [{"calls": 1, "renewal_period": "day"}]
    async with running(tmp_path) as gateway:
        body = {"route": "chat", "limits": limits}
        await gateway.ask("POST", "api/2.0/gateway/limits/", body, token="t-root")
    async with running(tmp_path) as gateway:
        assert [(await gateway.chat()).status for _ in range(2)] == [200, 429]
        body = {"route": "chat", "limits": None}
        await gateway.ask("POST", "api/2.0/gateway/limits/", body, token="t-root")
        assert (await gateway.chat()).status == 200


async def test_without_a_ledger_the_answer_says_so() -> None:
    async with served(None, [endpoint("chat", None)]) as gateway:
        answer = await gateway.ask("GET", "api/usage")
        assert (answer.status, answer.error["code"]) == (404, "no_ledger")
