"""Requests and answers: they validate what comes in, and describe in OpenAPI what goes out."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

TITLE_MAX = 200
DESCRIPTION_MAX = 1000
PAGE_MAX = 500

# Unicode's White_Space property. str.strip() would also take U+001C to U+001F, which do not have it.
WHITE_SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_FIRST_PAGE = {"offset": 0, "skip": 0, "page": 1}
_BY_NUMBER = object()  # stands for the place of a page that is asked for by its number
# The same and what else is invisible (Cf), of the first 65,536 characters: the inside of a class that ECMA-262 reads
# with and without its flag `u`.
_INVISIBLE = (
    r"\t-\r \x85\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u2064\u2066-\u206f\u3000\ufeff\ufff9-\ufffb"
)
_NOT_NUL = r"[^\u0000]*"
_CURSOR = "[A-Za-z0-9_-]{43}"  # 32 bytes; web/cursors.py opens it
_LARGEST_SEQ = 2**63 - 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_FILTER_OF_COMPLETED = {"true": "completed", "false": "pending"}
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _wrong(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("todo", "{sentence}", {"sentence": sentence})


def _storable(name: str, text: str) -> None:
    if _UNSTORABLE.search(text):
        raise _wrong(f"{name} must not contain U+0000 or unpaired surrogates")


def is_blank(text: str) -> bool:
    return all(char in WHITE_SPACE or unicodedata.category(char) == "Cf" for char in text)


def _title(value: Any) -> str:
    if value is None:
        raise _wrong("Title is required")
    if not isinstance(value, str):
        raise _wrong("Title must be a string")
    _storable("Title", value)
    title = value.strip(WHITE_SPACE)
    if is_blank(title):
        raise _wrong("Title is required")
    if len(title) > TITLE_MAX:
        raise _wrong(f"Title must be between 1 and {TITLE_MAX} characters")
    return title


def _description(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong("Description must be a string or null")
    _storable("Description", value)
    if len(value) > DESCRIPTION_MAX:
        raise _wrong(f"Description must not exceed {DESCRIPTION_MAX} characters")
    return value


def _uuid(name: str) -> BeforeValidator:
    def validate(value: Any) -> UUID:
        if not isinstance(value, str) or not _UUID.fullmatch(value):
            raise _wrong(f"{name} must be a UUID, such as 3f0e4cf2-8a0c-4b1f-9d5e-2f6b7a1c0d9e")
        return UUID(value)

    return BeforeValidator(validate)


def _completed(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong("Completed must be true or false")
    return value


def _filter(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in ("all", "pending", "completed"):
        raise _wrong("Filter must be one of: all, pending, completed")
    return value.lower()


def _limit(value: Any) -> int:
    if not (isinstance(value, str) and re.fullmatch("[1-9][0-9]{0,2}", value) and int(value) <= PAGE_MAX):
        raise _wrong(f"Limit must be an integer from 1 to {PAGE_MAX}")
    return int(value)


def _since(value: Any) -> int:
    if value is _BY_NUMBER:
        raise _wrong("Pages are read with since, not offset")
    if not (isinstance(value, str) and re.fullmatch("0|[1-9][0-9]{0,18}", value) and int(value) <= _LARGEST_SEQ):
        raise _wrong("Since must be an integer from 0 on")
    return int(value)


def _cursor(value: Any) -> str:
    if value is _BY_NUMBER:
        raise _wrong("Pages are read with cursor, not offset")
    if not isinstance(value, str) or not re.fullmatch(_CURSOR, value):
        raise _wrong("Cursor is not valid")
    return value


# Their JSON schemas are written out: a validator of our own hides from pydantic what it lets pass.
Title = Annotated[
    str,
    BeforeValidator(_title),
    Field(
        min_length=1,
        max_length=TITLE_MAX,
        json_schema_extra={"pattern": rf"^{_NOT_NUL}[^\u0000{_INVISIBLE}]{_NOT_NUL}$"},
    ),
]
Description = Annotated[
    str | None,
    BeforeValidator(_description),
    WithJsonSchema({"type": ["string", "null"], "maxLength": DESCRIPTION_MAX, "pattern": f"^{_NOT_NUL}$"}),
]
Completed = Annotated[bool, BeforeValidator(_completed)]
Uid = Annotated[UUID | None, _uuid("Uid"), WithJsonSchema({"type": "string", "format": "uuid"})]
Group = Annotated[UUID, _uuid("Group"), WithJsonSchema({"type": "string", "format": "uuid"})]
Filter = Annotated[Literal["all", "pending", "completed"], BeforeValidator(_filter)]
Limit = Annotated[
    int | None, BeforeValidator(_limit), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": PAGE_MAX})
]
PageLimit = Annotated[
    int, BeforeValidator(_limit), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": PAGE_MAX})
]
Since = Annotated[
    int, BeforeValidator(_since), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": _LARGEST_SEQ})
]
Cursor = Annotated[str | None, BeforeValidator(_cursor), WithJsonSchema({"type": "string", "pattern": f"^{_CURSOR}$"})]


class Body(BaseModel):
    """A JSON object. Unknown fields are ignored; `model_fields_set` says which ones were sent."""

    model_config = ConfigDict(extra="ignore")


class TaskCreate(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Buy milk", "description": "Two litres"}]})

    title: Title
    description: Description = None
    uid: Uid = Field(
        default_factory=lambda: None,
        description="A UUID of your choice. If one of your tasks already has it, nothing is created",
    )


class TaskUpdate(Body):
    """Only the fields that are present change. `description: null` clears it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Buy oat milk", "completed": True}]})

    title: Title = Field(default_factory=str)  # a factory: OpenAPI then shows neither a default nor null
    description: Description = Field(default_factory=lambda: None)
    completed: Completed = Field(default_factory=bool)


