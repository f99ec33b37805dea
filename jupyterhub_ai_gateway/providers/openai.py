"""OpenAI itself, and OpenAI's models on Azure, with the settings that MLflow gave them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

import msgspec
from typing_extensions import override

from .._version import __version__
from ..config import ENDPOINT_TYPES, ModelConfig, ProviderSchema, Secret, Setting
from ..config.model import SettingKind
from ..dialects.codec import Manners
from ..vocabulary import CHAT, COMPLETIONS, INPUT_TOKENS, RERANK, RESPONSES, Operation
from . import entra
from .base import Headers, Provider, bearer
from .tokens import TokenCache

_CHATS_ALONE = re.compile(r"(?:ft:)?(?:gpt-(?!oss|.*instruct)|chatgpt-|o\d)")
"""Models that the older completions refuse. MLflow's files name them under llm/v1/completions all the same.

Source: https://platform.openai.com/docs/models (read 2026-11); mlflow/mlflow, examples/gateway.
"""
_PLAIN = re.compile(r"(?:ft:)?(?:gpt-3|gpt-4|chatgpt-4)")
"""Models that do not reason; the others refuse to be told a temperature.

Source: https://platform.openai.com/docs/guides/reasoning (read 2026-11).
"""

USER_AGENT = f"jupyterhub-ai-gateway/{__version__}"
_API_BASE = "https://api.openai.com/v1"
_AZURE = ("azure", "azuread")
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


def _check(settings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Say what Azure needs besides, and what only OpenAI takes."""
    kind = settings["openai_api_type"]
    if kind in _AZURE:
        yield from _check_azure(settings, kind)
        yield from _check_key(settings, kind == "azuread", "openai_api_key", "openai")
        return
    for name in ("openai_deployment_name", "openai_api_version"):
        if settings[name] is not None:
            yield name, "is for the openai_api_type azure and azuread alone"
    yield from _check_key(settings, False, "openai_api_key", "openai")


def _check_key(
    settings: Mapping[str, Any], takes_entra: bool, key: str, provider: str
) -> Iterable[tuple[str, str]]:
    """Say what is wrong with the credentials: a key, or a way to a token of Entra ID."""
    ways = entra.given(settings)
    if ways and not takes_entra:
        yield ways[0], "is for the openai_api_type azuread alone"
    elif ways and settings[key] is not None:
        yield key, f"is another way to a token than {ways[0]}; keep one of them"
    elif not ways and settings[key] is None:
        yield key, f"is required by the provider {provider}"
    else:
        yield from entra.problems(settings)


def _check_azure(settings: Mapping[str, Any], kind: str) -> Iterable[tuple[str, str]]:
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


_FORMAT = Setting(
    "openai_format",
    "choice",
    default="both",
    choices=("both", "responses", "chat"),
    help="What the model is offered by, where it is only one of the two.",
)


class OpenAI(Provider):
    """OpenAI, or Azure by `openai_api_type`.

    Azure has two styles of URL: with `openai_deployment_name` and `openai_api_version` the deployment is
    in the path; without them the address ends in `/openai/v1` and the model's name says which one. Its
    credentials are a key, a token of Entra ID, or a way to such tokens (`entra`).
    """

    schema = ProviderSchema(
        name="openai",
        settings=(
            Setting("openai_api_key", "secret", help="The key; for azuread a token of Entra ID."),
            Setting("openai_api_type", "choice", default="openai", choices=("openai", *_AZURE)),
            Setting("openai_api_base", "url", help=f"The address; {_API_BASE} for OpenAI itself."),
            Setting("openai_api_version", "text", help="Azure's api-version."),
            Setting("openai_deployment_name", "text", help="Azure's name of the deployment."),
            _FORMAT,
            Setting("openai_organization", "text", help="Which organization is charged."),
            *entra.SETTINGS,
        ),
        endpoint_types=frozenset(ENDPOINT_TYPES) - {RERANK.endpoint_type},
        check=_check,
    )

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._kind: str = self.settings["openai_api_type"]
        self._key: Secret | None = self.settings["openai_api_key"]
        self._base: str = self.settings["openai_api_base"] or _API_BASE
        self._deployment: str | None = self.settings["openai_deployment_name"]
        self._version: str | None = self.settings["openai_api_version"]
        self._join()

    def _join(self) -> None:
        """Draw conclusions from what was configured."""
        fetch = entra.fetch_of(self.settings)
        self.tokens = None if fetch is None else TokenCache(fetch)
        if self._kind in _AZURE and self._version is not None:
            self.takes_stream_usage = self._version >= _FIRST_WITH_USAGE

    @override
    def url(self, operation: Operation) -> str:
        base = self._base
        if self._kind not in _AZURE:
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
        if COMPLETIONS in own and _CHATS_ALONE.match(self.model_name or ""):
            return frozenset({CHAT})
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
            takes_cache_key=self._kind not in _AZURE,
        )

    @override
    def headers(self) -> Headers:
        headers = json_headers()
        if self._key is not None:
            key = self._key.reveal()
            headers.append(("api-key", key) if self._kind == "azure" else bearer(key))
        if self.settings.get("openai_organization") is not None:
            headers.append(("OpenAI-Organization", self.settings["openai_organization"]))
        return headers

    @override
    def amend(self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]) -> None:
        if self._deployment is not None:
            fields.pop("model", None)  # the path says it

    @override
    def secrets(self) -> tuple[str, ...]:
        keys = (
            self._key,
            self.settings["azure_client_secret"],
            self.settings["azure_managed_identity_header"],
        )
        fetched = () if self.tokens is None else self.tokens.texts
        return (*(key.reveal() for key in keys if key is not None), *fetched)


