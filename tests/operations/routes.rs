//! The engine inside another application.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use rhtmx_sync::SyncEngine;
use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{ClientOptions, Http, SyncClient, TestDatabase, both_backends};
use tokio::net::TcpListener;

use crate::writers::{NOTES, insert};

/// The application's own state.
#[derive(Clone)]
struct Greeting(&'static str);

async fn engine(db: &TestDatabase, prefix: &str) -> SyncEngine {
    db.execute(NOTES).await;
    let mut config = TestServer::config(db, ["notes"]).await;
    config.prefix = prefix.to_owned();
    SyncEngine::new(config).await.expect("the engine starts")
}

/// Serves an application; returns `127.0.0.1:port`.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A subscriber at this path receives a write.
async fn serves(db: &TestDatabase, url: &str, id: u64) {
    let mut client = SyncClient::connect(url, ClientOptions::default()).await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    db.execute(&insert([id])).await;
    client
        .wait_until(|client| client.row("notes", &id.to_string()).is_some())
        .await;
}

both_backends! {
    /// The application keeps its state, its routes and its fallback.
    async fn routes_merge_into_an_application(db: TestDatabase) {
        let engine = engine(&db, "/api/sync").await;
        let app = Router::new()
            .route("/hello", get(|State(Greeting(text)): State<Greeting>| async move { text }))
            .route("/api/other", get(|| async { "other" }))
            .merge(engine.routes())
            .fallback(|| async { "mine" })
            .with_state(Greeting("hello"));
        let address = serve(app).await;
        let http = Http::new(format!("http://{address}"));
        for (path, body) in [
            ("/hello", "hello"),
            ("/api/other", "other"),
            ("/", "mine"),
            ("/api/sync", "mine"),
            ("/api/sync/notes/1", "mine"),
            ("/nowhere", "mine"),
        ] {
            assert_eq!(http.get(path).await.text, body, "{path}");
        }
        assert_eq!(http.get("/api/sync/nowhere").await.json()["code"], "unknown_entity");
        assert_eq!(http.get("/api/sync/status").await.json()["entities"], json!(["notes"]));
        serves(&db, &format!("ws://{address}/api/sync/ws"), 1).await;
        engine.shutdown().await;
        assert_eq!(http.get("/hello").await.text, "hello");
    }

    async fn routes_nest_under_a_prefix(db: TestDatabase) {
        let engine = engine(&db, "/live").await;
        let app = Router::new().nest("/inside", engine.routes()).fallback(|| async { "mine" });
        let address = serve(app).await;
        let http = Http::new(format!("http://{address}"));
        assert_eq!(http.get("/live/status").await.text, "mine");
        assert_eq!(http.get("/inside/live/status").await.json()["entities"], json!(["notes"]));
        serves(&db, &format!("ws://{address}/inside/live/ws"), 1).await;
        engine.shutdown().await;
    }

    /// Both are on the same database.
    async fn an_application_may_have_two_engines(db: TestDatabase) {
        let one = engine(&db, "/one").await;
        db.execute("CREATE TABLE others (id integer PRIMARY KEY)").await;
        let mut config = TestServer::config(&db, ["others"]).await;
        config.prefix = "/two".to_owned();
        let two = SyncEngine::new(config).await.expect("the second engine starts");
        let address = serve(Router::new().merge(one.routes()).merge(two.routes())).await;
        serves(&db, &format!("ws://{address}/one/ws"), 1).await;
        let url = format!("ws://{address}/two/ws");
        let mut client = SyncClient::connect(&url, ClientOptions::default()).await;
        client.subscribe("others", "others").await;
        client.wait_subscribed("others").await;
        db.execute("INSERT INTO others VALUES (1)").await;
        client.wait_until(|client| client.row("others", "1").is_some()).await;
        one.shutdown().await;
        two.shutdown().await;
    }
}
