"""What is kept is said once: a scratch copy gets a field and an entity in entities.py, and they are
everywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from postgres import embedded
from tests import servers
from tests.conftest import sql
from tests.people import Person

BEFORE = """\
        DELETED_AT,
        _made("title_key", "text", "title", texts.sort_key),
"""
FIELD = f"""\
        Column("note", "varchar(50)", nullable=True, rule=rules.DESCRIPTION, about="What else"),
{BEFORE}"""
ENTITIES = "ENTITIES = (LIST, TASK)\n"
ENTITY = """\
HABIT = Entity(
    "habit",
    "habits",
    (
        *(ID, OWNER, Column("name", "varchar(100)", rule=rules.NAME, required=True)),
        Column("list_id", "bigint", nullable=True, rule=rules.LIST_ID, refers_to="list"),
        *(CREATED_AT, UPDATED_AT, UID, VERSION),
        DELETED_AT,
    ),
    example={},
)

ENTITIES = (LIST, TASK, HABIT)
"""
MIGRATION = '''
from alembic import op

from migrations.isolation import isolate

revision = "9001"
down_revision = "{head}"
serves_from = "{head}"


def upgrade() -> None:
    op.execute("ALTER TABLE tasks ADD COLUMN note varchar(50)")
    op.execute("""
CREATE TABLE habits (
    id bigint NOT NULL DEFAULT nextval('entity_ids'), user_id text NOT NULL, name varchar(100) NOT NULL,
    list_id bigint, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
    uid uuid NOT NULL DEFAULT gen_random_uuid(), version bigint NOT NULL, deleted_at timestamptz,
    PRIMARY KEY (user_id, id), UNIQUE (user_id, uid),
    FOREIGN KEY (user_id, list_id) REFERENCES lists (user_id, id)
)""")
    isolate("habits")
'''

# Run in the scratch copy: what operations on habits will do, when there are some.
HABITS = """
import asyncio, json, sys
import changes, storage, trash, undo
from postgres import dsn, migrate
from database import OwnerDatabase
from entities import HABIT, LIST
from postgres.pool import Pool

async def main(url, owner):
    pool = Pool(dsn.parse(url), migrate.ROLE)
    db, other = OwnerDatabase(pool, owner), OwnerDatabase(pool, "a stranger")
    [home] = await db.store(storage.create(LIST, {"name": "Home"}))
    [made] = await db.store(storage.create(HABIT, {"name": "Run", "list_id": home.object["id"]}))
    id, home = made.object["id"], home.object["id"]
    [renamed] = await db.store(storage.update(HABIT, id, {"name": "Swim"}))
    await undo.change(db, renamed.object["version"])
    [foreign] = await other.store(storage.update(HABIT, id, {"name": "Mine"}))
    [same] = await db.store(storage.update(HABIT, id, {}))
    [used] = await db.store(storage.delete(LIST, home))
    await db.store(storage.delete(HABIT, id), storage.delete(LIST, home))
    await trash.purge(db, LIST, home)  # the habit, in the trash, lets it go
    _, [left] = await trash.list_latest_first(db, 10)
    await db.store(storage.purge(HABIT, id))
    await pool.close()
    print(json.dumps({
        "id": id, "name": same.object["name"], "foreign": foreign.status, "isolated": migrate.ISOLATED,
        "used": used.status, "left": [left["entity"], left["id"], left["list_id"]],
    }))

