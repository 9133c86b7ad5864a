//! How servers reach each other: a bus for what may be lost.
//!
//! Rows never go over it. The log is the truth, and every server reads it; a bus carries what nobody stores.

mod local;

use std::fmt;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use local::LocalBus;

/// Messages that may wait for a slow subscriber of a topic; more, and the newest are dropped.
pub const TOPIC_MESSAGES_MAX: usize = 256;

/// Carries messages between servers, by topic. A message may be lost, and never comes twice; those of one
/// publisher come in order.
pub trait Bus: fmt::Debug + Send + Sync {
    /// Sends a message to every subscriber of a topic, on all servers. It never waits.
    fn publish(&self, topic: &str, message: Bytes);

    /// Receives what is published to a topic from here on, until the subscription is dropped.
    fn subscribe(&self, topic: &str) -> BusSubscription;
}

/// Receives the messages of one topic.
#[derive(Debug)]
pub struct BusSubscription {
    messages: mpsc::Receiver<Bytes>,
}

impl BusSubscription {
    /// A subscription that receives what is sent into the queue `messages`.
    pub fn new(messages: mpsc::Receiver<Bytes>) -> Self {
        Self { messages }
    }

    /// The next message; none when the bus is gone. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.messages.recv().await
    }
}
