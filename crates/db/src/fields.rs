//! Entities whose rows merge by their fields.

use std::sync::Arc;

use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use merge::{Clock, ColumnMerge, Comparison, Conflict, Rules};
#[cfg(feature = "postgres")]
use protocol::Op;
#[cfg(feature = "postgres")]
use sync_core::mutation::fields::Entry;
use sync_core::mutation::fields::{Action, Known, Plan};
use value::schema::{Column, ColumnKind, Schema};

/// Why a table's rows cannot merge as they are configured to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// There is a rule for a column that the table does not have.
    #[error("it has no column {column:?}")]
    NoColumn {
        /// The rule's column.
        column: String,
    },
    /// There is a rule for a column that no client writes.
    #[error("the column {column:?} is part of the key, or the database computes it")]
    NotAField {
        /// The column.
        column: String,
    },
    /// The column's values are none of those that merge so.
    #[error("the column {column:?} cannot merge as a {merge}; its type is {type_name}")]
    Type {
        /// The column.
        column: String,
        /// How its values are to merge.
        merge: &'static str,
        /// Its type.
        type_name: String,
    },
    /// The table is a partition: a statement on the table above it says nothing of which partition's rows it changed.
    #[error("it is a partition; make the partitioned table an entity")]
    Partition,
}

/// What is known of a row, as a query returns it.
#[derive(QueryableByName)]
pub(crate) struct KnownRow {
    #[diesel(sql_type = Nullable<Text>)]
    found: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    metadata: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    image: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    lost: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    counts_as: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    newest: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    node: Option<String>,
}

impl From<KnownRow> for Known {
    fn from(row: KnownRow) -> Self {
        Self {
            row: row.found,
            metadata: row.metadata,
            image: row.image,
            lost: row.lost,
            counts_as: row.counts_as,
            newest: row.newest,
            node: row.node,
        }
    }
}

/// What carrying out a write of fields does beside the table.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    /// What the client wrote. What is carried out may be something else: an upsert finds its row or does not.
    pub(crate) written: Op,
    /// The entry's metadata when the write was planned.
    pub(crate) expected: Option<String>,
    /// What the entry is to be, where it is to change.
    pub(crate) entry: Option<Entry>,
    /// What the trigger need not stamp, as JSON.
    pub(crate) stamped: String,
    /// The columns of which the values are what is to be added.
    pub(crate) adds: Vec<usize>,
    /// Whether the write leaves the table as it is.
    pub(crate) loses: Option<Loses>,
    /// The values that lost and are kept, and those that are resolved.
    pub(crate) lost: Lost,
}

/// Values that lost a conflict, of a row of which both are kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost {
    /// Those that lose now.
    pub(crate) kept: Vec<Conflict>,
    /// Those that nobody needs to see any more: the column and the clock.
    pub(crate) resolved: Vec<(String, Clock)>,
    /// Whether the row is there afterwards, and its readers are to hear of these, or of metadata that changes alone.
    pub(crate) is_told: bool,
}

impl Lost {
    pub(crate) fn of(plan: &Plan, was_there: bool) -> Self {
        let kept: Vec<Conflict> = plan.kept().cloned().collect();
        let resolved = plan.resolved.iter();
        let resolved: Vec<(String, Clock)> = resolved
            .flat_map(|(column, clocks)| clocks.iter().map(|clock| (column.clone(), clock.clone())))
            .collect();
        let is_there = match plan.action {
            Action::Create { .. } | Action::Update { .. } => true,
            Action::Delete => false,
            Action::Nothing => was_there,
        };
        // Where the table is written, its trigger says that the row has changed.
        let moves_alone = matches!(plan.action, Action::Nothing) && plan.entry.is_some();
        let is_told = is_there && (moves_alone || !kept.is_empty() || !resolved.is_empty());
        Self {
            kept,
            resolved,
            is_told,
        }
    }
}

/// Against what a write has lost.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loses {
    /// A row that is there. Its writer must still be one who may write it.
    Row,
    /// A deletion.
    Deletion,
}

/// The rules as they are for this table.
pub(crate) fn fitted(
    rules: Option<&Rules>,
    schema: &Schema,
) -> Result<Option<Arc<Rules>>, FieldsError> {
    let Some(rules) = rules else {
        return Ok(None);
    };
    let mut rules = rules.clone();
    for (name, rule) in &mut rules.columns {
        rule.merge = merge_of(rule.merge, name, schema)?;
    }
    Ok(Some(rules.into()))
}

