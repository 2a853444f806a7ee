-- The schema of the release before migration 0005, as its `todo migrate --sql` printed it. Never edit it.

CREATE TABLE todo_schema_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT todo_schema_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

DO $$
BEGIN
    CREATE ROLE todo_app NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN RAISE WARNING 'this login may not create the role todo_app';
END $$;
DO $$
BEGIN
    EXECUTE format('GRANT todo_app TO %I', current_user);
    GRANT SELECT ON todo_schema_version TO todo_app;  -- for logins that own nothing: they look before they migrate
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not take the role todo_app';
END $$;;

CREATE TABLE tasks (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    user_id TEXT NOT NULL, 
    title VARCHAR(200) NOT NULL, 
    description VARCHAR(1000), 
    completed BOOLEAN DEFAULT false NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, 
    PRIMARY KEY (user_id, id), 
    CONSTRAINT tasks_user_id_length CHECK (char_length(user_id) BETWEEN 1 AND 255), 
    CONSTRAINT tasks_title_not_empty CHECK (title <> '')
);

CREATE INDEX tasks_newest ON tasks (user_id, created_at, id);

CREATE INDEX tasks_newest_by_completed ON tasks (user_id, completed, created_at, id);

ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON tasks USING (user_id = nullif(current_setting('app.user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.user_id', true), ''));;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON tasks TO todo_app;
    END IF;
END $$;;

INSERT INTO todo_schema_version (version_num) VALUES ('0001') RETURNING todo_schema_version.version_num;

-- Running upgrade 0001 -> 0002

DO $$
BEGIN
    CREATE ROLE todo_retention NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN RAISE WARNING 'this login may not create the role todo_retention';
END $$;
DO $$
BEGIN
    EXECUTE format('GRANT todo_retention TO %I', current_user);
    GRANT SELECT ON todo_schema_version TO todo_retention;  -- for logins that own nothing: they look before they migrate
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not take the role todo_retention';
END $$;;

CREATE TABLE change_counters (
    user_id TEXT NOT NULL, 
    seq BIGINT NOT NULL, 
    at TIMESTAMP WITH TIME ZONE NOT NULL, 
    PRIMARY KEY (user_id)
);

CREATE TABLE changes (
    user_id TEXT NOT NULL, 
    seq BIGINT NOT NULL, 
    at TIMESTAMP WITH TIME ZONE NOT NULL, 
    actor_kind TEXT NOT NULL, 
    actor_id TEXT NOT NULL, 
    group_id UUID NOT NULL, 
    entity TEXT NOT NULL, 
    entity_id BIGINT NOT NULL, 
    op TEXT NOT NULL, 
    fields JSONB NOT NULL, 
    PRIMARY KEY (user_id, seq)
);

CREATE INDEX changes_expiry ON changes (at);

CREATE TABLE idempotency_keys (
    user_id TEXT NOT NULL, 
    key TEXT NOT NULL, 
    at TIMESTAMP WITH TIME ZONE NOT NULL, 
    fingerprint BYTEA NOT NULL, 
    status SMALLINT NOT NULL, 
    headers JSON NOT NULL, 
    body JSON NOT NULL, 
    PRIMARY KEY (user_id, key)
);

CREATE INDEX idempotency_keys_expiry ON idempotency_keys (at);

ALTER TABLE tasks ADD COLUMN uid UUID DEFAULT gen_random_uuid() NOT NULL;

ALTER TABLE tasks ADD COLUMN version BIGINT;

ALTER TABLE tasks ADD COLUMN completed_at TIMESTAMP WITH TIME ZONE;

ALTER TABLE tasks NO FORCE ROW LEVEL SECURITY;

WITH numbered AS (
    SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY created_at, id) AS seq FROM tasks
)
UPDATE tasks AS task SET
    version = numbered.seq, completed_at = CASE WHEN task.completed THEN task.updated_at END
FROM numbered WHERE task.user_id = numbered.user_id AND task.id = numbered.id;

INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
SELECT user_id, version, created_at, 'user', user_id, gen_random_uuid(), 'task', id, 'create', jsonb_strip_nulls(
    jsonb_build_object(
        'uid', jsonb_build_array(NULL, uid), 'title', jsonb_build_array(NULL, title),
        'description', CASE WHEN description IS NOT NULL THEN jsonb_build_array(NULL, description) END,
        'completed', jsonb_build_array(NULL, completed),
        'completed_at', CASE WHEN completed THEN jsonb_build_array(
            NULL, to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) END
    ))
