//! Reads for clients: whole shapes, and changes since a position.
//!
//! Each is written to a spool at the database's pace, so that no client, however slow, holds a connection or
//! a transaction.
//!
//! A read that nobody waits for any more ends at once, on the database too. No more reads run at once than there are
//! turns ([`super::turns`]), shared among users, entities and clients.
//!
//! Clients that arrive together share one read of the same shape: a client that arrives while a read waits
//! for its turn joins it, and the read runs at the first turn of either's user. A client never joins a read that has
//! begun: its snapshot may be older than the moment from which the client receives changes. Therefore, while a shape
//! is being read, its next read waits a moment for more clients.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use db::entity::{Entities, Entity};
use db::read::{
    ChangeStream, ChangesQuery, DrainSnapshots, OldValueColumns, ReadError, RowStream, RowsQuery,
};
use db::{DbError, DbPool};
use filter::SetsAtBoth;
use protocol::{Change, MutationId, RefetchReason, json};
use sync_core::cursor::{Cursor, Position, refuse};
use sync_core::effect::Effect;
use sync_core::log::{ChangeKind, NetChange, Subject};
use sync_core::membership::{AskedGroup, SetFailure};
use sync_core::retry::ReadFailure;
use sync_core::session::ReadFrom;
use sync_core::shape::{Shape, ShapeReader};
use tokio::sync::Semaphore;
use uuid::Uuid;
use value::schema::Schema;

use super::hub::Hub;
use super::past::{ReadSets, with_sets};
use super::sets::names_sets;
use super::shape_reads::ShapeReads;
use super::spool::{Spool, SpoolReader};
use super::spool_file::{Budget, SpoolError};
use super::turns::{Busy, ReadClient, ReadCounts, ReadLimits, ReadTurns, TurnRequest};
use super::{blocking, bulk};
use crate::config::ReadsConfig;

/// How long a read waits for more clients while its shape is being read for others. A lone client never
/// waits.
const GATHERING: Duration = Duration::from_millis(5);

/// How a read of pages ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PagesEnd {
    Complete {
        /// The mutations that made the changes.
        mutations: Arc<[MutationId]>,
        /// The schema of the table as it was read; it may have changed since.
        schema: Arc<Schema>,
    },
    /// The position cannot be resumed from.
    Refused(RefetchReason),
    Failed(Failure),
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ReadFailure,
    /// For the server's output.
    pub(crate) text: Arc<str>,
}

impl Failure {
    pub(crate) fn new(kind: ReadFailure, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

/// How a read of frames ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FramesEnd {
    Complete {
        /// The mutations that made the changes.
        mutations: Arc<[MutationId]>,
    },
    /// The positions cannot be resumed from: those of one entity, or all.
    Refused(RefetchReason, Option<String>),
    Failed(Failure),
}

/// Why a read stopped before its end.
pub(super) enum Stopped {
    Refused(RefetchReason, Option<String>),
    Failed(Failure),
    /// Nobody waits for it any more.
    Abandoned,
}

impl Stopped {
    pub(super) fn failed(kind: ReadFailure, text: impl Into<Arc<str>>) -> Self {
        Self::Failed(Failure::new(kind, text))
    }
}

impl From<ReadError> for Stopped {
    fn from(error: ReadError) -> Self {
        let text = error.to_string();
        let kind = match error {
            ReadError::Refused(reason) => return Self::Refused(reason, None),
            ReadError::Db(DbError::NoProgress { .. }) => ReadFailure::NoProgress,
            ReadError::Db(error) if !error.is_retryable() => ReadFailure::Statement,
            // When a table has changed, the catalog has been read again by the next try.
            _ => ReadFailure::Passing,
        };
        Self::failed(kind, text)
    }
}

impl From<SetFailure> for Stopped {
    fn from(failure: SetFailure) -> Self {
        match failure {
            SetFailure::Unread => {
                let text = "the rows that a subquery reads cannot be read";
                Self::failed(ReadFailure::Passing, text)
            }
            SetFailure::TooSlow => {
                let text = "what a subquery selects is not found out within `subquery_timeout_ms`";
                Self::failed(ReadFailure::SlowSubquery, text)
            }
            SetFailure::TooLarge => {
                let text = "all sets hold as many values as `set_values_total_max`";
                Self::failed(ReadFailure::TooManySetValues, text)
            }
        }
    }
}

impl From<SpoolError> for Stopped {
    fn from(error: SpoolError) -> Self {
        let kind = match error {
            SpoolError::Full => ReadFailure::Slow,
            SpoolError::Io(_) => ReadFailure::Passing,
        };
        Self::failed(kind, error.to_string())
    }
}

impl From<Busy> for Stopped {
    fn from(Busy: Busy) -> Self {
        Self::failed(ReadFailure::Busy, "more reads wait than `waiting_max`")
    }
}

impl From<Stopped> for PagesEnd {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Refused(reason, _) => Self::Refused(reason),
            Stopped::Failed(failure) => Self::Failed(failure),
            Stopped::Abandoned => Self::Failed(abandoned()),
        }
    }
}

