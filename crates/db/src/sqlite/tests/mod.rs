//! Tests of capture, reads and writes together, on real files.

mod capture;
mod fields;
mod fields_oracle;
mod keys;
mod replace;
mod rows;
mod schema_change;
mod sets;
mod upkeep;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{Nullable, Text};
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use merge::Rules;
use protocol::Change;
use serde_json::Value;
use sync_core::cursor::Position;
use sync_core::effect::Effect;
use sync_core::log::NetChange;
use sync_core::shape::Shape;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::changes::{self, Changes};
use super::connect::{self, SqliteConn};
use super::{capture as captures, install, read, store};
use crate::entity::{Entity, EntityConfig};
use crate::migrations;
use crate::read::sql::{Reading, changes_sql};
use crate::read::{ChangesQuery, OldValueColumns, Part, RowsQuery};

/// A database with the engine's connection and another program's, and a copy of one entity that is kept up to
/// date from the log alone.
struct Synced {
    directory: TempDir,
    conn: SqliteConn,
    other: SqliteConnection,
    entities: BTreeMap<String, Arc<Entity>>,
    position: Position,
    copy: BTreeMap<String, Value>,
}

#[derive(QueryableByName, Debug, PartialEq)]
struct Entry {
    #[diesel(sql_type = Nullable<Text>)]
    key: Option<String>,
    #[diesel(sql_type = Text)]
    action: String,
    #[diesel(sql_type = Nullable<Text>)]
    old: Option<String>,
}

impl Synced {
    /// Creates a database with these tables and captures `table` as the entity `e`.
    async fn new(tables: &str, table: &str) -> Self {
        Self::of(tables, EntityConfig::on_table("e", table)).await
    }

    /// The same with an entity whose rows merge by their fields.
    async fn with_fields(tables: &str, table: &str, rules: Rules) -> Self {
        Self::of(tables, EntityConfig::on_table("e", table).fields(rules)).await
    }

