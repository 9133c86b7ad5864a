//! Changesets: the rows of one database for another, and from it.
//!
//! Every record is a row with all that is known of it, so merging is idempotent: a changeset may come twice, late, in any
//! order and from anybody. A constraint of this database may forbid a row that another one holds; such a record is parked,
//! told, and tried again, and the others go on.

mod error;
mod horizons;
mod pages;
mod replicate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use db::DbPool;
use db::changeset::{
    DigestSum, MergedRecord, Parked, Peer, QuickDigest, RECORDS_MERGED_MAX, checked, record,
};
use db::entity::{Entity, EntityConfig};
use merge::{Changeset, Clock, NodeId, Record, TableNames, digest_above};
use protocol::{Reject, RejectCode};
use sync_core::cursor::Cursor;
use sync_core::mutation::CheckedWrite;
use sync_core::mutation::fields::row_of;

use crate::config::RetentionConfig;

pub use error::ReplicaError;
pub use pages::Pages;
pub use replicate::{Copied, Replication};

/// How many parked records are tried at a time.
const PARKED_TRIED: usize = 200;

/// A database whose rows come together with those of others. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Replica {
    pool: DbPool,
    clock_hours: u64,
    node: NodeId,
    entities: Arc<Vec<Arc<Entity>>>,
    names: Arc<BTreeMap<String, TableNames>>,
}

/// What merging has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeSummary {
    /// How many records there were.
    pub records: u64,
    /// How many of them have changed something here.
    pub changed: u64,
    /// How many could not be merged, and are parked.
    pub parked: u64,
}

/// A record that could not be merged.
#[derive(Debug, Clone, PartialEq)]
pub struct ParkedRecord {
    /// The entity.
    pub entity: String,
    /// The row's canonical key.
    pub key: String,
    /// The database whose record it is.
    pub node: String,
    /// Why.
    pub reject: Reject,
}

/// The rows of an entity with their metadata in one number: equal where two databases hold the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityDigest {
    /// How many rows there are, and how many that are gone are remembered.
    pub records: u64,
    sum: DigestSum,
    /// At which position of its database.
    cursor: Cursor,
}

impl EntityDigest {
    fn new(sum: DigestSum, cursor: Cursor) -> Self {
        Self {
            records: sum.records(),
            sum,
            cursor,
        }
    }

    /// Whether both databases held the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.sum == other.sum
    }
}

impl std::ops::AddAssign for MergeSummary {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.changed += other.changed;
        self.parked += other.parked;
    }
}

impl Replica {
    /// Makes the engine's tables and captures these entities, all of which must merge by their fields. They are merged in this
    /// order, so those that others refer to come first.
    ///
    /// # Errors
    /// When the database fails, or an entity cannot be captured.
    pub async fn open(pool: DbPool, entities: &[EntityConfig]) -> Result<Self, ReplicaError> {
        pool.migrate(&db::DatabaseConfig::default()).await?;
        pool.pooling().await?;
        let names: Vec<String> = entities.iter().map(|entity| entity.name.clone()).collect();
        pool.want(&names).await?;
        let mut found = Vec::with_capacity(entities.len());
        for config in entities {
            let wrong = |reason: String| ReplicaError::Entity {
                entity: config.name.clone(),
                reason,
            };
            if config.fields.is_none() {
                return Err(wrong(
                    "its rows do not merge by their fields; set `fields`".to_owned(),
                ));
            }
            let described = pool.install(config).await?;
            let described = described.map_err(|reason| wrong(reason.to_string()))?;
            let described = described.ok_or_else(|| wrong("there is no such table".to_owned()))?;
            found.push(Arc::new(described.entity));
        }
        let node = pool.node().await?;
        Ok(Self::of(pool, node, found))
    }

    /// A database whose entities are captured, as they are.
    pub(crate) fn of(pool: DbPool, node: NodeId, entities: Vec<Arc<Entity>>) -> Self {
        let names = entities.iter().map(|entity| {
            let schema = &entity.schema;
            let columns = schema.columns.iter().map(|column| column.name.clone());
            let key = schema.key_columns().map(|column| column.name.clone());
            let names = TableNames {
                columns: columns.collect(),
                key: key.collect(),
            };
            (schema.entity.clone(), names)
        });
        Self {
            node,
            clock_hours: RetentionConfig::default().clock_hours,
            names: Arc::new(names.collect()),
            entities: Arc::new(entities),
            pool,
        }
    }

