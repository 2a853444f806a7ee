"""The trash: deleted tasks are kept for a while. And undo."""

import sqlalchemy as sa
from alembic import op

from migrations.isolation import expire, if_there_is
from postgres.migrate import ROLE

revision = "0003"
down_revision = "0002"

KEPT_DAYS = "nullif(current_setting('app.trash_kept_days', true), '')::integer"  # NULL, so no row, where it is unset
NOT_DELETED = sa.text("deleted_at IS NULL")
DELETED = sa.text("deleted_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("tasks", sa.Column("deleted_at", sa.DateTime(timezone=True)))
    op.drop_index("tasks_newest", "tasks")
    op.drop_index("tasks_newest_by_completed", "tasks")
    op.create_index(
        "tasks_newest", "tasks", ["user_id", "created_at", "id"], postgresql_where=NOT_DELETED
    )
    op.create_index(
        "tasks_newest_by_completed",
        "tasks",
        ["user_id", "completed", "created_at", "id"],
        postgresql_where=NOT_DELETED,
    )
    op.create_index(
        "tasks_trash", "tasks", ["user_id", "deleted_at", "id"], postgresql_where=DELETED
    )
    op.create_index("tasks_expiry", "tasks", ["updated_at", "id"], postgresql_where=DELETED)
    op.create_index("changes_of_entity", "changes", ["user_id", "entity_id"])
    op.create_index("changes_of_group", "changes", ["user_id", "group_id"])
    op.alter_column(
        "idempotency_keys", "body", nullable=True
    )  # emptied when what it shows is deleted for good
    op.add_column("idempotency_keys", sa.Column("entity_id", sa.BigInteger))
    op.create_index("idempotency_keys_of_entity", "idempotency_keys", ["user_id", "entity_id"])
    for column in ("tasks.title", "tasks.description", "changes.fields", "idempotency_keys.body"):
        table, _, name = column.partition(
            "."
        )  # else the planner's statistics would keep texts, deleted ones too
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {name} SET STATISTICS 0")
    if_there_is(ROLE, f"GRANT UPDATE (fields) ON changes TO {ROLE};")  # likewise
    expired = f"{KEPT_DAYS} > 0 AND deleted_at IS NOT NULL AND updated_at < now() - {KEPT_DAYS} * interval '1 day'"
    expire("tasks", "user_id, id, updated_at, deleted_at", expired, privilege="")

    op.execute("DROP FUNCTION IF EXISTS delete_task(text, text, text, uuid, bigint, bigint[])")
