"""Connections to PostgreSQL: a few, kept prepared, never waited for longer than a caller would."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import asyncpg

from dsn import Address
from errors import Unavailable

log = logging.getLogger("todo.database")

SIZE = 10
WAIT_SECONDS = 2.0  # for a free connection; then 503
CONNECT_SECONDS = 15.0  # a suspended Neon takes up to 10; it goes on while requests are told to come back
LIFETIME_SECONDS = 280.0  # below the 300 after which Neon suspends and cuts
ANSWER_SECONDS = 2.0
ATTEMPTS = 4
SETTINGS = {"statement_timeout": "10s", "lock_timeout": "1500ms", "idle_in_transaction_session_timeout": "10s"}

Row = Mapping[str, Any]

ROLLED_BACK = (  # nothing happened, so the statement may be sent again
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,  # a migration changed the table
)
OUT_OF_REACH = (
    OSError,  # TimeoutError among them
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, statement_timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby after a failover
)


class Session(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """A connection that knows its age and its prepared statements."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.born = time.monotonic()
        self.statements: dict[str, Any] = {}


class Pool:
    """Runs one statement at a time, each in a transaction of its own, as the restricted role.

    On a direct connection the session has the role, and the statement is the transaction: one round trip. Behind a
    transaction pooler nothing may stay in the session, so BEGIN, role and limits go first and COMMIT last.
    asyncpg's own pool resets a connection at every release and prepares through a cache: 97 of 419 µs for a small read.
    """

    def __init__(self, address: Address, role: str | None, size: int = SIZE) -> None:
        self.address = address
        self.role = role
        self.size = size
        self._idle: list[Session] = []
        self._waiting: deque[asyncio.Future[Session]] = deque()
        self._open = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False
        limits = {**SETTINGS, **({"role": role} if role else {})}
        self._begin = "BEGIN;" + "".join(f"SET LOCAL {name} = '{value}';" for name, value in limits.items())
        self._session_settings = {} if address.pooled else {**limits, "jit": "off"}

    async def read(self, sql: str, *arguments: Any, seconds: float = ANSWER_SECONDS) -> list[Row]:
        """The rows of a statement that changes nothing; sent once more if its connection turns out to be cut."""
        return await self._fetch(sql, arguments, seconds, again_if_cut=True)

    async def write(self, sql: str, *arguments: Any, seconds: float = ANSWER_SECONDS) -> list[Row]:
        """The rows of a statement that changes something, committed. Sent again only after a rollback."""
        return await self._fetch(sql, arguments, seconds, again_if_cut=False)

    async def close(self) -> None:
        self._closed = True
        for task in self._connecting:
            task.cancel()
        while self._idle:
            await self._idle.pop().close(timeout=ANSWER_SECONDS)

    async def _fetch(self, sql: str, arguments: tuple[Any, ...], seconds: float, again_if_cut: bool) -> list[Row]:
        for attempt in range(1, ATTEMPTS + 1):
            session = self._free() or await self._wait()
            try:
                return await self._run(session, sql, arguments, seconds)
            except ROLLED_BACK as error:
                session.statements.clear()
                if attempt == ATTEMPTS:
                    raise _unavailable(error) from None
            except (*OUT_OF_REACH, asyncpg.InterfaceError) as error:
                if isinstance(error, asyncpg.InterfaceError) and not session.is_closed():
                    raise
                if isinstance(error, TimeoutError):
                    session.terminate()
                elif again_if_cut and attempt == 1 and session.is_closed():
                    self._discard_idle()  # what cut one has probably cut all
                    continue
                raise _unavailable(error) from None
            except asyncio.CancelledError:
                session.terminate()
                raise
            finally:
                self._give_back(session)
        raise AssertionError("the last attempt returns or raises")

    async def _run(self, session: Session, sql: str, arguments: tuple[Any, ...], seconds: float) -> list[Row]:
        if self.address.pooled:
            return await self._run_pooled(session, sql, arguments, seconds)
        statement = session.statements.get(sql)
        if statement is None:
            statement = session.statements[sql] = await session.prepare(sql, timeout=seconds)
        rows: list[Row] = await statement.fetch(*arguments, timeout=seconds)
        return rows

    async def _run_pooled(self, session: Session, sql: str, arguments: tuple[Any, ...], seconds: float) -> list[Row]:
        await session.execute(self._begin, timeout=seconds)
        try:
            rows: list[Row] = await session.fetch(sql, *arguments, timeout=seconds)
            await session.execute("COMMIT", timeout=seconds)
        except asyncpg.PostgresError:
            if not session.is_closed():
                await session.execute("ROLLBACK", timeout=seconds)
            raise
        return rows

    def _free(self) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            if not session.is_closed() and time.monotonic() - session.born < LIFETIME_SECONDS:
                return session
            session.terminate()
            self._give_back(session)
        return None

    async def _wait(self) -> Session:
        waiter: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._connect_if_wanted()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await waiter
        except TimeoutError:
            raise Unavailable("The database is busy or waking up; try again shortly") from None
        finally:
            if waiter.cancelled() and waiter in self._waiting:
                self._waiting.remove(waiter)

    def _give_back(self, session: Session) -> None:
        if session.is_closed() or self._closed:
            session.terminate()
            self._open -= 1
            self._connect_if_wanted()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(session)
                return
        self._idle.append(session)

    def _discard_idle(self) -> None:
        while self._idle:
            session = self._idle.pop()
            session.terminate()
            self._give_back(session)

    def _connect_if_wanted(self) -> None:
        if self._open < self.size and len(self._waiting) > len(self._connecting) and not self._closed:
            self._open += 1
            task = asyncio.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        try:
            session = await connect(self.address, self._session_settings)
        except (*OUT_OF_REACH, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._open -= 1
            if self._open == 0:  # else the sessions that work will serve them
                self._refuse_waiting(_unavailable(error))
        else:
            self._give_back(session)

    def _refuse_waiting(self, refusal: Unavailable) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(refusal)


async def connect(address: Address, settings: Mapping[str, str] | None = None) -> Session:
    """A new connection. Behind a pooler it prepares nothing by name: the next transaction may meet another server."""
    return await asyncpg.connect(  # type: ignore[no-any-return]
        **address.connect_arguments(),
        connection_class=Session,
        statement_cache_size=0 if address.pooled else 100,
        timeout=CONNECT_SECONDS,
        server_settings={"application_name": "todo-api", **(settings or {})},
    )


def _unavailable(error: BaseException) -> Unavailable:
    log.warning("database: %s: %s", type(error).__name__, error)
    return Unavailable("The database is out of reach; try again shortly")
