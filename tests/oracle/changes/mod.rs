//! Changes as seen through random filters and projections: at each cursor each copy is what the
//! table was, by its own account, across random writes, resumes, and subscriptions that come and go.
//!
//! `SEED=…` repeats the choices, `ORACLE_ROUNDS=…` makes it longer.

mod follower;
mod truth;
mod wishes;
mod writes;

use std::collections::BTreeMap;
use std::time::Duration;

use filter::Backend;
use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use testkit::TestDatabase;
use value::schema::Schema;

use crate::filters::random::{Random, cases};
use crate::filters::subject::Subject;
use crate::filters::writer::Written;
use crate::filters::{postgres, sqlite};
use follower::{Follower, Instant, Poller};
use truth::Truth;
use writes::Programs;

/// What is wanted in a round, of which so many from its beginning.
const WANTED: usize = 18;
const AT_FIRST: usize = 12;
const STEPS: usize = 60;

/// A filter and a projection.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) written: Written,
    pub(crate) columns: Option<Vec<String>>,
}

impl Wanted {
    /// What its audience gets of a row.
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
    /// Rows in the copies that were compared.
    rows: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_what_postgresql_had() {
    let db = TestDatabase::postgres().await;
    let subjects = postgres::subjects(postgres::usual_collation(&db).await);
    db.execute(&postgres::table(&subjects)).await;
    let random = Random::new("copies_are_what_postgresql_had");
    World::new(db, Backend::Postgres, random, subjects)
        .await
        .run(cases("ORACLE_ROUNDS", 6))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_what_sqlite_had() {
    let db = TestDatabase::sqlite().await;
    let subjects = sqlite::subjects();
    db.execute(&sqlite::table(&subjects)).await;
    db.execute("PRAGMA case_sensitive_like = ON").await;
    let random = Random::new("copies_are_what_sqlite_had");
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
        println!("{compared} copies of {rows} rows are what the table was, in {rounds} rounds");
        assert!(rows > compared, "the filters test too little");
    }

    async fn round(&mut self, round: usize) {
        let wanted = self.wanted().await;
        let mut truth = match self.backend {
            Backend::Postgres => Truth::Versions(Vec::new()),
            Backend::Sqlite => Truth::States(Vec::new()),
        };
        truth.add_state(&self.db, &wanted).await;
        let mut follower = Follower::new(self.server.ws_url(), self.random.once_in(2)).await;
        for (number, wanted) in wanted.iter().enumerate().take(AT_FIRST) {
            follower.subscribe(number, wanted).await;
        }
        let number = self.random.below(WANTED);
        let limit = 1 + self.random.below(12);
        let mut poller = Poller::new(self.server.http(), number, &wanted[number], limit);
        let conditions: Vec<&str> = wanted
            .iter()
            .map(|wanted| wanted.written.plain.as_str())
            .collect();
        for _ in 0..STEPS {
            match self.random.below(20) {
                0 => {
                    let state = follower.leave();
                    for _ in 0..self.random.below(12) {
                        self.step(&conditions, &wanted, &mut truth).await;
                    }
                    follower.come_back(&state, self.random.once_in(2)).await;
                }
                1 | 2 => {
                    follower.unsubscribe(&mut self.random).await;
                    let number = self.random.below(WANTED);
                    follower.subscribe(number, &wanted[number]).await;
                }
                3..=6 => {
                    follower
                        .listen(Duration::from_millis(self.random.below(20) as u64))
                        .await
                }
                7 | 8 => drop(poller.ask().await),
                _ => self.step(&conditions, &wanted, &mut truth).await,
            }
        }
        self.programs.rest().await;
        truth.add_state(&self.db, &wanted).await;
        follower.settle().await;
        self.db
            .execute(&format!("INSERT INTO marks VALUES ({round})"))
            .await;
        follower.catch_up(&round.to_string()).await;
        poller.catch_up().await;
        if self.backend == Backend::Postgres {
            truth = Truth::of_history(&self.db, &self.subjects, &wanted).await;
        }
        for instant in follower.instants.iter().chain(&poller.instants) {
            self.assert_true(instant, &wanted, &truth);
        }
        let ends = [follower.instants.last(), poller.instants.last()];
        for end in ends.into_iter().flatten() {
            self.assert_now(end, &wanted).await;
        }
    }

    async fn step(&mut self, conditions: &[&str], wanted: &[Wanted], truth: &mut Truth) {
        let statement = self.statements(conditions).statement();
        self.write(statement, wanted, truth).await;
    }

    async fn write(&mut self, statement: String, wanted: &[Wanted], truth: &mut Truth) {
        match self.backend {
            Backend::Postgres => self.programs.step(&mut self.random, statement).await,
            Backend::Sqlite => {
                writes::transaction(&self.db, &mut self.random, vec![statement]).await;
                truth.add_state(&self.db, wanted).await;
            }
        }
    }

    /// A copy is what the table was at its cursor.
    fn assert_true(&mut self, instant: &Instant, wanted: &[Wanted], truth: &Truth) {
        let wanted = &wanted[instant.number];
        let truth = truth.at(&instant.position, instant.number, wanted);
        let rows: BTreeMap<i64, &Value> = instant
            .rows
            .iter()
            .map(|(key, row)| (key.parse().expect("a key"), row))
            .collect();
        let about = || format!("{}: {wanted:#?}\nat {}", instant.who, instant.position);
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

    /// A copy is what the database and the server give now.
    async fn assert_now(&self, end: &Instant, wanted: &[Wanted]) {
        let wanted = &wanted[end.number];
        let sql = format!(
            "SELECT CAST(k AS text) FROM t WHERE {} ORDER BY k",
            wanted.written.plain
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
            "{}: {wanted:#?}",
            end.who
        );
        let rows = self.server.http().get("/api/sync/t").await.json();
        for row in rows["rows"].as_array().expect("rows") {
            if let Some(found) = end.rows.get(row["key"].as_str().expect("a key")) {
                assert_eq!(
                    *found,
                    wanted.project(&row["row"]),
                    "{}: {wanted:#?}",
                    end.who
                );
            }
        }
    }
}
