"""The nouns that every room shares. Plain values, no input or output, standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

FULL_ACCESS = "full-access"
"""The scope `custom:NAME:full-access` holds every operation below (the name of the original gateway)."""

ADMIN = "admin"
"""The scope `custom:NAME:admin` is apart: full access does not include it."""

GROUP_USAGE = "group-usage"
"""So is `custom:NAME:group-usage`, for instructors: what groups use. Its filter `!group=` says of which
groups, not for whom it counts."""

OPERATIONS = {
    "models:list": "List the AI models on offer",
    "chat:create": "Create chat completions",
    "completions:create": "Create text completions",
    "embeddings:create": "Create embeddings",
    "images:create": "Create and edit images",
    "audio:create": "Create speech, transcribe and translate recordings",
    "moderations:create": "Classify what is harmful",
    "rerank:create": "Rank documents by a question",
    "batches:create": "Run batches of requests, and keep their files",
    "docs:read": "Read the AI gateway's documentation pages",
}
"""Each operation and its description; the scope of one is `custom:NAME:OPERATION`."""


def utcnow() -> datetime:
    """Return the time of day, aware, in UTC."""
    return datetime.now(timezone.utc)


def money_text(dollars: Decimal | float | None) -> str:
    """Write dollars for people: cents, and below a cent two digits that count.

    `$1,234.50`, `$0.58`, `$0.0036`. Pages do the same (`money` of `parts.js`); what programs read is exact.
    """
    if dollars is None:
        return "unknown"
    size, sign = abs(Decimal(dollars)), "-" if dollars < 0 else ""
    if 0 < size < _LEAST:
        return f"{sign}<${_LEAST}"
    if not size or size >= _CENTS_FROM:
        return f"{sign}${size.quantize(_CENT, ROUND_HALF_UP):,f}"
    digits = 1 - int(f"{size:.1e}".partition("e")[2])
    return f"{sign}${size:.{digits}f}"


_LEAST, _CENTS_FROM, _CENT = Decimal("0.000001"), Decimal("0.00995"), Decimal("0.01")


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One thing that a caller can do with a model. There is one of each, so it is compared by identity.

    `scope` is a key of `OPERATIONS`, `endpoint_type` MLflow's name of it, `path` what follows an
    OpenAI-compatible base URL, `version` what callers write before it.
    """

    name: str
    scope: str
    endpoint_type: str
    path: str
    version: str = "/v1"

    @property
    def public_path(self) -> str:
        """Return what callers ask below the service's prefix; `MODEL` stands for a model in it."""
        return f"{self.version}{self.path}"


CHAT = Operation("chat", "chat:create", "llm/v1/chat", "/chat/completions")
COMPLETIONS = Operation("completions", "completions:create", "llm/v1/completions", "/completions")
EMBEDDINGS = Operation("embeddings", "embeddings:create", "llm/v1/embeddings", "/embeddings")

MESSAGES = Operation("messages", "chat:create", "llm/v1/chat", "/messages")
COUNT_TOKENS = Operation("count_tokens", "chat:create", "llm/v1/chat", "/messages/count_tokens")
"""Anthropic's Messages API: another way to ask for the same, under the same scope."""

RESPONSES = Operation("responses", "chat:create", "llm/v1/chat", "/responses")
INPUT_TOKENS = Operation("input_tokens", "chat:create", "llm/v1/chat", "/responses/input_tokens")
"""OpenAI's Responses API: a third way."""

COHERE_CHAT = Operation("cohere_chat", "chat:create", "llm/v1/chat", "/chat", "/v2")
COHERE_EMBED = Operation("cohere_embed", "embeddings:create", "llm/v1/embeddings", "/embed", "/v2")
"""Cohere's API of version 2, for chats and for embeddings."""

