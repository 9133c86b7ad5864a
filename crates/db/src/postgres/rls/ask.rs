//! Asks questions as the roles of groups, at the snapshot of the open transaction.
//!
//! Groups of one role are asked together ([`many`]), in chunks that are all sent at once. What fails there is asked alone, one
//! statement for each group, so that the statement time-out of the transaction is that of a group. `_rhtmx_sync_ask` catches
//! what fails, and takes back the role and every lock; so a group leaves nothing for the next one, and the locks are what
//! was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::try_join_all;
use rls::{Answers, Group};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::many::{self, OfGroup};
use super::reply::{Asked, Failure, Reply, Subject, Surroundings, asked, denied, not_asked, reply};
use crate::error::DbResult;
use crate::quote::ident;

/// For `SET ROLE` it is none, however it is quoted: the rights would be the engine's own.
const NO_ROLE: &str = "none";

/// What PostgreSQL answers where a role does not exist.
const INVALID_VALUE: &str = "22023";

/// The most groups of one call that may take too long. After that, nobody else is asked: who waits for the answers, and that is
/// everybody, has waited so many time-outs.
const SLOW_MAX: usize = 10;

/// The most statements that are sent at once. A call begins with one, in case what is asked takes too long.
const AT_ONCE_MAX: usize = 16;

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
            guards: None,
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
            for (chunk, of_groups) in chunks.into_iter().zip(replies) {
                let mut later = Vec::new();
                for (position, of_group) in chunk.into_iter().zip(of_groups) {
                    match of_group {
                        OfGroup::Answered(reply) => {
                            found[position] = Some(asked(reply, self.subject))
                        }
                        OfGroup::Slow(state) => {
                            slow += 1;
                            found[position] = Some(denied(&state));
                        }
                        OfGroup::Failed => alone.push(position),
                        OfGroup::NotBegun => later.push(position),
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

    async fn ask_chunk(&self, positions: &[usize]) -> DbResult<Vec<OfGroup>> {
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
        let mut reply = self.ask_group(group, self.subject.guards).await?;
        // A guard that fails must change nothing else, and nobody whose questions fail has guards.
        let has_failed = reply.guards.is_none() || reply.failed.iter().any(Option::is_some);
        if has_failed && reply.denied.is_none() && !self.subject.guards.is_empty() {
            reply = self.ask_group(group, &[]).await?;
        }
        Ok(asked(reply, self.subject))
    }

    /// Asks a group, and for the values of guards. Where there are any, nothing takes the place of what fails.
    async fn ask_group(&self, group: &Group, guards: &[String]) -> DbResult<Reply> {
        let sql = format!(
            "SELECT {}._rhtmx_sync_ask($1, $2, $3, $4, $5)",
            ident(self.around.schema)
        );
        let mut settings = group.values(self.around.known);
        settings.extend(self.around.settings());
        let (names, values): (Vec<String>, Vec<String>) = settings.into_iter().unzip();
        // The visible keys are asked for by themselves only where there is no question.
        let first =
            (self.questions.is_empty() && !guards.is_empty()).then_some(self.subject.visible);
        let questions = first
            .into_iter()
            .chain(self.questions.iter().map(String::as_str));
        let questions: Vec<&str> = questions.chain(guards.iter().map(String::as_str)).collect();
        let visible = guards.is_empty().then_some(self.subject.visible);
        let params: [(&(dyn ToSql + Sync), Type); 5] = [
            (&group.role, Type::TEXT),
            (&names, Type::TEXT_ARRAY),
            (&values, Type::TEXT_ARRAY),
            (&questions, Type::TEXT_ARRAY),
            (&visible, Type::TEXT),
        ];
        let mut reply: Reply = reply(self.client.query_typed(&sql, &params).await)?;
        reply.take_guards(guards.len(), self.subject);
        Ok(reply)
    }
}
