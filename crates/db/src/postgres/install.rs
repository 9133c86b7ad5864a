//! Installs captures and removes them.
//!
//! Creating a trigger needs a lock that waits for the table's writers, and dropping one a lock that waits for its
//! readers, too; everybody who comes after waits behind. So every attempt gives up soon, and most of them at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel::{OptionalExtension as _, QueryableByName, sql_query};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use merge::Rules;
use sync_core::log::ChangeKind;

use super::observed::{Difference, Observed};
use super::store::{self, SEARCH_PATH, in_schema};
use super::{capture, catalog};
use crate::catalog::{DescribeError, Described, log_entity};
use crate::entity::{EntityConfig, EntitySource};
use crate::error::{DbError, DbResult, Failed};
use crate::quote::ident;

/// Captures are installed one at a time. A row of the engine's own is locked, because any role could keep an
/// advisory lock.
const LOCK_INSTALL: &str = "SET LOCAL lock_timeout = '10s'; \
    SELECT FROM _rhtmx_sync_lock WHERE name OPERATOR(pg_catalog.=) 'install' FOR UPDATE";
/// The settings of a transaction here. It relies on seeing what was committed while it waited for a lock.
const SETTINGS: &str = "SET LOCAL transaction_isolation = 'read committed'; SET LOCAL standard_conforming_strings = on";

/// For how long an attempt waits for a table's lock. The first ones wait as long as a short writer may take; if
/// some long transaction is in the way, ever fewer do, down to one in [`PATIENT_EVERY`], and the others take
/// nothing but a lock that is free.
fn lock_timeout(failures: u32) -> &'static str {
    if failures == 0 || failures.is_power_of_two() || failures.is_multiple_of(PATIENT_EVERY) {
        "SET LOCAL lock_timeout = '100ms'"
    } else {
        "SET LOCAL lock_timeout = '1ms'"
    }
}

/// Attempts come about once a second.
const PATIENT_EVERY: u32 = 60;

/// How often in a row the capture of each entity could not be installed or removed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Arc<Mutex<BTreeMap<String, u32>>>);

impl Attempts {
    fn failures(&self, entity: &str) -> u32 {
        let failures = self.0.lock().expect("no holder of this lock panics");
        failures.get(entity).copied().unwrap_or_default()
    }

    fn ended<T>(&self, entity: &str, result: &DbResult<T>) {
        let mut failures = self.0.lock().expect("no holder of this lock panics");
        if result.is_ok() {
            failures.remove(entity);
        } else {
            let count = failures.entry(entity.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
    }
}

/// A row of the engine's table of captures.
#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Text)]
    fingerprint: String,
    #[diesel(sql_type = Integer)]
    generation: i32,
    #[diesel(sql_type = Bool)]
    wanted: bool,
    #[diesel(sql_type = Text)]
    observed: String,
}

impl Stored {
    /// Nothing that is there now is known to have been there then.
    fn observed(&self) -> Observed {
        serde_json::from_str(&self.observed).unwrap_or_default()
    }

    fn is_compatible(&self) -> bool {
        self.generation >= version(capture::COMPATIBLE_SINCE)
    }
}

/// Installs or updates an entity's capture for its table as it is now, and describes the table; `None` while
/// the table is missing.
pub(crate) async fn install(
    conn: &mut AsyncPgConnection,
    config: &EntityConfig,
    generation: u32,
    attempts: &Attempts,
) -> DbResult<Result<Option<Described>, DescribeError>> {
    let EntitySource::Table(table) = &config.source else {
        let found = conn.transaction(async |conn| Ok(store::log_schema(conn).await?));
        let schema = found
            .await
            .map_err(|failed: Failed| failed.while_doing("looking for the log"))?;
        let log = in_schema("_rhtmx_sync_log", &schema);
        return Ok(Ok(Some(Described::captured(log_entity(
            &config.name,
            &log,
        )))));
    };
    let timeout = lock_timeout(attempts.failures(&config.name));
    let installed = conn
        .transaction(async |conn| {
            let log_schema = begin(conn, timeout).await?;
            let install = Install {
                entity: &config.name,
                table,
                log_schema: &log_schema,
                generation,
                rules: config.fields.as_ref(),
            };
            install.run(conn).await
        })
        .await
        .map_err(|failed: Failed| failed.while_doing("installing the capture"));
    attempts.ended(&config.name, &installed);
    installed
}

/// Begins a transaction of this module, under its lock, and returns the log's schema.
async fn begin(conn: &mut AsyncPgConnection, lock_timeout: &str) -> DbResult<String> {
    let begun = format!("{SETTINGS}; {LOCK_INSTALL}; {lock_timeout}");
    conn.batch_execute(&begun).await.map_err(|error| {
        DbError::while_doing("waiting for another server that installs captures", error)
    })?;
    store::log_schema(conn).await
}

/// One installation.
struct Install<'a> {
    entity: &'a str,
    table: &'a str,
    log_schema: &'a str,
    generation: u32,
    rules: Option<&'a Rules>,
}

