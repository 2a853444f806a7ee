"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
serves_from = ${repr(up_revision)}  # the oldest version whose code works on what this leaves (docs/decisions/0013)


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
