//! Reads of the log: drains, resumes and catch-ups, with what is asked at their snapshot.
//!
//! Each is one transaction, so it sees one committed state.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use diesel::connection::DefaultLoadingMode;
use diesel::sql_types::BigInt;
use diesel::{Connection as _, QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection};
use protocol::RefetchReason;
use sync_core::cursor::{CommitId, LogPosition, Position};
use sync_core::log::NetChange;
use sync_core::membership::Answer;
use tokio_util::sync::CancellationToken;

use super::connect::{SqliteConn, blocking};
use super::inquiry::{Clock, ask, lines};
use super::read::{DIALECT, commit_id, panicked, read_one};
use super::statement::{Statement, Value};
use super::{entry, store};
use crate::entity::Entity;
use crate::error::{DbError, DbResult, Failed};
use crate::health::Health;
use crate::quote::literal;
use crate::read::collect::{ChangeRow, ChangesCollector};
use crate::read::inquiry::{self, Collected, Inquiring, Moved};
use crate::read::sql::{self, Reading};
use crate::read::{
    self, ALONE, Backfill, ChangesQuery, DrainSnapshots, Fingerprints, Part, PartSender,
    RESUME_ENTRIES_CHEAP, ReadStart,
};

/// What fails when a read does.
const CONTEXT: &str = "reading the log";

/// Makes a read.
pub(crate) async fn read_changes(conn: &mut SqliteConn, read: Changes) -> DbResult<()> {
    blocking(conn, CONTEXT, |conn| {
        conn.transaction(|conn| read.read_all(conn))
    })
    .await
}

/// Makes a read in the transaction of the next drain. The error is the read itself, when there is no drain in time.
pub(crate) async fn read_at_drain(
    read: Changes,
    drains: &DrainSnapshots,
) -> Result<DbResult<()>, Changes> {
    let made = drains.read_within(read, Changes::read_all).await?;
    let made = made.unwrap_or_else(|| Err(panicked().into()));
    Ok(made.map_err(|failed| failed.while_doing(CONTEXT)))
}

/// A read of changes.
pub(crate) struct Changes {
    /// All entities that it may read.
    entities: BTreeMap<String, Arc<Entity>>,
    expected: Fingerprints,
    health: Arc<Health>,
    out: PartSender<NetChange>,
    query: ChangesQuery,
    from: LogPosition,
    inquiring: Option<Inquiring>,
    /// The reads to which its transaction is lent when it has sent all that it found.
    lends_to: Option<Arc<DrainSnapshots>>,
}

impl Changes {
    /// A read of the changes since the query's position, which are sent to `out`.
    pub(crate) fn new(
        entities: &BTreeMap<String, Arc<Entity>>,
        health: &Arc<Health>,
        mut query: ChangesQuery,
        out: &PartSender<NetChange>,
    ) -> DbResult<Self> {
        let Position::Log(from) = query.from else {
            return Err(DbError::Unsupported(
                "a cursor of PostgreSQL cannot be used with SQLite".to_owned(),
            ));
        };
        Ok(Self {
            entities: entities.clone(),
            expected: query.expected(entities),
            health: health.clone(),
            out: out.clone(),
            inquiring: query.inquiry.take(),
            query,
            from,
            lends_to: None,
        })
    }

    /// The same read, as a drain.
    pub(crate) fn lending_to(self, drains: &Arc<DrainSnapshots>) -> Self {
        Self {
            lends_to: Some(drains.clone()),
            ..self
        }
    }

    /// Reads, in a transaction.
    fn read_all(mut self, conn: &mut SqliteConnection) -> Result<(), Failed> {
        let from = self.from;
        if !entry::is_known(conn, from)? {
            return self.send(Part::Start(never_been_there(conn)?));
        }
        if let Some(entries_max) = self.query.entries_max
            && let Some(reason) = refuse(conn, from.id, entries_max)?
        {
            return self.send(Part::Refused(reason));
        }
        let mut moved = Moved::default();
        let mut begin_backfill = None;
        if let Some(mut inquiring) = self.inquiring.take() {
            begin_backfill = inquiring.backfill.take();
            match self.inquire(conn, from.id, inquiring)? {
                Ok(touched) => moved = touched,
                Err(ended) => return self.send(ended),
            }
        }
        let wanted = self.query.of(&self.entities);
        let mut is_ended = false;
        self.read(conn, from.id, &wanted, &mut |part| {
            moved.pass(&part);
            is_ended = self.out.blocking_send(part).is_err();
            !is_ended
        })?;
        if !is_ended {
            self.send_moved(conn, &moved)?;
        }
        if let Some(begin) = begin_backfill
            && let Some(backfill) = (begin.begin)()
        {
            self.send(Part::Last)?;
            return self.backfill(conn, backfill, begin.shutdown);
        }
        if let Some(drains) = &self.lends_to
            && let Some(waiting) = drains.waiting()
        {
            self.send(Part::Last)?;
            while let Some(read) = drains.next_read(waiting) {
                read(conn);
            }
        }
        Ok(())
    }

