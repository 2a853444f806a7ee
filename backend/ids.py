"""An object is named by its id or, under /v1, by its uid, which a client may have chosen before
there was an id."""

from __future__ import annotations

from uuid import UUID

import statements
from database import OwnerDatabase
from entities import ENTITIES, Entity
from rules import NO_SUCH_ID

Name = int | UUID

FIND = {entity.name: statements.rows(entity.table, "id", "uid = $2") for entity in ENTITIES}


async def of(db: OwnerDatabase, entity: Entity, name: Name) -> int:
    """The id. NO_SUCH_ID if nothing of the user's has that uid."""
    if isinstance(name, int):
        return name
    rows = await db.read(FIND[entity.name], name)
    return rows[0]["id"] if rows else NO_SUCH_ID
