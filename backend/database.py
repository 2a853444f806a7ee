"""The way to the database: which one, brought up to date, and each request's view of it, narrowed to its user."""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
from starlette.requests import HTTPConnection

import config
import dsn
import embedded
import migrate
from errors import SettingError, Unavailable
from pool import OUT_OF_REACH, Pool, Row, Transaction
from schemas import Check

log = logging.getLogger("todo.database")

PATIENCE_SECONDS = 5.0  # of the start: longer, and it goes on without the database
RETRY_SECONDS = 1.0
WRONG_ADDRESS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.UndefinedObjectError,  # a parameter that the server does not know
    asyncpg.InsufficientPrivilegeError,
)


class Actor(NamedTuple):
    """Who makes a change. A `user` is named by the token's `sub`."""

    kind: str
    id: str


class OwnerDatabase:
    """The database as one user may see it: every statement gets that user as its $1.

    A write also gets what the change log notes: the actor's kind and id as $2 and $3, and as $4 the group, which all
    changes made through one OwnerDatabase share.
    """

    __slots__ = ("_via", "actor", "group_id", "owner")

    def __init__(self, via: Pool | Transaction, owner: str, actor: Actor | None = None) -> None:
        self._via = via
        self.owner = owner
        self.actor = actor or Actor("user", owner)
        self.group_id: UUID | None = None

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler stands before the database, so that a statement takes three round trips."""
        return isinstance(self._via, Pool) and self._via.address.pooled

    async def read(self, sql: str, *arguments: Any) -> list[Row]:
        return await self._via.read(sql, self.owner, *arguments)

    async def write(self, sql: str, *arguments: Any) -> list[Row]:
        self.group_id = self.group_id or uuid4()
        values = (self.owner, *self.actor, self.group_id, *arguments)
        if isinstance(self._via, Transaction):
            return await self._via.write(sql, *values)
        async with self._via.turn(self.owner):
            return await self._via.write(sql, *values)


def get_database(request: HTTPConnection) -> Database:
    database: Database = request.scope["state"]["database"]
    return database


def get_db(request: HTTPConnection) -> OwnerDatabase:
    """The database of the user whom `get_current_user` has found; in the request's transaction, if it has begun one."""
    via = request.scope.get("transaction") or get_database(request).pool
    return OwnerDatabase(via, request.scope["user_id"])


class Database:
    """The application's one database: opened at start, and where it cannot be reached, tried until it can."""

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
        """Return when it is ready, or has kept us waiting: then it is tried on. SettingError if it never will be."""
        self._opening = asyncio.create_task(self._try_until_ready())
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
            isolation = Check(ok=True, detail="row-level security proven at start")
        else:
            off = self.settings.row_security == "off"
            isolation = Check(ok=off, detail="this login is not restricted; only where-clauses keep users apart")
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

    async def _try_until_ready(self) -> None:
        said = ""
        while True:
            try:
                return await self._prepare()
            except (SettingError, asyncpg.PostgresError, *OUT_OF_REACH) as error:
                if not self._tried.is_set() and not isinstance(error, OUT_OF_REACH):
                    raise
                if str(error) != said:
                    said = str(error)
                    log.warning("database: not ready (%s: %s); trying on", type(error).__name__, error)
            finally:
                self._tried.set()  # what is wrong from now on may pass: the server stays, and says 503
            await asyncio.sleep(RETRY_SECONDS)

    async def _prepare(self) -> None:
        target = address(self.settings)
        direct_address(self.settings)  # a wrong one is said at the start, not at the next migration
        try:
            schema = await migrate.inspect(target)
            if migrate.is_behind(schema.version):
                await asyncio.to_thread(create_tables, self.settings)
                schema = await migrate.inspect(target)
        except WRONG_ADDRESS as error:
            raise SettingError(f"{self.settings.database_variable} is refused by the server: {error}.") from None
        _require_row_security(schema, self.settings)
        self.schema = schema
        self._pool = Pool(target, schema.role)
        log.info("%s", " ".join([f"database: {target.host}, schema {schema.version}.", *target.notes]))


def create_tables(settings: config.Settings | None = None) -> None:
    """Bring the schema up to date. Safe to run twice, and from two processes at once."""
    asyncio.run(migrate.upgrade(direct_address(settings or config.load())))


def address(settings: config.Settings) -> dsn.Address:
    """Where requests go. Without a URL: the embedded PostgreSQL, started here unless it runs already."""
    if settings.database_url is None:
        return dsn.parse(_embedded_url(settings.data_dir / "postgres"))
    url = settings.database_url.get_secret_value()
    return dsn.parse(url, settings.database_variable, pooled=settings.database_pooled)


def direct_address(settings: config.Settings) -> dsn.Address:
    """Where migrations go: past Neon's pooler, which keeps no session."""
    if settings.neon_direct_database_url is not None:
        return dsn.parse(settings.neon_direct_database_url.get_secret_value(), "NEON_DIRECT_DATABASE_URL")
    return dsn.direct(address(settings))


@cache
def _embedded_url(data_dir: Path) -> str:
    try:
        server = embedded.start(data_dir)
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
