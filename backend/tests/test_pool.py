"""The pool loses no session and no caller, whatever is cut, cancelled or late."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from errors import NotFound, Unavailable
from postgres import dsn, embedded, pool, sessions
from tests.conftest import sql

SIZE = 4
STRESS_SECONDS = 3.0
TASKS = 200

Test = Callable[[pool.Pool], Awaitable[None]]


@pytest.fixture(scope="module")
def url(cluster: embedded.Server) -> str:
    """A database without the application's tables: these statements need none."""
    sql(cluster.url, "CREATE DATABASE pool")
    return cluster.url.replace("/todo?", "/pool?")


@pytest.fixture(params=["direct", "pooled"])
def on_a_pool(request: pytest.FixtureRequest, url: str) -> Callable[[Test], None]:
    """Runs a coroutine function on a pool of SIZE, one way and the other, then looks for what is
    left."""

    def run(test: Test) -> None:
        address = dsn.parse(url, pooled=request.param == "pooled")

        async def body() -> None:
            loop_errors: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: loop_errors.append(context)
            )
            on = pool.Pool(address, role=None, size=SIZE)
            try:
                await test(on)
                await all_places_work(on)
            finally:
                await on.close()
            await asyncio.sleep(0)
            assert (on._open, on._idle, list(on._waiting)) == (0, [], [])
            assert loop_errors == []
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(body())
        assert open_sessions(url) == []

    return run


