"""Up to which request the roll-ups are those of the rows; so far, up to the last one."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ai_gateway_summed",
        sa.Column("request", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("request"),
    )
    op.execute("INSERT INTO ai_gateway_summed SELECT coalesce(max(id), 0) FROM ai_gateway_request")


def downgrade() -> None:
    op.drop_table("ai_gateway_summed")
