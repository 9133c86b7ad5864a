//! What the capture of an entity whose rows merge by their fields does beside the log: it stamps what programs write that
//! stamp nothing themselves, so that their changes merge as those of devices do.
//!
//! These triggers stand beside those that write the log, and in any order with them. Nothing in them may raise an error:
//! metadata that somebody has edited by hand may be any text. Nor may an `INSERT` in them meet a row that is there: the
//! conflict clause of the program's statement applies to it, `OR IGNORE` as well as `OR REPLACE`.
//!
//! A row that `REPLACE` removes is remembered before, with its key's values, and looked for when the new row is there: if
//! it is gone, it was deleted. An `OR IGNORE`, a `DO NOTHING` and an upsert leave it where it is. Only if a `BEFORE`
//! trigger of the user's writes other rows of the table that replace some, too, may one be forgotten.

use merge::{ColumnMerge, Deletes, Rules};

use super::super::projection;
use super::super::table::Field;
use super::marks;
use super::{Body, Capture, Replaced, from};
use crate::quote::{ident, literal};

/// Each trigger's role.
pub(super) const ROLES: [&str; 6] = [
    "stamp_insert",
    "stamp_update",
    "stamp_rekey",
    "stamp_delete",
    "stamp_over_insert",
    "stamp_over_update",
];

/// The clock of rows that were there before anything was stamped, as a literal.
const GROUND: &str = "'1970-01-01T00:00:00.000Z-0000-0'";
/// An entry's metadata. What is no JSON says nothing.
const METADATA: &str = "CASE WHEN json_valid(metadata) THEN metadata ELSE '{}' END";
/// The birth in the metadata `m`.
const BORN: &str = "coalesce(json_extract(m, '$.born'), '1970-01-01T00:00:00.000Z-0000-0')";
/// The metadata `m` without the newest edit, which a field's clock tells, or no one needs any more.
const NOT_EDITED: &str = "json_remove(m, '$.edited')";
/// The condition that `w.stamped` is a stamp of a whole row.
const IS_WHOLE_ROW: &str = "json_extract(w.stamped, '$.columns') IS NULL";

/// The condition that a register has changed: its [`Change`] is the least.
const HAS_STAMPED: &str = "least IS 0";

/// What is done with a column of a row's metadata when the column changes, as a number in the generated SQL.
#[derive(Clone, Copy)]
enum Change {
    /// It gets a clock.
    Stamp = 0,
    /// A counter, that now is a number: what other databases have counted stays.
    Number = 1,
    /// A counter, that now is null.
    Null = 2,
    /// A set: its elements are as if it had been born with them.
    Forget = 3,
    /// Nothing.
    Keep = 4,
}

/// The SQL of the entity's entries.
pub(super) struct Stamping<'a> {
    capture: &'a Capture<'a>,
    /// The columns that clients write, and how each merges.
    fields: Vec<(&'a Field, ColumnMerge)>,
    revives: bool,
}

impl<'a> Stamping<'a> {
    pub(super) fn new(capture: &'a Capture<'a>, rules: &Rules) -> Self {
        let fields = capture.table.droppable().into_iter();
        let fields = fields.filter(|field| !field.is_generated);
        Self {
            capture,
            fields: fields
                .map(|field| (field, rules.merge(&field.name)))
                .collect(),
            revives: rules.deletes == Deletes::Revive,
        }
    }

