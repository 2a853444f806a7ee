"""What grows with the data and what does not: rows in the table, pages, long lists, workers; writes RESULTS.md.

.venv/bin/python benchmarks/growth.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from harness import contenders, data, report
from harness.contenders import Contender, Postgres, cpu, request, spent
from harness.cost import Cost, measure
from harness.load import HOST, Load, ask
from harness.report import spread, table
from harness.scenarios import NEW_TASK, USERS, Goal

TASKS_EACH = 20
FEW, MANY = 100_000, 1_000_000  # rows of the two tables
LISTS = (20, 100, 1_000, 10_000, 100_000)
LAST_PAGE, PAGE = 200, 50
PROBE_EVERY_SECONDS = 0.01

ROWS_GOAL, PAGES_GOAL, MEMORY_GOAL, OTHERS_GOAL = Goal(1.1), Goal(1.1), Goal(1.5), Goal(3)


class Listed(NamedTuple):
    """One long answer, read by a process of its own."""

    seconds: float
    first_byte_seconds: float
    size: int


async def fill(database: Postgres, contender: Contender, rows: int, lists: bool) -> None:
    await contenders.create_schema(database, contender)
    owned = {"reader": (rows // TASKS_EACH, TASKS_EACH)}
    if lists:
        owned |= {f"list-of-{number}-": (1, number) for number in LISTS} | {"pages": (1, (LAST_PAGE + 1) * PAGE)}
    await data.fill(contender.url, owned, versions=True, changes=False)


# --- rows, pages, workers: rounds of load, one contender or path after the other ---


async def rounds_of(
    loads: dict[Any, tuple[Contender, list[bytes], int]], database: Postgres, rounds: int, seconds: float
) -> dict[Any, list[Cost]]:
    costs: dict[Any, list[Cost]] = defaultdict(list)
    for number in range(rounds):
        for key in list(loads)[:: -1 if number % 2 else 1]:
            contender, requests, status = loads[key]
            cost = await measure(Load(requests, status), contender, database, seconds)
            costs[key].append(cost)
            print(f"round {number + 1} {' '.join(map(str, key)):22} {cost}", flush=True)
    return costs


def readers(rows: int) -> list[str]:
    """As many as in compare.py, from all over the table."""
    users = rows // TASKS_EACH
    return [data.user("reader", number * users // USERS) for number in range(USERS)]


async def reads(contender: Contender, rows: int) -> dict[str, list[bytes]]:
    ids, users = await data.task_ids(contender.url), readers(rows)
    return {
        "get one": [request("GET", user, f"/api/{user}/tasks/{ids[user][0]}") for user in users],
        "list 20": [request("GET", user, f"/api/{user}/tasks") for user in users],
    }


async def page_requests(contender: Contender) -> dict[str, list[bytes]]:
    user, cursor = data.user("pages", 0), ""
    for _ in range(LAST_PAGE):
        path = f"/api/{user}/tasks?limit={PAGE}{cursor}"
        _, _, body = await ask(contender.port, request("GET", user, path))
        last, cursor = path, f"&cursor={json.loads(body)['next_cursor']}"
    first = f"/api/{user}/tasks?limit={PAGE}"
    return {"page 1": [request("GET", user, first)], f"page {LAST_PAGE}": [request("GET", user, last)]}


def ratio(costs: dict[Any, list[Cost]], one: Any, other: Any, number: str = "cpu") -> list[float]:
    return [getattr(a, number) / getattr(b, number) for a, b in zip(costs[one], costs[other], strict=True)]


# --- lists: one reader in a process of its own, and somebody else who asks for one task meanwhile ---


def read_list(port: int, asked: bytes) -> Listed:
    began, size, first = time.perf_counter(), 0, 0.0
    with socket.create_connection((HOST, port)) as connection:
        connection.sendall(asked)
        while data := connection.recv(1 << 20):
            first = first or time.perf_counter() - began
            size += len(data)
    return Listed(time.perf_counter() - began, first, size)


def list_request(number: int) -> bytes:
    user = data.user(f"list-of-{number}-", 0)
    return request("GET", user, f"/api/{user}/tasks", headers="Connection: close\r\n")


async def measure_lists(
    contender: Contender, database: Postgres, reader: ProcessPoolExecutor, times: int
) -> dict[int, tuple[list[Listed], float, float, float]]:
    """By length: the readings, CPU µs per list of server and database, and megabytes that the first one took."""
    loop = asyncio.get_running_loop()
    found = {}
    for number in LISTS:
        contender.stop()
        await contender.start()
        asked = list_request(number)
        await loop.run_in_executor(reader, read_list, contender.port, list_request(LISTS[0]))
        rest = contender.memory
        forget_peak(contender)
        listed = [await loop.run_in_executor(reader, read_list, contender.port, asked)]
        grown = peak_memory(contender) - rest
        own, theirs = cpu(contender.process), cpu(database.process)
        listed += [await loop.run_in_executor(reader, read_list, contender.port, asked) for _ in range(times)]
        costs = spent(own, cpu(contender.process)) / times, spent(theirs, cpu(database.process)) / times
        found[number] = (listed[1:], *costs, grown)
        print(
            f"list of {number:7} {listed[-1]} CPU µs {costs[0]:.0f} + {costs[1]:.0f}, {grown:.1f} MB more", flush=True
        )
    return found


async def others(
    contender: Contender, asked: bytes, reader: ProcessPoolExecutor, rounds: int, seconds: float
) -> list[tuple[float, float]]:
    """By round, p99 in ms of somebody else's reads: alone, and while the longest list goes out again and again."""
    loop = asyncio.get_running_loop()
    found = []
    for number in range(rounds):
        alone = await paced(contender.port, asked, seconds)
        ending = loop.time() + seconds

        async def lists(ending: float = ending) -> None:
            while loop.time() < ending:
                await loop.run_in_executor(reader, read_list, contender.port, list_request(LISTS[-1]))

        going = asyncio.create_task(lists())
        meanwhile = await paced(contender.port, asked, seconds)
        await going
        found.append((p99(alone), p99(meanwhile)))
        print(
            f"round {number + 1} p99 of others: {found[-1][0]:.1f} ms alone, {found[-1][1]:.1f} meanwhile", flush=True
        )
    return found


