//! The leader: runs the doorbell and rings for the followers.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt as _;
use sync_core::cursor::Cursor;
use sync_core::doorbell::{Command, Doorbell, Event, Timing};
use tokio::time::Instant;

use super::line::{Queued, is_true, try_lock};
use super::{Ended, FOLLOWER_KEY, LEADER_PAYLOAD, Line};
use crate::listener::WakeUp;
use crate::postgres::capture::{CHANNEL, DOORBELL_KEY};
use crate::postgres::connect::failed;
use crate::postgres::store::in_schema;

/// How long the answer to "are there followers?" is good for.
const FOLLOWERS_KNOWN_FOR: Duration = Duration::from_secs(1);

impl Line<'_> {
    /// Runs the doorbell until the connection ends.
    pub(super) async fn lead(&mut self, reached: &mut Option<Cursor>) -> Result<Infallible, Ended> {
        self.owner.report(WakeUp::Notify, true);
        let mut doorbell = Doorbell::new(Timing::default());
        let mut queued: Option<Queued> = None;
        let mut command = doorbell.on(Event::Connected);
        loop {
            let event = match command.expect("an event that ends a command leads to the next one") {
                Command::Drain => {
                    let found = self.drain_and_ring(reached).await?;
                    Event::Drained { found }
                }
                Command::Wait { at_most_ms } => {
                    self.wait(Duration::from_millis(at_most_ms), queued.as_mut())
                        .await?
                }
                Command::TryLock => {
                    let granted = try_lock(&self.w, DOORBELL_KEY, "going to sleep").await?;
                    Event::LockTried { granted }
                }
                Command::QueueLock => {
                    let w = self.w.clone();
                    let wait = in_schema(
                        &format!("SELECT _rhtmx_sync_await_lock({DOORBELL_KEY})"),
                        &self.log_schema,
                    );
                    // Between two requests a writer may find the lock free, and stay silent. The drains at
                    // growing intervals, or the one after the grant, find its change.
                    queued = Some(
                        async move {
                            while !is_true(&w, &wait).await? {}
                            Ok(())
                        }
                        .boxed(),
                    );
                    Event::LockQueued
                }
                Command::CancelLock => {
                    // From L, so that it is done when this returns and cannot hit a later statement.
                    let cancelled = self
                        .l
                        .execute("SELECT pg_cancel_backend($1)", &[&self.w_pid])
                        .await;
                    cancelled.map_err(|error| failed("leaving the queue", &error))?;
                    Event::CancelSent
                }
                Command::Unlock => {
                    let w = self.w.clone();
                    let unlock = format!("SELECT pg_advisory_unlock({DOORBELL_KEY})");
                    // The changes that were rung for need not wait for the unlock. The drain that counts is
                    // the one that is commanded after it.
                    let (unlocked, drained) =
                        tokio::join!(w.batch_execute(&unlock), self.drain_and_ring(reached));
                    unlocked.map_err(|error| failed("waking", &error))?;
                    drained?;
                    Event::Unlocked
                }
            };
            if matches!(event, Event::LockGranted | Event::LockCancelled) {
                queued = None;
            }
            command = doorbell.on(event);
        }
    }

    /// Drains, and rings for the followers if anything was found.
    async fn drain_and_ring(&mut self, reached: &mut Option<Cursor>) -> Result<bool, Ended> {
        let found = self.drain(reached).await?;
        if found {
            self.ring_followers().await?;
        }
        Ok(found)
    }

    /// Rings for the followers, if there are any.
    async fn ring_followers(&mut self) -> Result<(), Ended> {
        let known = self
            .followers
            .filter(|(_, since)| since.elapsed() < FOLLOWERS_KNOWN_FOR);
        let present = match known {
            Some((present, _)) => present,
            None => {
                let context = "looking for followers";
                let alone = try_lock(&self.l, FOLLOWER_KEY, context).await?;
                if alone {
                    self.execute(
                        context,
                        &format!("SELECT pg_advisory_unlock({FOLLOWER_KEY})"),
                    )
                    .await?;
                }
                self.followers = Some((!alone, Instant::now()));
                !alone
            }
        };
        if present {
            self.execute(
                "ringing",
                &format!("SELECT pg_notify('{CHANNEL}', '{LEADER_PAYLOAD}')"),
            )
            .await?;
        }
        Ok(())
    }
}
