//! The largest filters that are accepted, and rows with extreme values in other columns.

use super::{raw, test_table};
use crate::testing::sets::RowSets;
use crate::testing::tables::TestTables;
use crate::{Backend, Filter, NESTING_MAX, NoSets, OPERANDS_MAX, RowReader, SUBQUERIES_NESTED_MAX};

/// Does everything that can be done with a filter, on half the stack that tokio gives a thread.
fn use_on_little_stack(text: String, backend: Backend) {
    let use_filter = move || {
        let owner = test_table(backend);
        let tables = TestTables::whole(backend);
        let table = owner.table().among(&tables);
        let filter = Filter::new(&text, &[], table).expect("a filter");
        let row = RowReader::new(table, filter.columns()).read(&raw(r#"{"n":1}"#));
        let rows = RowSets::default();
        assert!(filter.matches(&row.expect("a row"), &rows).is_some());
        assert_eq!(
            Filter::new(&filter.text(table), &[], table),
            Ok(filter.clone())
        );
        filter.access(|_| 0);
    };
    let thread = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(use_filter);
    thread.expect("a thread").join().expect("enough stack");
}

#[test]
fn the_largest_filters_need_little_stack() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let half = NESTING_MAX / 2;
        use_on_little_stack(
            format!("{}n = 1{}", "NOT (".repeat(half), ")".repeat(half)),
            backend,
        );
        let open = "n = 1 AND (n = 2 OR (".repeat(half);
        use_on_little_stack(format!("{open}n = 3{}", "))".repeat(half)), backend);
        let each = (NESTING_MAX - SUBQUERIES_NESTED_MAX) / SUBQUERIES_NESTED_MAX / 2;
        let open = format!(
            "{}n IN (SELECT n FROM t WHERE ",
            "n = 1 AND (n = 2 OR (".repeat(each)
        );
        let close = format!("){}", "))".repeat(each));
        let levels = SUBQUERIES_NESTED_MAX;
        let text = format!("{}n = 3{}", open.repeat(levels), close.repeat(levels));
        use_on_little_stack(text, backend);
        let different: Vec<String> = (0..OPERANDS_MAX / 2).map(|n| format!("n>{n}")).collect();
        use_on_little_stack(different.join(" OR "), backend);
        let listed: Vec<String> = (1..OPERANDS_MAX).map(|n| n.to_string()).collect();
        use_on_little_stack(format!("n NOT IN ({})", listed.join(",")), backend);
    }
}

#[test]
fn a_row_is_read_whatever_its_other_columns_hold() {
    let table = test_table(Backend::Postgres);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let row = raw(&format!(r#"{{"j":{deep},"n":7,"n2":1e99999}}"#));
    let row = RowReader::new(table.table(), [1, 13])
        .read(&row)
        .expect("a row");
    let filter = Filter::new("n = 7", &[], table.table()).expect("a filter");
    assert_eq!(filter.matches(&row, &NoSets), Some(true));
}
