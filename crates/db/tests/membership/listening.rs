//! A listener whose subscriber asks what a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use filter::testing::sets::filter_of;
use filter::{CompareOp, Condition, Filter, Scalar, Set, SetRows};
use rhtmx_sync_db::entity::{Entities, Entity, EntityConfig};
use rhtmx_sync_db::feed::{InquiryStart, LogBatch, LogSubscriber};
use rhtmx_sync_db::listener::{ListenerContext, ListenerStatus};
use rhtmx_sync_db::read::{Backfill, DrainSnapshots, OldValueColumns};
use rhtmx_sync_db::{DatabaseConfig, DbError, DbPool};
use serde_json::Value;
use serde_json::value::RawValue;
use sync_core::cursor::{Cursor, Position};
use sync_core::log::NetChange;
use sync_core::membership::{Answer, Question};
use testkit::TestDatabase;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// What happens in an inquiry.
pub(crate) enum Event<'a> {
    /// It begins, with these entries.
    Begin(&'a [NetChange]),
    /// What was asked is answered.
    Answers(Vec<Answer>),
}

/// Returns the questions that follow from an event.
pub(crate) type Script = Box<dyn FnMut(Event<'_>) -> Vec<Question> + Send>;

/// Says what is asked behind a drain.
pub(crate) type Behind = Box<dyn FnMut() -> Option<Backfill> + Send>;

struct Subscriber {
    behind: Mutex<Option<Behind>>,
    deciding: BTreeSet<String>,
    script: Mutex<Option<Script>>,
    begun: Notify,
    old_value_columns: Arc<OldValueColumns>,
    batches: mpsc::UnboundedSender<LogBatch>,
    cursor: watch::Sender<Option<Cursor>>,
}

impl Subscriber {
    fn ask(&self, event: Event<'_>) -> Vec<Question> {
        let mut script = self.script.lock().expect("no panic");
        script
            .as_mut()
            .map_or_else(Vec::new, |script| script(event))
    }
}

impl LogSubscriber for Subscriber {
    fn old_value_columns(&self) -> Arc<OldValueColumns> {
        self.old_value_columns.clone()
    }

    fn inquires(&self) -> bool {
        self.script.lock().expect("no panic").is_some()
    }

    fn deciding(&self) -> BTreeSet<String> {
        self.deciding.clone()
    }

    fn begin_inquiry(&self, start: &InquiryStart<'_>) -> Vec<Question> {
        self.begun.notify_one();
        self.ask(Event::Begin(start.entries))
    }

    fn answer(&self, answers: Vec<Answer>) -> Vec<Question> {
        self.ask(Event::Answers(answers))
    }

    fn backfill(&self) -> Option<Backfill> {
        let mut behind = self.behind.lock().expect("no panic");
        behind.as_mut().and_then(|behind| behind())
    }

    fn publish(&self, batch: LogBatch) {
        let _ = self.batches.send(batch);
    }

    fn taken(&self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>> {
        Box::pin(async { Instant::now() })
    }

    fn reset(&self, cursor: Cursor) {
        self.cursor.send_replace(Some(cursor));
    }

    fn failed(&self, error: &DbError) {
        eprintln!("the listener failed: {error}");
    }

    fn refresh(&self, _: BTreeSet<String>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }

    fn message(&self, _: &str) {}

    fn prepare_again(&self) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

pub(crate) struct Listening {
    pub(crate) db: DbPool,
    pub(crate) entities: Arc<Entities>,
    pub(crate) cursor: Cursor,
    subscriber: Arc<Subscriber>,
    batches: mpsc::UnboundedReceiver<LogBatch>,
    wake: Arc<Notify>,
    pub(crate) drain_snapshots: Arc<DrainSnapshots>,
    _listener: AbortOnDropHandle<()>,
}

impl Listening {
    /// Captures these tables and listens. The entries of those that `deciding` names decide what is asked.
    pub(crate) async fn start(test: &TestDatabase, tables: &[&str], deciding: &[&str]) -> Self {
        let config = DatabaseConfig::default();
        let db = DbPool::from_url(&test.url()).await.expect("a database");
        db.migrate(&config).await.expect("the engine's tables");
        let names = || tables.iter().map(|name| (*name).to_owned());
        let entities = Arc::new(Entities::new(names().collect()));
        for name in tables {
            let described = db.install(&EntityConfig::new(*name)).await;
            let described = described.expect("no error").expect("a suitable table");
            let entity = described.expect("a table").entity;
            entities.replace_one(name, Some(Arc::new(entity)));
        }
        let (sender, batches) = mpsc::unbounded_channel();
        let (cursor, mut begun) = watch::channel(None);
        let of_table = |name: String| (name, BTreeSet::from(["x".to_owned()]));
        let subscriber = Arc::new(Subscriber {
            deciding: deciding.iter().map(|name| (*name).to_owned()).collect(),
            script: Mutex::default(),
            behind: Mutex::default(),
            begun: Notify::new(),
            old_value_columns: Arc::new(names().map(of_table).collect()),
            batches: sender,
            cursor,
        });
        let wake = Arc::new(Notify::new());
        let drain_snapshots = DrainSnapshots::new(wake.clone());
        let context = ListenerContext {
            entities: entities.clone(),
            subscriber: subscriber.clone(),
            wake: wake.clone(),
            status: watch::Sender::new(ListenerStatus::default()),
            shutdown: CancellationToken::new(),
            drain_snapshots: drain_snapshots.clone(),
            observes: false,
        };
        let listener = db.listen(&config, context).expect("a listener");
        let listener = AbortOnDropHandle::new(tokio::spawn(listener));
        let cursor = begun.wait_for(Option::is_some).await.expect("a cursor");
        let cursor = cursor.clone().expect("a cursor");
        Self {
            db,
            entities,
            cursor,
            subscriber,
            batches,
            wake,
            drain_snapshots,
            _listener: listener,
        }
    }

    /// From now on drains ask what the script says. Returns once one has begun to ask.
    pub(crate) async fn ask(
        &self,
        script: impl FnMut(Event<'_>) -> Vec<Question> + Send + 'static,
    ) {
        *self.subscriber.script.lock().expect("no panic") = Some(Box::new(script));
        self.wake.notify_one();
        self.subscriber.begun.notified().await;
    }

    /// Returns once another drain has begun to ask.
    pub(crate) async fn drain_again(&self) {
        self.wake.notify_one();
        self.subscriber.begun.notified().await;
    }

    /// From now on what this returns is asked behind drains, once there is a connection for it.
    pub(crate) fn ask_behind(&self, behind: impl FnMut() -> Option<Backfill> + Send + 'static) {
        *self.subscriber.behind.lock().expect("no panic") = Some(Box::new(behind));
        self.wake.notify_one();
    }

    /// Waits until the drains have reached this position. Returns whether one of them has ended there.
    pub(crate) async fn drained_to(&mut self, position: &Position) -> bool {
        loop {
            let batch = self.batches.recv().await.expect("a batch");
            if batch.complete && batch.position.covers(position) {
                return *batch.position == *position;
            }
        }
    }

    /// Waits for the next drain that has found something.
    pub(crate) async fn found(&mut self) -> Vec<NetChange> {
        let mut found = Vec::new();
        loop {
            let batch = self.batches.recv().await.expect("a batch");
            found.extend(batch.entries);
            if batch.complete && !found.is_empty() {
                return found;
            }
        }
    }

    pub(crate) fn entity(&self, name: &str) -> Arc<Entity> {
        self.entities.find(name).expect("an entity")
    }

    /// The set of a column's values in the rows of an entity that match a condition.
    pub(crate) fn set(&self, name: &str, columns: &[&str], condition: Condition) -> Set {
        let entity = self.entity(name);
        let position = |column: &&str| entity.schema.position(column).expect("a column");
        Set::new(SetRows {
            window: None,
            schema: entity.schema.clone(),
            fingerprint: entity.fingerprint.as_str().into(),
            backend: self.db.filter_backend(),
            filter: filter_of(condition),
            columns: columns.iter().map(position).collect(),
            asked: None,
        })
    }
}

pub(crate) const EVERYTHING: Condition = Condition::Constant(Some(true));

pub(crate) fn equals(column: usize, value: Scalar) -> Condition {
    let op = CompareOp::Eq;
    Condition::Compare { column, op, value }
}

pub(crate) fn rows_of(entity: &str, filter: Filter, rows_max: usize) -> Question {
    Question::Rows {
        entity: entity.into(),
        filter,
        rows_max,
    }
}

/// The values of an answer's only column `x`, with their numbers of rows.
pub(crate) fn values(answer: &Answer) -> BTreeMap<String, u64> {
    let Answer::Set(values) = answer else {
        panic!("{answer:?}")
    };
    let value = |(value, count): &(Box<RawValue>, u64)| {
        let value: Value = serde_json::from_str(value.get()).expect("JSON");
        (value["x"].to_string(), *count)
    };
    values.iter().map(value).collect()
}

/// The keys of an answer, in order.
pub(crate) fn keys(answer: &Answer) -> Vec<String> {
    let Answer::Rows(rows) = answer else {
        panic!("{answer:?}")
    };
    let mut keys: Vec<String> = rows.iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    keys
}
