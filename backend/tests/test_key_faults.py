"""When the frontend's keys are slow, broken or out of reach, people with good tokens notice as
little as possible."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
import socketserver
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import httpx
import pytest

from errors import Unauthorized, Unavailable
from tests import servers
from tests.people import SECRET, Person, token_for
from tests.servers import free_port
from tests.signers import ORIGIN, Signer, key_set, segment
from tokens import jwks, keys, verification
from tokens.keys import Keys, PublishedKeys

T = TypeVar("T")
Behaviour = Callable[[socket.socket], None]

ADA = Signer("EdDSA", "ada-key")
NEW = Signer("ES256", "new-key")
NEW_SECRET = "the secret after a rotation, of 32 bytes and more"


class Endpoint(socketserver.ThreadingTCPServer):
    """Where keys are published: whatever `behaviour` makes of a connection whose request was read."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        self.behaviour: Behaviour = answer(key_set(ADA))
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/api/auth/jwks"


class _Handler(socketserver.BaseRequestHandler):
    server: Endpoint

    def handle(self) -> None:
        with suppress(OSError):  # the caller may leave
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                received = self.request.recv(4096)
                if not received:
                    return
                head += received
            behave = self.server.behaviour
            self.server.asked += 1
            behave(self.request)


@contextmanager
def listening() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, args=[0.02])
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            thread.join()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> Behaviour:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    whole = "\r\n".join([*lines, "", ""]).encode() + body
    return lambda client: client.sendall(whole)


def slow(seconds: float, then: Behaviour) -> Behaviour:
    def behave(client: socket.socket) -> None:
        time.sleep(seconds)
        then(client)

    return behave


def drip(first: bytes, again: bytes) -> Behaviour:
    """Send `first`, and for 3 s `again` every few milliseconds: no single read waits long."""

    def behave(client: socket.socket) -> None:
        client.sendall(first)
        for _ in range(150):
            client.sendall(again)
            time.sleep(0.02)

    return behave


GOOD = answer(key_set(ADA))
SLOW = 0.3  # seconds; the limits below are shorter
FAULTS: dict[str, Behaviour] = {
    "slow": slow(SLOW, GOOD),
    "dropping": lambda client: None,
    "dropping halfway": lambda client: client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + key_set()[:8]),
    "dripping head": drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "dripping body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" "),
    "ever 100": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "no HTTP": lambda client: client.sendall(bytes(range(256)) * 4),
    "a page": answer(b"<!doctype html><title>Not here</title>"),
    "no text": answer(b""),
    "not UTF-8": answer(b'{"keys": ["\xff"]}'),
    "no list": answer(b'{"keys": {"0": 1}}'),
    "no keys": answer(b'{"error": "out of order"}'),
    "nested": answer(b"[" * 100_000),
    "huge": answer(b'{"keys": [' + b" " * 300_000 + b"]}"),
    "429": answer(b"{}", "429 Too Many Requests", "X-Retry-After: 10"),
    "503": answer(b"", "503 Service Unavailable"),
    "404": answer(key_set(ADA), "404 Not Found"),
}  # fmt: skip


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as started:
        yield started


