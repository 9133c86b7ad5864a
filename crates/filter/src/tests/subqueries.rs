//! What subqueries mean.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::raw_params;
use crate::testing::sets::RowSets;
use crate::testing::tables::TestTables;
use crate::testing::{raw, test_table};
use crate::{
    Access, Backend, Claim, Filter, FilterErrorKind, Membership, OPERANDS_MAX, Policy, RowReader,
    SUBQUERIES_MAX, SUBQUERIES_NESTED_MAX, Tables,
};

/// A filter on the test table, among some tables.
pub(super) fn filter_among(text: &str, params: &[Value], tables: &dyn Tables) -> Filter {
    let table = test_table(Backend::Postgres);
    match Filter::new(text, &raw_params(params), table.table().among(tables)) {
        Ok(filter) => filter,
        Err(error) => panic!("{text}: {error}"),
    }
}

fn filter(text: &str) -> Filter {
    filter_among(text, &[], &TestTables::whole(Backend::Postgres))
}

fn text_of(filter: &Filter) -> String {
    filter.text(test_table(Backend::Postgres).table())
}

fn policy(text: &str, sub: Option<&str>, tables: &dyn Tables) -> Filter {
    let table = test_table(Backend::Postgres);
    let policy = Policy::new(text).expect(text);
    let claim = sub.map_or(Claim::Null, |sub| Claim::Text(sub.into()));
    let table = table.table().among(tables);
    policy.check(table).expect(text);
    policy.bind(|_| claim.clone()).filter(table).expect(text)
}

fn rows(members: &[Value], lists: &[Value]) -> RowSets {
    let json = |rows: &[Value]| rows.iter().map(Value::to_string).collect::<Vec<_>>();
    let tables = TestTables::whole(Backend::Postgres);
    tables.rows(&[("members", &json(members)), ("lists", &json(lists))])
}

fn matches(filter: &Filter, row: &Value, rows: &RowSets) -> Option<bool> {
    let table = test_table(Backend::Postgres);
    let row = RowReader::new(table.table(), filter.columns()).read(&raw(&row.to_string()));
    filter.matches(&row.expect("a row"), rows)
}

#[test]
fn membership_follows_three_valued_logic() {
    let with_null = rows(
        &[
            json!({"list_id": 1, "user_id": "ann", "n": 3}),
            json!({"list_id": null, "user_id": "ann", "n": null}),
        ],
        &[],
    );
    let empty = rows(&[], &[]);
    let row = json!({"id": 5, "n": 1, "s": "ann", "t": "x"});
    let null = json!({"id": 5, "n": null, "s": null, "t": "x"});
    for (text, found, of_null, in_empty) in [
        (
            "n IN (SELECT list_id FROM members)",
            Some(true),
            None,
            Some(false),
        ),
        (
            "n NOT IN (SELECT list_id FROM members)",
            Some(false),
            None,
            Some(true),
        ),
        (
            "id IN (SELECT list_id FROM members)",
            None,
            None,
            Some(false),
        ),
        (
            "id NOT IN (SELECT list_id FROM members)",
            None,
            None,
            Some(true),
        ),
        (
            "NOT id IN (SELECT list_id FROM members)",
            None,
            None,
            Some(true),
        ),
        (
            "s IN (SELECT user_id FROM members)",
            Some(true),
            None,
            Some(false),
        ),
        // A value on the left is as a column that holds it.
        (
            "5 IN (SELECT list_id FROM members)",
            None,
            None,
            Some(false),
        ),
        (
            "5 NOT IN (SELECT list_id FROM members)",
            None,
            None,
            Some(true),
        ),
        (
            "1 IN (SELECT list_id FROM members)",
            Some(true),
            Some(true),
            Some(false),
        ),
        (
            "NULL NOT IN (SELECT list_id FROM members)",
            None,
            None,
            Some(true),
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE m.list_id = t.n)",
            Some(true),
            Some(false),
            Some(false),
        ),
        (
            "NOT EXISTS (SELECT 1 FROM members m WHERE m.list_id = t.n)",
            Some(false),
            Some(true),
            Some(true),
        ),
        (
            "EXISTS (SELECT * FROM members m WHERE m.list_id = t.n AND user_id = s AND m.n = 3)",
            Some(true),
            Some(false),
            Some(false),
        ),
        (
            "EXISTS (SELECT 1 FROM members)",
            Some(true),
            Some(true),
            Some(false),
        ),
        (
            "EXISTS (SELECT 1 FROM members WHERE n > 3)",
            Some(false),
            Some(false),
            Some(false),
        ),
        (
            "EXISTS (SELECT 1 FROM members WHERE n < 9 AND user_id IS NULL)",
            Some(false),
            Some(false),
            Some(false),
        ),
        // Where the rows of a subquery are none whatever they hold, nothing has to be looked up.
        (
            "n IN (SELECT list_id FROM members WHERE NULL)",
            Some(false),
            Some(false),
            Some(false),
        ),
        (
            "n NOT IN (SELECT list_id FROM members WHERE FALSE)",
            Some(true),
            Some(true),
            Some(true),
        ),
    ] {
        let filter = filter(text);
        assert_eq!(matches(&filter, &row, &with_null), found, "{text}");
        assert_eq!(
            matches(&filter, &null, &with_null),
            of_null,
            "{text}, of null"
        );
        assert_eq!(
            matches(&filter, &row, &empty),
            in_empty,
            "{text}, of an empty table"
        );
    }
}