MISTRAL_CHAT = Operation("mistral_chat", "chat:create", "llm/v1/chat", "/chat/completions")
MISTRAL_EMBED = Operation("mistral_embed", "embeddings:create", "llm/v1/embeddings", "/embeddings")
FIM = Operation("fim", "completions:create", "llm/v1/completions", "/fim/completions")
"""What Mistral's own SDK asks: the first two at OpenAI's paths, but not quite in OpenAI's words."""

SERVING = Operation("serving", "chat:create", "llm/v1/chat", "/invocations")
SERVING_VECTORS = Operation("serving_vectors", "embeddings:create", "llm/v1/embeddings", "/invocations")
"""The format of a served MLflow model, for texts and for embeddings; nobody calls it either."""

CONVERSE = Operation("converse", "chat:create", "llm/v1/chat", "/converse")
BEDROCK_EMBED = Operation("bedrock_embed", "embeddings:create", "llm/v1/embeddings", "/invoke")
"""Amazon Bedrock's formats, which nobody calls either."""

GENERATE_CONTENT = Operation(
    "generate_content", "chat:create", "llm/v1/chat", "/models/MODEL:generateContent", "/v1beta"
)
COUNT_CONTENT = Operation(
    "count_content", "chat:create", "llm/v1/chat", "/models/MODEL:countTokens", "/v1beta"
)
"""Google's Gemini API: a fourth way. Its paths name the model, and say whether the answer is a stream."""

COUNTING = frozenset({COUNT_TOKENS, INPUT_TOKENS, COUNT_CONTENT})
"""What only counts, and costs nothing."""

IMAGES = Operation("images", "images:create", "llm/v1/images", "/images/generations")
IMAGE_EDITS = Operation("image_edits", "images:create", "llm/v1/images", "/images/edits")
IMAGE_VARIATIONS = Operation("image_variations", "images:create", "llm/v1/images", "/images/variations")
SPEECH = Operation("speech", "audio:create", "llm/v1/speech", "/audio/speech")
TRANSCRIPTIONS = Operation(
    "transcriptions", "audio:create", "llm/v1/transcriptions", "/audio/transcriptions"
)
TRANSLATIONS = Operation("translations", "audio:create", "llm/v1/transcriptions", "/audio/translations")
MODERATIONS = Operation("moderations", "moderations:create", "llm/v1/moderations", "/moderations")
RERANK = Operation("rerank", "rerank:create", "llm/v1/rerank", "/rerank")

MEDIA = frozenset({IMAGES, IMAGE_EDITS, IMAGE_VARIATIONS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS})
"""What answers with images, sound or plain text, which pass piece by piece."""

UPLOADS = frozenset({IMAGE_EDITS, IMAGE_VARIATIONS, TRANSCRIPTIONS, TRANSLATIONS})
"""What is asked by a form with files."""

WITHOUT_OUTPUT = frozenset({EMBEDDINGS, COHERE_EMBED, MISTRAL_EMBED, MODERATIONS, RERANK})
"""What writes no tokens."""

UNMETERED = MEDIA | {MODERATIONS, RERANK}
"""What providers often do not count in tokens; then nobody knows how many it took."""

OPENAI_OPERATIONS = (
    *(CHAT, COMPLETIONS, EMBEDDINGS, IMAGES, IMAGE_EDITS, IMAGE_VARIATIONS),
    *(SPEECH, TRANSCRIPTIONS, TRANSLATIONS, MODERATIONS, RERANK),
)
"""What a host that speaks OpenAI's API may serve; the first one of a type is what its endpoints are for."""


class Place(NamedTuple):
    """Where a model runs, as FIRST's paths say it: `/resource_server/{cluster}/{framework}/v1/…`."""

    cluster: str
    framework: str


