//! Random writes, by programs that know nothing of the engine and have settings of their own.

use filter::Backend;
use testkit::TestDatabase;
use tokio_postgres::Client;

use super::truth::BOUND;
use crate::filters::random::Random;
use crate::filters::subject::Subject;
use crate::filters::writer::quote;
use crate::filters::{postgres, sqlite};

/// Keys below this are written; a change of a key adds or subtracts it.
pub(crate) const KEYS: usize = 60;

/// Settings that must make no difference to the captured values.
const SETTINGS: &[&str] = &[
    "SET \"TimeZone\" = 'Asia/Kolkata'; SET \"DateStyle\" = 'German'; SET extra_float_digits = -10",
    "SET \"TimeZone\" = 'America/St_Johns'; SET \"DateStyle\" = 'SQL, DMY'; SET bytea_output = 'escape'",
    "SET \"TimeZone\" = 'Pacific/Chatham'; SET \"DateStyle\" = 'Postgres'; SET \"IntervalStyle\" = 'sql_standard'; \
     SET extra_float_digits = 0; SET quote_all_identifiers = on",
];

/// Connections of programs on PostgreSQL, with or without an open transaction.
pub(crate) struct Programs {
    connections: Vec<(Client, bool)>,
}

impl Programs {
    pub(crate) async fn new(db: &TestDatabase, backend: Backend) -> Self {
        let mut connections = Vec::new();
        if backend == Backend::Postgres {
            for settings in SETTINGS {
                let client = db.connect_postgres().await;
                let settings = format!("{settings}; SET lock_timeout = '15ms'");
                client.batch_execute(&settings).await.expect("settings");
                connections.push((client, false));
            }
        }
        Self { connections }
    }

    /// Runs a statement on one connection, or ends its transaction.
    pub(crate) async fn step(&mut self, random: &mut Random, statement: String) {
        let at = random.below(self.connections.len());
        let (client, open) = &mut self.connections[at];
        let sql = match (*open, random.below(4)) {
            // Its lock would block all reads, and with them the test that must end the transaction.
            _ if statement.contains("TRUNCATE") => {
                let end = if std::mem::take(open) { "COMMIT; " } else { "" };
                format!("{end}{statement}")
            }
            (true, 0) => {
                *open = false;
                (if random.once_in(4) {
                    "ROLLBACK"
                } else {
                    "COMMIT"
                })
                .to_owned()
            }
            (true, 1) => format!("SAVEPOINT s; {statement}; ROLLBACK TO SAVEPOINT s"),
            (true, _) => statement,
            (false, 0 | 1) => {
                *open = true;
                format!("BEGIN; {statement}")
            }
            (false, _) => statement,
        };
        // Fails when a key exists, or another transaction has locked a row.
        if client.batch_execute(&sql).await.is_err() {
            *open = false;
            client.batch_execute("ROLLBACK").await.expect("a rollback");
        }
    }

    /// Commits all transactions.
    pub(crate) async fn rest(&mut self) {
        for (client, open) in &mut self.connections {
            if std::mem::take(open) {
                client.batch_execute("COMMIT").await.expect("a commit");
            }
        }
    }
}

/// Runs a transaction on SQLite.
pub(crate) async fn transaction(db: &TestDatabase, random: &mut Random, statements: Vec<String>) {
    let (body, end) = (
        statements.join("; "),
        if random.once_in(6) {
            "ROLLBACK"
        } else {
            "COMMIT"
        },
    );
    // Fails when a key exists.
    let _ = db
        .try_execute(&format!("BEGIN IMMEDIATE; {body}; {BOUND}; {end}"))
        .await;
}

/// Writes statements about the table `t`.
pub(crate) struct Statements<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) backend: Backend,
    pub(crate) subjects: &'a [Subject],
    /// Values that rows hold or held, for each column.
    pub(crate) pools: &'a [Vec<String>],
    /// Conditions on rows.
    pub(crate) conditions: &'a [&'a str],
}

