"""What becomes of each field of a request that goes through to a provider who speaks its format.

A field without an entry is forwarded as it came, so what a vendor adds works the day it ships. The others
have one of these verbs, because the provider's key is shared by everybody on the Hub:

    SET        ours: the caller's value was read and is replaced
    OVERWRITE  names the caller to the provider: replaced by a pseudonym where it is given
    OVERWRITE_USER_ID  the same for the `user_id` within it
    REFUSE     reaches beyond the request: 400 unless null or false
    UNSTORED   would be true if it were left out: set to false, and 400 when it is true
    REFUSE_SHARED_TOOLS  400 when one of these tools uses what is the account's
    REFUSE_FILE_IDS  400 when it names a file of the account by its id
    REFUSE_FILES  400 when a part of a conversation does so
    REFUSE_WITHIN  the same for fields at any depth of a Gemini request (`gemini_request`)
    INNER    a whole Gemini request within this one, under the same verbs
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ..errors import RequestFault

SET: Final = "set"
OVERWRITE: Final = "overwrite"
OVERWRITE_USER_ID: Final = "overwrite user_id"
REFUSE: Final = "refuse"
UNSTORED: Final = "unstored"
REFUSE_SHARED_TOOLS: Final = "refuse shared tools"
REFUSE_FILE_IDS: Final = "refuse file ids"
REFUSE_FILES: Final = "refuse files"
REFUSE_WITHIN: Final = "refuse within"
INNER: Final = "inner"

SHARED_TOOLS = ("file_search", "mcp", "code_interpreter", "document_library", "connector")
"""Tools that a provider runs with files, connections and containers of the account."""

Verbs = Mapping[str, str]

CHAT_VERBS: Verbs = {
    "model": SET,
    "stream_options": SET,
    "user": OVERWRITE,
    "safety_identifier": OVERWRITE,
    "store": REFUSE,
    "messages": REFUSE_FILES,
}
"""Source: https://platform.openai.com/docs/api-reference/chat/create (read 2026-11)."""

COMPLETIONS_VERBS: Verbs = {"model": SET, "stream_options": SET, "user": OVERWRITE}
"""Source: https://platform.openai.com/docs/api-reference/completions/create (read 2026-11)."""

EMBEDDINGS_VERBS: Verbs = {"model": SET, "user": OVERWRITE}
"""Source: https://platform.openai.com/docs/api-reference/embeddings/create (read 2026-11)."""

MESSAGES_VERBS: Verbs = {
    "model": SET,
    "metadata": OVERWRITE_USER_ID,
    "mcp_servers": REFUSE,
    "container": REFUSE,
    "messages": REFUSE_FILES,
}
"""Source: https://platform.claude.com/docs/en/api/messages (read 2026-11)."""

RESPONSES_VERBS: Verbs = {
    "model": SET,
    "user": OVERWRITE,
    "safety_identifier": OVERWRITE,
    "store": UNSTORED,
    "previous_response_id": REFUSE,
    "conversation": REFUSE,
    "background": REFUSE,
    "background_options": REFUSE,
    "prompt": REFUSE,
    "tools": REFUSE_SHARED_TOOLS,
    "input": REFUSE_FILES,
}
"""Source: https://platform.openai.com/docs/api-reference/responses/create (read 2026-11)."""

IMAGES_VERBS: Verbs = {"model": SET, "user": OVERWRITE, "safety_identifier": OVERWRITE}
"""Source: https://platform.openai.com/docs/api-reference/images/create (read 2026-11)."""

IMAGE_EDITS_VERBS: Verbs = {**IMAGES_VERBS, "images": REFUSE_FILE_IDS, "mask": REFUSE_FILE_IDS}
"""Source: https://platform.openai.com/docs/api-reference/images/createEdit (read 2026-11)."""

SPEECH_VERBS: Verbs = {"model": SET}
"""Source: https://platform.openai.com/docs/api-reference/audio/createSpeech (read 2026-11)."""

TRANSCRIPTIONS_VERBS: Verbs = {"model": SET, "user": OVERWRITE}
"""Source: https://platform.openai.com/docs/api-reference/audio/createTranscription (read 2026-11)."""

MODERATIONS_VERBS: Verbs = {"model": SET, "user": OVERWRITE}
"""Source: https://platform.openai.com/docs/api-reference/moderations/create (read 2026-11)."""

RERANK_VERBS: Verbs = {"model": SET, "user": OVERWRITE}
"""Source: https://docs.cohere.com/reference/rerank (read 2026-11)."""

COHERE_CHAT_VERBS: Verbs = {"model": SET}
"""Source: https://docs.cohere.com/reference/chat (read 2026-11)."""

COHERE_EMBED_VERBS: Verbs = {"model": SET}
"""Source: https://docs.cohere.com/reference/embed (read 2026-11)."""

MISTRAL_CHAT_VERBS: Verbs = {"model": SET, "tools": REFUSE_SHARED_TOOLS, "messages": REFUSE_FILES}
"""Source: https://docs.mistral.ai/api/, the types of mistralai 3.7 (read 2026-11)."""

MISTRAL_VERBS: Verbs = {"model": SET}
"""Of embeddings and of filling in. Source: as above."""

_UNKNOWN_TO_COUNTING = ("store", "user", "safety_identifier")
INPUT_TOKENS_VERBS: Verbs = {
    name: verb for name, verb in RESPONSES_VERBS.items() if name not in _UNKNOWN_TO_COUNTING
}
"""Source: https://platform.openai.com/docs/api-reference/responses/input-tokens (read 2026-11)."""

