"""SQL functions of several releases, side by side: each calls its own, and none takes another's
away too soon."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import changes
import config
import storage
from database import Database, OwnerDatabase
from entities import TASK
from errors import SettingError
from postgres import dsn, embedded, functions, migrate
from postgres.pool import Pool
from storage import Function
from tests import servers
from tests.conftest import sql
from tests.people import Person

OTHER_TEXT = storage.TEXT.replace("BEGIN\n", "BEGIN -- of another release\n", 1)
OTHER = Function.of("store", OTHER_TEXT)  # the writer of another release
NAMES = {function.name for function in migrate.FUNCTIONS}
LOGIN = "functions_login"  # may use everything and owns nothing

COMMENTS = """
SELECT proname, obj_description(oid, 'pg_proc') AS comment FROM pg_proc
WHERE pronamespace = current_schema()::regnamespace
"""


@pytest.fixture(scope="module")
def schemas(cluster: embedded.Server) -> Iterator[str]:
    """A database for many tests, each in a schema of its own."""
    sql(cluster.url, "CREATE DATABASE functions_schemas")
    yield cluster.url.replace("/todo?", "/functions_schemas?")
    sql(cluster.url, "DROP DATABASE functions_schemas WITH (FORCE)")


@pytest.fixture
def place(schemas: str) -> Iterator[str]:
    """The URL of a schema that this release has migrated."""
    yield from made(schemas, "mine")


@pytest.fixture
def another_place(schemas: str) -> Iterator[str]:
    """Beside it, in the same database."""
    yield from made(schemas, "theirs")


def made(url: str, schema: str) -> Iterator[str]:
    sql(url, f"CREATE SCHEMA {schema}")
    url_of_it = f"{url}&search_path={schema}"
    asyncio.run(migrate.upgrade(dsn.parse(url_of_it)))
    yield url_of_it
    sql(url, f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def guest(place: str) -> Iterator[str]:
    """The URL of the same schema for a login that may use it, and owns nothing."""
    sql(place, f"CREATE ROLE {LOGIN} LOGIN IN ROLE {migrate.ROLE}, {migrate.RETENTION_ROLE}")
    yield re.sub(r"//postgres\b", f"//{LOGIN}", place, count=1)
    sql(place, f"DROP ROLE {LOGIN}")


def install(url: str, wanted: Iterable[Function]) -> None:
    """As a release with these functions does at its start."""

    async def run() -> None:
        session = await asyncpg.connect(url)
        async with session.transaction():
            await session.execute("SELECT pg_advisory_xact_lock($1)", migrate.LOCK)
            await functions.install(session, wanted)
        await session.close()

    asyncio.run(run())


def comments(url: str) -> dict[str, str | None]:
    return {row["proname"]: row["comment"] for row in sql(url, COMMENTS)}


def mark(url: str, days: int, names: Iterable[str]) -> None:
    """Another release did not want these for the first time so many days ago."""
    since = sql(url, "SELECT current_date AS today")[0]["today"] - timedelta(days=days)
    for name in names:
        sql(url, f"COMMENT ON FUNCTION {name} IS '{functions.UNWANTED}{since}'")


def migrate_again(url: str) -> None:
    """What `todo migrate` does."""
    asyncio.run(migrate.upgrade(dsn.parse(url)))


def start(url: str, **settings: str) -> None:
    """What a server does with the database at its start."""
    variables: dict[str, Any] = {"_env_file": None, "NEON_DATABASE_URL": url, **settings}

    async def run() -> None:
        database = Database(config.Settings(**variables))
        await database.open()
        await database.close()

    asyncio.run(run())


# --- names ---


@pytest.mark.parametrize(
    "function", [*migrate.FUNCTIONS, OTHER], ids=lambda function: function.name
)
def test_a_name_is_that_of_its_text(function: Function) -> None:
    stem, _, digits = function.name.rpartition("_")
    assert re.fullmatch("[0-9a-f]{10}", digits)
    assert function.text.startswith(f"CREATE FUNCTION {function.name}(")
    before = function.text.replace(f"CREATE FUNCTION {function.name}(", f"CREATE FUNCTION {stem}(")
    assert hashlib.sha256(before.encode()).hexdigest().startswith(digits)


def test_another_text_is_another_name() -> None:
    assert storage.TEXT != OTHER_TEXT
    assert storage.STORE.name != OTHER.name
    assert Function.of("store", storage.TEXT) == storage.STORE
    assert f" {storage.STORE.name}(" in storage.CALL


def test_only_the_first_mention_of_the_stem_is_renamed() -> None:
    function = Function.of(
        "one", "CREATE FUNCTION one(p text) RETURNS text LANGUAGE sql AS $$ SELECT 'one(' $$"
    )
    assert function.text.endswith("$$ SELECT 'one(' $$")


# --- releases side by side ---


def test_a_fresh_schema_has_the_functions_of_this_release_and_says_that_they_are_in_use(
    place: str,
) -> None:
    assert comments(place) == dict.fromkeys(NAMES, functions.IN_USE)


def test_those_of_another_release_stay_and_are_marked(place: str) -> None:
    """The other one has one function in common with this one."""
    shared = next(function for function in migrate.FUNCTIONS if function != storage.STORE)
    install(place, [OTHER, shared])
    today = sql(place, "SELECT current_date AS today")[0]["today"]
    unwanted = f"{functions.UNWANTED}{today}"
    wanted = {OTHER.name, shared.name}
    assert comments(place) == {
        **dict.fromkeys(NAMES, unwanted),
        **dict.fromkeys(wanted, functions.IN_USE),
    }
    install(place, [OTHER, shared])  # again, and nothing is different
    assert comments(place) == {
        **dict.fromkeys(NAMES, unwanted),
        **dict.fromkeys(wanted, functions.IN_USE),
    }


def test_both_writers_work_on_the_same_tasks_and_the_log_has_no_gap(place: str) -> None:
    install(place, [OTHER])

    async def write() -> tuple[list[Any], list[changes.Change]]:
        pool = Pool(dsn.parse(place), migrate.ROLE)
        db = OwnerDatabase(pool, "ada")
        calls = (storage.CALL, storage.CALL.replace(storage.STORE.name, OTHER.name))
        [made] = await db.store(storage.create(TASK, {"title": "Buy milk"}))
        assert made.object
        edit = storage.to_json([storage.toggle(TASK, made.object["id"])])

        async def toggle(call: str) -> str:
            [row] = await pool.write(
                call, "ada", "user", "ada", storage.new_group(), edit, False, True
            )
            return str(row["outcome"])

        try:
            said = await asyncio.gather(*(toggle(calls[number % 2]) for number in range(40)))
            return said, await changes.since(db, 0, 100)
        finally:
            await pool.close()

    said, log = asyncio.run(write())
    assert said == ["done"] * 40
    assert [change["seq"] for change in log] == list(range(1, 42))
    flips = [change["fields"]["completed"] for change in log[1:]]
    assert flips == [[False, True], [True, False]] * 20


@pytest.mark.parametrize("days", [0, 1, 29, 30])
def test_what_was_wanted_in_the_last_30_days_stays(days: int, place: str) -> None:
    install(place, [*migrate.FUNCTIONS, OTHER])
    mark(place, days, [OTHER.name])
    before = comments(place)
    migrate_again(place)
    assert comments(place) == before
    assert set(before) == {*NAMES, OTHER.name}


@pytest.mark.parametrize("days", [31, 400])
def test_what_nobody_has_wanted_for_longer_is_dropped(days: int, place: str) -> None:
    install(place, [*migrate.FUNCTIONS, OTHER])
    mark(place, days, [OTHER.name])
    migrate_again(place)
    assert comments(place) == dict.fromkeys(NAMES, functions.IN_USE)


def test_what_is_not_ours_is_neither_marked_nor_dropped(place: str) -> None:
    """An operator's own function; and those of before migration 0005, which servers of then may
    still call."""
    for name in ("store_of_mine", "create_task"):
        sql(place, f"CREATE FUNCTION {name}(a text) RETURNS text LANGUAGE sql AS 'SELECT a'")
    sql(place, "COMMENT ON FUNCTION store_of_mine IS 'mine'")
    migrate_again(place)
    theirs = {name: comment for name, comment in comments(place).items() if name not in NAMES}
    assert theirs == {"store_of_mine": "mine", "create_task": None}


def test_another_schema_of_the_same_database_has_its_own(place: str, another_place: str) -> None:
    install(place, [OTHER])
    assert comments(another_place) == dict.fromkeys(NAMES, functions.IN_USE)
    mark(place, 31, NAMES)
    install(place, [OTHER])
    assert comments(place) == {OTHER.name: functions.IN_USE}
    migrate_again(another_place)
    assert comments(another_place) == dict.fromkeys(NAMES, functions.IN_USE)


# --- an older release that starts again ---


@pytest.mark.parametrize("days", [0, 29, 400])
def test_an_older_release_that_starts_again_takes_its_marks_off(days: int, place: str) -> None:
    """Else a newer one would drop them below it, 30 days after it was rolled back."""
    mark(place, days, NAMES)
    start(place)
    assert comments(place) == dict.fromkeys(NAMES, functions.IN_USE)


@pytest.mark.parametrize("missing", sorted(NAMES))
def test_a_start_brings_what_was_dropped_meanwhile(missing: str, place: str) -> None:
    sql(place, f"DROP FUNCTION {missing}")
    assert not asyncio.run(migrate.inspect(dsn.parse(place))).is_complete
    start(place)
    assert comments(place) == dict.fromkeys(NAMES, functions.IN_USE)
    assert asyncio.run(migrate.inspect(dsn.parse(place))).is_complete


# --- a login that owns nothing ---


def test_a_login_that_may_not_make_functions_is_told_so_in_one_sentence(
    place: str, guest: str
) -> None:
    sql(place, f"DROP FUNCTION {storage.STORE.name}")
    with pytest.raises(SettingError) as refusal:
        start(guest)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert sentence.startswith("NEON_DATABASE_URL: ")
    assert "permission denied for schema mine" in sentence
    assert sentence.endswith("migrate with the login that owns the tables.")
    assert comments(place) == dict.fromkeys(NAMES - {storage.STORE.name}, functions.IN_USE)


def test_where_nothing_is_missing_it_needs_no_right_to_make_any(place: str, guest: str) -> None:
    start(guest)
    assert comments(place) == dict.fromkeys(NAMES, functions.IN_USE)


def test_a_mark_that_it_may_not_take_off_keeps_it_from_nothing(place: str, guest: str) -> None:
    """An older release, rolled back to, behind a login that owns nothing."""
    mark(place, 1, NAMES)
    start(guest)
    assert set(comments(place)) == NAMES


def test_the_login_of_the_migrations_takes_the_marks_off_for_it(place: str, guest: str) -> None:
    mark(place, 400, NAMES)
    start(guest, NEON_DIRECT_DATABASE_URL=place)
    assert comments(place) == dict.fromkeys(NAMES, functions.IN_USE)


# --- a server below which a newer release drops them, because it has run beside it for too long ---


@contextmanager
def served(url: str, folder: Path) -> Iterator[tuple[servers.Running, Person]]:
    with servers.running(folder, NEON_DATABASE_URL=url) as server:
        servers.wait_until_up(server, "/ready")
        ada = Person(server.url, "ada")
        with ada.client:
            yield server, ada


def test_a_server_makes_again_what_was_dropped_below_it(place: str, tmp_path: Path) -> None:
    """At the first request that needs it; those until then are told to come again."""
    with served(place, tmp_path) as (server, ada):
        assert write(ada) == write(ada, key="before") == 201
        for name in NAMES:
            sql(place, f"DROP FUNCTION {name}")
        assert write(ada) == 503
        until(lambda: write(ada, key="after") == 201)
        assert write(ada) == 201
        assert " 500 " not in server.printed()
        assert comments(place) == dict.fromkeys(NAMES, functions.IN_USE)
        assert server.printed().count("an SQL function of this release is gone") == 1
        assert "Traceback" not in server.printed()


def test_where_it_may_not_it_waits_for_somebody_who_may(
    place: str, guest: str, tmp_path: Path
) -> None:
    with served(guest, tmp_path) as (server, ada):
        assert write(ada) == 201
        sql(place, f"DROP FUNCTION {storage.STORE.name}")
        assert [write(ada) for _ in range(3)] == [503] * 3
        assert ada.get().status_code == 200
        until(lambda: "migrate with the login that owns the tables." in server.printed())
        migrate_again(place)
        until(lambda: write(ada) == 201)


def write(person: Person, key: str | None = None) -> int:
    headers = {"Idempotency-Key": key} if key else {}
    return person.post({"title": "Buy milk"}, headers=headers).status_code


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- what others do to functions ---


def test_a_login_that_may_call_no_function_by_default_is_given_the_right(
    place: str, guest: str
) -> None:
    """ALTER DEFAULT PRIVILEGES … REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC is a common hardening."""
    for name in NAMES:
        sql(place, f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC, {migrate.ROLE}")
    assert not asyncio.run(migrate.inspect(dsn.parse(guest))).is_complete
    start(place)
    assert asyncio.run(migrate.inspect(dsn.parse(guest))).is_complete


def test_functions_that_lost_their_comments_are_known_by_their_names(
    place: str, guest: str
) -> None:
    """As after pg_restore --no-comments."""
    for name in NAMES:
        sql(place, f"COMMENT ON FUNCTION {name} IS NULL")
    start(guest)
    start(place)
    assert set(comments(place)) == NAMES
