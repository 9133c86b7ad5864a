//! What is kept beside rows stays small: old clocks are folded, tombstones are forgotten, and nobody writes before that.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use merge::{Clock, Metadata, NodeId, Row};
use rhtmx_sync::{DbPool, Deletes};
use rhtmx_sync_tests::{Dice, TestServer};
use serde_json::{Map, Value, json};
use testkit::{TestDatabase, both_backends, eventually};

use super::{config, connect, rules, task};
use crate::writes::update;

const COLUMNS: [&str; 3] = ["title", "due", "other"];
const ENTRIES: u64 = 1_200;
const HORIZON: u64 = 500;

fn clock(millis: u64) -> Clock {
    Clock::new(1_800_000_000_000 + millis, 0, &NodeId::of_client(&[7; 16]))
}

/// What may be known of a row.
fn any_metadata(dice: &mut Dice, deletes: Deletes) -> Value {
    let mut any = |below| Value::from(clock(dice.pick(0..below)).as_str());
    let [born, died, base] = [any(1_000), any(1_000), any(1_000)];
    let mut fields = COLUMNS
        .map(|column| (column.to_owned(), any(1_000)))
        .to_vec();
    let old_base = any(HORIZON);
    fields.retain(|_| dice.chance(50));
    let mut metadata = Map::new();
    if dice.chance(40) {
        metadata.insert("born".to_owned(), born);
    }
    let is_dead = dice.chance(25);
    if is_dead {
        metadata.insert("died".to_owned(), died);
    }
    // What wins leaves nothing but itself.
    if !is_dead || deletes == Deletes::Revive {
        if dice.chance(20) {
            let base = if is_dead { old_base } else { base };
            metadata.insert("base".to_owned(), base);
        }
        let fields: Map<String, Value> = fields.into_iter().collect();
        metadata.insert("fields".to_owned(), fields.into());
    }
    metadata.into()
}

/// The row of an entry.
fn row(metadata: &Metadata, deletes: Deletes) -> Row {
    let json = serde_json::to_value(metadata).expect("JSON");
    let has_values = json.get("died").is_none() || deletes == Deletes::Revive;
    let values = COLUMNS.iter().filter(|_| has_values);
    let values = values.map(|column| ((*column).to_owned(), json!("x")));
    Row::new(metadata, &values.collect(), &rules(deletes)).expect("a row")
}

async fn entries(db: &TestDatabase) -> BTreeMap<String, Metadata> {
    let sql = match db.backend() {
        testkit::Backend::Postgres => {
            "SELECT json_build_array(entity_id, metadata)::text FROM _rhtmx_sync_field"
        }
        testkit::Backend::Sqlite => {
            "SELECT json_array(entity_id, json(metadata)) FROM _rhtmx_sync_field"
        }
    };
    let rows = db.query_json(sql).await;
    let entry = |mut row: Value| {
        let metadata = serde_json::from_value(row[1].take()).expect("metadata");
        (row[0].as_str().expect("a key").to_owned(), metadata)
    };
    rows.into_iter().map(entry).collect()
}

async fn keep(db: &TestDatabase, entity_id: &str, metadata: &Value) {
    let newest = clock(2_000);
    db.execute(&format!(
        "INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) \
         VALUES ('tasks', '{entity_id}', '{newest}', '{metadata}')"
    ))
    .await;
}

/// Folds all of it, and returns how many entries were forgotten, and how many folded before their time.
async fn fold(db: &TestDatabase, deletes: Deletes, horizon: &Clock) -> (u64, u64) {
    let pool = DbPool::from_url(&db.url()).await.expect("a pool");
    let (mut after, mut forgotten, mut early) = (None, 0, 0);
    loop {
        let folded = pool
            .fold_fields("tasks", &rules(deletes), (horizon, true), after.as_deref())
            .await
            .expect("folded");
        forgotten += folded.forgotten;
        early += folded.early;
        after = folded.last;
        if after.is_none() {
            return (forgotten, early);
        }
    }
}

/// Makes the tables.
async fn prepare(db: &TestDatabase, deletes: Deletes) {
    TestServer::with_config(config(db, deletes).await)
        .await
        .shutdown()
        .await;
}

fn without_base(row: &Row) -> Value {
    let mut json = serde_json::to_value(row.metadata()).expect("JSON");
    json["base"] = Value::Null;
    json
}

async fn folds_as_rows_do(db: &TestDatabase, deletes: Deletes) {
    prepare(db, deletes).await;
    let mut dice = Dice::new("folds_as_rows_do");
    for key in 0..ENTRIES {
        let metadata = serde_json::from_value(any_metadata(&mut dice, deletes)).expect("metadata");
        let metadata = row(&metadata, deletes).metadata();
        let json = serde_json::to_value(&metadata).expect("JSON");
        keep(db, &key.to_string(), &json).await;
    }
    let horizon = clock(HORIZON);
    let (mut expected, ground) = (BTreeMap::new(), Clock::ground());
    for (key, metadata) in entries(db).await {
        let mut row = row(&metadata, deletes);
        let before = row.clone();
        row.fold(&horizon);
        let says_nothing = row.born() == Some(&ground)
            && row.is_alive(&rules(deletes))
            && row.newest() <= Some(&horizon)
            && row.clock(COLUMNS[0]) <= Some(&horizon);
        if before.may_be_purged(&horizon, &rules(deletes)) || says_nothing {
            continue;
        }
        // The base alone is not worth writing.
        let is_same = without_base(&before) == without_base(&row);
        expected.insert(key, if is_same { before } else { row });
    }
    let (forgotten, early) = fold(db, deletes, &horizon).await;
    assert_eq!(early, 0);
    assert_eq!(forgotten, ENTRIES - expected.len() as u64);
    let found = entries(db).await;
    let found: BTreeMap<String, Row> = found
        .into_iter()
        .map(|(key, metadata)| (key, row(&metadata, deletes)))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(fold(db, deletes, &horizon).await, (0, 0), "twice is once");
}

