"""The embedded PostgreSQL keeps what it acknowledged, ends with its parent, and says plainly why it
cannot start."""

import asyncio
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from postgres import embedded
from postgres.embedded import binaries, cluster

BACKEND = Path(embedded.__file__).parent.parent.parent
ADA = sorted(pwd.getpwall(), key=lambda user: user.pw_name != "daemon")[
    0
]  # a normal user, and not `nobody`
GONE_SECONDS = 3

START = """
import pathlib, sys
from postgres import embedded
try:
    server = embedded.start(pathlib.Path(sys.argv[1]), durable=sys.argv[2] == "durable")
except embedded.EmbeddedError as error:
    sys.exit(f"EmbeddedError: {error}")
print(server.started_here, server.url, flush=True)
sys.stdin.read()
server.stop()
"""

as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux"
)


class Process:
    """Another Python process that starts a server, holds it until it is told to leave, or is
    killed."""

    def __init__(
        self, data_dir: Path, how: str = "quick", *, before: tuple[str, ...] = (), **options: object
    ) -> None:
        python = str(options.pop("python", sys.executable))
        self.popen = subprocess.Popen(  # type: ignore[call-overload]  # options are Popen's own
            [*before, python, "-c", START, str(data_dir), how],
            cwd=BACKEND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def started(self) -> tuple[bool, str]:
        words = self.popen.stdout.readline().split()
        assert words, self.popen.stderr.read()
        return words[0] == "True", words[1]

    def leave(self) -> str:
        _, errors = self.popen.communicate(timeout=20)
        return str(errors)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("template") / "data"
    embedded.start(data_dir, durable=False).stop()
    return data_dir


@pytest.fixture
def copy(template: Path) -> Callable[[Path], Path]:
    """Copying a folder is faster than initdb."""

    def copy(place: Path) -> Path:
        subprocess.run(["cp", "-R", "-p", str(template), str(place)], check=True)
        return place

    return copy


@pytest.fixture
def data_dir(copy: Callable[[Path], Path], tmp_path: Path) -> Path:
    return copy(tmp_path / "data")


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    begun: list[Process] = []

    def begin(*arguments: object, **options: object) -> Process:
        begun.append(Process(*arguments, **options))  # type: ignore[arg-type]  # passed on as they are
        return begun[-1]

    yield begin
    for one in begun:
        one.popen.kill()
        one.popen.communicate()


def ask(url: str, *statements: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(run())


def answers(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(folder / ".s.PGSQL.5432"))
        except OSError:
            return False
        return True


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_killed_parent_takes_the_server_along_and_loses_no_acknowledged_row(
    data_dir: Path, process: Callable[..., Process]
) -> None:
    ada = process(data_dir, "durable")
    _, url = ada.started()
    ask(url, "CREATE TABLE kept (n int)", "INSERT INTO kept SELECT generate_series(1, 100)")

    ada.popen.kill()

    assert within(GONE_SECONDS, lambda: not answers(data_dir)), "an orphan is left"
    server = embedded.start(data_dir)
    assert server.started_here
    assert ask(server.url, "SELECT count(*) FROM kept") == 100
    server.stop()


def test_a_second_process_connects_and_leaves_the_server_running(
    data_dir: Path, process: Callable[..., Process]
) -> None:
    server = embedded.start(data_dir, durable=False)
    bob = process(data_dir)

    assert bob.started() == (False, server.url)
    assert bob.leave() == ""
    assert ask(server.url, "SELECT 1") == 1

    server.stop()
    server.stop()
    assert not answers(data_dir)


def test_two_starts_at_once_share_one_server(
    tmp_path: Path, process: Callable[..., Process]
) -> None:
    ada, bob = process(tmp_path / "data"), process(tmp_path / "data")

    (ada_started, ada_url), (bob_started, bob_url) = ada.started(), bob.started()

    assert [ada_started, bob_started].count(True) == 1
    assert ada_url == bob_url
    assert ask(ada_url, "SELECT current_database()") == "todo"


def test_an_interrupted_first_start_is_made_good_by_the_next(
    tmp_path: Path, process: Callable[..., Process]
) -> None:
    ada = process(tmp_path / "data")
    assert within(5, lambda: any(tmp_path.glob("data.new-*/global")))
    ada.popen.kill()
    assert not (tmp_path / "data").exists()

    server = embedded.start(tmp_path / "data", durable=False)

    assert ask(server.url, "SELECT 1") == 1
    server.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.lock"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_an_interrupted_first_start_left_running_keeps_the_next_one_waiting(
    tmp_path: Path, process: Callable[..., Process]
) -> None:
    ada = process(tmp_path / "data")
    assert within(5, lambda: any(tmp_path.glob("data.new-*/global")))
    [initdb] = Path(f"/proc/{ada.popen.pid}/task/{ada.popen.pid}/children").read_text().split()
    os.kill(int(initdb), signal.SIGSTOP)
    ada.popen.kill()
    ada.popen.wait()

    with (tmp_path / "data.lock").open("rb") as lock:
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(int(initdb), signal.SIGCONT)
        fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.mark.parametrize(
    "name", ["l" * 100, "comma, and 'quote\"", "space %41 & é", os.fsdecode(b"caf\xe9")]
)
def test_any_path_will_do_and_a_second_process_finds_the_same_server(
    copy: Callable[[Path], Path], tmp_path: Path, name: str
) -> None:
    data_dir = copy(tmp_path / name)
    server = embedded.start(data_dir, durable=False)
    try:
        length = ask(server.url, "SELECT octet_length(current_setting('data_directory'))")
        assert length == len(os.fsencode(data_dir))
        second = embedded.start(data_dir)
        assert (second.started_here, second.url) == (False, server.url)
    finally:
        server.stop()
        socket_dir = Path(f"/tmp/todo-postgres-{os.geteuid()}")
        for folder in socket_dir.parent.glob(f"{socket_dir.name}-*"):
            if server.url.find(folder.name) > 0:
                folder.rmdir()


def test_variables_meant_for_another_postgresql_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGDATA": "/nowhere",
        "PGPORT": "1",
        "PGHOST": "elsewhere",
        "PGUSER": "eve",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "oom").touch()
    monkeypatch.setenv(
        "PG_OOM_ADJUST_FILE", str(tmp_path / "oom")
    )  # the server itself would write to it
    monkeypatch.setenv("LC_ALL", "xx_XX.nonsense")

    server = embedded.start(tmp_path / "data", durable=False)

    assert ask(server.url, "SELECT current_user || current_database()") == "postgrestodo"
    assert (tmp_path / "oom").read_text() == ""
    server.stop()


