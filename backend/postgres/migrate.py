"""The schema, brought up to date by Alembic's migrations, and the proof that it keeps users apart."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import asyncpg

import storage
from entities import ENTITIES
from errors import SettingError, Unfit
from postgres import adoption, functions, proof
from postgres.dsn import Address
from postgres.pool import OUT_OF_REACH
from postgres.sessions import Session, close, connect

log = logging.getLogger("todo.database")

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
VERSION_TABLE = "todo_schema_version"
MIGRATED_TO = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608  # a constant
LOCK = 0x70D0_A91  # any number that nobody else takes
ROLE = functions.ROLE
RETENTION_ROLE = "todo_retention"  # the same, and sees nothing but what has expired: retention.py runs as this one
# Each with rows that are one user's alone.
ISOLATED = (
    *(entity.table for entity in ENTITIES),
    "change_counters",
    "changes",
    "idempotency_keys",
)
FUNCTIONS = (storage.STORE, storage.FIND_ANSWER, storage.KEEP_ANSWER)
OLDEST_SERVER = 14

# Requests queue behind a migration that waits for a table. They give up after 1.5 s, so the
# migration does before.
LOCK_WAIT = "1s"
QUEUE_WAIT = "10s"  # for another migration: nobody is behind us, and it has often ended before
PAUSE_SECONDS = 2.0  # until it tries again; the requests are answered in the meantime
TRY_AGAIN = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

# An operator may have set these for the whole database or login. `transaction_timeout` is known
# from version 17 on.
NO_TIMEOUTS = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')
"""

ABOUT = f"""
SELECT current_database() AS database, current_setting('server_encoding') AS encoding,
       current_setting('server_version_num')::integer / 10000 AS server, quote_ident(current_user) AS login,
       coalesce(n.nspname, current_schema())::text AS schema, c.oid IS NOT NULL AS has_versions,
       quote_ident(coalesce(n.nspname, current_schema())) AS quoted, obj_description(c.oid, 'pg_class') AS comment
FROM (SELECT to_regclass('{VERSION_TABLE}') AS oid) AS found
LEFT JOIN pg_class AS c ON c.oid = found.oid LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
"""  # noqa: S608  # a constant

TAKEN = """
WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
SELECT 'table ' || relname AS thing FROM here JOIN pg_class ON relnamespace = here.oid
WHERE relname = ANY($1::text[])
UNION SELECT 'type ' || typname FROM here JOIN pg_type ON typnamespace = here.oid
WHERE typrelid = 0 AND typname = ANY($1::text[])
UNION SELECT 'function ' || proname FROM here JOIN pg_proc ON pronamespace = here.oid
WHERE proname = ANY($1::text[])
ORDER BY thing
"""
MADE = re.compile(r"\bCREATE (?:TABLE|SEQUENCE|(?:UNIQUE )?INDEX|(?:OR REPLACE )?FUNCTION) (\w+)")

HOLDERS = f"""
SELECT coalesce('the table ' || c.relname, 'another migration') AS what, a.pid,
       coalesce(nullif(a.application_name, ''), 'no name') AS program,
       coalesce(a.state || ' for ' || extract(epoch FROM now() - a.xact_start)::bigint || ' s', 'unknown') AS state
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) LEFT JOIN pg_class AS c ON c.oid = l.relation
WHERE l.granted AND a.pid <> pg_backend_pid() AND a.datname = current_database()
    AND (c.relname = ANY($1::text[])
         OR l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid = 0 AND l.objid = {LOCK})
ORDER BY l.locktype = 'advisory' DESC, a.xact_start
LIMIT 1
"""  # noqa: S608  # a constant

# Where one statement ends: not inside a text, a quoted name, a function's body or a comment.
PIECE = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|(\$\w*\$).*?\1|--[^\n]*|/\*.*?\*/|;""", re.DOTALL)
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
SERVES_FROM = re.compile(r"serves_from=(\w+)")


def versions() -> list[str]:
    """Oldest first; a migration's file name starts with its version."""
    return sorted(
        path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")
    )


HEAD = versions()[-1]


@dataclass(frozen=True)
class Schema:
    """What the database says of itself: its version, the role that requests take, whether that one
    is restricted, and the schema with our tables, as `search_path` takes it."""

    version: str | None
    role: str | None
    row_security_proven: bool
    search_path: str = "public"
    is_complete: bool = True  # with this release's functions
    is_claimed: bool = True  # and no newer release will drop them


@dataclass(frozen=True)
class Found:
    """Where our tables are or, without a version, would be."""

    version: str | None
    schema: str
    quoted: str
    login: str


async def upgrade(address: Address, adopting: bool = False) -> None:
    """Run what is missing, in one transaction under a lock: of two starts at once, one migrates and
    one waits.

    `adopting` takes over a table of tasks that another backend has made.
    """
    while True:
        if await _try_upgrade(address, adopting):
            return
        await asyncio.sleep(PAUSE_SECONDS)


