//! The clocks of columns that a client does not have are not told.

use std::sync::Arc;

use rhtmx_sync::{ColumnPolicy, EntityPolicy, Policies};
use serde_json::json;
use testkit::both_backends;

use super::*;
use crate::claims::{ClaimsAreTokens, options};

both_backends! {
    async fn columns_that_are_not_asked_for_have_no_clocks(db: TestDatabase) {
        let server = serve(&db).await;
        let kept = json!({ "born": clock(0), "edited": clock(9), "fields": { "title": clock(1), "body": clock(7) } });
        write(&db, "UPDATE cards SET title = 'new', body = 'new' WHERE id = 1", 1, kept).await;
        let mut client = subscribe(&server, "f", json!({ "columns": ["title"] })).await;
        let known = |number| json!({ "born": clock(0), "clocks": { "title": clock(number) } });
        assert_eq!(client.subscription("f").metadata()["1"], known(1));
        write(&db, "UPDATE cards SET body = 'unheard' WHERE id = 1", 1, stamped(&[("title", 1), ("body", 7)])).await;
        // Of two updates of one column in one drain it is not known on SQLite which was first.
        reach(&db, &mut client).await;
        write(&db, "UPDATE cards SET title = 'x', body = 'y' WHERE id = 1", 1, stamped(&[("title", 2), ("body", 7)])).await;
        let changes = next_changes(&mut client, "1").await;
        assert_eq!((&changes[0]["op"], &changes[0]["values"]), (&json!("patch"), &json!({ "title": "x" })));
        reach(&db, &mut client).await;
        assert_eq!(client.subscription("f").metadata()["1"], known(2));
        for unheard in [clock(7), clock(9), "unheard".to_owned()] {
            assert!(!client.transcript().contains(&unheard), "{unheard}");
        }
    }

    async fn hidden_columns_have_no_clocks_and_no_changes(db: TestDatabase) {
        let mut config = config(&db).await;
        let (mut hidden, mut sometimes) = (ColumnPolicy::default(), ColumnPolicy::default());
        hidden.readable = Some("auth.role = 'admin'".into());
        sometimes.readable = Some("list = 1".into());
        let cards = EntityPolicy {
            read: Some("TRUE".to_owned()),
            columns: [("body".to_owned(), hidden), ("likes".to_owned(), sometimes)].into(),
            ..EntityPolicy::default()
        };
        let tasks = EntityPolicy {
            read: Some("TRUE".to_owned()),
            ..EntityPolicy::default()
        };
        let policies = [("cards".to_owned(), cards), ("tasks".to_owned(), tasks)];
        config.auth.authenticator = Arc::new(ClaimsAreTokens);
        config.auth.authorizer = Arc::new(Policies::new(policies).expect("policies"));
        let server = TestServer::with_config(config).await;
        let counter = |number| json!({ "counter": { "set": clock(number) } });
        let kept = json!({ "born": clock(0), "edited": clock(9), "fields": {
            "title": clock(1), "body": clock(7), "likes": counter(8),
        } });
        write(&db, "UPDATE cards SET list = 2, body = 'unheard' WHERE id = 1", 1, kept.clone()).await;
        let claims = json!({ "sub": "ann", "role": "user" });
        let mut client = SyncClient::connect(&server.ws_url(), options(&claims)).await;
        client.subscribe("t", "tasks").await;
        client.subscribe_with("f", of_cards(json!({}))).await;
        client.wait_subscribed("t").await;
        client.wait_subscribed("f").await;
        let known = json!({ "born": clock(0), "clocks": { "title": clock(1) } });
        assert_eq!(client.subscription("f").metadata()["1"], known);
        // Neither a hidden value nor its clock alone is heard of.
        client.reset_counters();
        write(&db, "UPDATE cards SET body = 'unheard again' WHERE id = 1", 1, kept.clone()).await;
        write(&db, "UPDATE cards SET body = body WHERE id = 1", 1, kept.clone()).await;
        reach(&db, &mut client).await;
        assert_eq!(client.frames("changes"), 1, "that of the mark");
        // With the row's other columns come their clocks.
        for unheard in [clock(7), clock(8), clock(9), "unheard".to_owned()] {
            assert!(!client.transcript().contains(&unheard), "{unheard}");
        }
        write(&db, "UPDATE cards SET list = 1 WHERE id = 1", 1, kept).await;
        let changes = next_changes(&mut client, "1").await;
        assert_eq!(changes[0]["op"], "put");
        assert_eq!(changes[0]["clocks"], json!({ "title": clock(1), "likes": counter(8) }));
        assert_eq!(changes[0]["row"]["likes"], 0);
        assert!(!client.transcript().contains(&clock(7)) && !client.transcript().contains("unheard"));
    }
}
