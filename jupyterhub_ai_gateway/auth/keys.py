"""Gateway keys: their form, what they open, and the ring that knows whose they are. Nobody is asked here.

A key is `jaig-ID-SECRET`: ID is public and finds the row, SECRET has 256 bits of chance. What is kept is
HMAC-SHA256 under a salt of the key's own. A slow hash is for secrets that people think up: 2^256 guesses
are out of reach however fast one guess is, and a fast hash lets every request be checked.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..config import Secret
from ..config.parse import RESERVED_SCOPES, SCOPE
from ..errors import HubUnavailable
from ..storage import KeyRow
from ..vocabulary import FULL_ACCESS, OPERATIONS, Caller
from .scopes import ScopeRules

PREFIX = "jaig-"
ALL = "all"
READ_METRICS = "read:metrics"
PAGES = "docs:read"
"""Pages are for people, who log in; no key opens them."""

_FORM = re.compile(r"jaig-([0-9a-f]{16})-([A-Za-z0-9_\-]{43})")
_NODE_HASH = re.compile(r"[0-9a-f]{64}")
_PATH_SCOPE = re.compile(r"(get|post):(/[A-Za-z0-9_.\-]+){2,8}")
_NO_SALT = b"no such key"


class KeyProblem(ValueError):  # noqa: N818 - told to whoever asks for a key
    """What somebody wants of a key cannot be; `param` is the field that is wrong."""

    def __init__(self, param: str, text: str) -> None:
        super().__init__(text)
        self.param = param


class NewKey(NamedTuple):
    """A key at the one moment when it is known. `salt` and `hash` are what is kept."""

    id: str
    text: Secret
    salt: str
    hash: str


def new_key() -> NewKey:
    """Make a key."""
    key_id, secret, salt = secrets.token_hex(8), secrets.token_urlsafe(32), secrets.token_bytes(16)
    return NewKey(key_id, Secret(f"{PREFIX}{key_id}-{secret}"), salt.hex(), _hash(salt, secret))


def _hash(salt: bytes, text: str) -> str:
    return hmac.digest(salt, text.encode(), "sha256").hex()


def read_scopes(texts: Iterable[str]) -> str:
    """Read what a key is to open: words, or several in one with commas. `KeyProblem` names a wrong one."""
    words = [word.strip() for text in texts for word in text.split(",")]
    found = list(dict.fromkeys(_scope(word) for word in words if word))
    if not found:
        raise KeyProblem("scopes", "a key needs a scope, such as all, chat:create or get:/openai/v1/models")
    return " ".join(found)


def _scope(word: str) -> str:
    method, separator, path = word.partition(":/")
    lower = f"{method.lower()}:/{path}" if separator else word
    if _PATH_SCOPE.fullmatch(lower) or word in (READ_METRICS, ALL):
        return lower
    if word == FULL_ACCESS:
        return ALL
    if word in OPERATIONS and word != PAGES:
        return word
    if separator or word in RESERVED_SCOPES or word.startswith("custom:") or not re.fullmatch(SCOPE, word):
        known = ", ".join((ALL, *(each for each in OPERATIONS if each != PAGES), READ_METRICS))
        raise KeyProblem(
            "scopes",
            f"{word[:64]!r} is no scope of a key. There are {known}, a provider's path such as "
            "post:/openai/v1/embeddings, and the scopes that endpoints name",
        )
    return word


def caller_of(row: KeyRow, rules: ScopeRules) -> Caller:
    """Return who sends a request with a key."""
    words = set(row.scopes.split())
    operations = set(OPERATIONS) - {PAGES} if ALL in words else words.intersection(OPERATIONS)
    paths = {word for word in words if ":/" in word}
    own = {READ_METRICS}.intersection(words)
    named = {FULL_ACCESS if word == ALL else word for word in words - paths - own}
    return Caller(
        kind="key",
        name=row.name,
        scopes=frozenset(own.union(rules.scope(word) for word in named)),
        operations=frozenset(operations),
        has_access=True,
        token_id=row.id,
        endpoints=tuple(row.endpoints.split()),
        paths=frozenset(paths),
    )


def node_keys(document: object) -> list[tuple[str, str, str, list[str]]]:
    """Read the Node gateway's `hashed-api-keys.json`: hash, salt in hex, user and scopes of each.

    Source: margostino/ai-gateway, `scripts/api-key-generator.py` (read 2026-11).
    """
    if not isinstance(document, Mapping):
        raise KeyProblem("file", "must be a mapping of hashed keys")
    return [_node_key(str(hash_), entry) for hash_, entry in document.items()]


def _node_key(hash_: str, entry: object) -> tuple[str, str, str, list[str]]:
    if not _NODE_HASH.fullmatch(hash_) or not isinstance(entry, Mapping):
        raise KeyProblem("file", f"{hash_[:12]}… is not the HMAC-SHA256 of a key, with a mapping for it")
    user, salt, scopes = (entry.get(name) for name in ("username", "salt", "scopes"))
    if not isinstance(user, str) or not isinstance(salt, str) or not isinstance(scopes, list):
        raise KeyProblem("file", f"{hash_[:12]}… lacks username, salt or scopes")
    try:
        raw = base64.b64decode(salt, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise KeyProblem("file", f"the salt of {hash_[:12]}… is not base64") from None
    words = [f"{each.get('method')}:{each.get('path')}" for each in scopes if isinstance(each, Mapping)]
    return hash_, raw.hex(), user, words


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    caller: Caller
    salt: bytes
    hash: str
    expires_ms: int | None


class KeyRing:
    """All keys that count, in memory: a guess costs one look-up and one hash, and asks nobody.

    Keys of our form are found by their id, others by their hash under each salt that there is: the Node
    gateway has one for all its keys, and `fixed` keys have one of this process. `max_age_s` is how long
    the keys of a database count that does not answer.
    """

    def __init__(
        self,
        rules: ScopeRules,
        *,
        fixed: Iterable[tuple[str, Secret]] = (),
        max_age_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._rules = rules
        self._max_age_s, self._clock, self._now_ms = max_age_s, clock, now_ms
        self._fresh_until: float | None = None
        self._entries: dict[str, _Entry] = {}
        self._uses: dict[str, int] = {}
        self._rows: tuple[KeyRow, ...] = ()
        self.use_fixed(fixed)

    def __len__(self) -> int:
        return len(self._entries) + len(self._hashes)

    def _fixed_entry(self, name: str, salt: bytes, key: Secret) -> _Entry:
        hash_ = _hash(salt, key.reveal())
        row = KeyRow(f"fixed-{name}", "fixed", name, salt.hex(), hash_, ALL, "", 0, "configuration")
        return _Entry(row.id, caller_of(row, self._rules), salt, hash_, None)

    def use(self, rows: Iterable[KeyRow]) -> None:
        """Let these keys in from now on, and no others of the database."""
        self.confirm()
        self._rows = tuple(rows)
        self._index()

    def use_fixed(self, fixed: Iterable[tuple[str, Secret]]) -> None:
        """Let these keys of the configuration in from now on, and no others of it."""
        salt = secrets.token_bytes(16)
        self._fixed = [self._fixed_entry(name, salt, key) for name, key in fixed]
        self._index()

    def confirm(self) -> None:
        """Note that the database says what it said before."""
        self._fresh_until = self._clock() + self._max_age_s

    def _index(self) -> None:
        entries: dict[str, _Entry] = {}
        others = list(self._fixed)
        for row in self._rows:
            entry = _Entry(
                row.id, caller_of(row, self._rules), bytes.fromhex(row.salt), row.hash, row.expires_ms
            )
            if row.form == "jaig":
                entries[row.id] = entry
            else:
                others.append(entry)
        self._entries = entries
        self._hashes = {each.hash: each for each in others}
        self._salts = tuple(dict.fromkeys(each.salt for each in others))

    def find(self, token: str) -> Caller | None:
        """Return whose key it is; None for a text that is none, or one that does not count any more.

        `HubUnavailable` when nobody has been able to say for long whether keys still count.
        """
        entry = self._ours(token) if token.startswith(PREFIX) else self._other(token)
        if entry is None:
            return None
        now_ms = self._now_ms()
        if entry.expires_ms is not None and entry.expires_ms <= now_ms:
            return None
        is_stored = not entry.id.startswith("fixed-")
        if is_stored and self._fresh_until is not None and self._clock() > self._fresh_until:
            raise HubUnavailable(
                "The gateway cannot read its keys right now; try again in a minute.",
                slug="keys_unavailable",
                retry_after_s=60.0,
            )
        if is_stored:
            self._uses[entry.id] = now_ms
        return entry.caller

    def current(self, caller: Caller) -> Caller | None:
        """Return a key's caller as it is now, be it by a key that took its place; None without one."""
        known = (*self._entries.values(), *self._hashes.values())
        mine = [each for each in known if each.caller.key == caller.key]
        mine.sort(key=lambda each: each.id != caller.token_id)
        now_ms = self._now_ms()
        count = (each for each in mine if each.expires_ms is None or each.expires_ms > now_ms)
        return next((each.caller for each in count), None)

    def _ours(self, token: str) -> _Entry | None:
        match = _FORM.fullmatch(token)
        if match is None:
            return None
        entry = self._entries.get(match[1])
        hash_ = _hash(_NO_SALT if entry is None else entry.salt, match[2])
        return entry if entry is not None and hmac.compare_digest(hash_, entry.hash) else None

    def _other(self, token: str) -> _Entry | None:
        for salt in self._salts:
            # Whoever could choose a hash would have the key: finding by it tells nothing by its time
            entry = self._hashes.get(_hash(salt, token))
            if entry is not None and entry.salt == salt:
                return entry
        return None

    def take_uses(self) -> dict[str, int]:
        """Return when keys were used since the last time that this was asked, by id."""
        uses, self._uses = self._uses, {}
        return uses
