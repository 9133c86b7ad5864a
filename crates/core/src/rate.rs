//! How fast one connection may send: a token bucket for frames and one for bytes. And token buckets by key, for what all
//! connections of a user or of an address may do together.
//!
//! A connection that has spent its tokens is not cut but read later, so an honest client that sends much at once only
//! waits. One that goes on at the limit for long is a flood.

use std::collections::BTreeMap;
use std::time::Duration;

/// The bucket holds what may be spent in so much time.
const BURST: Duration = Duration::from_secs(2);

/// A token bucket. Times are since any fixed moment.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: u64,
    /// Until when everything spent so far has been paid for.
    paid_at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_second: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            paid_at: Duration::ZERO,
        }
    }

    /// Spends tokens, and returns when more may be spent.
    pub fn spend(&mut self, tokens: u64, now: Duration) -> Duration {
        let micros = u128::from(tokens) * 1_000_000 / u128::from(self.per_second);
        let cost = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now).saturating_add(cost);
        self.closed_until()
    }

    /// Until when nothing more may be spent.
    fn closed_until(&self) -> Duration {
        self.paid_at.saturating_sub(BURST)
    }
}

/// Token buckets by key. Only those that are not full are worth keeping, and only so many are kept: what all further keys
/// spend comes out of one bucket for all of these.
#[derive(Debug, Clone)]
pub struct KeyedBuckets<K> {
    per_second: u64,
    keys_max: usize,
    buckets: BTreeMap<K, TokenBucket>,
    others: TokenBucket,
    /// When full buckets may be looked for again.
    sweep_at: Duration,
}

/// How often full buckets are looked for.
const SWEEP: Duration = Duration::from_secs(1);

impl<K: Ord + Clone> KeyedBuckets<K> {
    /// Full buckets, of which at most `keys_max` are kept.
    pub fn new(per_second: u64, keys_max: usize) -> Self {
        Self {
            per_second,
            keys_max,
            buckets: BTreeMap::new(),
            others: TokenBucket::new(per_second),
            sweep_at: Duration::ZERO,
        }
    }

    /// Until when nothing more may be spent under this key; not later than `now` when something may.
    pub fn closed_until(&self, key: &K) -> Duration {
        let is_full = self.buckets.len() >= self.keys_max;
        match self.buckets.get(key) {
            Some(bucket) => bucket.closed_until(),
            None if is_full => self.others.closed_until(),
            None => Duration::ZERO,
        }
    }

    /// Spends tokens under a key, and returns when more may be spent.
    pub fn spend(&mut self, key: &K, tokens: u64, now: Duration) -> Duration {
        if let Some(bucket) = self.buckets.get_mut(key) {
            return bucket.spend(tokens, now);
        }
        if self.buckets.len() >= self.keys_max && now >= self.sweep_at {
            self.buckets.retain(|_, bucket| bucket.paid_at > now);
            self.sweep_at = now + SWEEP;
        }
        if self.buckets.len() >= self.keys_max {
            return self.others.spend(tokens, now);
        }
        let bucket = self.buckets.entry(key.clone());
        let bucket = bucket.or_insert_with(|| TokenBucket::new(self.per_second));
        bucket.spend(tokens, now)
    }
}

/// The input of one connection.
#[derive(Debug, Clone)]
pub struct InputRate {
    frames: TokenBucket,
    bytes: TokenBucket,
    /// Since when the connection has been slowed without a pause.
    slowed_since: Option<Duration>,
}

impl InputRate {
    /// The rate of a connection that has sent nothing.
    pub fn new(frames_per_second: u64, bytes_per_second: u64) -> Self {
        Self {
            frames: TokenBucket::new(frames_per_second),
            bytes: TokenBucket::new(bytes_per_second),
            slowed_since: None,
        }
    }

    /// Counts a frame of this many bytes, and returns when the next may be read.
    pub fn frame(&mut self, bytes: usize, now: Duration) -> Duration {
        if self.frames.paid_at.max(self.bytes.paid_at) <= now {
            self.slowed_since = None;
        }
        let frames = self.frames.spend(1, now);
        let next = frames.max(self.bytes.spend(bytes as u64, now));
        if next > now {
            self.slowed_since.get_or_insert(now);
        }
        next
    }

    /// For how long the connection has been slowed without a pause.
    pub fn slowed_for(&self, now: Duration) -> Duration {
        let since = self.slowed_since.unwrap_or(now);
        now.saturating_sub(since)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_and_a_flood_is_slowed() {
        let mut rate = InputRate::new(10, 1000);
        for _ in 0..20 {
            assert!(rate.frame(10, SECOND) <= SECOND);
        }
        assert!(rate.frame(10, SECOND) > SECOND);
        // A large frame is paid for by a longer pause.
        assert!(rate.frame(10_000, SECOND) > 8 * SECOND);
        assert_eq!(rate.slowed_for(31 * SECOND), 30 * SECOND);
        // After a pause all is forgotten.
        rate.frame(10, 60 * SECOND);
        assert_eq!(rate.slowed_for(60 * SECOND), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn keys_are_told_apart_and_only_so_many_are_kept(
            steps in proptest::collection::vec(("[a-e]", 1_u64..8, 0_u64..500), 1..200),
        ) {
            let (per_second, keys_max) = (5, 3);
            let mut buckets: KeyedBuckets<String> = KeyedBuckets::new(per_second, keys_max);
            let mut now = Duration::ZERO;
            let mut spent: BTreeMap<String, u64> = BTreeMap::new();
            for (key, tokens, pause) in steps {
                now += Duration::from_millis(pause);
                if buckets.closed_until(&key) > now {
                    continue;
                }
                buckets.spend(&key, tokens, now);
                *spent.entry(key).or_default() += tokens;
                prop_assert!(buckets.buckets.len() <= keys_max);
                // However the keys take turns, none spends more than its own bucket and that of the others hold.
                let allowed = 2.0 * ((now + BURST).as_secs_f64() * per_second as f64 + 8.0);
                prop_assert!(spent.values().all(|spent| *spent as f64 <= allowed));
            }
        }

        #[test]
        fn a_client_that_waits_as_told_stays_below_the_limit(
            sizes in proptest::collection::vec(0_usize..5000, 1..200),
            pauses in proptest::collection::vec(0_u64..200, 1..20),
        ) {
            let (frames_per_second, bytes_per_second) = (50, 10_000);
            let mut rate = InputRate::new(frames_per_second, bytes_per_second);
            let (mut now, mut frames, mut bytes) = (Duration::ZERO, 0, 0);
            for (size, pause) in sizes.into_iter().zip(pauses.into_iter().cycle()) {
                let next = rate.frame(size, now);
                frames += 1;
                bytes += size as u64;
                let allowed = (now + BURST).as_secs_f64();
                prop_assert!(f64::from(frames) <= allowed * frames_per_second as f64 + 1.0);
                prop_assert!(bytes as f64 <= allowed * bytes_per_second as f64 + 5001.0);
                now = (now + Duration::from_millis(pause)).max(next);
            }
        }
    }
}
