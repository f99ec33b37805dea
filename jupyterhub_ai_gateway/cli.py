"""The commands: thin. Parse, call, print."""

from __future__ import annotations

from typing_extensions import override

from .app.gateway_app import AIGateway, launch
from .config import EndpointConfig, GatewayConfig
from .errors import ConfigFault
from .storage import Database, StorageUnavailable


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


def report(config: GatewayConfig) -> str:
    """Say what a configuration would serve, without any of its secrets."""
    lines = [f"warning: {warning}" for warning in config.warnings]
    lines += [_line(endpoint) for endpoint in config.endpoints]
    return "\n".join([*lines, f"{len(config.endpoints)} endpoint(s), and nothing wrong with them."])


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


def main(argv: list[str] | None = None) -> None:
    """Run `jupyterhub-ai-gateway`."""
    launch(AIGateway, argv)
