"""What the arguments of `configure` mean, each right by itself: names, scopes, variables, the command."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigFault
from ..vocabulary import ADMIN, FULL_ACCESS, GROUP_USAGE, OPERATIONS

CLIENTS = ("openai", "anthropic", "gemini", "mlflow")
"""Whose variables we know; each was read in the client's own source and tried, 2026-11.

openai: the OpenAI SDK and what is built on it. OPENAI_BASE_URL ends in /v1.
anthropic: the Anthropic SDK and Claude Code. ANTHROPIC_BASE_URL does not; ANTHROPIC_AUTH_TOKEN is sent as a
bearer token. For models whose provider speaks Anthropic's Messages API.
gemini: google-genai. GOOGLE_GEMINI_BASE_URL has no version; GOOGLE_API_KEY counts before GEMINI_API_KEY.
For models whose provider speaks Google's Gemini API.
mlflow: `mlflow.gateway` and `mlflow.deployments`. MLFLOW_TRACKING_TOKEN goes to a tracking server as well,
so it is for Hubs without one of their own.
"""

DIRECTORY_SCOPES = (
    "list:groups",
    "read:groups",
    "read:roles:groups",
    "read:roles:users",
    "read:roles:services",
)
"""What the gateway's own token needs to learn of groups and roles."""

NAME = r"[a-z][a-z0-9_-]*[a-z0-9_]"
ENDPOINT_SCOPE = r"[a-z0-9](?:[a-z0-9_:\-]*[a-z0-9_])?"


def fault(argument: str, problem: str) -> ConfigFault:
    """Return the fault of one argument of `configure`."""
    return ConfigFault(f"configure(…, {argument}=…)", problem)


@dataclass(frozen=True, slots=True)
class Plan:
    """The arguments of `configure`. None in `users` and in `groups` means all users of the Hub.

    `command` is empty when there is neither a configuration file nor an argument for the gateway.
    """

    name: str
    command: tuple[str, ...]
    host: str
    port: int
    environment: Mapping[str, str] = field(repr=False)
    url: str | None
    api_token: str | None = field(repr=False)
    server_url: str | None
    users: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    scopes: tuple[str, ...]
    endpoint_scopes: Mapping[str, str]
    clients: tuple[str, ...]
    directory: bool = False

    def __post_init__(self) -> None:
        self._check_names()
        self._check_scopes()
        self._check_service()

    def _check_names(self) -> None:
        if not re.fullmatch(NAME, self.name):
            problem = "must begin with a letter and be of a to z, 0 to 9, _ and -, as it is part of scopes"
            raise fault("name", f"{problem}; found {self.name!r}")
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 < self.port < 65536:
            raise fault(
                "port", f"must be a number from 1 to 65535, as nobody else chooses it; found {self.port!r}"
            )
        for argument, value in (("url", self.url), ("server_url", self.server_url)):
            if value is not None and not _is_url(value):
                raise fault(argument, f"must begin with http:// or https:// and a host; found {value!r}")
        for client in self.clients:
            if client not in CLIENTS:
                raise fault("clients", f"must be of {', '.join(CLIENTS)}; found {client!r}")

    def _check_scopes(self) -> None:
        for scope in self.endpoint_scopes:
            if scope in (*OPERATIONS, FULL_ACCESS, ADMIN, GROUP_USAGE) or not re.fullmatch(
                ENDPOINT_SCOPE, scope
            ):
                problem = "must be short names of your own, of a to z, 0 to 9, _, - and :"
                raise fault("endpoint_scopes", f"{problem}; found {scope!r}")
        known = (FULL_ACCESS, *OPERATIONS, *self.endpoint_scopes)
        for scope in self.scopes:
            if scope not in known:
                raise fault("scopes", f"must be of {', '.join(known)}; found {scope!r}")

    def _check_service(self) -> None:
        if self.is_managed and not self.command:
            raise fault("config_file", "is needed: it says which models the gateway serves")
        if self.is_managed and self.api_token is not None:
            raise fault(
                "api_token",
                "is for a gateway that runs by itself, at url; the Hub gives its own one a token",
            )
        if not self.is_managed and (self.command or self.environment):
            problem = "means that the gateway runs by itself"
            raise fault(
                "url", f"{problem}, so config_file, arguments and environment must be given to it, not here"
            )

    @property
    def is_managed(self) -> bool:
        """Say whether the Hub starts the gateway."""
        return self.url is None

    @property
    def access(self) -> str:
        return f"access:services!service={self.name}"

    def full(self, scope: str) -> str:
        """Return the Hub's name for a scope of this gateway."""
        return f"custom:{self.name}:{scope}"

    def custom_scopes(self) -> dict[str, dict[str, Any]]:
        """Define every scope of this gateway."""
        operations = {self.full(scope): {"description": text} for scope, text in OPERATIONS.items()}
        whole = {"description": "Use every operation of the AI gateway", "subscopes": list(operations)}
        own = {self.full(scope): {"description": text} for scope, text in self.endpoint_scopes.items()}
        staff = {
            self.full(ADMIN): {"description": "Look after the AI gateway"},
            self.full(GROUP_USAGE): {"description": "See what groups use of the AI gateway"},
        }
        return {self.full(FULL_ACCESS): whole, **operations, **own, **staff}

    def granted(self) -> list[str]:
        """Return what the users get: nothing when there are no scopes."""
        return [self.access, *(self.full(scope) for scope in self.scopes)] if self.scopes else []

    def asked_by_servers(self) -> list[str]:
        """Return what a server's token asks for; the Hub cuts that to what the server's owner holds."""
        return [self.access, self.full(FULL_ACCESS), *(self.full(scope) for scope in self.endpoint_scopes)]

    def asked_by_pages(self) -> list[str]:
        """Return what the token of a browser on our pages asks for; cut in the same way."""
        return [self.full(scope) for scope in (*OPERATIONS, *self.endpoint_scopes, ADMIN, GROUP_USAGE)]