    /// The triggers, in the order of their [`ROLES`].
    pub(super) fn bodies(&self) -> [Body; 6] {
        let (capture, table) = (self.capture, self.capture.table.quoted());
        let (old, new) = (capture.key("OLD"), capture.key("NEW"));
        let entity = &capture.entity;
        let is_known = format!("EXISTS (SELECT 1 FROM _rhtmx_sync_field {})", self.at(&new));
        let has_replaced =
            format!("EXISTS (SELECT 1 FROM _rhtmx_sync_replaced WHERE entity = {entity})");
        let same_key = capture.same_key("OLD", "NEW");
        let key_names = capture.names_of(capture.table.key.iter());
        [
            (
                format!("AFTER INSERT ON {table} WHEN {is_known} OR {has_replaced}"),
                format!("{} {}", self.create(&new), self.settle()),
            ),
            (
                format!("AFTER UPDATE ON {table} WHEN {same_key}"),
                format!("{} {}", self.update(&old), self.settle()),
            ),
            (
                format!("AFTER UPDATE OF {key_names} ON {table} WHEN NOT ({same_key})"),
                format!(
                    "{} {} {}",
                    self.delete(&old),
                    self.create(&new),
                    self.settle()
                ),
            ),
            (format!("AFTER DELETE ON {table}"), self.delete(&old)),
            self.remember(&capture.replaced_by_insert()),
            self.remember(&capture.replaced_by_update()),
        ]
    }

    /// A row is there that was not: if anything is known of an earlier one, it is born now.
    fn create(&self, key: &str) -> String {
        let was_there = format!(
            "EXISTS (SELECT 1 FROM _rhtmx_sync_replaced AS v \
             WHERE v.entity = {} AND v.entity_id = k.entity_id)",
            self.capture.entity
        );
        format!(
            "{} UPDATE _rhtmx_sync_field SET (newest, metadata, image) = \
             (SELECT at, json_object('born', at), NULL FROM (SELECT {} AS at)) \
             {} AND NOT ({} AND NOT {});",
            self.enter(key, &was_there),
            next_clock(),
            self.at(key),
            self.is_stamped(IS_WHOLE_ROW),
            self.is_dead()
        )
    }

    /// A row is gone.
    fn delete(&self, key: &str) -> String {
        let image = if self.revives {
            let sources = from(self.capture.stand_ins(&["OLD"]));
            format!("(SELECT (SELECT {}){sources})", self.image("OLD"))
        } else {
            "NULL".to_owned()
        };
        format!(
            "{} UPDATE _rhtmx_sync_field SET (newest, metadata, image) = {} {at} AND NOT ({} AND {}); \
             DELETE FROM _rhtmx_sync_replaced {at};",
            self.enter(key, "1"),
            self.dead(&image),
            self.is_stamped(IS_WHOLE_ROW),
            self.is_dead(),
            at = self.at(key)
        )
    }

    /// Stamps the columns that changed, but for those that the engine has stamped.
    fn update(&self, key: &str) -> String {
        let members: Vec<String> = self
            .fields
            .iter()
            .filter_map(|(field, merge)| self.change(field, *merge))
            .collect();
        if members.is_empty() {
            return String::new();
        }
        let changes = self.changes(members);
        // An edit that leaves no clock in a field can bring the row back all the same.
        let is_edit = if self.revives {
            "least IS NOT NULL"
        } else {
            HAS_STAMPED
        };
        let edited = if self.revives {
            format!(
                "CASE WHEN {HAS_STAMPED} THEN {NOT_EDITED} ELSE json_set(m, '$.edited', at) END"
            )
        } else {
            NOT_EDITED.to_owned()
        };
        // Where nothing is revived and the row is there all the same, its creation was not captured.
        let missed = if self.revives {
            String::new()
        } else {
            format!(
                "WHEN {HAS_STAMPED} AND json_extract(m, '$.died') IS NOT NULL THEN json_object('born', at) "
            )
        };
        let (tell, is_told) = self.tell(key);
        let take = match tell.is_empty() {
            true => String::new(),
            false => marks::take(&self.capture.entity, &self.at(key)),
        };
        // With an offset, SQLite evaluates a subquery once instead of wherever it is used.
        format!(
            "{tell}{} UPDATE _rhtmx_sync_field SET (newest, metadata, image) = \
             (SELECT CASE WHEN {is_edit}{is_told} THEN at ELSE newest END, \
             CASE WHEN least IS NULL THEN metadata {missed}\
             WHEN marks = '' THEN json_remove({edited}, '$.fields') \
             ELSE json_set({edited}, '$.born', {BORN}, '$.fields', json('{{' || marks || '}}')) END, \
             CASE WHEN least IS NULL THEN image END \
             FROM (SELECT m, at, least, {} AS marks FROM (SELECT {METADATA} AS m, {} AS at), {changes} \
             LIMIT 1 OFFSET 0)) {}; {take}",
            self.enter(key, &format!("(SELECT {is_edit}{is_told} FROM {changes})")),
            marks_of_fields(),
            next_clock(),
            self.at(key),
        )
    }

