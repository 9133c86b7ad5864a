//! What the database answers to each selection at each position: over recorded versions of all rows on PostgreSQL, where
//! writers overlap, and by a query after each transaction on SQLite, where they cannot.

use std::collections::{BTreeMap, HashMap};

use filter::Backend;
use serde_json::Value;
use sync_core::cursor::{LogPosition, Position};
use testkit::TestDatabase;

use super::Selection;
use super::conditions::{Template, User};
use super::tables::RandomTable;
use crate::changes::truth::bounds;

/// The rows of a selection, by key.
pub(super) type Copy = BTreeMap<String, Value>;

/// The copies of all selections, at one position.
type Copies = Vec<Copy>;

/// The tables, with what may be read of them, and what is asked of them.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) backend: Backend,
    pub(super) tables: Vec<RandomTable>,
    /// The policy of each table.
    pub(super) policies: Vec<Template>,
    pub(super) users: Vec<User>,
    pub(super) selections: Vec<Selection>,
}

#[derive(Debug)]
pub(super) struct Truth {
    asked: Asked,
    /// On PostgreSQL by position, on SQLite in their order.
    known: HashMap<String, Copies>,
    states: Vec<(i64, Copies)>,
}

/// Starts the record, before the tables have rows.
pub(super) async fn prepare(db: &TestDatabase, backend: Backend, tables: &[RandomTable]) {
    if backend == Backend::Sqlite {
        crate::changes::truth::prepare(db, backend).await;
        return;
    }
    for RandomTable { name, .. } in tables {
        db.execute(&format!("
CREATE TABLE history_of_{name} (seq bigserial PRIMARY KEY, xid xid8 DEFAULT pg_current_xact_id(), k int, gone bool, version {name});
CREATE FUNCTION remember_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'TRUNCATE' THEN INSERT INTO history_of_{name} (gone) VALUES (true); RETURN NULL; END IF;
    IF TG_OP <> 'INSERT' THEN INSERT INTO history_of_{name} (k, gone) VALUES (OLD.id, true); END IF;
    IF TG_OP <> 'DELETE' THEN INSERT INTO history_of_{name} (k, gone, version) VALUES (NEW.id, false, NEW); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION remember_{name}();
CREATE TRIGGER remember_all AFTER TRUNCATE ON {name} FOR EACH STATEMENT EXECUTE FUNCTION remember_{name}();")).await;
    }
}

impl Asked {
    /// A query whose one value is an array of the rows of each selection. `at` is a snapshot, or the present.
    fn query(&self, at: Option<&str>) -> String {
        let mut views = Vec::new();
        for table in self.tables.iter().filter(|_| at.is_some()) {
            let (name, at) = (&table.name, at.unwrap_or_default());
            let history = format!("history_of_{name} WHERE pg_visible_in_snapshot(xid, '{at}')");
            views.push(format!(
                "{name} AS MATERIALIZED (SELECT (version).* FROM (SELECT DISTINCT ON (k) gone, version FROM {history} \
                 AND seq > coalesce((SELECT max(seq) FROM {history} AND k IS NULL), 0) ORDER BY k, seq DESC) newest \
                 WHERE NOT gone)"
            ));
        }
        for (number, user) in self.users.iter().enumerate() {
            for (table, policy) in self.tables.iter().zip(&self.policies) {
                let name = &table.name;
                let policy = policy.plain(user, "");
                views.push(format!(
                    "of{number}_{name} AS (SELECT * FROM {name} WHERE {policy})"
                ));
            }
        }
        let answers = self.selections.iter().map(|selection| {
            let (table, user) = (&self.tables[selection.table], selection.user);
            let condition = selection
                .condition
                .plain(&self.users[user], &format!("of{user}_"));
            let (members, name) = (table.json_members(), &table.name);
            let from = format!("of{user}_{name} AS {name} WHERE {condition}");
            let from = match &selection.window {
                Some(window) => format!("(SELECT * FROM {from}{}) {name}", window.sql()),
                None => from,
            };
            match self.backend {
                Backend::Postgres => format!(
                    "(SELECT coalesce(json_agg(json_build_object({members})), '[]') FROM {from})"
                ),
                Backend::Sqlite => {
                    format!("json((SELECT json_group_array(json_object({members})) FROM {from}))")
                }
            }
        });
        let answers: Vec<String> = answers.collect();
        let function = match self.backend {
            Backend::Postgres => "json_build_array",
            Backend::Sqlite => "json_array",
        };
        format!(
            "WITH {} SELECT {function}({}) AS answers",
            views.join(", "),
            answers.join(", ")
        )
    }

    pub(super) async fn ask(&self, db: &TestDatabase, at: Option<&str>) -> Copies {
        let answers = db.query_json(&self.query(at)).await.remove(0);
        let answers = answers.as_array().expect("an array").iter();
        let keyed = |row: &Value| (row["id"].to_string(), row.clone());
        answers
            .map(|rows| rows.as_array().expect("rows").iter().map(keyed).collect())
            .collect()
    }
}

impl Truth {
    pub(super) fn new(asked: Asked) -> Self {
        Self {
            asked,
            known: HashMap::new(),
            states: Vec::new(),
        }
    }

    /// For SQLite: adds the current state, after a transaction.
    pub(super) async fn add_state(&mut self, db: &TestDatabase) {
        if self.asked.backend == Backend::Sqlite {
            let log_id = bounds(db).await;
            self.states.push((log_id, self.asked.ask(db, None).await));
        }
    }

    /// The rows that the copy of a selection must hold at a position.
    pub(super) async fn at(
        &mut self,
        db: &TestDatabase,
        position: &Position,
        number: usize,
    ) -> &Copy {
        match position {
            Position::Snapshot(snapshot) => {
                let at = snapshot.to_string();
                if !self.known.contains_key(&at) {
                    let copies = self.asked.ask(db, Some(&at)).await;
                    self.known.insert(at.clone(), copies);
                }
                &self.known[&at][number]
            }
            Position::Log(LogPosition { id, .. }) => {
                let state = self.states.iter().rfind(|(log_id, _)| log_id <= id);
                &state.expect("a state").1[number]
            }
        }
    }
}
