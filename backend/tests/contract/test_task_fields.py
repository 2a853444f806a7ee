"""model.md, the table of a task's fields: going in, coming out, defaults and refusals, through
every door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import sql
from tests.contract.test_task_shape import INVISIBLE, WHITE_SPACE
from tests.contract.things import (
    NOBODYS_ID,
    Thing,
    change_task,
    delete_list,
    delete_task,
    in_trash,
    last_group,
    latest,
    new_uid,
    problems,
    restore_task,
    task,
    undo_last,
)
from tests.people import Person

Ask = Callable[[Person, Any], httpx.Response]

KEYS = [
    *("id", "user_id", "title", "description", "completed", "created_at", "updated_at"),
    *("uid", "version", "completed_at"),
    *("list_id", "parent_id", "position", "priority", "labels", "start", "due"),
]
DEFAULTS: dict[str, Any] = {
    "list_id": None,
    "parent_id": None,
    "priority": "none",
    "labels": [],
    "start": None,
    "due": None,
}


def changing(method: str, url: str) -> Ask:
    """A door that changes a task: a new one of the person's."""

    def ask(person: Person, fields: Any) -> httpx.Response:
        id = person.has_task("Task")["id"]
        return person.request(method, url.format(user=person.id, id=id), json=fields)

    return ask


def creating(url: str) -> Ask:
    return lambda person, fields: person.request(
        "POST", url.format(user=person.id), json={"title": "Task", **fields}
    )


DOORS: dict[str, Ask] = {
    "POST of the plan": creating("/api/{user}/tasks"),
    "POST of v1": creating("/v1/tasks"),
    "PUT of the plan": changing("PUT", "/api/{user}/tasks/{id}"),
    "PATCH of the plan": changing("PATCH", "/api/{user}/tasks/{id}"),
    "PATCH of v1": changing("PATCH", "/v1/tasks/{id}"),
}
V1 = ("POST of v1", "PATCH of v1")
every_door = pytest.mark.parametrize("door", DOORS)


def kept(door: str, person: Person, **fields: Any) -> Thing:
    """The task, once `fields` went in there."""
    reply = DOORS[door](person, fields)
    assert reply.status_code in (200, 201), reply.text
    shown: Thing = reply.json()["data"]
    assert task(person, shown["id"]) == shown
    return shown


def refused(door: str, person: Person, **fields: Any) -> list[tuple[str, str]]:
    """What was said. Nothing was changed but for the task that a door which changes one needs."""
    before = latest(person)
    said = problems(DOORS[door](person, fields))
    assert latest(person) - before == (0 if door.startswith("POST") else 1)
    return said


# --- what every answer carries ---


def test_every_answer_with_a_task_carries_them(ada: Person) -> None:
    made = ada.has_task("Task")
    url = f"{ada.tasks}/{made['id']}"
    answers = [
        made,
        ada.post({"title": "Task"}).json()["data"],
        task(ada, made["id"]),
        change_task(ada, made["id"]),
        ada.request("POST", f"/v1/tasks/{made['id']}/complete").json()["data"],
        ada.request("GET", url).json()["data"],
        ada.request("PUT", url, json={}).json()["data"],
        ada.request("PATCH", url, json={}).json()["data"],
        ada.request("PATCH", f"{url}/complete").json()["data"],
        *(ada.get(query).json()["data"][0] for query in ("", "?limit=1", "?filter=pending")),
        ada.put(made["id"], {}, headers={"If-Match": '"0"'}).json()["data"],
        ada.post({"title": "Known", "uid": made["uid"]}).json()["data"],
    ]
    delete_task(ada, made["id"])
    trashed = in_trash(ada)[0]
    answers.append(restore_task(ada, made["id"]))
    for shown in answers:
        assert list(shown) == KEYS
    assert list(trashed) == [*KEYS, "deleted_at", "entity"]


@pytest.mark.parametrize("door", ["POST of the plan", "POST of v1"])
def test_what_is_not_sent_has_its_default(door: str, ada: Person) -> None:
    shown = kept(door, ada)
    assert {name: shown[name] for name in DEFAULTS} == DEFAULTS
    number = str(shown["version"])
    assert shown["position"] == chr(ord("a") + len(number) - 1) + number


