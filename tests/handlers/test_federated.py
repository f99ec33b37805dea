"""FIRST's paths: what its guide calls and its clients read, unchanged."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
import served as served_module
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, Gate, Reply, chat_chunk, chat_completion, happened
from served import FULL, KEY, PREFIX, WAYS, Served, served

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.handlers import federated
from jupyterhub_ai_gateway.providers.registry import Providers
from jupyterhub_ai_gateway.router import federation


@pytest.fixture(autouse=True, params=["fast", "handlers"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test through the lane, and through the handlers."""
    whole = served_module.served

    def served_so(*arguments: Any, **more: Any) -> Any:
        return whole(*arguments, **{**WAYS[request.param], **more})

    monkeypatch.setitem(globals(), "served", served_so)


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
CHAT = {"model": LLAMA, "messages": [{"role": "user", "content": "Hi"}]}


def runs_at(up: FakeUpstream, cluster: str, framework: str = "vllm", **more: Any) -> dict[str, Any]:
    model = {
        "provider": "openai",
        "name": LLAMA,
        "config": {"openai_api_key": KEY, "openai_api_base": f"{up.url}/v1"},
    }
    return {"name": cluster, "cluster": cluster, "framework": framework, "model": model, **more}


def llama(*deployments: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {"name": "llama-8b", "endpoint_type": "llm/v1/chat", "deployments": list(deployments)}
    return {**found, **more}


def secret(up: FakeUpstream) -> dict[str, Any]:
    own = runs_at(up, "metis", "api")
    own["model"]["name"] = "secret/model"
    return {
        "name": "secret",
        "endpoint_type": "llm/v1/chat",
        "cluster": "metis",
        "framework": "api",
        "model": own["model"],
        "scope": "premium",
        "hidden": True,
    }


async def test_what_is_there_and_who_asks() -> None:
    with FakeUpstream(key=KEY) as up:
        two = llama(runs_at(up, "sophia"), runs_at(up, "polaris"), description="A llama")
        async with served(None, [two, secret(up)]) as gateway:
            assert (await gateway.ask("GET", "resource_server/health", token=None)).json == {"status": "ok"}
            status = await gateway.ask("GET", "resource_server/status", token=None)
            assert status.json == {"sophia": True, "polaris": True}
            who = (await gateway.ask("GET", "resource_server/whoami")).json
            assert (who["username"], who["user_group_uuids"], who["auth_service"]) == (
                "alice",
                [],
                "jupyterhub",
            )
            found = (await gateway.ask("GET", "resource_server/list-endpoints")).json["clusters"]
            assert list(found) == ["polaris", "sophia"]
            assert found["sophia"]["base_url"] == "/resource_server/sophia"
            vllm = found["sophia"]["frameworks"]["vllm"]
            assert vllm["models"] == sorted([LLAMA, "llama-8b"])
            assert "/v1/chat/completions" in vllm["endpoints"]
            jobs = (await gateway.ask("GET", "resource_server/sophia/jobs")).json
            assert [job["Models"] for job in jobs["running"]] == [f"llama-8b,{LLAMA}"]
            assert jobs["running"][0]["Framework"] == "vllm"
            assert jobs["cluster_status"] == {
                "cluster": "sophia",
                "total_models": 1,
                "live_models": 1,
                "stopped_models": 0,
            }
            assert {"queued", "stopped", "others", "private_batch_running", "private_batch_queued"} <= set(
                jobs
            )
            gateway.knows("t-bob", ACCESS, FULL, "custom:ai-gateway:premium")
            hers = (await gateway.ask("GET", "resource_server/list-endpoints", token="t-bob")).json
            assert "metis" in hers["clusters"]
            models = (await gateway.ask("GET", "resource_server/sophia/vllm/v1/models")).json
            assert [each["id"] for each in models["data"]] == ["llama-8b"]
            unknown = await gateway.ask("GET", "resource_server/metis/jobs")
            assert (unknown.status, unknown.error["code"]) == (404, "cluster_not_found")


@pytest.mark.parametrize("model", [LLAMA, "llama-8b", "meta/alias"])
@pytest.mark.parametrize("path", ["sophia/vllm/v1", "v1"])
async def test_openais_sdk_finds_a_model_by_every_name(model: str, path: str) -> None:
    with FakeUpstream(key=KEY) as up:
        up.always(Reply.json(chat_completion("Hello")))
        async with served(None, [llama(runs_at(up, "sophia"), aliases=["meta/alias"])]) as gateway:
            base = f"{gateway.url}{PREFIX}resource_server/{path}"
            async with openai.AsyncOpenAI(api_key="t-alice", base_url=base, max_retries=0) as client:
                answer = await client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hi"}]
                )
                assert answer.choices[0].message.content == "Hello"
                extra = answer.model_extra or {}
                assert extra["response_time"] > 0
                assert extra["throughput_tokens_per_second"] > 0
            assert up.requests[0].document["model"] == LLAMA


