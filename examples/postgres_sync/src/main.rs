//! The quick start on PostgreSQL, with the same changes received in Rust.
//!
//! `DATABASE_URL=postgresql://localhost/mydb cargo run -p postgres_sync`, with tables `users` and
//! `posts` that have primary keys. Then change a row with psql and watch.

use axum::Router;
use rhtmx_sync::{DbPool, ReceiveError, SyncConfig, SyncEngine};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url =
        std::env::var("DATABASE_URL").unwrap_or_else(|_| "postgresql://localhost/mydb".to_owned());
    let db_pool = DbPool::from_url(&url).await?;
    let sync_engine = SyncEngine::new(SyncConfig::new(
        db_pool,
        vec!["users".to_string(), "posts".to_string()],
    ))
    .await?;
    let app = Router::new().merge(sync_engine.routes());

    let tracker = sync_engine.change_tracker();
    let mut cursor = tracker.latest_cursor().await?;
    let mut receiver = tracker.subscribe();
    tokio::spawn(async move {
        loop {
            let batch = match receiver.recv().await {
                Ok(batch) => batch,
                // This task was too slow; the log has the changes that were dropped.
                Err(ReceiveError::Lagged(_)) => match tracker.changes_since(&cursor).await {
                    Ok(missed) => missed.into(),
                    Err(error) => return eprintln!("{error}"),
                },
                Err(ReceiveError::Closed) => return,
            };
            for tracked in &batch.changes {
                println!("{}: {:?}", tracked.entity, tracked.change);
            }
            if let Some(reached) = &batch.cursor {
                cursor = reached.clone();
            }
        }
    });

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("live at ws://{}/api/sync/ws", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                sync_engine.shutdown().await;
            }
        })
        .await?;
    Ok(())
}
