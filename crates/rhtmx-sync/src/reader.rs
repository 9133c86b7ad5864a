//! Reads for clients: whole shapes, and changes since a position.
//!
//! Each is written to a spool at the database's pace. So no client, however slow, holds a connection
//! or a transaction.
//!
//! Clients that arrive together share one read of the same shape: whoever comes while a read waits
//! for its turn joins it. A read that has begun is not joined: its snapshot may be older than the
//! moment from which the newcomer hears of changes. Therefore, while a shape is being read, its next
//! read waits a moment for others.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rhtmx_sync_core::cursor::{Cursor, Position};
use rhtmx_sync_core::log::{Learned, NewestEntry};
use rhtmx_sync_core::protocol::{Change, Origin, RefetchReason};
use rhtmx_sync_core::schema::Schema;
use rhtmx_sync_core::session::ReadFrom;
use rhtmx_sync_core::shape::{Shape, ShapeReader};
use tokio::sync::Semaphore;

use crate::db::read::{ChangesQuery, HistoryColumns, ReadPart, RowsQuery};
use crate::db::{DbError, DbPool};
use crate::entity::{Entities, Entity};
use crate::frame;
use crate::hub::Hub;
use crate::spool::{Spool, SpoolReader};

/// How long a read waits for others to join it while its shape is being read for somebody else. A lone
/// client never waits.
const GATHERING: Duration = Duration::from_millis(5);

/// How a read ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadEnded {
    /// Everything is in the pages.
    Complete {
        /// The mutations that made the changes.
        authors: Arc<[Origin]>,
        /// The table that the rows were read from: by now it may have another shape.
        schema: Arc<Schema>,
    },
    /// The position cannot be resumed from.
    Refused(RefetchReason),
    /// The database failed; the text is for the log.
    Failed(Arc<str>),
}

/// How a pull ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PullEnded {
    /// Everything is in the pages.
    Complete {
        /// The mutations that made the changes.
        authors: Arc<[Origin]>,
    },
    /// The positions cannot be gone on from; the one entity that is at fault, or all.
    Refused(RefetchReason, Option<String>),
    /// The database failed; the text is for the log.
    Failed(Arc<str>),
}

/// A read's pages: JSON arrays of rows, or of changes.
pub(crate) type Pages = SpoolReader<Arc<Position>, ReadEnded>;
type PagesSpool = Spool<Arc<Position>, ReadEnded>;
/// A pull's pages: whole frames.
pub(crate) type Frames = SpoolReader<Arc<Position>, PullEnded>;
type FramesSpool = Spool<Arc<Position>, PullEnded>;

/// Reads for clients.
#[derive(Debug)]
pub(crate) struct Reader {
    db: DbPool,
    entities: Arc<Entities>,
    hub: Arc<Hub>,
    /// Reads at once; the rest of the pool stays free for writes.
    turns: Arc<Semaphore>,
    /// Pages sent at once, so that however many clients read, processors are left for those who follow
    /// and for whoever else is on this machine.
    pub(crate) page_turns: Arc<Semaphore>,
    shapes: Mutex<ShapeReads>,
    budget: Arc<AtomicUsize>,
}

/// Reads of whole shapes.
#[derive(Debug, Default)]
struct ShapeReads {
    /// Those that can still be joined.
    waiting: HashMap<Shape, Arc<PagesSpool>>,
    /// How many have begun.
    under_way: HashMap<Shape, usize>,
}

impl ShapeReads {
    /// From here on newcomers need a read of their own.
    fn begin(&mut self, shape: &Shape) {
        self.waiting.remove(shape);
        *self.under_way.entry(shape.clone()).or_default() += 1;
    }

    fn end(&mut self, shape: &Shape) {
        if let Some(count) = self.under_way.get_mut(shape) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(shape);
            }
        }
    }
}

/// Of the runtime's threads, and at least one.
fn half_of_the_workers() -> usize {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    (workers / 2).max(1)
}

