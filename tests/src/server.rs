//! An engine in the test's own process, with its routes on a socket.

use std::net::SocketAddr;

use axum::Router;
use rhtmx_sync::{DbPool, EntityConfig, RetentionConfig, SyncConfig, SyncEngine, SyncError};
use testkit::{ClientOptions, Http, SyncClient, TestDatabase};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

/// An engine whose routes are served on a free port of 127.0.0.1.
///
/// Dropping it stops it without waiting; [`shutdown`](Self::shutdown) waits.
#[derive(Debug)]
pub struct TestServer {
    engine: SyncEngine,
    address: SocketAddr,
    prefix: String,
    serving: JoinHandle<()>,
}

impl TestServer {
    /// Starts an engine that syncs these entities of the database.
    pub async fn start<E>(db: &TestDatabase, entities: impl IntoIterator<Item = E>) -> Self
    where
        E: Into<EntityConfig>,
    {
        Self::with_config(Self::config(db, entities).await).await
    }

    /// Starts an engine.
    pub async fn with_config(config: SyncConfig) -> Self {
        Self::try_with_config(config)
            .await
            .unwrap_or_else(|error| panic!("the engine does not start: {error}"))
    }

    /// As [`with_config`](Self::with_config), for configurations that the engine may reject.
    pub async fn try_with_config(config: SyncConfig) -> Result<Self, SyncError> {
        Self::try_within(config, |routes| routes).await
    }

    /// Starts an engine within an application that `app` makes around the engine's routes.
    pub async fn within(config: SyncConfig, app: impl FnOnce(Router) -> Router) -> Self {
        Self::try_within(config, app)
            .await
            .unwrap_or_else(|error| panic!("the engine does not start: {error}"))
    }

    async fn try_within(
        mut config: SyncConfig,
        app: impl FnOnce(Router) -> Router,
    ) -> Result<Self, SyncError> {
        // `RUST_LOG` selects what of the engine's output is shown. Fails when an earlier test has set
        // it.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        // Tests write clocks of long ago.
        if config.retention.clock_hours == RetentionConfig::default().clock_hours {
            config.retention.clock_hours = 24 * 366 * 100;
        }
        let prefix = config.prefix.clone();
        let engine = SyncEngine::new(config).await?;
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there is no free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let app = app(Router::new().merge(engine.routes()));
        let serving = tokio::spawn(async move {
            // Ends only when aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self {
            engine,
            address,
            prefix,
            serving,
        })
    }

    /// The configuration that [`start`](Self::start) uses, for tests that change it.
    pub async fn config<E>(db: &TestDatabase, entities: impl IntoIterator<Item = E>) -> SyncConfig
    where
        E: Into<EntityConfig>,
    {
        let db_pool = DbPool::from_url(&db.url())
            .await
            .unwrap_or_else(|error| panic!("the test's database does not open: {error}"));
        SyncConfig::new(db_pool, entities.into_iter().collect())
    }

    /// The engine.
    pub fn engine(&self) -> &SyncEngine {
        &self.engine
    }

    /// `http://127.0.0.1:port`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `ws://127.0.0.1:port/api/sync/ws`.
    pub fn ws_url(&self) -> String {
        format!("ws://{}{}/ws", self.address, self.prefix)
    }

    /// An HTTP client for this server.
    pub fn http(&self) -> Http {
        Http::new(self.base_url())
    }

    /// A client with default options, after its `hello`.
    pub async fn connect(&self) -> SyncClient {
        SyncClient::connect(&self.ws_url(), ClientOptions::default()).await
    }

    /// Shuts the engine down, waits for it, and frees the port.
    pub async fn shutdown(self) {
        self.engine.shutdown().await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.serving.abort();
        // When the runtime has ended, so has the engine.
        if let Ok(runtime) = Handle::try_current() {
            let engine = self.engine.clone();
            runtime.spawn(async move { engine.shutdown().await });
        }
    }
}
