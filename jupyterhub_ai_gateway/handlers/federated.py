"""FIRST's paths, below `/resource_server/`: by cluster and framework, or federated, and its own batches.

The same requests as everywhere: only where the model is looked for, and how failures are told, is FIRST's.
Nothing is sent between events, and no usage that was not asked for: FIRST's clients read every line of a
stream as a chunk with a choice.

Source: FIRST's guide and its server (github.com/auroraGPT-ANL/inference-gateway, read 2026-11).
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

import msgspec
from tornado import web
from typing_extensions import override

from ..auth import TokenResolver
from ..dialects.faults import error_object
from ..dialects.openai_stream import KEEP_ALIVE
from ..errors import LATER, Fault, NotFound, RequestFault
from ..gateway import Call, Gateway, Reply, answer_fault
from ..router import Deployment, Endpoint
from ..router.federation import state_of
from ..storage import JobRow
from ..vocabulary import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    FEDERATED,
    MESSAGES,
    RESPONSES,
    Caller,
    Operation,
    Place,
)
from .base import BaseHandler
from .batches import BatchHandler
from .openai import LIST_MODELS, CallerHandler, InvocationHandler, ModelsHandler, model_card

BASE = "resource_server/"
PLACED = r"([^/]+)/([^/]+)/v1/"
OPERATIONS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)
_TIMED = (CHAT, COMPLETIONS, EMBEDDINGS)

CODES: Mapping[str, str] = {
    "missing_api_key": "unauthorized",
    "invalid_api_key": "unauthorized",
    "insufficient_scope": "access_denied",
    "model_not_allowed": "access_denied",
    "unknown_project": "access_denied",
    "unpriced_model": "access_denied",
    "wrong_format": "unsupported_endpoint",
    "wrong_endpoint_type": "unsupported_endpoint",
    "rate_limit_exceeded": "too_many_requests",
    "insufficient_quota": "too_many_requests",
    "no_batches": "batch_unavailable",
    "upstream_error": "internal_endpoint_error",
    "upstream_overloaded": "internal_endpoint_error",
    "upstream_auth_error": "internal_endpoint_error",
    "upstream_not_found": "internal_endpoint_error",
    "upstream_unreachable": "internal_endpoint_error",
    "upstream_broken": "internal_endpoint_error",
    "upstream_timeout": "request_timeout",
}
"""What FIRST calls our failures. The gateway's own code is in `info.code`."""

STATES: Mapping[str, str] = {
    "in_progress": "running",
    "finalizing": "running",
    "cancelling": "running",
    "completed": "completed",
    "failed": "failed",
    "expired": "failed",
    "cancelled": "failed",
}
"""FIRST's word for each state of a batch; `validating` is pending until a process has begun on it."""


def first_error(body: bytes, is_placed: bool) -> bytes:
    """Turn an error object into FIRST's: its code, and what else is known in `info`."""
    try:
        document = msgspec.json.decode(body)
        error = document["error"]
        own = error.get("code")
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return body
    known = {"message", "type", "param", "code"}
    info = {"code": own, **{name: value for name, value in error.items() if name not in known}}
    code = "endpoint_not_found" if own == "model_not_found" and is_placed else CODES.get(own, own)
    document["error"] = {
        **{name: value for name, value in error.items() if name in known},
        "code": code,
        "info": info,
    }
    return msgspec.json.encode(document)


class _FirstReply:
    """Passes an answer on as FIRST's clients want it."""

    def __init__(self, reply: Reply, operation: Operation, is_placed: bool) -> None:
        self._reply = reply
        self._is_timed = operation in _TIMED
        self._is_placed = is_placed
        self._began = time.monotonic()

    def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        if status >= 400:
            body = first_error(body, self._is_placed)
        elif self._is_timed:
            body = with_times(body, time.monotonic() - self._began)
        self._reply.respond(status, headers, body)

    def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self._reply.begin(status, headers)

    def send(self, piece: bytes) -> Awaitable[None] | None:
        return None if piece == KEEP_ALIVE else self._reply.send(piece)

    def end(self) -> None:
        self._reply.end()

    def abort(self) -> None:
        self._reply.abort()


