"""`jupyterhub-ai-gateway keys …`: thin. Parse, call, print. A new key goes to the standard output alone."""

from __future__ import annotations

import base64
import binascii
import getpass
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from traitlets import Bool, List, Unicode
from typing_extensions import override

from .app.environment import environ
from .app.gateway_app import AIGateway
from .auth import KeyBook, KeyProblem, Wish
from .config import Secret
from .errors import ConfigFault
from .storage import Database, KeyRow, KeyTable, StorageUnavailable
from .usage.reports import time_text

T = TypeVar("T")
_SOON_S = 5


class KeyCommand(AIGateway):
    """What the commands share: the database of the configuration, and who asks."""

    subcommands = {}
    argument = "NAME"

    def the_argument(self) -> str:
        """Return the one argument that is no option."""
        if len(self.extra_args) != 1:
            raise ConfigFault(self.argument, f"is missing, or is there twice: {self.name} {self.argument}")
        return str(self.extra_args[0])

    @property
    def actor(self) -> str:
        """Return who asks, for the audit log: an account of this machine."""
        try:
            return f"shell:{getpass.getuser()}"
        except (KeyError, OSError):  # an account without a name
            return "shell"

    def ask(self, question: Callable[[KeyBook], T]) -> T:
        """Ask the book; what it refuses names the option that is wrong."""
        with self._book() as book:
            try:
                return question(book)
            except KeyProblem as problem:
                raise ConfigFault(problem.param, str(problem)) from None
            except StorageUnavailable as error:
                raise ConfigFault("ledger.url", f"the database cannot be opened: {error}") from None

    @contextmanager
    def _book(self) -> Iterator[KeyBook]:
        config = self.reader()()
        if not config.keys.enabled or config.ledger.url is None:
            text = "keys are off: write keys: {enabled: true} into the configuration, and restart"
            raise ConfigFault("keys.enabled", text)
        database = Database(config.ledger.url, day_of=str)
        try:
            database.check()
            yield KeyBook(KeyTable(database))
        finally:
            database.close()

    def show_new(self, row: KeyRow, text: Secret) -> None:
        """Print a new key, this once."""
        ends = "never ends" if row.expires_ms is None else f"ends {time_text(row.expires_ms)}"
        about = f"The key {row.id} of {row.name} {ends}. It counts within {_SOON_S} seconds"
        print(f"{about}, and is not shown again:", file=sys.stderr)
        print(text.reveal())


class CreateKey(KeyCommand):
    """Make a key for a system that has no token of the Hub. It is printed once and kept only as a hash.

    jupyterhub-ai-gateway keys create course-builder --scope chat:create --expires 90d
    """

    name = "jupyterhub-ai-gateway keys create"
    description = __doc__ or ""
    aliases: Any = {
        **AIGateway.aliases,
        "scope": "CreateKey.scopes",
        "expires": "CreateKey.expires",
        "endpoint": "CreateKey.endpoint_patterns",
        "owner": "CreateKey.owner",
        "note": "CreateKey.note",
    }
    scopes: Any = List(
        Unicode(), help="What it opens: all, chat:create, get:/openai/v1/models, … May be repeated."
    ).tag(config=True)
    expires = Unicode(help="When it ends: 90d, 2027-01-31 or never.").tag(config=True)
    endpoint_patterns: Any = List(
        Unicode(), help="An endpoint that it is for, with *; all without one. May be repeated."
    ).tag(config=True)
    owner = Unicode(help="Who answers for it.").tag(config=True)
    note = Unicode(help="What it is for.").tag(config=True)

    @override
    def start(self) -> None:
        if not self.expires:
            raise ConfigFault("expires", "is required: --expires 90d, a day, or never")
        wish = Wish(
            self.the_argument(), self.scopes, self.expires, self.endpoint_patterns, self.owner, self.note
        )
        self.show_new(*self.ask(lambda book: book.create(wish, self.actor)))


class RotateKey(KeyCommand):
    """Replace a key by another with the same scopes. The old one ends at once, or after a grace.

    jupyterhub-ai-gateway keys rotate course-builder --grace 24h
    """

    name = "jupyterhub-ai-gateway keys rotate"
    description = __doc__ or ""
    aliases: Any = {**AIGateway.aliases, "grace": "RotateKey.grace"}
    grace = Unicode(help="How long the old key goes on: 24h, 7d. Not at all without.").tag(config=True)

    @override
    def start(self) -> None:
        name = self.the_argument()
        self.show_new(*self.ask(lambda book: book.rotate(name, self.actor, self.grace or None)))


