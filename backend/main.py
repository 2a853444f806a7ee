"""The application: what is opened at start, and which doors it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

import config
from auth import Verifier
from database import Database
from errors import SettingError
from keys import Keys
from routes import system, tasks
from web.cursors import Cursors
from web.front import Front
from web.limits import RateLimiter

NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False}


def create_app(settings: config.Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        database = Database(settings)
        await database.open()
        per_minute = settings.requests_per_minute
        yield {
            "database": database,
            "verifier": Verifier(
                Keys(settings.secret),
                settings.auth_issuer or settings.origin,
                settings.auth_audience or settings.origin,
                settings.auth_strict,
            ),
            "cursors": Cursors(settings.cursor_key),
            "limiter": RateLimiter(per_minute) if per_minute else None,
        }
        await database.close()

    app = FastAPI(title="Todo API", lifespan=lifespan, telemetry=NO_TELEMETRY, redirect_slashes=False)
    routers = (tasks.router, system.router)
    for router in routers:
        app.include_router(router)
    app.add_middleware(
        Front, doors=[route for router in routers for route in router.routes], origins=settings.allowed_origins
    )
    return app


try:
    app = create_app(config.load())
except SettingError as error:
    raise SystemExit(str(error)) from None
