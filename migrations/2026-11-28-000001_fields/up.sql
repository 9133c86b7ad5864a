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

-- The name under which the database stamps what programs write that stamp nothing themselves.
ALTER TABLE _rhtmx_sync_meta ADD COLUMN node text COLLATE "C" NOT NULL
    DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 8);

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
        EXECUTE format('REVOKE ALL ON TABLE _rhtmx_sync_field FROM %s', grantee);
    END LOOP;
END
$grants$;
