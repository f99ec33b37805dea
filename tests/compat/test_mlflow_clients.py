"""MLflow's own clients of every generation against the gateway, unmodified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.hub import ACCESS
from served import FULL, PREFIX, Served, endpoint, served, usual

from .environments import environment, run

CLIENTS = Path(__file__).parent / "clients"

VERSIONS = {
    "2.5.0": ("mlflow-skinny==2.5.0", "pydantic<2", "packaging<24", "setuptools<70", "psutil"),
    "2.8.1": ("mlflow-skinny==2.8.1", "pydantic<2", "packaging<24", "setuptools<70"),
    "2.9.2": ("mlflow-skinny==2.9.2", "pydantic<2", "packaging<24", "setuptools<70"),
    "2.22.1": ("mlflow-skinny==2.22.1", "pydantic<3"),
    "3.8.1": ("mlflow-skinny==3.8.1",),
}
"""What each version needs of its time. The newest one is in our own environment: tests/test_mlflow.py."""

OLD_FORM = ("2.5.0", "2.8.1")
GATEWAY = ("2.5.0", "2.8.1", "2.9.2", "2.22.1")
DEPLOYMENTS = ("2.9.2", "2.22.1", "3.8.1")
NO_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[Served]:
    """Run a gateway with an endpoint of each type and a split; `t-staff` may set limits too."""
    split = {
        "name": "split",
        "task_type": "llm/v1/chat",
        "destinations": [{"name": "chat", "traffic_percentage": 100}],
    }
    limited = endpoint("chat", None, limit={"calls": 50, "renewal_period": "minute"})
    config = {"routes": [split], "ledger": {"url": f"sqlite:///{folder}/l.sqlite"}}
    async with served(None, [limited, *usual(None)[1:]], config=config) as running:
        running.knows("t-staff", ACCESS, FULL, "custom:ai-gateway:admin", name="staff")
        yield running


async def run_client(name: str, version: str, *arguments: str, **environ: str) -> Any:
    python = await asyncio.to_thread(environment, VERSIONS[version])
    command = [str(python), "-W", "ignore", str(CLIENTS / name), *arguments]
    text = await asyncio.to_thread(run, command, {**NO_RETRIES, **environ})
    return json.loads(text.splitlines()[-1])


@pytest.mark.gen_test(timeout=600)
@pytest.mark.parametrize("version", GATEWAY)
async def test_gateway_functions(version: str, tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        base = f"{running.url}{PREFIX}"
        found = await run_client("mlflow_gateway.py", version, base, MLFLOW_TRACKING_TOKEN="t-staff")
    is_old = version in OLD_FORM
    assert (found["version"], found["uri"]) == (version, base)
    assert [each["name"] for each in found["routes"]] == ["chat", "text", "vectors"]
    assert found["client_routes"] == ["chat", "text", "vectors"]
    assert found["route"] == {
        "name": "chat",
        "route_type": "llm/v1/chat",
        "provider": "openai" if version == "2.5.0" else "echo",
        "model": "gpt-4o-mini",
        "route_url": f"{base}gateway/chat/invocations",
    }
    for answer in (found["chat"], found["client_chat"]):
        message = answer["candidates" if is_old else "choices"][0]["message"]
        assert message["content"].startswith("You said: Hi")
    assert found["text"]["candidates" if is_old else "choices"][0]["text"].startswith("You said: Hi")
    assert len(found["old_chat"]["candidates"]) == 2
    assert found["old_vectors"]["metadata"]["route_type"] == "llm/v1/embeddings"
    assert len(found["old_vectors"]["embeddings"]) == 2
    assert "404" in found["unknown_route"]
    assert "The route 'nope' is not present or active" in found["unknown_route"]
    assert "404" in found["unknown_query"]
    if version != "2.5.0":
        assert found["limits"] == [[7, "user", "hour"]] * 2


@pytest.mark.gen_test(timeout=600)
@pytest.mark.parametrize("version", DEPLOYMENTS)
async def test_deployments_client(version: str, tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        target = f"{running.url}{PREFIX}"
        found = await run_client(
            "mlflow_deployments.py",
            version,
            MLFLOW_TRACKING_TOKEN="t-alice",
            MLFLOW_DEPLOYMENTS_TARGET=target,
        )
    assert found["version"] == version
    assert [each["name"] for each in found["endpoints"]] == ["chat", "text", "vectors"]
    one = found["endpoint"]
    assert (one["name"], one["endpoint_type"], one["provider"]) == ("chat", "llm/v1/chat", "echo")
    assert one["endpoint_url"] in ("/gateway/chat/invocations", f"{target}gateway/chat/invocations")
    if version != "2.9.2":
        assert one["limit"] == {"calls": 50, "key": "user", "renewal_period": "minute"}
        assert found["endpoints"][1]["limit"] is None
    assert len(found["chat"]["choices"]) == 2
    for key in ("chat", "split"):
        assert found[key]["choices"][0]["message"]["content"].startswith("You said: Hi")
    assert found["text"]["choices"][0]["text"].startswith("You said: Hi")
    assert len(found["vectors"]["data"]) == 2
    assert "404" in found["unknown"]
    assert "422" in found["wrong"]


@pytest.mark.gen_test(timeout=600)
@pytest.mark.parametrize("version", ["2.8.1", "3.8.1"])
async def test_wrong_token_is_told(version: str, tmp_path: Path) -> None:
    name = "mlflow_gateway.py" if version in OLD_FORM else "mlflow_deployments.py"
    async with gateway(tmp_path) as running:
        base = f"{running.url}{PREFIX}"
        with pytest.raises(pytest.fail.Exception, match="401"):
            await run_client(
                name, version, base, MLFLOW_TRACKING_TOKEN="t-nobody", MLFLOW_DEPLOYMENTS_TARGET=base
            )
