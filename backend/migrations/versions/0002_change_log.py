"""The change log, versions of tasks, and answers kept for retries."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.isolation import create_role, expire, isolate
from postgres.migrate import RETENTION_ROLE

revision = "0002"
down_revision = "0001"

KEPT_DAYS = "nullif(current_setting('app.changes_kept_days', true), '')::integer"  # NULL, so no row, where it is unset


def upgrade() -> None:
    create_role(RETENTION_ROLE)
    op.create_table(
        "change_counters",
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_table(
        "changes",
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_kind", sa.Text, nullable=False),
        sa.Column("actor_id", sa.Text, nullable=False),
        sa.Column("group_id", sa.Uuid, nullable=False),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("entity_id", sa.BigInteger, nullable=False),
        sa.Column("op", sa.Text, nullable=False),
        sa.Column("fields", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "seq"),
    )
    op.create_index("changes_expiry", "changes", ["at"])
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("headers", sa.JSON, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key"),
    )
    op.create_index("idempotency_keys_expiry", "idempotency_keys", ["at"])

    op.add_column(
        "tasks", sa.Column("uid", sa.Uuid, nullable=False, server_default=sa.func.gen_random_uuid())
    )
    op.add_column("tasks", sa.Column("version", sa.BigInteger))
    op.add_column("tasks", sa.Column("completed_at", sa.DateTime(timezone=True)))
    # What is there becomes the log's beginning. FORCE would hide it from a login that owns the
    # table.
    op.execute("ALTER TABLE tasks NO FORCE ROW LEVEL SECURITY")
    op.execute("""
WITH numbered AS (
    SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY created_at, id) AS seq FROM tasks
)
UPDATE tasks AS task SET
    version = numbered.seq, completed_at = CASE WHEN task.completed THEN task.updated_at END
FROM numbered WHERE task.user_id = numbered.user_id AND task.id = numbered.id
""")
    op.execute("""
INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
SELECT user_id, version, created_at, 'user', user_id, gen_random_uuid(), 'task', id, 'create', jsonb_strip_nulls(
    jsonb_build_object(
        'uid', jsonb_build_array(NULL, uid), 'title', jsonb_build_array(NULL, title),
        'description', CASE WHEN description IS NOT NULL THEN jsonb_build_array(NULL, description) END,
        'completed', jsonb_build_array(NULL, completed),
        'completed_at', CASE WHEN completed THEN jsonb_build_array(
            NULL, to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) END
    ))
FROM tasks
""")
    op.execute("""
INSERT INTO change_counters (user_id, seq, at) SELECT user_id, max(version), max(updated_at) FROM tasks GROUP BY user_id
""")
    op.execute("ALTER TABLE tasks FORCE ROW LEVEL SECURITY")
    op.alter_column("tasks", "version", nullable=False)
    op.create_check_constraint(
        "tasks_completed_at", "tasks", "completed = (completed_at IS NOT NULL)"
    )
    op.create_unique_constraint("tasks_uid", "tasks", ["user_id", "uid"])

    isolate("change_counters", "SELECT, INSERT, UPDATE")
    isolate("changes", "SELECT, INSERT")  # what is logged stays as it is
    isolate("idempotency_keys", "SELECT, INSERT, UPDATE")
    expire(
        "changes",
        "user_id, seq, at",
        f"{KEPT_DAYS} > 0 AND at < now() - {KEPT_DAYS} * interval '1 day'",
    )
    expire("idempotency_keys", "user_id, key, at", "at < now() - interval '24 hours'")

    op.execute("""
DROP FUNCTION IF EXISTS create_task(text, text, text);
DROP FUNCTION IF EXISTS update_task(text, bigint, text, boolean, boolean, text);
DROP FUNCTION IF EXISTS complete_task(text, bigint, boolean);
DROP FUNCTION IF EXISTS delete_task(text, bigint);
""")
