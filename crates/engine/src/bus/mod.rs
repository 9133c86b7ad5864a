//! The bus: carries messages between servers that may be lost.
//!
//! Rows never use it. The log is the truth, and every server reads it; a bus carries what is stored nowhere.

mod local;

use std::fmt;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use local::LocalBus;

/// Messages that may wait for a slow subscriber of a topic; beyond that, the newest are dropped.
pub const TOPIC_MESSAGES_MAX: usize = 256;

/// Carries messages between servers, by topic. A message may be lost, but never arrives twice; messages of
/// one publisher arrive in order.
pub trait Bus: fmt::Debug + Send + Sync {
    /// Sends a message to every subscriber of a topic, on all servers. It never waits.
    fn publish(&self, topic: &str, message: Bytes);

    /// Subscribes to what is published to a topic from here on, until the subscription is dropped.
    fn subscribe(&self, topic: &str) -> BusSubscription;
}

/// Receives the messages of one topic.
#[derive(Debug)]
pub struct BusSubscription {
    messages: mpsc::Receiver<Bytes>,
}

impl BusSubscription {
    /// Makes a subscription that receives from the queue `messages`.
    pub fn new(messages: mpsc::Receiver<Bytes>) -> Self {
        Self { messages }
    }

    /// Waits for the next message; none when the bus is gone. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.messages.recv().await
    }
}
