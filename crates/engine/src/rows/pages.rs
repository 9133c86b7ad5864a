//! Reads for pages of plain HTTP: a page of a shape's rows, and changes that are handed out page by page.
//!
//! They take the same turns and spools as the reads of sessions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use db::read::{ChangeStream, ChangesQuery, RowStream, RowsPage, RowsQuery};
use filter::SetsAtBoth;
use protocol::{Change, RefetchReason, json};
use serde_json::value::RawValue;
use sync_core::cursor::{Position, refuse};
use sync_core::effect::Effect;
use sync_core::log::{ChangeKind, NetChange};
use sync_core::retry::ReadFailure;
use sync_core::shape::{Shape, ShapeReader};

use super::past::{ReadSets, with_sets};
use super::reads::{
    Failure, Reader, Stopped, abandoned, is_large, metadata_of, old_value_columns_of, unclear,
    unless_abandoned,
};
use super::spool::{Next, Spool, SpoolReader};
use super::turns::ReadClient;
use super::{blocking, bulk};

/// How a read for HTTP ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageEnd {
    /// Everything has been read; of a page of rows, `more` tells the key after which more follow.
    Complete { more: Option<Arc<str>> },
    /// The position cannot be resumed from, or the table has changed.
    Refused(RefetchReason),
    /// The read failed.
    Failed(Failure),
}

impl From<Stopped> for PageEnd {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Refused(reason, _) => Self::Refused(reason),
            Stopped::Failed(failure) => Self::Failed(failure),
            Stopped::Abandoned => Self::Failed(abandoned()),
        }
    }
}

/// The rows of one page, as JSON arrays; or the changes, as JSON arrays of `[id, change]`.
pub(crate) type Items = SpoolReader<Arc<Position>, PageEnd>;
type ItemsSpool = Spool<Arc<Position>, PageEnd>;

/// Which changes a client of HTTP has received, so that they are left out.
pub(crate) type HasReturned = Box<dyn Fn(&NetChange) -> bool + Send + Sync>;

/// A read of changes for HTTP.
pub(crate) struct ChangesRead {
    pub(crate) shape: Shape,
    pub(crate) client: ReadClient,
    pub(crate) from: Position,
    pub(crate) has_returned: HasReturned,
    /// Whether the client may hold rows that were read after `from`, so that it needs transient changes.
    pub(crate) transient: bool,
}

impl Reader {
    /// Reads a page of rows after a key, in the order of the keys' texts.
    pub(crate) fn rows_page(
        self: &Arc<Self>,
        shape: &Shape,
        after_key: Option<String>,
        limit: usize,
        client: ReadClient,
    ) -> Items {
        let (spool, items) = ItemsSpool::new(self.budget.clone());
        let (reader, shape) = (self.clone(), shape.clone());
        bulk::spawn(async move {
            let read = reader.read_rows_page(shape, after_key, limit, client, &spool);
            let read = read.await;
            spool.finish(read.map_or_else(PageEnd::from, |more| PageEnd::Complete { more }));
        });
        items
    }

    async fn read_rows_page(
        &self,
        shape: Shape,
        after_key: Option<String>,
        limit: usize,
        client: ReadClient,
        spool: &ItemsSpool,
    ) -> Result<Option<Arc<str>>, Stopped> {
        let turn = self.turns.take(shape.entity(), client);
        let _turn = unless_abandoned(spool, turn).await??;
        let entity = self.entity_of(&shape)?;
        metrics::counter!("rhtmx_sync_snapshot_reads_total").increment(1);
        let page = Some(RowsPage {
            after_key,
            limit: limit.saturating_add(1),
        });
        let others = self.entities.all();
        let query = RowsQuery {
            shape,
            page,
            others,
            denied: BTreeSet::new(),
            at_drain: None,
        };
        let mut rows = self.db.read_rows(entity, query);
        let bytes_max = self.config.page_bytes_max;
        let spooled = spool_page(&mut rows, spool, limit, bytes_max);
        let read = unless_abandoned(spool, spooled).await;
        rows.close().await;
        read?
    }

