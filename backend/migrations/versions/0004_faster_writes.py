"""Writes with fewer steps: the functions again, and none that only they called."""

from alembic import op

import idempotency
import tasks
import trash
import undo

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
DROP FUNCTION IF EXISTS next_change(text);
DROP FUNCTION IF EXISTS record_change(
    text, text, text, uuid, bigint, timestamptz, text, bigint, text, jsonb, jsonb
);
DROP FUNCTION IF EXISTS store_task(text, text, text, uuid, bigint, timestamptz, tasks, tasks);
""")
    for module in (tasks, trash, undo, idempotency):
        for function in module.FUNCTIONS:
            op.execute(function)
