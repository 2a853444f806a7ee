"""What is kept of each entity: the only list of it.

SELECT lists, the writer's SQL, the differences in the log, undo, the tables of models.py, the
shapes of schemas.py and the catalogue of the isolation tests all follow from here. Plain Python,
because every worker loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import rules
import texts
import times
from rules import Rule


@dataclass(frozen=True)
class Column:
    """`default` is an SQL expression. A caller may send what has a `rule`."""

    name: str
    type: str  # PostgreSQL's word for it
    collation: str = ""  # of its texts; else the database's
    default: str | None = None
    table_default: str = ""  # the table's, where that is another than the writer's
    nullable: bool = False
    rule: Rule | None = None
    rule_of_v1: Rule | None = None  # under /v1, where it takes more
    when_created: bool = True  # whether a creation takes it; `required` there where it must
    when_changed: bool = True  # whether an update takes it; else it is fixed once it is there
    required: bool = False
    since: str = ""  # the flag of which this column says since when it is true
    refers_to: str = ""  # the entity whose id this column holds
    made_from: str = ""  # the column of which Python makes this one, whenever that one is written
    made_by: Callable[[Any], Any] | None = None
    shown: bool = True
    logged: bool = True
    initial: Any = None  # its default, as the log would have it: a creation does not log that
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
# Every entity has these.
KEPT_BY_WRITER = (ID, OWNER, CREATED_AT, UPDATED_AT, UID, VERSION, DELETED_AT)
_KEPT = {column.name for column in KEPT_BY_WRITER}

# What is created later stands later, without a look at the others: `a5` for the change numbered 5,
# `b12` for 12. positions.py makes a key between any two of them.
POSITION = Column(
    "position",
    "varchar(128)",
    collation="C",
    default="chr(96 + length(v_seq::text)) || v_seq",
    table_default="'k00000000000'",  # the end, for a server of before migration 0006, which gives none
    rule=rules.POSITION,
    rule_of_v1=rules.POSITION_OF_V1,
    about="Order among its siblings, compared by code point",
    about_sent="A key as npm's `fractional-indexing` makes it, or where to: the server makes the key",
)


@dataclass(frozen=True)
class Entity:
    """`columns` in the order in which a client reads them. Every entity has those of
    KEPT_BY_WRITER."""

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
        """The names of the columns that a client reads."""
        return tuple(column.name for column in self.shown)

    @cached_property
    def times(self) -> tuple[str, ...]:
        """Those of these names that are of times."""
        return tuple(column.name for column in self.shown if column.type == "timestamptz")

    @cached_property
    def own(self) -> tuple[Column, ...]:
        """The columns that are its own, not every entity's."""
        return tuple(column for column in self.columns if column.name not in _KEPT)

    @cached_property
    def changeable(self) -> tuple[Column, ...]:
        """The columns that an edit may set. Others stay what they are, whatever an edit says."""
        return (*self.own, DELETED_AT)

    @cached_property
    def logged(self) -> tuple[Column, ...]:
        """The columns whose differences are in the change log."""
        return tuple(column for column in self.columns if column.logged)

    @cached_property
    def logged_as_sent(self) -> dict[str, Any]:
        """Those of them whose first value is what a creation sets, each with its default: that is
        not logged."""
        return {
            column.name: column.initial
            for column in self.logged
            if column.name not in _KEPT
            and not column.since
            and (column.default is None or column.initial is not None)
        }

    @cached_property
    def references(self) -> tuple[Column, ...]:
        """The columns that hold the id of another object."""
        return tuple(column for column in self.columns if column.refers_to)

    @cached_property
    def made(self) -> tuple[Column, ...]:
        """The columns that Python makes of others."""
        return tuple(column for column in self.columns if column.made_from)

    @cached_property
    def made_of(self) -> dict[str, list[tuple[str, Callable[[Any], Any]]]]:
        """By the column of which they are made: their names, each with what makes its values."""
        found: dict[str, list[tuple[str, Callable[[Any], Any]]]] = {}
        for column in self.made:
            if column.made_by:
                found.setdefault(column.made_from, []).append((column.name, column.made_by))
        return found


def _made(name: str, type: str, source: str, by: Callable[[Any], Any]) -> Column:
    """A column by which PostgreSQL finds or orders rows. It is null where `source` is."""
    return Column(
        name,
        type,
        collation="C" if type == "text" else "",
        nullable=True,
        made_from=source,
        made_by=by,
        shown=False,
        logged=False,
    )


def _folded(labels: list[str]) -> list[str]:
    return [texts.fold(label) for label in labels]


LIST = Entity(
    "list",
    "lists",
    (
        ID,
        replace(
            UID,
            about_sent="A UUID of your choice. If one of your lists already has it, nothing is created",
        ),
        VERSION,
        Column("name", "varchar(100)", rule=rules.NAME, required=True),
        Column("color", "varchar(7)", nullable=True, rule=rules.COLOR),
        POSITION,
        CREATED_AT,
        UPDATED_AT,
        DELETED_AT,
        replace(OWNER, shown=False),
    ),
    example={
        "id": 3,
        "uid": "7d3c1f0a-5b7e-4c52-8f11-0d9a6b1e2c34",
        "version": 9,
        "name": "Work",
        "color": "#2f6fed",
        "position": "a9",
        "created_at": "2026-01-12T10:00:00.123456Z",
        "updated_at": "2026-01-12T10:00:00.123456Z",
    },
)

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
        Column(
            "list_id",
            "bigint",
            nullable=True,
            rule=rules.LIST_ID,
            rule_of_v1=rules.LIST_ID_OF_V1,
            refers_to="list",
            about="null: the Inbox",
        ),
        Column(
            "parent_id",
            "bigint",
            nullable=True,
            rule=rules.PARENT_ID,
            rule_of_v1=rules.PARENT_ID_OF_V1,
            refers_to="task",
            about="The task that it is a part of; at most 5 levels",
        ),
        POSITION,
        Column("priority", "varchar(6)", default="'none'", initial="none", rule=rules.PRIORITY),
        Column("labels", "text[]", default="'{}'", initial=[], rule=rules.LABELS),
        Column("start", "text", nullable=True, rule=rules.START, about=rules.KINDS_OF_TIME),
        Column("due", "text", nullable=True, rule=rules.DUE, about=rules.KINDS_OF_TIME),
        DELETED_AT,
        _made("title_key", "text", "title", texts.sort_key),
        _made("title_words", "text", "title", texts.searchable),
        _made("description_words", "text", "description", texts.searchable),
        _made("label_keys", "text[]", "labels", _folded),
        _made("start_key", "timestamp", "start", times.key),
        _made("due_key", "timestamp", "due", times.key),
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
        "list_id": 3,
        "parent_id": None,
        "position": "b12",
        "priority": "high",
        "labels": ["shop"],
        "start": None,
        "due": "2026-01-13",
    },
    toggles="completed",
)

ENTITIES = (LIST, TASK)
BY_NAME = {entity.name: entity for entity in ENTITIES}
REFERRERS = {  # of each entity: who refers to it, and by which column
    entity.name: tuple(
        (other, column)
        for other in ENTITIES
        for column in other.references
        if column.refers_to == entity.name
    )
    for entity in ENTITIES
}