    /// Reads changes for pages of HTTP.
    pub(crate) fn changes_pages(self: &Arc<Self>, read: ChangesRead) -> Items {
        let (spool, items) = ItemsSpool::new(self.budget.clone());
        let reader = self.clone();
        bulk::spawn(async move {
            let read = reader.read_changes_pages(read, &spool).await;
            spool.finish(read.map_or_else(PageEnd::from, |()| PageEnd::Complete { more: None }));
        });
        items
    }

    async fn read_changes_pages(
        &self,
        read: ChangesRead,
        spool: &ItemsSpool,
    ) -> Result<(), Stopped> {
        let turn = self.turns.take(read.shape.entity(), read.client.clone());
        let _turn = unless_abandoned(spool, turn).await??;
        let entity = self.entity_of(&read.shape)?;
        metrics::counter!("rhtmx_sync_resumes_total").increment(1);
        let mut entities = BTreeMap::from([(read.shape.entity().to_owned(), entity)]);
        let sets = ReadSets::at([&read.shape], &read.from, &self.hub);
        self.add_deciding(sets.as_ref(), &mut entities)?;
        let query = ChangesQuery {
            from: read.from.clone(),
            old_value_columns: old_value_columns_of([&read.shape]),
            metadata: metadata_of([&read.shape]),
            entities: Some(BTreeSet::from([read.shape.entity().to_owned()])),
            checked: true,
            entries_max: Some(self.config.resume_entries_max),
            inquiry: sets
                .as_ref()
                .map(|sets| sets.inquiring(self.config.subquery_timeout())),
            at_drain: None,
        };
        let mut changes = self.db.read_changes(Arc::new(entities), query);
        let spooled = spool_numbered(&mut changes, &read, sets.as_ref(), spool);
        let ended = unless_abandoned(spool, spooled).await;
        changes.close().await;
        ended?
    }
}

/// Spools rows up to a number and a size, and returns the last key when more follow.
async fn spool_page(
    rows: &mut RowStream,
    spool: &ItemsSpool,
    limit: usize,
    bytes_max: usize,
) -> Result<Option<Arc<str>>, Stopped> {
    spool.begin(Arc::new(rows.start().await?.position));
    let (mut count, mut bytes) = (0, 0);
    let mut last: Option<Arc<str>> = None;
    while let Some(mut chunk) = rows.next().await? {
        let fits = |row: &protocol::RowImage| {
            let fits = count < limit && (bytes < bytes_max || count == 0);
            count += 1;
            bytes += row.row.get().len();
            fits
        };
        let taken = chunk.iter().map(fits).take_while(|fits| *fits).count();
        let is_full = taken < chunk.len();
        chunk.truncate(taken);
        if let Some(row) = chunk.last() {
            last = Some(row.key.as_str().into());
            spool.push(json::text(&chunk).into()).await?;
        }
        if is_full {
            if count > limit {
                // The statement returns one row more than fits, so it has ended; it would be cancelled otherwise.
                while rows.next().await?.is_some() {}
            }
            return Ok(last);
        }
    }
    Ok(None)
}

async fn spool_numbered(
    changes: &mut ChangeStream,
    read: &ChangesRead,
    sets: Option<&ReadSets>,
    spool: &ItemsSpool,
) -> Result<(), Stopped> {
    let shape = ShapeReader::new(read.shape.clone());
    let start = changes.start().await?;
    if let Some(reason) = refuse(&read.from, &start.position, &start.floor) {
        return Err(Stopped::Refused(reason, None));
    }
    // What earlier reads have returned was right for the sets as they were then, which nobody knows any more.
    let is_lost = |sets: &ReadSets| {
        sets.is_unknown(&read.shape) || (read.transient && sets.is_stirred(&read.shape))
    };
    if sets.is_some_and(is_lost) {
        return Err(Stopped::Refused(RefetchReason::Expired, None));
    }
    spool.begin(Arc::new(start.position));
    while let Some(entries) = changes.next().await? {
        let is_large = is_large(&entries, [shape.shape()]);
        let numbered = blocking::run_if(is_large, || {
            with_sets(sets, |sets| numbered(entries, &shape, sets, read))
        })?;
        if !numbered.is_empty() {
            spool.push(json::text(&numbered).into()).await?;
        }
    }
    Ok(())
}

