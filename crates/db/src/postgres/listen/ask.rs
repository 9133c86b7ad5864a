//! Questions on a connection of the listener, in an open transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all, join3};
use sync_core::membership::{Answer, Question};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};
use tracing::warn;

use crate::entity::Entity;
use crate::error::DbResult;
use crate::health::Health;
use crate::postgres::connect::failed;
use crate::postgres::inquiry::{fingerprints_sql, question_sql};
use crate::postgres::one_snapshot::question_settings;
use crate::quote::array;
use crate::read::inquiry::{
    AnswerCollector, AnswerLine, QuestionTime, are_known, entities_of, subject,
};
use crate::read::{Fingerprints, unreadable};

/// How many questions are sent before the answer to the first has come.
const QUESTIONS_AT_ONCE: usize = 16;
/// A question that has less time than this is not asked.
const TIME_MIN: Duration = Duration::from_millis(5);

/// Takes back what a question has set, and that it failed.
pub(super) const TAKE_BACK: &str = "ROLLBACK TO SAVEPOINT question; RELEASE SAVEPOINT question";

/// The time that questions have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    each: Duration,
    until: Instant,
}

impl Clock {
    pub(super) fn start(time: QuestionTime) -> Self {
        Self {
            each: time.each,
            until: Instant::now() + time.total,
        }
    }

    /// The time for each of some questions that are asked together; none when there is no more.
    pub(super) fn share_of(&self, questions: usize) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(questions).unwrap_or(u32::MAX).max(1);
        (left >= TIME_MIN).then(|| share.min(self.each))
    }
}

/// What happens to a question.
enum Asked {
    Answered(Answer),
    TooLong,
}

/// Asks on a connection.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) client: &'a Client,
    pub(super) log_schema: &'a str,
    pub(super) health: &'a Health,
    /// What questions may be about.
    pub(super) entities: &'a BTreeMap<String, Arc<Entity>>,
    /// The [prepared](prepare_fingerprints) statement for fingerprints, where the session may keep one.
    pub(super) fingerprints: Option<&'a Statement>,
}

impl Asking<'_> {
    /// Asks some questions, most of them in one round trip. None for one for which there was no time.
    pub(super) async fn ask(
        &self,
        questions: &[Question],
        clock: &Clock,
    ) -> DbResult<Vec<Option<Answer>>> {
        let of_questions: Vec<_> = questions
            .iter()
            .map(|question| entities_of(question, self.entities).unwrap_or_default())
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
                answers.extend(self.ask_together(some, clock).await?);
            }
            let groups = self.ask_groups(questions, &of_questions, clock).await?;
            for (position, answer) in groups {
                answers[position] = Some(Answer::Group(Box::new(answer)));
            }
            DbResult::Ok(answers)
        };
        let (found, answers) = join(self.fingerprints(&names), asking).await;
        let (found, answers) = (found?, answers?);
        let answers = answers.into_iter().zip(&of_questions);
        let answers = answers.map(|(answer, entities)| match are_known(entities, &found) {
            true => answer,
            false => answer.map(|_| Answer::Unknown),
        });
        Ok(answers.collect())
    }

    /// Asks some questions in one round trip, and those again for which their share of the time was too short.
    async fn ask_together(
        &self,
        questions: &[(&Question, &Vec<Arc<Entity>>)],
        clock: &Clock,
    ) -> DbResult<Vec<Option<Answer>>> {
        let Some(share) = clock.share_of(questions.len()) else {
            return Ok(questions.iter().map(|_| None).collect());
        };
        let asked = questions.iter().map(|&(question, entities)| async move {
            match (entities.first(), question) {
                (_, Question::Group(_)) | (None, _) => Ok(Asked::Answered(Answer::Unknown)),
                (Some(entity), _) => self.ask_one(question, entity, share).await,
            }
        });
        let mut answers = Vec::with_capacity(questions.len());
        for (asked, (question, entities)) in join_all(asked).await.into_iter().zip(questions) {
            let mut asked = asked?;
            let mut given = share;
            if let (Asked::TooLong, Some(entity)) = (&asked, entities.first())
                && let Some(more) = clock.share_of(1).filter(|more| *more > share)
            {
                given = more;
                asked = self.ask_one(question, entity, more).await?;
            }
            answers.push(match asked {
                Asked::Answered(answer) => Some(answer),
                Asked::TooLong => (given >= clock.each).then_some(Answer::TooLong),
            });
        }
        Ok(answers)
    }

    /// The fingerprints of these entities' tables at the snapshot.
    async fn fingerprints(&self, names: &BTreeSet<String>) -> DbResult<Fingerprints> {
        let context = "asking about a drain";
        let names = [array(names.iter())];
        let lines = match self.fingerprints {
            Some(statement) => self.client.query_raw(statement, &names).await,
            None => {
                let sql = fingerprints_sql(self.log_schema);
                self.client.query_typed_raw(&sql, typed(&names)).await
            }
        };
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
        timeout: Duration,
    ) -> DbResult<Asked> {
        let (entities, health) = (self.entities, self.health);
        let asked = self.ask_groups_of(question, timeout).await?;
        let around = (self.log_schema, health);
        let (sql, parameters) = question_sql(question, entity, entities, &asked, around);
        let begin = format!("SAVEPOINT question; {}", question_settings(timeout));
        let answer = async {
            let lines = self
                .client
                .query_typed_raw(&sql, typed(&parameters))
                .await?;
            let mut lines = pin!(lines);
            let mut collector = AnswerCollector::new(question, health);
            while let Some(line) = lines.next().await {
                let line = line?;
                let line = AnswerLine {
                    key: line.try_get(0)?,
                    row: line.try_get(1)?,
                    count: line.try_get(2)?,
                    metadata: line.try_get(3)?,
                };
                if let Some(answer) = collector.take(line) {
                    return Ok(answer);
                }
            }
            Ok::<_, tokio_postgres::Error>(collector.finish())
        };
        let begun = self.client.batch_execute(&begin);
        let ended = self.client.batch_execute(TAKE_BACK);
        let (begun, answer, ended) = join3(begun, answer, ended).await;
        for transaction in [begun, ended] {
            transaction.map_err(|error| failed("asking about a drain", &error))?;
        }
        Ok(match answer {
            Ok(answer) => Asked::Answered(answer),
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => Asked::TooLong,
            Err(error) => {
                // The message may contain values.
                let code = error.code().map(SqlState::code);
                let entity = subject(question);
                warn!(entity, code, "the database could not say who is a member");
                Asked::Answered(Answer::Unknown)
            }
        })
    }
}

/// Prepares the statement for fingerprints, which takes most of the time of one that is not prepared.
pub(super) async fn prepare_fingerprints(client: &Client, log_schema: &str) -> DbResult<Statement> {
    let prepared = client.prepare(&fingerprints_sql(log_schema)).await;
    prepared.map_err(|error| failed("preparing what is asked about a drain", &error))
}

/// Parameters of an unnamed statement, of which nothing stays in a pooler's session.
pub(super) fn typed(parameters: &[String]) -> impl ExactSizeIterator<Item = (&str, Type)> {
    parameters
        .iter()
        .map(|parameter| (parameter.as_str(), Type::TEXT))
}
