"""Who is measured: how each is started, on a database of its own, and what its processes use."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import jwt
import psutil

from harness.load import HOST, ask

BENCHMARKS = Path(__file__).resolve().parent.parent
BACKEND = BENCHMARKS.parent / "backend"
BASELINE = BENCHMARKS / "baseline"
sys.path[:0] = [str(BACKEND), str(BENCHMARKS)]
from postgres import embedded  # noqa: E402  (the flat source root is beside this folder)
from postgres.embedded import cluster  # noqa: E402

import floor as floor_app  # noqa: E402

SECRET = "benchmark-secret-benchmark-secret-0123456789"  # noqa: S105  # of a throw-away server
START_SECONDS = 30.0
# PostgreSQL's own defaults, not the embedded one's for small machines; and VACUUM only when `quiet` says so.
SETTINGS = {"max_connections": "100", "shared_buffers": "128MB", "max_wal_size": "1GB", "autovacuum": "off"}


class Postgres:
    """A throw-away cluster with a database for each contender."""

    def __init__(self, server: embedded.Server) -> None:
        self.url = server.url
        self.process = psutil.Process(int((server.data_dir / "postmaster.pid").read_text().split()[0]))

    def url_of(self, database: str) -> str:
        return self.url.replace("/todo?", f"/{database}?")

    async def execute(self, database: str, *statements: str) -> None:
        connection = await asyncpg.connect(self.url_of(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def quiet(self, database: str) -> None:
        await self.execute(database, "VACUUM ANALYZE", "CHECKPOINT")


@contextmanager
def postgres() -> Iterator[Postgres]:
    cluster.SETTINGS.update(SETTINGS)
    with TemporaryDirectory(prefix="todo-benchmark-") as folder:
        server = embedded.start(Path(folder) / "postgres")
        try:
            yield Postgres(server)
        finally:
            server.stop()


class Contender:
    """A server of one worker, or of several, over a database of its own."""

    def __init__(self, name: str, command: list[str], folder: Path, database: str, url: str) -> None:
        self.name = name
        self.database = database
        self.command = command
        self.folder = folder
        self.url = url
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> float:
        """Seconds until a first request, one that needs the database, is answered."""
        environment = {
            **os.environ,
            "NEON_DATABASE_URL": self.url,
            "BETTER_AUTH_SECRET": SECRET,
            "ENVIRONMENT": "production",
            "RATE_LIMIT": "off",
        }
        began = time.perf_counter()
        # Logs are written, as in production, but to nowhere.
        self._process = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs yet
            [*self.command, "--port", str(self.port)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        first = request("GET", "nobody", "/api/nobody/tasks")
        while time.perf_counter() - began < START_SECONDS and self._process.poll() is None:
            try:
                status, _, _ = await ask(self.port, first)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.005)
                continue
            if status == 200:
                return time.perf_counter() - began
            raise SystemExit(f"{self.name}: the first answer was {status}")
        raise SystemExit(f"{self.name} did not start: {' '.join(self.command)}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def memory(self) -> float:
        """Megabytes resident."""
        return self.process.memory_info().rss / 1e6


def floor(database: Postgres) -> Contender:
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "floor:app", *options]
    return Contender("floor", command, BENCHMARKS, "floor", database.url_of("floor"))


def product(database: Postgres, over: str = "product", workers: int = 1) -> Contender:
    """As shipped, its access log included; without the rate limit, which this is not about."""
    command = [sys.executable, str(BACKEND / "cli.py"), "serve", "--host", HOST, "--workers", str(workers)]
    return Contender("product", command, BACKEND, over, database.url_of(over))


def baseline(database: Postgres) -> Contender:
    command = [str(_baseline_environment() / "bin" / "python"), "-m", "uvicorn", "main:app"]
    return Contender("baseline", command, BASELINE, "baseline", database.url_of("baseline"))


async def create_schema(database: Postgres, contender: Contender) -> None:
    """The floor's is written here; the others make theirs when they first start."""
    await database.execute("postgres", f"CREATE DATABASE {contender.database}")
    if contender.name == "floor":
        await database.execute(contender.database, floor_app.SCHEMA)
        return
    await contender.start()
    contender.stop()


def token(user: str) -> str:
    return jwt.encode({"sub": user}, SECRET, algorithm="HS256")


def request(method: str, user: str | None, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """As a browser's frontend would send it. `user` None: without a token."""
    bearer = f"Authorization: Bearer {token(user)}\r\n" if user else ""
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{bearer}{content}{headers}"
        "Origin: http://localhost:3000\r\nAccept: */*\r\nUser-Agent: benchmark\r\n\r\n"
    )
    return head.encode() + body


def cpu(process: psutil.Process) -> dict[int, int]:
    """Nanoseconds of a process and those below it, by thread. (The clock ticks of psutil are 10 ms long.)"""
    used = {}
    for one in [process, *process.children(recursive=True)]:
        for thread in Path(f"/proc/{one.pid}/task").iterdir():
            try:
                used[int(thread.name)] = int((thread / "schedstat").read_text().split()[0])
            except OSError:  # it has just ended
                continue
    return used


def spent(before: dict[int, int], after: dict[int, int]) -> float:
    """Microseconds between two readings."""
    return sum(now - before.get(thread, 0) for thread, now in after.items()) / 1e3


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _baseline_environment() -> Path:
    """The baseline's pinned versions, in an environment of their own outside this repository; made once."""
    pins = BASELINE / "requirements.txt"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    stamp = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / "todo-benchmarks" / f"baseline-{stamp}"
    if not (folder / "complete").exists():
        print("making the baseline's environment …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", "-r", pins], check=True)
        (folder / "complete").touch()
    return folder
