"""What reading one task costs: CPU of server and database per request, the product against the floor, round by round.

    .venv/bin/python benchmarks/get_one.py [rounds] [requests]
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jwt
import psutil
import uvloop

HERE = Path(__file__).resolve().parent
BACKEND = HERE.parent / "backend"
sys.path.insert(0, str(BACKEND))
import embedded  # noqa: E402  (the flat source root is beside this folder)

CONNECTIONS = 32
SECRET = "benchmark-secret-benchmark-secret-0123456789"
PORTS = {"floor": 8231, "product": 8232}


async def load(port: int, path: str, headers: str, requests: int) -> list[float]:
    """Seconds each of `requests` GETs took, over 32 kept connections."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n".encode()
    left = requests
    took: list[float] = []

    async def client() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left > 0:
            left -= 1
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
            took.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*[client() for _ in range(CONNECTIONS)])
    return took


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(p.cpu_times().user + p.cpu_times().system for p in processes)


def backends(postmaster: psutil.Process) -> list[psutil.Process]:
    return [postmaster, *postmaster.children(recursive=True)]


def serve(name: str, url: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "NEON_DATABASE_URL": url,
        "BETTER_AUTH_SECRET": SECRET,
        "ENVIRONMENT": "production",
        "RATE_LIMIT": "off",
    }
    floor = ["-m", "uvicorn", "floor:app", "--port", str(PORTS[name]), "--no-access-log", "--log-level", "warning"]
    product = [str(BACKEND / "cli.py"), "serve", "--port", str(PORTS[name])]  # as shipped, its access log included
    command = [sys.executable, *(product if name == "product" else floor)]
    return subprocess.Popen(command, cwd=HERE, env=environment, stderr=subprocess.DEVNULL)


async def measure(rounds: int, requests: int, postmaster: psutil.Process, servers: dict[str, psutil.Process]) -> None:
    token = jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256")
    headers = f"Authorization: Bearer {token}\r\nOrigin: http://localhost:3000\r\nAccept: */*\r\nUser-Agent: benchmark\r\n"
    ratios = []
    for number in range(rounds):
        cost = {}
        for name, server in servers.items():
            await load(PORTS[name], "/api/ada/tasks/1", headers, 500)
            own, database = cpu_seconds([server]), cpu_seconds(backends(postmaster))
            began = time.perf_counter()
            took = await load(PORTS[name], "/api/ada/tasks/1", headers, requests)
            seconds = time.perf_counter() - began
            own, database = cpu_seconds([server]) - own, cpu_seconds(backends(postmaster)) - database
            cost[name] = (own + database) / requests * 1e6
            print(
                f"round {number + 1} {name:8} {requests / seconds:6.0f}/s  cpu {cost[name]:4.0f} µs "
                f"(server {own / requests * 1e6:4.0f}, database {database / requests * 1e6:4.0f})  "
                f"p99 {statistics.quantiles(took, n=100)[98] * 1e3:.1f} ms"
            )
        ratios.append(cost["product"] / cost["floor"])
    print(f"product ÷ floor: median {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")


def main(rounds: int = 5, requests: int = 10_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = embedded.start(Path(folder) / "postgres")
        servers = {}
        try:
            servers["product"] = serve("product", database.url)
            asyncio.run(wait_until_up(PORTS["product"]))
            asyncio.run(insert(database.url))
            servers["floor"] = serve("floor", database.url)
            asyncio.run(wait_until_up(PORTS["floor"]))
            postmaster = psutil.Process(int((database.data_dir / "postmaster.pid").read_text().split()[0]))
            watched = {name: psutil.Process(server.pid) for name, server in servers.items()}
            uvloop.run(measure(rounds, requests, postmaster, watched))
        finally:
            for server in servers.values():
                server.terminate()
                server.wait()
            database.stop()


async def insert(url: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO tasks (user_id, title) SELECT 'ada', 'Buy milk ' || n FROM generate_series(1, 1000) n")
    await connection.execute("VACUUM ANALYZE tasks")
    await connection.close()


async def wait_until_up(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit(f"nothing listens on port {port}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
