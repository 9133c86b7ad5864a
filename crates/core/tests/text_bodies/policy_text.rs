//! Any text as a policy, with claims and a row.

use std::collections::BTreeMap;

use filter::{
    Backend, Claim, ClaimPath, FILTER_BYTES_MAX, Filter, NoSets, Policy, RowReader, Table,
};
use serde_json::Value;
use serde_json::value::RawValue;

use super::filter_text::{OneTable, schema};

/// Comparisons of a bound policy: each operand costs a few, however many members a list in the claims has, because lists
/// are sorted.
const WORK_MAX: usize = 64 * 1024;

/// Reads a text as a policy of a table with a column of each kind, and binds it to claims. The second line holds the
/// claims as a JSON object, the third the row. Returns whether it is a policy of that table.
///
/// Whatever the claims are, it can be bound or is too large, and costs no more than a bound. And what is true for somebody
/// without any claims is true for everybody: a claim that is missing lets nobody in.
pub(crate) fn policy_text(text: &str) -> bool {
    let mut lines = text.splitn(3, '\n');
    let text = lines.next().unwrap_or_default();
    let json = |line: Option<&str>| line.and_then(|line| serde_json::from_str(line).ok());
    let claims: BTreeMap<String, Value> = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_default();
    let row: Box<RawValue> = json(lines.next()).unwrap_or_else(|| RawValue::NULL.to_owned());
    let policy = match Policy::new(text) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(error.message.chars().count() < 400, "{error}");
            return false;
        }
    };
    // It asks by itself whether a claim is missing, or whether another row lacks what would be true with it.
    let asks_for_null = text.to_ascii_lowercase().contains("is");
    let schema = schema();
    let mut is_policy = false;
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let others = OneTable(schema.clone(), backend);
        let table = Table::new(&schema, backend).among(&others);
        if policy.check(table).is_err() {
            continue;
        }
        is_policy = true;
        let of_nobody = policy.bind(|_| Claim::Null).filter(table);
        let of_nobody = of_nobody.expect("a policy that has passed the check");
        let Ok(bound) = policy.bind(|path| claim(&claims, path)).filter(table) else {
            continue;
        };
        for filter in [&of_nobody, &bound] {
            assert!(filter.bytes() <= FILTER_BYTES_MAX && filter.work().base() <= WORK_MAX);
        }
        let matches = |filter: &Filter| {
            let row = RowReader::new(table, filter.columns()).read(&row).ok()?;
            filter.matches(&row, &NoSets)
        };
        assert!(
            asks_for_null
                || policy.has_subqueries()
                || matches(&of_nobody) != Some(true)
                || matches(&bound) == Some(true),
            "{text} of {claims:?} in {row}"
        );
        if !policy.names_columns() && !policy.has_subqueries() {
            policy.bind(|_| Claim::Null).holds().expect("no column");
        }
    }
    is_policy
}

fn claim(claims: &BTreeMap<String, Value>, path: &ClaimPath) -> Claim {
    let mut names = path.names().iter();
    let first = names.next().and_then(|name| claims.get(name));
    let found = first.and_then(|first| names.try_fold(first, |at, name| at.get(name)));
    found.map_or(Claim::Null, Claim::from)
}
