"""Bodies and answers: they validate what comes in, and describe in OpenAPI what goes out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    model_validator,
)

import rules
from entities import BY_NAME, LIST, TASK, Column, Entity
from rules import Rule

# Their JSON schemas are written out: a validator of our own hides from pydantic what it lets pass.
Completed = Annotated[
    bool, BeforeValidator(rules.COMPLETED.check), WithJsonSchema(rules.COMPLETED.schema)
]
Group = Annotated[UUID, BeforeValidator(rules.GROUP.check), WithJsonSchema(rules.GROUP.schema)]


class Body(BaseModel):
    """A JSON object. Unknown fields are ignored; `model_fields_set` says which ones were sent."""

    model_config = ConfigDict(extra="ignore")

    def fields(self) -> dict[str, Any]:
        """The fields of an entity that were sent, but for the `uid`, which nobody can change."""
        return {name: getattr(self, name) for name in self.model_fields_set if name != "uid"}

    def chosen_uid(self) -> UUID | None:
        chosen: UUID | None = getattr(self, "uid", None)
        return chosen


Shape = TypeVar("Shape", bound=BaseModel)
TYPES: dict[str, tuple[Any, dict[str, Any]]] = {  # of entities.py: in Python, in JSON Schema
    "bigint": (int, {"type": "integer"}),
    "text[]": (list[str], {"type": "array", "items": {"type": "string"}}),
    "boolean": (bool, {"type": "boolean"}),
    "text": (str, {"type": "string"}),
    "timestamptz": (datetime, {"type": "string", "format": "date-time"}),
    "uuid": (UUID, {"type": "string", "format": "uuid"}),
    "varchar": (str, {"type": "string"}),
}


def with_fields(fields: dict[str, Any]) -> Callable[[type[Shape]], type[Shape]]:
    """A class decorator: the model has `fields` too, each a type and a Field, before its own."""

    def add(model: type[Shape]) -> type[Shape]:
        return create_model(
            model.__name__, __base__=model, __doc__=model.__doc__, __module__=__name__, **fields
        )

    return add


def sent(entity: Entity, creating: bool, v1: bool = False) -> dict[str, Any]:
    """What a caller may send of `entity`, to make one or to change one; `v1`: under /v1, which takes uids for ids."""
    return {
        column.name: _sent(
            column, (v1 and column.rule_of_v1) or column.rule, column.required and creating
        )
        for column in entity.columns
        if column.rule and (column.when_created if creating else column.when_changed)
    }


def _sent(column: Column, rule: Rule, required: bool) -> Any:
    kind = Annotated[Any, BeforeValidator(rule.check), WithJsonSchema(rule.schema)]
    if required:
        return kind, Field(description=column.about_sent)
    # OpenAPI shows no default that a factory makes.
    return kind, Field(default_factory=lambda: None, description=column.about_sent)


def shown(entity: Entity) -> dict[str, Any]:
    """What a client reads of `entity`."""
    return {column.name: _shown(column) for column in entity.shown}


def _shown(column: Column) -> Any:
    name, _, _ = column.type.partition("(")
    python, schema = TYPES[name]
    lengths = {
        key: value
        for key, value in (column.rule.schema if column.rule else {}).items()
        if "Length" in key
    }
    described = {**schema, **column.limits, **lengths}
    if column.nullable:
        python, described = python | None, {**described, "type": [schema["type"], "null"]}
    return Annotated[python, WithJsonSchema(described)], Field(description=column.about)


NEW_TASK: dict[str, Any] = {
    "title": "Call the dentist",
    "due": "2026-12-01T09:00[Europe/Berlin]",
    "priority": "high",
    "labels": ["phone"],
}


@with_fields(sent(TASK, creating=True))
class TaskCreate(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Buy milk", "description": "Two litres"}]}
    )


@with_fields(sent(TASK, creating=False))
class TaskUpdate(Body):
    """Only the fields that are present change. `description: null` clears it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Buy oat milk", "completed": True}]}
    )


@with_fields(sent(TASK, creating=True, v1=True))
class TaskCreateV1(Body):
    """`list_id`, `parent_id` and the neighbour in `position` may be ids or uids."""

    model_config = ConfigDict(json_schema_extra={"examples": [NEW_TASK]})


@with_fields(sent(TASK, creating=False, v1=True))
class TaskUpdateV1(Body):
    """Only the fields that are present change. null clears a description, a time, a list or a parent."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"due": "2026-12-24T18:00", "position": "first"}]}
    )


@with_fields(sent(LIST, creating=True, v1=True))
class ListCreate(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Work", "color": "#2f6fed"}]}
    )


@with_fields(sent(LIST, creating=False, v1=True))
class ListUpdate(Body):
    """Only the fields that are present change."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Office"}]})


class TaskComplete(Body):
    """With `completed`, the task is set to it, so a retry is safe. `{}` toggles. Other fields alone are refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"completed": True}],
            "anyOf": [{"required": ["completed"]}, {"maxProperties": 0}],
        }
    )

    completed: Completed = Field(default_factory=bool)

    @property
    def wanted(self) -> bool | None:
        """None: the other one."""
        return self.completed if self.model_fields_set else None

    @model_validator(mode="before")
    @classmethod
    def _misspelt_is_refused(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`{}` toggles. A misspelt `completed` must not: half of the time that would do the opposite."""
        return {"completed": None, **values} if values else values


