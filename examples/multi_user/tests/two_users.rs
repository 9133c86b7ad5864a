//! The application as a process, and two users who use it over sockets.

use std::path::Path;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use testkit::{
    ClientOptions, ConnectError, ServerProcess, SyncClient, TestDatabase, both_backends,
};

async fn start(db: &TestDatabase) -> ServerProcess {
    let program = Path::new(env!("CARGO_BIN_EXE_multi_user"));
    let envs = [
        ("DATABASE_URL", db.url()),
        ("BIND", "127.0.0.1:0".to_owned()),
    ];
    ServerProcess::spawn_program(program, envs).await
}

fn browser() -> Client {
    let browser = Client::builder().redirect(Policy::none());
    browser.build().expect("a client")
}

/// Submits the form as a page of this site does.
async fn submit(app: &ServerProcess, user: &str, password: &str, site: &str) -> Response {
    let form = format!("user={user}&password={}", password.replace(' ', "+"));
    let request = browser()
        .post(format!("{}/login", app.base_url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", site)
        .body(form);
    request.send().await.expect("an answer")
}

/// Signs in and returns the cookie.
async fn sign_in(app: &ServerProcess, user: &str) -> String {
    let answer = submit(app, user, &format!("{user}'s password"), "same-origin").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[LOCATION]),
        (303, &"/".parse().expect("a header"))
    );
    let cookie = answer.headers()[SET_COOKIE].to_str().expect("a cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    cookie.split(';').next().expect("its value").to_owned()
}

async fn sign_out(app: &ServerProcess, cookie: &str) {
    let request = browser().post(format!("{}/logout", app.base_url()));
    let answer = request
        .header(COOKIE, cookie)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 303);
}

/// The status of the application's page, and its text or where it leads.
async fn page(app: &ServerProcess, cookie: &str) -> (u16, String) {
    let answer = browser()
        .get(app.base_url())
        .header(COOKIE, cookie)
        .send()
        .await
        .expect("an answer");
    let status = answer.status().as_u16();
    match answer.headers().get(LOCATION) {
        Some(location) => (status, location.to_str().expect("a text").to_owned()),
        None => (status, answer.text().await.expect("a text")),
    }
}

fn options(cookie: &str) -> ClientOptions {
    ClientOptions {
        headers: vec![("Cookie", cookie.to_owned())],
        ..ClientOptions::default()
    }
}

/// A client of a signed-in user, with all todos that there are for them.
async fn connect(app: &ServerProcess, cookie: &str) -> SyncClient {
    let mut client = SyncClient::connect(&app.ws_url(), options(cookie)).await;
    client.subscribe("todos", "todos").await;
    client.wait_subscribed("todos").await;
    client
}

async fn refused(app: &ServerProcess, options: ClientOptions) -> u16 {
    match SyncClient::try_connect(&app.ws_url(), options).await {
        Err(ConnectError::Closed { closed, .. }) => closed.code,
        other => panic!("{other:?}"),
    }
}

fn create(id: &str, shared: bool) -> Value {
    json!({ "op": "create", "entity": "todos", "values": { "id": id, "title": id, "shared": shared } })
}

fn update(id: &str, values: Value) -> Value {
    json!({ "op": "update", "entity": "todos", "key": id, "values": values })
}

