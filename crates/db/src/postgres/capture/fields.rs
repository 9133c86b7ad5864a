//! What the capture of an entity whose rows merge by their fields does beside the log: it stamps what programs write that
//! stamp nothing themselves, so that their changes merge as those of devices do.
//!
//! One command writes the log's entries and the rows' metadata, so rows are compared once. A statement that writes an entry
//! of the metadata here has written its row before, and its transaction holds that row until the commit: a deleted row and a
//! created one as well as a changed one, since nobody else can create the key meanwhile. So two writers never wait for each
//! other's entries, in whatever order they come, unless the key is deferrable; then the order of the keys, in which a
//! statement's entries are written, makes it less likely.
//!
//! Nothing here may raise an error. Metadata that somebody has edited by hand may be any JSON, and `newest` any text. Two
//! rows of one statement may have one key where that is deferrable, but one command writes no entry twice: one of the rows
//! is stamped.

use std::fmt::Write as _;

use merge::{Clock, ColumnMerge, Deletes, Rules};
use value::schema::{ColumnKind, Schema};

use super::super::projection;
use crate::quote::{ident, portable_literal};

/// The variables that the function needs for this.
pub(super) const DECLARATIONS: &str = "
    _rhtmx_stamped_id text;
    _rhtmx_stamped_columns text[];
    _rhtmx_images boolean := true;
    _rhtmx_counts_as text;";

/// Every lookup of an entry is by its key, also where a plan was made for few entries and kept for many. And a plan that was
/// made for many rows is not compiled for each statement that changes one.
pub(super) const SETTINGS: &str = "SET enable_seqscan = off SET jit = off ";

/// The SQL of the entity's entries.
pub(super) struct Stamping<'a> {
    schema: &'a Schema,
    rules: &'a Rules,
    /// The quoted schema of the engine's tables.
    tables: String,
    entity: String,
    /// The expression for a deleted row's values, of the row `o`; only where an edit can bring it back.
    image: Option<String>,
}

/// A query of the rows that a statement changed: `entity_id`, `action` and `old` as the log has them, `image`, and what
/// counters and sets were and are.
pub(super) struct Changes {
    pub(super) key: String,
    pub(super) action: String,
    pub(super) old: String,
    pub(super) from: String,
    /// The condition that the row was deleted; none where none was.
    pub(super) is_delete: Option<String>,
    /// Whether rows may have been changed, as `n`.
    pub(super) has_updates: bool,
}

impl<'a> Stamping<'a> {
    /// `items` are the expressions for the values of the row `o`, in the order of the columns.
    pub(super) fn new(
        schema: &'a Schema,
        rules: &'a Rules,
        log_schema: &str,
        items: &[String],
    ) -> Self {
        let image = (rules.deletes == Deletes::Revive).then(|| {
            let fields = (0..schema.columns.len()).filter(|&index| is_field(schema, index));
            let (columns, items): (Vec<_>, Vec<_>) = fields
                .map(|index| (schema.columns[index].clone(), items[index].clone()))
                .unzip();
            projection::image_of(&columns, &items.join(", "), "o")
        });
        Self {
            schema,
            rules,
            tables: ident(log_schema),
            entity: portable_literal(&schema.entity),
            image,
        }
    }

    /// Whether deleted rows' values are kept, for which the texts of all values are needed.
    pub(super) fn keeps_images(&self) -> bool {
        self.image.is_some()
    }

    /// Reads which row the engine itself has stamped. Only what a role with the engine's rights says is believed.
    pub(super) fn read_stamped(&self) -> String {
        format!(
            "
    IF current_setting('rhtmx_sync.stamped', true) <> '' AND pg_has_role(session_user, current_user, 'MEMBER') THEN
        BEGIN
            SELECT s.said ->> 'id', CASE WHEN jsonb_typeof(s.said -> 'columns') = 'array'
                THEN ARRAY(SELECT jsonb_array_elements_text(s.said -> 'columns')) END
            INTO _rhtmx_stamped_id, _rhtmx_stamped_columns
            FROM (SELECT current_setting('rhtmx_sync.stamped')::jsonb AS said) s WHERE s.said ->> 'entity' = {};
        EXCEPTION WHEN OTHERS THEN
            _rhtmx_stamped_id := NULL;
        END;
    END IF;",
            self.entity
        )
    }

