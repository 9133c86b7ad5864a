//! Shapes within policies: who shares them, what they show, and who may resume.

use filter::testing::raw;
use serde_json::json;

use super::*;
use crate::policy::{Authorizer, ColumnPolicy, EntityPolicy, Policies, Principal};

fn policies(columns: &[(&str, &str)]) -> Policies {
    let column = |(name, readable): &(&str, &str)| {
        let policy = ColumnPolicy {
            readable: Some((*readable).into()),
            ..ColumnPolicy::default()
        };
        ((*name).to_owned(), policy)
    };
    let policy = EntityPolicy {
        read: Some("t = auth.sub OR n IN auth.teams".to_owned()),
        columns: columns.iter().map(column).collect(),
        ..EntityPolicy::default()
    };
    Policies::new([("t".to_owned(), policy)]).expect("policies")
}

fn somebody(user: &str, claims: &serde_json::Value) -> Principal {
    let claims = claims.as_object().expect("an object").clone();
    Principal {
        claims: claims.into_iter().collect(),
        ..Principal::of_user(user)
    }
}

fn seen(policies: &Policies, principal: &Principal, asked: &SelectionRequest) -> Shape {
    within(&policies.read(principal, "t"), asked).expect("a shape")
}

#[test]
fn those_with_equal_rights_share_a_shape_and_others_do_not() {
    let (policies, all) = (policies(&[]), request(None, None));
    let ann = somebody("ann", &json!({ "teams": [1, 2], "name": "Ann" }));
    let of = |user, claims| seen(&policies, &somebody(user, &claims), &all);
    let hers = seen(&policies, &ann, &all);
    // Only the claims that the policy names count, and not their order.
    assert_eq!(
        hers,
        of(
            "ann",
            json!({ "teams": [2, 1, 1], "name": "Anna", "exp": 7 })
        )
    );
    for other in [
        of("ben", json!({ "teams": [1, 2] })),
        of("ann", json!({ "teams": [1] })),
        of("ann", json!({ "teams": [1, 2, null] })),
        of("ann", json!({})),
        Shape::whole("t"),
        // What Ann may see is what somebody asks for who may see everything, and yet they share no shape.
        find(Some("t = 'ann' OR n IN (1, 2)"), None).expect("a shape"),
    ] {
        assert_ne!(hers, other);
        assert!(!other.resumes(hers.mark()) && !hers.resumes(other.mark()));
    }
}

#[test]
fn a_guarded_shape_resumes_from_its_own_cursors_only() {
    let (policies, all) = (policies(&[]), request(None, None));
    let ann = seen(&policies, &somebody("ann", &json!({})), &all);
    let ben = seen(&policies, &somebody("ben", &json!({})), &all);
    assert!(ann.resumes(Some(ann.as_str())) && ann.resumes(ann.mark()));
    for named in [
        None,
        Some(ben.as_str()),
        ben.mark(),
        Some("t"),
        Some(""),
        Some("~"),
        Some("x.~"),
    ] {
        assert!(!ann.resumes(named), "{named:?}");
    }
    let open = shape("n = 1", None);
    // Without policies, what is asked for is the client's affair, as long as it was so before.
    for named in [None, Some("t"), Some(open.as_str()), Some("t.other")] {
        assert!(
            open.resumes(named) && Shape::whole("t").resumes(named),
            "{named:?}"
        );
    }
    assert!(!open.resumes(ann.mark()) && !Shape::whole("t").resumes(Some(ann.as_str())));
    assert_eq!((open.mark(), Shape::whole("t").mark()), (None, None));
    // Whatever an entity is called, and whatever its names end with.
    assert!(Shape::whole("a.~b").resumes(Some("a.~b")));
}

#[test]
fn a_column_is_sent_in_the_rows_in_which_it_may_be_read() {
    let policies = policies(&[("s", "t = auth.sub"), ("b", "auth.role = 'admin'")]);
    let ann = somebody("ann", &json!({ "teams": [1] }));
    let shape = seen(&policies, &ann, &request(None, None));
    let selection = shape.selection().expect("a selection");
    let sent = |row: &str| {
        let sent = selection.project(&raw(row)).expect("a row");
        sent.expect("some columns").get().to_owned()
    };
    assert_eq!(
        sent(r#"{"id":1,"t":"ann","s":"x","b":true}"#),
        r#"{"id":1,"t":"ann","s":"x"}"#
    );
    assert_eq!(
        sent(r#"{"id":1,"t":"ben","s":"x","b":true}"#),
        r#"{"id":1,"t":"ben"}"#
    );
    assert_eq!(sent(r#"{"id":1,"t":null,"s":"x"}"#), r#"{"id":1,"t":null}"#);
    assert_eq!(sent(r#"{"id":1,"s":"x"}"#), r#"{"id":1}"#);
    assert!(!selection.summary().columns.contains_key("b"));
    assert!(selection.summary().columns.contains_key("s"));
    // Asked for less, there is nothing to decide.
    let less = seen(&policies, &ann, &request(None, Some(&["n"])));
    assert!(!less.selection().expect("a selection").is_partial());
}

#[test]
fn a_filter_finds_nothing_out_about_a_column_in_other_rows() {
    let policies = policies(&[("s", "t = auth.sub")]);
    let ann = somebody("ann", &json!({ "teams": [1] }));
    for text in [
        "s = 'x'",
        "s <> 'y'",
        "NOT s = 'y'",
        "s IS NOT NULL",
        "NOT s IS NULL",
        "s LIKE 'x%'",
        "s NOT IN ('y')",
        "n = 7 OR s = 'x'",
    ] {
        let shape = seen(&policies, &ann, &request(Some(text), None));
        let selection = shape.selection().expect("a selection");
        let reader = RowReader::new(selection.table(), selection.evaluated_columns());
        let finds = |row: &str| {
            let row = reader.read(&raw(row)).expect("a row");
            selection.filter().matches(&row, &NoSets) == Some(true)
        };
        assert!(finds(r#"{"id":1,"n":1,"t":"ann","s":"x"}"#), "{text}");
        for value in ["\"x\"", "\"y\"", "null"] {
            assert!(
                !finds(&format!(r#"{{"id":1,"n":1,"t":"ben","s":{value}}}"#)),
                "{text} {value}"
            );
        }
    }
}

#[test]
fn what_cannot_be_evaluated_shows_nothing_and_says_nothing() {
    let shape = |columns| {
        let scope = policies(columns).read(&somebody("ann", &json!({})), "t");
        Shape::resolve(&table("1"), &request(None, None), &scope, Others::NONE)
    };
    for columns in [
        &[("gone", "t = auth.sub")][..],
        &[("s", "gone = auth.sub")],
        &[("gone", "FALSE")],
    ] {
        assert!(
            matches!(shape(columns), Err(ResolveError::Scope(_))),
            "{columns:?}"
        );
    }
}
