-- What the capture of rows that merge by their fields seldom does: every expression of a statement costs its writer something,
-- whether it is evaluated or not. Nothing here raises an error, whatever the metadata is.
DO $do$
BEGIN
EXECUTE replace($create$
-- Whether what is known of a row says that it is not there; null where nothing is known. Where edits revive, one that is newer
-- than the deletion does.
CREATE FUNCTION @schema@._rhtmx_sync_is_dead(of_entity text, of_row text, revives boolean) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- Also where the plan was made for few entries.
SET enable_seqscan = off
AS $dead$
BEGIN
    RETURN (SELECT coalesce(f.metadata ? 'died' AND (NOT revives OR f.newest <= (f.metadata ->> 'died') COLLATE "C"), false)
        FROM @schema@._rhtmx_sync_field f WHERE f.entity = of_entity AND f.entity_id = of_row);
END
$dead$;

-- The metadata of a row whose newest clock is `newest`, with what a statement has done to the row: `died`, `born`, or `fields`
-- and maybe `edited`, with the clock `at`, or a later one where that is not above `newest`. `keeps` is whether a deleted row's
-- values are kept.
CREATE FUNCTION @schema@._rhtmx_sync_stamp(
    newest text, metadata jsonb, at text, delta jsonb, revives boolean, keeps boolean
) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $stamp$
DECLARE
    clock text := at;
    stamped jsonb := delta;
    born jsonb := metadata -> 'born';
    fields jsonb := metadata -> 'fields';
BEGIN
    IF (at COLLATE "C" > newest COLLATE "C") IS NOT TRUE THEN
        clock := @schema@._rhtmx_sync_clock_after(newest, at);
        stamped := replace(delta::text, to_json(at)::text, to_json(clock)::text)::jsonb;
    END IF;
    metadata := CASE WHEN jsonb_typeof(metadata) = 'object' THEN metadata ELSE '{}' END;
    IF stamped ? 'died' THEN
        stamped := stamped || jsonb_build_object('born', coalesce(born, stamped -> 'born'));
        RETURN CASE WHEN keeps THEN (metadata - 'edited') || stamped ELSE stamped END;
    ELSIF stamped ? 'born' THEN
        RETURN stamped;
    ELSIF NOT revives AND metadata ? 'died' THEN
        -- The row is there: its creation was not captured.
        RETURN jsonb_build_object('born', clock);
    END IF;
    fields := CASE WHEN jsonb_typeof(fields) = 'object' THEN fields ELSE '{}' END || (stamped -> 'fields');
    RETURN (metadata - 'edited') || (stamped - 'fields') || jsonb_build_object('fields', fields);
END
$stamp$;
$create$, '@schema@', quote_ident(current_schema()));
END
$do$;

DO $grants$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT 'PUBLIC'
        UNION ALL
        SELECT quote_ident(rolname) FROM pg_roles
        WHERE rolname IN ('anon', 'authenticated', 'service_role')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION _rhtmx_sync_is_dead(text, text, boolean) FROM %s', grantee);
        EXECUTE format('REVOKE ALL ON FUNCTION _rhtmx_sync_stamp(text, jsonb, text, jsonb, boolean, boolean) FROM %s', grantee);
    END LOOP;
END
$grants$;
