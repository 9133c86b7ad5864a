//! The application as a process, and people who come into teams and leave them.

use std::path::Path;

use reqwest::Client;
use reqwest::header::SET_COOKIE;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use testkit::{ClientOptions, ServerProcess, SyncClient, TestDatabase, both_backends};

const ENTITIES: [&str; 6] = [
    "organisations",
    "organisation_admins",
    "teams",
    "team_members",
    "documents",
    "invitations",
];

async fn start(db: &TestDatabase) -> ServerProcess {
    let program = Path::new(env!("CARGO_BIN_EXE_teams"));
    let envs = [
        ("DATABASE_URL", db.url()),
        ("BIND", "127.0.0.1:0".to_owned()),
    ];
    ServerProcess::spawn_program(program, envs).await
}

/// A signed-in client, with everything that there is for its user.
async fn connect(app: &ServerProcess, user: &str) -> SyncClient {
    let browser = Client::builder().redirect(Policy::none()).build();
    let request = browser
        .expect("a client")
        .post(format!("{}/login", app.base_url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("user={user}&password={user}'s+password"));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()[SET_COOKIE].to_str().expect("a cookie");
    let cookie = cookie.split(';').next().expect("its value").to_owned();
    let options = ClientOptions {
        headers: vec![("Cookie", cookie)],
        ..ClientOptions::default()
    };
    let mut client = SyncClient::connect(&app.ws_url(), options).await;
    for entity in ENTITIES {
        client.subscribe(entity, entity).await;
        client.wait_subscribed(entity).await;
    }
    client
}

/// The keys that a client has of each entity.
fn keys(client: &SyncClient) -> [Vec<String>; 6] {
    ENTITIES.map(|entity| client.rows(entity).keys().cloned().collect())
}

fn none() -> [Vec<String>; 6] {
    Default::default()
}

fn create(entity: &str, values: Value) -> Value {
    json!({ "op": "create", "entity": entity, "values": values })
}

fn delete(entity: &str, key: Value) -> Value {
    json!({ "op": "delete", "entity": entity, "key": key })
}

fn member(team: &str, person: &str) -> Value {
    create("team_members", json!({ "team_id": team, "person": person }))
}

fn membership(team: &str, person: &str) -> Value {
    json!([team, person])
}

fn document(id: &str, team: &str) -> Value {
    create(
        "documents",
        json!({ "id": id, "team_id": team, "title": id }),
    )
}

fn accept(id: &str) -> Value {
    json!({ "mutator": "accept_invitation", "args": { "id": id } })
}

async fn refused(client: &mut SyncClient, write: Value, code: &str) {
    let outcome = client.push_next(json!([write])).await;
    assert_eq!(outcome.rejected().code, code, "{write}");
}

both_backends! {
    async fn who_is_added_to_a_team_has_all_of_it_at_once_and_who_is_removed_has_none(db: TestDatabase) {
        let app = start(&db).await;
        let (mut ann, mut cat) = (connect(&app, "ann").await, connect(&app, "cat").await);
        assert_eq!(keys(&cat), none());

        ann.push_next(json!([member("design", "cat")])).await.acked();
        // A client's rows change at cursors only: the membership and all that it means come together.
        cat.wait_until(|cat| !cat.rows("documents").is_empty()).await;
        let [organisations, admins, teams, members, documents, invitations] = keys(&cat);
        assert_eq!((organisations, teams, documents), (vec!["acme".to_owned()], vec!["design".to_owned()], vec!["colours".to_owned()]));
        assert_eq!((members.len(), admins.len(), invitations.len()), (2, 0, 0));

        cat.push_next(json!([document("mine", "design")])).await.acked();
        ann.wait_until(|ann| ann.row("documents", "mine").is_some()).await;
        assert_eq!(ann.row("documents", "mine").expect("a row")["author"], "cat");

        ann.push_next(json!([delete("team_members", membership("design", "cat"))])).await.acked();
        cat.wait_until(|cat| cat.rows("documents").is_empty()).await;
        assert_eq!(keys(&cat), none());
        refused(&mut cat, document("later", "design"), "forbidden").await;
        refused(&mut cat, delete("documents", json!("mine")), "not_found").await;
    }

    async fn an_admin_has_all_teams_of_the_organisation_and_only_members_write_documents(db: TestDatabase) {
        let app = start(&db).await;
        let (mut ann, mut cat) = (connect(&app, "ann").await, connect(&app, "cat").await);
        // Nobody is in Engines; who administers Acme reads it all the same, and nothing of Zenith.
        let documents: Vec<String> = ann.rows("documents").keys().cloned().collect();
        assert_eq!(documents, ["colours", "pistons"]);
        refused(&mut ann, document("x", "engines"), "forbidden").await;
        refused(&mut ann, document("x", "sails"), "forbidden").await;
        refused(&mut ann, member("sails", "ann"), "forbidden").await;
        refused(&mut cat, member("design", "cat"), "forbidden").await;
        let moved = json!({ "op": "update", "entity": "documents", "key": "colours", "values": { "team_id": "engines" } });
        refused(&mut ann, moved.clone(), "forbidden").await;

        // In both, one may move a document from one to the other.
        ann.push_next(json!([member("engines", "ann"), member("engines", "cat")])).await.acked();
        cat.wait_until(|cat| cat.row("documents", "pistons").is_some()).await;
        ann.push_next(json!([moved])).await.acked();
        cat.wait_until(|cat| cat.row("documents", "colours").is_some()).await;

        // An admin of another organisation is made by another program, and its teams come.
        db.execute("INSERT INTO organisation_admins VALUES ('zenith', 'cat')").await;
        cat.wait_until(|cat| cat.row("teams", "sails").is_some()).await;
        assert!(cat.row("documents", "canvas").is_some());
        // A team that is deleted takes its members and documents with it.
        cat.push_next(json!([delete("teams", json!("sails"))])).await.acked();
        cat.wait_until(|cat| cat.row("teams", "sails").is_none()).await;
        assert!(cat.row("documents", "canvas").is_none());
        // Everybody may leave.
        cat.push_next(json!([delete("team_members", membership("engines", "cat"))])).await.acked();
        cat.wait_until(|cat| cat.rows("documents").is_empty()).await;
    }

    async fn an_invitation_is_for_whom_it_names_and_is_taken_once(db: TestDatabase) {
        let app = start(&db).await;
        let (mut ann, mut ben, mut cat) = (connect(&app, "ann").await, connect(&app, "ben").await, connect(&app, "cat").await);
        let invitation = |id: &str, email: &str| {
            create("invitations", json!({ "id": id, "team_id": "engines", "email": email }))
        };
        refused(&mut cat, invitation("own", "cat@example.com"), "forbidden").await;
        ann.push_next(json!([invitation("one", "cat@example.com")])).await.acked();
        cat.wait_until(|cat| cat.row("invitations", "one").is_some()).await;
        // Its team's name is there, but nothing of the team.
        assert_eq!(cat.row("teams", "engines").expect("a row")["name"], "Engines");
        assert!(cat.rows("documents").is_empty());
        assert!(ben.rows("invitations").is_empty());

        let taken = ben.push_next(json!([accept("one")])).await;
        assert_eq!(taken.rejected().reason.as_deref(), Some("withdrawn"));
        cat.push_next(json!([accept("one")])).await.acked();
        cat.wait_until(|cat| cat.row("documents", "pistons").is_some()).await;
        assert!(cat.rows("invitations").is_empty());
        let again = cat.push_next(json!([accept("one")])).await;
        assert_eq!(again.rejected().reason.as_deref(), Some("withdrawn"));
        ann.wait_until(|ann| ann.rows("team_members").values().any(|row| row["person"] == "cat")).await;
        assert!(ann.rows("invitations").is_empty());
    }

    async fn a_filter_of_the_page_reads_other_tables_as_far_as_its_user_may(db: TestDatabase) {
        let app = start(&db).await;
        let (mut ann, mut cat) = (connect(&app, "ann").await, connect(&app, "cat").await);
        let of_organisation = json!({
            "entity": "documents",
            "where": "team_id IN (SELECT id FROM teams WHERE organisation_id = $1)", "params": ["acme"],
        });
        for client in [&mut ann, &mut cat] {
            client.subscribe_with("of_acme", of_organisation.clone()).await;
            client.wait_subscribed("of_acme").await;
        }
        assert_eq!((ann.rows("of_acme").len(), cat.rows("of_acme").len()), (2, 0));
        ann.push_next(json!([member("design", "cat")])).await.acked();
        cat.wait_until(|cat| cat.rows("of_acme").len() == 1).await;
        ann.push_next(json!([member("engines", "cat")])).await.acked();
        cat.wait_until(|cat| cat.rows("of_acme").len() == 2).await;
        // The team goes to another organisation: the row leaves this filter, and stays in the other subscription.
        db.execute("UPDATE teams SET organisation_id = 'zenith' WHERE id = 'design'").await;
        cat.wait_until(|cat| cat.rows("of_acme").len() == 1).await;
        assert_eq!(cat.rows("documents").len(), 2);
        ann.wait_until(|ann| ann.rows("of_acme").len() == 1).await;
    }
}
