//! Claims as a weapon: a user in very many teams, and one whose claims change all the time. Both cost their owner alone.

use rhtmx_sync::EntityPolicy;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::both_backends;

use super::{config, http, keys, of_todos, serve, sign_in, subscriber, tables, user};
use crate::claims::token;
use crate::writes::update;

/// A user of this many teams.
fn in_teams(count: usize, bytes: usize) -> Value {
    let teams: Vec<String> = (0..count).map(|team| format!("{team:0bytes$}")).collect();
    json!({ "sub": "ann", "teams": teams })
}

both_backends! {
    async fn a_user_in_more_teams_than_can_be_compared_gets_nothing_and_others_go_on(db: TestDatabase) {
        tables(&db).await;
        let policy = EntityPolicy {
            read: Some("owner_id = auth.sub OR code IN auth.teams".to_owned()),
            update: Some("code IN auth.teams".into()),
            ..of_todos()
        };
        let server = TestServer::with_config(config(&db, policy).await).await;
        let mut ben = subscriber(&server, &user("ben")).await;
        let mut many = in_teams(5000, 20);
        many["teams"][4999] = json!("b1");
        let mut ann = subscriber(&server, &many).await;
        assert_eq!(keys(&ann), ["1", "2", "3"]);
        let outcome = ann.push_next(json!([update("todos", 3, json!({ "title": "of the team" }))])).await;
        outcome.acked();
        ben.wait_until(|ben| ben.row("t", "3").is_some_and(|row| row["title"] == "of the team")).await;
        // Beyond the bound, nothing is compared at all.
        let mut ann = sign_in(&server, &in_teams(6000, 100)).await;
        ann.subscribe("t", "todos").await;
        assert_eq!(ann.wait_refused("t").await, "forbidden");
        let outcome = ann.push_next(json!([update("todos", 1, json!({ "title": "x" }))])).await;
        assert_eq!(outcome.rejected().code, "forbidden");
        let text = ann.transcript();
        assert!(!text.contains("ann one") && !text.contains("auth.teams"), "{text}");
        db.execute("UPDATE todos SET title = 'goes on' WHERE id = 3").await;
        ben.wait_until(|ben| ben.row("t", "3").is_some_and(|row| row["title"] == "goes on")).await;
        assert_eq!(http(&server, &user("ben")).get("/api/sync/todos").await.status, 200);
    }

    async fn a_storm_of_changed_claims_ends_with_the_rights_of_the_last(db: TestDatabase) {
        const CHANGES: u64 = 300;
        let server = serve(&db).await;
        let mut ben = subscriber(&server, &user("ben")).await;
        let mut ann = subscriber(&server, &user("ann")).await;
        for change in 1..=CHANGES {
            let claims = match change % 2 {
                0 => user("ann"),
                _ => json!({ "sub": "ann", "role": "admin" }),
            };
            ann.send_json(json!({ "type": "auth", "token": token(&claims) })).await;
        }
        db.execute("UPDATE todos SET title = 'meanwhile' WHERE id = 3").await;
        ben.wait_until(|ben| ben.row("t", "3").is_some_and(|row| row["title"] == "meanwhile")).await;
        ann.wait_until(|ann| ann.frames("authenticated") == CHANGES).await;
        // The answer to the last token may come before the refetch that it causes.
        ann.wait_until(|ann| ann.subscription("t").is_live() && keys(ann) == ["1", "2", "4"]).await;
        db.execute("UPDATE todos SET title = 'afterwards'").await;
        ann.wait_until(|ann| ann.row("t", "1").is_some_and(|row| row["title"] == "afterwards")).await;
        let last = ann.transcript();
        let last = last.rsplit(r#""type":"authenticated""#).next().expect("the last part");
        assert!(!last.contains(r#""key":"3""#), "{last}");
    }
}
