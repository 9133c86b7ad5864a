//! Policies: claims beside columns and literals.

use serde_json::{Value, json};

use crate::testing::{raw, test_table};
use crate::{Backend, Claim, ClaimPath, Filter, NoSets, Policy, RowReader};

fn bound(text: &str, claims: &Value) -> Filter {
    bound_on(text, claims, Backend::Postgres)
}

fn bound_on(text: &str, claims: &Value, backend: Backend) -> Filter {
    let table = test_table(backend);
    let policy = Policy::new(text).expect(text);
    policy.check(table.table()).expect(text);
    let find = |path: &ClaimPath| {
        let found = path
            .names()
            .iter()
            .try_fold(claims, |at, name| at.get(name));
        found.map_or(Claim::Null, Claim::from)
    };
    policy.bind(find).filter(table.table()).expect(text)
}

fn answer(text: &str, claims: &Value, row: &str) -> Option<bool> {
    let table = test_table(Backend::Postgres);
    let filter = bound(text, claims);
    let reader = RowReader::new(table.table(), filter.columns());
    filter.matches(&reader.read(&raw(row)).expect("a row"), &NoSets)
}

#[test]
fn a_bound_policy_is_the_filter_with_its_values() {
    let claims = json!({ "sub": "ann", "n": 3, "app_metadata": { "team": "a" }, "teams": ["a", "b"], "on": true });
    let table = test_table(Backend::Postgres);
    for (policy, filter) in [
        ("s = auth.sub", "s = 'ann'"),
        ("auth.sub = s", "s = 'ann'"),
        ("AUTH.sub = s OR b", "s = 'ann' OR b"),
        ("s = auth.app_metadata.team", "s = 'a'"),
        ("s = auth.\"app_metadata\".\"team\"", "s = 'a'"),
        ("s IN auth.teams", "s IN ('a', 'b')"),
        ("NOT s IN auth.teams", "s NOT IN ('a', 'b')"),
        ("s NOT IN auth.teams", "s NOT IN ('a', 'b')"),
        ("s IN ('z', auth.sub)", "s IN ('z', 'ann')"),
        ("n BETWEEN 1 AND auth.n", "n BETWEEN 1 AND 3"),
        ("n < auth.n", "n < 3"),
        ("b AND auth.on", "b"),
        ("auth.sub = 'ann'", "TRUE"),
        ("auth.sub <> 'ann'", "FALSE"),
        ("auth.n >= 3 AND auth.n < 4.5", "TRUE"),
        ("auth.sub IN ('ben', 'ann')", "TRUE"),
        ("'b' IN auth.teams", "TRUE"),
        ("auth.app_metadata.team NOT IN auth.teams", "FALSE"),
        ("auth.sub LIKE 'a%'", "TRUE"),
        ("auth.sub IS NULL", "FALSE"),
        ("auth.teams IS NOT NULL", "TRUE"),
        ("auth.nothing IS NULL", "TRUE"),
    ] {
        let expected = Filter::new(filter, &[], table.table()).expect(filter);
        assert_eq!(bound(policy, &claims), expected, "{policy}");
    }
}

#[test]
fn a_claim_that_is_missing_is_null() {
    let row = r#"{"s":"ann","n":1,"b":true}"#;
    for text in [
        "s = auth.sub",
        "NOT (s = auth.sub)",
        "s <> auth.sub",
        "s IN (auth.sub)",
        "s NOT IN (auth.sub, 'z')",
        "s IN auth.sub",
        "s NOT IN auth.sub",
        "n < auth.sub",
        "n NOT BETWEEN auth.sub AND auth.sub",
        "auth.sub = 'ann'",
        "NOT (auth.sub = 'ann')",
        "auth.sub <> auth.sub",
        "auth.sub = auth.sub",
        "auth.sub",
        "NOT auth.sub",
        "auth.sub LIKE '%'",
        "auth.sub NOT LIKE 'x'",
        "auth.sub NOT IN ('x')",
        "'x' NOT IN auth.sub",
        "auth.sub.deeper = 'x'",
    ] {
        assert_eq!(answer(text, &json!({}), row), None, "{text}");
        assert_eq!(answer(text, &json!({ "sub": null }), row), None, "{text}");
    }
    // What does not depend on the claim is as without it.
    assert_eq!(answer("s = auth.sub OR b", &json!({}), row), Some(true));
    assert_eq!(
        answer("s = auth.sub AND NOT b", &json!({}), row),
        Some(false)
    );
}

