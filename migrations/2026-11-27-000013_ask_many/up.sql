-- Ten thousand sessions whose memberships have changed are asked for in one go: as one statement each, planned each time, they
-- would hold up everybody's changes for seconds.

-- Answers the same questions for groups of one role, one after the other. It changes nothing, as _rhtmx_sync_ask does.
--
-- same_names[i] and same_vals[i] are settings that all groups share, the search path among them. vals has those that differ, by
-- the name in names, for each group in turn. Each question is a statement that returns one text. It is planned once, and again
-- after a group for which it took long: the first group's plan may be a bad one for others.
--
-- A group that fails is taken back alone. After an eighth of the statement time-out, or with answers of 8 MB, no further group
-- is begun. So a time-out is that of the group under way, whose questions had seven eighths of it.
--
-- Returns a JSON object: "done", the number of groups that were begun; "answers", for each of them one text for each question;
-- "failed", the SQLSTATE of each that failed; "denied", the SQLSTATE when the role or a shared setting could not be set; and "read" and
-- "held", as _rhtmx_sync_ask says, for all groups together. What was read for a group that failed is not known.
DO $do$
BEGIN
EXECUTE replace($create$
CREATE FUNCTION @schema@._rhtmx_sync_ask_many(
    role text, same_names text[], same_vals text[], groups integer, names text[], vals text[], questions text[])
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $ask$
DECLARE
    prefix CONSTANT text := '_rhtmx_sync_ask_';
    leftover text;
    answer text;
    answers text[] := array_fill(NULL::text, ARRAY[groups * cardinality(questions)]);
    failed text[] := array_fill(NULL::text, ARRAY[groups]);
    denied text;
    done integer := 0;
    -- Positions in vals and answers.
    value_at integer;
    answer_at integer;
    bytes bigint := 0;
    held oid[];
    locked oid[];
    prepares text[];
    executes text[];
    deallocates text[];
    -- How many questions are prepared.
    prepared integer := 0;
    is_stale boolean := true;
    began timestamptz;
    group_began timestamptz;
    group_ended timestamptz;
    timeout CONSTANT interval := current_setting('statement_timeout')::interval;
    budget CONSTANT interval := CASE WHEN timeout > '0' THEN timeout / 8 ELSE '1 s' END;
    slow CONSTANT interval := '2 ms';
    bytes_max CONSTANT bigint := 8 * 1024 * 1024;
    of_role CONSTANT text := 'SET LOCAL ROLE ' || quote_ident(role);
BEGIN
    SELECT coalesce(array_agg(l.relation), '{}') INTO held FROM pg_locks l
    WHERE l.pid = pg_backend_pid() AND l.relation >= 16384;
    FOR i IN 1 .. cardinality(questions) LOOP
        prepares[i] := 'PREPARE ' || prefix || i || ' AS ' || questions[i];
        executes[i] := 'EXECUTE ' || prefix || i;
        deallocates[i] := 'DEALLOCATE ' || prefix || i;
    END LOOP;
    -- A call that was ended by force leaves its own behind.
    FOR leftover IN SELECT s.name FROM pg_prepared_statements s WHERE starts_with(s.name, prefix) LOOP
        EXECUTE 'DEALLOCATE ' || quote_ident(leftover);
    END LOOP;
    BEGIN
        EXECUTE of_role;
        FOR i IN 1 .. cardinality(same_names) LOOP
            PERFORM pg_catalog.set_config(same_names[i], same_vals[i], true);
        END LOOP;
        -- The role's own search path is in force from here on, so every operator is named with its schema.
        began := pg_catalog.clock_timestamp();
        group_ended := began;
        FOR g IN 1 .. groups LOOP
            EXIT WHEN group_ended OPERATOR(pg_catalog.-) began OPERATOR(pg_catalog.>) budget;
            EXIT WHEN bytes OPERATOR(pg_catalog.>) bytes_max;
            group_began := group_ended;
            done := g;
            value_at := (g OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.*) pg_catalog.cardinality(names);
            answer_at := (g OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.*) pg_catalog.cardinality(questions);
            BEGIN
                FOR i IN 1 .. pg_catalog.cardinality(names) LOOP
                    PERFORM pg_catalog.set_config(names[i], vals[value_at OPERATOR(pg_catalog.+) i], true);
                END LOOP;
                IF is_stale THEN
                    FOR i IN 1 .. prepared LOOP
                        EXECUTE deallocates[i];
                    END LOOP;
                    prepared := 0;
                    FOR i IN 1 .. pg_catalog.cardinality(questions) LOOP
                        EXECUTE prepares[i];
                        prepared := i;
                    END LOOP;
                    is_stale := false;
                END IF;
                FOR i IN 1 .. pg_catalog.cardinality(questions) LOOP
                    EXECUTE executes[i] INTO answer;
                    answers[answer_at OPERATOR(pg_catalog.+) i] := answer;
                    bytes := bytes OPERATOR(pg_catalog.+) coalesce(pg_catalog.octet_length(answer), 0);
                END LOOP;
            EXCEPTION
                WHEN query_canceled THEN
                    failed[g] := SQLSTATE;
                    EXIT;
                WHEN OTHERS OR assert_failure THEN
                    failed[g] := SQLSTATE;
            END;
            group_ended := pg_catalog.clock_timestamp();
            is_stale := is_stale OR group_ended OPERATOR(pg_catalog.-) group_began OPERATOR(pg_catalog.>) slow;
        END LOOP;
        -- The function's own search path, so that the plan of this query is kept. The relations below 16384 are PostgreSQL's.
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        SELECT coalesce(array_agg(l.relation), '{}') INTO locked FROM pg_locks l
        WHERE l.pid = pg_backend_pid() AND l.relation >= 16384;
        -- Takes back the role, the settings and the locks.
        RAISE EXCEPTION USING ERRCODE = 'RXASK';
    EXCEPTION
        WHEN SQLSTATE 'RXASK' THEN NULL;
        WHEN OTHERS OR query_canceled OR assert_failure THEN
            denied := SQLSTATE;
    END;
    FOR i IN 1 .. prepared LOOP
        EXECUTE deallocates[i];
    END LOOP;
    RETURN json_build_object(
        'done', done, 'answers', answers[1 : done * cardinality(questions)], 'failed', failed[1 : done], 'denied', denied,
        'read', (SELECT coalesce(json_agg(l.o::int8), '[]') FROM (SELECT unnest(locked) EXCEPT SELECT unnest(held)) l(o)),
        'held', (SELECT coalesce(json_agg(l.o::int8), '[]') FROM unnest(held) l(o)));
END
$ask$
$create$, '@schema@', quote_ident(current_schema()));
END
$do$;