both_backends! {
    async fn a_shared_todo_comes_to_the_other_and_leaves_when_it_is_unshared(db: TestDatabase) {
        let app = start(&db).await;
        let (of_ann, of_ben) = (sign_in(&app, "ann").await, sign_in(&app, "ben").await);
        let (mut ann, mut ben) = (connect(&app, &of_ann).await, connect(&app, &of_ben).await);
        assert_eq!((&ann.welcome()["user"], &ben.welcome()["user"]), (&json!("ann"), &json!("ben")));

        // The server says whose they are.
        ann.push_next(json!([create("private", false), create("shared", true)])).await.acked();
        ann.wait_until(|ann| ann.rows("todos").len() == 2).await;
        assert_eq!(ann.row("todos", "private").expect("a row")["owner"], "ann");
        ben.wait_until(|ben| ben.row("todos", "shared").is_some()).await;
        assert_eq!(ben.rows("todos").len(), 1);

        for (write, code) in [
            (update("private", json!({ "done": true })), "not_found"),
            (update("absent", json!({ "done": true })), "not_found"),
            (update("shared", json!({ "done": true })), "forbidden"),
            (json!({ "op": "create", "entity": "todos", "values": { "id": "x", "title": "x", "owner": "ann" } }), "forbidden"),
        ] {
            let outcome = ben.push_next(json!([write])).await;
            assert_eq!(outcome.rejected().code, code, "{write}");
        }

        ann.push_next(json!([update("shared", json!({ "shared": false })), update("private", json!({ "shared": true }))])).await.acked();
        ben.wait_until(|ben| ben.row("todos", "private").is_some()).await;
        assert!(ben.row("todos", "shared").is_none());
    }

    async fn the_other_may_tick_off_a_shared_todo_and_nothing_else(db: TestDatabase) {
        let app = start(&db).await;
        let (of_ann, of_ben) = (sign_in(&app, "ann").await, sign_in(&app, "ben").await);
        let (mut ann, mut ben) = (connect(&app, &of_ann).await, connect(&app, &of_ben).await);
        ann.push_next(json!([create("private", false), create("shared", true)])).await.acked();
        let tick = |id: &str, done: bool| json!({ "mutator": "complete_todo", "args": { "id": id, "done": done } });
        ben.push_next(json!([tick("shared", true)])).await.acked();
        ann.wait_until(|ann| ann.row("todos", "shared").is_some_and(|row| row["done"] == true)).await;
        for (writes, code, reason) in [
            (json!([tick("private", true)]), "refused", Some("not_shared")),
            (json!([tick("absent", true)]), "refused", Some("not_shared")),
            (json!([tick("shared", false), update("shared", json!({ "title": "ben's" }))]), "forbidden", None),
        ] {
            let outcome = ben.push_next(writes).await;
            let reject = outcome.rejected();
            assert_eq!((reject.code.as_str(), reject.reason.as_deref()), (code, reason), "{reject:?}");
        }
        ann.push_next(json!([tick("private", true)])).await.acked();
        ann.wait_until(|ann| ann.row("todos", "private").is_some_and(|row| row["done"] == true)).await;
        assert_eq!(ann.row("todos", "shared").expect("a row")["done"], true);
    }

    async fn nobody_gets_in_without_a_password_and_signing_out_ends_connections(db: TestDatabase) {
        let app = start(&db).await;
        assert_eq!(page(&app, "").await, (303, "/login".to_owned()));
        assert_eq!(refused(&app, ClientOptions::default()).await, 4401);
        for (user, password, site, status) in [
            ("ann", "ben's password", "same-origin", 401),
            ("eve", "", "same-origin", 401),
            ("ann", "ann's password", "cross-site", 403),
        ] {
            let answer = submit(&app, user, password, site).await;
            assert_eq!((answer.status().as_u16(), answer.headers().get(SET_COOKIE)), (status, None), "{user} {site}");
        }

        let (first, second) = (sign_in(&app, "ann").await, sign_in(&app, "ann").await);
        let (status, text) = page(&app, &first).await;
        assert!(status == 200 && text.contains("Todos of ann"), "{text}");
        let foreign = ClientOptions { origin: Some("https://evil.example".to_owned()), ..options(&first) };
        assert_eq!(refused(&app, foreign).await, 4403);

        let (mut here, mut elsewhere) = (connect(&app, &first).await, connect(&app, &second).await);
        sign_out(&app, &first).await;
        assert_eq!(here.close_code().await, 4401);
        assert_eq!(refused(&app, options(&first)).await, 4401);
        assert_eq!(page(&app, &first).await, (303, "/login".to_owned()));
        // The other session goes on.
        elsewhere.push_next(json!([create("later", false)])).await.acked();
    }
}
