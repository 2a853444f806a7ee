"""Pages of queries: each is a statement of its own, which no session keeps for long."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

import ids
import lists
import times
from database import OwnerDatabase
from entities import TASK
from postgres import dsn, migrate, sessions
from postgres.pool import Pool
from query import sorting
from query.parser import parse
from selection import Wanted, page
from tests.people import Person

CACHED_BY_ASYNCPG = sessions.CACHED_STATEMENTS
QUERIES = [
    *(f"search: milk{n} | @label{n}" for n in range(20)),
    *(" | ".join(["today"] * terms) for terms in range(1, 21)),
    *("#Work", "#Wo*", "parent: 3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e"),
]


def wanted(query: str, sort: str) -> Wanted:
    return Wanted(parse(query), sorting.read(sort), times.zone("Europe/Berlin"), datetime.now(UTC))


MANY = [f"{query} & priority >= p3" for query in QUERIES] + QUERIES


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_however_many_queries_are_asked_a_session_keeps_few_statements(
    ada: Person, database_url: str, pooled: bool
) -> None:
    """The pool's own, which stay, are those that name lists and tasks; asyncpg drops the oldest of
    the others."""
    for title in ("milk1", "milk2", "milk3"):
        ada.has(title)

    async def ask_all() -> None:
        pool = Pool(dsn.parse(database_url, pooled=pooled), migrate.ROLE, size=1)
        db = OwnerDatabase(pool, ada.id)
        try:
            first = await page(db, wanted("search: milk", "title"), 2)
            last = await page(db, wanted("search: milk", "title"), 2, first.end)
            assert [task["title"] for task in first.tasks + last.tasks] == [
                "milk1",
                "milk2",
                "milk3",
            ]
            for sort in ("title", "-due,start", "-created_at"):
                for query in MANY:
                    await page(db, wanted(query, sort), 2)
            [session] = pool._idle
            own = set() if pooled else {lists.ALL, ids.FIND[TASK.name]}
            assert set(session.statements) == own
            kept = await session.fetch("SELECT statement FROM pg_prepared_statements")
            assert len(kept) <= len(own) + CACHED_BY_ASYNCPG
        finally:
            await pool.close()

    asyncio.run(ask_all())
