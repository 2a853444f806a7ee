"""query.md, section "Grammar": which tasks `GET /v1/tasks` answers, and when it answers 304."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.conftest import sql
from tests.contract.finding import TASKS, day, found, selected, tasks_of, titles, today_in, zone_at
from tests.contract.things import (
    Meet,
    change_list,
    change_task,
    delete_list,
    delete_task,
    latest,
    new_uid,
    problems,
    restore_task,
)
from tests.contract.wire import ask, number
from tests.people import Person
from tests.servers import Running

NOON = zone_at(12)
MIDNIGHT = zone_at(0)
LATE = f"T22:00[{NOON}]"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
IN_3_DAYS = WEEKDAYS[(today_in(NOON).weekday() + 3) % 7]


def ago(**duration: int) -> str:
    """A moment."""
    return (datetime.now(UTC) - timedelta(**duration)).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- terms; the reader's clock says about noon ---

DUE: dict[str, str | None] = {
    "long ago": "2020-02-03",
    "yesterday": day(NOON, -1),
    "an hour ago": ago(hours=1),
    "today": day(NOON),
    "tonight": f"{day(NOON)}T22:00",
    "tomorrow": day(NOON, 1),
    "late in 3 days": day(NOON, 3) + LATE,
    "late in 6 days": day(NOON, 6) + LATE,
    "in 7 days": day(NOON, 7),
    "in a month or two": day(NOON, 45),
    "some day": None,
}
ON_A_DAY = {"long ago", "yesterday", "today", "tomorrow", "in 7 days", "in a month or two"}
ALL_DUE = set(DUE) - {"some day"}
PAST = {"long ago", "yesterday", "an hour ago"}
TODAY = {"an hour ago", "today", "tonight"}
WEEK = TODAY | {"tomorrow", "late in 3 days", "late in 6 days"}
DAYS_OF_DUE: list[tuple[str, set[str]]] = [
    ("today", TODAY),
    ("ToDaY", TODAY),
    ("due: today", TODAY),
    ("due on: today", TODAY),
    ("tomorrow", {"tomorrow"}),
    ("yesterday", {"yesterday"}),
    ("overdue", PAST),
    ("no date", {"some day"}),
    ("no time", ON_A_DAY),
    ("1 day", TODAY),
    ("7 days", WEEK),
    ("next 8 days", WEEK | {"in 7 days"}),
    (f"due: {IN_3_DAYS}", {"late in 3 days"}),
    ("due: 2020-02-03", {"long ago"}),
    ("due: +1 week", {"in 7 days"}),
    ("due before: -2 weeks", {"long ago"}),
    ("due after: +1 month", {"in a month or two"}),
    ("due before: today", {"long ago", "yesterday"}),
    ("due before: 2020-02-03", set()),
    ("due after: tomorrow", ALL_DUE - PAST - TODAY - {"tomorrow"}),
    ("due after: +7 days", {"in a month or two"}),
    (f"due: {day(NOON)}T22:00", {"tonight"}),
    (f"due before: {day(NOON)}T22:00", PAST),
    (f"due after: {day(NOON)}T22:00[{NOON}] & today", {"today"}),
    (f"due: {day(NOON, 3)}{LATE}", {"late in 3 days"}),
    ("!overdue & !no date", ALL_DUE - PAST),
    ("today | overdue", TODAY | PAST),
    ("today & overdue", {"an hour ago"}),
    ("tomorrow | today & overdue", {"tomorrow", "an hour ago"}),
    ("(tomorrow | today) & overdue", {"an hour ago"}),
    ("!(tomorrow | no date) & !!no time", ON_A_DAY - {"tomorrow"}),
]


@pytest.fixture(scope="module")
def carol(server: Running) -> Iterator[Person]:
    """She has a task for each of DUE."""
    person = Person(server.url, "carol")
    for title, due in DUE.items():
        person.has_task(title, due=due)
    delete_task(person, person.has_task("binned", due=day(NOON))["id"])
    change_task(person, person.has_task("done", due=day(NOON))["id"], completed=True)
    yield person
    person.client.close()


@pytest.mark.parametrize(("query", "wanted"), DAYS_OF_DUE)
def test_days_of_due(carol: Person, query: str, wanted: set[str]) -> None:
    assert selected(carol, query, timezone=NOON) == wanted


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (None, {*DUE, "done"}),
        ("all", {*DUE, "done"}),
        ("open", set(DUE)),
        ("completed", {"done"}),
        ("!open", {"done"}),
        ("no date | !no date", set(DUE)),
        ("today & all", {*TODAY, "done"}),
        ("completed: today", {"done"}),
        ("completed on: today | completed before: today", {"done"}),
        ("completed after: today", set()),
        ("!completed: today", set(DUE)),
        ("search: done", set()),
    ],
)
def test_a_query_that_says_no_status_means_open_tasks(
    carol: Person, query: str | None, wanted: set[str]
) -> None:
    assert selected(carol, query, timezone=NOON) == wanted


START = {"begun": day(NOON, -2), "beginning": f"{day(NOON)}T23:00", "not begun": day(NOON, 1)}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("start: today", {"beginning"}),
        ("start before: today", {"begun"}),
        ("start after: today", {"not begun"}),
        ("!start after: today & !start before: +1 day", {"idea"}),
    ],
)
def test_days_of_start(person: Meet, query: str, wanted: set[str]) -> None:
    dora = person("dora")
    dora.has_task("idea")
    for title, start in START.items():
        dora.has_task(title, start=start)
    assert selected(dora, query, timezone=NOON) == wanted


def test_days_of_what_the_server_keeps(person: Meet, database_url: str) -> None:
    dora = person("dora")
    dora.has_task("new")
    long_ago = datetime.now(UTC) - timedelta(days=40)
    for column in ("created_at", "updated_at", "completed_at"):
        made = dora.has_task(column)["id"]
        change_task(dora, made, completed=column == "completed_at")
        sql(database_url, f"UPDATE tasks SET {column} = $1 WHERE id = $2", long_ago, made)
    for field in ("created", "updated", "completed"):
        old = {f"{field}_at"}
        assert selected(dora, f"{field} before: -39 days & all", timezone=NOON) == old
        assert selected(dora, f"{field}: -40 days & all", timezone=NOON) == old
        assert (
            selected(dora, f"{field} after: -40 days & all", timezone=NOON)
            == (
                set()
                if field == "completed"
                else {"new", "created_at", "updated_at", "completed_at"}
            )
            - old
        )


def test_a_time_of_day_is_compared_with_the_moment_of_a_change(person: Meet) -> None:
    dora = person("dora")
    made = dora.has_task("new")["created_at"]
    before, after = (
        made[:19] + "Z",
        (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    assert selected(dora, f"created before: {before}") == set()
    assert selected(dora, f"created after: {before} & created before: {after}") == {"new"}


LEVELS = ("none", "low", "medium", "high")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("priority: high", {"high"}),
        ("PRIORITY: Medium", {"medium"}),
        ("p1", {"high"}),
        ("p2 | p3", {"medium", "low"}),
        ("priority: p4", {"none"}),
        ("priority > low", {"medium", "high"}),
        ("priority >= low", {"low", "medium", "high"}),
        ("priority < p3", {"none"}),
        ("priority <= p3", {"none", "low"}),
        ("!priority: none & !p1", {"low", "medium"}),
    ],
)
def test_priorities(ranked: Person, query: str, wanted: set[str]) -> None:
    assert selected(ranked, query) == wanted


@pytest.fixture(scope="module")
def ranked(server: Running) -> Iterator[Person]:
    """Somebody with a task of each priority."""
    person = Person(server.url, "ranked")
    for level in LEVELS:
        person.has_task(level, priority=level)
    yield person
    person.client.close()


# --- names ---


@pytest.fixture(scope="module")
def erin(server: Running, bob: Person) -> Iterator[Person]:
    """She has lists and labels."""
    person = Person(server.url, "erin")
    lists = {
        name: person.has_list(name)["id"]
        for name in ("Work", "WORK", "Workshop", "My list", "Café", "a*b", "Q&A", "inbox", "Gone")
    }
    for name, id in lists.items():
        person.has_task(f"in {name}", list_id=id)
    delete_list(person, lists["Gone"])
    person.has_task("in no list", labels=["waiting", "At home"])
    person.has_task("also in no list", labels=["Waiting for Bob", "5*", "Café"])
    delete_task(
        person, person.has_task("binned", list_id=lists["Work"], labels=["waiting", "binned"])["id"]
    )
    bob.has_task("Bob's", list_id=bob.has_list("Work")["id"], labels=["waiting", "bobs"])
    bob.has_task("Bob's other", list_id=bob.has_list("Bobs")["id"])
    yield person
    person.client.close()


UNLISTED = {"in no list", "also in no list"}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("#work", {"in Work", "in WORK"}),
        ("#Wo*", {"in Work", "in WORK", "in Workshop"}),
        ("#*shop", {"in Workshop"}),
        ('#"my LIST"', {"in My list"}),
        ('#"My l*"', {"in My list"}),
        (r"#my\ list", {"in My list"}),
        ("#CAFÉ", {"in Café"}),
        ("#Cafe", set()),
        (r"#a\*b", {"in a*b"}),
        (r'#"a\*b"', {"in a*b"}),
        ('#"Q&A"', {"in Q&A"}),
        (r"#q\&a", {"in Q&A"}),
        ("#Inbox", UNLISTED | {"in inbox"}),
        ("#In*", UNLISTED | {"in inbox"}),
        ("#Gone", set()),
        ("#Bobs", set()),
        ("#Nowhere", set()),
        ("!#Nowhere & #My*", {"in My list"}),
        ("!#w* & !#i* & !#a*b", {"in My list", "in Café", "in Q&A"}),
        ("#W* & !#work", {"in Workshop"}),
    ],
)
def test_lists_by_name(erin: Person, query: str, wanted: set[str]) -> None:
    assert selected(erin, query) == wanted


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("@waiting", {"in no list"}),
        ("@WAITING", {"in no list"}),
        ("@wai*", UNLISTED),
        ('@"at home"', {"in no list"}),
        ("@*bob", {"also in no list"}),
        ("@*", UNLISTED),
        (r"@5\*", {"also in no list"}),
        ("@café", {"also in no list"}),
        ("@cafe", set()),
        ("@wait", set()),
        ("@bobs", set()),
        ("@binned", set()),
        ("!@waiting & #inbox", {"also in no list", "in inbox"}),
        ("no labels & #My*", {"in My list"}),
        ("!no labels", UNLISTED),
    ],
)
def test_labels_by_name(erin: Person, query: str, wanted: set[str]) -> None:
    assert selected(erin, query) == wanted


def test_a_name_is_of_the_list_as_it_is_called_now(person: Meet) -> None:
    dora = person("dora")
    work = dora.has_list("Work")["id"]
    dora.has_task("report", list_id=work)
    change_list(dora, work, name="Office")
    assert (selected(dora, "#Work"), selected(dora, "#office")) == (set(), {"report"})


def test_subtasks(person: Meet, bob: Person) -> None:
    dora = person("dora")
    top = dora.has_task("top")
    middle = dora.has_task("middle", parent_id=top["id"])
    dora.has_task("bottom", parent_id=middle["id"])
    delete_task(dora, dora.has_task("binned", parent_id=top["id"])["id"])
    bobs = bob.has_task("Bob's")
    bob.has_task("below Bob's", parent_id=bobs["id"])
    assert selected(dora, "subtask") == {"middle", "bottom"}
    assert selected(dora, "no parent") == {"top"}
    for parent in (top["id"], top["uid"], top["uid"].upper()):
        assert selected(dora, f"parent: {parent}") == {"middle"}
    assert selected(dora, f"!parent: {top['id']}") == {"top", "bottom"}
    for nobody in (bobs["id"], bobs["uid"], new_uid(), 2**63 - 1):
        assert selected(dora, f"parent: {nobody}") == set()
        assert selected(dora, f"!parent: {nobody}") == {"top", "middle", "bottom"}


# --- search ---


@pytest.fixture(scope="module")
def frank(server: Running) -> Iterator[Person]:
    """He has tasks with words in them."""
    person = Person(server.url, "frank")
    for title, description in {
        "Crème brûlée": "for eight",
        "Tax return 2026": None,
        "Syntax": "of TAXES, which return",
        "Weiße Straße": "50 % off_season",
    }.items():
        person.has_task(title, description=description)
    yield person
    person.client.close()


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("search: creme", {"Crème brûlée"}),
        ("search: CRÈME", {"Crème brûlée"}),
        ("search: brul", {"Crème brûlée"}),
        ("search: rème", set()),
        ("search: tax", {"Tax return 2026", "Syntax"}),
        ("search: taxe", {"Syntax"}),
        ("search: eight", {"Crème brûlée"}),
        ('search: "return tax"', {"Tax return 2026", "Syntax"}),
        ('"tax return"', {"Tax return 2026", "Syntax"}),
        ('"brulee eight"', {"Crème brûlée"}),
        ('"tax eight"', set()),
        ("search: 2026", {"Tax return 2026"}),
        ("search: strasse", {"Weiße Straße"}),
        ('"50% season"', {"Weiße Straße"}),
        ("!search: tax", {"Crème brûlée", "Weiße Straße"}),
        ('search: tax | "weisse"', {"Tax return 2026", "Syntax", "Weiße Straße"}),
    ],
)
def test_words_in_title_and_description(frank: Person, query: str, wanted: set[str]) -> None:
    assert selected(frank, query) == wanted


def test_what_is_found_follows_every_change(person: Meet) -> None:
    dora = person("dora")
    id = dora.has_task("Milk", labels=["shop"], due="2026-12-01")["id"]
    assert selected(dora, "search: milk & @shop & due: 2026-12-01") == {"Milk"}
    change_task(dora, id, title="Bread", description="rye", labels=["Bäcker"], due=None)
    assert selected(dora, "search: milk | @shop | due: 2026-12-01") == set()
    assert selected(dora, '"bread rye" & @bäcker & no date') == {"Bread"}
    delete_task(dora, id)
    assert selected(dora) == set()
    restore_task(dora, id)
    assert selected(dora, '"bread rye"') == {"Bread"}


def test_another_users_tasks_are_never_found(bob: Person, person: Meet) -> None:
    bob.has_task("Bob's", labels=["waiting"])
    dora = person("dora")
    for query in (None, "all", "@*", "#*", "search: bob", "!search: nothing", "no parent"):
        assert selected(dora, query) == set()


# --- days of the reader's zone ---

AUCKLAND, LOS_ANGELES = "Pacific/Auckland", "America/Los_Angeles"


def midnight(zone: str, later: int = 0) -> datetime:
    there = datetime.fromisoformat(day(zone, later))
    return there.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def only_today_in(zone: str, other: str) -> str:
    """The first or the last moment of today in `zone`: one of them is on another day there."""
    first, last = midnight(zone), midnight(zone, 1) - timedelta(seconds=1)
    moment = first if first < midnight(other) else last
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("zone", [AUCKLAND, LOS_ANGELES])
def test_today_is_the_day_of_the_readers_zone(person: Meet, zone: str) -> None:
    [other] = {AUCKLAND, LOS_ANGELES} - {zone}
    dora = person("dora")
    dora.has_task("moment", due=only_today_in(zone, other))
    assert selected(dora, "today", timezone=zone) == {"moment"}
    assert selected(dora, "today", timezone=other) == set()


def test_an_all_day_task_is_over_when_the_readers_day_is(person: Meet) -> None:
    """It has just struck midnight in MIDNIGHT, and in the zone an hour behind it has not yet."""
    dora = person("dora")
    dora.has_task("all day", due=day(MIDNIGHT, -1))
    dora.has_task("floating", due=f"{day(MIDNIGHT, -1)}T23:59:59")
    assert selected(dora, "overdue & yesterday", timezone=MIDNIGHT) == {"all day", "floating"}
    assert selected(dora, "!overdue & today", timezone=zone_at(23)) == {"all day", "floating"}


def test_without_a_timezone_days_are_those_of_utc(person: Meet) -> None:
    dora = person("dora")
    dora.has_task("early", due="2026-12-01T00:30+01:00")
    assert selected(dora, "due: 2026-11-30") == {"early"}
    assert selected(dora, "due: 2026-12-01", timezone="Europe/Berlin") == {"early"}
    assert selected(dora, "due: 2026-12-01", timezone="europe/berlin") == {"early"}


def test_in_a_url_a_plus_is_a_blank(carol: Person) -> None:
    near = carol.request(
        "GET", f"{TASKS}?timezone={NOON.replace('+', '%2B')}&query=today+%7C+overdue"
    )
    assert set(titles(near)) == TODAY | PAST
    plus = carol.request("GET", f"{TASKS}?query=due+before:+%2B1+days")
    assert plus.status_code == 200
    lost = carol.request("GET", f"{TASKS}?query=due+before:+1+days")
    [(_, sentence)] = problems(lost)
    assert sentence.endswith('write "+1 days" (in a URL, "+" is written %2B)')


# --- answers ---


def test_unknown_parameters_are_ignored(carol: Person) -> None:
    reply = carol.request("GET", f"{TASKS}?filter=completed&QUERY=overdu&limit=500")
    assert len(titles(reply)) == len(DUE) + 1


def test_a_task_is_shown_as_everywhere(person: Meet) -> None:
    dora = person("dora")
    made = dora.has_task("Milk", labels=["shop"], due="2026-12-01T09:00[Europe/Berlin]")
    [shown] = tasks_of(found(dora, "@shop", sort="due,title"))
    assert shown == made
    assert list(shown) == list(made)


def test_the_etag_is_the_users_last_change(person: Meet) -> None:
    dora = person("dora")
    dora.has_task("Milk")
    for query in (
        None,
        "no date",
        "due: 2026-12-01",
        "#Inbox | @shop",
        "created after: 2026-01-01",
    ):
        reply = found(dora, query)
        etag = reply.headers["etag"]
        assert number(etag) == latest(dora)
        assert reply.headers["cache-control"] == "private, no-cache"
        again = found_again(dora, query, etag)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        dora.has_task("Bread")
        assert found_again(dora, query, etag).status_code == 200


def found_again(person: Person, query: str | None, etag: str) -> Any:
    sent = {} if query is None else {"query": query}
    return person.request("GET", TASKS, params=sent, headers={"If-None-Match": etag})


@pytest.mark.parametrize(
    "query",
    [
        *("today", "tomorrow", "yesterday", "overdue", "7 days", "due: monday", "start: -1 week"),
        *("created after: -1 month", "completed before: today", "!(@shop & (no date | !overdue))"),
    ],
)
def test_what_depends_on_the_clock_has_no_etag_and_is_never_304(carol: Person, query: str) -> None:
    reply = found(carol, query)
    assert reply.status_code == 200
    assert "etag" not in reply.headers
    for etag in ("*", found(carol).headers["etag"]):
        assert found_again(carol, query, etag).status_code == 200


@pytest.mark.parametrize("query", ["no date", "today"])
def test_head_answers_as_get_does_without_a_body(carol: Person, query: str) -> None:
    target = f"{TASKS}?query={query.replace(' ', '%20')}"
    answered, head = ask(carol, "GET", target), ask(carol, "HEAD", target)
    assert (head.status, head.body) == (200, b"")
    own = {"date", "x-request-id"}
    assert {name: head.headers[name] for name in head.headers.keys() - own} == {
        name: answered.headers[name] for name in answered.headers.keys() - own
    }


def test_nobody_without_a_token_finds_anything(server: Running) -> None:
    assert ask(server.url, "GET", f"{TASKS}?query=overdu").status == 401
