"""Writes with fewer steps. It installed functions; since 0005 a server brings its own (functions.py)."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nothing is left to do. Databases that were migrated before keep those functions, for the servers of then."""
