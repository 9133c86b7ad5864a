//! Arbitrary filters and rows for the test table.

use proptest::prelude::*;
use serde_json::json;

use crate::syntax::CompareOp;
#[cfg(test)]
use crate::syntax::{Expr, Name, Operand, Subquery, Term};

/// Columns of the test table, each with literals and with the JSON of some values.
const COLUMNS: [(&str, &[&str], &[&str]); 14] = [
    (
        "id",
        &["1", "9007199254740993", "-0"],
        &["1", "\"9007199254740993\"", "0"],
    ),
    ("n", &["1", "2", "3.0"], &["1", "2", "3"]),
    (
        "t",
        &["'a'", "'b'", "'a%'", "'é'", "'a_'"],
        &["\"a\"", "\"b\"", "\"ab\"", "\"é\""],
    ),
    ("b", &["TRUE", "FALSE"], &["true", "false"]),
    (
        "f4",
        &["0.1", "1", "'NaN'"],
        &["0.1", "1", "\"NaN\"", "3.4028235e+38"],
    ),
    (
        "f8",
        &["0.1", "1e300", "'-Infinity'"],
        &["0.1", "1e+300", "\"-Infinity\"", "\"NaN\""],
    ),
    (
        "num",
        &["0.1", "12e3", "'NaN'"],
        &["0.1", "12000", "\"NaN\"", "\"0.10000000000000000001\""],
    ),
    ("s", &["'a'", "''"], &["\"a\"", "\"\""]),
    (
        "u",
        &["'67e55044-10b1-426f-9247-bb680e5fe0c8'"],
        &["\"67e55044-10b1-426f-9247-bb680e5fe0c8\""],
    ),
    (
        "d",
        &["'2026-11-20'", "'0001-01-01'"],
        &["\"2026-11-20\"", "\"infinity\"", "\"0044-03-15 BC\""],
    ),
    (
        "ts",
        &["'2026-11-20'"],
        &["\"2026-11-20T00:00:00\"", "\"-infinity\""],
    ),
    (
        "tz",
        &["'2026-11-20T07:00Z'"],
        &["\"2026-11-20T07:00:00+00:00\"", "\"infinity\""],
    ),
    (
        "e",
        &["'low'", "'mid'", "'high'"],
        &["\"low\"", "\"mid\"", "\"high\""],
    ),
    ("\"Mixed Case\"", &["'a'"], &["\"a\""]),
];

/// Filters, most of which fit the test table.
pub fn filter_text() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(&COLUMNS[..]).prop_flat_map(|(name, literals, _)| {
        let fitting = prop::sample::select(literals).prop_map(str::to_owned);
        let literal = prop_oneof![9 => fitting.boxed(), 1 => Just("NULL".to_owned()).boxed()];
        let list = prop::collection::vec(literal.clone(), 1..4).prop_map(|list| list.join(", "));
        let not = prop::sample::select(&["", "NOT "][..]);
        prop_oneof![
            8 => (op(), literal.clone(), any::<bool>()).prop_map(move |(op, literal, mirrored)| {
                let (left, right) = if mirrored { (literal.as_str(), name) } else { (name, literal.as_str()) };
                format!("{left} {} {right}", op.sign())
            }),
            2 => (not.clone(), list).prop_map(move |(not, list)| format!("{name} {not}IN ({list})")),
            2 => (not.clone(), literal.clone(), literal.clone())
                .prop_map(move |(not, low, high)| format!("{name} {not}BETWEEN {low} AND {high}")),
            1 => not.clone().prop_map(move |not| format!("{name} IS {not}NULL")),
            1 => (not, "[ab%_é]{0,4}").prop_map(|(not, pattern)| format!("t {not}LIKE '{pattern}'")),
        ]
    });
    let constant =
        prop::sample::select(&["TRUE", "FALSE", "NULL", "b"][..]).prop_map(str::to_owned);
    prop_oneof![8 => atom.boxed(), 1 => constant.boxed()].prop_recursive(5, 24, 4, |inner| {
        let several = |word: &'static str| {
            prop::collection::vec(inner.clone(), 2..4)
                .prop_map(move |parts| format!("({})", parts.join(&format!(" {word} "))))
        };
        prop_oneof![
            several("AND"),
            several("OR"),
            inner.clone().prop_map(|inner| format!("NOT {inner}")),
        ]
    })
}

/// Policies, each with the filter that says the same for somebody without claims: with NULL for each of them.
pub fn policy_text() -> impl Strategy<Value = (String, String)> {
    filter_text().prop_flat_map(|text| {
        let literals = text.matches(CLAIMABLE).count();
        let chosen = prop::collection::vec(any::<bool>(), literals);
        chosen.prop_map(move |chosen| {
            let mut chosen = chosen.into_iter();
            let (mut policy, mut filter, mut rest) = (String::new(), String::new(), &text[..]);
            while let Some(at) = rest.find(CLAIMABLE) {
                let (before, after) = rest.split_at(at);
                // A pattern cannot be a claim.
                let is_claim = chosen.next().unwrap_or_default() && !before.ends_with("LIKE ");
                policy += before;
                filter += before;
                policy += if is_claim { "auth.sub" } else { CLAIMABLE };
                filter += if is_claim { "NULL" } else { CLAIMABLE };
                rest = &after[CLAIMABLE.len()..];
            }
            (policy + rest, filter + rest)
        })
    })
}

/// The literal in whose place a policy may have a claim.
const CLAIMABLE: &str = "'a'";

