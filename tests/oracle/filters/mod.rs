//! The databases as judges of filters: for random filters on random rows, the engine's reads, core,
//! which evaluates changes, and the database's own reading of the filter's text give the same answer.
//!
//! `SEED=…` repeats a run, `ORACLE_FILTERS=…` makes it longer.

pub(crate) mod asking;
mod garbled;
pub(crate) mod postgres;
mod postgres_columns;
pub(crate) mod random;
pub(crate) mod sqlite;
pub(crate) mod subject;
pub(crate) mod values;
mod verdict;
pub(crate) mod writer;

use std::collections::BTreeMap;

use filter::{Backend, Filter, FilterError, NoSets, RowReader, RowValues, Table};
use futures_util::{StreamExt as _, stream};
use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use serde_json::value::RawValue;
use testkit::TestDatabase;
use tokio_postgres::Client;
use value::schema::Schema;

use asking::{Answer, ask};
use garbled::garbled;
use random::Random;
use subject::Subject;
use writer::{Writer, Written};

/// How many filters are compared at a time.
const BATCH: usize = 48;

/// A table `t` with rows, a server over it, and core's view of both.
pub(crate) struct Oracle {
    db: TestDatabase,
    server: TestServer,
    random: Random,
    subjects: Vec<Subject>,
    schema: Schema,
    backend: Backend,
    pools: Vec<Vec<String>>,
    /// The server's rows, by key, as core reads them.
    rows: BTreeMap<i64, (RowValues, Value)>,
    /// Evaluates one text at a time.
    judge: Option<Client>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: usize,
    /// Filters that match some rows and not all.
    selective: usize,
    refused: BTreeMap<String, usize>,
    garbled: usize,
}

/// A JSON object with its members as received.
type Object = BTreeMap<String, Box<RawValue>>;

/// Parses a filter with core.
pub(crate) fn read(written: &Written, table: Table<'_>) -> Result<Filter, FilterError> {
    let params: Vec<Box<RawValue>> = written
        .params
        .iter()
        .map(|param| serde_json::value::to_raw_value(param).expect("JSON"))
        .collect();
    Filter::new(&written.text, &params, table)
}

impl Oracle {
    async fn new(
        db: TestDatabase,
        random: Random,
        subjects: Vec<Subject>,
        backend: Backend,
        pools: Vec<Vec<String>>,
    ) -> Self {
        let server = TestServer::start(&db, ["t"]).await;
        let schema = Schema {
            entity: "t".to_owned(),
            columns: subjects
                .iter()
                .map(|subject| subject.column.clone())
                .collect(),
            key: vec![0],
        };
        let reader = RowReader::new(Table::new(&schema, backend), 0..subjects.len());
        let reply = server.http().get("/api/sync/t").await;
        let page: Object = serde_json::from_str(&reply.text).expect("a page");
        let page: Vec<Object> = serde_json::from_str(page["rows"].get()).expect("rows");
        let rows = page.into_iter().map(|image| {
            let key: String = serde_json::from_str(image["key"].get()).expect("a text");
            let values = reader.read(&image["row"]).expect("a row");
            let json = serde_json::from_str(image["row"].get()).expect("JSON");
            (key.parse().expect("a number"), (values, json))
        });
        let rows: BTreeMap<_, _> = rows.collect();
        assert!(rows.len() > 100, "too few rows: {}", rows.len());
        let judge = match backend {
            Backend::Postgres => Some(db.connect_postgres().await),
            Backend::Sqlite => None,
        };
        let counts = Counts::default();
        Self {
            db,
            server,
            random,
            subjects,
            schema,
            backend,
            pools,
            rows,
            judge,
            counts,
        }
    }

    /// Compares this many filters, and prints a summary.
    async fn run(mut self, cases: usize) {
        for _ in 0..cases.div_ceil(BATCH) {
            let batch: Vec<Written> = (0..BATCH).map(|_| self.written(true)).collect();
            self.compare(batch).await;
            self.compare_garbled().await;
        }
        let Counts {
            accepted,
            selective,
            refused,
            garbled,
        } = &self.counts;
        println!(
            "{accepted} filters on {} rows agree, {selective} of them selective",
            self.rows.len()
        );
        println!("{garbled} garbled texts were still filters; refused: {refused:#?}");
        assert!(
            selective * 3 > *accepted && *accepted * 2 > cases,
            "the filters test too little"
        );
    }

