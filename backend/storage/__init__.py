"""The one writer: edits in, an outcome for each out. Nothing else inserts, updates or deletes what
users keep.

`writer.py` puts together the one SQL function that does it; the other modules have its parts. It is
installed under a name with the hash of its text (postgres/functions.py), so that servers of several
releases can work at the same time, each with its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from os import urandom
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson

from entities import DELETED_AT, Entity
from storage.answers import FIND_ANSWER, FIND_CALL, KEEP_ANSWER, KEEP_CALL
from storage.function import Function
from storage.writer import BEGIN, CALL, CALL_PART, STORE, TEXT

__all__ = [
    "BEGIN",
    "CALL",
    "CALL_PART",
    "EDITS_MAX",
    "FIND_ANSWER",
    "FIND_CALL",
    "KEEP_ANSWER",
    "KEEP_CALL",
    "STORE",
    "TEXT",
    "Edit",
    "Function",
    "GuardLost",
    "Outcome",
    "Status",
    "Versions",
    "create",
    "delete",
    "first_of_group",
    "logged",
    "microseconds",
    "new_group",
    "outcome",
    "purge",
    "restore",
    "to_json",
    "toggle",
    "update",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EDITS_MAX = 500  # in one call of the function: a tenth of a second

Status = Literal[
    "done",
    "same",  # nothing to change, and nothing was
    "absent",  # there is no such object, or not where `in_trash` says, or it has been touched since
    "stale",  # it is at none of the versions in `if_match`
    "exists",  # a creation: an object with this uid is there already
    "in_trash",  # a creation: an object with this uid is in the trash
    "dangling",  # it would refer to what is not there, or is in the trash
    "in_use",  # it would go where something still refers to it
]


# What an object may be when it is written: pairs of a version and the microseconds of its change,
# None for any time. None in place of all pairs: whatever it is.
Versions = Sequence[Sequence[int | None]] | None


class Edit(NamedTuple):
    """One change that is wanted. Made by the functions below."""

    entity: Entity
    op: Literal["create", "update", "toggle", "delete", "restore", "purge"]
    id: int | None = None
    uid: Any = None
    set: Mapping[str, Any] | None = None
    if_match: Versions = None
    in_trash: bool | None = False  # where the object must be; None: either
    skips_same: bool = False
    untouched_since: datetime | None = None


_OPTIONAL = Edit._fields[2:]


class GuardLost(Exception):
    """Somebody else wrote what an operation had read, before it could write. Nothing was done."""


class Outcome(NamedTuple):
    """What became of an edit, and the object as it is now: None where it is absent, or was deleted
    for good."""

    status: Status
    object: dict[str, Any] | None


def create(entity: Entity, fields: Mapping[str, Any], uid: Any = None) -> Edit:
    return Edit(entity, "create", uid=uid, set=fields)


def update(
    entity: Entity,
    id: int,
    fields: Mapping[str, Any],
    if_match: Versions = None,
    *,
    skips_same: bool = False,
    in_trash: bool | None = False,
) -> Edit:
    """Set `fields`. Unless it `skips_same`, that is a change even where they are what they were."""
    return Edit(
        entity,
        "update",
        id,
        set=fields,
        if_match=if_match,
        skips_same=skips_same,
        in_trash=in_trash,
    )


def toggle(entity: Entity, id: int, if_match: Versions = None) -> Edit:
    """Flip the entity's flag. An edit of its own, so that nobody has to read it first."""
    return Edit(entity, "toggle", id, if_match=if_match)


def delete(entity: Entity, id: int, if_match: Versions = None, *, skips_same: bool = False) -> Edit:
    """Move it to the trash. If it `skips_same`, it may be there already."""
    return Edit(
        entity,
        "delete",
        id,
        if_match=if_match,
        skips_same=skips_same,
        in_trash=None if skips_same else False,
    )


def restore(
    entity: Entity, id: int, if_match: Versions = None, fields: Mapping[str, Any] | None = None
) -> Edit:
    """Take it out of the trash, and set `fields`."""
    if fields is None:
        return Edit(entity, "restore", id, if_match=if_match, in_trash=True)
    set = {**fields, DELETED_AT.name: None}
    return Edit(entity, "update", id, set=set, if_match=if_match, in_trash=True)


def purge(
    entity: Entity, id: int, if_match: Versions = None, untouched_since: datetime | None = None
) -> Edit:
    """Delete for good what is in the trash, and was not changed after `untouched_since`."""
    return Edit(
        entity, "purge", id, if_match=if_match, in_trash=True, untouched_since=untouched_since
    )


def to_json(edits: Iterable[Edit]) -> str:
    """What `store` takes. What an edit does not say is left out."""
    return orjson.dumps([_members(edit) for edit in edits]).decode()


def _members(edit: Edit) -> dict[str, Any]:
    said = {
        name: value for name, value in zip(_OPTIONAL, edit[2:], strict=True) if value is not None
    }
    if edit.set:
        said["set"] = {**edit.set, **_made(edit.entity, edit.set)}
    if edit.op == "create":
        said["log"] = _first_values(edit.entity, edit.set or {})
    return {"entity": edit.entity.name, "op": edit.op, **said}


def _made(entity: Entity, set: Mapping[str, Any]) -> dict[str, Any]:
    """What Python makes of the values that are set."""
    return {
        name: None if value is None else make(value)
        for source, value in set.items()
        for name, make in entity.made_of.get(source, ())
    }


def _first_values(entity: Entity, set: Mapping[str, Any]) -> dict[str, Any]:
    """What a creation logs of what it sets."""
    initial = entity.logged_as_sent
    return {
        name: (None, value)
        for name, value in set.items()
        if name in initial and value is not None and value != initial[name]
    }


def outcome(edit: Edit, status: Status, item: str | None) -> Outcome:
    """Of one row that `store` returned."""
    return Outcome(status, None if item is None else from_json(edit.entity, item))


def from_json(entity: Entity, item: str) -> dict[str, Any]:
    """The object as a client reads it, from a row that PostgreSQL made JSON of."""
    row = orjson.loads(item)
    for name in entity.times:
        if row[name] is not None:
            row[name] = datetime.fromisoformat(row[name])
    return {name: row[name] for name in entity.names}


def microseconds(at: datetime) -> int:
    """Since the epoch: how a version names the time of its change."""
    return (at - EPOCH) // timedelta(microseconds=1)


def first_of_group(group: UUID) -> int | None:
    """The number of its first change, which its last 12 digits are; None for a group of before
    migration 0005."""
    return int(group.hex[-12:], 16) if group.version == 8 else None


def new_group() -> str:
    """What a group's UUID (version 8, RFC 9562) begins with; the writer adds the number of its
    first change."""
    random = urandom(9).hex()
    return f"{random[:8]}-{random[8:12]}-8{random[12:15]}-8{random[15:]}-"


def logged(entity: Entity, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values as the change log holds them."""
    return {column.name: _in_log(row[column.name]) for column in entity.logged}


def _in_log(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value
