//! Conditions on sets: the database and Rust give the same answer.

use diesel::RunQueryDsl as _;
use diesel::sql_types::Text;
use filter::testing::sets::{Dice, RowSets, SetTable, random_filter};
use filter::{Backend, Filter};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::value::RawValue;

use super::Synced;
use crate::sqlite::filter::Predicates;
use crate::sqlite::statement::Statement;

const TABLES: &str = "\
CREATE TABLE a (id INTEGER PRIMARY KEY, x INTEGER, y TEXT);
CREATE TABLE b (id INTEGER PRIMARY KEY, x INTEGER, y TEXT, z INTEGER);
INSERT INTO a VALUES (0, 0, 'a'), (1, 1, NULL), (2, NULL, 'b'), (3, 3, ''), (4, 'x', x'61'), (5, 1.5, 'a');
INSERT INTO b VALUES (0, 0, 'a', 1), (1, 1, 'b', 0), (2, 2, NULL, 1), (3, 'x', x'61', NULL);";

/// The rows of a table, as reads return them.
async fn rows(synced: &mut Synced, name: &str) -> Vec<Box<RawValue>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        row: String,
    }
    let entity = synced.entities[name].clone();
    let crate::entity::RowsSql::Table { row, from, .. } = &entity.rows else {
        panic!("a table")
    };
    let sql = format!("SELECT {row} AS row FROM {from} ORDER BY id");
    let rows = synced
        .conn
        .spawn_blocking(move |conn| diesel::sql_query(sql).load::<Row>(conn))
        .await
        .expect("rows");
    let raw = |row: Row| RawValue::from_string(row.row).expect("JSON");
    rows.into_iter().map(raw).collect()
}

/// The ids of the rows of the entity for which the database says that the filter is true.
async fn matching(synced: &mut Synced, name: &str, filter: &Filter) -> Vec<String> {
    #[derive(diesel::QueryableByName)]
    struct Id {
        #[diesel(sql_type = Text)]
        id: String,
    }
    let entity = synced.entities[name].clone();
    let relation = entity.relation.clone().expect("a table");
    let statement = Statement::new(format!(
        "SELECT CAST(t.id AS TEXT) AS id FROM {relation} t WHERE "
    ));
    let predicates = Predicates::new(&entity, &synced.entities);
    let statement = predicates
        .write(statement, filter.condition())
        .sql(" ORDER BY t.id");
    let text = statement.text();
    let ids = synced
        .conn
        .spawn_blocking(move |conn| statement.load::<Id>(conn))
        .await;
    let ids = ids.unwrap_or_else(|error| panic!("{error}: {text}"));
    ids.into_iter().map(|id| id.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_sets_is_true_for_the_same_rows_in_the_database() {
    let mut synced = Synced::new(TABLES, "a").await;
    let mut tables = Vec::new();
    let mut sets = RowSets::default();
    for name in ["a", "b"] {
        let entity = synced.install(name, name).await;
        let table = SetTable {
            schema: entity.schema.clone(),
            fingerprint: entity.fingerprint.as_str().into(),
            backend: Backend::Sqlite,
        };
        let rows = rows(&mut synced, name).await;
        sets.add(&table, rows.iter().map(|row| &**row));
        tables.push(table);
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut selective = 0;
    for _ in 0..1500 {
        let rolls = prop::collection::vec(any::<usize>(), 60).new_tree(&mut runner);
        let rolls = rolls.expect("rolls").current();
        let mut next = 0;
        let dice: Dice<'_> = &mut |sides| {
            next += 1;
            rolls[next % rolls.len()] % sides
        };
        let filter = random_filter(&tables, 0, 3, dice);
        let found = matching(&mut synced, "a", &filter).await;
        let rows = sets.rows("a").iter().enumerate();
        let expected = rows.filter(|(_, row)| filter.matches(row, &sets) == Some(true));
        let expected: Vec<String> = expected.map(|(id, _)| id.to_string()).collect();
        assert_eq!(found, expected, "{filter:#?}");
        let is_selective = !found.is_empty() && found.len() < sets.rows("a").len();
        selective += usize::from(is_selective && filter.sets().len() > 0);
    }
    assert!(selective > 200, "too little is tested: {selective}");
}
