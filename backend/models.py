"""The tables. Alembic migrates from here, and a test proves models == migrations == database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    PrimaryKeyConstraint,
    String,
    Text,
    func,
    text,
)
from sqlmodel import Field, SQLModel


def _timestamp(name: str) -> Any:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


class Task(SQLModel, table=True):
    """Keys and indexes lead with the owner, so that one user's rows lie together and never mix with another's."""

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint("char_length(user_id) BETWEEN 1 AND 255", name="tasks_user_id_length"),
        CheckConstraint("title <> ''", name="tasks_title_not_empty"),
        PrimaryKeyConstraint("user_id", "id"),
        Index("tasks_newest", "user_id", "created_at", "id"),
        Index("tasks_newest_by_completed", "user_id", "completed", "created_at", "id"),
    )

    id: int | None = Field(default=None, sa_column=Column("id", BigInteger, Identity(always=True), nullable=False))
    user_id: str = Field(sa_column=Column("user_id", Text, nullable=False))
    title: str = Field(sa_column=Column("title", String(200), nullable=False))
    description: str | None = Field(default=None, sa_column=Column("description", String(1000)))
    completed: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_at: datetime = Field(default=None, sa_column=_timestamp("created_at"))
    updated_at: datetime = Field(default=None, sa_column=_timestamp("updated_at"))
