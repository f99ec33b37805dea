"""A proxy inside the Hub's own process: no node, streams both ways, passes hang-ups on.

The Hub imports this file by its name, so it imports nothing of ours.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from jupyterhub.proxy import Proxy
from yarl import URL

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class MiniProxy(Proxy):
    """Routes by the longest prefix of the raw path, as configurable-http-proxy does."""

    should_start = True

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.routes: dict[str, dict[str, Any]] = {}

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        self.routes[self.validate_routespec(routespec)] = {
            "routespec": routespec,
            "target": target,
            "data": data,
        }

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(self.validate_routespec(routespec), None)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        return dict(self.routes)

    async def start(self) -> None:
        self.session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await self.runner.setup()
        address = urlsplit(self.public_url)
        await web.TCPSite(self.runner, address.hostname, address.port).start()

    async def stop(self) -> None:
        await self.runner.cleanup()
        await self.session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        target = self.target_of(request.raw_path)
        if target is None:
            return web.Response(status=404, text="no route")
        url = URL(target + request.raw_path, encoded=True)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self.websocket(request, url)
        return await self.forward(request, url)

    def target_of(self, raw_path: str) -> str | None:
        path = raw_path.partition("?")[0].rstrip("/") + "/"
        fitting = [spec for spec in self.routes if path.startswith(spec)]
        if not fitting:
            return None
        target: str = self.routes[max(fitting, key=len)]["target"]
        parts = urlsplit(target)
        return f"{parts.scheme}://{parts.netloc}"

    def outward_headers(self, request: web.Request) -> list[tuple[str, str]]:
        headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
        ]
        return [
            *headers,
            ("X-Forwarded-For", request.remote or ""),
            ("X-Forwarded-Proto", request.scheme),
            ("X-Forwarded-Host", request.host),
            ("X-Forwarded-Port", str(urlsplit(self.public_url).port)),
        ]

    async def forward(self, request: web.Request, url: URL) -> web.StreamResponse:
        try:
            upstream = await self.session.request(
                request.method,
                url,
                headers=self.outward_headers(request),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
            )
        except aiohttp.ClientConnectionError:
            return web.Response(status=503, text="<h1>Service unavailable</h1>", content_type="text/html")
        async with upstream:
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            for name, value in upstream.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for piece in upstream.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def websocket(self, request: web.Request, url: URL) -> web.StreamResponse:
        ours = ("upgrade", "connection", "host")
        headers = [
            (name, value)
            for name, value in self.outward_headers(request)
            if not name.lower().startswith("sec-websocket-") and name.lower() not in ours
        ]
        asked = request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [name.strip() for name in asked.split(",") if name.strip()]
        headers.append(("Host", request.host))
        try:
            upstream = await self.session.ws_connect(
                url, headers=headers, protocols=protocols, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        async with upstream:
            chosen = [upstream.protocol] if upstream.protocol else []
            client = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
            await client.prepare(request)
            pumps = [
                asyncio.ensure_future(pump(client, upstream)),
                asyncio.ensure_future(pump(upstream, client)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in pumps:
                    task.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            await client.close()
            return client


async def pump(source: Any, sink: Any) -> None:
    """Pass messages on until one side closes."""
    async for message in source:
        if message.type == aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type == aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
