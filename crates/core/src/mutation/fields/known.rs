//! What is known of a row when a write comes.

use std::collections::{BTreeMap, BTreeSet};

use merge::{Clock, Metadata, NodeId, Row, RowError, Rules, Site};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use value::schema::Schema;

use super::outcome::{Action, Plan};

/// A row as the database has it, in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The row, with all its columns; none when it is not there.
    pub row: Option<String>,
    /// The metadata of its entry; none where there is no entry.
    pub metadata: Option<String>,
    /// The values that a row had that is gone and that an edit may bring back.
    pub image: Option<String>,
    /// The clocks of the values that lost a conflict, are kept, and nobody has resolved: in JSON, arrays by column. Only
    /// where they are asked for; none where there are none.
    pub lost: Option<String>,
    /// The name under which the database counts, where others count, too.
    pub counts_as: Option<String>,
    /// A clock at or above every clock that the row has had; none where there is no entry.
    pub newest: Option<String>,
    /// The name under which the database stamps.
    pub node: Option<String>,
}

impl Known {
    /// Becomes what is known when a plan has been carried out. Columns that the database fills in by itself are not known
    /// then, of a row that the plan creates.
    pub fn carry_out(&mut self, schema: &Schema, plan: &Plan) {
        match &plan.action {
            Action::Create { values } => self.row = Some(object(Map::new(), schema, values)),
            Action::Update { values, .. } => {
                let row = read(self.row.as_deref());
                self.row = Some(object(row, schema, values));
            }
            Action::Delete => self.row = None,
            Action::Nothing => {}
        }
        if plan.kept().next().is_some() || !plan.resolved.is_empty() {
            let mut lost = self.lost();
            for conflict in plan.kept() {
                let clock = conflict.lost.hlc.to_string();
                lost.entry(conflict.field.clone())
                    .or_default()
                    .insert(clock);
            }
            for (column, clocks) in &plan.resolved {
                let of_column = lost.entry(column.clone()).or_default();
                of_column.retain(|lost| clocks.iter().all(|clock| clock.as_str() != lost));
            }
            self.lost = serde_json::to_string(&lost).ok();
        }
        if let Some(entry) = &plan.entry {
            self.metadata = Some(entry.metadata.clone());
            self.image.clone_from(&entry.image);
            self.newest = Some(entry.newest.to_string());
        }
    }

    /// The clock that is kept beside the row when its metadata has this newest one: above the one before if what the row
    /// shows has changed, so that who knows no more of the row than this clock learns of the change.
    pub(super) fn newest_with(&self, told: Clock, has_changed: bool) -> Clock {
        let before = self.newest_clock();
        let Some(before) = before.filter(|before| *before >= told) else {
            return told;
        };
        if !has_changed {
            return before;
        }
        let own = self.node.as_deref().and_then(|node| NodeId::new(node).ok());
        let node = own.unwrap_or_else(|| before.node());
        Clock::after(Some(&before), 0, &node).unwrap_or(before)
    }

    /// The clock that is kept beside the row.
    pub(super) fn newest_clock(&self) -> Option<Clock> {
        Clock::read_foreign(self.newest.as_deref()?).ok()
    }

    /// The lost values that are open, by column.
    pub(super) fn lost(&self) -> BTreeMap<String, BTreeSet<String>> {
        read(self.lost.as_deref())
    }

    /// Where a write is applied.
    pub(super) fn site(&self) -> Site {
        let counts_as = self.counts_as.as_deref();
        Site {
            counts_as: counts_as.and_then(|node| NodeId::new(node).ok()),
            horizon: None,
        }
    }

    /// The row that merges: none where there never was one. What cannot be read of it, because somebody changed it by hand,
    /// counts as not there.
    pub(super) fn row(&self, schema: &Schema, rules: &Rules) -> Option<Row> {
        let mut metadata: Metadata = read(self.metadata.as_deref());
        metadata.retain(|field| {
            schema
                .position(field)
                .is_some_and(|at| is_field(schema, at))
        });
        let is_there = self.row.is_some();
        if !is_there && self.metadata.is_none() {
            return None;
        }
        let values = if is_there { &self.row } else { &self.image };
        let mut values: Map<String, Value> = read(values.as_deref());
        let fields = schema.columns.iter().enumerate();
        let fields = fields.filter(|(index, _)| is_field(schema, *index));
        let values: Map<String, Value> = fields
            .filter_map(|(_, column)| {
                let value = values.remove(&column.name)?;
                Some((column.name.clone(), value))
            })
            .collect();
        metadata.retain(|field| values.contains_key(field));
        let row = readable(metadata, values, rules);
        Some(as_in_table(row, is_there, rules))
    }
}

/// Whether a column is a field: not of the key, and not computed.
pub(super) fn is_field(schema: &Schema, index: usize) -> bool {
    !schema.is_key(index) && !schema.columns[index].generated
}

fn object(
    mut row: Map<String, Value>,
    schema: &Schema,
    values: &[(usize, Box<RawValue>)],
) -> String {
    for (index, raw) in values {
        let value = serde_json::from_str(raw.get()).unwrap_or_default();
        row.insert(schema.columns[*index].name.clone(), value);
    }
    Value::Object(row).to_string()
}

fn read<T: serde::de::DeserializeOwned + Default>(text: Option<&str>) -> T {
    let read = text.and_then(|text| serde_json::from_str(text).ok());
    read.unwrap_or_default()
}

/// The row, with null in place of what its columns' rules cannot read.
fn readable(mut metadata: Metadata, mut values: Map<String, Value>, rules: &Rules) -> Row {
    loop {
        let column = match Row::new(&metadata, &values, rules) {
            Ok(row) => return row,
            Err(
                RowError::Counter { column, .. }
                | RowError::Set { column, .. }
                | RowError::Metadata { column },
            ) => column,
            Err(RowError::TooManyFields) => return Row::default(),
        };
        metadata.retain(|field| field != column);
        // Null is read in every column; a value that is null already has no metadata now.
        if values.insert(column.clone(), Value::Null) == Some(Value::Null) {
            values.remove(&column);
        }
    }
}

/// The row, alive if and only if the table has it: what somebody did while no trigger ran was done after all that is known.
fn as_in_table(row: Row, is_there: bool, rules: &Rules) -> Row {
    if row.is_alive(rules) == is_there {
        return row;
    }
    let at = |row: &Row| match row.newest() {
        Some(newest) => {
            Clock::after(Some(newest), 0, &newest.node()).unwrap_or_else(|_| newest.clone())
        }
        None => Clock::ground(),
    };
    let clock = at(&row);
    if is_there {
        row.born_again(clock)
    } else {
        row.dead_since(clock, rules)
    }
}