impl From<Stopped> for FramesEnd {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Refused(reason, entity) => Self::Refused(reason, entity),
            Stopped::Failed(failure) => Self::Failed(failure),
            Stopped::Abandoned => Self::Failed(abandoned()),
        }
    }
}

/// The end of a spool that nobody reads.
pub(super) fn abandoned() -> Failure {
    Failure::new(ReadFailure::Passing, "nobody waits for it any more")
}

/// A read's pages: JSON arrays of rows, or of changes.
pub(crate) type Pages = SpoolReader<Arc<Position>, PagesEnd>;
type PagesSpool = Spool<Arc<Position>, PagesEnd>;
/// A catch-up's pages: whole frames.
pub(crate) type Frames = SpoolReader<Arc<Position>, FramesEnd>;
type FramesSpool = Spool<Arc<Position>, FramesEnd>;

/// Reads for clients.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(super) db: DbPool,
    pub(super) entities: Arc<Entities>,
    pub(super) hub: Arc<Hub>,
    /// Limits the reads that run at once; the rest of the pool stays free for everything else.
    pub(super) turns: Arc<ReadTurns>,
    /// Limits the pages sent at once, so that however many clients read, processors are left for live
    /// sessions and for other programs on this machine.
    pub(crate) page_turns: Arc<Semaphore>,
    /// For those of shapes with sets: snapshots of their own would lie within a batch.
    drain_snapshots: Arc<DrainSnapshots>,
    /// How many reads of the log there were.
    of_log: AtomicU64,
    shapes: Mutex<ShapeReads<Arc<Position>, PagesEnd>>,
    pub(super) budget: Arc<Budget>,
    pub(super) config: ReadsConfig,
}

/// Half of the runtime's threads, at least one.
fn half_of_the_workers() -> usize {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    (workers / 2).max(1)
}