FROM tasks;

INSERT INTO change_counters (user_id, seq, at) SELECT user_id, max(version), max(updated_at) FROM tasks GROUP BY user_id;

ALTER TABLE tasks FORCE ROW LEVEL SECURITY;

ALTER TABLE tasks ALTER COLUMN version SET NOT NULL;

ALTER TABLE tasks ADD CONSTRAINT tasks_completed_at CHECK (completed = (completed_at IS NOT NULL));

ALTER TABLE tasks ADD CONSTRAINT tasks_uid UNIQUE (user_id, uid);

ALTER TABLE change_counters ENABLE ROW LEVEL SECURITY;
ALTER TABLE change_counters FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON change_counters USING (user_id = nullif(current_setting('app.user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.user_id', true), ''));;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN
        GRANT SELECT, INSERT, UPDATE ON change_counters TO todo_app;
    END IF;
END $$;;

ALTER TABLE changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE changes FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON changes USING (user_id = nullif(current_setting('app.user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.user_id', true), ''));;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN
        GRANT SELECT, INSERT ON changes TO todo_app;
    END IF;
END $$;;

ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON idempotency_keys USING (user_id = nullif(current_setting('app.user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.user_id', true), ''));;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN
        GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO todo_app;
    END IF;
END $$;;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_retention') THEN
        
        GRANT SELECT (user_id, seq, at), DELETE ON changes TO todo_retention;
        CREATE POLICY expired ON changes TO todo_retention USING (nullif(current_setting('app.changes_kept_days', true), '')::integer > 0 AND at < now() - nullif(current_setting('app.changes_kept_days', true), '')::integer * interval '1 day');
        CREATE POLICY expired_only ON changes AS RESTRICTIVE TO todo_retention USING (nullif(current_setting('app.changes_kept_days', true), '')::integer > 0 AND at < now() - nullif(current_setting('app.changes_kept_days', true), '')::integer * interval '1 day');
        
    END IF;
END $$;;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_retention') THEN
        
        GRANT SELECT (user_id, key, at), DELETE ON idempotency_keys TO todo_retention;
        CREATE POLICY expired ON idempotency_keys TO todo_retention USING (at < now() - interval '24 hours');
        CREATE POLICY expired_only ON idempotency_keys AS RESTRICTIVE TO todo_retention USING (at < now() - interval '24 hours');
        
    END IF;
END $$;;

DROP FUNCTION IF EXISTS create_task(text, text, text);
DROP FUNCTION IF EXISTS update_task(text, bigint, text, boolean, boolean, text);
DROP FUNCTION IF EXISTS complete_task(text, bigint, boolean);
DROP FUNCTION IF EXISTS delete_task(text, bigint);;

UPDATE todo_schema_version SET version_num='0002' WHERE todo_schema_version.version_num = '0001';

-- Running upgrade 0002 -> 0003

ALTER TABLE tasks ADD COLUMN deleted_at TIMESTAMP WITH TIME ZONE;

DROP INDEX tasks_newest;

DROP INDEX tasks_newest_by_completed;

CREATE INDEX tasks_newest ON tasks (user_id, created_at, id) WHERE deleted_at IS NULL;

CREATE INDEX tasks_newest_by_completed ON tasks (user_id, completed, created_at, id) WHERE deleted_at IS NULL;

CREATE INDEX tasks_trash ON tasks (user_id, deleted_at, id) WHERE deleted_at IS NOT NULL;

CREATE INDEX tasks_expiry ON tasks (updated_at, id) WHERE deleted_at IS NOT NULL;

CREATE INDEX changes_of_entity ON changes (user_id, entity_id);

CREATE INDEX changes_of_group ON changes (user_id, group_id);

ALTER TABLE idempotency_keys ALTER COLUMN body DROP NOT NULL;

ALTER TABLE idempotency_keys ADD COLUMN entity_id BIGINT;

CREATE INDEX idempotency_keys_of_entity ON idempotency_keys (user_id, entity_id);

ALTER TABLE tasks ALTER COLUMN title SET STATISTICS 0;

ALTER TABLE tasks ALTER COLUMN description SET STATISTICS 0;

