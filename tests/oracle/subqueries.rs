//! The databases as judges of subqueries: the engine's reading of a text, and what the database makes of the same text,
//! are true, false and unknown for the same rows.

use filter::testing::queries::{rows, subquery_text};
use filter::testing::tables::TestTables;
use filter::testing::test_table;
use filter::{Filter, Sets};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use testkit::both_backends;

const TEXTS: usize = 400;

both_backends! {
    async fn a_text_with_subqueries_means_what_it_means_in_the_database(db: TestDatabase) {
        let backend = match db.backend() {
            testkit::Backend::Postgres => filter::Backend::Postgres,
            testkit::Backend::Sqlite => filter::Backend::Sqlite,
        };
        let mut runner = TestRunner::deterministic();
        let entities = ["t", "members", "lists"];
        let all = entities.map(|entity| {
            let rows = prop::collection::vec(rows(entity), 4).new_tree(&mut runner);
            rows.expect("rows").current().concat()
        });
        for statement in [
            "CREATE TABLE t (row integer, id bigint, n integer, s text, t text)",
            "CREATE TABLE members (id bigint, list_id integer, user_id text, n integer)",
            "CREATE TABLE lists (id bigint, parent_id integer, owner text)",
        ] {
            db.execute(statement).await;
        }
        for (entity, rows) in entities.iter().zip(&all) {
            for (number, row) in rows.iter().enumerate() {
                let row: serde_json::Map<String, Value> = serde_json::from_str(row).expect("a row");
                let mut names: Vec<&str> = row.keys().map(String::as_str).collect();
                let mut values: Vec<String> = row.values().map(|value| value.to_string().replace('"', "'")).collect();
                if *entity == "t" {
                    names.push("row");
                    values.push(number.to_string());
                }
                db.execute(&format!("INSERT INTO {entity} ({}) VALUES ({})", names.join(", "), values.join(", "))).await;
            }
        }
        let tables = TestTables::whole(backend);
        let sets = tables.rows(&[(entities[0], &all[0]), (entities[1], &all[1]), (entities[2], &all[2])]);
        let owner = test_table(backend);
        let table = owner.table().among(&tables);
        let texts = subquery_text();
        let mut selective = 0;
        for _ in 0..TEXTS {
            let text = texts.new_tree(&mut runner).expect("a text").current();
            let filter = Filter::new(&text, &[], table).unwrap_or_else(|error| panic!("{text}: {error}"));
            let known: &dyn Sets = &sets;
            let ours: Vec<&str> = sets.rows("t").iter().map(|row| match filter.matches(row, known) {
                Some(true) => "1",
                Some(false) => "0",
                None => "u",
            }).collect();
            let question = format!(
                "SELECT CASE WHEN {text} THEN '1' WHEN NOT ({text}) THEN '0' ELSE 'u' END FROM t ORDER BY t.row"
            );
            let theirs: Vec<String> = db.query_text(&question).await.into_iter().flatten().collect();
            assert_eq!(theirs, ours, "{text}");
            selective += usize::from(ours.contains(&"1") && ours.iter().any(|truth| *truth != "1"));
        }
        assert!(selective > TEXTS / 10, "too little is tested: {selective}");
    }
}
