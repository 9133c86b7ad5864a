-- What a program's plain SQL has done to a counter or a set, where other databases merge with this one: as a difference, so that
-- what is done elsewhere meanwhile adds to it. Nothing here raises an error, whatever the metadata is.
DO $do$
BEGIN
EXECUTE replace($create$
-- A number of a counter's mark, or of a counter; null where it is none.
CREATE FUNCTION @schema@._rhtmx_sync_amount(said jsonb) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $amount$
BEGIN
    IF jsonb_typeof(said) = 'number' THEN
        RETURN said::numeric;
    ELSIF jsonb_typeof(said) = 'string' AND said #>> '{}' ~ '^-?[0-9]{1,30}([.][0-9]{1,9})?$' THEN
        RETURN (said #>> '{}')::numeric;
    END IF;
    RETURN NULL;
END
$amount$;

-- The same as JSON: a string where a double would lose digits.
CREATE FUNCTION @schema@._rhtmx_sync_said(amount numeric) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $said$
BEGIN
    IF amount = trunc(amount) AND abs(amount) <= 9007199254740992 THEN
        RETURN to_jsonb(trunc(amount));
    END IF;
    RETURN to_jsonb(trim_scale(amount)::text);
END
$said$;

-- The mark of a counter that was `was` and is `becomes`, in the name of a database: it has added, or taken. A number that was
-- null, or becomes null, is set. Null where there is nothing to keep.
CREATE FUNCTION @schema@._rhtmx_sync_counted(mark jsonb, was jsonb, becomes jsonb, database text, at text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $counted$
DECLARE
    counter jsonb := CASE WHEN jsonb_typeof(mark -> 'counter') = 'object' THEN mark -> 'counter' ELSE '{}' END;
    sums jsonb := CASE WHEN jsonb_typeof(counter -> 'sums') = 'object' THEN counter -> 'sums' ELSE '{}' END;
    as_it_was jsonb := CASE WHEN counter <> '{}' THEN jsonb_build_object('counter', counter) END;
    added numeric := coalesce(@schema@._rhtmx_sync_amount(sums -> database -> 'added'), 0);
    taken numeric := coalesce(@schema@._rhtmx_sync_amount(sums -> database -> 'taken'), 0);
    difference numeric;
BEGIN
    IF was IS NOT DISTINCT FROM becomes THEN
        RETURN as_it_was;
    ELSIF becomes IS NULL THEN
        RETURN jsonb_build_object('counter', jsonb_build_object('set', at, 'null', true));
    ELSIF was IS NULL THEN
        RETURN jsonb_build_object('counter', jsonb_build_object('set', at));
    END IF;
    -- Of what is no finite number nothing can be told.
    difference := round(@schema@._rhtmx_sync_amount(becomes) - @schema@._rhtmx_sync_amount(was), 9);
    IF difference IS NULL OR difference = 0 THEN
        RETURN as_it_was;
    END IF;
    added := added + greatest(difference, 0);
    taken := taken + greatest(-difference, 0);
    -- What a merge would refuse: the number alone is kept.
    IF greatest(added, taken) >= 1e27
        OR NOT sums ? database AND (SELECT count(*) >= 16 FROM jsonb_object_keys(sums))
    THEN
        RETURN as_it_was;
    END IF;
    sums := sums || jsonb_build_object(database, jsonb_build_object(
        'added', @schema@._rhtmx_sync_said(added), 'taken', @schema@._rhtmx_sync_said(taken)));
    RETURN jsonb_build_object('counter', counter || jsonb_build_object('sums', sums));
END
$counted$;

-- The mark of a set that was `was` and is `becomes`: what was taken out, and what was put in. A string is the text of JSON. That
-- it becomes null leaves no mark. Null where there is nothing to keep.
CREATE FUNCTION @schema@._rhtmx_sync_chosen(mark jsonb, was jsonb, becomes jsonb, at text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $chosen$
DECLARE
    marks jsonb := CASE WHEN jsonb_typeof(mark -> 'set') = 'object' THEN mark -> 'set' ELSE '{}' END;
    edited jsonb;
BEGIN
    BEGIN
        was := CASE WHEN jsonb_typeof(was) = 'string' THEN (was #>> '{}')::jsonb ELSE was END;
        becomes := CASE WHEN jsonb_typeof(becomes) = 'string' THEN (becomes #>> '{}')::jsonb ELSE becomes END;
    EXCEPTION WHEN OTHERS THEN
        -- Text that JSON permits and `jsonb` does not.
        becomes := NULL;
    END;
    IF jsonb_typeof(becomes) IS DISTINCT FROM 'array' THEN
        RETURN CASE WHEN marks <> '{}' THEN '{"set":{}}'::jsonb END;
    END IF;
    was := CASE WHEN jsonb_typeof(was) = 'array' THEN was ELSE '[]' END;
    WITH element AS (
        SELECT DISTINCT e.is_new, CASE
            WHEN jsonb_typeof(e.value) IN ('string', 'boolean') THEN e.value::text
            -- Longer numbers are not the same in doubles.
            WHEN jsonb_typeof(e.value) = 'number' AND length(trim_scale(e.value::numeric)::text) <= 15
            THEN trim_scale(e.value::numeric)::text END AS name
        FROM (SELECT false AS is_new, o.value FROM jsonb_array_elements(was) o
            UNION ALL SELECT true, n.value FROM jsonb_array_elements(becomes) n) e
    )
    SELECT jsonb_object_agg(d.name, CASE
        WHEN d.is_new THEN (CASE WHEN jsonb_typeof(marks -> d.name) = 'object' THEN marks -> d.name ELSE '{}' END)
            || jsonb_build_object('added', at)
        ELSE jsonb_build_object('added', marks -> d.name -> 'added', 'removed',
            jsonb_build_object('seen', marks -> d.name -> 'added', 'at', at)) END)
    INTO edited
    FROM (SELECT e.name, bool_or(e.is_new) AS is_new FROM element e
        WHERE octet_length(e.name) <= 1024 GROUP BY e.name HAVING count(*) = 1) d;
    -- More than a merge takes: of these the set alone is kept.
    IF edited IS NULL OR (SELECT count(*) > 256 FROM jsonb_object_keys(marks || edited)) THEN
        RETURN CASE WHEN marks <> '{}' THEN jsonb_build_object('set', marks) END;
    END IF;
    RETURN jsonb_build_object('set', marks || edited);
END
$chosen$;
$create$, '@schema@', quote_ident(current_schema()));
END
$do$;

DO $grants$
DECLARE
    grantee text;
    function text;
BEGIN
    FOR grantee IN
        SELECT 'PUBLIC'
        UNION ALL
        SELECT quote_ident(rolname) FROM pg_roles
        WHERE rolname IN ('anon', 'authenticated', 'service_role')
    LOOP
        FOREACH function IN ARRAY ARRAY['_rhtmx_sync_amount(jsonb)', '_rhtmx_sync_said(numeric)',
            '_rhtmx_sync_counted(jsonb, jsonb, jsonb, text, text)', '_rhtmx_sync_chosen(jsonb, jsonb, jsonb, text)']
        LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', function, grantee);
        END LOOP;
    END LOOP;
END
$grants$;
