"""Hosts that speak OpenAI's API: any, by its address, and many by name, which are rows of data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import yaml
from typing_extensions import override

from ..config import ModelConfig, ProviderSchema, Secret, Setting
from ..dialects.codec import Manners
from ..dialects.rerank import to_cohere, to_tei
from ..vocabulary import (
    CHAT,
    COMPLETIONS,
    FIM,
    MESSAGES,
    MISTRAL_CHAT,
    MISTRAL_EMBED,
    OPENAI_OPERATIONS,
    RERANK,
    RESPONSES,
    Operation,
)
from .base import Headers, Provider
from .openai import json_headers

ROWS = Path(__file__).with_name("openai_compatible.yaml")
_MISTRAL_IDS = re.compile(r"[A-Za-z0-9]{9}")
TYPES = {each.endpoint_type.rpartition("/")[2]: each.endpoint_type for each in OPENAI_OPERATIONS}


@dataclass(frozen=True, slots=True)
class Row:
    """One host. `base` is None where the operator has to say it; `key` is required, optional or none."""

    name: str
    about: str
    key: str
    types: tuple[str, ...]
    source: str = ""
    aliases: tuple[str, ...] = ()
    base: str | None = None
    base_name: str = "api_base"
    suffix: str = ""
    key_name: str | None = None
    usage: bool = True
    reports_cost: bool = False
    model_name: bool = True
    messages: bool = False
    responses: bool = False
    temperature_scale: float = 1.0
    tei_rerank: bool = False
    top_k: bool = False
    reasoning: bool = True
    is_mistral: bool = False
    retired_models: str | None = None
    retired_why: str = ""
    key_header: str | None = None
    named_headers: tuple[tuple[str, str], ...] = ()
    bearer_name: str | None = None

    @property
    def key_names(self) -> tuple[str, ...]:
        """Return the settings that may hold the key."""
        if self.key == "none":
            return ()
        return ("api_key",) if self.key_name is None else (self.key_name, "api_key")

    @property
    def translated_types(self) -> frozenset[str]:
        """Return the types that are served by translation: older completions, where the host only chats."""
        is_chat_alone = "chat" in self.types and "completions" not in self.types
        return frozenset({COMPLETIONS.endpoint_type} if is_chat_alone else ())

    def schema(self) -> ProviderSchema:
        """Return what the operator may configure."""
        usual = (
            f"The address; {self.base} by default."
            if self.base
            else "The address, such as http://HOST:8000/v1."
        )
        is_needed = self.key == "required"
        keys = [
            Setting(name, "secret", required=is_needed and len(self.key_names) == 1, help="The key.")
            for name in self.key_names
        ]
        return ProviderSchema(
            name=self.name,
            settings=(
                *keys,
                *(
                    Setting(name, "text", help=f"The header {header}.")
                    for name, header in self.named_headers
                ),
                *self._bearer(),
                Setting(self.base_name, "url", required=self.base is None, help=usual),
                Setting("headers", "headers", help="Further headers of every request."),
                Setting("verify_tls", "flag", default=True, help="false takes any certificate."),
            ),
            endpoint_types=frozenset(TYPES[name] for name in self.types) | self.translated_types,
            model_name_required=self.model_name,
            retired_models=(re.compile(self.retired_models), self.retired_why)
            if self.retired_models
            else None,
            check=self._check_keys if len(self.key_names) > 1 else None,
        )

    def _bearer(self) -> tuple[Setting, ...]:
        about = "The key of the host that is asked in the end, for Authorization."
        return () if self.bearer_name is None else (Setting(self.bearer_name, "secret", help=about),)

    def _check_keys(self, settings: Mapping[str, object]) -> Iterable[tuple[str, str]]:
        given = [name for name in self.key_names if settings[name] is not None]
        if len(given) > 1:
            yield given[1], f"means the same as {given[0]}; keep one of them"
        elif not given and self.key == "required":
            yield self.key_names[0], f"is required by the provider {self.name}"


GENERIC = Row("openai-compatible", "any other host that speaks OpenAI's API", "optional", tuple(TYPES))


class OpenAICompatible(Provider):
    """A host of a row. Subclasses are made by `provider_of`."""

    row: Row

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self.takes_stream_usage = self.row.usage
        self.reports_cost = self.row.reports_cost
        self.is_stranger = self.row.is_mistral
        self.temperature_scale = self.row.temperature_scale
        self.verifies_tls = self.settings["verify_tls"]
        keys: list[Secret] = [self.settings[name] for name in self.row.key_names if self.settings[name]]
        self._key = keys[0] if keys else None

    @override
    def url(self, operation: Operation) -> str:
        given = self.settings[self.row.base_name]
        base = self.row.base if given is None else f"{given}{self.row.suffix}"
        if operation is RERANK and self.row.tei_rerank:
            return f"{str(base).removesuffix('/v1')}{operation.path}"
        return f"{base}{operation.path}"

    @override
    def amend(self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]) -> None:
        if operation is RERANK and self.row.tei_rerank:
            to_tei(fields)

    @override
    def whole_answer(self, operation: Operation, asked: Mapping[str, msgspec.Raw], body: bytes) -> bytes:
        return to_cohere(body, asked) if operation is RERANK else body

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        if endpoint_type in self.row.translated_types:
            return frozenset({CHAT, FIM} if self.row.is_mistral else {CHAT})
        own = super().speaks(endpoint_type)
        if self.row.is_mistral:
            own |= {each for each in (MISTRAL_CHAT, MISTRAL_EMBED) if each.endpoint_type == endpoint_type}
        if CHAT not in own:
            return own
        kinds = ((MESSAGES, self.row.messages), (RESPONSES, self.row.responses))
        return own.union(kind for kind, is_spoken in kinds if is_spoken)

    @override
    def manners(self) -> Manners:
        usual = Manners(
            model=self.model_name or "", takes_top_k=self.row.top_k, takes_reasoning=self.row.reasoning
        )
        if not self.row.is_mistral:
            return usual
        return replace(
            usual, is_mistral=True, takes_user=False, takes_cache_key=True, call_ids=_MISTRAL_IDS
        )

    @override
    def headers(self) -> Headers:
        own: list[tuple[str, Secret]] = list(self.settings["headers"])
        names = {name.lower() for name, _ in own}
        headers = [*json_headers(), *self._credentials()]
        kept = [pair for pair in headers if pair[0].lower() not in names]
        return [*kept, *((name, value.reveal()) for name, value in own)]

    def _credentials(self) -> Headers:
        """Return the headers that hold a key, and what else the row names."""
        row, bearer = self.row, None if self.row.key_header else self._key
        given = [(header, self.settings[name]) for name, header in row.named_headers]
        found = [pair for pair in given if pair[1] is not None]
        if row.key_header is not None and self._key is not None:
            found.append((row.key_header, self._key.reveal()))
        if row.bearer_name is not None:
            bearer = self.settings[row.bearer_name]
        return found if bearer is None else [("Authorization", f"Bearer {bearer.reveal()}"), *found]

    @override
    def secrets(self) -> tuple[str, ...]:
        other = None if self.row.bearer_name is None else self.settings[self.row.bearer_name]
        keys = [each.reveal() for each in (self._key, other) if each is not None]
        return (*keys, *(value.reveal() for _, value in self.settings["headers"]))


def rows() -> tuple[Row, ...]:
    """Read the rows that ship with the package, the generic one first."""
    documents: list[dict[str, Any]] = yaml.safe_load(ROWS.read_text(encoding="utf-8"))
    return (GENERIC, *(_row(document) for document in documents))


def _row(document: dict[str, Any]) -> Row:
    lists: dict[str, Any] = {
        name: tuple(document[name]) for name in ("types", "aliases") if name in document
    }
    if "named_headers" in document:
        lists["named_headers"] = tuple(document["named_headers"].items())
    return Row(**(document | lists))


def provider_of(row: Row) -> type[OpenAICompatible]:
    """Make the provider of a row."""
    return type(row.name, (OpenAICompatible,), {"row": row, "schema": row.schema(), "__doc__": row.about})