def command(config_file: str | Path | None, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return how the Hub starts the gateway: () when nothing says what it is to serve."""
    if isinstance(arguments, str):
        raise fault("arguments", "must be a list of words")
    words = [*arguments]
    if config_file is not None:
        path = Path(config_file).expanduser().absolute()
        if not path.is_file():
            raise fault("config_file", f"{path} is not a file")
        words[:0] = ["--config", str(path)]
    return (sys.executable, "-m", "jupyterhub_ai_gateway", *words) if words else ()


def environment_of(variables: Mapping[str, str] | None) -> Mapping[str, str]:
    """Check the gateway's own variables; a fault never shows a value."""
    for name, value in (variables or {}).items():
        if not isinstance(value, str):
            raise fault("environment", f"must have texts only; {name} is {type(value).__name__}")
    return dict(variables or {})


def descriptions(scopes: Iterable[str] | Mapping[str, str]) -> Mapping[str, str]:
    """Give a description to each scope that has none; people read it when they allow something."""
    if isinstance(scopes, Mapping):
        return dict(scopes)
    if isinstance(scopes, str):
        raise fault("endpoint_scopes", "must be a list, or a mapping to descriptions")
    return {scope: f"Use the AI models that ask for {scope!r}" for scope in scopes}


def server_token(spawner: Any) -> str:
    """Return the token of a notebook server that is about to start: its JUPYTERHUB_API_TOKEN."""
    return str(spawner.api_token)


def variables(client: str, server_url: str) -> dict[str, Any]:
    """Return what a notebook server needs in its environment so that `client` finds the gateway."""
    if client == "anthropic":
        return {"ANTHROPIC_BASE_URL": server_url, "ANTHROPIC_AUTH_TOKEN": server_token}
    if client == "gemini":
        return {"GOOGLE_GEMINI_BASE_URL": server_url, "GEMINI_API_KEY": server_token}
    if client == "mlflow":
        return {
            "MLFLOW_GATEWAY_URI": server_url,
            "MLFLOW_DEPLOYMENTS_TARGET": server_url,
            "MLFLOW_TRACKING_TOKEN": server_token,
        }
    return {"OPENAI_BASE_URL": f"{server_url}/v1", "OPENAI_API_KEY": server_token}


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
    except ValueError:
        return False
