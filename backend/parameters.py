"""What a caller may ask for in the query of a URL: which tasks, in which order, which page."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

import times
from query import parser, sorting
from query.errors import QueryError
from query.parser import with_default_status
from query.tree import Node, Status
from rules import wrong

PAGE_MAX = 500

_FIRST_PAGE = {"offset": 0, "skip": 0, "page": 1}
_BY_NUMBER = object()  # stands for the place of a page that is asked for by its number
# Cursors as web/cursors.py makes them: 32 bytes, or a place in the order that a query asks for.
_CURSOR = "[A-Za-z0-9_-]{43}"
_SEALED = "[A-Za-z0-9_-]{24,8000}"
_LARGEST_SEQ = 2**63 - 1
_FILTER_OF_COMPLETED = {"true": "completed", "false": "pending"}


def _filter(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in ("all", "pending", "completed"):
        raise wrong("Filter must be one of: all, pending, completed")
    return value.lower()


def _limit(value: Any) -> int:
    if not (
        isinstance(value, str) and re.fullmatch("[1-9][0-9]{0,2}", value) and int(value) <= PAGE_MAX
    ):
        raise wrong(f"Limit must be an integer from 1 to {PAGE_MAX}")
    return int(value)


def _since(value: Any) -> int:
    if value is _BY_NUMBER:
        raise wrong("Pages are read with since, not offset")
    if not (
        isinstance(value, str)
        and re.fullmatch("0|[1-9][0-9]{0,18}", value)
        and int(value) <= _LARGEST_SEQ
    ):
        raise wrong("Since must be an integer from 0 on")
    return int(value)


def _cursor(pattern: str, value: Any) -> str:
    if value is _BY_NUMBER:
        raise wrong("Pages are read with cursor, not offset")
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise wrong("Cursor is not valid")
    return value


# Their JSON schemas are written out: a validator of our own hides from pydantic what it lets pass.
Filter = Annotated[Literal["all", "pending", "completed"], BeforeValidator(_filter)]
_LIMIT_SCHEMA = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": PAGE_MAX})
Limit = Annotated[int | None, BeforeValidator(_limit), _LIMIT_SCHEMA]
PageLimit = Annotated[int, BeforeValidator(_limit), _LIMIT_SCHEMA]
Since = Annotated[
    int,
    BeforeValidator(_since),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": _LARGEST_SEQ}),
]
Cursor = Annotated[
    str | None,
    BeforeValidator(partial(_cursor, _CURSOR)),
    WithJsonSchema({"type": "string", "pattern": f"^{_CURSOR}$"}),
]


class Paged(BaseModel):
    """A page begins where the one before it ended. `page=2` must be refused, not answered with page 1 again."""

    place: ClassVar[str] = "cursor"

    @model_validator(mode="before")
    @classmethod
    def _refuse_page_numbers(cls, values: dict[str, Any]) -> dict[str, Any]:
        beyond_first = any(
            name in values and _exceeds(values[name], first) for name, first in _FIRST_PAGE.items()
        )
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


class PageQuery(Paged):
    limit: PageLimit = 100
    cursor: Cursor = Field(default=None, description="`next_cursor` of the page before")


class ChangesQuery(Paged):
    place: ClassVar[str] = "since"

    since: Since = Field(default=0, description="`next_since` of the page before")
    limit: PageLimit = 100


class Query(NamedTuple):
    """As it was sent, and as it was read."""

    text: str
    tree: Node


def _query(value: Any) -> Query:
    text = _once("Query", value)
    try:
        return Query(text, with_default_status(parser.parse(text)))
    except QueryError as error:
        raise wrong(error.sentence, column=error.column) from None


def _timezone(value: Any) -> ZoneInfo:
    name = _once("Timezone", value)
    try:
        return times.zone(name)
    except ValueError as error:
        raise wrong(str(error)) from None


def _once(name: str, value: Any) -> str:
    """A list stands for a parameter that was given twice."""
    if not isinstance(value, str):
        raise wrong(f"{name} must be given once")
    return value


ALL_TASKS = Query("", Status("all"))


class TasksQuery(Paged):
    query: Annotated[Any, BeforeValidator(_query), WithJsonSchema({"type": "string"})] = Field(
        default_factory=lambda: ALL_TASKS,
        description="Which tasks, in the query language: `today | overdue`, `#Work & priority: high`. "
        "Without it: all that are not in the trash",
        examples=["(today | overdue) & !@waiting"],
    )
    sort: Annotated[
        Any,
        BeforeValidator(lambda value: sorting.read(_once("Sort", value))),
        WithJsonSchema({"type": "string", "pattern": sorting.PATTERN}),
    ] = Field(
        default_factory=lambda: sorting.DEFAULT,
        description=f"Up to three of {', '.join(sorting.NAMES)}, each with `-` for descending. "
        "Without it: `-created_at`",
        examples=["due,-priority"],
    )
    timezone: Annotated[Any, BeforeValidator(_timezone), WithJsonSchema({"type": "string"})] = (
        Field(
            default_factory=lambda: times.zone("UTC"),
            description="In which days begin and end: a name of the IANA database. Without it: `UTC`",
            examples=["Europe/Berlin"],
        )
    )
    limit: PageLimit = 50
    cursor: Annotated[
        str | None,
        BeforeValidator(partial(_cursor, _SEALED)),
        WithJsonSchema({"type": "string", "pattern": f"^{_SEALED}$"}),
    ] = Field(default=None, description="`next_cursor` of the page before")