@contextmanager
def impatience() -> Iterator[None]:
    """The limits, twenty times shorter: for while there is a fault, so that a busy machine is not
    taken for one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jwks, "CONNECT_SECONDS", 0.1)
        patch.setattr(jwks, "TOTAL_SECONDS", 0.15)
        patch.setattr(keys, "WAIT_SECONDS", 0.1)
        yield


@pytest.fixture
def short_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set is due for a refresh at once, and so is one that could not be had."""
    monkeypatch.setattr(keys, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(keys, "JITTER_SECONDS", 0.0)
    monkeypatch.setattr(keys, "RETRY_SECONDS", 0)


def verifier(url: str, secret: str = "") -> verification.Verifier:
    return verification.Verifier(Keys(secret.encode(), PublishedKeys(url)), ORIGIN, ORIGIN)


def run(checked: Awaitable[T]) -> T:
    async def settled() -> T:
        try:
            return await checked
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(
                *others, return_exceptions=True
            )  # a refresh that is still under way

    return asyncio.run(settled())


async def outcome(checked: Coroutine[Any, Any, verification.CurrentUser]) -> str:
    """The user's id, or why there is none."""
    try:
        return (await checked)["id"]
    except Unauthorized as refused:
        return refused.reason
    except Unavailable as unavailable:
        return (
            "unavailable" if int(unavailable.headers["Retry-After"]) > 0 else "unavailable for ever"
        )


async def _refreshed(checked: verification.Verifier) -> None:
    """When the fetch that is under way has ended, in whatever way."""
    fetching = published(checked)._fetching
    if fetching is not None:
        await asyncio.wait([fetching])


def published(checked: verification.Verifier) -> PublishedKeys:
    assert checked.keys.published is not None
    return checked.keys.published


@pytest.mark.parametrize("fault", FAULTS)
def test_cold_a_fault_is_a_503_and_passes(endpoint: Endpoint, fault: str) -> None:
    endpoint.behaviour = FAULTS[fault]
    checked = verifier(endpoint.url)

    async def story() -> tuple[str, float, str]:
        began = time.monotonic()
        with impatience():
            first = await outcome(checked.user_of(ADA.token().encode()))
            took = time.monotonic() - began
            await _refreshed(checked)
        assert time.monotonic() - began < 2.0, "the fetch outlived its limit"
        assert checked.keys.check().ok is False
        endpoint.behaviour = GOOD
        return first, took, await outcome(checked.user_of(ADA.token().encode()))

    first, took, second = run(story())
    assert (first, second) == ("unavailable", "ada")
    assert took < 1.5
    assert endpoint.asked == 2


@pytest.mark.usefixtures("short_lived")
@pytest.mark.parametrize("fault", FAULTS)
def test_warm_a_fault_goes_unnoticed(endpoint: Endpoint, fault: str) -> None:
    checked = verifier(endpoint.url)

    async def story() -> list[str]:
        await checked.user_of(ADA.token().encode())
        endpoint.behaviour = FAULTS[fault]
        seen, waits = [], []
        with impatience():
            for number in range(10):
                began = time.monotonic()
                seen.append(await outcome(checked.user_of(ADA.token(f"user-{number}").encode())))
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.001)
            assert statistics.median(waits) < keys.WAIT_SECONDS / 2, "they waited for the fetch"
            unknown = await outcome(checked.user_of(NEW.token().encode()))
            well = checked.keys.check().ok
            await _refreshed(checked)
        assert unknown == "unavailable", "whether that key is good cannot be known"
        assert well
        return seen

    assert run(story()) == [f"user-{number}" for number in range(10)]
    assert endpoint.asked > 1


def test_cold_with_nobody_listening() -> None:
    checked = verifier(f"http://127.0.0.1:{free_port()}/jwks")
    assert run(outcome(checked.user_of(ADA.token().encode()))) == "unavailable"
    assert "ConnectionRefusedError" in checked.keys.check().detail


def test_a_redirect_is_not_followed(endpoint: Endpoint) -> None:
    with listening() as elsewhere:
        endpoint.behaviour = answer(b"", "302 Found", f"Location: {elsewhere.url}")
        checked = verifier(endpoint.url)
        assert run(outcome(checked.user_of(ADA.token().encode()))) == "unavailable"
        assert (endpoint.asked, elsewhere.asked) == (1, 0)
        httpx.get(endpoint.url, follow_redirects=True)
        assert elsewhere.asked == 1, "who follows it gets there"


@pytest.mark.parametrize(
    ("status", "location", "said"),
    [
        (
            "301 Moved Permanently",
            "https://www.example.com/api/auth/jwks",
            "https://www.example.com/api/auth/jwks",
        ),
        (
            "302 Found",
            "https://login.example.com/sso?url=canary&nonce=canary#canary",
            "https://login.example.com/sso",
        ),
        ("303 See Other", "/login?next=canary", "{here}/login"),
        (
            "307 Temporary Redirect",
            "//cdn.example.com:8443/keys",
            "http://cdn.example.com:8443/keys",
        ),
        (
            "308 Permanent Redirect",
            "https://ada:canary@app.example.com/keys",
            "https://app.example.com/keys",
        ),
        ("302 Found", "https://app.example.com/eyJcanary.canary", "(not shown)"),
        ("302 Found", "https://[canary/keys", "(not shown)"),
        (
            "302 Found",
            "https://app.example.com/\x1b[2J\xe9" + "x" * 300,
            "https://app.example.com/?[2J?x",
        ),
        ("302 Found", "", "an address that it does not name"),
        ("300 Multiple Choices", None, "an address that it does not name"),
    ],
)
def test_a_redirect_is_called_by_where_it_leads(
    endpoint: Endpoint,
    caplog: pytest.LogCaptureFixture,
    status: str,
    location: str | None,
    said: str,
) -> None:
    lines = [] if location is None else [f"Location: {location}"]
    endpoint.behaviour = lambda client: client.sendall(
        "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *lines, "", ""]).encode("latin-1")
    )
    checked = verifier(endpoint.url)
    assert run(outcome(checked.user_of(ADA.token().encode()))) == "unavailable"
    here = endpoint.url.removesuffix("/api/auth/jwks")
    told = checked.keys.check().detail
    assert f"the answer is {status[:3]}, a redirect to {said.format(here=here)}" in told
    assert "BETTER_AUTH_URL" in told
    assert told in caplog.text
    assert "canary" not in told
    assert len(told) < 400
    assert told.isprintable()