@every_door
def test_all_of_them_at_once(door: str, ada: Person) -> None:
    parent = ada.has_task("Parent", list_id=ada.has_list("Work")["id"])
    fields = {
        "list_id": parent["list_id"],
        "parent_id": parent["id"],
        "position": "a5V",
        "priority": "high",
        "labels": ["phone", "Home"],
        "start": "2026-12-01",
        "due": "2026-12-02",
    }
    shown = kept(door, ada, **fields)
    assert {name: shown[name] for name in fields} == fields
    changed = change_task(ada, shown["id"], title="Renamed")
    assert {name: changed[name] for name in fields} == fields


def test_each_is_undone_to_what_it_was(ada: Person) -> None:
    parent = ada.has_task("Parent")
    before = ada.has_task("Task", labels=["a"], priority="low", due="2026-12-01", position="a1")
    for name, value in {
        "list_id": ada.has_list("Work")["id"],
        "parent_id": parent["id"],
        "position": "last",
        "priority": "high",
        "labels": [],
        "start": "2026-11-30",
        "due": None,
    }.items():
        changed = change_task(ada, before["id"], **{name: value})
        assert changed[name] != before[name]
        assert last_group(ada)[0]["fields"] == {name: [before[name], changed[name]]}
        assert undo_last(ada).status_code == 200
        now = task(ada, before["id"])
        assert {**now, **marks(before)} == before


def marks(shown: Thing) -> Thing:
    return {name: shown[name] for name in ("version", "updated_at")}


# --- list_id and parent_id ---


@every_door
def test_a_list_and_a_parent_are_named_by_id_and_taken_away_by_null(door: str, ada: Person) -> None:
    work = ada.has_list("Work")
    parent = ada.has_task("Parent", list_id=work["id"])
    assert kept(door, ada, list_id=work["id"])["list_id"] == work["id"]
    below = kept(door, ada, parent_id=parent["id"])
    assert (below["parent_id"], below["list_id"]) == (parent["id"], work["id"])
    assert kept(door, ada, list_id=None)["list_id"] is None
    assert kept(door, ada, parent_id=None)["parent_id"] is None


@pytest.mark.parametrize("door", V1)
@pytest.mark.parametrize("spelled", [str.lower, str.upper])
def test_under_v1_they_are_named_by_uid_too_in_any_case(
    spelled: Callable[[str], str], door: str, ada: Person
) -> None:
    work = ada.has_list("Work")
    parent = ada.has_task("Parent", list_id=spelled(work["uid"]))
    assert parent["list_id"] == work["id"]
    assert kept(door, ada, list_id=spelled(work["uid"]))["list_id"] == work["id"]
    assert kept(door, ada, parent_id=spelled(parent["uid"]))["parent_id"] == parent["id"]
    beside = kept(door, ada, parent_id=parent["id"], position="first")
    first = kept(door, ada, parent_id=parent["uid"], position={"before": spelled(beside["uid"])})
    assert first["position"] < beside["position"]


LIST = "List must be the id of a list or null"
PARENT = "Parent must be the id of a task or null"
NO_ID = ["", "7", "x", 1.5, True, False, [], {}, "3f0e4cf28a0c4b1f9d5e2f6b7a1c0d9e"]


@every_door
@pytest.mark.parametrize("value", NO_ID, ids=repr)
def test_what_is_no_id_is_refused(value: Any, door: str, ada: Person) -> None:
    assert refused(door, ada, list_id=value) == [("list_id", LIST)]
    assert refused(door, ada, parent_id=value) == [("parent_id", PARENT)]


@pytest.mark.parametrize("door", [door for door in DOORS if door not in V1])
def test_a_uid_is_refused_at_the_plans_doors(door: str, ada: Person) -> None:
    work, other = ada.has_list("Work"), ada.has_task("Other")
    assert refused(door, ada, list_id=work["uid"]) == [("list_id", LIST)]
    assert refused(door, ada, parent_id=other["uid"]) == [("parent_id", PARENT)]
    beside = {"before": other["uid"]}
    assert refused(door, ada, position=beside) == [("position", POSITION)]


@every_door
def test_a_list_that_is_not_there_is_refused(door: str, ada: Person, bob: Person) -> None:
    gone, others, of_task = ada.has_list("Gone"), bob.has_list("Bob's"), ada.has_task("Task")
    delete_list(ada, gone["id"])
    names = [NOBODYS_ID, gone["id"], others["id"], of_task["id"], 0, -1, 2**63, 2**70]
    uids = [gone["uid"], others["uid"], of_task["uid"], new_uid()] if door in V1 else []
    for name in [*names, *uids]:
        assert refused(door, ada, list_id=name) == [("list_id", "List does not exist")], name


