//! Which subqueries are errors, in which words, and at which position.

use crate::testing::tables::TestTables;
use crate::testing::test_table;
use crate::{Backend, Filter, FilterError, FilterErrorKind};

fn error_among(text: &str, tables: &TestTables) -> FilterError {
    let table = test_table(Backend::Postgres);
    match Filter::new(text, &[], table.table().among(tables)) {
        Ok(filter) => panic!("{text} was accepted as {filter:?}"),
        Err(error) => error,
    }
}

#[test]
fn a_subquery_that_cannot_be_answered_is_an_error_with_its_position() {
    let tables = TestTables::whole(Backend::Postgres);
    for (text, position, words) in [
        // What is not a subquery.
        ("n IN (SELECT)", 13, "expected a column"),
        ("n IN (SELECT id)", 16, "expected FROM"),
        ("n IN (SELECT id FROM)", 21, "the name of an entity"),
        ("n IN (SELECT id FROM members", 29, "closing"),
        (
            "n IN (SELECT id FROM members WHERE)",
            35,
            "expected a column",
        ),
        ("n IN (SELECT id FROM members AS)", 32, "behind AS"),
        ("n IN (SELECT id FROM members m x)", 32, "expected WHERE"),
        ("n IN (SELECT id, n FROM members)", 16, "one column"),
        ("n IN (SELECT * FROM members)", 7, "one column"),
        ("n IN (SELECT 1 FROM members)", 14, "a column"),
        ("n IN (SELECT count(*) FROM members)", 14, "functions"),
        (
            "n IN (SELECT members.count(id) FROM members)",
            27,
            "functions",
        ),
        ("n IN ((SELECT id FROM members))", 8, "behind IN or EXISTS"),
        ("n = (SELECT id FROM members)", 6, "behind IN or EXISTS"),
        ("(SELECT 1 FROM members) = 1", 2, "behind IN or EXISTS"),
        ("n IN SELECT id FROM members", 6, "opening"),
        ("EXISTS (n = 1)", 9, "SELECT"),
        ("EXISTS (SELECT 1 FROM members) = TRUE", 32, "condition"),
        ("n IN (SELECT id FROM members) IS NULL", 31, "condition"),
        ("n = ANY (SELECT id FROM members)", 5, "\"ANY\""),
        (
            "n IN (SELECT id FROM members m JOIN lists l ON m.id = l.id)",
            32,
            "instead of a join",
        ),
        (
            "n IN (SELECT id FROM members LEFT JOIN lists ON TRUE)",
            30,
            "instead of a join",
        ),
        ("n IN (SELECT id FROM members, lists)", 29, "one entity"),
        ("n IN (SELECT id FROM members m, lists)", 31, "one entity"),
        (
            "n IN (SELECT id FROM members GROUP BY id)",
            30,
            "nothing more",
        ),
        ("n IN (SELECT id FROM members LIMIT 1)", 30, "nothing more"),
        (
            "n IN (SELECT id FROM members UNION SELECT 1)",
            30,
            "nothing more",
        ),
        ("n IN (SELECT id FROM (SELECT 1))", 22, "by its name"),
        (
            "n IN (SELECT id FROM public.members)",
            28,
            "without a schema",
        ),
        ("n IN (SELECT id FROM f(1))", 23, "functions"),
        // What it names.
        ("n IN (SELECT id FROM nobody)", 22, "no entity \"nobody\""),
        (
            "n IN (SELECT id FROM \"Members\")",
            22,
            "no entity \"Members\"",
        ),
        (
            "n IN (SELECT nothing FROM members)",
            14,
            "no column \"nothing\"",
        ),
        (
            "EXISTS (SELECT nothing FROM members)",
            16,
            "no column \"nothing\"",
        ),
        (
            "n IN (SELECT id FROM members WHERE x.id = 1)",
            36,
            "no entity or alias \"x\"",
        ),
        (
            "n IN (SELECT id FROM members m WHERE members.id = 1)",
            38,
            "no entity or alias \"members\"",
        ),
        (
            "n IN (SELECT id FROM members m WHERE m.s = 'x')",
            38,
            "no column \"s\" in \"m\"",
        ),
        (
            "n IN (SELECT id FROM members) AND members.n = 1",
            35,
            "no entity or alias",
        ),
        // What it compares.
        (
            "n IN (SELECT user_id FROM members)",
            14,
            "different types, whole numbers and texts",
        ),
        ("u IN (SELECT owner FROM lists)", 14, "uuids and texts"),
        (
            "EXISTS (SELECT 1 FROM lists WHERE owner = t.u)",
            35,
            "uuids and texts",
        ),
        ("f4 IN (SELECT f8 FROM t)", 15, "different types"),
        ("j IN (SELECT j FROM t)", 14, "JSON"),
        ("n IN (SELECT j FROM t)", 14, "JSON"),
        ("n IN (SELECT virtual FROM t)", 14, "computed"),
        (
            "EXISTS (SELECT 1 FROM members m WHERE m.n = t.virtual)",
            45,
            "computed",
        ),
        ("'x' IN (SELECT n FROM members)", 1, "whole number"),
        (
            "n IN (SELECT id FROM members WHERE user_id = 5)",
            46,
            "a text",
        ),
        // A name without a table is that of the innermost.
        (
            "EXISTS (SELECT 1 FROM members WHERE n = members.n)",
            37,
            "\"n\" means \"members\".\"n\", of the innermost",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE m.list_id = id)",
            51,
            "for the other write \"t\".\"id\"",
        ),
        (
            "EXISTS (SELECT 1 FROM members WHERE list_id = members.n)",
            47,
            "not a column",
        ),
        // What it says of the query around.
        (
            "n IN (SELECT id FROM members WHERE user_id = t.s)",
            46,
            "reads its own",
        ),
        ("n IN (SELECT s FROM members)", 14, "reads its own"),
        (
            "n IN (SELECT id FROM members WHERE s = 'x')",
            36,
            "reads its own",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE m.n > t.n)",
            45,
            "by = with a column of \"m\"",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE m.n = 1 OR m.n = t.n)",
            56,
            "not under OR or NOT",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE NOT m.n = t.n)",
            49,
            "not under OR or NOT",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE t.n = 1)",
            39,
            "by = with",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE t.n = t.id)",
            39,
            "by = with",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE s IS NULL)",
            39,
            "by = with",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE EXISTS (SELECT 1 FROM lists l WHERE l.id = t.n))",
            82,
            "further out",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE m.n = t.n AND m.n = t.id)",
            9,
            "two columns",
        ),
    ] {
        let error = error_among(text, &tables);
        assert_eq!(
            (error.kind, error.position),
            (FilterErrorKind::Bad, Some(position)),
            "{text}: {error}"
        );
        assert!(error.message.contains(words), "{text}: {error}");
        assert!(error.message.chars().count() < 300, "{error}");
    }
}

