//! Writes whose rights are a membership.

use filter::testing::sets::filter_of;
use filter::{Condition, Membership, Scalar};
use protocol::{RejectCode, Write};
use rhtmx_sync_db::write::{Mutation, TableScope, TableWrite};
use serde_json::{Value, json};
use sync_core::mutation::chain::{Place, WritesDigest};
use sync_core::mutation::{self, Applied};
use sync_core::policy::WriteColumns;
use testkit::both_backends;
use uuid::Uuid;

use crate::listening::{Listening, equals};

/// The columns of the table of members.
const X: usize = 1;
const WHO: usize = 2;

struct Pushing {
    listening: Listening,
    number: u64,
}

impl Pushing {
    /// Writes as somebody who may write in the lists `x` of which `who` 1 is a member. Returns the reject's code.
    async fn push(&mut self, write: Value) -> Option<RejectCode> {
        let members = self.listening.set("m", &["x"], equals(WHO, Scalar::Int(1)));
        let own = Condition::Member {
            columns: vec![X],
            set: members,
            membership: Membership::In,
            negated: false,
        };
        let scope = TableScope {
            visible: None,
            using: Some(filter_of(own.clone())),
            check: Some(filter_of(own)),
        };
        self.number += 1;
        let digest = WritesDigest::of(&write.to_string());
        let write: Write = serde_json::from_value(write).expect("a write");
        let table = self.listening.entity("m");
        let checked = mutation::check(&write, Some(table.schema.clone()), WriteColumns::ALL);
        let others = self.listening.entities.all();
        let write = TableWrite::new(checked.expect("a write"), table, scope, others);
        let mutation = Mutation {
            client_id: Uuid::from_u128(7),
            user_id: None,
            place: Place {
                number: self.number,
                claimed: None,
                digest,
            },
            writes: Ok(write.into_iter().collect()),
            merged: None,
        };
        match self.listening.db.apply(mutation).await.expect("an answer") {
            Applied::Rejected(reject) => Some(reject.code),
            _ => None,
        }
    }
}

fn write(op: &str, id: i64, row: &Value) -> Value {
    let mut row = row.clone();
    match op {
        "create" => {
            row["id"] = json!(id);
            json!({ "entity": "m", "op": op, "values": row })
        }
        "delete" => json!({ "entity": "m", "op": op, "key": id }),
        _ => json!({ "entity": "m", "op": op, "key": id, "values": row }),
    }
}

both_backends! {
    async fn nobody_becomes_a_member_by_saying_so(db: TestDatabase) {
        db.execute(
            "CREATE TABLE m (id INTEGER PRIMARY KEY, x INTEGER, who INTEGER, note TEXT); \
             INSERT INTO m VALUES (1, 10, 1, ''), (9, 20, 2, '')",
        )
        .await;
        let listening = Listening::start(&db, &["m"], &["m"]).await;
        let mut pushing = Pushing { listening, number: 0 };
        let member = |x, who| json!({ "x": x, "who": who });
        // Into a list of one's own, and then the row may be taken out again.
        assert_eq!(pushing.push(write("create", 2, &member(10, 5))).await, None);
        assert_eq!(pushing.push(write("delete", 2, &Value::Null)).await, None);
        // Into another list: neither by a new row, nor by moving the one that is there.
        let forbidden = Some(RejectCode::Forbidden);
        assert_eq!(pushing.push(write("create", 3, &member(20, 1))).await, forbidden);
        assert_eq!(pushing.push(write("upsert", 3, &member(20, 1))).await, forbidden);
        assert_eq!(pushing.push(write("update", 1, &member(20, 1))).await, forbidden);
        // What is of others is not there.
        let hidden = Some(RejectCode::NotFound);
        assert_eq!(pushing.push(write("update", 9, &member(10, 2))).await, hidden);
        assert_eq!(pushing.push(write("delete", 9, &Value::Null)).await, hidden);
        // The own row makes the right to change what is not about it.
        assert_eq!(pushing.push(write("update", 1, &json!({ "note": "a" }))).await, None);
        assert_eq!(
            db.query_text("SELECT CAST(count(*) AS text) FROM m WHERE x = 10 AND note = 'a' OR x = 20").await,
            [Some("2".to_owned())]
        );
    }
}
