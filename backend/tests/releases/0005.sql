-- The schema of the release before migration 0006, as its `todo migrate --sql` printed it. Never edit it.

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
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not grant the role todo_app';
END $$;
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO todo_app', current_schema());
    GRANT SELECT ON todo_schema_version TO todo_app;  -- for logins that own nothing: they look before they migrate
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not let the role todo_app in';
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
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not grant the role todo_retention';
END $$;
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO todo_retention', current_schema());
    GRANT SELECT ON todo_schema_version TO todo_retention;  -- for logins that own nothing: they look before they migrate
EXCEPTION
    WHEN undefined_object OR insufficient_privilege THEN RAISE WARNING 'this login may not let the role todo_retention in';
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

UPDATE todo_schema_version SET version_num='0004' WHERE todo_schema_version.version_num = '0003';

-- Running upgrade 0004 -> 0005

DO $$
DECLARE
    ids record;
BEGIN
    LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('SELECT last_value, is_called FROM %s', pg_get_serial_sequence('tasks', 'id')) INTO ids;
    ALTER TABLE tasks ALTER COLUMN id DROP IDENTITY;
    CREATE SEQUENCE entity_ids;
    PERFORM setval('entity_ids', ids.last_value, ids.is_called);
    ALTER TABLE tasks ALTER COLUMN id SET DEFAULT nextval('entity_ids');
END $$;

GRANT USAGE ON SEQUENCE entity_ids TO PUBLIC;

DROP INDEX tasks_expiry;

CREATE INDEX tasks_expiry ON tasks (deleted_at, id) WHERE deleted_at IS NOT NULL;

DROP INDEX tasks_newest_by_completed;

CREATE INDEX tasks_pending ON tasks (user_id, created_at, id) WHERE deleted_at IS NULL AND NOT completed;

DROP INDEX changes_of_group;

ALTER TABLE idempotency_keys ADD COLUMN shows BIGINT[];

ALTER TABLE idempotency_keys NO FORCE ROW LEVEL SECURITY;

UPDATE idempotency_keys AS k SET shows = ARRAY(
    SELECT DISTINCT coalesce(shown ->> 'entity_id', shown ->> 'id')::bigint
    FROM jsonb_path_query(k.body::jsonb, '$.data[*]') AS shown
)
WHERE k.entity_id IS NULL AND k.body IS NOT NULL;

ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;

UPDATE todo_schema_version SET version_num='0005' WHERE todo_schema_version.version_num = '0004';

COMMENT ON TABLE todo_schema_version IS 'serves_from=0004';

CREATE FUNCTION store_6d9e69dc4f(
    p_user_id text, p_actor_kind text, p_actor_id text, p_group text, p_edits jsonb, p_all boolean, p_rows boolean
)
RETURNS TABLE (outcome text, item json) LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    e_entity text;
    e_op text;
    e_id bigint;
    e_uid uuid;
    e_set jsonb;
    e_if_match jsonb;
    e_in_trash boolean;
    e_skips_same boolean;
    e_untouched_since timestamptz;
    v_seq bigint;
    v_first bigint;
    v_at timestamptz;