ALTER TABLE changes ALTER COLUMN fields SET STATISTICS 0;

ALTER TABLE idempotency_keys ALTER COLUMN body SET STATISTICS 0;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN
        GRANT UPDATE (fields) ON changes TO todo_app;
    END IF;
END $$;;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_retention') THEN
        
        GRANT SELECT (user_id, id, updated_at, deleted_at) ON tasks TO todo_retention;
        CREATE POLICY expired ON tasks TO todo_retention USING (nullif(current_setting('app.trash_kept_days', true), '')::integer > 0 AND deleted_at IS NOT NULL AND updated_at < now() - nullif(current_setting('app.trash_kept_days', true), '')::integer * interval '1 day');
        CREATE POLICY expired_only ON tasks AS RESTRICTIVE TO todo_retention USING (nullif(current_setting('app.trash_kept_days', true), '')::integer > 0 AND deleted_at IS NOT NULL AND updated_at < now() - nullif(current_setting('app.trash_kept_days', true), '')::integer * interval '1 day');
        
    END IF;
END $$;;

DROP FUNCTION IF EXISTS delete_task(text, text, text, uuid, bigint, bigint[]);

UPDATE todo_schema_version SET version_num='0003' WHERE todo_schema_version.version_num = '0002';

-- Running upgrade 0003 -> 0004

