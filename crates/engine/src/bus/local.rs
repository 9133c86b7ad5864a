//! The bus of a single server.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Bus, BusSubscription, TOPIC_MESSAGES_MAX};

/// Carries messages within this process.
#[derive(Debug, Default)]
pub struct LocalBus {
    topics: Mutex<HashMap<String, Vec<mpsc::Sender<Bytes>>>>,
}

impl LocalBus {
    fn topics(&self) -> MutexGuard<'_, HashMap<String, Vec<mpsc::Sender<Bytes>>>> {
        self.topics.lock().expect("no panic holds this lock")
    }
}

impl Bus for LocalBus {
    fn publish(&self, topic: &str, message: Bytes) {
        let mut topics = self.topics();
        let Some(subscribers) = topics.get_mut(topic) else {
            return;
        };
        subscribers.retain(|subscriber| match subscriber.try_send(message.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!("rhtmx_sync_bus_dropped_total").increment(1);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
        if subscribers.is_empty() {
            topics.remove(topic);
        }
    }

    fn subscribe(&self, topic: &str) -> BusSubscription {
        let (sender, messages) = mpsc::channel(TOPIC_MESSAGES_MAX);
        let mut topics = self.topics();
        let subscribers = topics.entry(topic.to_owned()).or_default();
        // Closed subscriptions are removed by the next message or the next subscriber.
        subscribers.retain(|subscriber| !subscriber.is_closed());
        subscribers.push(sender);
        BusSubscription::new(messages)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn received(subscription: &mut BusSubscription) -> Option<Bytes> {
        subscription.recv().now_or_never().flatten()
    }

    #[test]
    fn a_message_reaches_every_subscriber_of_its_topic() {
        let bus = LocalBus::default();
        bus.publish("a", Bytes::from_static(b"before"));
        let (mut one, mut two) = (bus.subscribe("a"), bus.subscribe("a"));
        let mut other = bus.subscribe("b");
        bus.publish("a", Bytes::from_static(b"1"));
        bus.publish("a", Bytes::from_static(b"2"));
        for subscription in [&mut one, &mut two] {
            assert_eq!(received(subscription).as_deref(), Some(&b"1"[..]));
            assert_eq!(received(subscription).as_deref(), Some(&b"2"[..]));
            assert_eq!(received(subscription), None);
        }
        assert_eq!(received(&mut other), None);
    }

    #[test]
    fn a_slow_subscriber_loses_messages_and_delays_no_other() {
        let bus = LocalBus::default();
        let (mut slow, mut fast) = (bus.subscribe("a"), bus.subscribe("a"));
        for number in 0..TOPIC_MESSAGES_MAX + 10 {
            bus.publish("a", Bytes::from(number.to_string()));
            assert_eq!(received(&mut fast), Some(Bytes::from(number.to_string())));
        }
        let kept = std::iter::from_fn(|| received(&mut slow)).count();
        assert_eq!(kept, TOPIC_MESSAGES_MAX);
    }

    #[test]
    fn a_topic_without_subscribers_is_forgotten() {
        let bus = LocalBus::default();
        drop(bus.subscribe("a"));
        bus.publish("a", Bytes::new());
        assert!(bus.topics().is_empty());
        for _ in 0..10 {
            drop(bus.subscribe("b"));
        }
        assert_eq!(
            bus.topics()["b"].len(),
            1,
            "only the last is not removed yet"
        );
    }
}
