"""Pages in any order: they are the sorted list, whatever stands in the tasks."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import texts
import times
from postgres import embedded
from query import sorting
from query.arguments import Arguments
from query.sorting import DEFAULT, Key
from rules import PRIORITIES
from tests import scratch
from tests.conftest import sql as run

TASKS = {
    id: scratch.task(Random(id), id, scratch.MOMENTS[id % len(scratch.MOMENTS)][1])
    for id in range(1, 801)
}
ZONES = [times.zone(name) for name in scratch.ZONES]
EPOCH = datetime.fromisoformat("1970-01-01")


@pytest.fixture(scope="module")
def table(cluster: embedded.Server) -> Iterator[scratch.Table]:
    run(cluster.url, "CREATE DATABASE sorted")
    with scratch.table(cluster.url.replace("/todo?", "/sorted?")) as made:
        made.insert([task | scratch.derived(task) for task in TASKS.values()])
        yield made
    run(cluster.url, "DROP DATABASE sorted")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("-created_at", DEFAULT),
        ("due", (Key("due"),)),
        ("-due,title,-position", (Key("due", True), Key("title"), Key("position", True))),
        ("priority,start", (Key("priority"), Key("start"))),
    ],
)
def test_sorts(text: str, keys: tuple[Key, ...]) -> None:
    assert sorting.read(text) == keys
    assert re.search(sorting.PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "--due",
        "Due",
        " due",
        "due, title",
        "due,",
        "id",
        "due;title",
        "due,title,start,priority",
        "due,-due",
        "due,title,-due",
        "title,due,due",
        "description",
        "due_key",
        "dues",
    ],
)
def test_what_is_no_sort(text: str) -> None:
    with pytest.raises(ValueError, match="Sort must name") as error:
        sorting.read(text)
    assert str(error.value) == (
        "Sort must name up to three of: "
        "created_at, updated_at, completed_at, due, start, priority, title, position"
    )
    assert not re.search(sorting.PATTERN, text)


# --- the same in Python ---


def in_order(ids: list[int], keys: tuple[Key, ...], zone: ZoneInfo) -> list[int]:
    """By the last key first, as a sort keeps what is equal where it is."""
    ids = sorted(ids, reverse=keys[-1].descending)
    for key in reversed(keys):
        values = {id: value(TASKS[id], key.name, zone) for id in ids}
        given = [id for id in ids if values[id] is not None]
        # With reverse=True too, what is equal stays where it is.
        given.sort(key=lambda id: values[id], reverse=key.descending)
        ids = given + [id for id in ids if values[id] is None]
    return ids


def value(task: scratch.Task, name: str, zone: ZoneInfo) -> Any:
    kept = task[name]
    if name in ("due", "start") and kept is not None:
        return moment(kept, zone)
    if name == "priority":
        return PRIORITIES.index(kept)
    return texts.sort_key(kept) if name == "title" else kept


def moment(time: str, zone: ZoneInfo) -> timedelta:
    """Since 1970, because the last ones are later than a datetime can be."""
    local = datetime.fromisoformat(times.key(time)).replace(tzinfo=None)
    if times.is_moment(time):
        return local - EPOCH
    if local.year < 2100:
        return times.moment(local, zone).replace(tzinfo=None) - EPOCH
    changes, seconds = times.offsets(zone)
    return local - EPOCH - timedelta(seconds=seconds[bisect_right(changes, local)])


# --- pages ---


def pages(
    table: scratch.Table, ids: list[int], keys: tuple[Key, ...], zone: ZoneInfo, size: int
) -> list[list[int]]:
    """All of them, each from where the one before has ended."""
    found: list[list[int]] = []
    place: str | None = None
    while place is not None or not found:
        rows = page(table, ids, keys, zone, size, place)
        found.append([row["id"] for row in rows])
        place = rows[-1]["place"] if len(rows) == size else None
    return found


def page(
    table: scratch.Table,
    ids: list[int],
    keys: tuple[Key, ...],
    zone: ZoneInfo,
    size: int,
    place: str | None,
) -> list[Any]:
    arguments = Arguments(3)
    order = sorting.Order(keys, zone, arguments)
    after = order.after(place) if place else "true"
    return table.fetch(
        f"""
SELECT id, {order.place} AS place
FROM (
    SELECT id, {order.columns}
    FROM tasks
    WHERE id = ANY ($1::bigint[]) AND {after}
    ORDER BY {order.by}
    LIMIT $2
) AS page
""",
        ids,
        size,
        *arguments.values,
    )


sorts = st.lists(
    st.builds(Key, st.sampled_from(sorting.NAMES), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda key: key.name,
).map(tuple)
some_ids = st.lists(st.sampled_from(list(TASKS)), min_size=1, max_size=40, unique=True)


@given(some_ids, sorts, st.sampled_from(ZONES), st.integers(1, 9))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_pages_are_the_sorted_list(
    table: scratch.Table, ids: list[int], keys: tuple[Key, ...], zone: ZoneInfo, size: int
) -> None:
    found = pages(table, ids, keys, zone, size)
    assert [id for page in found for id in page] == in_order(ids, keys, zone)
    assert all(len(page) == size for page in found[:-1])
    assert len(found[-1]) < size


@pytest.mark.parametrize("name", sorting.NAMES)
@pytest.mark.parametrize("descending", [False, True])
def test_all_tasks_in_the_order_of_one_key(
    table: scratch.Table, name: str, descending: bool
) -> None:
    keys = (Key(name, descending),)
    for zone in ZONES[:3]:
        found = pages(table, list(TASKS), keys, zone, 97)
        assert [id for page in found for id in page] == in_order(list(TASKS), keys, zone)


@pytest.mark.parametrize("size", [1, 2, 3, 19, 20, 21])
def test_pages_of_every_size(table: scratch.Table, size: int) -> None:
    keys, ids = sorting.read("due,-priority,title"), list(TASKS)[:20]
    found = pages(table, ids, keys, ZONES[0], size)
    assert [id for page in found for id in page] == in_order(ids, keys, ZONES[0])


def test_titles_without_a_key_are_listed_too(table: scratch.Table) -> None:
    """An older server has written them: capitals do not matter, numbers are compared as text."""
    titles = ["b", "Item 10", "a", "item 9", "B"]
    rows = [
        scratch.task(Random(n), 9_000 + n, scratch.MOMENTS[0][1]) | {"title": title}
        for n, title in enumerate(titles)
    ]
    table.insert(rows)
    found = pages(table, [row["id"] for row in rows], sorting.read("title"), ZONES[0], 2)
    assert [titles[id - 9_000] for page in found for id in page] == [
        "a",
        "b",
        "B",
        "Item 10",
        "item 9",
    ]


def test_an_index_serves_what_is_never_null() -> None:
    order = sorting.Order(sorting.read("-updated_at,-created_at"), ZONES[0], Arguments(2))
    assert order.by == "sort_1 DESC, sort_2 DESC, id DESC"
    assert order.after('["2026-01-01", "2026-01-02", 3]') == (
        "(updated_at, created_at, id) < "
        "((SELECT $3::text::timestamptz), (SELECT $4::text::timestamptz), $2::bigint)"
    )
