//! The capture of one table: its triggers.
//!
//! They are row triggers and use only SQLite's own functions, because every program that writes the file
//! fires them. Nor may they prevent the user from dropping a column, so each column that may be dropped is
//! named above a [stand-in](projection::stand_in).
//!
//! `REPLACE` removes rows without firing a delete trigger (unless `recursive_triggers` is on). So before an
//! insert, and before an update of a unique key, the rows with the new values are logged as deleted. Whether
//! they are really removed is not known then: `OR IGNORE` and `DO NOTHING` keep them, which a reader notices
//! because it reads rows as they are now; an upsert becomes an update, whose first trigger removes the entry
//! again. Rows that are removed because of a partial unique index, or one on expressions, are not captured.

mod fields;
mod marks;

use merge::Rules;

use super::projection::{self, Context};
use super::table::{Field, KeyPart, Table};
use crate::fingerprint::fnv1a;
use crate::quote::{ident, literal};

/// The version of the generated code. Raise it when that changes: every older capture is then replaced. A newer one,
/// of an engine that runs beside this one, is left alone, so each generation must be able to read what the next
/// one writes.
pub(super) const GENERATION: u32 = 5;
/// The first generation whose entries mean the same as this one's. When an older capture is replaced, clients
/// refetch.
pub(super) const COMPATIBLE_SINCE: u32 = 4;

/// The prefix of all capture triggers' names.
pub(super) const PREFIX: &str = "_rhtmx_sync_capture_";

/// Each trigger's role, the last part of its name.
pub(super) const ROLES: [&str; 7] = [
    "insert",
    "update",
    "rekey",
    "delete",
    "over_insert",
    "over_update",
    "upsert",
];

const LOG: &str =
    "INSERT INTO _rhtmx_sync_log (entity, entity_id, action, old, client_id, mutation)";
const MUTATION_ID: &str =
    "(SELECT client_id FROM _rhtmx_sync_mutation), (SELECT mutation FROM _rhtmx_sync_mutation)";

/// The prefix of the names of an entity's triggers.
pub(super) fn prefix(entity: &str) -> String {
    format!("{PREFIX}{:016x}_", fnv1a(entity))
}

/// A capture trigger.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trigger {
    pub(super) name: String,
    /// Its text, as SQLite stores it.
    pub(super) sql: String,
}

/// The roles of all triggers of an entity.
fn roles(has_fields: bool) -> impl Iterator<Item = &'static str> {
    let others = if has_fields { &fields::ROLES[..] } else { &[] };
    ROLES.iter().chain(others).copied()
}

/// How many triggers an entity has.
pub(super) fn count(has_fields: bool) -> usize {
    roles(has_fields).count()
}

/// Whether a trigger with this name stamps fields.
pub(super) fn stamps(name: &str) -> bool {
    fields::ROLES.iter().any(|role| name.ends_with(role))
}

/// The statements that install these triggers, replacing earlier ones.
pub(super) fn statements(entity: &str, triggers: &[Trigger]) -> Vec<String> {
    let has_fields = triggers.iter().any(|trigger| stamps(&trigger.name));
    let drops = roles(has_fields).map(|role| {
        format!(
            "DROP TRIGGER IF EXISTS {}",
            ident(&format!("{}{role}", prefix(entity)))
        )
    });
    drops
        .chain(triggers.iter().map(|trigger| trigger.sql.clone()))
        .collect()
}

/// The triggers that capture `table` as `entity`, and keep its rows' metadata if they merge by their fields.
pub(super) fn triggers(entity: &str, table: &Table, rules: Option<&Rules>) -> Vec<Trigger> {
    let capture = Capture {
        entity: literal(entity),
        table,
    };
    let mut bodies = vec![
        capture.insert(),
        capture.update(),
        capture.rekey(),
        capture.delete(),
        capture.over_insert(),
        capture.over_update(),
        capture.upsert(),
    ];
    if let Some(rules) = rules {
        bodies.extend(fields::Stamping::new(&capture, rules).bodies());
    }
    let triggers = roles(rules.is_some());
    let triggers = triggers.zip(bodies).map(|(role, (event, body))| {
        let name = format!("{}{role}", prefix(entity));
        let sql = format!("CREATE TRIGGER {} {event} BEGIN {body} END", ident(&name));
        Trigger { name, sql }
    });
    triggers.collect()
}

struct Capture<'a> {
    /// The entity's name as a literal.
    entity: String,
    table: &'a Table,
}

/// A trigger's event with its condition, and its statements.
type Body = (String, String);

/// Rows that a statement may replace.
struct Replaced {
    /// The trigger's event with its condition.
    event: String,
    /// For each unique key, the end of a query that finds one of them as `t`.
    found: Vec<String>,
    /// The stand-ins around those queries.
    sources: String,
}

