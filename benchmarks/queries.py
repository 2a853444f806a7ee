"""What queries and pages of `GET /v1/tasks` cost PostgreSQL, for users with 10,000 and 100,000 tasks; prints queries.txt.

.venv/bin/python benchmarks/queries.py > benchmarks/queries.txt
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from harness import contenders, data
from harness.report import table

import lists
import selection
import storage
import times
from database import OwnerDatabase
from entities import TASK
from postgres import dsn, migrate
from postgres.pool import Pool
from query import parser, sorting
from selection import Wanted

SIZES = (10_000, 100_000)
OTHERS = {"other": (2_000, 50)}  # users, and their tasks: else PostgreSQL would read the table, not an index
LIMIT, LAST_PAGE = 50, 200
RUNS = 21
ZONE = times.zone("Europe/Berlin")
WORDS = (
    "call write read buy sell mend clean plan visit order send check paint fold wash water feed pay print sign review "
    "kitchen garden report ticket dentist tax return milk bread window invoice letter bicycle piano lamp train holiday"
).split()
LABELS = ("home", "phone", "waiting", "errand", "waiting-for-anna", "deep")
QUERIES = (
    ("all", "-created_at"),
    ("all", "position"),
    ("today | overdue", "due,-priority"),
    ("#Work & priority: high & !@waiting", "position"),
    ("(due before: +7 days & no parent) | search: dentist", "due"),
    ('search: "tax return"', "-created_at"),
    ("search: dentist", "title"),
    ("search: xylophone", "-created_at"),
    ("@wai* & no date", "-updated_at"),
)
SESSIONS = """
SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
SORTS = ("-created_at", "due", "priority", "title", "position")


def task(n: int, random: random.Random, list_ids: list[int], now: datetime) -> dict[str, Any]:
    title = " ".join(random.choices(WORDS, k=random.randint(2, 7))) + random.choice(["", f" {n}"])
    day = (now + timedelta(days=random.randint(-60, 300))).date().isoformat()
    dues = [None, day, f"{day}T09:00:00", f"{day}T09:00:00Z", times.read(f"{day}T09:00[Europe/Berlin]").text]
    return {
        "title": title.capitalize(),
        "description": " ".join(random.choices(WORDS, k=random.randint(0, 40))) or None,
        "priority": random.choice(["none", "none", "low", "medium", "high"]),
        "labels": random.sample(LABELS, random.choice([0, 0, 1, 2])),
        "due": random.choices(dues, [5, 2, 1, 1, 1])[0],
        "list_id": random.choice([None, *list_ids]),
    }


async def fill(db: OwnerDatabase, size: int, now: datetime) -> None:
    made = random.Random(size)
    list_ids = [
        (await lists.create(db, {"name": name}))[0]["id"] for name in ("Work", "Home", "Garden")
    ]
    for start in range(0, size, 500):
        fields = [task(start + n, made, list_ids, now) for n in range(500)]
        await db.store(*(storage.create(TASK, one) for one in fields), rows=False)


async def cost(
    db: OwnerDatabase, wanted: Wanted, after: str | None, pids: list[int]
) -> tuple[float, float, selection.Page]:
    """Median milliseconds of PostgreSQL's processor time, and by the clock."""
    used, took = [], []
    for _ in range(RUNS):
        before, began = cpu(pids), time.perf_counter()
        page = await selection.page(db, wanted, LIMIT, after)
        took.append((time.perf_counter() - began) * 1e3)
        used.append((cpu(pids) - before) / 1e6)
    return statistics.median(used), statistics.median(took), page


def cpu(pids: list[int]) -> int:
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)


async def pages(db: OwnerDatabase, sort: str, wanted: Wanted, pids: list[int]) -> list[str]:
    """The first page and the last of 200; the last one costs no more if its place is found as fast as the beginning."""
    first, _, page = await cost(db, wanted, None, pids)
    end = page.end
    for _ in range(LAST_PAGE - 2):
        page = await selection.page(db, wanted, LIMIT, end)
        end = page.end
    last, _, page = await cost(db, wanted, end, pids)
    assert len(page.tasks) == LIMIT
    return [f"`{sort}`", f"{first:.2f}", f"{last:.2f}", f"{last / first:.2f}"]


async def main() -> None:
    now = datetime.now(UTC)
    with contenders.postgres() as database:
        await migrate.upgrade(dsn.parse(database.url))
        pool = Pool(dsn.parse(database.url), migrate.ROLE, size=1)
        owners = {size: OwnerDatabase(pool, f"user-with-{size}") for size in SIZES}
        await data.fill(database.url, OTHERS, versions=True, changes=False)
        for size, db in owners.items():
            await fill(db, size, now)
        admin = await asyncpg.connect(database.url)
        await admin.execute("VACUUM ANALYZE")
        # One session at work, and the workers that PostgreSQL may start for it are counted by the clock alone.
        pids = [row["pid"] for row in await admin.fetch(SESSIONS)]
        rows = []
        for query, sort in QUERIES:
            tree = parser.with_default_status(parser.parse(query))
            wanted = Wanted(tree, sorting.read(sort), ZONE, now)
            costs = [await cost(db, wanted, None, pids) for db in owners.values()]
            rows.append([f"`{query}`", f"`{sort}`", *(f"{used:.1f} / {took:.1f}" for used, took, _ in costs)])
        print(table(["query", "sort", *(f"{size:,} tasks: CPU / clock ms" for size in SIZES)], rows))
        print()
        wanted = Wanted(parser.parse("all"), sorting.DEFAULT, ZONE, now)
        rows = [await pages(owners[SIZES[0]], sort, wanted._replace(sort=sorting.read(sort)), pids) for sort in SORTS]
        print(table([f"all of {SIZES[0]:,}, {LIMIT} a page", "page 1: CPU ms", f"page {LAST_PAGE}", "ratio"], rows))
        await admin.close()
        await pool.close()


asyncio.run(main())