impl Install<'_> {
    async fn run(
        &self,
        conn: &mut AsyncPgConnection,
    ) -> Result<Result<Option<Described>, DescribeError>, Failed> {
        // The table's name is looked up on the role's search path, and nothing after it.
        let relation = catalog::find(conn, self.table).await?;
        conn.batch_execute(&format!("SET LOCAL {SEARCH_PATH}"))
            .await?;
        let stored = self.stored(conn).await?;
        if stored.as_ref().is_some_and(|stored| !stored.wanted) {
            return Ok(Err(DescribeError::Uncaptured(self.table.to_owned())));
        }
        let Some(relation) = relation else {
            self.forget(conn).await?;
            return Ok(Ok(None));
        };
        let table = match self.describe(conn, &relation).await? {
            Ok(table) => table,
            Err(reason) => {
                if matches!(reason, DescribeError::Foreign { .. }) {
                    drop_function(conn, self.log_schema, self.entity).await?;
                }
                self.forget(conn).await?;
                return Ok(Err(reason));
            }
        };
        let Some(stored) = stored else {
            let table = match self.replace(conn, &relation, &table, false).await? {
                Ok(table) => table,
                Err(reason) => return Ok(Err(reason)),
            };
            self.store(conn, &table, self.generation).await?;
            self.record_schema_change(conn).await?;
            return Ok(Ok(Some(table.described)));
        };
        self.update(conn, &relation, table, &stored).await
    }

    /// Brings an installed capture up to date.
    async fn update(
        &self,
        conn: &mut AsyncPgConnection,
        relation: &catalog::Relation,
        found: catalog::Table,
        stored: &Stored,
    ) -> Result<Result<Option<Described>, DescribeError>, Failed> {
        let same_table = found.described.entity.fingerprint == stored.fingerprint;
        let is_newer = stored.generation > version(self.generation);
        let is_older = stored.generation < version(self.generation);
        let observed = stored.observed();
        let difference = found.observed.since(&observed);
        // A newer engine's capture is replaced only when the table has changed and clients refetch anyway; that
        // engine, if it still runs, then installs its own again.
        let generation = if is_newer && same_table {
            stored.generation
        } else {
            version(self.generation)
        };
        let complete = found.described.captured || is_newer && found.has_triggers;
        let table = if same_table && complete && !is_older {
            found
        } else if same_table && is_newer {
            // Some of its tables have no triggers yet, such as a new partition.
            let added = self.add_triggers(conn, relation, &found).await?;
            match added {
                Ok(table) => table,
                Err(reason) => return Ok(Err(reason)),
            }
        } else {
            let key = catalog::key_fingerprint;
            let same_key = stored.is_compatible()
                && key(&stored.fingerprint) == key(&found.described.entity.fingerprint);
            match self.replace(conn, relation, &found, same_key).await? {
                Ok(table) => table,
                Err(reason) => return Ok(Err(reason)),
            }
        };
        let has_changed = match difference {
            Difference::None => false,
            Difference::RowsMayHaveChanged => true,
            // Its triggers exist by now, so that nobody can add a row in between.
            Difference::Joined(tables) => catalog::any_has_rows(conn, &tables).await?,
        };
        if generation != stored.generation || !same_table || table.observed != observed {
            self.store(conn, &table, u32::try_from(generation).unwrap_or_default())
                .await?;
        }
        if has_changed || !same_table || !stored.is_compatible() {
            self.record_schema_change(conn).await?;
        }
        Ok(Ok(Some(table.described)))
    }

    async fn describe(
        &self,
        conn: &mut AsyncPgConnection,
        relation: &catalog::Relation,
    ) -> DbResult<Result<catalog::Table, DescribeError>> {
        let (entity, table, log_schema) = (self.entity, self.table, self.log_schema);
        catalog::describe(conn, entity, table, relation, log_schema, self.rules).await
    }

    /// Replaces the function, and the triggers where needed, and describes the table with them. The function alone
    /// needs no lock on the table. But when keys are spelled in another way, no write may be in progress: entries
    /// of the old function must come before the schema change.
    async fn replace(
        &self,
        conn: &mut AsyncPgConnection,
        relation: &catalog::Relation,
        found: &catalog::Table,
        same_key: bool,
    ) -> Result<Result<catalog::Table, DescribeError>, Failed> {
        self.drop_metadata(conn, same_key && self.rules.is_some())
            .await?;
        for statement in &found.described.entity.capture {
            if !(same_key && found.settled.contains(statement)) {
                conn.batch_execute(statement).await?;
            }
        }
        Ok(self.describe(conn, relation).await?)
    }

    /// Drops what is known of the rows' fields, unless it is to be kept where the rows were stamped until now: if they were
    /// not for a while, its clocks are older than the values.
    async fn drop_metadata(
        &self,
        conn: &mut AsyncPgConnection,
        keep_if_stamped: bool,
    ) -> Result<(), Failed> {
        let stamps = "SELECT count(*) AS count FROM pg_proc WHERE proname = $1 AND pronamespace = $2::regnamespace \
             AND strpos(prosrc, '_rhtmx_sync_field') > 0";
        if keep_if_stamped {
            let found: Count = sql_query(stamps)
                .bind::<Text, _>(capture::function_name(self.entity))
                .bind::<Text, _>(ident(self.log_schema))
                .get_result(conn)
                .await?;
            if found.count > 0 {
                return Ok(());
            }
        }
        let sql = "WITH lost AS (DELETE FROM _rhtmx_field_conflict WHERE entity = $1) \
             DELETE FROM _rhtmx_sync_field WHERE entity = $1";
        sql_query(in_schema(sql, self.log_schema))
            .bind::<Text, _>(self.entity)
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Adds triggers to the tables that have none, for the function that is there.
    async fn add_triggers(
        &self,
        conn: &mut AsyncPgConnection,
        relation: &catalog::Relation,
        found: &catalog::Table,
    ) -> Result<Result<catalog::Table, DescribeError>, Failed> {
        for statement in &found.missing {
            conn.batch_execute(statement).await?;
        }
        Ok(self.describe(conn, relation).await?)
    }

    async fn stored(&self, conn: &mut AsyncPgConnection) -> Result<Option<Stored>, Failed> {
        let sql = "SELECT fingerprint, generation, wanted, observed FROM _rhtmx_sync_entity WHERE entity = $1";
        let found = sql_query(in_schema(sql, self.log_schema))
            .bind::<Text, _>(self.entity)
            .get_result(conn)
            .await
            .optional()?;
        Ok(found)
    }

    async fn store(
        &self,
        conn: &mut AsyncPgConnection,
        table: &catalog::Table,
        generation: u32,
    ) -> Result<(), Failed> {
        let sql = "INSERT INTO _rhtmx_sync_entity (entity, relation, fingerprint, generation, observed) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (entity) DO UPDATE SET relation = EXCLUDED.relation, \
             fingerprint = EXCLUDED.fingerprint, generation = EXCLUDED.generation, observed = EXCLUDED.observed";
        let entity = &table.described.entity;
        sql_query(in_schema(sql, self.log_schema))
            .bind::<Text, _>(self.entity)
            .bind::<Text, _>(entity.relation.as_deref().unwrap_or_default())
            .bind::<Text, _>(&entity.fingerprint)
            .bind::<Integer, _>(version(generation))
            .bind::<Text, _>(protocol::json::text(&table.observed))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Removes the entity from the captured ones. Its clients are notified once that the table has gone.
    async fn forget(&self, conn: &mut AsyncPgConnection) -> Result<(), Failed> {
        let sql = "DELETE FROM _rhtmx_sync_entity WHERE entity = $1";
        let removed = sql_query(in_schema(sql, self.log_schema))
            .bind::<Text, _>(self.entity)
            .execute(conn)
            .await?;
        if removed > 0 {
            self.record_schema_change(conn).await?;
        }
        Ok(())
    }

    /// A client that resumes from before this point must refetch: the table may have changed while it was not
    /// captured, or may have had another form.
    async fn record_schema_change(&self, conn: &mut AsyncPgConnection) -> Result<(), Failed> {
        let sql = "INSERT INTO _rhtmx_sync_log (entity, action) VALUES ($1, $2)";
        sql_query(in_schema(sql, self.log_schema))
            .bind::<Text, _>(self.entity)
            .bind::<Text, _>(ChangeKind::SchemaChange.as_str())
            .execute(conn)
            .await?;
        Ok(())
    }
}

/// A generation as the database stores it.
fn version(generation: u32) -> i32 {
    i32::try_from(generation).unwrap_or(i32::MAX)
}

/// Drops an entity's function. `CASCADE` drops the triggers, too, which a role with only the TRIGGER privilege
/// could not do.
async fn drop_function(
    conn: &mut AsyncPgConnection,
    log_schema: &str,
    entity: &str,
) -> Result<(), Failed> {
    let function = capture::qualified_function(entity, log_schema);
    conn.batch_execute(&format!("DROP FUNCTION IF EXISTS {function}() CASCADE"))
        .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    entity: String,
}

const CAPTURED: &str = "reading the captured entities";

/// The entities that have a capture.
pub(crate) async fn captured(conn: &mut AsyncPgConnection) -> DbResult<Vec<String>> {
    let read = conn.transaction(async |conn| {
        let log_schema = store::log_schema(conn).await?;
        let sql = "SELECT entity FROM _rhtmx_sync_entity WHERE wanted ORDER BY entity";
        let names: Vec<Name> = sql_query(in_schema(sql, &log_schema)).load(conn).await?;
        Ok(names)
    });
    let names = read
        .await
        .map_err(|failed: Failed| failed.while_doing(CAPTURED))?;
    Ok(names.into_iter().map(|name| name.entity).collect())
}

/// Takes back that these entities are not to be captured.
pub(crate) async fn want(conn: &mut AsyncPgConnection, entities: &[String]) -> DbResult<()> {
    conn.transaction(async |conn| {
        let log_schema = store::log_schema(conn).await?;
        let sql = "UPDATE _rhtmx_sync_entity SET wanted = true WHERE NOT wanted \
             AND entity IN (SELECT pg_catalog.json_array_elements_text($1::pg_catalog.json))";
        sql_query(in_schema(sql, &log_schema))
            .bind::<Text, _>(protocol::json::text(&entities))
            .execute(conn)
            .await?;
        Ok(())
    })
    .await
    .map_err(|failed: Failed| failed.while_doing(CAPTURED))
}

/// Marks these entities, or all, as not to be captured, replaces their functions by ones that do nothing, for which
/// no table's lock is needed, and returns the names of those that had a capture.
pub(crate) async fn stop_capture(
    conn: &mut AsyncPgConnection,
    only: Option<&[String]>,
) -> DbResult<Vec<String>> {
    conn.transaction(async |conn| {
        let log = "SELECT pg_catalog.count(*) AS count FROM pg_catalog.pg_class \
             WHERE oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('_rhtmx_sync_lock')::pg_catalog.oid";
        let found: Count = sql_query(log).get_result(conn).await?;
        if found.count == 0 {
            return Ok(Vec::new());
        }
        let log_schema = begin(conn, lock_timeout(0)).await?;
        conn.batch_execute(&format!("SET LOCAL {SEARCH_PATH}")).await?;
        let sql = "SELECT entity FROM _rhtmx_sync_entity ORDER BY entity";
        let found: Vec<Name> = sql_query(in_schema(sql, &log_schema)).load(conn).await?;
        let mut names: Vec<String> = found.into_iter().map(|name| name.entity).collect();
        names.retain(|name| only.is_none_or(|only| only.contains(name)));
        let mut stopped = Vec::new();
        for name in names {
            let exists = "SELECT count(*) AS count FROM pg_proc WHERE proname = $1 AND pronamespace = $2::regnamespace";
            let function: Count = sql_query(exists)
                .bind::<Text, _>(capture::function_name(&name))
                .bind::<Text, _>(ident(&log_schema))
                .get_result(conn)
                .await?;
            if function.count > 0 {
                conn.batch_execute(&capture::no_capture(&name, &log_schema)).await?;
                stopped.push(name.clone());
            }
            let sql = "UPDATE _rhtmx_sync_entity SET wanted = false, fingerprint = '', generation = 0 WHERE entity = $1";
            sql_query(in_schema(sql, &log_schema))
                .bind::<Text, _>(&name)
                .execute(conn)
                .await?;
        }
        Ok(stopped)
    })
    .await
    .map_err(|failed: Failed| failed.while_doing("removing the capture"))
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Drops the triggers and the function of an entity whose capture has been stopped. Readers and writers of the
/// table wait at most as long as this does, which the number of `failures` before decides.
///
/// # Errors
/// Retryable ones while somebody uses the table.
pub(crate) async fn drop_triggers(
    conn: &mut AsyncPgConnection,
    entity: &str,
    failures: u32,
) -> DbResult<()> {
    conn.transaction(async |conn| {
        let log_schema = begin(conn, lock_timeout(failures)).await?;
        drop_function(conn, &log_schema, entity).await
    })
    .await
    .map_err(|failed: Failed| failed.while_doing("removing the triggers"))
}
