"""A whole gateway in this process: on a real socket, between a Hub and providers on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fakes.hub import ACCESS, FakeHub, user_model
from fakes.upstream import FakeUpstream

from jupyterhub_ai_gateway.app.options import HubOptions, Options
from jupyterhub_ai_gateway.app.service import Service
from jupyterhub_ai_gateway.config import LedgerConfig, load, parse
from jupyterhub_ai_gateway.providers.registry import Providers

FULL = "custom:ai-gateway:full-access"
PREFIX = "/services/ai-gateway/"
KEY = "sk-provider-key-0123456789"

WAYS: Mapping[str, dict[str, Any]] = {
    "fast": {},
    "handlers": {"fast_lane": False},
    "stock": {"http_server": "tornado", "http_client": "aiohttp"},
    "stock handlers": {"http_server": "tornado", "http_client": "aiohttp", "fast_lane": False},
}
"""Every combination of parts that a trait can put together and that matters."""


def endpoint(name: str, up: FakeUpstream | None, kind: str = "chat", **more: Any) -> dict[str, Any]:
    """Make one endpoint of a configuration, served by `up`, or by the echo."""
    config = (
        {"openai_api_key": KEY, "openai_api_base": f"{up.url}/v1"} if up else {"tokens_per_second": "0"}
    )
    names = {
        "chat": "gpt-4o-mini",
        "completions": "gpt-3.5-turbo-instruct",
        "embeddings": "text-embedding-3-small",
    }
    model = {"provider": "openai" if up else "echo", "name": names[kind], "config": config}
    return {"name": name, "endpoint_type": f"llm/v1/{kind}", "model": model, **more}


def usual(up: FakeUpstream | None) -> list[dict[str, Any]]:
    """Make one endpoint of each type."""
    return [
        endpoint("chat", up),
        endpoint("text", up, "completions"),
        endpoint("vectors", up, "embeddings"),
    ]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        document = self.json
        assert document["detail"] == document["error"]["message"]
        error: dict[str, Any] = document["error"]
        return error


@dataclass
class Served:
    """A running gateway, and what stands around it."""

    service: Service
    hub: FakeHub
    token: str = field(default="t-alice", repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}{PREFIX}v1"

    def knows(self, token: str, *scopes: str, name: str = "bob", groups: tuple[str, ...] = ()) -> str:
        """Let the Hub know another token."""
        self.hub.models[token] = user_model(name, *scopes, groups=groups)
        return token

    async def raw(
        self, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> bytes:
        """Send one request and return everything that comes until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port)
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: gateway",
            "Connection: close",
            f"Content-Length: {len(body)}",
        ]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        token: str | None = "",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Answer:
        """Send one request below the prefix; as alice unless another token, or None, is given."""
        token = self.token if token == "" else token
        own = [] if token is None else [("Authorization", f"Bearer {token}")]
        sent = body if body is not None else b"" if document is None else json.dumps(document).encode()
        whole = await self.raw(method, f"{PREFIX}{path}", sent, [*own, *headers])
        head, _, rest = whole.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        names = [line.partition(":")[0].lower() for line in lines]
        assert len(set(names)) == len(names) or "set-cookie" in names, "a header is there twice"
        answer = Answer(int(first.split(" ")[1]), fields, unchunked(rest, fields, int(first.split(" ")[1])))
        assert answer.headers["x-request-id"].startswith("req_")
        return answer

    async def chat(self, text: str = "Hi", *, model: str = "chat", **more: Any) -> Answer:
        """Ask for a chat completion."""
        kept = {name: more.pop(name) for name in ("token", "headers") if name in more}
        messages = [{"role": "user", "content": text}]
        return await self.ask(
            "POST", "v1/chat/completions", {"model": model, "messages": messages, **more}, **kept
        )


def unchunked(body: bytes, headers: Mapping[str, str], status: int = 200) -> bytes:
    """Take a chunked body apart; AssertionError when it does not end."""
    if headers.get("transfer-encoding") != "chunked":
        if status == 204:
            return body
        assert "content-length" in headers
        assert len(body) == int(headers["content-length"]), "cut short"
        return body
    pieces = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return pieces
        pieces += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


def options(hub: FakeHub, **more: Any) -> Options:
    """Make the options of a gateway that listens anywhere."""
    known = HubOptions(
        service_name="ai-gateway",
        prefix=PREFIX,
        api_url=hub.url,
        api_token="service-token",
        client_id="service-ai-gateway",
        redirect_uri=f"{PREFIX}oauth_callback",
        public_hub_url="/hub/",
        public_url="",
        access_scopes=frozenset({ACCESS}),
    )
    return Options(**{"hub": known, "host": "127.0.0.1", "port": 0, "reload_poll_s": 0.0, **more})


@contextlib.asynccontextmanager
async def served(
    up: FakeUpstream | None = None,
    endpoints: Sequence[dict[str, Any]] | None = None,
    *,
    file: Path | None = None,
    config: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Served]:
    """Run a gateway with these endpoints, or with the configuration in `file`; alice may do everything.

    `config` is what else stands in the configuration. Without a ledger's URL there is no ledger.
    """
    providers = Providers.installed()
    document = {"endpoints": list(endpoints if endpoints is not None else usual(up)), **(config or {})}

    def read() -> Any:
        found = (
            parse(document, providers.schemas, {}) if file is None else load(file, providers.schemas, {})
        )
        return replace(found, ledger=LedgerConfig(None)) if found.ledger == LedgerConfig() else found

    async with FakeHub() as hub:
        service = Service(options(hub, load=read, files=() if file is None else (file,), **more), providers)
        running = Served(service, hub)
        running.knows("t-alice", ACCESS, FULL, name="alice")
        await service.start()
        try:
            yield running
        finally:
            await service.stop()