fn merge_of(merge: ColumnMerge, name: &str, schema: &Schema) -> Result<ColumnMerge, FieldsError> {
    let column = || name.to_owned();
    let Some(index) = schema.position(name) else {
        return Err(FieldsError::NoColumn { column: column() });
    };
    let found = &schema.columns[index];
    if schema.is_key(index) || found.generated {
        return Err(FieldsError::NotAField { column: column() });
    }
    let (fits, word) = match merge {
        ColumnMerge::Counter => (is_number(&found.kind), "counter"),
        ColumnMerge::Set => (is_set(&found.kind), "set"),
        ColumnMerge::Text => (matches!(found.kind, ColumnKind::Text { .. }), "text"),
        ColumnMerge::Register | ColumnMerge::Max(_) | ColumnMerge::Min(_) => (true, ""),
    };
    if !fits {
        return Err(FieldsError::Type {
            column: column(),
            merge: word,
            type_name: found.type_name.clone(),
        });
    }
    Ok(match merge {
        ColumnMerge::Max(_) => ColumnMerge::Max(comparison(found)),
        ColumnMerge::Min(_) => ColumnMerge::Min(comparison(found)),
        other => other,
    })
}

fn is_number(kind: &ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Int { .. } | ColumnKind::Float | ColumnKind::Numeric
    )
}

fn is_set(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Array(_) | ColumnKind::Json)
}

fn comparison(column: &Column) -> Comparison {
    match &column.kind {
        kind if is_number(kind) => Comparison::Number,
        ColumnKind::Timestamp | ColumnKind::TimestampTz => Comparison::Timestamp,
        ColumnKind::Date => Comparison::Date,
        _ => Comparison::Json,
    }
}

/// The form of a table whose rows merge so: with other rules it is another table for clients.
pub(crate) fn with_rules(form: String, rules: Option<&Rules>) -> String {
    match rules {
        Some(rules) => format!("{form} {rules:?}"),
        None => form,
    }
}

#[cfg(test)]
mod tests {
    use merge::ColumnRule;
    use value::schema::Collation;

    use super::*;

    fn schema() -> Schema {
        let column = |name: &str, kind, generated| Column {
            name: name.to_owned(),
            kind,
            type_name: "some".to_owned(),
            nullable: true,
            has_default: false,
            generated,
            collation: Collation::Bytes,
            logged: true,
        };
        let text = ColumnKind::Text { chars_max: None };
        Schema {
            entity: "todos".to_owned(),
            columns: vec![
                column("id", ColumnKind::INT8, false),
                column("title", text.clone(), false),
                column("likes", ColumnKind::INT4, false),
                column("tags", ColumnKind::Array(text.clone().into()), false),
                column("due", ColumnKind::Date, false),
                column("made", text, true),
            ],
            key: vec![0],
        }
    }

    fn fit(name: &str, merge: ColumnMerge) -> Result<ColumnMerge, FieldsError> {
        let mut rules = Rules::default();
        let rule = ColumnRule {
            merge,
            strategy: None,
        };
        rules.columns.insert(name.to_owned(), rule);
        let fitted = fitted(Some(&rules), &schema())?;
        Ok(fitted.expect("there are rules").merge(name))
    }

    #[test]
    fn a_column_compares_as_its_type_does() {
        let comparison = |name| fit(name, ColumnMerge::Max(Comparison::Json));
        assert_eq!(
            comparison("likes"),
            Ok(ColumnMerge::Max(Comparison::Number))
        );
        assert_eq!(comparison("due"), Ok(ColumnMerge::Max(Comparison::Date)));
        assert_eq!(comparison("title"), Ok(ColumnMerge::Max(Comparison::Json)));
    }

    #[test]
    fn only_columns_that_can_merge_so_do() {
        for (name, merge) in [
            ("likes", ColumnMerge::Counter),
            ("tags", ColumnMerge::Set),
            ("title", ColumnMerge::Text),
            ("due", ColumnMerge::Register),
        ] {
            assert_eq!(fit(name, merge), Ok(merge), "{name}");
        }
        for (name, merge, words) in [
            ("title", ColumnMerge::Counter, "cannot merge as a counter"),
            ("likes", ColumnMerge::Set, "cannot merge as a set"),
            ("due", ColumnMerge::Text, "cannot merge as a text"),
            ("none", ColumnMerge::Register, "has no column \"none\""),
            ("id", ColumnMerge::Register, "part of the key"),
            ("made", ColumnMerge::Register, "the database computes it"),
        ] {
            let error = fit(name, merge).expect_err(name).to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
    }

    #[test]
    fn other_rules_are_another_form() {
        let rules = Rules::default();
        assert_ne!(with_rules("a".to_owned(), Some(&rules)), "a");
        assert_eq!(with_rules("a".to_owned(), None), "a");
    }
}