    /// Sends a part.
    fn send(&self, part: Part<NetChange>) -> Result<(), Failed> {
        // An error means that the receiver has been dropped, and nothing is left to do.
        let _ = self.out.blocking_send(part);
        Ok(())
    }

    /// Reads the changes of these entities for as long as `take` wants more.
    fn read(
        &self,
        conn: &mut SqliteConnection,
        from: i64,
        entities: &BTreeMap<String, Arc<Entity>>,
        take: &mut dyn FnMut(Part<NetChange>) -> bool,
    ) -> Result<(), Failed> {
        let guarded: BTreeMap<String, Arc<Entity>> = entities
            .iter()
            .filter(|(name, _)| self.health.is_guarded(name))
            .map(|(name, entity)| (name.clone(), entity.clone()))
            .collect();
        let statement = changes_statement(entities, &guarded, from, &self.query, &self.expected);
        let health = self.health.clone();
        let mut collector = ChangesCollector::new(commit_id, self.expected.clone(), health);
        let mut take_line = |line| -> Result<bool, Failed> {
            if self.out.is_closed() {
                return Ok(false);
            }
            Ok(collector.take(line)?.into_iter().all(&mut *take))
        };
        if guarded.is_empty() {
            for line in statement.load_iter::<ChangeRow, DefaultLoadingMode>(conn)? {
                if !take_line(line?)? {
                    return Ok(());
                }
            }
        } else {
            for mut line in statement.load::<ChangeRow>(conn)? {
                line.read_alone(|entity, key| read_one(conn, &guarded[entity], key))?;
                if !take_line(line)? {
                    return Ok(());
                }
            }
        }
        if let Some(part) = collector.finish() {
            take(part);
        }
        Ok(())
    }

    /// Asks what belongs to the read. Returns the rows that moved, or the part that ends the read.
    fn inquire(
        &self,
        conn: &mut SqliteConnection,
        from: i64,
        Inquiring {
            deciding,
            mut inquiry,
            time,
            ..
        }: Inquiring,
    ) -> Result<Result<Moved, Part<NetChange>>, Failed> {
        let deciding = read::some_of(&self.entities, &deciding);
        let (mut start, mut ended) = (None, None);
        let (mut kept, mut fits) = (Collected::default(), true);
        self.read(conn, from, &deciding, &mut |part| {
            match part {
                Part::Start(found) => start = Some(found),
                Part::Items(entries) => fits = kept.take(entries),
                part => ended = Some(part),
            }
            fits && ended.is_none()
        })?;
        if let Some(ended) = ended {
            return Ok(Err(ended));
        }
        // Where the log no longer reaches back, the reader finds that out.
        let Some(start) = start.filter(|start| self.query.from.covers(&start.floor)) else {
            return Ok(Ok(Moved::default()));
        };
        if !fits && self.query.checked {
            return Ok(Err(Part::Refused(RefetchReason::Expired)));
        }
        if !fits {
            kept.entries = inquiry::unread(deciding.keys(), CommitId::LogId(0));
        }
        inquiry.at(&Arc::new(start.position));
        let mut questions = inquiry.begin(&kept.entries);
        let clock = Clock::start(time, CancellationToken::new());
        while !questions.is_empty() {
            let answers = ask(conn, &questions, &self.entities, &self.health, &clock)?.into_iter();
            let answers = answers.map(|answer| answer.unwrap_or(Answer::TooLong));
            questions = inquiry.answer(answers.collect());
        }
        Ok(Ok(Moved::new(inquiry.touched())))
    }

    /// Asks what belongs behind the read, whose receiver does not wait for it.
    fn backfill(
        &self,
        conn: &mut SqliteConnection,
        mut backfill: Backfill,
        shutdown: CancellationToken,
    ) -> Result<(), Failed> {
        let clock = Clock::start(backfill.time, shutdown);
        for (index, question) in backfill.questions.iter().enumerate() {
            let question = std::slice::from_ref(question);
            let asked = ask(conn, question, &self.entities, &self.health, &clock);
            if let Some(answer) = asked?.pop().flatten() {
                backfill.answers.take(index, answer);
            }
        }
        Ok(())
    }

