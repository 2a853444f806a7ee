"""What is asked of whom, what a good answer is, and how near to the floor the product has to come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from harness import data
from harness.contenders import Contender, request
from harness.load import ask

USERS = 320  # ten to a connection: nobody waits for a lock of somebody else's
READERS, WRITERS = ([data.user(kind, number) for number in range(USERS)] for kind in ("reader", "writer"))
HOARDER = data.user("hoarder", 0)
OWNED = {"reader": (USERS, 20), "writer": (USERS, 20), "hoarder": (1, 10_000)}  # how many there are, and their tasks
NEW_TASK = b'{"title": "Buy milk and bread", "description": "Two litres, and some bread"}'

BOTH = ("floor", "baseline")

Ids = dict[str, list[int]]
Requests = Callable[[Contender, Ids], Awaitable[list[bytes]]]


class Goal(NamedTuple):
    """The product's number ÷ another's: at most `must` and hopefully `aim`; at least, where more is better."""

    must: float
    aim: float | None = None
    more: bool = False

    def verdict(self, value: float) -> str:
        def met(limit: float) -> bool:
            return value >= limit if self.more else value <= limit

        if self.aim is not None and met(self.aim):
            return "aim met"
        return "met" if met(self.must) else "**not met**"


class Scenario(NamedTuple):
    name: str
    requests: Requests
    status: int
    good: Callable[[Any], bool]  # of the JSON answered
    against: tuple[str, ...] = BOTH
    cpu_floor: Goal | None = None
    cpu_baseline: Goal | None = None
    rate_baseline: Goal | None = None

    def status_of(self, contender: Contender) -> int:
        """The floor knows no 304: there, being asked is being answered."""
        return 200 if self.status == 304 and contender.name == "floor" else self.status


async def get_one(_: Contender, ids: Ids) -> list[bytes]:
    return [request("GET", user, f"/api/{user}/tasks/{ids[user][0]}") for user in READERS]


async def list_all(_: Contender, ids: Ids) -> list[bytes]:
    return [request("GET", user, f"/api/{user}/tasks") for user in READERS]


async def create(_: Contender, ids: Ids) -> list[bytes]:
    return [request("POST", user, f"/api/{user}/tasks", NEW_TASK) for user in WRITERS]


async def toggle(_: Contender, ids: Ids) -> list[bytes]:
    tasks = ((user, ids[user][number]) for number in range(20) for user in WRITERS)
    return [request("PATCH", user, f"/api/{user}/tasks/{id}/complete") for user, id in tasks]


async def without_token(_: Contender, ids: Ids) -> list[bytes]:
    return [request("GET", None, f"/api/{user}/tasks/{ids[user][0]}") for user in READERS]


async def page(contender: Contender, ids: Ids) -> list[bytes]:
    path = "tasks/page/50" if contender.name == "floor" else "tasks?limit=50"
    return [request("GET", HOARDER, f"/api/{HOARDER}/{path}")]


async def not_modified(contender: Contender, ids: Ids) -> list[bytes]:
    plain = await get_one(contender, ids)
    if contender.name == "floor":
        return plain
    etags = [(await ask(contender.port, one))[1]["etag"] for one in plain]
    return [one[:-2] + f"If-None-Match: {etag}\r\n\r\n".encode() for one, etag in zip(plain, etags, strict=True)]


async def feed(contender: Contender, ids: Ids) -> list[bytes]:
    path = f"changes/{HOARDER}/since/5000/50" if contender.name == "floor" else "changes?since=5000&limit=50"
    return [request("GET", HOARDER, f"/v1/{path}")]


def one_task(body: Any) -> bool:
    return {"id", "user_id", "title", "description", "completed", "created_at", "updated_at"} <= body["data"].keys()


def fifty_changes(body: Any) -> bool:
    return len(body["data"]) == 50 and all("title" in change["fields"] for change in body["data"])


def tasks(number: int) -> Callable[[Any], bool]:
    return lambda body: len(body["data"]) == number and all(one_task({"data": task}) for task in body["data"])


def more(must: float, aim: float | None = None) -> Goal:
    return Goal(must, aim, more=True)


SCENARIOS = (
    Scenario("get one", get_one, 200, one_task, BOTH, Goal(2.2, 1.5), Goal(0.12), more(10, 14)),
    Scenario("list 20", list_all, 200, tasks(20), BOTH, Goal(1.5, 1.1), Goal(0.14), more(9, 12)),
    Scenario("create", create, 201, one_task, BOTH, Goal(1.9, 1.4), Goal(0.12), more(9, 12)),
    Scenario("toggle", toggle, 200, one_task, BOTH, Goal(2.0, 1.4), Goal(0.12), more(10, 13)),
    Scenario("401 without token", without_token, 401, lambda body: "data" not in body, cpu_floor=Goal(2.2, 1.6)),
    Scenario("page of 50 in 10,000", page, 200, tasks(50), ("floor",), Goal(1.6, 1.2)),
    Scenario("get one, answered 304", not_modified, 304, lambda body: body is None, ("floor",)),
    Scenario("activity feed of 50", feed, 200, fifty_changes, ("floor",)),
)
