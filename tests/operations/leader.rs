//! Several engines on one database: one leads, all serve.

use rhtmx_sync::{DbPool, SyncConfig};
use rhtmx_sync_tests::{TcpProxy, TestServer};
use serde_json::{Value, json};
use testkit::{Backend, SyncClient, TestDatabase, both_backends};

use crate::engines::{role, status};
use crate::writers::NOTES;

fn note(id: u32) -> Value {
    json!([{ "entity": "notes", "op": "create", "values": { "id": id, "body": "note" } }])
}

async fn subscriber(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    client
}

async fn each_once(client: &mut SyncClient, ids: std::ops::Range<u32>) {
    let count = ids.len();
    client
        .wait_until(|client| client.rows("notes").len() >= count)
        .await;
    for id in ids {
        assert_eq!(client.puts("notes", &id.to_string()), 1, "row {id}");
    }
}

both_backends! {
    /// Mutations pushed to one engine reach the clients of the other, and so do other programs' writes.
    async fn two_engines_serve_one_database(db: TestDatabase) {
        db.execute(NOTES).await;
        let one = TestServer::start(&db, ["notes"]).await;
        let two = TestServer::start(&db, ["notes"]).await;
        if db.backend() == Backend::Postgres {
            role(&one.http(), "leader").await;
            role(&two.http(), "follower").await;
        }
        let (mut at_one, mut at_two) = (subscriber(&one).await, subscriber(&two).await);
        for id in 0..10 {
            at_one.push_next(note(3 * id)).await.acked();
            at_two.push_next(note(3 * id + 1)).await.acked();
            db.execute(&format!("INSERT INTO notes VALUES ({}, 'note')", 3 * id + 2)).await;
        }
        each_once(&mut at_one, 0..30).await;
        each_once(&mut at_two, 0..30).await;

        one.shutdown().await;
        assert_eq!(at_one.close_code().await, 1001);
        if db.backend() == Backend::Postgres {
            role(&two.http(), "leader").await;
        }
        at_two.push_next(note(30)).await.acked();
        db.execute("INSERT INTO notes VALUES (31, 'note')").await;
        each_once(&mut at_two, 0..32).await;
        let state = at_one.into_state();
        let mut resumed = SyncClient::reconnect(&two.ws_url(), Default::default(), &state).await;
        resumed.wait_subscribed("notes").await;
        assert_eq!(resumed.rows("notes").len(), 32);
        assert_eq!(resumed.puts("notes", "29"), 0, "the client already had that row");
    }

    /// They race for the migrations and the triggers of an empty database.
    async fn engines_that_start_together_all_succeed(db: TestDatabase) {
        db.execute(NOTES).await;
        let starts = (0..4).map(|_| TestServer::start(&db, ["notes"]));
        let servers = futures_util::future::join_all(starts).await;
        let mut clients = Vec::new();
        for server in &servers {
            server.engine().ready().await;
            clients.push(subscriber(server).await);
        }
        db.execute("INSERT INTO notes VALUES (0, 'note')").await;
        for client in &mut clients {
            each_once(client, 0..1).await;
        }
    }
}

/// The leader's network breaks, and stays broken. The follower takes the lead; the former leader comes
/// back as a follower, and its clients have lost nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_takes_the_lead() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let (mut proxy, through) = TcpProxy::of_database(&db.url()).await;
    let pool = DbPool::from_url(&through)
        .await
        .expect("the engine connects through the proxy");
    let one = TestServer::with_config(SyncConfig::new(pool, vec!["notes"])).await;
    role(&one.http(), "leader").await;
    let two = TestServer::start(&db, ["notes"]).await;
    role(&two.http(), "follower").await;
    let (mut at_one, mut at_two) = (subscriber(&one).await, subscriber(&two).await);
    db.execute("INSERT INTO notes VALUES (0, 'note')").await;
    each_once(&mut at_one, 0..1).await;

    proxy.close().await;
    for id in 1..10 {
        db.execute(&format!("INSERT INTO notes VALUES ({id}, 'note')"))
            .await;
        each_once(&mut at_two, 0..id + 1).await;
    }
    role(&two.http(), "leader").await;
    at_two.push_next(note(10)).await.acked();
    each_once(&mut at_two, 0..11).await;

    proxy.open().await;
    role(&one.http(), "follower").await;
    each_once(&mut at_one, 0..11).await;
    at_one.push_next(note(11)).await.acked();
    each_once(&mut at_one, 0..12).await;
    each_once(&mut at_two, 0..12).await;
    assert_eq!(status(&two.http()).await["role"], "leader");
}

/// Its own clients keep the follower busy; it still notices that no server leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_follower_takes_the_lead_too() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let one = TestServer::start(&db, ["notes"]).await;
    role(&one.http(), "leader").await;
    let two = TestServer::start(&db, ["notes"]).await;
    role(&two.http(), "follower").await;
    let mut pushers = Vec::new();
    for _ in 0..4 {
        pushers.push(subscriber(&two).await);
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let pushing = pushers.into_iter().enumerate().map(|(number, mut client)| {
        let stopped = stopped.clone();
        async move {
            let mut pushed = 0;
            while !*stopped.borrow() {
                let id = number as u32 * 1_000_000 + pushed;
                client.push_next(note(id)).await.acked();
                pushed += 1;
            }
            pushed
        }
    });
    let watching = async {
        one.shutdown().await;
        role(&two.http(), "leader").await;
        stop.send_replace(true);
    };
    let (pushed, ()) = tokio::join!(futures_util::future::join_all(pushing), watching);
    let count = db.query_text("SELECT count(*)::text FROM notes").await;
    assert_eq!(count, [Some(pushed.iter().sum::<u32>().to_string())]);
}

/// A pooler in session mode keeps the database session of an engine that has gone, and resets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_outlives_its_engine_does_not_keep_the_lead() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let gone = TestServer::start(&db, ["notes"]).await;
    role(&gone.http(), "leader").await;
    gone.shutdown().await;
    let kept = db.connect_postgres().await;
    kept.batch_execute(
        "SELECT pg_advisory_lock(-7); UPDATE _rhtmx_sync_lock SET pid = pg_backend_pid(), key = -7 WHERE name = 'leader'",
    )
    .await
    .expect("a claim");
    let server = TestServer::start(&db, ["notes"]).await;
    let mut client = subscriber(&server).await;
    role(&server.http(), "follower").await;
    kept.batch_execute("DISCARD ALL").await.expect("a reset");
    role(&server.http(), "leader").await;
    db.execute("INSERT INTO notes VALUES (0, 'note')").await;
    each_once(&mut client, 0..1).await;
}