FEDERATED = Place("", "")
"""Wherever a model runs, where it runs already before where it has yet to be started."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as the Hub says, or the gateway for a key of its own.

    `kind` is "user", "service" or "key". `roles` are empty unless a policy asks for them. `scopes` are
    those that count for this caller and this gateway, filters (`!user=`, …) already applied.
    `operations` are the short names of `OPERATIONS` that they may do: empty without the service's access
    scope, all of them with full access. `server_name` is None for a token that is not a notebook server's,
    "" for the default server. A key may be for some `endpoints` alone (patterns, empty for all), and for
    single `paths` of providers, such as `post:/openai/v1/embeddings`. `watched_groups` are those whose use
    they may see, besides their own.
    """

    kind: str
    name: str
    is_admin: bool = False
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    has_access: bool = False
    token_id: str | None = None
    server_name: str | None = None
    endpoints: tuple[str, ...] = ()
    paths: frozenset[str] = frozenset()
    watched_groups: frozenset[str] = frozenset()
    key: str = field(init=False)
    """What limits and ledgers file this caller under, such as `user:alice`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.kind}:{self.name}")

    def may_reach(self, endpoint: str) -> bool:
        """Say whether an endpoint is among those that this caller is for."""
        return not self.endpoints or any(fnmatchcase(endpoint, pattern) for pattern in self.endpoints)


class Wishes(NamedTuple):
    """What a caller says besides the request, in headers, as they wrote it; None for what is not there.

    `data_class` and `region` are what their data needs, `session` names a conversation, `priority` is
    "interactive" or "batch", `substitute` "never" where no other model may answer.
    """

    data_class: str | None = None
    region: str | None = None
    session: str | None = None
    priority: str | None = None
    substitute: str | None = None


class Usage(NamedTuple):
    """Tokens of one request; None is unknown, never zero.

    `input_tokens` and `output_tokens` are everything that was read and written. The others say how much
    of that was of a kind: `cached_input_tokens` (read from a cache), `cache_write_tokens` (written to one,
    of every lifetime) and `cache_write_1h_tokens` (of those, the ones kept for an hour), audio and images
    are parts of the input; `reasoning_tokens` and `output_audio_tokens` are parts of the output.
    `reported_nanousd` is what the provider says that it costs. `is_estimated` is true when the provider
    did not tell and the numbers are ours. `images` are those that were made, `audio_seconds` is the length
    of a recording that was heard, `search_units` are what Cohere counts a ranking in.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    output_audio_tokens: int | None = None
    reported_nanousd: int | None = None
    is_estimated: bool = False
    images: int | None = None
    audio_seconds: float | None = None
    search_units: int | None = None

    @property
    def is_plain(self) -> bool:
        """Say whether nothing in it has a price of its own, such as what was cached."""
        return not (
            self.cached_input_tokens
            or self.cache_write_tokens
            or self.input_audio_tokens
            or self.input_image_tokens
            or self.output_audio_tokens
            or self.cache_write_1h_tokens
        )

    def parts(self) -> TokenParts:
        """Return the same as parts that do not overlap and add up to the totals.

        What is unknown counts as none here. Where a provider's details exceed its totals, the totals
        are right and the details are cut, in the order of the fields.
        """
        into, out = _Rest(self.input_tokens or 0), _Rest(self.output_tokens or 0)
        cache_read = into.take(self.cached_input_tokens)
        write_1h = into.take(self.cache_write_1h_tokens)
        write = into.take((self.cache_write_tokens or 0) - write_1h)
        audio, image = into.take(self.input_audio_tokens), into.take(self.input_image_tokens)
        reasoning, output_audio = out.take(self.reasoning_tokens), out.take(self.output_audio_tokens)
        return TokenParts(
            into.left, cache_read, write, write_1h, audio, image, out.left, reasoning, output_audio
        )


class TokenParts(NamedTuple):
    """Tokens by kind, without overlap: the first six are the input, the last three the output."""

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    input_audio_tokens: int
    input_image_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int


class _Rest:
    """A total that parts are taken from."""

    __slots__ = ("left",)

    def __init__(self, total: int) -> None:
        self.left = max(0, total)

    def take(self, part: int | None) -> int:
        taken = min(max(0, part or 0), self.left)
        self.left -= taken
        return taken


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
