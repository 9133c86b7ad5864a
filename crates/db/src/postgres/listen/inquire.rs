//! A drain that also asks: one transaction, and so one snapshot, for its entries and for all questions about them.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all, join3};
use sync_core::cursor::{CommitId, Position};
use sync_core::log::NetChange;
use sync_core::membership::{Answer, Question};
use tokio_postgres::RowStream;
use tokio_postgres::types::Type;
use tracing::warn;

use super::Line;
use super::drain::{CONTEXT, change_row};
use super::line::settings_of_drains;
use crate::entity::Entity;
use crate::error::DbResult;
use crate::feed::{Drain, DrainError, InquiryStart};
use crate::health::Unreadable;
use crate::postgres::connect::failed;
use crate::postgres::inquiry::{fingerprints_sql, question_sql};
use crate::postgres::one_snapshot::{ONE_SNAPSHOT, lock_sql, question_settings};
use crate::postgres::read::{changes_sql, commit_id, parameters};
use crate::quote::array;
use crate::read::collect::{ChangesCollector, ITEMS_PER_CHUNK};
use crate::read::inquiry::{
    self, AnswerCollector, AnswerLine, Collected, are_known, entities_of, subject,
};
use crate::read::{Fingerprints, OldValueColumns, Part, unreadable};

/// How many questions are sent before the answer to the first has come.
const QUESTIONS_AT_ONCE: usize = 16;

/// Takes back what a question has set, and that it failed.
pub(super) const TAKE_BACK: &str = "ROLLBACK TO SAVEPOINT question; RELEASE SAVEPOINT question";

type Entities = BTreeMap<String, Arc<Entity>>;

