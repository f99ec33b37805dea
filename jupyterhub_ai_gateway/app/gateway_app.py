"""`AIGateway`: what an operator sets, on the command line, in the environment or in a traitlets file."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from traitlets import Bool, Enum, Float, Integer, List, Unicode, default
from traitlets.config import Application, Config
from typing_extensions import override

from .._version import __version__
from ..config import GatewayConfig, load, parse
from ..errors import ConfigFault
from ..providers.registry import Providers
from .environment import SERVICE_NAME, environ, hub_options, internal_ssl, listen_address, service_prefix
from .options import CONTENT_LIMIT_BYTES, Options
from .service import Service

SETTINGS_FILE = "jupyterhub_ai_gateway_config.py"
_PARENT_POLL_S = 2.0
_LOGGERS = ("jupyterhub_ai_gateway", "tornado", "asyncio")
_GC_THRESHOLDS = (50_000, 20, 50)
"""What a process of many small short-lived values needs; measured by `make bench`."""
_TRUE = ("1", "true", "yes", "on")


class AIGateway(Application):
    """The LLM gateway of a JupyterHub.

    Usually the Hub starts it; see `jupyterhub_ai_gateway.hub_config.configure`. By hand:

        jupyterhub-ai-gateway --config config.yaml --port 5000
    """

    name = "jupyterhub-ai-gateway"
    version = __version__
    description = __doc__ or ""

    aliases: Any = {
        **Application.aliases,
        ("H", "host"): "AIGateway.host",
        ("p", "port"): "AIGateway.port",
        ("c", "config"): "AIGateway.config_file",
        "admin-port": "AIGateway.admin_port",
        ("f", "settings"): "AIGateway.settings_file",
    }
    flags: Any = {
        **Application.flags,
        ("m", "metrics"): (
            {"AIGateway": {"metrics_enabled": True}},
            "Count requests, at /metrics (the default).",
        ),
        "no-metrics": ({"AIGateway": {"metrics_enabled": False}}, "Have no /metrics."),
        "generate-config": (
            {"AIGateway": {"generate_config": True}},
            f"Write {SETTINGS_FILE}, with every setting and its default, and exit.",
        ),
    }
    subcommands: Any = {
        "check": ("jupyterhub_ai_gateway.cli.Check", "Check a configuration and say what it would serve."),
        "auth": (
            "jupyterhub_ai_gateway.cli.Auth",
            "Get a token of the Hub, for those who are outside of it.",
        ),
        "bench": ("jupyterhub_ai_gateway.cli.Bench", "Measure how fast a chat endpoint answers."),
        "start": ("jupyterhub_ai_gateway.cli.Start", "Start the gateway, as MLflow spells it."),
        "import": ("jupyterhub_ai_gateway.cli.Import", "Turn another gateway's configuration into ours."),
        "keys": ("jupyterhub_ai_gateway.cli_keys.KeyCommands", "Make, list and end gateway keys."),
        "openai-gateway": (
            "jupyterhub_ai_gateway.cli_openai_gateway.OpenAIGateway",
            "Serve the CONFIG and API_KEYS of LucienShui's openai-gateway.",
        ),
        "models": ("jupyterhub_ai_gateway.cli.Models", "Print the catalogue of models."),
        "db": ("jupyterhub_ai_gateway.cli.DatabaseCommands", "Look after the ledger's database."),
    }
    classes: Any = []

    config_file = Unicode(
        help="The YAML file of endpoints (JUPYTERHUB_AI_GATEWAY_CONFIG; config.yaml)."
    ).tag(config=True)
    endpoints: Any = List(
        help="The endpoints themselves, in the same structure as in the YAML file, in place of a file."
    ).tag(config=True)
    settings_file = Unicode(
        SETTINGS_FILE, help="A Python file with these settings, read when it is there."
    ).tag(config=True)
    host = Unicode(help="The address to listen on: JUPYTERHUB_SERVICE_URL's, or localhost.").tag(
        config=True
    )
    port = Integer(help="The port to listen on: JUPYTERHUB_SERVICE_URL's, or 5000.").tag(config=True)
    service_name = Unicode(help="The service's name on the Hub (JUPYTERHUB_SERVICE_NAME; ai-gateway).").tag(
        config=True
    )
    service_prefix = Unicode(
        help="Where the paths begin (JUPYTERHUB_SERVICE_PREFIX; /). All are served without it as well."
    ).tag(config=True)
    hub_api_url = Unicode(help="The Hub's API (JUPYTERHUB_API_URL; http://localhost:8000/hub/api).").tag(
        config=True
    )
    hub_api_token = Unicode(help="The service's own token (JUPYTERHUB_API_TOKEN).").tag(config=True)
    public_url = Unicode(help="The gateway as browsers reach it (JUPYTERHUB_PUBLIC_URL).").tag(config=True)
    public_hub_url = Unicode(help="The Hub as browsers reach it (JUPYTERHUB_PUBLIC_HUB_URL).").tag(
        config=True
    )
    metrics_enabled = Bool(True, help="Count requests, at /metrics.").tag(config=True)
    metrics_namespace = Unicode(
        help="What the names of our own metrics begin with (JUPYTERHUB_AI_GATEWAY_METRICS_NAMESPACE)."
    ).tag(config=True)
    authenticate_prometheus = Bool(
        True, help="Show /metrics only to tokens with the Hub's scope read:metrics; else to everybody."
    ).tag(config=True)
    docs_title = Unicode(help="What the pages are called (JUPYTERHUB_AI_GATEWAY_DOCS_TITLE).").tag(
        config=True
    )
    docs_description = Unicode(
        help="What they say of themselves (JUPYTERHUB_AI_GATEWAY_DOCS_DESCRIPTION)."
    ).tag(config=True)
    auth_ttl_s = Float(60.0, min=0.0, help="How long the Hub's word about a token counts, in seconds.").tag(
        config=True
    )
    auth_grace_s = Float(
        300.0, min=0.0, help="How long it counts when the Hub does not answer, in seconds."
    ).tag(config=True)
    keepalive_s = Float(
        15.0, min=0.0, help="Silence after which a stream gets a comment, in seconds; 0 for never."
    ).tag(config=True)
    drain_timeout_s = Float(
        8.0, min=0.0, help="How long running requests may go on when the gateway stops, in seconds."
    ).tag(config=True)
    drain_delay_s = Float(
        0.0,
        min=0.0,
        help="How long new requests are still taken then, while readiness says no, in seconds.",
    ).tag(config=True)
    reload_poll_s = Float(
        2.0, min=0.0, help="How often the configuration's files are looked at, in seconds; 0 for never."
    ).tag(config=True)
    max_body_bytes = Integer(CONTENT_LIMIT_BYTES, min=1024, help="The longest request body, in bytes.").tag(
        config=True
    )
    http_server = Enum(
        ("fast", "tornado"), "fast", help="What reads requests: our own HTTP/1.1 server, or tornado's."
    ).tag(config=True)
    http_client = Enum(
        ("lean", "aiohttp"), "lean", help="What asks providers: our own HTTP/1.1 client, or aiohttp's."
    ).tag(config=True)
    admin_port = Unicode(
        help="A second port, or HOST:PORT, with /ping and /metrics open to all who reach it; none by "
        "default. Without a host it is 127.0.0.1."
    ).tag(config=True)
    fast_lane = Bool(True, help="Serve the busiest paths without tornado's request handlers.").tag(
        config=True
    )
    log_requests = Bool(False, help="Write a line for each request, without its content.").tag(config=True)
    xheaders = Bool(False, help="Believe X-Forwarded-For and X-Forwarded-Proto.").tag(config=True)
    exit_with_parent = Bool(
        help="Stop when the Hub that started this process is gone; on for a managed service."
    ).tag(config=True)
    generate_config = Bool(False, help="Write the settings file and exit.").tag(config=True)

    needs_hub = True
    """False where a gateway may run without a Hub, for callers with keys alone."""

    @default("config_file")
    def _config_file(self) -> str:
        return environ().get("JUPYTERHUB_AI_GATEWAY_CONFIG") or "config.yaml"

    @default("host")
    def _host(self) -> str:
        return listen_address(environ())[0]

    @default("port")
    def _port(self) -> int:
        return listen_address(environ())[1]

    @default("service_name")
    def _service_name(self) -> str:
        return environ().get("JUPYTERHUB_SERVICE_NAME") or SERVICE_NAME

    @default("service_prefix")
    def _service_prefix(self) -> str:
        return environ().get("JUPYTERHUB_SERVICE_PREFIX") or "/"

    @default("hub_api_url")
    def _hub_api_url(self) -> str:
        return environ().get("JUPYTERHUB_API_URL") or "http://localhost:8000/hub/api"

    @default("hub_api_token")
    def _hub_api_token(self) -> str:
        return environ().get("JUPYTERHUB_API_TOKEN") or ""

    @default("public_url")
    def _public_url(self) -> str:
        return environ().get("JUPYTERHUB_PUBLIC_URL") or ""

    @default("public_hub_url")
    def _public_hub_url(self) -> str:
        return environ().get("JUPYTERHUB_PUBLIC_HUB_URL") or ""

    @default("metrics_enabled")
    def _metrics_enabled(self) -> bool:
        return environ().get("JUPYTERHUB_AI_GATEWAY_METRICS", "true").strip().lower() in _TRUE

    @default("metrics_namespace")
    def _metrics_namespace(self) -> str:
        return environ().get("JUPYTERHUB_AI_GATEWAY_METRICS_NAMESPACE") or "jupyterhub_ai_gateway"

    @default("docs_title")
    def _docs_title(self) -> str:
        return environ().get("JUPYTERHUB_AI_GATEWAY_DOCS_TITLE") or "JupyterHub AI Gateway"

    @default("docs_description")
    def _docs_description(self) -> str:
        return environ().get("JUPYTERHUB_AI_GATEWAY_DOCS_DESCRIPTION") or ""

    @default("exit_with_parent")
    def _exit_with_parent(self) -> bool:
        return bool(environ().get("JUPYTERHUB_SERVICE_URL"))

    @default("log_level")
    def _log_level(self) -> int:
        return logging.INFO

    @override
    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the command line and the settings file; the command line wins."""
        super().initialize(argv)
        if self.subapp is None:
            self._read_settings()
            _log_like(self.log)

    def _read_settings(self) -> None:
        chosen = "settings_file" in self.config.get("AIGateway", Config())
        path = Path(self.settings_file).expanduser().absolute()
        if not path.exists():
            if chosen and not self.generate_config:
                raise ConfigFault("settings_file", f"{path} does not exist")
            return
        if not self.generate_config:
            self.load_config_file(path.name, str(path.parent))

    @override
    def start(self) -> None:
        if self.subapp is not None:
            self.subapp.start()
        elif self.generate_config:
            self.write_settings()
        else:
            run_service(Service(self.options()), exit_with_parent=self.exit_with_parent)

    def write_settings(self) -> None:
        """Write the settings file, every setting a comment; an existing file stays."""
        path = Path(self.settings_file).expanduser().absolute()
        if path.exists():
            raise ConfigFault("settings_file", f"{path} exists already; remove it, or name another with -f")
        path.write_text(self.generate_config_file(), encoding="utf-8")
        self.log.info("Wrote %s", path)

    @override
    def generate_config_file(self, classes: Any = None) -> str:
        text: str = super().generate_config_file([AIGateway])
        return text

    @override
    def _config_changed(self, change: Any) -> None:
        """Keep quiet: the values of a configuration may be keys."""

    def options(self, providers: Providers | None = None) -> Options:
        """Join settings and environment. `ConfigFault` for what cannot be."""
        env = environ()
        server_tls, client_tls = internal_ssl(env)
        hub = hub_options(
            env,
            service_name=self.service_name,
            prefix=service_prefix(self.service_prefix),
            api_url=self.hub_api_url,
            api_token=self.hub_api_token,
            public_url=self.public_url,
            public_hub_url=self.public_hub_url,
            ssl_context=client_tls,
            needs_hub=self.needs_hub,
        )
        copied = {
            name: getattr(self, name) for name in Options.__dataclass_fields__ if self.has_trait(name)
        }
        files = () if self.endpoints else (Path(self.config_file).expanduser().absolute(),)
        return Options(hub=hub, load=self.reader(providers), files=files, ssl_context=server_tls, **copied)

    def reader(self, providers: Providers | None = None) -> Any:
        """Return what reads the configuration, from the file or from `endpoints`."""
        schemas = (providers or Providers.installed()).schemas
        path, endpoints = Path(self.config_file), list(self.endpoints)
        if endpoints and "config_file" in self.config.get("AIGateway", Config()):
            raise ConfigFault(
                "endpoints", "are given by AIGateway.endpoints and by a file; keep one of them"
            )

        def read() -> GatewayConfig:
            if endpoints:
                return parse({"endpoints": endpoints}, schemas, environ())
            return load(path, schemas, environ())

        return read

    @override
    def start_show_config(self) -> None:
        """Print what was set, without the values that may be secret."""
        shown: Any = self.config.copy()
        section = shown.get("AIGateway", Config())
        if "hub_api_token" in section:
            section["hub_api_token"] = "(hidden)"  # noqa: S105
        if "endpoints" in section:
            section["endpoints"] = f"({len(self.endpoints)} of them)"
        hidden: Config = self.config
        self.config = shown
        try:
            super().start_show_config()
        finally:
            self.config = hidden