impl Reader {
    /// Reads from `db`, within these limits.
    pub(crate) fn new(
        db: DbPool,
        entities: Arc<Entities>,
        (hub, drain_snapshots): (Arc<Hub>, Arc<DrainSnapshots>),
        limits: ReadLimits,
        config: ReadsConfig,
        patience: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            db,
            entities,
            hub,
            drain_snapshots,
            of_log: AtomicU64::new(0),
            turns: ReadTurns::new(limits),
            page_turns: Arc::new(Semaphore::new(half_of_the_workers())),
            shapes: Mutex::default(),
            budget: Budget::new(&config, patience),
            config,
        })
    }

    /// Where a read waits for its snapshot, if a batch may cut it otherwise.
    fn at_drain(&self, has_sets: bool) -> Option<Arc<DrainSnapshots>> {
        has_sets.then(|| self.drain_snapshots.clone())
    }

    fn shapes(&self) -> MutexGuard<'_, ShapeReads<Arc<Position>, PagesEnd>> {
        self.shapes.lock().expect("no panic holds this lock")
    }

    /// The reads that run and that wait.
    pub(crate) fn counts(&self) -> ReadCounts {
        self.turns.counts()
    }

    /// How many reads of the log there were: resumes, and those that continue a stream.
    pub(crate) fn of_log(&self) -> u64 {
        self.of_log.load(Ordering::Relaxed)
    }

    /// Reads all rows of a shape.
    pub(crate) fn rows(self: &Arc<Self>, shape: &Shape, client: ReadClient) -> Pages {
        let mut shapes = self.shapes();
        if let Some(pages) = shapes.join(shape, &client, &self.turns) {
            return pages;
        }
        let (spool, pages) = PagesSpool::new(self.budget.clone());
        shapes.wait(shape, &spool);
        let (reader, shape) = (self.clone(), shape.clone());
        bulk::spawn(async move {
            let read = reader.read_rows(&shape, &spool, client).await;
            spool.finish(read.unwrap_or_else(PagesEnd::from));
        });
        pages
    }

    async fn read_rows(
        &self,
        shape: &Shape,
        spool: &Arc<PagesSpool>,
        client: ReadClient,
    ) -> Result<PagesEnd, Stopped> {
        let turn = async {
            // Batches before that are evaluated without them, and the read covers those.
            self.hub.sets_known(shape).await?;
            let is_being_read = self.shapes().is_under_way(shape);
            if is_being_read {
                tokio::time::sleep(GATHERING).await;
            }
            let request = self.request_turn(shape, spool, client)?;
            Ok::<_, Stopped>(request.turn().await)
        };
        let turn = unless_abandoned(spool, turn).await;
        self.shapes().close(shape, spool);
        let _turn = turn??;
        let entity = self.entity_of(shape)?;
        metrics::counter!("rhtmx_sync_snapshot_reads_total").increment(1);
        let schema = entity.schema.clone();
        self.shapes().begin(shape);
        let denials = self.hub.denials(shape);
        let query = RowsQuery {
            denied: denials.groups.clone(),
            at_drain: self.at_drain(names_sets(shape)),
            ..RowsQuery::all(shape.clone(), self.entities.all())
        };
        let mut rows = self.db.read_rows(entity, query);
        let read =
            unless_abandoned(spool, spool_rows(&mut rows, spool, self.config.rows_max)).await;
        rows.close().await;
        self.shapes().end(shape);
        read??;
        if self.hub.denials(shape) != denials {
            // Of what it shows, what is denied meanwhile would stay with its readers.
            let text = "meanwhile the database could not say what a role sees, or can again";
            return Err(Stopped::failed(ReadFailure::Passing, text));
        }
        Ok(PagesEnd::Complete {
            mutations: Arc::default(),
            schema,
        })
    }

    /// Asks for a turn to read a shape, for all clients that wait for it.
    fn request_turn(
        &self,
        shape: &Shape,
        spool: &Arc<PagesSpool>,
        client: ReadClient,
    ) -> Result<TurnRequest, Busy> {
        let mut shapes = self.shapes();
        let request = self.turns.request(shape.entity(), client)?;
        shapes.requested(shape, spool, request.ticket(), &self.turns);
        Ok(request)
    }

    /// Returns the entity of a shape as it is now, if it is still the one that the shape was made for.
    pub(super) fn entity_of(&self, shape: &Shape) -> Result<Arc<Entity>, Stopped> {
        let Some(entity) = self.entities.find(shape.entity()) else {
            let text = "the entity has no table at the moment";
            return Err(Stopped::failed(ReadFailure::Passing, text));
        };
        if entity.fits(shape) {
            return Ok(entity);
        }
        Err(Stopped::Refused(
            RefetchReason::Schema,
            Some(shape.entity().to_owned()),
        ))
    }

    /// Adds the entities whose rows make these sets.
    pub(super) fn add_deciding(
        &self,
        sets: Option<&ReadSets>,
        entities: &mut BTreeMap<String, Arc<Entity>>,
    ) -> Result<(), Stopped> {
        let names = sets.map(|sets| [sets.entities(), sets.asked_entities()]);
        for name in names.into_iter().flatten().flatten() {
            let Some(entity) = self.entities.find(&name) else {
                let text = "an entity that a subquery reads has no table at the moment";
                return Err(Stopped::failed(ReadFailure::Passing, text));
            };
            entities.insert(name, entity);
        }
        Ok(())
    }

    /// Reads what changed in a shape since `from`, for the client `author`, which is told of its mutations.
    pub(crate) fn changes(
        self: &Arc<Self>,
        shape: &Shape,
        from: ReadFrom,
        client: ReadClient,
        author: Option<Uuid>,
    ) -> Pages {
        let (spool, pages) = PagesSpool::new(self.budget.clone());
        let (reader, shape) = (self.clone(), shape.clone());
        bulk::spawn(async move {
            let read = reader
                .read_changes(shape, from, &spool, client, author)
                .await;
            spool.finish(read.unwrap_or_else(PagesEnd::from));
        });
        pages
    }

    /// Reads the frames that bring each shape from its position to the head, for a session of the client `author`
    /// whose mailbox has overflowed.
    pub(crate) fn catch_up(
        self: &Arc<Self>,
        shapes: Vec<(Shape, Arc<Position>)>,
        client: ReadClient,
        author: Option<Uuid>,
    ) -> Frames {
        let (spool, frames) = FramesSpool::new(self.budget.clone());
        let reader = self.clone();
        bulk::spawn(async move {
            let read = reader.read_frames(&shapes, &spool, client, author).await;
            spool.finish(read.unwrap_or_else(FramesEnd::from));
        });
        frames
    }

    async fn read_frames(
        &self,
        shapes: &[(Shape, Arc<Position>)],
        spool: &FramesSpool,
        client: ReadClient,
        author: Option<Uuid>,
    ) -> Result<FramesEnd, Stopped> {
        let all = self.entities.all();
        let mut entities = BTreeMap::new();
        for (shape, _) in shapes {
            let entity = shape.entity().to_owned();
            match all.get(&entity).filter(|found| found.fits(shape)) {
                Some(found) => entities.insert(entity, found.clone()),
                None => return Err(Stopped::Refused(RefetchReason::Schema, Some(entity))),
            };
        }
        let positions = shapes.iter().map(|(_, at)| at);
        let Some(from) = positions.reduce(|one, other| if other.covers(one) { one } else { other })
        else {
            // The session has no shapes and needs only the position.
            let head = self.db.head().await.map_err(ReadError::from)?;
            spool.begin(Arc::new(head.position));
            return Ok(FramesEnd::Complete {
                mutations: Arc::default(),
            });
        };
        let sets = ReadSets::at(shapes.iter().map(|(shape, _)| shape), from, &self.hub);
        let changing: BTreeSet<String> = entities.keys().cloned().collect();
        self.add_deciding(sets.as_ref(), &mut entities)?;
        let readers: Vec<(ShapeReader, Arc<Position>)> = shapes
            .iter()
            .map(|(shape, at)| (ShapeReader::new(shape.clone()), at.clone()))
            .collect();
        let query = ChangesQuery {
            from: (**from).clone(),
            old_value_columns: old_value_columns_of(shapes.iter().map(|(shape, _)| shape)),
            metadata: metadata_of(shapes.iter().map(|(shape, _)| shape)),
            entities: Some(changing),
            checked: true,
            entries_max: None,
            inquiry: sets
                .as_ref()
                .map(|sets| sets.inquiring(self.config.subquery_timeout())),
            at_drain: self.at_drain(sets.is_some()),
        };
        self.of_log.fetch_add(1, Ordering::Relaxed);
        // From where it ends the batches must tell the rest, which they do only while the sets are known.
        for (shape, _) in shapes {
            let known = unless_abandoned(spool, self.hub.sets_known(shape)).await?;
            if known.is_err() {
                let entity = shape.entity().to_owned();
                return Err(Stopped::Refused(RefetchReason::Expired, Some(entity)));
            }
        }
        let turn = self.turns.take(shapes[0].0.entity(), client);
        let _turn = unless_abandoned(spool, turn).await??;
        let mut changes = self.db.read_changes(Arc::new(entities), query);
        let mut mutations = Vec::new();
        let read = (&readers[..], sets.as_ref());
        let spooled = spool_frames(&mut changes, from, read, spool, author, &mut mutations);
        let read = unless_abandoned(spool, spooled).await;
        changes.close().await;
        read??;
        Ok(FramesEnd::Complete {
            mutations: mutations.into(),
        })
    }

    async fn read_changes(
        &self,
        shape: Shape,
        from: ReadFrom,
        spool: &PagesSpool,
        client: ReadClient,
        author: Option<Uuid>,
    ) -> Result<PagesEnd, Stopped> {
        unless_abandoned(spool, self.hub.sets_known(&shape)).await??;
        let turn = self.turns.take(shape.entity(), client);
        let _turn = unless_abandoned(spool, turn).await??;
        let is_resume = matches!(from, ReadFrom::Cursor(_));
        let (from, entries_max) = match from {
            ReadFrom::Position(position) => (position, None),
            ReadFrom::Cursor(Cursor { epoch, position }) => {
                if self.hub.epoch().as_ref() != Some(&epoch) {
                    return Err(Stopped::Refused(RefetchReason::Epoch, None));
                }
                (Arc::new(position), Some(self.config.resume_entries_max))
            }
        };
        let entity = self.entity_of(&shape)?;
        metrics::counter!("rhtmx_sync_resumes_total").increment(1);
        let schema = entity.schema.clone();
        let mut entities = BTreeMap::from([(shape.entity().to_owned(), entity)]);
        let sets = ReadSets::at([&shape], &from, &self.hub);
        self.add_deciding(sets.as_ref(), &mut entities)?;
        let query = ChangesQuery {
            from: (*from).clone(),
            old_value_columns: old_value_columns_of([&shape]),
            metadata: metadata_of([&shape]),
            entities: Some(BTreeSet::from([shape.entity().to_owned()])),
            checked: true,
            entries_max,
            inquiry: sets
                .as_ref()
                .map(|sets| sets.inquiring(self.config.subquery_timeout())),
            at_drain: self.at_drain(sets.is_some()),
        };
        self.of_log.fetch_add(1, Ordering::Relaxed);
        let shape = ShapeReader::new(shape);
        let mut changes = self.db.read_changes(Arc::new(entities), query);
        let mut mutations = Vec::new();
        let read = (&shape, sets.as_ref());
        let spooled = spool_changes(
            &mut changes,
            (&from, is_resume),
            read,
            spool,
            author,
            &mut mutations,
        );
        let read = unless_abandoned(spool, spooled).await;
        changes.close().await;
        read??;
        Ok(PagesEnd::Complete {
            mutations: mutations.into(),
            schema,
        })
    }
}