def with_times(body: bytes, took_s: float) -> bytes:
    """Add how long an answer took, and its tokens per second, to what the provider said."""
    try:
        fields: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        usage = msgspec.json.decode(fields["usage"]) if "usage" in fields else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body
    fields["response_time"] = msgspec.Raw(msgspec.json.encode(round(took_s, 6)))
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    if isinstance(total, int) and took_s > 0:
        speed = msgspec.json.encode(round(total / took_s, 3))
        fields["throughput_tokens_per_second"] = msgspec.Raw(speed)
    return msgspec.json.encode(fields)


def paths_of(operation: Operation) -> tuple[str, ...]:
    """Return what follows a place: Anthropic's SDKs add a version to a base URL that has one already."""
    return (f"v1{operation.path}", *((f"v1/v1{MESSAGES.path}",) if operation is MESSAGES else ()))


class FirstLane:
    """The same paths for the lane, without a handler. `prefix` begins and ends with a slash."""

    def __init__(self, prefix: str) -> None:
        self._marks = tuple(f"{base}{BASE}" for base in dict.fromkeys((prefix, "/")))
        self._federated = {path: each for each in OPERATIONS for path in paths_of(each)}

    def find(self, path: str) -> tuple[Operation, Place] | None:
        """Return what a whole path stands for; None for all that the handlers answer."""
        mark = next((each for each in self._marks if path.startswith(each)), None)
        if mark is None:
            return None
        rest = path[len(mark) :].partition("?")[0]
        operation = self._federated.get(rest)
        if operation is not None:
            return operation, FEDERATED
        steps = rest.split("/", 2)
        operation = self._federated.get(steps[2]) if len(steps) == 3 else None
        return None if operation is None else (operation, Place(unquote(steps[0]), unquote(steps[1])))

    async def serve(self, gateway: Gateway, call: Call, reply: Reply) -> None:
        """Answer a call to such a path."""
        is_placed = call.place != FEDERATED
        own = _FirstReply(reply, call.operation, is_placed)
        if is_placed:
            try:
                await check_place(gateway, call)
            except Fault as fault:
                answer_fault(own, fault, call.id, ())
                return
        await gateway.serve(call, own)


class FirstHandler(CallerHandler):
    """A handler that tells failures in FIRST's words."""

    is_placed = False

    @override
    def write_fault(self, fault: Fault) -> None:
        write_first_fault(self, fault, self.is_placed)


def write_first_fault(handler: web.RequestHandler, fault: Fault, is_placed: bool) -> None:
    """Write a failure in FIRST's words."""
    handler.set_header("Content-Type", "application/json")
    handler.finish(first_error(error_object(fault), is_placed))


@web.stream_request_body
class FirstInvocationHandler(InvocationHandler):
    """`POST /resource_server/v1/…`, and the same below a cluster and a framework."""

    is_placed = False

    @override
    def initialize(self, operation: Operation) -> None:
        super().initialize(operation)
        self.place = FEDERATED

    @override
    def prepare(self) -> None:
        if len(self.path_args) == 2:
            self.place, self.is_placed = Place(*self.path_args), True
        super().prepare()

    @override
    async def check(self, call: Call) -> None:
        if self.is_placed:
            await check_place(self.gateway, call)

    @override
    def reply_to(self, call: Call) -> Reply:
        return _FirstReply(super().reply_to(call), self.operation, self.is_placed)

    @override
    def write_fault(self, fault: Fault) -> None:
        write_first_fault(self, fault, self.is_placed)


class FirstModelsHandler(ModelsHandler):
    """`GET …/v1/models`: what OpenAI's clients ask for."""

    @override
    async def get(self, cluster: str = "", framework: str = "") -> None:
        caller = await self.identify()
        place = Place(cluster, framework)
        if place != FEDERATED:
            require_place(self.gateway.catalogue.all, caller, place)
        created = self.settings["loaded_at"]()
        found = self.gateway.catalogue.at_place(place).open_to(caller)
        self.write_json({"object": "list", "data": [model_card(each, created) for each in found]})

    @override
    def write_fault(self, fault: Fault) -> None:
        write_first_fault(self, fault, True)


class FirstHealthHandler(BaseHandler):
    """`GET /resource_server/health`."""

    @override
    def get(self) -> None:
        self.finish({"status": "ok"})


class FirstStatusHandler(CallerHandler):
    """`GET /resource_server/status`: which clusters, of those that are open to everybody, take requests."""

    @override
    def get(self) -> None:
        now = time.monotonic()
        clusters: dict[str, bool] = {}
        for endpoint in self.gateway.catalogue.all:
            if endpoint.scope is None and not endpoint.is_hidden:
                for place, deployment in _places(endpoint):
                    is_up = state_of(deployment, now) != "maintenance"
                    clusters[place.cluster] = clusters.get(place.cluster, False) or is_up
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(clusters))