class TaskComplete(Body):
    """With `completed`, the task is set to it, so a retry is safe. `{}` toggles. Other fields alone are refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"completed": True}],
            "anyOf": [{"required": ["completed"]}, {"maxProperties": 0}],
        }
    )

    completed: Completed = Field(default_factory=bool)

    @model_validator(mode="before")
    @classmethod
    def _misspelt_is_refused(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`{}` toggles. A misspelt `completed` must not: half of the time that would do the opposite."""
        return {"completed": None, **values} if values else values


class Paged(BaseModel):
    """A page begins where the one before it ended. `page=2` must be refused, not answered with page 1 again."""

    place: ClassVar[str] = "cursor"

    @model_validator(mode="before")
    @classmethod
    def _refuse_page_numbers(cls, values: dict[str, Any]) -> dict[str, Any]:
        beyond_first = any(name in values and _exceeds(values[name], first) for name, first in _FIRST_PAGE.items())
        return {**values, cls.place: _BY_NUMBER} if beyond_first else values


def _exceeds(value: Any, bound: int) -> bool:
    """Whether it reads as a number above `bound`; a list stands for a parameter that was given twice."""
    if isinstance(value, list):
        return any(_exceeds(one, bound) for one in value)
    try:
        return float(value) > bound
    except ValueError:
        return False


class ListQuery(Paged):
    """With `limit`, the answer is a page and carries `next_cursor`."""

    filter: Filter = Field(
        default="all",
        description="In upper or lower case. `status=…` is another name for it, and `completed=true` or "
        "`completed=false` means `completed` or `pending`. Use only one of them.",
    )
    limit: Limit = None
    cursor: Cursor = Field(default=None, description="`next_cursor` of the page before")

    @model_validator(mode="before")
    @classmethod
    def _one_filter(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The other names are not fields: OpenAPI cannot say that only one of three parameters may be sent."""
        given = [values[name] for name in ("filter", "status") if name in values]
        if "completed" in values:
            given.append(_FILTER_OF_COMPLETED.get(str(values["completed"]).lower()))
        if not given:
            return values
        return {**values, "filter": given[0] if len(given) == 1 else given}


class Task(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
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
                }
            ]
        }
    )

    id: int = Field(ge=1, le=2**63 - 1)
    user_id: str
    title: str = Field(min_length=1, max_length=TITLE_MAX)
    description: str | None = Field(max_length=DESCRIPTION_MAX)
    completed: bool
    created_at: datetime = Field(description="UTC, RFC 3339")
    updated_at: datetime = Field(description="UTC, RFC 3339; never repeats and never goes back")
    uid: UUID = Field(description="The same on every device. The client or the server has chosen it")
    version: int = Field(ge=1, description="The number of its last change. Its `ETag` begins with it")
    completed_at: datetime | None = Field(description="UTC, RFC 3339; null if it is not completed")


class TaskResponse(BaseModel):
    data: Task
    message: str = Field(examples=["Task retrieved"])


class TaskListResponse(BaseModel):
    data: list[Task]
    message: str = Field(examples=["Tasks retrieved"])
    next_cursor: str | None = Field(
        default_factory=lambda: None, description="Only with `limit`; null on the last page"
    )


class PageQuery(Paged):
    limit: PageLimit = 100
    cursor: Cursor = Field(default=None, description="`next_cursor` of the page before")


class TrashedTask(Task):
    deleted_at: datetime = Field(description="UTC, RFC 3339. Some days later it is deleted for good")


class TrashResponse(BaseModel):
    data: list[TrashedTask]
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
    entity: Literal["task"]
    entity_id: int
    op: Literal["create", "update", "delete", "restore", "purge"]
    fields: dict[str, tuple[Any, Any]] = Field(description="The fields that changed: `{name: [old, new]}`")


class ChangesQuery(Paged):
    place: ClassVar[str] = "since"

    since: Since = Field(default=0, description="`next_since` of the page before")
    limit: PageLimit = 100


class ChangesResponse(BaseModel):
    data: list[Change]
    message: str = Field(examples=["Changes retrieved"])
    next_since: int = Field(description="Send it as `since` to get the next page")


class UndoGroup(Body):
    """The changes to undo: all that were made together."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"group": "0b8c7a52-52a4-4f3c-8d4f-6a0d3a4f1c11"}]})

    group: Group


class UndoResponse(BaseModel):
    data: list[Change] = Field(description="The changes that undid it. Empty if there was nothing left to undo")
    message: str = Field(examples=["Change undone"])


class TaskDeleted(BaseModel):
    data: None
    message: str = Field(examples=["Task deleted"])


class FieldProblem(BaseModel):
    field: str
    message: str


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
    errors: list[FieldProblem] = Field(default_factory=list, description="400, UNDO_CONFLICT: one for each problem")
    reason: str = Field(default_factory=str, description="401: why the token is invalid")
    hint: str = Field(default_factory=str, description="401: what a developer should check")
    data: Task | None = Field(default_factory=lambda: None, description="412: the current task")


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: Literal["about:blank"]
    title: str = Field(description="The status in words")
    status: int
    detail: str = Field(description="A sentence for a person")
    code: str = Field(description="A constant for a program")
    errors: list[FieldProblem] = Field(default_factory=list, description="400, UNDO_CONFLICT: one for each problem")
    reason: str = Field(default_factory=str, description="401: why the token is invalid")
    hint: str = Field(default_factory=str, description="401: what a developer should check")
    data: Task | None = Field(default_factory=lambda: None, description="412: the current task")


class Health(BaseModel):
    status: Literal["healthy"]


class Check(BaseModel):
    ok: bool
    detail: str


class Ready(BaseModel):
    """`checks` says for each thing that the server needs whether it works."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Check]
