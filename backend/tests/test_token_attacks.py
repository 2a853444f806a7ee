"""Forged, malformed and hostile tokens: 401 with a reason, never a 500, and nothing outside is
touched."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import config
from errors import SettingError, Unauthorized
from tests.people import SECRET, Person, token_for
from tests.servers import Running
from tests.signers import ALGORITHMS, ORIGIN, Signer, key_set, ours, segment
from tokens import jwks, verification
from tokens.keys import Keys, PublishedKeys

SIGNERS = {algorithm: Signer(algorithm, f"key-{algorithm}") for algorithm in ALGORITHMS}
EDDSA = SIGNERS["EdDSA"]
NO_NUMBERS: list[Any] = [None, True, "1", [], {}, str(2**31)]
NO_AUDIENCES: list[Any] = [None, "", 7, [], [""], [ORIGIN, None], [[ORIGIN]], {ORIGIN: 1}]
NO_ISSUERS: list[Any] = [None, "", 7, [ORIGIN], {}]
NO_SUBJECTS: list[Any] = [
    None,
    "",
    1,
    True,
    ["ada"],
    {"id": "ada"},
    "a" * 256,
    "a\nb",
    "\0",
    "a\x7f",
    "\x85",
]
PREVIOUS = "the frontend's secret before the rotation"
OCT = {"kty": "oct", "kid": "oct", "k": segment(SECRET.encode()), "alg": "HS256"}


def verifier(secret: str = SECRET, strict: bool = False) -> verification.Verifier:
    """With the keys of all SIGNERS, and a symmetric one among them."""
    published = json.loads(key_set(*SIGNERS.values()))["keys"]
    text = json.dumps({"keys": [OCT, *published]}).encode()
    store = PublishedKeys("http://keys.invalid", fetch=lambda url: jwks.parse(text))
    return verification.Verifier(Keys(secret.encode(), store), ORIGIN, ORIGIN, strict)


def outcomes(
    tokens: Iterable[str | bytes], checked: verification.Verifier | None = None
) -> list[str]:
    """For each token the reason of its refusal, or the user it is accepted for."""
    asked = checked or verifier()

    async def ask() -> list[str]:
        found = []
        for token in tokens:
            try:
                user = await asked.user_of(token if isinstance(token, bytes) else token.encode())
                found.append(f"accepted as {user['id']}")
            except Unauthorized as refusal:
                found.append(refusal.reason)
        return found

    return asyncio.run(ask())


def outcome(token: str | bytes, checked: verification.Verifier | None = None) -> str:
    return outcomes([token], checked)[0]


def hs256(header: Any = None, payload: Any = None, secret: bytes = SECRET.encode()) -> str:
    """An HS256 token, of whatever header and payload."""
    signed = f"{segment(header or {'alg': 'HS256'})}.{segment(payload or {'sub': 'ada'})}"
    algorithm: Any = jwt.get_algorithm_by_name("HS256")
    return f"{signed}.{segment(algorithm.sign(signed.encode(), secret))}"


def public_forms(signer: Signer) -> Iterator[bytes]:
    """Everything that a careless verifier might take as the HMAC secret."""
    public = signer.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    yield from (pem, pem.strip(), pem.replace(b"\n", b"\r\n"), b"".join(pem.split(b"\n")[1:-2]))
    yield public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if "n" in signer.jwk:
        yield public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
        yield public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if signer.jwk["kty"] == "EC":
        yield public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    yield from (
        json.dumps(signer.jwk).encode(),
        json.dumps(signer.jwk, sort_keys=True, separators=(",", ":")).encode(),
    )
    for name in {"x", "y", "n"} & set(signer.jwk):
        yield signer.jwk[name].encode()
        yield base64.urlsafe_b64decode(signer.jwk[name] + "==")
    yield from (signer.kid.encode(), b"")


def test_good_tokens_pass() -> None:
    """Else the refusals below would prove nothing."""
    good = [
        *(signer.token() for signer in SIGNERS.values()),
        hs256(),
        token_for("ada"),
        EDDSA.token(aud=["x", ORIGIN]),
    ]
    assert set(outcomes(good)) == {"accepted as ada"}
    assert set(outcomes([*good[:5], hs256(payload=ours())], verifier(strict=True))) == {
        "accepted as ada"
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_public_key_is_no_secret(algorithm: str) -> None:
    signer = SIGNERS[algorithm]
    forms = list(public_forms(signer))
    for kid in ({}, {"kid": signer.kid}, {"kid": "oct"}):
        forged = [hs256({"alg": "HS256", **kid}, ours(), form) for form in forms]
        assert set(outcomes(forged)) == {"bad_signature"}
        assert set(outcomes(forged, verifier(secret=""))) == {"unsupported_algorithm"}
        mislabelled = [hs256({"alg": algorithm, "kid": signer.kid}, ours(), form) for form in forms]
        assert set(outcomes(mislabelled)) == {"bad_signature"}


def test_a_public_key_is_refused_as_the_configured_secret() -> None:
    with pytest.raises(SettingError, match="looks like a public or private key"):
        Keys(next(public_forms(SIGNERS["RS256"])))


def test_a_symmetric_key_in_the_key_set_is_dropped() -> None:
    assert outcome(hs256({"alg": "HS256", "kid": "oct"}, ours(), b"k" * 40)) == "bad_signature"
    assert (
        outcome(hs256({"alg": "HS256", "kid": "oct"}, ours()), verifier(secret=""))
        == "unsupported_algorithm"
    )
    for algorithm in ALGORITHMS:
        assert outcome(hs256({"alg": algorithm, "kid": "oct"}, ours())) == "unknown_key"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_serves_its_own_algorithm_only(algorithm: str) -> None:
    signer = SIGNERS[algorithm]
    for named in set(ALGORITHMS) - {algorithm}:
        assert outcome(signer.token(header={"alg": named})) == "unknown_key"
        assert outcome(signer.token(header={"kid": SIGNERS[named].kid})) == "unknown_key"
    assert outcome(signer.token(header={"alg": "HS256"})) == "bad_signature"
    assert outcome(Signer(algorithm, signer.kid, 2049).token()) == "bad_signature"


@pytest.mark.parametrize(
    "header",
    [
        *(
            {"alg": name}
            for name in (
                "none",
                "None",
                "NONE",
                "nOnE",
                "",
                "hs256",
                "HS384",
                "HS512",
                "RS384",
                "RS512",
            )
        ),
        *(
            {"alg": name}
            for name in (
                "ES384",
                "ES256K",
                "PS512",
                "Ed25519",
                "dir",
                "RSA-OAEP",
                "HS256 ",
                "\ufb00",
            )
        ),
        *({"alg": value} for value in (None, True, 256, ["HS256"], {"HS256": 1})),
        {"ALG": "HS256"},
        {"kid": "key-EdDSA"},
        {"alg": "HS256", "b64": True},
    ],
)
def test_other_algorithms_are_refused(header: dict[str, Any]) -> None:
    signed = hs256(header, ours())
    assert outcome(signed) == "unsupported_algorithm"
    assert outcome(EDDSA.sign(header, ours())) == "unsupported_algorithm"
    unsecured = header.get("alg") in ("none", "None", "NONE", "nOnE")
    reason = "unsupported_algorithm" if unsecured else "malformed_token"
    assert outcome(f"{signed.rpartition('.')[0]}.") == reason, (
        "only alg none goes without a signature"
    )


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "crit": ["b64"], "b64": False},
        {"alg": "HS256", "crit": []},
        {"alg": "HS256", "crit": None},
        {"alg": "EdDSA", "kid": "key-EdDSA", "crit": ["exp"]},
        {
            "alg": "EdDSA",
            "kid": "key-EdDSA",
            "crit": ["https://example.com/ext"],
            "https://example.com/ext": 1,
        },
        {"alg": "ES256", "kid": "unknown", "crit": ["kid"]},
        {"alg": "none", "crit": ["alg"]},
        {"alg": "HS512", "crit": ["alg"]},
    ],
)
def test_critical_extensions_make_a_token_malformed(header: dict[str, Any]) -> None:
    assert outcome(hs256(header, ours())) == "malformed_token"
    assert outcome(EDDSA.sign(header, ours())) == "malformed_token"


def test_another_type_is_refused() -> None:
    for typ in (
        "at+jwt",
        "logout+jwt",
        "better-auth.session-cache+jwt",
        "JOSE",
        "",
        None,
        1,
        ["JWT"],
    ):
        assert (
            outcomes([EDDSA.token(header={"typ": typ}), hs256({"alg": "HS256", "typ": typ})])
            == ["unsupported_type"] * 2
        )
    assert set(outcomes([EDDSA.token(header={"typ": typ}) for typ in ("JWT", "jwt")])) == {
        "accepted as ada"
    }


def test_keys_that_a_token_brings_or_points_to_are_ignored(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stranger = Signer("ES256", "stranger")
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(0.1)
        url = f"http://127.0.0.1:{canary.getsockname()[1]}/keys"
        private = tmp_path_factory.mktemp("keys") / "set.json"
        private.write_bytes(key_set(stranger))
        asked = []
        for place in (url, private.as_uri(), str(private), f"jar:{url}", "\\\\127.0.0.1\\share"):
            brought = {
                "jku": place,
                "x5u": place,
                "jwk": stranger.jwk,
                "x5c": [stranger.jwk["x"]],
                "x5t": "AAAA",
            }
            kids = (
                {"kid": "stranger"},
                {"kid": place},
                {"kid": "key-ES256"},
                {"kid": f"../../{private}"},
            )
            asked += [stranger.token(header={**brought, **kid}, iss=ORIGIN) for kid in kids]
            asked.append(stranger.token(header=brought, iss=place))
            asked.append(hs256({"alg": "HS256", **brought, "kid": place}, ours(), b""))
        found = outcomes(asked)
        assert set(found) == {"unknown_key", "bad_signature", "wrong_issuer"}
        with pytest.raises(TimeoutError):
            canary.accept()
        socket.create_connection(canary.getsockname()).close()
        canary.accept()[0].close()  # whoever had come would have been seen


@pytest.mark.parametrize("algorithm", ["HS256", *ALGORITHMS])
def test_every_single_bit_of_a_signature_counts(algorithm: str) -> None:
    token = token_for("ada") if algorithm == "HS256" else SIGNERS[algorithm].token()
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    flipped = [f"{signed}.{segment(_flip(raw, bit))}" for bit in range(len(raw) * 8)]
    assert len(set(flipped) - {token}) == len(raw) * 8 >= 256
    assert set(outcomes(flipped)) == {"bad_signature"}
    shortened = [
        f"{signed}.{segment(other)}"
        for other in (raw[:-1], raw + b"\0", b"\0" + raw, bytes(len(raw)), b"\0")
    ]
    assert set(outcomes(shortened)) == {"bad_signature"}


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA", "RS256"])
def test_a_token_has_one_spelling(algorithm: str) -> None:
    """Else whoever has one could make others of it, to slip past a list of revoked ones or fill the
    memory."""
    token = token_for("ada") if algorithm == "HS256" else SIGNERS[algorithm].token()
    raw = base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = {token[:-1] + letter for letter in alphabet} - {token}
    same = [
        other
        for other in spellings
        if base64.urlsafe_b64decode(other.rpartition(".")[2] + "==") == raw
    ]
    assert len(same) == {"HS256": 3, "EdDSA": 15, "RS256": 15}[algorithm]
    assert set(outcomes([*same, f"{token}=", f"{token}==", f"{token}\n"])) == {"malformed_token"}


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_every_single_bit_of_header_and_payload_counts(algorithm: str) -> None:
    token = (token_for("ada") if algorithm == "HS256" else SIGNERS[algorithm].token()).encode()
    flipped = [_flip(token, bit) for bit in range(token.rindex(b".") * 8)]
    assert not [found for found in outcomes(flipped) if found.startswith("accepted")]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("a", "malformed_token"),
        ("..", "malformed_token"),
        ("a.b.c.d.e", "malformed_token"),
        (f".{hs256()}", "malformed_token"),
        (f"{hs256()}=", "malformed_token"),
        (f"{hs256()}.", "malformed_token"),
        (hs256().replace(".", ".\n", 1), "malformed_token"),
        (hs256().replace(".", ". ", 1), "malformed_token"),
        (hs256().replace(".", "%2E"), "malformed_token"),
        (f'"{hs256()}"', "malformed_token"),
        (hs256() + hs256(), "malformed_token"),
        ("ä.ö.ü", "malformed_token"),
        (b"\xff\xfe.\x00.\x80", "malformed_token"),
        (hs256(b"\xef\xbb\xbf" + b'{"alg":"HS256"}'), "malformed_token"),
        (hs256(b'{"alg":"none","alg":"HS256"}'), "malformed_token"),
        (hs256(payload=b'{"sub":"ada","sub":"bob"}'), "malformed_token"),
        (hs256(payload=b'{"sub":"ada"}x'), "malformed_token"),
        (hs256(payload=b'{"sub":"ada","exp":NaN}'), "malformed_token"),
        (hs256(payload=b'{"sub":"ada","exp":1e999}'), "malformed_token"),
        (hs256(payload=b'{"sub":"ada","exp":' + b"9" * 2000 + b"}"), "malformed_token"),
        (hs256(payload=b'{"sub":"\\ud800"}'), "malformed_token"),
        (hs256(payload=b'{"sub":"ada","\\udfff":[{"x":"\\ud800"}]}'), "malformed_token"),
        (hs256(payload=b'{"sub":"\xed\xa0\x80"}'), "malformed_token"),
        (hs256(b'{"alg":"HS256","kid":"\\ud800"}'), "malformed_token"),
        (hs256(b'{"alg":"HS256","kid":7}'), "malformed_token"),
        (hs256(b'{"alg":"HS256","kid":null}'), "malformed_token"),
        (hs256(payload=b"[" * 4000), "malformed_token"),
        (hs256(b"[" * 4000), "malformed_token"),
        (hs256(payload=b'{"a":' * 1000 + b"1" + b"}" * 1000), "malformed_token"),
        (hs256(payload=b'{"sub":"ada","a":' + b"[" * 900 + b"]" * 900 + b"}"), "malformed_token"),
        *((hs256(payload=text), "malformed_token") for text in (b"[]", b'"ada"', b"7", b"null", b"true", b" ", b"\0")),
        *((hs256(text), "malformed_token") for text in (b"[]", b'"HS256"', b"7", b"null", b"{", b"{}{}")),
        (hs256(payload={"sub": "ada", "image": "x" * 60_000}), "malformed_token"),
        ("e" * 60_000, "malformed_token"),
        ("." * 60_000, "malformed_token"),
        *(
            (hs256(payload={"sub": "ada", name: value}), "malformed_token")
            for name in ("exp", "nbf", "iat")
            for value in NO_NUMBERS
        ),
        *((hs256(payload={"sub": "ada", "iss": value}), "malformed_token") for value in NO_ISSUERS),
        *(
            (hs256(payload={"sub": "ada", "aud": value}), "malformed_token")
            for value in NO_AUDIENCES
        ),
        (EDDSA.sign({"alg": "EdDSA", "kid": EDDSA.kid}, {**ours(), "exp": None}), "malformed_token"),
        (EDDSA.token(exp="tomorrow"), "malformed_token"),
        (EDDSA.sign({"alg": "EdDSA"}, ours()), "unknown_key"),
        (EDDSA.token(header={"kid": ""}), "unknown_key"),
        (EDDSA.token(header={"kid": "Key-EdDSA"}), "unknown_key"),
        (EDDSA.token(header={"kid": "key-EdDSA "}), "unknown_key"),
        (EDDSA.token(iss=f"{ORIGIN}/"), "wrong_issuer"),
        (EDDSA.token(iss=f"{ORIGIN}/api/auth"), "wrong_issuer"),
        (EDDSA.token(aud=f"{ORIGIN}.evil.example"), "wrong_audience"),
        (EDDSA.token(aud="better-auth:session-cache"), "wrong_audience"),
        (EDDSA.token(aud=["https://elsewhere.example"]), "wrong_audience"),
        (hs256(payload={"sub": "ada", "iss": "https://elsewhere.example"}), "wrong_issuer"),
        (hs256(payload={"sub": "ada", "aud": "https://elsewhere.example"}), "wrong_audience"),
        *(
            (hs256(payload={"sub": value, "id": "ada", "userId": "ada", "email": "ada@example.com"}), "missing_subject")
            for value in NO_SUBJECTS
        ),
        (hs256(payload={"id": "ada", "userId": "ada", "email": "ada@example.com"}), "missing_subject"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_reason(token: str | bytes, reason: str) -> None:
    assert outcome(token) == reason


def test_subjects_are_opaque() -> None:
    for subject in (
        "1",
        "a" * 255,
        "é",
        "d290f1ee-6c54-4b01-90e6-d701748f0851",
        "../ada",
        "ada bob",
        "\U0001f9d1",
    ):
        assert outcome(hs256(payload={"sub": subject})) == f"accepted as {subject}"


def test_published_keys_and_strict_need_what_the_secret_does_not() -> None:
    for name, reason in {
        "iss": "wrong_issuer",
        "aud": "wrong_audience",
        "exp": "malformed_token",
    }.items():
        claims = {other: value for other, value in ours().items() if other != name}
        assert outcome(EDDSA.sign({"alg": "EdDSA", "kid": EDDSA.kid}, claims)) == reason
        assert outcome(hs256(payload=claims)) == "accepted as ada"
        assert outcome(hs256(payload=claims), verifier(strict=True)) == reason


def test_clocks_may_differ_by_15_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    noon = 1_800_000_000
    monkeypatch.setattr(time, "time", lambda: float(noon))
    for claim, distance, found in [
        ("exp", -15, "token_expired"),
        ("exp", -14.999, "accepted as ada"),
        ("exp", 10**11 - noon, "accepted as ada"),
        ("exp", 10**11 - noon + 1, "malformed_token"),
        ("exp", 1e300, "malformed_token"),
        ("exp", -(10**300), "token_expired"),
        ("nbf", 15, "accepted as ada"),
        ("nbf", 15.001, "token_not_yet_valid"),
        ("iat", 15, "accepted as ada"),
        ("iat", 16, "token_not_yet_valid"),
        ("iat", -(10**9), "accepted as ada"),
    ]:
        assert outcome(hs256(payload={"sub": "ada", claim: noon + distance})) == found


def test_a_remembered_token_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = verifier()
    now = time.time()
    token = EDDSA.token(exp=now + 30)
    verified: list[bytes] = []
    monkeypatch.setattr(checked, "verify", _counting(checked.verify, verified))
    assert outcomes([token] * 3, checked) == ["accepted as ada"] * 3
    assert len(verified) == 1

    monkeypatch.setattr(time, "time", lambda: now + 46)
    assert outcome(token, checked) == "token_expired"
    monkeypatch.undo()
    monkeypatch.setattr(checked, "verify", _counting(checked.verify, verified))
    monkeypatch.setattr(verification, "MEMORY_SECONDS", 0)
    other = EDDSA.token("bob")
    assert outcomes([other] * 3, checked) == ["accepted as bob"] * 3
    assert verified.count(other.encode()) == 3


def test_the_memory_holds_few_tokens_and_none_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (verification.MEMORY_ENTRIES, verification.MEMORY_SECONDS) == (4096, 60)
    monkeypatch.setattr(verification, "MEMORY_ENTRIES", 50)
    checked = verifier()
    tokens = [token_for(f"user-{number}") for number in range(200)]
    assert len(set(outcomes(tokens, checked))) == 200
    assert len(checked._memory) == 50
    assert not {token.encode() for token in tokens} & set(checked._memory)
    assert all(part not in repr(checked._memory) for part in tokens[-1].split("."))
    outcomes([f"{token}x" for token in tokens], checked)
    assert len(checked._memory) == 50, "only what was verified is remembered"


def test_warnings_come_once_a_minute_and_cause_and_name_no_canary(
    caplog: pytest.LogCaptureFixture,
) -> None:
    canaries = [SECRET, "ada@example.com", EDDSA.token()]
    tokens = [
        hs256(
            {"alg": "HS256", "kid": canaries[1]},
            {"sub": "ada", "iss": canaries[1], "aud": canaries[2]},
        ),
        hs256(payload={"sub": "ada", "aud": canaries[2]}),
        EDDSA.token(header={"kid": canaries[1]}, email=canaries[1]),
        EDDSA.token(header={"kid": "x\nfake: line\x1b[2J"}),
        EDDSA.token(iss="https://elsewhere.example\r\nfake: line"),
        *(f"{token_for(f'user-{number}')[:-4]}AAAA" for number in range(50)),
        hs256(payload={"email": canaries[1]}),
    ]
    outcomes(tokens, verifier())
    written = [record.getMessage() for record in caplog.records]
    assert len(written) == 5, "one for each reason"
    for canary in [*canaries, *canaries[2].split(".")]:
        assert canary not in caplog.text
    assert not [line for line in written if not line.isprintable()]


def test_random_damage_is_never_an_error() -> None:
    chance = random.Random(8)
    bases = [hs256().encode(), EDDSA.token().encode(), SIGNERS["ES512"].token().encode()]
    damaged = [_damaged(chance.choice(bases), chance) for _ in range(1500)]
    found = outcomes(token for token in damaged if token not in bases)
    assert not [one for one in found if one.startswith("accepted")]
    assert len(set(found)) > 2


def test_random_json_is_never_an_error() -> None:
    chance = random.Random(9)
    values: list[Any] = [
        None,
        True,
        0,
        -1,
        1e308,
        2**63,
        "",
        "x",
        "\u2028",
        [],
        {},
        [[]],
        {"a": {}},
        ORIGIN,
        "HS256",
    ]
    names = ("alg", "typ", "kid", "crit", "jku", "jwk", "x5c", "cty", "zip", "enc", "p2c", "epk")
    claims = ("sub", "iss", "aud", "exp", "nbf", "iat", "jti", "email")
    tokens = []
    for _ in range(1500):
        header = {"alg": "HS256"} | {
            name: chance.choice(values) for name in chance.sample(names, 2)
        }
        payload = {name: chance.choice(values) for name in chance.sample(claims, 4)}
        tokens.append(hs256(header, payload))
        tokens.append(EDDSA.sign({"kid": EDDSA.kid, **header, "alg": "EdDSA"}, payload))
    found = outcomes(tokens)
    assert len(found) == 3000
    assert len(set(found)) > 5


def test_every_setting_that_says_which_tokens_count_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = config.load(
        better_auth_url="https://App.Example.com:443/",
        better_auth_secret=SECRET,
        auth_issuer="https://issuer.example",
        auth_audience="todo",
        auth_jwks_url="https://keys.example/set.json",
        auth_strict=True,
        better_auth_secret_previous=PREVIOUS,
    )
    configured = verification.verifier(settings)
    replaced = hs256(
        payload={**ours(), "iss": "https://issuer.example", "aud": "todo"}, secret=PREVIOUS.encode()
    )
    assert outcome(replaced, configured) == "accepted as ada"
    published = configured.keys.published
    assert published is not None
    assert (configured.issuer, configured.audience, configured.strict) == (
        "https://issuer.example",
        "todo",
        True,
    )
    assert published.url == "https://keys.example/set.json"
    plain = verification.verifier(
        config.load(better_auth_url="https://App.Example.com:443/", better_auth_secret=SECRET)
    )
    assert (plain.issuer, plain.audience, plain.strict) == (ORIGIN, ORIGIN, False)


def test_every_refusal_at_the_front_door_is_a_challenge(server: Running, ada: Person) -> None:
    """As raw bytes: what httpx would not send is sent, too."""
    good = ada.token.encode()
    expected = {
        b"": "missing_token",
        b"Authorization: \r\n": "missing_token",
        b"Authorization: Bearer\r\n": "missing_token",
        b"Authorization: Bearer   \r\n": "missing_token",
        b"Authorization: Basic YTpi\r\n": "missing_token",
        b"Authorization: " + good + b"\r\n": "missing_token",
        b"Cookie: token=" + good + b"\r\n": "missing_token",
        b"Authorization: Bearer " + good + b" x\r\n": "malformed_token",
        b"Authorization: Bearer Bearer " + good + b"\r\n": "malformed_token",
        b"Authorization: Bearer " + good + b", Bearer " + good + b"\r\n": "malformed_token",
        b"Authorization: Bearer "
        + good
        + b"\r\nAuthorization: Bearer "
        + good
        + b"\r\n": "malformed_token",
        b"Authorization: Bearer " + good + b"\r\nauthorization: Basic YTpi\r\n": "malformed_token",
        b"Authorization: Bearer \xff\xfe\x80\r\n": "malformed_token",
        b"Authorization: Bearer " + b"a" * 32 + b"\r\n": "malformed_token",
        b"Authorization: Bearer " + b"a" * 20_000 + b"\r\n": "malformed_token",
        b"Authorization: Bearer "
        + hs256(payload=b"[" * 4000).encode()
        + b"\r\n": "malformed_token",
        b"Authorization: Bearer "
        + hs256(payload=b'{"sub":"\\ud800"}').encode()
        + b"\r\n": "malformed_token",
        b"Authorization: Bearer "
        + hs256({"alg": "none"}).encode()
        + b"\r\n": "unsupported_algorithm",
        b"Authorization: Bearer "
        + hs256({"alg": "HS256", "typ": "at+jwt"}).encode()
        + b"\r\n": "unsupported_type",
        b"Authorization: Bearer "
        + EDDSA.sign({"alg": "EdDSA"}, ours()).encode()
        + b"\r\n": "unknown_key",
        b"Authorization: Bearer " + good[:-8] + b"AAAAAAAA" + b"\r\n": "bad_signature",
        b"Authorization: Bearer " + token_for(ada.id, exp=1).encode() + b"\r\n": "token_expired",
        b"Authorization: Bearer "
        + token_for(ada.id, nbf=2e9).encode()
        + b"\r\n": "token_not_yet_valid",
        b"Authorization: Bearer " + token_for(ada.id, iss="x").encode() + b"\r\n": "wrong_issuer",
        b"Authorization: Bearer " + token_for(ada.id, aud="x").encode() + b"\r\n": "wrong_audience",
        b"Authorization: Bearer "
        + hs256(payload={"id": ada.id}).encode()
        + b"\r\n": "missing_subject",
    }
    for sent, reason in expected.items():
        reply = _raw(
            server, f"/api/{ada.id}/tasks?token={ada.token}&access_token={ada.token}", sent
        )
        assert (reply.status_code, reply.json()["code"], reply.json()["reason"]) == (
            401,
            "UNAUTHORIZED",
            reason,
        ), sent
        challenge = reply.headers["WWW-Authenticate"]
        if reason == "missing_token":
            assert (challenge, reply.json()["error"]) == ('Bearer realm="todo"', "Missing token")
        else:
            assert challenge.startswith(
                'Bearer realm="todo", error="invalid_token", error_description="'
            )
            assert challenge.isascii()
            assert reply.json()["error"] == "Invalid token"
            for part in sent.split()[-1].split(b"."):
                assert len(part) < 8 or part not in reply.content + challenge.encode()
    assert set(expected.values()) == set(_documented_reasons())
    for scheme in (b"Bearer", b"bearer", b"BEARER"):
        assert (
            _raw(
                server, ada.tasks, b"Authorization: " + scheme + b"  " + good + b" \t\r\n"
            ).status_code
            == 200
        )
    assert (
        _raw(
            server, "/api/somebody-else/tasks", b"Authorization: Bearer " + good + b"\r\n"
        ).status_code
        == 403
    )
    assert (
        _raw(server, ada.tasks, b"Authorization: Bearer " + b"a" * 60_000 + b"\r\n").status_code
        == 431
    )


def _documented_reasons() -> list[str]:
    """From the table of docs/tokens.md."""
    page = (config.BACKEND.parent / "docs" / "tokens.md").read_text()
    table = page.partition("## You see a 401")[2].partition("|---|")[2]
    return [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]


def _raw(server: Running, target: str, headers: bytes) -> httpx.Response:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n".encode()
        connection.sendall(head + headers + b"\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    status, _, rest = received.partition(b"\r\n")
    fields, _, body = rest.partition(b"\r\n\r\n")
    pairs = [line.partition(b": ") for line in fields.split(b"\r\n")]
    headers_received = [(name, value) for name, _, value in pairs]
    return httpx.Response(int(status.split(b" ")[1]), headers=headers_received, content=body)


def _counting(verify: Any, verified: list[bytes]) -> Any:
    async def counted(token: bytes) -> Any:
        verified.append(token)
        return await verify(token)

    return counted


def _flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _damaged(token: bytes, chance: random.Random) -> bytes:
    changed = bytearray(token)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed))
        how = chance.randrange(4)
        if how == 0:
            changed[at] = chance.randrange(256)
        elif how == 1:
            del changed[at : at + chance.randint(1, 9)]
        elif how == 2:
            changed[at:at] = chance.randbytes(3)
        else:
            changed[at] = chance.choice(b".-_AZaz09=")
    return bytes(changed)
