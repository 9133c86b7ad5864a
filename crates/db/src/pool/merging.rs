//! What there is of rows that merge by their fields: their records, other databases that have them, and nodes.

use std::sync::Arc;

use merge::{Clock, Horizons, NodeId, Peers, Rules};
use sync_core::cursor::{Cursor, Position};
use sync_core::mutation::CheckedWrite;

use super::DbPool;
use crate::changeset::{
    self, CopiedRows, Extent, MergedRecord, Parked, Peer, QuickDigest, RecordStream,
};
use crate::crdt_node::CrdtNode;
use crate::entity::Entity;
use crate::error::DbResult;
use crate::folding::{self, Folded};
use crate::read;
use crate::tombstones::{Tombstone, TombstonesPage};
use crate::write::TableWrite;

impl DbPool {
    /// Folds a batch of what is kept beside an entity's rows, of those with keys after this one: clocks up to the horizon,
    /// before which nobody can write any more, and where it `may_be_early` more of what is too large.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fold_fields(
        &self,
        entity: &str,
        rules: &Rules,
        (horizon, may_be_early): (&Clock, bool),
        after: Option<&str>,
    ) -> DbResult<Folded> {
        on_backend!(self, |pool, backend| {
            let mut conn = pool.get().await?;
            let entries = backend::folding::read(&mut conn, entity, after).await?;
            let changes = folding::changes(&entries, rules, horizon, may_be_early);
            let folded = match changes.is_empty() {
                true => Folded::default(),
                false => backend::folding::write(&mut conn, entity, changes).await?,
            };
            Ok(Folded {
                last: folding::last(&entries),
                ..folded
            })
        })
    }

    /// The name under which the database stamps.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn node(&self) -> DbResult<NodeId> {
        let node = on_backend!(self, |pool, backend| {
            backend::changeset::node(&mut *pool.get().await?).await
        })?;
        NodeId::new(&node).map_err(|error| read::unreadable(&error))
    }

    /// Starts a read of what is known of an entity's rows, and of those that are gone: of all, or of those that have
    /// changed since a position.
    ///
    /// # Errors
    /// When its rows do not merge by their fields.
    pub fn read_records(
        &self,
        entity: &Arc<Entity>,
        since: Option<Position>,
    ) -> DbResult<RecordStream> {
        self.read_known(entity, since.map_or(Extent::All, Extent::Since))
    }

    /// Starts a read of what is known of an entity's rows beside their values, and of those that are gone.
    ///
    /// # Errors
    /// When its rows do not merge by their fields.
    pub fn read_edited(&self, entity: &Arc<Entity>) -> DbResult<RecordStream> {
        self.read_known(entity, Extent::Edited)
    }

    /// Copies the rows of another database's entity that were never edited as fields, if both are PostgreSQL and this one's
    /// table is empty. Where a constraint forbids a row, or others write meanwhile, it stops, and the rest is to be merged.
    ///
    /// # Errors
    /// When a database fails. What has been copied stays.
    pub async fn copy_unedited(
        &self,
        target: &Entity,
        from: &Self,
        source: &Entity,
    ) -> DbResult<CopiedRows> {
        match (from, self) {
            #[cfg(feature = "postgres")]
            (Self::Postgres(from), Self::Postgres(to)) => {
                let (from, to) = ((from, source), (to, target));
                crate::postgres::changeset::copy_unedited(from, to).await
            }
            #[cfg(feature = "sqlite")]
            _ => {
                let _ = (target, source);
                Ok(CopiedRows::default())
            }
        }
    }

    /// The digest of an entity's rows, whatever has been folded up to the horizon, to be compared with that of another
    /// PostgreSQL; none on SQLite, and none where the table is another one now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quick_digest(
        &self,
        entity: &Entity,
        horizon: &Clock,
    ) -> DbResult<Option<QuickDigest>> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                crate::postgres::changeset::quick_digest(pool, entity, horizon).await
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {
                let _ = (entity, horizon);
                Ok(None)
            }
        }
    }

    /// Starts a read of what is known of an entity's rows that are gone.
    ///
    /// # Errors
    /// When its rows do not merge by their fields.
    pub fn read_tombstones(&self, entity: &Arc<Entity>) -> DbResult<RecordStream> {
        self.read_known(entity, Extent::Gone)
    }

    fn read_known(&self, entity: &Arc<Entity>, extent: Extent) -> DbResult<RecordStream> {
        if entity.fields.is_none() || entity.relation.is_none() {
            return Err(changeset::no_fields(&entity.schema));
        }
        Ok(on_backend!(self, |pool, backend| {
            backend::changeset::read_records(pool, entity.clone(), extent)
        }))
    }

    /// What a node of the family of CRDTs over SQL has, of a user's; an empty text for nobody's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn crdt_node(&self, user_id: &str, node: &NodeId) -> DbResult<Option<CrdtNode>> {
        let (user_id, node) = (user_id.to_owned(), node.as_str().to_owned());
        on_backend!(self, |pool, backend| {
            backend::crdt_node::node(&mut *pool.get().await?, user_id, node).await
        })
    }

    /// Forgets up to where a node has all changes, and with `taken` also up to where what it has written is taken.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_crdt_node(
        &self,
        user_id: &str,
        node: &NodeId,
        taken: bool,
    ) -> DbResult<()> {
        let (user_id, node) = (user_id.to_owned(), node.as_str().to_owned());
        on_backend!(self, |pool, backend| {
            backend::crdt_node::forget(&mut *pool.get().await?, user_id, node, taken).await
        })
    }

    /// Keeps what a node has. What is none stays as it was, and what is taken never becomes less.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_crdt_node(
        &self,
        user_id: &str,
        node: &NodeId,
        known: CrdtNode,
    ) -> DbResult<()> {
        let (user_id, node) = (user_id.to_owned(), node.as_str().to_owned());
        on_backend!(self, |pool, backend| {
            backend::crdt_node::keep(&mut *pool.get().await?, user_id, node, known).await
        })
    }

    /// Merges checked records of different rows, at most [`RECORDS_MERGED_MAX`], in one transaction. The answers are in
    /// their order.
    ///
    /// # Errors
    /// When the database fails; nothing has been merged then, or it is unknown whether.
    pub async fn merge_records(
        &self,
        entity: &Arc<Entity>,
        records: Vec<CheckedWrite>,
    ) -> DbResult<Vec<MergedRecord>> {
        let writes = records
            .into_iter()
            .map(|one| changeset::write_of(entity, one));
        let writes: Vec<TableWrite> = writes.collect::<DbResult<_>>()?;
        on_backend!(self, |pool, backend| {
            backend::changeset::merge_records(pool, writes).await
        })
    }

    /// A page of the rows of an entity that are gone and of which it is known.
    ///
    /// # Errors
    /// When its rows do not merge by their fields, or the database fails.
    pub async fn tombstones(
        &self,
        entity: &Entity,
        page: TombstonesPage,
    ) -> DbResult<Vec<Tombstone>> {
        if entity.fields.is_none() || entity.relation.is_none() {
            return Err(changeset::no_fields(&entity.schema));
        }
        on_backend!(self, |pool, backend| {
            backend::tombstones::read(pool, entity, page).await
        })
    }

    /// The newest clock that is known of the rows of an entity: of those alone that a node wrote last, or that another one
    /// did.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_clock(
        &self,
        entity: &str,
        only_node: Option<&NodeId>,
        except_node: Option<&NodeId>,
    ) -> DbResult<Option<Clock>> {
        let (only, except) = (
            only_node.map(NodeId::as_str),
            except_node.map(NodeId::as_str),
        );
        let newest = on_backend!(self, |pool, backend| {
            backend::tombstones::newest(pool, entity, only, except).await
        })?;
        Ok(newest.and_then(|text| Clock::read_foreign(&text).ok()))
    }

    /// The databases whose rows of an entity have been merged here, and what is known of who has what.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn peers(&self, entity: &str) -> DbResult<Peers> {
        let entity = entity.to_owned();
        let stored = on_backend!(self, |pool, backend| {
            backend::changeset::peers(&mut *pool.get().await?, entity).await
        })?;
        stored.read()
    }

    /// Stores who has what of an entity's rows, where that is more than before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn raise_horizons(&self, entity: &str, horizons: &Horizons) -> DbResult<()> {
        let (entity, horizons) = (entity.to_owned(), changeset::horizons_of(horizons));
        on_backend!(self, |pool, backend| {
            backend::changeset::raise_horizons(&mut *pool.get().await?, entity, horizons).await
        })
    }

    /// How far another database's rows of an entity have been merged; none where that has not begun.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reached(&self, peer: &Peer, entity: &str) -> DbResult<Option<Cursor>> {
        let (node, entity) = (peer.0.as_str().to_owned(), entity.to_owned());
        let reached = on_backend!(self, |pool, backend| {
            backend::changeset::reached(&mut *pool.get().await?, node, entity).await
        })?;
        // What cannot be read is as good as nothing: then all is merged again.
        Ok(reached.and_then(|text| text.parse().ok()))
    }

    /// Stores how far another database's rows of an entity have been merged.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reach(&self, peer: &Peer, entity: &str, cursor: &Cursor) -> DbResult<()> {
        let (node, entity) = (peer.0.as_str().to_owned(), entity.to_owned());
        let cursor = cursor.to_string();
        on_backend!(self, |pool, backend| {
            backend::changeset::reach(&mut *pool.get().await?, node, entity, cursor).await
        })
    }

    /// Parks records of another database, and forgets those of these rows that were parked and are merged now.
    ///
    /// # Errors
    /// When the database fails, or too many are parked.
    pub async fn park(
        &self,
        peer: &Peer,
        entity: &str,
        parked: Vec<Parked>,
        merged: Vec<String>,
    ) -> DbResult<()> {
        let (node, entity) = (peer.0.as_str().to_owned(), entity.to_owned());
        let name = entity.clone();
        let count = on_backend!(self, |pool, backend| {
            backend::changeset::park(&mut *pool.get().await?, node, name, parked, merged).await
        })?;
        changeset::check_parked(count, &entity)
    }

    /// The parked records of an entity with keys after this one, in the order of their keys, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn parked(
        &self,
        entity: &str,
        after: Option<(String, String)>,
        limit: usize,
    ) -> DbResult<Vec<Parked>> {
        let entity = entity.to_owned();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        on_backend!(self, |pool, backend| {
            backend::changeset::parked(&mut *pool.get().await?, entity, after, limit).await
        })
    }
}
