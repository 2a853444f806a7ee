"""Row-level security for a table whose rows each belong to one user."""

from alembic import op

from migrate import ROLE, VERSION_TABLE

OWNER = "nullif(current_setting('app.user_id', true), '')"  # NULL, so no row at all, where nobody is set


def create_role() -> None:
    """The role requests run as. A login that may not create one goes without; `/ready` then says so."""
    op.execute(f"""
DO $$
BEGIN
    CREATE ROLE {ROLE} NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN RAISE WARNING 'this login may not create the role {ROLE}';
END $$;
DO $$
BEGIN
    EXECUTE format('GRANT {ROLE} TO %I', current_user);
    GRANT SELECT ON {VERSION_TABLE} TO {ROLE};  -- for logins that own nothing: they look before they migrate
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not take the role {ROLE}';
END $$;
""")


def isolate(table: str) -> None:
    """Only the owner's rows, to read and to write, for everybody: FORCE holds for the table's owner too."""
    op.execute(f"""
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON {table} USING (user_id = {OWNER}) WITH CHECK (user_id = {OWNER});
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE};
    END IF;
END $$;
""")
