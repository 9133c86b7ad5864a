//! Questions as SQL, asked in the transaction of a read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::DefaultLoadingMode;
use diesel::deserialize;
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection};
use filter::{Condition, Window};
use sync_core::membership::{Answer, Question};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::filter::Predicates;
use super::projection;
use super::read::{DIALECT, read_one, row_text};
use super::statement::{Statement, Value};
use super::time_limit;
use crate::entity::{Entity, RowsSql};
use crate::error::Failed;
use crate::health::Health;
use crate::quote::{ident, literal};
use crate::read::inquiry::{
    self, AnswerCollector, AnswerLine, QuestionTime, are_known, entities_of, subject,
};
use crate::read::sql;
use crate::read::{ALONE, Fingerprints};
use crate::sets;

impl QueryableByName<Sqlite> for AnswerLine {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        Ok(Self {
            key: row_text(row, "key")?,
            row: row_text(row, "row")?,
            count: NamedRow::get::<Nullable<BigInt>, _>(row, "count")?,
            metadata: row_text(row, "metadata")?,
        })
    }
}

/// The time that questions have.
#[derive(Debug)]
pub(super) struct Clock {
    each: Duration,
    until: Instant,
    ended: CancellationToken,
}

impl Clock {
    /// Starts. The time is up before when `ended` is cancelled.
    pub(super) fn start(time: QuestionTime, ended: CancellationToken) -> Self {
        Self {
            each: time.each,
            until: Instant::now() + time.total,
            ended,
        }
    }
}

/// Asks some questions. One that fails harms no other. None for one for which there was no time.
pub(super) fn ask(
    conn: &mut SqliteConnection,
    questions: &[Question],
    entities: &BTreeMap<String, Arc<Entity>>,
    health: &Health,
    clock: &Clock,
) -> QueryResult<Vec<Option<Answer>>> {
    let of_questions: Vec<_> = questions
        .iter()
        .map(|question| entities_of(question, entities).unwrap_or_default())
        .collect();
    let found = fingerprints(conn, of_questions.iter().flatten())?;
    let questions = questions.iter().zip(&of_questions);
    let answers = questions.map(|(question, of_question)| {
        let Some(entity) = of_question.as_slice().first() else {
            return Some(Answer::Unknown);
        };
        if !are_known(of_question, &found) {
            return Some(Answer::Unknown);
        }
        let now = Instant::now();
        let until = clock.until.min(now + clock.each);
        if until <= now {
            return None;
        }
        let ask = || ask_one(conn, question, entity, entities, health);
        let Some(answer) = time_limit::within(until, &clock.ended, ask) else {
            let was_whole = until == now + clock.each && !clock.ended.is_cancelled();
            return was_whole.then_some(Answer::TooLong);
        };
        Some(answer.unwrap_or_else(|_| {
            // The message may contain values.
            let entity = subject(question);
            warn!(entity, "the database could not say who is a member");
            Answer::Unknown
        }))
    });
    Ok(answers.collect())
}

fn ask_one(
    conn: &mut SqliteConnection,
    question: &Question,
    entity: &Entity,
    entities: &BTreeMap<String, Arc<Entity>>,
    health: &Health,
) -> Result<Answer, Failed> {
    let mut collector = AnswerCollector::new(question, health);
    let answered = lines(conn, question, entity, (entities, health), |line| {
        collector
            .take(line)
            .map_or(ControlFlow::Continue(()), ControlFlow::Break)
    })?;
    Ok(answered.unwrap_or_else(|| collector.finish()))
}

/// Reads the lines of an answer until one of them ends it.
pub(super) fn lines<T>(
    conn: &mut SqliteConnection,
    question: &Question,
    entity: &Entity,
    (entities, health): (&BTreeMap<String, Arc<Entity>>, &Health),
    mut take: impl FnMut(AnswerLine) -> ControlFlow<T>,
) -> Result<Option<T>, Failed> {
    let is_guarded = health.is_guarded(&entity.schema.entity);
    let statement = statement(question, entity, entities, is_guarded);
    if is_guarded && matches!(question, Question::Rows { .. } | Question::Fields { .. }) {
        for mut line in statement.load::<AnswerLine>(conn)? {
            if let Some(key) = &line.key {
                line.row = read_one(conn, entity, key)?;
            }
            if let ControlFlow::Break(ended) = take(line) {
                return Ok(Some(ended));
            }
        }
        return Ok(None);
    }
    for line in statement.load_iter::<AnswerLine, DefaultLoadingMode>(conn)? {
        if let ControlFlow::Break(ended) = take(line?) {
            return Ok(Some(ended));
        }
    }
    Ok(None)
}

