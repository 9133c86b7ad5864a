//! Arbitrary texts with subqueries, and rows for them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use crate::SUBQUERIES_MAX;
use crate::syntax::CompareOp;

/// The columns of whole numbers and of texts that the queries here name, by entity.
const COLUMNS: [(&str, &[&str], &[&str]); 3] = [
    ("t", &["id", "n"], &["s", "t"]),
    ("members", &["id", "list_id", "n"], &["user_id"]),
    ("lists", &["id", "parent_id"], &["owner"]),
];

fn columns(entity: &str) -> (&'static [&'static str], &'static [&'static str]) {
    let found = COLUMNS.iter().find(|(name, _, _)| *name == entity);
    found
        .map(|(_, numbers, texts)| (*numbers, *texts))
        .expect("an entity")
}

/// A query of whose columns others may speak.
#[derive(Clone)]
struct Query {
    entity: &'static str,
    alias: Option<String>,
}

impl Query {
    fn qualifier(&self) -> &str {
        self.alias.as_deref().unwrap_or(self.entity)
    }
}

fn number() -> BoxedStrategy<String> {
    prop_oneof![4 => (0..3_i64).prop_map(|n| n.to_string()), 1 => Just("NULL".to_owned())].boxed()
}

/// A condition on a query's columns, with subqueries in it.
fn condition(query: Query, depth: usize) -> BoxedStrategy<String> {
    let (numbers, texts) = columns(query.entity);
    let qualified = {
        let qualifier = query.qualifier().to_owned();
        move |name: &str, is_qualified: bool| {
            if is_qualified {
                format!("{qualifier}.{name}")
            } else {
                name.to_owned()
            }
        }
    };
    let column = (prop::sample::select(numbers), any::<bool>())
        .prop_map(move |(name, is)| qualified(name, is))
        .boxed();
    let not = prop::sample::select(&["", "NOT "][..]);
    let op = prop::sample::select(&CompareOp::ALL[..]).prop_map(CompareOp::sign);
    let own = prop_oneof![
        (column.clone(), op, number())
            .prop_map(|(column, op, value)| format!("{column} {op} {value}")),
        (
            column.clone(),
            not.clone(),
            prop::collection::vec(number(), 1..3)
        )
            .prop_map(|(column, not, list)| format!("{column} {not}IN ({})", list.join(", "))),
        (column.clone(), not.clone()).prop_map(|(column, not)| format!("{column} IS {not}NULL")),
        (prop::sample::select(texts), "[ab]")
            .prop_map(|(column, text)| format!("{column} = '{text}'")),
    ]
    .boxed();
    let leaf = if depth == 0 {
        own
    } else {
        let subquery = (prop::sample::select(&COLUMNS[..]), any::<bool>()).prop_flat_map(
            move |((entity, ..), has_alias)| {
                // Names of the query around must not be hidden.
                let alias = (has_alias || entity == query.entity).then(|| format!("q{depth}"));
                let inner = Query { entity, alias };
                let around = query.clone();
                let (numbers, _) = columns(entity);
                let equal = (
                    prop::sample::subsequence(numbers, 0..=numbers.len()),
                    prop::collection::vec(prop::sample::select(columns(around.entity).0), 3),
                    any::<bool>(),
                );
                let rest = prop::option::of(condition(inner.clone(), depth - 1));
                let left = prop_oneof![4 => column.clone(), 1 => number()];
                let not = prop::sample::select(&["", "NOT "][..]);
                (
                    left,
                    prop::sample::select(numbers),
                    not,
                    rest,
                    prop::option::of(equal),
                )
                    .prop_map(move |(left, selected, not, rest, equal)| {
                        let from = match &inner.alias {
                            Some(alias) => format!("{} AS {alias}", inner.entity),
                            None => inner.entity.to_owned(),
                        };
                        let Some((inner_columns, outer_columns, is_mirrored)) = equal else {
                            let rest = rest
                                .map(|rest| format!(" WHERE {rest}"))
                                .unwrap_or_default();
                            return format!("{left} {not}IN (SELECT {selected} FROM {from}{rest})");
                        };
                        let pairs = inner_columns.iter().zip(outer_columns).map(|(own, other)| {
                            let own = format!("{}.{own}", inner.qualifier());
                            let other = format!("{}.{other}", around.qualifier());
                            if is_mirrored {
                                format!("{other} = {own}")
                            } else {
                                format!("{own} = {other}")
                            }
                        });
                        let conjuncts: Vec<String> =
                            pairs.chain(rest.map(|rest| format!("({rest})"))).collect();
                        let word = if conjuncts.is_empty() { "" } else { " WHERE " };
                        format!(
                            "{not}EXISTS (SELECT 1 FROM {from}{word}{})",
                            conjuncts.join(" AND ")
                        )
                    })
            },
        );
        prop_oneof![1 => own, 2 => subquery.boxed()].boxed()
    };
    let joined = leaf.prop_recursive(2, 4, 3, |inner| {
        let several = |word: &'static str| {
            prop::collection::vec(inner.clone(), 2..3)
                .prop_map(move |parts| format!("({})", parts.join(&format!(" {word} "))))
        };
        prop_oneof![
            several("AND"),
            several("OR"),
            inner.clone().prop_map(|inner| format!("NOT ({inner})"))
        ]
    });
    joined.boxed()
}

/// Filters on the test table with subqueries on [`super::tables::TestTables`].
pub fn subquery_text() -> BoxedStrategy<String> {
    let query = Query {
        entity: "t",
        alias: None,
    };
    let is_short = |text: &String| text.matches("SELECT").count() <= SUBQUERIES_MAX;
    condition(query, 3)
        .prop_filter("too many subqueries", is_short)
        .boxed()
}

/// A few rows of an entity, as JSON.
pub fn rows(entity: &'static str) -> impl Strategy<Value = Vec<String>> {
    let (numbers, texts) = columns(entity);
    let number = prop_oneof![4 => (0..3_i64).prop_map(|n| json!(n)), 1 => Just(json!(null))];
    let text = prop_oneof![4 => "[ab]".prop_map(|text| json!(text)), 1 => Just(json!(null))];
    let row = (
        prop::collection::vec(number, numbers.len()),
        prop::collection::vec(text, texts.len()),
    );
    let row = row.prop_map(move |(of_numbers, of_texts)| {
        let names = numbers.iter().chain(texts);
        let values = of_numbers.into_iter().chain(of_texts);
        let row: BTreeMap<_, _> = names.zip(values).collect();
        json!(row).to_string()
    });
    prop::collection::vec(row, 0..4)
}
