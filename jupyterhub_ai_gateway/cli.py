"""The commands: thin. Parse, call, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traitlets import Integer, Unicode, default
from traitlets.config import Application
from typing_extensions import override

from .app.environment import environ, mlflow_config_file
from .app.gateway_app import AIGateway, launch
from .app.workers import run_workers
from .commands import auth, bench
from .config import DeploymentConfig, EndpointConfig, GatewayConfig, SplitConfig, listed, read_document
from .errors import ConfigFault
from .migrate import SOURCES, NotThisFormat, as_text, checked
from .providers.registry import Providers
from .storage import Database, StorageUnavailable


class Start(AIGateway):
    """Start the gateway, as MLflow spells it: the same as without a command.

    jupyterhub-ai-gateway start --config-path config.yaml --host 127.0.0.1 --port 5000 --workers 2
    """

    name = "jupyterhub-ai-gateway start"
    description = __doc__ or ""
    subcommands = {}  # noqa: RUF012 - as traitlets has it
    aliases = {  # noqa: RUF012 - as traitlets has it
        **AIGateway.aliases,
        "config-path": "AIGateway.config_file",
        ("w", "workers"): "Start.workers",
    }

    workers = Integer(1, min=1, max=256, help="How many processes serve.").tag(config=True)

    @default("config_file")
    def _config_path(self) -> str:
        return mlflow_config_file(environ()) or super()._config_file()

    @override
    def start(self) -> None:
        if self.workers > 1 and not self.generate_config:
            run_workers(self.options(), self.workers, exit_with_parent=self.exit_with_parent)
        else:
            super().start()


class Check(AIGateway):
    """Check a configuration and say what it would serve. Nothing is started, and nobody is asked.

    jupyterhub-ai-gateway check --config config.yaml
    """

    name = "jupyterhub-ai-gateway check"
    description = __doc__ or ""
    subcommands = {}  # noqa: RUF012 - as traitlets has it

    @override
    def start(self) -> None:
        config = self.reader()()
        print(report(config))


class Models(AIGateway):
    """Print the catalogue: what callers could ask for, and where it runs. Nobody is asked.

    jupyterhub-ai-gateway models --config config.yaml
    """

    name = "jupyterhub-ai-gateway models"
    description = __doc__ or ""
    subcommands = {}  # noqa: RUF012 - as traitlets has it

    @override
    def start(self) -> None:
        print(catalogue(self.reader()()))


class UpgradeDatabase(AIGateway):
    """Make the ledger's tables, or bring them to this version. SQLite files are upgraded by themselves.

    jupyterhub-ai-gateway db upgrade --config config.yaml
    """

    name = "jupyterhub-ai-gateway db upgrade"
    description = __doc__ or ""
    subcommands = {}  # noqa: RUF012 - as traitlets has it

    @override
    def start(self) -> None:
        url = self.reader()().ledger.url
        if url is None:
            raise ConfigFault("ledger", "is switched off, so there is no database")
        database = Database(url, day_of=str)
        try:
            before = database.version()
            print(
                f"The ledger's tables were of version {before or 'none'}, and are {database.upgrade()} now."
            )
        except StorageUnavailable as error:
            raise ConfigFault("ledger.url", f"the database cannot be opened: {error}") from None
        finally:
            database.close()


class DatabaseCommands(AIGateway):
    """Look after the ledger's database.

    jupyterhub-ai-gateway db upgrade --config config.yaml
    """

    name = "jupyterhub-ai-gateway db"
    description = __doc__ or ""
    subcommands = {  # noqa: RUF012 - as traitlets has it
        "upgrade": (UpgradeDatabase, "Make the ledger's tables, or bring them to this version.")
    }

    @override
    def start(self) -> None:
        if self.subapp is None:
            raise ConfigFault("db", "needs a command: upgrade")
        self.subapp.start()


class PlainCommand(Application):
    """A command that reads its own words, and needs no gateway."""

    name = "jupyterhub-ai-gateway"
    words: Sequence[str] = ()

    @override
    def initialize(self, argv: Any = None) -> None:
        self.words = list(argv or ())


class Auth(PlainCommand):
    """Get a token of the Hub for use outside of it, print it, and forget it."""

    @override
    def start(self) -> None:
        sys.exit(auth.Auth(environ()).run(self.words))


class Bench(PlainCommand):
    """Measure how fast a chat endpoint answers."""

    @override
    def start(self) -> None:
        sys.exit(bench.bench(self.words, environ()))


class Import(AIGateway):
    """Turn another gateway's configuration into one for this gateway, and say what was not carried.

    jupyterhub-ai-gateway import litellm|mlflow|openai-gateway|first FILE [-o OUT]
    """

    name = "jupyterhub-ai-gateway import"
    description = __doc__ or ""
    subcommands = {}  # noqa: RUF012 - as traitlets has it
    aliases = {**AIGateway.aliases, ("o", "output"): "Import.output"}  # noqa: RUF012

    output = Unicode(help="The file to write, in the place of the standard output.").tag(config=True)

    @override
    def start(self) -> None:
        if len(self.extra_args) != 2:
            raise ConfigFault("import", f"needs a source and a file; sources are {listed(SOURCES)}")
        source, file = self.extra_args
        if source not in SOURCES:
            raise ConfigFault("import", f"must be from {listed(SOURCES)}")
        try:
            migration = checked(SOURCES[source](read_document(Path(file))), Providers.installed().schemas)
        except NotThisFormat as problem:
            raise ConfigFault(file, str(problem)) from None
        self._write(as_text(migration, source))
        for note in migration.notes:
            print(f"- {note}", file=sys.stderr)

    def _write(self, text: str) -> None:
        if not self.output:
            print(text, end="")
            return
        path = Path(self.output)
        try:
            with path.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            raise ConfigFault("output", f"{path} exists already; remove it, or name another") from None
        except OSError as error:
            raise ConfigFault("output", f"{path} cannot be written: {error.strerror}") from None
        print(f"Wrote {path}. What it does not carry:", file=sys.stderr)


def report(config: GatewayConfig) -> str:
    """Say what a configuration would serve, without any of its secrets."""
    lines = [f"warning: {warning}" for warning in config.warnings]
    lines += [_line(endpoint) for endpoint in config.endpoints]
    lines += [_split_line(split) for split in config.splits]
    return "\n".join([*lines, f"{len(config.endpoints)} endpoint(s), and nothing wrong with them."])


def catalogue(config: GatewayConfig) -> str:
    """List the endpoints with their deployments, and what each says of itself, without any secret."""
    lines: list[str] = []
    for endpoint in config.endpoints:
        marks = [endpoint.name, endpoint.endpoint_type]
        marks += [f"also {', '.join(endpoint.aliases)}"] if endpoint.aliases else []
        marks += [f"scope {endpoint.scope}"] if endpoint.scope else []
        marks += ["hidden"] if endpoint.hidden else []
        marks += [f"falls back to {', '.join(endpoint.fallbacks)}"] if endpoint.fallbacks else []
        lines.append("  ".join(marks))
        lines += [_deployment_line(each) for each in endpoint.deployments]
    return "\n".join(lines)


def _deployment_line(deployment: DeploymentConfig) -> str:
    offer, model = deployment.offer, deployment.model
    parts = [f"    {deployment.name}", model.provider, *([model.name] if model.name else [])]
    if offer.context_length is not None:
        parts.append(f"{offer.context_length} tokens")
    if offer.capabilities is not None:
        parts.append(", ".join(sorted(offer.capabilities)) or "text alone")
    if offer.region is not None:
        parts.append(f"region {offer.region}")
    if offer.data_class is not None:
        parts.append(f"{offer.data_class} data")
    if offer.deprecation_date is not None:
        parts.append(f"ends {offer.deprecation_date.isoformat()}")
    return "  ".join(parts)


def _line(endpoint: EndpointConfig) -> str:
    model = endpoint.model
    parts = [f"{endpoint.name}  {endpoint.endpoint_type}  {model.provider}"]
    if model.name:
        parts.append(model.name)
    if endpoint.limit is not None:
        limit = endpoint.limit
        parts.append(f"at most {limit.calls} calls per {limit.renewal_period} and {limit.key}")
    if endpoint.scope is not None:
        parts.append(f"scope {endpoint.scope}")
    return "  ".join(parts)


def _split_line(split: SplitConfig) -> str:
    shares = ", ".join(f"{name} {share} %" for name, share in split.destinations)
    return f"{split.name}  {split.endpoint_type}  split over {shares}"


def main(argv: list[str] | None = None) -> None:
    """Run `jupyterhub-ai-gateway`."""
    launch(AIGateway, argv)
