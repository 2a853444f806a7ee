"""Asking `GET /v1/tasks`, and clocks on which it is about noon, so that no test runs over midnight."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from tests.contract.things import Thing
from tests.people import Person

TASKS = "/v1/tasks"


def found(person: Person, query: str | None = None, **parameters: Any) -> httpx.Response:
    """What is None is not sent."""
    sent = {"query": query, **parameters}
    given = {name: value for name, value in sent.items() if value is not None}
    return person.request("GET", TASKS, params=given)


def tasks_of(reply: httpx.Response) -> list[Thing]:
    assert reply.status_code == 200, reply.text
    assert list(reply.json()) == ["data", "message", "next_cursor"]
    assert reply.json()["message"] == "Tasks retrieved"
    tasks: list[Thing] = reply.json()["data"]
    return tasks


def titles(reply: httpx.Response) -> list[str]:
    return [task["title"] for task in tasks_of(reply)]


def selected(person: Person, query: str | None = None, **parameters: Any) -> set[str]:
    """The titles, each of which comes once."""
    got = titles(found(person, query, limit=500, **parameters))
    assert len(got) == len(set(got))
    return set(got)


def pages(person: Person, query: str | None = None, **parameters: Any) -> Iterator[list[Thing]]:
    """All pages. The next one is asked for when it is needed."""
    cursor = None
    while True:
        reply = found(person, query, cursor=cursor, **parameters)
        yield tasks_of(reply)
        cursor = reply.json()["next_cursor"]
        if cursor is None:
            return


def zone_at(hour: int) -> str:
    """Of the IANA database, in which it is `hour` o'clock now, or a little later."""
    ahead = (hour - datetime.now(UTC).hour + 11) % 24 - 11
    return f"Etc/GMT{-ahead:+}"  # whose signs are those of POSIX


def today_in(zone: str) -> date:
    return datetime.now(ZoneInfo(zone)).date()


def day(zone: str, later: int = 0) -> str:
    """So many days from today there."""
    return (today_in(zone) + timedelta(days=later)).isoformat()
