//! Groups, asked on a connection of the listener.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join3};
use sync_core::membership::{AskedGroup, GroupAnswer, GroupQuestion, Question};
use tokio_postgres::types::Type;

use super::ask::{Asking, Clock, TAKE_BACK};
use crate::entity::Entity;
use crate::error::DbResult;
use crate::postgres::connect::failed;
use crate::postgres::one_snapshot::question_settings;
use crate::postgres::rls::group::{self, Asked, denied};
use crate::read::inquiry::filter_of;
use crate::sets::groups_of;

const CONTEXT: &str = "asking policies";

/// Questions that are asked by the same statements: of one plan, and about the same rows.
struct Together<'a> {
    entity: &'a Entity,
    rows: Option<&'a BTreeSet<String>>,
    positions: Vec<usize>,
    groups: Vec<Arc<AskedGroup>>,
}

impl Asking<'_> {
    /// Asks the groups among some questions, those of one plan together. Returns the answers with their positions.
    pub(super) async fn ask_groups(
        &self,
        questions: &[Question],
        of_questions: &[Vec<Arc<Entity>>],
        clock: &Clock,
    ) -> DbResult<Vec<(usize, GroupAnswer)>> {
        let mut all: Vec<Together<'_>> = Vec::new();
        for (position, question) in questions.iter().enumerate() {
            let (Question::Group(GroupQuestion { group, rows }), Some(entity)) =
                (question, of_questions[position].first())
            else {
                continue;
            };
            let is_same = |with: &&mut Together<'_>| {
                Arc::ptr_eq(with.groups[0].plan(), group.plan()) && with.rows == rows.as_deref()
            };
            match all.iter_mut().find(is_same) {
                Some(with) => {
                    with.positions.push(position);
                    with.groups.push(group.clone());
                }
                None => all.push(Together {
                    entity,
                    rows: rows.as_deref(),
                    positions: vec![position],
                    groups: vec![group.clone()],
                }),
            }
        }
        let mut answers = Vec::new();
        for together in all {
            let Together {
                entity,
                rows,
                positions,
                groups,
            } = together;
            let denied = || {
                let groups = groups.iter();
                groups
                    .map(|group| denied(group, "it cannot be asked"))
                    .collect()
            };
            let Some(timeout) = clock.share_of(1) else {
                answers.extend(positions.into_iter().zip::<Vec<_>>(denied()));
                continue;
            };
            let begin = format!("SAVEPOINT question; {}", question_settings(timeout));
            let begun = self.client.batch_execute(&begin);
            let asking = group::ask_together(self.client, self.log_schema, entity, rows, &groups);
            // The first statement need not wait for the savepoint: they come one after the other.
            let (begun, found) = join(begun, asking).await;
            begun.map_err(|error| failed(CONTEXT, &error))?;
            let ended = self.client.batch_execute(TAKE_BACK).await;
            ended.map_err(|error| failed(CONTEXT, &error))?;
            let found = found.unwrap_or_else(|_| denied());
            answers.extend(positions.into_iter().zip(found));
        }
        Ok(answers)
    }

    /// Asks the groups whose sets decide a question.
    pub(super) async fn ask_groups_of(
        &self,
        question: &Question,
        timeout: Duration,
    ) -> DbResult<Asked> {
        let mut asked = Asked::default();
        for group in filter_of(question).map_or_else(Vec::new, groups_of) {
            let answer = match self.entities.get(group.plan().entity()) {
                Some(entity) => self.ask_group(&group, entity, timeout).await?,
                None => denied(&group, "its table cannot be read"),
            };
            asked.insert(group, answer);
        }
        Ok(asked)
    }

    /// Asks a group. Everything is sent at once, so that other questions may be asked meanwhile.
    async fn ask_group(
        &self,
        group: &AskedGroup,
        entity: &Entity,
        timeout: Duration,
    ) -> DbResult<GroupAnswer> {
        let (sql, parameters) = group::statement(self.log_schema, entity, group, false);
        let begin = format!("SAVEPOINT question; {}", question_settings(timeout));
        let begun = self.client.batch_execute(&begin);
        let parameters: Vec<_> = parameters.iter().map(|it| (it as _, Type::TEXT)).collect();
        let reply = self.client.query_typed(&sql, &parameters);
        let (begun, reply, ended) = join3(begun, reply, self.client.batch_execute(TAKE_BACK)).await;
        for transaction in [begun, ended] {
            transaction.map_err(|error| failed(CONTEXT, &error))?;
        }
        let reply = reply.ok().and_then(|rows| rows.first()?.try_get(0).ok());
        let reply: Option<String> = reply;
        Ok(match reply {
            Some(reply) => group::answer(group, &reply, false),
            None => denied(group, "it cannot be asked"),
        })
    }
}
