"""The hot paths without a RequestHandler: a delegate of the server that hands calls to the gateway.

It takes POST requests of the operations that name their caller by a header. Everything else, such as a
request from our own pages with their cookie, goes to the application, whose handlers of the same paths
(`openai`) do the same by the same gateway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import NamedTuple, Protocol, cast

from tornado import httputil
from typing_extensions import override

from ..auth import has_credentials, project_from_headers, token_from_headers
from ..dialects.dialect import DIALECT_OF
from ..dialects.faults import JSON, error_object
from ..dialects.multipart import is_form
from ..errors import Fault, RequestFault
from ..gateway import Call, Gateway, Reply, answer_fault
from ..uploads import Upload
from ..vocabulary import UPLOADS, Operation, Place, Wishes
from .speakers import MISTRALS, is_mistral
from .tasks import RequestIds, Tasks
from .wire import Wire, wire_of
from .wishes import wishes_from_headers

log = logging.getLogger(__name__)


class HotPath(NamedTuple):
    """What a path of the lane says: the operation, and what others have in their body and headers.

    `model`, `streams` and `key` are of Google's paths alone; `streams` is as `Call.path_streams`.
    """

    operation: Operation
    model: str | None = None
    streams: str = ""
    key: str | None = None


class HotPaths(Protocol):
    """Knows the lane's paths."""

    def find(self, target: str) -> HotPath | None:
        """Find what a request's target asks for; None for what the application answers."""


class Places(Protocol):
    """Paths that name an operation and a place, and how they are answered."""

    def find(self, path: str) -> tuple[Operation, Place] | None:
        """Return what a whole path stands for."""

    async def serve(self, gateway: Gateway, call: Call, reply: Reply) -> None:
        """Answer a call to such a path."""