/// Waits for `work`, unless the spool's last reader leaves.
pub(super) async fn unless_abandoned<Head: Clone, End: Clone, T>(
    spool: &Spool<Head, End>,
    work: impl Future<Output = T>,
) -> Result<T, Stopped> {
    tokio::select! {
        done = work => Ok(done),
        () = spool.abandoned() => {
            metrics::counter!("rhtmx_sync_reads_abandoned_total").increment(1);
            Err(Stopped::Abandoned)
        }
    }
}

/// Spools all rows, if they are no more than `rows_max`; 0 for no such limit.
async fn spool_rows(
    rows: &mut RowStream,
    spool: &PagesSpool,
    rows_max: usize,
) -> Result<(), Stopped> {
    spool.begin(Arc::new(rows.start().await?.position));
    let mut count = 0;
    while let Some(chunk) = rows.next().await? {
        count += chunk.len();
        if rows_max > 0 && count > rows_max {
            let text = "a first read has more rows than `rows_max`";
            return Err(Stopped::failed(ReadFailure::TooManyRows, text));
        }
        spool.push(json::text(&chunk).into()).await?;
    }
    Ok(())
}

async fn spool_changes(
    changes: &mut ChangeStream,
    (from, is_resume): (&Position, bool),
    (shape, sets): (&ShapeReader, Option<&ReadSets>),
    spool: &PagesSpool,
    author: Option<Uuid>,
    mutations: &mut Vec<MutationId>,
) -> Result<(), Stopped> {
    let start = changes.start().await?;
    if let Some(reason) = refuse(from, &start.position, &start.floor) {
        return Err(Stopped::Refused(reason, None));
    }
    if sets.is_some_and(|sets| sets.is_unknown(shape.shape())) {
        return Err(Stopped::Refused(RefetchReason::Expired, None));
    }
    // Pages of changes do not say in which order the rows are.
    if is_resume && sets.is_some_and(|sets| sets.order(shape.shape()).is_some()) {
        return Err(Stopped::Refused(RefetchReason::Expired, None));
    }
    spool.begin(Arc::new(start.position));
    while let Some(mut entries) = changes.next().await? {
        mutations.extend(entries.iter().filter_map(|entry| entry.mutation_id));
        for entry in &mut entries {
            entry.tell_origin_to(author);
        }
        let is_large = is_large(&entries, [shape.shape()]);
        let array = blocking::run_if(is_large, || {
            with_sets(sets, |sets| changes_array(&entries, shape, sets))
        });
        match array {
            Ok(Some(array)) => spool.push(array.into()).await?,
            Ok(None) => {}
            Err(reason) => return Err(Stopped::Refused(reason, None)),
        }
    }
    Ok(())
}

