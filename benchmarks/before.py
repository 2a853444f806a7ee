"""What each operation costs now ÷ what it cost in another checkout, such as the commit before; prints a table.

git worktree add /tmp/before HEAD~1
.venv/bin/python benchmarks/before.py /tmp/before [--rounds 7] [--only create]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import uvloop

from harness import contenders, data
from harness.contenders import Contender, Postgres, request
from harness.cost import measure
from harness.load import HOST, Load
from harness.report import spread, table
from harness.scenarios import OWNED, SCENARIOS, WRITERS, Ids, Scenario, one_task

SECONDS = 2.0


async def rename(_: Contender, ids: Ids) -> list[bytes]:
    tasks = ((user, ids[user][number]) for number in range(20) for user in WRITERS)
    body = b'{"title": "Buy oat milk"}'
    return [request("PUT", user, f"/api/{user}/tasks/{id}", body) for user, id in tasks]


ASKED = [
    *(one for one in SCENARIOS if one.name in ("get one", "list 20", "create", "toggle")),
    Scenario("rename", rename, 200, one_task),
]


def before(database: Postgres, checkout: Path) -> Contender:
    backend = checkout.resolve() / "backend"
    command = [sys.executable, str(backend / "cli.py"), "serve", "--host", HOST, "--workers", "1"]
    return Contender("before", command, backend, "before", database.url_of("before"))


async def main(checkout: Path, rounds: int, only: str) -> None:
    with contenders.postgres() as database:
        both = [before(database, checkout), contenders.product(database)]
        for one in both:
            await contenders.create_schema(database, one)
            await data.fill(one.url, OWNED, versions=True, changes=True)
            await one.start()
        costs = defaultdict(list)
        for _ in range(rounds):
            for scenario in ASKED:
                for one in both if only in scenario.name else ():
                    load = Load(await scenario.requests(one, await data.task_ids(one.url)), scenario.status)
                    costs[scenario.name, one.name].append(await measure(load, one, database, SECONDS))
        for one in both:
            one.stop()
    rows = []
    for name in dict.fromkeys(name for name, _ in costs):
        pairs = list(zip(costs[name, "before"], costs[name, "product"], strict=True))
        means = [statistics.median(getattr(pair[n], part) for pair in pairs) for n in (0, 1) for part in ("server", "database")]
        rows.append([name, spread([now.cpu / then.cpu for then, now in pairs]), *(f"{mean:.0f}" for mean in means)])
    print(table(["", "CPU now ÷ before", "server before", "database before", "server now", "database now"], rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    uvloop.run(main(asked.checkout, asked.rounds, asked.only))