impl Reader {
    pub(crate) fn new(
        db: DbPool,
        entities: Arc<Entities>,
        hub: Arc<Hub>,
        at_once: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            db,
            entities,
            hub,
            turns: Arc::new(Semaphore::new(at_once.max(1))),
            page_turns: Arc::new(Semaphore::new(half_of_the_workers())),
            shapes: Mutex::default(),
            budget: Arc::default(),
        })
    }

    fn shapes(&self) -> MutexGuard<'_, ShapeReads> {
        self.shapes.lock().expect("no panic holds this lock")
    }

    /// All rows of a shape.
    pub(crate) fn rows(self: &Arc<Self>, shape: &Shape) -> Pages {
        let mut shapes = self.shapes();
        if let Some(spool) = shapes.waiting.get(shape) {
            return spool.reader();
        }
        let spool: Arc<PagesSpool> = Spool::new(self.budget.clone());
        shapes.waiting.insert(shape.clone(), spool.clone());
        let pages = spool.reader();
        let (reader, shape) = (self.clone(), shape.clone());
        tokio::spawn(async move {
            let is_read = reader.shapes().under_way.contains_key(&shape);
            if is_read {
                tokio::time::sleep(GATHERING).await;
            }
            let turn = reader.turns.acquire().await;
            reader.shapes().begin(&shape);
            let ended = reader.read_rows(&shape, &spool).await;
            reader.shapes().end(&shape);
            spool.finish(ended);
            drop(turn);
        });
        pages
    }

    async fn read_rows(&self, shape: &Shape, spool: &PagesSpool) -> ReadEnded {
        let entity = match self.entity_of(shape) {
            Ok(entity) => entity,
            Err(ended) => return ended,
        };
        metrics::counter!("rhtmx_sync_snapshot_reads_total").increment(1);
        let schema = entity.schema.clone();
        let mut parts = self.db.read_rows(entity, RowsQuery::all(shape.clone()));
        let mut spooled = Ok(());
        while let Some(part) = parts.next().await {
            match part {
                ReadPart::Start { position, .. } => spool.begin(Arc::new(position)),
                ReadPart::Rows(rows) => spooled = spool.push(frame::json(&rows).into()).await,
                ReadPart::Entries(_) => {}
                ReadPart::Outdated(entity) => return ReadEnded::Failed(outdated(&entity)),
            }
            if spooled.is_err() {
                break;
            }
        }
        complete(parts.finish().await, spooled, Vec::new(), schema)
    }

    /// The entity of a shape as it is now, which must be as it was when the shape was made.
    fn entity_of(&self, shape: &Shape) -> Result<Arc<Entity>, ReadEnded> {
        let Some(entity) = self.entities.find(shape.entity()) else {
            return Err(ReadEnded::Failed(
                "the entity has no table at the moment".into(),
            ));
        };
        match entity.fits(shape) {
            true => Ok(entity),
            false => Err(ReadEnded::Refused(RefetchReason::Schema)),
        }
    }

    /// What changed in a shape since `from`.
    pub(crate) fn changes(self: &Arc<Self>, shape: &Shape, from: ReadFrom) -> Pages {
        let spool: Arc<PagesSpool> = Spool::new(self.budget.clone());
        let pages = spool.reader();
        let (reader, shape) = (self.clone(), shape.clone());
        tokio::spawn(async move {
            let turn = reader.turns.acquire().await;
            let ended = reader.read_changes(shape, from, &spool).await;
            spool.finish(ended);
            drop(turn);
        });
        pages
    }

    /// The frames that bring shapes from where each is to where the database is, for a session that
    /// could not be queued for.
    pub(crate) fn pull(self: &Arc<Self>, shapes: Vec<(Shape, Arc<Position>)>) -> Frames {
        let spool: Arc<FramesSpool> = Spool::new(self.budget.clone());
        let frames = spool.reader();
        let reader = self.clone();
        tokio::spawn(async move {
            let turn = reader.turns.acquire().await;
            let ended = reader.read_frames(&shapes, &spool).await;
            spool.finish(ended);
            drop(turn);
        });
        frames
    }

    async fn read_frames(
        &self,
        shapes: &[(Shape, Arc<Position>)],
        spool: &FramesSpool,
    ) -> PullEnded {
        let all = self.entities.all();
        let mut entities = BTreeMap::new();
        for (shape, _) in shapes {
            let entity = shape.entity().to_owned();
            match all.get(&entity).filter(|found| found.fits(shape)) {
                Some(found) => entities.insert(entity, found.clone()),
                None => return PullEnded::Refused(RefetchReason::Schema, Some(entity)),
            };
        }
        let positions = shapes.iter().map(|(_, at)| at);
        let readers: Vec<(ShapeReader, Arc<Position>)> = shapes
            .iter()
            .map(|(shape, at)| (ShapeReader::new(shape.clone()), at.clone()))
            .collect();
        let histories = histories_of(shapes.iter().map(|(shape, _)| shape));
        let Some(from) = positions.reduce(|one, other| if other.covers(one) { one } else { other })
        else {
            // Only the position is wanted.
            return match self.db.history().await {
                Ok((_, position)) => {
                    spool.begin(Arc::new(position));
                    PullEnded::Complete {
                        authors: Arc::default(),
                    }
                }
                Err(error) => PullEnded::Failed(error.to_string().into()),
            };
        };
        let query = ChangesQuery {
            from: (**from).clone(),
            histories,
            checked: true,
        };
        let mut parts = self.db.read_changes(Arc::new(entities), query);
        let mut authors = Vec::new();
        let mut spooled = Ok(());
        while let Some(part) = parts.next().await {
            match part {
                ReadPart::Start { position, floor } => match refuse(from, &position, &floor) {
                    Some(reason) => return PullEnded::Refused(reason, None),
                    None => spool.begin(Arc::new(position)),
                },
                ReadPart::Entries(entries) => {
                    authors.extend(entries.iter().filter_map(|entry| entry.origin));
                    match changes_of_shapes(&entries, &readers) {
                        Ok(frames) => spooled = spool_all(spool, frames).await,
                        Err(entity) => {
                            return PullEnded::Refused(RefetchReason::Schema, Some(entity));
                        }
                    }
                }
                ReadPart::Rows(_) => {}
                ReadPart::Outdated(entity) => return PullEnded::Failed(outdated(&entity)),
            }
            if spooled.is_err() {
                break;
            }
        }
        match ended(parts.finish().await, spooled) {
            Ok(()) => PullEnded::Complete {
                authors: authors.into(),
            },
            Err(error) => PullEnded::Failed(error),
        }
    }

    async fn read_changes(&self, shape: Shape, from: ReadFrom, spool: &PagesSpool) -> ReadEnded {
        let from = match from {
            ReadFrom::Position(position) => position,
            ReadFrom::Cursor(Cursor { epoch, position }) => {
                if self.hub.epoch().as_ref() != Some(&epoch) {
                    return ReadEnded::Refused(RefetchReason::Epoch);
                }
                Arc::new(position)
            }
        };
        let entity = match self.entity_of(&shape) {
            Ok(entity) => entity,
            Err(ended) => return ended,
        };
        metrics::counter!("rhtmx_sync_resumes_total").increment(1);
        let schema = entity.schema.clone();
        let entities = BTreeMap::from([(shape.entity().to_owned(), entity)]);
        let histories = histories_of([&shape]);
        let shape = ShapeReader::new(shape);
        let query = ChangesQuery {
            from: (*from).clone(),
            histories,
            checked: true,
        };
        let mut parts = self.db.read_changes(Arc::new(entities), query);
        let mut authors = Vec::new();
        let mut spooled = Ok(());
        while let Some(part) = parts.next().await {
            match part {
                ReadPart::Start { position, floor } => match refuse(&from, &position, &floor) {
                    Some(reason) => return ReadEnded::Refused(reason),
                    None => spool.begin(Arc::new(position)),
                },
                ReadPart::Entries(entries) => match changes_array(&entries, &shape, &mut authors) {
                    Ok(Some(array)) => spooled = spool.push(array.into()).await,
                    Ok(None) => {}
                    Err(reason) => return ReadEnded::Refused(reason),
                },
                ReadPart::Rows(_) => {}
                ReadPart::Outdated(entity) => return ReadEnded::Failed(outdated(&entity)),
            }
            if spooled.is_err() {
                break;
            }
        }
        complete(parts.finish().await, spooled, authors, schema)
    }
}

