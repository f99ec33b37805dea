"""Batches of a real Hub's users, through its proxy; and what becomes of them when the user is deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from databases import utc_day
from fakes.upstream import FakeUpstream, Reply, chat_completion
from served import KEY, endpoint

from jupyterhub_ai_gateway.storage import Database, JobRow, JobStore

from .gateway import running_gateway
from .hub import GatewayHub, start_gateway_hub, wait_until

pytestmark = pytest.mark.hub

DIRECTORY = """
c.JupyterHub.load_roles += [
    {
        "name": "ai-gateway-directory",
        "scopes": ["list:groups", "read:groups", "read:roles:groups", "read:roles:users"],
        "services": [NAME],
    },
]
"""


@pytest.fixture(scope="module")
def own_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    started = start_gateway_hub(tmp_path_factory.mktemp("hub"), more=DIRECTORY)
    yield started
    started.hub.stop()


def lines(count: int) -> bytes:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
    return "\n".join(json.dumps(body) for _ in range(count)).encode()


def test_a_batch_of_a_deleted_user_ends_when_a_process_takes_it_over(
    own_hub: GatewayHub, tmp_path: Path
) -> None:
    hub = own_hub.hub
    hub.api("POST", "users/carol")
    hub.api("POST", "groups/ai/users", {"users": ["carol"]})
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    config = {"ledger": {"url": url}, "batches": {"folder": str(tmp_path / "batches")}}
    with FakeUpstream(key=KEY) as up:
        up.always(Reply.json(chat_completion("Hi")))
        # One answer, then the limit makes the batch wait
        endpoints = [endpoint("chat", up, limit={"calls": 1, "renewal_period": "day"})]
        with (
            running_gateway(own_hub, tmp_path, endpoints, config=config),
            openai.OpenAI(
                api_key=hub.token("carol"), base_url=f"{own_hub.service_url}v1", max_retries=0
            ) as client,
        ):
            file = client.files.create(file=("in.jsonl", lines(3)), purpose="batch")
            assert client.files.content(file.id).content == lines(3)
            batch_id = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            ).id

            def has_one() -> bool | None:
                counts = client.batches.retrieve(batch_id).request_counts
                return True if counts is not None and counts.completed == 1 else None

            wait_until("answer", has_one)
        hub.api("DELETE", "users/carol")
        with running_gateway(own_hub, tmp_path, endpoints, config=config):
            database = Database(url, day_of=utc_day)
            store = JobStore(database)

            def has_ended() -> JobRow | None:
                row = store.job(batch_id, "user:carol")
                assert row is not None
                return row if row.ended_ms is not None else None

            row = wait_until("end", has_ended)
            database.close()
        assert (row.status, row.completed, row.total) == ("failed", 1, 3)
        assert json.loads(row.errors or "")["data"][0]["code"] == "caller_gone"
        assert len(up.requests) == 1