@every_door
def test_a_parent_that_is_not_there_is_refused(door: str, ada: Person, bob: Person) -> None:
    gone, others, of_list = ada.has_task("Gone"), bob.has_task("Bob's"), ada.has_list("List")
    delete_task(ada, gone["id"])
    names = [NOBODYS_ID, gone["id"], others["id"], of_list["id"], 0, -1, 2**63, 2**70]
    uids = [gone["uid"], others["uid"], of_list["uid"], new_uid()] if door in V1 else []
    for name in [*names, *uids]:
        assert refused(door, ada, parent_id=name) == [("parent_id", "Parent does not exist")]


# --- priority ---


@every_door
@pytest.mark.parametrize("value", ["none", "low", "medium", "high"])
def test_a_priority_is_read_in_any_case(value: str, door: str, ada: Person) -> None:
    for spelled in (value, value.upper(), value.capitalize()):
        assert kept(door, ada, priority=spelled)["priority"] == value


@every_door
@pytest.mark.parametrize(
    "value", [None, "", "urgent", " low", "hıgh", 1, True, ["low"], {}], ids=ascii
)
def test_another_priority_is_refused(value: Any, door: str, ada: Person) -> None:
    sentence = "Priority must be one of: none, low, medium, high"
    assert refused(door, ada, priority=value) == [("priority", sentence)]


# --- labels ---

LABELS: dict[str, tuple[list[str], list[str]]] = {
    "none": ([], []),
    "in their order": (["b", "a"], ["b", "a"]),
    "stripped": ([" \tphone\u3000\n"], ["phone"]),
    "blanks inside": (["at home"], ["at home"]),
    "50 characters": (["x" * 50], ["x" * 50]),
    "50 emoji": (["\U0001f600" * 50], ["\U0001f600" * 50]),
    "50 after stripping": ([" " * 50 + "x" * 50], ["x" * 50]),
    "20": ([f"{n}" for n in range(20)], [f"{n}" for n in range(20)]),
    "doubled": (["Phone", "b", "phone", "PHONE", "b"], ["Phone", "b"]),
    "doubled when stripped": (["a", " a "], ["a"]),
    "20 when doubles are gone": ([f"{n % 20}" for n in range(50)], [f"{n}" for n in range(20)]),
    "folded, not lowered": (["Straße", "STRASSE"], ["Straße"]),
    "folded sigmas": (["ΣΑΣ", "σας"], ["ΣΑΣ"]),
    "accents count": (["resume", "résumé"], ["resume", "résumé"]),
    "an invisible one beside another": (["\u200ba"], ["\u200ba"]),
}


@every_door
@pytest.mark.parametrize(("sent", "shown"), LABELS.values(), ids=LABELS)
def test_labels(sent: list[str], shown: list[str], door: str, ada: Person) -> None:
    assert kept(door, ada, labels=sent)["labels"] == shown


NO_LABELS = "Labels must be a list of at most 20 strings"
NO_LABEL = "A label must be between 1 and 50 characters, without commas or line breaks"
WRONG_LABELS: dict[str, tuple[Any, str]] = {
    "null": (None, NO_LABELS),
    "a string": ("phone", NO_LABELS),
    "an object": ({"phone": True}, NO_LABELS),
    "a number among them": (["phone", 7], NO_LABELS),
    "null among them": ([None], NO_LABELS),
    "21": ([f"{n}" for n in range(21)], NO_LABELS),
    "empty": ([""], NO_LABEL),
    "white space": (["".join(WHITE_SPACE)], NO_LABEL),
    "only invisible": (["".join(INVISIBLE[:9])], NO_LABEL),
    "51 characters": (["x" * 51], NO_LABEL),
    "a comma": (["a,b"], NO_LABEL),
    "only a comma": ([","], NO_LABEL),
    **{f"U+{ord(end):04X}": ([f"a{end}b"], NO_LABEL) for end in "\n\v\f\r\x85\u2028\u2029"},
    "NUL": (["a\0b"], "A label must not contain U+0000 or unpaired surrogates"),
}


