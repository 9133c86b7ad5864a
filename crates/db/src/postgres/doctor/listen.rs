//! Whether a notification of one connection reaches another.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_postgres::AsyncMessage;
use tokio_util::task::AbortOnDropHandle;

use super::CONTEXT;
use crate::error::DbResult;
use crate::postgres::connect::{Connector, failed};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the listener's address leads to a hot standby.
pub(super) async fn is_standby(connector: &Connector) -> DbResult<bool> {
    let (client, connection) = connector.connect().await?;
    let _driving = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let asked = client
        .query_typed_one("SELECT pg_catalog.pg_is_in_recovery()", &[])
        .await;
    asked
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed(CONTEXT, &error))
}

/// Tries it. The sessions must be the engine's own, because one of them listens.
pub(super) async fn is_notified(connector: &Connector) -> DbResult<bool> {
    let channel = format!("_rhtmx_sync_try_{}", uuid::Uuid::new_v4().simple());
    let (listener, mut connection) = connector.connect().await?;
    let (arrived, arrives) = tokio::sync::oneshot::channel();
    let _listening = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut arrived = Some(arrived);
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let (AsyncMessage::Notification(_), Some(arrived)) = (message, arrived.take()) {
                let _ = arrived.send(());
            }
        }
    }));
    let (sender, connection) = connector.connect().await?;
    let _sending = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let listens = listener.batch_execute(&format!("LISTEN {channel}")).await;
    listens.map_err(|error| failed(CONTEXT, &error))?;
    let notifies = sender.batch_execute(&format!("NOTIFY {channel}")).await;
    notifies.map_err(|error| failed(CONTEXT, &error))?;
    let is_notified = matches!(tokio::time::timeout(PATIENCE, arrives).await, Ok(Ok(())));
    // A pooler keeps the session.
    let ends = listener.batch_execute(&format!("UNLISTEN {channel}")).await;
    ends.map_err(|error| failed(CONTEXT, &error))?;
    Ok(is_notified)
}
