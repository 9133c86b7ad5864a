//! The capture of one table: a generated trigger function and the triggers that call it.
//!
//! The triggers are statement triggers with transition tables, so a statement that touches ten thousand rows
//! calls the function once.
//!
//! The function must never make a writer fail. The table may have changed since it was generated, so before each
//! query that names columns it runs the same query with a condition that is never true, in a block that catches
//! errors: PostgreSQL resolves all names and types of it and reads no row. If that fails the function logs a schema
//! change instead. The block is a subtransaction that writes nothing, so it takes no transaction number, and costs
//! nobody's snapshot anything; one around the writing would. That the values themselves raise no error is the
//! business of [`projection`].

mod fields;

use merge::Rules;
use value::schema::{ColumnKind, Schema};

use self::fields::{Changes, Stamping};
use super::projection::{self, Typed};
use crate::fingerprint::fnv1a;
use crate::quote::{ident, literal, portable_literal};

/// The version of the generated code. Raise it when that changes: every older capture is then replaced. A newer one,
/// of an engine that runs beside this one, is left alone, so each generation must be able to read what the next
/// one writes.
pub(super) const GENERATION: u32 = 7;
/// The first generation whose entries mean the same as this one's. When an older capture is replaced, clients
/// refetch.
pub(super) const COMPATIBLE_SINCE: u32 = 4;

/// The doorbell's advisory lock. Writers hold it shared until they have committed, and ring when they cannot
/// get it.
pub(crate) const DOORBELL_KEY: i64 = 0x7268_746d_785f_0001;
/// The channel on which writers ring.
pub(crate) const CHANNEL: &str = "_rhtmx_sync";

/// A table's properties from which its capture is generated.
pub(super) struct Capture<'a> {
    pub(super) schema: &'a Schema,
    /// Each column's type, for a domain the type beneath it.
    pub(super) base_types: &'a [String],
    /// The schema that contains the log.
    pub(super) log_schema: &'a str,
    /// The table's oid.
    pub(super) oid: u32,
    /// The quoted name of the table and of each of its partitions.
    pub(super) relations: &'a [String],
    /// Columns that transition tables do not contain (virtual generated ones).
    pub(super) virtual_columns: &'a [String],
    /// For each column, whether filters can compare its values.
    pub(super) compared: &'a [bool],
    /// How rows merge by their fields, if they do, and the expression for each column's value in the row `o`.
    pub(super) fields: Option<(&'a Rules, &'a [String])>,
}

/// The name of an entity's trigger function; the hash keeps it short and unique.
pub(super) fn function_name(entity: &str) -> String {
    format!("_rhtmx_sync_capture_{:016x}", fnv1a(entity))
}

/// The type itself, or that of an array's elements.
fn element(kind: &ColumnKind) -> &ColumnKind {
    match kind {
        ColumnKind::Array(element) => element,
        kind => kind,
    }
}

