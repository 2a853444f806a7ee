"""The code of docs/retries.md, as it stands there, against a real server behind a network that
loses things."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

import idempotency
from tests import javascript
from tests.conftest import sql
from tests.people import Person
from tests.servers import BACKEND, Running

PAGE = (BACKEND.parent / "docs" / "retries.md").read_text()
ASKED_SECONDS = 60
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
CODE = {language: code for language, code in BLOCKS if language != "sh"}
CURL = [code for language, code in BLOCKS if language == "sh"]

# Each calls what the page defines, as a line of JSON on standard input says, and prints what came of it. Time
# does not pass: how long it would have waited is printed, too.

CLOCK = """
export const waits = [];
const setTimeout = (call, milliseconds) => { waits.push(milliseconds / 1000); queueMicrotask(call); };
"""

JAVASCRIPT = """
import { createInterface } from "node:readline";
import { edit, request, send, waits } from "./retries.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  const { base, token, action, method, path, fields, add, key } = JSON.parse(line);
  const api = (path, init) => {
    const headers = new Headers(init.headers);
    headers.set("Authorization", `Bearer ${token}`);
    return fetch(base + path, { ...init, headers });
  };
  waits.length = 0;
  try {
    const wanted = action === "send" ? request(method, path, fields) : null;
    if (key) wanted.key = key;
    const answer = action === "send"
      ? await send(api, wanted)
      : await edit(api, path, (task) => ({ description: task.description + add }));
    const replayed = answer.headers.get("Idempotency-Replayed");
    console.log(JSON.stringify({ status: answer.status, body: answer.body, replayed, waits }));
  } catch (error) {
    console.log(JSON.stringify({ status: null, body: error.name, replayed: null, waits }));
  }
}
process.exit();
"""

PYTHON = """
import json, sys, time
import httpx
from retries import edit, request, send

waits = []
time.sleep = waits.append
for line in sys.stdin:
    asked = json.loads(line)
    headers = {"Authorization": f"Bearer {asked['token']}"}
    waits.clear()
    with httpx.Client(base_url=asked["base"], headers=headers, verify=False) as client:
        try:
            if asked["action"] == "send":
                wanted = request(asked["method"], asked["path"], asked["fields"])
                if asked["key"]:
                    wanted["key"] = asked["key"]
                reply = send(client, wanted)
            else:
                reply = edit(client, asked["path"], lambda task: {"description": task["description"] + asked["add"]})
            replayed = reply.headers.get("Idempotency-Replayed")
            body = reply.json() if "json" in reply.headers.get("Content-Type", "") else reply.text
            answer = {"status": reply.status_code, "body": body, "replayed": replayed, "waits": waits}
        except httpx.TransportError as error:
            answer = {"status": None, "body": type(error).__name__, "replayed": None, "waits": waits}
    print(json.dumps(answer), flush=True)
"""


class Outcome(NamedTuple):
    """What the page's code came back with: `status` is None where it raised."""

    status: int | None
    body: Any
    replayed: str | None
    waits: list[float]


class Request(NamedTuple):
    method: str
    key: str | None
    if_match: str | None


class Network:
    """Stands before the server and does, request by request, what `does` says; then it lets all
    pass.

    "lost": the server does not get it · "dropped": it does, but its answer is not seen · "cut":
    half of its answer is · a number: that status, without asking the server, with Retry-After: 7 ·
    a function: called, then it passes.
    """

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self.does: list[str | int | Callable[[], object]] = []
        self.seen: list[Request] = []
        self._lock = threading.Lock()
        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._listener.server_port}"

    def close(self) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        network = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def do(self) -> None:
                self.wfile.write(network._answer(self))
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815  (http.server calls them so)

        return Handler

    def _answer(self, asked: BaseHTTPRequestHandler) -> bytes:
        headers = {name.lower(): value for name, value in asked.headers.items()}
        with self._lock:
            self.seen.append(
                Request(asked.command, headers.get("idempotency-key"), headers.get("if-match"))
            )
            does = self.does.pop(0) if self.does else "pass"
        body = asked.rfile.read(int(headers.get("content-length", 0)))
        if does == "lost":
            return b""
        if isinstance(does, int):
            return (
                b"HTTP/1.1 %d Busy\r\nConnection: close\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nBusy"
                % does
            )
        if callable(does):
            does()
        with httpx.Client(timeout=20, trust_env=False, verify=False) as there:
            url = self.server_url + asked.path
            reply = there.request(asked.command, url, headers=headers, content=body)
        head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        answer = (
            f"HTTP/1.1 {reply.status_code} Answer\r\nConnection: close\r\n{head}\r\n".encode()
            + reply.content
        )
        return {"dropped": b"", "cut": answer[:-20]}.get(str(does), answer)


