"""What was asked for, where another endpoint served it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ai_gateway_request", sa.Column("asked_endpoint", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("ai_gateway_request", "asked_endpoint")