def open_sessions(url: str) -> list[str]:
    """What runs in the database for a pool, once sessions that were told to leave have left."""
    deadline = time.monotonic() + 2
    query = "SELECT query FROM pg_stat_activity WHERE datname = 'pool' AND application_name = 'todo-api'"
    while (found := [row["query"] for row in sql(url, query)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


async def settled(on: pool.Pool) -> None:
    while coming_and_going := on._connecting | on._closing:
        await asyncio.wait(coming_and_going)


async def all_places_work(on: pool.Pool) -> None:
    """Each of the SIZE places can be had at once; no caller waits; nothing is counted that is not
    there."""
    await settled(on)
    assert not on._waiting
    pids = await asyncio.gather(
        *(on.read("SELECT pg_backend_pid() AS pid FROM pg_sleep(0.3)") for _ in range(SIZE))
    )
    assert len({rows[0]["pid"] for rows in pids}) == SIZE
    assert (on._open, len(on._idle), len(on._waiting)) == (SIZE, SIZE, 0)


async def outcome(work: Coroutine[Any, Any, Any]) -> str:
    try:
        await work
    except (Unavailable, asyncio.CancelledError) as error:
        return type(error).__name__
    return "answered"


def test_nothing_is_lost_under_cancellations_time_outs_and_cuts(
    on_a_pool: Callable[[Test], None],
) -> None:
    async def stress(on: pool.Pool) -> None:
        dice = random.Random(20261123)
        until = time.monotonic() + STRESS_SECONDS / 2  # each of the two ways
        ends: Counter[str] = Counter()

        async def once() -> None:
            kind = dice.choice(["quick", "quick", "slow", "late", "wrong", "cut", "together"])
            if kind == "late":
                await on.read("SELECT pg_sleep(5)", seconds=0.02)
            elif kind == "slow":
                await on.write("SELECT pg_sleep($1)", dice.random() / 50)
            elif kind == "cut" and dice.random() < 0.1:
                await on.write("SELECT pg_terminate_backend(pg_backend_pid())")
            elif kind == "together":
                assert await on.transaction(twice) == ["same", "same"]
            elif kind == "wrong":
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await on.write("SELECT 1 / $1::int", 0)
            else:
                assert [row["word"] for row in await on.read("SELECT $1::text AS word", kind)] == [
                    kind
                ]

        async def twice(begun: pool.Transaction) -> list[str]:
            sent = [
                await begun.read("SELECT $1::text AS word FROM pg_sleep(0.002)", "same")
                for _ in range(2)
            ]
            return [rows[0]["word"] for rows in sent]

        async def caller() -> None:
            while time.monotonic() < until:
                task = asyncio.create_task(outcome(once()))
                if dice.random() < 0.4:
                    await asyncio.sleep(dice.random() / 30)
                    task.cancel()
                ends[await task] += 1

        await asyncio.gather(*(caller() for _ in range(TASKS)))
        assert set(ends) == {"answered", "CancelledError", "Unavailable"}

    on_a_pool(stress)


def test_a_session_handed_to_a_caller_cancelled_in_that_moment_goes_back(
    on_a_pool: Callable[[Test], None],
) -> None:
    async def hand_over(on: pool.Pool) -> None:
        await all_places_work(on)
        held = [on._free() for _ in range(SIZE)]
        waiting = asyncio.create_task(on.read("SELECT 1"))
        await asyncio.sleep(0.01)
        for session in held:
            assert session is not None
            on._give_back(session)  # the first one to the caller, who has not run yet
        waiting.cancel()
        assert await outcome(waiting) == "CancelledError"  # type: ignore[arg-type]  # a task can be awaited too

    on_a_pool(hand_over)


def test_a_time_out_in_the_moment_of_the_hand_over_loses_nothing(
    on_a_pool: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hand_over(on: pool.Pool) -> None:
        await all_places_work(on)
        monkeypatch.setattr(pool, "WAIT_SECONDS", 0.05)
        held = [on._free() for _ in range(SIZE)]
        waiting = asyncio.create_task(outcome(on.read("SELECT 1")))
        await asyncio.sleep(0.02)
        loop = asyncio.get_running_loop()
        late = loop.time() + 0.05
        while (
            loop.time() < late
        ):  # the loop stands still, so that the time-out is due before the caller runs
            pass
        for session in held:
            assert session is not None
            on._give_back(session)
        assert await waiting in ("Unavailable", "answered")

    on_a_pool(hand_over)


def test_who_came_first_is_served_first(
    on_a_pool: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def queue(on: pool.Pool) -> None:
        begun: list[int] = []
        run = on._one

        async def note(
            session: sessions.Session, sql: str, arguments: tuple[Any, ...], *how: Any
        ) -> list[pool.Row]:
            begun.append(arguments[0])
            return await run(session, sql, arguments, *how)

        with monkeypatch.context() as patch:
            patch.setattr(on, "_one", note)
            await asyncio.gather(
                *(on.read("SELECT $1::int FROM pg_sleep(0.002)", number) for number in range(40))
            )
        assert begun == sorted(begun)

    on_a_pool(queue)


def test_a_caller_who_comes_just_as_a_connection_is_made_gets_another(
    on_a_pool: Callable[[Test], None],
) -> None:
    async def both(on: pool.Pool) -> None:
        first = asyncio.create_task(on.read("SELECT pg_sleep(0.5)"))
        await asyncio.sleep(0)
        [connecting] = on._connecting
        await asyncio.wait([connecting])  # and in the same turn of the loop:
        begun = time.monotonic()
        await on.read("SELECT 1")
        assert time.monotonic() - begun < 0.4
        await first

    on_a_pool(both)


def test_what_took_too_long_stops_in_the_database_too(
    on_a_pool: Callable[[Test], None], url: str
) -> None:
    async def slow(on: pool.Pool) -> None:
        assert await outcome(on.read("SELECT pg_sleep(60)", seconds=0.05)) == "Unavailable"
        task = asyncio.create_task(on.read("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert on._open == len(on._closing) + len(on._idle)
        await settled(on)
        running = (
            "SELECT count(*) AS n FROM pg_stat_activity "
            "WHERE query LIKE '%sleep(60)%' AND pid <> pg_backend_pid()"
        )
        assert (await on.read(running))[0]["n"] == 0

    on_a_pool(slow)


def test_a_read_survives_that_all_sessions_are_cut(
    on_a_pool: Callable[[Test], None], url: str
) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'pool' AND pid <> pg_backend_pid()"

    async def restart(on: pool.Pool) -> None:
        await all_places_work(on)
        await asyncio.to_thread(sql, url, cut)
        assert len(await on.read("SELECT 1")) == 1
        await all_places_work(on)
        asleep = asyncio.create_task(on.read("SELECT pg_sleep(0.3)"))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(sql, url, cut)
        assert len(await asleep) == 1
        asleep = asyncio.create_task(on.write("SELECT pg_sleep(0.3)"))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(sql, url, cut)
        with pytest.raises(
            Unavailable
        ):  # whether it was done cannot be known, so it is not sent again
            await asleep

    on_a_pool(restart)


@pytest.mark.parametrize(
    ("statement", "argument", "error"),
    [
        ("SELECT 1 / $1::int", 0, asyncpg.DivisionByZeroError),
        ("SELECT $1::int", "no number", asyncpg.DataError),
        ("SELECT nothing FROM nowhere WHERE $1", True, asyncpg.UndefinedTableError),
        (
            "SELECT set_config('todo.left_over', $1, true), 1 / 0",
            "yes",
            asyncpg.DivisionByZeroError,
        ),
    ],
)
def test_a_failed_statement_leaves_no_transaction_behind(
    on_a_pool: Callable[[Test], None], statement: str, argument: Any, error: type[Exception]
) -> None:
    async def fail(on: pool.Pool) -> None:
        for _ in range(SIZE + 1):
            with pytest.raises(error):
                await on.write(statement, argument)
        for session in on._idle:
            assert not session.is_in_transaction()
        left = await on.read("SELECT current_setting('todo.left_over', true) AS value")
        assert left[0]["value"] in (None, "")

    on_a_pool(fail)


def test_a_role_that_is_gone_leaves_no_transaction_behind(url: str) -> None:
    async def body() -> None:
        await asyncio.to_thread(sql, url, "CREATE ROLE soon_gone")
        on = pool.Pool(dsn.parse(url, pooled=True), role="soon_gone", size=1)
        assert (await on.read("SELECT current_user AS name"))[0]["name"] == "soon_gone"
        await asyncio.to_thread(sql, url, "DROP ROLE soon_gone")
        for _ in range(3):
            with pytest.raises(asyncpg.PostgresError, match="soon_gone"):
                await on.read("SELECT 1")
        assert not on._idle[0].is_in_transaction()
        await on.close()

    asyncio.run(body())


def test_a_role_that_was_never_there_is_no_session(url: str) -> None:
    async def body() -> None:
        for pooled in (False, True):
            on = pool.Pool(dsn.parse(url, pooled=pooled), role="nobody_has_this_name", size=1)
            assert await outcome(on.read("SELECT 1")) == "Unavailable"
            assert (on._open, on._idle) == (0, [])
            await on.close()

    asyncio.run(body())


def test_what_was_not_committed_is_not_called_done(url: str) -> None:
    async def body() -> None:
        on = pool.Pool(dsn.parse(url, pooled=True), role=None, size=1)
        await on.read("SELECT 1")
        session = on._idle[0]
        sent = session.execute

        async def execute(statement: str, **rest: Any) -> str:
            """As if the transaction had failed without our knowing."""
            if statement == "COMMIT":
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await sent("SELECT 1 / 0")
            tag: str = await sent(statement, **rest)
            return tag

        session.execute = execute
        with pytest.raises(Unavailable):
            await on.write("SELECT 1")
        await on.close()

    asyncio.run(body())


def test_sessions_are_renewed_before_the_database_cuts_them(
    on_a_pool: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def age(on: pool.Pool) -> None:
        pid = "SELECT pg_backend_pid() AS pid"
        first = (await on.read(pid))[0]["pid"]
        assert (await on.read(pid))[0]["pid"] == first
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "LIFETIME_SECONDS", 0.1)
            await asyncio.sleep(0.15)
            assert (await on.read(pid))[0]["pid"] != first
            slow = f"{pid} FROM pg_sleep(0.05)"
            pids = [
                rows[0]["pid"]
                for rows in await asyncio.gather(*(on.read(slow) for _ in range(8 * SIZE)))
            ]
            assert (
                len(set(pids)) > SIZE
            )  # also where sessions go from hand to hand and are never idle

    on_a_pool(age)


def test_a_database_that_is_away_is_said_at_once_and_found_again(url: str) -> None:
    async def body() -> None:
        on = pool.Pool(dsn.parse(url.replace("/pool?", "/not_there?")), role=None, size=SIZE)
        begun = time.monotonic()
        ends = await asyncio.gather(*(outcome(on.read("SELECT 1")) for _ in range(3 * SIZE)))
        assert set(ends) == {"Unavailable"}
        assert time.monotonic() - begun < pool.WAIT_SECONDS / 2
        assert (on._open, len(on._waiting)) == (0, 0)
        on.address = dsn.parse(url)
        await all_places_work(on)
        await on.close()

    asyncio.run(body())


def test_closing_refuses_who_waits_and_lets_go_of_what_is_used(url: str) -> None:
    async def body() -> None:
        on = pool.Pool(dsn.parse(url), role=None, size=1)
        await on.read("SELECT 1")
        used = asyncio.create_task(on.read("SELECT pg_sleep(0.2)"))
        waits = asyncio.create_task(outcome(on.read("SELECT 1")))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await on.close()
        assert await waits == "Unavailable"
        assert await outcome(on.read("SELECT 1")) == "Unavailable"
        assert time.monotonic() - begun < 0.1
        assert len(await used) == 1
        await on.close()
        assert on._open == 0

    asyncio.run(body())
    assert open_sessions(url) == []


def test_closing_while_connecting_leaves_nothing(url: str) -> None:
    async def body() -> None:
        for turns in range(0, 60, 5):
            on = pool.Pool(dsn.parse(url), role=None, size=SIZE)
            waiting = [asyncio.create_task(outcome(on.read("SELECT 1"))) for _ in range(SIZE)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await on.close()
            assert set(await asyncio.gather(*waiting)) <= {"Unavailable", "answered"}
            await on.close()
            assert on._open == 0

    asyncio.run(body())
    assert open_sessions(url) == []


# --- several statements together ---

SAME_BACKEND = "SELECT pg_backend_pid() AS pid, pg_current_xact_id()::text AS transaction"


def test_what_is_done_together_is_one_transaction(on_a_pool: Callable[[Test], None]) -> None:
    async def look_twice(begun: pool.Transaction) -> set[tuple[Any, ...]]:
        return {tuple((await begun.read(SAME_BACKEND))[0].values()) for _ in range(2)}

    async def together(on: pool.Pool) -> None:
        seen = [await on.transaction(look_twice) for _ in range(2)]
        assert [len(each) for each in seen] == [1, 1]
        assert seen[0] != seen[1]

    on_a_pool(together)


@pytest.mark.parametrize(
    "refusal", [NotFound("Task not found"), KeyError("a bug of ours")], ids=["refused", "failed"]
)
def test_what_is_raised_undoes_all_of_it(
    refusal: Exception, on_a_pool: Callable[[Test], None], url: str
) -> None:
    async def write_and_raise(begun: pool.Transaction) -> None:
        await begun.write("INSERT INTO undone VALUES (1)")
        raise refusal

    async def undo(on: pool.Pool) -> None:
        await on.write("CREATE TABLE IF NOT EXISTS undone (number int)")
        with pytest.raises(type(refusal)):
            await on.transaction(write_and_raise)
        assert await on.read("SELECT number FROM undone") == []

    on_a_pool(undo)


def test_what_was_rolled_back_is_done_again_from_its_beginning(
    on_a_pool: Callable[[Test], None],
) -> None:
    async def again(on: pool.Pool) -> None:
        begun_at: list[str] = []

        async def fail_at_first(begun: pool.Transaction) -> int:
            begun_at.append((await begun.read(SAME_BACKEND))[0]["transaction"])
            if len(begun_at) < pool.ATTEMPTS:
                await begun.write(
                    "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'serialization_failure'; END $$"
                )
            return len(begun_at)

        assert await on.transaction(fail_at_first) == pool.ATTEMPTS
        assert len(set(begun_at)) == pool.ATTEMPTS

    on_a_pool(again)


def test_a_transaction_that_is_cut_is_not_begun_again(on_a_pool: Callable[[Test], None]) -> None:
    async def cut(on: pool.Pool) -> None:
        begun: list[int] = []

        async def end_ourselves(transaction: pool.Transaction) -> None:
            begun.append(1)
            await transaction.write("SELECT pg_terminate_backend(pg_backend_pid())")

        assert await outcome(on.transaction(end_ourselves)) == "Unavailable"
        assert len(begun) == 1

    on_a_pool(cut)


def test_who_waits_longest_is_refused_first(
    on_a_pool: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timer for all: each is refused at its own time."""

    async def wait_one_after_the_other(on: pool.Pool) -> None:
        monkeypatch.setattr(pool, "WAIT_SECONDS", 0.4)
        held = [asyncio.create_task(on.read("SELECT FROM pg_sleep(1.2)")) for _ in range(SIZE)]
        await asyncio.sleep(0.1)
        refused: list[int] = []

        async def wait(number: int) -> None:
            with pytest.raises(Unavailable):
                await on.read("SELECT 1")
            refused.append(number)

        waiting = []
        for number in range(3):
            waiting.append(asyncio.create_task(wait(number)))
            await asyncio.sleep(0.1)
        await asyncio.gather(*waiting)
        assert refused == [0, 1, 2]
        await asyncio.gather(*held)

    on_a_pool(wait_one_after_the_other)
