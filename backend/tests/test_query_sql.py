"""A query selects the same in SQL as in memory, and no value is ever in the text of the statement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import texts
import times
from postgres import embedded
from query import memory, sql
from query.arguments import Arguments
from query.reader import Reader
from query.tree import (
    And,
    At,
    Dated,
    FromToday,
    InList,
    Label,
    Name,
    NextDays,
    NoDate,
    Node,
    NoLabels,
    NoParent,
    Not,
    NoTime,
    Or,
    Overdue,
    Parent,
    Priority,
    Search,
    Status,
    Subtask,
    Weekday,
)
from rules import PRIORITIES
from tests import scratch
from tests.conftest import sql as run

# Every task is near one of the moments, and belongs to the group of that moment.
GROUPS = range(len(scratch.MOMENTS))
TASKS = [
    [scratch.task(Random(id), id, around) for id in range(1 + group, 2_251, len(GROUPS))]
    for group, (_, around) in enumerate(scratch.MOMENTS)
]
UIDS = [UUID(int=n) for n in range(3)]
PARENTS = {UIDS[1]: 1, UIDS[2]: 2}


@pytest.fixture(scope="module")
def table(cluster: embedded.Server) -> Iterator[scratch.Table]:
    run(cluster.url, "CREATE DATABASE selected")
    with scratch.table(cluster.url.replace("/todo?", "/selected?")) as made:
        made.insert([task | scratch.derived(task) for group in TASKS for task in group])
        yield made
    run(cluster.url, "DROP DATABASE selected")


def reader(zone: str, now: datetime) -> Reader:
    return Reader(times.zone(zone), now, scratch.LISTS, PARENTS)


# --- trees at random ---

names = (
    st.sampled_from([*scratch.LABELS, *(name for _, name in scratch.LISTS)])
    .flatmap(
        lambda name: st.one_of(
            st.just([name]),
            st.integers(0, len(name)).map(lambda at: [name[:at], name[at:]]),
            st.tuples(st.integers(0, 3), st.integers(3, 9)).map(
                lambda cut: [name[: cut[0]], name[cut[0] + 1 : cut[1]], name[cut[1] + 1 :]]
            ),
        )
    )
    .map(lambda parts: Name(tuple(parts)))
)
beginnings = st.sampled_from(
    sorted({word[:n] for text in scratch.WORDS for word in texts.words(text) for n in (1, 2, 9)})
)
units = st.sampled_from(["day", "week", "month"])
others = st.one_of(
    st.builds(Status, st.sampled_from(["open", "completed", "all"])),
    st.builds(NextDays, st.integers(0, 20) | st.just(10**9)),
    st.builds(Priority, st.sampled_from(["=", ">", ">=", "<", "<="]), st.sampled_from(PRIORITIES)),
    st.builds(Label, names),
    st.builds(InList, names),
    st.builds(Parent, st.sampled_from([1, 2, 3, 2**63, *UIDS])),
    st.builds(Search, st.lists(beginnings, min_size=1, max_size=3).map(tuple)),
    st.sampled_from([Overdue(), NoDate(), NoTime(), NoLabels(), Subtask(), NoParent()]),
)


def dated(group: int) -> st.SearchStrategy[Node]:
    """Often with a time that a task has, too."""
    kept = {task[name] for task in TASKS[group] for name in ("due", "start")} - {None}
    written = st.sampled_from(sorted(kept)).map(At)
    counted = st.builds(FromToday, st.integers(-40, 40) | st.integers(-(10**9), 10**9), units)
    return st.builds(
        Dated,
        st.sampled_from(["due", "start", "due", "start", "created", "updated", "completed"]),
        st.sampled_from(["on", "before", "after"]),
        st.one_of(written, written, counted, st.builds(Weekday, st.integers(0, 6))),
    )


def trees(group: int) -> st.SearchStrategy[Node]:
    terms = dated(group) | st.just(Overdue()) | others
    joined = st.recursive(
        terms,
        lambda parts: st.one_of(
            st.builds(Not, parts),
            st.builds(And, st.lists(parts, min_size=2, max_size=3).map(tuple)),
            st.builds(Or, st.lists(parts, min_size=2, max_size=3).map(tuple)),
        ),
        max_leaves=5,
    )
    return st.one_of(dated(group), st.just(Overdue()), others, joined)


def readers(group: int) -> st.SearchStrategy[Reader]:
    """Around the moment of `group`, and mostly where the clock then changes."""
    zone, at = scratch.MOMENTS[group]
    minutes = st.sampled_from([0, 1, -1, 15, 30, 45, 59, -15, 60, -60]) | st.integers(-1500, 1500)
    return st.builds(
        lambda zone, minutes: reader(zone, at + timedelta(minutes=minutes)),
        st.just(zone) | st.just(zone) | st.sampled_from(scratch.ZONES),
        minutes,
    )


TREES = [trees(group) for group in GROUPS]
READERS = [readers(group) for group in GROUPS]
questions = st.sampled_from(GROUPS).flatmap(
    lambda group: st.tuples(
        st.just(group), READERS[group], st.lists(TREES[group], min_size=15, max_size=15)
    )
)


@given(questions)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_sql_selects_what_memory_selects(
    table: scratch.Table, question: tuple[int, Reader, list[Node]]
) -> None:
    group, reader, trees = question
    check_that_both_select_the_same(table, TASKS[group], trees, reader)


@pytest.mark.parametrize("name", ["Inbox", "Work", "In", "x"])
def test_a_reader_without_lists_has_an_inbox(table: scratch.Table, name: str) -> None:
    asked = Reader(times.zone("UTC"), scratch.MOMENTS[0][1])
    trees: list[Node] = [InList(Name((name,))), Not(InList(Name((name, ""))))]
    check_that_both_select_the_same(table, TASKS[0], trees, asked)


@pytest.mark.parametrize(("zone", "at"), scratch.MOMENTS)
def test_every_quarter_of_an_hour_around_a_clock_change(
    table: scratch.Table, zone: str, at: datetime
) -> None:
    quarters = [at + timedelta(minutes=15 * n) for n in range(-12, 13)]
    local = [time.astimezone(times.zone(zone)).replace(tzinfo=None) for time in quarters]
    local += [time + timedelta(hours=n) for time in local for n in (-1, 1, 24)]
    written = {f"{time.isoformat()}" for time in local} | {f"{time.date()}" for time in local}
    dues = sorted(written | {f"{time.replace(tzinfo=None).isoformat()}Z" for time in quarters})
    tasks = [scratch.task(Random(1), 30_000 + n, at) | {"due": due} for n, due in enumerate(dues)]
    table.fetch("DELETE FROM tasks WHERE id >= 30000")
    table.insert([task | scratch.derived(task) for task in tasks])
    for now in quarters:
        instant = At(f"{now.replace(tzinfo=None).isoformat()}Z")
        compared: list[Node] = [Dated("due", when, instant) for when in ("on", "before", "after")]
        check_that_both_select_the_same(table, tasks, [Overdue(), *compared], reader(zone, now))


def check_that_both_select_the_same(
    table: scratch.Table, tasks: list[scratch.Task], trees: list[Node], reader: Reader
) -> None:
    """In one statement: so many trees are asked at once, and their arguments are numbered on."""
    arguments = Arguments(2)
    conditions = ", ".join(sql.condition(tree, reader, arguments) for tree in trees)
    rows = table.fetch(
        f"SELECT ARRAY[{conditions}] AS found FROM tasks WHERE id = ANY ($1::bigint[]) ORDER BY id",
        [task["id"] for task in tasks],
        *arguments.values,
    )
    for n, tree in enumerate(trees):
        found = [row["found"][n] for row in rows]
        assert found == [memory.selects(tree, task, reader) for task in tasks], tree


# --- no value is in the text ---

HOSTILE = [
    "'; DROP TABLE tasks; --",
    "' OR true OR '",
    "$1",
    "$1::text",
    "%",
    "_",
    "\\",
    "\\'",
    "{1,2}",
    '{"a"}',
    "a,b",
    "NULL",
    "E'\\x41'",
    "$$x$$",
    "/* x */ --",
    "\u2028’\ufeff\U0010ffff",
]


def hostile_trees(text: str) -> list[Node]:
    name, prefix = Name((text,)), Name((text, text, ""))
    return [Label(name), Label(prefix), InList(name), InList(prefix), Search((text, text))]


def statement(tree: Node, lists: tuple[tuple[int, str], ...] = ()) -> tuple[str, list[object]]:
    arguments = Arguments(2)
    asked = Reader(times.zone("UTC"), scratch.MOMENTS[0][1], lists)
    return sql.condition(tree, asked, arguments), [*arguments.values]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_statement_is_the_same_whatever_the_values_are(table: scratch.Table, text: str) -> None:
    harmless = hostile_trees("waiting")
    for tree, usual in zip(hostile_trees(text), harmless, strict=True):
        assert statement(tree, ((1, text),))[0] == statement(usual, ((1, "waiting"),))[0]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_are_found_as_they_are(table: scratch.Table, text: str) -> None:
    """A label of exactly that text, and no other one."""
    labels = [*HOSTILE, "waiting"]
    table.fetch("DELETE FROM tasks WHERE user_id = 'eve'")
    rows = [
        scratch.task(Random(id), 10_000 + id, scratch.MOMENTS[0][1]) | {"labels": [label]}
        for id, label in enumerate(labels)
    ]
    table.insert([row | scratch.derived(row) | {"user_id": "eve"} for row in rows])
    for tree in (Label(Name((text,))), Label(Name(("", text, ""))), Label(Name((text, "")))):
        condition, values = statement(tree)
        found = table.fetch(
            f"SELECT id FROM tasks WHERE user_id = $1 AND {condition} ORDER BY id", "eve", *values
        )
        asked = reader("UTC", scratch.MOMENTS[0][1])
        assert [row["id"] for row in found] == [
            row["id"] for row in rows if memory.selects(tree, row, asked)
        ]
        assert found


def test_parameters_are_numbered_from_where_the_caller_says() -> None:
    arguments = Arguments(7)
    tree = And((Search(("a", "b")), Label(Name(("x",)))))
    condition = sql.condition(tree, reader("UTC", scratch.MOMENTS[0][1]), arguments)
    assert {int(number) for number in re.findall(r"\$(\d+)", condition)} == {7, 8, 9}
    assert arguments.values == [" a", " b", "x"]


@given(questions)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_arguments_are_plain(question: tuple[int, Reader, list[Node]]) -> None:
    """Of types for which asyncpg need not ask the catalogue."""
    _, reader, trees = question
    arguments = Arguments(2)
    condition = sql.condition(And(tuple(trees)), reader, arguments)
    used = {int(number) for number in re.findall(r"\$(\d+)::(?:text|bigint|text\[\])", condition)}
    assert used == set(range(2, 2 + len(arguments.values)))


# --- rows that an older server has written ---


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("buy",), True),
        (("mil", "bu"), True),
        (("ilk",), False),
        (("oat", "tomorrow"), True),
        (("7",), True),
    ],
)
def test_words_are_found_before_they_are_derived(
    table: scratch.Table, words: tuple[str, ...], found: bool
) -> None:
    table.fetch("DELETE FROM tasks WHERE user_id = 'old'")
    old = scratch.task(Random(1), 20_000, scratch.MOMENTS[0][1]) | {
        "title": "Buy [Oat]-MILK/now",
        "description": "7 litres,tomorrow!",
        "user_id": "old",
    }
    table.insert([old])
    condition, values = statement(Search(words))
    rows = table.fetch(f"SELECT id FROM tasks WHERE user_id = $1 AND {condition}", "old", *values)
    assert bool(rows) is found


def test_a_word_is_looked_for_once_however_often_it_is_said() -> None:
    """`\ufdfa` is four words. PostgreSQL takes seconds to plan a statement with thousands."""
    once = texts.words("\ufdfa")
    assert len(once) == 4
    assert statement(Search(tuple(900 * once))) == statement(Search(tuple(once)))


def test_no_condition_is_null_before_anything_is_derived(table: scratch.Table) -> None:
    """Such a row has no labels and no times: an older server does not know them."""
    table.fetch("DELETE FROM tasks WHERE user_id = 'old'")
    none: scratch.Task = {"labels": [], "due": None, "start": None, "description": None}
    old = scratch.task(Random(1), 20_000, scratch.MOMENTS[0][1]) | none | {"user_id": "old"}
    table.insert([old])
    for tree in (
        Label(Name(("a",))),
        Label(Name(("a", ""))),
        Search(("zz",)),
        NextDays(1),
        Overdue(),
    ):
        condition, values = statement(Not(tree))
        rows = table.fetch(
            f"SELECT id FROM tasks WHERE user_id = $1 AND {condition}", "old", *values
        )
        assert [row["id"] for row in rows] == [20_000], tree
