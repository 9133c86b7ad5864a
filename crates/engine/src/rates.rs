//! How fast users may write, and addresses may try tokens: all their connections together.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sync_core::rate::KeyedBuckets;
use tokio::time::Instant;

use crate::config::LimitsConfig;

/// Users, and addresses, that are told apart; all further ones share one bucket.
const KEYS_MAX: usize = 10_000;

/// Token buckets of this server.
#[derive(Debug)]
pub(crate) struct Rates {
    began: Instant,
    pushes: Option<Mutex<KeyedBuckets<String>>>,
    writes: Option<Mutex<KeyedBuckets<String>>>,
    wrong_tokens: Option<Mutex<KeyedBuckets<IpAddr>>>,
}

impl Rates {
    pub(crate) fn new(limits: &LimitsConfig) -> Self {
        Self {
            began: Instant::now(),
            pushes: buckets(limits.pushes_per_second_of_user),
            writes: buckets(limits.writes_per_second_of_user),
            wrong_tokens: buckets(limits.wrong_tokens_per_second),
        }
    }

    /// Counts a mutation of this many writes, and returns how long its user should wait before the next one.
    pub(crate) fn push(&self, user_id: Option<&String>, writes: usize) -> Option<Duration> {
        let user_id = user_id?;
        let now = self.began.elapsed();
        let pushes = spend(self.pushes.as_ref(), user_id, 1, now);
        let writes = spend(self.writes.as_ref(), user_id, writes as u64, now);
        pause(pushes.max(writes), now)
    }

    /// How long a user should wait before it pushes again.
    pub(crate) fn push_pause(&self, user_id: Option<&String>) -> Option<Duration> {
        let user_id = user_id?;
        let closed = |buckets: Option<&Mutex<KeyedBuckets<String>>>| {
            buckets.map_or(Duration::ZERO, |buckets| {
                lock(buckets).closed_until(user_id)
            })
        };
        let until = closed(self.pushes.as_ref()).max(closed(self.writes.as_ref()));
        let paused = pause(until, self.began.elapsed());
        if paused.is_some() {
            metrics::counter!("rhtmx_sync_pushes_refused_total").increment(1);
        }
        paused
    }

    /// How long an address should wait before it shows another token.
    pub(crate) fn token_pause(&self, address: Option<IpAddr>) -> Option<Duration> {
        let until = lock(self.wrong_tokens.as_ref()?).closed_until(&address?);
        let paused = pause(until, self.began.elapsed());
        if paused.is_some() {
            metrics::counter!("rhtmx_sync_tokens_unread_total").increment(1);
        }
        paused
    }

    /// Counts a token that was not valid.
    pub(crate) fn wrong_token(&self, address: Option<IpAddr>) {
        if let Some(address) = address {
            let now = self.began.elapsed();
            spend(self.wrong_tokens.as_ref(), &address, 1, now);
        }
    }
}

fn buckets<K: Ord + Clone>(per_second: u64) -> Option<Mutex<KeyedBuckets<K>>> {
    (per_second > 0).then(|| Mutex::new(KeyedBuckets::new(per_second, KEYS_MAX)))
}

fn spend<K: Ord + Clone>(
    buckets: Option<&Mutex<KeyedBuckets<K>>>,
    key: &K,
    tokens: u64,
    now: Duration,
) -> Duration {
    buckets.map_or(Duration::ZERO, |buckets| {
        lock(buckets).spend(key, tokens, now)
    })
}

fn pause(until: Duration, now: Duration) -> Option<Duration> {
    until.checked_sub(now).filter(|pause| !pause.is_zero())
}

fn lock<K>(buckets: &Mutex<KeyedBuckets<K>>) -> MutexGuard<'_, KeyedBuckets<K>> {
    buckets.lock().unwrap_or_else(PoisonError::into_inner)
}
