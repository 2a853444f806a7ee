"""The writer's SQL of a deletion for good."""

from __future__ import annotations

from textwrap import indent

from entities import Entity
from storage.log import NEXT_CHANGE, log
from storage.references import refuse_in_use

# No text of what is deleted for good stays: not in the log, and not in an answer that is kept for a
# retry. An answer that was kept by a server of before migration 0005 does not say what it shows, so
# it may show anything.


def purge(entity: Entity) -> str:
    done = f"""\
{NEXT_CHANGE}\
DELETE FROM {entity.table} AS t WHERE user_id = p_user_id AND t.id = was.id;
UPDATE changes AS c SET fields = '{{}}'
WHERE user_id = p_user_id AND c.entity_id = was.id AND c.entity = '{entity.name}';
UPDATE idempotency_keys AS k SET body = NULL
WHERE user_id = p_user_id AND k.entity_id = was.id;
UPDATE idempotency_keys AS k SET body = NULL
WHERE user_id = p_user_id AND k.entity_id IS NULL AND (k.shows IS NULL OR was.id = ANY (k.shows));
{log(entity, "was.id", "'purge'", "'{}'")}\
"""  # noqa: S608  # of constants only
    return f"""\
{refuse_in_use(entity, only_living=False)}\
IF outcome = 'done' THEN
{indent(done, "    ")}\
    {entity.name} := NULL;
END IF;
"""
