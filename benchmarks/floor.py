"""The floor: one prepared statement a scenario behind bare ASGI. Nothing but what cannot be saved.

No isolation, no change log, no limits, no contract, and of a token no more than that there is one.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import orjson

SCHEMA = """
CREATE TABLE tasks (
    id bigint GENERATED ALWAYS AS IDENTITY, user_id text NOT NULL, title varchar(200) NOT NULL,
    description varchar(1000), completed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id)
);
CREATE INDEX tasks_newest ON tasks (user_id, created_at, id);
CREATE TABLE changes (
    user_id text, seq bigint, at timestamptz NOT NULL, actor_kind text NOT NULL, actor_id text NOT NULL,
    group_id uuid NOT NULL, entity text NOT NULL, entity_id bigint NOT NULL, op text NOT NULL, fields jsonb NOT NULL,
    PRIMARY KEY (user_id, seq)
);
"""
GET = """
SELECT id, user_id, title, description, completed, created_at, updated_at FROM tasks WHERE user_id = $1 AND id = $2
"""
LIST = """
SELECT id, user_id, title, description, completed, created_at, updated_at
FROM tasks WHERE user_id = $1 ORDER BY created_at DESC, id DESC
"""
PAGE = f"{LIST} LIMIT $2"
CREATE = """
INSERT INTO tasks (user_id, title, description) VALUES ($1, $2, $3)
RETURNING id, user_id, title, description, completed, created_at, updated_at
"""
TOGGLE = """
UPDATE tasks SET completed = NOT completed, updated_at = now() WHERE user_id = $1 AND id = $2
RETURNING id, user_id, title, description, completed, created_at, updated_at
"""
CHANGES = """
SELECT seq, at, actor_kind, actor_id, group_id::text, entity, entity_id, op, fields
FROM changes WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""
CONNECTIONS = 32  # one for each of the load's: nobody waits
Statements = dict[str, Any]  # of one connection, prepared
Reply = tuple[int, Any]
free: list[Statements] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        for _ in range(CONNECTIONS):
            connection = await asyncpg.connect(os.environ["NEON_DATABASE_URL"])
            free.append({sql: await connection.prepare(sql) for sql in (GET, LIST, PAGE, CREATE, TOGGLE, CHANGES)})
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if not any(name == b"authorization" for name, _ in scope["headers"]):
        await answer(send, 401, {"error": "Missing token", "code": "UNAUTHORIZED"})
        return
    path = scope["path"].split("/")
    statements = free.pop()
    status, data = await ROUTES[scope["method"], len(path)](statements, path, receive)
    free.append(statements)
    await answer(send, status, {"data": data, "message": "Done"})


async def get(statements: Statements, path: list[str], receive: Any) -> Reply:
    _, _, user, _, id = path
    return 200, await statements[GET].fetchrow(user, int(id))


async def list_all(statements: Statements, path: list[str], receive: Any) -> Reply:
    _, _, user, _ = path
    return 200, await statements[LIST].fetch(user)


async def page(statements: Statements, path: list[str], receive: Any) -> Reply:
    _, _, user, _, _, limit = path
    return 200, await statements[PAGE].fetch(user, int(limit))


async def create(statements: Statements, path: list[str], receive: Any) -> Reply:
    body = orjson.loads((await receive())["body"])
    return 201, await statements[CREATE].fetchrow(path[2], body["title"], body["description"])


async def toggle(statements: Statements, path: list[str], receive: Any) -> Reply:
    _, _, user, _, id, _ = path
    return 200, await statements[TOGGLE].fetchrow(user, int(id))


async def changes(statements: Statements, path: list[str], receive: Any) -> Reply:
    _, _, _, user, _, since, limit = path
    rows = await statements[CHANGES].fetch(user, int(since), int(limit))
    return 200, [{**row, "fields": orjson.loads(row["fields"])} for row in rows]


# By method and number of segments. Pages and changes have paths of their own here, so that no query has to be parsed.
ROUTES: dict[tuple[str, int], Callable[[Statements, list[str], Any], Awaitable[Reply]]] = {
    ("GET", 5): get,  # /api/{user}/tasks/{id}
    ("GET", 4): list_all,
    ("GET", 6): page,  # /api/{user}/tasks/page/{limit}
    ("POST", 4): create,
    ("PATCH", 6): toggle,  # /api/{user}/tasks/{id}/complete
    ("GET", 7): changes,  # /v1/changes/{user}/since/{seq}/{limit}
}


async def answer(send: Any, status: int, content: Any) -> None:
    body = orjson.dumps(content, default=dict, option=orjson.OPT_UTC_Z)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
