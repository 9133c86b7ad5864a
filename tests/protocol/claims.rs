//! Users who see the cards of their teams.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rhtmx_sync::{Authorizer, Op, Principal, ReadScope, SelectionRequest, SyncConfig, WriteScope};
use rhtmx_sync_tests::TestServer;
pub(crate) use rhtmx_sync_tests::claims::{ClaimsAreTokens, options, principal, token};
use serde_json::Value;
use serde_json::value::to_raw_value;
use testkit::TestDatabase;

use crate::tables::NOTES;

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("before the end of time")
}

/// What the tests' operators show.
pub(crate) const OPERATOR: &str = "what-only-operators-of-the-tests-know";

/// Everybody reads and writes the cards of the teams in their claims, and all notes.
#[derive(Debug)]
struct CardsOfTeams;

impl CardsOfTeams {
    fn of_teams(principal: &Principal) -> SelectionRequest {
        let teams = principal.claims.get("teams").and_then(Value::as_array);
        let teams: Vec<&Value> = teams.into_iter().flatten().collect();
        let one = |index: usize| format!("team = ${}", index + 1);
        let any: Vec<String> = (0..teams.len()).map(one).collect();
        let params = teams.iter().map(|team| to_raw_value(team).expect("JSON"));
        SelectionRequest {
            filter: Some(if any.is_empty() {
                "FALSE".to_owned()
            } else {
                any.join(" OR ")
            }),
            params: Some(params.collect()),
            ..SelectionRequest::default()
        }
    }
}

impl Authorizer for CardsOfTeams {
    fn read(&self, principal: &Principal, entity: &str) -> ReadScope {
        match entity {
            "cards" => ReadScope::Restricted(Self::of_teams(principal)),
            _ => ReadScope::Everything,
        }
    }

    fn write(&self, principal: &Principal, entity: &str, _op: Op) -> WriteScope {
        match entity {
            "cards" => WriteScope {
                using: Some(Self::of_teams(principal).into()),
                check: Some(Self::of_teams(principal).into()),
                ..WriteScope::everything()
            },
            _ => WriteScope::everything(),
        }
    }
}

/// Makes `cards`, one of the red team and one of the blue, and `notes`.
pub(crate) async fn tables(db: &TestDatabase) {
    for statement in [
        "CREATE TABLE cards (id integer PRIMARY KEY, team text NOT NULL, body text NOT NULL)",
        NOTES,
        "INSERT INTO cards (id, team, body) VALUES (1, 'red', 'one'), (2, 'blue', 'two')",
    ] {
        db.execute(statement).await;
    }
}

/// An engine for these users over [`tables`].
pub(crate) async fn config(db: &TestDatabase) -> SyncConfig {
    let mut config = TestServer::config(db, ["cards", "notes"]).await;
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    config.auth.authorizer = Arc::new(CardsOfTeams);
    config
}
