//! The class of each condition, and what rows are visible by the answers.

use filter::RowReader;
use serde_json::value::RawValue;

use super::{plan, schema, table};
use crate::{Answer, Answers, Plan, Question};

/// The classes of a plan's conditions, without what they say.
fn classes(plan: &Plan) -> Vec<String> {
    let schema = schema();
    let text = plan.explain(table(&schema));
    let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
    lines
        .map(|line| line.split(':').next().unwrap_or_default().trim().to_owned())
        .collect()
}

#[test]
fn a_condition_has_the_class_of_what_it_names() {
    let uid = "(SELECT auth.uid() AS uid)";
    for (text, types, expected) in [
        ("true", &[][..], &["row"][..]),
        ("(state = 'open'::text)", &[], &["row"]),
        (
            "((state <> ALL (ARRAY['a'::text, 'b'::text])) AND open)",
            &[],
            &["row"],
        ),
        ("(open IS NOT FALSE)", &[], &["row"]),
        ("(auth.uid() IS NOT NULL)", &["boolean"], &["session"]),
        ("is_admin()", &["boolean"], &["session"]),
        (&format!("(owner = {uid})"), &["uuid"], &["key(owner) in"]),
        (
            &format!("(NOT (owner = {uid}))"),
            &["uuid"],
            &["key(owner) not in"],
        ),
        (
            "(team IN ( SELECT m.team FROM m WHERE (m.who = auth.uid())))",
            &["integer"],
            &["key(team) in"],
        ),
        (
            "(EXISTS ( SELECT 1 FROM m WHERE ((m.team = docs.team) AND (m.who = auth.uid()))))",
            &["bigint"],
            &["key(team) in"],
        ),
        (
            "(auth.uid() IN ( SELECT m.who FROM m WHERE (m.team = docs.team)))",
            &["integer"],
            &["key(team) in"],
        ),
        (
            "((team, id) IN ( SELECT m.a, m.b FROM m))",
            &["integer", "integer"],
            &["key(team, id) in"],
        ),
        (
            "((open AND is_admin()) OR (owner = auth.uid()))",
            &["boolean", "uuid"],
            &["row", "and session", "or  key(owner) in"],
        ),
    ] {
        assert_eq!(classes(&plan(&[text], &[], types)), expected, "{text}");
    }
}

#[test]
fn what_is_not_understood_for_certain_is_per_row() {
    for text in [
        // The row within a function, an operator, a subquery.
        "is_member(team)",
        "((payload ->> 'a'::text) = 'b'::text)",
        "(EXISTS ( SELECT 1 FROM m WHERE ((m.team = docs.team) AND (docs.id >= m.since))))",
        "(EXISTS ( SELECT count(*) AS n FROM m WHERE (m.team = docs.team)))",
        "(EXISTS ( SELECT 1 FROM m WHERE (m.team = docs.team) LIMIT 1))",
        "(NOT ((team, id) IN ( SELECT m.a, m.b FROM m)))",
        "(NOT (auth.uid() IN ( SELECT m.who FROM m WHERE (m.team = docs.team))))",
        // A name whose table is not obvious, another operator of the same look, no SQL at all.
        "(team IN ( SELECT x FROM m))",
        "(owner OPERATOR(public.=) auth.uid())",
        "(owner = auth.uid()",
        "nothing_of_the_row",
    ] {
        assert!(plan(&[text], &[], &[]).is_per_row(), "{text}");
    }
    let deep = format!("{}open{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(plan(&[&deep], &[], &[]).is_per_row());
    let long = vec!["(owner = a.uid())"; 200].join(" OR ");
    assert!(plan(&[&long], &[], &[]).is_per_row());
}

#[test]
fn a_key_whose_values_are_of_another_type_is_per_row() {
    let text = "(team = public.my_team())";
    assert!(!plan(&[text], &[], &["smallint"]).is_per_row());
    assert!(plan(&[text], &[], &["numeric"]).is_per_row());
    assert!(plan(&["is_admin()"], &[], &["text"]).is_per_row());
}

#[test]
fn a_row_is_visible_when_one_permissive_and_every_restrictive_policy_is_true() {
    let member = "(team IN ( SELECT m.team FROM m))";
    let both = plan(
        &["open", member],
        &["(NOT (team = ANY (banned())))"],
        &["integer"],
    );
    // A negated array is not understood, so the plan is per row.
    assert!(both.is_per_row());

    let plan = plan(
        &["open", member],
        &["(state <> 'gone'::text)"],
        &["integer"],
    );
    assert_eq!(visible(&plan, r#"[["7"]]"#), ["a", "c"]);
    assert_eq!(visible(&plan, "[]"), ["a"]);
}

#[test]
fn not_in_with_a_null_hides_every_row_and_an_empty_list_shows_even_null() {
    let plan = plan(
        &["(NOT (team IN ( SELECT m.team FROM m)))"],
        &[],
        &["integer"],
    );
    assert_eq!(visible(&plan, r#"[["7"]]"#), ["a", "b"]);
    assert_eq!(visible(&plan, r#"[["7"],[null]]"#), [""; 0]);
    assert_eq!(visible(&plan, "[]"), ["a", "b", "c", "d", "e"]);
}

#[test]
fn not_exists_shows_rows_without_a_key() {
    let text = "(NOT (EXISTS ( SELECT 1 FROM m WHERE (m.team = docs.team))))";
    let plan = plan(&[text], &[], &["integer"]);
    assert_eq!(visible(&plan, r#"[["7"]]"#), ["a", "b", "e"]);
}

/// The names of the rows that are visible when the only question with a set has this answer.
fn visible(plan: &Plan, answer: &str) -> Vec<&'static str> {
    let schema = schema();
    let read = |question: &Question| Answer::read(question, answer, table(&schema)).expect("keys");
    let answers = Answers::Each(plan.questions.iter().map(read).collect());
    let rows = [
        ("a", r#"{"id":1,"team":1,"state":"new","open":true}"#),
        ("b", r#"{"id":2,"team":2,"state":"new","open":false}"#),
        ("c", r#"{"id":3,"team":7,"state":"new","open":false}"#),
        ("d", r#"{"id":4,"team":7,"state":"gone","open":true}"#),
        ("e", r#"{"id":5,"team":null,"state":null,"open":true}"#),
    ];
    let reader = RowReader::new(table(&schema), plan.columns());
    let is_visible = |row: &str| {
        let row = RawValue::from_string(row.to_owned()).expect("JSON");
        plan.is_visible(&reader.read(&row).expect("a row"), "", &answers)
    };
    let visible = rows.into_iter().filter(|(_, row)| is_visible(row));
    visible.map(|(name, _)| name).collect()
}
