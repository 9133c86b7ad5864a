//! Waits for the server's frames.

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::SyncClient;
use super::connection::{Closed, Received};
use super::options::SubscriptionId;
use super::subscription::Phase;

/// Waiting. Each method fails the test after [`patience`](super::ClientOptions::patience).
impl SyncClient {
    /// Waits for the next frame, of any type, and applies it to the copy.
    pub async fn next_frame(&mut self) -> Value {
        let next = self.try_next_frame().await;
        self.open_or_fail(next, "a frame")
    }

    /// Like [`next_frame`](Self::next_frame), for connections that may end.
    pub async fn try_next_frame(&mut self) -> Result<Value, Closed> {
        self.next_before(self.deadline()).await
    }

    /// Waits for the next frame that the predicate accepts.
    pub async fn wait_for(&mut self, accept: impl FnMut(&Value) -> bool) -> Value {
        let found = self.try_wait_for(accept).await;
        self.open_or_fail(found, "a certain frame")
    }

    /// Like [`wait_for`](Self::wait_for), for connections that may end.
    pub async fn try_wait_for(
        &mut self,
        mut accept: impl FnMut(&Value) -> bool,
    ) -> Result<Value, Closed> {
        let deadline = self.deadline();
        loop {
            let frame = self.next_before(deadline).await?;
            if accept(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Applies frames until the predicate holds; it may hold at once.
    pub async fn wait_until(&mut self, holds: impl FnMut(&Self) -> bool) {
        let reached = self.try_wait_until(holds).await;
        self.open_or_fail(reached, "a certain state");
    }

    /// Like [`wait_until`](Self::wait_until), for connections that may end.
    pub async fn try_wait_until(
        &mut self,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Result<(), Closed> {
        let deadline = self.deadline();
        while !holds(self) {
            self.next_before(deadline).await?;
        }
        Ok(())
    }

    /// Waits until the subscription is live, and fails if it is refused.
    pub async fn wait_subscribed(&mut self, id: impl Into<SubscriptionId>) {
        let id = id.into();
        self.wait_until(|client| *client.subscription(&id).phase() != Phase::Joining)
            .await;
        if let Phase::Refused(code) = self.subscription(&id).phase() {
            let message = format!("the subscription {id} was refused: {code}");
            self.fail(&message);
        }
    }

    /// Waits until the subscription is refused, and returns the error code.
    pub async fn wait_refused(&mut self, id: impl Into<SubscriptionId>) -> String {
        let id = id.into();
        self.wait_until(|client| *client.subscription(&id).phase() != Phase::Joining)
            .await;
        match self.subscription(&id).phase() {
            Phase::Refused(code) => code.clone(),
            phase => {
                let message = format!("the subscription {id} was not refused but is {phase:?}");
                self.fail(&message)
            }
        }
    }

    /// Waits for the next `cursor` frame, and returns its cursor.
    pub async fn wait_cursor(&mut self) -> String {
        let frame = self.wait_for(|frame| frame["type"] == "cursor").await;
        frame["cursor"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until every push is answered.
    pub async fn wait_answered(&mut self) {
        self.wait_until(|client| client.replica.pushes.unanswered.is_empty())
            .await;
    }

    /// Waits for an `error` frame, and returns its code.
    pub async fn wait_error(&mut self) -> String {
        let frame = self.wait_for(|frame| frame["type"] == "error").await;
        frame["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the server closes the connection, and returns the close code.
    pub async fn close_code(&mut self) -> u16 {
        match self.try_wait_for(|_| false).await {
            Ok(_) => unreachable!("no frame is accepted"),
            Err(closed) => closed.code,
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.patience
    }

    async fn next_before(&mut self, deadline: Instant) -> Result<Value, Closed> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        let Ok(received) = timeout_at(deadline, self.connection.receive()).await else {
            let message = format!(
                "the server hangs: what the test waits for has not arrived within {:?}",
                self.options.patience
            );
            self.fail(&message)
        };
        match received {
            Ok(Received::Frame(frame)) => {
                self.transcript.received(&frame.to_string());
                if let Err(violation) = self.replica.receive(&frame) {
                    self.fail(&violation.to_string());
                }
                Ok(frame)
            }
            Ok(Received::Closed(closed)) => {
                self.transcript.received(&closed.to_string());
                self.closed = Some(closed.clone());
                Err(closed)
            }
            Err(violation) => self.fail(&violation.to_string()),
        }
    }

    fn open_or_fail<T>(&mut self, result: Result<T, Closed>, awaited: &str) -> T {
        result.unwrap_or_else(|closed| {
            self.fail(&format!("{closed}, while the test waits for {awaited}"))
        })
    }

    fn fail(&mut self, message: &str) -> ! {
        self.failed = true;
        panic!("{message}\n{}", self.transcript)
    }
}
