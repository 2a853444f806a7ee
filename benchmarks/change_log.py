"""What the change log costs a write, and an `Idempotency-Key` a POST: each with and without, round by round.

.venv/bin/python benchmarks/change_log.py [rounds] [writes] [posts]
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import jwt
import psutil
import uvloop

HERE = Path(__file__).resolve().parent
BACKEND = HERE.parent / "backend"
sys.path.insert(0, str(BACKEND))
from postgres import dsn  # noqa: E402  (the flat source root is beside this folder)
from postgres import embedded  # noqa: E402
from postgres import migrate  # noqa: E402
import storage  # noqa: E402
from entities import TASK  # noqa: E402

USERS = [f"user-{number}" for number in range(50)]
SECRET = "benchmark-secret-benchmark-secret-0123456789"
PORT = 8233
CONNECTIONS = 32
CALLERS = 320  # users of the second table, ten to a connection: nobody waits for a lock of somebody else's
WARM_UP = 200

# The writer without the log: it takes a number all the same, because that is the version, but notes no change.
UNLOGGED, LEFT_OUT = re.subn(r"INSERT INTO changes \(.*?\n *\);\n", "", storage.TEXT, flags=re.DOTALL)
assert LEFT_OUT >= 3  # of a creation, a change and a purge
UNLOGGED = UNLOGGED.replace("CREATE FUNCTION store(", "CREATE FUNCTION store_unlogged(")

STATEMENTS = {"with log": storage.CALL, "without": storage.CALL.replace(storage.STORE.name, "store_unlogged")}

Write = Callable[[str, int], Awaitable[object]]


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
    owner = await asyncpg.connect(url)
    await owner.execute(UNLOGGED)
    session = await asyncpg.connect(url, server_settings={"role": migrate.ROLE, "jit": "off"})
    process = psutil.Process(session.get_server_pid())
    costs: dict[tuple[str, str], list[tuple[float, float]]] = {
        (operation, variant): [] for operation in ("create", "toggle") for variant in STATEMENTS
    }
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


async def writer(session: asyncpg.Connection, operation: str, variant: str) -> Write:
    """Writes as tasks.create and tasks.complete do, on tasks of this variant's own."""
    statement = await session.prepare(STATEMENTS[variant])

    def store(user: str, edit: storage.Edit) -> Awaitable[list[asyncpg.Record]]:
        group = storage.new_group()
        return statement.fetch(user, "user", user, group, storage.to_json([edit]), False, True)

    if operation == "create":
        fields = {"title": "Buy milk", "description": "Two litres, and some bread"}
        return lambda user, _: store(user, storage.create(TASK, fields))
    ids: dict[str, list[int]] = {}
    for user in USERS:
        for _ in range(20):
            [(_, item)] = await store(user, storage.create(TASK, {"title": "Buy milk"}))
            ids.setdefault(user, []).append(json.loads(item)["id"])
    return lambda user, number: store(user, storage.toggle(TASK, ids[user][number // len(USERS) % 20]))


async def cost(write: Write, process: psutil.Process, writes: int) -> tuple[float, float]:
    """Microseconds of one write: on the clock, and of the processor in the connection's own backend."""
    for number in range(WARM_UP):
        await write(USERS[number % len(USERS)], number)
    used, began = cpu_seconds([process]), time.perf_counter()
    for number in range(writes):
        await write(USERS[number % len(USERS)], number)
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
