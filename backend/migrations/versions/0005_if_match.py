"""`If-Match` compares the time of a change as well as its number: the functions again."""

from alembic import op

import idempotency
import tasks
import trash
import undo

revision = "0005"
down_revision = "0004"
serves_from = "0004"


def upgrade() -> None:
    for module in (tasks, trash, undo, idempotency):
        for function in module.FUNCTIONS:
            op.execute(function)
