//! What PostgreSQL says about snapshots: the oracle.

use sync_core::snapshot::{Snapshot, Xid};
use tokio_postgres::Client;

/// Whether PostgreSQL sees each transaction in the snapshot beside it.
pub(crate) async fn visible(conn: &Client, pairs: &[(&Snapshot, Xid)]) -> Vec<bool> {
    let snapshots: Vec<String> = pairs
        .iter()
        .map(|(snapshot, _)| snapshot.to_string())
        .collect();
    let xids: Vec<String> = pairs.iter().map(|(_, xid)| xid.to_string()).collect();
    let query = "SELECT array_agg(pg_visible_in_snapshot(xid::xid8, snapshot::pg_snapshot) ORDER BY n) \
                 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY pairs(snapshot, xid, n)";
    conn.query_one(query, &[&snapshots, &xids])
        .await
        .expect("an answer")
        .get(0)
}

/// Whether each first snapshot sees all that the second sees, transaction by transaction.
pub(crate) async fn includes(conn: &Client, pairs: &[(&Snapshot, &Snapshot)]) -> Vec<bool> {
    let (ours, theirs): (Vec<String>, Vec<String>) = pairs
        .iter()
        .map(|(ours, theirs)| (ours.to_string(), theirs.to_string()))
        .unzip();
    let query = "SELECT array_agg(NOT EXISTS (SELECT FROM generate_series( \
                   least(pg_snapshot_xmin(ours)::text::bigint, pg_snapshot_xmin(theirs)::text::bigint) - 1, \
                   greatest(pg_snapshot_xmax(ours)::text::bigint, pg_snapshot_xmax(theirs)::text::bigint)) xid \
                   WHERE pg_visible_in_snapshot(xid::text::xid8, theirs) \
                     AND NOT pg_visible_in_snapshot(xid::text::xid8, ours)) ORDER BY n) \
                 FROM (SELECT ours::pg_snapshot, theirs::pg_snapshot, n \
                   FROM unnest($1::text[], $2::text[]) WITH ORDINALITY pairs(ours, theirs, n)) pairs";
    conn.query_one(query, &[&ours, &theirs])
        .await
        .expect("an answer")
        .get(0)
}

/// The texts that PostgreSQL parses as snapshots, as it writes them.
pub(crate) async fn written(conn: &Client, texts: &[String]) -> Vec<String> {
    let query = "SELECT array_agg(text::pg_snapshot::text ORDER BY n) \
                 FROM unnest($1::text[]) WITH ORDINALITY texts(text, n)";
    conn.query_one(query, &[&texts])
        .await
        .expect("snapshots")
        .get(0)
}

/// The current snapshot.
pub(crate) async fn snapshot(conn: &Client) -> Snapshot {
    let row = conn
        .query_one("SELECT pg_current_snapshot()::text", &[])
        .await
        .expect("a snapshot");
    row.get::<_, String>(0).parse().expect("core parses it")
}
