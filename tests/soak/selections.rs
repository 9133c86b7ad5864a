//! What subscribers select of the items: random filters and projections, and the database's own
//! evaluation of them.

use std::collections::BTreeMap;

use rhtmx_sync_tests::Dice;
use serde_json::{Value, json};
use testkit::TestDatabase;

/// A filter over the items, and some of their columns.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    filter: String,
    params: Vec<Value>,
    /// The filter with values in place of parameters.
    plain: String,
    columns: Option<Vec<&'static str>>,
}

impl Selection {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let mut selection = Self {
            filter: String::new(),
            params: Vec::new(),
            plain: String::new(),
            columns: None,
        };
        match dice.pick(0..10) {
            0 => selection.both("TRUE"),
            1..6 => selection.condition(dice),
            6 | 7 => selection.joined(dice, " AND "),
            8 => selection.joined(dice, " OR "),
            _ => {
                selection.both("NOT (");
                selection.joined(dice, " OR ");
                selection.both(")");
            }
        }
        selection.columns = dice.chance(40).then(|| {
            let columns = ["owner", "n", "note"].into_iter();
            columns.filter(|_| dice.chance(50)).collect()
        });
        selection
    }

    fn joined(&mut self, dice: &mut Dice, word: &str) {
        self.condition(dice);
        self.both(word);
        self.condition(dice);
    }

    fn condition(&mut self, dice: &mut Dice) {
        match dice.pick(0..8) {
            0 | 1 => {
                self.both("owner = ");
                self.number(dice, 9);
            }
            2 => {
                self.both("owner IN (");
                self.number(dice, 9);
                self.both(", ");
                self.number(dice, 9);
                self.both(")");
            }
            3 => {
                self.both(["n < ", "n >= ", "n <> "][dice.pick(0..3) as usize]);
                self.number(dice, 1000);
            }
            4 => {
                self.both("id BETWEEN ");
                self.number(dice, 200);
                self.both(" AND ");
                self.number(dice, 400);
            }
            5 => self.both(["note IS NULL", "note IS NOT NULL"][dice.pick(0..2) as usize]),
            _ => {
                let pattern = format!(
                    "{}%{}",
                    ["", "of ", "_f"][dice.pick(0..3) as usize],
                    dice.pick(0..7)
                );
                self.both(["note LIKE ", "note NOT LIKE "][dice.pick(0..2) as usize]);
                self.value(dice, json!(pattern), format!("'{pattern}'"));
            }
        }
    }

    fn number(&mut self, dice: &mut Dice, below: u64) {
        let number = dice.pick(0..below);
        self.value(dice, json!(number), number.to_string());
    }

    fn value(&mut self, dice: &mut Dice, param: Value, plain: String) {
        self.plain.push_str(&plain);
        if dice.chance(50) {
            self.params.push(param);
            self.filter.push_str(&format!("${}", self.params.len()));
        } else {
            self.filter.push_str(&plain);
        }
    }

    fn both(&mut self, words: &str) {
        self.filter.push_str(words);
        self.plain.push_str(words);
    }

    /// The fields of its `subscribe`.
    pub(crate) fn request(&self) -> Value {
        let mut request = json!({ "entity": "items", "where": self.filter, "params": self.params });
        if let Some(columns) = &self.columns {
            request["columns"] = json!(columns);
        }
        request
    }

    /// The selected items, as the database itself evaluates the filter.
    pub(crate) async fn of(
        &self,
        db: &TestDatabase,
        items: &BTreeMap<String, Value>,
    ) -> BTreeMap<String, Value> {
        let sql = format!("SELECT CAST(id AS text) FROM items WHERE {}", self.plain);
        let ids = db.query_text(&sql).await.into_iter().flatten();
        ids.map(|id| (id.clone(), self.projected(&items[&id])))
            .collect()
    }

    fn projected(&self, item: &Value) -> Value {
        let Some(columns) = &self.columns else {
            return item.clone();
        };
        let item = item.as_object().expect("a row").clone();
        let kept = item
            .into_iter()
            .filter(|(name, _)| name == "id" || columns.contains(&name.as_str()));
        Value::Object(kept.collect())
    }
}
