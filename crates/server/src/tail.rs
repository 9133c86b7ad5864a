//! `rhtmx-sync tail`: prints changes as they happen, one per line.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use rhtmx_sync::{Change, ChangeBatch, ReceiveError, SyncEngine};
use serde::Serialize;

use crate::demo;
use crate::settings::Settings;

#[derive(Serialize)]
struct Line<'a> {
    entity: &'a str,
    #[serde(flatten)]
    change: &'a Change,
}

/// Prints changes until interrupted.
pub(crate) async fn tail(
    mut settings: Settings,
    only: Option<String>,
    json: bool,
) -> anyhow::Result<()> {
    if settings.database_url.is_none() {
        settings.database_url = Some(demo::DATABASE_URL.to_owned());
        settings.entities = demo::entities();
    }
    if let Some(only) = &only {
        let known = settings.entities.iter().any(|entity| entity.name == *only);
        ensure!(
            known || settings.entities.is_empty(),
            "no entity {only:?} is configured"
        );
        settings.entities.retain(|entity| entity.name == *only);
        if settings.entities.is_empty() {
            settings.entities = vec![only.as_str().into()];
        }
    }
    ensure!(
        !settings.entities.is_empty(),
        "no entities to show: pass an entity, or set --entity NAME or the file"
    );
    let pool = settings.connect().await?;
    let mut config = settings.sync_config(pool);
    config.observes = true;
    let engine = SyncEngine::new(config).await?;
    engine.ready().await;
    let tracker = engine.change_tracker();
    let mut receiver = tracker.subscribe();
    let mut cursor = tracker.latest_cursor().await?;
    loop {
        let received = tokio::select! {
            received = receiver.recv() => received,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("waiting for Ctrl-C")?;
                engine.shutdown().await;
                return Ok(());
            }
        };
        match received {
            Ok(batch) => {
                print(&batch, json)?;
                cursor = batch.cursor.clone().unwrap_or(cursor);
            }
            Err(ReceiveError::Lagged(_)) => {
                let missed = tracker.changes_since(&cursor).await?;
                print(&missed, json)?;
                cursor = missed.cursor.unwrap_or(cursor);
            }
            Err(ReceiveError::Closed) => return Ok(()),
        }
    }
}

fn print(batch: &ChangeBatch, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for entity in &batch.schema_changed {
        if json {
            let line = serde_json::json!({ "entity": entity, "op": "refetch" });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{entity} refetch: its schema changed")?;
        }
    }
    for tracked in &batch.changes {
        let entity = tracked.entity.as_str();
        match (&tracked.change, json) {
            (change, true) => {
                writeln!(out, "{}", serde_json::to_string(&Line { entity, change })?)?
            }
            (Change::Put { key, row, .. }, false) => writeln!(out, "{entity} put {key} {row}")?,
            (Change::Patch { key, values, .. }, false) => {
                writeln!(out, "{entity} patch {key} {values}")?
            }
            (Change::Delete { key, .. }, false) => writeln!(out, "{entity} delete {key}")?,
            (Change::Leave { key, .. }, false) => writeln!(out, "{entity} leave {key}")?,
            (Change::Truncate, false) => writeln!(out, "{entity} truncate")?,
        }
    }
    out.flush()?;
    Ok(())
}