    /// For how many hours the servers of the database take up writes: their `retention.clock_hours`, 168 unless they are
    /// configured otherwise, and `u64::MAX` where [nodes of the family](crate::SyncConfig::crdt) sync with them.
    #[must_use]
    pub fn with_clock_hours(mut self, hours: u64) -> Self {
        self.clock_hours = hours;
        self
    }

    /// The name under which the database stamps.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The tables that changesets may name.
    pub fn names(&self) -> &BTreeMap<String, TableNames> {
        &self.names
    }

    /// Reads a page. Its names are compared with those of the tables and go no further.
    ///
    /// # Errors
    /// At the first thing that is wrong, with its place.
    pub fn read(&self, page: &str) -> Result<Changeset, ReplicaError> {
        Ok(Changeset::read(page, &self.names)?)
    }

    /// Merges a page.
    ///
    /// # Errors
    /// When a record does not fit its table: nothing of the page has been merged then. When the database fails, some of it
    /// may have been.
    pub async fn merge(&self, page: Changeset) -> Result<MergeSummary, ReplicaError> {
        let sender = page.header.as_ref().map(|header| header.node.clone());
        let mut pages = Vec::new();
        for (name, records) in page.records {
            let entity = self.entity(&name)?;
            let mut of_peers: BTreeMap<NodeId, Vec<Checked>> = BTreeMap::new();
            for (index, record) in records.into_iter().enumerate() {
                // A record of the family has nobody who sends it but its author.
                let node = sender.clone().unwrap_or_else(|| record.hlc.node());
                let one = self
                    .check(entity, record)
                    .map_err(|unfit| ReplicaError::Record {
                        table: name.clone(),
                        record: index,
                        reject: unfit.reject.into(),
                    })?;
                of_peers.entry(node).or_default().push(one);
            }
            pages.push((entity.clone(), of_peers));
        }
        let mut summary = MergeSummary::default();
        for (entity, of_peers) in pages {
            for (node, records) in of_peers {
                let mut records = records.into_iter();
                loop {
                    let page: Vec<Checked> = records.by_ref().take(RECORDS_MERGED_MAX).collect();
                    if page.is_empty() {
                        break;
                    }
                    summary += self
                        .merge_checked(&entity, &Peer(node.clone()), page)
                        .await?;
                }
            }
        }
        Ok(summary)
    }

