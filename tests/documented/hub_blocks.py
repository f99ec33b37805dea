"""Blocks of `jupyterhub_config.py`, executed with what JupyterHub gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Protocol

from traitlets.config import Config

from jupyterhub_ai_gateway.hub_config import configure

ADDRESS = "http://127.0.0.1:5000/services/ai-gateway"
"""Where `configure` finds the gateway on the Hub's machine."""
FILES = (
    "/srv/jupyterhub/ai-gateway.yaml",
    "/srv/jupyterhub/config.yaml",
    "/opt/tljh/config/ai-gateway.yaml",
    "config.yaml",
)


class Running(Protocol):
    """A gateway that callers reach at `base_url`, with a token for one of them."""

    @property
    def base_url(self) -> str: ...

    token: str


def execute(text: str, config_file: str, c: Config | None = None, **names: Any) -> Config:
    """Execute a block as the Hub does, and return its configuration."""
    c = Config() if c is None else c
    for each in FILES:
        text = text.replace(f'"{each}"', repr(config_file))
    exec(compile(text, "jupyterhub_config.py", "exec"), {"c": c, "configure": configure, **names})
    return c


def environment(c: Config, token: str) -> dict[str, str]:
    """Return what a server with this token finds in its environment."""
    given: Mapping[str, str | Callable[[Any], str]] = c.Spawner.environment
    spawner = SimpleNamespace(api_token=token)
    return {name: value(spawner) if callable(value) else value for name, value in given.items()}


def configured(text: str, running: Running, config_file: str = __file__) -> dict[str, str]:
    """Return the environment that a block gives to servers, with a running gateway in it."""
    found = environment(execute(text, config_file), running.token)
    root = running.base_url.removesuffix("/v1")
    return {name: value.replace(ADDRESS, root) for name, value in found.items()}
