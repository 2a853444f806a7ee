"""The floor: one prepared statement behind bare ASGI. No isolation, no limits, no contract; only what cannot be saved."""

from __future__ import annotations

import os
from typing import Any

import asyncpg
from pydantic_core import to_json

SELECT = """
SELECT id, user_id, title, description, completed, created_at, updated_at FROM tasks WHERE user_id = $1 AND id = $2
"""
free: list[Any] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        for _ in range(32):
            connection = await asyncpg.connect(os.environ["DATABASE_URL"])
            free.append(await connection.prepare(SELECT))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    _, _, user_id, _, task_id = scope["path"].split("/")  # /api/{user_id}/tasks/{id}
    statement = free.pop()
    row = await statement.fetchrow(user_id, int(task_id))
    free.append(statement)
    body = to_json({"data": dict(row), "message": "Task retrieved"})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
