//! A changeset, page by page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use db::changeset::RecordStream;
use db::entity::Entity;
use db::read::ReadError;
use merge::{CHANGESET_VERSION, Changeset, ChangesetFilter, Header};
use sync_core::cursor::{Cursor, Position};

use super::{Replica, ReplicaError, records_of};

/// The pages of a changeset. Each entity's rows are read at one snapshot, which stays open for as long as its pages are
/// taken.
pub struct Pages {
    replica: Replica,
    filter: ChangesetFilter,
    since: Option<Position>,
    /// Where the next changeset goes on.
    cursor: Cursor,
    waiting: VecDeque<Arc<Entity>>,
    reading: Option<(Arc<Entity>, RecordStream)>,
    is_done: bool,
}

impl Replica {
    /// The rows of the filter's tables: all, or those that were taken up since a cursor that an earlier changeset ended with.
    /// Where the log does not reach back to it, that is all.
    ///
    /// # Errors
    /// When the filter names a table that is not among the replica's, or the database fails.
    pub async fn changeset(
        &self,
        filter: ChangesetFilter,
        since: Option<&Cursor>,
    ) -> Result<Pages, ReplicaError> {
        for table in filter.only_tables.iter().flatten() {
            self.entity(table)?;
        }
        let cursor = self.pool.head().await?;
        let since = since.filter(|since| since.epoch == cursor.epoch);
        let wanted = self.entities.iter().filter(|entity| {
            let only = filter.only_tables.as_ref();
            only.is_none_or(|tables| tables.contains(&entity.schema.entity))
        });
        Ok(Pages {
            replica: self.clone(),
            since: since.map(|since| since.position.clone()),
            waiting: wanted.cloned().collect(),
            filter,
            cursor,
            reading: None,
            is_done: false,
        })
    }
}

/// Starts a read of records: of those since a position, or of all where the log does not reach back to it.
pub(super) async fn begin(
    replica: &Replica,
    entity: &Arc<Entity>,
    since: Option<Position>,
) -> Result<(RecordStream, Position), ReplicaError> {
    let mut read = replica.pool.read_records(entity, since)?;
    let start = match read.start().await {
        Err(ReadError::Refused(_)) => {
            read = replica.pool.read_records(entity, None)?;
            read.start().await
        }
        start => start,
    };
    let start = start.map_err(ReplicaError::of_read)?;
    Ok((read, start.position))
}

impl Pages {
    /// The next page; none at the end. The last one has no records and names the cursor from which the next changeset goes
    /// on, unless the filter has left something out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Changeset>, ReplicaError> {
        loop {
            if let Some((entity, read)) = &mut self.reading {
                let Some(rows) = read.next().await.map_err(ReplicaError::of_read)? else {
                    self.reading = None;
                    continue;
                };
                let name = entity.schema.entity.clone();
                let mut records = records_of(entity, rows);
                records.retain(|record| self.filter.takes(&name, &record.hlc, &record.hlc));
                if records.is_empty() {
                    continue;
                }
                return Ok(Some(self.page(BTreeMap::from([(name, records)]), None)));
            }
            if let Some(entity) = self.waiting.pop_front() {
                let (read, _) = begin(&self.replica, &entity, self.since.clone()).await?;
                self.reading = Some((entity, read));
                continue;
            }
            if std::mem::replace(&mut self.is_done, true) {
                return Ok(None);
            }
            let is_whole = !self.filter.leaves_out();
            let cursor = is_whole.then(|| self.cursor.to_string());
            return Ok(Some(self.page(BTreeMap::new(), cursor)));
        }
    }

    fn page(
        &self,
        records: BTreeMap<String, Vec<merge::Record>>,
        cursor: Option<String>,
    ) -> Changeset {
        Changeset {
            header: Some(Header {
                version: CHANGESET_VERSION,
                node: self.replica.node.clone(),
                up_to: None,
                horizons: None,
                cursor,
            }),
            records,
        }
    }
}
