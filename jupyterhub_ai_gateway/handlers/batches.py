"""OpenAI's paths of files and batches. FIRST's are in `federated`; behind both is the same store.

Settings of the application that are read: `batches`, and what `openai` names.

Source: https://platform.openai.com/docs/api-reference/files and /batch (read 2026-11).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from tornado import web
from typing_extensions import override

from ..auth import project_from_headers
from ..batches import Desk, Upload
from ..errors import Fault, NotFound, RequestFault
from ..storage import FileRow, JobRow
from ..vocabulary import Caller, Operation
from .multipart import Begin, Form
from .openai import CallerHandler

RUN_BATCHES = Operation("batches", "batches:create", "", "/batches")
PIECE_BYTES = 256 * 1024
MAX_FIELD_BYTES = 1024
_FORM_BYTES = 64 * 1024
_MOST_FILES, _MOST_JOBS = 10_000, 100


class BatchHandler(CallerHandler):
    """What they share: whose files and jobs, and the desk that keeps them."""

    caller: Caller
    project: str | None = None

    @override
    async def prepare(self) -> None:
        self.project = project_from_headers(self.request.headers)
        self.caller = await self.gateway.identify(await self.call(RUN_BATCHES))

    @property
    def desk(self) -> Desk:
        """Return who keeps files and jobs; `NotFound` where nobody does."""
        desk: Desk | None = self.settings["batches"]
        if desk is None:
            raise NotFound("This gateway runs no batches.", slug="no_batches")
        return desk

    def write_json(self, document: object) -> None:
        """Write an answer."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document))

    def document(self) -> dict[str, Any]:
        """Return the body, a JSON object."""
        try:
            found = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise RequestFault("The request's body is not valid JSON.", slug="invalid_json") from None
        if not isinstance(found, dict):
            raise RequestFault("The request's body must be a JSON object.", slug="invalid_json")
        return found

    def number(self, name: str, default: int, most: int) -> int:
        """Return a number of the query."""
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= most:
            raise RequestFault(f"{name} must be a whole number from 1 to {most}.", param=name)
        return int(text)

    def write_page(self, found: Sequence[dict[str, Any]], limit: int) -> None:
        """Write a list of up to `limit`, of which one more was asked for."""
        page = found[:limit]
        self.write_json(
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": len(found) > limit,
            }
        )


@web.stream_request_body
class FilesHandler(BatchHandler):
    """`POST /v1/files` takes a file in, piece by piece; `GET` lists them."""

    methods = "GET, POST"

    @override
    def initialize(self) -> None:
        self._upload: Upload | None = None
        self._is_gone = False  # True once nobody is there any more who could send the rest
        self._form: Form | None = None
        self._fault: Fault | None = None  # why the rest of the body is passed over
        self._fields: dict[str, bytes] = {}
        self._filename: str | None = None
        self._field: str | None = None  # the field whose content is being read, None for the file

    @override
    async def prepare(self) -> None:
        await super().prepare()
        if self.request.method == "POST":
            desk = self.desk
            connection: Any = self.request.connection
            connection.set_max_body_size(desk.config.file_bytes + _FORM_BYTES)
            self._form = Form(self.request.headers.get("Content-Type", ""))
            self._upload = await desk.upload(self.caller)
            if self._is_gone:  # while it was begun
                self._discard()

    @override
    async def data_received(self, chunk: bytes) -> None:
        if self._form is None or self._fault is not None or self._is_gone:
            return
        try:
            for event in self._form.feed(chunk):
                if isinstance(event, Begin):
                    self._begin(event)
                else:
                    await self._take(event.data)
        except Fault as fault:
            self._fault = fault

    def _begin(self, part: Begin) -> None:
        if part.name == "file":
            if self._filename is not None:
                raise RequestFault("Send one file at a time.", slug="invalid_form", param="file")
            self._field, self._filename = None, part.filename or ""
        else:
            self._field = part.name
            self._fields[part.name] = b""

    async def _take(self, data: bytes) -> None:
        if self._field is None:
            assert self._upload is not None  # noqa: S101 - prepared with the form
            await asyncio.to_thread(self._upload.write, data)
            return
        self._fields[self._field] += data
        if len(self._fields[self._field]) > MAX_FIELD_BYTES:
            raise RequestFault("A field of the form is too long.", slug="invalid_form")

    @override
    async def post(self) -> None:
        if self._fault is not None:
            raise self._fault
        assert self._form is not None  # noqa: S101 - prepared for this method
        assert self._upload is not None  # noqa: S101
        self._form.close()
        if self._filename is None:
            raise RequestFault("The form has no file.", slug="invalid_form", param="file")
        purpose = self._fields.get("purpose", b"").decode("utf-8", "replace")
        row = await self.desk.keep(self.caller, self._upload, self._filename, purpose, self._expires_s())
        self.write_json(file_object(row))

    def _expires_s(self) -> int | None:
        text = self._fields.get("expires_after[seconds]")
        if text is None:
            return None
        if not text.isdigit() or not 3600 <= int(text[:9]) <= 2_592_000:
            raise RequestFault(
                "expires_after must be from 3600 to 2592000 seconds.", param="expires_after[seconds]"
            )
        return int(text)

    @override
    async def get(self) -> None:
        limit = self.number("limit", _MOST_FILES, _MOST_FILES)
        order = self.get_query_argument("order", "desc")
        if order not in ("asc", "desc"):
            raise RequestFault("order must be asc or desc.", param="order")
        purpose, after = self.get_query_argument("purpose", None), self.get_query_argument("after", None)
        rows = await self.desk.files(self.caller, purpose, after, limit + 1, order == "asc")
        self.write_page([file_object(row) for row in rows], limit)

    @override
    def on_finish(self) -> None:
        self._discard()

    @override
    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._is_gone = True
        self._discard()

    def _discard(self) -> None:
        if self._upload is not None:
            self._upload.discard()


