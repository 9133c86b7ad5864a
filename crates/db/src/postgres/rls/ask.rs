//! Asks questions as the roles of groups, at the snapshot of the open transaction.
//!
//! Groups of one role are asked together ([`many`]), in chunks that are all sent at once. What fails there is asked alone, one
//! statement for each group, so that the statement time-out of the transaction is that of a group. `_rhtmx_sync_ask` catches
//! what fails, and takes back the role and every lock; so a group leaves nothing for the next one, and the locks are what
//! was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use filter::{Backend, Table};
use futures_util::future::try_join_all;
use rls::{Answer, Answers, Group, Plan};
use serde::Deserialize;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use value::schema::Schema;

use super::many::{self, Outcome};
use crate::error::{DbError, DbResult};
use crate::postgres::connect::failed;
use crate::quote::ident;

pub(in crate::postgres) const CONTEXT: &str = "asking policies";

/// For `SET ROLE` it is none, however it is quoted: the rights would be the engine's own.
const NO_ROLE: &str = "none";

/// What PostgreSQL answers where a role does not exist.
const INVALID_VALUE: &str = "22023";

/// The most groups of one call that may take too long. After that, nobody else is asked: who waits for the answers, and that is
/// everybody, has waited so many time-outs.
const SLOW_MAX: usize = 10;

/// The most statements that are sent at once. A call begins with one, in case what is asked takes too long.
const AT_ONCE_MAX: usize = 16;

/// A table whose policies are asked.
#[derive(Debug, Clone, Copy)]
pub(in crate::postgres) struct Subject<'a> {
    pub(in crate::postgres) plan: &'a Plan,
    pub(in crate::postgres) schema: &'a Schema,
    /// The statement for the keys of the rows that the role sees, as one text.
    pub(in crate::postgres) visible: &'a str,
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
    fn is_slow(&self) -> bool {
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
}

/// Asks for several groups, in few round trips.
///
/// # Errors
/// When the connection fails, or what was sent was not understood. A question that fails is a [`Failure`].
pub(in crate::postgres) async fn ask(
    client: &Client,
    around: Surroundings<'_>,
    subject: Subject<'_>,
    groups: &[Group],
) -> DbResult<Vec<Asked>> {
    let questions = subject.plan.questions.iter().map(rls::Question::sql);
    let questions: Vec<String> = match subject.plan.is_per_row() {
        true => Vec::new(),
        false => questions.collect(),
    };
    if questions.is_empty() && !subject.plan.is_per_row() {
        // The policies look at the row alone.
        let nothing = Asked {
            answers: Answers::Each(Vec::new()),
            read: BTreeSet::new(),
            held: BTreeSet::new(),
            failures: Vec::new(),
        };
        return Ok(vec![nothing; groups.len()]);
    }
    let asking = Asking {
        client,
        around,
        subject,
        questions: &questions,
        groups,
    };
    asking.run().await
}

/// The groups of one call, and what they are asked.
struct Asking<'a> {
    client: &'a Client,
    around: Surroundings<'a>,
    subject: Subject<'a>,
    questions: &'a [String],
    groups: &'a [Group],
}