def test_a_fetch_that_blocks_is_given_up_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a name server that does not answer makes it; its thread may end when it will."""
    monkeypatch.setattr(keys, "FETCH_SECONDS", 0.1)
    monkeypatch.setattr(keys, "WAIT_SECONDS", 5.0)
    let_go = threading.Event()
    answers: list[Callable[[], object]] = [let_go.wait, lambda: None]

    def fetch(url: str) -> dict[str, jwks.Key]:
        answers.pop(0)()
        return jwks.parse(key_set(ADA))

    checked = verification.Verifier(
        Keys(b"", PublishedKeys("http://keys.invalid", fetch)), ORIGIN, ORIGIN
    )

    async def story() -> list[str]:
        first = await outcome(checked.user_of(ADA.token().encode()))
        assert "does the name server answer?" in checked.keys.check().detail
        return [first, await outcome(checked.user_of(ADA.token().encode()))]

    assert run(story()) == ["unavailable", "ada"]
    let_go.set()


def test_500_parallel_requests_at_a_cold_start_fetch_once(endpoint: Endpoint) -> None:
    endpoint.behaviour = slow(0.1, GOOD)
    checked = verifier(endpoint.url)

    async def all_at_once() -> list[str]:
        return await asyncio.gather(
            *[outcome(checked.user_of(ADA.token(f"u{n}").encode())) for n in range(500)]
        )

    assert run(all_at_once()) == [f"u{n}" for n in range(500)]
    assert endpoint.asked == 1


def test_500_parallel_requests_in_an_outage_fetch_once(endpoint: Endpoint) -> None:
    endpoint.behaviour = slow(0.1, FAULTS["503"])
    checked = verifier(endpoint.url)

    async def all_at_once() -> set[str]:
        return set(
            await asyncio.gather(
                *[outcome(checked.user_of(ADA.token(f"u{n}").encode())) for n in range(500)]
            )
        )

    assert run(all_at_once()) == {"unavailable"}
    assert endpoint.asked == 1


def test_a_key_published_during_a_fetch_is_found_by_those_who_ask_for_it(
    endpoint: Endpoint,
) -> None:
    endpoint.behaviour = slow(0.2, GOOD)
    checked = verifier(endpoint.url)

    async def story() -> list[str]:
        first = asyncio.create_task(outcome(checked.user_of(ADA.token().encode())))
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if endpoint.asked:
                break
        endpoint.behaviour = answer(key_set(ADA, NEW))  # the frontend rotates just now
        late = [outcome(checked.user_of(NEW.token(f"u{n}").encode())) for n in range(50)]
        return [await first, *await asyncio.gather(*late)]

    assert run(story()) == ["ada", *(f"u{n}" for n in range(50))]
    assert endpoint.asked == 2


def test_10000_bogus_keys_cost_few_fetches_and_good_users_nothing(endpoint: Endpoint) -> None:
    checked = verifier(endpoint.url)
    token = ADA.token()
    bogus = [f"{header}.{token.partition('.')[2]}".encode() for header in _headers(10_000)]

    async def story() -> tuple[dict[str, int], float, float]:
        await checked.user_of(ADA.token().encode())
        endpoint.behaviour = slow(0.1, GOOD)
        others: dict[str, int] = {}
        waits = []
        began = time.monotonic()
        for start in range(0, len(bogus), 100):
            flood = [
                asyncio.create_task(outcome(checked.user_of(one)))
                for one in bogus[start : start + 100]
            ]
            asked_at = time.perf_counter()
            assert await outcome(checked.user_of(ADA.token(f"u{start}").encode())) == f"u{start}"
            waits.append(time.perf_counter() - asked_at)
            for refused in await asyncio.gather(*flood):
                others[refused] = others.get(refused, 0) + 1
        return others, statistics.median(waits), time.monotonic() - began

    refused, wait, took = run(story())
    assert set(refused) == {"unknown_key"}, refused
    assert endpoint.asked <= 1 + keys.REFRESH_BURST + took / keys.REFRESH_INTERVAL_SECONDS
    assert wait < 0.05


def test_tokens_of_others_with_unknown_keys_cost_no_fetch(endpoint: Endpoint) -> None:
    checked = verifier(endpoint.url)
    now = int(time.time())
    for token, reason in [
        (ADA.token(iss="https://elsewhere.example"), "wrong_issuer"),
        (ADA.token(aud="https://elsewhere.example"), "wrong_audience"),
        (ADA.token(exp=now - 60), "token_expired"),
        (ADA.token(iat=now + 60), "token_not_yet_valid"),
        (
            ADA.sign(
                {"alg": "EdDSA", "kid": "ada-key"}, {"sub": "ada", "iss": ORIGIN, "aud": ORIGIN}
            ),
            "malformed_token",
        ),
        (ADA.token(header={"kid": None}), "malformed_token"),
        (ADA.sign({"alg": "EdDSA"}, {"sub": "ada"}), "unknown_key"),
    ]:
        assert run(outcome(checked.user_of(token.encode()))) == reason
    assert endpoint.asked == 0


def test_with_the_allowance_spent_an_unknown_key_is_401_while_the_set_is_recent_and_503_later(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = verifier(endpoint.url)

    async def story() -> list[str]:
        seen = [
            await outcome(checked.user_of(NEW.token().encode()))
            for _ in range(keys.REFRESH_BURST + 3)
        ]
        monkeypatch.setattr(keys, "RECENT_SECONDS", 0.0)
        return [*seen, await outcome(checked.user_of(NEW.token().encode()))]

    assert run(story()) == ["unknown_key"] * (keys.REFRESH_BURST + 3) + ["unavailable"]
    assert endpoint.asked == keys.REFRESH_BURST


def test_an_empty_set_is_an_answer(endpoint: Endpoint) -> None:
    """As Better Auth's, when every key is past its grace period and nobody has signed since."""
    checked = verifier(endpoint.url)

    async def story() -> list[str]:
        token = ADA.token().encode()
        seen = [await outcome(checked.user_of(token))]
        endpoint.behaviour = answer(b'{"keys": []}')
        published(checked)._refresh_at = -math.inf  # time passes
        await checked.user_of(token)
        await _refreshed(checked)
        seen.append(await outcome(checked.user_of(token)))
        endpoint.behaviour = GOOD
        return [*seen, await outcome(checked.user_of(token))]

    endpoint.behaviour = answer(b'{"keys": []}')
    cold = verifier(endpoint.url)
    assert run(outcome(cold.user_of(ADA.token().encode()))) == "unknown_key"
    assert cold.keys.check().ok
    assert cold.keys.check().detail.startswith("0 published")
    endpoint.behaviour = GOOD
    assert run(story()) == ["ada", "unknown_key", "ada"]