asyncio.run(main(*sys.argv[1:]))
"""


class Grown(NamedTuple):
    """The scratch copy at work."""

    folder: Path
    database_url: str
    server: servers.Running


@pytest.fixture(scope="module")
def grown(cluster: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    folder = tmp_path_factory.mktemp("grown") / "backend"
    shutil.copytree(
        servers.BACKEND, folder, ignore=shutil.ignore_patterns("tests", "__pycache__", ".*")
    )
    declaration = folder / "entities.py"
    text = declaration.read_text()
    with_field = text.replace(BEFORE, FIELD)
    with_entity = with_field.replace(ENTITIES, ENTITY)
    assert text != with_field != with_entity
    declaration.write_text(with_entity)
    versions = folder / "migrations" / "versions"
    head = max(path.stem.partition("_")[0] for path in versions.glob("[0-9]*.py"))
    (versions / "9001_growth.py").write_text(MIGRATION.format(head=head))
    sql(cluster.url, "CREATE DATABASE grown")
    url = cluster.url.replace("/todo?", "/grown?")
    server = servers.start(folder.parent, code=folder, NEON_DATABASE_URL=url)
    try:
        yield Grown(folder, url, servers.wait_until_up(server, "/ready"))
    finally:
        server.stop()
    sql(cluster.url, "DROP DATABASE grown WITH (FORCE)")


def test_a_field_arrives_everywhere(grown: Grown) -> None:
    ada = Person(grown.server.url, "ada")
    with closing(ada.client):
        made = ada.post({"title": "Buy milk", "note": "two"}).json()["data"]
        assert list(made)[-1] == "note"  # later fields come last
        own = f"/v1/tasks/{made['uid']}"
        assert ada.request("GET", own).json()["data"] == made
        assert ada.request("GET", "/v1/tasks").json()["data"] == [made]
        changed = ada.put(made["id"], {"note": "three"}).json()["data"]
        assert (changed["note"], ada.get(f"/{made['id']}").json()["data"]["note"]) == (
            "three",
            "three",
        )
        assert [task["note"] for task in ada.get().json()["data"]] == ["three"]
        for method, url in (("PUT", f"{ada.tasks}/{made['id']}"), ("PATCH", own)):
            refused = ada.request(method, url, json={"note": 3})
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "note")
        ada.request("PATCH", own, json={"note": "three"})

        log = ada.request("GET", "/v1/changes").json()["data"]
        assert [change["fields"].get("note") for change in log] == [
            [None, "two"],
            ["two", "three"],
            None,
        ]
        ada.request("POST", "/v1/changes/2/undo")
        assert ada.get(f"/{made['id']}").json()["data"]["note"] == "two"
        conflict = ada.request("POST", "/v1/changes/2/undo")
        assert conflict.json()["data"] == []

        ada.delete(made["id"])
        assert ada.request("GET", "/v1/trash").json()["data"][0]["note"] == "two"
        ada.request("DELETE", f"/v1/trash/{made['id']}")
        assert "two" not in ada.request("GET", "/v1/changes").text


def test_a_field_is_in_the_api_document(grown: Grown) -> None:
    schemas = httpx.get(f"{grown.server.url}/openapi.json").json()["components"]["schemas"]
    for shape in (
        "Task",
        "TrashedTask",
        "TaskCreate",
        "TaskUpdate",
        "TaskCreateV1",
        "TaskUpdateV1",
    ):
        assert "note" in schemas[shape]["properties"], shape
    assert schemas["Change"]["properties"]["entity"]["enum"] == ["list", "task", "habit"]


def test_an_entity_is_written_logged_undone_isolated_and_purged(grown: Grown) -> None:
    ada = Person(grown.server.url, "ada")
    with closing(ada.client):
        task = ada.has("A task of the same person")
        found = in_the_copy(grown, HABITS, grown.database_url, ada.id)
        assert (found["name"], found["foreign"]) == (
            "Run",
            "absent",
        )  # the undo took the new name back
        assert found["id"] != task["id"]
        assert "habits" in found["isolated"]
        assert (found["used"], found["left"]) == ("in_use", ["habit", found["id"], None])
        log = ada.request("GET", "/v1/changes").json()["data"]
        ops = [change["op"] for change in log if change["entity"] == "habit"]
        assert ops == ["create", "update", "update", "update", "delete", "update", "purge"]
        assert "Swim" not in str(log)
        assert ada.get(f"/{task['id']}").json()["data"]["title"] == "A task of the same person"
        checks = httpx.get(f"{grown.server.url}/ready").json()["checks"]
        assert checks["row_security"]["ok"]  # tried on every table, habits among them


def test_the_tables_of_the_models_grow_too(grown: Grown) -> None:
    script = (
        "import json, models; print(json.dumps([c.name for c in models.Task.__table__.columns]))"
    )
    assert "note" in in_the_copy(grown, script)


def in_the_copy(grown: Grown, script: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=grown.folder,
        env=servers.clean_environment(PYTHONPATH=str(grown.folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
