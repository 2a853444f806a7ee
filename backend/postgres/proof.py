"""The proof that row-level security holds: what must be refused is tried, and taken back."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

from postgres.sessions import Session


async def may_take(session: Session, role: str) -> bool:
    return await _may(session, f"SET LOCAL ROLE {role}")


async def is_restricted(session: Session, role: str | None, tables: Iterable[str]) -> bool:
    """Proof, not belief: with row_security off, a query that policies apply to must fail, and with
    it on must not."""
    for table in tables:
        if not await _may_read(session, role, table, "on") or await _may_read(
            session, role, table, "off"
        ):
            return False
    return True


async def _may_read(session: Session, role: str | None, table: str, row_security: str) -> bool:
    return await _may(
        session,
        *([f"SET LOCAL ROLE {role}"] if role else []),
        f"SET LOCAL row_security = {row_security}",
        f"SELECT 1 FROM {table} LIMIT 1",  # noqa: S608  # a constant
    )


async def _may(session: Session, *tried: str) -> bool:
    """Whether these are allowed. They are always taken back."""
    trial = session.transaction()
    await trial.start()
    try:
        for statement in tried:
            await session.execute(statement)
    except (
        asyncpg.InsufficientPrivilegeError,
        asyncpg.InvalidParameterValueError,
    ):  # the second: no such role
        return False
    finally:
        await trial.rollback()
    return True
