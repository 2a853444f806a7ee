"""The schema, brought up to date by Alembic's migrations, and the proof that it keeps users apart."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from dsn import Address
from pool import Session, connect

log = logging.getLogger("todo.database")

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
VERSION_TABLE = "todo_schema_version"
LOCK = 0x70D0_A91  # any number that nobody else takes
ROLE = "todo_app"  # NOLOGIN, neither owner nor BYPASSRLS: requests run as this one
RETENTION_ROLE = "todo_retention"  # the same, and sees nothing but what has expired: retention.py runs as this one
ISOLATED = ("tasks", "change_counters", "changes", "idempotency_keys")  # each with rows that are one user's alone


def versions() -> list[str]:
    """Oldest first; a migration's file name starts with its version."""
    return sorted(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


HEAD = versions()[-1]


@dataclass(frozen=True)
class Schema:
    """What the database says of itself: its version, the role that requests take, whether that one is restricted."""

    version: str | None
    role: str | None
    row_security_proven: bool


async def upgrade(address: Address) -> None:
    """Run what is missing, in one transaction under a lock: of two starts at once, one migrates and one waits."""
    session = await connect(address)
    try:
        async with session.transaction():
            await session.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
            version = await _version(session)
            if is_behind(version):
                await session.execute(script(version))
                log.info("database: schema brought from %s to %s", version or "nothing", HEAD)
    finally:
        await session.close()


async def inspect(address: Address) -> Schema:
    session = await connect(address)
    try:
        version = await _version(session)
        if is_behind(version):
            return Schema(version, None, False)
        role = ROLE if await _may_take_role(session) else None
        return Schema(version, role, await _is_restricted(session, role))
    finally:
        await session.close()


def script(version: str | None) -> str:
    """The SQL from `version` (None: an empty database) to the newest. Alembic is loaded only when there is any."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config

    output = io.StringIO()
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, f"{version or 'base'}:head", sql=True)
    return output.getvalue()


def is_behind(version: str | None) -> bool:
    return version is None or version < HEAD


async def _version(session: Session) -> str | None:
    if await session.fetchval("SELECT to_regclass($1)", VERSION_TABLE) is None:
        return None
    version: str | None = await session.fetchval(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608  # a constant
    return version


async def _may_take_role(session: Session) -> bool:
    try:
        async with session.transaction():
            await session.execute(f"SET LOCAL ROLE {ROLE}")
    except asyncpg.PostgresError:
        return False
    return True


async def _is_restricted(session: Session, role: str | None) -> bool:
    """Proof, not belief: with row_security off, a query that policies apply to must fail, and with it on must not."""
    for table in ISOLATED:
        if not await _may_read(session, role, table, "on") or await _may_read(session, role, table, "off"):
            return False
    return True


async def _may_read(session: Session, role: str | None, table: str, row_security: str) -> bool:
    try:
        async with session.transaction():
            if role:
                await session.execute(f"SET LOCAL ROLE {role}")
            await session.execute(f"SET LOCAL row_security = {row_security}")
            await session.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608  # a constant
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True