async def paced(port: int, asked: bytes, seconds: float) -> list[float]:
    """Seconds from when each request was due, one every PROBE_EVERY_SECONDS, until its answer had come."""
    reader, writer = await asyncio.open_connection(HOST, port)
    took, due = [], time.perf_counter()
    ending = due + seconds
    while due < ending:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        took.append(time.perf_counter() - due)
        due += PROBE_EVERY_SECONDS
    writer.close()
    return took


def p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)] * 1e3


def forget_peak(contender: Contender) -> None:
    Path(f"/proc/{contender.process.pid}/clear_refs").write_text("5")


def peak_memory(contender: Contender) -> float:
    status = Path(f"/proc/{contender.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


# --- all of it ---


async def run(database: Postgres, started: list[Contender], rounds: int, seconds: float) -> list[str]:
    few, many = contenders.product(database, "few"), contenders.product(database, "many")
    two = contenders.product(database, "few", workers=2)
    started += [few, many, two]
    await fill(database, few, FEW, lists=True)
    await fill(database, many, MANY, lists=False)
    await few.start()
    await many.start()
    by_rows = {FEW: (few, await reads(few, FEW)), MANY: (many, await reads(many, MANY))}
    loads = {
        (name, f"{rows:,}"): (contender, requests[name], 200)
        for name in ("get one", "list 20")
        for rows, (contender, requests) in by_rows.items()
    }
    loads |= {(name,): (few, requests, 200) for name, requests in (await page_requests(few)).items()}
    costs = await rounds_of(loads, database, rounds, seconds)
    many.stop()

    await two.start()
    writers = [data.user("writer", number) for number in range(USERS)]
    asked = {name: (requests, 200) for name, requests in by_rows[FEW][1].items()}
    asked["create"] = ([request("POST", user, f"/api/{user}/tasks", NEW_TASK) for user in writers], 201)
    by_workers = await rounds_of(
        {
            (name, workers): (contender, *what)
            for name, what in asked.items()
            for workers, contender in ((1, few), (2, two))
        },
        database,
        rounds,
        seconds,
    )
    two.stop()

    await database.quiet("few")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as reader:
        lists = await measure_lists(few, database, reader, times=rounds)
        waits = await others(few, by_rows[FEW][1]["get one"][0], reader, rounds, max(seconds, 2.0))
    return [
        goals(costs, lists, waits),
        "CPU per request is of server and database, in µs:",
        costs_table(costs),
        "Lists of one user, read one after the other by another process:",
        lists_table(lists),
        "Two workers against one; the load and PostgreSQL share the cores with them:",
        workers_table(by_workers),
    ]


def goals(costs: dict[Any, list[Cost]], lists: dict[int, Any], waits: list[tuple[float, float]]) -> str:
    listed, _, _, grown = lists[LISTS[-1]]
    rows = [
        (
            f"{name}: CPU with {MANY:,} rows ÷ with {FEW:,}",
            ratio(costs, (name, f"{MANY:,}"), (name, f"{FEW:,}")),
            ROWS_GOAL,
        )
        for name in ("get one", "list 20")
    ]
    rows += [
        (f"page {LAST_PAGE} of {PAGE}: CPU ÷ page 1", ratio(costs, (f"page {LAST_PAGE}",), ("page 1",)), PAGES_GOAL),
        (f"list of {LISTS[-1]:,}: growth of memory ÷ its size", [grown / (listed[-1].size / 1e6)], MEMORY_GOAL),
        ("others' p99 meanwhile ÷ alone", [meanwhile / alone for alone, meanwhile in waits], OTHERS_GOAL),
    ]
    alone, meanwhile = ([wait[index] for wait in waits] for index in (0, 1))
    return table(
        ["", "", "must", ""],
        [
            [name, spread(values), f"≤ {goal.must:g}", goal.verdict(statistics.median(values))]
            for name, values, goal in rows
        ],
    ) + (
        f"\n\nSomebody else's get one, every {PROBE_EVERY_SECONDS * 1e3:g} ms: p99 {spread(alone, 1)} ms alone, "
        f"{spread(meanwhile, 1)} ms while lists of {LISTS[-1]:,} go out one after the other."
    )


def costs_table(costs: dict[Any, list[Cost]]) -> str:
    return table(
        ["", "rows", "CPU", "of the server", "of the database", "p99 ms"],
        [
            [
                key[0],
                key[1] if len(key) > 1 else f"{FEW:,}",
                *(spread([getattr(cost, number) for cost in found], 0) for number in ("cpu", "server", "database")),
                spread([cost.p99_ms for cost in found], 1),
            ]
            for key, found in costs.items()
        ],
    )


def lists_table(lists: dict[int, Any]) -> str:
    return table(
        ["tasks", "MB", "ms", "ms to the first byte", "CPU µs of the server", "of the database", "a task", "MB more"],
        [
            [
                f"{number:,}",
                f"{listed[0].size / 1e6:,.3f}",
                spread([one.seconds * 1e3 for one in listed], 1),
                spread([one.first_byte_seconds * 1e3 for one in listed], 1),
                f"{server:,.0f}",
                f"{theirs:,.0f}",
                f"{(server + theirs) / number:,.1f}",
                f"{grown:.1f}",
            ]
            for number, (listed, server, theirs, grown) in lists.items()
        ],
    )


def workers_table(costs: dict[Any, list[Cost]]) -> str:
    return table(
        ["", "requests/s of one", "of two", "two ÷ one", "CPU µs of one", "of two"],
        [
            [
                name,
                *(spread([cost.rate for cost in costs[name, workers]], 0) for workers in (1, 2)),
                spread(ratio(costs, (name, 2), (name, 1), "rate")),
                *(spread([cost.cpu for cost in costs[name, workers]], 0) for workers in (1, 2)),
            ]
            for name in dict.fromkeys(key[0] for key in costs)
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load, for each measurement of a round (3)")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 second")
    options = parser.parse_args()
    rounds, seconds = (2, 1.0) if options.quick else (options.rounds, options.seconds)
    how = f"{report.machine()} {rounds} rounds of {seconds:g} s{' (a quick run)' if options.quick else ''}."
    started: list[Contender] = []
    with contenders.postgres() as database:
        try:
            parts = uvloop.run(run(database, started, rounds, seconds))
        finally:
            for contender in started:
                contender.stop()
    result = "\n\n".join([how, *parts])
    print(result)
    report.write("Growth", result)


if __name__ == "__main__":
    main()
