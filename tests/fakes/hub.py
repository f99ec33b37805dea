"""A Hub on a real socket that answers `GET …/user`, and fails in every way that a test asks for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

ACCESS = "access:services!service=ai-gateway"


def user_model(name: str, *scopes: str, groups: tuple[str, ...] = ()) -> dict[str, Any]:
    """Make what the Hub says of a user's token."""
    return {
        "kind": "user",
        "name": name,
        "admin": False,
        "groups": list(groups),
        "token_id": "a12",
        "session_id": None,
        "scopes": list(scopes),
    }


def response(status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> bytes:
    """Make a whole HTTP response. `extra` is header lines, each with its line end."""
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def json_response(status: int, document: Any, extra: str = "") -> bytes:
    return response(status, json.dumps(document).encode(), extra=extra)


class FakeHub:
    """Knows the tokens in `models`; every other token is a 403. Use it in `async with`.

    `users` are those whom the service may ask for by name; None when it may ask for nobody.
    `codes` are OAuth codes and the tokens that they buy, once each.

    `asked` are the tokens of the requests that came in, `most_at_once` how many were open together.
    `answer` replaces every answer: bytes are sent as they are, and b"" closes the connection.
    A token for which `holds` is true waits until `release`.
    """

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, str] = {}
        self.users: dict[str, dict[str, Any]] | None = None
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.answer: bytes | None = None
        self.holds: Callable[[str], bool] = lambda token: False
        self.most_at_once = 0
        self._open = 0
        self._released = asyncio.Event()
        self._arrived = asyncio.Condition()
        self._server: asyncio.AbstractServer | None = None
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hub/api"

    def release(self) -> None:
        """Let everything that is held go on, and hold nothing more."""
        self.holds = lambda token: False
        self._released.set()
        self._released = asyncio.Event()

    async def wait_asked(self, count: int) -> None:
        """Return once so many questions have come in."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked) >= count)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on; `start` takes the same port again."""
        if self._server is not None:
            self._server.close()
            self.release()
            for writer in self._serving.values():
                writer.transport.abort()
            await asyncio.gather(*self._serving)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> FakeHub:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            del self._serving[task]
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; True when the connection may carry another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        lower = {name.lower(): value for name, value in fields.items()}
        body = await reader.readexactly(int(lower.get("content-length", "0")))
        token = lower.get("authorization", "").removeprefix("token ")
        self._open += 1
        self.most_at_once = max(self.most_at_once, self._open)
        async with self._arrived:
            self.asked.append(token)
            self.heads.append(head)
            self.bodies.append(body)
            self._arrived.notify_all()
        try:
            if self.holds(token):
                await self._released.wait()
            answer = self._answer_to(head, token, body)
            writer.write(answer)
            await writer.drain()
            return answer != b"" and self.answer is None
        finally:
            self._open -= 1

    def _answer_to(self, head: str, token: str, body: bytes) -> bytes:
        if self.answer is not None:
            return self.answer
        if head.startswith("POST /hub/api/oauth2/token "):
            fresh = self.codes.pop(parse_qs(body.decode()).get("code", [""])[0], None)
            if fresh is None:
                return json_response(400, {"error": "invalid_grant"})
            return json_response(200, {"access_token": fresh})
        if head.startswith("GET /hub/api/users/") and self.users is not None:
            name = head.split(" ")[1].rpartition("/")[2]
            found = self.users.get(name)
            return json_response(404, {"status": 404}) if found is None else json_response(200, found)
        model = self.models.get(token)
        if model is None:
            return json_response(403, {"status": 403, "message": "Forbidden"})
        return json_response(200, model)
