//! How fast users may write, and addresses may try tokens: all their connections together. Clients without a user are
//! counted by their address.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sync_core::limit::Limit;
use sync_core::rate::KeyedBuckets;
use tokio::time::Instant;

use crate::auth::Counted;
use crate::config::LimitsConfig;
use crate::limits;

/// Users, and addresses, that are told apart; all further ones share one bucket.
const KEYS_MAX: usize = 10_000;

/// Token buckets of this server.
#[derive(Debug)]
pub(crate) struct Rates {
    began: Instant,
    /// Whether clients say who they are. Where they do not, those without a user are not counted.
    has_users: bool,
    writes_max: usize,
    pushes: Option<Mutex<KeyedBuckets<Counted>>>,
    writes: Option<Mutex<KeyedBuckets<Counted>>>,
    wrong_tokens: Option<Mutex<KeyedBuckets<IpAddr>>>,
}

impl Rates {
    pub(crate) fn new(limits: &LimitsConfig, has_users: bool) -> Self {
        Self {
            began: Instant::now(),
            has_users,
            writes_max: limits.writes_max,
            pushes: buckets(limits.pushes_per_second_of_user),
            writes: buckets(limits.writes_per_second_of_user),
            wrong_tokens: buckets(limits.wrong_tokens_per_second),
        }
    }

    /// Counts a mutation of this many writes, and returns how long its user should wait before the next one.
    pub(crate) fn push(&self, user: Option<&Counted>, writes: usize) -> Option<Duration> {
        if writes > self.writes_max {
            limits::reached(Limit::Writes);
        }
        let user = self.counted(user)?;
        let now = self.began.elapsed();
        let pushes = spend(self.pushes.as_ref(), user, 1, now);
        let writes = spend(self.writes.as_ref(), user, writes as u64, now);
        paused(pushes, writes, now)
    }

    /// How long a user should wait before it pushes again.
    pub(crate) fn push_pause(&self, user: Option<&Counted>) -> Option<Duration> {
        let user = self.counted(user)?;
        let closed = |buckets: Option<&Mutex<KeyedBuckets<Counted>>>| {
            buckets.map_or(Duration::ZERO, |buckets| lock(buckets).closed_until(user))
        };
        let (pushes, writes) = (closed(self.pushes.as_ref()), closed(self.writes.as_ref()));
        paused(pushes, writes, self.began.elapsed())
    }

    fn counted<'a>(&self, user: Option<&'a Counted>) -> Option<&'a Counted> {
        user.filter(|user| self.has_users || matches!(user, Counted::User(_)))
    }

    /// How long an address should wait before it shows another token.
    pub(crate) fn token_pause(&self, address: Option<IpAddr>) -> Option<Duration> {
        let until = lock(self.wrong_tokens.as_ref()?).closed_until(&address?);
        let paused = pause(until, self.began.elapsed());
        if paused.is_some() {
            limits::reached(Limit::WrongTokens);
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

/// How long to wait until neither bucket is closed.
fn paused(pushes: Duration, writes: Duration, now: Duration) -> Option<Duration> {
    let paused = pause(pushes.max(writes), now)?;
    limits::reached(if pushes >= writes {
        Limit::PushesOfUser
    } else {
        Limit::WritesOfUser
    });
    Some(paused)
}

fn pause(until: Duration, now: Duration) -> Option<Duration> {
    until.checked_sub(now).filter(|pause| !pause.is_zero())
}

fn lock<K>(buckets: &Mutex<KeyedBuckets<K>>) -> MutexGuard<'_, KeyedBuckets<K>> {
    buckets.lock().unwrap_or_else(PoisonError::into_inner)
}
