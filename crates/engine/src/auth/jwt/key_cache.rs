//! The keys as they were read last, and when they are read again.
//!
//! At most one read runs, and at most one begins in [`READ_INTERVAL`], whatever the reason and however many clients
//! wait for it. Keys that could not be read again are used up to a stated age.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::jwt::KeySet;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::ReadError;
use super::source::Source;
use crate::auth::KeysStatus;

/// The shortest interval between two reads.
const READ_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct KeyCache {
    source: Source,
    refresh: Duration,
    age_max: Duration,
    /// Told each time when a key is no longer among those that were read.
    withdrawals: watch::Sender<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<(Arc<KeySet>, Instant)>,
    /// When the last read began; none before the first one that a client caused.
    began: Option<Instant>,
    running: Option<Shared<BoxFuture<'static, ()>>>,
    error: Option<ReadError>,
}

impl KeyCache {
    pub(super) fn new(source: Source, refresh: Duration, age_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            source,
            refresh,
            age_max,
            withdrawals: watch::Sender::new(()),
            state: Mutex::default(),
        })
    }

    /// Reads the keys again when it is time, also while no token arrives: connections live on whose key has been
    /// withdrawn. It ends with the cache.
    pub(super) fn keep_fresh(self: &Arc<Self>) {
        let cache = Arc::downgrade(self);
        let pause = self.refresh.max(READ_INTERVAL);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(cache) = cache.upgrade() else {
                    return;
                };
                cache.read_again();
            }
        });
    }

    /// Whether a key is among those that were read last, however long ago: one that cannot be asked for is not
    /// withdrawn.
    pub(super) fn has(&self, key_id: &str) -> bool {
        let state = self.state();
        state.keys.as_ref().is_none_or(|(keys, _)| keys.has(key_id))
    }

    pub(super) fn withdrawals(&self) -> watch::Receiver<()> {
        self.withdrawals.subscribe()
    }

    /// Reads the keys for the first time. It does not count for the interval, so a key that an issuer has published
    /// just now is found.
    pub(super) async fn read_first(&self) -> Result<(), ReadError> {
        self.read().await;
        self.state().error.map_or(Ok(()), Err)
    }

    /// The keys; none when they could not be read for too long. Old ones are read again meanwhile.
    pub(super) async fn keys(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        match self.known() {
            Some((keys, age)) => {
                if age >= self.refresh {
                    self.read_again();
                }
                Some(keys)
            }
            None => self.newer_keys().await,
        }
    }

    /// The keys, after a read if one may begin now or is running.
    pub(super) async fn newer_keys(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        if let Some(reading) = self.read_again() {
            reading.await;
        }
        self.known().map(|(keys, _)| keys)
    }

    pub(super) fn status(&self) -> KeysStatus {
        let state = self.state();
        let keys = state.keys.as_ref();
        KeysStatus {
            source: self.source.name(),
            count: keys.map_or(0, |(keys, _)| keys.len()),
            ignored: keys.map_or(0, |(keys, _)| keys.ignored()),
            age_ms: keys
                .map(|(_, read)| u64::try_from(read.elapsed().as_millis()).unwrap_or(u64::MAX)),
            last_error: state.error.map(|error| error.to_string()),
        }
    }

    /// The keys that are not too old, with their age.
    fn known(&self) -> Option<(Arc<KeySet>, Duration)> {
        let state = self.state();
        let (keys, read) = state.keys.as_ref()?;
        let age = read.elapsed();
        metrics::gauge!("rhtmx_sync_jwks_age_seconds").set(age.as_secs_f64());
        (age < self.age_max).then(|| (keys.clone(), age))
    }

    /// Begins a read, unless one has begun recently; returns the one that runs. It runs on when nobody waits.
    fn read_again(self: &Arc<Self>) -> Option<Shared<BoxFuture<'static, ()>>> {
        let mut state = self.state();
        if let Some(running) = &state.running {
            return Some(running.clone());
        }
        if state
            .began
            .is_some_and(|began| began.elapsed() < READ_INTERVAL)
        {
            return None;
        }
        state.began = Some(Instant::now());
        let cache = self.clone();
        let task = tokio::spawn(async move {
            cache.read().await;
            cache.state().running = None;
        });
        let running = task.map(drop).boxed().shared();
        state.running = Some(running.clone());
        Some(running)
    }

    async fn read(&self) {
        let answer = self.source.read().await;
        let result = if answer.is_ok() { "ok" } else { "error" };
        metrics::counter!("rhtmx_sync_jwks_reads_total", "result" => result).increment(1);
        let mut state = self.state();
        match answer {
            Ok(keys) => {
                if keys.ignored() > 0 {
                    tracing::debug!(
                        ignored = keys.ignored(),
                        "some published keys cannot be used"
                    );
                }
                if state.error.take().is_some() {
                    tracing::info!("the keys that verify tokens can be read again");
                }
                let keys = Arc::new(keys);
                let before = state.keys.replace((keys.clone(), Instant::now()));
                drop(state);
                if before.is_some_and(|(before, _)| !before.is_within(&keys)) {
                    self.withdrawals.send_replace(());
                }
            }
            Err(error) => {
                if state.error.replace(error) != Some(error) {
                    tracing::warn!(%error, "the keys that verify tokens cannot be read");
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTES: Duration = Duration::from_secs(300);

    fn document(keys: usize) -> Result<Vec<u8>, ReadError> {
        let key =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        Ok(format!(r#"{{"keys":[{}]}}"#, vec![key; keys].join(",")).into_bytes())
    }

    /// Answers in this order, then nothing can be reached.
    fn cache(mut answers: Vec<Result<Vec<u8>, ReadError>>) -> Arc<KeyCache> {
        answers.reverse();
        KeyCache::new(Source::Queue(Mutex::new((0, answers))), MINUTES, HOUR)
    }

    fn reads(cache: &KeyCache) -> usize {
        match &cache.source {
            Source::Queue(queue) => queue.lock().expect("the queue").0,
            _ => unreachable!("the tests use a queue"),
        }
    }

    async fn count(cache: &Arc<KeyCache>) -> Option<usize> {
        cache.keys().await.map(|keys| keys.len())
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_clients_cause_one_read_in_ten_seconds() {
        let cache = cache(vec![document(1), document(2), document(3)]);
        cache.read_first().await.expect("keys");
        for expected in [2, 3] {
            let waiting = (0..10_000).map(|_| cache.newer_keys());
            let found = futures_util::future::join_all(waiting).await;
            assert!(
                found
                    .iter()
                    .all(|keys| keys.as_ref().map(|keys| keys.len()) == Some(expected))
            );
            assert_eq!(reads(&cache), expected);
            tokio::time::advance(READ_INTERVAL - Duration::from_millis(1)).await;
            cache.newer_keys().await;
            assert_eq!(reads(&cache), expected);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn old_keys_serve_until_their_stated_age_and_return() {
        let cache = cache(vec![
            document(1),
            Err(ReadError::Unreachable),
            Err(ReadError::Status(500)),
            document(2),
        ]);
        cache.read_first().await.expect("keys");
        tokio::time::advance(MINUTES).await;
        assert_eq!(count(&cache).await, Some(1));
        cache.newer_keys().await;
        assert_eq!(
            cache.status().last_error.as_deref(),
            Some("the server cannot be reached")
        );
        tokio::time::advance(HOUR - MINUTES - Duration::from_millis(1)).await;
        assert_eq!(count(&cache).await, Some(1));
        cache.newer_keys().await;
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(count(&cache).await, None);
        assert_eq!(
            cache.status().last_error.as_deref(),
            Some("the server answered with HTTP status 500")
        );
        tokio::time::advance(READ_INTERVAL).await;
        assert_eq!(count(&cache).await, Some(2));
        assert_eq!(cache.status().last_error, None);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_read_again_and_removed_ones_are_gone() {
        let cache = cache(vec![document(2), document(1)]);
        cache.read_first().await.expect("keys");
        tokio::time::advance(MINUTES - Duration::from_millis(1)).await;
        assert_eq!((count(&cache).await, reads(&cache)), (Some(2), 1));
        tokio::time::advance(Duration::from_millis(1)).await;
        // This client does not wait for the read that it causes.
        assert_eq!(count(&cache).await, Some(2));
        cache.newer_keys().await;
        assert_eq!((count(&cache).await, reads(&cache)), (Some(1), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_withdrawn_key_is_noticed_while_no_token_arrives() {
        let other = document(1).map(|keys| {
            let keys = String::from_utf8(keys).expect("text");
            let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
            keys.replace(x, &x.replace("11q", "22q")).into_bytes()
        });
        let cache = cache(vec![document(1), document(2), other]);
        cache.read_first().await.expect("keys");
        let key_id = {
            let state = cache.state();
            let (keys, _) = state.keys.as_ref().expect("keys");
            assert!(keys.is_within(keys));
            keys.clone()
        };
        cache.keep_fresh();
        let mut withdrawals = cache.withdrawals();
        // The same key once more changes nothing.
        tokio::time::sleep(MINUTES + READ_INTERVAL).await;
        assert_eq!(reads(&cache), 2);
        assert!(!withdrawals.has_changed().expect("a sender"));
        withdrawals.changed().await.expect("a sender");
        assert_eq!(reads(&cache), 3);
        let state = cache.state();
        let (keys, _) = state.keys.as_ref().expect("keys");
        assert!(!key_id.is_within(keys));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_set_does_not_replace_keys_and_does_not_keep_them_for_ever() {
        let cache = cache(vec![document(1), document(0), document(0)]);
        cache.read_first().await.expect("keys");
        tokio::time::advance(MINUTES).await;
        cache.newer_keys().await;
        assert_eq!(count(&cache).await, Some(1));
        tokio::time::advance(HOUR).await;
        assert_eq!(count(&cache).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_goes_on_when_the_client_that_caused_it_is_gone() {
        let cache = cache(vec![document(1), document(2)]);
        cache.read_first().await.expect("keys");
        drop(cache.read_again().expect("a read begins"));
        cache.newer_keys().await;
        assert_eq!((count(&cache).await, reads(&cache)), (Some(2), 2));
    }
}
