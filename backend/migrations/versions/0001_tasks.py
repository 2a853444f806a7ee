"""Tasks, each its owner's alone."""

import sqlalchemy as sa
from alembic import op

from migrations.isolation import create_role, isolate
from postgres.migrate import ROLE

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_role(ROLE)
    op.create_table(
        "tasks",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("description", sa.String(1000)),
        sa.Column("completed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("user_id", "id"),
        sa.CheckConstraint("char_length(user_id) BETWEEN 1 AND 255", name="tasks_user_id_length"),
        sa.CheckConstraint("title <> ''", name="tasks_title_not_empty"),
    )
    op.create_index("tasks_newest", "tasks", ["user_id", "created_at", "id"])
    op.create_index(
        "tasks_newest_by_completed", "tasks", ["user_id", "completed", "created_at", "id"]
    )
    isolate("tasks")
