//! `rhtmx-sync serve`: the engine's routes, health, metrics, and an orderly shutdown.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rhtmx_sync::{AuthConfig, JwtAuthenticator, Readiness, SyncEngine};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::demo::Users;
use crate::settings::Settings;
use crate::{connections, demo};

/// Serves until a signal stops it.
pub(crate) async fn serve(mut settings: Settings, open: bool) -> anyhow::Result<()> {
    let authenticates = settings.has_authenticator();
    let loopback = settings.bind.ip().is_loopback();
    ensure!(
        loopback || open || authenticates,
        "{} is reachable from other machines, and no tokens are verified: anyone who can reach the server can read \
         and write everything that it syncs. Configure [auth], bind to 127.0.0.1, or pass --open.",
        settings.bind
    );
    if let Some(jwt) = settings.jwt.take() {
        ensure!(
            loopback
                || !jwt
                    .jwt_secret
                    .as_deref()
                    .is_some_and(rhtmx_sync::is_published_secret),
            "auth.jwt_secret: anybody can sign tokens with this secret, the default of a known product; a server that \
             other machines can reach needs one of its own"
        );
        settings.auth.authenticator = Arc::new(JwtAuthenticator::new(jwt).await?);
    }
    let is_demo = settings.database_url.is_none();
    // Only the demo gives tokens to anybody who asks, and not where somebody else's are verified.
    let users = (is_demo && !authenticates).then(|| Arc::new(Users::new()));
    if let Some(users) = &users {
        settings.auth.authenticator = users.clone();
        settings.auth.authorizer = Arc::new(demo::policies()?);
    }
    if is_demo {
        ensure!(
            settings.entities.is_empty(),
            "entities need a database: set --database-url or DATABASE_URL"
        );
        settings.database_url = Some(demo::DATABASE_URL.to_owned());
        settings.entities = demo::entities();
    }
    ensure!(
        !settings.entities.is_empty(),
        "no entities to sync: pass --entity NAME, or set [entities.NAME] in the file"
    );
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .context("starting the metrics")?;
    let pool = settings.connect().await?;
    if is_demo {
        demo::prepare(&pool).await?;
    }
    let has_page = demo::is_served(&settings.entities);
    let engine = SyncEngine::new(settings.sync_config(pool)).await?;
    let mut app = engine
        .routes()
        .merge(health(&engine, metrics, &settings.auth));
    if has_page {
        app = app.merge(demo::page(users));
    }
    if loopback && !open {
        let allowed_hosts = settings.auth.allowed_hosts.clone();
        app = app.layer(middleware::from_fn(move |request, next| {
            only_by_local_names(allowed_hosts.clone(), request, next)
        }));
    }
    let listener = TcpListener::bind(settings.bind)
        .await
        .with_context(|| format!("listening on {}", settings.bind))?;
    let address = listener.local_addr()?;
    announce(address, has_page, loopback && !open, open && !authenticates);
    let stopped = async move {
        stop_signal().await;
        info!("shutting down: sessions end, mutations finish");
        engine.shutdown().await;
    };
    let pool_size = settings.database.pool_size;
    connections::serve(listener, app, settings.connections, pool_size, stopped).await;
    info!("stopped");
    Ok(())
}

/// Says where the server is, and for whom.
fn announce(address: SocketAddr, has_page: bool, local: bool, for_anyone: bool) {
    let page = if has_page { "" } else { "/api/sync/status" };
    println!(
        "rhtmx-sync {} on http://{address}{page}",
        env!("CARGO_PKG_VERSION")
    );
    if for_anyone {
        warn!(
            "open: anyone who can reach this address can read and write everything that is synced"
        );
    } else if local {
        println!(
            "only this machine can connect (--bind another address with [auth] configured, or --open)"
        );
    }
}

/// What looks after servers asks for. Names of tables, and the numbers, are for operators.
fn health(engine: &SyncEngine, metrics: PrometheusHandle, auth: &AuthConfig) -> Router {
    let (auth, for_metrics) = (auth.clone(), auth.clone());
    let engine = engine.clone();
    let ready = move |headers: HeaderMap| {
        let readiness = engine.readiness();
        let unreadable = match auth.is_operator(&headers) {
            true => engine.unreadable(),
            false => Vec::new(),
        };
        async move {
            match readiness {
                // One table that cannot be read is no reason to take the others from their clients.
                Readiness::Ready => {
                    let lines = std::iter::once("ready".to_owned()).chain(unreadable);
                    let text: String = lines.map(|line| line + "\n").collect();
                    (StatusCode::OK, text)
                }
                Readiness::NotReady(why) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {why}\n"),
                ),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
            }
        }
    };
    let metrics = move |headers: HeaderMap| async move {
        match for_metrics.is_operator(&headers) {
            true => Ok(metrics.render()),
            false => Err((
                StatusCode::UNAUTHORIZED,
                "the metrics are for operators: show auth.operator_token as a bearer token\n",
            )),
        }
    };
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Rejects requests with another host name than this machine's or a configured one. A web page could make its own name point to
/// this machine (DNS rebinding) and pass for one that this server has served, but its requests carry that
/// name.
async fn only_by_local_names(allowed_hosts: Vec<String>, request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_configured = allowed_hosts
        .iter()
        .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(name));
    let local = is_configured
        || name == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if local || host.is_empty() {
        return next.run(request).await;
    }
    (
        StatusCode::MISDIRECTED_REQUEST,
        "this server accepts only the loopback names of this machine, and those of auth.allowed_hosts\n",
    )
        .into_response()
}

/// Waits for SIGTERM or Ctrl-C.
async fn stop_signal() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(error) => {
                warn!(%error, "SIGTERM cannot be handled");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        interrupted = tokio::signal::ctrl_c() => {
            if let Err(error) = interrupted {
                warn!(%error, "Ctrl-C cannot be handled");
            }
        }
    }
}
