-- What is known of the rows of entities whose fields merge, beside their values: the clocks of their creation, their deletion
-- and of each field. A row that was never edited has no entry, and neither has one that was only inserted.
CREATE TABLE _rhtmx_sync_field (
    entity text NOT NULL,
    -- The primary key as the log has it.
    entity_id text COLLATE "C" NOT NULL,
    -- The newest clock in the metadata. Clocks are ordered by their bytes.
    newest text COLLATE "C" NOT NULL,
    metadata jsonb NOT NULL,
    -- Of a row that is gone and that an edit may bring back: its values.
    image jsonb,
    PRIMARY KEY (entity, entity_id)
    -- Updates of the metadata stay on the page of the entry.
) WITH (fillfactor = 70);

-- The values that lost a conflict, where both are kept, until somebody resolves it and for a while after that. A row has
-- those that were written since it was born.
CREATE TABLE _rhtmx_field_conflict (
    entity text NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    field text NOT NULL,
    -- When the value was written, which is its name among those of the field.
    hlc text COLLATE "C" NOT NULL,
    value jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    PRIMARY KEY (entity, entity_id, field, hlc)
);

-- What became of mutations whose writes merged, as JSON, where there is something to tell: so that it is told again when one
-- is pushed again.
CREATE TABLE _rhtmx_sync_merged (
    client_id text NOT NULL,
    mutation bigint NOT NULL,
    merged text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, mutation)
);

-- The name under which the database stamps what programs write that stamp nothing themselves.
ALTER TABLE _rhtmx_sync_meta ADD COLUMN node text COLLATE "C" NOT NULL
    DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 8);

-- The earliest clock of the node of `at`, a clock, that is above `below`. It raises no error: of a text that is no clock there
-- is none that is above it, so `at` stands, and at the end of the year 9999 `below` does.
CREATE FUNCTION _rhtmx_sync_clock_after(below text, at text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $after$
DECLARE
    parts text[] := regexp_match(below,
        '^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3})(?:[0-9]{3})?Z-([0-9A-Fa-f]{4})-');
    node text := substr(at, 31);
    counter integer;
    later text;
BEGIN
    IF parts IS NULL THEN
        RETURN at;
    END IF;
    counter := ('x' || parts[2])::bit(16)::integer;
    IF counter < 65535 THEN
        later := parts[1] || 'Z-' || upper(lpad(to_hex(counter + 1), 4, '0')) || '-' || node;
        -- Others write counters in small letters, which sort above their values.
        IF later COLLATE "C" > below COLLATE "C" THEN
            RETURN later;
        END IF;
    END IF;
    -- A counter that is full carries into the moment.
    later := to_char(parts[1]::timestamp + interval '1 millisecond', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '-0000-' || node;
    RETURN CASE WHEN later COLLATE "C" > below COLLATE "C" THEN later ELSE below END;
EXCEPTION WHEN OTHERS THEN
    RETURN at;
END
$after$;

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
        EXECUTE format('REVOKE ALL ON TABLE _rhtmx_sync_field, _rhtmx_field_conflict, _rhtmx_sync_merged FROM %s', grantee);
        EXECUTE format('REVOKE ALL ON FUNCTION _rhtmx_sync_clock_after(text, text) FROM %s', grantee);
    END LOOP;
END
$grants$;