@with_fields(shown(TASK))
class Task(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [TASK.example]})


class TaskResponse(BaseModel):
    data: Task
    message: str = Field(examples=["Task retrieved"])


class TaskListResponse(BaseModel):
    data: list[Task]
    message: str = Field(examples=["Tasks retrieved"])
    next_cursor: str | None = Field(
        default_factory=lambda: None, description="Only with `limit`; null on the last page"
    )


class TaskPageResponse(BaseModel):
    data: list[Task]
    message: str = Field(examples=["Tasks retrieved"])
    next_cursor: str | None = Field(description="null on the last page")


@with_fields(shown(LIST))
class List(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [LIST.example]})


class ListResponse(BaseModel):
    data: List
    message: str = Field(examples=["List retrieved"])


class ListsResponse(BaseModel):
    data: list[List]
    message: str = Field(examples=["Lists retrieved"])


DeletedAt = Annotated[
    datetime, Field(description="UTC, RFC 3339. Some days later it is deleted for good")
]


class TrashedTask(Task):
    deleted_at: DeletedAt
    entity: Literal["task"]


class TrashedList(List):
    deleted_at: DeletedAt
    entity: Literal["list"]


class TrashResponse(BaseModel):
    data: list[TrashedTask | TrashedList]
    message: str = Field(examples=["Trash retrieved"])
    next_cursor: str | None = Field(description="null on the last page")


class Actor(BaseModel):
    """Who made a change: a `user` (`id` is the token's `sub`) or the `system`."""

    kind: Literal["user", "system"]
    id: str


class Change(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "seq": 12,
                    "at": "2026-01-12T10:00:00.123456Z",
                    "actor": {"kind": "user", "id": "ada"},
                    "group": "0b8c7a52-52a4-4f3c-8d4f-6a0d3a4f1c11",
                    "entity": "task",
                    "entity_id": 7,
                    "op": "update",
                    "fields": {"title": ["Buy milk", "Buy oat milk"]},
                }
            ]
        }
    )

    seq: int = Field(ge=1, description="Counts this user's changes: 1, 2, 3, … without gaps")
    at: datetime = Field(description="UTC, RFC 3339; grows with `seq`")
    actor: Actor
    group: UUID = Field(description="The same for changes that were made together")
    entity: Annotated[str, WithJsonSchema({"type": "string", "enum": list(BY_NAME)})]
    entity_id: int
    op: Literal["create", "update", "delete", "restore", "purge"]
    fields: dict[str, tuple[Any, Any]] = Field(
        description="The fields that changed: `{name: [old, new]}`"
    )


class ChangesResponse(BaseModel):
    data: list[Change]
    message: str = Field(examples=["Changes retrieved"])
    next_since: int = Field(description="Send it as `since` to get the next page")


class UndoGroup(Body):
    """The changes to undo: all that were made together."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"group": "0b8c7a52-52a4-4f3c-8d4f-6a0d3a4f1c11"}]}
    )

    group: Group


class UndoResponse(BaseModel):
    data: list[Change] = Field(
        description="The changes that undid it. Empty if there was nothing left to undo"
    )
    message: str = Field(examples=["Change undone"])


class ListDeleted(BaseModel):
    data: None
    message: str = Field(examples=["List deleted"])


class TaskDeleted(BaseModel):
    data: None
    message: str = Field(examples=["Task deleted"])


class FieldProblem(BaseModel):
    field: str
    message: str
    column: int = Field(default_factory=int, ge=1, description="Where in `query`, counted from 1")


class ErrorResponse(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": "Task not found",
                    "code": "NOT_FOUND",
                    "detail": "Task not found",
                    "message": "Task not found",
                }
            ]
        }
    )

    error: str = Field(description="A sentence for a person")
    code: str = Field(description="A constant for a program")
    detail: str = Field(description="The same as `error`")
    message: str = Field(description="The same as `error`")
    errors: list[FieldProblem] = Field(
        default_factory=list, description="400, UNDO_CONFLICT: one for each problem"
    )
    reason: str = Field(default_factory=str, description="401: why the token is invalid")
    hint: str = Field(default_factory=str, description="401: what a developer should check")
    data: Task | List | None = Field(
        default_factory=lambda: None, description="412: the current task or list"
    )


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: Literal["about:blank"]
    title: str = Field(description="The status in words")
    status: int
    detail: str = Field(description="A sentence for a person")
    code: str = Field(description="A constant for a program")
    errors: list[FieldProblem] = Field(
        default_factory=list, description="400, UNDO_CONFLICT: one for each problem"
    )
    reason: str = Field(default_factory=str, description="401: why the token is invalid")
    hint: str = Field(default_factory=str, description="401: what a developer should check")
    data: Task | List | None = Field(
        default_factory=lambda: None, description="412: the current task or list"
    )


class Health(BaseModel):
    status: Literal["healthy"]


class Check(BaseModel):
    ok: bool
    detail: str


class Ready(BaseModel):
    """`checks` says for each thing that the server needs whether it works."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Check]
