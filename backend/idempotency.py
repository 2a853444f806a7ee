"""Safe retries: a write with a key is done once, and its first answer kept with it, for whoever
sends it again.

The `Idempotency-Key` header is the IETF's draft (draft-ietf-httpapi-idempotency-key-header). Key,
write and answer are one transaction: after a crash, either all of them are there or none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

import asyncpg

import statements
import storage
from errors import IdempotencyInProgress, IdempotencyKeyReused, NotFound
from postgres.outages import waits_for_a_turn
from postgres.pool import Pool, Transaction
from strict_json import dumps

WAIT_SECONDS = (
    2.0  # for the same request to end that is still running; lock_timeout in storage.FIND_ANSWER
)


class StoredAnswer(NamedTuple):
    """An answer that says a write was done: what of it is sent again. `body` is JSON; `shows` has
    objects' ids."""

    status: int
    headers: dict[str, str]
    body: bytes
    shows: Collection[int]


async def once(
    pool: Pool,
    user_id: str,
    key: str,
    fingerprint: bytes,
    work: Callable[[Transaction], Awaitable[StoredAnswer]],
    noun: str = "Task",
) -> tuple[StoredAnswer, bool]:
    """The answer of `work`, done now, or the one kept of when it was done before; and whether it is
    that one.

    `fingerprint` tells one request from another: the same key with another one is
    IdempotencyKeyReused. While the same key is at work elsewhere this waits, and raises
    IdempotencyInProgress after WAIT_SECONDS. What `work` raises undoes the key with the rest, so
    that a refused request may be mended and sent again. NotFound if what the kept answer shows, a
    `noun`, was deleted for good.
    """

    async def find_or_do(transaction: Transaction) -> tuple[StoredAnswer, bool]:
        try:
            rows = await transaction.read(
                storage.FIND_CALL, user_id, key, _lock(user_id, key), seconds=WAIT_SECONDS + 1
            )
        except asyncpg.LockNotAvailableError as error:
            if not waits_for_a_turn(error):
                raise
            raise IdempotencyInProgress from None
        if rows:
            if rows[0]["fingerprint"] != fingerprint:
                raise IdempotencyKeyReused
            if rows[0]["body"] is None:
                raise NotFound(f"{noun} not found")
            return StoredAnswer(
                rows[0]["status"], json.loads(rows[0]["headers"]), rows[0]["body"].encode(), ()
            ), True
        stored = await work(transaction)
        await transaction.write(
            storage.KEEP_CALL,
            *(
                user_id,
                key,
                fingerprint,
                stored.status,
                dumps(stored.headers).decode(),
                stored.body.decode(),
            ),
            statements.array(stored.shows),
        )
        return stored, False

    async with pool.turn(user_id):
        return await pool.transaction(find_or_do)


def fingerprint(method: str, path: Sequence[str], body: bytes) -> bytes:
    """The same for the same method, path (its decoded segments) and bytes of the body."""
    head = json.dumps([method, *path]).encode()  # and no other text: fingerprints are kept
    return hashlib.sha256(b"%d %b%b" % (len(head), head, body)).digest()


def _lock(user_id: str, key: str) -> int:
    """An advisory lock's number: 64 bits of a hash, so that nobody can choose a key that locks
    another's."""
    return int.from_bytes(hashlib.sha256(f"{user_id}\0{key}".encode()).digest()[:8], signed=True)
