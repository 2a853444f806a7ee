"""Alembic's entry: it only ever writes SQL (migrate.py runs it), so it needs no driver and works
behind any pooler."""

from alembic import context

from postgres.migrate import VERSION_TABLE

context.configure(
    dialect_name="postgresql",
    as_sql=True,
    literal_binds=True,
    dialect_opts={"paramstyle": "named"},  # the default style would double every percent sign
    transactional_ddl=False,  # the caller's transaction holds the lock
    version_table=VERSION_TABLE,
)
context.run_migrations()
