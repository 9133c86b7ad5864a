//! The application as a process: its own routes, and the engine's, with its session cookie.

use std::path::Path;

use reqwest::Client;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use testkit::{
    ClientOptions, ConnectError, ServerProcess, SyncClient, TestDatabase, both_backends,
};

async fn start(db: &TestDatabase) -> ServerProcess {
    let program = Path::new(env!("CARGO_BIN_EXE_axum_app"));
    let envs = [
        ("DATABASE_URL", db.url()),
        ("BIND", "127.0.0.1:0".to_owned()),
    ];
    ServerProcess::spawn_program(program, envs).await
}

/// Posts to one of the application's own routes; returns the status and the cookie that it sets.
async fn post(
    app: &ServerProcess,
    path: &str,
    cookie: &str,
    body: &Value,
) -> (u16, Option<String>) {
    let request = Client::new().post(format!("{}{path}", app.base_url()));
    let answer = request
        .header(COOKIE, cookie)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .expect("an answer");
    let set = answer.headers().get(SET_COOKIE);
    let cookie = set.map(|cookie| cookie.to_str().expect("a cookie"));
    let cookie = cookie.and_then(|cookie| cookie.split(';').next());
    (answer.status().as_u16(), cookie.map(str::to_owned))
}

async fn sign_in(app: &ServerProcess, user: &str) -> String {
    let (status, cookie) = post(app, "/login", "", &json!({ "user": user })).await;
    assert_eq!(status, 204);
    cookie.expect("a cookie")
}

async fn refused(app: &ServerProcess, options: ClientOptions) -> u16 {
    match SyncClient::try_connect(&app.ws_url(), options).await {
        Err(ConnectError::Closed { closed, .. }) => closed.code,
        other => panic!("{other:?}"),
    }
}

fn options(cookie: &str) -> ClientOptions {
    ClientOptions {
        headers: vec![("Cookie", cookie.to_owned())],
        ..ClientOptions::default()
    }
}

both_backends! {
    async fn what_the_application_writes_is_live_for_those_whom_its_cookie_names(db: TestDatabase) {
        let app = start(&db).await;
        let of_ann = sign_in(&app, "ann").await;
        let mut ben = SyncClient::connect(&app.ws_url(), options(&sign_in(&app, "ben").await)).await;
        assert_eq!(ben.welcome()["user"], "ben");
        ben.subscribe("notes", "notes").await;
        ben.wait_subscribed("notes").await;
        assert_eq!(post(&app, "/notes", &of_ann, &json!({ "text": "hello" })).await.0, 201);
        ben.wait_until(|ben| ben.rows("notes").values().any(|row| row["author"] == "ann" && row["text"] == "hello")).await;
    }

    async fn who_has_no_cookie_of_the_application_gets_nothing(db: TestDatabase) {
        let app = start(&db).await;
        assert_eq!(post(&app, "/notes", "", &json!({ "text": "x" })).await.0, 401);
        assert_eq!(refused(&app, ClientOptions::default()).await, 4401);
        let of_ann = sign_in(&app, "ann").await;
        // A cookie that somebody else signed, or that was changed.
        for forged in [of_ann.replace("ann", "ben"), format!("{of_ann}x"), "session=99999999999999 ann".to_owned()] {
            assert_eq!(refused(&app, options(&forged)).await, 4401, "{forged}");
        }
        let foreign = ClientOptions { origin: Some("https://evil.example".to_owned()), ..options(&of_ann) };
        assert_eq!(refused(&app, foreign).await, 4403);
        let request = Client::new().get(format!("{}/api/sync/notes", app.base_url()));
        assert_eq!(request.send().await.expect("an answer").status(), 401);
    }
}
