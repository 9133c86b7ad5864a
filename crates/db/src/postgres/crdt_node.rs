//! What the nodes of the family of CRDTs over SQL have.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};

use crate::crdt_node::{CrdtNode, NODES_OF_USER_MAX};
use crate::error::{DbResult, Failed};
use crate::tables::_rhtmx_sync_crdt_node as table;

const KEEPING: &str = "keeping what nodes have";

/// What is known of a node.
pub(crate) async fn node(
    conn: &mut AsyncPgConnection,
    user_id: String,
    node: String,
) -> DbResult<Option<CrdtNode>> {
    let found = conn.transaction(async |conn| {
        let found = table::table
            .find((user_id, node))
            .select((table::reached, table::sent, table::taken))
            .first::<(Option<String>, Option<String>, Option<String>)>(conn)
            .await;
        Ok(found.optional()?.map(CrdtNode::from))
    });
    found
        .await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))
}

/// Forgets up to where it has all changes, and with `taken` also what it has written.
pub(crate) async fn forget(
    conn: &mut AsyncPgConnection,
    user_id: String,
    node: String,
    taken: bool,
) -> DbResult<()> {
    let forgotten = conn.transaction(async |conn| {
        let row = table::table.find((user_id, node));
        let none = None::<String>;
        diesel::update(row.clone())
            .set((table::reached.eq(&none), table::sent.eq(&none)))
            .execute(conn)
            .await?;
        if taken {
            let update = diesel::update(row).set(table::taken.eq(&none));
            update.execute(conn).await?;
        }
        Ok(())
    });
    forgotten
        .await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))
}

/// Keeps what is known of it, where something is, and forgets the nodes of the user that were not seen for longest if there are too many.
pub(crate) async fn keep(
    conn: &mut AsyncPgConnection,
    user_id: String,
    node: String,
    known: CrdtNode,
) -> DbResult<()> {
    let kept = conn.transaction(async |conn| {
        sql_query(
            "INSERT INTO _rhtmx_sync_crdt_node AS n (user_id, node, reached, sent, taken) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (user_id, node) DO UPDATE SET reached = coalesce(excluded.reached, n.reached), \
             sent = coalesce(excluded.sent, n.sent), taken = greatest(n.taken, excluded.taken), seen_at = now()",
        )
        .bind::<Text, _>(&user_id)
        .bind::<Text, _>(node)
        .bind::<Nullable<Text>, _>(known.reached)
        .bind::<Nullable<Text>, _>(known.sent)
        .bind::<Nullable<Text>, _>(known.taken)
        .execute(conn)
        .await?;
        sql_query(
            "DELETE FROM _rhtmx_sync_crdt_node WHERE user_id = $1 AND node IN (SELECT node FROM _rhtmx_sync_crdt_node \
             WHERE user_id = $1 ORDER BY seen_at DESC, node OFFSET $2)",
        )
        .bind::<Text, _>(&user_id)
        .bind::<BigInt, _>(NODES_OF_USER_MAX)
        .execute(conn)
        .await?;
        Ok(())
    });
    kept.await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))
}