impl Line<'_> {
    /// Drains once, and asks the subscriber's questions at the drain's snapshot.
    pub(super) async fn drain_inquiring(
        &mut self,
        from: &Position,
        gives_up: bool,
    ) -> Result<(Arc<Position>, bool), DrainError> {
        let subscriber = self.owner.context.subscriber.clone();
        let old_value_columns = subscriber.old_value_columns();
        let mut drain = Drain::new(&*subscriber, from, old_value_columns.clone());
        if !gives_up {
            drain = drain.awaiting(self.draining.left_out.because_of(Unreadable::Locked));
        }
        let read = self
            .read_and_ask(&mut drain, from, &old_value_columns)
            .await;
        if !self.is_own_session {
            // Closed before the transaction ends, as long as the pooler still leads to the same session.
            self.draining.prepared = None;
        }
        // Before anything is published: looking at a table that has changed may wait for the drain's own locks.
        let end = if read.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.l.batch_execute(end).await;
        let mut kept = read?.into_iter().peekable();
        ended.map_err(|error| failed("ending a drain", &error))?;
        while kept.peek().is_some() {
            let chunk = kept.by_ref().take(ITEMS_PER_CHUNK).collect();
            drain.take_entries(chunk).await?;
        }
        drain.finish().ok_or(DrainError::Gap)
    }

    /// Reads what is new and asks about it. Returns the entries that are still to be published.
    async fn read_and_ask(
        &mut self,
        drain: &mut Drain<'_>,
        from: &Position,
        old_value_columns: &Arc<OldValueColumns>,
    ) -> Result<Vec<NetChange>, DrainError> {
        let Position::Snapshot(snapshot) = from else {
            return Err(DrainError::Gap);
        };
        let entities = self.owner.context.entities.with_missing();
        let parameters = parameters(snapshot, &entities, old_value_columns);
        let undo = !old_value_columns.is_empty();
        let begin = self.begin_inquiring(&entities);
        let beginning = |error| failed("beginning a drain", &error);
        let (statement, lines) = if self.is_own_session {
            // Together they are one round trip.
            let statement = self.statement(&entities, undo).await?;
            let read = self.l.query_raw(&statement, &parameters);
            let (begun, lines) = join(self.l.batch_execute(&begin), read).await;
            begun.map_err(beginning)?;
            (statement, lines)
        } else {
            self.l.batch_execute(&begin).await.map_err(beginning)?;
            let statement = self.statement(&entities, undo).await?;
            let lines = self.l.query_raw(&statement, &parameters).await;
            (statement, lines)
        };
        let lines = lines.map_err(|error| failed(CONTEXT, &error))?;
        let askable = self.askable(&entities);
        let mut kept = Collected::default();
        if self.collect(lines, Some(drain), &mut kept).await? {
            self.inquire(drain, &kept.entries, &askable).await?;
            return Ok(kept.entries);
        }
        let mut deciding = (*entities).clone();
        let decides = self.owner.context.subscriber.deciding();
        deciding.retain(|name, _| decides.contains(name));
        let entries = self.read_deciding(from, &deciding, old_value_columns);
        let entries = entries.await?;
        self.inquire(drain, &entries, &askable).await?;
        let lines = self.l.query_raw(&statement, &parameters).await;
        let mut lines = pin!(lines.map_err(|error| failed(CONTEXT, &error))?);
        let mut collector = self.collector();
        while let Some(line) = lines.next().await {
            let row = line.and_then(|line| change_row(&line));
            let row = row.map_err(|error| failed(CONTEXT, &error))?;
            for part in collector.take(row)? {
                drain.take(part).await?;
            }
        }
        Ok(match collector.finish() {
            Some(Part::Items(last)) => last,
            _ => Vec::new(),
        })
    }

    /// Begins the transaction, and locks its tables before it has a snapshot: a table that is truncated behind a
    /// snapshot is empty for it.
    fn begin_inquiring(&self, entities: &Entities) -> String {
        let lock = lock_sql(entities, &self.draining.left_out.names());
        let settings = if self.is_own_session {
            String::new()
        } else {
            settings_of_drains("SET LOCAL")
        };
        format!("BEGIN {ONE_SNAPSHOT}; {settings}; {lock}")
    }

    /// The entities that questions may be about.
    fn askable(&self, entities: &Entities) -> Entities {
        let mut askable = entities.clone();
        askable.retain(|name, _| !self.draining.left_out.contains(name));
        askable
    }

    fn collector(&self) -> ChangesCollector {
        ChangesCollector::new(commit_id, Fingerprints::new(), self.owner.health.clone())
    }

    /// Keeps what a statement returns. Returns whether all of it could be kept.
    async fn collect(
        &self,
        lines: RowStream,
        mut drain: Option<&mut Drain<'_>>,
        kept: &mut Collected,
    ) -> Result<bool, DrainError> {
        let mut lines = pin!(lines.fuse());
        let mut collector = self.collector();
        loop {
            let parts = match lines.next().await {
                Some(line) => {
                    let row = line.and_then(|line| change_row(&line));
                    let row = row.map_err(|error| failed(CONTEXT, &error))?;
                    if row.is_without_floor() {
                        return Err(DrainError::Gap);
                    }
                    collector.take(row)?
                }
                None => match collector.finish() {
                    Some(last) => vec![last],
                    None => return Ok(true),
                },
            };
            for part in parts {
                match (part, &mut drain) {
                    (Part::Start(start), Some(drain)) => drain.begin(start)?,
                    (Part::Items(entries), drain) => {
                        if let Some(drain) = drain {
                            drain.check(&entries)?;
                        }
                        if !kept.take(entries) {
                            return Ok(false);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// The new entries of the entities that decide what is asked, of a drain that is too large to be kept.
    async fn read_deciding(
        &self,
        from: &Position,
        deciding: &Entities,
        old_value_columns: &OldValueColumns,
    ) -> Result<Vec<NetChange>, DrainError> {
        let Position::Snapshot(snapshot) = from else {
            return Err(DrainError::Gap);
        };
        let sql = changes_sql(
            &self.log_schema,
            deciding,
            &self.draining.left_out.names(),
            &self.owner.health,
            (!old_value_columns.is_empty(), &Fingerprints::new()),
        );
        let lines = self
            .l
            .query_typed_raw(
                &sql,
                typed(&parameters(snapshot, deciding, old_value_columns)),
            )
            .await
            .map_err(|error| failed(CONTEXT, &error))?;
        let mut kept = Collected::default();
        if self.collect(lines, None, &mut kept).await? {
            return Ok(kept.entries);
        }
        Ok(inquiry::unread(deciding.keys(), CommitId::Xid(0)))
    }

    /// Asks until the subscriber has no more questions.
    async fn inquire(
        &self,
        drain: &Drain<'_>,
        entries: &[NetChange],
        askable: &Entities,
    ) -> Result<(), DrainError> {
        let subscriber = &self.owner.context.subscriber;
        let (position, old_value_columns) = drain.read().ok_or(DrainError::Gap)?;
        let mut questions = subscriber.begin_inquiry(&InquiryStart {
            position,
            entries,
            old_value_columns,
        });
        while !questions.is_empty() {
            let answers = self.ask(&questions, askable).await?;
            questions = subscriber.answer(answers);
        }
        Ok(())
    }

    /// Asks some questions, most of them in one round trip.
    async fn ask(&self, questions: &[Question], askable: &Entities) -> DbResult<Vec<Answer>> {
        let of_questions: Vec<_> = questions
            .iter()
            .map(|question| entities_of(question, askable).unwrap_or_default())
            .collect();
        let names: BTreeSet<String> = of_questions
            .iter()
            .flatten()
            .map(|entity| entity.schema.entity.clone())
            .collect();
        let asking = async {
            let mut answers = Vec::new();
            let asked: Vec<_> = questions.iter().zip(&of_questions).collect();
            for some in asked.chunks(QUESTIONS_AT_ONCE) {
                let some = some.iter().map(|&(question, entities)| async move {
                    match (entities.first(), question) {
                        (_, Question::Group(_)) | (None, _) => Ok(Answer::Unknown),
                        (Some(entity), _) => self.ask_one(question, entity, askable).await,
                    }
                });
                answers.extend(join_all(some).await);
            }
            answers
        };
        let (found, mut answers) = join(self.fingerprints(&names), asking).await;
        let found = found?;
        for (position, answer) in self.ask_groups(questions, &of_questions).await? {
            answers[position] = Ok(Answer::Group(Box::new(answer)));
        }
        let answers = answers.into_iter().zip(&of_questions);
        answers
            .map(|(answer, entities)| match are_known(entities, &found) {
                true => answer,
                false => answer.map(|_| Answer::Unknown),
            })
            .collect()
    }

    /// The fingerprints of these entities' tables at the snapshot.
    async fn fingerprints(&self, names: &BTreeSet<String>) -> DbResult<Fingerprints> {
        let context = "asking about a drain";
        let names = [array(names.iter())];
        let sql = fingerprints_sql(&self.log_schema);
        let lines = self.l.query_typed_raw(&sql, typed(&names)).await;
        let mut lines = pin!(lines.map_err(|error| failed(context, &error))?);
        let mut found = Fingerprints::new();
        while let Some(line) = lines.next().await {
            let text = line.and_then(|line| line.try_get::<_, String>(0));
            let text = text.map_err(|error| failed(context, &error))?;
            found = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
        }
        Ok(found)
    }

    /// Asks one question about rows of this entity. Everything is sent at once.
    async fn ask_one(
        &self,
        question: &Question,
        entity: &Entity,
        askable: &Entities,
    ) -> DbResult<Answer> {
        let health = &self.owner.health;
        let asked = self.ask_groups_of(question, askable).await?;
        let around = (self.log_schema.as_str(), &**health);
        let (sql, parameters) = question_sql(question, entity, askable, &asked, around);
        let begin = format!("SAVEPOINT question; {}", question_settings());
        let answer = async {
            let lines = self.l.query_typed_raw(&sql, typed(&parameters)).await?;
            let mut lines = pin!(lines);
            let mut collector = AnswerCollector::new(question, health);
            while let Some(line) = lines.next().await {
                let line = line?;
                let line = AnswerLine {
                    key: line.try_get(0)?,
                    row: line.try_get(1)?,
                    count: line.try_get(2)?,
                };
                if let Some(answer) = collector.take(line) {
                    return Ok(answer);
                }
            }
            Ok::<_, tokio_postgres::Error>(collector.finish())
        };
        let begun = self.l.batch_execute(&begin);
        let (begun, answer, ended) = join3(begun, answer, self.l.batch_execute(TAKE_BACK)).await;
        for transaction in [begun, ended] {
            transaction.map_err(|error| failed("asking about a drain", &error))?;
        }
        Ok(answer.unwrap_or_else(|error| {
            // The message may contain values.
            let code = error.code().map(|code| code.code());
            warn!(
                entity = subject(question),
                code, "the database could not say who is a member"
            );
            Answer::Unknown
        }))
    }
}

/// Parameters of an unnamed statement, of which nothing stays in a pooler's session.
fn typed(parameters: &[String]) -> impl ExactSizeIterator<Item = (&str, Type)> {
    parameters
        .iter()
        .map(|parameter| (parameter.as_str(), Type::TEXT))
}
