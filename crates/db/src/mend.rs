//! Before the migrations run: whether the engine's own tables are what the list of applied migrations says.
//!
//! Developers drop schemas, and test suites empty every table, the engine's and the list of migrations among
//! them. What is left is made whole by dropping it: everything in it is made again, and a new epoch begins. Only
//! where the list alone was emptied it is written again, because the tables hold what clients rely on.

#[cfg(feature = "postgres")]
pub(crate) use postgres::{NOTE, mend};
#[cfg(feature = "sqlite")]
pub(crate) use sqlite::mend as mend_sqlite;

#[cfg(feature = "postgres")]
mod postgres {
    use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};

    use crate::error::{DbError, DbResult};

    /// Compares, and repairs. The note is a comment on the log: `rhtmx-sync: ` with the applied migrations and the
    /// tables that they have made. A table may have been made before there were notes.
    const MEND: &str = r"
DO $mend$
DECLARE
    log oid := to_regclass('_rhtmx_sync_log');
    own name := coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = log),
        current_schema());
    note text := obj_description(log, 'pg_class');
    is_noted boolean := coalesce(note LIKE 'rhtmx-sync: %;%', false);
    versions text[] := '{}';
    is_whole boolean := false;
    lost record;
BEGIN
    IF is_noted THEN
        versions := string_to_array(split_part(substr(note, 13), ';', 1), ' ');
        SELECT bool_and(to_regclass(format('%I.%I', own, t)) IS NOT NULL) INTO is_whole
        FROM unnest(string_to_array(split_part(note, ';', 2), ' ')) t;
    ELSIF log IS NOT NULL AND to_regclass('__diesel_schema_migrations') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM __diesel_schema_migrations WHERE version = ''20261120000001'')' INTO is_whole;
    END IF;
    IF is_whole THEN
        IF is_noted THEN
            CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (
                version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
            INSERT INTO __diesel_schema_migrations (version) SELECT unnest(versions) ON CONFLICT DO NOTHING;
        END IF;
        RETURN;
    END IF;
    FOR lost IN SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(own))::oid
        AND relkind = 'r' AND (relname LIKE '\_rhtmx\_sync\_%' OR relname = '_rhtmx_field_conflict')
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I.%I CASCADE', own, lost.relname);
    END LOOP;
    FOR lost IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(own))::oid
        AND proname LIKE '\_rhtmx\_sync\_%'
    LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS %s CASCADE', lost.name);
    END LOOP;
    IF to_regclass('__diesel_schema_migrations') IS NOT NULL THEN
        DELETE FROM __diesel_schema_migrations WHERE version = ANY (string_to_array('{VERSIONS}', ' '));
    END IF;
END
$mend$";

    /// Notes what the migrations have made.
    pub(crate) const NOTE: &str = r"
DO $note$
DECLARE
    log oid := to_regclass('_rhtmx_sync_log');
    before text := obj_description(log, 'pg_class');
    note text;
BEGIN
    SELECT 'rhtmx-sync: ' || string_agg(DISTINCT v, ' ' ORDER BY v) INTO note FROM (
        SELECT version AS v FROM __diesel_schema_migrations WHERE version = ANY (string_to_array('{VERSIONS}', ' '))
        UNION SELECT unnest(string_to_array(split_part(substr(before, 13), ';', 1), ' ')) WHERE before LIKE 'rhtmx-sync: %;%') l;
    SELECT note || ';' || string_agg(relname, ' ' ORDER BY relname) INTO note FROM pg_class
    WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = log) AND relkind = 'r' AND (relname LIKE '\_rhtmx\_sync\_%' OR relname = '_rhtmx_field_conflict');
    IF note IS DISTINCT FROM before THEN
        EXECUTE format('COMMENT ON TABLE %s IS %L', log::regclass, note);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    -- Somebody else ran the migrations, and sees to them.
    NULL;
END
$note$";

    /// Makes the list of migrations and the tables agree.
    pub(crate) async fn mend(conn: &mut AsyncPgConnection, versions: &str) -> DbResult<()> {
        let statement = MEND.replace("{VERSIONS}", versions);
        conn.batch_execute(&statement)
            .await
            .map_err(|error| DbError::while_doing("looking at the engine's own tables", error))
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use diesel::connection::SimpleConnection as _;
    use diesel::sql_types::{BigInt, Text};
    use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};

    use crate::quote::{ident, literal};

    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }

    #[derive(QueryableByName)]
    struct Object {
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Text)]
        name: String,
    }

    /// Makes the list of migrations and the tables agree.
    pub(crate) fn mend(conn: &mut SqliteConnection, versions: &str) -> QueryResult<()> {
        let listed: Vec<String> = versions.split(' ').map(literal).collect();
        let has_list = count(
            conn,
            "sqlite_schema WHERE type = 'table' AND name = '__diesel_schema_migrations'",
        )? > 0;
        let is_listed = has_list
            && count(
                conn,
                &format!("__diesel_schema_migrations WHERE version = {}", listed[0]),
            )? > 0;
        let tables = "sqlite_schema WHERE type = 'table' AND name IN ('_rhtmx_sync_log', '_rhtmx_sync_meta', \
             '_rhtmx_sync_entity', '_rhtmx_sync_client', '_rhtmx_sync_reject')";
        let tables = count(conn, tables)?;
        if is_listed == (tables == 5) && (is_listed || tables == 0) {
            return Ok(());
        }
        let objects: Vec<Object> = sql_query(
            "SELECT type AS kind, name FROM sqlite_schema WHERE type IN ('table', 'trigger', 'view') \
             AND (name LIKE '\\_rhtmx\\_sync\\_%' ESCAPE '\\' OR name = '_rhtmx_field_conflict') ORDER BY type DESC",
        )
        .load(conn)?;
        for object in objects {
            conn.batch_execute(&format!(
                "DROP {} IF EXISTS {}",
                object.kind,
                ident(&object.name)
            ))?;
        }
        if has_list {
            conn.batch_execute(&format!(
                "DELETE FROM __diesel_schema_migrations WHERE version IN ({})",
                listed.join(", ")
            ))?;
        }
        Ok(())
    }

    fn count(conn: &mut SqliteConnection, of: &str) -> QueryResult<i64> {
        let row: Count =
            sql_query(format!("SELECT count(*) AS count FROM {of}")).get_result(conn)?;
        Ok(row.count)
    }
}