impl Capture<'_> {
    fn insert(&self) -> Body {
        let key = self.key("NEW");
        let body = format!(
            "{LOG} SELECT {}, {key}, 'create', NULL, {MUTATION_ID}{};",
            self.entity,
            self.if_identified(&key)
        );
        (format!("AFTER INSERT ON {}", self.table.quoted()), body)
    }

    fn update(&self) -> Body {
        let key = self.key("OLD");
        let event = format!(
            "AFTER UPDATE ON {} WHEN {}",
            self.table.quoted(),
            self.same_key("OLD", "NEW")
        );
        let body = format!(
            "{LOG} SELECT {}, {key}, 'update', (SELECT {}), {MUTATION_ID}{}{};",
            self.entity,
            projection::changed_columns(self.table),
            from(self.stand_ins(&["OLD", "NEW"])),
            self.if_identified(&key)
        );
        (event, body)
    }

    /// An update that changes the key, logged as a delete and a create.
    fn rekey(&self) -> Body {
        let (old_key, new_key) = (self.key("OLD"), self.key("NEW"));
        let event = format!(
            "AFTER UPDATE OF {} ON {} WHEN NOT ({})",
            self.names_of(self.table.key.iter()),
            self.table.quoted(),
            self.same_key("OLD", "NEW")
        );
        let body = format!(
            "{LOG} SELECT {entity}, {old_key}, 'delete', (SELECT {whole}), \
             {MUTATION_ID}{from}{if_old}; \
             {LOG} SELECT {entity}, {new_key}, 'create', NULL, {MUTATION_ID}{if_new};",
            entity = self.entity,
            whole = self.whole("OLD"),
            from = from(self.stand_ins(&["OLD"])),
            if_old = self.if_identified(&old_key),
            if_new = self.if_identified(&new_key),
        );
        (event, body)
    }

    fn delete(&self) -> Body {
        let key = self.key("OLD");
        let body = format!(
            "{LOG} SELECT {}, {key}, 'delete', (SELECT {}), {MUTATION_ID}{}{};",
            self.entity,
            self.whole("OLD"),
            from(self.stand_ins(&["OLD"])),
            self.if_identified(&key)
        );
        (format!("AFTER DELETE ON {}", self.table.quoted()), body)
    }

    /// The rows that an insert may replace.
    fn over_insert(&self) -> Body {
        self.logged(&self.replaced_by_insert())
    }

    /// The other rows that an update may replace.
    fn over_update(&self) -> Body {
        self.logged(&self.replaced_by_update())
    }

    fn replaced_by_insert(&self) -> Replaced {
        let holders = self
            .unique_keys()
            .map(|unique| self.holder(unique))
            .collect();
        self.replaced("INSERT".to_owned(), once_each(holders), &["NEW"])
    }

    fn replaced_by_update(&self) -> Replaced {
        let same_row = self.same_key("t", "OLD");
        let holders = self.unique_keys().map(|unique| {
            let changed: Vec<String> = unique
                .iter()
                .map(|part| projection::is_changed(&self.table.fields[part.field]))
                .collect();
            format!(
                "({}) AND {} AND NOT ({same_row})",
                changed.join(" OR "),
                self.holder(unique)
            )
        });
        let holders = once_each(holders.collect());
        let mut parts = self.unique_keys().flatten();
        let event = if parts.any(|part| self.table.fields[part.field].is_generated) {
            "UPDATE".to_owned()
        } else {
            format!("UPDATE OF {}", self.names_of(self.unique_keys().flatten()))
        };
        self.replaced(event, holders, &["OLD", "NEW"])
    }

    /// The rows that `holders` find, before an insert or update replaces them.
    fn replaced(&self, event: String, holders: Vec<String>, aliases: &[&str]) -> Replaced {
        let table = self.table.quoted();
        let unique: Vec<&Field> = self
            .table
            .droppable()
            .into_iter()
            .filter(|field| self.is_unique(field))
            .collect();
        let around: Vec<String> = aliases
            .iter()
            .filter_map(|alias| projection::stand_in(&unique, alias))
            .collect();
        let held: Vec<String> = holders
            .iter()
            .map(|holder| format!("EXISTS (SELECT 1 FROM {table} AS t WHERE {holder})"))
            .collect();
        let held = held.join(" OR ");
        let when = match projection::stand_in(&unique, "t") {
            Some(t) => format!(
                "EXISTS (SELECT 1{} WHERE {held})",
                from(std::iter::once(t).chain(around.clone()).collect())
            ),
            None => held,
        };
        let found = holders
            .iter()
            .map(|holder| format!("FROM {table} AS t WHERE {holder}"));
        Replaced {
            event: format!("BEFORE {event} ON {table} WHEN {when}"),
            found: found.collect(),
            sources: from(self.stand_ins(&["t"]).into_iter().chain(around).collect()),
        }
    }

    /// Logs the rows as deleted.
    fn logged(&self, replaced: &Replaced) -> Body {
        let (whole, key) = (self.whole("t"), self.key("t"));
        let entries: Vec<String> = replaced
            .found
            .iter()
            .map(|found| {
                format!(
                    "{LOG} SELECT {}, (SELECT {key} {found}), 'delete', \
                     (SELECT {whole} {found}), {MUTATION_ID}{} \
                     WHERE (SELECT {key} {found}) IS NOT NULL;",
                    self.entity, replaced.sources,
                )
            })
            .collect();
        (replaced.event.clone(), entries.join(" "))
    }

    /// The row exists and is being updated. So if the newest entry says that it was deleted,
    /// [`Capture::over_insert`] wrote that before the insert became this update; the trigger removes the
    /// entry.
    fn upsert(&self) -> Body {
        let event = format!(
            "BEFORE UPDATE ON {} WHEN \
             (SELECT action FROM _rhtmx_sync_log ORDER BY id DESC LIMIT 1) = 'delete'",
            self.table.quoted()
        );
        let body = format!(
            "DELETE FROM _rhtmx_sync_log WHERE id = (SELECT max(id) FROM _rhtmx_sync_log) \
             AND entity = {} AND entity_id = {};",
            self.entity,
            self.key("OLD")
        );
        (event, body)
    }

    /// All unique keys, the primary key last, so that its entry is the one that [`Capture::upsert`] finds.
    fn unique_keys(&self) -> impl Iterator<Item = &[KeyPart]> {
        let others = self.table.uniques.iter().map(Vec::as_slice);
        others.chain(std::iter::once(self.table.key.as_slice()))
    }

    fn is_unique(&self, field: &Field) -> bool {
        let mut parts = self.table.uniques.iter().flatten();
        parts.any(|part| self.table.fields[part.field].name == field.name)
    }

    /// The columns whose update fires a trigger; a rowid has more than one name.
    fn names_of<'a>(&self, parts: impl Iterator<Item = &'a KeyPart>) -> String {
        let names = parts
            .map(|part| &self.table.fields[part.field])
            .map(|field| {
                let name = ident(&field.name);
                if field.is_rowid {
                    format!("{name}, rowid, oid, _rowid_")
                } else {
                    name
                }
            });
        names.collect::<Vec<_>>().join(", ")
    }

    /// The condition that the row `t` has the new row's values of a unique key.
    fn holder(&self, unique: &[KeyPart]) -> String {
        let parts: Vec<String> = unique
            .iter()
            .map(|part| {
                let field = &self.table.fields[part.field];
                let collation = if field.is_rowid {
                    String::new()
                } else {
                    format!(" COLLATE {}", ident(&part.collation))
                };
                format!("{}{collation} = {}", field.of("t"), field.of("NEW"))
            })
            .collect();
        parts.join(" AND ")
    }

    fn key(&self, alias: &str) -> String {
        projection::key_text(self.table, alias, Context::Trigger)
    }

    fn whole(&self, alias: &str) -> String {
        projection::whole_row(self.table, alias, Context::Trigger)
    }

    fn same_key(&self, one: &str, other: &str) -> String {
        let same =
            |field: &Field| format!("({} COLLATE BINARY) IS {}", field.of(one), field.of(other));
        self.table
            .key_fields()
            .map(same)
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// The condition that a row can be identified, for a table where its key may be null.
    fn if_identified(&self, key: &str) -> String {
        if self.table.key_fields().all(|field| field.is_rowid) {
            String::new()
        } else {
            format!(" WHERE {key} IS NOT NULL")
        }
    }

    fn stand_ins(&self, aliases: &[&str]) -> Vec<String> {
        let droppable = self.table.droppable();
        aliases
            .iter()
            .filter_map(|alias| projection::stand_in(&droppable, alias))
            .collect()
    }
}

/// The same conditions, each without the rows that an earlier one finds.
fn once_each(holders: Vec<String>) -> Vec<String> {
    let unless_earlier = |index: usize| {
        let earlier = holders[..index]
            .iter()
            .map(|holder| format!(" AND ({holder}) IS NOT TRUE"));
        earlier.collect::<String>()
    };
    holders
        .iter()
        .enumerate()
        .map(|(index, holder)| format!("{holder}{}", unless_earlier(index)))
        .collect()
}

fn from(sources: Vec<String>) -> String {
    if sources.is_empty() {
        String::new()
    } else {
        format!(" FROM {}", sources.join(", "))
    }
}
