"""A real Better Auth to get tokens from: installed once, then a process of its own per issuer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack
from urllib.parse import quote, unquote

import httpx

from tests import javascript
from tests.people import SECRET
from tests.servers import clean_environment, free_port

SOURCES = Path(__file__).resolve().parent / "better_auth"
START_SECONDS = 30
STOP_SECONDS = 10
LISTENING = "Better Auth is listening"  # issuer.mjs prints it


class Settings(TypedDict, total=False):
    """What tests/better_auth/issuer.mjs reads from its environment."""

    ALGORITHM: str
    ID_KIND: str
    PAYLOAD: str
    ROTATION_SECONDS: int
    GRACE_SECONDS: int
    COOKIE_STRATEGY: str
    BASE_URL: str
    BETTER_AUTH_SECRET: str
    NODE_ENV: str


@dataclass(frozen=True)
class Session:
    """A user who is signed in. None of these values is a JWT for a backend; `Issuer.token` gets
    that."""

    user_id: str
    email: str
    session_token: str  # opaque, as in the reply's body
    cookies: Mapping[str, str]

    @property
    def signed_session_token(self) -> str:
        """`token.signature`, as in the cookie."""
        return unquote(self._cookie("session_token"))

    @property
    def session_cookie(self) -> str:
        """The session itself, as the cookie strategy encodes it."""
        return self._cookie("session_data")

    def _cookie(self, name: str) -> str:
        return next(value for key, value in self.cookies.items() if key.endswith("." + name))


class Issuer:
    """A running Better Auth. It issues in the name of `base_url`, which is `url` unless set
    otherwise."""

    def __init__(self, folder: Path, database_url: str, settings: Settings) -> None:
        self._port = free_port()
        self._database_url = database_url
        self._settings = settings
        self.url = f"http://127.0.0.1:{self._port}"
        self.jwks_url = f"{self.url}/api/auth/jwks"
        self.log = folder / f"issuer-{self._port}.log"
        self._client = httpx.Client(base_url=self.url, timeout=20, verify=False)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return self._settings.get("BASE_URL", self.url)

    def sign_up(
        self, email: str, password: str = "a long password", name: str = "Ada Lovelace"
    ) -> Session:
        body = {"email": email, "password": password, "name": name}
        reply = self._request("POST", "/api/auth/sign-up/email", json=body)
        self._client.cookies.clear()  # every request says itself whose it is
        answer = reply.json()
        return Session(answer["user"]["id"], email, answer["token"], dict(reply.cookies))

    def token(self, session: Session) -> str:
        """The JWT for a backend."""
        return str(self._request("GET", "/api/auth/token", session).json()["token"])

    def published_keys(self) -> list[dict[str, Any]]:
        """The key set as published now. The very first look makes the first key."""
        keys: list[dict[str, Any]] = self._request("GET", "/api/auth/jwks").json()["keys"]
        return keys

    def email_verification_token(self, session: Session) -> str:
        """The token in the e-mail that asks `session`'s user to confirm the address."""
        self._request(
            "POST", "/api/auth/send-verification-email", session, json={"email": session.email}
        )
        return str(self._request("GET", "/test/mail").json()[-1]["token"])

    def rotate(self) -> None:
        """Let the current key expire: the next token comes with a new one, the old one stays
        published for a while."""
        self._request("POST", "/test/rotation")

    def withdraw(self, kid: str) -> None:
        self._request("DELETE", f"/test/keys/{quote(kid, safe='')}")

    def start(self) -> None:
        """Start it, and return when it answers."""
        defaults = {
            "PORT": str(self._port),
            "BASE_URL": self.base_url,
            "DATABASE_URL": self._database_url,
            "BETTER_AUTH_SECRET": SECRET,
            "NODE_ENV": "development",
            "NODE_COMPILE_CACHE": str(javascript.CACHE / "compiled"),
        }
        settings = {name: str(value) for name, value in self._settings.items()}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                javascript.command(SOURCES / "issuer.mjs"),
                cwd=javascript.packages(SOURCES),
                env=clean_environment(**{**defaults, **settings}),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._wait_until_it_listens(self._process)

    def stop(self) -> None:
        """End the process. Its database stays, and so do its users and keys."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(STOP_SECONDS)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def restart(self, **settings: Unpack[Settings]) -> None:
        """Start again on the same port and database, with `settings` on top of the ones before."""
        self.stop()
        self._settings = {**self._settings, **settings}
        self.start()

    def close(self) -> None:
        self.stop()
        self._client.close()

    def _request(
        self, method: str, path: str, session: Session | None = None, **rest: Any
    ) -> httpx.Response:
        cookies = session.cookies.items() if session else ()
        headers = {
            "Origin": self.base_url,
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies),
        }
        reply = self._client.request(method, path, headers=headers, **rest)
        assert reply.is_success, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        """Known from its log: whoever keeps connecting to a free port of this machine may in the
        end meet himself."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            printed = self.log.read_text(errors="replace")
            if LISTENING in printed:
                return
            assert not ended, printed
            time.sleep(0.01)
        raise AssertionError(f"not up after {START_SECONDS} s: {printed}")


@contextmanager
def running_issuer(
    folder: Path, database_url: str, **settings: Unpack[Settings]
) -> Iterator[Issuer]:
    """An issuer over the (at first empty) database, with its log in `folder`."""
    issuer = Issuer(folder, database_url, settings)
    try:
        issuer.start()
        yield issuer
    finally:
        issuer.close()