def test_a_set_is_used_for_a_day_and_then_no_more(endpoint: Endpoint) -> None:
    checked = verifier(endpoint.url)

    async def story() -> list[str]:
        seen = [await outcome(checked.user_of(ADA.token().encode()))]
        endpoint.behaviour = FAULTS["503"]
        for hours in (23.9, 0.2):
            published(checked)._fetched_at -= hours * 3600
            seen.append(await outcome(checked.user_of(ADA.token().encode())))
        assert checked.keys.check().ok is False
        endpoint.behaviour = GOOD
        return [*seen, await outcome(checked.user_of(ADA.token().encode()))]

    assert run(story()) == ["ada", "ada", "unavailable", "ada"]


def test_after_a_quiet_hour_a_withdrawn_key_is_refused_at_once(endpoint: Endpoint) -> None:
    checked = verifier(endpoint.url)

    async def story() -> list[str]:
        seen = [await outcome(checked.user_of(ADA.token().encode()))]
        endpoint.behaviour = answer(key_set(NEW))
        published(checked)._fetched_at -= 3600
        published(checked)._refresh_at -= 3600
        return [*seen, await outcome(checked.user_of(ADA.token("bob").encode()))]

    assert run(story()) == ["ada", "unknown_key"]


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_after_a_reset_of_the_frontends_database_the_first_token_counts(
    endpoint: Endpoint, algorithm: str
) -> None:
    """Its ids may be the same again, for other keys, and of another kind: Better Auth numbers them
    "1", "2" ..."""
    checked = verifier(endpoint.url)
    other = Signer(algorithm, ADA.kid)

    async def story() -> list[str]:
        before = ADA.token().encode()
        seen = [await outcome(checked.user_of(before))]
        endpoint.behaviour = answer(key_set(other))
        seen.append(await outcome(checked.user_of(other.token("bob").encode())))
        return [*seen, await outcome(checked.user_of(before))]

    refused = "bad_signature" if algorithm == "EdDSA" else "unknown_key"
    assert run(story()) == ["ada", "bob", refused]


