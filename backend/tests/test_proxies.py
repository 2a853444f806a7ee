"""Where a network lets nobody out but through a proxy, the frontend's keys are fetched through it."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from errors import Unavailable
from tests.servers import free_port
from tests.signers import ORIGIN, Signer, key_set
from tests.tls import Authority
from tokens import jwks, verification
from tokens.keys import Keys, PublishedKeys

ADA = Signer("EdDSA", "ada-key")
HOST = "keys.example.com"  # known to the proxy only
PASSWORD = "pass:word@of/the-proxy"


class Proxy:
    """Answers CONNECT (RFC 9110 section 9.3.6), and behind it stands the frontend itself, with its
    certificate."""

    def __init__(self, certificate: tuple[str, str], refusal: bytes = b"") -> None:
        self.heads: list[bytes] = []
        self.refusal = refusal
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(*certificate)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):  # closed, when the test is over
            while True:
                client, _ = self.listener.accept()
                with client, suppress(OSError):
                    self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        self.heads.append(_head(client))
        if self.refusal:
            client.sendall(self.refusal)
            return
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with self._tls.wrap_socket(client, server_side=True) as frontend:
            self.heads.append(_head(frontend))
            body = key_set(ADA)
            frontend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def _head(client: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        received = client.recv(4096)
        if not received:
            raise ConnectionResetError
        head += received
    return head


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> tuple[str, str]:
    file, key = authority.certify(HOST, server=True)
    return str(file), str(key)


@contextmanager
def standing(proxy: Proxy) -> Iterator[Proxy]:
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.listener.shutdown(socket.SHUT_RDWR)
        proxy.listener.close()
        thread.join(5)


@pytest.fixture(autouse=True)
def _no_other_proxy(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


def trouble(url: str) -> str:
    """Why the keys at `url` cannot be had, as `/ready` and the log say it."""
    checked = verification.Verifier(Keys(b"", PublishedKeys(url)), ORIGIN, ORIGIN)
    with pytest.raises(Unavailable):
        asyncio.run(checked.user_of(ADA.token().encode()))
    return checked.keys.check().detail


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_keys_are_fetched_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str], variable: str
) -> None:
    with standing(Proxy(certificate)) as proxy:
        monkeypatch.setenv(variable, f"http://{proxy.place}")
        assert set(jwks.fetch(f"https://{HOST}/api/auth/jwks")) == {ADA.kid}
    assert proxy.heads[0].startswith(f"CONNECT {HOST}:443 ".encode())
    assert proxy.heads[1].startswith(b"GET /api/auth/jwks HTTP/1.1\r\n")
    assert f"Host: {HOST}".encode() in proxy.heads[1]
    assert b"Proxy-Authorization" not in b"".join(proxy.heads)


@pytest.mark.parametrize("scheme", ["", "http://", "HTTP://"])
def test_a_proxy_is_told_its_password_and_nobody_else_is(
    monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str], scheme: str
) -> None:
    with standing(Proxy(certificate)) as proxy:
        monkeypatch.setenv(
            "HTTPS_PROXY", f"{scheme}ada:pass%3Aword%40of%2Fthe-proxy@{proxy.place}/"
        )
        assert set(jwks.fetch(f"https://{HOST}:8443/jwks")) == {ADA.kid}
    expected = base64.b64encode(f"ada:{PASSWORD}".encode())
    assert proxy.heads[0].startswith(f"CONNECT {HOST}:8443 ".encode())
    assert b"Proxy-Authorization: Basic " + expected + b"\r\n" in proxy.heads[0]
    assert b"Authorization" not in proxy.heads[1]


def test_the_frontend_behind_a_proxy_must_prove_its_name(
    monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str]
) -> None:
    with standing(Proxy(certificate)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.place}")
        assert "certificate verify failed" in trouble("https://another.example.com/jwks")
        monkeypatch.delenv("SSL_CERT_FILE")
        assert "certificate verify failed" in trouble(f"https://{HOST}/jwks")


@pytest.mark.parametrize(
    ("url", "excepted"),
    [
        (f"https://{HOST}/jwks", HOST),
        (f"https://{HOST}/jwks", "other.example.org, .example.com"),
        (f"https://{HOST}/jwks", "*"),
        ("https://localhost:{port}/jwks", ""),
        ("https://127.0.0.1:{port}/jwks", ""),
        ("https://[::1]:{port}/jwks", ""),
        ("http://localhost:{port}/jwks", ""),
        (f"http://{HOST}/jwks", ""),  # development only: production asks for https
    ],
)
def test_some_are_asked_without_the_proxy(
    monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str], url: str, excepted: str
) -> None:
    with standing(Proxy(certificate)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.place}")
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.place}")
        monkeypatch.setenv("NO_PROXY", excepted)
        assert "proxy" not in trouble(url.format(port=free_port()))
    assert proxy.heads == []


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (b"HTTP/1.1 407 canary\r\n\r\n", "the proxy answers 407"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\ncanary", "the proxy answers 403"),
        (b"canary\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\ncanary", "SSL"),
    ],
)
def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str], refusal: bytes, said: str
) -> None:
    with standing(Proxy(certificate, refusal)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ada:canary@{proxy.place}")
        told = trouble(f"https://{HOST}/jwks")
    assert said in told
    assert f"through the proxy {proxy.place}" in told
    assert "canary" not in told


@pytest.mark.parametrize(
    "value",
    [
        "socks5://127.0.0.1:1080",
        "https://ada:canary@127.0.0.1:1",
        "http://",
        "http://[canary",
        "http://a:port",
    ],
)
def test_a_proxy_that_cannot_be_used_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    told = trouble(f"https://{HOST}/jwks")
    assert "HTTPS_PROXY must be like http://proxy.example.com:3128" in told
    assert "canary" not in told


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://ada:canary@{place}")
    told = trouble(f"https://{HOST}/jwks")
    assert "ConnectionRefusedError" in told
    assert f"through the proxy {place}" in told
    assert "canary" not in told
