"""The tables, described in SQLModel. The server never loads this: migrations/versions/ makes the
tables, and a test proves that models, migrations and database agree."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from types import new_class
from typing import Any
from uuid import UUID

from pydantic import create_model
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Sequence,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

import entities
from entities import LIST, TASK, Entity


def _column(type: Any, name: str | None = None, **more: Any) -> Any:
    return Field(sa_column=Column(name, type, nullable=False, **more))


TYPES: dict[str, tuple[Any, Callable[..., Any]]] = {  # of entities.py: in Python, in SQLAlchemy
    "bigint": (int, BigInteger),
    "boolean": (bool, Boolean),
    "text": (str, Text),
    "text[]": (list[str], partial(ARRAY, Text)),
    "timestamp": (datetime, DateTime),
    "timestamptz": (datetime, partial(DateTime, timezone=True)),
    "uuid": (UUID, Uuid),
    "varchar": (str, String),
}
IDS = Sequence("entity_ids", metadata=SQLModel.metadata)


def _table(entity: Entity, *constraints: Any) -> Any:
    """The SQLModel class of an entity's table. Its columns are those of entities.py."""
    base: Any = new_class(
        f"{entity.name.title()}Table",
        (SQLModel,),
        exec_body=lambda body: body.update(
            __module__=__name__, __tablename__=entity.table, __table_args__=constraints
        ),
    )
    fields: Any = {column.name: _field(column) for column in entity.columns}
    return create_model(
        entity.name.title(), __base__=base, __cls_kwargs__={"table": True}, **fields
    )


def _field(column: entities.Column) -> tuple[Any, Any]:
    name, _, length = column.type.rstrip(")").partition("(")
    python, sql = TYPES[name]
    type = sql(int(length)) if length else sql()
    if column.collation:
        type.collation = column.collation
    default = column.table_default or column.default
    server_default = text(default) if default else None
    own = Column(column.name, type, nullable=column.nullable, server_default=server_default)
    if column.nullable:
        return python | None, Field(default=None, sa_column=own)
    return python, Field(default=False if column.default == "false" else None, sa_column=own)


List = _table(
    LIST,
    PrimaryKeyConstraint("user_id", "id"),
    UniqueConstraint("user_id", "uid", name="lists_uid"),
    Index(
        "lists_trash",
        *("user_id", "deleted_at", "id"),
        postgresql_where=text("deleted_at IS NOT NULL"),
    ),
    Index("lists_expiry", "deleted_at", "id", postgresql_where=text("deleted_at IS NOT NULL")),
)

Task = _table(
    TASK,
    # Keys and indexes lead with the owner, so that one user's rows lie together and never mix with
    # another's.
    CheckConstraint("completed = (completed_at IS NOT NULL)", name="tasks_completed_at"),
    ForeignKeyConstraint(["user_id", "list_id"], ["lists.user_id", "lists.id"], name="tasks_list"),
    ForeignKeyConstraint(
        ["user_id", "parent_id"], ["tasks.user_id", "tasks.id"], name="tasks_parent"
    ),
    Index("tasks_list", "user_id", "list_id", postgresql_where=text("list_id IS NOT NULL")),
    Index("tasks_parent", "user_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
    PrimaryKeyConstraint("user_id", "id"),
    UniqueConstraint("user_id", "uid", name="tasks_uid"),
    Index(
        "tasks_newest", "user_id", "created_at", "id", postgresql_where=text("deleted_at IS NULL")
    ),
    Index(
        "tasks_pending",
        *("user_id", "created_at", "id"),
        postgresql_where=text("deleted_at IS NULL AND NOT completed"),
    ),
    Index(
        "tasks_trash",
        "user_id",
        "deleted_at",
        "id",
        postgresql_where=text("deleted_at IS NOT NULL"),
    ),
    Index(
        "tasks_expiry", "deleted_at", "id", postgresql_where=text("deleted_at IS NOT NULL")
    ),  # for retention.py
)


class ChangeCounter(SQLModel, table=True):
    """Number and time of each user's last change. The row is the lock under which that user's data
    is written."""

    __tablename__ = "change_counters"

    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    seq: int = _column(BigInteger)
    at: datetime = _column(DateTime(timezone=True))


class Change(SQLModel, table=True):
    """One committed change: who, when, what, and for each field `[old, new]`. `at` grows with
    `seq`."""

    __tablename__ = "changes"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "seq"),
        Index("changes_of_entity", "user_id", "entity_id"),
        Index("changes_expiry", "at"),  # for retention.py, which asks of all users at once
    )

    user_id: str = _column(Text)
    seq: int = _column(BigInteger)
    at: datetime = _column(DateTime(timezone=True))
    actor_kind: str = _column(Text)
    actor_id: str = _column(Text)
    group_id: UUID = _column(Uuid)
    entity: str = _column(Text)
    entity_id: int = _column(BigInteger)
    op: str = _column(Text)
    fields: dict[str, Any] = _column(JSONB, "fields")


class IdempotencyKey(SQLModel, table=True):
    """A write that was done under a key, and what was answered; `fingerprint` tells its request
    from others."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "key"),
        Index("idempotency_keys_of_entity", "user_id", "entity_id"),
        Index("idempotency_keys_expiry", "at"),  # for retention.py
    )

    user_id: str = _column(Text)
    key: str = _column(Text)
    at: datetime = _column(DateTime(timezone=True))
    fingerprint: bytes = _column(LargeBinary)
    status: int = _column(SmallInteger)
    headers: dict[str, str] = _column(JSON)
    body: dict[str, Any] | None = Field(
        sa_column=Column(JSON)
    )  # None once what it shows was deleted for good
    entity_id: int | None = Field(
        sa_column=Column(BigInteger)
    )  # the object that the answer shows; 0: none
    shows: list[int] | None = Field(sa_column=Column(ARRAY(BigInteger)))  # or several
