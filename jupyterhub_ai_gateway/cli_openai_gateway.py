"""`jupyterhub-ai-gateway openai-gateway`: in the place of LucienShui's openai-gateway, as it was set."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from traitlets import default
from typing_extensions import override

from .app.environment import environ
from .app.gateway_app import AIGateway
from .app.options import Options
from .config import GatewayConfig, names_file, read_openai_gateway, text_of
from .errors import ConfigFault
from .providers.registry import Providers

_LEVELS = {"WARN": "WARNING"}


class OpenAIGateway(AIGateway):
    """Serve what LucienShui's openai-gateway served, from its CONFIG and API_KEYS, PORT and HOST.

    Both may be the path of a file. The models of CONFIG are open to the keys of API_KEYS and, where
    JUPYTERHUB_API_TOKEN says that there is a Hub, to its tokens as well.

        API_KEYS=key1,key2 CONFIG=config.json jupyterhub-ai-gateway openai-gateway
    """

    name = "jupyterhub-ai-gateway openai-gateway"
    description = __doc__ or ""
    subcommands = {}  # noqa: RUF012 - as traitlets has it
    needs_hub = False

    @default("host")
    def _their_host(self) -> str:
        return environ().get("HOST") or "0.0.0.0"

    @default("port")
    def _their_port(self) -> int:
        text = environ().get("PORT") or "8000"
        if not text.isascii() or not text.isdigit() or int(text) > 65535:
            raise ConfigFault("PORT", "must be the number of a port")
        return int(text)

    @default("config_file")
    def _their_config_file(self) -> str:
        return environ().get("CONFIG") or ""

    @default("log_level")
    def _their_log_level(self) -> int:
        name = (environ().get("LOG_LEVEL") or "INFO").strip().upper()
        level = logging.getLevelName(_LEVELS.get(name, name))
        return level if isinstance(level, int) else logging.INFO

    @override
    def reader(self, providers: Providers | None = None) -> Any:
        schemas = (providers or Providers.installed()).schemas
        if not self.config_file:
            raise ConfigFault("CONFIG", "is not set: the JSON of the models, or the path of a file with it")

        def read() -> GatewayConfig:
            env = environ()
            text, keys = text_of(self.config_file, "CONFIG"), text_of(env.get("API_KEYS", ""), "API_KEYS")
            config = read_openai_gateway(text, keys, schemas, env)
            return replace(config, files=(*self.watched(), *config.files))

        return read

    @override
    def options(self, providers: Providers | None = None) -> Options:
        if (environ().get("WORKERS") or "1").strip() != "1":
            self.log.info("WORKERS is not needed: one process serves all streams at once")
        return replace(super().options(providers), files=self.watched())

    def watched(self) -> tuple[Path, ...]:
        """Return the files that the variables name."""
        texts = (self.config_file, environ().get("API_KEYS", ""))
        return tuple(Path(each.strip()).absolute() for each in texts if names_file(each))
