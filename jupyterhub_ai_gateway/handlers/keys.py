"""Gateway keys for staff: make, list, end and replace them. Settings that are read: `keys`, and `usage`'s.

A key's text is in one answer, the one that makes it, and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from tornado import web
from typing_extensions import override

from ..auth import KeyBook, KeyProblem, Wish
from ..config import Secret
from ..errors import NotFound, RequestFault
from ..storage import KeyRow
from ..usage.reports import time_text
from .usage import AccountHandler

log = logging.getLogger(__name__)

T = TypeVar("T")
_WISH = ("name", "scopes", "expires", "endpoints", "owner", "note")


class Keys(Protocol):
    """What the process keeps of keys. `book` is None where none are made."""

    @property
    def book(self) -> KeyBook | None:
        """Return what makes and ends them."""

    async def refresh(self) -> None:
        """Let in who has a key now, and nobody else."""


class KeyHandler(AccountHandler):
    """What they share: the admin scope, and a book to write in."""

    @property
    def keys(self) -> Keys:
        """Return what the process keeps."""
        keys: Keys = self.settings["keys"]
        return keys

    @override
    async def prepare(self) -> None:
        await super().prepare()
        self.require_admin()

    @property
    def book(self) -> KeyBook:
        """Return the book; `NotFound` where keys are off."""
        if self.keys.book is None:
            text = "This gateway makes no keys; its configuration would need keys: {enabled: true}."
            raise NotFound(text, slug="keys_off")
        return self.keys.book

    async def ask(self, question: Callable[[], T]) -> T:
        """Ask the book; what it refuses is the request's fault."""
        try:
            return await self.ask_ledger(question)
        except KeyProblem as problem:
            raise RequestFault(f"{problem.param}: {problem}.", param=problem.param) from None

    async def made(self, row: KeyRow, text: Secret, verb: str) -> None:
        """Let a new key count, and show it this once."""
        log.info("The key %s of %s was %s by %s", row.id, row.name, verb, self.caller.key)
        await self.keys.refresh()
        self.write_json({**key_of(row), "key": text.reveal()}, 201)


class KeysHandler(KeyHandler):
    """`/api/keys`: those that count, or all; and a new one."""

    methods = "GET, POST"

    @override
    async def get(self) -> None:
        wants_all = self.get_query_argument("all", "") in ("1", "true")
        book = self.book
        rows = await self.ask(lambda: book.rows(all_of_them=wants_all))
        self.write_json({"keys": [key_of(row) for row in rows]})

    @override
    async def post(self) -> None:
        wish, book = read_wish(self.document()), self.book
        row, text = await self.ask(lambda: book.create(wish, self.caller.key))
        await self.made(row, text, "made")


class OneKeyHandler(KeyHandler):
    """`DELETE /api/keys/{name}`: end the keys of a name, or the one of an id."""

    methods = "DELETE"

    @override
    async def delete(self, name: str) -> None:
        book = self.book
        if not await self.ask(lambda: book.revoke(name, self.caller.key)):
            raise NotFound("There is no key of this name that still counts.", slug="not_found")
        log.info("The keys of %s were revoked by %s", name, self.caller.key)
        await self.keys.refresh()
        self.set_status(204)
        self.finish()


class RotationHandler(KeyHandler):
    """`POST /api/keys/{name}/rotate`: another key in its place, at once or after a `grace`."""

    methods = "POST"

    @override
    async def post(self, name: str) -> None:
        document = self.document() if self.request.body else {}
        grace = document.get("grace")
        if grace is not None and not isinstance(grace, str):
            raise RequestFault("grace must be text such as 24h.", param="grace")
        book = self.book
        row, text = await self.ask(lambda: book.rotate(name, self.caller.key, grace))
        await self.made(row, text, "rotated")


def read_wish(document: dict[str, Any]) -> Wish:
    """Read what an admin sends. `RequestFault` names the field that is wrong."""
    for name in document:
        if name not in _WISH:
            text = f"There is no such field; there are {', '.join(_WISH)}."
            raise RequestFault(text, param=str(name)[:64])
    texts: dict[str, str | None] = {}
    for name in ("name", "expires", "owner", "note"):
        value = document.get(name)
        if value is not None and not isinstance(value, str):
            raise RequestFault(f"{name} must be text.", param=name)
        if value is None and name in ("name", "expires"):
            raise RequestFault(f"{name} is required.", param=name)
        texts[name] = value
    return Wish(
        name=texts["name"] or "",
        scopes=_words(document, "scopes"),
        expires=texts["expires"] or "",
        endpoints=_words(document, "endpoints"),
        owner=texts["owner"],
        note=texts["note"],
    )


def _words(document: dict[str, Any], name: str) -> list[str]:
    value = document.get(name)
    words = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RequestFault(f"{name} must be a text or a list of texts.", param=name)
    return words


def key_of(row: KeyRow) -> dict[str, Any]:
    """Describe a key by everything but itself."""

    def time(at_ms: int | None) -> str | None:
        return None if at_ms is None else time_text(at_ms)

    return {
        "id": row.id,
        "name": row.name,
        "scopes": row.scopes.split(),
        "endpoints": row.endpoints.split() or None,
        "owner": row.owner,
        "note": row.note,
        "created_at": time(row.created_ms),
        "created_by": row.created_by,
        "expires_at": time(row.expires_ms),
        "last_used_at": time(row.used_ms),
        "revoked_at": time(row.revoked_ms),
        "revoked_by": row.revoked_by,
    }


_NAME = r"([A-Za-z0-9][A-Za-z0-9_.@\-]{0,99})"
ROUTES: tuple[tuple[str, type[web.RequestHandler], dict[str, Any]], ...] = (
    ("api/keys", KeysHandler, {}),
    (f"api/keys/{_NAME}", OneKeyHandler, {}),
    (f"api/keys/{_NAME}/rotate", RotationHandler, {}),
)
"""Patterns below the prefix, who answers them, and with what arguments."""
