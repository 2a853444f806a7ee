"""What the product costs beside the floor and beside a typical FastAPI + SQLModel stack; writes RESULTS.md.

.venv/bin/python benchmarks/compare.py [--quick] [--no-baseline] [--rounds N] [--seconds S] [--only SCENARIO]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
from collections import defaultdict
from typing import NamedTuple

import uvloop

from harness import contenders, data, report
from harness.contenders import Contender, Postgres
from harness.cost import Cost, measure
from harness.load import CONNECTIONS, Load, ask
from harness.report import spread, table
from harness.scenarios import OWNED, SCENARIOS, Goal, Scenario

STARTS = 5
REST_SECONDS = 1.0
MOST_MS = Goal(25)  # p99 of get one
MOST_MB_AT_REST, MOST_MB_AFTER = Goal(75), Goal(120)
MOST_START_SECONDS = Goal(1)


class Footprint(NamedTuple):
    starts: list[float]
    at_rest: float
    after: float


Costs = dict[tuple[str, str], list[Cost]]  # by scenario and contender, one for each round


async def measure_all(
    scenarios: list[Scenario], all_contenders: list[Contender], database: Postgres, rounds: int, seconds: float
) -> tuple[Costs, dict[str, Footprint]]:
    starts, at_rest = await prepare(all_contenders, database, min(STARTS, rounds))
    requests = {}
    for contender in all_contenders:
        ids = await data.task_ids(contender.url)
        for scenario in scenarios:
            if contender.name in ("product", *scenario.against):
                asked = requests[scenario.name, contender.name] = await scenario.requests(contender, ids)
                await check(scenario, contender, asked[0])
    costs: Costs = defaultdict(list)
    gc.freeze()
    for number in range(rounds):
        for scenario in scenarios:
            takes_part = [one for one in all_contenders if (scenario.name, one.name) in requests]
            for contender in takes_part[:: -1 if number % 2 else 1]:
                load = Load(requests[scenario.name, contender.name], scenario.status_of(contender))
                cost = await measure(load, contender, database, seconds)
                costs[scenario.name, contender.name].append(cost)
                print(f"round {number + 1} {scenario.name:22} {contender.name:9} {cost}", flush=True)
    await asyncio.sleep(REST_SECONDS)
    return costs, {one.name: Footprint(starts[one.name], at_rest[one.name], one.memory) for one in all_contenders}


async def prepare(
    all_contenders: list[Contender], database: Postgres, times: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Fill the databases, then start everybody several times; the last one stays. Seconds, and megabytes at rest."""
    for contender in all_contenders:
        await contenders.create_schema(database, contender)
        is_baseline, is_product = contender.name == "baseline", contender.name == "product"
        await data.fill(contender.url, OWNED, versions=is_product, changes=not is_baseline)
    starts = defaultdict(list)
    for _ in range(times):
        for contender in all_contenders:
            contender.stop()
            starts[contender.name].append(await contender.start())
    await asyncio.sleep(REST_SECONDS)
    return starts, {contender.name: contender.memory for contender in all_contenders}


async def check(scenario: Scenario, contender: Contender, request: bytes) -> None:
    status, _, body = await ask(contender.port, request)
    if status != scenario.status_of(contender) or not (
        status == 200 != scenario.status or scenario.good(json.loads(body) if body else None)
    ):
        raise SystemExit(f"{scenario.name}: the {contender.name} answered {status} {body[:500]!r}")


# --- the report ---


def ratios(costs: Costs, scenario: Scenario, other: str, number: str) -> list[float]:
    """The product's `number` ÷ another's, round by round."""
    return [
        getattr(mine, number) / getattr(its, number)
        for mine, its in zip(costs[scenario.name, "product"], costs.get((scenario.name, other), ()), strict=False)
    ]


def goal_cells(goal: Goal | None, values: list[float]) -> list[str]:
    if not values:
        return ["", ""]
    if goal is None:
        return [spread(values), ""]
    sign = "≥" if goal.more else "≤"
    wanted = f"{sign} {goal.must:g}" + (f", aim {goal.aim:g}" if goal.aim else "")
    return [spread(values), f"{wanted}: {goal.verdict(statistics.median(values))}"]


