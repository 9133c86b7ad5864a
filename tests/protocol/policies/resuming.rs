//! A cursor is good for the rights under which it was received, on every way in.

use serde_json::{Value, json};
use testkit::{SyncClient, both_backends};

use super::{http, keys, serve, subscriber, user};
use crate::claims::{options, token};

fn admin() -> Value {
    json!({ "sub": "ann", "role": "admin" })
}

both_backends! {
    async fn a_resume_with_the_same_rights_refetches_nothing(db: TestDatabase) {
        let server = serve(&db).await;
        let state = subscriber(&server, &user("ann")).await.into_state();
        db.execute("UPDATE todos SET owner_id = 'ben' WHERE id = 1").await;
        db.execute("UPDATE todos SET owner_id = 'ann' WHERE id = 3").await;
        // A token renewed while it was away.
        let claims = json!({ "sub": "ann", "jti": "another" });
        let mut ann = SyncClient::reconnect(&server.ws_url(), options(&claims), &state).await;
        ann.wait_subscribed("t").await;
        assert_eq!(keys(&ann), ["2", "3", "4"]);
        assert_eq!((ann.frames("refetch"), ann.frames("snapshot")), (0, 0));
    }

    async fn a_resume_with_other_rights_refetches(db: TestDatabase) {
        let server = serve(&db).await;
        for (before, after, seen) in [
            (user("ann"), admin(), &["1", "2", "3", "4"][..]),
            (admin(), user("ann"), &["1", "2", "4"]),
            // Another user with the cursor of this one.
            (user("ann"), user("ben"), &["2", "3", "4"]),
        ] {
            let state = subscriber(&server, &before).await.into_state();
            let mut client = SyncClient::reconnect(&server.ws_url(), options(&after), &state).await;
            let refetch = client.wait_for(|frame| frame["type"] == "refetch").await;
            assert_eq!(refetch["reason"], "permission");
            client.wait_subscribed("t").await;
            assert_eq!(keys(&client), seen);
        }
    }

    async fn a_cursor_that_names_no_shape_or_another_one_refetches(db: TestDatabase) {
        let server = serve(&db).await;
        let ann = subscriber(&server, &user("ann")).await;
        let cursor = ann.cursor().expect("a cursor").to_owned();
        let ben = subscriber(&server, &user("ben")).await;
        let of_ben = ben.subscription("t").shape().expect("a shape").to_owned();
        for cursor in [cursor.clone(), format!("{cursor}.{of_ben}"), format!("{cursor}."), format!("{cursor}.todos")] {
            let mut client = SyncClient::connect(&server.ws_url(), options(&user("ann"))).await;
            client.resume("t", "todos", &cursor).await;
            let refetch = client.wait_for(|frame| frame["type"] == "refetch").await;
            assert_eq!(refetch["reason"], "permission", "{cursor}");
            client.wait_subscribed("t").await;
            assert_eq!(keys(&client), ["1", "2", "4"]);
        }
    }

    async fn http_resumes_with_the_same_rights_only(db: TestDatabase) {
        let server = serve(&db).await;
        let ann = http(&server, &user("ann"));
        let page = ann.get("/api/sync/todos?limit=2").await;
        let mut tokens = vec![page.json()["cursor"].as_str().expect("a cursor").to_owned()];
        let page = ann.get(&format!("/api/sync/todos?cursor={}", tokens[0])).await;
        assert_eq!(page.status, 200, "{}", page.text);
        tokens.push(page.json()["cursor"].as_str().expect("a cursor").to_owned());
        db.execute("UPDATE todos SET title = title || '!'").await;
        let page = ann.get(&format!("/api/sync/todos?cursor={}&limit=1", tokens[1])).await;
        assert_eq!(page.json()["more"], true, "{}", page.text);
        tokens.push(page.json()["cursor"].as_str().expect("a cursor").to_owned());
        let rest = ann.get(&format!("/api/sync/todos?cursor={}", tokens[2])).await;
        assert_eq!(rest.json()["changes"].as_array().map(Vec::len), Some(2), "{}", rest.text);
        for token in tokens {
            let path = format!("/api/sync/todos?cursor={token}");
            for other in [admin(), user("ben")] {
                let answer = http(&server, &other).get(&path).await;
                assert_eq!((answer.status, &answer.json()["reason"]), (409, &json!("permission")), "{}", answer.text);
            }
            let bare = token.split('.').next().expect("a cursor");
            let answer = ann.get(&format!("/api/sync/todos?cursor={bare}")).await;
            assert_eq!((answer.status, &answer.json()["reason"]), (409, &json!("permission")), "{}", answer.text);
        }
    }

    async fn a_stream_of_events_resumes_with_the_same_rights_only(db: TestDatabase) {
        let server = serve(&db).await;
        let open = async |claims: &Value, last: Option<&str>| {
            let url = server.http().url("/api/sync/events?entity=todos");
            let mut request = reqwest::Client::new().get(url).bearer_auth(token(claims));
            if let Some(last) = last {
                request = request.header("Last-Event-ID", last);
            }
            let mut response = request.send().await.expect("an answer");
            let mut text = String::new();
            while !text.contains(r#""type":"subscribed""#) || !text.ends_with("\n\n") {
                let chunk = response.chunk().await.expect("events").expect("events");
                text.push_str(std::str::from_utf8(&chunk).expect("text"));
            }
            text
        };
        let first = open(&user("ann"), None).await;
        let last = first.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("an id");
        let again = open(&user("ann"), Some(last)).await;
        assert!(!again.contains("refetch") && !again.contains("snapshot"), "{again}");
        for other in [admin(), user("ben")] {
            let other = open(&other, Some(last)).await;
            assert!(other.contains(r#""reason":"permission""#) && other.contains("snapshot"), "{other}");
        }
        let cursor = last.split('.').next().expect("a cursor");
        assert!(open(&user("ann"), Some(cursor)).await.contains("permission"));
    }

    async fn only_subscriptions_whose_policies_are_bound_to_others_refetch(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = subscriber(&server, &admin()).await;
        ann.subscribe("n", "notes").await;
        ann.wait_subscribed("n").await;
        assert_eq!(keys(&ann), ["1", "2", "3", "4"]);
        ann.send_json(json!({ "type": "auth", "token": token(&user("ann")) })).await;
        ann.wait_for(|frame| frame["type"] == "authenticated").await;
        let next = ann.wait_for(|frame| frame["type"] != "cursor").await;
        assert_eq!((&next["type"], &next["id"], &next["reason"]), (&json!("refetch"), &json!("t"), &json!("permission")));
        ann.wait_subscribed("t").await;
        assert_eq!(keys(&ann), ["1", "2", "4"]);
        db.execute("UPDATE todos SET title = 'late ' || id").await;
        db.execute("UPDATE notes SET body = 'changed'").await;
        ann.wait_until(|ann| ann.row("n", "1").is_some_and(|row| row["body"] == "changed")).await;
        ann.wait_until(|ann| ann.row("t", "4").is_some_and(|row| row["title"] == "late 4")).await;
        assert!(!ann.transcript().contains("late 3"));
        assert_eq!(ann.frames("refetch"), 1);
    }
}
