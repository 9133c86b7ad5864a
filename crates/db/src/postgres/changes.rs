//! Reads of the log on pooled connections: resumes and catch-ups, with what is asked at their snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::deserialize;
use diesel::pg::Pg;
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use futures_util::StreamExt as _;
use protocol::RefetchReason;
use sync_core::cursor::{CommitId, Position};
use sync_core::log::NetChange;
use sync_core::membership::{Answer, AskedGroup, GroupAnswer, Question};
use sync_core::snapshot::Snapshot;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::cancel::Progress;
use super::dialect::bound;
use super::inquiry::{fingerprints_sql, question_sql};
use super::one_snapshot::{ONE_SNAPSHOT, lock_sql, question_settings, take_over};
use super::read::{
    PLANNER_SETTINGS, READ_COMMITTED, READ_TIMEOUTS, SESSION_SETTINGS, ask_group, changes_sql,
    commit_id, parameters,
};
use super::resume;
use super::rls::group::Asked;
use super::store::SEARCH_PATH;
use crate::entity::Entity;
use crate::error::{DbError, DbResult, Failed};
use crate::health::Health;
use crate::quote::array;
use crate::read::collect::{ChangeRow, ChangesCollector};
use crate::read::inquiry::{
    AnswerCollector, AnswerLine, Collected, Inquiring, Moved, are_known, entities_of, filter_of,
    subject,
};
use crate::read::{
    ChangesQuery, Exported, Fingerprints, OldValueColumns, Part, PartSender, some_of,
};
use crate::sets::groups_of;

type Entities = BTreeMap<String, Arc<Entity>>;

impl QueryableByName<Pg> for AnswerLine {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        Ok(Self {
            key: NamedRow::get::<Nullable<Text>, _>(row, "key")?,
            row: NamedRow::get::<Nullable<Text>, _>(row, "row")?,
            count: NamedRow::get::<Nullable<BigInt>, _>(row, "count")?,
            metadata: NamedRow::get::<Nullable<Text>, _>(row, "metadata")?,
        })
    }
}

/// Reads the changes since the query's position and sends them to `out`: at the snapshot that a drain has exported, or,
/// when that cannot be taken over, at one of its own.
pub(crate) async fn read_changes(
    conn: &mut AsyncPgConnection,
    (log_schema, entities, health): (&str, &Entities, &Arc<Health>),
    mut query: ChangesQuery,
    mut exported: Option<Exported>,
    out: &PartSender<NetChange>,
    progress: &Progress,
) -> DbResult<()> {
    let Position::Snapshot(from) = query.from.clone() else {
        return Err(DbError::Unsupported(
            "a cursor of SQLite cannot be used with PostgreSQL".to_owned(),
        ));
    };
    let mut inquiring = query.inquiry.take();
    let changes = Changes {
        log_schema,
        entities,
        health,
        expected: query.expected(entities),
        wanted: query.of(entities).into_owned(),
        from,
        entries_max: query.entries_max,
        old_value_columns: query.old_value_columns,
        metadata: query.metadata,
        progress,
    };
    loop {
        let at_drain = exported.take();
        let is_at_drain = at_drain.is_some();
        let mut has_begun = false;
        let read = conn.transaction(async |conn| {
            changes.begin(conn, inquiring.is_some(), at_drain).await?;
            has_begun = true;
            changes.read(conn, inquiring.take(), out).await
        });
        match read.await {
            Err(_) if is_at_drain && !has_begun => {
                debug!("the snapshot of a drain could not be taken over");
            }
            read => {
                return read.map_err(|failed: Failed| failed.while_doing("reading the log"));
            }
        }
    }
}

fn settings() -> String {
    format!("{SESSION_SETTINGS}; {PLANNER_SETTINGS}; {READ_TIMEOUTS}; SET LOCAL {SEARCH_PATH}")
}

/// A read of changes.
struct Changes<'a> {
    log_schema: &'a str,
    /// All entities that it may read.
    entities: &'a Entities,
    health: &'a Arc<Health>,
    expected: Fingerprints,
    /// Those whose changes are read.
    wanted: Entities,
    from: Snapshot,
    entries_max: Option<u64>,
    old_value_columns: OldValueColumns,
    /// The entities of whose rows it returns what is known beside their values.
    metadata: BTreeSet<String>,
    progress: &'a Progress,
}