class Program:
    """An application into which the page's code in `language` was copied. Who asks meanwhile asks
    another process."""

    def __init__(self, language: str, folder: Path) -> None:
        self._folder = folder
        self._idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        if language == "js":
            (folder / "retries.mjs").write_text(CLOCK + CODE["js"])
            (folder / "call.mjs").write_text(JAVASCRIPT)
            self._command = [str(javascript.node()), "call.mjs"]
        else:
            (folder / "retries.py").write_text(CODE["python"])
            (folder / "call.py").write_text(PYTHON)
            self._command = [sys.executable, "call.py"]

    def ask(self, line: str) -> str:
        try:
            process = self._idle.get_nowait()
        except Empty:
            process = self._start()
        too_long = threading.Timer(ASKED_SECONDS, process.kill)
        too_long.start()
        assert process.stdin
        assert process.stdout
        print(line, file=process.stdin, flush=True)
        answer = process.stdout.readline()
        too_long.cancel()
        assert answer, process.communicate()[1]
        self._idle.put(process)
        return answer

    def close(self) -> None:
        while not self._idle.empty():
            process = self._idle.get()
            _, errors = process.communicate(timeout=ASKED_SECONDS)
            assert process.returncode == 0, errors

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class Client:
    """Whoever uses `program`."""

    def __init__(self, program: Program, network: Network) -> None:
        self.network = network
        self._program = program

    def send(
        self, person: Person, method: str, path: str, fields: Any = None, key: str | None = None
    ) -> Outcome:
        return self._call(
            person, action="send", method=method, path=person.tasks + path, fields=fields, key=key
        )

    def edit(self, person: Person, task_id: int, add: str) -> Outcome:
        """Appends `add` to the description, which is what `change` was told to do."""
        return self._call(person, action="edit", path=f"{person.tasks}/{task_id}", add=add)

    def _call(self, person: Person, **wanted: Any) -> Outcome:
        asked = {"base": self.network.url, "token": person.token, **wanted}
        return Outcome(**json.loads(self._program.ask(json.dumps(asked))))


@pytest.fixture
def network(server: Running) -> Iterator[Network]:
    started = Network(server.url)
    yield started
    started.close()


@pytest.fixture(scope="module", params=["js", "python"])
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    copied = Program(request.param, tmp_path_factory.mktemp(request.param))
    yield copied
    copied.close()


@pytest.fixture
def client(program: Program, network: Network) -> Client:
    return Client(program, network)


def titles(person: Person) -> list[str]:
    return [task["title"] for task in person.get().json()["data"]]


# --- send ---


@pytest.mark.parametrize("fault", ["lost", "dropped", "cut", 429, 502, 503, 504])
def test_whatever_happens_to_the_first_attempt_the_task_is_made_once(
    client: Client, ada: Person, fault: Any
) -> None:
    client.network.does = [fault]
    outcome = client.send(ada, "POST", "", {"title": "Buy milk"})
    assert outcome.status == 201
    assert outcome.body["data"]["title"] == "Buy milk"
    assert outcome.replayed == ("true" if fault in ("dropped", "cut") else None)
    assert len(client.network.seen) == 2
    assert titles(ada) == ["Buy milk"]


def test_every_attempt_carries_the_same_key(client: Client, ada: Person) -> None:
    client.network.does = ["dropped", "cut", 503, "lost"]
    assert client.send(ada, "POST", "", {"title": "Buy milk"}).status == 201
    keys = [request.key for request in client.network.seen]
    assert len(keys) == 5
    assert len(set(keys)) == 1
    assert keys[0]
    assert titles(ada) == ["Buy milk"]


def test_the_same_thing_done_twice_by_the_user_is_done_twice(client: Client, ada: Person) -> None:
    for _ in range(2):
        assert client.send(ada, "POST", "", {"title": "Buy milk"}).status == 201
    assert titles(ada) == ["Buy milk", "Buy milk"]


