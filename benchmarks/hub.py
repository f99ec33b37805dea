"""A Hub that knows every token: `python -m benchmarks.hub` prints its port and answers `GET …/user`.

The token `t-000042` belongs to user `u-000042`, who may use everything of the service `ai-gateway`.
"""

from __future__ import annotations

import asyncio
import json
from typing import cast

from typing_extensions import override

SERVICE = "ai-gateway"
SCOPES = [f"access:services!service={SERVICE}", f"custom:{SERVICE}:full-access"]


def answer(head: str) -> bytes:
    """Make the whole response to a request's head."""
    lines = head.split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    token = fields.get("authorization", "").partition(" ")[2]
    path = lines[0].split(" ")[1].partition("?")[0]
    if path in ("/hub/api", "/hub/api/"):
        return _response(200, {"version": "6.0.0"})
    if path != "/hub/api/user":
        return _response(404, {"status": 404, "message": "Not Found"})
    if not token.startswith("t-"):
        return _response(403, {"status": 403, "message": "Forbidden"})
    return _response(200, _model(f"u-{token[2:]}"))


def _model(name: str) -> dict[str, object]:
    return {
        "kind": "user",
        "name": name,
        "admin": False,
        "groups": ["students"],
        "token_id": "a1",
        "session_id": None,
        "scopes": SCOPES,
    }


def _response(status: int, document: dict[str, object]) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        *heads, self._received = (self._received + data).split(b"\r\n\r\n")
        for head in heads:
            self._transport.write(answer(head.decode("latin-1")))


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
