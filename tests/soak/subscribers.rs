//! Clients that come and go, push, and keep their copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rhtmx_sync_tests::Dice;
use serde_json::{Value, json};
use sync_core::cursor::{Cursor, Position};
use testkit::{ClientOptions, ClientState, PushOutcome, Subscription, SyncClient};
use uuid::Uuid;

use crate::selections::Selection;
use crate::{SENTINEL, Scene};

/// The final state of a subscriber.
pub(crate) struct Copies {
    /// Its selections of the items, and the copy of each.
    pub(crate) items: Vec<(Selection, BTreeMap<String, Value>)>,
    pub(crate) marks: BTreeMap<String, Value>,
    /// Tokens of the mutations that it pushed.
    pub(crate) sent: BTreeSet<String>,
    /// Tokens of the mutations whose ack it received.
    pub(crate) acked: BTreeSet<String>,
}

/// One client over many connections.
pub(crate) struct Subscriber {
    scene: Arc<Scene>,
    dice: Dice,
    client_id: Uuid,
    state: Option<ClientState>,
    /// The selections of its subscriptions. Ids are never used again.
    selections: BTreeMap<u64, Selection>,
    selections_made: u64,
    sent: BTreeSet<String>,
    acked: BTreeSet<String>,
}

impl Subscriber {
    pub(crate) fn new(scene: Arc<Scene>, dice: Dice) -> Self {
        Self {
            scene,
            dice,
            client_id: Uuid::new_v4(),
            state: None,
            selections: BTreeMap::new(),
            selections_made: 0,
            sent: BTreeSet::new(),
            acked: BTreeSet::new(),
        }
    }

    /// Runs during the load, then waits until it has everything.
    pub(crate) async fn run(mut self) -> Copies {
        while !self.scene.stop.load(Ordering::Relaxed) {
            match self.connect().await {
                Some(client) => self.live(client).await,
                // Its server has just died; the next one is chosen again.
                None => tokio::task::yield_now().await,
            }
        }
        self.end().await
    }

    fn options(&mut self) -> ClientOptions {
        ClientOptions {
            client_id: self.client_id,
            gzip: self.dice.chance(50),
            patience: Duration::from_secs(60),
            ..ClientOptions::default()
        }
    }

    async fn connect(&mut self) -> Option<SyncClient> {
        let options = self.options();
        let url = {
            let urls = self.scene.urls.lock().expect("not poisoned");
            urls[self.dice.pick(0..urls.len() as u64) as usize].clone()
        };
        match &self.state {
            Some(state) => SyncClient::try_reconnect(&url, options, state).await.ok(),
            None => {
                let mut client = SyncClient::try_connect(&url, options).await.ok()?;
                client.subscribe("marks", "marks").await;
                self.selections.clear();
                for _ in 0..self.dice.pick(1..4) {
                    self.subscribe(&mut client).await;
                }
                Some(client)
            }
        }
    }

    async fn subscribe(&mut self, client: &mut SyncClient) {
        let selection = Selection::random(&mut self.dice);
        self.selections_made += 1;
        client
            .subscribe_with(self.selections_made, selection.request())
            .await;
        self.selections.insert(self.selections_made, selection);
    }

    /// Changes its subscriptions.
    async fn change(&mut self, client: &mut SyncClient) {
        let first = self.selections.keys().next().copied();
        let Some(id) = first.filter(|_| self.selections.len() > 1) else {
            return self.subscribe(client).await;
        };
        self.selections.remove(&id);
        client.unsubscribe(id).await;
        if self.dice.chance(60) {
            self.subscribe(client).await;
        }
    }

    /// Reads some frames, pushes now and then, and disconnects without a word.
    async fn live(&mut self, mut client: SyncClient) {
        let mut stopped = self.scene.stopped.subscribe();
        for _ in 0..self.dice.pick(3..80) {
            if self.dice.chance(10) {
                let mutation = client.next_mutation();
                let token = self.token(mutation);
                self.sent.insert(token.clone());
                client.send_push(mutation, mark(&token)).await;
            }
            if self.dice.chance(6) {
                self.change(&mut client).await;
            }
            let closed = tokio::select! {
                frame = client.try_next_frame() => frame.is_err(),
                stopped = stopped.wait_for(|stopped| *stopped) => stopped.is_ok(),
            };
            if closed {
                break;
            }
        }
        self.keep(client);
    }

    fn token(&self, mutation: u64) -> String {
        format!("{}/{mutation}", self.client_id)
    }

    fn keep(&mut self, client: SyncClient) {
        for mutation in 1..client.next_mutation() {
            if matches!(client.outcome(mutation), Some(PushOutcome::Acked { .. })) {
                let token = self.token(mutation);
                self.acked.insert(token);
            }
        }
        self.state = Some(client.into_state());
    }

    /// Reconnects for the last time, and stays until it has the last rows.
    async fn end(mut self) -> Copies {
        let mut client = loop {
            // No server is killed any more, so servers answer.
            let Some(mut client) = self.connect().await else {
                continue;
            };
            let settled = client
                .try_wait_until(|client| {
                    client
                        .subscriptions()
                        .values()
                        .all(|subscription| subscription.is_live())
                })
                .await;
            if settled.is_ok() {
                break client;
            }
            self.keep(client);
        };
        client.wait_answered().await;
        self.scene.ready.wait().await;
        let mut written = self.scene.sentinel.subscribe();
        written
            .wait_for(|written| *written)
            .await
            .expect("the scene outlives its actors");
        let mut last = None;
        client
            .wait_until(|client| Self::has_all(client, &mut last))
            .await;
        let marks = client.rows("marks").clone();
        let rows =
            |(id, selection): (&u64, &Selection)| (selection.clone(), client.rows(*id).clone());
        let items = self.selections.iter().map(rows).collect();
        self.keep(client);
        Copies {
            items,
            marks,
            sent: self.sent,
            acked: self.acked,
        }
    }

    /// Whether all subscriptions are as new as the last row, which filters may leave out: `last` is its
    /// position.
    fn has_all(client: &SyncClient, last: &mut Option<Position>) -> bool {
        let position = |subscription: &Subscription| {
            let cursor: Cursor = subscription.cursor()?.parse().expect("a cursor");
            subscription.is_live().then_some(cursor.position)
        };
        if last.is_none() && client.row("marks", SENTINEL).is_some() {
            *last = position(client.subscription("marks"));
        }
        let is_there = |subscription| {
            let there = position(subscription).zip(last.as_ref());
            there.is_some_and(|(position, last)| position.covers(last))
        };
        client.subscriptions().values().all(is_there)
    }
}

fn mark(token: &str) -> Value {
    json!([{ "entity": "marks", "op": "create", "values": { "token": token } }])
}
