"""Connections to PostgreSQL: a few, kept prepared, never waited for longer than a caller would."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import asyncpg

from errors import Unavailable
from postgres.dsn import Address
from postgres.outages import OWN_WRITES, FunctionGone, is_function_gone, unavailable
from postgres.sessions import ANSWER_SECONDS, BETWEEN_STATEMENTS, Session, Terms, close, connect
from postgres.turns import Turn, Turns

log = logging.getLogger("todo.database")

SIZE = 10
HOUSEKEEPING = (
    1  # a session beside them that looks at the schema, migrates, or removes what has expired
)
WAIT_SECONDS = 2.0  # for a free connection; then 503
LATE_MAX = 24  # attempts to connect that take longer than PLACE_SECONDS
PLACE_SECONDS = 1.0  # how long such an attempt keeps its place
HEDGES = 2  # fresh ones beside them: where the network swallowed the first, these come through when it is back
ATTEMPTS = 4

Row = Mapping[str, Any]
Result = TypeVar("Result")

ROLLED_BACK = (  # nothing happened, so the statement may be sent again
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,  # a migration changed the table
    FunctionGone,  # perhaps there is a new one, which statements prepared anew will find
)
OUT_OF_REACH = (
    OSError,  # TimeoutError among them
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, statement_timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby after a failover
    asyncpg.FeatureNotSupportedError,  # what it says to a transaction that wants to write
)


class Waiter(NamedTuple):
    """Somebody who waits for a session until `deadline`, by the loop's clock."""

    deadline: float
    session: asyncio.Future[Session]


class Transaction:
    """Statements that are committed together or not at all. Their errors come as the database
    raises them."""

    __slots__ = ("_prepares", "_session")

    def __init__(self, session: Session, prepares: bool) -> None:
        self._session = session
        self._prepares = prepares

    async def read(
        self, sql: str, *arguments: Any, seconds: float = ANSWER_SECONDS, once: bool = False
    ) -> list[Row]:
        """The rows of a statement. Prepared once a session; behind a pooler the next may meet
        another server.

        `once`: there is no end to such texts, so the session keeps only the last of them, in
        asyncpg's own cache.
        """
        session = self._session
        if once or not self._prepares:
            return await session.fetch(sql, *arguments, timeout=seconds)  # type: ignore[no-any-return]
        statement = session.statements.get(sql)
        if statement is None:
            statement = session.statements[sql] = await session.prepare(sql, timeout=seconds)
        return await statement.fetch(*arguments, timeout=seconds)  # type: ignore[no-any-return]

    write = read

    async def lock(self, owner: str) -> None:
        """Let no other transaction write what is `owner`'s until this one ends."""
        await _locked(self._session, _lock(owner))


