"""HOST and KEEP_ALIVE_SECONDS mean the same with one worker, with several and with --reload.

What cannot be used is said in one sentence.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import server
from errors import SettingError
from tests import servers

MODES = {"one worker": (), "two workers": ("--workers", "2"), "reload": ("--reload",)}
BACKEND = Path(__file__).resolve().parents[1]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


@pytest.fixture(scope="module")
def everywhere(
    tmp_path_factory: pytest.TempPathFactory, database_url: str
) -> Iterator[dict[str, servers.Running]]:
    """A server in each mode on HOST=::, with KEEP_ALIVE_SECONDS=1, started side by side."""
    settings = {"HOST": "::", "KEEP_ALIVE_SECONDS": "1", "NEON_DATABASE_URL": database_url}
    started = {}
    with few_open_files():
        for mode, arguments in MODES.items():
            folder = tmp_path_factory.mktemp("listening")
            started[mode] = servers.start(folder, *arguments, how="anew", **settings)
    for one in started.values():
        one.url = one.url.replace("127.0.0.1", "[::1]")
        servers.wait_until_up(one)
    yield started
    for one in started.values():
        one.stop()


@contextmanager
def few_open_files() -> Iterator[None]:
    """What is started meanwhile may have 512 open files, unless it asks for more."""
    if sys.platform == "win32":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@needs_ipv6
@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="no /proc")
@pytest.mark.parametrize("mode", MODES)
def test_there_may_be_more_connections_than_a_shell_allows_open_files(
    everywhere: dict[str, servers.Running], mode: str
) -> None:
    limits = Path(f"/proc/{everywhere[mode].process.pid}/limits").read_text()
    [soft] = [line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")]
    assert int(soft) > 512


@needs_ipv6
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_two_colons_are_every_address_of_both_families(
    everywhere: dict[str, servers.Running], mode: str, address: str
) -> None:
    url = everywhere[mode].url.replace("[::1]", address)
    assert httpx.get(f"{url}/health").json() == {"status": "healthy"}


@needs_ipv6
@pytest.mark.parametrize("mode", MODES)
def test_a_connection_rests_for_as_long_as_the_setting_says(
    everywhere: dict[str, servers.Running], mode: str
) -> None:
    port = httpx.URL(everywhere[mode].url).port or 0
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: todo.example\r\n\r\n")
        assert line.recv(4096).endswith(b"}")
        began = time.monotonic()
        assert line.recv(1) == b""
        assert 0.8 < time.monotonic() - began < 3


def reachable(listeners: list[socket.socket]) -> set[str]:
    """At which of the loopback addresses somebody is connected."""
    port = listeners[0].getsockname()[1]
    found = set()
    for listener in listeners:
        listener.listen()
    for address in ("127.0.0.1", "::1"):
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            continue
        found.add(address)
    for listener in listeners:
        listener.close()
    return found


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("::1", {"::1"}),
        ("::", {"127.0.0.1", "::1"}),
        ("0:0:0:0:0:0:0:0", {"127.0.0.1", "::1"}),
    ],
)
def test_a_host_is_the_addresses_that_it_names(host: str, addresses: set[str]) -> None:
    assert reachable(server.bind(host, 0)) == addresses


@needs_ipv6
def test_a_name_is_all_of_its_addresses_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "127.0.0.1", "::1")
    assert reachable(server.bind("todo.example", 0)) == {"127.0.0.1", "::1"}


def test_an_address_of_a_name_that_this_machine_does_not_have_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container without IPv6 whose /etc/hosts says that localhost is ::1 too."""
    resolve(monkeypatch, "192.0.2.1", "127.0.0.1")
    assert reachable(server.bind("todo.example", 0)) == {"127.0.0.1"}


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    real = socket.getaddrinfo

    def fake(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "todo.example":
            return real(host, port, *rest, **more)
        return [info for address in addresses for info in real(address, port, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", fake)


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "999.1.1.1", "no-such-name.invalid", "a" * 70, "é" * 70]
)
def test_a_host_that_is_no_address_of_this_machine_is_refused_in_one_sentence(host: str) -> None:
    with pytest.raises(SettingError) as caught:
        server.bind(host, 0)
    assert (
        str(caught.value) == f"HOST {host} is no address of this machine; try 127.0.0.1 or 0.0.0.0."
    )


def test_a_port_that_is_taken_is_refused_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingError) as caught:
            server.bind("127.0.0.1", port)
    assert f"PORT {port} on HOST 127.0.0.1 is taken by another program; choose another" in str(
        caught.value
    )


def test_a_port_that_is_taken_meanwhile_is_too(tmp_path: Path) -> None:
    """Two starts may both have bound the port while neither listened yet."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import socket, sys
            import server
            from errors import SettingError
            listeners = server.bind("127.0.0.1", 0)
            other = socket.socket()
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(listeners[0].getsockname())
            other.listen()
            try:
                server.run(listeners)
            except SettingError as error:
                sys.exit(str(error))
        """)
    )
    ended = subprocess.run(
        [sys.executable, program], env={"PYTHONPATH": str(BACKEND)}, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "is taken by another program" in ended.stderr
    assert "Traceback" not in ended.stderr
