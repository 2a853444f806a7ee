"""What FastAPI and Starlette raise by themselves, said in the contract's words."""

from __future__ import annotations

from http import HTTPStatus
from typing import NoReturn

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from errors import ApiError, Invalid, MethodNotAllowed, NotFound, Problem


class ForeignError(ApiError):
    """A status that no error of ours stands for."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status  # type: ignore[misc]  # of this instance only
        self.code = HTTPStatus(status).name  # type: ignore[misc]


def translate(app: FastAPI) -> None:
    """Have them raised as errors of ours; the front answers those."""
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _any)


async def _http_exception(_: Request, error: Exception) -> NoReturn:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        raise NotFound from error
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        raise MethodNotAllowed(sorted(filter(None, allowed.split(", ")))) from error
    raise ForeignError(error.status_code, str(error.detail)) from error


async def _validation_error(_: Request, error: Exception) -> NoReturn:
    assert isinstance(error, RequestValidationError)
    raise Invalid(
        [Problem(str(flaw["loc"][-1]), str(flaw["msg"])) for flaw in error.errors()]
    ) from error


async def _any(_: Request, error: Exception) -> NoReturn:
    """Else Starlette would send an answer of its own, and then raise."""
    raise error
