//! The end of a session whose token has expired.

use std::pin::Pin;
use std::time::Duration;

use protocol::{CloseCode, Error, ErrorCode};
use sync_core::policy::{Lifetime, Principal};
use tokio::time::Sleep;

use super::transport::Transport;
use super::{Close, OTHER_EPOCH, SessionTask, finished};
use crate::clock::now_ms;
use crate::principals::{Present, SIGNED_OUT};

/// How long a session that ends waits for its mutations. Those that take longer are answered when the client pushes
/// them again.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(10);

/// What the client is told, and the reason of the close.
const EXPIRED: &str = "the token has expired";

/// Says when a session's token, and the grace after it, have passed.
pub(super) struct Expiry {
    grace: Duration,
    lifetime: Lifetime,
    /// Boxed, because most sessions have none.
    wait: Option<Pin<Box<Sleep>>>,
}

impl Expiry {
    pub(super) fn new(principal: &Principal, grace: Duration) -> Self {
        let mut expiry = Self {
            grace,
            lifetime: Lifetime::of(principal, grace),
            wait: None,
        };
        expiry.wait_again();
        expiry
    }

    /// A fresh token has come.
    pub(super) fn renew(&mut self, principal: &Principal) {
        *self = Self::new(principal, self.grace);
    }

    /// Whether nothing more may be sent.
    pub(super) fn is_over(&self) -> bool {
        self.wait.is_some() && self.lifetime.has_ended(now_ms())
    }

    /// Waits until the clock should be looked at; forever for a session that never expires. Dropping the future loses
    /// nothing.
    pub(super) async fn wait(&mut self) {
        match &mut self.wait {
            Some(wait) => wait.as_mut().await,
            None => std::future::pending().await,
        }
        self.wait_again();
    }

    fn wait_again(&mut self) {
        let wait = self.lifetime.wait(now_ms());
        self.wait = wait.map(|wait| Box::pin(tokio::time::sleep(wait)));
    }
}

impl<T: Transport> SessionTask<T> {
    /// Fails when the application has ended the session, or when its token and the grace after it have passed: nothing
    /// that has been committed since then is sent.
    pub(super) fn check_expiry(&self) -> Result<(), Close> {
        if self.present.as_ref().is_some_and(Present::has_ended) {
            return Err(Close::SignedOut);
        }
        if self.expiry.is_over() {
            return Err(Close::Expired);
        }
        Ok(())
    }

    /// Why the mailbox is closed.
    pub(super) fn mailbox_closed(&self) -> Close {
        match self.check_expiry() {
            Err(close) => close,
            Ok(()) => OTHER_EPOCH,
        }
    }

    /// Says why the session ends, and answers nothing any more.
    pub(super) async fn sign_out(&mut self) -> Close {
        self.reads.give_up_turn();
        // Sending checks both.
        self.present = None;
        self.expiry = Expiry::new(&Principal::default(), Duration::ZERO);
        let why = Error::fatal(ErrorCode::Unauthenticated, SIGNED_OUT);
        match self.error(why).await {
            Ok(()) => Close::With(CloseCode::Unauthenticated, "the application ends this"),
            Err(close) => close,
        }
    }

    /// Answers the mutations that have been received, without sending any rows, and says why the session ends.
    pub(super) async fn expire(&mut self) -> Close {
        let why = Error::fatal(ErrorCode::Unauthenticated, EXPIRED);
        let close = Close::With(CloseCode::Unauthenticated, EXPIRED);
        self.answer_rest(why, close).await
    }

    /// Answers the mutations that have been received, sends the error, and returns the close.
    pub(super) async fn answer_rest(&mut self, why: Error, close: Close) -> Close {
        self.reads.give_up_turn();
        // Sending checks it, and the answers carry no rows.
        self.expiry = Expiry::new(&Principal::default(), Duration::ZERO);
        let ended = tokio::time::timeout(ANSWERS_TIMEOUT, self.answer_mutations()).await;
        if matches!(ended, Ok(Err(Close::Disconnected))) {
            return Close::Disconnected;
        }
        match self.error(why).await {
            Ok(()) => close,
            Err(close) => close,
        }
    }

    async fn answer_mutations(&mut self) -> Result<(), Close> {
        let commands = self.rules.end();
        self.perform(commands).await?;
        while self.applying.is_some() {
            let applied = finished(&mut self.applying).await;
            self.applied(applied).await?;
            self.flush().await?;
        }
        Ok(())
    }
}
