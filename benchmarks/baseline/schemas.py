# ruff: noqa  # kept as such backends are written
from typing import Optional

from sqlmodel import Field, SQLModel

from models import Task


class TaskCreate(SQLModel):
    title: str = Field(min_length=1, max_length=200)
    description: Optional[str] = Field(default=None, max_length=1000)


class TaskUpdate(SQLModel):
    title: Optional[str] = Field(default=None, min_length=1, max_length=200)
    description: Optional[str] = Field(default=None, max_length=1000)
    completed: Optional[bool] = None


class TaskResponse(SQLModel):
    data: Task
    message: str


class TaskListResponse(SQLModel):
    data: list[Task]
    message: str


class ErrorResponse(SQLModel):
    error: str
    code: str