/// The statement that answers a question about rows of this entity.
fn statement(
    question: &Question,
    entity: &Entity,
    entities: &BTreeMap<String, Arc<Entity>>,
    is_guarded: bool,
) -> Statement {
    let condition = match question {
        Question::Set(set) | Question::Window { set, .. } => sets::condition(set.rows()),
        Question::Rows { filter, .. } | Question::Fields { filter, .. } => {
            filter.condition().clone()
        }
        // SQLite has no roles, so nothing is asked for them.
        Question::Group(_) => Condition::Constant(Some(false)),
    };
    let RowsSql::Table {
        key,
        row,
        columns,
        from,
    } = &entity.rows
    else {
        unreachable!("the rows of an entity with a table are in a table")
    };
    let select = match question {
        Question::Set(set) if set.rows().columns.is_empty() => {
            format!(
                "SELECT NULL AS key, '{{}}' AS row, count(*) AS count, NULL AS metadata FROM {from} WHERE "
            )
        }
        Question::Set(set) => {
            let parts = distinct(&set.rows().columns).map(|it| columns[it].clone());
            format!(
                "SELECT NULL AS key, {} AS row, count(*) AS count, NULL AS metadata FROM {from} WHERE ",
                projection::object(parts.collect())
            )
        }
        Question::Window { set, .. } => {
            let order: Vec<usize> = set.rows().window.iter().flat_map(Window::columns).collect();
            let parts = distinct(&order).map(|it| columns[it].clone());
            format!(
                "SELECT {key} AS key, {} AS row, NULL AS count, NULL AS metadata \
                 FROM {from} WHERE {key} IS NOT NULL AND ",
                projection::object(parts.collect())
            )
        }
        Question::Rows { .. } | Question::Fields { .. } | Question::Group(_) => {
            let is_asked = matches!(question, Question::Fields { .. });
            let metadata = sql::metadata_of_rows(&DIALECT, entity, key, is_asked);
            let row = if is_guarded { &literal(ALONE) } else { row };
            // A row without a key is not synced.
            format!(
                "SELECT {key} AS key, {row} AS row, NULL AS count, {metadata} AS metadata \
                 FROM {from} WHERE {key} IS NOT NULL AND "
            )
        }
    };
    let predicates = Predicates::new(entity, entities).in_time();
    let mut statement = predicates.write(Statement::new(select), &condition);
    statement = match question {
        Question::Set(set) if set.rows().columns.is_empty() => {
            statement.sql(" HAVING count(*) > 0")
        }
        Question::Set(set) => {
            let names = distinct(&set.rows().columns).map(|it| {
                let name = ident(&entity.schema.columns[it].name);
                // What differs in any byte is another value.
                format!("t.{name} COLLATE BINARY, typeof(t.{name})")
            });
            let names: Vec<String> = names.collect();
            statement.sql(format!(" GROUP BY {}", names.join(", ")))
        }
        Question::Rows { .. }
        | Question::Fields { .. }
        | Question::Window { .. }
        | Question::Group(_) => statement,
    };
    statement.sql(inquiry::end(question, entity))
}

/// A set may have a column more than once.
fn distinct(columns: &[usize]) -> impl Iterator<Item = usize> {
    let distinct: BTreeSet<usize> = columns.iter().copied().collect();
    distinct.into_iter()
}

/// The fingerprints of these entities' tables at the snapshot.
fn fingerprints<'a>(
    conn: &mut SqliteConnection,
    entities: impl Iterator<Item = &'a Arc<Entity>>,
) -> QueryResult<Fingerprints> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = Text)]
        entity: String,
        #[diesel(sql_type = Text)]
        fingerprint: String,
    }
    let names: BTreeSet<&str> = entities.map(|entity| &*entity.schema.entity).collect();
    let names = serde_json::to_string(&names).expect("names are JSON");
    let found: Vec<Found> = Statement::new(
        "SELECT entity, fingerprint FROM _rhtmx_sync_entity WHERE entity IN (SELECT value FROM json_each(",
    )
    .value(Value::Text(names))
    .sql("))")
    .kept()
    .load(conn)?;
    let found = found.into_iter();
    Ok(found
        .map(|found| (found.entity, found.fingerprint))
        .collect())
}