class FirstCallerHandler(FirstHandler):
    """What needs a caller, and no operation in particular."""

    async def identify(self) -> Caller:
        """Name the caller, who may list models."""
        return await self.gateway.identify(await self.call(LIST_MODELS))

    def write_json(self, document: object, status: int = 200) -> None:
        """Write an answer; one can be a bare text."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document))


class WhoamiHandler(FirstCallerHandler):
    """`GET /resource_server/whoami`."""

    @override
    async def get(self) -> None:
        resolver: TokenResolver = self.settings["resolver"]
        caller = await self.gateway.name(await self.call(LIST_MODELS))
        if not caller.has_access:
            resolver.rules.require(caller, LIST_MODELS.scope)  # names the missing access
        self.write_json(
            {
                "id": caller.key,
                "name": caller.name,
                "username": caller.name,
                "user_group_uuids": sorted(caller.groups),
                "idp_id": None,
                "idp_name": "JupyterHub",
                "auth_service": "jupyterhub",
            }
        )


class ListEndpointsHandler(FirstCallerHandler):
    """`GET /resource_server/list-endpoints`: what the caller may use, by cluster and framework."""

    @override
    async def get(self) -> None:
        caller = await self.identify()
        names: dict[Place, set[str]] = {}
        paths: dict[Place, set[str]] = {}
        for endpoint in self.gateway.catalogue.open_to(caller):
            for place, deployment in _places(endpoint):
                names.setdefault(place, set()).update(_names(endpoint, deployment))
                served = {f"/v1{each.path}" for each in OPERATIONS if each in deployment.targets}
                paths.setdefault(place, set()).update(served)
        clusters: dict[str, Any] = {}
        for place in sorted(names):
            cluster = clusters.setdefault(
                place.cluster, {"base_url": f"/{BASE}{place.cluster}", "frameworks": {}}
            )
            cluster["frameworks"][place.framework] = {
                "models": sorted(names[place]),
                "endpoints": sorted(paths[place]),
            }
        self.write_json({"clusters": clusters})


class ClusterJobsHandler(FirstCallerHandler):
    """`GET /resource_server/{cluster}/jobs`: how its models are, and the caller's batches there."""

    @override
    async def get(self, cluster: str) -> None:
        caller = await self.identify()
        require_place(self.gateway.catalogue.all, caller, Place(cluster, ""))
        groups: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("running", "queued", "stopped", "others")
        }
        now = time.monotonic()
        for endpoint in self.gateway.catalogue.open_to(caller):
            for place, deployment in _places(endpoint):
                if place.cluster == cluster:
                    state = state_of(deployment, now)
                    group = _GROUPS.get(state, "others")
                    groups[group].append(_model_job(endpoint, deployment, place, state))
        batches = await self._batches(caller, cluster)
        total = sum(map(len, groups.values()))
        self.write_json(
            {
                **groups,
                "private_batch_running": [each for each in batches if each["Batch Status"] == "running"],
                "private_batch_queued": [each for each in batches if each["Batch Status"] == "pending"],
                "cluster_status": {
                    "cluster": cluster,
                    "total_models": total,
                    "live_models": len(groups["running"]),
                    "stopped_models": len(groups["stopped"]),
                },
            }
        )

    async def _batches(self, caller: Caller, cluster: str) -> list[dict[str, Any]]:
        desk = self.settings["batches"]
        rows = await desk.jobs(caller, limit=1000) if desk is not None else []
        return [
            {
                "Models": row.model or "",
                "Framework": row.framework or "",
                "Cluster": row.cluster,
                "Batch ID": row.id,
                "Batch Status": first_status(row),
            }
            for row in rows
            if row.cluster == cluster
        ]


_GROUPS: Mapping[str, str] = {
    "running": "running",
    "queued": "queued",
    "maintenance": "stopped",
    "offline": "stopped",
}


# FIRST's batches


class FirstBatchHandler(BatchHandler):
    """What FIRST's batches share."""

    @override
    def write_fault(self, fault: Fault) -> None:
        write_first_fault(self, fault, False)


