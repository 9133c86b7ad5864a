//! Random transactions that touch several tables, in every order.

use filter::Backend;

use super::tables::{KEYS, Kind, RandomTable, value};
use crate::filters::random::Random;

/// Writes statements.
pub(super) struct Statements<'a> {
    pub(super) random: &'a mut Random,
    pub(super) backend: Backend,
    pub(super) tables: &'a [RandomTable],
}

impl Statements<'_> {
    /// One to five statements.
    pub(super) fn transaction(&mut self) -> Vec<String> {
        let count = 1 + self.random.below(5).saturating_sub(1);
        (0..count).map(|_| self.statement()).collect()
    }

    fn statement(&mut self) -> String {
        let table = self.random.below(self.tables.len());
        let name = self.tables[table].name.clone();
        let rows = self.rows(table);
        match self.random.below(100) {
            0..25 => self.insert(table, 3),
            25..32 => {
                let (column, _) = self.column(table);
                format!(
                    "{} ON CONFLICT (id) DO UPDATE SET {column} = excluded.{column}",
                    self.insert(table, 2)
                )
            }
            32..58 => {
                let set = self.set(table);
                format!("UPDATE {name} SET {set} WHERE {rows}")
            }
            58..63 => {
                // Those of one value and those of another change places.
                let ints = self.tables[table].of_kind(Kind::Int);
                let column = (*self.random.pick(&ints[1..])).to_owned();
                let (one, other) = (self.random.below(7), self.random.below(7));
                format!(
                    "UPDATE {name} SET {column} = CASE {column} WHEN {one} THEN {other} WHEN {other} THEN {one} \
                     ELSE {column} END WHERE {column} IN ({one}, {other})"
                )
            }
            63..75 => format!("DELETE FROM {name} WHERE {rows}"),
            75..80 => format!("UPDATE {name} SET id = id + {KEYS} WHERE id < {KEYS} AND {rows}"),
            80..85 => format!("UPDATE {name} SET id = id - {KEYS} WHERE id >= {KEYS} AND {rows}"),
            // There and back.
            85..88 => format!(
                "UPDATE {name} SET id = id + 1000 WHERE {rows}; UPDATE {name} SET id = id - 1000 WHERE id >= 1000"
            ),
            88..91 => {
                let (column, kind) = self.column(table);
                let (there, keys) = (value(self.random, kind), self.random.below(KEYS));
                let back = self.value(table, &column);
                format!(
                    "UPDATE {name} SET {column} = {there} WHERE id = {keys}; UPDATE {name} SET {column} = {back} \
                     WHERE id = {keys}"
                )
            }
            91..95 => {
                let key = self.random.below(KEYS);
                let insert = self.tuple(table, key);
                format!("DELETE FROM {name} WHERE id = {key}; INSERT INTO {name} VALUES {insert}")
            }
            95 if self.backend == Backend::Postgres => format!("TRUNCATE {name} CASCADE"),
            95 => format!("DELETE FROM {name}"),
            _ if self.backend == Backend::Sqlite => {
                self.insert(table, 2).replacen("INSERT", "REPLACE", 1)
            }
            _ => format!("{} ON CONFLICT DO NOTHING", self.insert(table, 8)),
        }
    }

    /// Inserts rows under random keys, some of which may exist.
    pub(super) fn insert(&mut self, table: usize, rows_max: usize) -> String {
        let name = self.tables[table].name.clone();
        let mut keys: Vec<usize> = (0..=self.random.below(rows_max))
            .map(|_| self.random.below(KEYS))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let tuples: Vec<String> = keys.into_iter().map(|key| self.tuple(table, key)).collect();
        format!("INSERT INTO {name} VALUES {}", tuples.join(", "))
    }

    fn tuple(&mut self, table: usize, key: usize) -> String {
        let names: Vec<String> = self.tables[table]
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let mut values = vec![key.to_string()];
        values.extend(names.iter().map(|column| self.value(table, column)));
        format!("({})", values.join(", "))
    }

    fn set(&mut self, table: usize) -> String {
        let count = 1 + self.random.below(2);
        let mut columns: Vec<String> = (0..count).map(|_| self.column(table).0).collect();
        columns.dedup();
        let set: Vec<String> = columns
            .into_iter()
            .map(|column| format!("{column} = {}", self.value(table, &column)))
            .collect();
        set.join(", ")
    }

    /// A condition on the rows to write.
    fn rows(&mut self, table: usize) -> String {
        let key = self.random.below(KEYS);
        let (column, kind) = self.column(table);
        match self.random.below(8) {
            0..3 => format!("id = {key}"),
            3 | 4 => format!("id BETWEEN {key} AND {}", key + 3),
            5 => format!("{column} IS NULL"),
            6 => {
                let other = self.random.below(self.tables.len());
                let found = self.tables[other].of_kind(Kind::Int);
                let found = *self.random.pick(&found);
                format!("id IN (SELECT {found} FROM {})", self.tables[other].name)
            }
            _ => format!("{column} = {}", value(self.random, kind)),
        }
    }

    /// A value of a column that is not the key.
    fn value(&mut self, table: usize, column: &str) -> String {
        let columns = &self.tables[table].columns;
        let column = columns
            .iter()
            .find(|it| it.name == column)
            .expect("a column");
        if self.random.once_in(6) {
            return "NULL".to_owned();
        }
        match column.refers_to {
            Some(other) => format!(
                "(SELECT id FROM {} ORDER BY id LIMIT 1 OFFSET {})",
                self.tables[other].name,
                self.random.below(6)
            ),
            None => value(self.random, column.kind),
        }
    }

    fn column(&mut self, table: usize) -> (String, Kind) {
        let column = self.random.pick(&self.tables[table].columns);
        (column.name.clone(), column.kind)
    }
}
