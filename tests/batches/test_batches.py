"""Files and batches with OpenAI's own SDK, over real sockets and on a real disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from databases import utc_day
from expected import ExpectedLog
from fakes.hub import ACCESS
from fakes.upstream import FakeUpstream, Gate, Reply, Request, chat_completion, happened
from served import FULL, KEY, PREFIX, WAYS, Served, endpoint, served

from jupyterhub_ai_gateway.batches import work
from jupyterhub_ai_gateway.batches.desk import Desk, Upload
from jupyterhub_ai_gateway.handlers.batches import FilesHandler
from jupyterhub_ai_gateway.storage import Database
from jupyterhub_ai_gateway.vocabulary import Caller

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def line(number: int, model: str = "chat", **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": f"Number {number}"}]}
    return {
        "custom_id": f"line {number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
        **more,
    }


def jsonl(*lines: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


def said(request: Request) -> str:
    text: str = request.document["messages"][-1]["content"]
    return text


def echo(request: Request) -> Reply:
    return Reply.json({**chat_completion(f"{said(request)}!"), "usage": USAGE})


@contextlib.asynccontextmanager
async def batching(
    up: FakeUpstream | None,
    folder: Path,
    endpoints: Any = None,
    config: Any = None,
    options: Any = None,
    **more: Any,
) -> AsyncIterator[Served]:
    settings = {
        "ledger": {"url": f"sqlite:///{folder}/ledger.sqlite", "flush_s": 0.05},
        "batches": {"folder": str(folder / "batches"), **more},
        **(config or {}),
    }
    async with served(up, endpoints, config=settings, **(options or {})) as gateway:
        yield gateway


def sdk(gateway: Served, token: str = "") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=token or gateway.token, base_url=gateway.base_url, max_retries=0)


async def ended(client: openai.AsyncOpenAI, batch_id: str) -> openai.types.Batch:
    """Return a batch once it has ended."""
    while True:
        found = await client.batches.retrieve(batch_id)
        if found.status in ("completed", "failed", "cancelled", "expired"):
            return found
        await asyncio.sleep(0.02)


async def begin(client: openai.AsyncOpenAI, content: bytes, **more: Any) -> openai.types.Batch:
    file = await client.files.create(file=("input.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id,
        **{"endpoint": "/v1/chat/completions", "completion_window": "24h", **more},
    )


async def lines_of(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    content = await client.files.content(file_id)
    return [json.loads(text) for text in content.text.splitlines()]


@pytest.mark.parametrize("way", ["fast", "stock handlers"])
async def test_a_batch_with_the_sdk_from_the_file_to_the_answers(tmp_path: Path, way: str) -> None:
    with FakeUpstream(key=KEY) as up:
        up.always(echo)
        async with batching(up, tmp_path, options=WAYS[way]) as gateway, sdk(gateway) as client:
            file = await client.files.create(
                file=("my input.jsonl", jsonl(*map(line, range(10)))), purpose="batch"
            )
            assert (file.filename, file.purpose, file.status) == ("my input.jsonl", "batch", "processed")
            assert await client.files.retrieve(file.id) == file
            assert (await client.files.content(file.id)).content == jsonl(*map(line, range(10)))
            batch = await client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"course": "physics"},
            )
            assert (batch.object, batch.status, batch.metadata) == (
                "batch",
                "validating",
                {"course": "physics"},
            )
            assert batch.expires_at is not None
            assert batch.expires_at - batch.created_at == 86_400
            batch = await ended(client, batch.id)
            assert batch.status == "completed"
            assert batch.request_counts is not None
            assert batch.request_counts.to_dict() == {"total": 10, "completed": 10, "failed": 0}
            assert batch.usage is not None
            assert (batch.usage.input_tokens, batch.usage.output_tokens) == (70, 50)
            assert batch.error_file_id is None
            assert batch.completed_at is not None
            answers = await lines_of(client, batch.output_file_id)
            assert [each["custom_id"] for each in answers] == [f"line {n}" for n in range(10)]
            for number, answer in enumerate(answers):
                assert answer["error"] is None
                assert answer["response"]["status_code"] == 200
                assert answer["response"]["request_id"].startswith("req_")
                message = answer["response"]["body"]["choices"][0]["message"]
                assert message["content"] == f"Number {number}!"
            assert [each.id async for each in client.batches.list()] == [batch.id]
            with pytest.raises(openai.ConflictError):
                await client.batches.cancel(batch.id)
            output = await client.files.retrieve(batch.output_file_id or "")
            assert output.purpose == "batch_output"
            names = [each.id async for each in await client.files.list(purpose="batch")]
            assert names == [file.id]
            assert (await client.files.delete(file.id)).deleted
            with pytest.raises(openai.NotFoundError):
                await client.files.retrieve(file.id)
            # What every line used is in the ledger, as for any request
            usage = (await gateway.ask("GET", "api/usage?by=endpoint")).json
            assert usage["total"]["requests"] == 10
            assert usage["total"]["input_tokens"] == 70
        assert os.listdir(tmp_path / "batches" / "jobs") == []
        assert os.listdir(tmp_path / "batches" / "uploads") == []


async def test_what_belongs_to_others_is_not_there(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path) as gateway, sdk(gateway) as alice:
            bob = sdk(gateway, gateway.knows("t-bob", ACCESS, FULL))
            batch = await ended(alice, (await begin(alice, jsonl(line(1)))).id)
            assert [each async for each in bob.files.list()] == []
            assert [each async for each in bob.batches.list()] == []
            for ask in (
                lambda: bob.files.retrieve(batch.input_file_id),
                lambda: bob.files.content(batch.output_file_id or ""),
                lambda: bob.files.delete(batch.input_file_id),
                lambda: bob.batches.retrieve(batch.id),
                lambda: bob.batches.cancel(batch.id),
                lambda: bob.batches.create(
                    input_file_id=batch.input_file_id,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                ),
            ):
                with pytest.raises(openai.NotFoundError):
                    await ask()
            await bob.close()
            gateway.knows("t-carol", ACCESS, "custom:ai-gateway:chat:create", name="carol")
            refused = await gateway.ask("GET", "v1/batches", token="t-carol")
            assert refused.status == 403
            assert "batches:create" in refused.error["message"]


async def test_lines_that_fail_are_in_the_error_file_and_the_others_go_on(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        return Reply.error(400, "No.") if "3" in said(request) else echo(request)

    with FakeUpstream(key=KEY) as up:
        up.always(answer)
        async with batching(up, tmp_path) as gateway, sdk(gateway) as client:
            batch = await ended(client, (await begin(client, jsonl(*map(line, range(5))))).id)
            assert batch.status == "completed"
            assert batch.request_counts is not None
            assert batch.request_counts.to_dict() == {"total": 5, "completed": 4, "failed": 1}
            (failed,) = await lines_of(client, batch.error_file_id)
            assert failed["custom_id"] == "line 3"
            assert failed["response"]["status_code"] == 400
            assert failed["response"]["body"]["error"]["message"]
            assert len(await lines_of(client, batch.output_file_id)) == 4
            text, _ = gateway.service.metrics.render()
            assert b'jupyterhub_ai_gateway_batch_lines_total{outcome="ok"} 4.0' in text
            assert b'jupyterhub_ai_gateway_batch_lines_total{outcome="failed"} 1.0' in text
            assert b"jupyterhub_ai_gateway_batch_lines_in_flight 0.0" in text


async def test_a_file_that_is_wrong_fails_before_anything_is_sent(tmp_path: Path) -> None:
    content = jsonl(
        line(1),
        line(1),
        line(2, url="/v1/embeddings"),
        line(3, model="nothing"),
        line(4, method="GET"),
        {**line(5), "custom_id": 5},
        [],
        {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": {"stream": True}},
    )
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path) as gateway, sdk(gateway) as client:
            batch = await ended(client, (await begin(client, content + b"{broken\n")).id)
            assert batch.status == "failed"
            assert batch.errors is not None
            assert batch.errors.data is not None
            assert [(each.line, each.code) for each in batch.errors.data] == [
                (2, "duplicate_custom_id"),
                (3, "mismatched_endpoint"),
                (4, "model_not_found"),
                (5, "invalid_method"),
                (6, "invalid_type"),
                (7, "invalid_json_line"),
                (8, "invalid_request"),
                (9, "invalid_json_line"),
            ]
            assert (batch.output_file_id, batch.error_file_id) == (None, None)
            assert up.requests == []
            empty = await ended(client, (await begin(client, b"\n\n")).id)
            assert empty.errors is not None
            assert empty.errors.data is not None
            assert empty.errors.data[0].code == "empty_file"


async def test_a_limit_makes_the_batch_wait_and_no_line_fail(tmp_path: Path) -> None:
    limited = [endpoint("chat", None, limit={"calls": 3, "renewal_period": "second"})]
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path, limited) as gateway, sdk(gateway) as client:
            batch = await ended(client, (await begin(client, jsonl(*map(line, range(9))))).id)
            assert batch.status == "completed"
            assert batch.request_counts is not None
            assert batch.request_counts.to_dict() == {"total": 9, "completed": 9, "failed": 0}
            usage = (await gateway.ask("GET", "api/requests?limit=500")).json["requests"]
            assert any(each["status"] == 429 for each in usage), "no limit was ever met"
            assert sum(each["status"] == 200 for each in usage) == 9


async def test_a_provider_that_is_busy_is_waited_for(tmp_path: Path, expected_log: ExpectedLog) -> None:
    with FakeUpstream(key=KEY) as up:
        up.script(
            Reply.error(429, "Slow.", headers=[("retry-after-ms", "60"), ("Retry-After", "1")]),
            Reply.error(500, "Oh.", headers=[("retry-after-ms", "60")]),
        )
        up.always(echo)
        async with batching(up, tmp_path, concurrency=1) as gateway, sdk(gateway) as client:
            batch = await ended(client, (await begin(client, jsonl(line(1), line(2)))).id)
            assert batch.request_counts is not None
            assert batch.request_counts.to_dict() == {"total": 2, "completed": 2, "failed": 0}
            assert len(up.requests) == 4
            expected_log.take("openai answered 500")


async def test_cancel_keeps_what_is_answered(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(echo, lambda request: Reply.json(chat_completion("late"), before=[gate]))
        up.always(echo)
        async with batching(up, tmp_path, concurrency=1) as gateway, sdk(gateway) as client:
            batch = await begin(client, jsonl(*map(line, range(4))))
            await happened(gate.reached)
            batch = await client.batches.cancel(batch.id)
            assert batch.status == "cancelling"
            assert batch.request_counts is not None
            assert batch.request_counts.completed == 1
            gate.set()
            batch = await ended(client, batch.id)
            assert (batch.status, batch.cancelled_at is not None) == ("cancelled", True)
            answers = await lines_of(client, batch.output_file_id)
            assert [each["custom_id"] for each in answers] == ["line 0", "line 1"]
            unsent = await lines_of(client, batch.error_file_id)
            assert [each["custom_id"] for each in unsent] == ["line 2", "line 3"]
            assert {each["error"]["code"] for each in unsent} == {"batch_cancelled"}
            assert len(up.requests) == 2
            assert (await client.batches.cancel(batch.id)).status == "cancelled"


async def test_a_batch_whose_time_is_over_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(lambda request: Reply.json(chat_completion("late"), before=[gate]))
        async with batching(up, tmp_path, concurrency=1) as gateway, sdk(gateway) as client:
            batch = await begin(client, jsonl(line(0), line(1)))
            await happened(gate.reached)
            running = gateway.service.batches._runner
            assert running is not None
            ((found, _),) = running._working.values()
            found.job.expires_ms = 1
            found.poke.set()
            await asyncio.wait_for(found.halt.wait(), 10)
            gate.set()
            batch = await ended(client, batch.id)
            assert (batch.status, batch.expired_at is not None) == ("expired", True)
            (unsent,) = await lines_of(client, batch.error_file_id)
            assert unsent["error"]["code"] == "batch_expired"


async def test_a_model_that_is_withdrawn_ends_the_batch(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(lambda request: Reply.json(chat_completion("first"), before=[gate]))
        async with batching(up, tmp_path, concurrency=1) as gateway, sdk(gateway) as client:
            batch = await begin(client, jsonl(line(0), line(1)))
            await happened(gate.reached)
            catalogue = gateway.service.gateway.catalogue
            gateway.service.gateway.catalogue = type(catalogue)(
                each for each in catalogue.all if each.name != "chat"
            )
            gate.set()
            batch = await ended(client, batch.id)
            assert batch.status == "failed"
            assert batch.errors is not None
            assert batch.errors.data is not None
            assert batch.errors.data[0].code == "model_not_found"
            assert len(await lines_of(client, batch.output_file_id)) == 1
            assert len(up.requests) == 1


async def test_a_caller_whom_the_hub_forgot_ends_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "RECHECK_S", 0.0)
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(lambda request: Reply.json(chat_completion("first"), before=[gate]))
        async with batching(up, tmp_path, concurrency=1) as gateway, sdk(gateway) as client:
            batch = await begin(client, jsonl(line(0), line(1)))
            await happened(gate.reached)
            gateway.hub.users = {"bob": {"name": "bob", "groups": []}}
            ((found, _),) = gateway.service.batches._runner._working.values()  # type: ignore[union-attr]
            found.poke.set()
            await asyncio.wait_for(found.halt.wait(), 10)
            gate.set()
            batch = await ended(client, batch.id)
            assert batch.status == "failed"
            assert batch.errors is not None
            assert batch.errors.data is not None
            assert batch.errors.data[0].code == "caller_gone"
            assert len(up.requests) == 1


async def test_a_restart_goes_on_where_the_process_stopped(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(echo, lambda request: Reply.json(chat_completion("second"), before=[gate]))
        up.always(echo)
        async with batching(up, tmp_path, concurrency=1) as gateway, sdk(gateway) as client:
            batch = await begin(client, jsonl(*map(line, range(5))))
            await happened(gate.reached)
            stopping = asyncio.create_task(gateway.service.stop())
            while not gateway.service.is_draining:
                await asyncio.sleep(0)
            gate.set()
            await stopping
        assert len(up.requests) == 2, "a line was begun while the process stopped"
        async with batching(up, tmp_path) as gateway, sdk(gateway) as client:
            batch = await ended(client, batch.id)
            assert batch.request_counts is not None
            assert batch.request_counts.to_dict() == {"total": 5, "completed": 5, "failed": 0}
        assert sorted(map(said, up.requests)) == [f"Number {n}" for n in range(5)]


async def test_a_bound_that_is_smaller_after_a_restart_ends_the_batch(tmp_path: Path) -> None:
    gate = Gate()
    long = line(1)
    long["body"]["messages"][0]["content"] = "x" * 2000
    with FakeUpstream(key=KEY) as up:
        up.script(lambda request: Reply.json(chat_completion("first"), before=[gate]))
        async with batching(up, tmp_path, concurrency=1) as gateway, sdk(gateway) as client:
            batch = await begin(client, jsonl(line(0), long, line(2)))
            await happened(gate.reached)
            stopping = asyncio.create_task(gateway.service.stop())
            while not gateway.service.is_draining:
                await asyncio.sleep(0)
            gate.set()
            await stopping
        async with batching(up, tmp_path, line_bytes=1024) as gateway, sdk(gateway) as client:
            batch = await ended(client, batch.id)
            assert batch.status == "failed"
            assert batch.errors is not None
            assert batch.errors.data is not None
            assert (batch.errors.data[0].code, batch.errors.data[0].line) == ("line_too_long", 2)
            unsent = await lines_of(client, batch.error_file_id)
            assert [each["custom_id"] for each in unsent] == ["line-2", "line 2"]


async def test_other_requests_come_first(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(lambda request: Reply.json(chat_completion("slow"), before=[gate]))
        up.always(echo)
        async with batching(up, tmp_path, give_way_above=0) as gateway, sdk(gateway) as client:
            slow = asyncio.create_task(gateway.chat("slow"))
            await happened(gate.reached)
            batch = await begin(client, jsonl(line(1)))
            while (await client.batches.retrieve(batch.id)).status != "in_progress":
                await asyncio.sleep(0.02)
            runner = gateway.service.batches._runner
            assert runner is not None
            assert runner.is_crowded
            assert len(up.requests) == 1
            gate.set()
            await slow
            assert (await ended(client, batch.id)).status == "completed"


async def test_every_limit_of_what_one_caller_may_have(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.always(lambda request: Reply.json(chat_completion("Hi"), before=[gate]))
        limits = {
            "jobs_per_user": 1,
            "files_per_user": 3,
            "file_bytes": 2048,
            "bytes_per_user": 4096,
            "line_bytes": 1024,
            "lines": 2,
            "window_hours": 48,
        }
        async with batching(up, tmp_path, **limits) as gateway, sdk(gateway) as client:
            with pytest.raises(openai.APIStatusError) as refused:
                await client.files.create(file=("big", b"x" * 2049), purpose="batch")
            assert (refused.value.status_code, refused.value.code) == (413, "file_too_large")  # type: ignore[attr-defined]
            with pytest.raises(openai.APIStatusError):
                await client.files.create(file=("huge", b"x" * 200_000), purpose="batch")
            with pytest.raises(openai.BadRequestError) as refused:
                await client.files.create(file=("x", b"{}"), purpose="fine-tune")
            assert refused.value.code == "invalid_purpose"
            batch = await begin(client, jsonl(line(1), line(2)))
            with pytest.raises(openai.BadRequestError) as refused:
                await begin(client, jsonl(line(1)))
            assert refused.value.code == "quota_exceeded"
            with pytest.raises(openai.BadRequestError) as refused:
                await begin(client, jsonl(line(1)), completion_window="3d")
            assert refused.value.param == "completion_window"
            with pytest.raises(openai.BadRequestError) as refused:
                await client.files.create(file=("x", b"{}"), purpose="batch")
            assert refused.value.code == "quota_exceeded"
            gate.set()
            await ended(client, batch.id)
            for file in [each async for each in client.files.list()]:
                await client.files.delete(file.id)
            many = await ended(client, (await begin(client, jsonl(*map(line, range(3))))).id)
            assert many.errors is not None
            assert many.errors.data is not None
            assert many.errors.data[0].code == "too_many_lines"
            long = line(1)
            long["body"]["messages"][0]["content"] = "x" * 1024
            broken = await ended(client, (await begin(client, jsonl(long, line(2)))).id)
            assert broken.errors is not None
            assert broken.errors.data is not None
            assert [(each.line, each.code) for each in broken.errors.data] == [(1, "line_too_long")]


async def test_uploads_at_once_are_bounded_and_the_payer_must_be_ones_own(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path) as gateway, sdk(gateway) as client:
            desk = gateway.service.batches.desk
            assert desk is not None
            caller = await gateway.service.resolver.resolve("t-alice")
            open_ones = [await desk.upload(caller) for _ in range(4)]
            with pytest.raises(openai.BadRequestError) as refused:
                await client.files.create(file=("x", b"{}"), purpose="batch")
            assert refused.value.code == "quota_exceeded"
            open_ones[0].discard()
            file = await client.files.create(file=("x", jsonl(line(1))), purpose="batch")
            with pytest.raises(openai.PermissionDeniedError) as denied:
                await client.with_options(project="physics").batches.create(
                    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
                )
            assert denied.value.code == "unknown_project"
            for each in open_ones:
                each.discard()


async def test_answers_are_kept_as_long_as_the_caller_wants(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path) as gateway, sdk(gateway) as client:
            keep: Any = {"anchor": "created_at", "seconds": 7200}
            batch = await begin(client, jsonl(line(1)), output_expires_after=keep)
            batch = await ended(client, batch.id)
            file = await client.files.retrieve(batch.output_file_id or "")
            assert file.expires_at is not None
            assert 7199 <= file.expires_at - file.created_at <= 7201
            with pytest.raises(openai.BadRequestError) as refused:
                await begin(client, jsonl(line(1)), output_expires_after={**keep, "seconds": 5})
            assert refused.value.param == "output_expires_after"
            with pytest.raises(openai.BadRequestError):
                await begin(client, jsonl(line(1)), metadata={"a": "x" * 513})


async def test_lists_come_in_pages_and_large_files_in_pieces(tmp_path: Path) -> None:
    large = jsonl(*(line(number) for number in range(12_000)))
    assert len(large) > 1024 * 1024
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path, jobs_per_user=5) as gateway, sdk(gateway) as client:
            files = [
                (await client.files.create(file=(f"{n}.jsonl", content), purpose="batch")).id
                for n, content in enumerate((large, jsonl(line(1)), b"{}"))
            ]
            assert (await client.files.content(files[0])).content == large
            for order, expected in (("asc", files), ("desc", files[::-1])):
                page = await client.files.list(limit=1, order=order)  # type: ignore[arg-type]
                assert [each.id async for each in page] == expected
            batches = [
                (
                    await client.batches.create(
                        input_file_id=files[1], endpoint="/v1/chat/completions", completion_window="1d"
                    )
                ).id
                for _ in range(3)
            ]
            assert [each.id async for each in client.batches.list(limit=1)] == batches[::-1]
            assert (await client.batches.list(limit=3)).has_more is False
            for query in ("limit=0", "limit=x", "limit=101"):
                assert (await gateway.ask("GET", f"v1/batches?{query}")).status == 400
            assert (await gateway.ask("GET", "v1/files?order=up")).status == 400
            assert (await gateway.ask("GET", "v1/files?after=file-nobodys")).json["data"] == []
            for batch_id in batches:
                await ended(client, batch_id)


async def test_without_a_folder_there_are_no_batches(tmp_path: Path) -> None:
    async with served(None) as gateway:
        answer = await gateway.ask("POST", "v1/batches", {})
        assert (answer.status, answer.error["code"]) == (404, "no_batches")
        upload = await gateway.ask("POST", "v1/files", body=b"x")
        assert (upload.status, upload.error["code"]) == (404, "no_batches")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
        b"--x\r\nContent-Type: text/plain\r\n\r\nno name\r\n--x--\r\n",
        b"--x\r\n" + b"A: b\r\n" * 5000,
    ],
)
async def test_a_broken_form_is_refused_and_nothing_stays(tmp_path: Path, body: bytes) -> None:
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path) as gateway:
            kind = ("Content-Type", "multipart/form-data; boundary=x")
            answer = await gateway.ask("POST", "v1/files", body=body, headers=[kind])
            assert (answer.status, answer.error["code"]) == (400, "invalid_form")
            plain = await gateway.ask("POST", "v1/files", body=b"{}")
            assert plain.error["code"] == "invalid_form"
            while os.listdir(tmp_path / "batches" / "uploads"):
                await asyncio.sleep(0.01)


async def test_an_upload_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path) as gateway:
            _reader, writer = await asyncio.open_connection("127.0.0.1", gateway.service.port)
            writer.write(
                f"POST {PREFIX}v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t-alice\r\n"
                "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5000\r\n\r\n"
                '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf'.encode()
            )
            uploads = tmp_path / "batches" / "uploads"
            while not os.listdir(uploads):
                await asyncio.sleep(0.01)
            writer.close()
            while os.listdir(uploads):
                await asyncio.sleep(0.01)


async def test_who_leaves_while_an_upload_is_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, noticed, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    real, close = Desk.upload, FilesHandler.on_connection_close

    async def slow(desk: Desk, caller: Caller) -> Upload:
        upload = await real(desk, caller)
        begun.set()
        await go_on.wait()
        return upload

    def closed(handler: FilesHandler) -> None:
        close(handler)
        noticed.set()

    monkeypatch.setattr(Desk, "upload", slow)
    monkeypatch.setattr(FilesHandler, "on_connection_close", closed)
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path) as gateway:
            _reader, writer = await asyncio.open_connection("127.0.0.1", gateway.service.port)
            writer.write(
                f"POST {PREFIX}v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t-alice\r\n"
                "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5000\r\n\r\n".encode()
            )
            await begun.wait()
            writer.transport.abort()
            await noticed.wait()
            go_on.set()
            while os.listdir(tmp_path / "batches" / "uploads"):
                await asyncio.sleep(0.01)


async def test_what_is_too_old_is_deleted(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        async with batching(up, tmp_path) as gateway, sdk(gateway) as client:
            batch = await ended(client, (await begin(client, jsonl(line(1)))).id)
            runner = gateway.service.batches._runner
            assert runner is not None
            now_ms = runner.now_ms()
            runner.now_ms = lambda: now_ms + 31 * 86_400_000  # type: ignore[method-assign]
            await asyncio.to_thread(runner._delete_old)
            assert [each async for each in client.files.list()] == []
            assert [each async for each in client.batches.list()] == []
            assert batch.output_file_id is not None
            assert os.listdir(tmp_path / "batches" / "files") == []


async def test_a_bug_in_one_line_is_that_lines_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(key=KEY) as up:
        up.always(echo)
        async with batching(up, tmp_path, concurrency=1) as gateway, sdk(gateway) as client:
            serve = gateway.service.gateway.serve
            calls = []

            async def fails_once(call: Any, reply: Any) -> None:
                calls.append(call)
                if len(calls) == 1:
                    raise ZeroDivisionError
                await serve(call, reply)

            monkeypatch.setattr(gateway.service.gateway, "serve", fails_once)
            batch = await ended(client, (await begin(client, jsonl(line(1), line(2)))).id)
            assert batch.request_counts is not None
            assert batch.request_counts.to_dict() == {"total": 2, "completed": 2, "failed": 0}
            assert all(call.is_batch for call in calls)
            expected_log.take("uncaught exception for a line")


async def test_the_token_is_nowhere_on_disk_and_answers_are_not_in_the_database(tmp_path: Path) -> None:
    with FakeUpstream(key=KEY) as up:
        up.always(Reply.json(chat_completion("canary-answer")))
        async with batching(up, tmp_path) as gateway, sdk(gateway) as client:
            batch = await ended(client, (await begin(client, jsonl(line(1)))).id)
            assert batch.status == "completed"
        database = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.sqlite*"))
        assert b"canary-answer" not in database
        assert b"Number 1" not in database
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or b"t-alice" not in path.read_bytes()
        assert Database(f"sqlite:///{tmp_path}/ledger.sqlite", day_of=utc_day).version() == "0004"


async def test_a_key_may_do_no_more_in_a_batch_and_ends_it_when_revoked(tmp_path: Path) -> None:
    gate = Gate()
    with FakeUpstream(key=KEY) as up:
        up.script(lambda request: Reply.json(chat_completion("first"), before=[gate]))
        endpoints = [endpoint("chat", up), endpoint("other", up)]
        config = {"keys": {"enabled": True}}
        async with batching(up, tmp_path, endpoints, config, concurrency=1) as gateway:
            gateway.knows("t-root", ACCESS, FULL, "custom:ai-gateway:admin", name="root")
            wish = {"name": "ci", "scopes": ["all"], "endpoints": ["chat"], "expires": "1d"}
            made = await gateway.ask("POST", "api/keys", wish, token="t-root")
            assert made.status in (200, 201), made.body
            async with sdk(gateway, made.json["key"]) as client:
                beyond = await ended(client, (await begin(client, jsonl(line(0, "other")))).id)
                assert beyond.errors is not None
                assert beyond.errors.data is not None
                assert beyond.errors.data[0].code == "model_not_allowed"
                batch = await begin(client, jsonl(line(0), line(1)))
                await happened(gate.reached)
                runner = gateway.service.batches._runner
                assert runner is not None
                ((found, _),) = runner._working.values()
                caller = found._caller
                assert (caller.key, caller.endpoints) == ("key:ci", ("chat",))
                assert await runner.rights(caller) == caller
                assert (await gateway.ask("DELETE", "api/keys/ci", token="t-root")).status == 204
                assert await runner.rights(caller) is None
                found._recheck_at = 0.0
                found.poke.set()
                await asyncio.wait_for(found.halt.wait(), 10)
                gate.set()
            desk = gateway.service.batches.desk
            assert desk is not None
            while (await desk.job(caller, batch.id)).ended_ms is None:
                await asyncio.sleep(0.02)
            row = await desk.job(caller, batch.id)
            assert (row.status, row.completed) == ("failed", 1)
            assert "caller_gone" in (row.errors or "")
