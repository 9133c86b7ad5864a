//! Which sessions are one group, and the settings that are made for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{Claims, Group, Sources, Uses};

fn token(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn group(claims: Value, uses: &Uses) -> Group {
    Group::new(
        "authenticated",
        Some(&token(claims)),
        &BTreeMap::new(),
        uses,
    )
}

#[test]
fn sessions_that_differ_in_claims_that_no_policy_reads_are_one_group() {
    let uses = Sources::default().uses([
        "((current_setting('request.jwt.claims'::text, true))::json ->> 'sub'::text) = owner",
    ]);
    let one = group(json!({"sub": "a", "exp": 1, "session_id": "x"}), &uses);
    assert_eq!(
        one,
        group(json!({"exp": 2, "session_id": "y", "sub": "a"}), &uses)
    );
    assert_ne!(one, group(json!({"sub": "b", "exp": 1}), &uses));

    let all = Uses {
        claims: Claims::All,
        ..uses
    };
    let one = group(json!({"sub": "a", "exp": 1, "session_id": "x"}), &all);
    assert_eq!(
        one,
        group(
            json!({"sub": "a", "exp": 2, "iat": 1, "session_id": "x"}),
            &all
        )
    );
    assert_ne!(
        one,
        group(json!({"sub": "a", "exp": 1, "session_id": "y"}), &all)
    );
}

#[test]
fn every_known_setting_is_made_and_is_empty_for_a_group_without_it() {
    let uses = Uses {
        claims: Claims::All,
        ..Sources::default().uses([])
    };
    let known = BTreeSet::from([
        "app.tenant".to_owned(),
        "role".to_owned(),
        "a'; drop.x".to_owned(),
    ]);
    let claims = json!({"sub": "it's", "role": "authenticated", "level": 3});
    let values = group(claims, &uses).values(&known);
    let values: BTreeMap<&str, &str> = values
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(values["app.tenant"], "");
    assert_eq!(values["request.jwt.claim.sub"], "it's");
    assert_eq!(values["request.jwt.claim.email"], "");
    assert_eq!(
        values["request.jwt.claims"],
        r#"{"level":3,"role":"authenticated","sub":"it's"}"#
    );
    // One that is PostgreSQL's own, or no name at all, is not made.
    assert_eq!(values.len(), 5);
}
