-- Row level security is asked of PostgreSQL itself, as the role whose rows they are.

-- Answers questions as a role, and changes nothing: whatever it sets or locks is taken back before it returns.
--
-- names[i] and vals[i] are settings, the search path among them. Each question is a statement that returns one text. Where
-- one fails, or there is none, visible is asked instead, unless it is null: the keys of the rows that the role sees.
--
-- Returns a JSON object: "answers", one text for each question, null for one that failed, whose SQLSTATE is in "failed" at
-- the same place; "visible" and "visible_failed"; "denied", the SQLSTATE when the role or a setting could not be set, or the time was over; and
-- the oids of the tables and views that were read ("read"), but those that the transaction had locked before, which are in
-- "held" whether they were read or not. What was read for a question that failed is not known.
DO $do$
BEGIN
EXECUTE replace($create$
CREATE FUNCTION @schema@._rhtmx_sync_ask(role text, names text[], vals text[], questions text[], visible text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $ask$
DECLARE
    answer text;
    answers text[];
    failed text[];
    any_failed boolean := cardinality(questions) = 0;
    keys text;
    keys_failed text;
    denied text;
    held oid[];
    locked oid[];
    of_role CONSTANT text := 'SET LOCAL ROLE ' || quote_ident(role);
BEGIN
    SELECT coalesce(array_agg(l.relation), '{}') INTO held FROM pg_locks l
    WHERE l.pid = pg_backend_pid() AND l.relation >= 16384;
    BEGIN
        EXECUTE of_role;
        FOR i IN 1 .. cardinality(names) LOOP
            PERFORM pg_catalog.set_config(names[i], vals[i], true);
        END LOOP;
        -- The role's own search path is in force from here on, so no operator is named.
        FOR i IN 1 .. pg_catalog.cardinality(questions) LOOP
            BEGIN
                answers[i] := NULL;
                failed[i] := NULL;
                EXECUTE questions[i] INTO answer;
                answers[i] := answer;
            EXCEPTION WHEN OTHERS OR assert_failure THEN
                failed[i] := SQLSTATE;
                any_failed := true;
            END;
        END LOOP;
        IF any_failed AND visible IS NOT NULL THEN
            BEGIN
                EXECUTE visible INTO keys;
            EXCEPTION WHEN OTHERS OR assert_failure THEN
                keys_failed := SQLSTATE;
            END;
        END IF;
        -- The function's own search path, so that the plan of this query is kept. The relations below 16384 are PostgreSQL's.
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        SELECT coalesce(array_agg(l.relation), '{}') INTO locked FROM pg_locks l
        WHERE l.pid = pg_backend_pid() AND l.relation >= 16384;
        -- Takes back the role, the settings and the locks.
        RAISE EXCEPTION USING ERRCODE = 'RXASK';
    EXCEPTION
        WHEN SQLSTATE 'RXASK' THEN NULL;
        -- The time is over for the whole call: a time-out comes once, so whatever ran after it would be unbounded.
        WHEN OTHERS OR query_canceled OR assert_failure THEN
            denied := SQLSTATE;
    END;
    RETURN json_build_object(
        'answers', coalesce(answers, '{}'), 'failed', coalesce(failed, '{}'),
        'visible', keys, 'visible_failed', keys_failed, 'denied', denied,
        'read', (SELECT coalesce(json_agg(l.o::int8), '[]') FROM (SELECT unnest(locked) EXCEPT SELECT unnest(held)) l(o)),
        'held', (SELECT coalesce(json_agg(l.o::int8), '[]') FROM unnest(held) l(o)));
END
$ask$
$create$, '@schema@', quote_ident(current_schema()));
END
$do$;
