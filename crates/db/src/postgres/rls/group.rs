//! Groups, asked in a transaction that is open already: a drain's, a first read's, a resume's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use filter::{AskedSource as _, Set};
use rls::{Answers, Question};
use sync_core::membership::{AskedGroup, Contents, GroupAnswer};
use tokio_postgres::Client;
use tracing::debug;

use super::ask;
use super::reply::{self, Subject, Surroundings, read_reply};
use super::visible::visible_sql;
use crate::entity::Entity;
use crate::error::DbResult;
use crate::quote::{array, ident};

/// What groups were answered, at one snapshot.
#[derive(Debug, Default)]
pub(in crate::postgres) struct Asked(BTreeMap<Box<str>, (Arc<AskedGroup>, GroupAnswer)>);

impl Asked {
    /// Notes an answer.
    pub(in crate::postgres) fn insert(&mut self, group: Arc<AskedGroup>, answer: GroupAnswer) {
        self.0.insert(group.name().into(), (group, answer));
    }

    /// What a set holds. None when its group has not been asked.
    pub(in crate::postgres) fn contents(&self, set: &Set) -> Option<Contents> {
        let (group, answer) = self.0.get(set.asked()?.source.name())?;
        Some(group.contents(set, &answer.answers))
    }
}

/// The statement that asks a group about an entity, and for the values of guards if that is wanted, which returns one text, and
/// its parameters, all of them texts.
pub(in crate::postgres) fn statement(
    log_schema: &str,
    entity: &Entity,
    group: &AskedGroup,
    with_guards: bool,
) -> (String, Vec<String>) {
    let plan = group.plan();
    let guards = plan.all_guards().filter(|_| with_guards);
    let guards: Vec<String> = guards.map(rls::Guard::sql).collect();
    let mut visible = visible_sql(entity, None).unwrap_or_default();
    let mut questions: Vec<String> = match plan.plan.is_per_row() {
        // It is asked when there are no questions, or one fails.
        true if guards.is_empty() => Vec::new(),
        true => vec![std::mem::take(&mut visible)],
        false => plan.plan.questions.iter().map(Question::sql).collect(),
    };
    questions.extend(guards);
    let mut settings = group.group().values(&plan.settings);
    settings.push(("row_security".to_owned(), "on".to_owned()));
    settings.push(("search_path".to_owned(), plan.search_path.to_string()));
    let (names, values): (Vec<String>, Vec<String>) = settings.into_iter().unzip();
    let sql = format!(
        "SELECT {}._rhtmx_sync_ask($1::text, $2::text::text[], $3::text::text[], $4::text::text[], nullif($5::text, ''))",
        ident(log_schema)
    );
    let parameters = vec![
        group.group().role.clone(),
        array(names.iter()),
        array(values.iter()),
        array(questions.iter()),
        visible,
    ];
    (sql, parameters)
}

/// What a group was answered with this text, with the values of guards or without.
pub(in crate::postgres) fn answer(
    group: &AskedGroup,
    text: &str,
    with_guards: bool,
) -> GroupAnswer {
    let guards = group.plan().all_guards().filter(|_| with_guards).count();
    let plan = group.plan();
    let subject = Subject {
        plan: &plan.plan,
        schema: &plan.schema,
        visible: "",
        guards: &[],
    };
    match read_reply(text, subject, guards) {
        Ok(asked) => answered(group, asked),
        Err(_) => denied(group, "it cannot be understood"),
    }
}

/// Asks groups of one plan in the open transaction, in few round trips. Where the visible rows' keys are asked for, only about
/// these rows, if there are any.
///
/// # Errors
/// When the connection fails, or the transaction has.
pub(in crate::postgres) async fn ask_together(
    client: &Client,
    log_schema: &str,
    entity: &Entity,
    rows: Option<&BTreeSet<String>>,
    groups: &[Arc<AskedGroup>],
) -> DbResult<Vec<GroupAnswer>> {
    let Some(plan) = groups.first().map(|group| group.plan().clone()) else {
        return Ok(Vec::new());
    };
    let around = Surroundings {
        schema: log_schema,
        search_path: &plan.search_path,
        known: &plan.settings,
    };
    let visible = visible_sql(entity, rows).unwrap_or_default();
    let guards: Vec<String> = plan.all_guards().map(rls::Guard::sql).collect();
    let subject = Subject {
        plan: &plan.plan,
        schema: &plan.schema,
        visible: &visible,
        guards: &guards,
    };
    let of_sessions: Vec<rls::Group> = groups.iter().map(|group| group.group().clone()).collect();
    let asked = ask::ask(client, around, subject, &of_sessions).await?;
    let answers = groups.iter().zip(asked);
    Ok(answers
        .map(|(group, asked)| answered(group, asked))
        .collect())
}

fn answered(group: &AskedGroup, asked: reply::Asked) -> GroupAnswer {
    let plan = group.plan();
    for failure in &asked.failures {
        // The message of the database may contain values; the state does not.
        let (entity, role) = (plan.entity(), &group.group().role);
        debug!(entity, role, ?failure, "a policy failed");
    }
    GroupAnswer {
        answers: asked.answers,
        read: asked.read,
        held: asked.held,
        has_failed: !asked.failures.is_empty(),
        guards: asked.guards,
    }
}

/// The answer to a group that could not be asked: it sees nothing.
pub(in crate::postgres) fn denied(group: &AskedGroup, why: &str) -> GroupAnswer {
    let (entity, role) = (group.plan().entity(), &group.group().role);
    debug!(
        entity,
        role, why, "the database did not say what a role sees; it sees nothing"
    );
    GroupAnswer {
        answers: Answers::Denied,
        read: BTreeSet::new(),
        held: BTreeSet::new(),
        has_failed: true,
        guards: None,
    }
}
