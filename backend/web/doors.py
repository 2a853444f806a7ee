"""Doors: the one way to write an endpoint. A door decides who may pass before it reads what they
bring."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple, TypeVar, get_args
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import Depends, Header, Path, params
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError, WithJsonSchema
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

import idempotency
from call import Call
from database import OwnerDatabase, get_database, get_db
from errors import ApiError, Invalid, Problem
from idempotency import StoredAnswer
from postgres.pool import Transaction
from schemas import Body
from storage import Versions
from web import bodies, fields, paths
from web.admission import bearer, everybody
from web.answers import Answer, Streamed, refusal, replay, stored_answer
from web.cursors import Cursors, get_cursors


class Field(NamedTuple):
    """A header field: its name, and what makes a value of its lines and the user who sent them.

    It raises ValueError with a sentence where they are malformed.
    """

    name: bytes
    parse: Callable[[list[bytes], str], Any]


# What an endpoint may ask for, beside one `schemas.Body` and one model in `Annotated[…, Query()]`.
# A door calls the function in Depends with the request, after the request was let in.
Db = Annotated[OwnerDatabase, Depends(get_db)]
PageCursors = Annotated[Cursors, Depends(get_cursors)]
TaskId = Annotated[int, Path(ge=1, le=2**63 - 1, description="A canonical decimal integer")]
Name = Annotated[
    int | UUID, Path(description="The id, or the uid"), WithJsonSchema(paths.NAME_SCHEMA)
]
Seq = Annotated[int, Path(ge=1, le=2**63 - 1, description="The number of a change")]
IfMatch = Annotated[
    Versions,
    WithJsonSchema(fields.ENTITY_TAGS_SCHEMA),
    Header(
        alias="If-Match",
        description="`ETag`s: write only if the task or list is still at one of them, else 412",
    ),
    Field(b"if-match", fields.if_match),
]
IfNoneMatch = Annotated[
    list[bytes] | None,
    WithJsonSchema(fields.ENTITY_TAGS_SCHEMA),
    Header(alias="If-None-Match", description="`ETag`s of what you have: 304 if it is still so"),
    Field(b"if-none-match", lambda lines, _: fields.if_none_match(lines)),
]

# Of every write, whatever its endpoint.
IDEMPOTENCY_KEY = Field(b"idempotency-key", lambda lines, _: fields.idempotency_key(lines))

# By the type that an endpoint declares: how it is parsed, and what it must be.
PATH_VALUES: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (paths.number, "an integer"),
    int | UUID: (paths.name, "an integer or a uid"),
    str: (str, "a text"),
}

Endpoint = Callable[..., Awaitable[Answer | Streamed]]
Model = TypeVar("Model", bound=BaseModel)


class Dialect(NamedTuple):
    """What is spoken through a door: how a body is read, and how a refusal is said."""

    # Of the header fields; raises UnsupportedMediaType.
    check_media_type: Callable[[dict[bytes, bytes]], None]
    parse: Callable[[bytes], dict[str, Any]]  # raises Invalid
    refusal: Callable[[ApiError, Call], Answer]


JSON_DIALECT = Dialect(bodies.check_media_type, bodies.parse_object, refusal)


class Door(APIRoute):
    """FastAPI documents it like any route; `open` answers it, in the contract's order of checks.

    That order is: size, 401, 403, 429, 415, 400, then the endpoint. FastAPI's own handler reads and
    parses the body before it asks who sends it, and costs more than the query
    (docs/decisions/0003-doors.md). An endpoint declares what it needs in its signature, as FastAPI
    wants it, and is given that.

    Who may come in, what is spoken, and how much may be brought are arguments, which `door` takes.
    """

    admission: Callable[[Call, Door], Awaitable[None]] = staticmethod(bearer)
    dialect = JSON_DIALECT
    limit_bytes = bodies.LIMIT_BYTES

    def __init__(self, path: str, endpoint: Endpoint, **documented: Any) -> None:
        super().__init__(path, endpoint, **documented)
        self.run = endpoint
        methods = self.methods or set()
        self.answers = frozenset({*methods, "HEAD"} if "GET" in methods else methods)
        segments = [part for part in path.split("/") if part]
        self.template = tuple(None if part.startswith("{") else part for part in segments)
        self.owner_at = segments.index("{user_id}") if "{user_id}" in segments else None
        self.needs = Needs.of(endpoint)
        self.values = [
            (name, segments.index(f"{{{name}}}"), parse)
            for name, parse in self.needs.values
            if f"{{{name}}}" in segments
        ]
        self.noun = "List" if "lists" in segments else "Task"  # what its answers show
        self.public = self.admission is everybody
        self.writes = not self.public and "GET" not in methods
        self.takes_body = self.writes and "DELETE" not in methods
        self.reads = self.writes or bool(self.values or self.needs.query or self.needs.fields)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Never: only the front opens doors, and it goes by the raw path."""
        return Match.NONE, {}

    def leads_to(self, path: tuple[str, ...]) -> bool:
        """Whether `path`, of as many segments as the template, is one of this door's."""
        for own, asked in zip(self.template, path, strict=True):  # noqa: SIM110  # all() takes twice as long
            if own != asked if own else not asked:
                return False
        return True

    async def open(self, call: Call, receive: Receive, send: Send) -> None:
        arguments: dict[str, Any] = {}
        await self.admission(call, self)
        retry = await self._read(call, receive, arguments) if self.reads else None
        reply = await (
            self._run_once(call, arguments, retry) if retry else self._run(call, arguments)
        )
        await reply(call.scope, receive, send)

    async def _run(self, call: Call, arguments: dict[str, Any]) -> Answer | Streamed:
        for name, provide in self.needs.provided:
            arguments[name] = provide(call)
        return await self.run(**arguments)

    async def _run_once(self, call: Call, arguments: dict[str, Any], retry: Retry) -> Answer:
        """With an `Idempotency-Key`: the endpoint runs in the transaction that keeps its answer."""

        async def run(transaction: Transaction) -> StoredAnswer:
            call.transaction = transaction
            reply = await self._run(call, arguments)
            assert isinstance(reply, Answer)  # only reads are streamed
            return stored_answer(reply)

        pool = get_database(call).pool
        stored, again = await idempotency.once(
            pool, call.user_id, retry.key, retry.fingerprint, run, self.noun
        )
        return replay(stored, again)

    async def _read(self, call: Call, receive: Receive, arguments: dict[str, Any]) -> Retry | None:
        """Fill in what the caller brings. All that is wrong with it is said at once: path, query,
        header, then body."""
        needs = self.needs
        problems: list[Problem] = []
        sent = b""
        if self.takes_body:
            sent = await bodies.read(receive, self.limit_bytes)
            if sent and needs.body:
                self.dialect.check_media_type(call.fields)
        for name, place, (parse, right) in self.values:
            arguments[name] = parse(call.path[place])
            if arguments[name] is None:
                problems.append(
                    Problem(name, f"{name.capitalize().replace('_', ' ')} must be {right}")
                )
        if needs.query and needs.query_model:
            arguments[needs.query] = _model(
                needs.query_model, _parameters(call.scope["query_string"]), problems
            )
        for name, field in needs.fields:
            arguments[name] = _field(call, field, problems)
        key = _field(call, IDEMPOTENCY_KEY, problems) if self.writes else None
        _refuse_misplaced_condition(call, self.writes, problems)
        if needs.body and needs.body_model:
            absent = needs.body_optional and bodies.is_none(sent)
            arguments[needs.body] = None if absent else self._body(needs.body_model, sent, problems)
        if problems:
            raise Invalid(problems)
        return Retry(key, idempotency.fingerprint(call.method, call.path, sent)) if key else None

    def _body(self, model: type[Model], sent: bytes, problems: list[Problem]) -> Model | None:
        try:
            return _model(model, self.dialect.parse(sent), problems)
        except Invalid as invalid:
            problems += invalid.problems
            return None