def test_variables_that_a_driver_reads_for_another_postgresql_are_ignored(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = embedded.start(data_dir, durable=False)
    for name in ("PGSSLMODE", "PGSSLNEGOTIATION", "PGTARGETSESSIONATTRS", "PGGSSLIB"):
        monkeypatch.setenv(name, "nonsense")
    monkeypatch.setenv("PGPASSFILE", str(data_dir))
    try:
        assert ask(server.complete_url(), "SELECT 1") == 1
    finally:
        server.stop()


@as_root
def test_a_full_disk_is_one_sentence_that_says_so(
    tmp_path: Path, process: Callable[..., Process]
) -> None:
    for size in ("size=20m", "nr_inodes=2"):
        mount = f'mount -t tmpfs -o {size} none {tmp_path} && exec "$@"'
        if subprocess.run(
            ["unshare", "-m", "sh", "-c", mount, "sh", "true"], capture_output=True, check=False
        ).returncode:
            pytest.skip("mounting is not allowed here")
        errors = process(
            tmp_path / "data", before=("unshare", "-m", "sh", "-c", mount, "sh")
        ).leave()
        assert errors.endswith(
            "the disk is full; make room, or set DATA_DIR to a folder on another disk.\n"
        )
        assert errors.count("\n") == 1


def test_too_few_open_files_are_one_sentence_that_says_so(
    tmp_path: Path, process: Callable[..., Process]
) -> None:
    errors = process(
        tmp_path / "data", before=("/bin/sh", "-c", 'ulimit -n 20; exec "$@"', "sh")
    ).leave()
    assert errors.endswith(
        "this process may open too few files; raise the limit with ulimit -n 1024.\n"
    )
    assert errors.count("\n") == 1


def test_it_listens_to_no_network_and_sorts_the_same_everywhere(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    try:
        assert ask(server.url, "SHOW listen_addresses") == ""
        assert ask(server.url, "SHOW fsync") == "on"
        assert ask(server.url, "SHOW server_encoding") == "UTF8"
        assert ask(server.url, "SELECT lower('ÄÉ') || ('Z' < 'a')") == "äétrue"
        assert data_dir.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()


def test_a_server_started_in_a_thread_outlives_the_thread(data_dir: Path) -> None:
    servers: list[embedded.Server] = []
    thread = threading.Thread(
        target=lambda: servers.append(embedded.start(data_dir, durable=False))
    )
    thread.start()
    thread.join()
    try:
        assert not within(0.3, lambda: not answers(data_dir))
    finally:
        servers[0].stop()
    assert not answers(data_dir)


@pytest.mark.parametrize(
    "who", ["a program of ours", "this one", "another user's PostgreSQL", "another PostgreSQL"]
)
def test_a_lock_whose_process_id_now_belongs_to_another_program_does_not_block(
    data_dir: Path, copy: Callable[[Path], Path], tmp_path: Path, who: str
) -> None:
    lock = old_lock(data_dir)
    with contextlib.ExitStack() as stack:
        pid = stack.enter_context(somebody(who, copy, tmp_path))
        (data_dir / "postmaster.pid").write_text(f"{pid}\n" + lock.split("\n", 1)[1])
        begin = time.monotonic()
        embedded.start(data_dir, durable=False).stop()
    assert time.monotonic() - begin < cluster.LAST_MOMENTS_SECONDS, (
        "it waited for a stranger to end"
    )


@pytest.mark.parametrize("left", [b"", b"\n", b"\0" * 90], ids=["empty", "blank", "zeros"])
def test_a_lock_that_a_power_cut_left_without_a_number_does_not_block(
    data_dir: Path, left: bytes
) -> None:
    for lock in (data_dir / "postmaster.pid", data_dir / ".s.PGSQL.5432.lock"):
        lock.write_bytes(left)
    embedded.start(data_dir, durable=False).stop()


def test_a_lock_of_a_server_of_this_folder_is_respected(data_dir: Path) -> None:
    """The control of the tests above."""
    server = embedded.start(data_dir, durable=False)
    lock = (data_dir / "postmaster.pid").read_bytes()
    assert cluster._may_run_here(int(lock.split()[0]), data_dir)
    cluster.disown_stale_locks(data_dir, data_dir)
    assert (data_dir / "postmaster.pid").read_bytes() == lock
    server.stop()


def old_lock(data_dir: Path) -> str:
    server = embedded.start(data_dir, durable=False)
    lock = (data_dir / "postmaster.pid").read_text()
    server.stop()
    return lock


@contextlib.contextmanager
def somebody(who: str, copy: Callable[[Path], Path], tmp_path: Path) -> Iterator[int]:
    """The process id of a program that runs."""
    if who == "this one":
        yield os.getpid()
    elif who == "another PostgreSQL":
        server = embedded.start(copy(tmp_path / "another"), durable=False)
        yield int((tmp_path / "another" / "postmaster.pid").read_text().split()[0])
        server.stop()
    else:
        named = "postgres" if "PostgreSQL" in who else "sleep"
        user = {"user": ADA.pw_uid} if "user" in who and os.geteuid() == 0 else {}
        other = subprocess.Popen([named, "60"], executable="/bin/sleep", **user)  # type: ignore[call-overload]
        try:
            yield other.pid
        finally:
            other.kill()
            other.wait()


def test_a_killed_server_starts_again(data_dir: Path) -> None:
    server = embedded.start(data_dir, durable=False)
    postmaster = int((data_dir / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    assert within(GONE_SECONDS, lambda: not answers(data_dir))

    again = embedded.start(data_dir, durable=False)

    assert again.started_here
    again.stop()
    server.stop()


def test_data_of_another_version_is_named_with_what_to_do(data_dir: Path) -> None:
    (data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(
        embedded.EmbeddedError, match=r"written by PostgreSQL 9, .* set POSTGRES_BIN_DIR .* or move"
    ):
        embedded.start(data_dir)


def test_a_second_source_opens_what_the_first_cannot(tmp_path: Path) -> None:
    other = tmp_path / "PG_VERSION"
    majors = {found.major for folder in binaries._folders() if (found := binaries._inspect(folder))}
    for major in majors:
        other.write_text(f"{major}\n")
        assert binaries.find(tmp_path).major == major


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BIN_DIR", "/nowhere")
    with pytest.raises(embedded.EmbeddedError, match="POSTGRES_BIN_DIR is '/nowhere'"):
        embedded.start(tmp_path / "data")


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "photo").touch()
    with pytest.raises(embedded.EmbeddedError, match="not PostgreSQL's"):
        embedded.start(tmp_path / "data")
    assert (tmp_path / "data" / "photo").exists()


def test_a_failed_start_shows_the_end_of_the_log(data_dir: Path) -> None:
    with (data_dir / "postgresql.conf").open("a") as file:
        file.write("nonsense = 1\n")
    with pytest.raises(
        embedded.EmbeddedError, match='unrecognized configuration parameter "nonsense"'
    ):
        embedded.start(data_dir)


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(embedded.EmbeddedError, match="cannot write to /proc"):
        embedded.start(Path("/proc/data"))


@as_root
def test_a_normal_user_can_start_it_and_root_after_them(
    template: Path, process: Callable[..., Process]
) -> None:
    python = _python_for_everybody()
    home = Path("/tmp") / f"todo-test-{os.getpid()}"
    shutil.copytree(template, home / "data")
    (home / "backend").mkdir()
    shutil.copytree(BACKEND / "postgres", home / "backend" / "postgres")
    for path in (home, *home.rglob("*")):
        os.chown(path, ADA.pw_uid, ADA.pw_gid)
    postgres = binaries.find(template)
    environment = {"POSTGRES_BIN_DIR": str(postgres.folder), "PYTHONPATH": str(home / "backend")}
    if not _may_run(str(postgres.postgres)):
        pytest.skip("PostgreSQL's programs lie in a folder that only root may enter")
    try:
        ada = process(
            home / "data",
            python=python,
            user=ADA.pw_uid,
            group=ADA.pw_gid,
            extra_groups=[],
            env=environment | {"PATH": ""},
        )
        assert ada.started()[0]
        assert ada.leave() == ""

        root = embedded.start(home / "data", durable=False)
        assert root.started_here
        root.stop()
        assert {path.stat().st_uid for path in (home / "data").rglob("*")} == {ADA.pw_uid}, (
            "taken from its owner"
        )
    finally:
        shutil.rmtree(home)


@as_root
def test_root_without_user_namespaces_becomes_nobody(
    data_dir: Path, tmp_path: Path, process: Callable[..., Process]
) -> None:
    """A chroot refuses user namespaces, as containers do."""
    jail = tmp_path / "jail"
    jail.mkdir()
    enter = f'mount --rbind / {jail} && cd {jail} && exec chroot {jail} sh -c \'cd "$0" && exec "$@"\' {BACKEND} "$@"'
    if subprocess.run(
        ["unshare", "-m", "sh", "-c", enter, "sh", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting is not allowed here")

    ada = process(data_dir, before=("unshare", "-m", "sh", "-c", enter, "sh"))

    started, url = ada.started()
    assert started
    assert ask(url, "SELECT 1") == 1
    assert data_dir.stat().st_uid not in (0, os.geteuid())
    assert ada.leave() == ""


@as_root
def test_root_that_may_become_nobody_else_gets_one_sentence(
    tmp_path: Path, process: Callable[..., Process]
) -> None:
    limit = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    if subprocess.run(
        ["unshare", "-Ur", "sh", "-c", limit, "sh", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("user namespaces are not allowed here")

    errors = process(tmp_path / "data", before=("unshare", "-Ur", "sh", "-c", limit, "sh")).leave()

    assert errors.startswith(
        "EmbeddedError: The embedded PostgreSQL cannot start: this process is root"
    )
    assert errors.count("\n") == 1


def _python_for_everybody() -> str:
    for python in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
        recent = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        if _may_run(*recent):
            return python
    pytest.skip("no Python that another user may run")


def _may_run(*command: str) -> bool:
    arguments = command if len(command) > 1 else (*command, "--version")
    try:
        ended = subprocess.run(
            arguments,
            user=ADA.pw_uid,
            group=ADA.pw_gid,
            extra_groups=[],
            capture_output=True,
            cwd="/",
            check=False,
        )
    except OSError:
        return False
    return ended.returncode == 0
