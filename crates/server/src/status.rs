//! `rhtmx-sync status`: prints the status of the server at the configured address.

use anyhow::{Context as _, ensure};
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::settings::Settings;

/// Prints the server's status.
pub(crate) async fn status(settings: &Settings) -> anyhow::Result<()> {
    let address = settings.bind;
    let stream = TcpStream::connect(address).await.with_context(|| {
        format!("no server answers at {address}; pass another address with --bind")
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let mut request = Request::get("/api/sync/status").header("host", address.to_string());
    if let Some(token) = &settings.auth.operator_token {
        request = request.header("authorization", format!("Bearer {}", token.secret()));
    }
    let request = request.body(Body::empty())?;
    let response = sender
        .send_request(request)
        .await
        .context("requesting the status")?;
    ensure!(
        response.status().is_success(),
        "the server answers {}",
        response.status()
    );
    let body = response
        .into_body()
        .collect()
        .await
        .context("reading the status")?
        .to_bytes();
    let status: serde_json::Value =
        serde_json::from_slice(&body).context("the status is not JSON")?;
    println!("{}", serde_json::to_string_pretty(&status)?);
    driving.abort();
    Ok(())
}