def test_many_first_tokens_after_a_reset_share_a_fetch(endpoint: Endpoint) -> None:
    checked = verifier(endpoint.url)
    other = Signer("EdDSA", ADA.kid)

    async def story() -> list[str]:
        await checked.user_of(ADA.token().encode())
        endpoint.behaviour = slow(0.1, answer(key_set(other)))
        late = [outcome(checked.user_of(other.token(f"u{n}").encode())) for n in range(50)]
        return await asyncio.gather(*late)

    assert run(story()) == [f"u{n}" for n in range(50)]
    assert endpoint.asked == 2


def test_forged_tokens_cost_few_fetches_and_good_users_nothing(endpoint: Endpoint) -> None:
    checked = verifier(endpoint.url)
    forger = Signer("EdDSA", ADA.kid)
    claims = [forger.token(f"u{n}").encode() for n in range(200)]
    mislabelled = [ADA.token(f"u{n}", {"alg": "ES256"}).encode() for n in range(200)]

    async def story() -> tuple[set[str], float]:
        await checked.user_of(ADA.token().encode())
        began = time.monotonic()
        seen = {await outcome(checked.user_of(token)) for token in [*claims, *mislabelled]}
        took = time.monotonic() - began
        assert await outcome(checked.user_of(ADA.token("bob").encode())) == "bob"
        endpoint.behaviour = answer(key_set(ADA, NEW))
        assert await outcome(checked.user_of(NEW.token("eve").encode())) == "eve", (
            "new keys have their own allowance"
        )
        return seen, took

    seen, took = run(story())
    assert seen == {"bad_signature", "unknown_key"}
    assert endpoint.asked <= 2 + keys.REPLACED_BURST + took / keys.REPLACED_INTERVAL_SECONDS


def test_a_forged_token_that_would_not_count_anyway_costs_no_fetch(endpoint: Endpoint) -> None:
    checked = verifier(endpoint.url)
    forger = Signer("EdDSA", ADA.kid)

    async def story() -> list[str]:
        await checked.user_of(ADA.token().encode())
        claims: list[dict[str, Any]] = [
            {"iss": "https://elsewhere.example"},
            {"aud": "https://elsewhere.example"},
            {"exp": 1},
            {"nbf": 2**40},
            {"exp": None},
        ]
        return [await outcome(checked.user_of(forger.token(**one).encode())) for one in claims]

    assert run(story()) == ["bad_signature"] * 5
    assert endpoint.asked == 1


@pytest.mark.parametrize("fault", ["503", "dropping", "slow"])
def test_a_bad_signature_stays_one_while_the_keys_are_out_of_reach(
    endpoint: Endpoint, fault: str
) -> None:
    checked = verifier(endpoint.url)

    async def story() -> str:
        await checked.user_of(ADA.token().encode())
        endpoint.behaviour = FAULTS[fault]
        with impatience():
            refused = await outcome(checked.user_of(Signer("EdDSA", ADA.kid).token().encode()))
            await _refreshed(checked)
        return refused

    assert run(story()) == "bad_signature"


@pytest.mark.usefixtures("short_lived")
def test_the_same_id_with_another_key_forgets_the_tokens_of_the_old_one(endpoint: Endpoint) -> None:
    """A frontend's database that was reset may count its keys anew."""
    checked = verifier(endpoint.url)
    other = Signer("EdDSA", ADA.kid)

    async def story() -> list[str]:
        token = ADA.token().encode()
        seen = [await outcome(checked.user_of(token))]
        endpoint.behaviour = answer(key_set(other))
        await outcome(checked.user_of(token))
        await _refreshed(checked)
        return [
            *seen,
            await outcome(checked.user_of(token)),
            await outcome(checked.user_of(other.token().encode())),
        ]

    assert run(story()) == ["ada", "bad_signature", "ada"]


