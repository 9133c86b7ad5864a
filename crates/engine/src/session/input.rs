//! How fast a session reads what its client sends.

use std::time::Duration;

use sync_core::rate::InputRate;
use tokio::time::{Instant, Sleep};

use super::transport::Incoming;
use crate::config::LimitsConfig;

/// The pace of one connection's input.
pub(super) struct Input {
    began: Instant,
    rate: InputRate,
    patience: Duration,
    /// Runs while the client has sent more than it may. Boxed, because it seldom does.
    pause: Option<std::pin::Pin<Box<Sleep>>>,
}

/// The client has sent more than it may for too long.
pub(super) struct Flood;

impl Input {
    pub(super) fn new(limits: &LimitsConfig) -> Self {
        Self {
            began: Instant::now(),
            rate: InputRate::new(limits.frames_per_second, limits.bytes_per_second),
            patience: limits.stalled_timeout(),
            pause: None,
        }
    }

    /// Whether the next frame must wait.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Reads the next frame not before this pause is over.
    pub(super) fn pause(&mut self, pause: Duration) {
        metrics::counter!("rhtmx_sync_input_pauses_total").increment(1);
        let end = Instant::now() + pause;
        match &mut self.pause {
            Some(paused) if paused.deadline() >= end => {}
            _ => self.pause = Some(Box::pin(tokio::time::sleep_until(end))),
        }
    }

    /// Waits until the next frame may be read, forever when it may already. Dropping the future loses nothing.
    pub(super) async fn resume(&mut self) {
        match &mut self.pause {
            Some(pause) => pause.as_mut().await,
            None => std::future::pending().await,
        }
        self.pause = None;
    }

    /// Counts a frame.
    pub(super) fn count(&mut self, incoming: &Incoming) -> Result<(), Flood> {
        let bytes = match incoming {
            Incoming::Frame(text) => text.len(),
            Incoming::Handled { bytes } => *bytes,
            _ => 0,
        };
        let now = self.began.elapsed();
        let next = self.rate.frame(bytes, now);
        if next <= now {
            return Ok(());
        }
        metrics::counter!("rhtmx_sync_input_pauses_total").increment(1);
        if self.rate.slowed_for(now) > self.patience {
            return Err(Flood);
        }
        self.pause = Some(Box::pin(tokio::time::sleep_until(self.began + next)));
        Ok(())
    }
}
