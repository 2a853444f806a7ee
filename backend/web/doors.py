"""Doors: the one way to write an endpoint. A door decides who may pass before it reads what they bring."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple, TypeVar, get_args
from urllib.parse import parse_qsl

from fastapi import Depends, Path, params
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import HTTPConnection
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from auth import get_current_user, verify_user_access
from database import OwnerDatabase, get_db
from errors import Invalid, Problem
from schemas import Body
from web import bodies, paths
from web.answers import Answer
from web.cursors import Cursors, get_cursors

# What an endpoint may ask for, beside one `schemas.Body` and one model in `Annotated[…, Query()]`. A door calls the
# function in Depends with the request, after the request was let in.
Db = Annotated[OwnerDatabase, Depends(get_db)]
Pages = Annotated[Cursors, Depends(get_cursors)]
TaskId = Annotated[int, Path(ge=1, le=2**63 - 1, description="A canonical decimal integer")]

Endpoint = Callable[..., Awaitable[Answer]]
Model = TypeVar("Model", bound=BaseModel)


class Door(APIRoute):
    """FastAPI documents it like any route; `open` answers it, in the contract's order of checks.

    That order is: size, 401, 403, 429, 415, 400, then the endpoint. FastAPI's own handler reads and parses the body
    before it asks who sends it, and costs more than the query (docs/decisions/0003-doors.md). An endpoint declares
    what it needs in its signature, as FastAPI wants it, and is given that.
    """

    public = False

    def __init__(self, path: str, endpoint: Endpoint, **documented: Any) -> None:
        super().__init__(path, endpoint, **documented)
        self.run = endpoint
        methods = self.methods or set()
        self.answers = frozenset({*methods, "HEAD"} if "GET" in methods else methods)
        segments = [part for part in path.split("/") if part]
        self.template = tuple(None if part.startswith("{") else part for part in segments)
        self.owner_at = segments.index("{user_id}") if "{user_id}" in segments else None
        self.id_at = segments.index("{task_id}") if "{task_id}" in segments else None
        self.needs = Needs.of(endpoint)
        self.reads = bool(self.id_at or self.needs.query or self.needs.body)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Never: only the front opens doors, and it goes by the raw path."""
        return Match.NONE, {}

    def leads_to(self, path: tuple[str, ...]) -> bool:
        if len(path) != len(self.template):
            return False
        return all(own == asked if own else asked for own, asked in zip(self.template, path, strict=True))

    async def open(self, scope: Scope, path: tuple[str, ...], receive: Receive, send: Send) -> None:
        arguments: dict[str, Any] = {}
        request = HTTPConnection(scope)
        if not self.public:
            await self._admit(request, path)
        if self.reads:
            await self._read(scope, path, receive, arguments)
        for name, provide in self.needs.provided:
            arguments[name] = provide(request)
        reply = await self.run(**arguments)
        await reply(scope, receive, send)

    async def _admit(self, request: HTTPConnection, path: tuple[str, ...]) -> None:
        user = await get_current_user(request)
        request.scope["user_id"] = user["id"]
        if self.owner_at is not None:
            verify_user_access(path[self.owner_at], user)
        limiter = request.scope["state"]["limiter"]
        if limiter is not None:
            limiter.take(user["id"])

    async def _read(self, scope: Scope, path: tuple[str, ...], receive: Receive, arguments: dict[str, Any]) -> None:
        """Fill in what the caller brings. All that is wrong with it is said at once: path, query, then body."""
        needs = self.needs
        problems: list[Problem] = []
        sent = b""
        if needs.body:
            sent = await bodies.read(receive)
            if sent:
                bodies.check_media_type(scope["headers_by_name"])
        if self.id_at is not None:
            arguments["task_id"] = paths.task_id(path[self.id_at])
            if arguments["task_id"] is None:
                problems.append(Problem("task_id", "Task id must be an integer"))
        if needs.query and needs.query_model:
            arguments[needs.query] = _model(needs.query_model, _parameters(scope["query_string"]), problems)
        if needs.body and needs.body_model:
            wanted = sent or not needs.body_optional
            arguments[needs.body] = _body(needs.body_model, sent, problems) if wanted else None
        if problems:
            raise Invalid(problems)


class PublicDoor(Door):
    """A door that asks nobody for a token."""

    public = True


class Needs(NamedTuple):
    """What an endpoint's signature asks for: the names of its parameters, and the models of what it parses."""

    provided: tuple[tuple[str, Callable[[HTTPConnection], Any]], ...]
    query: str | None
    query_model: type[BaseModel] | None
    body: str | None
    body_model: type[Body] | None
    body_optional: bool

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
        )


def _first(noted: dict[str, Any], fits: Callable[[Any], Any]) -> str | None:
    return next((name for name, note in noted.items() if fits(note)), None)


def _query_model(note: Any) -> type[BaseModel] | None:
    """`ListQuery` of `Annotated[ListQuery, Query()]`."""
    is_query = any(isinstance(mark, params.Query) for mark in getattr(note, "__metadata__", ()))
    return get_args(note)[0] if is_query else None


def _body_model(note: Any) -> type[Body] | None:
    """`TaskComplete` of `TaskComplete` or `TaskComplete | None`."""
    options = (note, *get_args(note))
    return next((option for option in options if inspect.isclass(option) and issubclass(option, Body)), None)


def _parameters(query_string: bytes) -> dict[str, Any]:
    """Query parameters by name. One that is given twice has a list, which no field takes."""
    values: dict[str, Any] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        values[name] = [values[name], value] if name in values else value
    return values


def _body(model: type[Model], sent: bytes, problems: list[Problem]) -> Model | None:
    try:
        return _model(model, bodies.parse_object(sent), problems)
    except Invalid as invalid:
        problems += invalid.problems
        return None


def _model(model: type[Model], values: dict[str, Any], problems: list[Problem]) -> Model | None:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for flaw in error.errors(include_url=False, include_input=False):
            field = str(flaw["loc"][0])
            message = f"{field.capitalize()} is required" if flaw["type"] == "missing" else flaw["msg"]
            problems.append(Problem(field, message))
        return None