impl Capture<'_> {
    /// The statements that install it, replacing an earlier one.
    pub(super) fn statements(&self) -> Vec<String> {
        let mut statements = vec![self.function(), self.revoke()];
        for relation in self.relations {
            statements.extend(triggers(&self.schema.entity, self.log_schema, relation));
        }
        statements
    }

    fn qualified_function(&self) -> String {
        qualified_function(&self.schema.entity, self.log_schema)
    }

    /// Takes the function from everybody but its owner. Default privileges may have granted it to roles by
    /// name, as Supabase's do.
    fn revoke(&self) -> String {
        let function = literal(&format!("{}()", self.qualified_function()));
        let body = format!(
            "DECLARE grantee text; BEGIN \
             FOR grantee IN SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END \
             FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g \
             WHERE p.oid = {function}::regprocedure AND g.grantee <> p.proowner \
             LOOP EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', {function}, grantee); END LOOP; END"
        );
        format!("DO {}", literal(&body))
    }

    fn function(&self) -> String {
        let log = format!("{}.\"_rhtmx_sync_log\"", ident(self.log_schema));
        let entity = portable_literal(&self.schema.entity);
        let carried: Vec<Typed<'_>> = (0..self.schema.columns.len())
            .map(|index| self.typed(index))
            .filter(|typed| !self.virtual_columns.contains(&typed.column.name))
            .collect();
        let typed_key: Vec<Typed<'_>> = self
            .schema
            .key
            .iter()
            .map(|&index| self.typed(index))
            .collect();
        let key_new = projection::key_text(&typed_key, "n");
        let key_old = projection::key_text(&typed_key, "o");
        let whole_old = projection::object(&carried, "o", None);
        let changed_old = projection::object(&carried, "o", Some("n"));
        let first = ident(&typed_key[0].column.name);
        let same_key = projection::same_key(&typed_key, "o", "n");
        let stamping = self.stamping();
        let parts = Parts {
            key_new,
            key_old,
            whole_old,
            changed_old,
            first,
            same_key,
        };
        let (created, updated, deleted) = match &stamping {
            Some(stamping) => parts.stamped(stamping),
            None => parts.logged(&log, &entity),
        };
        let (declarations, read_stamped, forget) = match &stamping {
            Some(stamping) => (
                fields::DECLARATIONS,
                stamping.read_stamped(),
                format!(
                    "IF TG_RELID = {} THEN {} END IF;\n        ",
                    self.oid,
                    stamping.forget()
                ),
            ),
            None => ("", String::new(), String::new()),
        };
        let body = format!(
            r#"
#variable_conflict use_variable
DECLARE
    _rhtmx_client text := nullif(current_setting('rhtmx_sync.client_id', true), '');
    _rhtmx_mutation bigint;
    _rhtmx_fits boolean := true;{declarations}
BEGIN
    -- Every role may set these, to anything: only what a role with the engine's rights says is believed.
    IF _rhtmx_client IS NOT NULL THEN
        IF pg_has_role(session_user, current_user, 'MEMBER')
            AND current_setting('rhtmx_sync.mutation', true) ~ '^[0-9]{{1,18}}$'
        THEN
            _rhtmx_mutation := current_setting('rhtmx_sync.mutation', true);
        ELSE
            _rhtmx_client := NULL;
        END IF;
    END IF;{read_stamped}
    IF TG_OP = 'INSERT' THEN
        {created}
    ELSIF TG_OP = 'UPDATE' THEN
        {updated}
    ELSIF TG_OP = 'DELETE' THEN
        {deleted}
    ELSE
        -- A truncated partition takes only some of the entity's rows with it.
        {forget}INSERT INTO {log} (entity, action)
        VALUES ({entity}, CASE WHEN TG_RELID = {oid} THEN 'truncate' ELSE 'schema_change' END);
    END IF;
    IF NOT _rhtmx_fits THEN
        -- The table is not what this function was made for. The writer's commit goes on; the engine
        -- generates the function again, and clients refetch the entity.
        INSERT INTO {log} (entity, action) VALUES ({entity}, 'schema_change');
    END IF;
    IF FOUND AND NOT pg_try_advisory_xact_lock_shared({doorbell}) THEN
        PERFORM pg_notify('{CHANNEL}', '');
    END IF;
    RETURN NULL;
END
"#,
            oid = self.oid,
            doorbell = DOORBELL_KEY,
        );
        // Names may contain anything, even the quote.
        let mut quote = "$rhtmx_sync_capture$".to_owned();
        while body.contains(&quote) {
            quote.insert(1, '_');
        }
        format!(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER\n\
             SET search_path = pg_catalog, pg_temp {settings}AS {quote}{body}{quote}",
            function = self.qualified_function(),
            settings = self.settings(),
        )
    }

    fn stamping(&self) -> Option<Stamping<'_>> {
        let (rules, items) = self.fields?;
        Some(Stamping::new(self.schema, rules, self.log_schema, items))
    }

    fn typed(&self, index: usize) -> Typed<'_> {
        Typed {
            column: &self.schema.columns[index],
            base_type: &self.base_types[index],
            compared: self.compared[index],
        }
    }

    /// The settings on which the logged texts depend, and no others: each costs every writer a little.
    fn settings(&self) -> String {
        let columns = self.schema.columns.iter().enumerate();
        let stamping = self.stamping();
        let keeps_all = stamping.as_ref().is_some_and(Stamping::keeps_images);
        // Bytes are encoded without regard to settings, except in arrays.
        let logged = columns.filter(|(index, column)| {
            (keeps_all || self.compared[*index] || self.schema.is_key(*index))
                && column.kind != ColumnKind::Bytes
        });
        let kinds = logged.map(|(_, column)| element(&column.kind));
        let mut settings = String::new();
        for (setting, has_it) in [
            ("SET \"TimeZone\" = 'UTC' ", ColumnKind::TimestampTz),
            ("SET extra_float_digits = 1 ", ColumnKind::Float),
            ("SET bytea_output = 'hex' ", ColumnKind::Bytes),
            (
                "SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres' ",
                ColumnKind::Other,
            ),
        ] {
            if kinds
                .clone()
                .any(|kind| *kind == has_it || *kind == ColumnKind::Other)
            {
                settings.push_str(setting);
            }
        }
        if stamping.is_some() {
            settings.push_str(fields::SETTINGS);
        }
        settings
    }
}

/// The expressions of which the queries of a statement's rows consist.
struct Parts {
    key_new: String,
    key_old: String,
    whole_old: String,
    changed_old: String,
    /// The first column of the key.
    first: String,
    same_key: String,
}

