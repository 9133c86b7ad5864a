//! Changes through random filters and projections: at each cursor each copy equals the table as
//! independently recorded, across random writes, resumes, and subscriptions that come and go.
//!
//! `SEED=…` repeats the choices, `ORACLE_ROUNDS=…` makes it longer.

mod selections;
pub(crate) mod subscribers;
pub(crate) mod truth;
pub(crate) mod writes;

use std::collections::BTreeMap;
use std::time::Duration;

use filter::Backend;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, TestDatabase};
use value::schema::Schema;

use crate::filters::random::{Random, cases};
use crate::filters::subject::Subject;
use crate::filters::writer::Written;
use crate::filters::{postgres, sqlite};
use subscribers::{Instant, Poller, Subscriber};
use truth::Truth;
use writes::Programs;

/// The selections of a round, of which the first so many are subscribed to from its beginning.
const SELECTIONS: usize = 18;
const AT_FIRST: usize = 12;
const STEPS: usize = 60;

/// A filter and a projection.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) written: Written,
    pub(crate) columns: Option<Vec<String>>,
}

impl Selection {
    /// The fields of its `subscribe` frame.
    fn frame(&self) -> Value {
        let mut frame =
            json!({ "entity": "t", "where": self.written.text, "params": self.written.params });
        if let Some(columns) = &self.columns {
            frame["columns"] = json!(columns);
        }
        frame
    }

    /// What its subscribers receive of a row.
    fn project(&self, row: &Value) -> Value {
        let Some(columns) = &self.columns else {
            return row.clone();
        };
        let row = row.as_object().expect("a row").clone();
        let kept = row
            .into_iter()
            .filter(|(name, _)| name == "k" || columns.contains(name));
        Value::Object(kept.collect())
    }
}