#[test]
fn what_may_not_be_read_is_as_what_does_not_exist() {
    let mut tables = TestTables::whole(Backend::Postgres);
    tables.table("members").visible = Some([0, 1, 2].into());
    tables.0.remove("lists");
    for (hidden, missing, text) in [
        ("n", "x", "id IN (SELECT id FROM members m WHERE m.{} = 1)"),
        (
            "secret",
            "absent",
            "id IN (SELECT id FROM members WHERE {} = 1)",
        ),
        ("secret", "absent", "EXISTS (SELECT {} FROM members)"),
        ("lists", "other", "id IN (SELECT id FROM {})"),
    ] {
        let of = |name: &str| {
            let error = error_among(&text.replace("{}", name), &tables);
            (
                error.position,
                error.message.replace(&format!("{name:?}"), "…"),
            )
        };
        assert_eq!(of(hidden), of(missing), "{text}");
    }
    // The table around has a column of this name too, and so it means that one.
    let error = error_among("id IN (SELECT n FROM members)", &tables);
    assert!(error.message.contains("query around"), "{error}");
}

#[test]
fn values_of_two_enums_are_not_compared() {
    let mut tables = TestTables::whole(Backend::Postgres);
    let text = "e IN (SELECT e FROM t)";
    let table = test_table(Backend::Postgres);
    assert!(Filter::new(text, &[], table.table().among(&tables)).is_ok());
    let inner = tables.table("t");
    let mut schema = (*inner.schema).clone();
    let column = schema.position("e").expect("a column");
    schema.columns[column].type_name = "other_mood".to_owned();
    inner.schema = schema.into();
    assert!(
        error_among(text, &tables)
            .message
            .contains("labels and labels")
    );
}
