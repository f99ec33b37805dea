"""Asks deployments now and then how they are, by what costs nothing, and the operator's hook about each.

What an answer means is said by `read_answer`, which is pure. A probe sends nothing that a model would work
on, and no more than one request at a time to a deployment, `MOST_AT_ONCE` to all of them.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module
from importlib.metadata import entry_points
from random import random
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..config import ProbeConfig
from ..errors import ConfigFault, UpstreamFault, UpstreamTimeout, UpstreamUnreachable
from ..upstream.base import Client, Origin, Target
from ..vocabulary import Operation, Timeouts
from .catalogue import Catalogue, Deployment
from .health import Health
from .states import DOWN, LOADING, MAINTENANCE, QUEUED, READY, STATES, Found

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 * 1024 * 1024
MOST_AT_ONCE = 16
HOOK_INTERVAL_S = 30.0
HOOK_TIMEOUT_S = 10.0
HOOK_GROUP = "jupyterhub_ai_gateway.state_hooks"
MAX_TEXT_CHARS = 300
_WAITING = re.compile(rb"^vllm:num_requests_waiting(?:\{[^}]*\})? +([0-9.eE+]+)", re.MULTILINE)

Hook = Callable[[str, str], Any]
Tune = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Looked:
    """What an answer says: `found` is None where it says nothing, `waiting` how many wait in the server."""

    found: Found | None
    waiting: int | None = None


def read_answer(probe: ProbeConfig, model: str | None, status: int, body: bytes) -> Looked:
    """Say what a probe's answer means for a deployment that asks for `model`.

    Source: vLLM's and SGLang's `/health` (200, or 503 while they cannot serve), llama.cpp's `/health` (503
    while a model is loaded), OpenAI's `/v1/models`, vLLM's metrics, FIRST's `/jobs` and `/status` (read
    2026-11).
    """
    if status == 503:
        return Looked(Found(LOADING, "Its server says that it is not ready."))
    if status >= 500:
        return Looked(Found(DOWN, f"Its server answered {status}."))
    if not 200 <= status < 300:
        return Looked(None)  # there is no such path, or not for us: that says nothing about the model
    if probe.kind == "models":
        return Looked(_in_models(model, body))
    if probe.kind == "vllm":
        counts = [float(found) for found in _WAITING.findall(body)]
        return Looked(Found(READY), int(sum(counts)) if counts else None)
    if probe.kind == "first":
        return Looked(_in_first(probe.cluster, model, body))
    return Looked(Found(READY))


def _in_models(model: str | None, body: bytes) -> Found | None:
    document = _document(body)
    listed = document.get("data", document.get("models")) if isinstance(document, dict) else document
    if not isinstance(listed, list) or model is None:
        return None
    names = {str(each.get(key)) for each in listed if isinstance(each, dict) for key in ("id", "name")}
    if model in names:
        return Found(READY)
    return Found(DOWN, "Its server does not list the model.")


def _in_first(cluster: str | None, model: str | None, body: bytes) -> Found | None:
    """Read `{"running": [{"Models": "a,b"}], "queued": …, "stopped": …}`, or `{"CLUSTER": true}`."""
    document = _document(body)
    if not isinstance(document, dict):
        return None
    if "running" not in document:
        is_up = document.get(cluster or "")
        if not isinstance(is_up, bool):
            return None
        return Found(READY) if is_up else Found(MAINTENANCE, "Its cluster is under maintenance.")
    if model is None:
        return None
    if _is_among(document.get("running"), model):
        return Found(READY)
    if _is_among(document.get("queued"), model):
        return Found(QUEUED, "It waits for nodes of its cluster.")
    return Found(LOADING, "It does not run now; a request starts it.")


def _is_among(jobs: Any, model: str) -> bool:
    if not isinstance(jobs, list):
        return False
    texts = [job.get("Models") for job in jobs if isinstance(job, dict)]
    return any(
        model.lower() == name.strip().lower()
        for text in texts
        if isinstance(text, str)
        for name in text.split(",")
    )


def _document(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def probe_target(deployment: Deployment) -> Target | None:
    """Return what a deployment's probe asks for; None without a probe.

    Credentials go only to the address to which the deployment's requests go, and only for its list of
    models.
    """
    probe = deployment.probe
    if probe is None:
        return None
    operation, own = _plainest(deployment)
    headers: tuple[tuple[str, str], ...] = (("Accept", "*/*"), ("Accept-Encoding", "identity"))
    if probe.key is not None:
        headers += (("Authorization", f"Bearer {probe.key.reveal()}"),)
    if probe.url is not None:
        target = Target.from_url(probe.url, headers, method="GET", verify_tls=own.origin.verify_tls)
        if _place(target.origin) != _place(own.origin):
            return target
        return Target(own.origin, target.path, own.headers if probe.kind == "models" else headers, "GET")
    if probe.kind == "models":
        return Target(own.origin, _models_path(own.path, operation), own.headers, "GET")
    return Target(own.origin, "/metrics" if probe.kind == "vllm" else "/health", headers, "GET")


def _place(origin: Origin) -> tuple[str, str, int, str | None]:
    """Return where connections go, however they are made."""
    return origin.scheme, origin.host, origin.port, origin.unix


def _plainest(deployment: Deployment) -> tuple[Operation, Target]:
    """Return an operation whose address ends as OpenAI's does, else the first there is."""
    found = list(deployment.targets.items())
    return next((each for each in found if urlsplit(each[1].path).path.endswith(each[0].path)), found[0])


def _models_path(path: str, operation: Operation) -> str:
    return f"{urlsplit(path).path.removesuffix(operation.path)}/models"


