//! Installs captures and removes them.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use merge::Rules;
use sync_core::log::ChangeKind;

use super::catalog::Current;
use super::connect::{SqliteConn, blocking};
use super::store::{one_number, record_in};
use super::{capture, catalog};
use crate::catalog::{DescribeError, Described, log_entity};
use crate::entity::{EntityConfig, EntitySource};
use crate::error::DbResult;
use crate::quote::ident;
use crate::tables::_rhtmx_sync_entity as installed;

/// Installs or updates an entity's capture for its table as it is now, and describes the table; `None` while
/// the table is missing.
pub(crate) async fn install(
    conn: &mut SqliteConn,
    config: &EntityConfig,
    generation: u32,
) -> DbResult<Result<Option<Described>, DescribeError>> {
    let EntitySource::Table(table) = &config.source else {
        let entity = log_entity(&config.name, "_rhtmx_sync_log");
        return Ok(Ok(Some(Described::captured(entity))));
    };
    let install = Install {
        entity: config.name.clone(),
        table: table.clone(),
        generation: version(generation),
        rules: config.fields.clone(),
    };
    blocking(conn, "installing the capture", move |conn| {
        // Most often there is nothing to do, and then no writer has to wait.
        let found = conn.transaction(|conn| install.find(conn))?;
        if found.is_installed {
            return Ok(found.described);
        }
        Ok(conn.immediate_transaction(|conn| install.run(conn))?)
    })
    .await
}

/// A generation as the database stores it.
fn version(generation: u32) -> i32 {
    i32::try_from(generation).unwrap_or(i32::MAX)
}

/// A row of the engine's table of captures.
#[derive(Queryable)]
struct Stored {
    fingerprint: String,
    generation: i32,
    wanted: bool,
}

/// One installation.
struct Install {
    entity: String,
    table: String,
    generation: i32,
    rules: Option<Rules>,
}

/// An entity's table as it is now.
struct Found {
    described: Result<Option<Described>, DescribeError>,
    stored: Option<Stored>,
    /// Whether the installed capture is the table's, or neither exists.
    is_installed: bool,
    /// Whether the installed capture stamps fields.
    stamps: bool,
}

impl Install {
    fn find(&self, conn: &mut SqliteConnection) -> QueryResult<Found> {
        let stored: Option<Stored> = installed::table
            .find(&self.entity)
            .select((
                installed::fingerprint,
                installed::generation,
                installed::wanted,
            ))
            .first(conn)
            .optional()?;
        if stored.as_ref().is_some_and(|stored| !stored.wanted) {
            return Ok(Found {
                described: Err(DescribeError::Uncaptured(self.table.clone())),
                stored,
                is_installed: true,
                stamps: false,
            });
        }
        let current = catalog::describe(conn, &self.entity, &self.table, self.rules.as_ref())?;
        // A newer engine's capture is left alone as long as the table stays the same.
        let fits = |stored: &Stored, now: &Current| {
            let is_newer = stored.generation > self.generation;
            let is_same = stored.generation == self.generation;
            stored.fingerprint == now.described.entity.fingerprint
                && (is_same && now.described.captured || is_newer && now.has_triggers)
        };
        let is_installed = match (&current, &stored) {
            (Ok(Some(now)), Some(stored)) => fits(stored, now),
            (Ok(Some(_)), None) | (_, Some(_)) => false,
            (_, None) => true,
        };
        let stamps = matches!(&current, Ok(Some(now)) if now.stamps);
        Ok(Found {
            stamps,
            described: current.map(|current| current.map(|current| current.described)),
            stored,
            is_installed,
        })
    }

    fn run(
        &self,
        conn: &mut SqliteConnection,
    ) -> QueryResult<Result<Option<Described>, DescribeError>> {
        let found = self.find(conn)?;
        if found.is_installed {
            return Ok(found.described);
        }
        let mut has_missed_nothing = false;
        if let Ok(Some(Described { entity: now, .. })) = &found.described {
            has_missed_nothing = self.continues(conn, &found, &now.fingerprint)?;
            self.drop_stamping(conn, now.fields.is_some() && found.stamps)?;
            for statement in &now.capture {
                conn.batch_execute(statement)?;
            }
            let relation = now.relation.as_deref().unwrap_or_default();
            let row = (
                installed::relation.eq(relation),
                installed::fingerprint.eq(&now.fingerprint),
                installed::generation.eq(self.generation),
            );
            diesel::insert_into(installed::table)
                .values((installed::entity.eq(&self.entity), row))
                .on_conflict(installed::entity)
                .do_update()
                .set(row)
                .execute(conn)?;
        } else {
            self.drop_stamping(conn, false)?;
            // Its clients are notified once that the table has gone.
            diesel::delete(installed::table.find(&self.entity)).execute(conn)?;
        }
        if !has_missed_nothing {
            // A client that resumes from before this point must refetch: the table may have changed while it was
            // not captured, or may have had another form.
            record_in(conn, &self.entity, None, ChangeKind::SchemaChange, None)?;
        }
        Ok(found.described)
    }