def door(
    admission: Callable[[Call, Door], Awaitable[None]] = bearer,
    dialect: Dialect = JSON_DIALECT,
    limit_bytes: int = bodies.LIMIT_BYTES,
) -> type[Door]:
    """A kind of door, as an APIRouter's `route_class`."""
    arguments = {
        "admission": staticmethod(admission),
        "dialect": dialect,
        "limit_bytes": limit_bytes,
    }
    return type("Door", (Door,), arguments)


class Needs(NamedTuple):
    """What an endpoint's signature asks for: the names of its parameters, and the models of what it
    parses."""

    provided: tuple[tuple[str, Callable[[Call], Any]], ...]
    query: str | None
    query_model: type[BaseModel] | None
    body: str | None
    body_model: type[Body] | None
    body_optional: bool
    fields: tuple[tuple[str, Field], ...]
    values: tuple[tuple[str, tuple[Callable[[str], Any], str]], ...]  # of the path; see PATH_VALUES

    @classmethod
    def of(cls, endpoint: Endpoint) -> Needs:
        parameters = inspect.signature(endpoint, eval_str=True).parameters
        noted = {name: parameter.annotation for name, parameter in parameters.items()}
        query, body = _first(noted, _query_model), _first(noted, _body_model)
        return cls(
            provided=tuple(
                (name, mark.dependency)
                for name, note in noted.items()
                for mark in getattr(note, "__metadata__", ())
                if isinstance(mark, params.Depends) and mark.dependency
            ),
            query=query,
            query_model=_query_model(noted[query]) if query else None,
            body=body,
            body_model=_body_model(noted[body]) if body else None,
            body_optional=body is not None and parameters[body].default is None,
            fields=tuple(
                (name, mark)
                for name, note in noted.items()
                for mark in getattr(note, "__metadata__", ())
                if isinstance(mark, Field)
            ),
            values=tuple(
                (name, PATH_VALUES[get_args(note)[0]])
                for name, note in noted.items()
                for mark in getattr(note, "__metadata__", ())
                if isinstance(mark, params.Path)
            ),
        )