/// The table `t`, its server and its writers.
struct World {
    db: TestDatabase,
    server: TestServer,
    backend: Backend,
    random: Random,
    subjects: Vec<Subject>,
    schema: Schema,
    pools: Vec<Vec<String>>,
    programs: Programs,
    compared: usize,
    /// Rows in the compared copies.
    rows: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_equal_the_table_at_each_cursor_on_postgres() {
    let db = TestDatabase::postgres().await;
    let subjects = postgres::subjects(postgres::usual_collation(&db).await);
    db.execute(&postgres::table(&subjects)).await;
    let random = Random::new("copies_equal_the_table_at_each_cursor_on_postgres");
    World::new(db, Backend::Postgres, random, subjects)
        .await
        .run(cases("ORACLE_ROUNDS", 6))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_equal_the_table_at_each_cursor_on_sqlite() {
    let db = TestDatabase::sqlite().await;
    let subjects = sqlite::subjects();
    db.execute(&sqlite::table(&subjects)).await;
    db.execute("PRAGMA case_sensitive_like = ON").await;
    let random = Random::new("copies_equal_the_table_at_each_cursor_on_sqlite");
    World::new(db, Backend::Sqlite, random, subjects)
        .await
        .run(cases("ORACLE_ROUNDS", 6))
        .await;
}

impl World {
    async fn new(
        db: TestDatabase,
        backend: Backend,
        random: Random,
        subjects: Vec<Subject>,
    ) -> Self {
        truth::prepare(&db, backend).await;
        db.execute("CREATE TABLE marks (id integer PRIMARY KEY)")
            .await;
        let server = TestServer::start(&db, ["t", "marks"]).await;
        let programs = Programs::new(&db, backend).await;
        let columns = subjects
            .iter()
            .map(|subject| subject.column.clone())
            .collect();
        let schema = Schema {
            entity: "t".to_owned(),
            columns,
            key: vec![0],
        };
        let pools = vec![Vec::new(); subjects.len()];
        Self {
            db,
            server,
            backend,
            random,
            subjects,
            schema,
            pools,
            programs,
            compared: 0,
            rows: 0,
        }
    }

    async fn run(mut self, rounds: usize) {
        for round in 0..rounds {
            self.fill().await;
            self.round(round).await;
        }
        let (compared, rows) = (self.compared, self.rows);
        println!("{compared} copies of {rows} rows equal the table, in {rounds} rounds");
        assert!(rows > compared, "the filters test too little");
    }

    async fn round(&mut self, round: usize) {
        let selections = self.selections().await;
        let mut truth = match self.backend {
            Backend::Postgres => Truth::Versions(Vec::new()),
            Backend::Sqlite => Truth::States(Vec::new()),
        };
        truth.add_state(&self.db, &selections).await;
        let mut subscriber = Subscriber::new(self.server.ws_url(), self.options()).await;
        for (number, selection) in selections.iter().enumerate().take(AT_FIRST) {
            subscriber.subscribe(number, selection.frame()).await;
        }
        let number = self.random.below(SELECTIONS);
        let limit = 1 + self.random.below(12);
        let mut poller = Poller::new(
            self.server.http(),
            number,
            &selections[number].frame(),
            limit,
        );
        let conditions: Vec<&str> = selections
            .iter()
            .map(|selection| selection.written.plain.as_str())
            .collect();
        for _ in 0..STEPS {
            match self.random.below(20) {
                0 => {
                    let state = subscriber.leave();
                    for _ in 0..self.random.below(12) {
                        self.step(&conditions, &selections, &mut truth).await;
                    }
                    subscriber.come_back(&state, self.options()).await;
                }
                1 | 2 => {
                    subscriber.unsubscribe(&mut self.random).await;
                    let number = self.random.below(SELECTIONS);
                    subscriber
                        .subscribe(number, selections[number].frame())
                        .await;
                }
                3..=6 => {
                    subscriber
                        .listen(Duration::from_millis(self.random.below(20) as u64))
                        .await
                }
                7 | 8 => drop(poller.ask().await),
                _ => self.step(&conditions, &selections, &mut truth).await,
            }
        }
        self.programs.rest().await;
        truth.add_state(&self.db, &selections).await;
        subscriber.settle().await;
        self.db
            .execute(&format!("INSERT INTO marks VALUES ({round})"))
            .await;
        subscriber.catch_up(&round.to_string()).await;
        poller.catch_up().await;
        assert_eq!(poller.refetches, 0);
        if self.backend == Backend::Postgres {
            truth = Truth::of_history(&self.db, &self.subjects, &selections).await;
        }
        for instant in subscriber.instants.iter().chain(&poller.instants) {
            self.assert_true(instant, &selections, &truth);
        }
        let ends = [subscriber.instants.last(), poller.instants.last()];
        for end in ends.into_iter().flatten() {
            self.assert_now(end, &selections).await;
        }
    }

    fn options(&mut self) -> ClientOptions {
        ClientOptions {
            gzip: self.random.once_in(2),
            ..ClientOptions::default()
        }
    }

    async fn step(&mut self, conditions: &[&str], selections: &[Selection], truth: &mut Truth) {
        let statement = self.statements(conditions).statement();
        self.write(statement, selections, truth).await;
    }

    async fn write(&mut self, statement: String, selections: &[Selection], truth: &mut Truth) {
        match self.backend {
            Backend::Postgres => self.programs.step(&mut self.random, statement).await,
            Backend::Sqlite => {
                writes::transaction(&self.db, &mut self.random, vec![statement]).await;
                truth.add_state(&self.db, selections).await;
            }
        }
    }

    /// A copy equals the table at its cursor.
    fn assert_true(&mut self, instant: &Instant, selections: &[Selection], truth: &Truth) {
        let selection = &selections[instant.number];
        let truth = truth.at(&instant.position, instant.number, selection);
        let rows: BTreeMap<i64, &Value> = instant
            .rows
            .iter()
            .map(|(key, row)| (key.parse().expect("a key"), row))
            .collect();
        let about = || {
            format!(
                "{}: {selection:#?}\nat {}",
                instant.source, instant.position
            )
        };
        for key in rows.keys() {
            assert!(
                truth.contains_key(key),
                "the row {key} should not be there: {}\n{}",
                rows[key],
                about()
            );
        }
        for (key, row) in &truth {
            let found = rows
                .get(key)
                .unwrap_or_else(|| panic!("the row {key} is missing: {row:?}\n{}", about()));
            if let Some(row) = row {
                assert_eq!(*found, row, "the row {key}\n{}", about());
            }
        }
        self.compared += 1;
        self.rows += rows.len();
    }

    /// A copy equals what the database and the server return now.
    async fn assert_now(&self, end: &Instant, selections: &[Selection]) {
        let selection = &selections[end.number];
        let sql = format!(
            "SELECT CAST(k AS text) FROM t WHERE {} ORDER BY k",
            selection.written.plain
        );
        let sql = match self.backend {
            Backend::Postgres => format!("SET \"TimeZone\" = 'UTC'; {sql}"),
            Backend::Sqlite => sql,
        };
        let mut keys: Vec<String> = self
            .db
            .query_text(&sql)
            .await
            .into_iter()
            .flatten()
            .collect();
        keys.sort();
        assert_eq!(
            end.rows.keys().cloned().collect::<Vec<_>>(),
            keys,
            "{}: {selection:#?}",
            end.source
        );
        let rows = self.server.http().get("/api/sync/t").await.json();
        for row in rows["rows"].as_array().expect("rows") {
            if let Some(found) = end.rows.get(row["key"].as_str().expect("a key")) {
                assert_eq!(
                    *found,
                    selection.project(&row["row"]),
                    "{}: {selection:#?}",
                    end.source
                );
            }
        }
    }
}
