"""The way to the database: which one, brought up to date, and each request's view of it, narrowed
to its user."""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncpg
from starlette.requests import HTTPConnection

import config
import storage
from call import Call
from errors import SettingError, Unavailable
from postgres import dsn, embedded, functions, migrate, sessions
from postgres.pool import HOUSEKEEPING, OUT_OF_REACH, SIZE, Pool, Row, Transaction
from schemas import Check
from storage import Edit, GuardLost, Outcome

log = logging.getLogger("todo.database")

Result = TypeVar("Result")

PATIENCE_SECONDS = 5.0  # of the start: longer, and it goes on without the database
RETRY_SECONDS = 1.0
OTHERS = 10  # connections of the embedded database for who looks into it, beside those that its reserve holds back


class Actor(NamedTuple):
    """Who makes a change. A `user` is named by the token's `sub`."""

    kind: str
    id: str


class OwnerDatabase:
    """The database as one user may see it: every statement gets that user as its $1.

    What it writes, it writes by `store`, which notes the actor in the change log.
    """

    __slots__ = ("_via", "actor", "owner")

    def __init__(self, via: Pool | Transaction, owner: str, actor: Actor | None = None) -> None:
        self._via = via
        self.owner = owner
        self.actor = actor or Actor("user", owner)

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler stands before the database, so that a statement takes four round trips."""
        return isinstance(self._via, Pool) and self._via.address.pooled

    @property
    def is_locked(self) -> bool:
        """Whether this is inside of `locked`."""
        return isinstance(self._via, Transaction)

    async def read(self, sql: str, *arguments: Any) -> list[Row]:
        return await self._via.read(sql, self.owner, *arguments)

    async def read_once(self, sql: str, *arguments: Any) -> list[Row]:
        """The same for a statement that is made for this call alone."""
        return await self._via.read(sql, self.owner, *arguments, once=True)

    async def store(self, *edits: Edit, all: bool = False, rows: bool = True) -> list[Outcome]:
        """What became of each of `edits`, which are one group and one transaction.

        `all`: either every edit is done, or none, and it is tried again. Without `rows` no objects
        come back.
        """
        group = storage.new_group()
        if len(edits) > storage.EDITS_MAX:
            in_parts = partial(_store_in_parts, group=group, edits=edits, all=all, rows=rows)
            return await self.locked(in_parts)
        if isinstance(self._via, Transaction):
            return await self._store(storage.CALL, group, edits, all, rows)
        async with self._via.turn(self.owner):
            return await self._store(storage.CALL, group, edits, all, rows)

    async def _store(
        self, call: str, group: str, edits: Sequence[Edit], all: bool, rows: bool
    ) -> list[Outcome]:
        values = (self.owner, *self.actor, group, storage.to_json(edits), all, rows)
        found = await self._via.write(call, *values)
        return [
            storage.outcome(edit, row["outcome"], row["item"])
            for edit, row in zip(edits, found, strict=True)
        ]

    async def locked(self, work: Callable[[OwnerDatabase], Awaitable[Result]]) -> Result:
        """What `work` returns, done in one transaction under the user's lock: what it reads stays
        true until then.

        `work` may run again, from its beginning.
        """
        if isinstance(self._via, Transaction):
            await self._via.lock(self.owner)
            return await work(self)

        async def run(transaction: Transaction) -> Result:
            inside = copy(self)
            inside._via = transaction
            return await work(inside)

        async with self._via.turn(self.owner):
            return await self._via.transaction(run, locked_for=self.owner)

    async def guarded(self, work: Callable[[OwnerDatabase], Awaitable[Result]]) -> Result:
        """The same for work that writes one object at the version that it has read: first without
        the lock.

        That takes fewer round trips. If somebody else was faster, `work` raises GuardLost, and runs
        again under the lock.
        """
        if self.is_pooled or isinstance(self._via, Transaction):
            return await self.locked(work)
        try:
            return await work(self)
        except GuardLost:
            return await self.locked(work)


async def _store_in_parts(
    db: OwnerDatabase, group: str, edits: Sequence[Edit], all: bool, rows: bool
) -> list[Outcome]:
    """A call for each EDITS_MAX of them, so that none takes too long."""
    outcomes: list[Outcome] = []
    for start in range(0, len(edits), storage.EDITS_MAX):
        part = edits[start : start + storage.EDITS_MAX]
        outcomes += await db._store(storage.CALL_PART, group, part, all, rows)
    return outcomes


def get_database(request: HTTPConnection) -> Database:
    database: Database = request.scope["state"]["database"]
    return database


def get_db(call: Call) -> OwnerDatabase:
    """The database of the user whom `get_current_user` has found; in the call's transaction, if it
    has begun one."""
    return OwnerDatabase(call.transaction or get_database(call).pool, call.user_id)


class Database:
    """The application's one database: opened at start, and where it cannot be reached, tried until
    it can."""

    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self.schema: migrate.Schema | None = None
        self._pool: Pool | None = None
        self._opening: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    @property
    def pool(self) -> Pool:
        if self._pool is None:
            raise Unavailable("The database is not ready yet; try again shortly")
        return self._pool

    @property
    def used_at(self) -> float:
        """When a session was last used, in monotonic seconds."""
        return -math.inf if self._pool is None else self._pool.used_at

    async def open(self) -> None:
        """Return when it is ready, or has kept us waiting: then it is tried on. SettingError if it
        never will be."""
        self._opening = asyncio.create_task(self._try_until_done(self._prepare))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), PATIENCE_SECONDS)
        self._tried.set()
        if self._opening.done():
            self._opening.result()

    async def checks(self) -> dict[str, Check]:
        """Whether the database answers now, and what is known of its schema and isolation."""
        try:
            await self.pool.read("SELECT 1")
        except Unavailable as error:
            return {"database": Check(ok=False, detail=str(error))}
        assert self.schema is not None
        if self.schema.row_security_proven:
            isolation = Check(
                ok=True,
                detail="row-level security proven at start, and seen to hold on every session",
            )
        else:
            off = self.settings.row_security == "off"
            isolation = Check(
                ok=off, detail="this login is not restricted; only where-clauses keep users apart"
            )
        return {
            "database": Check(ok=True, detail="answers"),
            "schema": Check(ok=True, detail=f"version {self.schema.version}"),
            "row_security": isolation,
        }

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._pool is not None:
            await self._pool.close()

    def _bring_functions_back(self) -> None:
        """As a start does, while requests that need none of them go on."""
        if self._opening is not None and not self._opening.done():
            return
        log.warning(
            "database: an SQL function of this release is gone; it is made again. A newer release drops what no start "
            "has wanted for %d days: start this one again from time to time, or end it.",
            functions.KEPT_DAYS,
        )
        self._opening = asyncio.create_task(self._try_until_done(self._bring_up_to_date))

    async def _try_until_done(self, work: Callable[[], Awaitable[object]]) -> None:
        said = ""
        while True:
            try:
                await work()
                return
            # Whatever it is: a server that has given up without a word helps nobody.
            except Exception as error:
                if not self._tried.is_set() and _will_not_pass(error):
                    raise self._as_sentence(error) from None
                if str(error) != said:
                    said = str(error)
                    log.warning(
                        "database: not ready (%s: %s); trying on", type(error).__name__, error
                    )
            finally:
                self._tried.set()  # what is wrong from now on may pass: the server stays, and says 503
            await asyncio.sleep(RETRY_SECONDS)

    def _as_sentence(self, error: Exception) -> SettingError:
        if isinstance(error, SettingError):
            return error
        variable, kind = self.settings.database_variable, type(error).__name__
        return SettingError(f"{variable}: the database cannot be used as it is ({kind}: {error}).")

    async def _prepare(self) -> None:
        target, schema = await self._bring_up_to_date()
        target, allowed = await sessions.look_at(target)
        _require_row_security(schema, self.settings)
        self.schema = schema
        isolated = migrate.ISOLATED if schema.row_security_proven else ()
        size = share(allowed, self.settings.web_concurrency)
        self._pool = Pool(
            target, schema.role, size, schema.search_path, isolated, self._bring_functions_back
        )
        log.info(
            "%s", " ".join([f"database: {target.host}, schema {schema.version}.", *target.notes])
        )
        if size < SIZE:
            log.warning(
                "database: it lets this login have %d connections, so each of %d workers uses %d for requests, not %d.",
                *(allowed, self.settings.web_concurrency, size, SIZE),
            )

    async def _bring_up_to_date(self) -> tuple[dsn.Address, migrate.Schema]:
        target = address(self.settings)
        # A wrong one is said at the start, not at the next migration.
        direct = direct_address(self.settings)
        schema = await migrate.inspect(target)
        if not schema.is_complete:
            await migrate.upgrade(direct)
            schema = await migrate.inspect(target)
        if not schema.is_claimed:  # a login that may not take the marks off serves all the same
            with suppress(SettingError, *OUT_OF_REACH):
                await migrate.upgrade(direct)
        if not schema.is_complete:
            raise SettingError(
                f"{direct.variable} and {target.variable} lead to two databases or schemas: what was migrated by the "
                "first is not found by the second."
            )
        return target, schema


def share(allowed: int | None, workers: int) -> int:
    """How many of the `allowed` connections one of `workers` processes may use for requests; None:
    nobody knows."""
    if allowed is None:
        return SIZE
    return max(1, min(SIZE, allowed // workers - HOUSEKEEPING))


def _will_not_pass(error: Exception) -> bool:
    """Whether trying again is in vain: a setting is wrong, or the server has answered and it will
    not be another time.

    What nobody has foreseen is tried again, with a line in the log.
    """
    if isinstance(error, OUT_OF_REACH):
        return False
    return isinstance(
        error, (SettingError, asyncpg.PostgresError, asyncpg.ClientConfigurationError)
    )


def create_tables(settings: config.Settings | None = None, adopting: bool = False) -> None:
    """Bring the schema up to date. Safe to run twice, and from two processes at once."""
    asyncio.run(migrate.upgrade(direct_address(settings or config.load()), adopting))


def address(settings: config.Settings) -> dsn.Address:
    """Where requests go. Without a URL: the embedded PostgreSQL, started here unless it runs
    already."""
    if settings.database_url is None:
        connections = settings.web_concurrency * (SIZE + HOUSEKEEPING) + OTHERS
        return dsn.parse(_embedded_url(settings.data_dir / "postgres", connections))
    url = settings.database_url.get_secret_value()
    return dsn.parse(url, settings.database_variable, pooled=settings.database_pooled)


def direct_address(settings: config.Settings) -> dsn.Address:
    """Where migrations go: past Neon's pooler, which keeps no session."""
    target = address(settings)
    if settings.neon_direct_database_url is None:
        return dsn.direct(target)
    found = dsn.parse(
        settings.neon_direct_database_url.get_secret_value(), "NEON_DIRECT_DATABASE_URL"
    )
    return replace(found, search_path=found.search_path or target.search_path)


@cache
def _embedded_url(data_dir: Path, connections: int) -> str:
    try:
        server = embedded.start(data_dir, connections=connections)
    except embedded.EmbeddedError as error:
        raise SettingError(str(error)) from None
    atexit.register(server.stop)
    return server.complete_url()


def _require_row_security(schema: migrate.Schema, settings: config.Settings) -> None:
    if schema.row_security_proven:
        return
    flaw = (
        "row-level security does not hold for this database login: it may bypass the policies and cannot take the role "
        f"{migrate.ROLE}. Only the where-clauses keep users apart"
    )
    if settings.production and settings.row_security == "on":
        raise SettingError(
            f"{settings.database_variable}: {flaw}; use a login without BYPASSRLS (docs/isolation.md), "
            "or set ROW_SECURITY=off."
        )
    log.warning("database: %s; docs/isolation.md says how to restrict it.", flaw)