#[test]
fn a_claim_converts_exactly_or_is_null() {
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let row = format!(
        r#"{{"id":"9007199254740993","n":5,"t":"5","b":true,"num":"0.1","u":"{uuid}","d":"2026-11-20","e":"low"}}"#
    );
    for (text, claim, expected) in [
        ("n = auth.x", json!(5), Some(true)),
        ("n = auth.x", json!("5"), Some(true)),
        ("n = auth.x", json!("5.0"), Some(true)),
        ("n = auth.x", json!("five"), None),
        ("n = auth.x", json!(" 5"), None),
        ("n = auth.x", json!(5.5), None),
        ("n = auth.x", json!([5]), None),
        ("n = auth.x", json!({ "n": 5 }), None),
        ("n = auth.x", json!(true), None),
        ("id = auth.x", json!(9_007_199_254_740_993_u64), Some(true)),
        ("id = auth.x", json!(9_007_199_254_740_992.0), None),
        ("id = auth.x", json!(u64::MAX), None),
        ("t = auth.x", json!(5), None),
        ("t = auth.x", json!("5"), Some(true)),
        ("t = auth.x", json!("5\u{0}"), None),
        ("b = auth.x", json!("true"), None),
        ("b = auth.x", json!(1), None),
        ("num = auth.x", json!("0.1"), Some(true)),
        ("num = auth.x", json!(0.1), None),
        ("u = auth.x", json!(uuid.to_uppercase()), Some(true)),
        ("u = auth.x", json!(format!("{{{uuid}}}")), Some(true)),
        ("u = auth.x", json!("67e55044"), None),
        ("d = auth.x", json!("2026-11-20"), Some(true)),
        ("e = auth.x", json!("low"), Some(true)),
        ("e = auth.x", json!("LOW"), None),
        // A member of a list that does not convert is a null in it.
        ("n IN auth.x", json!(["5", "six"]), Some(true)),
        ("n IN auth.x", json!([6, "six"]), None),
        ("n IN auth.x", json!([6, 7]), Some(false)),
        ("n NOT IN auth.x", json!([6, null]), None),
        ("n IN auth.x", json!([]), Some(false)),
        ("n NOT IN auth.x", json!([]), Some(true)),
        ("n IN auth.x", json!([null]), None),
        ("n IN auth.x", json!([[5]]), None),
        // Between values nothing converts.
        ("auth.x = '5'", json!(5), None),
        ("auth.x = 5", json!("5"), None),
        ("auth.x = 5.0", json!(5), Some(true)),
        ("auth.x = TRUE", json!(true), Some(true)),
        ("auth.x", json!("true"), None),
    ] {
        assert_eq!(
            answer(text, &json!({ "x": claim }), &row),
            expected,
            "{text} {claim}"
        );
    }
}

#[test]
fn a_null_column_is_in_no_list_but_an_empty_one_excludes_it() {
    let row = r#"{"s":null}"#;
    let claims = json!({ "none": [], "some": ["a"] });
    assert_eq!(answer("s IN auth.some", &claims, row), None);
    assert_eq!(answer("s IN auth.none", &claims, row), Some(false));
    assert_eq!(answer("s NOT IN auth.none", &claims, row), Some(true));
}

#[test]
fn a_policy_that_cannot_be_evaluated_exactly_is_an_error_with_its_position() {
    let table = test_table(Backend::Postgres);
    for (text, position, words) in [
        ("owner = auth.sub", 1, "no column"),
        ("b AND owner = auth.sub", 7, "no column"),
        ("s < auth.sub", 1, "no order"),
        ("j = auth.sub", 1, "compared"),
        ("auth.sub < 'x'", 1, "no order"),
        ("n = 'five' OR s = auth.sub", 5, "whole number"),
        ("s LIKE auth.pattern", 8, "pattern"),
        ("auth.sub LIKE auth.pattern", 15, "pattern"),
        ("virtual = auth.n", 1, "computed"),
        ("s = t AND auth.on", 5, "not a column"),
        ("auth.sub IN (s)", 1, "column"),
        ("s = auth .sub", 5, "no entity or alias"),
        ("s = other.sub", 5, "no entity or alias"),
        ("s IN (SELECT s FROM t)", 7, "cannot stand here"),
    ] {
        let error = Policy::new(text)
            .expect(text)
            .check(table.table())
            .expect_err(text);
        assert_eq!(error.position, Some(position), "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
    for (text, position) in [
        ("s = auth.", 5),
        ("s = auth.sub.", 5),
        ("s = auth.'sub'", 5),
        ("s = auth.sub(1)", 13),
        ("auth.sub = (SELECT 1)", 13),
    ] {
        assert_eq!(
            Policy::new(text).expect_err(text).position,
            Some(position),
            "{text}"
        );
    }
    // A client's filter has no claims, and a policy no parameters.
    assert!(Filter::new("s = auth.sub", &[], table.table()).is_err());
    assert!(
        Policy::new("s = $1")
            .expect("a policy")
            .check(table.table())
            .is_err()
    );
}

#[test]
fn names_of_claims_are_taken_as_they_are_written() {
    let claims =
        json!({ "userId": "ann", "user": "ben", "https://app.example/team": "a", "in": "x" });
    for (text, expected) in [
        ("auth.userId = 'ann'", Some(true)),
        ("auth.userid = 'ann'", None),
        ("auth.user = 'ben'", Some(true)),
        ("auth.in = 'x'", Some(true)),
        ("auth.\"https://app.example/team\" = 'a'", Some(true)),
    ] {
        assert_eq!(answer(text, &claims, "{}"), expected, "{text}");
    }
    let policy = Policy::new("auth.userId = s AND auth.\"a b\".c").expect("a policy");
    assert!(policy.names_columns());
    assert!(
        !Policy::new("auth.role = 'admin'")
            .expect("a policy")
            .names_columns()
    );
}

#[test]
fn claims_without_bound_are_too_large() {
    let table = test_table(Backend::Postgres);
    let policy = Policy::new("s IN auth.teams").expect("a policy");
    let teams = json!(vec!["team".repeat(1000); 5000]);
    let error = policy.bind(|_| Claim::from(&teams)).filter(table.table());
    assert_eq!(
        error.expect_err("too large").kind,
        crate::FilterErrorKind::TooLarge
    );
}
