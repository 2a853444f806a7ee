"""The Better Auth that the other tests get tokens from is a real one, and does what they ask of it."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

import embedded
from tests.better_auth_server import Issuer, running_issuer
from tests.conftest import sql
from tests.people import SECRET

IDS = {
    "text": "[A-Za-z0-9]{32}",
    "uuid": "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "serial": "[1-9][0-9]*",
}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory, cluster: embedded.Server) -> Iterator[Issuer]:
    """Better Auth as it comes, for every test that needs no other settings."""
    sql(cluster.url, "CREATE DATABASE issuer")
    with running_issuer(tmp_path_factory.mktemp("issuer"), cluster.url.replace("/todo?", "/issuer?")) as started:
        yield started


def header(token: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(decoded(token.partition(".")[0]))
    return said


def decoded(base64url: str) -> bytes:
    return base64.urlsafe_b64decode(base64url + "==")


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def kids(issuer: Issuer) -> set[str]:
    return {key["kid"] for key in issuer.published_keys()}


def verified(issuer: Issuer, token: str) -> dict[str, Any]:
    key = next(key for key in issuer.published_keys() if key["kid"] == header(token)["kid"])
    origin = issuer.base_url
    return jwt.decode(token, jwt.PyJWK(key), [header(token)["alg"]], audience=origin, issuer=origin)


@pytest.mark.parametrize(
    ("algorithm", "id_kind"),
    [("EdDSA", "text"), ("ES256", "uuid"), ("ES512", "serial"), ("RS256", "text"), ("PS256", "text")],
)
def test_a_token_verifies_with_the_published_keys(
    tmp_path: Path, empty_database: Callable[[], str], algorithm: str, id_kind: str
) -> None:
    with running_issuer(tmp_path, empty_database(), ALGORITHM=algorithm, ID_KIND=id_kind) as issuer:
        ada = issuer.sign_up("ada@example.com", "a long password", "Ada Lovelace")
        token = issuer.token(ada)
        kid = header(token)["kid"]

        assert header(token) == {"alg": algorithm, "kid": kid}
        said = verified(issuer, token)
        assert said["sub"] == said["id"] == ada.user_id
        assert said["iss"] == said["aud"] == issuer.url
        assert said["exp"] - said["iat"] == 15 * 60
        assert (said["email"], said["name"]) == ("ada@example.com", "Ada Lovelace")
        assert re.fullmatch(IDS[id_kind], ada.user_id)
        assert re.fullmatch(IDS[id_kind], kid)

        signature = token.rpartition(".")[2]
        forged = token.removesuffix(signature) + ("B" if signature[0] == "A" else "A") + signature[1:]
        with pytest.raises(jwt.InvalidSignatureError):
            verified(issuer, forged)

        issuer.withdraw(kid)
        assert kid not in kids(issuer)


def test_rotation_changes_the_key_and_withdrawal_removes_it(issuer: Issuer) -> None:
    ada = issuer.sign_up("rotation@example.com")
    old = issuer.token(ada)
    assert header(issuer.token(ada)) == header(old)

    issuer.rotate()
    assert header(old)["kid"] in kids(issuer)
    assert len(kids(issuer)) == 1, "a new key is not published before its first use"
    new = issuer.token(ada)
    assert kids(issuer) == {header(old)["kid"], header(new)["kid"]}
    assert verified(issuer, old)["sub"] == verified(issuer, new)["sub"] == ada.user_id

    issuer.withdraw(header(old)["kid"])
    assert kids(issuer) == {header(new)["kid"]}


def test_a_restart_keeps_users_and_keys_and_takes_other_settings(
    tmp_path: Path, empty_database: Callable[[], str]
) -> None:
    with running_issuer(tmp_path, empty_database()) as issuer:
        ada = issuer.sign_up("ada@example.com")
        before = header(issuer.token(ada))

        issuer.restart(PAYLOAD="minimal", ALGORITHM="ES256", GRACE_SECONDS=0)
        minimal = issuer.token(ada)
        assert header(minimal) == before, "another algorithm waits for the next rotation"
        assert set(verified(issuer, minimal)) == {"iat", "exp", "iss", "aud", "sub"}

        issuer.rotate()
        assert issuer.published_keys() == [], "without grace, nothing is published until somebody signs"
        after = issuer.token(ada)
        assert header(after)["alg"] == "ES256"
        assert kids(issuer) == {header(after)["kid"]}


def test_keys_that_rotate_by_themselves_expire(tmp_path: Path, empty_database: Callable[[], str]) -> None:
    with running_issuer(tmp_path, empty_database(), ROTATION_SECONDS=1) as issuer:
        ada = issuer.sign_up("ada@example.com")
        first = header(issuer.token(ada))["kid"]
        time.sleep(1)
        second = header(issuer.token(ada))["kid"]
        assert second != first
        assert kids(issuer) == {first, second}


def test_an_email_verification_token_is_signed_with_the_secret_and_has_no_sub(issuer: Issuer) -> None:
    ada = issuer.sign_up("verification@example.com")
    token = issuer.email_verification_token(ada)
    assert header(token) == {"alg": "HS256"}
    said = jwt.decode(token, SECRET, ["HS256"])
    assert (said["email"], said["userId"]) == (ada.email, ada.user_id)
    assert not {"sub", "iss", "aud"} & set(said)
    assert httpx.get(f"{issuer.url}/api/auth/verify-email", params={"token": token}).json()["status"] is True


def test_session_tokens_are_opaque(issuer: Issuer) -> None:
    ada = issuer.sign_up("session@example.com")
    assert re.fullmatch("[A-Za-z0-9]{32}", ada.session_token)
    assert re.fullmatch("[A-Za-z0-9]{32}[.][A-Za-z0-9+/]{43}=", ada.signed_session_token)
    assert ada.signed_session_token.startswith(ada.session_token)


def test_session_cookies_of_each_strategy(tmp_path: Path, empty_database: Callable[[], str]) -> None:
    with running_issuer(tmp_path, empty_database(), COOKIE_STRATEGY="compact") as issuer:
        compact = issuer.sign_up("compact@example.com").session_cookie
        assert set(json.loads(decoded(compact))) == {"session", "expiresAt", "signature"}

        issuer.restart(COOKIE_STRATEGY="jwe")
        encrypted = issuer.sign_up("jwe@example.com").session_cookie
        assert header(encrypted)["alg"] == "dir"
        assert encrypted.count(".") == 4

        issuer.restart(COOKIE_STRATEGY="jwt")
        shared = issuer.sign_up("jwt@example.com").session_cookie
        assert header(shared) == {"alg": "HS256"}
        assert not {"sub", "iss", "aud"} & set(jwt.decode(shared, SECRET, ["HS256"]))

        issuer.restart(COOKIE_STRATEGY="published")
        eve = issuer.sign_up("published@example.com")
        kid = header(issuer.token(eve))["kid"]
        assert header(eve.session_cookie) == {"alg": "EdDSA", "kid": kid, "typ": "better-auth.session-cache+jwt"}
        said = claims(eve.session_cookie)
        assert (said["sub"], said["iss"], said["aud"]) == (eve.user_id, issuer.url, "better-auth:session-cache")


def test_in_production_it_issues_in_its_public_name_and_limits_requests(
    tmp_path: Path, empty_database: Callable[[], str]
) -> None:
    public = "https://todo.example"
    with running_issuer(tmp_path, empty_database(), NODE_ENV="production", BASE_URL=public) as issuer:
        said = verified(issuer, issuer.token(issuer.sign_up("ada@example.com")))
        assert said["iss"] == said["aud"] == public

        with httpx.Client() as client:
            answers = [client.get(issuer.jwks_url) for _ in range(101)]
        assert answers[0].status_code == 200
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["x-retry-after"]) > 0


def test_it_ends_with_whoever_started_it(tmp_path: Path, empty_database: Callable[[], str]) -> None:
    with running_issuer(tmp_path, empty_database()) as issuer:
        process = issuer._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_wrong_setting_is_refused(tmp_path: Path, database_url: str) -> None:
    with (
        pytest.raises(AssertionError, match="ALGORITHM is HS256; it must be one of EdDSA, ES256"),
        running_issuer(tmp_path, database_url, ALGORITHM="HS256"),
    ):
        pass
