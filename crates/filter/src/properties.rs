//! Properties of any filter and any row.

use proptest::prelude::*;

use super::testing::{TestTable, arbitrary, raw, test_table};
use super::*;

fn whole_row(table: &TestTable, json: &str) -> RowValues {
    let columns = 0..table.schema.columns.len();
    RowReader::new(table.table(), columns)
        .read(&raw(json))
        .expect("a row")
}

fn checked(text: &str, table: Table<'_>) -> Option<Condition> {
    check::check(&parse::parse(text).ok()?, &[], &BTreeMap::new(), table).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_filter_or_a_short_error(
        text in prop_oneof![arbitrary::token_soup(), any::<String>(), arbitrary::filter_text()],
        row in arbitrary::row_json(),
        sqlite in any::<bool>(),
    ) {
        let table = test_table(if sqlite { Backend::Sqlite } else { Backend::Postgres });
        match Filter::new(&text, &[raw("\"a\""), raw("1")], table.table()) {
            Ok(filter) => {
                filter.matches(&whole_row(&table, &row), &NoSets);
                filter.access(|_| 0);
            }
            Err(error) => {
                prop_assert!(error.message.chars().count() < 400, "{}", error);
                prop_assert!(error.position.is_none_or(|at| at <= text.chars().count() + 1));
            }
        }
    }

    #[test]
    fn the_one_form_is_true_for_the_same_rows(
        text in arbitrary::filter_text(),
        rows in prop::collection::vec(arbitrary::row_json(), 8),
        sqlite in any::<bool>(),
    ) {
        let table = test_table(if sqlite { Backend::Sqlite } else { Backend::Postgres });
        let Some(written) = checked(&text, table.table()) else { return Ok(()) };
        let one_form = canonical::canonical(written.clone());
        for row in rows {
            let row = whole_row(&table, &row);
            prop_assert_eq!(eval::truth(&one_form, &row, &NoSets), eval::truth(&written, &row, &NoSets), "{}", text);
        }
        prop_assert_eq!(canonical::canonical(one_form.clone()), one_form, "{}", text);
    }

    #[test]
    fn the_text_of_the_one_form_is_the_same_filter(text in arbitrary::filter_text()) {
        let table = test_table(Backend::Postgres);
        let Ok(filter) = Filter::new(&text, &[], table.table()) else { return Ok(()) };
        let again = Filter::new(&filter.text(table.table()), &[], table.table());
        prop_assert_eq!(again, Ok(filter));
    }

    #[test]
    fn a_matching_row_holds_an_access_key(
        text in arbitrary::filter_text(),
        rows in prop::collection::vec(arbitrary::row_json(), 8),
        loads in prop::collection::vec(0..3_usize, 16),
        sqlite in any::<bool>(),
    ) {
        let table = test_table(if sqlite { Backend::Sqlite } else { Backend::Postgres });
        let Ok(filter) = Filter::new(&text, &[], table.table()) else { return Ok(()) };
        let Access::Keys { keys, .. } = filter.access(|(column, _)| loads[column % loads.len()]) else {
            return Ok(());
        };
        for row in rows {
            let row = whole_row(&table, &row);
            if filter.matches(&row, &NoSets) == Some(true) {
                let held = |(column, value): &AccessKey| row.scalar(*column) == Some(value);
                prop_assert!(keys.iter().any(held), "{} {:?}", text, row);
            }
        }
    }

    /// A policy whose claims are all missing is as the same text with NULL in their places: what PostgreSQL would say
    /// of it. And no row is visible by a claim that is missing, however it is negated.
    #[test]
    fn a_policy_without_claims_is_the_filter_with_nulls(
        (policy, filter) in arbitrary::policy_text(),
        rows in prop::collection::vec(arbitrary::row_json(), 8),
        sqlite in any::<bool>(),
    ) {
        let table = test_table(if sqlite { Backend::Sqlite } else { Backend::Postgres });
        let Ok(with_nulls) = Filter::new(&filter, &[], table.table()) else { return Ok(()) };
        let policy = Policy::new(&policy).expect("a policy");
        prop_assert!(policy.check(table.table()).is_ok());
        let bound = policy.bind(|_| Claim::Null).filter(table.table()).expect("a filter");
        for row in rows {
            let row = whole_row(&table, &row);
            prop_assert_eq!(bound.matches(&row, &NoSets), with_nulls.matches(&row, &NoSets), "{}", filter);
        }
    }

    /// A policy that passes the check can be bound to any claims, and is never a panic.
    #[test]
    fn any_claims_can_be_bound(
        (policy, _) in arbitrary::policy_text(),
        claim in arbitrary::claim(),
        row in arbitrary::row_json(),
        sqlite in any::<bool>(),
    ) {
        let table = test_table(if sqlite { Backend::Sqlite } else { Backend::Postgres });
        let policy = Policy::new(&policy).expect("a policy");
        if policy.check(table.table()).is_ok() {
            let bound = policy.bind(|_| Claim::from(&claim)).filter(table.table()).expect("a filter");
            bound.matches(&whole_row(&table, &row), &NoSets);
        }
    }

    #[test]
    fn any_text_is_a_policy_or_a_short_error(
        text in prop_oneof![arbitrary::token_soup(), any::<String>(), ".{0,9}auth[.\"a]{0,6}.{0,9}"],
    ) {
        if let Err(error) = Policy::new(&text) {
            prop_assert!(error.message.chars().count() < 400, "{}", error);
        }
    }

    #[test]
    fn a_concealed_column_decides_nothing_in_rows_where_it_may_not_be_read(
        text in arbitrary::filter_text(),
        readable in arbitrary::filter_text(),
        one in arbitrary::row_json(),
        other in arbitrary::row_json(),
        column in any::<prop::sample::Index>(),
    ) {
        let table = test_table(Backend::Postgres);
        let read = |text: &str| Filter::new(text, &[], table.table());
        let (Ok(filter), Ok(readable)) = (read(&text), read(&readable)) else { return Ok(()) };
        let columns: Vec<usize> = filter.columns().collect();
        if columns.is_empty() || readable.columns().any(|named| columns.contains(&named)) {
            return Ok(());
        }
        let column = *column.get(&columns);
        let concealing = BTreeMap::from([(column, readable.clone())]);
        let Ok(concealed) = filter.clone().concealing(&concealing) else { return Ok(()) };
        let row = whole_row(&table, &one);
        let mut changed = row.clone();
        changed.set(column, whole_row(&table, &other).cell(column).clone());
        let holds = |filter: &Filter, row: &RowValues| filter.matches(row, &NoSets) == Some(true);
        if holds(&readable, &row) {
            prop_assert_eq!(holds(&concealed, &row), holds(&filter, &row), "{}", text);
        } else {
            prop_assert_eq!(holds(&concealed, &row), holds(&concealed, &changed), "{}", text);
        }
    }
}
