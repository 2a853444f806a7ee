"""Where verification keys come from. HS256 knows the configured secret only, and nothing else knows HS256."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jwt

from errors import SettingError, Unauthorized

SHARED_ALGORITHM = "HS256"
PUBLISHED_ALGORITHMS = frozenset({"EdDSA", "ES256", "ES512", "RS256", "PS256"})


@dataclass(frozen=True)
class Key:
    """One key and the one algorithm it is for."""

    algorithm: str
    id: str | None
    material: Any = field(repr=False)

    def verifies(self, signing_input: bytes, signature: bytes) -> bool:
        return jwt.get_algorithm_by_name(self.algorithm).verify(signing_input, self.material, signature)


class Keys:
    """The key for a token's header. Keys that a frontend publishes join here, in a store of their own."""

    def __init__(self, secret: bytes) -> None:
        self._shared = _shared_key(secret) if secret else None

    async def find(self, algorithm: str, key_id: str | None) -> Key:
        if algorithm == SHARED_ALGORITHM and self._shared is not None:
            return self._shared
        raise Unauthorized("unsupported_algorithm", "the token's algorithm is not accepted here")

    def current(self, key: Key) -> bool:
        """Whether `key` still counts."""
        return key is self._shared


def _shared_key(secret: bytes) -> Key:
    try:
        return Key(SHARED_ALGORITHM, None, jwt.get_algorithm_by_name(SHARED_ALGORITHM).prepare_key(secret))
    except jwt.InvalidKeyError:
        raise SettingError(
            "BETTER_AUTH_SECRET looks like a public or private key; it must be the frontend's random secret."
        ) from None
