"""Keys to sign with, and how Better Auth would publish them: for tests that need no server."""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ORIGIN = "https://app.example.com"
ALGORITHMS = ("EdDSA", "ES256", "ES512", "RS256", "PS256")


class Signer:
    """A key of a frontend at ORIGIN. `jwk` is what the frontend publishes of it."""

    def __init__(self, algorithm: str = "EdDSA", kid: str = "key-1", bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private = _generate(algorithm, bits)
        to_jwk: Any = jwt.get_algorithm_by_name(algorithm).to_jwk
        public: dict[str, Any] = to_jwk(self.private.public_key(), as_dict=True)
        members = {
            name: public[name] for name in public if name in {"kty", "crv", "x", "y", "n", "e"}
        }
        self.jwk: dict[str, Any] = {**members, "kid": kid, "alg": algorithm}

    def token(self, sub: str = "ada", header: dict[str, Any] | None = None, **claims: Any) -> str:
        return self.sign(
            {"alg": self.algorithm, "kid": self.kid, **(header or {})}, ours(sub, **claims)
        )

    def sign(self, header: Any, payload: Any) -> str:
        """Sign whatever it is: a value is written as JSON, bytes are taken as they are."""
        signing_input = f"{segment(header)}.{segment(payload)}"
        algorithm: Any = jwt.get_algorithm_by_name(self.algorithm)
        return f"{signing_input}.{segment(algorithm.sign(signing_input.encode(), self.private))}"


def ours(sub: str = "ada", **claims: Any) -> dict[str, Any]:
    """The claims of a token that would do."""
    now = int(time.time())
    return {"sub": sub, "iss": ORIGIN, "aud": ORIGIN, "iat": now, "exp": now + 900, **claims}


def key_set(*signers: Signer) -> bytes:
    return json.dumps({"keys": [signer.jwk for signer in signers]}).encode()


def segment(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@cache
def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def _generate(algorithm: str, bits: int) -> Any:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm in ("RS256", "PS256"):
        return _rsa(bits)
    return ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP521R1())