impl Changes<'_> {
    /// Begins the transaction: its settings, and the locks of its tables before it has a snapshot.
    async fn begin(
        &self,
        conn: &mut AsyncPgConnection,
        inquires: bool,
        at_drain: Option<Exported>,
    ) -> Result<(), Failed> {
        let settings = settings();
        if let Some(exported) = at_drain {
            let lock = lock_sql(self.entities, &BTreeSet::new());
            return take_over(conn, exported, &settings, &lock).await;
        }
        let one_snapshot = format!("SET TRANSACTION {ONE_SNAPSHOT}");
        let (isolation, lock) = match inquires {
            true => (
                one_snapshot.as_str(),
                lock_sql(self.entities, &BTreeSet::new()),
            ),
            false => (READ_COMMITTED, String::new()),
        };
        conn.batch_execute(&format!("{isolation}; {settings}; {lock}"))
            .await?;
        Ok(())
    }

    /// Reads, in the transaction that has begun.
    async fn read(
        &self,
        conn: &mut AsyncPgConnection,
        inquiring: Option<Inquiring>,
        out: &PartSender<NetChange>,
    ) -> Result<(), Failed> {
        let wanted = &self.wanted;
        if let Some(entries_max) = self.entries_max {
            let from = Position::Snapshot(self.from.clone());
            let parameters = self.parameters(wanted);
            let schema = self.log_schema;
            let refused =
                resume::refuse(conn, schema, wanted, &from, &parameters, entries_max).await?;
            if let Some(reason) = refused {
                let _ = self.progress.send(out, Part::Refused(reason)).await;
                return Ok(());
            }
        }
        let mut moved = Moved::default();
        if let Some(inquiring) = inquiring {
            match self.inquire(conn, inquiring).await? {
                Ok(touched) => moved = touched,
                Err(ended) => {
                    let _ = self.progress.send(out, ended).await;
                    return Ok(());
                }
            }
        }
        let (sql, parameters) = (self.sql(wanted), self.parameters(wanted));
        let mut lines = bound(&sql, &parameters)
            .load_stream::<ChangeRow>(conn)
            .await?;
        let mut collector = self.collector();
        while let Some(line) = lines.next().await {
            self.progress.line();
            for part in collector.take(line?)? {
                moved.pass(&part);
                if self.progress.send(out, part).await.is_err() {
                    return Ok(());
                }
            }
        }
        drop(lines);
        if let Some(part) = collector.finish() {
            moved.pass(&part);
            // An error means that the receiver has been dropped, and nothing is left to do.
            let _ = self.progress.send(out, part).await;
        }
        self.send_moved(conn, &moved, out).await
    }

    /// The statement that reads the changes of these entities.
    fn sql(&self, entities: &Entities) -> String {
        let undo = !self.old_value_columns.is_empty();
        let (nothing, checked) = (BTreeSet::new(), &self.expected);
        changes_sql(
            self.log_schema,
            entities,
            &nothing,
            self.health,
            (undo, &self.metadata, checked),
        )
    }

    fn parameters(&self, entities: &Entities) -> Vec<String> {
        parameters(&self.from, entities, &self.old_value_columns)
    }

    fn collector(&self) -> ChangesCollector {
        ChangesCollector::new(commit_id, self.expected.clone(), self.health.clone())
    }

    /// Asks what belongs to the read. Returns the rows that moved, or the part that ends the read.
    async fn inquire(
        &self,
        conn: &mut AsyncPgConnection,
        Inquiring {
            deciding,
            mut inquiry,
            time,
            ..
        }: Inquiring,
    ) -> Result<Result<Moved, Part<NetChange>>, Failed> {
        let deciding = some_of(self.entities, &deciding);
        let (sql, parameters) = (self.sql(&deciding), self.parameters(&deciding));
        let mut start = None;
        let mut kept = Collected::default();
        let mut lines = bound(&sql, &parameters)
            .load_stream::<ChangeRow>(conn)
            .await?
            .fuse();
        let mut collector = self.collector();
        loop {
            let parts = match lines.next().await {
                Some(line) => collector.take(line?)?,
                None => match collector.finish() {
                    Some(last) => vec![last],
                    None => break,
                },
            };
            self.progress.line();
            for part in parts {
                match part {
                    Part::Start(found) => start = Some(found),
                    Part::Items(entries) => {
                        if !kept.take(entries) {
                            return Ok(Err(Part::Refused(RefetchReason::Expired)));
                        }
                    }
                    ended => return Ok(Err(ended)),
                }
            }
        }
        drop(lines);
        // Where the log no longer reaches back, the reader finds that out.
        let from = Position::Snapshot(self.from.clone());
        let Some(start) = start.filter(|start| from.covers(&start.floor)) else {
            return Ok(Ok(Moved::default()));
        };
        inquiry.at(&Arc::new(start.position));
        let mut questions = inquiry.begin(&kept.entries);
        let asks = !questions.is_empty();
        let until = Instant::now() + time.total;
        while !questions.is_empty() {
            let answers = self.ask(conn, &questions, (time.each, until)).await?;
            questions = inquiry.answer(answers);
        }
        if asks {
            conn.batch_execute(&settings()).await?;
        }
        Ok(Ok(Moved::new(inquiry.touched())))
    }

    /// Asks some questions. One that fails harms no other.
    async fn ask(
        &self,
        conn: &mut AsyncPgConnection,
        questions: &[Question],
        (each, until): (Duration, Instant),
    ) -> Result<Vec<Answer>, Failed> {
        let of_questions: Vec<_> = questions
            .iter()
            .map(|question| entities_of(question, self.entities).unwrap_or_default())
            .collect();
        let found = self
            .fingerprints(conn, of_questions.iter().flatten())
            .await?;
        let mut answers = Vec::with_capacity(questions.len());
        for (question, of_question) in questions.iter().zip(&of_questions) {
            let entity = of_question.as_slice().first();
            let entity = entity.filter(|_| are_known(of_question, &found));
            let left = until.saturating_duration_since(Instant::now());
            answers.push(match (entity, question) {
                (Some(_), Question::Group(question)) => {
                    let answer = self.ask_group(conn, &question.group, true).await?;
                    Answer::Group(Box::new(answer))
                }
                (Some(_), _) if left.is_zero() => Answer::TooLong,
                (Some(entity), _) => {
                    let timeout = each.min(left);
                    self.ask_one(conn, question, entity, timeout).await?
                }
                (None, _) => Answer::Unknown,
            });
        }
        Ok(answers)
    }

    /// The fingerprints of these entities' tables at the snapshot.
    async fn fingerprints(
        &self,
        conn: &mut AsyncPgConnection,
        entities: impl Iterator<Item = &Arc<Entity>>,
    ) -> Result<Fingerprints, Failed> {
        #[derive(QueryableByName)]
        struct Found {
            #[diesel(sql_type = Text)]
            fingerprints: String,
        }
        let names: BTreeSet<String> = entities
            .map(|entity| entity.schema.entity.clone())
            .collect();
        let (sql, names) = (fingerprints_sql(self.log_schema), [array(names.iter())]);
        let found: Found = bound(&sql, &names).get_result(conn).await?;
        let found = serde_json::from_str(&found.fingerprints);
        Ok(found.map_err(|error| crate::read::unreadable(&error))?)
    }

    /// Asks one question about rows of this entity.
    async fn ask_one(
        &self,
        conn: &mut AsyncPgConnection,
        question: &Question,
        entity: &Entity,
        timeout: Duration,
    ) -> Result<Answer, Failed> {
        let health = &**self.health;
        let mut asked = Asked::default();
        for group in filter_of(question).map_or_else(Vec::new, groups_of) {
            let answer = self.ask_group(conn, &group, false).await?;
            asked.insert(group, answer);
        }
        let around = (self.log_schema, health);
        let (sql, parameters) = question_sql(question, entity, self.entities, &asked, around);
        let answer: Result<Answer, Failed> = conn
            .transaction(async |conn| {
                conn.batch_execute(&question_settings(timeout)).await?;
                let mut lines = bound(&sql, &parameters)
                    .load_stream::<AnswerLine>(conn)
                    .await?;
                let mut collector = AnswerCollector::new(question, health);
                while let Some(line) = lines.next().await {
                    self.progress.line();
                    if let Some(answer) = collector.take(line?) {
                        return Ok(answer);
                    }
                }
                Ok(collector.finish())
            })
            .await;
        answer.or_else(|failed| match failed.while_doing("asking about changes") {
            error @ (DbError::Unreachable(_) | DbError::Refused(_)) => Err(error.into()),
            _ => {
                // The message may contain values.
                let entity = subject(question);
                warn!(entity, "the database could not say who is a member");
                Ok(Answer::Unknown)
            }
        })
    }

    async fn ask_group(
        &self,
        conn: &mut AsyncPgConnection,
        group: &AskedGroup,
        with_guards: bool,
    ) -> Result<GroupAnswer, Failed> {
        ask_group(conn, self.log_schema, self.entities, group, with_guards).await
    }

    /// Sends the rows that moved and have not changed.
    async fn send_moved(
        &self,
        conn: &mut AsyncPgConnection,
        moved: &Moved,
        out: &PartSender<NetChange>,
    ) -> Result<(), Failed> {
        for question in moved.questions(&self.metadata) {
            let name = subject(&question);
            let Some(entity) = self.entities.get(name) else {
                continue;
            };
            let (sql, parameters) = question_sql(
                &question,
                entity,
                self.entities,
                &Asked::default(),
                (self.log_schema, self.health),
            );
            let mut lines = bound(&sql, &parameters)
                .load_stream::<AnswerLine>(conn)
                .await?;
            let mut collector = moved.collector(name, CommitId::Xid(0), self.health);
            while let Some(line) = lines.next().await {
                self.progress.line();
                if let Some(part) = collector.take(line?)
                    && self.progress.send(out, part).await.is_err()
                {
                    return Ok(());
                }
            }
            if let Some(part) = collector.finish() {
                let _ = self.progress.send(out, part).await;
            }
        }
        Ok(())
    }
}