CREATE OR REPLACE FUNCTION task_fields(task tasks) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY INVOKER AS $$
BEGIN
    RETURN jsonb_build_object(
        'uid', task.uid, 'title', task.title, 'description', task.description, 'completed', task.completed,
        'completed_at', to_char(task.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'deleted_at', to_char(task.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    );
END $$;

CREATE OR REPLACE FUNCTION task_changes(was tasks, task tasks) RETURNS jsonb LANGUAGE sql STABLE SECURITY INVOKER AS $$
SELECT jsonb_strip_nulls(jsonb_build_object(
    'uid', CASE WHEN task.uid IS DISTINCT FROM was.uid THEN jsonb_build_array(was.uid, task.uid) END,
    'title', CASE WHEN task.title IS DISTINCT FROM was.title THEN jsonb_build_array(was.title, task.title) END,
    'description', CASE
        WHEN task.description IS DISTINCT FROM was.description
        THEN jsonb_build_array(was.description, task.description)
    END,
    'completed', CASE
        WHEN task.completed IS DISTINCT FROM was.completed THEN jsonb_build_array(was.completed, task.completed)
    END,
    'completed_at', CASE WHEN task.completed_at IS DISTINCT FROM was.completed_at THEN jsonb_build_array(
        to_char(was.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        to_char(task.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ) END,
    'deleted_at', CASE WHEN task.deleted_at IS DISTINCT FROM was.deleted_at THEN jsonb_build_array(
        to_char(was.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        to_char(task.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ) END
))
$$;

CREATE OR REPLACE FUNCTION create_task(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_if_match bigint[], p_uid uuid, p_title text, p_description text
)
RETURNS TABLE (
    applied boolean, id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz, uid uuid, version bigint, completed_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    v_seq bigint;
    v_at timestamptz;
    v_applied boolean := false;
    task tasks;
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
    IF p_uid IS NOT NULL THEN
        SELECT * INTO task FROM tasks AS t WHERE user_id = p_user_id AND t.uid = p_uid;
        IF task.deleted_at IS NOT NULL THEN
            RETURN QUERY SELECT NULL::boolean, task.id, NULL, NULL::varchar, NULL::varchar, NULL::boolean,
                NULL::timestamptz, NULL::timestamptz, NULL::uuid, NULL::bigint, NULL::timestamptz;
            RETURN;
        END IF;
    END IF;
    IF task.id IS NULL THEN
        IF p_if_match IS NOT NULL THEN
            v_seq := (SELECT c.seq FROM change_counters AS c WHERE user_id = p_user_id);
            IF coalesce(v_seq, 0) <> ALL (p_if_match) THEN
                RETURN;
            END IF;
        END IF;
        UPDATE change_counters AS c
        SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
        WHERE user_id = p_user_id
        RETURNING c.seq, c.at INTO v_seq, v_at;
        IF NOT FOUND THEN
            INSERT INTO change_counters AS c (user_id, seq, at)
            VALUES (p_user_id, 1, clock_timestamp())
            RETURNING c.seq, c.at INTO v_seq, v_at;
        END IF;
        v_applied := true;
        INSERT INTO tasks (user_id, title, description, uid, version, created_at, updated_at)
        VALUES (p_user_id, p_title, p_description, coalesce(p_uid, gen_random_uuid()), v_seq, v_at, v_at)
        RETURNING * INTO task;
        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
        VALUES (p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, p_group_id, 'task', task.id, 'create',
                task_changes(NULL, task));
    END IF;
    RETURN QUERY SELECT
        v_applied, task.id, task.user_id, task.title, task.description, task.completed,
        task.created_at, task.updated_at, task.uid, task.version, task.completed_at;
END $$;

CREATE OR REPLACE FUNCTION update_task(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_id bigint, p_if_match bigint[], p_set jsonb, p_skips_same boolean
)
RETURNS TABLE (
    applied boolean, id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz, uid uuid, version bigint, completed_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    v_seq bigint;
    v_at timestamptz;
    v_applied boolean;
    was tasks;
    task tasks;
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
    SELECT * INTO was FROM tasks AS t WHERE user_id = p_user_id AND t.id = p_id AND t.deleted_at IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_applied := coalesce(was.version = ANY (p_if_match), true);
    task := was;
    IF v_applied AND p_set IS NULL THEN
        task.completed := NOT was.completed;
    ELSIF v_applied THEN
        task := jsonb_populate_record(was, p_set);
    END IF;
    IF v_applied AND NOT (p_skips_same AND task IS NOT DISTINCT FROM was) THEN
        UPDATE change_counters AS c
        SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
        WHERE user_id = p_user_id
        RETURNING c.seq, c.at INTO v_seq, v_at;
        IF NOT FOUND THEN
            INSERT INTO change_counters AS c (user_id, seq, at)
            VALUES (p_user_id, 1, clock_timestamp())
            RETURNING c.seq, c.at INTO v_seq, v_at;
        END IF;
        UPDATE tasks AS t SET
            title = task.title, description = task.description, completed = task.completed,
            completed_at = CASE WHEN task.completed THEN coalesce(task.completed_at, v_at) END,
            deleted_at = task.deleted_at, version = v_seq, updated_at = v_at
        WHERE user_id = p_user_id AND t.id = was.id AND t.version = was.version
        RETURNING * INTO task;
        IF NOT FOUND THEN
            RAISE serialization_failure;
        END IF;
        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
        VALUES (p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, p_group_id, 'task', was.id, CASE
            WHEN was.deleted_at IS NULL AND task.deleted_at IS NOT NULL THEN 'delete'
            WHEN was.deleted_at IS NOT NULL AND task.deleted_at IS NULL THEN 'restore'
            ELSE 'update'
        END, task_changes(was, task));
    END IF;
    RETURN QUERY SELECT
        v_applied, task.id, task.user_id, task.title, task.description, task.completed,
        task.created_at, task.updated_at, task.uid, task.version, task.completed_at;
END $$;

CREATE OR REPLACE FUNCTION move_task(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_id bigint, p_if_match bigint[], p_to_trash boolean
)
RETURNS TABLE (
    applied boolean, id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz, uid uuid, version bigint, completed_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    v_seq bigint;
    v_at timestamptz;
    v_applied boolean;
    was tasks;
    task tasks;
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
    SELECT * INTO was FROM tasks AS t
    WHERE user_id = p_user_id AND t.id = p_id AND (t.deleted_at IS NULL) = p_to_trash;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_applied := coalesce(was.version = ANY (p_if_match), true);
    task := was;
    IF v_applied THEN
        UPDATE change_counters AS c
        SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
        WHERE user_id = p_user_id
        RETURNING c.seq, c.at INTO v_seq, v_at;
        IF NOT FOUND THEN
            INSERT INTO change_counters AS c (user_id, seq, at)
            VALUES (p_user_id, 1, clock_timestamp())
            RETURNING c.seq, c.at INTO v_seq, v_at;
        END IF;
        task.deleted_at := CASE WHEN p_to_trash THEN v_at END;
        UPDATE tasks AS t SET
            title = task.title, description = task.description, completed = task.completed,
            completed_at = CASE WHEN task.completed THEN coalesce(task.completed_at, v_at) END,
            deleted_at = task.deleted_at, version = v_seq, updated_at = v_at
        WHERE user_id = p_user_id AND t.id = was.id AND t.version = was.version
        RETURNING * INTO task;
        IF NOT FOUND THEN
            RAISE serialization_failure;
        END IF;
        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
        VALUES (p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, p_group_id, 'task', was.id, CASE
            WHEN was.deleted_at IS NULL AND task.deleted_at IS NOT NULL THEN 'delete'
            WHEN was.deleted_at IS NOT NULL AND task.deleted_at IS NULL THEN 'restore'
            ELSE 'update'
        END, task_changes(was, task));
    END IF;
    RETURN QUERY SELECT
        v_applied, task.id, task.user_id, task.title, task.description, task.completed,
        task.created_at, task.updated_at, task.uid, task.version, task.completed_at;
END $$;

CREATE OR REPLACE FUNCTION purge_task(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_id bigint, p_if_match bigint[], p_untouched_since timestamptz
)
RETURNS TABLE (
    applied boolean, id bigint, user_id text, title varchar, description varchar, completed boolean,
    created_at timestamptz, updated_at timestamptz, uid uuid, version bigint, completed_at timestamptz
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    v_seq bigint;
    v_at timestamptz;
    v_applied boolean;
    task tasks;
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
    SELECT * INTO task FROM tasks AS t
    WHERE user_id = p_user_id AND t.id = p_id AND t.deleted_at IS NOT NULL AND t.updated_at < p_untouched_since;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_applied := coalesce(task.version = ANY (p_if_match), true);
    IF v_applied THEN
        UPDATE change_counters AS c
        SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
        WHERE user_id = p_user_id
        RETURNING c.seq, c.at INTO v_seq, v_at;
        IF NOT FOUND THEN
            INSERT INTO change_counters AS c (user_id, seq, at)
            VALUES (p_user_id, 1, clock_timestamp())
            RETURNING c.seq, c.at INTO v_seq, v_at;
        END IF;
        DELETE FROM tasks AS t WHERE user_id = p_user_id AND t.id = p_id;
        UPDATE changes AS c SET fields = '{}'
        WHERE user_id = p_user_id AND c.entity = 'task' AND c.entity_id = p_id;
        UPDATE idempotency_keys AS k SET body = NULL
        WHERE user_id = p_user_id AND k.entity_id = p_id;
        UPDATE idempotency_keys AS k SET body = NULL
        WHERE user_id = p_user_id AND k.entity_id IS NULL AND jsonb_path_exists(
            k.body::jsonb, '$.** ? (@.id == $id || @.entity_id == $id)', jsonb_build_object('id', p_id)
        );
        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
        VALUES (p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, p_group_id, 'task', p_id, 'purge', '{}');
    END IF;
    RETURN QUERY SELECT
        v_applied, task.id, task.user_id, task.title, task.description, task.completed,
        task.created_at, task.updated_at, task.uid, task.version, task.completed_at;
END $$;

CREATE OR REPLACE FUNCTION undo_changes(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group_id uuid,
    p_if_match bigint[], p_seq bigint, p_undone_group_id uuid
)
RETURNS TABLE (
    outcome text, conflicts text[], seq bigint, at timestamptz, actor_kind text, actor_id text, group_id uuid,
    entity text, entity_id bigint, op text, fields jsonb
) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    v_seq bigint;
    v_at timestamptz;
    undone record;
    was tasks;
    task tasks;
    v_now jsonb;
    v_set jsonb;
    v_last bigint;
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
    outcome := 'absent';
    v_last := coalesce((SELECT c.seq FROM change_counters AS c WHERE user_id = p_user_id), 0);
    BEGIN
        FOR undone IN
            WITH chosen AS (
                SELECT c.seq, c.entity_id, c.op, c.fields FROM changes AS c
                WHERE user_id = p_user_id AND (c.seq = p_seq OR c.group_id = p_undone_group_id)
            ), written AS (
                SELECT c.seq, c.entity_id, f.name, f.pair, f.pair -> 0 <> lag(f.pair -> 1) OVER earlier AS broken
                FROM chosen AS c CROSS JOIN LATERAL jsonb_each(c.fields) AS f(name, pair)
                WINDOW earlier AS (PARTITION BY c.entity_id, f.name ORDER BY c.seq)
            ), net AS (
                SELECT w.entity_id, w.name, coalesce(bool_or(w.broken), false) AS broken,
                       (array_agg(w.pair -> 0 ORDER BY w.seq))[1] AS old,
                       (array_agg(w.pair -> 1 ORDER BY w.seq DESC))[1] AS new
                FROM written AS w GROUP BY w.entity_id, w.name
            )
            SELECT c.entity_id AS id, bool_or(c.op = 'create') AS creation, coalesce((
                SELECT jsonb_object_agg(n.name, jsonb_build_array(n.old, n.new, n.broken))
                FROM net AS n
                WHERE n.entity_id = c.entity_id AND (n.old <> n.new OR n.broken)
            ), '{}') AS fields
            FROM chosen AS c GROUP BY c.entity_id ORDER BY max(c.seq) DESC
        LOOP
            IF v_last <> ALL (p_if_match) THEN
                RAISE EXCEPTION USING ERRCODE = 'UNDOS';
            END IF;
            outcome := 'done';
            SELECT * INTO was FROM tasks AS t WHERE user_id = p_user_id AND t.id = undone.id;
            v_now := CASE WHEN FOUND THEN task_fields(was) END;
            IF undone.creation THEN
                SELECT array_agg(f.name ORDER BY f.name) INTO conflicts
                FROM jsonb_each(v_now) AS f(name, now)
                WHERE f.name <> 'deleted_at' AND (
                    f.now <> coalesce(undone.fields -> f.name -> 1, 'null') OR undone.fields -> f.name -> 2 = 'true'
                );
                task := was;
                task.deleted_at := coalesce(was.deleted_at, 'infinity');
            ELSE
                SELECT array_agg(f.name ORDER BY f.name)
                           FILTER (WHERE v_now -> f.name NOT IN (f.net -> 0, f.net -> 1) OR f.net -> 2 = 'true'),
                       jsonb_object_agg(f.name, f.net -> 0)
                INTO conflicts, v_set
                FROM jsonb_each(undone.fields) AS f(name, net);
                task := jsonb_populate_record(was, v_set);
            END IF;
            IF was.id IS NULL OR conflicts IS NOT NULL THEN
                RAISE EXCEPTION USING ERRCODE = 'UNDOC';
            END IF;
            IF task IS DISTINCT FROM was THEN
        UPDATE change_counters AS c
        SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
        WHERE user_id = p_user_id
        RETURNING c.seq, c.at INTO v_seq, v_at;
        IF NOT FOUND THEN
            INSERT INTO change_counters AS c (user_id, seq, at)
            VALUES (p_user_id, 1, clock_timestamp())
            RETURNING c.seq, c.at INTO v_seq, v_at;
        END IF;
                IF undone.creation THEN
                    task.deleted_at := v_at;
                END IF;
        UPDATE tasks AS t SET
            title = task.title, description = task.description, completed = task.completed,
            completed_at = CASE WHEN task.completed THEN coalesce(task.completed_at, v_at) END,
            deleted_at = task.deleted_at, version = v_seq, updated_at = v_at
        WHERE user_id = p_user_id AND t.id = was.id AND t.version = was.version
        RETURNING * INTO task;
        IF NOT FOUND THEN
            RAISE serialization_failure;
        END IF;
        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
        VALUES (p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, p_group_id, 'task', was.id, CASE
            WHEN was.deleted_at IS NULL AND task.deleted_at IS NOT NULL THEN 'delete'
            WHEN was.deleted_at IS NOT NULL AND task.deleted_at IS NULL THEN 'restore'
            ELSE 'update'
        END, task_changes(was, task));
            END IF;
        END LOOP;
    EXCEPTION
        WHEN SQLSTATE 'UNDOC' THEN outcome := 'conflict';
        WHEN SQLSTATE 'UNDOS' THEN outcome := 'stale';
    END;
    RETURN NEXT;
    RETURN QUERY
        SELECT NULL, NULL::text[], c.seq, c.at, c.actor_kind, c.actor_id, c.group_id,
               c.entity, c.entity_id, c.op, c.fields
        FROM changes AS c
        WHERE user_id = p_user_id AND c.seq > v_last
        ORDER BY c.seq;
END $$;

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
END $$;

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
END $$;

UPDATE todo_schema_version SET version_num='0004' WHERE todo_schema_version.version_num = '0003';