class Retry(NamedTuple):
    """What makes a write one that may be sent again: its key, and what tells its request from
    others."""

    key: str
    fingerprint: bytes


def _first(noted: dict[str, Any], fits: Callable[[Any], Any]) -> str | None:
    return next((name for name, note in noted.items() if fits(note)), None)


def _query_model(note: Any) -> type[BaseModel] | None:
    """`ListQuery` of `Annotated[ListQuery, Query()]`."""
    is_query = any(isinstance(mark, params.Query) for mark in getattr(note, "__metadata__", ()))
    return get_args(note)[0] if is_query else None


def _body_model(note: Any) -> type[Body] | None:
    """`TaskComplete` of `TaskComplete` or `TaskComplete | None`."""
    options = (note, *get_args(note))
    return next(
        (option for option in options if inspect.isclass(option) and issubclass(option, Body)), None
    )


def _parameters(query_string: bytes) -> dict[str, Any]:
    """Query parameters by name. One that is given twice has a list, which no field takes."""
    values: dict[str, Any] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        values[name] = [values[name], value] if name in values else value
    return values


def _field(call: Call, field: Field, problems: list[Problem]) -> Any:
    try:
        return field.parse(call.lines(field.name), call.user_id)
    except ValueError as error:
        problems.append(Problem(field.name.decode().title(), str(error)))
        return None


def _refuse_misplaced_condition(call: Call, writes: bool, problems: list[Problem]) -> None:
    """A condition that a door does not check must not be passed over: who sent it counts on it."""
    if writes and b"if-none-match" in call.fields:
        problems.append(
            Problem("If-None-Match", "If-None-Match is for reading; guard a write with If-Match")
        )
    elif not writes and b"if-match" in call.fields:
        problems.append(
            Problem("If-Match", "If-Match is for writing; ask with If-None-Match for what is new")
        )


def _model(model: type[Model], values: dict[str, Any], problems: list[Problem]) -> Model | None:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for flaw in error.errors(include_url=False, include_input=False):
            field = str(flaw["loc"][0])
            message = (
                f"{field.capitalize()} is required" if flaw["type"] == "missing" else flaw["msg"]
            )
            problems.append(Problem(field, message, flaw.get("ctx", {}).get("column")))
        return None