/// Whether `from` can be resumed from in a database that stands at `position` and has forgotten what
/// `floor` sees.
pub(crate) fn refuse(
    from: &Position,
    position: &Position,
    floor: &Position,
) -> Option<RefetchReason> {
    if !position.covers(from) {
        // From the future of this database: it was put back to an earlier state.
        return Some(RefetchReason::Epoch);
    }
    (!from.covers(floor)).then_some(RefetchReason::Expired)
}

/// The columns whose previous values the filters of these shapes look at.
pub(crate) fn histories_of<'a>(shapes: impl IntoIterator<Item = &'a Shape>) -> HistoryColumns {
    let mut histories = HistoryColumns::new();
    for shape in shapes {
        if let Some(part) = shape.part() {
            let columns = histories.entry(shape.entity().to_owned()).or_default();
            columns.extend(part.filter_columns().map(str::to_owned));
        }
    }
    histories
}

/// The JSON array of what `entries` mean for somebody who resumes; none when it would be empty.
fn changes_array(
    entries: &[NewestEntry],
    shape: &ShapeReader,
    authors: &mut Vec<Origin>,
) -> Result<Option<String>, RefetchReason> {
    let mut changes = Vec::with_capacity(entries.len());
    for entry in entries {
        authors.extend(entry.origin);
        match entry.learn_of(shape) {
            // A row that cannot be read is of another table than the shape was made for.
            Ok(Learned::Reshaped) | Err(_) => return Err(RefetchReason::Schema),
            Ok(Learned::Change {
                change,
                transient: false,
            }) => changes.push(change),
            Ok(
                Learned::Change {
                    transient: true, ..
                }
                | Learned::Nothing,
            ) => {}
        }
    }
    Ok((!changes.is_empty()).then(|| frame::json(&changes)))
}

