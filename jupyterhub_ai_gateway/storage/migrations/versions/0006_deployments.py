"""Which deployment was asked, and which were left out; a try that has a row is in the view once."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BEFORE = """
CREATE VIEW ai_gateway_attempts AS
SELECT request_id, number, at_ms, provider, sent_model, answered_model, status, outcome, took_ms,
       first_byte_ms, input_tokens, output_tokens, is_estimated, cost_nanousd
FROM ai_gateway_attempt
UNION ALL
SELECT request_id, 1, at_ms, provider, sent_model, answered_model, status, outcome, took_ms,
       first_byte_ms, input_tokens, output_tokens, is_estimated, cost_nanousd
FROM ai_gateway_request
WHERE attempts = 1
"""

ATTEMPTS = """
CREATE VIEW ai_gateway_attempts AS
SELECT request_id, number, at_ms, provider, sent_model, answered_model, status, outcome, took_ms,
       first_byte_ms, input_tokens, output_tokens, is_estimated, cost_nanousd, deployment
FROM ai_gateway_attempt
UNION ALL
SELECT request_id, 1, at_ms, provider, sent_model, answered_model, status, outcome, took_ms,
       first_byte_ms, input_tokens, output_tokens, is_estimated, cost_nanousd, deployment
FROM ai_gateway_request AS request
WHERE attempts = 1
  AND NOT EXISTS (SELECT 1 FROM ai_gateway_attempt AS tried WHERE tried.request_id = request.request_id)
"""


def upgrade() -> None:
    op.execute("DROP VIEW ai_gateway_attempts")
    op.add_column("ai_gateway_request", sa.Column("deployment", sa.Text(), nullable=True))
    op.add_column("ai_gateway_request", sa.Column("left_out", sa.Text(), nullable=True))
    op.add_column("ai_gateway_attempt", sa.Column("deployment", sa.Text(), nullable=True))
    op.execute(ATTEMPTS)


def downgrade() -> None:
    op.execute("DROP VIEW ai_gateway_attempts")
    op.drop_column("ai_gateway_attempt", "deployment")
    op.drop_column("ai_gateway_request", "left_out")
    op.drop_column("ai_gateway_request", "deployment")
    op.execute(BEFORE)