async fn spool_frames(
    changes: &mut ChangeStream,
    from: &Position,
    (shapes, sets): (&[(ShapeReader, Arc<Position>)], Option<&ReadSets>),
    spool: &FramesSpool,
    author: Option<Uuid>,
    mutations: &mut Vec<MutationId>,
) -> Result<(), Stopped> {
    let start = changes.start().await?;
    if let Some(reason) = refuse(from, &start.position, &start.floor) {
        return Err(Stopped::Refused(reason, None));
    }
    if let Some(sets) = sets {
        let is_unclear = |(shape, at): &&(ShapeReader, Arc<Position>)| {
            // What the sets were is known for the earliest position alone.
            let shape = shape.shape();
            names_sets(shape) && (sets.is_unknown(shape) || **at != *from && sets.is_stirred(shape))
        };
        if let Some((shape, _)) = shapes.iter().find(is_unclear) {
            let entity = shape.shape().entity().to_owned();
            return Err(Stopped::Refused(RefetchReason::Expired, Some(entity)));
        }
    }
    let order = |shape: &Shape| sets?.order(shape);
    let orders = shapes.iter().map(|(reader, _)| order(reader.shape()));
    let orders: Vec<Option<String>> = orders.collect();
    spool.begin(Arc::new(start.position));
    while let Some(mut entries) = changes.next().await? {
        mutations.extend(entries.iter().filter_map(|entry| entry.mutation_id));
        for entry in &mut entries {
            entry.tell_origin_to(author);
        }
        let is_large = is_large(&entries, shapes.iter().map(|(reader, _)| reader.shape()));
        let frames = blocking::run_if(is_large, || {
            with_sets(sets, |sets| {
                changes_of_shapes(&entries, shapes, &orders, sets)
            })
        });
        let frames = frames.map_err(|(reason, entity)| Stopped::Refused(reason, Some(entity)))?;
        for frame in frames {
            spool.push(frame.into()).await?;
        }
    }
    Ok(())
}

