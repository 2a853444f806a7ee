"""Answers that are kept for retries: the SQL functions that find one and keep one."""

from __future__ import annotations

from storage.function import Function

FIND_ANSWER = Function.of(
    "find_answer",
    """\
CREATE FUNCTION find_answer(p_user_id text, p_key text, p_lock bigint)
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
""",
)

# An answer that shows one object is found by `entity_id` when that is deleted for good; one that
# shows several by `shows`, and then its `entity_id` is NULL.

KEEP_ANSWER = Function.of(
    "keep_answer",
    """\
CREATE FUNCTION keep_answer(
    p_user_id text, p_key text, p_fingerprint bytea, p_status smallint, p_headers json, p_body json, p_shows text
)
RETURNS void LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    v_shows bigint[] := p_shows::bigint[];
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true);
    INSERT INTO idempotency_keys (user_id, key, at, fingerprint, status, headers, body, entity_id, shows)
    SELECT p_user_id, p_key, clock_timestamp(), p_fingerprint, p_status, p_headers, p_body,
           CASE cardinality(v_shows) WHEN 0 THEN 0 WHEN 1 THEN v_shows[1] END,
           CASE WHEN cardinality(v_shows) > 1 THEN v_shows END
    ON CONFLICT (user_id, key) DO UPDATE SET  -- find_answer has found none: this one is older than 24 hours
        at = excluded.at, fingerprint = excluded.fingerprint, status = excluded.status, headers = excluded.headers,
        body = excluded.body, entity_id = excluded.entity_id, shows = excluded.shows;
END $$
""",
)

FIND_CALL = f"SELECT fingerprint, status, headers, body FROM {FIND_ANSWER.name}($1, $2, $3)"  # noqa: S608  # a constant
KEEP_CALL = f"SELECT FROM {KEEP_ANSWER.name}($1, $2, $3, $4, $5, $6, $7)"  # a constant
