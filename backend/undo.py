"""Undo: what a change did is taken back by a new change, unless something newer would be lost.

What is undone counts as one change of each object: from the first old value of a field to the last
new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import changes
import lists
import statements
import storage
import tasks
import trees
from changes import Change
from database import OwnerDatabase
from entities import BY_NAME, DELETED_AT, ENTITIES, LIST, TASK, Entity
from errors import NotFound, PreconditionFailed, UndoConflict
from postgres.pool import Row
from storage import Edit, GuardLost, Outcome, Versions

CURRENT = {
    entity.name: statements.objects(entity, "id IN (SELECT unnest($2::text::bigint[]))", DELETED_AT)
    for entity in ENTITIES
}

NEEDED = (
    "This cannot be undone: a list or task that it needs is in the trash, or tasks have been moved since. "
    "Restore or move them first"
)


@dataclass
class Net:
    """What the undone changes did to one field. It is `broken` where another change wrote it in
    between."""

    old: Any
    new: Any
    broken: bool = False

    def follow(self, old: Any, new: Any) -> None:
        self.broken = self.broken or old != self.new
        self.new = new

    @property
    def differs(self) -> bool:
        return self.broken or self.old != self.new


@dataclass
class Undone:
    """What the undone changes did to one object."""

    entity: Entity
    id: int
    created: bool = False
    fields: dict[str, Net] = field(default_factory=dict)

    def add(self, change: Change) -> None:
        """Fields of a newer release, which may work beside this one, are left to it."""
        self.created = self.created or change["op"] == "create"
        fields = change["fields"]
        if change["op"] == "create":
            fields = {**self.initial, **fields}
        known = {column.name for column in self.entity.logged}
        for name, (old, new) in fields.items():
            if name not in known:
                continue
            if name in self.fields:
                self.fields[name].follow(old, new)
            else:
                self.fields[name] = Net(old, new)

    @property
    def initial(self) -> dict[str, tuple[Any, Any]]:
        """What a creation does not say, because it is always so."""
        return {
            column.name: (None, column.initial)
            for column in self.entity.logged
            if column.initial is not None
        }

    @property
    def moves(self) -> bool:
        """Whether undoing it changes what stands where, so that others count too."""
        places = {DELETED_AT.name, *(column.name for column in self.entity.references)}
        return self.created or any(
            net.differs for name, net in self.fields.items() if name in places
        )

    def conflicts(self, now: Mapping[str, Any] | None) -> list[str]:
        """The fields that hold something newer. Of a creation every field counts: undoing it takes
        all away."""
        if now is None:
            return sorted(
                name for name, net in self.fields.items() if net.broken and not self.created
            )
        if self.created:
            nets = {
                name: self.fields.get(name, Net(None, None))
                for name in now
                if name != DELETED_AT.name
            }
            return sorted(name for name, net in nets.items() if net.broken or now[name] != net.new)
        return sorted(
            name
            for name, net in self.fields.items()
            if net.differs and (net.broken or now[name] not in (net.old, net.new))
        )

    @property
    def before(self) -> dict[str, Any]:
        return {name: net.old for name, net in self.fields.items() if net.differs}

    def edit(self, version: int) -> Edit:
        """What takes it back, from the version that was looked at."""
        seen = [[version, None]]
        if self.created:
            return storage.delete(self.entity, self.id, seen, skips_same=True)
        return storage.update(
            self.entity, self.id, self.before, seen, skips_same=True, in_trash=None
        )

    def wrong_times(self, now: Mapping[str, Any]) -> str:
        """Why what it was does not fit what the task has become: one of its two times may be newer."""
        before = self.before
        if self.created or not {"start", "due"} & before.keys():
            return ""
        return tasks.wrong_times({**now, **before})


async def change(db: OwnerDatabase, seq: int, if_match: Versions = None) -> list[Change]:
    """The changes that took it back: one, or none where nothing of it is left. UndoConflict names
    what is newer."""

    async def work(db: OwnerDatabase) -> list[Change]:
        chosen = await changes.numbered(db, seq)
        if not chosen:
            raise NotFound("Change not found")
        return await _undo(db, chosen, if_match)

    return await (db.guarded(work) if if_match is None else db.locked(work))


async def group(db: OwnerDatabase, id: UUID, if_match: Versions = None) -> list[Change]:
    """The changes that took the group back, one for each object: all of it, or UndoConflict and
    nothing."""

    async def work(db: OwnerDatabase) -> list[Change]:
        chosen = await changes.grouped(db, id)
        if not chosen:
            raise NotFound("Group not found")
        return await _undo(db, chosen, if_match)

    return await db.locked(work)


async def _undo(db: OwnerDatabase, chosen: list[Change], if_match: Versions) -> list[Change]:
    if if_match is not None and not (await changes.latest(db)).is_one_of(if_match):
        raise PreconditionFailed
    edits = []
    undone = _by_object(chosen)
    objects = await _current(db, undone)
    for one in undone:
        now = objects.get((one.entity.name, one.id))
        conflicts = one.conflicts(now and storage.logged(one.entity, now))
        if now is None or conflicts:
            raise UndoConflict(conflicts)
        if wrong := one.wrong_times(now):
            raise UndoConflict([], wrong)
        edits.append(one.edit(now["version"]))
    moves = any(one.moves for one in undone)
    if moves and not db.is_locked:
        raise GuardLost
    outcomes = await db.store(*edits)
    if any(outcome.status in ("stale", "absent") for outcome in outcomes):
        raise GuardLost  # not under the lock
    if moves:
        await _require_sound(db, undone, outcomes)
    made = [
        outcome.object["version"]
        for outcome in outcomes
        if outcome.status == "done" and outcome.object
    ]
    return await changes.since(db, made[0] - 1, len(made)) if made else []


async def _require_sound(db: OwnerDatabase, undone: list[Undone], outcomes: list[Outcome]) -> None:
    """UndoConflict if lists and tasks do not stand as they must. It takes back what was just
    stored."""
    broken = any(outcome.status in ("dangling", "in_use") for outcome in outcomes)
    task_ids = [one.id for one in undone if one.entity is TASK]
    if broken or (task_ids and not await trees.are_sound(db, task_ids)):
        raise UndoConflict([], NEEDED)
    if any(one.entity is LIST for one in undone):
        await lists.require_room(db, 0)


async def _current(db: OwnerDatabase, undone: list[Undone]) -> dict[tuple[str, int], Row]:
    """The objects that there still are, in the trash or out of it."""
    found = {}
    for entity in ENTITIES:
        ids = [one.id for one in undone if one.entity is entity]
        if ids:
            rows = await db.read(CURRENT[entity.name], statements.array(ids))
            found.update({(entity.name, row["id"]): row for row in rows})
    return found


def _by_object(chosen: Iterable[Change]) -> list[Undone]:
    """What was changed last comes first."""
    found: dict[tuple[str, int], Undone] = {}
    for change in chosen:
        key = change["entity"], change["entity_id"]
        undone = found.pop(key, None) or Undone(BY_NAME[change["entity"]], change["entity_id"])
        undone.add(change)
        found[key] = undone
    return list(reversed(found.values()))
