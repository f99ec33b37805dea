"""Responses that a provider keeps: looked at, cancelled and deleted by the caller who made them."""

from __future__ import annotations

from urllib.parse import unquote

from tornado import web
from typing_extensions import override

from ..errors import NotFound, RequestFault
from ..vocabulary import RESPONSES
from .openai import CallerHandler


class StoredResponseHandler(CallerHandler):
    """`/v1/responses/ID`, `/v1/responses/ID/input_items` and `/v1/responses/ID/cancel`."""

    methods = "GET, HEAD, DELETE, POST"

    @override
    async def get(self, name: str, action: str | None = None) -> None:
        if action == "/cancel":
            raise web.HTTPError(405)
        await self._pass("GET", name, action or "")

    @override
    async def head(self, name: str, action: str | None = None) -> None:
        await self.get(name, action)

    @override
    async def delete(self, name: str, action: str | None = None) -> None:
        if action:
            raise web.HTTPError(405)
        await self._pass("DELETE", name, "")

    @override
    async def post(self, name: str, action: str | None = None) -> None:
        if action != "/cancel":
            raise web.HTTPError(405)
        await self._pass("POST", name, action)

    async def _pass(self, method: str, name: str, action: str) -> None:
        if self.get_query_argument("stream", "false") == "true":
            text = "stream: a response that is kept is not streamed again. Leave it out."
            raise RequestFault(text, param="stream")
        call = await self.call(RESPONSES)
        caller = await self.gateway.identify(call)
        found = await self.gateway.stored(caller, unquote(name), method, action, self.request.query)
        if found is None:
            raise NotFound("No response of this id is kept for you.", slug="response_not_found")
        self.set_header("Content-Type", "application/json")
        self.finish(found)