def test_a_toggle_whose_answer_was_lost_flips_the_task_once(client: Client, ada: Person) -> None:
    task = ada.has("Buy milk")
    client.network.does = ["dropped", "dropped", "dropped"]
    outcome = client.send(ada, "PATCH", f"/{task['id']}/complete")
    assert outcome.status == 200, outcome
    assert outcome.body["data"]["completed"] is True
    assert ada.get(f"/{task['id']}").json()["data"]["completed"] is True


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", "", {"title": ""}, 400),
        ("PUT", "/1", {"title": "Buy oat milk"}, 404),
        ("POST", "x", {}, 404),
    ],
)
def test_a_refusal_is_not_sent_again(
    client: Client, ada: Person, method: str, path: str, fields: Any, status: int
) -> None:
    outcome = client.send(ada, method, path, fields)
    assert outcome.status == status
    assert len(client.network.seen) == 1


def test_a_key_used_for_another_request_is_not_sent_again(client: Client, ada: Person) -> None:
    key = str(uuid4())
    assert client.send(ada, "POST", "", {"title": "Buy milk"}, key).status == 201
    assert client.send(ada, "POST", "", {"title": "Buy bread"}, key).status == 422
    assert len(client.network.seen) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 500])
def test_a_status_that_will_not_pass_comes_back_at_once(
    client: Client, ada: Person, status: int
) -> None:
    """409 without IDEMPOTENCY_IN_PROGRESS among them. The body may be anything: it is a gateway's."""
    client.network.does = [status] * 2
    outcome = client.send(ada, "POST", "", {"title": "Buy milk"})
    assert (outcome.status, outcome.body, outcome.waits) == (status, "Busy", [])
    assert len(client.network.seen) == 1


def test_a_first_attempt_that_still_runs_is_waited_for(
    client: Client, ada: Person, database_url: str
) -> None:
    """The key is taken when the request has arrived, so that a slow start of the client does not
    use up the time."""
    key = str(uuid4())
    lock = idempotency._lock(ada.id, key)
    with ThreadPoolExecutor(1) as threads:

        def run_elsewhere() -> None:
            threads.submit(sql, database_url, "SELECT pg_advisory_lock($1), pg_sleep(2.6)", lock)
            while sql(database_url, "SELECT pg_try_advisory_lock($1) AS free", lock)[0]["free"]:
                pass

        client.network.does = [run_elsewhere]
        outcome = client.send(ada, "POST", "", {"title": "Buy milk"}, key)
    assert outcome.status == 201
    assert len(client.network.seen) == 2
    assert 1 <= outcome.waits[0] <= 2  # Retry-After: 1, and up to a second


def test_it_waits_as_long_as_it_is_asked_to_and_a_random_time_that_grows(
    client: Client, ada: Person
) -> None:
    client.network.does = [503, 429, "lost", 503, "dropped"]
    outcome = client.send(ada, "POST", "", {"title": "Buy milk"})
    assert outcome.status == 201
    asked = [7, 7, 0, 7, 0]
    beyond = [waited - least for waited, least in zip(outcome.waits, asked, strict=True)]
    shares = [round(seconds / 2**number, 6) for number, seconds in enumerate(beyond)]
    assert all(0 <= share <= 1 for share in shares), outcome.waits
    assert len(set(shares)) == 5, outcome.waits


def test_it_gives_up_after_six_attempts_and_says_what_it_got(client: Client, ada: Person) -> None:
    client.network.does = [503] * 6
    assert client.send(ada, "DELETE", "/1").status == 503
    assert len(client.network.seen) == 6
    client.network.does = ["lost"] * 6
    assert client.send(ada, "DELETE", "/1").status is None
    assert len(client.network.seen) == 12


# --- edit ---


def test_an_edit_that_meets_another_writer_loses_neither(client: Client, ada: Person) -> None:
    task = ada.has("Shopping", "milk")
    also = {"description": "milk, bread", "completed": True}
    client.network.does = ["pass", lambda: ada.put(task["id"], also)]
    outcome = client.edit(ada, task["id"], ", eggs")
    assert outcome.status == 200
    assert outcome.body["data"]["description"] == "milk, bread, eggs"
    assert outcome.body["data"]["completed"] is True
    versions = [task["version"], task["version"] + 1]
    assert [request.if_match for request in client.network.seen] == [
        None,
        *(f'"{version}"' for version in versions),
    ]