class FirstBatchesHandler(FirstBatchHandler):
    """`POST …/v1/batches` takes a job in; `GET /resource_server/v1/batches` lists them."""

    methods = "GET, POST"

    @override
    async def post(self, *names: str) -> None:
        place = Place(*names) if len(names) == 2 else FEDERATED
        if place != FEDERATED:
            require_place(self.gateway.catalogue.all, self.caller, place)
        asked = _asked(self.document())
        row = await self.desk.create_for(
            self.caller,
            self.project,
            place,
            input_=asked["input_file"],
            model=asked["model"],
            output_folder=asked["output_folder_path"],
        )
        self.write_json(
            {
                "batch_id": row.id,
                "input_file": row.input,
                "output_folder_path": row.output_folder or "",
                "task_ids": "",
                "status": first_status(row),
            }
        )

    @override
    async def get(self) -> None:
        wanted = self.get_query_argument("status", None)
        if wanted is not None and wanted not in ("pending", *STATES.values()):
            raise RequestFault("status must be pending, running, completed or failed.", param="status")
        rows = await self.desk.jobs(self.caller)
        items = [_list_item(row) for row in rows]
        self.write_json([each for each in items if wanted in (None, each["status"])])


class FirstBatchStatusHandler(FirstBatchHandler):
    """`GET /resource_server/v1/batches/{id}`: a bare text."""

    @override
    async def get(self, job_id: str) -> None:
        self.write_json(first_status(await self.desk.job(self.caller, job_id)))


class FirstBatchResultHandler(FirstBatchHandler):
    """`GET /resource_server/v1/batches/{id}/result`: a text that holds JSON."""

    @override
    async def get(self, job_id: str) -> None:
        row = await self.desk.job(self.caller, job_id)
        status = first_status(row)
        if status in ("pending", "running"):
            raise RequestFault(f"The batch is {status}; it has no result yet.", slug="batch_ongoing")
        if status == "failed":
            raise RequestFault(_why(row), slug="batch_failed")
        self.write_json(json.dumps(first_result(row)))


class FirstCancelBatchHandler(FirstBatchHandler):
    """`POST /resource_server/v1/batches/{id}/cancel`, which FIRST itself has not."""

    methods = "POST"

    @override
    async def post(self, job_id: str) -> None:
        self.write_json(first_status(await self.desk.cancel(self.caller, job_id)))


def first_status(row: JobRow) -> str:
    """Return FIRST's word for how a job is."""
    return STATES.get(row.status) or ("running" if row.worker else "pending")


def first_result(row: JobRow) -> dict[str, Any]:
    """Say what came of a job that is complete. Files are paths below the gateway's own address."""
    path = f"/v1/files/{row.output_file}/content"
    if row.output_folder is not None:
        path = f"{row.output_folder.rstrip('/')}/{row.id}.output.jsonl"
    began = row.begun_ms or row.created_ms
    took_s = max(0.001, ((row.ended_ms or began) - began) / 1000)
    known = [each for each in (row.input_tokens, row.output_tokens) if each is not None]
    total = sum(known) if known else None
    return {
        "results_file": path,
        "progress_file": None,
        "error_file": f"/v1/files/{row.error_file}/content" if row.has_errors else None,
        "total_tokens": total,
        "num_responses": row.completed,
        "lines_processed": row.completed + row.failed,
        "duration_sec": took_s,
        "throughput_tokens_per_sec": None if total is None else round(total / took_s, 3),
    }


def _asked(document: dict[str, Any]) -> dict[str, Any]:
    """Check a body; the file's path has two names in FIRST's guide and server."""
    names = {"input_file", "input_file_path", "model", "output_folder_path"}
    strange = sorted(set(document) - names)
    if strange:
        raise RequestFault(
            f"A batch takes input_file, model and output_folder_path, and not {strange[0][:64]}.",
            status=422,
            param=strange[0][:64],
        )
    found = {
        "input_file": document.get("input_file") or document.get("input_file_path"),
        "model": document.get("model"),
        "output_folder_path": document.get("output_folder_path") or None,
    }
    for name, value in found.items():
        is_needed = name != "output_folder_path"
        if (value is None and is_needed) or not isinstance(value, str | None) or len(value or "") > 4096:
            raise RequestFault(f"{name} must be text.", status=422, param=name)
    return found