def test_being_asked_whether_it_is_ready_heals_a_cold_start_in_an_outage(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "RETRY_SECONDS", 0)
    checked = verifier(endpoint.url)
    endpoint.behaviour = FAULTS["503"]

    async def story() -> list[bool]:
        seen = [checked.keys.check().ok]
        assert await outcome(checked.user_of(ADA.token().encode())) == "unavailable"
        endpoint.behaviour = GOOD
        seen.append(
            checked.keys.check().ok
        )  # a balancer that asks, and sends nobody until it is well
        await _refreshed(checked)
        return [*seen, checked.keys.check().ok]

    assert run(story()) == [True, False, True]


def test_hs256_needs_no_keys_from_the_network(endpoint: Endpoint) -> None:
    endpoint.behaviour = FAULTS["dripping head"]
    checked = verifier(endpoint.url, SECRET)
    assert run(outcome(checked.user_of(token_for("ada").encode()))) == "ada"
    assert endpoint.asked == 0
    assert checked.keys.check().ok


def test_a_failing_fetch_is_logged_once_a_minute(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.behaviour = lambda client: client.sendall(b"canary of garbage\r\n\r\n")
    checked = verifier(endpoint.url)
    for _ in range(keys.REFRESH_BURST + 2):
        run(outcome(checked.user_of(ADA.token().encode())))
    assert [record.levelno for record in caplog.records if record.name == "todo.keys"] == [
        logging.WARNING
    ]
    assert endpoint.url in caplog.text
    assert "canary" not in caplog.text + checked.keys.check().detail


RS256 = Signer("RS256")
USABLE = {**ADA.jwk, "kid": "usable"}


@pytest.mark.parametrize(
    ("entry", "algorithm"),
    [
        ({"alg": None}, "EdDSA"),
        ({"alg": "ES256"}, "EdDSA"),  # saved without one, and shown with what is configured now
        ({"use": "sig"}, "EdDSA"),
        ({"use": "enc"}, None),
        ({"d": ADA.jwk["x"]}, None),  # a private key
        ({"x": "AAAA"}, None),
        ({"x": 7}, None),
        ({"x": "\ud800"}, None),
        ({"crv": "Ed448"}, None),
        ({"crv": ["Ed25519"]}, None),
        ({"kty": "oct", "k": "c2VjcmV0"}, None),
        ({"kty": "EC", "crv": "P-256"}, None),
        ({"kty": None}, None),
        ({"kid": 7}, None),
        ({"kid": ""}, None),
        ({**NEW.jwk, "alg": "ES512"}, "ES256"),
        ({**NEW.jwk, "y": NEW.jwk["x"]}, None),  # a point not on the curve
        ({**RS256.jwk, "alg": None}, "RS256"),
        ({**RS256.jwk, "alg": "EdDSA"}, "RS256"),
        ({**RS256.jwk, "alg": "RSA-OAEP"}, None),
        ({**RS256.jwk, "alg": ["RS256"]}, None),
        ({**RS256.jwk, "n": ""}, None),
        ({**RS256.jwk, "e": "AA"}, None),
        (Signer("PS256").jwk, "PS256"),
        (Signer("RS256", bits=1024).jwk, None),
    ],
)
def test_a_bad_key_skips_the_key_and_not_the_set(
    entry: dict[str, Any], algorithm: str | None
) -> None:
    mixed = {**ADA.jwk, **entry}
    mixed["kid"] = (
        entry["kid"] if isinstance(entry.get("kid"), int) or entry.get("kid") == "" else "mixed"
    )
    found = jwks.parse(json.dumps({"keys": [None, 7, [], {}, mixed, USABLE]}).encode())
    assert found.pop("usable").algorithm == "EdDSA"
    assert {key.algorithm for key in found.values()} == ({algorithm} if algorithm else set())


def test_no_more_than_64_keys_are_read() -> None:
    assert len(jwks.parse(key_set(*[Signer(kid=f"key-{number}") for number in range(70)]))) == 64


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, database_url: str
) -> Iterator[tuple[Endpoint, servers.Running]]:
    """A server, its secret just changed, and where the keys of its frontend are published."""
    with listening() as endpoint:
        settings = {"AUTH_ISSUER": ORIGIN, "AUTH_AUDIENCE": ORIGIN, "AUTH_JWKS_URL": endpoint.url}
        secrets = {"BETTER_AUTH_SECRET": NEW_SECRET, "BETTER_AUTH_SECRET_PREVIOUS": SECRET}
        folder = tmp_path_factory.mktemp("served")
        with servers.running(folder, NEON_DATABASE_URL=database_url, **settings, **secrets) as api:
            yield endpoint, api


