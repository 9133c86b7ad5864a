//! Asks several groups of one role in one statement.
//!
//! `_rhtmx_sync_ask_many` plans each question once and asks it for one group after the other. Between two of them only the
//! settings change, all of those that policies read: so nothing of one group is left for the next, unless a function of
//! the application's own changes a setting. Such groups are not asked here ([`Group::apart`]).

use std::collections::{BTreeMap, BTreeSet};

use rls::Group;
use serde::Deserialize;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::reply::{Reply, Subject, Surroundings, is_slow, reply};
use crate::error::DbResult;
use crate::quote::ident;

/// The most groups in one statement.
pub(super) const GROUPS_MAX: usize = 250;

/// What became of a group.
pub(super) enum OfGroup {
    /// It was answered.
    Answered(Reply),
    /// It took too long, with this SQLSTATE.
    Slow(String),
    /// Something failed. What the group sees must be asked in another way.
    Failed,
    /// Its turn did not come.
    NotBegun,
}

#[derive(Deserialize)]
struct Replies {
    done: usize,
    answers: Vec<Option<String>>,
    failed: Vec<Option<String>>,
    denied: Option<String>,
    read: BTreeSet<u32>,
    held: BTreeSet<u32>,
}

/// Asks for groups of one role. At least one of them is begun.
///
/// # Errors
/// When the connection fails, or what was sent was not understood.
pub(super) async fn ask(
    client: &Client,
    around: Surroundings<'_>,
    subject: Subject<'_>,
    questions: &[String],
    groups: Vec<&Group>,
) -> DbResult<Vec<OfGroup>> {
    let Some(role) = groups.first().map(|group| &group.role) else {
        return Ok(Vec::new());
    };
    let visible = [subject.visible.to_owned()];
    let questions = match questions {
        [] => &visible[..],
        questions => questions,
    };
    let questions: Vec<&String> = questions.iter().chain(subject.guards).collect();
    let sql = format!(
        "SELECT {}._rhtmx_sync_ask_many($1, $2, $3, $4, $5, $6, $7)",
        ident(around.schema)
    );
    let settings = Settings::of(around, &groups);
    let count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
    let params: [(&(dyn ToSql + Sync), Type); 7] = [
        (&role, Type::TEXT),
        (&settings.same_names, Type::TEXT_ARRAY),
        (&settings.same_values, Type::TEXT_ARRAY),
        (&count, Type::INT4),
        (&settings.names, Type::TEXT_ARRAY),
        (&settings.values, Type::TEXT_ARRAY),
        (&questions, Type::TEXT_ARRAY),
    ];
    let replies: Replies = reply(client.query_typed(&sql, &params).await)?;
    Ok(of_groups(replies, subject, groups.len()))
}

fn of_groups(replies: Replies, subject: Subject<'_>, groups: usize) -> Vec<OfGroup> {
    let is_per_row = subject.plan.is_per_row();
    let width = match is_per_row {
        true => 1,
        false => subject.plan.questions.len(),
    };
    let guards = subject.guards.len();
    let mut answers = replies.answers.into_iter();
    let of_group = |group: usize| {
        if replies.denied.is_some() {
            return OfGroup::Failed;
        }
        if group >= replies.done {
            return OfGroup::NotBegun;
        }
        let mut answers: Vec<Option<String>> = answers.by_ref().take(width + guards).collect();
        let guards = answers.split_off(width.min(answers.len()));
        let mut reply = Reply {
            read: replies.read.clone(),
            held: replies.held.clone(),
            guards: (!subject.guards.is_empty()).then_some(guards),
            ..Reply::default()
        };
        match replies.failed.get(group) {
            Some(Some(state)) if is_slow(state) => return OfGroup::Slow(state.clone()),
            Some(None) if is_per_row => reply.visible = answers.into_iter().next().flatten(),
            Some(None) => reply.answers = answers,
            _ => return OfGroup::Failed,
        }
        OfGroup::Answered(reply)
    };
    (0..groups).map(of_group).collect()
}

/// The settings of several groups: those that all share, and the others, for each group in turn.
#[derive(Default)]
struct Settings {
    same_names: Vec<String>,
    same_values: Vec<String>,
    names: Vec<String>,
    values: Vec<String>,
}

impl Settings {
    fn of(around: Surroundings<'_>, groups: &[&Group]) -> Self {
        let of_groups = groups.iter().map(|group| group.values(around.known));
        let of_groups: Vec<BTreeMap<String, String>> = of_groups
            .map(|values| values.into_iter().collect())
            .collect();
        let names: BTreeSet<&String> = of_groups.iter().flat_map(BTreeMap::keys).collect();
        let mut settings = Self::default();
        let value = |values: &BTreeMap<String, String>, name: &str| {
            // A group without a setting must not have that of another.
            values.get(name).cloned().unwrap_or_default()
        };
        for name in names {
            let first = of_groups.first().map(|values| value(values, name));
            let first = first.unwrap_or_default();
            if of_groups.iter().all(|values| value(values, name) == first) {
                settings.same_names.push(name.clone());
                settings.same_values.push(first);
            } else {
                settings.names.push(name.clone());
            }
        }
        for values in &of_groups {
            let of_group = settings.names.iter().map(|name| value(values, name));
            settings.values.extend(of_group);
        }
        // After those of the groups, none of which may take their place.
        for (name, value) in around.settings() {
            settings.same_names.push(name);
            settings.same_values.push(value);
        }
        settings
    }
}
