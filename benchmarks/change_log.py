"""What the change log costs a write, and an `Idempotency-Key` a POST: each with and without, round by round.

.venv/bin/python benchmarks/change_log.py [rounds] [writes] [posts]
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID, uuid4

import jwt
import psutil
import uvloop

HERE = Path(__file__).resolve().parent
BACKEND = HERE.parent / "backend"
sys.path.insert(0, str(BACKEND))
import dsn  # noqa: E402  (the flat source root is beside this folder)
import embedded  # noqa: E402
import migrate  # noqa: E402
import pool  # noqa: E402
import tasks  # noqa: E402

USERS = [f"user-{number}" for number in range(50)]
SECRET = "benchmark-secret-benchmark-secret-0123456789"
PORT = 8233
CONNECTIONS = 32
CALLERS = 320  # users of the second table, ten to a connection: nobody waits for a lock of somebody else's
WARM_UP = 200

# The same without the log: owner, row-level security, If-Match, version and times as in tasks.py, but no number to take
# and no change to note. What the user's counter locks there, the task's row locks here.

UNLOGGED = """
CREATE FUNCTION create_task_unlogged(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_if_match bigint[], p_uid uuid, p_title text, p_description text
)
RETURNS TABLE (
    applied boolean, id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz, uid uuid, version bigint, completed_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    now timestamptz := clock_timestamp();
    task tasks;
    v_applied boolean := false;
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    IF p_uid IS NOT NULL THEN
        SELECT * INTO task FROM tasks AS t WHERE user_id = p_user_id AND t.uid = p_uid;
    END IF;
    IF task.id IS NULL THEN
        IF 0 <> ALL (p_if_match) THEN
            RETURN;
        END IF;
        v_applied := true;
        INSERT INTO tasks (user_id, title, description, uid, version, created_at, updated_at)
        VALUES (p_user_id, p_title, p_description, coalesce(p_uid, gen_random_uuid()), 1, now, now)
        RETURNING * INTO task;
    END IF;
    RETURN QUERY SELECT
        v_applied, task.id, task.user_id, task.title, task.description, task.completed,
        task.created_at, task.updated_at, task.uid, task.version, task.completed_at;
END $$;

CREATE FUNCTION update_task_unlogged(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_id bigint, p_if_match bigint[], p_set jsonb, p_skips_same boolean
)
RETURNS TABLE (
    applied boolean, id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz, uid uuid, version bigint, completed_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    was tasks;
    task tasks;
    v_applied boolean;
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    SELECT * INTO was FROM tasks AS t WHERE user_id = p_user_id AND t.id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_applied := coalesce(was.version = ANY (p_if_match), true);
    task := was;
    IF v_applied THEN
        task := jsonb_populate_record(was, coalesce(p_set, jsonb_build_object('completed', NOT was.completed)));
    END IF;
    IF v_applied AND NOT (p_skips_same AND task IS NOT DISTINCT FROM was) THEN
        task.version := was.version + 1;
        task.updated_at := greatest(clock_timestamp(), was.updated_at + interval '1 microsecond');
        IF task.completed <> was.completed THEN
            task.completed_at := CASE WHEN task.completed THEN task.updated_at END;
        END IF;
        UPDATE tasks AS t SET
            title = task.title, description = task.description, completed = task.completed,
            completed_at = task.completed_at, version = task.version, updated_at = task.updated_at
        WHERE user_id = p_user_id AND t.id = p_id;
    END IF;
    RETURN QUERY SELECT
        v_applied, task.id, task.user_id, task.title, task.description, task.completed,
        task.created_at, task.updated_at, task.uid, task.version, task.completed_at;
END $$;
"""

STATEMENTS = {
    ("create", "with log"): tasks.CREATE,
    ("create", "without"): tasks.CREATE.replace("create_task(", "create_task_unlogged("),
    ("toggle", "with log"): tasks.UPDATE,
    ("toggle", "without"): tasks.UPDATE.replace("update_task(", "update_task_unlogged("),
}

Write = Callable[[str, int, UUID], Awaitable[object]]


def in_turn(names: list[str], number: int) -> list[str]:
    """Who goes first changes from round to round."""
    return names[::-1] if number % 2 else names


def summary(name: str, values: list[float], unit: str) -> str:
    return f"{name} {statistics.median(values):7.1f} ({min(values):.1f}–{max(values):.1f}) {unit}"


def ratio(name: str, values: list[float]) -> str:
    return f"{name} × {statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(p.cpu_times().user + p.cpu_times().system for p in processes)


# --- in the database ---


async def measure_log(url: str, rounds: int, writes: int) -> None:
    print(f"One connection, {len(USERS)} users, prepared statements; µs of one write, {writes} a round")
    owner = await pool.connect(dsn.parse(url))
    await owner.execute(UNLOGGED)
    session = await pool.connect(dsn.parse(url), {**pool.SETTINGS, "role": migrate.ROLE, "jit": "off"})
    process = psutil.Process(session.get_server_pid())
    costs: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in STATEMENTS}
    for number in range(rounds):
        for operation in ("create", "toggle"):
            for variant in in_turn(["with log", "without"], number):
                await owner.execute("VACUUM ANALYZE")
                await owner.execute("CHECKPOINT")
                write = await writer(session, operation, variant)
                wall, cpu = await cost(write, process, writes)
                costs[operation, variant].append((wall, cpu))
                print(f"round {number + 1} {operation} {variant:8}  wall {wall:6.0f}  cpu of the backend {cpu:6.0f}")
    for operation in ("create", "toggle"):
        for index, unit in enumerate(("wall", "cpu ")):
            logged, plain = ([cost[index] for cost in costs[operation, variant]] for variant in ("with log", "without"))
            print(
                f"{operation} {unit}  {summary('with log', logged, 'µs')}  {summary('without', plain, 'µs')}  "
                f"{ratio('with ÷ without', [one / other for one, other in zip(logged, plain, strict=True)])}"
            )
    await session.close()
    await owner.close()


async def writer(session: pool.Session, operation: str, variant: str) -> Write:
    """Writes as tasks.create and tasks.complete do, on tasks of this variant's own."""
    statement = await session.prepare(STATEMENTS[operation, variant])
    if operation == "create":
        return lambda user, _, group: statement.fetch(
            user, "user", user, group, None, None, "Buy milk", "Two litres, and some bread"
        )
    ids = {}
    create = await session.prepare(STATEMENTS["create", variant])
    for user in USERS:
        ids[user] = [
            (await create.fetch(user, "user", user, uuid4(), None, None, "Buy milk", None))[0]["id"] for _ in range(20)
        ]
    return lambda user, number, group: statement.fetch(
        user, "user", user, group, ids[user][number // len(USERS) % 20], None, None, True
    )


async def cost(write: Write, process: psutil.Process, writes: int) -> tuple[float, float]:
    """Microseconds of one write: on the clock, and of the processor in the connection's own backend."""
    for number in range(WARM_UP):
        await write(USERS[number % len(USERS)], number, uuid4())
    used, began = cpu_seconds([process]), time.perf_counter()
    for number in range(writes):
        await write(USERS[number % len(USERS)], number, uuid4())
    wall = time.perf_counter() - began
    return wall / writes * 1e6, (cpu_seconds([process]) - used) / writes * 1e6


# --- over HTTP ---


async def measure_keys(server: psutil.Process, postmaster: psutil.Process, rounds: int, posts: int) -> None:
    print(f"\nPOST over HTTP, {CONNECTIONS} connections, {CALLERS} users; {posts} a round")
    callers = [f"caller-{number}" for number in range(CALLERS)]
    tokens = {user: jwt.encode({"sub": user}, SECRET, algorithm="HS256") for user in callers}
    costs: dict[str, list[tuple[float, float]]] = {"with key": [], "without": []}
    await load(tokens, True, CALLERS * 2)  # every token once, and every connection prepared
    await load(tokens, False, CALLERS * 2)
    for number in range(rounds):
        for variant in in_turn(list(costs), number):
            database = [postmaster, *postmaster.children(recursive=True)]
            own, theirs, began = cpu_seconds([server]), cpu_seconds(database), time.perf_counter()
            took = await load(tokens, variant == "with key", posts)
            rate = posts / (time.perf_counter() - began)
            own, theirs = cpu_seconds([server]) - own, cpu_seconds(database) - theirs
            costs[variant].append(((own + theirs) / posts * 1e6, rate))
            print(
                f"round {number + 1} {variant}  {rate:6.0f}/s  cpu {(own + theirs) / posts * 1e6:5.0f} µs "
                f"(server {own / posts * 1e6:4.0f}, database {theirs / posts * 1e6:4.0f})  "
                f"p99 {statistics.quantiles(took, n=100)[98] * 1e3:.1f} ms"
            )
    for index, unit in enumerate(("µs cpu", "/s")):
        keyed, plain = ([cost[index] for cost in costs[variant]] for variant in costs)
        print(
            f"{summary('with key', keyed, unit)}  {summary('without', plain, unit)}  "
            f"{ratio('with ÷ without', [one / other for one, other in zip(keyed, plain, strict=True)])}"
        )


async def load(tokens: dict[str, str], with_key: bool, posts: int) -> list[float]:
    """Seconds each of `posts` POSTs took, over 32 kept connections with users of their own."""
    left = posts
    took: list[float] = []
    body = b'{"title": "Buy milk", "description": "Two litres, and some bread"}'

    async def client(users: list[str]) -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        number = 0
        while left > 0:
            left, number = left - 1, number + 1
            user = users[number % len(users)]
            key = f"Idempotency-Key: {uuid4()}\r\n" if with_key else ""
            head = (
                f"POST /api/{user}/tasks HTTP/1.1\r\nHost: localhost:{PORT}\r\nAuthorization: Bearer {tokens[user]}\r\n"
                f"Origin: http://localhost:3000\r\nContent-Type: application/json\r\nAccept: */*\r\n{key}"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            began = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 201"), answer
            await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
            took.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*[client(list(tokens)[number::CONNECTIONS]) for number in range(CONNECTIONS)])
    return took


def serve(url: str) -> subprocess.Popen[bytes]:
    """As shipped, its access log included; without the rate limit, which this is not about."""
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "NEON_DATABASE_URL": url,
        "BETTER_AUTH_SECRET": SECRET,
        "ENVIRONMENT": "production",
        "RATE_LIMIT": "off",
    }
    command = [sys.executable, str(BACKEND / "cli.py"), "serve", "--port", str(PORT)]
    return subprocess.Popen(command, cwd=HERE, env=environment, stderr=subprocess.DEVNULL)


async def wait_until_up() -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit(f"nothing listens on port {PORT}")


def main(rounds: int = 7, writes: int = 4_000, posts: int = 5_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = embedded.start(Path(folder) / "postgres")
        server = None
        try:
            asyncio.run(migrate.upgrade(dsn.parse(database.url)))
            uvloop.run(measure_log(database.url, rounds, writes))
            server = serve(database.url)
            asyncio.run(wait_until_up())
            postmaster = psutil.Process(int((database.data_dir / "postmaster.pid").read_text().split()[0]))
            uvloop.run(measure_keys(psutil.Process(server.pid), postmaster, rounds, posts))
        finally:
            if server is not None:
                server.terminate()
                server.wait()
            database.stop()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