async def inspect(address: Address) -> Schema:
    """SettingError where the database can never be served as it is."""
    async with _session(address) as session, _transaction(session):
        found = await _find(session, address)
        state = await functions.look(session, FUNCTIONS)
        if is_behind(found.version) or not state.complete:
            return Schema(found.version, None, False, found.quoted, is_complete=False)
        role = ROLE if await proof.may_take(session, ROLE) else None
        if role:
            await _require_usage(session, found, role)
        restricted = await proof.is_restricted(session, role, ISOLATED)
        return Schema(found.version, role, restricted, found.quoted, is_claimed=state.claimed)


@cache
def script(version: str | None, to: str = "head") -> str:
    """The SQL from `version` (None: an empty database) to the newest. Alembic is loaded only when
    there is any."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    output = io.StringIO()
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, f"{version or 'base'}:{to}", sql=True)
    migrations = ScriptDirectory.from_config(config).walk_revisions()
    serves_from = max(getattr(each.module, "serves_from", each.revision) for each in migrations)
    output.write(f"COMMENT ON TABLE {VERSION_TABLE} IS 'serves_from={serves_from}';\n\n")
    return output.getvalue()


def statements(script: str) -> list[str]:
    """One by one, because a distributed PostgreSQL takes no two in one string."""
    found, start = [], 0
    for piece in PIECE.finditer(script):
        if piece[0] == ";":
            found.append(script[start : piece.end()].strip())
            start = piece.end()
    found.append(script[start:].strip())
    return [statement for statement in found if COMMENT.sub("", statement).strip(" \n;")]


def is_behind(version: str | None) -> bool:
    return version is None or version < HEAD


def said(error: BaseException) -> str:
    """What an error says, in one line that goes into a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@asynccontextmanager
async def _session(address: Address) -> AsyncIterator[Session]:
    """A new session. What can never be is a SettingError; what may pass (OUT_OF_REACH) comes as it
    is."""
    session: Session | None = None
    try:
        session = await _connect(address)
        yield session
    except Unfit as error:
        raise SettingError(f"{address.variable}: {error}") from None
    except OUT_OF_REACH:
        raise
    except asyncpg.PostgresError as error:
        raise SettingError(f"{address.variable} is refused by the server: {said(error)}.") from None
    except asyncpg.InterfaceError as error:
        raise ConnectionResetError(f"the session was cut ({said(error)})") from None
    finally:
        if session is not None:
            await close(session)


async def _connect(address: Address) -> Session:
    try:
        return await connect(address)
    except OSError:  # some of TLS are ValueErrors, too
        raise
    except (
        ValueError
    ) as error:  # a host that cannot be looked up, a parameter that asyncpg does not take
        raise Unfit(f"the URL cannot be used ({said(error)}).") from None


@asynccontextmanager
async def _transaction(session: Session) -> AsyncIterator[None]:
    """One that sees what others have committed while it waited, and that no time-out of an
    operator's ends."""
    async with session.transaction(isolation="read_committed"):
        await session.execute(NO_TIMEOUTS)
        yield


async def _try_upgrade(address: Address, adopting: bool) -> bool:
    """False where something else holds a lock for too long. Nothing is done then, and the log has
    said so."""
    async with _session(address) as session:
        try:
            async with _transaction(session):
                await _bring_up_to_date(session, address, adopting)
            return True
        except TRY_AGAIN:
            await _say_who_holds_the_lock(session)
            return False


async def _bring_up_to_date(session: Session, address: Address, adopting: bool) -> None:
    await session.execute(f"SET LOCAL lock_timeout = '{QUEUE_WAIT}'")
    await session.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
    await session.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
    found = await _find(session, address)
    if is_behind(found.version):
        await _migrate(session, found, adopting)
        log.info("database: schema brought from %s to %s", found.version or "nothing", HEAD)
    with _refusals():
        await functions.install(session, FUNCTIONS)


async def _migrate(session: Session, found: Found, adopting: bool) -> None:
    old = await _require_room(session, found, adopting) if found.version is None else None
    if old is None:
        await _run(session, found.version, "head")
    else:
        next_id = await adoption.set_aside(session, old)
        await _run(session, None, adoption.VERSION)
        count = await adoption.put_back(session, next_id)
        await _run(session, adoption.VERSION, "head")
        log.info("database: the table %s is adopted, with %d tasks", old.name, count)