def _log_like(log: Any) -> None:
    """Let all rooms write where traitlets' own log does."""
    own: logging.Logger = getattr(log, "logger", log)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = own.handlers
        logger.setLevel(own.level)
        logger.propagate = False


def run_service(service: Service, *, exit_with_parent: bool) -> None:
    """Serve in this process, until a signal ends it."""
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_serve(service, exit_with_parent))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def _serve(service: Service, exit_with_parent: bool) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = loop.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.end)
    loop.add_signal_handler(signal.SIGHUP, reload)
    watching = asyncio.create_task(_end_with_parent(service)) if exit_with_parent else None
    try:
        await service.run(started=_settle_memory)
    finally:
        if watching is not None:
            watching.cancel()


def _settle_memory() -> None:
    """Take what start-up made out of the collector's sight, and let it look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def _end_with_parent(service: Service) -> None:
    """A Hub that is killed leaves its services behind; this one goes too."""
    parent = os.getppid()
    while parent > 1 and os.getppid() == parent:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(_PARENT_POLL_S)
    if parent > 1:
        logging.getLogger(__name__).warning("The process that started this gateway is gone")
        service.end()


def launch(app: type[Application], argv: list[str] | None = None) -> None:
    """Run a command; what the operator can put right is one line, without a traceback."""
    try:
        app.launch_instance(argv)
    except ConfigFault as fault:
        sys.exit(f"{app.name}: {fault}")