    async fn of(tables: &str, config: EntityConfig) -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("test.db");
        let path = path.to_str().expect("UTF-8");
        let mut engine = connect::establish(path, Duration::from_secs(5)).expect("a connection");
        migrations::run_sqlite(&mut engine).expect("the migrations");
        let mut other = SqliteConnection::establish(path).expect("a connection");
        other
            .batch_execute("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON")
            .expect("settings");
        other.batch_execute(tables).expect("the tables");
        let mut synced = Self {
            directory,
            conn: SqliteConn::new(engine),
            other,
            entities: BTreeMap::new(),
            position: Position::log_id(0),
            copy: BTreeMap::new(),
        };
        synced.install_as(config).await;
        synced.refetch().await;
        synced
    }

    fn path(&self) -> String {
        self.directory
            .path()
            .join("test.db")
            .to_str()
            .expect("UTF-8")
            .to_owned()
    }

    async fn install(&mut self, name: &str, table: &str) -> Arc<Entity> {
        self.install_as(EntityConfig::on_table(name, table)).await
    }

    async fn install_as(&mut self, config: EntityConfig) -> Arc<Entity> {
        let described = install::install(&mut self.conn, &config, captures::GENERATION)
            .await
            .expect("no error");
        let described = described.expect("a suitable table").expect("a table");
        let entity = Arc::new(described.entity);
        self.entities.insert(config.name.clone(), entity.clone());
        entity
    }

    /// Runs `sql` as another program.
    fn run(&mut self, sql: &str) {
        self.other
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Runs `sql` as another program and returns the error.
    fn fails(&mut self, sql: &str) -> String {
        self.other.batch_execute(sql).expect_err(sql).to_string()
    }

    /// Runs a query as another program; its column must be called `text`.
    fn ask(&mut self, sql: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            text: String,
        }
        let rows: Vec<Row> = sql_query(sql)
            .load(&mut self.other)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.text).collect()
    }

    fn newest_id(&mut self) -> i64 {
        store::newest(&mut self.other).expect("an id")
    }

    /// The entries of the log after this id.
    fn log(&mut self, after: i64) -> Vec<Entry> {
        let sql = format!(
            "SELECT entity_id AS key, action, old FROM _rhtmx_sync_log WHERE id > {after} ORDER \
             BY id"
        );
        sql_query(sql).load(&mut self.other).expect("the log")
    }

    /// Runs `sql` as another program and returns the entries that it adds to the log.
    fn entries(&mut self, sql: &str) -> Vec<Entry> {
        let before = self.newest_id();
        self.run(sql);
        self.log(before)
    }

    async fn changes(&mut self, from: &Position) -> (Position, Vec<NetChange>) {
        self.changes_with(from, OldValueColumns::new()).await
    }

    async fn changes_with(
        &mut self,
        from: &Position,
        old_value_columns: OldValueColumns,
    ) -> (Position, Vec<NetChange>) {
        let (sender, mut parts) = mpsc::channel(1000);
        let query = ChangesQuery {
            from: from.clone(),
            old_value_columns,
            metadata: BTreeSet::new(),
            checked: false,
            entries_max: None,
            entities: None,
            inquiry: None,
            at_drain: None,
        };
        let read = Changes::new(&self.entities, &Arc::default(), query, &sender);
        changes::read_changes(&mut self.conn, read.expect("a position of SQLite"))
            .await
            .expect("a read");
        drop(sender);
        let (mut position, mut entries) = (None, Vec::new());
        while let Some(part) = parts.recv().await {
            match part {
                Part::Start(start) => position = Some(start.position),
                Part::Items(more) => entries.extend(more),
                Part::Outdated(_) => panic!("the fingerprints are not checked"),
                Part::Refused(_) => panic!("the size is not checked"),
                Part::Last => panic!("nothing is asked behind it"),
            }
        }
        (position.expect("a start"), entries)
    }

    async fn rows(&mut self) -> (Position, BTreeMap<String, Value>) {
        let (sender, mut parts) = mpsc::channel(1000);
        let entity = self.entities["e"].clone();
        let query = RowsQuery::all(Shape::whole("e"), Arc::default());
        let read = read::Rows::new(&entity, &Arc::default(), &query, &sender);
        read::read_rows(&mut self.conn, read.expect("a table"))
            .await
            .expect("a read");
        drop(sender);
        let (mut position, mut rows) = (None, BTreeMap::new());
        while let Some(part) = parts.recv().await {
            match part {
                Part::Start(start) => position = Some(start.position),
                Part::Items(more) => {
                    for row in more {
                        let value = serde_json::from_str(row.row.get()).expect("JSON");
                        assert!(
                            rows.insert(row.key.clone(), value).is_none(),
                            "{} twice",
                            row.key
                        );
                    }
                }
                Part::Outdated(_) => panic!("the fingerprints are not checked"),
                Part::Refused(_) => panic!("the size is not checked"),
                Part::Last => panic!("nothing is asked behind it"),
            }
        }
        (position.expect("a start"), rows)
    }

    /// Whether the plan of a read of changes finds a row through its key's index.
    async fn finds_rows_by_index(&mut self) -> bool {
        #[derive(QueryableByName)]
        struct Step {
            #[diesel(sql_type = Text)]
            detail: String,
        }
        let row = self.entities["e"].row_by_key.clone();
        let reading = Reading {
            rows: BTreeMap::from([("e".to_owned(), row)]),
            ..Reading::default()
        };
        let sql = format!(
            "EXPLAIN QUERY PLAN {}",
            changes_sql(&read::DIALECT, &reading)
        );
        let plan = self
            .conn
            .spawn_blocking(move |conn| sql_query(sql).load::<Step>(conn))
            .await;
        let mut steps = plan.expect("a plan").into_iter().map(|step| step.detail);
        steps.any(|step| step.starts_with("SEARCH t USING"))
    }

    async fn refetch(&mut self) {
        (self.position, self.copy) = self.rows().await;
    }

    /// Brings the copy up to date from the log alone, and compares it with the table.
    async fn follow(&mut self) {
        let from = self.position.clone();
        let (position, entries) = self.changes(&from).await;
        if position == Position::log_id(-1) {
            // A statement that failed halfway may leave an entry whose id is given out again.
            return self.refetch().await;
        }
        for entry in entries.into_iter().filter(|entry| entry.entity == "e") {
            match entry.effect() {
                Effect::Change {
                    transient: true, ..
                }
                | Effect::Nothing => {}
                Effect::Change { change, .. } => match change {
                    Change::Put { key, row, .. } => {
                        self.copy
                            .insert(key, serde_json::from_str(row.get()).expect("JSON"));
                    }
                    Change::Delete { key, .. } | Change::Leave { key, .. } => {
                        self.copy.remove(&key);
                    }
                    Change::Patch { .. } => panic!("no metadata is sent"),
                    Change::Truncate => self.copy.clear(),
                },
                Effect::SchemaChanged | Effect::Unclear => self.copy = self.rows().await.1,
            }
        }
        self.position = position;
        let (_, rows) = self.rows().await;
        assert_eq!(self.copy, rows);
    }

    /// Runs statements as another program, and follows after each.
    async fn follow_each(&mut self, statements: &[&str]) {
        for sql in statements {
            self.run(sql);
            self.follow().await;
        }
    }

    /// The only row's value of a column.
    async fn only(&mut self, column: &str) -> Value {
        let (_, rows) = self.rows().await;
        assert_eq!(rows.len(), 1);
        rows.into_values().next().expect("a row")[column].clone()
    }
}

fn entry(key: &str, action: &str, old: Option<&str>) -> Entry {
    Entry {
        key: Some(key.to_owned()),
        action: action.to_owned(),
        old: old.map(str::to_owned),
    }
}