/// The columns whose previous values the filters of these shapes look at, and their sets.
pub(super) fn old_value_columns_of<'a>(
    shapes: impl IntoIterator<Item = &'a Shape>,
) -> OldValueColumns {
    let mut old_value_columns = OldValueColumns::new();
    for shape in shapes {
        if let Some(selection) = shape.selection() {
            let columns = old_value_columns
                .entry(shape.entity().to_owned())
                .or_default();
            columns.extend(selection.evaluated_column_names().map(str::to_owned));
        }
        for set in shape.all_sets().filter(|set| set.asked().is_none()) {
            let columns = old_value_columns
                .entry(set.entity().to_owned())
                .or_default();
            columns.extend(set.rows().evaluated_column_names().map(str::to_owned));
        }
        for group in shape.all_sets().filter_map(|set| AskedGroup::of(&set)) {
            for (entity, column) in group.plan().guard_columns() {
                let columns = old_value_columns.entry(entity.to_owned()).or_default();
                columns.insert(column.to_owned());
            }
        }
    }
    old_value_columns
}

/// The entities of these shapes of whose rows the metadata is sent.
pub(super) fn metadata_of<'a>(shapes: impl IntoIterator<Item = &'a Shape>) -> BTreeSet<String> {
    let shapes = shapes.into_iter().filter(|shape| shape.has_metadata());
    shapes.map(|shape| shape.entity().to_owned()).collect()
}

