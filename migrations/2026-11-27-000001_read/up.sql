-- Reads one row by its key, for tables of which some rows cannot be read (a computed column that divides by
-- zero, a text that has no place in UTF-8, JSON beyond a gigabyte). For such a row it returns an exclamation
-- mark and the SQLSTATE, which no row's JSON begins with. It is stable, so it sees what the statement that
-- calls it sees. What another transaction or connection causes, a missing right, and a statement made for another
-- form of the table stay errors.
CREATE FUNCTION _rhtmx_sync_read(statement text, row_key text) RETURNS text
LANGUAGE plpgsql STABLE AS $read$
DECLARE
    found text;
BEGIN
    EXECUTE statement INTO found USING row_key;
    -- A text that cannot be sent is as bad.
    PERFORM pg_catalog.convert_to(found, 'UTF8');
    RETURN found;
EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
    IF pg_catalog.left(SQLSTATE, 2) IN ('08', '25', '26', '40', '42', '57', '58')
        OR SQLSTATE IN ('53100', '53300', '55006', '55P03')
    THEN
        RAISE;
    END IF;
    RETURN '!' || SQLSTATE;
END
$read$;

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
        EXECUTE format('REVOKE ALL ON FUNCTION _rhtmx_sync_read(text, text) FROM %s', grantee);
    END LOOP;
END
$grants$;
