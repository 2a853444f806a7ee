"""Safe retries: a write with a key is done once, and its first answer kept with it, for whoever sends it again.

The `Idempotency-Key` header is the IETF's draft (draft-ietf-httpapi-idempotency-key-header). Key, write and answer are
one transaction: after a crash, either all of them are there or none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import asyncpg

from errors import IdempotencyInProgress, IdempotencyKeyReused, NotFound
from outages import waits_for_a_turn
from pool import Pool, Transaction
from strict_json import dumps

WAIT_SECONDS = 2.0  # for the same request to end that is still running; lock_timeout in FIND_ANSWER_FUNCTION

FIND_ANSWER = """
SELECT fingerprint, status, headers, body FROM find_answer($1, $2, $3)
"""

KEEP_ANSWER = """
SELECT FROM keep_answer($1, $2, $3, $4, $5, $6)
"""

FIND_ANSWER_FUNCTION = """
CREATE OR REPLACE FUNCTION find_answer(p_user_id text, p_key text, p_lock bigint)
RETURNS TABLE (fingerprint bytea, status smallint, headers json, body json)
LANGUAGE plpgsql SECURITY INVOKER SET lock_timeout = '2s' AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    PERFORM pg_advisory_xact_lock(p_lock);
    RETURN QUERY
        SELECT k.fingerprint, k.status, k.headers, k.body
        FROM idempotency_keys AS k
        WHERE user_id = p_user_id AND k.key = p_key AND k.at > clock_timestamp() - interval '24 hours';
END $$
"""

# `entity_id` is the task whose text the answer shows, 0 where there is none; NULL where one must look.

KEEP_ANSWER_FUNCTION = """
CREATE OR REPLACE FUNCTION keep_answer(
    p_user_id text, p_key text, p_fingerprint bytea, p_status smallint, p_headers json, p_body json
)
RETURNS void LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    v_data jsonb := p_body::jsonb -> 'data';
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body, entity_id)
    VALUES (p_user_id, p_key, clock_timestamp(), p_fingerprint, p_status, p_headers, p_body, CASE
        WHEN v_data IN ('null', '[]') THEN 0
        WHEN jsonb_typeof(v_data) = 'object' THEN (v_data ->> 'id')::bigint
        WHEN jsonb_array_length(v_data) = 1 THEN (v_data -> 0 ->> 'entity_id')::bigint
    END)
    ON CONFLICT (user_id, key) DO UPDATE SET  -- find_answer has found none: this one is older than 24 hours
        at = excluded.at, fingerprint = excluded.fingerprint, status = excluded.status,
        headers = excluded.headers, body = excluded.body, entity_id = excluded.entity_id;
END $$
"""

# Installed by migrations, and a test compares. Change one, and add a migration that installs it again.
FUNCTIONS = (FIND_ANSWER_FUNCTION, KEEP_ANSWER_FUNCTION)


class Kept(NamedTuple):
    """An answer that says a write was done: what of it is sent again. `body` is JSON."""

    status: int
    headers: dict[str, str]
    body: bytes


async def once(
    pool: Pool, user_id: str, key: str, fingerprint: bytes, work: Callable[[Transaction], Awaitable[Kept]]
) -> tuple[Kept, bool]:
    """The answer of `work`, done now, or the one kept of when it was done before; and whether it is that one.

    `fingerprint` tells one request from another: the same key with another one is IdempotencyKeyReused. While the same
    key is at work elsewhere this waits, and raises IdempotencyInProgress after WAIT_SECONDS. What `work` raises undoes
    the key with the rest, so that a refused request may be mended and sent again.
    """

    async def find_or_do(transaction: Transaction) -> tuple[Kept, bool]:
        try:
            rows = await transaction.read(FIND_ANSWER, user_id, key, _lock(user_id, key), seconds=WAIT_SECONDS + 1)
        except asyncpg.LockNotAvailableError as error:
            if not waits_for_a_turn(error):
                raise
            raise IdempotencyInProgress from None
        if rows:
            if rows[0]["fingerprint"] != fingerprint:
                raise IdempotencyKeyReused
            if rows[0]["body"] is None:  # what it showed was deleted for good
                raise NotFound("Task not found")
            return Kept(rows[0]["status"], json.loads(rows[0]["headers"]), rows[0]["body"].encode()), True
        kept = await work(transaction)
        await transaction.write(
            KEEP_ANSWER, user_id, key, fingerprint, kept.status, dumps(kept.headers).decode(), kept.body.decode()
        )
        return kept, False

    async with pool.turn(user_id):
        return await pool.transaction(find_or_do)


def fingerprint(method: str, path: Sequence[str], body: bytes) -> bytes:
    """The same for the same method, path (its decoded segments) and bytes of the body."""
    head = json.dumps([method, *path]).encode()  # and no other text: fingerprints are kept
    return hashlib.sha256(b"%d %b%b" % (len(head), head, body)).digest()


def _lock(user_id: str, key: str) -> int:
    """An advisory lock's number: 64 bits of a hash, so that nobody can choose a key that locks another's."""
    return int.from_bytes(hashlib.sha256(f"{user_id}\0{key}".encode()).digest()[:8], signed=True)
