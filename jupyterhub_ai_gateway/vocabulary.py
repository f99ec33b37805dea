"""The nouns that every room shares. Plain values, no input or output, standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone

FULL_ACCESS = "full-access"
"""The scope `custom:NAME:full-access` holds every operation below (the name of the original gateway)."""

ADMIN = "admin"
"""The scope `custom:NAME:admin` is apart: full access does not include it."""

OPERATIONS = {
    "models:list": "List the AI models on offer",
    "chat:create": "Create chat completions",
    "completions:create": "Create text completions",
    "embeddings:create": "Create embeddings",
    "docs:read": "Read the AI gateway's documentation pages",
}
"""Each operation and its description; the scope of one is `custom:NAME:OPERATION`."""


def utcnow() -> datetime:
    """Return the time of day, aware, in UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One thing that a caller can do with a model. There is one of each, so it is compared by identity.

    `scope` is a key of `OPERATIONS`, `endpoint_type` MLflow's name of it, `path` what follows an
    OpenAI-compatible base URL.
    """

    name: str
    scope: str
    endpoint_type: str
    path: str


CHAT = Operation("chat", "chat:create", "llm/v1/chat", "/chat/completions")
COMPLETIONS = Operation("completions", "completions:create", "llm/v1/completions", "/completions")
EMBEDDINGS = Operation("embeddings", "embeddings:create", "llm/v1/embeddings", "/embeddings")

MESSAGES = Operation("messages", "chat:create", "llm/v1/chat", "/messages")
COUNT_TOKENS = Operation("count_tokens", "chat:create", "llm/v1/chat", "/messages/count_tokens")
"""Anthropic's Messages API: another way to ask for the same, under the same scope."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as the Hub says.

    `kind` is "user" or "service". `scopes` are the scopes that count for this caller and this gateway,
    filters (`!user=`, `!group=`, `!service=`) already applied. `operations` are the short names of
    `OPERATIONS` that they may do: empty without the service's access scope, all of them with full
    access. `server_name` is None for a token that is not a notebook server's, "" for the default server.
    """

    kind: str
    name: str
    is_admin: bool = False
    groups: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    has_access: bool = False
    token_id: str | None = None
    server_name: str | None = None
    key: str = field(init=False)
    """What limits and ledgers file this caller under, such as `user:alice`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.kind}:{self.name}")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request as the provider reported them; None is unknown, never zero.

    `cached_input_tokens` are included in `input_tokens`, `reasoning_tokens` in `output_tokens`.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for a provider, in seconds; None is for ever.

    `first_byte_s` runs from the start of sending to the end of the answer's head, `idle_s` between two
    pieces of the answer's body, `total_s` from the start to the end.
    """

    connect_s: float | None = 10.0
    first_byte_s: float | None = 300.0
    idle_s: float | None = 300.0
    total_s: float | None = None
