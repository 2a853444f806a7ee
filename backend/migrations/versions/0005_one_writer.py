"""One writer for every entity: one sequence of ids, fewer indexes to write, answers that say what they show."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0005"
down_revision = "0004"
serves_from = "0004"


def upgrade() -> None:
    # Ids of all entities come from one sequence, so that no two objects ever share one.
    op.execute("""
DO $$
DECLARE
    ids record;
BEGIN
    LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('SELECT last_value, is_called FROM %s', pg_get_serial_sequence('tasks', 'id')) INTO ids;
    ALTER TABLE tasks ALTER COLUMN id DROP IDENTITY;
    CREATE SEQUENCE entity_ids;
    PERFORM setval('entity_ids', ids.last_value, ids.is_called);
    ALTER TABLE tasks ALTER COLUMN id SET DEFAULT nextval('entity_ids');
END $$
""")
    op.execute(
        "GRANT USAGE ON SEQUENCE entity_ids TO PUBLIC"
    )  # whoever may insert a row gets an id, as before

    # An UPDATE is HOT, and writes no index at all, unless it changes an indexed column: every edit
    # changes updated_at.
    op.drop_index("tasks_expiry", "tasks")
    op.create_index(
        "tasks_expiry",
        "tasks",
        ["deleted_at", "id"],
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    # Whatever reads the completed ones reads most of what there ever was; the pending ones are few.
    op.drop_index("tasks_newest_by_completed", "tasks")
    op.create_index(
        "tasks_pending",
        "tasks",
        ["user_id", "created_at", "id"],
        postgresql_where=sa.text("deleted_at IS NULL AND NOT completed"),
    )
    op.drop_index(
        "changes_of_group", "changes"
    )  # groups are found by their first change (storage.py)

    op.add_column("idempotency_keys", sa.Column("shows", ARRAY(sa.BigInteger)))
    # FORCE would hide the rows from a login that owns the table.
    op.execute("ALTER TABLE idempotency_keys NO FORCE ROW LEVEL SECURITY")
    op.execute("""
UPDATE idempotency_keys AS k SET shows = ARRAY(
    SELECT DISTINCT coalesce(shown ->> 'entity_id', shown ->> 'id')::bigint
    FROM jsonb_path_query(k.body::jsonb, '$.data[*]') AS shown
)
WHERE k.entity_id IS NULL AND k.body IS NOT NULL
""")
    op.execute("ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY")
