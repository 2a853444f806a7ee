"""Tasks at random, in a table that has the columns which queries use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any

import asyncpg

import texts
import times
from query.arguments import Arguments
from rules import PRIORITIES

Task = dict[str, Any]

TABLE = """
CREATE TABLE tasks (
    id bigint PRIMARY KEY, user_id text NOT NULL DEFAULT 'ada',
    title varchar(200) NOT NULL, description varchar(1000), completed boolean NOT NULL, completed_at timestamptz,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    list_id bigint, parent_id bigint, position text NOT NULL, priority text NOT NULL, labels text[] NOT NULL,
    start text, due text,
    title_key text, title_words text, description_words text, label_keys text[],
    start_key timestamp, due_key timestamp
)
"""

# Where a reader is when a clock changes there: by an hour, by half of one, at midnight, by a whole
# day, by seconds.
MOMENTS = [
    (name, datetime.fromisoformat(at))
    for name, at in [
        ("UTC", "2026-02-28T12:00:00Z"),
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ("America/Havana", "2025-11-02T05:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("Africa/Monrovia", "1972-01-07T00:44:30Z"),
    ]
]
ZONES = sorted({name for name, _ in MOMENTS})
ENDS = [
    "1970-01-01",
    "1970-01-01T00:00:00",
    "1970-01-01T00:00:00Z",
    "9999-12-31",
    "9999-12-31T23:59:59",
    "9999-12-31T23:59:59Z",
]
LISTS = ((1, "Work"), (2, "Home"), (3, "work"), (4, "Inbox"), (5, r"50%_\ off"), (6, "Größe"))
LABELS = [
    "waiting",
    "Waiting",
    "wait",
    "café",
    "cafe",
    "50%",
    "a_b",
    "a\\b",
    "ab",
    "STRASSE",
    "straße",
]
WORDS = [
    "tax",
    "Taxes",
    "return",
    "re",
    "Crème",
    "creme",
    "item 9",
    "item 10",
    "item",
    "%",
    "_",
    "Milk",
    "ß",
    "é-e",
    "й",
    "ŋ 🎉",
]


def moment_near(random: Random, around: datetime) -> datetime:
    """Often on the hour, so that things happen at once; mostly within the same two days."""
    days = random.choice([0, 0, 0, 0, -1, 1, -2, 7, -31, 40])
    quarters = random.randrange(-100, 100)
    return around + timedelta(
        days=days, minutes=15 * quarters, seconds=random.choice([0, 0, 0, 30])
    )


def time_near(random: Random, around: datetime) -> str:
    """Of any kind, as times.py spells it."""
    if random.random() < 0.03:
        return random.choice(ENDS)
    at = moment_near(random, around)
    place = times.zone(random.choice(ZONES))
    local = at.astimezone(place).replace(tzinfo=None)
    kind = random.choice(["date", "date", "floating", "floating", "instant", "zoned"])
    return times.read(
        {
            "date": f"{local.date()}",
            "floating": f"{local.isoformat()}",
            "instant": f"{at.replace(tzinfo=None).isoformat()}Z",
            "zoned": f"{local.isoformat()}[{place.key}]",
        }[kind]
    ).text


def task(random: Random, id: int, around: datetime) -> Task:
    at = [
        moment_near(random, around) + timedelta(microseconds=random.choice([0, 0, 1]))
        for _ in range(3)
    ]
    completed = random.random() < 0.4
    return {
        "id": id,
        "title": " ".join(random.choices(WORDS, k=random.randint(1, 3))),
        "description": random.choice([None, " ".join(random.choices(WORDS, k=3))]),
        "completed": completed,
        "completed_at": at[0] if completed else None,
        "created_at": at[1],
        "updated_at": at[2],
        "list_id": random.choice([None, *range(1, 8)]),
        "parent_id": random.choice([None, None, 1, 2]),
        "position": random.choice(["a0", "a1", "Zz", "a0V"]),
        "priority": random.choice(PRIORITIES),
        "labels": random.sample(LABELS, random.choice([0, 0, 1, 2])),
        "start": random.choice([None, time_near(random, around)]),
        "due": random.choice([None, time_near(random, around), time_near(random, around)]),
    }


def derived(task: Task) -> Task:
    """What is stored beside a task."""
    return {
        "title_key": texts.sort_key(task["title"]),
        "title_words": texts.searchable(task["title"]),
        "description_words": texts.searchable(task["description"]),
        "label_keys": [texts.fold(label) for label in task["labels"]],
        "start_key": task["start"] and times.key(task["start"]),
        "due_key": task["due"] and times.key(task["due"]),
    }


class Table:
    """The table, in a database of its own."""

    def __init__(self, connection: asyncpg.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop

    def fetch(self, sql: str, *arguments: object) -> list[Any]:
        rows: list[Any] = self._loop.run_until_complete(self._connection.fetch(sql, *arguments))
        return rows

    def insert(self, rows: list[Task]) -> None:
        self.fetch(
            "INSERT INTO tasks SELECT * FROM jsonb_populate_recordset(NULL::tasks, $1::text::jsonb)",
            json.dumps([{"user_id": "ada", **row} for row in rows], default=str),
        )

    def ids(self, condition: str, arguments: Arguments) -> list[int]:
        sql = f"SELECT id FROM tasks WHERE user_id = $1 AND {condition} ORDER BY id"
        return [row["id"] for row in self.fetch(sql, "ada", *arguments.values)]


@contextmanager
def table(url: str) -> Iterator[Table]:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(url))
    try:
        made = Table(connection, loop)
        made.fetch(TABLE)
        yield made
    finally:
        loop.run_until_complete(connection.close())
        loop.close()