def probed(catalogue: Catalogue) -> frozenset[Origin]:
    """Return where probes go. ValueError where an address is none."""
    targets = (probe_target(each) for endpoint in catalogue.all for each in endpoint.deployments)
    return frozenset(target.origin for target in targets if target is not None)


def load_hook(name: str | None) -> Hook | None:
    """Import the operator's function. `ConfigFault` where that fails."""
    if name is None:
        return None
    module, colon, function = name.partition(":")
    try:
        if not colon:
            (point,) = entry_points(group=HOOK_GROUP, name=name)
            found = point.load()
        else:
            found = getattr(import_module(module), function)
    except Exception as error:  # the operator's own code, whatever it raises
        raise ConfigFault("state_hook", f"cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigFault("state_hook", "is not a function")
    hook: Hook = found
    return hook


def read_hook_answer(answer: Any) -> Found | None:
    """Read what a hook says: None, a state, or a mapping of `state`, `text`, `until`; else ValueError."""
    if answer is None:
        return None
    if isinstance(answer, str):
        answer = {"state": answer}
    if not isinstance(answer, Mapping) or answer.get("state") not in STATES:
        raise ValueError(f"it returned something without a state of {', '.join(STATES)}")
    text, until = answer.get("text"), answer.get("until")
    if until is not None and not isinstance(until, datetime):
        raise ValueError("its until is not a datetime")
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return Found(answer["state"], None if text is None else str(text)[:MAX_TEXT_CHARS], until)


class Prober:
    """Runs the probes and the hook of the catalogue in use, each in its own time, until `stop`.

    `tune` is told how many requests wait inside a server whose deployments share a pool.
    """

    def __init__(self, client: Client, tune: Tune) -> None:
        self._client = client
        self._tune = tune
        self._probing: dict[object, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._failing: set[tuple[str, str]] = set()

    def use(self, catalogue: Catalogue, hook: Hook | None) -> None:
        """Look after the deployments of this catalogue from now on. Probes that stay are not disturbed."""
        wanted: dict[object, Callable[[], Awaitable[None]]] = {}
        for endpoint in catalogue.all:
            for each in endpoint.deployments:
                target = probe_target(each)
                if target is None:
                    each.health.found = None
                else:
                    wanted[endpoint.name, each.name, each.probe, target] = self._probe_of(each, target)
                if hook is None:
                    each.health.told = None
                else:
                    wanted[endpoint.name, each.name, hook] = self._hook_of(endpoint.name, each, hook)
        for key in self._probing.keys() - wanted.keys():
            self._probing.pop(key).cancel()
        for key, look in wanted.items():
            if key not in self._probing:
                interval_s = HOOK_INTERVAL_S
                if isinstance(key, tuple) and isinstance(key[2], ProbeConfig):
                    interval_s = key[2].interval_s
                self._probing[key] = asyncio.ensure_future(self._repeat(look, interval_s))

    async def stop(self) -> None:
        """Ask nobody any more."""
        probing = list(self._probing.values())
        self._probing.clear()
        for task in probing:
            task.cancel()
        await asyncio.gather(*probing, return_exceptions=True)

    async def _repeat(self, look: Callable[[], Awaitable[None]], interval_s: float) -> None:
        while True:
            async with self._places:
                await look()
            await asyncio.sleep(interval_s * (0.8 + 0.4 * random()))  # noqa: S311 - no secret

    def _probe_of(self, deployment: Deployment, target: Target) -> Callable[[], Awaitable[None]]:
        async def look() -> None:
            assert deployment.probe is not None  # noqa: S101 - it has a target
            looked = await self._look(deployment.probe, target, deployment.provider.model_name)
            _tell(deployment.health, looked.found, deployment.name)
            if looked.waiting is not None and deployment.pool is not None:
                self._tune(deployment.pool, looked.waiting)

        return look

    async def _look(self, probe: ProbeConfig, target: Target, model: str | None) -> Looked:
        seconds = probe.timeout_s
        timeouts = Timeouts(seconds, seconds, seconds, seconds)
        try:
            exchange = await self._client.send(target, (), b"", timeouts)
            try:
                body = await exchange.read(MAX_BODY_BYTES)
                return read_answer(probe, model, exchange.status, body)
            finally:
                exchange.close()
        except UpstreamUnreachable:
            return Looked(Found(DOWN, "There is no connection to its server."))
        except UpstreamTimeout:
            return Looked(Found(DOWN, "Its server does not answer in time."))
        except UpstreamFault:
            return Looked(Found(DOWN, "Its server does not answer its probe."))

    def _hook_of(self, endpoint: str, deployment: Deployment, hook: Hook) -> Callable[[], Awaitable[None]]:
        async def look() -> None:
            name = (endpoint, deployment.name)
            try:
                answer = await asyncio.wait_for(_asked(hook, *name), HOOK_TIMEOUT_S)
                deployment.health.told = read_hook_answer(answer)
                self._failing.discard(name)
            except Exception as error:  # noqa: BLE001 - the operator's own code must not stop the gateway
                deployment.health.told = None
                if name not in self._failing:
                    self._failing.add(name)
                    log.warning("The state_hook failed for %s/%s: %r", endpoint, deployment.name, error)

        return look


async def _asked(hook: Hook, endpoint: str, deployment: str) -> Any:
    """Call a hook, in a thread unless it is a coroutine function."""
    if inspect.iscoroutinefunction(hook):
        return await hook(endpoint, deployment)
    return await asyncio.to_thread(hook, endpoint, deployment)


def _tell(health: Health, found: Found | None, name: str) -> None:
    before, health.found = health.found, found
    if (before and before.state) != (found and found.state) and (before is not None or found is not None):
        log.info("The probe of %s says: %s", name, "nothing" if found is None else found.state)