    /// Drops all entries and lost values, as a truncate does with the rows.
    pub(super) fn forget(&self) -> String {
        let (tables, entity) = (&self.tables, &self.entity);
        format!(
            "DELETE FROM {tables}._rhtmx_field_conflict WHERE entity = {entity}; \
             DELETE FROM {tables}._rhtmx_sync_field WHERE entity = {entity};"
        )
    }

    /// The statements that write the log's entries, and the metadata of what changed.
    pub(super) fn write(&self, changes: &Changes) -> String {
        let (query, entries, tables, entity) = (
            self.query(changes),
            self.entries(changes),
            &self.tables,
            &self.entity,
        );
        let log = format!(
            "INSERT INTO {tables}._rhtmx_sync_log (entity, entity_id, action, old, client_id, mutation) \
             SELECT {entity}, c.entity_id, c.action, c.old, _rhtmx_client, _rhtmx_mutation"
        );
        let change = format!("WITH _rhtmx_change AS MATERIALIZED ({query})");
        let written = if changes.is_delete.is_none() {
            // Nothing is known of most rows that are new, but for what the engine has written itself.
            let is_dead = self.is_dead();
            let says_more = self.of_entry(&format!(
                "_rhtmx_stamped_columns IS NOT NULL OR c.entity_id IS DISTINCT FROM _rhtmx_stamped_id OR {is_dead}"
            ));
            format!(
                "IF EXISTS (SELECT FROM ({query}) c WHERE {says_more}) THEN
                {change} {entries};
            END IF;
            {log} FROM ({query}) c;"
            )
        } else {
            format!(
                "{change},
            _rhtmx_entry AS ({entries})
            {log} FROM _rhtmx_change c;"
            )
        };
        format!(
            "{counts_as}{images}BEGIN
            PERFORM FROM ({query}) _rhtmx_query WHERE false;
        EXCEPTION WHEN OTHERS THEN
            _rhtmx_fits := false;
        END;
        IF _rhtmx_fits THEN
            {written}
        END IF;",
            counts_as = self.read_counts_as(changes),
            images = self.try_images(changes),
        )
    }

    /// Reads under which name this database counts; none where it is alone, and a number tells all.
    fn read_counts_as(&self, changes: &Changes) -> String {
        if !changes.has_updates || self.columns(has_marks).is_empty() {
            return String::new();
        }
        format!(
            "SELECT m.node INTO _rhtmx_counts_as FROM {tables}._rhtmx_sync_meta m \
             WHERE m.singleton AND EXISTS (SELECT FROM {tables}._rhtmx_sync_peer);
        ",
            tables = self.tables
        )
    }

    /// The clock of this moment under the database's name; one for all rows of a statement.
    fn now(&self) -> String {
        format!(
            "(SELECT to_char(least(greatest(clock_timestamp(), '1970-01-01 00:00:00+00'), \
             '9999-12-31 23:59:59.999+00') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') || '-0000-' \
             || coalesce((SELECT m.node FROM {}._rhtmx_sync_meta m WHERE m.singleton), '0'))",
            self.tables
        )
    }

    fn query(&self, changes: &Changes) -> String {
        let Changes {
            key,
            action,
            old,
            from,
            ..
        } = changes;
        let image = match (&self.image, &changes.is_delete) {
            (Some(image), Some(is_delete)) => {
                format!("CASE WHEN _rhtmx_images AND {is_delete} THEN {image} END")
            }
            _ => "NULL::jsonb".to_owned(),
        };
        let marked = match changes.has_updates {
            true => self.marked(),
            false => String::new(),
        };
        format!(
            "SELECT ({key}) COLLATE \"C\" AS entity_id, ({action})::text AS action, ({old})::jsonb AS old, \
             {image} AS image{marked} FROM {from}"
        )
    }

