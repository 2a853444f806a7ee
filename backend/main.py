"""The application: what is opened at start, and which doors it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

import config
import logs
import retention
from database import Database
from errors import SettingError
from routes import changes, lists, pages, system, tasks, tasks_v1, trash
from tokens import verification
from web import documentation, foreign
from web.access_log import access_log
from web.cursors import Cursors
from web.doors import Door
from web.front import Front
from web.limits import RateLimiter

VERSION = "0.1.0"
ROUTERS = (
    tasks.router,
    tasks_v1.router,
    lists.router,
    trash.router,
    changes.router,
    system.router,
    pages.router,
)
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


class TodoAPI(FastAPI):
    """FastAPI behind our front, its OpenAPI document completed."""

    def __init__(self, settings: config.Settings, **named: Any) -> None:
        super().__init__(**named)
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Requests go straight to the front; FastAPI would look for telemetry first."""
        if scope["type"] != "http" or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """The front first, so that a door is one step away. FastAPI's own layers serve what has no
        door."""
        doors = [route for router in ROUTERS for route in router.routes if isinstance(route, Door)]
        access = access_log(self.settings.production) if logs.configured else None
        return Front(super().build_middleware_stack(), doors, self.settings.allowed_origins, access)

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            self.openapi_schema = documentation.complete(super().openapi())
        return self.openapi_schema


def create_app(settings: config.Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        verifier = verification.verifier(settings)
        per_minute = settings.requests_per_minute
        async with _opened(Database(settings)) as database:
            yield {
                "database": database,
                "keys": verifier.keys,
                "verifier": verifier,
                "cursors": Cursors(*settings.cursor_keys),
                "limiter": RateLimiter(per_minute) if per_minute else None,
            }

    app = TodoAPI(
        settings,
        title="Todo API",
        version=VERSION,
        summary="The task backend for apps that sign in with Better Auth",
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        docs_url=None,  # routes/pages.py serves it from this machine
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    foreign.translate(app)
    return app


@asynccontextmanager
async def _opened(database: Database) -> AsyncIterator[Database]:
    """Open, kept clean, and closed whatever happens meanwhile."""
    try:
        await database.open()
        cleaning = asyncio.create_task(retention.keep_clean(database))
        try:
            yield database
        finally:
            cleaning.cancel()
            await asyncio.wait([cleaning])
    finally:
        await database.close()


try:
    app = create_app(config.load())
except SettingError as error:
    raise SystemExit(str(error)) from None