_KINDS_OF: Mapping[str, SettingKind] = {
    "openai_api_key": "secret",
    "openai_api_base": "url",
    "openai_api_version": "text",
    "openai_deployment_name": "text",
}
_SAME = {
    "openai_api_key": "api_key",
    "openai_api_base": "api_base",
    "openai_api_version": "api_version",
    "openai_deployment_name": "deployment_name",
}
"""What Azure's settings are called by MLflow's table of openai, and by its provider of that name."""


def _check_named(settings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, short in _SAME.items():
        if settings[name] is not None and settings[short] is not None:
            yield short, f"means the same as {name}; keep one of them"
            return
    joined = {**settings, **{name: _either(settings, name) for name in _SAME}}
    if joined["openai_api_base"] is None:
        yield "api_base", "is required by the provider azure, such as https://NAME.openai.azure.com"
    if joined["openai_deployment_name"] is not None and joined["openai_api_version"] is None:
        yield "api_version", "is required with a deployment_name"
    key = "openai_api_key" if settings["openai_api_key"] is not None else "api_key"
    takes_entra = settings["openai_api_type"] != "azure" or joined["openai_api_key"] is None
    yield from _check_key({**joined, key: joined["openai_api_key"]}, takes_entra, key, "azure")


def _either(settings: Mapping[str, Any], name: str) -> Any:
    return settings[_SAME[name]] if settings[name] is None else settings[name]


class Azure(OpenAI):
    """Azure OpenAI under its own name, with the settings of `openai` or the shorter ones.

    With an `api_version` the model's name is the deployment's, unless there is a `deployment_name`.
    """

    schema = ProviderSchema(
        name="azure",
        settings=(
            Setting("api_key", "secret", help="The key; for azuread a token of Entra ID."),
            Setting("api_base", "url", help="The address, such as https://NAME.openai.azure.com."),
            Setting("api_version", "text", help="The api-version, for URLs that name the deployment."),
            Setting("deployment_name", "text", help="The name of the deployment."),
            Setting(
                "openai_api_type",
                "choice",
                choices=_AZURE,
                help="azuread where the key is a token of Entra ID; not needed with the settings below.",
            ),
            _FORMAT,
            *(
                Setting(name, _KINDS_OF[name], help=f"The same as {short}.")
                for name, short in _SAME.items()
            ),
            *entra.SETTINGS,
        ),
        endpoint_types=frozenset(ENDPOINT_TYPES) - {RERANK.endpoint_type},
        check=_check_named,
    )

    def __init__(self, model: ModelConfig) -> None:
        Provider.__init__(self, model)
        self._kind = self.settings["openai_api_type"] or "azure"
        self._key = _either(self.settings, "openai_api_key")
        self._base = _either(self.settings, "openai_api_base")
        self._version = _either(self.settings, "openai_api_version")
        self._deployment = _either(self.settings, "openai_deployment_name")
        if self._version is not None and self._deployment is None:
            self._deployment = model.name
        self._join()
