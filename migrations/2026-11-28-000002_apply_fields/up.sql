-- `_rhtmx_sync_apply` keeps what is known of rows that merge by their fields.

-- Applies mutations of several clients in one transaction; none that fails takes another with it.
--
-- Mutation i of client clients[i] has the number numbers[i] and is that of the user users[i], null for nobody. Where the
-- number is null, the writes belong to a mutation that this transaction has begun: an earlier call has moved its number, and
-- the caller has set rhtmx_sync.client_id and rhtmx_sync.mutation, which stay as they are. Then deferred constraints are
-- checked by a call without writes, the last of the transaction.
-- digests[i] is the SHA-256 of its writes and claims[i] the chain that the client gave it, both in hexadecimal digits. It
-- has either rejects[i], a reject to be stored, or writes[i], a JSON array of:
--   s  statements, of which the first that finds a row ends the write; $1 is v and $2 is k, both jsonb
--   a  is there if they run as the role
--   v  the values, k the key
--   n  is there if it must find a row
--   r  is there, the table, if the statements return the oid of the row's own table if the row may be so, and null if not
--   g  is there if they return its key, too, which k does not have
--   c  a query whether the row that was written may be so: $1 is the key, $2 is p, an array of text; it is asked where no
--      statement said so or something may have changed the row since
--   f  is there if the row merges by its fields, and the write is what was planned for what was known of it: the entry
--      of entity "e" and id "i" had the metadata "x", null where there was none. "m" is there if the entry is to be: the metadata,
--      "w" the newest clock, "g" the image. "l" locks the row, $2 is k; "s" names what the write stamps. "c" are values
--      that lost and are kept, "d" those that are resolved: each with the column "f", the clock "h" and the value "v". "t" is
--      there if the log is to say that the row has changed, "p" if the entry changes and the table does not
-- Before them may come one with "merged" alone: what the author of the mutation is to be told of it, now and when it is
-- pushed again.
-- Before the first of them that runs as a role comes one with "as" alone: "role", and "settings", an object of texts. What
-- is deferred runs as that role, too. The settings are empty afterwards.
--
-- The engine's own tables are written with its own rights, before and between. Statements of a role run the code of
-- tables (triggers, policies, defaults), which may make settings, and a role of its own: where that is in force when the
-- statement has ended, nothing of the mutation is left; and neither the role nor the search path outlives the write.
--
-- Returns a JSON array. An element is null when the mutation was applied or its reject was stored; otherwise nothing
-- of the mutation is left, and the element is an object: either the client as it is stored ("last", "commit",
-- "chains", and "reject", the reject stored under the number), because the mutation does not come next; or "other_user",
-- because the client belongs to another user; or what went wrong: "state", "write" (-1 before the first, null after the
-- last), "column", "constraint", "schema", "table", "refused", and "raised", whether a function did it on purpose.
DO $do$
BEGIN
EXECUTE replace($create$
CREATE OR REPLACE FUNCTION @schema@._rhtmx_sync_apply(
    clients text[], users text[], numbers bigint[], digests text[], claims text[], rejects text[], writes text[],
    lock_wait_ms integer
) RETURNS text LANGUAGE plpgsql
SET "TimeZone" = 'UTC'
SET datestyle = 'ISO, MDY'
SET intervalstyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1
SET jit = off
SET max_parallel_workers_per_gather = 0
AS $apply$
DECLARE
    -- The writes fire the users' triggers, which may rely on the role's own search path. Everything else runs with
    -- PostgreSQL's own functions and operators alone.
    role_path text := pg_catalog.current_setting('search_path');
    own_role text := pg_catalog.current_setting('role');
    as_role jsonb;
    runs_as_role boolean;
    kept jsonb;
    is_local boolean := true;
    answers text := '';
    commit_id bigint;
    number bigint;
    digest bytea;
    claim bytea;
    answer json;
    step jsonb;
    stmt text;
    at integer;
    found_rows bigint;
    is_next boolean;
    returns_row boolean;
    returns_key boolean;
    row_table oid;
    row_key jsonb;
    final_relation text;
    final_table oid;
    matches boolean;
    refused text;
    may_defer boolean;
    deferred text;
    state text;
    column_at_fault text;
    constraint_at_fault text;
    schema_at_fault text;
    table_at_fault text;
    context text;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM set_config('lock_timeout', lock_wait_ms::text, true);
    commit_id := pg_current_xact_id()::text::bigint;
    SELECT count(*) > 0, string_agg(format('%I.%I', n.nspname, c.conname), ', ') FILTER (WHERE c.condeferred)
        INTO may_defer, deferred
        FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE c.condeferrable;
    FOR i IN 1 .. cardinality(clients) LOOP
        number := numbers[i];
        digest := decode(digests[i], 'hex');
        claim := decode(claims[i], 'hex');
        answer := NULL;
        at := -1;
        refused := NULL;
        as_role := NULL;
        BEGIN
            -- Moves the number first, which locks the client.
            is_next := number IS NULL;
            IF number IS NOT NULL THEN
                UPDATE @schema@._rhtmx_sync_client c SET
                    last_mutation = number,
                    last_commit = CASE WHEN rejects[i] IS NULL THEN commit_id ELSE c.last_commit END,
                    seen_at = now(),
                    user_id = coalesce(c.user_id, users[i]),
                    chains = overlay(c.chains PLACING coalesce(claim, substring(sha256(
                        substring(c.chains FROM (((number - 1) % 64) * 16 + 1)::integer FOR 16) || digest) FROM 1 FOR 16))
                        FROM ((number % 64) * 16 + 1)::integer)
                WHERE c.client_id = clients[i] AND c.last_mutation = number - 1
                    AND (c.user_id IS NULL OR c.user_id = users[i])
                    AND (claim IS NULL OR claim = substring(sha256(
                            substring(c.chains FROM (((number - 1) % 64) * 16 + 1)::integer FOR 16) || digest) FROM 1 FOR 16)
                        -- The first chain after mutations from before chains were kept.
                        OR number > 1 AND substring(c.chains FROM (((number - 1) % 64) * 16 + 1)::integer FOR 16)
                            = '\x00000000000000000000000000000000');
                IF NOT FOUND AND number = 1 THEN
                    INSERT INTO @schema@._rhtmx_sync_client (client_id, user_id, last_mutation, last_commit, chains)
                    SELECT clients[i], users[i], 1, CASE WHEN rejects[i] IS NULL THEN commit_id END,
                        overlay(decode(repeat('00', 1024), 'hex') PLACING new.chain FROM 17)
                    FROM (SELECT substring(sha256(decode(repeat('00', 16), 'hex') || digest) FROM 1 FOR 16) AS chain) new
                    WHERE claim IS NULL OR claim = new.chain
                    ON CONFLICT DO NOTHING;
                END IF;
                is_next := FOUND;
            END IF;
            IF NOT is_next THEN
                answer := coalesce(
                    (SELECT CASE WHEN c.user_id IS NULL OR c.user_id IS NOT DISTINCT FROM users[i]
                        THEN json_build_object('last', c.last_mutation, 'commit', c.last_commit,
                        'chains', encode(c.chains, 'hex'), 'reject', (SELECT r.reject FROM @schema@._rhtmx_sync_reject r
                        WHERE r.client_id = c.client_id AND r.mutation = number),
                        'merged', (SELECT m.merged FROM @schema@._rhtmx_sync_merged m
                        WHERE m.client_id = c.client_id AND m.mutation = number))
                        ELSE json_build_object('other_user', true) END
                    FROM @schema@._rhtmx_sync_client c WHERE c.client_id = clients[i]),
                    json_build_object('last', 0));
            ELSIF rejects[i] IS NOT NULL THEN
                INSERT INTO @schema@._rhtmx_sync_reject (client_id, mutation, reject) VALUES (clients[i], number, rejects[i]);
                -- What is older than the chains is not answered from here any more.
                DELETE FROM @schema@._rhtmx_sync_reject WHERE client_id = clients[i] AND mutation <= number - 64;
            ELSE
                IF number IS NOT NULL THEN
                    PERFORM set_config('rhtmx_sync.client_id', clients[i], true),
                        set_config('rhtmx_sync.mutation', number::text, true);
                END IF;
                FOR step IN SELECT e.value FROM jsonb_array_elements(writes[i]::jsonb) e LOOP
                    IF step ? 'as' THEN
                        as_role := step -> 'as';
                        refused := 'role';
                        -- Neither the engine's own rights ("none" is a role, too), nor those of whom no policy binds.
                        IF NOT EXISTS (
                            SELECT 1 FROM pg_roles r WHERE r.rolname = as_role ->> 'role' AND NOT r.rolsuper
                                AND r.rolname NOT IN (session_user, current_user) AND pg_has_role(session_user, r.oid, 'MEMBER')
                        ) THEN
                            RAISE EXCEPTION 'refused';
                        END IF;
                        PERFORM set_config('row_security', 'on', true), set_config(s.key, s.value, true)
                        FROM jsonb_each_text(as_role -> 'settings') s;
                        is_local := false;
                        refused := NULL;
                        CONTINUE;
                    END IF;
                    IF step ? 'merged' THEN
                        INSERT INTO @schema@._rhtmx_sync_merged (client_id, mutation, merged)
                        VALUES (clients[i], number, step ->> 'merged');
                        DELETE FROM @schema@._rhtmx_sync_merged WHERE client_id = clients[i] AND mutation <= number - 64;
                        CONTINUE;
                    END IF;
                    at := at + 1;
                    kept := step -> 'f';
                    IF kept IS NOT NULL THEN
                        -- The row's lock comes before that of its entry, as with every other writer.
                        EXECUTE kept ->> 'l' USING step -> 'v', step -> 'k';
                        IF NOT kept ? 'm' THEN
                            PERFORM FROM @schema@._rhtmx_sync_field f
                            WHERE f.entity = kept ->> 'e' AND f.entity_id = kept ->> 'i' FOR UPDATE;
                            PERFORM WHERE kept -> 'x' = coalesce((SELECT f.metadata FROM @schema@._rhtmx_sync_field f
                                WHERE f.entity = kept ->> 'e' AND f.entity_id = kept ->> 'i'), 'null');
                        ELSIF kept -> 'x' = 'null' THEN
                            INSERT INTO @schema@._rhtmx_sync_field (entity, entity_id, newest, metadata, image)
                            VALUES (kept ->> 'e', kept ->> 'i', kept ->> 'w', kept -> 'm', nullif(kept -> 'g', 'null'))
                            ON CONFLICT DO NOTHING;
                        ELSE
                            UPDATE @schema@._rhtmx_sync_field f
                            SET newest = kept ->> 'w', metadata = kept -> 'm', image = nullif(kept -> 'g', 'null')
                            WHERE f.entity = kept ->> 'e' AND f.entity_id = kept ->> 'i' AND f.metadata = kept -> 'x';
                        END IF;
                        IF NOT FOUND THEN
                            refused := 'raced';
                            RAISE EXCEPTION 'refused';
                        END IF;
                        PERFORM set_config('rhtmx_sync.stamped', kept ->> 's', true);
                    END IF;
                    found_rows := 0;
                    runs_as_role := step ? 'a';
                    returns_row := step ? 'r';
                    returns_key := step ? 'g';
                    row_table := NULL;
                    row_key := NULL;
                    PERFORM set_config('search_path', role_path, true);
                    IF runs_as_role THEN
                        PERFORM pg_catalog.set_config('role', as_role OPERATOR(pg_catalog.->>) 'role', true);
                    END IF;
                    FOR s IN 0 .. pg_catalog.jsonb_array_length(step OPERATOR(pg_catalog.->) 's') OPERATOR(pg_catalog.-) 1 LOOP
                        IF returns_key THEN
                            EXECUTE step OPERATOR(pg_catalog.->) 's' OPERATOR(pg_catalog.->>) s INTO row_table, row_key
                                USING step OPERATOR(pg_catalog.->) 'v', step OPERATOR(pg_catalog.->) 'k';
                        ELSIF returns_row THEN
                            EXECUTE step OPERATOR(pg_catalog.->) 's' OPERATOR(pg_catalog.->>) s INTO row_table
                                USING step OPERATOR(pg_catalog.->) 'v', step OPERATOR(pg_catalog.->) 'k';
                        ELSE
                            EXECUTE step OPERATOR(pg_catalog.->) 's' OPERATOR(pg_catalog.->>) s
                                USING step OPERATOR(pg_catalog.->) 'v', step OPERATOR(pg_catalog.->) 'k';
                        END IF;
                        GET DIAGNOSTICS found_rows = ROW_COUNT;
                        EXIT WHEN found_rows OPERATOR(pg_catalog.>) 0;
                    END LOOP;
                    IF runs_as_role THEN
                        IF NOT pg_catalog.current_setting('role') OPERATOR(pg_catalog.=) (as_role OPERATOR(pg_catalog.->>) 'role') THEN
                            refused := 'role';
                            RAISE EXCEPTION 'refused';
                        END IF;
                        PERFORM pg_catalog.set_config('role', own_role, false);
                    END IF;
                    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                    IF kept IS NOT NULL THEN
                        PERFORM set_config('rhtmx_sync.stamped', '', true);
                    END IF;
                    IF found_rows = 0 AND step ? 'n' THEN
                        refused := 'not_found';
                        RAISE EXCEPTION 'refused';
                    END IF;
                    IF kept ? 'c' THEN
                        INSERT INTO @schema@._rhtmx_field_conflict (entity, entity_id, field, hlc, value)
                        SELECT kept ->> 'e', kept ->> 'i', c.value ->> 'f', c.value ->> 'h', c.value -> 'v'
                        FROM jsonb_array_elements(kept -> 'c') c ON CONFLICT DO NOTHING;
                        DELETE FROM @schema@._rhtmx_field_conflict o USING (
                            SELECT f.field, f.hlc, row_number() OVER (PARTITION BY f.field ORDER BY f.hlc DESC) AS newer
                            FROM @schema@._rhtmx_field_conflict f
                            WHERE f.entity = kept ->> 'e' AND f.entity_id = kept ->> 'i'
                        ) n WHERE o.entity = kept ->> 'e' AND o.entity_id = kept ->> 'i'
                            AND o.field = n.field AND o.hlc = n.hlc AND n.newer > 20;
                    END IF;
                    IF kept ? 'd' THEN
                        WITH resolved AS (
                            UPDATE @schema@._rhtmx_field_conflict f SET resolved_at = now()
                            FROM jsonb_array_elements(kept -> 'd') d
                            WHERE f.entity = kept ->> 'e' AND f.entity_id = kept ->> 'i'
                                AND f.field = d.value ->> 'f' AND f.hlc = d.value ->> 'h' AND f.resolved_at IS NULL
                            RETURNING 1
                        )
                        SELECT count(*) < jsonb_array_length(kept -> 'd') INTO matches FROM resolved;
                        IF matches THEN
                            refused := 'raced';
                            RAISE EXCEPTION 'refused';
                        END IF;
                    END IF;
                    IF kept ? 'p' THEN
                        INSERT INTO @schema@._rhtmx_sync_apart (entity, entity_id) VALUES (kept ->> 'e', kept ->> 'i')
                        ON CONFLICT (entity, entity_id) DO UPDATE SET xid = pg_current_xact_id();
                    END IF;
                    IF kept ? 't' THEN
                        INSERT INTO @schema@._rhtmx_sync_log (entity, entity_id, action, old, client_id, mutation)
                        VALUES (kept ->> 'e', kept ->> 'i', 'update', '{}', nullif(current_setting('rhtmx_sync.client_id'), ''),
                            nullif(current_setting('rhtmx_sync.mutation'), '')::bigint);
                        IF NOT pg_try_advisory_xact_lock_shared(8243967131421442049) THEN
                            PERFORM pg_notify('_rhtmx_sync', '');
                        END IF;
                    END IF;
                    IF step ? 'c' THEN
                        -- An AFTER trigger, a rule, or a key's cascade to the row itself may have changed it; those that
                        -- only check references have not. A table that is written to keeps its triggers until
                        -- the transaction ends.
                        IF row_table IS NOT NULL AND (row_table IS DISTINCT FROM final_table
                            OR step ->> 'r' IS DISTINCT FROM final_relation)
                        THEN
                            SELECT row_table, step ->> 'r' INTO final_table, final_relation
                            WHERE NOT EXISTS (
                                SELECT 1 FROM pg_trigger g
                                WHERE g.tgrelid IN (row_table, (step ->> 'r')::regclass)
                                    AND g.tgtype & 66 = 0 AND g.tgtype & 20 > 0
                                    AND g.tgname NOT LIKE '\_rhtmx\_sync\_%'
                                    AND g.tgfoid NOT IN ('"RI_FKey_check_ins"'::regproc, '"RI_FKey_check_upd"'::regproc,
                                        '"RI_FKey_noaction_upd"'::regproc, '"RI_FKey_restrict_upd"'::regproc)
                            ) AND NOT EXISTS (
                                SELECT 1 FROM pg_class c
                                WHERE c.oid IN (row_table, (step ->> 'r')::regclass) AND c.relhasrules
                            );
                        END IF;
                        matches := row_table = final_table;
                        IF matches IS NOT TRUE THEN
                            EXECUTE step ->> 'c' INTO matches
                                USING coalesce(row_key, step -> 'k'), ARRAY(SELECT jsonb_array_elements_text(step -> 'p'));
                        END IF;
                        IF matches IS NOT TRUE THEN
                            refused := 'check';
                            RAISE EXCEPTION 'refused';
                        END IF;
                    END IF;
                END LOOP;
                IF may_defer AND (number IS NOT NULL OR at < 0) THEN
                    at := NULL;
                    PERFORM set_config('search_path', role_path, true);
                    runs_as_role := as_role IS NOT NULL;
                    IF runs_as_role THEN
                        PERFORM pg_catalog.set_config('role', as_role OPERATOR(pg_catalog.->>) 'role', true);
                    END IF;
                    SET CONSTRAINTS ALL IMMEDIATE;
                    IF runs_as_role THEN
                        IF NOT pg_catalog.current_setting('role') OPERATOR(pg_catalog.=) (as_role OPERATOR(pg_catalog.->>) 'role') THEN
                            refused := 'role';
                            RAISE EXCEPTION 'refused';
                        END IF;
                        PERFORM pg_catalog.set_config('role', own_role, false);
                    END IF;
                    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                    -- The next mutation in this transaction may rely on them again.
                    IF deferred IS NOT NULL THEN
                        EXECUTE 'SET CONSTRAINTS ' || deferred || ' DEFERRED';
                    END IF;
                END IF;
                IF as_role IS NOT NULL THEN
                    PERFORM set_config(s.name, '', true) FROM jsonb_object_keys(as_role -> 'settings') s(name);
                END IF;
            END IF;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            GET STACKED DIAGNOSTICS
                state = RETURNED_SQLSTATE,
                column_at_fault = COLUMN_NAME,
                constraint_at_fault = CONSTRAINT_NAME,
                schema_at_fault = SCHEMA_NAME,
                table_at_fault = TABLE_NAME,
                context = PG_EXCEPTION_CONTEXT;
            answer := json_build_object('state', state, 'write', at, 'column', column_at_fault,
                'constraint', constraint_at_fault, 'schema', schema_at_fault, 'table', table_at_fault,
                -- In every language, the first line of the context ends so where a function raised it on purpose.
                'refused', refused, 'raised', split_part(context, E'\n', 1) ~ ' RAISE$');
            -- The lock that kept the table's triggers is gone with the writes.
            final_table := NULL;
            -- The others must not wait for the same lock.
            IF state = '55P03' THEN
                PERFORM set_config('lock_timeout', '1', true);
            END IF;
        END;
        answers := answers || CASE WHEN i > 1 THEN ',' ELSE '' END || coalesce(answer::text, 'null');
    END LOOP;
    IF number IS NOT NULL THEN
        -- What is left to do at the commit belongs to no mutation.
        PERFORM set_config('rhtmx_sync.client_id', '', true), set_config('rhtmx_sync.mutation', '', true);
    END IF;
    -- A function may have set it beyond the transaction.
    PERFORM set_config('search_path', role_path, is_local);
    RETURN '[' || answers || ']';
END
$apply$
$create$, '@schema@', quote_ident(current_schema()));
END
$do$;