def test_an_outage_through_the_front_door(served: tuple[Endpoint, servers.Running]) -> None:
    endpoint, api = served
    endpoint.behaviour = FAULTS["503"]
    assert endpoint.asked == 0, "the start waits for no frontend"
    reply = _tasks(api, "ada")
    assert (reply.status_code, reply.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(reply.headers["Retry-After"]) > 0
    assert "www-authenticate" not in reply.headers

    endpoint.asked = 0
    endpoint.behaviour = slow(0.3, GOOD)
    statuses = asyncio.run(_at_once(api, 500))
    assert statuses == {200: 500}
    assert endpoint.asked == 1, "one fetch for each worker, and this is one"

    endpoint.behaviour = FAULTS["dropping"]
    assert _tasks(api, "bob").status_code == 200
    assert "published, fetched" in _keys_of(api)


def test_a_reset_frontend_through_the_front_door(served: tuple[Endpoint, servers.Running]) -> None:
    endpoint, api = served
    endpoint.behaviour = GOOD
    before = ADA.token("ada")
    assert _tasks(api, "ada", before).status_code == 200
    other = Signer("EdDSA", ADA.kid)
    endpoint.behaviour = answer(key_set(other))
    assert _tasks(api, "ada", other.token("ada")).status_code == 200
    reply = _tasks(api, "ada", before)
    assert (reply.status_code, reply.json()["reason"]) == (401, "bad_signature")


def test_a_rotation_of_the_secret_signs_nobody_out_and_keeps_the_place_in_a_list(
    served: tuple[Endpoint, servers.Running], ada: Person
) -> None:
    _, api = served
    for title in ("a", "b", "c"):
        ada.has(title)
    cursor = ada.get("?limit=1").json()[
        "next_cursor"
    ]  # of a server that has only the previous secret

    with httpx.Client(base_url=f"{api.url}/api/{ada.id}", verify=False) as client:
        statuses = []
        for secret in (SECRET, NEW_SECRET, "some other secret, of 32 bytes and more"):
            client.headers["Authorization"] = f"Bearer {token_for(ada.id, secret=secret)}"
            statuses.append(client.get("/tasks").status_code)
        assert statuses == [200, 200, 401]

        client.headers["Authorization"] = f"Bearer {token_for(ada.id, secret=NEW_SECRET)}"
        page = client.get("/tasks", params={"limit": "1", "cursor": cursor}).json()
        assert [task["title"] for task in page["data"]] == ["b"]
        assert ada.get(f"?limit=1&cursor={page['next_cursor']}").status_code == 400, (
            "new ones take the new secret"
        )
    assert _keys_of(api).startswith("shared secret and the previous one; ")


def _headers(count: int) -> list[str]:
    return [segment({"alg": "EdDSA", "kid": f"bogus-{number}"}) for number in range(count)]


def _keys_of(api: servers.Running) -> str:
    return str(httpx.get(f"{api.url}/ready", verify=False).json()["checks"]["keys"]["detail"])


def _tasks(api: servers.Running, name: str, token: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or ADA.token(name)}"}
    return httpx.get(f"{api.url}/api/{name}/tasks", headers=headers, timeout=20, verify=False)


async def _at_once(api: servers.Running, count: int) -> dict[int, int]:
    """Statuses of `count` requests, each of another user on a connection of its own, all open
    before the first asks."""
    host, port = api.url.removeprefix("http://").split(":")
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    for number, (_, writer) in enumerate(connections):
        head = f"GET /api/u{number}/tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        writer.write(f"{head}Authorization: Bearer {ADA.token(f'u{number}')}\r\n\r\n".encode())
    statuses: dict[int, int] = {}
    for reader, writer in connections:
        status = int((await reader.read()).split(b" ", 2)[1])
        statuses[status] = statuses.get(status, 0) + 1
        writer.close()
        await writer.wait_closed()
    return statuses
