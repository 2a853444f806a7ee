"""Which key verifies a token. HS256 knows the configured secret only, and nothing else knows HS256."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import jwt
from starlette.requests import HTTPConnection

import logs
import threads
from allowance import Allowance
from errors import SettingError, Unauthorized, Unavailable
from schemas import Check
from tokens import jwks
from tokens.jwks import FetchError, Key

log = logging.getLogger("todo.keys")

Vet = Callable[[], None]  # raises Unauthorized

SHARED_ALGORITHM = "HS256"
PUBLISHED_ALGORITHMS = frozenset({"EdDSA", "ES256", "ES512", "RS256", "PS256"})

FRESH_SECONDS = 300.0  # then refreshed in the background, by up to JITTER_SECONDS earlier
JITTER_SECONDS = 30.0
OVERDUE_SECONDS = 30.0  # past that, because nobody came, a set is refreshed before it is used
STALE_SECONDS = 86_400.0  # a set that could not be refreshed for so long counts no more
RECENT_SECONDS = 10.0  # a key that was unknown then is unknown now
WAIT_SECONDS = 2.0
FETCH_SECONDS = jwks.TOTAL_SECONDS + 1
RETRY_SECONDS = 15  # after a failure; Better Auth limits callers that come back within 10
REFRESH_BURST = 5  # for keys not known, whoever names them
REFRESH_INTERVAL_SECONDS = 10.0
REPLACED_BURST = 2  # for a known key whose signature is wrong: the frontend may have another one under that id now
REPLACED_INTERVAL_SECONDS = 30.0
OUT_OF_REACH = "The signing keys are out of reach; try again shortly"


class Keys:
    """Both stores, which never meet: the algorithm says which one is asked, and a key serves one
    algorithm."""

    def __init__(
        self, secret: bytes, published: PublishedKeys | None = None, previous: bytes = b""
    ) -> None:
        self._shared = _shared_key(secret, "BETTER_AUTH_SECRET")
        self._previous = _shared_key(previous, "BETTER_AUTH_SECRET_PREVIOUS")
        self.published = published

    async def find(self, algorithm: str, key_id: str | None, vet: Vet = lambda: None) -> Key:
        """The key for a token's header. `vet` raises where the rest of the token does not merit a
        look for new keys."""
        if algorithm == SHARED_ALGORITHM and self._shared is not None:
            return self._shared
        if algorithm == SHARED_ALGORITHM or self.published is None:
            raise Unauthorized(
                "unsupported_algorithm", "the token's algorithm is not accepted here"
            )
        if key_id is None:
            raise Unauthorized("unknown_key", "the token names no key")
        key: Key | None = await self.published.find(key_id, vet)
        if key is not None and key.algorithm != algorithm:
            key = await self.published.replacement(key, vet)
        if key is None or key.algorithm != algorithm:
            raise Unauthorized("unknown_key", "the token's key is for another algorithm")
        return key

    async def find_another(self, key: Key, vet: Vet) -> Key | None:
        """For a token that `key` does not verify: the key that may, the secret before a rotation or
        a newer key."""
        if key is self._shared:
            return self._previous
        if key is self._previous or self.published is None:
            return None
        another = await self.published.replacement(key, vet)
        return another if another is not None and another.algorithm == key.algorithm else None

    def current(self, key: Key) -> bool:
        """Whether `key` still counts. Asking keeps published keys fresh."""
        if key is self._shared or key is self._previous:
            return True
        return self.published is not None and self.published.current(key)

    def check(self) -> Check:
        """For `/ready`."""
        published = (
            self.published.check() if self.published else Check(ok=True, detail="no published keys")
        )
        if self._shared is None:
            return published
        shared = "shared secret" if self._previous is None else "shared secret and the previous one"
        return Check(ok=True, detail=f"{shared}; published keys: {published.detail}")


def get_keys(request: HTTPConnection) -> Keys:
    keys: Keys = request.scope["state"]["keys"]
    return keys


class PublishedKeys:
    """The frontend's JWK set: fetched when first needed, refreshed behind the requests, used on
    while it cannot be."""

    def __init__(self, url: str, fetch: Callable[[str], Mapping[str, Key]] = jwks.fetch) -> None:
        self.url = url
        self._fetch = fetch
        self._keys: Mapping[str, Key] = {}
        self._fetched_at = -math.inf  # monotonic seconds, of the last success
        self._refresh_at = math.inf  # not before somebody needs a key
        self._fetching: asyncio.Task[bool] | None = None
        self._for_unknown = Allowance(REFRESH_BURST, 1 / REFRESH_INTERVAL_SECONDS)
        self._for_replaced = Allowance(REPLACED_BURST, 1 / REPLACED_INTERVAL_SECONDS)
        self._warnings = logs.OnceAMinute()
        self._trouble: str | None = None

    async def find(self, key_id: str, vet: Vet) -> Key:
        """Unauthorized if the frontend publishes no such key, Unavailable if that cannot be known."""
        await self._catch_up()
        if key_id not in self._usable():
            vet()
            await self._look_again(lambda: key_id in self._usable(), self._for_unknown)
        key = self._usable().get(key_id)
        if key is None:
            raise Unauthorized(
                "unknown_key",
                "the token's key is not among the published ones",
                f"kid {logs.quotable(key_id)} is not at {self.url}",
            )
        return key

    async def replacement(self, key: Key, vet: Vet) -> Key | None:
        """The key that the frontend publishes under the id of `key` now, if it is another one.

        A frontend whose database was reset numbers its keys from 1 again. What does not verify may
        be forged, so this never says Unavailable, and has an allowance of its own: a flood of it
        leaves that for new keys alone.
        """
        with suppress(Unauthorized, Unavailable):
            vet()
            await self._look_again(
                lambda: self._usable().get(key.id or "") is not key, self._for_replaced
            )
        found = self._usable().get(key.id or "")
        return None if found is key else found

    def current(self, key: Key) -> bool:
        """Asked for every remembered token, so flat: a key stays the same object while it is
        published alike."""
        now = time.monotonic()
        if now >= self._refresh_at:
            self._keep_fresh()
        return self._keys.get(key.id or "") is key and now <= self._fetched_at + STALE_SECONDS

    def check(self) -> Check:
        """For `/ready`. Keys are fetched when first needed, so that none were yet is well. Asking
        heals, too."""
        self._keep_fresh()
        age = self._age()
        if math.isinf(age):
            return Check(ok=self._trouble is None, detail=self._trouble or "not needed yet")
        state = f"{len(self._keys)} published, fetched {age:.0f} s ago"
        return Check(
            ok=age <= STALE_SECONDS, detail=f"{state}; {self._trouble}" if self._trouble else state
        )

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    def _usable(self) -> Mapping[str, Key]:
        return self._keys if self._age() <= STALE_SECONDS else {}

    def _keep_fresh(self) -> None:
        if self._fetching is None and time.monotonic() >= self._refresh_at:
            self._start()

    async def _catch_up(self) -> None:
        """Refresh behind the request; before it only if nobody came for long, so that no withdrawn
        key lives on."""
        self._keep_fresh()
        overdue = time.monotonic() >= self._refresh_at + OVERDUE_SECONDS
        if overdue and self._fetching is not None and self._trouble is None:
            with suppress(Unavailable):
                await _finished(self._fetching)

    async def _look_again(self, is_there: Callable[[], bool], allowance: Allowance) -> None:
        """Fetch for a key not known: a fetch under way may have begun before it was published, so
        then once more."""
        if self._fetching is not None:
            await _finished(self._fetching)
        if is_there():
            return
        if self._fetching is None:
            if allowance.take() > 0:
                if self._age() <= RECENT_SECONDS:
                    return
                raise Unavailable(OUT_OF_REACH, RETRY_SECONDS)
            self._start()
        assert self._fetching is not None
        await _finished(self._fetching)

    def _start(self) -> None:
        self._fetching = asyncio.create_task(self._refresh())

    async def _refresh(self) -> bool:
        try:
            fetched = await self._fetch_in_time()
        except Exception as error:  # whatever it is, the old set stays in use
            self._trouble = f"the last fetch failed: {error}"
            self._refresh_at = time.monotonic() + RETRY_SECONDS
            if self._warnings.allows():
                log.warning("keys: %s: %s", self.url, self._trouble)
            return False
        else:
            known = self._keys
            self._keys = {
                id: known[id] if known.get(id) == key else key for id, key in fetched.items()
            }
            self._fetched_at = time.monotonic()
            self._refresh_at = self._fetched_at + FRESH_SECONDS - random.uniform(0, JITTER_SECONDS)  # noqa: S311
            self._trouble = None
            return True
        finally:
            self._fetching = None

    async def _fetch_in_time(self) -> Mapping[str, Key]:
        """The fetch cuts itself off, except where it cannot: while a name is looked up, or a
        handshake drips in."""
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                return await threads.call(self._fetch, self.url)
        except TimeoutError:
            raise FetchError(
                "there was no connection in time; does the name server answer?"
            ) from None


async def _finished(fetching: asyncio.Task[bool]) -> None:
    """Wait for a fetch, with others perhaps. Unavailable if it fails, or takes longer than a caller
    would wait."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            succeeded = await asyncio.shield(fetching)
    except TimeoutError:
        succeeded = False
    if not succeeded:
        raise Unavailable(OUT_OF_REACH)


def _shared_key(secret: bytes, variable: str) -> Key | None:
    if not secret:
        return None
    try:
        return Key(
            SHARED_ALGORITHM, None, jwt.get_algorithm_by_name(SHARED_ALGORITHM).prepare_key(secret)
        )
    except jwt.InvalidKeyError:
        raise SettingError(
            f"{variable} looks like a public or private key; it must be the frontend's random secret."
        ) from None