/// Why an entity must be refetched when it is unclear what one of `entries` means: often because the schema has
/// changed since.
pub(super) fn unclear(entries: &[NetChange], entity: &str) -> RefetchReason {
    let of_entity = |entry: &&NetChange| entry.entity == entity;
    let mut entries = entries.iter().filter(of_entity);
    if entries.any(|entry| entry.subject() == Subject::SchemaChange) {
        RefetchReason::Schema
    } else {
        RefetchReason::Expired
    }
}

/// Whether evaluating these shapes for `entries` takes long.
pub(super) fn is_large<'a>(
    entries: &[NetChange],
    shapes: impl IntoIterator<Item = &'a Shape>,
) -> bool {
    let rows = entries.iter().filter_map(|entry| entry.row.as_ref());
    let bytes = rows.map(|row| row.get().len()).max().unwrap_or_default();
    let filters = shapes.into_iter().filter_map(Shape::selection);
    let work = filters.map(|selection| selection.filter().work().on_bytes(bytes));
    let each = work.fold(0, usize::saturating_add);
    each.saturating_mul(entries.len()) > blocking::LARGE_WORK
}

/// Returns the JSON array of what `entries` mean for a reader that resumes; none when it would be empty.
fn changes_array(
    entries: &[NetChange],
    shape: &ShapeReader,
    sets: SetsAtBoth<'_>,
) -> Result<Option<String>, RefetchReason> {
    let mut changes = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry.effect_on(shape, sets) {
            // A row that cannot be read belongs to another version of the table than the shape was made for.
            Ok(Effect::SchemaChanged) | Err(_) => return Err(RefetchReason::Schema),
            // To name the row would tell its key to a client that never had it.
            Ok(Effect::Unclear) => return Err(unclear(entries, &entry.entity)),
            Ok(Effect::Change {
                change,
                transient: false,
            }) => changes.push(change),
            Ok(
                Effect::Change {
                    transient: true, ..
                }
                | Effect::Nothing,
            ) => {}
        }
    }
    Ok((!changes.is_empty()).then(|| json::text(&changes)))
}

/// Returns the frames with what `entries` mean for each shape, without what its position contains. The error
/// is the name of an entity that must be refetched, and why.
///
/// The shapes may be at different positions, so transient changes are included.
fn changes_of_shapes(
    entries: &[NetChange],
    shapes: &[(ShapeReader, Arc<Position>)],
    orders: &[Option<String>],
    sets: SetsAtBoth<'_>,
) -> Result<Vec<String>, (RefetchReason, String)> {
    let mut frames = Vec::new();
    for ((shape, at), order) in shapes.iter().zip(orders) {
        let name = shape.shape();
        let is_new = |entry: &&NetChange| {
            let is_later = entry.kind == ChangeKind::Touched || !at.contains(entry.commit_id);
            name.entity() == entry.entity && is_later
        };
        let mut changes: Vec<Change> = Vec::new();
        for entry in entries.iter().filter(is_new) {
            match entry.effect_on(shape, sets) {
                Ok(Effect::Nothing) => {}
                Ok(Effect::SchemaChanged) | Err(_) => {
                    return Err((RefetchReason::Schema, entry.entity.clone()));
                }
                Ok(Effect::Unclear) => {
                    let reason = unclear(entries, &entry.entity);
                    return Err((reason, entry.entity.clone()));
                }
                Ok(Effect::Change { change, .. }) => changes.push(change),
            }
        }
        if !changes.is_empty() {
            let array = json::text(&changes);
            frames.push(json::changes_of_shape(
                name.as_str(),
                &array,
                order.as_deref(),
            ));
        }
    }
    Ok(frames)
}