_GEMINI: Verbs = {
    "model": SET,
    "cachedContent": REFUSE,
    "labels": REFUSE,
    "store": REFUSE,
    "modelArmorConfig": REFUSE,
    "outputConfig": REFUSE,
    "contents": REFUSE_WITHIN,
    "systemInstruction": REFUSE_WITHIN,
    "tools": REFUSE_WITHIN,
    "generationConfig": REFUSE_WITHIN,
    "generateContentRequest": INNER,
}


def snake(name: str) -> str:
    """Return the other spelling of a name of Google's: its APIs read both."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


GEMINI_VERBS: Verbs = {**_GEMINI, **{snake(name): verb for name, verb in _GEMINI.items()}}
"""Source: https://ai.google.dev/api/generate-content, /api/tokens, and the same of Vertex AI: the types of
google-genai 3.4 (read 2026-11)."""

GEMINI_REFUSED: Mapping[str, frozenset[str]] = {
    "generationConfig": frozenset({"routingConfig", "modelSelectionConfig"}),
    "tools": frozenset({"fileSearch", "retrieval", "mcpServers"}),
}
"""What is refused one level deeper: settings that choose another model, tools of the account."""

_FILE = "names a file of the provider's account, which everybody here shares: send the file itself"
REASONS: Mapping[str, str] = {
    "store": "would keep the conversation in the provider's account, which everybody here shares",
    "previous_response_id": "is of an answer that is not kept: send the conversation as input",
    "conversation": "would be kept in the provider's account, which everybody here shares",
    "background": "would run on in the provider's account, which everybody here shares",
    "background_options": "are of work that runs on in the provider's account, which everybody here shares",
    "prompt": "is a text of the provider's account, which everybody here shares",
    "tools": "names a tool that works with the provider's account, which everybody here shares",
    "mcp_servers": "would connect the provider's account, which everybody here shares, to other servers",
    "images": "names a file of the provider's account, which everybody here shares",
    "messages": _FILE,
    "input": _FILE,
    "mask": "names a file of the provider's account, which everybody here shares",
    "cachedContent": "is a cache of the provider's account, which everybody here shares",
    "labels": "would be written on the bill of the provider's account, which everybody here shares",
    "modelArmorConfig": "names a template of the provider's account, which everybody here shares",
    "outputConfig": "would write into the provider's account, which everybody here shares",
    "routingConfig": "would choose another model than the one that was asked for",
    "modelSelectionConfig": "would choose another model than the one that was asked for",
    "fileSearch": "would search files of the provider's account, which everybody here shares",
    "retrieval": "would search in the provider's account, which everybody here shares",
    "mcpServers": "would connect the provider's account, which everybody here shares, to other servers",
    "fileData": "names a file of the provider's account, which everybody here shares: use inlineData",
    "container": "would open a container of the provider's account, which everybody here shares",
}
"""Why a field is refused; the end of a sentence that begins with its name."""


class _Typed(msgspec.Struct):
    type: str | None = None


_typed = msgspec.json.Decoder(_Typed).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def type_of(raw: msgspec.Raw) -> str | None:
    """Return the `type` of an object; None for what has none, or is no object."""
    try:
        return _typed(raw).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def typed_items(raw: msgspec.Raw) -> list[tuple[msgspec.Raw, str | None]]:
    """Return each item of a list with its type; nothing for what is no list: the provider will say so."""
    try:
        return [(item, type_of(item)) for item in _items(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


_SPELT = re.compile(rb"\\u00[56]")
"""An escape that could be a letter of `file_id`."""
_LEADS_TO_FILES = ("content", "output", "source", "file")
"""Where parts of a conversation have their parts; what tools are given and take is not among them."""


def file_named_in(name: str, raw: msgspec.Raw) -> str | None:
    """Return the place of a file's id in a conversation, None where there is none or it is no JSON."""
    data = bytes(raw)
    # A single byte is looked for at the speed of memory, a word ten times slower; most have neither.
    # A part of a message stands in a list, and a plain conversation has none but itself
    if name == "messages" and data.find(b"[", 1) < 0:
        return None
    has_word = b"_" in data and b'"file_id"' in data  # arguments of tools may have it as well
    if not has_word and (b"\\" not in data or b"\\u00" not in data or _SPELT.search(data) is None):
        return None
    try:
        return _file_in(msgspec.json.decode(data), name)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _file_in(value: object, place: str) -> str | None:
    if isinstance(value, list):
        found = (_file_in(each, f"{place}[{index}]") for index, each in enumerate(value))
        return next((each for each in found if each is not None), None)
    if not isinstance(value, dict):
        return None
    if value.get("file_id"):
        return f"{place}.file_id"
    within = (_file_in(value[key], f"{place}.{key}") for key in _LEADS_TO_FILES if key in value)
    return next((each for each in within if each is not None), None)


def refused(name: str, where: str | None = None) -> RequestFault:
    """Return the fault of a refused field; `where` is its place, when that is not the top."""
    place = where or name
    reason = REASONS.get(name) or REASONS[camel(name)]
    text = f"{place}: {reason}. Leave it out."
    return RequestFault(text, slug="field_refused", param=place)


def camel(name: str) -> str:
    """Return a name of Google's in its usual spelling."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
