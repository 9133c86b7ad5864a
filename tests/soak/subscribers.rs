//! Clients that come and go, push, and keep what they have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rhtmx_sync_testkit::{ClientOptions, ClientState, PushOutcome, SyncClient};
use rhtmx_sync_tests::Dice;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{SENTINEL, Scene};

/// What a subscriber has in the end.
pub(crate) struct Copies {
    pub(crate) items: BTreeMap<String, Value>,
    pub(crate) marks: BTreeMap<String, Value>,
    /// Tokens of the mutations that it pushed.
    pub(crate) sent: BTreeSet<String>,
    /// Those whose ack it heard.
    pub(crate) acked: BTreeSet<String>,
}

/// One client over many connections.
pub(crate) struct Subscriber {
    scene: Arc<Scene>,
    dice: Dice,
    client_id: Uuid,
    state: Option<ClientState>,
    sent: BTreeSet<String>,
    acked: BTreeSet<String>,
}

impl Subscriber {
    pub(crate) fn new(scene: Arc<Scene>, dice: Dice) -> Self {
        Self { scene, dice, client_id: Uuid::new_v4(), state: None, sent: BTreeSet::new(), acked: BTreeSet::new() }
    }

    /// Lives through the load, and then waits until it has everything.
    pub(crate) async fn run(mut self) -> Copies {
        while !self.scene.stop.load(Ordering::Relaxed) {
            match self.connect().await {
                Some(client) => self.live(client).await,
                // Its server has just died; the next one is chosen anew.
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
                client.subscribe("items", "items").await;
                client.subscribe("marks", "marks").await;
                Some(client)
            }
        }
    }

    /// Takes some frames, pushes now and then, and goes without a word.
    async fn live(&mut self, mut client: SyncClient) {
        let mut stopped = self.scene.stopped.subscribe();
        for _ in 0..self.dice.pick(3..80) {
            if self.dice.chance(10) {
                let mutation = client.next_mutation();
                let token = self.token(mutation);
                self.sent.insert(token.clone());
                client.send_push(mutation, mark(&token)).await;
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

    /// Comes back for the last time, and stays until it has the last rows.
    async fn end(mut self) -> Copies {
        let mut client = loop {
            // The accidents are over, so servers answer.
            let Some(mut client) = self.connect().await else { continue };
            let settled = client
                .try_wait_until(|client| client.subscriptions().values().all(|subscription| subscription.is_live()))
                .await;
            if settled.is_ok() {
                break client;
            }
            self.keep(client);
        };
        client.wait_answered().await;
        self.scene.ready.wait().await;
        let mut written = self.scene.sentinel.subscribe();
        written.wait_for(|written| *written).await.expect("the scene outlives its actors");
        let has_last = |client: &SyncClient| {
            client.row("items", SENTINEL).is_some() && client.row("marks", SENTINEL).is_some()
        };
        client.wait_until(has_last).await;
        let (items, marks) = (client.rows("items").clone(), client.rows("marks").clone());
        self.keep(client);
        Copies { items, marks, sent: self.sent, acked: self.acked }
    }
}

fn mark(token: &str) -> Value {
    json!([{ "entity": "marks", "op": "create", "values": { "token": token } }])
}
