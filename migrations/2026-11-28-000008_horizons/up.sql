-- What is known of who has what, for each entity: the database `who` has all writes that the database `whose` has admitted, or
-- will, with clocks up to this one.
CREATE TABLE _rhtmx_sync_horizon (
    entity text NOT NULL,
    who text COLLATE "C" NOT NULL,
    whose text COLLATE "C" NOT NULL,
    clock text COLLATE "C" NOT NULL,
    PRIMARY KEY (entity, who, whose)
);

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
        EXECUTE format('REVOKE ALL ON TABLE _rhtmx_sync_horizon FROM %s', grantee);
    END LOOP;
END
$grants$;
