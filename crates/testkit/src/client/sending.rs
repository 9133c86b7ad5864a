//! Sends the client's frames.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::SyncClient;
use super::connection::gzip;
use super::options::SubscriptionId;
use super::pushes::PushOutcome;

/// Sending.
impl SyncClient {
    /// Subscribes to all rows of an entity.
    pub async fn subscribe(&mut self, id: impl Into<SubscriptionId>, entity: &str) {
        self.subscribe_with(id, json!({ "entity": entity })).await;
    }

    /// Subscribes with the given fields of the `subscribe` frame: `entity`, `where`, `params`,
    /// `columns`, `mode`, `cursor`.
    pub async fn subscribe_with(&mut self, id: impl Into<SubscriptionId>, fields: Value) {
        let id = id.into();
        assert!(
            !self.replica.is_used(&id),
            "the test uses the subscription id {id} twice on one connection"
        );
        let mut frame = fields;
        frame["type"] = json!("subscribe");
        frame["id"] = id.to_json();
        self.send_json(frame).await;
    }

    /// Resumes at a cursor without the rows that belong to it. The copy then contains only what has changed
    /// since.
    pub async fn resume(&mut self, id: impl Into<SubscriptionId>, entity: &str, cursor: &str) {
        self.subscribe_with(id, json!({ "entity": entity, "cursor": cursor }))
            .await;
    }

    /// Ends a subscription and drops its rows. Its id cannot be used again on this connection.
    pub async fn unsubscribe(&mut self, id: impl Into<SubscriptionId>) {
        self.send_json(json!({ "type": "unsubscribe", "id": id.into().to_json() }))
            .await;
    }

    /// Pushes a mutation and waits for its answer. `writes` is the array of the protocol.
    pub async fn push(&mut self, mutation: u64, writes: Value) -> PushOutcome {
        let answers = self.answers(mutation);
        self.send_push(mutation, writes).await;
        self.wait_until(|client| client.answers(mutation) > answers)
            .await;
        self.replica.pushes.outcomes[&mutation].clone()
    }

    /// Pushes with the next free number and waits for the answer.
    pub async fn push_next(&mut self, writes: Value) -> PushOutcome {
        self.push(self.next_mutation(), writes).await
    }

    /// Pushes without waiting; see [`wait_answered`](Self::wait_answered).
    pub async fn send_push(&mut self, mutation: u64, writes: Value) {
        self.send_json(json!({ "type": "push", "mutation": mutation, "writes": writes }))
            .await;
    }

    /// Sends a `ping` and waits for its `pong`.
    pub async fn ping(&mut self) {
        let at = self.frames("pong");
        self.send_json(json!({ "type": "ping", "at": at })).await;
        self.wait_for(|frame| frame["type"] == "pong" && frame["at"] == at)
            .await;
    }

    /// Sends any frame, and keeps track of subscriptions and pushes.
    pub async fn send_json(&mut self, frame: Value) {
        match (self.options.mode, &frame["mode"]) {
            (Some(mode), Value::Null) => {
                let mut meant = frame.clone();
                meant["mode"] = mode.into();
                self.replica.send(&meant);
            }
            _ => self.replica.send(&frame),
        }
        self.send_text(&frame.to_string()).await;
    }

    /// Sends any frame gzipped, and keeps track of subscriptions and pushes.
    pub async fn send_gzip(&mut self, frame: Value) {
        self.replica.send(&frame);
        self.send_binary(gzip(frame.to_string().as_bytes())).await;
    }

    /// Sends a text message unchanged.
    pub async fn send_text(&mut self, text: &str) {
        self.transcript.sent(text);
        self.connection.send(Message::text(text)).await;
    }

    /// Sends a binary message unchanged.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.transcript.sent(&format!("{} bytes", bytes.len()));
        self.connection.send(Message::binary(bytes)).await;
    }
}