    /// Drops the triggers that stamp fields, and what is known of the rows' fields. Where rows have not been stamped for a
    /// while, its clocks are older than the values: so it is only to be kept from a capture that stamps to another one.
    fn drop_stamping(&self, conn: &mut SqliteConnection, keeps: bool) -> QueryResult<()> {
        for trigger in catalog::triggers(conn, &capture::prefix(&self.entity))? {
            if capture::stamps(&trigger.name) {
                conn.batch_execute(&format!("DROP TRIGGER {}", ident(&trigger.name)))?;
            }
        }
        if keeps {
            return Ok(());
        }
        for table in [
            "_rhtmx_sync_field",
            "_rhtmx_sync_replaced",
            "_rhtmx_field_conflict",
        ] {
            sql_query(format!("DELETE FROM {table} WHERE entity = ?"))
                .bind::<Text, _>(&self.entity)
                .execute(conn)?;
        }
        Ok(())
    }

    /// Whether the capture only replaces an older one, whose entries mean the same and which was complete.
    fn continues(
        &self,
        conn: &mut SqliteConnection,
        found: &Found,
        fingerprint: &str,
    ) -> QueryResult<bool> {
        let Some(stored) = &found.stored else {
            return Ok(false);
        };
        let count = catalog::triggers(conn, &capture::prefix(&self.entity))?.len();
        Ok(stored.fingerprint == fingerprint
            && stored.generation < self.generation
            && stored.generation >= version(capture::COMPATIBLE_SINCE)
            && count == capture::count(self.rules.is_some()))
    }
}

/// The entities that have a capture.
pub(crate) async fn captured(conn: &mut SqliteConn) -> DbResult<Vec<String>> {
    blocking(conn, "reading the captured entities", |conn| {
        let wanted = installed::table.filter(installed::wanted);
        Ok(wanted
            .select(installed::entity)
            .order(installed::entity)
            .load(conn)?)
    })
    .await
}

/// Takes back that these entities are not to be captured.
pub(crate) async fn want(conn: &mut SqliteConn, entities: &[String]) -> DbResult<()> {
    let entities = entities.to_vec();
    blocking(conn, "reading the captured entities", move |conn| {
        let unwanted = || {
            installed::table
                .filter(installed::entity.eq_any(&entities))
                .filter(diesel::dsl::not(installed::wanted))
        };
        let count: i64 = unwanted().count().get_result(conn)?;
        if count > 0 {
            diesel::update(unwanted())
                .set(installed::wanted.eq(true))
                .execute(conn)?;
        }
        Ok(())
    })
    .await
}

/// Removes the captures of these entities, or of all, and returns the names of those that had one.
pub(crate) async fn uninstall(
    conn: &mut SqliteConn,
    only: Option<&[String]>,
) -> DbResult<Vec<String>> {
    let only = only.map(<[String]>::to_vec);
    blocking(conn, "removing the capture", move |conn| {
        Ok(conn.immediate_transaction(|conn| uninstall_in(conn, only.as_deref()))?)
    })
    .await
}

fn uninstall_in(conn: &mut SqliteConnection, only: Option<&[String]>) -> QueryResult<Vec<String>> {
    let is_migrated =
        "SELECT count(*) AS number FROM sqlite_schema WHERE name = '_rhtmx_sync_entity'";
    if one_number(conn, is_migrated)? == 0 {
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = installed::table
        .filter(installed::wanted)
        .select(installed::entity)
        .order(installed::entity)
        .load(conn)?;
    names.retain(|name| only.is_none_or(|only| only.contains(name)));
    let prefixes: Vec<String> = match only {
        Some(_) => names.iter().map(|name| capture::prefix(name)).collect(),
        // Also triggers of entities that are no longer recorded as installed.
        None => vec![capture::PREFIX.to_owned()],
    };
    for prefix in prefixes {
        for trigger in catalog::triggers(conn, &prefix)? {
            conn.batch_execute(&format!("DROP TRIGGER {}", ident(&trigger.name)))?;
        }
    }
    for name in &names {
        let gone = (
            installed::wanted.eq(false),
            installed::fingerprint.eq(""),
            installed::generation.eq(0),
        );
        diesel::update(installed::table.find(name))
            .set(gone)
            .execute(conn)?;
    }
    Ok(names)
}
