//! The server: the engine's routes, health, metrics, and an end that leaves nothing half done.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rhtmx_sync::{Readiness, SyncEngine};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info, warn};

use crate::demo;
use crate::settings::Settings;

/// Serves until a signal ends it.
pub(crate) async fn serve(mut settings: Settings, open: bool) -> anyhow::Result<()> {
    let loopback = settings.bind.ip().is_loopback();
    ensure!(
        loopback || open,
        "{} is not this machine alone, and there is no authentication yet: whoever reaches the server \
         reads and writes everything that it syncs. Bind to 127.0.0.1, or say --open.",
        settings.bind
    );
    let is_demo = settings.database_url.is_none();
    if is_demo {
        ensure!(
            settings.entities.is_empty(),
            "entities without a database: name it with --database-url or DATABASE_URL"
        );
        settings.database_url = Some(demo::DATABASE_URL.to_owned());
        settings.entities = demo::entities();
    }
    ensure!(
        !settings.entities.is_empty(),
        "name what to sync: --entity NAME, or [entities.NAME] in the file"
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
    let mut app = engine.routes().merge(health(&engine, metrics));
    if has_page {
        app = app.merge(demo::page());
    }
    if loopback && !open {
        app = app.layer(middleware::from_fn(only_by_local_names));
    }
    let listener = TcpListener::bind(settings.bind)
        .await
        .with_context(|| format!("listening on {}", settings.bind))?;
    let address = listener.local_addr()?;
    // Without it a small frame waits until the one before is acknowledged, up to 40 ms.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection keeps its delay");
        }
    });
    announce(address, has_page, loopback, open);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            asked_to_end().await;
            info!("draining: sessions are told to come back, mutations finish");
            engine.shutdown().await;
        })
        .await
        .context("serving")?;
    info!("bye");
    Ok(())
}

fn announce(address: SocketAddr, has_page: bool, loopback: bool, open: bool) {
    let page = if has_page { "" } else { "/api/sync/status" };
    println!(
        "rhtmx-sync {} on http://{address}{page}",
        env!("CARGO_PKG_VERSION")
    );
    if loopback && !open {
        println!("only this machine can connect: there is no authentication yet (--open lifts it)");
    } else if open {
        warn!("open: whoever reaches this address reads and writes everything that is synced");
    }
}

fn health(engine: &SyncEngine, metrics: PrometheusHandle) -> Router {
    let engine = engine.clone();
    let ready = move || {
        let readiness = engine.readiness();
        async move {
            match readiness {
                Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
                Readiness::NotReady(why) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {why}\n"),
                ),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
            }
        }
    };
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || async move { metrics.render() }))
}

/// A page that had its own name point to this machine would pass for one of ours; its requests still
/// carry that name.
async fn only_by_local_names(request: Request, next: Next) -> Response {
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
    let local = name == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if local || host.is_empty() {
        return next.run(request).await;
    }
    (
        StatusCode::MISDIRECTED_REQUEST,
        "this server answers only to the names of this machine\n",
    )
        .into_response()
}

/// SIGTERM, or Ctrl-C.
async fn asked_to_end() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(error) => {
                warn!(%error, "SIGTERM cannot be heard");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        interrupted = tokio::signal::ctrl_c() => {
            if let Err(error) = interrupted {
                warn!(%error, "Ctrl-C cannot be heard");
            }
        }
    }
}