    /// What counters and sets were, and are, as columns of the query of an update.
    fn marked(&self) -> String {
        let mut columns = String::new();
        for (index, name) in self.columns(has_marks).iter().enumerate() {
            let (column, merge) = (ident(name), self.rules.merge(name));
            if merge == ColumnMerge::Counter {
                let _ = write!(columns, ", n.{column} IS NULL AS is_null_{index}");
            }
            let Some(cast) = self.cast_of_mark(name) else {
                continue;
            };
            for (row, said) in [("o", "was"), ("n", "is")] {
                let _ = write!(
                    columns,
                    ", CASE WHEN _rhtmx_counts_as <> '' THEN to_jsonb({row}.{column}{cast}) END AS {said}_{index}"
                );
            }
        }
        columns
    }

    /// What a counter or a set is cast to before it is `jsonb`; none for arrays whose elements look different there.
    fn cast_of_mark(&self, name: &str) -> Option<&'static str> {
        let index = self.schema.position(name)?;
        match &self.schema.columns[index].kind {
            // JSON that `jsonb` does not take is found out where it is read.
            ColumnKind::Json => Some("::text"),
            ColumnKind::Array(element) => matches!(
                **element,
                ColumnKind::Bool
                    | ColumnKind::Int { .. }
                    | ColumnKind::Text { .. }
                    | ColumnKind::Uuid
                    | ColumnKind::Enum(_)
            )
            .then_some(""),
            _ => Some(""),
        }
    }

    /// Finds out beforehand whether a row that is deleted holds what no JSON can, where a column's type permits that.
    fn try_images(&self, changes: &Changes) -> String {
        let (Some(image), Some(is_delete)) = (&self.image, &changes.is_delete) else {
            return String::new();
        };
        let may_fail = |index: &usize| {
            let kind = &self.schema.columns[*index].kind;
            is_field(self.schema, *index)
                && matches!(
                    kind,
                    ColumnKind::Json | ColumnKind::Array(_) | ColumnKind::Other
                )
        };
        if !(0..self.schema.columns.len()).any(|index| may_fail(&index)) {
            return String::new();
        }
        format!(
            "BEGIN
            PERFORM count({image}) FROM {} WHERE {is_delete};
        EXCEPTION WHEN OTHERS THEN
            _rhtmx_images := false;
        END;
        ",
            changes.from
        )
    }

    /// The statement that writes the entries of what has changed.
    fn entries(&self, changes: &Changes) -> String {
        let by_action = |update: String, create: String, delete: String| {
            if changes.has_updates {
                format!(
                    "CASE c.action WHEN 'update' THEN {update} WHEN 'create' THEN {create} ELSE {delete} END"
                )
            } else if changes.is_delete.is_some() {
                delete
            } else {
                create
            }
        };
        let selected = by_action(
            self.is_stamped_by_update(),
            self.is_stamped_by_create(),
            self.is_stamped_by_delete(),
        );
        let delta = by_action(self.delta_of_update(), delta_of_create(), delta_of_delete());
        let changed = if changes.has_updates {
            format!(", {} AS changed", self.changed())
        } else {
            String::new()
        };
        let (tables, entity, now) = (&self.tables, &self.entity, self.now());
        format!(
            "INSERT INTO {tables}._rhtmx_sync_field AS f (entity, entity_id, newest, metadata, image) \
             SELECT DISTINCT ON (c.entity_id) {entity}, c.entity_id, c.at, ({delta})::jsonb, c.image \
             FROM (SELECT c.*, {now} AS at{changed} FROM _rhtmx_change c OFFSET 0) c WHERE {selected} \
             ORDER BY c.entity_id, c.action = 'delete' \
             ON CONFLICT (entity, entity_id) DO UPDATE SET \
             newest = CASE WHEN EXCLUDED.newest > f.newest THEN EXCLUDED.newest \
             ELSE {tables}._rhtmx_sync_clock_after(f.newest, EXCLUDED.newest) END, \
             metadata = {}, image = EXCLUDED.image",
            self.joined(changes)
        )
    }

    /// An object with the columns of the row `c` that are to be stamped.
    fn changed(&self) -> String {
        let fields = self.columns(|_| true);
        let all: serde_json::Map<_, _> = fields.into_iter().map(|name| (name, 0.into())).collect();
        let all = portable_literal(&serde_json::Value::from(all).to_string());
        // Of a row whose texts are too large for the log it is not known what has changed.
        format!(
            "CASE WHEN c.entity_id <> _rhtmx_stamped_id THEN coalesce(c.old, {all}::jsonb) \
             WHEN _rhtmx_stamped_id IS NULL THEN coalesce(c.old, {all}::jsonb) \
             WHEN _rhtmx_stamped_columns IS NULL THEN '{{}}' \
             ELSE coalesce(c.old, {all}::jsonb) - _rhtmx_stamped_columns END"
        )
    }

    /// A subquery of the row's entry. Not a join: one that was planned while there were few entries would read all of them
    /// for each row, for as long as its plan is kept.
    fn of_entry(&self, expr: &str) -> String {
        format!(
            "(SELECT {expr} FROM {}._rhtmx_sync_field e WHERE e.entity = {} AND e.entity_id = c.entity_id)",
            self.tables, self.entity
        )
    }

    /// The condition that the row's entry says that it is not there; null where there is none. A function's arguments have
    /// one collation, and with that of the key the index could not be used for the entity: all of it would be read.
    fn is_dead(&self) -> String {
        format!(
            "{}._rhtmx_sync_is_dead({}, c.entity_id COLLATE \"default\", {})",
            self.tables,
            self.entity,
            self.revives()
        )
    }

    fn revives(&self) -> bool {
        self.rules.deletes == Deletes::Revive
    }

    fn is_stamped_by_update(&self) -> String {
        let registers = self.columns(is_register);
        let has_marks = self.columns(has_marks);
        let others = self.columns(|merge| !is_register(merge));
        let mut conditions = Vec::new();
        if !registers.is_empty() {
            conditions.push(format!("c.changed ?| {}", names(&registers)));
        }
        if self.rules.deletes == Deletes::Revive && !others.is_empty() {
            conditions.push(format!("c.changed ?| {}", names(&others)));
        } else if !has_marks.is_empty() {
            let marks = names(&has_marks);
            let entry = self.of_entry(&format!("(e.metadata -> 'fields') ?| {marks}"));
            conditions.push(format!(
                "(c.changed ?| {marks} AND (_rhtmx_counts_as <> '' OR {entry}))"
            ));
        }
        if conditions.is_empty() {
            return "false".to_owned();
        }
        format!("({})", conditions.join(" OR "))
    }

    /// What is not known is as new as if it had been deleted.
    fn is_stamped_by_create(&self) -> String {
        let is_dead = self.is_dead();
        format!(
            "({is_dead} IS NOT NULL AND (_rhtmx_stamped_columns IS NOT NULL \
             OR c.entity_id IS DISTINCT FROM _rhtmx_stamped_id OR {is_dead}))"
        )
    }

    fn is_stamped_by_delete(&self) -> String {
        format!(
            "(_rhtmx_stamped_columns IS NOT NULL OR c.entity_id IS DISTINCT FROM _rhtmx_stamped_id \
             OR {} IS NOT TRUE)",
            self.is_dead()
        )
    }

    fn delta_of_update(&self) -> String {
        let has_marks = self.columns(has_marks);
        let mut items = Vec::new();
        for name in self.columns(|_| true) {
            let label = serde_json::Value::from(name.as_str()).to_string();
            let label = portable_literal(&format!("{label}:"));
            let key = portable_literal(&name);
            let changed = format!("c.changed ? {key}");
            let merge = self.rules.merge(&name);
            if matches!(merge, ColumnMerge::Register | ColumnMerge::Text) {
                items.push(format!(
                    "CASE WHEN {changed} THEN {label} || to_json(c.at)::text END"
                ));
            }
            let Some(index) = has_marks.iter().position(|marked| *marked == name) else {
                continue;
            };
            // Where this database is alone, and where it merges with others.
            let mark = format!("(e.metadata -> 'fields' -> {key})");
            let (alone, function) = match merge {
                ColumnMerge::Counter => (
                    format!(
                        "CASE WHEN jsonb_typeof({mark} -> 'counter') = 'object' THEN jsonb_build_object('counter', \
                         CASE WHEN c.is_null_{index} THEN ({mark} -> 'counter') - 'sums'::text || '{{\"null\":true}}' \
                         ELSE ({mark} -> 'counter') - 'null'::text END)::text END"
                    ),
                    "_rhtmx_sync_counted",
                ),
                _ => (
                    format!("CASE WHEN {mark} IS NOT NULL THEN '{{\"set\":{{}}}}' END"),
                    "_rhtmx_sync_chosen",
                ),
            };
            let alone = format!("{label} || {}", self.of_entry(&alone));
            let item = match self.cast_of_mark(&name) {
                None => alone,
                Some(_) => {
                    let counts_as = match merge {
                        ColumnMerge::Counter => "_rhtmx_counts_as, ",
                        _ => "",
                    };
                    let of_entry = self.of_entry(&mark);
                    format!(
                        "CASE WHEN _rhtmx_counts_as <> '' THEN {label} || {}.{function}({of_entry}, c.was_{index}, \
                         c.is_{index}, {counts_as}c.at)::text ELSE {alone} END",
                        self.tables
                    )
                }
            };
            items.push(format!("CASE WHEN {changed} THEN {item} END"));
        }
        let fields = projection::joined(&items);
        let others = self.columns(|merge| !is_register(merge));
        let registers = self.columns(is_register);
        // An edit that leaves no clock in a field can bring the row back all the same.
        let edited = match self.rules.deletes {
            Deletes::Revive if registers.is_empty() => {
                "'\"edited\":' || to_json(c.at)::text || ',' || ".to_owned()
            }
            Deletes::Revive if !others.is_empty() => format!(
                "CASE WHEN c.changed ?| {} THEN '' ELSE '\"edited\":' || to_json(c.at)::text || ',' END || ",
                names(&registers)
            ),
            _ => String::new(),
        };
        format!("'{{' || {edited}'\"fields\":{{' || {fields} || '}}}}'")
    }

    /// The metadata of an entry with what a statement has done to the row.
    fn joined(&self, changes: &Changes) -> String {
        let revives = self.revives();
        let joined = format!(
            "{}._rhtmx_sync_stamp(f.newest, f.metadata, EXCLUDED.newest, EXCLUDED.metadata, {revives}, \
             EXCLUDED.image IS NOT NULL)",
            self.tables
        );
        // What most statements do is joined here.
        let (is_usual, usual) = if changes.has_updates {
            (
                "jsonb_typeof(f.metadata -> 'fields') = 'object' AND EXCLUDED.metadata ? 'fields' \
                 AND NOT EXCLUDED.metadata ? 'edited' AND NOT f.metadata ?| '{died,edited}'",
                "jsonb_set(f.metadata, '{fields}', (f.metadata -> 'fields') || (EXCLUDED.metadata -> 'fields'))",
            )
        } else if changes.is_delete.is_some() && !revives {
            (
                "(f.metadata -> 'born') IS NOT NULL",
                "EXCLUDED.metadata || jsonb_build_object('born', f.metadata -> 'born')",
            )
        } else {
            return joined;
        };
        format!(
            "CASE WHEN EXCLUDED.newest > f.newest AND {is_usual} THEN {usual} ELSE {joined} END"
        )
    }

    /// The names of the fields that merge so.
    fn columns(&self, keep: impl Fn(ColumnMerge) -> bool) -> Vec<String> {
        let fields = (0..self.schema.columns.len()).filter(|&index| is_field(self.schema, index));
        fields
            .map(|index| self.schema.columns[index].name.clone())
            .filter(|name| keep(self.rules.merge(name)))
            .collect()
    }
}

/// Whether clients may write the column.
fn is_field(schema: &Schema, index: usize) -> bool {
    !schema.is_key(index) && !schema.columns[index].generated
}

fn is_register(merge: ColumnMerge) -> bool {
    matches!(merge, ColumnMerge::Register | ColumnMerge::Text)
}

/// Whether something is kept of an edit of such a field that is no clock.
fn has_marks(merge: ColumnMerge) -> bool {
    matches!(merge, ColumnMerge::Counter | ColumnMerge::Set)
}

fn delta_of_create() -> String {
    "'{\"born\":' || to_json(c.at)::text || '}'".to_owned()
}

fn delta_of_delete() -> String {
    format!(
        "'{{\"born\":\"{}\",\"died\":' || to_json(c.at)::text || '}}'",
        Clock::ground()
    )
}

/// A `text[]` of these. A constructor's elements are not limited in number.
fn names(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| portable_literal(name)).collect();
    format!("ARRAY[{}]::text[]", quoted.join(", "))
}
