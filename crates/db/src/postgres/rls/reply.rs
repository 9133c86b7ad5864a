//! What groups are asked, and what they are answered.

use std::collections::BTreeSet;

use filter::{Backend, Table};
use rls::{Answer, Answers, Plan};
use serde::Deserialize;
use value::schema::Schema;

use crate::error::{DbError, DbResult};
use crate::postgres::connect::failed;

pub(super) const CONTEXT: &str = "asking policies";

/// A table whose policies are asked.
#[derive(Debug, Clone, Copy)]
pub(in crate::postgres) struct Subject<'a> {
    pub(in crate::postgres) plan: &'a Plan,
    pub(in crate::postgres) schema: &'a Schema,
    /// The statement for the keys of the rows that the role sees, as one text.
    pub(in crate::postgres) visible: &'a str,
    /// The statements for the values of guards, each as one text.
    pub(in crate::postgres) guards: &'a [String],
}

/// What is the same for all groups.
#[derive(Debug, Clone, Copy)]
pub(in crate::postgres) struct Surroundings<'a> {
    /// The schema of `_rhtmx_sync_ask`.
    pub(in crate::postgres) schema: &'a str,
    /// The search path of the application's own sessions.
    pub(in crate::postgres) search_path: &'a str,
    /// The settings that policies read.
    pub(in crate::postgres) known: &'a BTreeSet<String>,
}

/// What a group was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The answers.
    pub answers: Answers,
    /// The oids of the tables and views that were read for them, and for those asked with them. Until one of them changes,
    /// the answers stay as they are, unless the clock counts or something failed.
    pub read: BTreeSet<u32>,
    /// Those that the transaction had locked before, so that it is not known whether they were read.
    pub held: BTreeSet<u32>,
    /// What failed. What was read for it is not known.
    pub failures: Vec<Failure>,
    /// The values of the guards; none when they are not known.
    pub guards: Option<Vec<Option<String>>>,
}

/// What failed, for which PostgreSQL gave this SQLSTATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The question at this position.
    Question(usize, String),
    /// The question for the visible keys.
    Visible(String),
    /// Setting the role or a setting, or all of it took too long.
    Everything(String),
    /// It was not asked, because the questions of others had taken too long.
    NotAsked,
}

impl Failure {
    /// Whether PostgreSQL gave up after a time.
    pub(super) fn is_slow(&self) -> bool {
        let (Self::Question(_, state) | Self::Visible(state) | Self::Everything(state)) = self
        else {
            return false;
        };
        is_slow(state)
    }
}

/// Whether PostgreSQL gives this SQLSTATE after a time: the statement took too long, or a lock was not to be had.
pub(super) fn is_slow(state: &str) -> bool {
    matches!(state, "57014" | "55P03")
}

/// What a group was answered, as texts.
#[derive(Default, Deserialize)]
pub(in crate::postgres) struct Reply {
    pub(in crate::postgres) answers: Vec<Option<String>>,
    pub(in crate::postgres) failed: Vec<Option<String>>,
    pub(in crate::postgres) visible: Option<String>,
    pub(in crate::postgres) visible_failed: Option<String>,
    pub(in crate::postgres) denied: Option<String>,
    pub(in crate::postgres) read: BTreeSet<u32>,
    pub(in crate::postgres) held: BTreeSet<u32>,
    #[serde(skip)]
    pub(in crate::postgres) guards: Option<Vec<Option<String>>>,
}

impl Surroundings<'_> {
    /// The settings that are made for each group, after its own.
    pub(in crate::postgres) fn settings(self) -> [(String, String); 2] {
        [
            ("row_security".to_owned(), "on".to_owned()),
            ("search_path".to_owned(), self.search_path.to_owned()),
        ]
    }
}

/// Reads the JSON that a statement has returned.
pub(in crate::postgres) fn reply<T: serde::de::DeserializeOwned>(
    rows: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
) -> DbResult<T> {
    let rows = rows.map_err(|error| failed(CONTEXT, &error))?;
    let text: Option<&str> = rows.first().and_then(|row| row.try_get(0).ok());
    serde_json::from_str(text.unwrap_or_default()).map_err(|error| DbError::Statement {
        context: CONTEXT,
        message: error.to_string(),
    })
}

pub(super) fn denied(state: &str) -> Asked {
    nothing(Failure::Everything(state.to_owned()))
}

pub(super) fn not_asked() -> Asked {
    nothing(Failure::NotAsked)
}

fn nothing(failure: Failure) -> Asked {
    Asked {
        answers: Answers::Denied,
        read: BTreeSet::new(),
        held: BTreeSet::new(),
        failures: vec![failure],
        guards: None,
    }
}

/// Reads what `_rhtmx_sync_ask` returned, whose last questions were for the values of so many guards.
pub(in crate::postgres) fn read_reply(
    text: &str,
    subject: Subject<'_>,
    guards: usize,
) -> serde_json::Result<Asked> {
    let mut reply: Reply = serde_json::from_str(text)?;
    reply.take_guards(guards, subject);
    Ok(asked(reply, subject))
}

impl Reply {
    /// Takes the values of guards from behind the answers, so that a guard that has failed is no failure.
    pub(super) fn take_guards(&mut self, guards: usize, subject: Subject<'_>) {
        if guards == 0 || self.denied.is_some() {
            return;
        }
        let values = self
            .answers
            .split_off(self.answers.len().saturating_sub(guards));
        let failed = self
            .failed
            .split_off(self.failed.len().saturating_sub(guards));
        let are_known = !failed.iter().any(Option::is_some) && values.len() == guards;
        self.guards = are_known.then_some(values);
        if subject.plan.is_per_row() {
            // The visible keys are what was asked first.
            self.visible = self.answers.pop().flatten();
            self.visible_failed = self.failed.pop().flatten();
        } else if !self.failed.iter().any(Option::is_some) {
            (self.visible, self.visible_failed) = (None, None);
        }
    }
}

pub(super) fn asked(reply: Reply, subject: Subject<'_>) -> Asked {
    let mut failures: Vec<Failure> = Vec::new();
    failures.extend(reply.denied.map(Failure::Everything));
    failures.extend(reply.visible_failed.map(Failure::Visible));
    let failed = reply.failed.into_iter().enumerate();
    failures.extend(failed.filter_map(|(at, state)| Some(Failure::Question(at, state?))));
    let is_denied = failures
        .iter()
        .any(|failure| !matches!(failure, Failure::Question(..)));
    let visible = || {
        let keys: Vec<String> = serde_json::from_str(reply.visible.as_deref()?).ok()?;
        (keys.len() <= rls::Question::KEYS_MAX)
            .then(|| Answers::Visible(keys.into_iter().collect()))
    };
    let each = || {
        let questions = subject.plan.questions.iter().zip(&reply.answers);
        let table = Table::new(subject.schema, Backend::Postgres);
        let read = |(question, text): (_, &Option<String>)| {
            Answer::read(question, text.as_deref()?, table)
        };
        let answers: Option<Vec<Answer>> = questions.map(read).collect();
        answers.map(Answers::Each)
    };
    let answers = match is_denied {
        true => None,
        false if reply.visible.is_some() => visible(),
        false => each(),
    };
    Asked {
        answers: answers.unwrap_or(Answers::Denied),
        read: reply.read,
        held: reply.held,
        failures,
        guards: reply.guards,
    }
}
