//! A client that watches tables, and the comparison of its copy with them.

use std::collections::BTreeMap;

use rhtmx_sync::EntityConfig;
use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use sync_core::key;
use testkit::{Backend, SyncClient, TestDatabase};

use super::log::{self, Entry};

/// A client's copy of one entity, by key.
pub(crate) type Rows = BTreeMap<String, Value>;

/// An entity, and the name of its table in SQL.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    config: EntityConfig,
    sql: String,
}

impl Table {
    /// An entity on a table that `EntityConfig` and SQL name differently.
    pub(crate) fn new(config: EntityConfig, sql: &str) -> Self {
        Self {
            config,
            sql: sql.to_owned(),
        }
    }
}

impl From<&str> for Table {
    /// A table that needs no quotes.
    fn from(name: &str) -> Self {
        Self::new(EntityConfig::new(name), name)
    }
}

/// A server on a database, and a client that is subscribed to all its entities.
///
/// An additional table is the fence: changes committed before a write to the fence are visible with it,
/// so the client knows when it has seen everything, without waiting for time to pass.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) client: SyncClient,
    pub(crate) server: TestServer,
    pub(crate) db: TestDatabase,
    tables: Vec<Table>,
    fence: u64,
    /// The changes that the last step sent.
    sent: Vec<Value>,
    /// The log's entries of the last step.
    entries: Vec<Entry>,
    log_id: i64,
}

const FENCE: &str = "fence";

impl Watch {
    /// Starts the server and subscribes the client; the tables must exist.
    pub(crate) async fn start<T: Into<Table>>(
        db: TestDatabase,
        tables: impl IntoIterator<Item = T>,
    ) -> Self {
        db.execute("CREATE TABLE fence (id integer PRIMARY KEY, n integer NOT NULL)")
            .await;
        db.execute("INSERT INTO fence VALUES (1, 0)").await;
        let tables: Vec<Table> = tables.into_iter().map(Into::into).collect();
        let fence = EntityConfig::new(FENCE);
        let entities: Vec<EntityConfig> = tables
            .iter()
            .map(|table| table.config.clone())
            .chain([fence])
            .collect();
        let server = TestServer::start(&db, entities.clone()).await;
        let mut client = server.connect().await;
        for entity in &entities {
            client.subscribe(entity.name.as_str(), &entity.name).await;
            client.wait_subscribed(entity.name.as_str()).await;
        }
        let (sent, entries) = (Vec::new(), Vec::new());
        let mut watch = Self {
            client,
            server,
            db,
            tables,
            fence: 0,
            sent,
            entries,
            log_id: 0,
        };
        watch.settle().await;
        watch.compare().await;
        watch
    }

    /// Writes, waits until the client has seen it, and compares everything.
    pub(crate) async fn step(&mut self, sql: &str) {
        let before = self.copies();
        self.write(sql).await;
        self.compare().await;
        self.assert_undo_restores(&before);
    }

    /// As [`step`](Self::step), for values that SQL and the protocol write differently: the table
    /// itself is not compared.
    pub(crate) async fn step_unlike_sql(&mut self, sql: &str) {
        let before = self.copies();
        self.write(sql).await;
        self.compare_http().await;
        self.assert_undo_restores(&before);
    }

    /// Writes, and waits until the client has seen it.
    pub(crate) async fn write(&mut self, sql: &str) {
        self.db.execute(sql).await;
        self.settle().await;
    }

    /// Waits until the client has seen everything that is committed now.
    pub(crate) async fn settle(&mut self) {
        self.fence += 1;
        self.db
            .execute(&format!("UPDATE fence SET n = {}", self.fence))
            .await;
        self.sent.clear();
        while self
            .client
            .row(FENCE, "1")
            .and_then(|row| row["n"].as_u64())
            != Some(self.fence)
        {
            let frame = self.client.next_frame().await;
            if frame["type"] == "changes" && frame["shape"] != FENCE {
                self.sent
                    .extend(frame["changes"].as_array().into_iter().flatten().cloned());
            }
        }
        // An entity that refetches reads its rows at a later moment than the fence's.
        self.client
            .wait_until(|client| client.subscriptions().values().all(|one| one.is_live()))
            .await;
        self.entries = log::since(&self.db, self.log_id, FENCE).await;
        self.log_id = self.entries.last().map_or(self.log_id, |entry| entry.id);
    }

    /// Waits until the client has received the expected schema, then compares everything.
    pub(crate) async fn schema_changed(
        &mut self,
        entity: &str,
        is_expected: impl Fn(&Value) -> bool,
    ) {
        self.wait_schema(entity, is_expected).await;
        self.settle().await;
        self.compare().await;
    }

    /// Waits until the client has received the expected schema.
    pub(crate) async fn wait_schema(&mut self, entity: &str, is_expected: impl Fn(&Value) -> bool) {
        let received = |client: &SyncClient| {
            let one = client.subscription(entity);
            one.is_live() && one.schema().is_some_and(&is_expected)
        };
        self.client.wait_until(received).await;
    }

    /// Waits until the client refetches the entity, then compares everything.
    pub(crate) async fn refetched(&mut self, entity: &str) {
        self.client
            .wait_for(|frame| frame["type"] == "refetch" && frame["id"] == entity)
            .await;
        self.settle().await;
        self.compare().await;
    }

    /// The client's copy of an entity.
    pub(crate) fn rows(&self, entity: &str) -> &Rows {
        self.client.rows(entity)
    }

    /// A row of the copy.
    #[track_caller]
    pub(crate) fn row(&self, entity: &str, key: &str) -> &Value {
        let rows = self.rows(entity);
        rows.get(key)
            .unwrap_or_else(|| panic!("there is no row {key:?} in {rows:#?}"))
    }

