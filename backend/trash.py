"""The trash: deleted tasks and lists, until they are restored or, here, deleted for good."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from heapq import merge
from typing import Any

import changes
import statements
import storage
from changes import Revision
from database import OwnerDatabase
from entities import DELETED_AT, ENTITIES, REFERRERS, TASK, Entity
from errors import NotFound, PreconditionFailed
from postgres.pool import Row
from storage import Versions
from tasks import Position, shown

Trashed = Mapping[str, Any]  # a task or a list

LIST = {
    entity.name: statements.listing(
        entity,
        "deleted_at IS NOT NULL AND (deleted_at, id) < ($3, $4)",
        "deleted_at DESC, id DESC",
        DELETED_AT,
    )
    for entity in ENTITIES
}

LATEST = Position(datetime.max.replace(tzinfo=UTC), 0)


REFERRING = {
    entity.name: tuple(
        (other, column, statements.rows(other.table, "id", f"{column.name} = $2", order="id"))
        for other, column in REFERRERS[entity.name]
    )
    for entity in ENTITIES
}


async def list_latest_first(
    db: OwnerDatabase, limit: int, after: Position = LATEST
) -> tuple[Revision, list[Trashed]]:
    """The user's last change, and at most `limit` objects that come after `after`, by the time of
    their deletion.

    Each says in `entity` what it is.
    """
    revision: Revision | None = None
    found: list[list[Trashed]] = []
    for entity in ENTITIES:
        own, *rows = await db.read(LIST[entity.name], limit, *after)
        revision = revision or changes.last(own)  # the earlier: what comes later is asked for again
        found.append([_marked(entity, row) for row in rows])
    latest_first = merge(*found, key=lambda one: (one["deleted_at"], one["id"]), reverse=True)
    return revision or changes.NOTHING_YET, list(latest_first)[:limit]


def _marked(entity: Entity, row: Row) -> Trashed:
    return {**(shown(row) if entity is TASK else row), "entity": entity.name}


async def purge(
    db: OwnerDatabase,
    entity: Entity,
    id: int,
    if_match: Versions = None,
    untouched_since: datetime | None = None,
) -> bool:
    """Delete for good what is in the trash. No text of it is kept anywhere, and what refers to it
    refers to nothing.

    With `untouched_since` it must not have been changed after that (else NotFound), and what
    something still refers to stays: then the answer is False.
    """
    edit = storage.purge(entity, id, if_match, untouched_since)
    [purged] = await db.store(edit)
    if purged.status == "in_use" and untouched_since:
        return False
    if purged.status == "in_use":
        await db.locked(partial(_let_go_and_purge, edit=edit))
    else:
        _require_done(edit, purged)
    return True


async def _let_go_and_purge(db: OwnerDatabase, edit: storage.Edit) -> None:
    assert edit.id is not None
    letting_go = [
        storage.update(other, row["id"], {column.name: None}, in_trash=None)
        for other, column, sql in REFERRING[edit.entity.name]
        for row in await db.read(sql, edit.id)
    ]
    *_, purged = await db.store(*letting_go, edit)
    _require_done(edit, purged)  # else nothing is let go either


def _require_done(edit: storage.Edit, purged: storage.Outcome) -> None:
    entity = edit.entity.name
    if purged.status == "absent":
        raise NotFound(f"{entity.capitalize()} not found")
    if purged.status == "stale":
        raise PreconditionFailed(purged.object, entity)
