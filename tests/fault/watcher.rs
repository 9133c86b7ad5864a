//! What a client checks at every frame, and what it keeps for the oracle.

use std::collections::{BTreeMap, VecDeque};

use rhtmx_sync_tests::Dice;
use serde_json::Value;
use sync_core::cursor::{Cursor, Position};
use testkit::{Backend, SubscriptionId, SyncClient};

use crate::oracle::fingerprint;
use crate::sample::{Sample, SampledSubscription};
use crate::subscriptions::Plan;

/// The sum of all accounts.
const MONEY: i64 = 1600;
/// Samples of one round, at most.
const SAMPLES_MAX: usize = 12;
/// Lines of a client's past, at most.
const PAST_MAX: usize = 4000;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) cursors: u64,
    pub(crate) refetches: u64,
    pub(crate) resumes: u64,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    number: usize,
    backend: Backend,
    dice: Dice,
    /// The newest cursor of each subscription.
    cursors: BTreeMap<SubscriptionId, Cursor>,
    /// How often money was moved in each account.
    moves: BTreeMap<String, i64>,
    samples: Vec<Sample>,
    counts: Counts,
    /// The recent changes of rows, for the message of a failed run.
    past: VecDeque<String>,
    connection: u64,
}

impl Watcher {
    pub(crate) fn new(number: usize, backend: Backend, dice: Dice) -> Self {
        Self {
            number,
            backend,
            dice,
            cursors: BTreeMap::new(),
            moves: BTreeMap::new(),
            samples: Vec::new(),
            counts: Counts::default(),
            past: VecDeque::new(),
            connection: 0,
        }
    }

    pub(crate) fn connected(&mut self) {
        self.counts.resumes += 1;
        self.connection += 1;
    }

    /// The changes that this client received, newest last.
    pub(crate) fn past(&self) -> Vec<String> {
        self.past.iter().cloned().collect()
    }

    fn remember(&mut self, frame: &Value) {
        let of = frame
            .get("id")
            .or(frame.get("shape"))
            .unwrap_or(&Value::Null);
        let mut lines = Vec::new();
        for change in frame["changes"].as_array().into_iter().flatten() {
            lines.push(format!("{} {} of {of}", change["op"], change["key"]));
        }
        for row in frame["rows"].as_array().into_iter().flatten() {
            lines.push(format!("snapshot {} of {of}", row["key"]));
        }
        if let Some(Ok(cursor)) = frame["cursor"].as_str().map(str::parse::<Cursor>) {
            lines.push(format!("{} {of} at {}", frame["type"], cursor.position));
        }
        let keep = if lines.len() > 500 {
            0
        } else {
            PAST_MAX - lines.len()
        };
        self.past.drain(..self.past.len().saturating_sub(keep));
        let connection = self.connection;
        self.past.extend(
            lines
                .into_iter()
                .map(|line| format!("#{connection} {line}")),
        );
    }

    /// The client starts again.
    pub(crate) fn forget(&mut self) {
        self.moves.clear();
    }

    pub(crate) fn take_samples(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.samples)
    }

    pub(crate) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// What is wrong after this frame, if anything.
    pub(crate) fn saw(
        &mut self,
        client: &SyncClient,
        frame: &Value,
        plans: &BTreeMap<String, Plan>,
    ) -> Option<String> {
        self.remember(frame);
        match frame["type"].as_str() {
            Some("refetch") => {
                self.counts.refetches += 1;
                None
            }
            Some("subscribed" | "cursor") => {
                self.counts.cursors += 1;
                self.forward(client)
                    .or_else(|| self.balanced(client))
                    .or_else(|| {
                        self.sample(client, plans);
                        None
                    })
            }
            _ => None,
        }
    }

    /// Cursors only advance, even from one connection to the next.
    fn forward(&mut self, client: &SyncClient) -> Option<String> {
        for (id, subscription) in client.subscriptions() {
            if !subscription.is_live() {
                continue;
            }
            let text = subscription.cursor()?;
            let Ok(cursor) = text.parse::<Cursor>() else {
                return Some(format!("not a cursor: {text}"));
            };
            let before = self.cursors.get(id);
            if let Some(before) = before.filter(|before| before.epoch == cursor.epoch)
                && !cursor.position.covers(&before.position)
            {
                return Some(format!(
                    "{id} went back from {} to {}",
                    before.position, cursor.position
                ));
            }
            self.cursors.insert(id.clone(), cursor);
        }
        None
    }

    /// Every transfer is visible as a whole or not at all, and none is undone.
    fn balanced(&mut self, client: &SyncClient) -> Option<String> {
        let accounts = client.subscription("accounts");
        if !accounts.is_live() {
            return None;
        }
        let (mut money, mut all_moves) = (0, 0);
        for (key, row) in accounts.rows() {
            let moves = row["moves"].as_i64()?;
            money += row["amount"].as_i64()?;
            all_moves += moves;
            let before = self.moves.insert(key.clone(), moves).unwrap_or(0);
            if moves < before {
                return Some(format!(
                    "account {key} went back from move {before} to {moves}"
                ));
            }
        }
        let halves = all_moves % 2;
        (money != MONEY || halves != 0).then(|| {
            format!("half a transfer: {money} in all instead of {MONEY}, after {all_moves} moves")
        })
    }

    fn sample(&mut self, client: &SyncClient, plans: &BTreeMap<String, Plan>) {
        let full = self.samples.len() >= SAMPLES_MAX;
        if self.backend != Backend::Postgres || full || !self.dice.chance(15) {
            return;
        }
        // Each position on its own: after `subscribed` subscriptions may differ for a while.
        let mut at: BTreeMap<String, Vec<SampledSubscription>> = BTreeMap::new();
        for (id, subscription) in client.subscriptions() {
            let large = subscription.rows().len() > 5_000;
            if !subscription.is_live() || (large && self.dice.chance(80)) {
                continue;
            }
            let id = id.to_json();
            let plan = &plans[id.as_str().unwrap_or_default()];
            let columns = subscription
                .schema()
                .and_then(|schema| schema["columns"].as_object());
            let columns: Vec<String> = columns
                .into_iter()
                .flat_map(|columns| columns.keys().cloned())
                .collect();
            let rows = subscription.rows().iter();
            let rows = rows
                .map(|(key, row)| (key.clone(), fingerprint(row, &columns, None)))
                .collect();
            let cursor = subscription.cursor().unwrap_or_default().to_owned();
            let subscription = SampledSubscription {
                entity: plan.entity.to_owned(),
                filter: plan.filter.clone(),
                columns,
                rows,
            };
            at.entry(cursor).or_default().push(subscription);
        }
        for (cursor, subscriptions) in at {
            let Ok(Cursor {
                position: Position::Snapshot(snapshot),
                epoch,
            }) = cursor.parse()
            else {
                continue;
            };
            self.samples.push(Sample {
                client: self.number,
                epoch,
                snapshot,
                subscriptions,
            });
        }
    }
}