#[test]
fn subqueries_stand_inside_each_other_and_in_any_place_of_a_condition() {
    let rows = rows(
        &[json!({"id": 1, "list_id": 7, "user_id": "ann", "n": 1})],
        &[json!({"id": 7, "parent_id": 4, "owner": "ben"})],
    );
    let row = |n: i64| json!({"id": 1, "n": n, "s": "ann", "b": false});
    for (text, expected) in [
        (
            "n IN (SELECT parent_id FROM lists WHERE id IN (SELECT list_id FROM members WHERE user_id = 'ann'))",
            true,
        ),
        (
            "n IN (SELECT parent_id FROM lists WHERE id IN (SELECT list_id FROM members WHERE user_id = 'ben'))",
            false,
        ),
        ("b OR NOT (n NOT IN (SELECT parent_id FROM lists))", true),
        ("b AND n IN (SELECT parent_id FROM lists)", false),
        (
            "EXISTS (SELECT 1 FROM lists l WHERE l.parent_id = t.n AND EXISTS \
             (SELECT 1 FROM members m WHERE m.list_id = l.id AND m.user_id = 'ann'))",
            true,
        ),
        // A table inside itself.
        (
            "n IN (SELECT parent_id FROM lists WHERE EXISTS (SELECT 1 FROM lists l WHERE l.id = lists.id))",
            true,
        ),
        (
            "n IN (SELECT parent_id FROM lists WHERE EXISTS (SELECT 1 FROM lists l WHERE l.id = lists.parent_id))",
            false,
        ),
    ] {
        assert_eq!(
            matches(&filter(text), &row(4), &rows),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn a_name_without_a_table_is_that_of_the_innermost_table() {
    // Both tables have `id` and `n`, only `members` has `list_id`, and only `t` has `s`.
    let inner = filter("id IN (SELECT list_id FROM members WHERE n = 1)");
    assert_eq!(
        inner,
        filter("t.id IN (SELECT members.list_id FROM members WHERE members.n = 1)")
    );
    assert_eq!(
        inner,
        filter("T.id IN (SELECT M.list_id FROM members AS M WHERE m.n = 1)")
    );
    assert_eq!(
        inner,
        filter(
            "\"t\".\"id\" IN (SELECT DISTINCT \"a b\".list_id FROM \"members\" \"a b\" WHERE n = 1)"
        )
    );
    let outer = filter("EXISTS (SELECT id FROM members WHERE user_id = s)");
    assert_eq!(
        outer,
        filter("EXISTS (SELECT 1 FROM members m WHERE t.s = m.user_id)")
    );
    let exists = |filter: &Filter| {
        let set = filter.sets().next().expect("a set").clone();
        (
            set.rows().columns.clone(),
            set.rows().filter.is_everything(),
        )
    };
    assert_eq!(exists(&outer), (vec![2], true));
}

#[test]
fn subqueries_that_say_the_same_are_one() {
    for same in [
        vec![
            "EXISTS (SELECT 1 FROM members m WHERE m.list_id = t.n AND m.user_id = t.s AND m.n = 1)",
            "EXISTS (SELECT * FROM members x WHERE x.n = 1 AND t.s = x.user_id AND t.n = list_id)",
            "EXISTS (SELECT NULL FROM members WHERE (user_id = s AND 1 = n) AND members.list_id = t.n)",
            "NOT NOT EXISTS (SELECT n FROM members WHERE user_id = s AND user_id = s AND n IN (1) AND list_id = t.n)",
        ],
        vec![
            "n NOT IN (SELECT list_id FROM members WHERE n = 1 OR n = 2)",
            "NOT n IN (SELECT list_id FROM members WHERE n IN (2, 1))",
            "NOT (n IN (SELECT list_id FROM members x WHERE NOT (n <> 1 AND n <> 2)) AND TRUE)",
        ],
        vec![
            "b AND n IN (SELECT list_id FROM members)",
            "n IN (SELECT m.list_id FROM members m) AND b AND n IN (SELECT list_id FROM members WHERE TRUE)",
        ],
    ] {
        let ids: BTreeSet<String> = same.iter().map(|text| text_of(&filter(text))).collect();
        assert_eq!(ids.len(), 1, "{ids:#?}");
        let id = ids.into_iter().next().expect("one");
        assert_eq!(text_of(&filter(&id)), id);
    }
    for (one, two) in [
        (
            "n IN (SELECT list_id FROM members)",
            "n IN (SELECT id FROM members)",
        ),
        (
            "n IN (SELECT list_id FROM members)",
            "EXISTS (SELECT 1 FROM members m WHERE m.list_id = t.n)",
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE m.n = t.n)",
            "EXISTS (SELECT 1 FROM members m WHERE m.n = t.id)",
        ),
    ] {
        assert_ne!(filter(one), filter(two));
    }
}

#[test]
fn the_text_names_columns_so_that_it_is_read_back() {
    for (text, expected) in [
        (
            "n NOT IN (SELECT list_id FROM members WHERE user_id = 'ann' OR n = 2)",
            r#""n" NOT IN (SELECT "list_id" FROM "members" WHERE "user_id" = 'ann' OR "n" = 2)"#,
        ),
        (
            "EXISTS (SELECT 1 FROM members m WHERE m.n = t.n AND (user_id = 'ann' OR m.n = 2))",
            r#"EXISTS (SELECT 1 FROM "members" WHERE "n" = "t"."n" AND ("user_id" = 'ann' OR "n" = 2))"#,
        ),
        (
            "EXISTS (SELECT 1 FROM t x WHERE x.n = t.id AND EXISTS (SELECT 1 FROM t y WHERE y.n = x.id))",
            "EXISTS (SELECT 1 FROM \"t\" AS \"t_inner\" WHERE \"n\" = \"t\".\"id\" AND \
             EXISTS (SELECT 1 FROM \"t\" WHERE \"n\" = \"t_inner\".\"id\"))",
        ),
    ] {
        let filter = filter(text);
        assert_eq!(text_of(&filter), expected);
        assert_eq!(text_of(&super::subqueries::filter(expected)), expected);
    }
    let outline =
        filter("n IN (SELECT list_id FROM members WHERE user_id IN ('ann', 'ben') AND n > 3)");
    let outline = outline.outline(test_table(Backend::Postgres).table());
    let expected = r#""n" IN (SELECT "list_id" FROM "members" WHERE "n" > ? AND "user_id" IN (?))"#;
    assert_eq!(outline, expected);
}

#[test]
fn a_set_differs_where_any_table_that_it_reads_does() {
    let text = "n IN (SELECT parent_id FROM lists WHERE id IN (SELECT list_id FROM members WHERE n IN (SELECT id FROM t)))";
    let names = |tables: &TestTables| {
        let filter = filter_among(text, &[], tables);
        let set = filter.sets().next().expect("a set");
        assert_eq!((set.depth(), filter.sets().count()), (3, 1));
        let entities: Vec<&str> = filter
            .inner_tables()
            .iter()
            .map(|(entity, _)| *entity)
            .collect();
        assert_eq!(entities, ["lists", "members", "t"]);
        set.name().to_owned()
    };
    let tables = TestTables::whole(Backend::Postgres);
    let mut all = BTreeSet::from([names(&tables)]);
    for entity in ["lists", "members", "t"] {
        let mut changed = tables.clone();
        changed.table(entity).fingerprint = "2".into();
        all.insert(names(&changed));
    }
    assert_eq!(all.len(), 4, "{all:#?}");
}

#[test]
fn a_subquery_reads_no_more_than_its_table_may_be_read() {
    let whole = TestTables::whole(Backend::Postgres);
    let mut limited = whole.clone();
    let members = limited.table("members");
    let of = |text: &str| Filter::new(text, &[], whole.0["members"].table()).expect("a filter");
    members.rows = of("n = 1");
    members.visible = Some([0, 1, 2, 4].into());
    members.partial = [(4, of("user_id = 'ann'"))].into();
    let same = |text: &str, expected: &str| {
        let expected = filter_among(expected, &[], &whole);
        assert_eq!(
            text_of(&filter_among(text, &[], &limited)),
            text_of(&expected),
            "{text}"
        );
    };
    same(
        "n IN (SELECT list_id FROM members WHERE user_id = 'ben')",
        "n IN (SELECT list_id FROM members WHERE user_id = 'ben' AND n = 1)",
    );
    same(
        "n NOT IN (SELECT list_id FROM members)",
        "n NOT IN (SELECT list_id FROM members WHERE n = 1)",
    );
    same(
        "EXISTS (SELECT 1 FROM members)",
        "EXISTS (SELECT 1 FROM members WHERE n = 1)",
    );
    // What stands in a column that may not be read counts nowhere: not compared, not selected, not equated.
    same(
        "n IN (SELECT list_id FROM members WHERE secret > 5 OR user_id = 'ben')",
        "n IN (SELECT list_id FROM members WHERE (secret > 5 AND user_id = 'ann' OR user_id = 'ben') AND n = 1)",
    );
    let readable = "FROM members WHERE n = 1 AND user_id = 'ann'";
    same(
        "n NOT IN (SELECT secret FROM members)",
        &format!("n NOT IN (SELECT secret {readable})"),
    );
    same(
        "EXISTS (SELECT 1 FROM members m WHERE m.secret = t.n)",
        &format!("EXISTS (SELECT 1 {readable} AND secret = t.n)"),
    );
    same(
        "5 IN (SELECT secret FROM members)",
        &format!(
            "EXISTS (SELECT 1 {readable} AND secret = 5) \
             OR EXISTS (SELECT 1 {readable} AND secret IS NULL) AND NULL"
        ),
    );
    same(
        "NULL IN (SELECT secret FROM members)",
        &format!("EXISTS (SELECT 1 {readable}) AND NULL"),
    );
    // The right to no row at all.
    limited.table("members").rows = Filter::nothing();
    assert!(filter_among("n IN (SELECT list_id FROM members)", &[], &limited).is_nothing());
}

#[test]
fn parameters_and_claims_stand_inside_subqueries() {
    let tables = TestTables::whole(Backend::Postgres);
    let with = filter_among(
        "n IN (SELECT list_id FROM members WHERE user_id = $1 AND n > $2) AND t = $1",
        &[json!("ann"), json!(3)],
        &tables,
    );
    assert_eq!(
        with,
        filter("n IN (SELECT list_id FROM members WHERE user_id = 'ann' AND n > 3) AND t = 'ann'")
    );
    let text = "n IN (SELECT list_id FROM members WHERE user_id = auth.sub)";
    let expected = "n IN (SELECT list_id FROM members WHERE user_id = 'ann')";
    assert_eq!(policy(text, Some("ann"), &tables), filter(expected));
    // Without the claim no row counts.
    assert!(policy(text, None, &tables).is_nothing());
    let text = "auth.sub IN (SELECT user_id FROM members WHERE n = 1)";
    let rows = rows(
        &[
            json!({"user_id": "ann", "n": 1}),
            json!({"user_id": "ben", "n": 2}),
        ],
        &[],
    );
    for (sub, expected) in [
        (Some("ann"), Some(true)),
        (Some("ben"), Some(false)),
        (None, None),
    ] {
        assert_eq!(
            matches(&policy(text, sub, &tables), &json!({}), &rows),
            expected,
            "{sub:?}"
        );
    }
    let policy = Policy::new(text).expect("a policy");
    assert!(policy.names_columns() && policy.has_subqueries());
    assert_eq!(policy.claims().count(), 1);
    assert!(
        !Policy::new("s = auth.sub")
            .expect("a policy")
            .has_subqueries()
    );
}

#[test]
fn a_filter_is_found_by_the_sets_whose_values_its_rows_hold() {
    let sets = |text: &str| match filter(text).access(|_| 0) {
        Access::Keys { keys, sets } => Some((
            keys.len(),
            sets.into_iter().map(|(columns, _)| columns).collect(),
        )),
        Access::None => None,
    };
    let members = "(SELECT list_id FROM members)";
    assert_eq!(sets(&format!("n IN {members}")), Some((0, vec![vec![1]])));
    assert_eq!(
        sets(&format!("n IN {members} OR t = 'x'")),
        Some((1, vec![vec![1]]))
    );
    let exists = "EXISTS (SELECT 1 FROM members m WHERE m.list_id = t.n AND m.user_id = t.s)";
    assert_eq!(sets(exists), Some((0, vec![vec![1, 7]])));
    assert_eq!(sets(&format!("n NOT IN {members}")), None);
    assert_eq!(sets(&format!("NOT {exists}")), None);
    assert_eq!(sets("EXISTS (SELECT 1 FROM members)"), None);
}

#[test]
fn subqueries_have_bounds() {
    let nested = |levels: usize| {
        format!(
            "n IN ({}n = 1{}",
            "SELECT id FROM t WHERE n IN (".repeat(levels - 1) + "SELECT id FROM t WHERE ",
            ")".repeat(levels)
        )
    };
    let many = |count: usize| {
        let one = |n: usize| format!("n IN (SELECT id FROM t WHERE n = {n})");
        (0..count).map(one).collect::<Vec<_>>().join(" OR ")
    };
    let operands = |count: usize| {
        format!(
            "n IN (SELECT id FROM t WHERE n IN ({}))",
            vec!["1"; count].join(",")
        )
    };
    let tables = TestTables::whole(Backend::Postgres);
    let table = test_table(Backend::Postgres);
    for (of, bound) in [
        (&nested as &dyn Fn(usize) -> String, SUBQUERIES_NESTED_MAX),
        (&many, SUBQUERIES_MAX),
        (&operands, OPERANDS_MAX - 3),
    ] {
        filter(&of(bound));
        let error =
            Filter::new(&of(bound + 1), &[], table.table().among(&tables)).expect_err("too large");
        assert_eq!(error.kind, FilterErrorKind::TooLarge, "{error}");
    }
    assert_eq!(filter(&many(SUBQUERIES_MAX)).sets().count(), SUBQUERIES_MAX);
    // What stands inside counts.
    let large = format!("n IN (SELECT id FROM t WHERE s = '{}')", "x".repeat(10_000));
    assert!(filter(&large).bytes() > 10_000);
    let member = filter("n IN (SELECT id FROM t)");
    assert!(member.work().base() > 0);
    assert!(matches!(
        member.condition(),
        crate::Condition::Member {
            membership: Membership::In,
            negated: false,
            ..
        }
    ));
}