class Pool:
    """Runs statements as the restricted role: one, in a transaction of its own, or several in one
    transaction.

    On a direct connection the session has the role, and the statement is the transaction: one round
    trip. Behind a transaction pooler nothing may stay in the session, so BEGIN, role and limits go
    first and COMMIT last. asyncpg's own pool resets a connection at every release and prepares
    through a cache: 97 of 419 µs for a small read.
    """

    def __init__(
        self,
        address: Address,
        role: str | None,
        size: int = SIZE,
        schema: str | None = None,
        isolated: tuple[str, ...] = (),
        when_function_gone: Callable[[], None] | None = None,
    ) -> None:
        self.address = address
        self.terms = Terms(role, schema, isolated)
        self.size = size
        self._when_function_gone = when_function_gone
        self._idle: list[Session] = []
        self._waiting: deque[Waiter] = deque()
        self._patience: asyncio.TimerHandle | None = (
            None  # for the first of them: a timer for each would cost 3 µs
        )
        self._open = (
            0  # places taken: by sessions idle or in use, and by those on their way in or out
        )
        self._connecting: set[asyncio.Task[Session]] = set()
        self._late: set[asyncio.Task[Session]] = (
            set()
        )  # still connecting, but their places were given up
        self._closing: set[asyncio.Task[None]] = set()
        self._turns = Turns(WAIT_SECONDS)
        self._closed = False
        self.used_at = time.monotonic()

    async def read(
        self, sql: str, *arguments: Any, seconds: float = ANSWER_SECONDS, once: bool = False
    ) -> list[Row]:
        """The rows of a statement that changes nothing; sent once more if its connection turns out
        to be cut.

        `once`: see Transaction.read.
        """
        return await self._attempt(
            lambda session: self._one(session, sql, arguments, seconds, once), again_if_cut=True
        )

    async def write(self, sql: str, *arguments: Any, seconds: float = ANSWER_SECONDS) -> list[Row]:
        """The rows of a statement that changes something, committed. Sent again only after a
        rollback."""
        return await self._attempt(
            lambda session: self._one(session, sql, arguments, seconds), again_if_cut=False
        )

    async def transaction(
        self, work: Callable[[Transaction], Awaitable[Result]], locked_for: str | None = None
    ) -> Result:
        """What `work` returns, committed with all that it wrote; nothing is where it raises. Run
        again only after a rollback, from its beginning. `locked_for`: under that user's lock, in
        the same round trip as the BEGIN."""
        return await self._attempt(
            lambda session: self._together(session, work, locked_for), again_if_cut=False
        )

    def turn(self, owner: str) -> Turn:
        """Few of one user's writes at a time. The others wait here: in the database each would hold
        a session, and all of them for the same lock. Unavailable after WAIT_SECONDS."""
        return self._turns.of(owner)

    async def close(self) -> None:
        """Refuse who waits, and close what is idle. What is still in use closes when it is given
        back."""
        self._closed = True
        if self._patience is not None:
            self._patience.cancel()
        self._refuse_waiting("The server is stopping; try again shortly")
        for connecting in self._connecting | self._late:
            connecting.cancel()
        while self._idle:
            self._close_soon(self._idle.pop())
        while leaving := self._connecting | self._late | self._closing:
            await asyncio.wait(leaving)

    async def _attempt(
        self, run: Callable[[Session], Awaitable[Result]], again_if_cut: bool
    ) -> Result:
        for attempt in range(1, ATTEMPTS + 1):
            session = self._free() or await self._wait()
            try:
                return await _use(session, run)
            except ROLLED_BACK as error:
                session.statements.clear()
                if attempt == ATTEMPTS:
                    raise self._given_up(error) from None
            except OUT_OF_REACH as error:
                if not (again_if_cut and attempt == 1 and session.is_closed()):
                    raise unavailable(error) from None
                self._discard_idle()  # what cut one has probably cut all
            finally:
                self._give_back(session)
        raise AssertionError("the last attempt returns or raises")

    def _given_up(self, error: Exception) -> Unavailable:
        if self._when_function_gone and isinstance(error, FunctionGone):
            self._when_function_gone()
        return unavailable(error)

    async def _one(
        self,
        session: Session,
        sql: str,
        arguments: tuple[Any, ...],
        seconds: float,
        once: bool = False,
    ) -> list[Row]:
        if session.address.pooled:
            return await self._together(
                session, lambda begun: begun.read(sql, *arguments, seconds=seconds)
            )
        alone = Transaction(session, prepares=not once)
        return await alone.read(sql, *arguments, seconds=seconds)

    async def _together(
        self,
        session: Session,
        work: Callable[[Transaction], Awaitable[Result]],
        locked_for: str | None = None,
    ) -> Result:
        try:
            if locked_for is None:
                await session.execute(session.begin, timeout=ANSWER_SECONDS)
            else:
                await _locked(session, f"{session.begin};{_lock(locked_for)}")
            result = await work(Transaction(session, prepares=not session.address.pooled))
            done = await session.execute("COMMIT", timeout=ANSWER_SECONDS)
        except BETWEEN_STATEMENTS:
            if not session.is_closed() and session.is_in_transaction():
                await session.execute("ROLLBACK", timeout=ANSWER_SECONDS)
            raise
        if (
            done != "COMMIT"
        ):  # what PostgreSQL answers to the COMMIT of a transaction that has failed
            raise asyncpg.InternalClientError(f"COMMIT was answered by {done}")
        return result

    def _free(self) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            if not session.is_closed() and not session.is_old():
                return session
            session.terminate()
            self._give_back(session)
        return None

    async def _wait(self) -> Session:
        if self._closed:
            raise Unavailable("The server is stopping; try again shortly")
        loop = asyncio.get_running_loop()
        waiter = Waiter(loop.time() + WAIT_SECONDS, loop.create_future())
        self._waiting.append(waiter)
        if self._patience is None:
            self._patience = loop.call_at(waiter.deadline, self._lose_patience)
        self._connect_if_wanted()
        try:
            return await waiter.session
        except asyncio.CancelledError:
            self._stop_waiting(waiter)
            raise

    def _stop_waiting(self, waiter: Waiter) -> None:
        """Leave the queue. A session handed over in the very moment of a cancellation goes back."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif not waiter.session.cancelled() and waiter.session.exception() is None:
            self._give_back(waiter.session.result())

    def _lose_patience(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._waiting[0].deadline <= loop.time():
            late = self._waiting.popleft().session
            if not late.done():
                late.set_exception(
                    Unavailable("The database is busy or waking up; try again shortly")
                )
        self._patience = (
            loop.call_at(self._waiting[0].deadline, self._lose_patience) if self._waiting else None
        )

    def _give_back(self, session: Session) -> None:
        self.used_at = time.monotonic()
        if session.is_closed():
            self._open -= 1
            self._connect_if_wanted()
        elif self._closed or not session.usable or (self._waiting and session.is_old()):
            self._close_soon(session)
        elif (waiter := self._next_waiting()) is not None:
            waiter.set_result(session)
        else:
            self._idle.append(session)

    def _next_waiting(self) -> asyncio.Future[Session] | None:
        while self._waiting:
            waiter = self._waiting.popleft().session
            if not waiter.done():
                return waiter
        return None

    def _close_soon(self, session: Session) -> None:
        """It keeps its place until the server has stopped what it does there, so that no pile of
        work grows unseen."""
        task = asyncio.create_task(close(session))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(lambda _: self._give_back(session))

    def _discard_idle(self) -> None:
        while self._idle:
            session = self._idle.pop()
            session.terminate()
            self._give_back(session)

    def _connect_if_wanted(self) -> None:
        if self._closed or self._open >= self.size or len(self._waiting) <= len(self._connecting):
            return
        if self._late and (len(self._connecting) >= HEDGES or len(self._late) >= LATE_MAX):
            return
        self._open += 1
        task = asyncio.create_task(connect(self.address, self.terms))
        self._connecting.add(task)
        timer = asyncio.get_running_loop().call_later(PLACE_SECONDS, self._give_up_place, task)
        task.add_done_callback(lambda _: timer.cancel())
        task.add_done_callback(self._connected)

    def _give_up_place(self, task: asyncio.Task[Session]) -> None:
        """It goes on: a database that wakes up takes longer. But it keeps nobody else from trying."""
        self._connecting.discard(task)
        self._late.add(task)
        self._open -= 1
        self._connect_if_wanted()

    def _connected(self, task: asyncio.Task[Session]) -> None:
        had_place = task in self._connecting
        self._connecting.discard(task)
        self._late.discard(task)
        if not task.cancelled() and task.exception() is None:
            if task.result().address.pooled:
                self.address = task.result().address  # a pooler that only the connection has shown
            self._open += not had_place
            if self._open > self.size:
                self._close_soon(task.result())
            else:
                self._give_back(task.result())
            return
        self._open -= had_place
        if not task.cancelled():
            refusal = unavailable(task.exception())
            if self._open == 0:  # else the sessions that work will serve them
                self._refuse_waiting(str(refusal))

    def _refuse_waiting(self, sentence: str) -> None:
        while (waiter := self._next_waiting()) is not None:
            waiter.set_exception(Unavailable(sentence))


async def _locked(session: Session, sql: str) -> None:
    """Run what takes the lock of a user, and no table's. PostgreSQL does not say which of the two
    was waited for."""
    try:
        await session.execute(sql, timeout=ANSWER_SECONDS)
    except asyncpg.LockNotAvailableError:
        raise Unavailable(OWN_WRITES) from None


def _lock(owner: str) -> str:
    """The lock of storage/writer.py. The name goes in hexadecimal digits, so it cannot end the
    text."""
    name = f"convert_from('\\x{owner.encode().hex()}', 'UTF8')"
    return f"SELECT pg_advisory_xact_lock(hashtextextended({name}, 0))"


async def _use(session: Session, run: Callable[[Session], Awaitable[Result]]) -> Result:
    try:
        return await run(session)
    except BaseException as error:
        if isinstance(error, asyncpg.InterfaceError) and session.is_closed():
            raise ConnectionResetError("the session was cut between two statements") from None
        session.usable = session.is_ready_after(error)
        if is_function_gone(error):
            raise FunctionGone(str(error)) from None
        raise
