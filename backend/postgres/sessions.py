"""Sessions with PostgreSQL: each is set right, and seen to be, before it serves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import asyncpg

import logs
import threads
from errors import ApiError
from postgres.dsn import Address

log = logging.getLogger("todo.database")

# A suspended Neon takes up to 10; it goes on while requests are told to come back.
CONNECT_SECONDS = 15.0
# Of queries (selection.py): 100 long ones took 21 MB of a session of PostgreSQL.
CACHED_STATEMENTS = 20
LIFETIME_SECONDS = 280.0  # below the 300 after which Neon suspends and cuts
ANSWER_SECONDS = 2.0
LIMITS = {
    "statement_timeout": "10s",
    "lock_timeout": "1500ms",
    "idle_in_transaction_session_timeout": "10s",
}

# What would change a statement's meaning, or end it, if an operator's ALTER DATABASE or ALTER ROLE
# decided it, or what another client has SET. Each value is written as PostgreSQL shows it. All else
# stays the operator's: planning, memory, how durable a commit is.
MEANING = {
    "row_security": "on",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "exit_on_error": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "jit": "off",
    "app.user_id": "",
}
MEANING_SINCE_17 = {"transaction_timeout": "0"}
OF_A_SESSION = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "idle_session_timeout": "0",
}
OF_A_TRANSACTION = {
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
    "transaction_deferrable": "off",
}

# A pooler may hand over what another client has left in a session. (DISCARD ALL would need a round
# trip of its own.)
CLEAN = (
    "RESET ALL;CLOSE ALL;UNLISTEN *;DEALLOCATE ALL;DISCARD TEMP;SELECT pg_advisory_unlock_all();"
)

BETWEEN_STATEMENTS = (
    asyncpg.PostgresError,
    ApiError,
)  # the server has answered; or an operation has, with a refusal

CONNECTIONS = """
SELECT least(
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user)
)
"""

_warnings = logs.OnceAMinute()

# --- what is looked for: each statement has a row for each flaw ---

RAISE = """
DO $check$
DECLARE
    v_flaws text;
BEGIN
    SELECT string_agg(flaw, '; ') INTO v_flaws FROM ({flaws}) AS found (flaw);
    IF v_flaws IS NOT NULL THEN
        RAISE EXCEPTION '%', v_flaws USING ERRCODE = '{condition}';
    END IF;
END $check$;
"""

DROPPED = """
SELECT format('a pooler has dropped the start-up parameter %s', name)
FROM (VALUES {values}) AS sent (name, value)
WHERE pg_backend_pid() <> {pid} AND current_setting(name, true) IS DISTINCT FROM value
"""

OTHER_SETTINGS = """
SELECT format('%s is %L, not %L', name, current_setting(name, true), value)
FROM (VALUES {values}) AS wanted (name, value)
WHERE current_setting(name, true) IS DISTINCT FROM value
"""

OTHER_PATH = """
SELECT format('tables are looked for in %s, not in %s alone', current_setting('search_path'), {schema})
WHERE current_setting('search_path') <> {schema} || ', pg_temp'
"""

OTHER_ROLE = """
SELECT format('it runs as %s, not as %s', current_user, {role}) WHERE current_user <> {role}
"""

MAY_BYPASS = """
SELECT format('%s may bypass row-level security', current_user)
FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)
"""

NOT_BOUND = """
SELECT format('row-level security of the table %s does not bind %s', name, current_user)
FROM unnest(ARRAY[{tables}]) AS name WHERE row_security_active(to_regclass(name)) IS NOT TRUE
"""


class SessionRefused(Exception):
    """A session that does not hold what it must. The message says what is wrong with it."""


class Terms(NamedTuple):
    """What a session must hold before it serves."""

    role: str | None = None  # None: the login as it is
    schema: str | None = (
        None  # where our tables are, quoted if need be; None: where the login's own search path leads
    )
    isolated: tuple[str, ...] = ()  # the tables of which it must see one user's rows alone


AS_IT_IS = Terms()


class Session(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """A connection that knows its age, its prepared statements, and whether the next request may
    have it.

    `begin` is what its transactions begin with. Behind a transaction pooler that sets all that
    holds, because the next transaction may meet another server.
    """

    address: Address
    begin = "BEGIN"

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.born = time.monotonic()
        self.statements: dict[str, Any] = {}
        self.usable = True

    def is_old(self) -> bool:
        return time.monotonic() - self.born > LIFETIME_SECONDS

    def is_ready_after(self, error: BaseException) -> bool:
        """Whether the server waits for the next statement after `error`, outside any transaction."""
        if not isinstance(error, BETWEEN_STATEMENTS) or isinstance(
            error, asyncpg.ReadOnlySQLTransactionError
        ):
            return False  # a time-out, a cancellation, arguments that were never sent; or no longer the primary
        return not self.is_closed() and not self.is_in_transaction()

    def transaction(self, **how: Any) -> Any:
        """asyncpg's, with what must be set in each transaction behind a pooler."""
        plain = super().transaction(**how)
        if self.begin == "BEGIN" or self.is_in_transaction():
            return plain
        return self._with_settings(plain)

    @asynccontextmanager
    async def _with_settings(self, plain: Any) -> AsyncIterator[None]:
        async with plain:
            await self.execute(self.begin.removeprefix("BEGIN;"))
            yield


