//! Two databases, kept equal.
//!
//! Each direction reads what its source has taken up since the position that is stored at its target, and merges it there. What
//! one direction writes, the other reads once more and finds nothing new in it, so both come to rest. A position is stored
//! after its records have been merged: who is interrupted merges some again.

use std::sync::Arc;

use db::changeset::{Peer, RECORDS_MERGED_MAX, RecordStream};
use db::entity::Entity;
use sync_core::cursor::Cursor;

use super::pages::begin;
use super::{Checked, MergeSummary, Replica, ReplicaError, Unfit, records_of};

/// Two databases whose rows come together.
#[derive(Debug, Clone)]
pub struct Replication {
    one: Replica,
    other: Replica,
}

/// What one round has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// From the first to the second.
    pub there: MergeSummary,
    /// From the second to the first.
    pub back: MergeSummary,
    /// Whether both were compared at the end, and found equal.
    pub is_equal: bool,
}

impl Replication {
    /// Of these two, which must be different databases with the same tables.
    ///
    /// # Errors
    /// When both stamp under one name, or their tables differ.
    pub fn new(one: Replica, other: Replica) -> Result<Self, ReplicaError> {
        if one.node == other.node {
            return Err(ReplicaError::SameNode(one.node.as_str().to_owned()));
        }
        for (entity, names) in one.names.iter() {
            let others = other.names.get(entity);
            let is_same = others
                .is_some_and(|others| others.columns == names.columns && others.key == names.key);
            if !is_same {
                return Err(ReplicaError::Entity {
                    entity: entity.clone(),
                    reason: "its columns are not the same in both databases".to_owned(),
                });
            }
        }
        Ok(Self { one, other })
    }

    /// Brings what is new in each to the other.
    ///
    /// # Errors
    /// When a database fails. What has been merged stays, and the next round goes on from there.
    pub async fn round(&self) -> Result<Copied, ReplicaError> {
        let mut copied = Copied {
            is_equal: true,
            ..Copied::default()
        };
        let names: Vec<&String> = self
            .one
            .entities
            .iter()
            .map(|one| &one.schema.entity)
            .collect();
        let mut told = Vec::with_capacity(names.len());
        for name in &names {
            told.push((
                self.one.horizons(name).await?,
                self.other.horizons(name).await?,
            ));
            copied.there += copy(&self.one, &self.other, name).await?;
        }
        copied.there += self.other.retry_parked().await?;
        for name in &names {
            // The first time, all rows would be read back that have just been written.
            let peer = Peer(self.other.node.clone());
            let has_begun = self.one.pool.reached(&peer, name).await?.is_some();
            if !has_begun && self.is_equal_in(name).await? {
                continue;
            }
            copied.is_equal = false;
            copied.back += copy(&self.other, &self.one, name).await?;
        }
        copied.back += self.one.retry_parked().await?;
        for (name, (by_one, by_other)) in names.iter().zip(&told) {
            self.other.hear(name, &self.one.node, by_one).await?;
            self.one.hear(name, &self.other.node, by_other).await?;
        }
        Ok(copied)
    }