    /// Tries what is parked once more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_parked(&self) -> Result<MergeSummary, ReplicaError> {
        let mut summary = MergeSummary::default();
        for entity in self.entities.iter() {
            let mut after = None;
            loop {
                let name = &entity.schema.entity;
                let parked = self.pool.parked(name, after.take(), PARKED_TRIED).await?;
                let Some(last) = parked.last() else {
                    break;
                };
                after = Some((last.key.clone(), last.node.clone()));
                let mut of_peers: BTreeMap<String, Vec<Checked>> = BTreeMap::new();
                for one in parked {
                    // What fits the table no more stays where it is.
                    let checked = self.read(&one.record).ok().and_then(|page| {
                        let record = page.records.into_values().flatten().next()?;
                        self.check(entity, record).ok()
                    });
                    of_peers.entry(one.node).or_default().extend(checked);
                }
                for (node, records) in of_peers {
                    if let Ok(node) = NodeId::new(&node) {
                        summary += self.merge_checked(entity, &Peer(node), records).await?;
                    }
                }
            }
        }
        Ok(summary)
    }

    /// What could not be merged, the first `limit` of each entity.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn parked(&self, limit: usize) -> Result<Vec<ParkedRecord>, ReplicaError> {
        let mut all = Vec::new();
        for entity in self.entities.iter() {
            let name = &entity.schema.entity;
            let parked = self.pool.parked(name, None, limit).await?;
            all.extend(parked.into_iter().map(|one| ParkedRecord {
                entity: name.clone(),
                key: one.key,
                node: one.node,
                reject: one.reject,
            }));
        }
        Ok(all)
    }

    /// The digest of an entity's rows as they are now.
    ///
    /// # Errors
    /// When there is no such entity, or the database fails.
    pub async fn digest(&self, entity: &str) -> Result<EntityDigest, ReplicaError> {
        self.digest_above(entity, &Clock::ground()).await
    }

    /// The same, whatever has been folded up to the horizon.
    async fn digest_above(
        &self,
        entity: &str,
        horizon: &Clock,
    ) -> Result<EntityDigest, ReplicaError> {
        let entity = self.entity(entity)?;
        let rules = entity.fields.clone().unwrap_or_default();
        let epoch = self.pool.head().await?.epoch;
        let mut read = self.pool.read_records(entity, None)?;
        let start = read.start().await.map_err(ReplicaError::of_read)?;
        let mut sum = DigestSum::default();
        while let Some(rows) = read.next().await.map_err(ReplicaError::of_read)? {
            for (key, known) in rows {
                let Some(row) = row_of(&entity.schema, &rules, &key, &known) else {
                    continue;
                };
                if let Some(digest) = digest_above(&key, row, horizon, &rules) {
                    sum.add(&digest);
                }
            }
        }
        let position = start.position;
        Ok(EntityDigest::new(sum, Cursor { epoch, position }))
    }

    /// What [`Self::digest_above`] says, much sooner and to be compared with nothing but another of these; none on SQLite.
    async fn quick_digest(
        &self,
        entity: &str,
        horizon: &Clock,
    ) -> Result<Option<EntityDigest>, ReplicaError> {
        let entity = self.entity(entity)?;
        let epoch = self.pool.head().await?.epoch;
        let digest = self.pool.quick_digest(entity, horizon).await?;
        Ok(digest.map(|QuickDigest { sum, position }| {
            EntityDigest::new(sum, Cursor { epoch, position })
        }))
    }

    fn entity(&self, name: &str) -> Result<&Arc<Entity>, ReplicaError> {
        let found = self
            .entities
            .iter()
            .find(|entity| entity.schema.entity == name);
        found.ok_or_else(|| ReplicaError::Entity {
            entity: name.to_owned(),
            reason: "it is not among those of the replica".to_owned(),
        })
    }

    /// A record as it is merged, and as it would be parked.
    fn check(&self, entity: &Entity, record: Record) -> Result<Checked, Box<Unfit>> {
        let is_early = record.is_from_the_future(now_ms());
        match checked(entity, record.clone()) {
            Ok(write) => Ok(Checked {
                write,
                record,
                is_early,
            }),
            Err(reject) => Err(Box::new(Unfit { record, reject })),
        }
    }

    /// The text under which a record is parked.
    fn parked_text(&self, entity: &Entity, record: Record) -> String {
        let page = Changeset {
            header: None,
            records: BTreeMap::from([(entity.schema.entity.clone(), vec![record])]),
        };
        page.to_value(&self.names).to_string()
    }

    async fn merge_checked(
        &self,
        entity: &Arc<Entity>,
        peer: &Peer,
        records: Vec<Checked>,
    ) -> Result<MergeSummary, ReplicaError> {
        let mut summary = MergeSummary {
            records: records.len() as u64,
            ..MergeSummary::default()
        };
        let (mut parked, mut merged) = (Vec::new(), Vec::new());
        let mut park = |key: String, record: Record, reject: Reject| {
            parked.push(Parked {
                key,
                node: peer.0.as_str().to_owned(),
                record: self.parked_text(entity, record),
                reject,
            });
        };
        let (mut writes, mut kept) = (Vec::new(), Vec::new());
        for one in records {
            let key = one.write.canonical_key().unwrap_or_default();
            if one.is_early {
                let message = "its time is too far ahead of this database's";
                park(key, one.record, Reject::new(RejectCode::Clock, message));
            } else {
                writes.push(one.write);
                kept.push((key, one.record));
            }
        }
        let answers: Vec<MergedRecord> = self.pool.merge_records(entity, writes).await?;
        for ((key, record), answer) in kept.into_iter().zip(answers) {
            match answer {
                Ok(changed) => {
                    summary.changed += u64::from(changed);
                    merged.push(key);
                }
                Err(reject) => park(key, record, reject),
            }
        }
        summary.parked = parked.len() as u64;
        self.pool
            .park(peer, &entity.schema.entity, parked, merged)
            .await?;
        Ok(summary)
    }
}

/// A record that fits its table.
struct Checked {
    write: CheckedWrite,
    record: Record,
    /// Whether its clock is ahead of the time by more than a peer's may be.
    is_early: bool,
}

/// A record that does not fit its table.
struct Unfit {
    record: Record,
    reject: Reject,
}

/// The records of a chunk that was read.
fn records_of(
    entity: &Entity,
    rows: Vec<(String, sync_core::mutation::fields::Known)>,
) -> Vec<Record> {
    let records = rows
        .iter()
        .filter_map(|(key, known)| record(entity, key, known));
    records.collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
