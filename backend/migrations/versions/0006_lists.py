"""Lists; and of tasks: where they stand, how important they are, their labels and their times."""

import sqlalchemy as sa
from alembic import op

from migrations.isolation import expire, isolate

revision = "0006"
down_revision = "0005"
serves_from = "0005"

KEPT_DAYS = "nullif(current_setting('app.trash_kept_days', true), '')::integer"  # NULL, so no row, where it is unset
EXPIRED = f"{KEPT_DAYS} > 0 AND deleted_at IS NOT NULL AND updated_at < now() - {KEPT_DAYS} * interval '1 day'"
DELETED = sa.text("deleted_at IS NOT NULL")
# The planner's statistics would keep texts of these columns, deleted ones too.
TEXTS = {
    "lists": ("name",),
    "tasks": ("labels", "title_key", "title_words", "description_words", "label_keys"),
}


def upgrade() -> None:
    op.execute("""
CREATE TABLE lists (
    id bigint NOT NULL DEFAULT nextval('entity_ids'),
    uid uuid NOT NULL DEFAULT gen_random_uuid(),
    version bigint NOT NULL,
    name varchar(100) NOT NULL,
    color varchar(7),
    position varchar(128) COLLATE "C" NOT NULL DEFAULT 'k00000000000',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    user_id text NOT NULL,
    CONSTRAINT lists_uid UNIQUE (user_id, uid)
)""")
    op.create_index(
        "lists_trash", "lists", ["user_id", "deleted_at", "id"], postgresql_where=DELETED
    )
    op.create_index("lists_expiry", "lists", ["deleted_at", "id"], postgresql_where=DELETED)
    isolate("lists")
    expire("lists", "user_id, id, updated_at, deleted_at", EXPIRED, privilege="")

    op.execute("""
ALTER TABLE tasks
    ADD COLUMN list_id bigint,
    ADD COLUMN parent_id bigint,
    ADD COLUMN position varchar(128) COLLATE "C" NOT NULL DEFAULT 'k00000000000',
    ADD COLUMN priority varchar(6) NOT NULL DEFAULT 'none',
    ADD COLUMN labels text[] NOT NULL DEFAULT '{}',
    ADD COLUMN start text,
    ADD COLUMN due text,
    ADD COLUMN title_key text COLLATE "C",
    ADD COLUMN title_words text COLLATE "C",
    ADD COLUMN description_words text COLLATE "C",
    ADD COLUMN label_keys text[],
    ADD COLUMN start_key timestamp,
    ADD COLUMN due_key timestamp
""")
    # In the order in which they were made. No number is larger than that of the user's last change,
    # so what is made from now on stands behind them. A server of before this migration works on for a
    # while: what it makes stands at the end until it is moved.
    op.execute("ALTER TABLE tasks NO FORCE ROW LEVEL SECURITY")
    op.execute("""
UPDATE tasks SET position = chr(96 + length(numbered.place::text)) || numbered.place
FROM (
    SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY created_at, id) AS place FROM tasks
) AS numbered
WHERE tasks.user_id = numbered.user_id AND tasks.id = numbered.id
""")
    op.execute("ALTER TABLE tasks FORCE ROW LEVEL SECURITY")
    # Most tasks are in no list and below no other: they cost these indexes nothing.
    for column in ("list_id", "parent_id"):
        op.create_index(
            f"tasks_{column.removesuffix('_id')}",
            "tasks",
            ["user_id", column],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    # While a table has no statistics, PostgreSQL takes, of the indexes that begin with the user, the one
    # that was made last. If that were not the key, it would read all of the user's rows to find one.
    op.execute("ALTER TABLE tasks DROP CONSTRAINT tasks_pkey")
    for table in ("lists", "tasks"):
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY (user_id, id)")
    # Keys and unique constraints see the rows of all users; with the owner in front they cannot
    # lead from one to another.
    op.create_foreign_key("tasks_list", "tasks", "lists", ["user_id", "list_id"], ["user_id", "id"])
    op.create_foreign_key(
        "tasks_parent", "tasks", "tasks", ["user_id", "parent_id"], ["user_id", "id"]
    )
    # Every write reads the text of every CHECK anew: these two were 7 % of a creation in PostgreSQL,
    # and what they check is checked before.
    op.drop_constraint("tasks_user_id_length", "tasks")
    op.drop_constraint("tasks_title_not_empty", "tasks")
    for table, columns in TEXTS.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")