    fn written(&mut self, with_params: bool) -> Written {
        let mut writer = Writer {
            random: &mut self.random,
            backend: self.backend,
            subjects: &self.subjects,
            pools: &self.pools,
            with_params,
        };
        writer.filter()
    }

    fn read(&self, written: &Written) -> Result<Filter, FilterError> {
        read(written, Table::new(&self.schema, self.backend))
    }

    /// Core's answer for each row: `1`, `0`, or `u` for unknown.
    fn truths(&self, filter: &Filter) -> String {
        let truth = |(values, _): &(RowValues, Value)| match filter.matches(values, &NoSets) {
            Some(true) => '1',
            Some(false) => '0',
            None => 'u',
        };
        self.rows.values().map(truth).collect()
    }

    async fn compare(&mut self, batch: Vec<Written>) {
        let negated = batch.iter().map(|written| Written {
            text: format!("NOT ({})", written.text),
            ..written.clone()
        });
        let asked: Vec<Written> = batch
            .iter()
            .cloned()
            .zip(negated)
            .flat_map(|(one, not)| [one, not])
            .collect();
        let http = self.server.http();
        let asking = stream::iter(asked.iter().map(|written| ask(&http, written)));
        let answers: Vec<Answer> = asking.buffered(4).collect().await;
        let mut accepted = Vec::new();
        for (written, answers) in batch.iter().zip(answers.chunks(2)) {
            match self.read(written) {
                Err(error) => {
                    assert_eq!(answers[0], Answer::refused(&error), "{written:?}");
                    assert!(
                        matches!(answers[1], Answer::Refused { .. }),
                        "NOT {written:?}"
                    );
                    // The reason without the position and the value.
                    let words = error.message.split(": ").nth(1).unwrap_or(&error.message);
                    let words = words.split(", not").next().unwrap_or(words);
                    *self.counts.refused.entry(words.to_owned()).or_default() += 1;
                }
                Ok(filter) => {
                    let truths = self.truths(&filter);
                    self.assert_same("the server", written, &truths, &answers[0], '1');
                    self.assert_same("the server for NOT (…)", written, &truths, &answers[1], '0');
                    self.counts.accepted += 1;
                    self.counts.selective +=
                        usize::from(truths.contains('1') && truths.contains(['0', 'u']));
                    accepted.push((written, truths));
                }
            }
        }
        let plain: Vec<&str> = accepted
            .iter()
            .map(|(written, _)| written.plain.as_str())
            .collect();
        let judged = asking::judged(&self.db, self.backend, &plain).await;
        for ((written, ours), theirs) in accepted.iter().zip(judged) {
            self.assert_same_truths(written, ours, &theirs);
        }
    }

    /// Texts with something out of place: where core still parses a filter, PostgreSQL parses the same
    /// one.
    async fn compare_garbled(&mut self) {
        for _ in 0..BATCH / 2 {
            let written = self.written(false);
            let text = garbled(&mut self.random, &written.text);
            let written = Written {
                text: text.clone(),
                params: Vec::new(),
                plain: text,
            };
            let Ok(filter) = self.read(&written) else {
                continue;
            };
            let truths = self.truths(&filter);
            let answer = ask(&self.server.http(), &written).await;
            self.assert_same("the server", &written, &truths, &answer, '1');
            // PostgreSQL reads these differently: domains over enums, single floats, composite values,
            // names in mixed case, and what it takes for an operator.
            let named: Vec<&str> = filter
                .columns()
                .map(|column| self.subjects[column].name)
                .collect();
            let differs = ["em", "f4", "p"].iter().any(|name| named.contains(name))
                || ["Mixed", "!=-"]
                    .iter()
                    .any(|part| written.text.contains(part));
            if let Some(judge) = self.judge.as_ref().filter(|_| !differs)
                && let Some(theirs) = asking::judged_garbled(judge, &written.plain).await
            {
                self.assert_same_truths(&written, &truths, &theirs);
            }
            self.counts.garbled += 1;
        }
    }
}
