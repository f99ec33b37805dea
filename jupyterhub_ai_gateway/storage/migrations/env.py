"""Run by Alembic, with the connection that `schema` gives it."""

from alembic import context

from jupyterhub_ai_gateway.storage.schema import VERSION_TABLE
from jupyterhub_ai_gateway.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
