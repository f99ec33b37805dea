"""OpenAI itself, and OpenAI's models on Azure, with the settings that MLflow gave them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from urllib.parse import quote

import msgspec
from typing_extensions import override

from .._version import __version__
from ..config import ENDPOINT_TYPES, ModelConfig, ProviderSchema, Secret, Setting
from ..dialects.codec import Manners
from ..vocabulary import CHAT, INPUT_TOKENS, RERANK, RESPONSES, Operation
from .base import Headers, Provider

USER_AGENT = f"jupyterhub-ai-gateway/{__version__}"
_API_BASE = "https://api.openai.com/v1"
_AZURE = ("azure", "azuread")
_PLAIN = re.compile(r"(?:ft:)?(?:gpt-3|gpt-4|chatgpt-4)")
"""Models that do not reason; the others refuse to be told a temperature.

Source: https://platform.openai.com/docs/guides/reasoning (read 2026-11).
"""
_FIRST_WITH_USAGE = "2024-08-01"
"""Azure's versions before this one refuse `stream_options`.

Source: Azure/azure-rest-api-specs, `AzureOpenAI/inference/preview` (read 2026-11).
"""


def json_headers() -> list[tuple[str, str]]:
    """Return what every request to an OpenAI-compatible host says of itself."""
    return [
        ("User-Agent", USER_AGENT),
        ("Accept", "application/json, text/event-stream"),
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/json"),
    ]


def _check(settings: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    """Say what Azure needs besides, and what only OpenAI takes."""
    kind = settings["openai_api_type"]
    if kind not in _AZURE:
        for name in ("openai_deployment_name", "openai_api_version"):
            if settings[name] is not None:
                yield name, "is for the openai_api_type azure and azuread alone"
        return
    if settings["openai_api_base"] is None:
        yield (
            "openai_api_base",
            f"is required by the openai_api_type {kind}, such as https://NAME.openai.azure.com",
        )
    if settings["openai_organization"] is not None:
        yield "openai_organization", f"is not for the openai_api_type {kind}"
    has_version, has_deployment = (
        settings[name] is not None for name in ("openai_api_version", "openai_deployment_name")
    )
    if has_version and not has_deployment:
        yield (
            "openai_deployment_name",
            f"is required by the openai_api_type {kind} with an openai_api_version",
        )
    if has_deployment and not has_version:
        yield (
            "openai_api_version",
            f"is required by the openai_api_type {kind} with an openai_deployment_name",
        )


class OpenAI(Provider):
    """OpenAI, or Azure by `openai_api_type`.

    Azure has two styles of URL: with `openai_deployment_name` and `openai_api_version` the deployment is
    in the path; without them the address ends in `/openai/v1` and the model's name says which one.
    """

    schema = ProviderSchema(
        name="openai",
        settings=(
            Setting(
                "openai_api_key", "secret", required=True, help="The key; for azuread a token of Entra ID."
            ),
            Setting("openai_api_type", "choice", default="openai", choices=("openai", *_AZURE)),
            Setting("openai_api_base", "url", help=f"The address; {_API_BASE} for OpenAI itself."),
            Setting("openai_api_version", "text", help="Azure's api-version."),
            Setting("openai_deployment_name", "text", help="Azure's name of the deployment."),
            Setting(
                "openai_format",
                "choice",
                default="both",
                choices=("both", "responses", "chat"),
                help="What the model is offered by, where it is only one of the two.",
            ),
            Setting("openai_organization", "text", help="Which organization is charged."),
        ),
        endpoint_types=frozenset(ENDPOINT_TYPES) - {RERANK.endpoint_type},
        check=_check,
    )

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._key: Secret = self.settings["openai_api_key"]
        self._is_azure = self.settings["openai_api_type"] in _AZURE
        self._deployment: str | None = self.settings["openai_deployment_name"]
        self._version: str | None = self.settings["openai_api_version"]
        if self._is_azure and self._version is not None:
            self.takes_stream_usage = self._version >= _FIRST_WITH_USAGE

    @override
    def url(self, operation: Operation) -> str:
        base = self.settings["openai_api_base"] or _API_BASE
        if not self._is_azure:
            return f"{base}{operation.path}"
        if self._deployment is None:
            start = base if base.endswith("/openai/v1") else f"{base}/openai/v1"
            return f"{start}{operation.path}"
        version = quote(self._version or "", safe="")
        deployment = quote(self._deployment, safe="")
        return f"{base}/openai/deployments/{deployment}{operation.path}?api-version={version}"

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        own = super().speaks(endpoint_type)
        only = self.settings["openai_format"]
        if CHAT not in own or only == "chat" or self._deployment is not None:
            return own  # Azure's older style has no Responses
        responses = frozenset({RESPONSES, INPUT_TOKENS})
        return responses if only == "responses" else own | responses

    translates = (RESPONSES, CHAT)

    @override
    def manners(self) -> Manners:
        model = self.model_name or ""
        is_plain = _PLAIN.match(model) is not None
        return Manners(
            model=model,
            max_tokens="max_completion_tokens",
            takes_custom_tools=True,
            takes_reasoning=not is_plain,
            takes_sampling=is_plain,
            takes_cache_key=not self._is_azure,
        )

    @override
    def headers(self) -> Headers:
        key = self._key.reveal()
        is_key = self.settings["openai_api_type"] == "azure"
        headers = [*json_headers(), ("api-key", key) if is_key else ("Authorization", f"Bearer {key}")]
        if self.settings["openai_organization"] is not None:
            headers.append(("OpenAI-Organization", self.settings["openai_organization"]))
        return headers

    @override
    def amend(self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]) -> None:
        if self._deployment is not None:
            fields.pop("model", None)  # the path says it

    @override
    def secrets(self) -> tuple[str, ...]:
        return (self._key.reveal(),)