/// Claims of any kind.
pub fn claim() -> impl Strategy<Value = serde_json::Value> {
    let single = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<f64>().prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
        prop::sample::select(&["a", "1", "0.1", "low", "2026-11-20"][..])
            .prop_map(|text| json!(text)),
        Just(json!({ "a": 1 })),
    ];
    let list = prop::collection::vec(single.clone(), 0..4).prop_map(|list| json!(list));
    prop_oneof![3 => single, 1 => list]
}

/// Rows as JSON. Most values are of their column's kind and occur in filters.
pub fn row_json() -> impl Strategy<Value = String> {
    let members = COLUMNS.iter().map(|(name, _, values)| {
        let name = name.trim_matches('"');
        let value = prop_oneof![
            8 => prop::sample::select(*values).prop_map(str::to_owned),
            2 => Just("null".to_owned()),
            1 => json_text(),
        ];
        value.prop_map(move |value| format!("\"{name}\":{value}"))
    });
    members
        .collect::<Vec<_>>()
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn json_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|value| json!(value).to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<String>().prop_map(|value| json!(value).to_string()),
        Just("[{\"a\":1e999}]".to_owned()),
        Just("1e99999999999".to_owned()),
    ]
}

/// Texts made of the tokens of filters; few of them are filters.
#[cfg(test)]
pub(crate) fn token_soup() -> impl Strategy<Value = String> {
    const WORDS: [&str; 34] = [
        "n",
        "t",
        "\"Mixed Case\"",
        "b",
        "1",
        "-1.5e3",
        "'a'",
        "'%a_\\'",
        "$1",
        "$2",
        "=",
        "<>",
        "!=",
        "<",
        ">=",
        "(",
        ")",
        ",",
        "AND",
        "or",
        "NOT",
        "IN",
        "BETWEEN",
        "LIKE",
        "IS",
        "NULL",
        "TRUE",
        "-",
        ";",
        "/*",
        "--",
        "'",
        "\"",
        "\u{1F600}",
    ];
    let word = prop_oneof![
        12 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let space = prop::sample::select(&[" ", "", "\n"][..]);
    prop::collection::vec((word, space), 0..24).prop_map(|words| {
        words
            .into_iter()
            .map(|(word, space)| word + space)
            .collect()
    })
}

fn op() -> impl Strategy<Value = CompareOp> {
    prop::sample::select(&CompareOp::ALL[..])
}

/// Any expression that can be written, whether or not it makes sense. It may have too many subqueries.
#[cfg(test)]
pub(crate) fn expr() -> impl Strategy<Value = Expr> {
    let values = || prop::collection::vec(operand(), 1..4);
    let leaf = prop_oneof![
        operand().prop_map(Expr::Operand),
        (operand(), op(), operand()).prop_map(|(left, op, right)| Expr::Compare {
            left,
            op,
            right
        }),
        (operand(), values(), any::<bool>()).prop_map(|(operand, values, negated)| Expr::In {
            operand,
            values,
            negated
        }),
        (operand(), operand(), operand(), any::<bool>()).prop_map(
            |(operand, low, high, negated)| Expr::Between {
                operand,
                low,
                high,
                negated
            }
        ),
        (operand(), any::<bool>()).prop_map(|(operand, negated)| Expr::IsNull { operand, negated }),
        (operand(), operand(), any::<bool>()).prop_map(|(operand, pattern, negated)| Expr::Like {
            operand,
            pattern,
            negated
        }),
    ];
    leaf.boxed().prop_recursive(3, 32, 4, |inner| {
        let several = || prop::collection::vec(inner.clone(), 2..4);
        let subquery = || subquery(inner.clone()).prop_map(Box::new).boxed();
        let within = (operand(), subquery(), any::<bool>());
        prop_oneof![
            2 => inner.clone().prop_map(|inner| Expr::Not(Box::new(inner))),
            2 => several().prop_map(Expr::And),
            2 => several().prop_map(Expr::Or),
            1 => subquery().prop_map(Expr::Exists),
            1 => within.prop_map(|(operand, subquery, negated)| Expr::InSubquery {
                operand,
                subquery,
                negated,
            }),
        ]
    })
}

#[cfg(test)]
fn name() -> impl Strategy<Value = Name> {
    let name = prop_oneof![
        "[a-z_é][a-z0-9_]{0,3}x".prop_map(|text| (text, false)),
        "[^\0]{1,6}".prop_map(|text| (text, true)),
    ];
    name.prop_map(|(text, quoted)| Name { text, quoted })
}

#[cfg(test)]
fn subquery(condition: impl Strategy<Value = Expr>) -> impl Strategy<Value = Subquery> {
    let parts = (
        prop::option::of(operand()),
        name(),
        prop::option::of(name()),
        prop::option::of(condition),
    );
    parts.prop_map(|(selected, entity, alias, condition)| Subquery {
        selected,
        entity,
        alias,
        condition,
        at: 0,
        entity_at: 0,
    })
}

#[cfg(test)]
fn operand() -> impl Strategy<Value = Operand> {
    let term = prop_oneof![
        (prop::option::of(name()), name()).prop_map(|(table, name)| Term::Column { table, name }),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?(e[-+]?[0-9]{1,3})?".prop_map(Term::Number),
        any::<String>().prop_map(Term::Text),
        any::<bool>().prop_map(Term::Bool),
        Just(Term::Null),
        (1_usize..100).prop_map(Term::Param),
    ];
    term.prop_map(|term| Operand { term, at: 0 })
}
