"""Google Cloud's Vertex AI, with MLflow's settings: Gemini, Claude, and the models of others.

Which of the three a model is shows in its name. Source: docs.cloud.google.com/vertex-ai/generative-ai/docs,
"locations" for the hosts; google-genai 3.4 `_api_client.py`, anthropic 2.11 `lib/vertex` for the paths
(read 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from urllib.parse import quote

import msgspec
from typing_extensions import override

from ..config import ModelConfig, ProviderSchema, Setting
from ..dialects.codec import Manners
from ..dialects.gemini_request import as_vertex_count
from ..errors import RequestFault
from ..upstream.base import Target
from ..vocabulary import (
    CHAT,
    COMPLETIONS,
    COUNT_CONTENT,
    COUNT_TOKENS,
    GENERATE_CONTENT,
    MESSAGES,
    Operation,
)
from .base import Headers
from .google import METHODS, NATIVE, GoogleHost
from .google_credentials import fetch_of, problems
from .openai import json_headers
from .tokens import TokenCache

_ANTHROPIC_VERSION = msgspec.Raw(b'"vertex-2023-10-16"')
_OTHERS = ("mistral", "codestral", "jamba")
"""Names without a slash that are neither Google's nor Anthropic's."""
_SEVERAL_REGIONS = ("us", "eu")


def _check(settings: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    credentials = settings["vertex_credentials"]
    for problem in problems(credentials):  # type: ignore[arg-type]  # of the kind json
        yield "vertex_credentials", problem


class VertexAI(GoogleHost):
    """A project's models in a location, by a token of Google Cloud."""

    schema = ProviderSchema(
        name="vertex_ai",
        settings=(
            Setting("vertex_project", "text", required=True, help="The project's id."),
            Setting(
                "vertex_location",
                "text",
                help="Such as europe-west4; global for Gemini and Claude, us-central1 for others.",
            ),
            Setting(
                "vertex_credentials",
                "json",
                help="The key of a service account, or other credentials, as JSON or the path of a file; "
                "without it those of the machine, by google-auth.",
            ),
            Setting(
                "vertex_anthropic_betas",
                "words",
                help="Which features of anthropic-beta Claude may hear of; all by default.",
            ),
            Setting("vertex_api_base", "url", help="Another address than the location's own."),
            Setting(
                "vertex_format",
                "choice",
                default="native",
                choices=("native", "both"),
                help="both leaves the translation of chat completions for Gemini to Google.",
            ),
        ),
        endpoint_types=frozenset({CHAT.endpoint_type, COMPLETIONS.endpoint_type}),
        check=_check,
    )

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._model = model.name or ""
        self._publisher = publisher(self._model)
        usual = "us-central1" if self._publisher == "others" else "global"  # as MLflow has it
        self._location: str = self.settings["vertex_location"] or usual
        self.tokens = TokenCache(fetch_of(self.settings["vertex_credentials"]))
        betas: tuple[str, ...] | None = self.settings["vertex_anthropic_betas"]
        self.betas = None if betas is None else frozenset(betas)

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        if self._publisher == "anthropic":
            return frozenset({MESSAGES, COUNT_TOKENS})
        if self._publisher != "google":
            return frozenset({CHAT})
        return NATIVE | {CHAT} if self.settings["vertex_format"] == "both" else NATIVE

    translates = (GENERATE_CONTENT, MESSAGES, CHAT)

    @override
    def manners(self) -> Manners:
        return Manners(model=self._model, takes_call_ids=False)

    @override
    def url(self, operation: Operation) -> str:
        if operation is CHAT:
            return f"{self._base('v1')}/endpoints/openapi{operation.path}"
        if operation is MESSAGES:
            return self._model_url("v1", self._model, "rawPredict")
        if operation is COUNT_TOKENS:
            return self._model_url("v1", "count-tokens", "rawPredict")
        return self._model_url("v1beta1", self._model, METHODS[operation])

    def _base(self, version: str) -> str:
        root = self.settings["vertex_api_base"] or f"https://{host(self._location)}"
        project = quote(self.settings["vertex_project"], safe=":")
        return f"{root}/{version}/projects/{project}/locations/{quote(self._location, safe='')}"

    def _model_url(self, version: str, model: str, method: str) -> str:
        name = quote(model, safe="@")
        return f"{self._base(version)}/publishers/{self._publisher}/models/{name}:{method}"

    @override
    def stream_target(self, operation: Operation) -> Target:
        if operation is MESSAGES:
            url = self._model_url("v1", self._model, "streamRawPredict")
        elif operation is GENERATE_CONTENT:
            url = self._model_url("v1beta1", self._model, "streamGenerateContent") + "?alt=sse"
        else:
            return self.target(operation)
        return self.reach(url, self.headers())

    @override
    def headers(self) -> Headers:
        return json_headers()

    @override
    def amend(self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]) -> None:
        if operation is CHAT:
            if self._publisher == "google":
                fields["model"] = msgspec.Raw(msgspec.json.encode(f"google/{self._model}"))
        elif operation is COUNT_CONTENT:
            as_vertex_count(fields)
        elif operation is GENERATE_CONTENT:
            fields.pop("model", None)
        else:
            self._amend_claude(operation, fields)

    def _amend_claude(self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]) -> None:
        if "anthropic_beta" in fields:
            text = "anthropic_beta: say it in the header anthropic-beta. Leave it out."
            raise RequestFault(text, slug="field_refused", param="anthropic_beta")
        fields["anthropic_version"] = _ANTHROPIC_VERSION
        if operation is MESSAGES:
            fields.pop("model", None)  # the path says it; that of counting does not

    @override
    def secrets(self) -> tuple[str, ...]:
        return () if self.tokens is None else self.tokens.texts


def publisher(model: str) -> str:
    """Say whose a model is, by its name: `google`, `anthropic`, or somebody else's."""
    name = model.lower()
    if name.startswith("claude"):
        return "anthropic"
    is_other = "/" in name or name.startswith(_OTHERS) or name.endswith("-maas")
    return "others" if is_other else "google"


def host(location: str) -> str:
    """Return the host that serves a location."""
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in _SEVERAL_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"
