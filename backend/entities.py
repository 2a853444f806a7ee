"""What is kept of each entity: the only list of it.

SELECT lists, the writer's SQL, the differences in the log, undo, the tables of models.py, the shapes of schemas.py and
the catalogue of the isolation tests all follow from here. Plain Python, because every worker loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import rules
from rules import Rule


@dataclass(frozen=True)
class Column:
    """`default` is an SQL expression. A caller may send what has a `rule`."""

    name: str
    type: str  # PostgreSQL's word for it
    default: str | None = None
    nullable: bool = False
    rule: Rule | None = None
    when_created: bool = True  # whether a creation takes it; `required` there where it must
    when_changed: bool = (
        True  # whether an update takes it; a column without is fixed once it is there
    )
    required: bool = False
    since: str = ""  # the flag of which this column says since when it is true
    shown: bool = True
    logged: bool = True
    limits: Mapping[str, int] = field(default_factory=dict)  # of its values, in JSON Schema's words
    about: str | None = None  # for OpenAPI: what a client reads in it
    about_sent: str | None = None  # and what it may send


# Ids of all entities are of one sequence, so that no two objects ever share one.
ID = Column(
    "id",
    "bigint",
    default="nextval('entity_ids')",
    when_changed=False,
    logged=False,
    limits={"minimum": 1, "maximum": 2**63 - 1},
)
OWNER = Column("user_id", "text", when_changed=False, logged=False)
CREATED_AT = Column(
    "created_at",
    "timestamptz",
    default="now()",
    when_changed=False,
    logged=False,
    about="UTC, RFC 3339",
)
UPDATED_AT = Column(
    "updated_at",
    "timestamptz",
    default="now()",
    logged=False,
    about="UTC, RFC 3339; never repeats and never goes back",
)
UID = Column(
    "uid",
    "uuid",
    default="gen_random_uuid()",
    rule=rules.UID,
    when_changed=False,
    about="The same on every device. The client or the server has chosen it",
    about_sent="A UUID of your choice. If one of your tasks already has it, nothing is created",
)
VERSION = Column(
    "version",
    "bigint",
    logged=False,
    limits={"minimum": 1},
    about="The number of its last change. Its `ETag` begins with it",
)
DELETED_AT = Column(
    "deleted_at",
    "timestamptz",
    nullable=True,
    shown=False,
    about="UTC, RFC 3339; it is deleted for good some time after",
)
KEPT_BY_WRITER = (ID, OWNER, CREATED_AT, UPDATED_AT, UID, VERSION, DELETED_AT)  # of every entity


@dataclass(frozen=True)
class Entity:
    """`columns` in the order in which a client reads them. Every entity has those of KEPT_BY_WRITER."""

    name: str
    table: str
    columns: tuple[Column, ...]
    example: dict[str, Any]
    toggles: str = ""  # the flag that the edit `toggle` flips

    @cached_property
    def shown(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.shown)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of what is shown."""
        return tuple(column.name for column in self.shown)

    @cached_property
    def times(self) -> tuple[str, ...]:
        """Those of them that are times."""
        return tuple(column.name for column in self.shown if column.type == "timestamptz")

    @cached_property
    def own(self) -> tuple[Column, ...]:
        """The columns that are its own, not every entity's."""
        return tuple(column for column in self.columns if column not in KEPT_BY_WRITER)

    @cached_property
    def logged(self) -> tuple[Column, ...]:
        """The columns whose differences are in the change log."""
        return tuple(column for column in self.columns if column.logged)


TASK = Entity(
    "task",
    "tasks",
    (
        ID,
        OWNER,
        Column("title", "varchar(200)", rule=rules.TITLE, required=True),
        Column("description", "varchar(1000)", nullable=True, rule=rules.DESCRIPTION),
        Column("completed", "boolean", default="false", rule=rules.COMPLETED, when_created=False),
        CREATED_AT,
        UPDATED_AT,
        UID,
        VERSION,
        Column(
            "completed_at",
            "timestamptz",
            nullable=True,
            since="completed",
            about="UTC, RFC 3339; null if it is not completed",
        ),
        DELETED_AT,
    ),
    example={
        "id": 7,
        "user_id": "ada",
        "title": "Buy milk",
        "description": None,
        "completed": False,
        "created_at": "2026-01-12T10:00:00.123456Z",
        "updated_at": "2026-01-12T10:00:00.123456Z",
        "uid": "3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e",
        "version": 12,
        "completed_at": None,
    },
    toggles="completed",
)

ENTITIES = (TASK,)
BY_NAME = {entity.name: entity for entity in ENTITIES}