class FileHandler(BatchHandler):
    """`GET` and `DELETE /v1/files/{id}`."""

    methods = "GET, DELETE"

    @override
    async def get(self, file_id: str) -> None:
        self.write_json(file_object(await self.desk.file(self.caller, file_id)))

    @override
    async def delete(self, file_id: str) -> None:
        await self.desk.delete_file(self.caller, file_id)
        self.write_json({"id": file_id, "object": "file", "deleted": True})


class FileContentHandler(BatchHandler):
    """`GET /v1/files/{id}/content`: the file itself, piece by piece."""

    methods = "GET"

    @override
    async def get(self, file_id: str) -> None:
        row = await self.desk.file(self.caller, file_id)
        try:
            file = await asyncio.to_thread(self.desk.folder.file(row.id).open, "rb")
        except OSError:
            raise NotFound("This file is not there any more.", slug="file_not_found") from None
        try:
            self.set_header("Content-Type", "application/octet-stream")
            self.set_header("Content-Disposition", "attachment")
            self.set_header("Content-Length", str(row.bytes))
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                self.write(piece)
                await self.flush()
        finally:
            file.close()


class BatchesHandler(BatchHandler):
    """`POST /v1/batches` takes a job in; `GET` lists them."""

    methods = "GET, POST"

    @override
    async def post(self) -> None:
        document = self.document()
        row = await self.desk.create(
            self.caller,
            self.project,
            input_file_id=document.get("input_file_id"),
            endpoint=document.get("endpoint"),
            window=document.get("completion_window"),
            metadata=document.get("metadata"),
            keep=document.get("output_expires_after"),
        )
        self.write_json(batch_object(row))

    @override
    async def get(self) -> None:
        limit = self.number("limit", 20, _MOST_JOBS)
        rows = await self.desk.jobs(
            self.caller, after=self.get_query_argument("after", None), limit=limit + 1
        )
        self.write_page([batch_object(row) for row in rows], limit)


class OneBatchHandler(BatchHandler):
    """`GET /v1/batches/{id}`."""

    methods = "GET"

    @override
    async def get(self, job_id: str) -> None:
        self.write_json(batch_object(await self.desk.job(self.caller, job_id)))


class CancelBatchHandler(BatchHandler):
    """`POST /v1/batches/{id}/cancel`."""

    methods = "POST"

    @override
    async def post(self, job_id: str) -> None:
        self.write_json(batch_object(await self.desk.cancel(self.caller, job_id)))


def file_object(row: FileRow) -> dict[str, Any]:
    """Describe a file as OpenAI does."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": row.created_ms // 1000,
        "expires_at": row.expires_ms // 1000,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(row: JobRow) -> dict[str, Any]:
    """Describe a job as OpenAI does; one of FIRST's form says more in fields of ours."""
    ended: dict[str, int | None] = {
        f"{each}_at": None for each in ("completed", "failed", "expired", "cancelled")
    }
    if row.ended_ms is not None:
        ended[f"{row.status}_at"] = _seconds(row.ended_ms)
    found = {
        "id": row.id,
        "object": "batch",
        "endpoint": row.url or "any",
        "model": row.model,
        "errors": None if row.errors is None else msgspec.json.decode(row.errors),
        "input_file_id": row.input,
        "completion_window": row.completion_window,
        "status": row.status,
        "output_file_id": row.output_file if row.has_output else None,
        "error_file_id": row.error_file if row.has_errors else None,
        "created_at": _seconds(row.created_ms),
        "in_progress_at": _seconds(row.begun_ms),
        "expires_at": _seconds(row.expires_ms),
        "finalizing_at": _seconds(row.finalizing_ms),
        "cancelling_at": _seconds(row.cancelling_ms),
        **ended,
        "request_counts": {"total": row.total, "completed": row.completed, "failed": row.failed},
        "metadata": None if row.notes is None else msgspec.json.decode(row.notes),
    }
    if row.input_tokens is not None or row.output_tokens is not None:
        into, out = row.input_tokens or 0, row.output_tokens or 0
        found["usage"] = {
            "input_tokens": into,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": into + out,
        }
    return found


def _seconds(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms // 1000


_FILES = (
    ("files", FilesHandler),
    ("files/([^/]+)", FileHandler),
    ("files/([^/]+)/content", FileContentHandler),
)
_BATCHES = (
    ("batches", BatchesHandler),
    ("batches/([^/]+)", OneBatchHandler),
    ("batches/([^/]+)/cancel", CancelBatchHandler),
)

ROUTES: Sequence[tuple[str, type[web.RequestHandler], dict[str, Any]]] = (
    *((f"{base}{path}", handler, {}) for base in ("v1/", "") for path, handler in (*_FILES, *_BATCHES)),
    *((f"resource_server/v1/{path}", handler, {}) for path, handler in _FILES),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
