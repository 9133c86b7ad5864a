//! Tables whose columns change while they are in use.

use rhtmx_sync_tests::Dice;

use crate::database::Database;

/// The first columns of `items`, which filters and projections name.
const BASE: [&str; 6] = ["body", "done", "id", "list", "n", "title"];

#[derive(Debug, Default)]
pub(crate) struct Alterations {
    /// Columns that were added, by number.
    added: Vec<u32>,
    made: u32,
}

impl Alterations {
    /// Adds, renames or drops a column; returns a description.
    pub(crate) async fn make(&mut self, db: &Database, dice: &mut Dice) -> String {
        let number = self.made + 1;
        let mut added = self.added.clone();
        let change = match (added.first().copied(), dice.pick(0..3)) {
            (Some(old), 0) => {
                added.remove(0);
                format!("DROP COLUMN x{old}")
            }
            (Some(old), 1) => {
                added[0] = number;
                format!("RENAME COLUMN x{old} TO x{number}")
            }
            _ => {
                added.push(number);
                format!("ADD COLUMN x{number} int DEFAULT {number}")
            }
        };
        // The history records every row as it is from now on.
        let sql = format!(
            "SET lock_timeout = '3s'; BEGIN; ALTER TABLE items {change}; \
             INSERT INTO history (entity, key, row) SELECT 'items', t.id::text, to_jsonb(t) FROM items t; COMMIT"
        );
        match db.connect().await.batch_execute(&sql).await {
            Ok(()) => {
                (self.made, self.added) = (number, added);
                change
            }
            Err(error) => format!("{change}: not now ({error})"),
        }
    }

    /// The columns of `items`, in order.
    pub(crate) fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = self
            .added
            .iter()
            .map(|number| format!("x{number}"))
            .collect();
        columns.extend(BASE.map(str::to_owned));
        columns.sort();
        columns
    }
}
