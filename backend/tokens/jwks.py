"""A JWK set (RFC 7517) from the network: fetched within limits, read with distrust."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

import logs
import strict_json
from config import LOOPBACK

CONNECT_SECONDS = 1.0
TOTAL_SECONDS = 3.0
MAX_BYTES = 256 * 1024
MAX_KEYS = 64
MINIMUM_RSA_BITS = 2048
REDIRECTS = (300, 301, 302, 303, 307, 308)
PROXY_PORT = 80  # where its URL names none

_BY_CURVE = {"OKP Ed25519": "EdDSA", "EC P-256": "ES256", "EC P-521": "ES512"}
_RSA_ALGORITHMS = ("RS256", "PS256")
_MISLABELLED = (
    None,
    *_BY_CURVE.values(),
)  # an RSA key saved without `alg` is shown with a later setting


class FetchError(Exception):
    """Why there is no set: one sentence for the log."""


@dataclass(frozen=True)
class Key:
    """One key and the one algorithm it is for. Two are equal if they were published alike
    (`source`)."""

    algorithm: str
    id: str | None
    material: Any = field(repr=False, compare=False)
    source: str = field(default="", repr=False)

    def verifies(self, signing_input: bytes, signature: bytes) -> bool:
        return jwt.get_algorithm_by_name(self.algorithm).verify(
            signing_input, self.material, signature
        )


def fetch(url: str) -> dict[str, Key]:
    """The usable keys at `url`, by id. Blocks for about TOTAL_SECONDS, once the name is found;
    follows no redirect."""
    return parse(_get(url))


def parse(text: bytes) -> dict[str, Key]:
    """The usable keys of a JWK set. One that is not usable is left out; only a text that is no set
    is an error."""
    try:
        entries = strict_json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError):
        raise FetchError("the answer is not a JSON object with a list of keys") from None
    if not isinstance(entries, list):
        raise FetchError("the answer is not a JSON object with a list of keys")
    found = [key for entry in entries[:MAX_KEYS] if (key := _key(entry)) is not None]
    return {key.id: key for key in found if key.id}


def _key(entry: Any) -> Key | None:
    """The key, its algorithm derived from its type and curve: `alg` may be missing or wrong, and
    says only RS or PS."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or "d" in entry:
        return None
    if entry.get("use") not in (None, "sig"):
        return None
    algorithm = _algorithm(entry)
    if algorithm is None:
        return None
    try:
        source = json.dumps(entry, sort_keys=True)
        material = jwt.get_algorithm_by_name(algorithm).from_jwk(source)
    except Exception:  # a bad key, in whatever way, is left out
        return None
    if isinstance(material, rsa.RSAPublicKey) and material.key_size < MINIMUM_RSA_BITS:
        return None
    return Key(algorithm, entry["kid"], material, source)


def _algorithm(entry: dict[str, Any]) -> str | None:
    if entry.get("kty") == "RSA":
        named = entry.get("alg")
        if named in _MISLABELLED:
            return "RS256"
        return named if named in _RSA_ALGORITHMS else None
    return _BY_CURVE.get(f"{entry.get('kty')} {entry.get('crv')}")


def _get(url: str) -> bytes:
    deadline = time.monotonic() + TOTAL_SECONDS
    parts = urlsplit(url)
    proxy = _proxy(parts)
    connection = _connection(parts, proxy)
    try:
        connection.connect()
        with _cut_off(connection.sock, deadline):
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(
                "GET", path, headers={"Accept": "application/json", "User-Agent": "todo-api"}
            )
            with connection.getresponse() as answer:
                return _body(answer, url)
    except (OSError, http.client.HTTPException) as error:
        reason = _reason(error)
        if time.monotonic() >= deadline:
            reason = f"the answer took longer than {TOTAL_SECONDS:g} s"
        if proxy is not None:
            reason = f"{reason}, through the proxy {proxy.hostname}:{proxy.port or PROXY_PORT}"
        raise FetchError(reason) from None
    finally:
        connection.close()


def _reason(error: Exception) -> str:
    """One phrase. What was received is not quoted: it belongs into no log."""
    if not isinstance(error, OSError):
        return "no HTTP"
    refusal = re.match("Tunnel connection failed: ([0-9]{3})", str(error))
    return f"the proxy answers {refusal[1]}" if refusal else f"{type(error).__name__}: {error}"


def _proxy(target: SplitResult) -> SplitResult | None:
    """The proxy to `target` as curl and others find it: from HTTPS_PROXY and NO_PROXY, and none on
    this machine.

    For https only. Its certificate proves the frontend whatever lies between; production takes keys
    no other way.
    """
    named = getproxies_environment()
    if target.scheme != "https" or target.hostname in LOOPBACK or "https" not in named:
        return None
    if proxy_bypass(target.netloc):  # by NO_PROXY
        return None
    url = named["https"] if "://" in named["https"] else f"http://{named['https']}"
    try:
        proxy = urlsplit(url)
        usable = proxy.scheme == "http" and bool(proxy.hostname) and proxy.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise FetchError(
            "HTTPS_PROXY must be like http://proxy.example.com:3128; other kinds are not supported"
        )
    return proxy


def _connection(target: SplitResult, proxy: SplitResult | None) -> http.client.HTTPConnection:
    host, port = target.hostname or "", target.port
    if target.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    context = ssl.create_default_context()
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=context)
    near = proxy.hostname or "", proxy.port or PROXY_PORT
    connection = http.client.HTTPSConnection(*near, timeout=CONNECT_SECONDS, context=context)
    connection.set_tunnel(host, port, _credentials(proxy))
    return connection


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


@contextmanager
def _cut_off(connected: socket.socket, deadline: float) -> Iterator[None]:
    """Shut the connection at the deadline: a socket's own timeout starts anew with every byte that
    drips in."""
    left = max(deadline - time.monotonic(), 0.001)
    connected.settimeout(left)
    guard = threading.Timer(left, _shut, [connected])
    guard.daemon = True
    guard.start()
    try:
        yield
        if time.monotonic() >= deadline:
            raise TimeoutError  # what was read may have been cut off
    finally:
        guard.cancel()


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _body(answer: http.client.HTTPResponse, url: str) -> bytes:
    if answer.status in REDIRECTS:
        place = _place(url, answer.getheader("Location"))
        raise FetchError(
            f"the answer is {answer.status}, a redirect to {place}, which is not followed; "
            "set BETTER_AUTH_URL or AUTH_JWKS_URL to the address that answers itself"
        )
    if answer.status != http.client.OK:
        raise FetchError(f"the answer is {answer.status}")
    text = answer.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise FetchError(f"the answer is larger than {MAX_BYTES // 1024} KiB")
    return text


def _place(url: str, location: str | None) -> str:
    """Where a redirect from `url` leads, without what may be secret in it: user, password and
    query."""
    if not location:
        return "an address that it does not name"
    try:
        parts = urlsplit(urljoin(url, location))
    except ValueError:
        return "(not shown)"
    return logs.quotable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