async def _find(session: Session, address: Address) -> Found:
    """Look for our tables, and let nothing else be found in their stead. Unfit where they cannot be
    served."""
    if address.search_path:
        await session.execute("SELECT set_config('search_path', $1, true)", address.search_path)
    about = await session.fetchrow(ABOUT)
    if about["encoding"] != "UTF8":
        raise Unfit(
            f"the database {about['database']} is encoded in {about['encoding']}, which cannot hold every text; "
            "use one that was made with ENCODING 'UTF8' TEMPLATE template0."
        )
    if about["server"] < OLDEST_SERVER:
        raise Unfit(
            f"PostgreSQL {about['server']} is too old; it must be {OLDEST_SERVER} or newer."
        )
    if about["schema"] is None:
        raise Unfit(
            f"no schema in the search path exists and may be used by the login {about['login']}; make one "
            f"(CREATE SCHEMA todo AUTHORIZATION {about['login']}), or grant USAGE on it."
        )
    await session.execute(
        "SELECT set_config('search_path', $1 || ', pg_temp', true)", about["quoted"]
    )
    version = None
    if about["has_versions"]:
        version = await session.fetchval(MIGRATED_TO)
    _require_known(version, about["comment"])
    return Found(version, about["schema"], about["quoted"], about["login"])


def _require_known(version: str | None, comment: str | None) -> None:
    """A newer release that has migrated says from which version on its schema may be served
    (decision 13)."""
    if version is None or version <= HEAD:
        return
    serves_from = SERVES_FROM.fullmatch(comment or "")
    if serves_from is None or serves_from[1] > HEAD:
        raise Unfit(
            f"the schema is version {version}, and this release can serve versions up to {HEAD}; "
            "start the release that has migrated it, or a newer one."
        )
    log.info(
        "database: schema %s is newer than this release's %s, and may be served by it",
        version,
        HEAD,
    )


async def _require_room(
    session: Session, found: Found, adopting: bool
) -> adoption.Adoptable | None:
    """Before anything is written: may we make tables here, and is there nothing in their place?"""
    if not await session.fetchval("SELECT has_schema_privilege(current_schema(), 'CREATE')"):
        raise Unfit(
            f"the login {found.login} may not make tables in the schema {found.quoted}; "
            "set NEON_DIRECT_DATABASE_URL to a login that may, "
            f"or run GRANT CREATE ON SCHEMA {found.quoted} TO {found.login}."
        )
    old = await adoption.find(session)
    made = sorted({VERSION_TABLE, *MADE.findall(await asyncio.to_thread(script, None, "head"))})
    taken = [row["thing"] for row in await session.fetch(TAKEN, made)]
    others = [thing for thing in taken if not old or thing != f"table {old.name}"]
    elsewhere = "use another database, or a schema of its own (docs/database.md)."
    if others:
        raise Unfit(
            f"the schema {found.quoted} has a {others[0]} already, which is not ours; {elsewhere}"
        )
    if adopting and not old:
        raise Unfit(
            f"the schema {found.quoted} has no table of tasks to adopt; migrate without --adopt."
        )
    if old and not adopting and not (old.flaw and old.name != "tasks"):
        raise Unfit(_offer(old, found, elsewhere))
    return old if adopting else None


def _offer(old: adoption.Adoptable, found: Found, elsewhere: str) -> str:
    begin = f"the schema {found.quoted} has a table {old.name} already, which is not ours"
    if old.flaw:
        return f"{begin} and cannot be adopted ({old.flaw}); {elsewhere}"
    return (
        f"{begin} but can be adopted: stop the server that uses it, and run `todo migrate --adopt` "
        f"(python3 run.py migrate --adopt), which keeps every row and makes the rest; or {elsewhere}"
    )


async def _run(session: Session, version: str | None, to: str) -> None:
    text = await asyncio.to_thread(script, version, to)
    with _refusals():
        for statement in statements(text):
            await session.execute(statement)


@contextmanager
def _refusals() -> Iterator[None]:
    """What PostgreSQL refuses to change, in a sentence."""
    try:
        yield
    except (*OUT_OF_REACH, *TRY_AGAIN):
        raise
    except asyncpg.InsufficientPrivilegeError as error:
        raise Unfit(
            f"the migration is refused ({said(error)}); migrate with the login that owns the tables."
        ) from None
    except asyncpg.PostgresError as error:
        raise Unfit(f"the migration fails ({said(error)}); nothing was changed.") from None


async def _say_who_holds_the_lock(session: Session) -> None:
    holder = await session.fetchrow(HOLDERS, [*ISOLATED, VERSION_TABLE, *adoption.NAMES])
    if holder is None:
        log.warning(
            "database: the migration waited for a lock; it is tried again in %g s", PAUSE_SECONDS
        )
        return
    log.warning(
        "database: the migration waits for %s, which process %d of PostgreSQL uses (%s, %s); it is tried again in %g s",
        *holder.values(),
        PAUSE_SECONDS,
    )


async def _require_usage(session: Session, found: Found, role: str) -> None:
    if not await session.fetchval(
        "SELECT has_schema_privilege($1, current_schema(), 'USAGE')", role
    ):
        raise Unfit(
            f"the role {role} may not use the schema {found.quoted}; run, as its owner: "
            f"GRANT USAGE ON SCHEMA {found.quoted} TO {ROLE}, {RETENTION_ROLE}."
        )