BEGIN
    PERFORM set_config('app.user_id', p_user_id, true), pg_advisory_xact_lock(hashtextextended(p_user_id, 0));
    FOR e_entity, e_op, e_id, e_uid, e_set, e_if_match, e_in_trash, e_skips_same, e_untouched_since IN
        SELECT e.* FROM jsonb_to_recordset(p_edits) AS e(entity text, op text, id bigint, uid uuid, set jsonb, if_match jsonb, in_trash boolean, skips_same boolean, untouched_since timestamptz)
    LOOP
        IF e_entity = 'task' THEN
            DECLARE
                was tasks;
                task tasks;
                v_op text;
                v_fields jsonb;
            BEGIN
                IF e_op = 'create' THEN
                    IF e_uid IS NOT NULL THEN
                        SELECT * INTO task FROM tasks AS t WHERE user_id = p_user_id AND t.uid = e_uid;
                    END IF;
                    IF task.id IS NULL THEN
                        outcome := 'done';
                        IF v_seq IS NULL THEN
                            UPDATE change_counters AS c
                            SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
                            WHERE user_id = p_user_id
                            RETURNING c.seq, c.seq, c.at INTO v_first, v_seq, v_at;
                            IF NOT FOUND THEN
                                INSERT INTO change_counters AS c (user_id, seq, at)
                                VALUES (p_user_id, 1, clock_timestamp())
                                RETURNING c.seq, c.seq, c.at INTO v_first, v_seq, v_at;
                            END IF;
                        ELSE
                            v_seq := v_seq + 1;
                            v_at := greatest(clock_timestamp(), v_at + interval '1 microsecond');
                        END IF;
                        task := jsonb_populate_record(NULL::tasks, e_set);
                        task.completed := coalesce(task.completed, false);
                        IF task.completed THEN
                            task.completed_at := v_at;
                        END IF;
                        INSERT INTO tasks (user_id, uid, version, created_at, updated_at, title, description, completed, completed_at)
                        VALUES (
                            p_user_id, coalesce(e_uid, gen_random_uuid()), v_seq, v_at, v_at,
                            task.title, task.description, task.completed, task.completed_at
                        )
                        RETURNING * INTO task;
                        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
                        VALUES (
                            p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, (p_group || lpad(to_hex(v_first), 12, '0'))::uuid,
                            'task', task.id, 'create', jsonb_strip_nulls(jsonb_build_object(
                            'title', CASE WHEN task.title IS NOT NULL THEN jsonb_build_array(NULL, task.title) END,
                            'description', CASE WHEN task.description IS NOT NULL THEN jsonb_build_array(NULL, task.description) END,
                            'completed', CASE WHEN task.completed IS NOT NULL THEN jsonb_build_array(NULL, task.completed) END,
                            'uid', CASE WHEN task.uid IS NOT NULL THEN jsonb_build_array(NULL, task.uid) END,
                            'completed_at', CASE WHEN task.completed_at IS NOT NULL THEN jsonb_build_array(NULL, to_char(task.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) END
                        ))
                        );
                    ELSIF task.deleted_at IS NULL THEN
                        outcome := 'exists';
                    ELSE
                        outcome := 'in_trash';
                    END IF;
                ELSE
                    SELECT * INTO was FROM tasks AS t WHERE user_id = p_user_id AND t.id = e_id;
                    task := was;
                    IF was.id IS NULL OR (was.deleted_at IS NOT NULL) <> e_in_trash
                       OR was.updated_at >= e_untouched_since THEN
                        outcome := 'absent';
                        task := NULL;
                    ELSIF e_if_match IS NOT NULL AND NOT EXISTS (
                        SELECT FROM jsonb_array_elements(e_if_match) AS pair
                        WHERE (pair ->> 0)::bigint = was.version AND coalesce(
                            (pair ->> 1)::bigint = (extract(epoch FROM was.updated_at) * 1000000)::bigint, true
                        )
                    ) THEN
                        outcome := 'stale';
                    ELSIF e_op = 'purge' THEN
                        outcome := 'done';
                        IF v_seq IS NULL THEN
                            UPDATE change_counters AS c
                            SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
                            WHERE user_id = p_user_id
                            RETURNING c.seq, c.seq, c.at INTO v_first, v_seq, v_at;
                            IF NOT FOUND THEN
                                INSERT INTO change_counters AS c (user_id, seq, at)
                                VALUES (p_user_id, 1, clock_timestamp())
                                RETURNING c.seq, c.seq, c.at INTO v_first, v_seq, v_at;
                            END IF;
                        ELSE
                            v_seq := v_seq + 1;
                            v_at := greatest(clock_timestamp(), v_at + interval '1 microsecond');
                        END IF;
                        DELETE FROM tasks AS t WHERE user_id = p_user_id AND t.id = was.id;
                        UPDATE changes AS c SET fields = '{}'
                        WHERE user_id = p_user_id AND c.entity_id = was.id AND c.entity = 'task';
                        UPDATE idempotency_keys AS k SET body = NULL
                        WHERE user_id = p_user_id AND k.entity_id = was.id;
                        UPDATE idempotency_keys AS k SET body = NULL
                        WHERE user_id = p_user_id AND k.entity_id IS NULL AND (k.shows IS NULL OR was.id = ANY (k.shows));
                        INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
                        VALUES (
                            p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, (p_group || lpad(to_hex(v_first), 12, '0'))::uuid,
                            'task', was.id, 'purge', '{}'
                        );
                        task := NULL;
                    ELSE
                        IF e_op = 'update' THEN
                            task := jsonb_populate_record(was, e_set);
                        END IF;
                        IF e_skips_same AND task IS NOT DISTINCT FROM was AND (
                            e_op = 'update' OR was.deleted_at IS NOT NULL
                        ) THEN
                            outcome := 'same';
                        ELSE
                            outcome := 'done';
                            IF v_seq IS NULL THEN
                                UPDATE change_counters AS c
                                SET seq = c.seq + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
                                WHERE user_id = p_user_id
                                RETURNING c.seq, c.seq, c.at INTO v_first, v_seq, v_at;
                                IF NOT FOUND THEN
                                    INSERT INTO change_counters AS c (user_id, seq, at)
                                    VALUES (p_user_id, 1, clock_timestamp())
                                    RETURNING c.seq, c.seq, c.at INTO v_first, v_seq, v_at;
                                END IF;
                            ELSE
                                v_seq := v_seq + 1;
                                v_at := greatest(clock_timestamp(), v_at + interval '1 microsecond');
                            END IF;
                            IF e_op = 'update' THEN
                                IF NOT task.completed THEN
                                    task.completed_at := NULL;
                                ELSIF task.completed_at IS NULL THEN
                                    task.completed_at := v_at;
                                END IF;
                                v_fields := '{}';
                                IF task.title IS DISTINCT FROM was.title THEN
                                    v_fields := v_fields || jsonb_build_object('title', jsonb_build_array(was.title, task.title));
                                END IF;
                                IF task.description IS DISTINCT FROM was.description THEN
                                    v_fields := v_fields || jsonb_build_object('description', jsonb_build_array(was.description, task.description));
                                END IF;
                                IF task.completed IS DISTINCT FROM was.completed THEN
                                    v_fields := v_fields || jsonb_build_object('completed', jsonb_build_array(was.completed, task.completed));
                                END IF;
                                IF task.completed_at IS DISTINCT FROM was.completed_at THEN
                                    v_fields := v_fields || jsonb_build_object('completed_at', jsonb_build_array(to_char(was.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), to_char(task.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
                                END IF;
                                IF task.deleted_at IS DISTINCT FROM was.deleted_at THEN
                                    v_fields := v_fields || jsonb_build_object('deleted_at', jsonb_build_array(to_char(was.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), to_char(task.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
                                END IF;
                                IF (was.deleted_at IS NULL) <> (task.deleted_at IS NULL) THEN
                                    v_op := CASE WHEN was.deleted_at IS NULL THEN 'delete' ELSE 'restore' END;
                                END IF;
                            ELSIF e_op = 'toggle' THEN
                                task.completed := NOT was.completed;
                                IF NOT task.completed THEN
                                    task.completed_at := NULL;
                                ELSIF task.completed_at IS NULL THEN
                                    task.completed_at := v_at;
                                END IF;
                                v_fields := jsonb_build_object(
                                    'completed', jsonb_build_array(was.completed, task.completed),
                                    'completed_at', jsonb_build_array(to_char(was.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), to_char(task.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
                                );
                            ELSE
                                task.deleted_at := CASE WHEN e_op = 'delete' THEN v_at END;
                                v_fields := jsonb_build_object('deleted_at', jsonb_build_array(to_char(was.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), to_char(task.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
                                v_op := e_op;
                            END IF;
                            UPDATE tasks AS t SET
                                title = task.title, description = task.description, completed = task.completed, completed_at = task.completed_at, deleted_at = task.deleted_at,
                                version = v_seq, updated_at = v_at
                            WHERE user_id = p_user_id AND t.id = was.id AND t.version = was.version
                            RETURNING * INTO task;
                            IF NOT FOUND THEN  -- written by a function of before migration 0004, which takes no lock
                                RAISE serialization_failure;
                            END IF;
                            INSERT INTO changes (user_id, seq, at, actor_kind, actor_id, group_id, entity, entity_id, op, fields)
                            VALUES (
                                p_user_id, v_seq, v_at, p_actor_kind, p_actor_id, (p_group || lpad(to_hex(v_first), 12, '0'))::uuid,
                                'task', was.id, coalesce(v_op, 'update'), v_fields
                            );
                        END IF;
                    END IF;
                END IF;
                item := CASE WHEN p_rows AND task.id IS NOT NULL THEN row_to_json(task) END;
            END;
        END IF;
        IF p_all AND outcome IN ('absent', 'stale', 'in_trash') THEN
            RAISE serialization_failure;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF v_seq > v_first THEN
        UPDATE change_counters AS c SET seq = v_seq, at = v_at WHERE user_id = p_user_id;
    END IF;
END $$;
COMMENT ON FUNCTION store_6d9e69dc4f IS 'todo: in use';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN
        GRANT EXECUTE ON FUNCTION store_6d9e69dc4f TO todo_app;
    END IF;
END $$;

CREATE FUNCTION find_answer_50fb5b1404(p_user_id text, p_key text, p_lock bigint)
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
COMMENT ON FUNCTION find_answer_50fb5b1404 IS 'todo: in use';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN
        GRANT EXECUTE ON FUNCTION find_answer_50fb5b1404 TO todo_app;
    END IF;
END $$;

CREATE FUNCTION keep_answer_6e2319d475(
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
END $$;
COMMENT ON FUNCTION keep_answer_6e2319d475 IS 'todo: in use';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'todo_app') THEN
        GRANT EXECUTE ON FUNCTION keep_answer_6e2319d475 TO todo_app;
    END IF;
END $$;

