"""Row-level security for tables whose rows each belong to one user."""

from alembic import op

from postgres.migrate import RETENTION_ROLE, ROLE, VERSION_TABLE

OWNER = "nullif(current_setting('app.user_id', true), '')"  # NULL, so no row at all, where nobody is set
FOUR = "SELECT, INSERT, UPDATE, DELETE"


def create_role(role: str) -> None:
    """A role to run as. A login that may not create one goes without; `/ready`, or the log, then
    says so."""
    op.execute(f"""
DO $$
BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN RAISE WARNING 'this login may not create the role {role}';
END $$;
DO $$
BEGIN
    EXECUTE format('GRANT {role} TO %I', current_user);
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not grant the role {role}';
END $$;
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {role}', current_schema());
    GRANT SELECT ON {VERSION_TABLE} TO {role};  -- for logins that own nothing: they look before they migrate
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not let the role {role} in';
END $$;
""")


def isolate(table: str, privileges: str = FOUR) -> None:
    """Only the owner's rows, to read and to write, for everybody: FORCE holds for the table's owner
    too."""
    op.execute(f"""
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON {table} USING (user_id = {OWNER}) WITH CHECK (user_id = {OWNER});
""")
    if_there_is(ROLE, f"GRANT {privileges} ON {table} TO {ROLE};")


def expire(table: str, columns: str, expired: str, privilege: str = ", DELETE") -> None:
    """Let retention.py delete the rows for which `expired` holds, and see no more of them than
    `columns`."""
    if_there_is(
        RETENTION_ROLE,
        f"""
        GRANT SELECT ({columns}){privilege} ON {table} TO {RETENTION_ROLE};
        CREATE POLICY expired ON {table} TO {RETENTION_ROLE} USING ({expired});
        CREATE POLICY expired_only ON {table} AS RESTRICTIVE TO {RETENTION_ROLE} USING ({expired});
        """,
    )


def if_there_is(role: str, statements: str) -> None:
    op.execute(f"""
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        {statements}
    END IF;
END $$;
""")