impl Statements<'_> {
    pub(crate) fn statement(&mut self) -> String {
        let rows = self.rows();
        match self.random.below(100) {
            0..20 => self.insert(4),
            20..35 => {
                let columns: Vec<String> = (0..2).map(|_| self.column()).collect();
                let set: Vec<String> = columns
                    .iter()
                    .map(|name| format!("{name} = excluded.{name}"))
                    .collect();
                // The same column twice is an error.
                let set = if columns[0] == columns[1] {
                    &set[..1]
                } else {
                    &set[..]
                };
                format!(
                    "{} ON CONFLICT (k) DO UPDATE SET {}",
                    self.insert(3),
                    set.join(", ")
                )
            }
            35..65 => {
                let columns: std::collections::BTreeSet<usize> = (0..=self.random.below(4))
                    .map(|_| self.position())
                    .collect();
                let set: Vec<String> = columns
                    .into_iter()
                    .map(|at| format!("\"{}\" = {}", self.subjects[at].name, self.value(at)))
                    .collect();
                format!("UPDATE t SET {} WHERE {rows}", set.join(", "))
            }
            65..70 => {
                let column = self.column();
                format!("UPDATE t SET {column} = {column} WHERE {rows}")
            }
            70..82 => format!("DELETE FROM t WHERE {rows}"),
            82..88 => format!("UPDATE t SET k = k + {KEYS} WHERE k < {KEYS} AND {rows}"),
            88..94 => format!("UPDATE t SET k = k - {KEYS} WHERE k >= {KEYS} AND {rows}"),
            94..97 => {
                let (key, insert) = (self.random.below(KEYS), self.insert(1));
                format!("DELETE FROM t WHERE k = {key}; {insert}")
            }
            97 if self.backend == Backend::Postgres => "TRUNCATE t".to_owned(),
            97 => "DELETE FROM t".to_owned(),
            _ if self.backend == Backend::Sqlite => self.insert(2).replacen("INSERT", "REPLACE", 1),
            _ => self.insert(30),
        }
    }

    /// Rows under random keys, some of which may exist.
    pub(crate) fn insert(&mut self, rows_max: usize) -> String {
        let written: Vec<usize> = (1..self.subjects.len()).collect();
        let tuples: Vec<String> = (0..=self.random.below(rows_max))
            .map(|_| {
                let mut tuple = vec![self.random.below(KEYS).to_string()];
                tuple.extend(written.iter().map(|at| self.value(*at)));
                format!("({})", tuple.join(", "))
            })
            .collect();
        format!("INSERT INTO t VALUES {}", tuples.join(", "))
    }

    fn rows(&mut self) -> String {
        let key = self.random.below(KEYS);
        match self.random.below(3) {
            0 => format!("k = {key}"),
            1 => format!("k BETWEEN {key} AND {}", key + 4),
            _ => format!(
                "({}) AND k % 3 = {}",
                self.random.pick(self.conditions),
                key % 3
            ),
        }
    }

    /// The index of a column that may be written, but not the key.
    fn position(&mut self) -> usize {
        loop {
            let at = 1 + self.random.below(self.subjects.len() - 1);
            if !self.subjects[at].column.generated {
                return at;
            }
        }
    }

    fn column(&mut self) -> String {
        let at = self.position();
        format!("\"{}\"", self.subjects[at].name)
    }

    fn value(&mut self, at: usize) -> String {
        let subject = &self.subjects[at];
        if let Some(sort) = subject.sort
            && !subject.column.generated
            && !self.pools[at].is_empty()
            && !self.random.once_in(3)
        {
            let value = self.random.pick(&self.pools[at]);
            return match self.backend {
                Backend::Postgres => quote(value),
                Backend::Sqlite => sqlite::literal(value, sort),
            };
        }
        match self.backend {
            Backend::Postgres => postgres::random_value(self.random, subject).0,
            Backend::Sqlite => sqlite::random_value(self.random, subject).0,
        }
    }
}