    /// Whether both hold the same rows with the same metadata. If so, neither needs what the other has taken up until then.
    ///
    /// # Errors
    /// When a database fails.
    pub async fn is_equal(&self) -> Result<bool, ReplicaError> {
        for entity in self.one.entities.iter() {
            if !self.is_equal_in(&entity.schema.entity).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn is_equal_in(&self, entity: &str) -> Result<bool, ReplicaError> {
        let frontiers = (
            self.one.frontier(entity).await?,
            self.other.frontier(entity).await?,
        );
        // What one has folded or forgotten already, the other may have still.
        let frontier = frontiers.0.max(frontiers.1);
        let quick = tokio::try_join!(
            self.one.quick_digest(entity, &frontier),
            self.other.quick_digest(entity, &frontier)
        )?;
        let (one, other) = match quick {
            (Some(one), Some(other)) if one.is_same(&other) => (one, other),
            _ => tokio::try_join!(
                self.one.digest_above(entity, &frontier),
                self.other.digest_above(entity, &frontier)
            )?,
        };
        if !one.is_same(&other) {
            return Ok(false);
        }
        let (of_one, of_other) = (Peer(self.one.node.clone()), Peer(self.other.node.clone()));
        self.other.pool.reach(&of_one, entity, &one.cursor).await?;
        self.one
            .pool
            .reach(&of_other, entity, &other.cursor)
            .await?;
        Ok(true)
    }
}

/// Brings what is new of an entity in one database to the other.
async fn copy(from: &Replica, to: &Replica, entity: &str) -> Result<MergeSummary, ReplicaError> {
    let (source, target) = (from.entity(entity)?, to.entity(entity)?);
    let peer = Peer(from.node.clone());
    let epoch = from.pool.head().await?.epoch;
    let reached = to.pool.reached(&peer, entity).await?;
    let since = reached.filter(|reached| reached.epoch == epoch);
    let mut before = since.as_ref().map(|since| since.position.clone());
    let mut summary = MergeSummary::default();
    if before.is_none() {
        let copied = to.pool.copy_unedited(target, &from.pool, source).await?;
        (summary.records, summary.changed) = (copied.rows, copied.rows);
        if copied.position.is_some() {
            let mut read = from.pool.read_edited(source)?;
            read.start().await.map_err(ReplicaError::of_read)?;
            summary += merge_all(read, source, to, &peer).await?;
            before = copied.position;
        }
    }
    let (read, position) = begin(from, source, before).await?;
    summary += merge_all(read, source, to, &peer).await?;
    let reached = Cursor { epoch, position };
    // Databases that rest are not written to: the other direction would find it new.
    if since.as_ref() != Some(&reached) {
        to.pool.reach(&peer, entity, &reached).await?;
    }
    Ok(summary)
}

/// Merges everything that is read.
async fn merge_all(
    mut read: RecordStream,
    source: &Arc<Entity>,
    to: &Replica,
    peer: &Peer,
) -> Result<MergeSummary, ReplicaError> {
    let entity = &source.schema.entity;
    let target = to.entity(entity)?;
    let mut summary = MergeSummary::default();
    let mut page = Vec::new();
    let mut next = read.next().await;
    while let Some(rows) = next.map_err(ReplicaError::of_read)? {
        for record in records_of(source, rows) {
            match to.check(target, record) {
                Ok(checked) => page.push(checked),
                Err(unfit) => summary += park_bad(to, entity, peer, *unfit).await?,
            }
        }
        next = if page.len() >= RECORDS_MERGED_MAX / 2 {
            // One database reads while the other writes.
            let (merged, next) = tokio::join!(merge(to, entity, peer, &mut page), read.next());
            summary += merged?;
            next
        } else {
            read.next().await
        };
    }
    summary += merge(to, entity, peer, &mut page).await?;
    Ok(summary)
}

async fn merge(
    to: &Replica,
    entity: &str,
    peer: &Peer,
    page: &mut Vec<Checked>,
) -> Result<MergeSummary, ReplicaError> {
    let mut page = std::mem::take(page);
    // In one order everywhere, so that two who merge do not wait for each other.
    page.sort_by_cached_key(|one| one.write.canonical_key());
    let target = to.entity(entity)?;
    let mut summary = MergeSummary::default();
    while !page.is_empty() {
        let rest = page.split_off(page.len().min(RECORDS_MERGED_MAX));
        summary += to
            .merge_checked(target, peer, std::mem::replace(&mut page, rest))
            .await?;
    }
    Ok(summary)
}

/// Parks a record that does not fit the table.
async fn park_bad(
    to: &Replica,
    entity: &str,
    peer: &Peer,
    Unfit { record, reject }: Unfit,
) -> Result<MergeSummary, ReplicaError> {
    let target = to.entity(entity)?;
    let key = target.schema.key_columns().map(|column| {
        let part = record.columns.get(&column.name);
        part.cloned().unwrap_or_default()
    });
    let key: Vec<serde_json::Value> = key.collect();
    let parked = db::changeset::Parked {
        key: sync_core::key::canonical(&key),
        node: peer.0.as_str().to_owned(),
        record: to.parked_text(target, record),
        reject,
    };
    to.pool.park(peer, entity, vec![parked], Vec::new()).await?;
    Ok(MergeSummary {
        records: 1,
        changed: 0,
        parked: 1,
    })
}