class RevokeKey(KeyCommand):
    """End the keys of a name, or the one of an id.

    jupyterhub-ai-gateway keys revoke course-builder
    """

    name = "jupyterhub-ai-gateway keys revoke"
    description = __doc__ or ""

    @override
    def start(self) -> None:
        name = self.the_argument()
        if not self.ask(lambda book: book.revoke(name, self.actor)):
            raise ConfigFault("NAME", f"there is no key {name} that still counts")
        print(f"The keys of {name} end within {_SOON_S} seconds.")


class ListKeys(KeyCommand):
    """List the keys that count, newest first. Never a key itself.

    jupyterhub-ai-gateway keys list
    """

    name = "jupyterhub-ai-gateway keys list"
    description = __doc__ or ""
    flags: Any = {
        **AIGateway.flags,
        "all": ({"ListKeys": {"wants_all": True}}, "Those that ended as well."),
        "json": ({"ListKeys": {"as_json": True}}, "As JSON lines."),
    }
    wants_all = Bool(False, help="List those that ended as well.").tag(config=True)
    as_json = Bool(False, help="Write JSON lines.").tag(config=True)

    @override
    def start(self) -> None:
        rows = self.ask(lambda book: book.rows(all_of_them=self.wants_all))
        lines = [described(row) for row in rows]
        if self.as_json:
            for line in lines:
                print(json.dumps(line))
            return
        columns = ("id", "name", "scopes", "endpoints", "owner", "expires", "last_used", "state")
        table = [columns, *(tuple(str(line[name] or "-") for name in columns) for line in lines)]
        widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
        for row in table:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class ImportKeys(KeyCommand):
    """Take over the keys of a Node gateway: its hashed-api-keys.json, or without a file HASHED_API_KEYS.

    jupyterhub-ai-gateway keys import provision/secrets/hashed-api-keys.json
    """

    name = "jupyterhub-ai-gateway keys import"
    description = __doc__ or ""
    argument = "FILE"

    @override
    def start(self) -> None:
        variable = environ().get("HASHED_API_KEYS")
        if variable and not self.extra_args:
            document = read_node_keys(variable.encode(), "HASHED_API_KEYS")
        else:
            document = read_node_file(Path(self.the_argument()))
        for row in self.ask(lambda book: book.import_node(document, self.actor)):
            print(f"{row.name}: {row.scopes}")


class KeyCommands(AIGateway):
    """Look after gateway keys.

    jupyterhub-ai-gateway keys create NAME --scope all --expires 90d
    """

    name = "jupyterhub-ai-gateway keys"
    description = __doc__ or ""
    subcommands = {
        "create": (CreateKey, "Make a key."),
        "list": (ListKeys, "List the keys that count."),
        "revoke": (RevokeKey, "End a key."),
        "rotate": (RotateKey, "Replace a key."),
        "import": (ImportKeys, "Take over the keys of a Node gateway."),
    }

    @override
    def start(self) -> None:
        if self.subapp is None:
            raise ConfigFault("keys", f"needs a command: {', '.join(self.subcommands)}")
        self.subapp.start()


def described(row: KeyRow) -> dict[str, str | None]:
    """Describe a key in words."""
    return {
        "id": row.id,
        "name": row.name,
        "scopes": row.scopes,
        "endpoints": row.endpoints or None,
        "owner": row.owner,
        "note": row.note,
        "created": time_text(row.created_ms),
        "created_by": row.created_by,
        "expires": "never" if row.expires_ms is None else time_text(row.expires_ms),
        "last_used": None if row.used_ms is None else time_text(row.used_ms),
        "state": "counts" if row.revoked_ms is None else "revoked",
    }


def read_node_file(path: Path) -> object:
    """Read the Node gateway's file of hashed keys, as JSON or in the base64 of HASHED_API_KEYS."""
    try:
        text = path.expanduser().read_bytes().strip()
    except OSError as error:
        raise ConfigFault(str(path), f"cannot be read: {error.strerror}") from None
    return read_node_keys(text, str(path))


def read_node_keys(text: bytes, where: str) -> object:
    """Read hashed keys as JSON, or as the base64 of it."""
    try:
        plain = text if text.startswith(b"{") else base64.b64decode(text.strip(), validate=True)
        found: object = json.loads(plain)
    except (binascii.Error, ValueError):
        raise ConfigFault(where, "is neither JSON nor the base64 of JSON") from None
    return found
