"""What a real Better Auth issues is accepted or refused as docs/tokens.md says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

import config
from errors import Unauthorized
from postgres import embedded
from tests import servers
from tests.better_auth_server import Issuer, Session, Settings, running_issuer
from tests.conftest import sql
from tests.people import SECRET
from tokens import keys, verification
from tokens.keys import Keys, PublishedKeys

USE_THE_JWT = "looks like a Better Auth session token; use GET /api/auth/token"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory, cluster: embedded.Server) -> Iterator[Issuer]:
    sql(cluster.url, "CREATE DATABASE published")
    with running_issuer(
        tmp_path_factory.mktemp("issuer"), cluster.url.replace("/todo?", "/published?")
    ) as started:
        yield started


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory, database_url: str, issuer: Issuer
) -> Iterator[servers.Running]:
    folder = tmp_path_factory.mktemp("api")
    with servers.running(
        folder, NEON_DATABASE_URL=database_url, BETTER_AUTH_URL=issuer.url
    ) as started:
        yield started


@pytest.fixture(scope="module")
def ada(issuer: Issuer) -> Session:
    return issuer.sign_up("ada@example.com")


def verifier(issuer: Issuer) -> verification.Verifier:
    return verification.Verifier(
        Keys(SECRET.encode(), PublishedKeys(issuer.jwks_url)), issuer.url, issuer.url
    )


def user_of(verifier: verification.Verifier, token: str) -> verification.CurrentUser:
    return asyncio.run(verifier.user_of(token.encode()))


def refusal(verifier: verification.Verifier, token: str) -> Unauthorized:
    with pytest.raises(Unauthorized) as refused:
        user_of(verifier, token)
    return refused.value


def tasks(api: servers.Running, user_id: str, token: str) -> httpx.Response:
    return httpx.get(
        f"{api.url}/api/{user_id}/tasks",
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
        verify=False,
    )


def test_a_user_of_the_frontend_as_it_comes(
    issuer: Issuer, api: servers.Running, ada: Session
) -> None:
    assert (
        httpx.get(f"{api.url}/ready").json()["checks"]["keys"]["detail"].endswith("not needed yet")
    )
    token = issuer.token(ada)
    assert tasks(api, ada.user_id, token).status_code == 200
    assert tasks(api, "somebody-else", token).status_code == 403
    assert user_of(verifier(issuer), token) == {"id": ada.user_id, "email": ada.email}
    assert (
        "1 published, fetched 0 s ago"
        in httpx.get(f"{api.url}/ready").json()["checks"]["keys"]["detail"]
    )


def test_neighbours_of_the_token_do_not_count(
    issuer: Issuer, api: servers.Running, ada: Session
) -> None:
    for neighbour, reason in {
        issuer.email_verification_token(ada): "missing_subject",
        ada.session_token: "malformed_token",
        ada.signed_session_token: "malformed_token",
    }.items():
        reply = tasks(api, ada.user_id, neighbour)
        assert (reply.status_code, reply.json()["reason"]) == (401, reason)
        assert reason == "missing_subject" or USE_THE_JWT in reply.headers["WWW-Authenticate"]


def test_the_log_holds_no_token_secret_or_address(
    issuer: Issuer, api: servers.Running, ada: Session
) -> None:
    token = issuer.token(ada)
    forged = token[:-8] + "AAAAAAAA"
    named = jwt.encode(
        {"sub": "ada", "iss": ada.email, "aud": token}, SECRET, "HS256", {"kid": ada.email}
    )
    other = jwt.encode({"sub": "ada", "aud": token}, SECRET, "HS256")
    asked = [
        token,
        forged,
        named,
        other,
        issuer.email_verification_token(ada),
        ada.signed_session_token,
        SECRET,
    ]
    statuses = [tasks(api, ada.user_id, one).status_code for one in asked]
    assert statuses == [200, 401, 401, 401, 401, 401, 401]

    log = api.printed()
    for reason in (
        "bad_signature",
        "wrong_issuer",
        "wrong_audience",
        "missing_subject",
        "malformed_token",
    ):
        assert reason in log
    for canary in [
        SECRET,
        ada.email,
        *(part for one in asked for part in one.split(".") if len(part) > 20),
    ]:
        assert canary not in log


@pytest.mark.parametrize(
    ("algorithm", "settings", "cookie_refused_as"),
    [
        ("ES256", {"COOKIE_STRATEGY": "jwt"}, "missing_subject"),  # signed with the secret
        (
            "ES512",
            {"COOKIE_STRATEGY": "published"},
            "unsupported_type",
        ),  # with the published key, and names the user
    ],
)
def test_the_first_request_after_a_rotation_to_another_algorithm_succeeds(
    issuer: Issuer,
    api: servers.Running,
    ada: Session,
    algorithm: str,
    settings: Any,
    cookie_refused_as: str,
) -> None:
    before = issuer.token(ada)
    issuer.restart(ALGORITHM=algorithm, **settings)
    issuer.rotate()
    bob = issuer.sign_up(f"{algorithm.lower()}@example.com")
    token = issuer.token(bob)
    assert jwt.get_unverified_header(token)["alg"] == algorithm

    assert tasks(api, bob.user_id, token).status_code == 200
    assert tasks(api, ada.user_id, before).status_code == 200, "the old key is still published"
    assert user_of(verifier(issuer), token) == {"id": bob.user_id, "email": bob.email}

    cookie = tasks(api, bob.user_id, bob.session_cookie)
    assert (cookie.status_code, cookie.json()["reason"]) == (401, cookie_refused_as)


def test_rs256_a_minimal_payload_and_ids_that_are_uuids(
    tmp_path: Path, empty_database: Callable[[], str]
) -> None:
    settings: Settings = {
        "ALGORITHM": "RS256",
        "ID_KIND": "uuid",
        "PAYLOAD": "minimal",
        "COOKIE_STRATEGY": "jwe",
    }
    with running_issuer(tmp_path, empty_database(), **settings) as issuer:
        bob = issuer.sign_up("bob@example.com")
        token = issuer.token(bob)
        assert jwt.get_unverified_header(token)["alg"] == "RS256"
        assert len(bob.user_id) == 36
        assert user_of(verifier(issuer), token) == {"id": bob.user_id, "email": None}
        assert refusal(verifier(issuer), bob.session_cookie).reason == "malformed_token"


def test_a_withdrawn_key_is_refused_within_the_refresh_time(
    issuer: Issuer, ada: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "FRESH_SECONDS", 0.3)
    monkeypatch.setattr(keys, "JITTER_SECONDS", 0.0)
    token = issuer.token(ada)
    checked = verifier(issuer)

    async def seconds_until_refused() -> float:
        await checked.user_of(token.encode())
        issuer.withdraw(jwt.get_unverified_header(token)["kid"])
        began = time.monotonic()
        try:
            while time.monotonic() < began + 10:
                await checked.user_of(token.encode())  # remembered, and refused all the same
                await asyncio.sleep(0.01)
        except Unauthorized as refused:
            if refused.reason == "unknown_key":
                return time.monotonic() - began
        raise AssertionError("never refused as unknown")

    assert asyncio.run(seconds_until_refused()) < 3.0
    assert user_of(verifier(issuer), issuer.token(ada))["id"] == ada.user_id


def test_ps256_ids_that_are_numbers_and_a_base_url_with_a_path(
    tmp_path: Path, empty_database: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    with running_issuer(tmp_path, empty_database(), ALGORITHM="PS256", ID_KIND="serial") as issuer:
        bob = issuer.sign_up("bob@example.com")
        token = issuer.token(bob)
        assert jwt.get_unverified_header(token)["alg"] == "PS256"
        assert user_of(verifier(issuer), token)["id"] == bob.user_id == "1"

        configured = f"{issuer.url.replace('127.0.0.1', 'localhost')}/accounts"
        issuer.restart(BASE_URL=configured)
        cookies = "; ".join(f"{name}={value}" for name, value in bob.cookies.items())
        token = httpx.get(f"{issuer.url}/accounts/token", headers={"Cookie": cookies}).json()[
            "token"
        ]
        settings = config.load(better_auth_url=configured, better_auth_secret=SECRET)
        assert settings.jwks_url == f"{configured}/jwks"
        assert user_of(verification.verifier(settings), token)["id"] == "1"

        ours = verification.Verifier(verification.verifier(settings).keys, issuer.url, issuer.url)
        assert refusal(ours, token).reason == "wrong_issuer"
        said = f"iss is {settings.origin}, expected {issuer.url}; is BETTER_AUTH_URL the same on both sides?"
        assert said in caplog.text
        ours.issuer = settings.origin
        assert refusal(ours, token).reason == "wrong_audience"