def _list_item(row: JobRow) -> dict[str, Any]:
    status = first_status(row)
    return {
        "id": row.id,
        "batch_id": row.id,
        "cluster": row.cluster or None,
        "framework": row.framework or None,
        "input_file": row.input,
        "in_progress_at": _time(row.begun_ms),
        "completed_at": _time(row.ended_ms if status == "completed" else None),
        "failed_at": _time(row.ended_ms if status == "failed" else None),
        "status": status,
    }


def _time(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).isoformat(timespec="seconds")


def _why(row: JobRow) -> str:
    reason = {"cancelled": "It was cancelled.", "expired": "Its time was over."}.get(row.status, "")
    if row.errors is not None:
        first = msgspec.json.decode(row.errors)["data"][0]
        where = f"Line {first['line']}: " if first.get("line") else ""
        reason = f"{where}{first['message']}"
    return f"The batch has no result. {reason}".rstrip()


# Places


async def check_place(gateway: Gateway, call: Call) -> None:
    """Name the caller, and raise unless they may know of the call's place, and it takes requests."""
    caller = call.caller = await gateway.identify(call)
    place = call.place or FEDERATED
    require_place(gateway.catalogue.all, caller, place)
    require_open(gateway.catalogue.all, place.cluster)


def require_place(endpoints: Sequence[Endpoint], caller: Caller, place: Place) -> None:
    """Raise unless the caller may know of this cluster, and of the framework if one is named."""
    known = {found for each in endpoints if each.is_known_to(caller) for found, _ in _places(each)}
    there = {found.framework for found in known if found.cluster == place.cluster}
    if not there:
        raise NotFound(
            "There is no such cluster here; GET /resource_server/list-endpoints has those that are.",
            slug="cluster_not_found",
        )
    if place.framework and place.framework not in there:
        raise RequestFault(
            f"The cluster {place.cluster} has {', '.join(sorted(there))}.", slug="unsupported_framework"
        )


def require_open(endpoints: Sequence[Endpoint], cluster: str) -> None:
    """Raise when all of a cluster is under maintenance."""
    now = time.monotonic()
    places = [found for each in endpoints for found in _places(each)]
    states = {state_of(deployment, now) for place, deployment in places if place.cluster == cluster}
    if states == {"maintenance"}:
        text = (
            f"The cluster {cluster} is under maintenance; GET /resource_server/status says when it is back."
        )
        raise Fault(text, slug="cluster_under_maintenance", status=503, retry=LATER)


def _places(endpoint: Endpoint) -> Iterator[tuple[Place, Deployment]]:
    for each in endpoint.deployments:
        if each.place is not None:
            yield each.place, each


def _names(endpoint: Endpoint, deployment: Deployment) -> set[str]:
    """Return every name under which a model can be asked for at a place."""
    host = deployment.provider.model_name
    return {endpoint.name, *endpoint.aliases, *([host] if host else [])}


def _model_job(endpoint: Endpoint, deployment: Deployment, place: Place, state: str) -> dict[str, Any]:
    return {
        "Models": ",".join(sorted(_names(endpoint, deployment))),
        "Framework": place.framework,
        "Cluster": place.cluster,
        "Model Status": state,
        "Description": endpoint.description or "",
    }


ROUTES: Sequence[tuple[str, type[web.RequestHandler], dict[str, Any]]] = (
    (f"{BASE}health", FirstHealthHandler, {}),
    (f"{BASE}status", FirstStatusHandler, {}),
    (f"{BASE}whoami", WhoamiHandler, {}),
    (f"{BASE}list-endpoints", ListEndpointsHandler, {}),
    *(
        (f"{BASE}{place}{path.removeprefix('v1/')}", FirstInvocationHandler, {"operation": each})
        for place in ("v1/", PLACED)
        for each in OPERATIONS
        for path in paths_of(each)
    ),
    (f"{BASE}v1/models", FirstModelsHandler, {}),
    (f"{BASE}{PLACED}models", FirstModelsHandler, {}),
    (f"{BASE}v1/batches", FirstBatchesHandler, {}),
    (f"{BASE}{PLACED}batches", FirstBatchesHandler, {}),
    (f"{BASE}v1/batches/([^/]+)", FirstBatchStatusHandler, {}),
    (f"{BASE}v1/batches/([^/]+)/result", FirstBatchResultHandler, {}),
    (f"{BASE}v1/batches/([^/]+)/cancel", FirstCancelBatchHandler, {}),
    (f"{BASE}([^/]+)/jobs", ClusterJobsHandler, {}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
