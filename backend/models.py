"""The tables, described in SQLModel. The server never loads this: migrations/versions/ makes the tables, and a test
proves that models, migrations and database agree."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


def _column(type: Any, name: str | None = None, **more: Any) -> Any:
    return Field(sa_column=Column(name, type, nullable=False, **more))


def _timestamp(name: str) -> Any:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


class Task(SQLModel, table=True):
    """Keys and indexes lead with the owner, so that one user's rows lie together and never mix with another's."""

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint("char_length(user_id) BETWEEN 1 AND 255", name="tasks_user_id_length"),
        CheckConstraint("title <> ''", name="tasks_title_not_empty"),
        CheckConstraint("completed = (completed_at IS NOT NULL)", name="tasks_completed_at"),
        PrimaryKeyConstraint("user_id", "id"),
        UniqueConstraint("user_id", "uid", name="tasks_uid"),
        Index("tasks_newest", "user_id", "created_at", "id", postgresql_where=text("deleted_at IS NULL")),
        Index(
            "tasks_newest_by_completed",
            *("user_id", "completed", "created_at", "id"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("tasks_trash", "user_id", "deleted_at", "id", postgresql_where=text("deleted_at IS NOT NULL")),
        Index("tasks_expiry", "updated_at", "id", postgresql_where=text("deleted_at IS NOT NULL")),  # for retention.py
    )

    id: int | None = Field(default=None, sa_column=Column("id", BigInteger, Identity(always=True), nullable=False))
    user_id: str = Field(sa_column=Column("user_id", Text, nullable=False))
    title: str = Field(sa_column=Column("title", String(200), nullable=False))
    description: str | None = Field(default=None, sa_column=Column("description", String(1000)))
    completed: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_at: datetime = Field(default=None, sa_column=_timestamp("created_at"))
    updated_at: datetime = Field(default=None, sa_column=_timestamp("updated_at"))
    uid: UUID = Field(
        default=None, sa_column=Column("uid", Uuid, nullable=False, server_default=func.gen_random_uuid())
    )
    version: int = Field(sa_column=Column("version", BigInteger, nullable=False))
    completed_at: datetime | None = Field(default=None, sa_column=Column("completed_at", DateTime(timezone=True)))
    deleted_at: datetime | None = Field(default=None, sa_column=Column("deleted_at", DateTime(timezone=True)))


class ChangeCounter(SQLModel, table=True):
    """Number and time of each user's last change. The row is the lock under which that user's data is written."""

    __tablename__ = "change_counters"

    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    seq: int = _column(BigInteger)
    at: datetime = _column(DateTime(timezone=True))


class Change(SQLModel, table=True):
    """One committed change: who, when, what, and for each field `[old, new]`. `at` grows with `seq`."""

    __tablename__ = "changes"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "seq"),
        Index("changes_of_entity", "user_id", "entity_id"),
        Index("changes_of_group", "user_id", "group_id"),
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
    """A write that was done under a key, and what was answered; `fingerprint` tells its request from others."""

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
    body: dict[str, Any] | None = Field(sa_column=Column(JSON))  # None once what it shows was deleted for good
    entity_id: int | None = Field(sa_column=Column(BigInteger))
