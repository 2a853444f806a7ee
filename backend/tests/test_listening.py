"""HOST means the same with one worker, with several and with --reload; what cannot be used is said in one sentence."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
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
def everywhere(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[dict[str, servers.Running]]:
    """A server in each mode on HOST=::, started side by side."""
    started = {}
    for mode, arguments in MODES.items():
        folder = tmp_path_factory.mktemp("listening")
        started[mode] = servers.start(folder, *arguments, HOST="::", NEON_DATABASE_URL=database_url)
    for one in started.values():
        one.url = one.url.replace("127.0.0.1", "[::1]")
        servers.wait_until_up(one)
    yield started
    for one in started.values():
        one.stop()


@needs_ipv6
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_two_colons_are_every_address_of_both_families(
    everywhere: dict[str, servers.Running], mode: str, address: str
) -> None:
    url = everywhere[mode].url.replace("[::1]", address)
    assert httpx.get(f"{url}/health").json() == {"status": "healthy"}


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


def test_an_address_of_a_name_that_this_machine_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("host", ["192.0.2.1", "999.1.1.1", "no-such-name.invalid", "a" * 70, "é" * 70])
def test_a_host_that_is_no_address_of_this_machine_is_refused_in_one_sentence(host: str) -> None:
    with pytest.raises(SettingError) as caught:
        server.bind(host, 0)
    assert str(caught.value) == f"HOST {host} is no address of this machine; try 127.0.0.1 or 0.0.0.0."


def test_a_port_that_is_taken_is_refused_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingError) as caught:
            server.bind("127.0.0.1", port)
    assert f"PORT {port} on HOST 127.0.0.1 is taken by another program; choose another" in str(caught.value)


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
    ended = subprocess.run([sys.executable, program], env={"PYTHONPATH": str(BACKEND)}, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "is taken by another program" in ended.stderr
    assert "Traceback" not in ended.stderr