def text(scenarios: list[Scenario], costs: Costs, footprints: dict[str, Footprint], how: str) -> str:
    against = table(
        ["scenario", "CPU ÷ floor", "must, aim", "CPU ÷ baseline", "must", "requests/s × baseline", "must, aim"],
        [
            [
                scenario.name,
                *goal_cells(scenario.cpu_floor, ratios(costs, scenario, "floor", "cpu")),
                *goal_cells(scenario.cpu_baseline, ratios(costs, scenario, "baseline", "cpu")),
                *goal_cells(scenario.rate_baseline, ratios(costs, scenario, "baseline", "rate")),
            ]
            for scenario in scenarios
        ],
    )
    figures = table(
        ["scenario", "", "requests/s", "p50 ms", "p99 ms", "CPU µs", "of the server", "of the database"],
        [
            [
                name,
                contender,
                spread([cost.rate for cost in found], 0),
                *(spread([getattr(cost, number) for cost in found], 1) for number in ("p50_ms", "p99_ms")),
                *(spread([getattr(cost, number) for cost in found], 0) for number in ("cpu", "server", "database")),
            ]
            for (name, contender), found in costs.items()
        ],
    )
    sizes = table(
        ["", "start s", "MB at rest", "MB after the load"],
        [
            [name, spread(footprint.starts), f"{footprint.at_rest:.0f}", f"{footprint.after:.0f}"]
            for name, footprint in footprints.items()
        ],
    )
    own = footprints["product"]
    limits = [
        ("start to the first answer, schema in place", "s", MOST_START_SECONDS, statistics.median(own.starts)),
        ("memory of one worker at rest", "MB", MOST_MB_AT_REST, own.at_rest),
        ("memory of one worker after the load", "MB", MOST_MB_AFTER, own.after),
    ]
    if found := costs.get(("get one", "product")):
        limits.append(("p99 of get one", "ms", MOST_MS, statistics.median(cost.p99_ms for cost in found)))
    within = table(
        ["the product's", "", "must", ""],
        [[name, f"{value:.2f} {unit}", f"≤ {goal.must:g}", goal.verdict(value)] for name, unit, goal, value in limits],
    )
    return "\n\n".join([how, against, within, "Medians (min–max) of the rounds:", figures, sizes])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of load, for a scenario and contender in a round (3)"
    )
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 second")
    parser.add_argument("--no-baseline", action="store_true", help="leave the baseline out")
    parser.add_argument("--only", metavar="SCENARIO", action="append", help="only these; RESULTS.md stays as it is")
    options = parser.parse_args()
    rounds, seconds = (2, 1.0) if options.quick else (options.rounds, options.seconds)
    scenarios = [scenario for scenario in SCENARIOS if not options.only or scenario.name in options.only]
    if not scenarios:
        parser.error(f"--only takes one of: {', '.join(scenario.name for scenario in SCENARIOS)}")
    how = (
        f"{report.machine()} One worker each, {CONNECTIONS} connections, {rounds} interleaved rounds of {seconds:g} s"
        f"{' (a quick run: read the ratios)' if options.quick else ''}; CPU per request is of server and database. "
        "Ratios are taken round by round: median (min–max). VACUUM runs between the rounds, not in them."
    )
    with contenders.postgres() as database:
        taking_part = [contenders.product(database), contenders.floor(database)]
        if not options.no_baseline:
            taking_part.append(contenders.baseline(database))
        try:
            costs, footprints = uvloop.run(measure_all(scenarios, taking_part, database, rounds, seconds))
        finally:
            for contender in taking_part:
                contender.stop()
    result = text(scenarios, costs, footprints, how)
    print(result)
    if not options.only and not options.no_baseline:
        report.write("The product, the floor, the baseline", result)


if __name__ == "__main__":
    main()