    /// The keys of the copy.
    pub(crate) fn keys(&self, entity: &str) -> Vec<&str> {
        self.rows(entity).keys().map(String::as_str).collect()
    }

    /// The changes that the last step sent, each as its op and key.
    pub(crate) fn sent(&self) -> Vec<(&str, &str)> {
        self.sent
            .iter()
            .map(|change| (text_of(change, "op"), text_of(change, "key")))
            .collect()
    }

    /// The log's entries of the last step, without the fence's.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Compares the copies with the tables, and the rows that HTTP returns with the copies.
    pub(crate) async fn compare(&self) {
        for table in &self.tables {
            let schema = self.schema(table);
            let mut expected = Rows::new();
            for row in self.table_rows(table).await {
                let key = key_of(schema, &row);
                let twice = expected.insert(key, row);
                assert_eq!(twice, None, "two rows of {} have one key", table.sql);
            }
            assert_same(&table.config.name, self.rows(&table.config.name), &expected);
        }
        self.compare_http().await;
    }

    /// Compares the rows that HTTP returns with the copies.
    pub(crate) async fn compare_http(&self) {
        let http = self.server.http();
        for table in &self.tables {
            let name = &table.config.name;
            let reply = http
                .get(&format!("/api/sync/{}", percent_encoded(name)))
                .await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            let page = reply.json();
            let rows = page["rows"].as_array().expect("`rows` is an array").iter();
            let rows: Rows = rows
                .map(|entry| (text_of(entry, "key").to_owned(), entry["row"].clone()))
                .collect();
            assert_same(&format!("{name} by HTTP"), &rows, self.rows(name));
        }
    }

    /// Undoing the log's entries, newest first, must give the rows as they were.
    fn assert_undo_restores(&self, before: &BTreeMap<String, Rows>) {
        for (name, before) in before {
            let entries = self.entries.iter().filter(|entry| entry.entity == *name);
            if let Some(mut undone) = log::undo(self.rows(name).clone(), entries) {
                for (key, row) in &mut undone {
                    if let Some(before) = before.get(key) {
                        log::fill_in(row, before);
                    }
                }
                assert_same(&format!("{name} undone"), &undone, before);
            }
        }
    }

    fn copies(&self) -> BTreeMap<String, Rows> {
        let names = self.tables.iter().map(|table| table.config.name.clone());
        names
            .map(|name| (name.clone(), self.rows(&name).clone()))
            .collect()
    }

    fn schema(&self, table: &Table) -> &Value {
        let one = self.client.subscription(table.config.name.as_str());
        one.schema().expect("a live subscription has a schema")
    }

    async fn table_rows(&self, table: &Table) -> Vec<Value> {
        let sql = &table.sql;
        match self.db.backend() {
            Backend::Postgres => {
                let query = format!("SET \"TimeZone\" = 'UTC'; SELECT to_jsonb(t.*) FROM {sql} t");
                self.db.query_json(&query).await
            }
            Backend::Sqlite => {
                let columns = self.schema(table)["columns"]
                    .as_object()
                    .expect("an object");
                let members: Vec<String> = columns
                    .keys()
                    .map(|name| {
                        format!(
                            "'{}', \"{}\"",
                            name.replace('\'', "''"),
                            name.replace('"', "\"\"")
                        )
                    })
                    .collect();
                self.db
                    .query_json(&format!(
                        "SELECT json_object({}) FROM {sql}",
                        members.join(", ")
                    ))
                    .await
            }
        }
    }
}

/// A member that is a text.
fn text_of<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

/// The canonical key of a row whose key values are equal in JSON and in the row.
fn key_of(schema: &Value, row: &Value) -> String {
    let columns = schema["key"].as_array().expect("an array").iter();
    let values: Vec<Value> = columns
        .map(|column| row[column.as_str().unwrap_or_default()].clone())
        .collect();
    key::canonical(&values)
}

/// Compares, and shows only the differences: the copies may be large.
#[track_caller]
fn assert_same(what: &str, found: &Rows, expected: &Rows) {
    let keys = found
        .keys()
        .chain(expected.keys().filter(|key| !found.contains_key(*key)));
    let differences: Vec<String> = keys
        .filter_map(|key| match (found.get(key), expected.get(key)) {
            (Some(found), Some(expected)) if found == expected => None,
            (Some(found), Some(expected)) => {
                Some(format!("{key:?} {}", difference(found, expected)))
            }
            (Some(found), None) => Some(format!("{key:?} should not be there: {found}")),
            (None, expected) => Some(format!(
                "{key:?} is missing: {}",
                expected.unwrap_or(&Value::Null)
            )),
        })
        .collect();
    let text: String = differences.join("\n").chars().take(3000).collect();
    assert!(
        text.is_empty(),
        "{what}: {} rows instead of {};\n{text}",
        found.len(),
        expected.len()
    );
}

fn difference(found: &Value, expected: &Value) -> String {
    let names = |row: &Value| -> Vec<String> {
        row.as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    let mut all = names(found);
    all.extend(names(expected));
    all.sort();
    all.dedup();
    let differs = all
        .into_iter()
        .filter(|name| found.get(name) != expected.get(name));
    differs
        .map(|name| {
            format!(
                "{name}: {:?} instead of {:?}; ",
                found.get(&name),
                expected.get(&name)
            )
        })
        .collect()
}

/// A segment of a path.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    text.bytes()
        .map(|byte| {
            if plain(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Whether a schema has exactly these columns, in any order.
pub(crate) fn has_columns(columns: &[&str]) -> impl Fn(&Value) -> bool {
    move |schema| {
        let found = schema["columns"].as_object();
        found.is_some_and(|found| {
            found.len() == columns.len() && columns.iter().all(|column| found.contains_key(*column))
        })
    }
}