class Lane(httputil.HTTPServerConnectionDelegate):
    """Stands between the server and the application.

    `paths` finds what a request's target asks for, `places` knows others; a body may have `max_body_bytes`.
    """

    def __init__(
        self,
        application: httputil.HTTPServerConnectionDelegate,
        gateway: Gateway,
        paths: HotPaths,
        ids: RequestIds,
        tasks: Tasks,
        max_body_bytes: int,
        places: Places | None = None,
    ) -> None:
        self.places = places
        self.application = application
        self.gateway = gateway
        self.paths = paths
        self.ids = ids
        self.tasks = tasks
        self.max_body_bytes = max_body_bytes

    @override
    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        return _Arrival(self, server_conn, request_conn)

    @override
    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)

    def read(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> _Said:
        """Read a request's head."""
        if start_line[0] != "POST":
            return _NOT_OURS
        target = cast(str, start_line[1])
        path, place = self.paths.find(target), None
        if path is not None and path.operation in MISTRALS and is_mistral(headers):
            path = path._replace(operation=MISTRALS[path.operation])
        if path is None and self.places is not None:
            found = self.places.find(target)
            if found is not None:
                path, place = HotPath(found[0]), found[1]
        if path is None or ("Cookie" in headers and not has_credentials(headers)):
            return _NOT_OURS
        fault = encoding_fault(headers)
        return _Said(
            path,
            place,
            token_from_headers(headers) or path.key,
            betas_of(path.operation, headers),
            project_from_headers(headers),
            wishes_from_headers(headers),
            fault,
            path.operation in UPLOADS and fault is None and is_form(headers.get("Content-Type", "")),
        )


class _Said(NamedTuple):
    """What the head of a request says. `path` is None for one that is the application's.

    `fault` is why it will be refused, once it has arrived.
    """

    path: HotPath | None
    place: Place | None = None
    token: str | None = None
    betas: str | None = None
    project: str | None = None
    wishes: Wishes | None = None
    fault: RequestFault | None = None
    is_form: bool = False


_NOT_OURS = _Said(None)


class _Arrival(httputil.HTTPMessageDelegate):
    """One request while it arrives, and the task that answers it afterwards."""

    __slots__ = (
        "_connection",
        "_fault",
        "_lane",
        "_other",
        "_pieces",
        "_said",
        "_server_conn",
        "_task",
        "_upload",
    )

    def __init__(self, lane: Lane, server_conn: object, connection: httputil.HTTPConnection) -> None:
        self._lane = lane
        self._server_conn = server_conn
        self._connection = connection
        self._other: httputil.HTTPMessageDelegate | None = None  # the application's, when it is its request
        self._said = _NOT_OURS
        self._fault: RequestFault | None = None
        self._pieces: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._upload: Upload | None = None  # a form, which is answered while it arrives

    @override
    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        lane = self._lane
        notes = getattr(headers, "notes", None)  # shared by requests of the same head
        said: _Said | None = None if notes is None else notes.get(lane)
        if said is None:
            said = lane.read(start_line, headers)
            if notes is not None:
                notes[lane] = said
        if said.path is None:
            self._other = lane.application.start_request(self._server_conn, self._connection)
            return self._other.headers_received(start_line, headers)
        self._said, self._fault = said, said.fault
        self._connection.set_max_body_size(lane.max_body_bytes)  # type: ignore[attr-defined]  # HTTP/1 only
        if said.is_form:
            self._begin_upload(said.path.operation, headers)
        return None

    def _begin_upload(self, operation: Operation, headers: httputil.HTTPHeaders) -> None:
        lane = self._lane
        try:
            upload = upload_of(headers, lane.gateway)
        except RequestFault as fault:
            self._fault = fault
            return
        self._upload = upload
        said = self._said
        call = Call(operation, b"", lane.ids.next(), said.token, project=said.project, upload=upload)
        self._task = call.task = lane.tasks.start(self._answer(call, wire_of(self._connection)))

    @override
    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._other is not None:
            return self._other.data_received(chunk)
        if self._upload is not None:
            return self._upload.feed(chunk)
        if self._fault is None:
            self._pieces.append(chunk)
        return None

    @override
    def finish(self) -> None:
        if self._other is not None:
            self._other.finish()
            return
        if self._upload is not None:
            self._upload.end()
            self._connection.set_close_callback(self._leave)  # type: ignore[attr-defined]  # HTTP/1 only
            return
        lane, said = self._lane, self._said
        path = cast(HotPath, said.path)
        request_id = lane.ids.next()
        if self._fault is not None:
            dialect = DIALECT_OF[path.operation]
            answer_fault(wire_of(self._connection), self._fault, request_id, (), dialect)
            return
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        call = Call(path.operation, body, request_id, said.token, None, said.betas, path.model)
        call.project, call.path_streams = said.project, path.streams
        call.wishes, call.place = said.wishes, said.place
        self._task = call.task = lane.tasks.start(self._answer(call, wire_of(self._connection)))
        self._connection.set_close_callback(self._leave)  # type: ignore[attr-defined]  # HTTP/1 only

    async def _answer(self, call: Call, wire: Wire) -> None:
        try:
            if call.place is None:
                await self._lane.gateway.serve(call, wire)
            else:
                await cast(Places, self._lane.places).serve(self._lane.gateway, call, wire)
        except Exception:  # the door between the gateway and its callers: a bug answers 500
            log.exception("%s: uncaught exception", call.id)
            answer_bug(wire, call.id)
        finally:
            if call.upload is not None:
                call.upload.close()
            self._lane.tasks.ended(self._task)

    @override
    def on_connection_close(self) -> None:
        if self._other is not None:
            self._other.on_connection_close()
        else:
            self._leave()

    def _leave(self) -> None:
        if self._task is not None:
            self._lane.tasks.end(self._task)


def upload_of(headers: httputil.HTTPHeaders, gateway: Gateway) -> Upload:
    """Return the form that a request with these headers brings. `RequestFault` when it cannot be read."""
    return Upload(headers["Content-Type"], headers.get("Content-Length"), gateway.holding)


def answer_bug(wire: Wire, request_id: str) -> None:
    """Answer 500, or cut an answer that has begun; the log has the rest."""
    fault = Fault("Something went wrong here; the gateway's log says what.")
    headers = [*JSON, ("x-request-id", request_id)]
    try:
        wire.respond(fault.status, headers, error_object(fault))
    except RuntimeError:  # it has begun
        wire.abort()


def betas_of(operation: Operation, headers: httputil.HTTPHeaders) -> str | None:
    """Return what the caller's SDK may say to the provider."""
    dialect = DIALECT_OF.get(operation)
    return None if dialect is None or dialect.beta_header is None else headers.get(dialect.beta_header)


def encoding_fault(headers: httputil.HTTPHeaders) -> RequestFault | None:
    """Return the fault of a compressed body: nothing here would unpack it."""
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return None
    return RequestFault(
        "The request's body is compressed (Content-Encoding); send it as it is.",
        slug="unsupported_encoding",
        status=415,
    )