async def connect(address: Address, terms: Terms = AS_IT_IS) -> Session:
    """A new session that was seen to hold `terms`; SessionRefused where it does not.

    A pooler that nobody told us of may be a transaction pooler, so it is treated as one: then it is
    safe either way.
    """
    try:
        return await _connect(address, terms)
    except (
        asyncpg.ProtocolViolationError
    ):  # it refuses our start-up parameters, or `_parameters_arrived`
        if address.pooled:
            raise
        session = await _connect(replace(address, pooled=True), terms)
    if _warnings.allows():
        log.warning(
            "database: a pooler that drops start-up parameters stands before it. It is used as a transaction pooler, "
            "which takes three more round trips a request. An address without the pooler is faster; "
            "DATABASE_POOLED=true says that the pooler is meant."
        )
    return session


async def close(session: Session) -> None:
    """Cancels what runs there, says goodbye, and cuts the connection where that takes too long."""
    try:
        await session.close(timeout=ANSWER_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        log.debug("database: a session was cut, not closed")
    finally:
        session.terminate()


async def look_at(address: Address) -> tuple[Address, int | None]:
    """The address as it turns out to be, pooled or not; and how many connections the server lets
    this login have.

    None behind a pooler: it makes its clients wait, and the server's number is not theirs.
    """
    session = await connect(address)
    try:
        return session.address, None if session.address.pooled else await session.fetchval(
            CONNECTIONS
        )
    finally:
        await close(session)


async def _connect(address: Address, terms: Terms) -> Session:
    """Behind a pooler it prepares nothing by name: the next transaction may meet another server."""
    at_start = {} if address.pooled else _start_up_parameters(terms)
    names = [host for host in address.host.split(",") if host and not host.startswith("/")]
    async with asyncio.timeout(CONNECT_SECONDS):
        await threads.find(names)
        session: Session = await asyncpg.connect(
            **address.connect_arguments(),
            connection_class=Session,
            statement_cache_size=0 if address.pooled else CACHED_STATEMENTS,
            server_settings={"application_name": "todo-api", **at_start},
        )
        try:
            session.address = address
            await _set_right(session, terms, at_start)
        except BaseException:
            session.terminate()
            raise
    return session


def _start_up_parameters(terms: Terms) -> dict[str, str]:
    """Sent although all is set again by SQL: a pooler that refuses or drops them shows itself."""
    role = {"role": terms.role} if terms.role else {}
    return {**LIMITS, "jit": "off", **role}


async def _set_right(session: Session, terms: Terms, at_start: Mapping[str, str]) -> None:
    """Set and look in one round trip. An error undoes all of it."""
    newer = MEANING_SINCE_17 if session.get_server_version().major >= 17 else {}
    wanted = {**MEANING, **newer, **LIMITS}
    try:
        if session.address.pooled:
            wanted |= OF_A_TRANSACTION
            session.begin = f"BEGIN;{_set('SET LOCAL', wanted, terms)}"
            await session.execute(f"{session.begin}{_check(wanted, terms)}COMMIT")
        else:
            wanted |= OF_A_SESSION
            arrived = _parameters_arrived(at_start, session.get_server_pid())
            await session.execute(
                f"{arrived}{CLEAN}{_set('SET', wanted, terms)}{_check(wanted, terms)}"
            )
    except asyncpg.RaiseError as flaws:
        raise SessionRefused(f"a new session is not as it must be: {flaws}") from None


def _set(how: str, wanted: Mapping[str, str], terms: Terms) -> str:
    """Of a transaction first: its isolation can be set no later. The role last: what follows may
    need the login."""
    names = sorted(wanted, key=lambda name: name not in OF_A_TRANSACTION)
    settings = [f"{how} {name} = {_quoted(wanted[name])};" for name in names]
    path = f"{terms.schema}, pg_temp" if terms.schema else "DEFAULT"
    role = f"{how} ROLE {terms.role};" if terms.role else f'{how} "role" TO DEFAULT;'
    return "".join(
        [f"{how} SESSION AUTHORIZATION DEFAULT;", *settings, f"{how} search_path = {path};", role]
    )


def _parameters_arrived(at_start: Mapping[str, str], pid: int) -> str:
    """A pooler answers with a process id of its own. If it drops start-up parameters too, nothing
    says that it keeps a server for each client, and what is set for a session could end up in
    somebody else's."""
    return RAISE.format(
        condition="protocol_violation", flaws=DROPPED.format(values=_rows(at_start), pid=pid)
    )


def _check(wanted: Mapping[str, str], terms: Terms) -> str:
    """Raises all that is wrong, in one message."""
    flaws = [OTHER_SETTINGS.format(values=_rows(wanted))]
    if terms.schema:
        flaws.append(OTHER_PATH.format(schema=_quoted(terms.schema)))
    if terms.role:
        flaws.append(OTHER_ROLE.format(role=_quoted(terms.role)))
    if terms.role or terms.isolated:
        flaws.append(MAY_BYPASS)
    if terms.isolated:
        flaws.append(NOT_BOUND.format(tables=", ".join(map(_quoted, terms.isolated))))
    return RAISE.format(condition="raise_exception", flaws=" UNION ALL ".join(flaws))


def _rows(values: Mapping[str, str]) -> str:
    return ", ".join(f"({_quoted(name)}, {_quoted(value)})" for name, value in values.items())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
