"""Which version of the tables a database has, and the way to the newest.

Alembic's own version table has a name of its own, so that a database may be shared with a Hub.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

VERSION_TABLE = "ai_gateway_alembic_version"


def head() -> str:
    """Return the newest version, which this code works with."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None  # noqa: S101 - the package ships its migrations
    return newest


def current(connection: Connection) -> str | None:
    """Return the version of a database; None for one without our tables."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def is_known(version: str) -> bool:
    """Say whether this code knows a version; those of a newer gateway it does not."""
    return any(each.revision == version for each in ScriptDirectory.from_config(_config()).walk_revisions())


def upgrade(engine: Engine) -> None:
    """Bring a database to the newest version, in one transaction."""
    config = _config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    folder = Path(str(files(__package__).joinpath("migrations")))
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config