    /// A query of the columns that changed in the row of the `entity_id` beside it: one object, and the least [`Change`] in it.
    fn changes(&self, members: Vec<String>) -> String {
        let is_stamped = self.is_stamped(&format!(
            "{IS_WHOLE_ROW} OR c.key IN (SELECT value FROM json_each(w.stamped, '$.columns'))"
        ));
        format!(
            "(SELECT json_group_object(c.key, c.value) AS changed, min(c.value) AS least \
             FROM json_each((SELECT (SELECT {}){})) AS c WHERE NOT {is_stamped})",
            projection::object(members),
            from(self.capture.stand_ins(&["OLD", "NEW"])),
        )
    }

    /// The member of the object of changes; none for a column of which nothing is kept.
    fn change(&self, field: &Field, merge: ColumnMerge) -> Option<String> {
        let as_number = |change: Change| (change as u8).to_string();
        let change = match merge {
            ColumnMerge::Register | ColumnMerge::Text => as_number(Change::Stamp),
            // What was told of them is taken afterwards.
            ColumnMerge::Counter => format!(
                "CASE WHEN {} THEN {} WHEN {} IS NULL THEN {} ELSE {} END",
                self.is_told_of(field),
                Change::Keep as u8,
                field.of("NEW"),
                Change::Null as u8,
                Change::Number as u8
            ),
            ColumnMerge::Set => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.is_told_of(field),
                Change::Keep as u8,
                Change::Forget as u8
            ),
            ColumnMerge::Max(_) | ColumnMerge::Min(_) if self.revives => as_number(Change::Keep),
            ColumnMerge::Max(_) | ColumnMerge::Min(_) => return None,
        };
        let label = serde_json::Value::from(field.name.as_str()).to_string();
        Some(format!(
            "CASE WHEN {} THEN {} || {change} ELSE '' END",
            projection::is_changed(field),
            literal(&format!(",{label}:"))
        ))
    }

    /// The statements that tell of counters and sets, and the end of a condition that one has.
    fn tell(&self, key: &str) -> (String, String) {
        let entity = &self.capture.entity;
        let row = format!("SELECT {key} AS entity_id");
        let sources = self.capture.stand_ins(&["OLD", "NEW"]);
        let has_marks =
            |merge: &ColumnMerge| matches!(merge, ColumnMerge::Counter | ColumnMerge::Set);
        let marked = self.fields.iter().filter(|(_, merge)| has_marks(merge));
        let tell: String = marked
            .map(|(field, merge)| {
                let is_stamped = self.is_stamped(&format!(
                    "{IS_WHOLE_ROW} OR {} IN (SELECT value FROM json_each(w.stamped, '$.columns'))",
                    literal(&field.name)
                ));
                let tell = marks::tell((entity, &row, &sources), (field, *merge), &is_stamped);
                format!("{tell} ")
            })
            .collect();
        let is_told = match tell.is_empty() {
            true => String::new(),
            false => format!(" OR {}", marks::is_told(entity)),
        };
        (tell, is_told)
    }

    fn is_told_of(&self, field: &Field) -> String {
        format!(
            "{} IN (SELECT g.field FROM _rhtmx_sync_marking AS g WHERE g.entity = {})",
            literal(&field.name),
            self.capture.entity
        )
    }

    /// Remembers the rows that a statement may replace.
    fn remember(&self, replaced: &Replaced) -> Body {
        let (capture, key) = (self.capture, self.capture.key("t"));
        let mut statements = vec![self.settle()];
        for found in &replaced.found {
            for (part, field) in capture.table.key_fields().enumerate() {
                let image = if part == 0 && self.revives {
                    format!("(SELECT {} {found})", self.image("t"))
                } else {
                    "NULL".to_owned()
                };
                statements.push(format!(
                    "INSERT INTO _rhtmx_sync_replaced (entity, entity_id, part, value, image) \
                     SELECT {}, (SELECT {key} {found}), {part}, (SELECT {} {found}), {image}{} \
                     WHERE (SELECT {key} {found}) IS NOT NULL;",
                    capture.entity,
                    field.of("t"),
                    replaced.sources
                ));
            }
        }
        (replaced.event.clone(), statements.join(" "))
    }

    /// Finds out which of the rows that are remembered are gone.
    fn settle(&self) -> String {
        let entity = &self.capture.entity;
        let parts = self
            .capture
            .table
            .key
            .iter()
            .enumerate()
            .map(|(part, of_key)| {
                let field = &self.capture.table.fields[of_key.field];
                let value = format!(
                    "(SELECT v.value FROM _rhtmx_sync_replaced AS v WHERE v.entity = {entity} \
                 AND v.entity_id = _rhtmx_sync_replaced.entity_id AND v.part = {part})"
                );
                let here = field.of("t");
                if field.is_rowid {
                    format!("{here} = {value}")
                } else {
                    // The first comparison uses the key's index.
                    format!(
                        "{here} COLLATE {} = {value} AND {here} COLLATE BINARY = {value}",
                        ident(&of_key.collation)
                    )
                }
            });
        let is_here = parts.collect::<Vec<_>>().join(" AND ");
        let first =
            format!("FROM _rhtmx_sync_replaced AS v WHERE v.entity = {entity} AND v.part = 0");
        let image =
            format!("(SELECT v.image {first} AND v.entity_id = _rhtmx_sync_field.entity_id)");
        format!(
            "DELETE FROM _rhtmx_sync_replaced WHERE entity = {entity} \
             AND EXISTS (SELECT 1 FROM {} AS t WHERE {is_here}); \
             INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) \
             SELECT {entity}, v.entity_id, {GROUND}, json_object('born', {GROUND}) {first} \
             AND NOT EXISTS (SELECT 1 FROM _rhtmx_sync_field AS f \
             WHERE f.entity = {entity} AND f.entity_id = v.entity_id); \
             UPDATE _rhtmx_sync_field SET (newest, metadata, image) = {} \
             WHERE entity = {entity} AND entity_id IN (SELECT v.entity_id {first}); \
             DELETE FROM _rhtmx_sync_replaced WHERE entity = {entity};",
            self.capture.table.quoted(),
            self.dead(&image)
        )
    }

    /// Makes an entry for a key that has none, if the condition holds for it as `entity_id`.
    fn enter(&self, key: &str, condition: &str) -> String {
        let entity = &self.capture.entity;
        format!(
            "INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) \
             SELECT {entity}, entity_id, {GROUND}, json_object('born', {GROUND}) FROM (SELECT {key} AS entity_id) AS k \
             WHERE entity_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _rhtmx_sync_field AS f \
             WHERE f.entity = {entity} AND f.entity_id = k.entity_id) AND {condition};"
        )
    }

    /// What becomes of an entry's `newest`, `metadata` and `image` when its row dies.
    fn dead(&self, image: &str) -> String {
        let dead = format!("json_object('born', {BORN}, 'died', at)");
        let metadata = if self.revives {
            format!(
                "CASE WHEN kept IS NULL THEN {dead} \
                 ELSE json_set({NOT_EDITED}, '$.born', {BORN}, '$.died', at) END"
            )
        } else {
            dead
        };
        format!(
            "(SELECT at, {metadata}, kept FROM (SELECT {METADATA} AS m, {} AS at, {image} AS kept))",
            next_clock()
        )
    }

    fn at(&self, key: &str) -> String {
        format!(
            "WHERE entity = {} AND entity_id = {key}",
            self.capture.entity
        )
    }

    /// The condition that an entry says that the row is not there.
    fn is_dead(&self) -> String {
        let died = format!("json_extract({METADATA}, '$.died')");
        if self.revives {
            format!("coalesce(newest <= {died}, 0)")
        } else {
            format!("{died} IS NOT NULL")
        }
    }

    /// The condition that the engine has stamped what happens to the row with this `entity_id`, with what it says of columns
    /// in `w.stamped`. The key's own expression would nest deeper here than an older SQLite can parse.
    fn is_stamped(&self, columns: &str) -> String {
        format!(
            "EXISTS (SELECT 1 FROM _rhtmx_sync_mutation AS w WHERE CASE WHEN json_valid(w.stamped) \
             THEN json_extract(w.stamped, '$.entity') IS {} AND json_extract(w.stamped, '$.id') IS entity_id \
             AND ({columns}) END)",
            self.capture.entity
        )
    }

    fn image(&self, alias: &str) -> String {
        let fields: Vec<&Field> = self.fields.iter().map(|(field, _)| *field).collect();
        projection::image(&fields, alias)
    }
}