    /// Sends the rows that moved and have not changed.
    fn send_moved(&self, conn: &mut SqliteConnection, moved: &Moved) -> Result<(), Failed> {
        for question in moved.questions(&self.query.metadata) {
            let name = inquiry::subject(&question);
            let Some(entity) = self.entities.get(name) else {
                continue;
            };
            let mut collector = moved.collector(name, CommitId::LogId(0), &self.health);
            let known = (&self.entities, &*self.health);
            let ended = lines(conn, &question, entity, known, |line| {
                let part = collector.take(line);
                match part.map(|part| self.out.blocking_send(part)) {
                    Some(Err(_)) => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })?;
            match collector.finish() {
                Some(part) if ended.is_none() => self.send(part)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The start of a read from a position at which this database has never been, or is no more.
fn never_been_there(conn: &mut SqliteConnection) -> QueryResult<ReadStart> {
    // No position is covered by this one.
    Ok(ReadStart {
        position: Position::log_id(-1),
        floor: Position::log_id(store::floor(conn)?),
    })
}

/// Returns why the changes since `from` are not read: the log no longer has them, or has too many.
fn refuse(
    conn: &mut SqliteConnection,
    from: i64,
    entries_max: u64,
) -> QueryResult<Option<RefetchReason>> {
    #[derive(QueryableByName)]
    struct Newest {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let newest: Newest = Statement::new(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_rhtmx_sync_log'), 0) AS id",
    )
    .kept()
    .get_result(conn)?;
    let distance = u64::try_from(newest.id.saturating_sub(from)).unwrap_or_default();
    let is_refused = from < store::floor(conn)? || distance > entries_max.max(RESUME_ENTRIES_CHEAP);
    Ok(is_refused.then_some(RefetchReason::Expired))
}

/// The statement that reads changes. Its text is the same for each drain, and preparing it takes longer than
/// most drains, so it is kept prepared. Those of other reads differ by their entities.
fn changes_statement(
    entities: &BTreeMap<String, Arc<Entity>>,
    guarded: &BTreeMap<String, Arc<Entity>>,
    from: i64,
    query: &ChangesQuery,
    checked: &Fingerprints,
) -> Statement {
    let json = |value: Result<String, serde_json::Error>| value.expect("names are JSON");
    let names = json(serde_json::to_string(&entities.keys().collect::<Vec<_>>()));
    let old_value_columns = json(serde_json::to_string(&query.old_value_columns));
    let missing: Vec<&String> = read::missing(entities).collect();
    let mut dialect = DIALECT;
    if !missing.is_empty() {
        dialect = dialect.leaving_out("entity IN (SELECT value FROM json_each(?4))");
    }
    let undo = !query.old_value_columns.is_empty();
    let row = |name: &String, entity: &Entity| match guarded.get(name) {
        Some(_) => literal(ALONE),
        None => entity.row_by_key.clone(),
    };
    let reading = Reading {
        rows: entities
            .iter()
            .filter(|(_, entity)| !entity.is_missing())
            .map(|(name, entity)| (name.clone(), row(name, entity)))
            .collect(),
        undo,
        metadata: sql::with_metadata(&query.metadata, entities),
        checked: checked.keys().cloned().collect(),
    };
    let missing = json(serde_json::to_string(&missing));
    let new_entries = sql::new_entries_sql(&dialect, undo);
    let sql = sql::changes_sql(&dialect, &reading);
    // Parameters occur only in `new_entries`; elsewhere an entity's name may look like one.
    let (before, after) = sql
        .split_once(&new_entries)
        .expect("the statement contains the query of the new entries");
    let mut statement = Statement::new(before);
    for (index, piece) in new_entries.split('?').enumerate() {
        if index == 0 {
            statement = statement.sql(piece);
            continue;
        }
        let (number, piece) = piece.split_at(1);
        let value = match number {
            "1" => Value::Integer(from),
            "2" => Value::Text(names.clone()),
            "4" => Value::Text(missing.clone()),
            _ => Value::Text(old_value_columns.clone()),
        };
        statement = statement.value(value).sql(piece);
    }
    let statement = statement.sql(after);
    if query.checked {
        statement
    } else {
        statement.kept()
    }
}