/// The number of milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("after 1970").as_millis() as u64
}

/// A clock of the first client, this many hours ago.
fn hours_ago(hours: u64) -> String {
    let mut id = [0; 16];
    id[4] = 1;
    Clock::new(now_ms() - hours * 3_600_000, 0, &NodeId::of_client(&id)).to_string()
}

both_backends! {
    async fn what_is_kept_folds_as_rows_do(db: TestDatabase) {
        folds_as_rows_do(&db, Deletes::Win).await;
    }

    async fn what_is_kept_of_rows_that_may_come_back_folds_as_rows_do(db: TestDatabase) {
        folds_as_rows_do(&db, Deletes::Revive).await;
    }

    async fn what_is_too_large_is_folded_before_its_time(db: TestDatabase) {
        prepare(&db, Deletes::Win).await;
        let fields = |columns: u64| -> Map<String, Value> {
            (0..columns).map(|column| (format!("a_column_{column}"), clock(column).as_str().into())).collect()
        };
        keep(&db, "large", &json!({ "fields": fields(60) })).await;
        keep(&db, "small", &json!({ "fields": fields(10) })).await;
        keep(&db, "other", &json!("what somebody broke")).await;
        assert_eq!(fold(&db, Deletes::Win, &Clock::ground()).await, (0, 1));
        db.execute("DELETE FROM _rhtmx_sync_field WHERE entity_id = 'other'").await;
        let kept = entries(&db).await;
        let text = |key: &str| serde_json::to_string(&kept[key]).expect("JSON");
        assert_eq!(text("small"), json!({ "fields": fields(10) }).to_string());
        let large = text("large");
        assert!((1_000..=2_048).contains(&large.len()), "{large}");
        // The youngest are still told apart.
        assert!(large.contains("a_column_59") && !large.contains("\"a_column_0\""), "{large}");
    }

    async fn clocks_of_before_are_forgotten_and_writes_of_before_refused(db: TestDatabase) {
        let mut config = config(&db, Deletes::Win).await;
        config.retention.clock_hours = 48;
        config.retention.interval_ms = 50;
        prepare_tables(config.clone()).await;
        let old = Clock::read(&hours_ago(49)).expect("a clock");
        keep_at(&db, "1", &json!({ "fields": { "title": old.as_str() } }), &old).await;
        keep_at(&db, "2", &json!({ "born": old.as_str(), "died": old.as_str() }), &old).await;
        for id in ["1", "2"] {
            db.execute(&format!(
                "INSERT INTO _rhtmx_field_conflict (entity, entity_id, field, hlc, value) VALUES ('tasks', '{id}', 'title', '{old}', '1')"
            ))
            .await;
        }
        let server = TestServer::with_config(config).await;
        let mut ann = connect(&server, 1).await;
        eventually("all is forgotten", async || entries(&db).await.is_empty().then_some(())).await;
        // What lost in a row that is gone is gone with it; nobody has resolved the other.
        let lost = db.query_text("SELECT entity_id FROM _rhtmx_field_conflict").await;
        assert_eq!(lost, [Some("1".to_owned())]);
        let mut edit = update("tasks", 1, json!({ "title": "too late" }));
        edit["hlc"] = hours_ago(49).into();
        let rejection = ann.push_next(json!([edit])).await;
        assert_eq!(rejection.rejected().code, "clock");
        assert_eq!(task(&db, "title").await.as_deref(), Some("a"));
        edit["values"]["title"] = "in time".into();
        edit["hlc"] = hours_ago(47).into();
        ann.push_next(json!([edit])).await.acked();
        assert_eq!(task(&db, "title").await.as_deref(), Some("in time"));
        let kept = entries(&db).await;
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["1"]);
    }
}

/// An entry with this newest clock.
async fn keep_at(db: &TestDatabase, entity_id: &str, metadata: &Value, newest: &Clock) {
    keep(db, entity_id, metadata).await;
    db.execute(&format!(
        "UPDATE _rhtmx_sync_field SET newest = '{newest}' WHERE entity_id = '{entity_id}'"
    ))
    .await;
}

async fn prepare_tables(config: rhtmx_sync::SyncConfig) {
    TestServer::with_config(config).await.shutdown().await;
}

#[tokio::test]
async fn an_entry_that_somebody_writes_is_left_for_later() {
    let db = TestDatabase::postgres().await;
    prepare(&db, Deletes::Win).await;
    for key in ["1", "2"] {
        keep(
            &db,
            key,
            &json!({ "fields": { "title": clock(1).as_str() } }),
        )
        .await;
    }
    let mut writer = db.connect_postgres().await;
    let writing = writer.transaction().await.expect("a transaction");
    writing
        .batch_execute("UPDATE _rhtmx_sync_field SET newest = newest WHERE entity_id = '1'")
        .await
        .expect("locked");
    let horizon = clock(HORIZON);
    let folding = fold(&db, Deletes::Win, &horizon);
    let folded = tokio::time::timeout(Duration::from_secs(60), folding).await;
    assert_eq!(folded, Ok((1, 0)), "it waited for the writer");
    writing.commit().await.expect("committed");
    assert_eq!(fold(&db, Deletes::Win, &horizon).await, (1, 0));
}
