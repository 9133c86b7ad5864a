//! Random writes: each as a statement and as a mutation.

use std::collections::BTreeMap;

use rhtmx_sync_tests::Dice;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use testkit::TestDatabase;
use value::schema::{Column, ColumnKind};

use super::one_of;
use crate::examined::Examined;

/// A write of one row.
pub(super) struct RandomWrite {
    pub(super) entity: String,
    /// The canonical key of the row that it must find; none for a row that is new.
    pub(super) key: Option<String>,
    pub(super) mutation: Value,
    pub(super) sql: String,
    pub(super) search_path: String,
}

impl RandomWrite {
    /// None where the table is empty.
    pub(super) async fn new(
        db: &TestDatabase,
        entity: &str,
        examined: &Examined,
        dice: &mut Dice,
    ) -> Option<Self> {
        let rows: Vec<(String, Box<RawValue>)> = examined.rows(db).await.into_iter().collect();
        if rows.is_empty() {
            return None;
        }
        let mut row = || {
            let (key, row) = one_of(&rows, dice);
            let row: Map<String, Value> = serde_json::from_str(row.get()).expect("JSON");
            (key.clone(), row)
        };
        let ((canonical, found), (_, other)) = (row(), row());
        let schema = &examined.entity.schema;
        let relation = examined.sql().1.to_owned();
        let writing = Writing {
            entity,
            relation: examined.entity.relation.as_deref().unwrap_or(&relation),
            keys: schema
                .key_columns()
                .map(|column| column.name.as_str())
                .collect(),
        };
        let others: Vec<&Column> = schema
            .columns
            .iter()
            .filter(|column| !writing.keys.contains(&column.name.as_str()) && !column.generated)
            .collect();
        let chosen = dice.pick(0..10);
        if chosen < 5 && !others.is_empty() {
            let column = one_of(&others, dice);
            let value = match column.nullable && dice.chance(15) {
                true => Value::Null,
                false => other[&column.name].clone(),
            };
            return Some(writing.update(canonical, &found, &column.name, &value));
        }
        if chosen < 7 {
            return Some(writing.delete(canonical, &found));
        }
        let mut new = other;
        for column in schema.key_columns() {
            let value = match (&column.kind, schema.key.len()) {
                (ColumnKind::Int { .. }, 1) => json!(1000 + dice.pick(0..1000)),
                (ColumnKind::Uuid, 1) => json!(uuid::Uuid::from_u64_pair(dice.number(), 7)),
                _ => found[&column.name].clone(),
            };
            new.insert(column.name.clone(), value);
        }
        let generated = schema.columns.iter().filter(|column| column.generated);
        for column in generated {
            new.remove(&column.name);
        }
        Some(writing.create(&new))
    }
}

struct Writing<'a> {
    entity: &'a str,
    relation: &'a str,
    keys: Vec<&'a str>,
}

impl Writing<'_> {
    /// A row of the table made from JSON.
    fn record(&self, row: &Map<String, Value>) -> String {
        let row = Value::from(row.clone()).to_string().replace('\'', "''");
        format!("jsonb_populate_record(null::{}, '{row}')", self.relation)
    }

    fn key(&self, row: &Map<String, Value>) -> Value {
        let mut parts: Vec<Value> = self.keys.iter().map(|key| row[*key].clone()).collect();
        match parts.len() {
            1 => parts.remove(0),
            _ => parts.into(),
        }
    }

    fn is_row(&self) -> String {
        let parts = self
            .keys
            .iter()
            .map(|key| format!("t.\"{key}\" = r.\"{key}\""));
        parts.collect::<Vec<String>>().join(" AND ")
    }

    fn of(&self, key: Option<String>, mutation: Value, sql: String) -> RandomWrite {
        RandomWrite {
            entity: self.entity.to_owned(),
            key,
            mutation,
            sql,
            search_path: "public".to_owned(),
        }
    }

    fn update(
        &self,
        key: String,
        row: &Map<String, Value>,
        column: &str,
        value: &Value,
    ) -> RandomWrite {
        let mut changed: Map<String, Value> = row.clone();
        changed.insert(column.to_owned(), value.clone());
        let values = BTreeMap::from([(column, value)]);
        let mutation = json!({ "entity": self.entity, "op": "update", "key": self.key(row), "values": values });
        let sql = format!(
            "UPDATE {} t SET \"{column}\" = r.\"{column}\" FROM {} r WHERE {}",
            self.relation,
            self.record(&changed),
            self.is_row()
        );
        self.of(Some(key), mutation, sql)
    }

    fn delete(&self, key: String, row: &Map<String, Value>) -> RandomWrite {
        let mutation = json!({ "entity": self.entity, "op": "delete", "key": self.key(row) });
        let sql = format!(
            "DELETE FROM {} t USING {} r WHERE {}",
            self.relation,
            self.record(row),
            self.is_row()
        );
        self.of(Some(key), mutation, sql)
    }

    fn create(&self, row: &Map<String, Value>) -> RandomWrite {
        let mutation = json!({ "entity": self.entity, "op": "create", "values": row });
        let names: Vec<String> = row.keys().map(|name| format!("\"{name}\"")).collect();
        let values: Vec<String> = names.iter().map(|name| format!("r.{name}")).collect();
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} r",
            self.relation,
            names.join(", "),
            values.join(", "),
            self.record(row)
        );
        self.of(None, mutation, sql)
    }
}
