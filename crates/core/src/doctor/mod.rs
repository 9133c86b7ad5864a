//! Whether a database is fit for the engine: from facts to findings, each with what mends it.
//!
//! # Invariants
//!
//! 1. Nothing is asked here and nothing changed: equal facts lead to equal findings.
//! 2. Every check that could be made has a finding, also when all is well.
//! 3. A finding that is not [`Level::Ok`] says what to do. A statement that it names is complete: names in it are quoted.

mod facts;
mod log;
mod role;
mod server;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Serialize, Serializer};

pub use facts::{
    ConnectionFacts, Facts, LogFacts, MemberFacts, OldTransaction, Rights, RoleFacts, ServerFacts,
    Setup, TableFacts, Tried,
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is as it should be.
    Ok,
    /// The engine works; somebody ought to know, or to decide.
    Warning,
    /// Something does not work until it is mended.
    Error,
}

/// What mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Remedy {
    /// Statements, with who may run them.
    Sql {
        /// The statements.
        run: String,
        /// Who may run them.
        by: String,
    },
    /// A line of the configuration.
    Setting(String),
    /// What no statement does.
    Advice(String),
}

impl Remedy {
    fn sql(by: impl Into<String>, run: impl Into<String>) -> Option<Self> {
        Some(Self::Sql {
            run: run.into(),
            by: by.into(),
        })
    }

    fn setting(line: impl Into<String>) -> Option<Self> {
        Some(Self::Setting(line.into()))
    }

    fn advice(text: impl Into<String>) -> Option<Self> {
        Some(Self::Advice(text.into()))
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Which product this is, and whether it can do what the engine needs.
    Product,
    /// Its version.
    Version,
    /// Whether this is the primary.
    Primary,
    /// Whether the connections are encrypted, and with whom.
    Tls,
    /// Whether a pooler shares the sessions.
    Pooler,
    /// Whether notifications arrive.
    Listen,
    /// The difference between the two clocks.
    Clock,
    /// The number of connections.
    Connections,
    /// The role and its settings.
    Role,
    /// The schema for the engine's own tables.
    Schema,
    /// An entity's table.
    Table,
    /// What the role may do with it.
    Rights,
    /// The triggers that capture it.
    Triggers,
    /// Row-level security of it.
    RowSecurity,
    /// Who may read and write it.
    Policies,
    /// The log.
    Log,
    /// Transactions that have been open for long.
    Transactions,
}

impl Check {
    /// Its name in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Version => "version",
            Self::Primary => "primary",
            Self::Tls => "tls",
            Self::Pooler => "pooler",
            Self::Listen => "listen",
            Self::Clock => "clock",
            Self::Connections => "connections",
            Self::Role => "role",
            Self::Schema => "schema",
            Self::Table => "table",
            Self::Rights => "rights",
            Self::Triggers => "triggers",
            Self::RowSecurity => "row_security",
            Self::Policies => "policies",
            Self::Log => "log",
            Self::Transactions => "transactions",
        }
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// The entity, for a check of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// How bad it is.
    pub level: Level,
    /// What was found, for people.
    pub text: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
}

/// The findings so far.
struct Findings<'a> {
    entity: Option<&'a str>,
    found: Vec<Finding>,
}

impl Findings<'_> {
    fn ok(&mut self, check: Check, text: impl Into<String>) {
        self.add(check, Level::Ok, text.into(), None);
    }

    fn warning(&mut self, check: Check, text: impl Into<String>, remedy: Option<Remedy>) {
        self.add(check, Level::Warning, text.into(), remedy);
    }

    fn error(&mut self, check: Check, text: impl Into<String>, remedy: Option<Remedy>) {
        self.add(check, Level::Error, text.into(), remedy);
    }

    fn add(&mut self, check: Check, level: Level, text: String, remedy: Option<Remedy>) {
        self.found.push(Finding {
            check,
            entity: self.entity.map(str::to_owned),
            level,
            text,
            remedy,
        });
    }
}

/// Examines a database: the server first, then the role, each table, the log.
pub fn examine(facts: &Facts, setup: &Setup) -> Vec<Finding> {
    let mut findings = Findings {
        entity: None,
        found: Vec::new(),
    };
    server::examine(&mut findings, facts, setup);
    role::examine(&mut findings, facts);
    for table in &facts.tables {
        let mut of_table = Findings {
            entity: Some(&table.entity),
            found: std::mem::take(&mut findings.found),
        };
        tables::examine(&mut of_table, table, facts);
        findings.found = of_table.found;
    }
    log::examine(&mut findings, facts, setup);
    findings.found
}

/// SQLite needs no setting up.
pub fn of_sqlite() -> Finding {
    Finding {
        check: Check::Product,
        entity: None,
        level: Level::Ok,
        text: "SQLite, which needs no setting up".to_owned(),
        remedy: None,
    }
}

/// A duration for people.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