def read_as_the_benchmark_does(body: bytes) -> list[str]:
    """Read a stream as FIRST's benchmark does, which takes every line for a chunk with a choice."""
    found = []
    for line in body.split(b"\n"):
        text = line.strip().decode().removeprefix("data: ")
        if text and text != "[DONE]":
            found.append(json.loads(text)["choices"][0]["delta"].get("content") or "")
    return found


@pytest.mark.parametrize("path", ["sophia/vllm/v1", "v1"])
async def test_a_stream_has_nothing_that_the_benchmark_script_counts_as_a_failure(path: str) -> None:
    pauses = [Gate(), Gate()]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    with FakeUpstream(key=KEY) as up:
        up.script(
            *(
                Reply.stream(
                    chat_chunk({"role": "assistant", "content": "Hel"}),
                    pause,
                    chat_chunk({"content": "lo"}),
                    chat_chunk({}, finish_reason="stop"),
                    {**chat_chunk({}), "choices": [], "usage": usage},
                    "[DONE]",
                )
                for pause in pauses
            )
        )
        async with served(None, [llama(runs_at(up, "sophia"))], keepalive_s=0.01) as gateway:
            body = {**CHAT, "model": "llama-8b", "stream": True, "temperature": 0.0, "max_tokens": 5}
            asking = asyncio.create_task(
                gateway.ask("POST", f"resource_server/{path}/chat/completions", body)
            )
            await happened(pauses[0].reached)
            # Another caller's stream gets pings all the while
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.service.port)
            text = json.dumps(body).encode()
            head = f"POST {PREFIX}v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t-alice"
            writer.write(f"{head}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
            for _ in range(5):
                await reader.readuntil(b"\n: ")
            writer.close()
            for pause in pauses:
                pause.set()
            answer = await asking
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "".join(read_as_the_benchmark_does(answer.body)) == "Hello"
            assert answer.body.rstrip().endswith(b"data: [DONE]")


async def test_usage_is_streamed_to_those_who_ask_for_it() -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(None, [llama(runs_at(up, "sophia"))]) as gateway:
            body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
            answer = await gateway.ask("POST", "resource_server/v1/chat/completions", body)
            assert b'"choices":[]' in answer.body.replace(b" ", b"")


async def test_the_path_says_where_and_federated_spreads_over_what_runs(expected_log: ExpectedLog) -> None:
    with FakeUpstream(key=KEY) as sophia, FakeUpstream(key=KEY) as polaris, FakeUpstream(key=KEY) as late:
        places = (
            runs_at(sophia, "sophia"),
            runs_at(polaris, "polaris"),
            runs_at(late, "aurora", priority=2),
        )
        async with served(None, [llama(*places)]) as gateway:
            for _ in range(5):
                assert (
                    await gateway.ask("POST", "resource_server/polaris/vllm/v1/chat/completions", CHAT)
                ).status == 200
            assert (len(sophia.requests), len(polaris.requests)) == (0, 5)

            async def ask_federated() -> str:
                answer = await gateway.ask("POST", "resource_server/v1/chat/completions", CHAT)
                assert answer.status == 200
                return answer.headers["x-ai-gateway-deployment"]

            where = Counter([await ask_federated() for _ in range(60)])
            assert set(where) == {"sophia", "polaris"}
            assert min(where.values()) >= 10  # by chance: fewer is less likely than one in a million
            # A place that does not answer is passed over, whatever its priority
            sophia.always(Reply.error(503, "Down.", headers=[("Retry-After", "3600")]))
            polaris.always(Reply.error(503, "Down.", headers=[("Retry-After", "3600")]))
            assert await ask_federated() == "aurora"
            count = len(sophia.requests) + len(polaris.requests)
            assert [await ask_federated() for _ in range(5)] == ["aurora"] * 5
            assert len(sophia.requests) + len(polaris.requests) == count
            jobs = (await gateway.ask("GET", "resource_server/sophia/jobs")).json
            assert (jobs["running"], jobs["stopped"][0]["Model Status"]) == ([], "offline")
            # A place that is named is asked all the same, and its failure is told as FIRST tells it
            failed = await gateway.ask("POST", "resource_server/sophia/vllm/v1/chat/completions", CHAT)
            assert (failed.status, failed.error["code"]) == (503, "internal_endpoint_error")
            expected_log.take("openai answered 503")


@pytest.mark.parametrize(
    ("path", "body", "token", "status", "code", "own"),
    [
        ("sophia/vllm/v1/chat/completions", CHAT, None, 401, "unauthorized", "missing_api_key"),
        ("sophia/vllm/v1/chat/completions", CHAT, "wrong", 401, "unauthorized", "invalid_api_key"),
        ("sophia/vllm/v1/chat/completions", CHAT, "t-carol", 403, "access_denied", "insufficient_scope"),
        ("v1/chat/completions", CHAT, "t-carol", 403, "access_denied", "insufficient_scope"),
        ("nowhere/vllm/v1/chat/completions", CHAT, "", 404, "cluster_not_found", "cluster_not_found"),
        (
            "sophia/api/v1/chat/completions",
            CHAT,
            "",
            400,
            "unsupported_framework",
            "unsupported_framework",
        ),
        ("metis/api/v1/chat/completions", CHAT, "", 404, "cluster_not_found", "cluster_not_found"),
        (
            "sophia/vllm/v1/chat/completions",
            {**CHAT, "model": "x"},
            "",
            404,
            "endpoint_not_found",
            "model_not_found",
        ),
        ("v1/chat/completions", {**CHAT, "model": "x"}, "", 404, "model_not_found", "model_not_found"),
        (
            "v1/chat/completions",
            {**CHAT, "model": "secret/model"},
            "",
            404,
            "model_not_found",
            "model_not_found",
        ),
        (
            "sophia/vllm/v1/embeddings",
            {"model": LLAMA, "input": "x"},
            "",
            400,
            "unsupported_endpoint",
            "wrong_endpoint_type",
        ),
        ("v1/batches", {"input_file": "x", "model": LLAMA}, "", 404, "batch_unavailable", "no_batches"),
    ],
)
async def test_failures_have_firsts_codes(
    path: str, body: Any, token: str | None, status: int, code: str, own: str
) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(None, [llama(runs_at(up, "sophia")), secret(up)]) as gateway:
            gateway.knows("t-carol", ACCESS, name="carol")
            answer = await gateway.ask("POST", f"resource_server/{path}", body, token=token)
            assert (answer.status, answer.error["code"], answer.error["info"]["code"]) == (
                status,
                code,
                own,
            )
            assert up.requests == []


async def test_a_limit_is_the_same_whichever_path_is_used() -> None:
    with FakeUpstream(key=KEY) as up:
        limited = llama(runs_at(up, "sophia"), limit={"calls": 2, "renewal_period": "day"})
        async with served(None, [limited]) as gateway:
            assert (await gateway.chat(model="llama-8b")).status == 200
            assert (await gateway.ask("POST", "resource_server/v1/chat/completions", CHAT)).status == 200
            answer = await gateway.ask("POST", "resource_server/sophia/vllm/v1/chat/completions", CHAT)
            assert (answer.status, answer.error["code"]) == (429, "too_many_requests")
            assert answer.error["info"]["rule"] == "llama-8b"
            assert int(answer.headers["retry-after"]) >= 1


async def until_first(gateway: Served, batch_id: str, wanted: str) -> None:
    while True:
        status = (await gateway.ask("GET", f"resource_server/v1/batches/{batch_id}")).json
        if status == wanted:
            return
        assert status in ("pending", "running"), status
        await asyncio.sleep(0.02)


def batching(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "ledger": {"url": f"sqlite:///{folder}/ledger.sqlite", "flush_s": 0.05},
        "batches": {
            "folder": str(folder / "batches"),
            "input_folders": [f"{folder}/home/{{username}}"],
            "output_folders": f"{folder}/home/{{username}}",
            **more,
        },
    }


@pytest.mark.parametrize("path", ["sophia/vllm/v1/batches", "v1/batches"])
@pytest.mark.parametrize("key", ["input_file", "input_file_path"])
async def test_firsts_batches_from_a_path_to_the_results(tmp_path: Path, path: str, key: str) -> None:
    home = tmp_path / "home" / "alice"
    (home / "out").mkdir(parents=True)
    plain = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    own = {"custom_id": "mine", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    (home / "in.jsonl").write_text(f"{json.dumps(plain)}\n{json.dumps(own)}\n")
    with FakeUpstream(key=KEY) as up, FakeUpstream(key=KEY) as other:
        up.always(Reply.json(chat_completion("Hello")))
        places = (runs_at(up, "sophia"), runs_at(other, "polaris", priority=2))
        async with served(None, [llama(*places)], config=batching(tmp_path)) as gateway:
            body = {key: f"{home}/in.jsonl", "model": LLAMA, "output_folder_path": f"{home}/out"}
            made = (await gateway.ask("POST", f"resource_server/{path}", body)).json
            assert set(made) == {"batch_id", "input_file", "output_folder_path", "task_ids", "status"}
            assert made["status"] in ("pending", "running")
            batch_id = made["batch_id"]
            await until_first(gateway, batch_id, "completed")
            (item,) = (await gateway.ask("GET", "resource_server/v1/batches?status=completed")).json
            assert (item["id"], item["batch_id"], item["failed_at"]) == (batch_id, batch_id, None)
            assert item["cluster"] == ("sophia" if path.startswith("sophia") else None)
            assert (await gateway.ask("GET", "resource_server/v1/batches?status=running")).json == []
            text = (await gateway.ask("GET", f"resource_server/v1/batches/{batch_id}/result")).json
            result = json.loads(text)
            assert (result["num_responses"], result["lines_processed"]) == (2, 2)
            assert result["total_tokens"] > 0
            answers = [json.loads(line) for line in Path(result["results_file"]).read_text().splitlines()]
            assert [each["custom_id"] for each in answers] == ["line-1", "mine"]
            # The same job by OpenAI's paths, and its answers to download
            batch = (await gateway.ask("GET", f"v1/batches/{batch_id}")).json
            content = await gateway.ask("GET", f"v1/files/{batch['output_file_id']}/content")
            assert content.body == Path(result["results_file"]).read_bytes()
            assert other.requests == []


async def test_firsts_batches_fail_as_it_says(tmp_path: Path) -> None:
    home, theirs = tmp_path / "home" / "alice", tmp_path / "home" / "bob"
    home.mkdir(parents=True)
    theirs.mkdir()
    for folder in (home, theirs):
        (folder / "in.jsonl").write_text(json.dumps({"messages": CHAT["messages"]}))
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.always(lambda request: Reply.json(chat_completion("Hi"), before=[gate]))
        async with served(None, [llama(runs_at(up, "sophia"))], config=batching(tmp_path)) as gateway:
            gateway.knows("t-bob", ACCESS, FULL)

            async def begin(**body: Any) -> Any:
                return await gateway.ask(
                    "POST", "resource_server/sophia/vllm/v1/batches", {"model": LLAMA, **body}
                )

            for body in ({}, {"input_file": 5}, {"input_file": f"{home}/in.jsonl", "more": 1}):
                assert (await begin(**body)).status == 422
            for path in (f"{theirs}/in.jsonl", f"{home}/../bob/in.jsonl", "/etc/passwd", f"{home}/none"):
                refused = await begin(input_file=path)
                assert (refused.status, refused.error["code"]) == (400, "file_not_found")
            refused = await begin(input_file=f"{home}/in.jsonl", output_folder_path=str(theirs))
            assert refused.error["code"] == "path_not_allowed"
            batch_id = (await begin(input_file=f"{home}/in.jsonl")).json["batch_id"]
            again = await begin(input_file=f"{home}/in.jsonl")
            assert (again.status, again.error["code"]) == (400, "batch_ongoing")
            base = f"resource_server/v1/batches/{batch_id}"
            early = await gateway.ask("GET", f"{base}/result")
            assert (early.status, early.error["code"]) == (400, "batch_ongoing")
            for path in (base, f"{base}/result"):
                other = await gateway.ask("GET", path, token="t-bob")
                assert (other.status, other.error["code"]) == (404, "batch_not_found")
            await happened(gate.reached)
            jobs = (await gateway.ask("GET", "resource_server/sophia/jobs")).json
            assert [each["Batch ID"] for each in jobs["private_batch_running"]] == [batch_id]
            cancelled = await gateway.ask("POST", f"{base}/cancel", {})
            assert cancelled.json == "running"
            gate.set()
            await until_first(gateway, batch_id, "failed")
            late = await gateway.ask("GET", f"{base}/result")
            assert (late.status, late.error["code"]) == (400, "batch_failed")
            wrong = (await gateway.ask("GET", "resource_server/v1/batches?status=x")).status
            assert wrong == 400


async def curl(*arguments: str) -> tuple[int, Any]:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    command = [program, "-s", "-w", "\n%{http_code}", *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=True)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), json.loads(body)


async def test_curl_lines_as_firsts_guide_has_them(tmp_path: Path) -> None:
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    (home / "in.jsonl").write_text(json.dumps({"messages": CHAT["messages"], "max_tokens": 5}))
    with FakeUpstream(key=KEY) as up:
        async with served(None, [llama(runs_at(up, "sophia"))], config=batching(tmp_path)) as gateway:
            base = f"{gateway.url}{PREFIX}resource_server"
            token = ("-H", "Authorization: Bearer t-alice")
            kind = ("-H", "Content-Type: application/json")
            status, found = await curl("-X", "GET", f"{base}/list-endpoints", *token)
            assert (status, list(found["clusters"])) == (200, ["sophia"])
            status, found = await curl("-X", "GET", f"{base}/sophia/jobs", *token)
            assert (status, len(found["running"])) == (200, 1)
            for path in ("sophia/vllm/v1/chat/completions", "v1/chat/completions"):
                status, found = await curl(
                    "-X", "POST", f"{base}/{path}", *token, *kind, "-d", json.dumps(CHAT)
                )
                assert (status, found["object"]) == (200, "chat.completion")
            document = json.dumps({"model": LLAMA, "input_file": f"{home}/in.jsonl"})
            status, made = await curl("-X", "POST", f"{base}/v1/batches", *token, *kind, "-d", document)
            assert status == 200
            await until_first(gateway, made["batch_id"], "completed")
            status, found = await curl("-X", "GET", f"{base}/v1/batches?status=completed", *token)
            assert (status, found[0]["status"]) == (200, "completed")
            status, found = await curl("-X", "GET", f"{base}/v1/batches/{made['batch_id']}", *token)
            assert (status, found) == (200, "completed")
            status, found = await curl("-X", "GET", f"{base}/v1/batches/{made['batch_id']}/result", *token)
            assert (status, json.loads(found)["num_responses"]) == (200, 1)
            (home / "upload.jsonl").write_text(json.dumps(CHAT))
            status, file = await curl(
                f"{base.removesuffix('resource_server')}v1/files",
                *token,
                *("-F", "purpose=batch", "-F", f"file=@{home}/upload.jsonl"),
            )
            assert (status, file["filename"]) == (200, "upload.jsonl")
            body = json.dumps({"model": LLAMA, "input_file": file["id"]})
            status, made = await curl("-X", "POST", f"{base}/v1/batches", *token, *kind, "-d", body)
            await until_first(gateway, made["batch_id"], "completed")


async def test_paths_of_a_cluster_are_configured_with_care() -> None:
    model = {"provider": "echo", "name": "m"}
    endpoint = {"name": "e", "endpoint_type": "llm/v1/chat", "model": model}
    for wrong in (
        {"cluster": "v1"},
        {"cluster": "a/b"},
        {"framework": "vllm"},
        {"cluster": "a", "framework": "ü"},
    ):
        with pytest.raises(ConfigFault, match=r"endpoints\[0\]\.(cluster|framework)"):
            parse({"endpoints": [{**endpoint, **wrong}]}, Providers.installed().schemas, {})
    found = parse({"endpoints": [{**endpoint, "cluster": "a"}]}, Providers.installed().schemas, {})
    assert found.endpoints[0].deployments[0].place == ("a", "api")
    for batches, path in (
        ({}, "batches.folder"),
        ({"folder": "x", "jobs": 0}, "batches.jobs"),
        ({"folder": "x", "input_folders": ["relative"]}, "batches.input_folders"),
        ({"folder": "x", "input_folders": ["/a/../b"]}, "batches.input_folders"),
        ({"folder": "x", "lease_s": "long"}, "batches.lease_s"),
        ({"folder": "x", "colour": 1}, "batches.colour"),
    ):
        with pytest.raises(ConfigFault, match=path.replace(".", r"\.")):
            parse({"endpoints": [endpoint], "batches": batches}, Providers.installed().schemas, {})


async def test_a_cluster_under_maintenance_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federated, "state_of", lambda deployment, now: "maintenance")
    with FakeUpstream(key=KEY) as up:
        async with served(None, [llama(runs_at(up, "sophia"))]) as gateway:
            answer = await gateway.ask("POST", "resource_server/sophia/vllm/v1/chat/completions", CHAT)
            assert (answer.status, answer.error["code"]) == (503, "cluster_under_maintenance")
            status = await gateway.ask("GET", "resource_server/status", token=None)
            assert status.json == {"sophia": False}
            jobs = (await gateway.ask("GET", "resource_server/sophia/jobs")).json
            assert (jobs["running"], len(jobs["stopped"])) == ([], 1)
            assert up.requests == []


async def test_federated_goes_where_the_model_runs_even_against_priorities(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = {"sophia": "online", "polaris": "queued", "aurora": "running"}
    monkeypatch.setattr(federation, "state_of", lambda each, now: states[each.name])
    with FakeUpstream(key=KEY) as up:
        places = [runs_at(up, name, priority=number + 1) for number, name in enumerate(states)]
        async with served(None, [llama(*places)]) as gateway:

            async def ask(path: str) -> str:
                answer = await gateway.ask(
                    "POST", f"{path}/chat/completions", {**CHAT, "model": "llama-8b"}
                )
                return answer.headers["x-ai-gateway-deployment"]

            assert await ask("resource_server/v1") == "aurora"
            states["aurora"] = "maintenance"
            assert await ask("resource_server/v1") == "polaris"
            assert await ask("v1") == "sophia"  # everybody else goes by priority
