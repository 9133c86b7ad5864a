//! PostgreSQL as the judge.

use filter::Backend;
use testkit::TestDatabase;
use value::schema::Collation;

use super::Oracle;
use super::postgres_columns::TYPES;
use super::random::{Random, cases};
use super::subject::Subject;
use super::values;
use super::writer::quote;

pub(crate) use super::postgres_columns::subjects;

/// The collation of texts that name none.
pub(crate) async fn usual_collation(db: &TestDatabase) -> Collation {
    let sql = "SELECT datcollate FROM pg_database WHERE datname = current_database()";
    let name = db.query_text(sql).await.remove(0).expect("a name");
    match name.as_str() {
        "C" | "POSIX" => Collation::Bytes,
        _ => Collation::Deterministic,
    }
}

/// The table's definition.
pub(crate) fn table(subjects: &[Subject]) -> String {
    let columns: Vec<String> = subjects
        .iter()
        .map(|subject| format!("\"{}\" {}", subject.name, subject.sql_type))
        .collect();
    format!(
        "{TYPES}; CREATE TABLE t ({}, PRIMARY KEY (k))",
        columns.join(", ")
    )
}

/// A value for a column in SQL, and as a filter may name it.
pub(crate) fn random_value(random: &mut Random, subject: &Subject) -> (String, Option<String>) {
    if subject.column.generated {
        return ("DEFAULT".to_owned(), None);
    }
    if subject.column.nullable && random.once_in(10) {
        return ("NULL".to_owned(), None);
    }
    match subject.sort {
        Some(sort) => {
            let value = values::value(random, sort);
            (quote(&value), Some(value))
        }
        None => (random.pick(subject.others).to_string(), None),
    }
}

/// Fills the table; returns the values that rows hold, for each column.
async fn fill(
    db: &TestDatabase,
    subjects: &[Subject],
    rows: usize,
    random: &mut Random,
) -> Vec<Vec<String>> {
    let mut pools = vec![Vec::new(); subjects.len()];
    let mut tuples = Vec::new();
    for row in 0..rows {
        let mut tuple = vec![row.to_string()];
        pools[0].push(row.to_string());
        for (index, subject) in subjects.iter().enumerate().skip(1) {
            let (sql, value) = random_value(random, subject);
            pools[index].extend(value);
            tuple.push(sql);
        }
        tuples.push(format!("({})", tuple.join(", ")));
    }
    db.execute(&format!(
        "SET \"TimeZone\" = 'UTC'; INSERT INTO t VALUES {}",
        tuples.join(", ")
    ))
    .await;
    for (pool, subject) in pools
        .iter_mut()
        .zip(subjects)
        .filter(|(pool, _)| pool.is_empty())
    {
        let sql = format!(
            "SELECT DISTINCT \"{0}\"::text FROM t WHERE \"{0}\" IS NOT NULL ORDER BY 1",
            subject.name
        );
        pool.extend(db.query_text(&sql).await.into_iter().flatten());
    }
    pools
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_core_and_the_server_agree() {
    let mut random = Random::new("postgresql_core_and_the_server_agree");
    let db = TestDatabase::postgres().await;
    let subjects = subjects(usual_collation(&db).await);
    db.execute(&table(&subjects)).await;
    let pools = fill(&db, &subjects, 300, &mut random).await;
    let oracle = Oracle::new(db, random, subjects, Backend::Postgres, pools).await;
    oracle.run(cases("ORACLE_FILTERS", 1600)).await;
}