/// What the entries mean for a client of HTTP, with the entries' ids.
fn numbered(
    entries: Vec<NetChange>,
    shape: &ShapeReader,
    sets: SetsAtBoth<'_>,
    read: &ChangesRead,
) -> Result<Vec<(i64, Change)>, Stopped> {
    let if_unclear = unclear(&entries, shape.shape().entity());
    let mut numbered = Vec::new();
    for mut entry in entries {
        // Over HTTP nobody says who asks, so nobody is told whose mutation a change was.
        entry.tell_origin_to(None);
        match entry.effect_on(shape, sets) {
            // A row that cannot be read belongs to another version of the table than the shape was made for.
            Ok(Effect::SchemaChanged) | Err(_) => {
                return Err(Stopped::Refused(RefetchReason::Schema, None));
            }
            Ok(Effect::Change { change, transient })
                if !(read.has_returned)(&entry) && (!transient || read.transient) =>
            {
                // One that only sets have moved comes last, and has no entry of its own.
                let is_touched = entry.kind == ChangeKind::Touched;
                let id = if is_touched { i64::MAX } else { entry.id };
                numbered.push((id, change));
            }
            // To name the row would tell its key to a client that never had it.
            Ok(Effect::Unclear) => return Err(Stopped::Refused(if_unclear, None)),
            Ok(Effect::Change { .. } | Effect::Nothing) => {}
        }
    }
    Ok(numbered)
}

/// A change, with the id of the newest entry of its row.
pub(crate) type NumberedChange = (i64, Box<RawValue>);

/// A read of changes from which pages are taken.
#[derive(Debug)]
pub(crate) struct ChangePages {
    items: Items,
    /// Changes that have been taken from the spool and are on no page yet.
    left: VecDeque<NumberedChange>,
    /// The position that the read returned.
    pub(crate) read_at: Arc<Position>,
}

impl ChangePages {
    /// Waits for the read to begin.
    pub(crate) async fn begin(mut items: Items) -> Result<Self, PageEnd> {
        match next(&mut items).await? {
            Next::Head(read_at) => Ok(Self {
                items,
                left: VecDeque::new(),
                read_at,
            }),
            Next::Page(_) => Err(failed("a read without a position")),
            Next::End(end) => Err(end),
        }
    }

    /// Takes the next change with the id of its entry; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<NumberedChange>, PageEnd> {
        loop {
            if let Some(change) = self.left.pop_front() {
                return Ok(Some(change));
            }
            match next(&mut self.items).await? {
                Next::Head(_) => {}
                Next::Page(text) => {
                    self.left = serde_json::from_slice(&text)
                        .map_err(|_| failed("a page that is not JSON"))?;
                }
                Next::End(PageEnd::Complete { .. }) => return Ok(None),
                Next::End(end) => return Err(end),
            }
        }
    }

    /// Puts a change back, to be the first of the next page.
    pub(crate) fn put_back(&mut self, change: NumberedChange) {
        self.left.push_front(change);
    }
}

/// The next item of a read.
pub(crate) async fn next(items: &mut Items) -> Result<Next<Arc<Position>, PageEnd>, PageEnd> {
    items
        .next()
        .await
        .map_err(|error| failed(&error.to_string()))
}

fn failed(text: &str) -> PageEnd {
    PageEnd::Failed(Failure::new(ReadFailure::Passing, text))
}
