"""The pages on a port of a thread, with a Hub behind them and a made-up API beside them."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes.hub import ACCESS, FakeHub, user_model
from integration.hub import GatewayHub
from jupyterhub._data import DATA_FILES_PATH
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from jupyterhub_ai_gateway.auth import GatewayHubOAuth, TokenResolver
from jupyterhub_ai_gateway.handlers import pages
from jupyterhub_ai_gateway.handlers.login import OAuthCallbackHandler, caller_from_cookie

PREFIX = "/services/ai-gateway/"
COOKIE = "service-ai-gateway"
SECRET = b"of the stub"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

SITE = pages.Site(
    title="JupyterHub AI Gateway",
    description="Chat, completions and embeddings from all models of this Hub, through one address.",
    version="1.2.3",
    prefix=PREFIX,
    hub_url="/hub/",
    service_name="ai-gateway",
)

ANSWER = [
    "Sunlight is a mix of all colours, and air scatters **short wavelengths** far more than long ones.\n\n",
    "So blue light reaches your eye from every side:\n\n",
    "```python\nscattered = 1 / wavelength**4\n```\n",
    "which is why the sky is blue.",
]


class Api(web.RequestHandler):
    """What the pages ask for, answered for callers with a cookie and its XSRF token."""

    seen: list[dict[str, Any]]
    gate: asyncio.Event

    def initialize(self, seen: list[dict[str, Any]], gate: asyncio.Event) -> None:
        self.seen = seen
        self.gate = gate

    async def prepare(self) -> None:
        caller = await caller_from_cookie(self)
        if caller is None:
            raise web.HTTPError(401)
        self.set_header("x-request-id", "req_7d31c0a9b2f84e5a")

    def chunk(self, **delta: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        body = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
        return f"data: {json.dumps(body)}\n\n"


class Models(Api):
    def get(self) -> None:
        data = [
            {"id": "chat", "object": "model", "created": 0, "owned_by": "openai"},
            {"id": "llama-3.3-70b", "object": "model", "created": 0, "owned_by": "vllm"},
        ]
        self.finish({"object": "list", "data": data})


class Embeddings(Api):
    def post(self) -> None:
        body = json.loads(self.request.body)
        self.seen.append(body)
        floats: list[Any] = [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]]
        if body.get("encoding_format") == "base64":
            floats = [base64.b64encode(struct.pack("<3f", *numbers)).decode() for numbers in floats]
        data = [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index, embedding in enumerate(floats)
        ]
        self.finish({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 9}})


class Chat(Api):
    async def post(self) -> None:
        body = json.loads(self.request.body)
        self.seen.append(body)
        self.set_header("x-ratelimit-limit-requests", "10")
        self.set_header("x-ratelimit-remaining-requests", "9")
        self.set_header("x-ratelimit-reset-requests", "6s")
        text = body["messages"][-1]["content"]
        if text == "too much":
            self.set_status(429)
            self.set_header("Retry-After", "6")
            error = {
                "message": "You may call chat 10 times per minute. Try again in 6 seconds.",
                "type": "requests",
                "param": None,
                "code": "rate_limit_exceeded",
            }
            self.finish({"error": error, "detail": error["message"]})
        elif body.get("stream"):
            await self._stream(text)
        else:
            self.finish(self._whole(text))

    def _whole(self, text: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(ANSWER)}
        if text == "hostile":
            message["content"] = HOSTILE
        elif text == "umbrella":
            function = {"name": "get_weather", "arguments": '{"place": "Bergen"}'}
            call = {"id": "t1", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 18, "completion_tokens": 64, "total_tokens": 82}
        return {"id": "c1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}

    async def _stream(self, text: str) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write(self.chunk(role="assistant", content=""))
        self.write(": still here\n\n")
        for number, piece in enumerate([HOSTILE] if text == "hostile" else ANSWER):
            if text in ("wait", "stall") and number == 1:
                await self.flush()
                await (self.gate if text == "wait" else asyncio.Event()).wait()
            raw = self.chunk(content=piece).encode()
            self.write(raw[:15])  # events arrive cut
            await self.flush()
            self.write(raw[15:])
            await self.flush()
        self.write('data: {"choices": [], "usage": {"prompt_tokens": 18, "completion_tokens": 64}}\n\n')
        if text == "breaks":
            self.write(
                'data: {"error": {"message": "The provider stopped.", "code": "upstream_broken"}}\n\n'
            )
        else:
            self.write("data: [DONE]\n\n")


class Stub:
    """A running stub: `url`, the bodies that it has `seen`, and `open_gate` for an answer that waits.

    Behind it is a fake Hub that knows alice by `cookie`, or a real one, where people log in.
    """

    def __init__(self, real: GatewayHub | None = None) -> None:
        self.seen: list[dict[str, Any]] = []
        self.cookie = web.create_signed_value(SECRET, COOKIE, "alices").decode()
        self.port = 0
        self._real = real
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._gate: asyncio.Event
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()])

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return self._real.service_url if self._real else f"http://127.0.0.1:{self.port}{PREFIX}"

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30)

    def open_gate(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    async def _run(self) -> None:
        self._gate, self._stop = asyncio.Event(), asyncio.Event()
        if self._real:
            await self._serve(self._real.hub.api_url, self._real.service_token, self._real.service_port)
            return
        async with FakeHub() as hub:
            hub.models["alices"] = user_model("alice", ACCESS, "custom:ai-gateway:full-access")
            await self._serve(hub.url, "service-token", 0)

    async def _serve(self, hub_url: str, service_token: str, port: int) -> None:
        resolver = TokenResolver(hub_url, "ai-gateway", access_scopes=[ACCESS])
        server = HTTPServer(self._app(resolver, hub_url, service_token), xheaders=True)
        sockets = bind_sockets(port, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        server.add_sockets(sockets)
        self._ready.set()
        await self._stop.wait()
        server.stop()
        await server.close_all_connections()
        await resolver.close()

    def _app(self, resolver: TokenResolver, hub_url: str, service_token: str) -> web.Application:
        hub_auth = GatewayHubOAuth(
            resolver,
            SECRET,
            api_url=hub_url,
            api_token=service_token,
            base_url=PREFIX,
            oauth_client_id=COOKIE,
            oauth_redirect_uri=f"{PREFIX}oauth_callback",
        )
        shared = {"seen": self.seen, "gate": self._gate}
        routes: list[Any] = [(PREFIX + path, handler, options) for path, handler, options in pages.ROUTES]
        routes += [
            (PREFIX + "oauth_callback", OAuthCallbackHandler),
            (PREFIX + "v1/models", Models, shared),
            (PREFIX + "v1/chat/completions", Chat, shared),
            (PREFIX + "v1/embeddings", Embeddings, shared),
        ]
        data = Path(DATA_FILES_PATH) / "static"
        routes += [
            (r"/hub/static/(.*)", web.StaticFileHandler, {"path": str(data)}),
            (r"/hub/logo", web.RedirectHandler, {"url": "/hub/static/images/jupyterhub-80.png"}),
        ]
        return web.Application(
            routes,
            site=SITE,
            hub_auth=hub_auth,
            cookie_secret=SECRET,
            log_function=lambda handler: None,
        )


@contextmanager
def running_stub(real: GatewayHub | None = None) -> Iterator[Stub]:
    stub = Stub(real)
    stub.start()
    try:
        yield stub
    finally:
        stub.stop()