/// The text of the members of an entry's `fields`, after what is `changed`.
fn marks_of_fields() -> String {
    let (stamp, number) = (Change::Stamp as u8, Change::Number as u8);
    let (null, forget) = (Change::Null as u8, Change::Forget as u8);
    format!(
        "(SELECT coalesce(group_concat(field, ','), '') FROM (\
         SELECT json_quote(e.key) || ':' || CASE WHEN e.type <> 'object' THEN json_quote(e.value) \
         WHEN c.value = {number} THEN json_remove(e.value, '$.counter.null') \
         WHEN c.value = {null} THEN json_set(json_remove(e.value, '$.counter.sums'), '$.counter.null', json('true')) \
         ELSE e.value END AS field \
         FROM json_each(m, '$.fields') AS e LEFT JOIN json_each(changed) AS c ON c.key = e.key \
         WHERE typeof(e.key) = 'text' AND coalesce(c.value, {number}) NOT IN ({stamp}, {forget}) \
         UNION ALL SELECT json_quote(c.key) || ':' || json_quote(at) FROM json_each(changed) AS c WHERE c.value = {stamp}))"
    )
}

/// The database's clock that is above an entry's `newest`. At the end of the year 9999 there is none, and of a text that is
/// no clock it is unknown what is above it.
fn next_clock() -> String {
    const FORM: &str = "'%Y-%m-%dT%H:%M:%fZ'";
    let digit = |place: u8| {
        format!(
            "instr('123456789ABCDEF', substr(upper(substr(newest, instr(newest, 'Z') + 2, 4)), {place}, 1))"
        )
    };
    let [first, second, third, fourth] = [1, 2, 3, 4].map(digit);
    format!(
        "(SELECT CASE WHEN newest NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-*Z-????-*' OR now > newest \
         THEN now || '-0000-' WHEN count < 65535 AND up > newest THEN up \
         ELSE coalesce(strftime({FORM}, substr(newest, 1, 23), '+0.001 seconds') || '-0000-', substr(newest, 1, 30)) END \
         || coalesce((SELECT nullif(node, '') FROM _rhtmx_sync_meta), '0') \
         FROM (SELECT now, count, substr(newest, 1, 23) || 'Z-' || printf('%04X-', count + 1) AS up \
         FROM (SELECT strftime({FORM}, 'now') AS now, \
         (({first} * 16 + {second}) * 16 + {third}) * 16 + {fourth} AS count)))"
    )
}