/// The frames that tell what `entries` mean for each shape, without what it has already; the entity's
/// name when one of them says that its table changed its shape.
///
/// The shapes may stand at different positions, so each is told of rows that came and went, too.
fn changes_of_shapes(
    entries: &[NewestEntry],
    shapes: &[(ShapeReader, Arc<Position>)],
) -> Result<Vec<String>, String> {
    let mut frames = Vec::new();
    for (shape, at) in shapes {
        let name = shape.shape();
        let is_news =
            |entry: &&NewestEntry| name.entity() == entry.entity && !at.contains(entry.mark);
        let mut changes: Vec<Change> = Vec::new();
        for entry in entries.iter().filter(is_news) {
            match entry.learn_of(shape) {
                Ok(Learned::Nothing) => {}
                Ok(Learned::Reshaped) | Err(_) => return Err(entry.entity.clone()),
                Ok(Learned::Change { change, .. }) => changes.push(change),
            }
        }
        if !changes.is_empty() {
            let array = frame::json(&changes);
            frames.push(frame::changes_of_shape(name.as_str(), &array));
        }
    }
    Ok(frames)
}

/// It will be tried again, and by then the tables will have been looked at.
fn outdated(entity: &str) -> Arc<str> {
    format!("the table of {entity:?} has just changed").into()
}

async fn spool_all(spool: &FramesSpool, frames: Vec<String>) -> std::io::Result<()> {
    for frame in frames {
        spool.push(frame.into()).await?;
    }
    Ok(())
}

fn complete(
    read: Result<(), DbError>,
    spooled: std::io::Result<()>,
    authors: Vec<Origin>,
    schema: Arc<Schema>,
) -> ReadEnded {
    match ended(read, spooled) {
        Ok(()) => ReadEnded::Complete {
            authors: authors.into(),
            schema,
        },
        Err(error) => ReadEnded::Failed(error),
    }
}

fn ended(read: Result<(), DbError>, spooled: std::io::Result<()>) -> Result<(), Arc<str>> {
    read.map_err(|error| error.to_string())?;
    spooled.map_err(|error| format!("spooling a read: {error}"))?;
    Ok(())
}