impl Asking<'_> {
    async fn run(self) -> DbResult<Vec<Asked>> {
        let mut found: Vec<Option<Asked>> = vec![None; self.groups.len()];
        let (mut together, mut alone) = self.places();
        let mut slow = 0;
        let mut at_once = 1;
        while !together.is_empty() && slow < SLOW_MAX {
            let chunks: Vec<Vec<usize>> = together.drain(..at_once.min(together.len())).collect();
            let replies = try_join_all(chunks.iter().map(|chunk| self.ask_chunk(chunk))).await?;
            for (chunk, outcomes) in chunks.into_iter().zip(replies) {
                let mut later = Vec::new();
                for (position, outcome) in chunk.into_iter().zip(outcomes) {
                    match outcome {
                        Outcome::Answered(reply) => {
                            found[position] = Some(asked(reply, self.subject))
                        }
                        Outcome::Slow(state) => {
                            slow += 1;
                            found[position] = Some(denied(&state));
                        }
                        Outcome::Failed => alone.push(position),
                        Outcome::NotBegun => later.push(position),
                    }
                }
                // They stay together: a chunk is of one role.
                if !later.is_empty() {
                    together.push(later);
                }
            }
            at_once = (at_once * 2).min(AT_ONCE_MAX);
        }
        let (mut alone, mut at_once) = (&alone[..], 1);
        while !alone.is_empty() && slow < SLOW_MAX {
            let (some, others) = alone.split_at(at_once.min(alone.len()));
            let replies = some
                .iter()
                .map(|position| self.ask_alone(&self.groups[*position]));
            for (position, asked) in some.iter().zip(try_join_all(replies).await?) {
                slow += usize::from(asked.failures.iter().any(Failure::is_slow));
                found[*position] = Some(asked);
            }
            alone = others;
            at_once = (at_once * 2).min(AT_ONCE_MAX);
        }
        let all = found.into_iter();
        Ok(all.map(|asked| asked.unwrap_or_else(not_asked)).collect())
    }

    /// The positions of the groups that are asked together, of one role each, and of those that are asked alone. Each call
    /// begins with another group, so that those come last in turn for whom there is no time.
    fn places(&self) -> (Vec<Vec<usize>>, Vec<usize>) {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let mut alone = Vec::new();
        let mut roles = BTreeMap::<&str, Vec<usize>>::new();
        let count = self.groups.len();
        let first = CALLS.fetch_add(1, Ordering::Relaxed) % count.max(1);
        for position in (first..count).chain(0..first) {
            let group = &self.groups[position];
            match group.apart || group.role == NO_ROLE {
                true => alone.push(position),
                false => roles.entry(&group.role).or_default().push(position),
            }
        }
        let mut chunks = Vec::new();
        for positions in roles.into_values() {
            match positions[..] {
                [one] => alone.push(one),
                _ => chunks.extend(positions.chunks(many::GROUPS_MAX).map(<[_]>::to_vec)),
            }
        }
        (chunks, alone)
    }

    async fn ask_chunk(&self, positions: &[usize]) -> DbResult<Vec<Outcome>> {
        let groups = positions.iter().map(|position| &self.groups[*position]);
        let groups = groups.collect();
        many::ask(
            self.client,
            self.around,
            self.subject,
            self.questions,
            groups,
        )
        .await
    }

    async fn ask_alone(&self, group: &Group) -> DbResult<Asked> {
        if group.role == NO_ROLE {
            return Ok(denied(INVALID_VALUE));
        }
        let reply = ask_alone(
            self.client,
            self.around,
            self.subject,
            self.questions,
            group,
        );
        Ok(asked(reply.await?, self.subject))
    }
}

async fn ask_alone(
    client: &Client,
    around: Surroundings<'_>,
    subject: Subject<'_>,
    questions: &[String],
    group: &Group,
) -> DbResult<Reply> {
    let sql = format!(
        "SELECT {}._rhtmx_sync_ask($1, $2, $3, $4, $5)",
        ident(around.schema)
    );
    let mut settings = group.values(around.known);
    settings.extend(around.settings());
    let (names, values): (Vec<String>, Vec<String>) = settings.into_iter().unzip();
    let params: [(&(dyn ToSql + Sync), Type); 5] = [
        (&group.role, Type::TEXT),
        (&names, Type::TEXT_ARRAY),
        (&values, Type::TEXT_ARRAY),
        (&questions, Type::TEXT_ARRAY),
        (&subject.visible, Type::TEXT),
    ];
    let rows = client.query_typed(&sql, &params).await;
    reply(rows)
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

fn denied(state: &str) -> Asked {
    nothing(Failure::Everything(state.to_owned()))
}

fn not_asked() -> Asked {
    nothing(Failure::NotAsked)
}

fn nothing(failure: Failure) -> Asked {
    Asked {
        answers: Answers::Denied,
        read: BTreeSet::new(),
        held: BTreeSet::new(),
        failures: vec![failure],
    }
}

/// Reads what `_rhtmx_sync_ask` returned.
pub(in crate::postgres) fn read_reply(
    text: &str,
    subject: Subject<'_>,
) -> serde_json::Result<Asked> {
    serde_json::from_str(text).map(|reply| asked(reply, subject))
}

fn asked(reply: Reply, subject: Subject<'_>) -> Asked {
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
    }
}