@every_door
@pytest.mark.parametrize(("sent", "sentence"), WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_other_labels_are_refused(sent: Any, sentence: str, door: str, ada: Person) -> None:
    assert refused(door, ada, labels=sent) == [("labels", sentence)]


# --- position: more in test_positions_of_tasks.py ---

POSITION = 'Position must be a key, "first", "last", or {"before": id} or {"after": id}'


@every_door
@pytest.mark.parametrize(
    "key", ["a0", "Zz", "a0V", "b00", "b12", "zzzzzzzzzzzzzzzzzzzzzzzzzzz", "a1" + "1" * 126]
)
def test_a_key_is_kept_as_it_is_sent(key: str, door: str, ada: Person) -> None:
    assert kept(door, ada, position=key)["position"] == key


@every_door
@pytest.mark.parametrize(
    "value",
    [*("", "5", "b0", "a00", "a", "a-1", "ä1", "A" + 26 * "0", "First", "a1" + "1" * 127),
     *(None, 5, True, [], {}, {"before": None}, {"before": "x"}, {"above": 1}, {"after": 1.5}),
     {"before": 1, "after": 1}],
    ids=ascii,
)  # fmt: skip
def test_another_position_is_refused(value: Any, door: str, ada: Person) -> None:
    assert refused(door, ada, position=value) == [("position", POSITION)]


# --- start and due ---

TIMES: dict[str, tuple[str, str]] = {
    "all day": ("2026-12-01", "2026-12-01"),
    "floating": ("2026-12-01T09:00:00", "2026-12-01T09:00:00"),
    "floating without seconds": ("2026-12-01T09:00", "2026-12-01T09:00:00"),
    "floating with a fraction": ("2026-12-01T09:00:59.999999999", "2026-12-01T09:00:59"),
    "instant": ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
    "instant without seconds": ("2026-12-01T09:00Z", "2026-12-01T09:00:00Z"),
    "instant with an offset": ("2026-12-01T09:00:00+02:30", "2026-12-01T06:30:00Z"),
    "instant of the day before": ("2026-12-01T01:00:00.5+14:00", "2026-11-30T11:00:00Z"),
    "instant with an unknown offset": ("2026-12-01T09:00:00-00:00", "2026-12-01T09:00:00Z"),
    "small letters": ("2026-12-01t09:00:00z", "2026-12-01T09:00:00Z"),
    "zoned": ("2026-12-01T09:00[Europe/Berlin]", "2026-12-01T09:00:00+01:00[Europe/Berlin]"),
    "zoned with its offset": (
        "2026-12-01T09:00:00+01:00[Europe/Berlin]",
        "2026-12-01T09:00:00+01:00[Europe/Berlin]",
    ),
    "zoned, the moment named": (
        "2026-12-01T09:00:00Z[Europe/Berlin]",
        "2026-12-01T10:00:00+01:00[Europe/Berlin]",
    ),
    "a zone in any case": (
        "2026-07-01T09:00[eUROPE/bERLIN]",
        "2026-07-01T09:00:00+02:00[Europe/Berlin]",
    ),
    "a link is kept": (
        "2026-07-01T09:00[asia/calcutta]",
        "2026-07-01T09:00:00+05:30[Asia/Calcutta]",
    ),
    "a critical zone": (
        "2026-12-01T09:00[!Europe/Berlin]",
        "2026-12-01T09:00:00+01:00[Europe/Berlin]",
    ),
    "a zone without offsets": ("2026-12-01T09:00[UTC]", "2026-12-01T09:00:00+00:00[UTC]"),
    "a calendar is ignored": ("2026-12-01[u-ca=hebrew]", "2026-12-01"),
    "a calendar after a zone": (
        "2026-12-01T09:00[Europe/Berlin][u-ca=iso8601]",
        "2026-12-01T09:00:00+01:00[Europe/Berlin]",
    ),
    "skipped: forward": (
        "2026-03-29T02:30[Europe/Berlin]",
        "2026-03-29T03:30:00+02:00[Europe/Berlin]",
    ),
    "repeated: the earlier": (
        "2026-10-25T02:30[Europe/Berlin]",
        "2026-10-25T02:30:00+02:00[Europe/Berlin]",
    ),
    "repeated: the later by its offset": (
        "2026-10-25T02:30+01:00[Europe/Berlin]",
        "2026-10-25T02:30:00+01:00[Europe/Berlin]",
    ),
    "an offset with seconds is rounded": (
        "1970-06-01T00:00[Africa/Monrovia]",
        "1970-06-01T00:00:00-00:45[Africa/Monrovia]",
    ),
    "the first day": ("1970-01-01", "1970-01-01"),
    "the first moment": ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    "the last day": ("9999-12-31", "9999-12-31"),
    "the last moment": ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    "a leap day": ("2028-02-29", "2028-02-29"),
}


@every_door
@pytest.mark.parametrize(("sent", "shown"), TIMES.values(), ids=TIMES)
def test_a_time_keeps_its_kind_and_comes_out_as_one_text(
    sent: str, shown: str, door: str, ada: Person
) -> None:
    for name in ("start", "due"):
        made = kept(door, ada, **{name: sent})
        assert made[name] == shown
        again = change_task(ada, made["id"], **{name: shown})
        assert again[name] == shown


@every_door
def test_a_time_is_taken_away_by_null(door: str, ada: Person) -> None:
    assert kept(door, ada, start=None, due=None)["due"] is None
    made = ada.has_task("Task", start="2026-12-01", due="2026-12-02")
    cleared = change_task(ada, made["id"], start=None)
    assert (cleared["start"], cleared["due"]) == (None, "2026-12-02")
    assert change_task(ada, made["id"], due=None)["due"] is None


def no_time(name: str) -> str:
    return (
        f"{name} must be a date, a local time, or a time with an offset or zone, "
        "such as 2026-12-01T09:00[Europe/Berlin]"
    )


WRONG_TIMES: dict[str, Any] = {
    "empty": "",
    "a number": 1764579600,
    "true": True,
    "a list": ["2026-12-01"],
    "words": "tomorrow",
    "no such month": "2026-13-01",
    "no such day": "2026-02-29",
    "short": "2026-1-1",
    "no dashes": "20261201",
    "a week": "2026-W49-1",
    "a blank for T": "2026-12-01 09:00",
    "blanks around": " 2026-12-01 ",
    "only an hour": "2026-12-01T09",
    "24:00": "2026-12-01T24:00",
    "second 60": "2026-12-01T23:59:60Z",
    "minute 60": "2026-12-01T09:60",
    "a comma": "2026-12-01T09:00:00,5",
    "an offset without colon": "2026-12-01T09:00:00+0100",
    "an offset of hours": "2026-12-01T09:00:00+01",
    "an offset of 24 hours": "2026-12-01T09:00:00+24:00",
    "an offset on a date": "2026-12-01Z",
    "a zone on a date": "2026-12-01[Europe/Berlin]",
    "another's offset": "2026-12-01T09:00+02:00[Europe/Berlin]",
    "an offset in a gap": "2026-03-29T02:30+01:00[Europe/Berlin]",
    "an unknown zone": "2026-12-01T09:00[Europe/Atlantis]",
    "no zone": "2026-12-01T09:00[]",
    "Factory": "2026-12-01T09:00[Factory]",
    "localtime": "2026-12-01T09:00[localtime]",
    "an offset for a zone": "2026-12-01T09:00[+01:00]",
    "an escape from the zones": "2026-12-01T09:00[../tzdata/zones]",
    "two zones": "2026-12-01T09:00[Europe/Berlin][Europe/Paris]",
    "a critical calendar": "2026-12-01T09:00[Europe/Berlin][!u-ca=iso8601]",
    "another critical suffix": "2026-12-01T09:00Z[!x-y=z]",
    "before 1970": "1969-12-31",
    "before 1970 in UTC": "1970-01-01T00:00:00+01:00",
    "before 1970 in UTC, zoned": "1970-01-01T00:00[Europe/Berlin]",
    "before 1970 in the zone": "1970-01-01T00:00Z[America/New_York]",
    "after 9999": "10000-01-01",
    "after 9999 in UTC": "9999-12-31T23:59:59-01:00",
    "after 9999 in UTC, zoned": "9999-12-31T23:00[America/New_York]",
    "after 9999 in the zone": "9999-12-31T23:59Z[Asia/Tokyo]",
    "digits of another script": "２０２６-12-01",
    "a line end": "2026-12-01\n",
    "NUL": "2026-12-01\0",
}


@every_door
@pytest.mark.parametrize("sent", WRONG_TIMES.values(), ids=WRONG_TIMES)
def test_what_is_no_time_is_refused(sent: Any, door: str, ada: Person) -> None:
    for field in ("start", "due"):
        assert refused(door, ada, **{field: sent}) == [(field, no_time(field.capitalize()))]


ORDERED: dict[str, tuple[str, str]] = {  # start, due
    "the same day": ("2026-12-01", "2026-12-01"),
    "a day later": ("2026-12-01", "2026-12-02"),
    "floating": ("2026-12-01T09:00", "2026-12-01T09:00:01"),
    "instants of two offsets": ("2026-12-01T09:00+02:00", "2026-12-01T08:00Z"),
    "zoned, of two zones": ("2026-12-01T09:00[Asia/Tokyo]", "2026-12-01T01:00[Europe/Berlin]"),
    "zoned, the same moment": ("2026-12-01T09:00[Asia/Tokyo]", "2026-12-01T00:00[UTC]"),
}


@every_door
@pytest.mark.parametrize(("start", "due"), ORDERED.values(), ids=ORDERED)
def test_due_comes_with_start_or_after_it(start: str, due: str, door: str, ada: Person) -> None:
    shown = kept(door, ada, start=start, due=due)
    assert None not in (shown["start"], shown["due"])


AMISS = "Due must not be before start"
UNLIKE = "Due must be of the same kind as start"
PAIRS: dict[str, tuple[str, str, str]] = {
    "a day before": ("2026-12-02", "2026-12-01", AMISS),
    "floating": ("2026-12-01T09:00:01", "2026-12-01T09:00", AMISS),
    "instants of two offsets": ("2026-12-01T09:00Z", "2026-12-01T09:00+02:00", AMISS),
    "zoned": ("2026-12-01T09:00[Europe/Berlin]", "2026-12-01T09:00[Asia/Tokyo]", AMISS),
    "a date and a time": ("2026-12-01", "2026-12-02T09:00", UNLIKE),
    "floating and an instant": ("2026-12-01T09:00", "2026-12-02T09:00Z", UNLIKE),
    "an instant and zoned": ("2026-12-01T09:00Z", "2026-12-02T09:00[UTC]", UNLIKE),
    "of another kind, and before": ("2026-12-01", "2026-11-01T09:00", UNLIKE),
}


@every_door
@pytest.mark.parametrize(("start", "due", "sentence"), PAIRS.values(), ids=PAIRS)
def test_a_due_that_does_not_fit_its_start_is_refused(
    start: str, due: str, sentence: str, door: str, ada: Person
) -> None:
    assert refused(door, ada, start=start, due=due) == [("due", sentence)]


@pytest.mark.parametrize("together", [{}, {"list_id": None}, {"position": "first"}], ids=str)
@pytest.mark.parametrize(("start", "due", "sentence"), PAIRS.values(), ids=PAIRS)
def test_nor_may_one_come_to_the_other_later(
    start: str, due: str, sentence: str, together: Thing, ada: Person
) -> None:
    for first, second in (({"start": start}, {"due": due}), ({"due": due}, {"start": start})):
        made = ada.has_task("Task", **first)
        reply = ada.request("PATCH", f"/v1/tasks/{made['id']}", json={**second, **together})
        assert problems(reply) == [("due", sentence)]
        assert task(ada, made["id"]) == made


def test_a_move_says_nothing_of_times_that_it_does_not_change(
    ada: Person, database_url: str
) -> None:
    """The rules of a zone can change after both were kept, and then `due` may be the earlier one."""
    made = ada.has_task("Task", start="2026-12-01", due="2026-12-02")
    sql(database_url, "UPDATE tasks SET start = '2026-12-03' WHERE user_id = $1", ada.id)
    for move in ({"list_id": None}, {"position": "first"}):
        assert ada.request("PATCH", f"/v1/tasks/{made['id']}", json=move).status_code == 200


def test_two_times_can_become_another_kind_together(ada: Person) -> None:
    made = ada.has_task("Task", start="2026-12-01", due="2026-12-02")
    shown = change_task(ada, made["id"], start="2026-12-03T09:00Z", due="2026-12-03T10:00Z")
    assert (shown["start"], shown["due"]) == ("2026-12-03T09:00:00Z", "2026-12-03T10:00:00Z")
    assert change_task(ada, made["id"], start=None, due="2026-12-01")["due"] == "2026-12-01"


def test_all_that_is_wrong_is_said_at_once(ada: Person) -> None:
    for door in DOORS:
        said = refused(door, ada, labels=7, priority=7, due="x", start=7, position=7, list_id="x")
        assert {field for field, _ in said} == {
            *("labels", "priority", "due", "start", "position", "list_id")
        }