def test_edits_at_once_are_all_there(client: Client, ada: Person) -> None:
    task = ada.has("Shopping", "")
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(
            threads.map(lambda number: client.edit(ada, task["id"], f"{number} "), range(4))
        )
    assert [outcome.status for outcome in outcomes] == [200] * 4
    assert sorted(ada.get(f"/{task['id']}").json()["data"]["description"].split()) == [
        "0",
        "1",
        "2",
        "3",
    ]


def test_an_edit_whose_answer_was_lost_does_not_take_itself_for_another_writer(
    client: Client, ada: Person
) -> None:
    task = ada.has("Shopping", "milk")
    client.network.does = ["pass", "dropped"]
    outcome = client.edit(ada, task["id"], ", eggs")
    assert outcome.status == 200
    assert outcome.replayed == "true"
    now = ada.get(f"/{task['id']}").json()["data"]
    assert now["description"] == "milk, eggs"
    assert now["version"] == task["version"] + 1


def test_an_edit_of_a_task_that_is_not_there_says_so(client: Client, ada: Person) -> None:
    assert client.edit(ada, 1, ", eggs").status == 404
    assert len(client.network.seen) == 1


def test_an_edit_that_never_comes_first_gives_up(client: Client, ada: Person) -> None:
    task = ada.has("Shopping", "milk")
    client.network.does = ["pass", *[lambda: ada.put(task["id"], {})] * 25]
    assert client.edit(ada, task["id"], ", eggs").status == 412
    assert len(client.network.seen) == 21
    assert ada.get(f"/{task['id']}").json()["data"]["description"] == "milk"


# --- what it says beside the code ---


def test_a_uid_makes_its_task_once_for_as_long_as_it_exists(ada: Person) -> None:
    asked = {"title": "Buy milk", "uid": str(uuid4())}
    task = ada.post(asked).json()["data"]
    again = ada.post({**asked, "title": "Buy bread"})
    assert (again.status_code, again.json()["data"]) == (200, task)
    assert ada.delete(task["id"]).status_code == 200
    assert (ada.post(asked).status_code, ada.post(asked).json()["code"]) == (409, "UID_IN_TRASH")


@pytest.mark.parametrize("tag", ['W/"{}"', '"{}-gzip"'])
def test_a_tag_changed_by_a_gateway_never_matches(ada: Person, tag: str) -> None:
    task = ada.has("Buy milk")
    refused = ada.put(task["id"], {}, headers={"If-Match": tag.format(task["version"])})
    assert refused.status_code == 412


# --- curl ---


def shell(command: str, folder: Path, person: Person, network: Network) -> str:
    variables = {
        "API": network.url,
        "USER_ID": person.id,
        "TOKEN": person.token,
        "PATH": "/usr/bin:/bin",
    }
    ended = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


needs_curl = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")),
    reason="the page's examples need curl and openssl",
)


@needs_curl
def test_curl_sends_again_with_the_same_key(tmp_path: Path, ada: Person, network: Network) -> None:
    network.does = ["dropped"]
    printed = shell(CURL[0], tmp_path, ada, network)
    assert "idempotency-replayed: true" in printed.lower()
    assert json.loads(printed.splitlines()[-1])["data"]["title"] == "Buy milk"
    assert titles(ada) == ["Buy milk"]
    assert len({request.key for request in network.seen}) == 1


@needs_curl
def test_curl_gets_the_list_only_where_there_is_news(
    tmp_path: Path, ada: Person, network: Network
) -> None:
    ada.has("Buy milk")
    assert shell(CURL[1], tmp_path, ada, network).split() == ["200"]
    listed = (tmp_path / "tasks.json").read_text()
    assert "Buy milk" in listed
    assert shell(CURL[1], tmp_path, ada, network).split() == ["304"]
    assert (tmp_path / "tasks.json").read_text() == listed
    ada.has("Buy bread")
    assert shell(CURL[1], tmp_path, ada, network).split() == ["200"]
    assert "Buy bread" in (tmp_path / "tasks.json").read_text()


def test_every_block_of_code_on_the_page_is_run_here() -> None:
    assert [language for language, _ in BLOCKS] == ["js", "python", "sh", "sh"]
    assert PAGE.count("```") == 2 * len(BLOCKS)