impl Parts {
    /// What logs an insert, an update and a delete.
    fn logged(&self, log: &str, entity: &str) -> (String, String, String) {
        let Self {
            key_new,
            key_old,
            whole_old,
            changed_old,
            first,
            same_key,
        } = self;
        let created = checked(
            &format!("INSERT INTO {log} (entity, entity_id, action, client_id, mutation)"),
            &format!(
                "SELECT {entity}, {key_new}, 'create', _rhtmx_client, _rhtmx_mutation FROM _rhtmx_new n"
            ),
        );
        let with_old =
            format!("INSERT INTO {log} (entity, entity_id, action, old, client_id, mutation)");
        let updated = checked(
            &with_old,
            &format!(
                "SELECT {entity}, \
                 CASE WHEN n.{first} IS NULL THEN {key_old} ELSE {key_new} END, \
                 CASE WHEN n.{first} IS NULL THEN 'delete' WHEN o.{first} IS NULL THEN 'create' ELSE 'update' END, \
                 CASE WHEN n.{first} IS NULL THEN {whole_old} WHEN o.{first} IS NULL THEN NULL ELSE {changed_old} END, \
                 _rhtmx_client, _rhtmx_mutation FROM _rhtmx_old o FULL JOIN _rhtmx_new n ON {same_key}"
            ),
        );
        let deleted = checked(
            &with_old,
            &format!(
                "SELECT {entity}, {key_old}, 'delete', {whole_old}, _rhtmx_client, _rhtmx_mutation FROM _rhtmx_old o"
            ),
        );
        (created, updated, deleted)
    }

    /// The same, with the rows' metadata.
    fn stamped(&self, stamping: &Stamping<'_>) -> (String, String, String) {
        let Self {
            key_new,
            key_old,
            whole_old,
            changed_old,
            first,
            same_key,
        } = self;
        let created = Changes {
            key: key_new.clone(),
            action: "'create'".to_owned(),
            old: "NULL".to_owned(),
            from: "_rhtmx_new n".to_owned(),
            is_delete: None,
            has_updates: false,
        };
        let is_delete = format!("n.{first} IS NULL");
        let updated = Changes {
            key: format!("CASE WHEN {is_delete} THEN {key_old} ELSE {key_new} END"),
            action: format!(
                "CASE WHEN {is_delete} THEN 'delete' WHEN o.{first} IS NULL THEN 'create' ELSE 'update' END"
            ),
            old: format!(
                "CASE WHEN {is_delete} THEN {whole_old} WHEN o.{first} IS NULL THEN NULL ELSE {changed_old} END"
            ),
            from: format!("_rhtmx_old o FULL JOIN _rhtmx_new n ON {same_key}"),
            is_delete: Some(is_delete),
            has_updates: true,
        };
        let deleted = Changes {
            key: key_old.clone(),
            action: "'delete'".to_owned(),
            old: whole_old.clone(),
            from: "_rhtmx_old o".to_owned(),
            is_delete: Some("true".to_owned()),
            has_updates: false,
        };
        (
            stamping.write(&created),
            stamping.write(&updated),
            stamping.write(&deleted),
        )
    }
}

/// An insert of what `query` returns, if its names and types are still those of the table.
fn checked(insert: &str, query: &str) -> String {
    format!(
        "BEGIN
            PERFORM FROM ({query}) _rhtmx_query WHERE false;
        EXCEPTION WHEN OTHERS THEN
            _rhtmx_fits := false;
        END;
        IF _rhtmx_fits THEN
            {insert} {query};
        END IF;"
    )
}

/// The statement that makes an entity's function do nothing.
pub(super) fn no_capture(entity: &str, log_schema: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        qualified_function(entity, log_schema)
    )
}

/// The quoted name of an entity's function.
pub(super) fn qualified_function(entity: &str, log_schema: &str) -> String {
    format!("{}.{}", ident(log_schema), ident(&function_name(entity)))
}

/// The statements that create the entity's triggers on this table.
pub(super) fn triggers(entity: &str, log_schema: &str, relation: &str) -> Vec<String> {
    let function = qualified_function(entity, log_schema);
    let name = function_name(entity);
    [
        ("insert", "REFERENCING NEW TABLE AS _rhtmx_new"),
        (
            "update",
            "REFERENCING OLD TABLE AS _rhtmx_old NEW TABLE AS _rhtmx_new",
        ),
        ("delete", "REFERENCING OLD TABLE AS _rhtmx_old"),
        ("truncate", ""),
    ]
    .into_iter()
    .map(|(event, tables)| {
        let trigger = ident(&format!("{name}_{event}"));
        let event = event.to_uppercase();
        format!(
            "CREATE OR REPLACE TRIGGER {trigger} AFTER {event} ON {relation} {tables} \
             FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )
    })
    .collect()
}
