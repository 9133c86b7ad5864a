//! What a test can query of the client.

use std::collections::BTreeMap;

use serde_json::Value;

use super::SyncClient;
use super::options::SubscriptionId;
use super::pushes::PushOutcome;
use super::subscription::Subscription;

/// The copy, and the frames of this connection.
impl SyncClient {
    /// The `welcome` frame.
    pub fn welcome(&self) -> &Value {
        self.replica
            .welcome
            .as_ref()
            .expect("no welcome was received")
    }

    /// Returns a subscription, and panics if there is none with this id.
    pub fn subscription(&self, id: impl Into<SubscriptionId>) -> &Subscription {
        let id = id.into();
        self.replica
            .subscriptions
            .get(&id)
            .unwrap_or_else(|| panic!("no subscription has the id {id}"))
    }

    /// All subscriptions.
    pub fn subscriptions(&self) -> &BTreeMap<SubscriptionId, Subscription> {
        &self.replica.subscriptions
    }

    /// A subscription's rows, by key, as of the last cursor.
    pub fn rows(&self, id: impl Into<SubscriptionId>) -> &BTreeMap<String, Value> {
        self.subscription(id).rows()
    }

    /// One row.
    pub fn row(&self, id: impl Into<SubscriptionId>, key: &str) -> Option<&Value> {
        self.rows(id).get(key)
    }

    /// The resume point that all live subscriptions share; none if they differ or none is live.
    pub fn cursor(&self) -> Option<&str> {
        self.replica.cursor()
    }

    /// The number that the next mutation must have.
    pub fn next_mutation(&self) -> u64 {
        self.replica.pushes.next()
    }

    /// The last answer to a mutation.
    pub fn outcome(&self, mutation: u64) -> Option<&PushOutcome> {
        self.replica.pushes.outcomes.get(&mutation)
    }

    /// The mutations without an answer.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> {
        self.replica.pushes.unanswered.keys().copied()
    }

    /// The last frames in both directions, for the message of a failed test.
    pub fn transcript(&self) -> String {
        self.transcript.to_string()
    }

    /// The `conflict` frames so far.
    pub fn conflicts(&self) -> &[Value] {
        &self.replica.conflicts
    }

    /// The `error` frames so far.
    pub fn errors(&self) -> &[Value] {
        &self.replica.errors
    }

    /// How often a row was sent whole, in a snapshot or a `put`.
    pub fn puts(&self, id: impl Into<SubscriptionId>, key: &str) -> u64 {
        self.subscription(id)
            .puts()
            .get(key)
            .copied()
            .unwrap_or_default()
    }

    /// The number of frames of a type received so far.
    pub fn frames(&self, kind: &str) -> u64 {
        self.replica.frames.get(kind).copied().unwrap_or_default()
    }

    /// Resets the counts of puts and frames.
    pub fn reset_counters(&mut self) {
        self.replica.frames.clear();
        self.replica
            .subscriptions
            .values_mut()
            .for_each(Subscription::reset_counters);
    }

    pub(super) fn answers(&self, mutation: u64) -> u64 {
        self.replica.pushes.answers(mutation)
    }
}
