//! What a client's frames mean.

use protocol::{
    Auth, Authenticated, ClientFrame, CloseCode, Error, ErrorCode, MODE_FIELDS, Ping, Pong,
    SelectionRequest, ServerFrame,
};
use sync_core::shape::of_fields_alone;
use tokio::time::Instant;

use super::transport::Transport;
use super::{Close, SessionTask};
use crate::admission;
use crate::auth::{AuthError, NamedBy};
use crate::lost_values;

impl<T: Transport> SessionTask<T> {
    pub(super) async fn frame(&mut self, frame: ClientFrame) -> Result<(), Close> {
        let commands = match frame {
            ClientFrame::Hello(_) => {
                let message = "this connection has already sent hello";
                return self.error(Error::new(ErrorCode::Protocol, message)).await;
            }
            ClientFrame::Auth(Auth { token }) => return self.authenticate(&token).await,
            ClientFrame::Ping(Ping { at }) => {
                return self.send(&ServerFrame::Pong(Pong { at })).await;
            }
            ClientFrame::Subscribe(mut subscribe) => {
                let mode = match self.only_fields {
                    true => of_fields_alone(&mut subscribe.selection),
                    false => Ok(()),
                };
                let asks_for_fields = subscribe.selection.mode.as_deref() == Some(MODE_FIELDS);
                if let Some(client_id) = self.client_id.filter(|_| asks_for_fields) {
                    let listen = || lost_values::listen(&self.state, client_id);
                    self.lost_values.get_or_insert_with(listen);
                }
                let (state, principal) = (&self.state, &self.principal);
                let user = self.user.as_ref();
                self.rules.subscribe(subscribe, |subscribe| {
                    mode?;
                    state.resolve_for(user, principal, &subscribe.entity, &subscribe.selection)
                })
            }
            ClientFrame::Unsubscribe(unsubscribe) => self.rules.unsubscribe(&unsubscribe.id),
            ClientFrame::Push(push) => {
                let user = self.user.as_ref();
                if let Some(pause) = self.state.rates.push(user, push.writes.len()) {
                    self.input.pause(pause);
                }
                self.rules.push(push)
            }
        };
        self.perform(commands).await
    }

    /// Takes a fresh token of the same user. What the user may see may have changed with it.
    async fn authenticate(&mut self, token: &str) -> Result<(), Close> {
        if self.named_by == NamedBy::Application {
            let message =
                "the application says for whom this connection acts; reconnect when that changes";
            return self.error(Error::new(ErrorCode::Forbidden, message)).await;
        }
        self.reads.give_up_turn();
        let since = Instant::now();
        let principal = match admission::renew(&self.state, token, self.address).await {
            Ok(principal) => principal,
            Err(error @ AuthError::RateLimited { retry_after }) => {
                let error = Error::new(ErrorCode::RateLimited, error.to_string());
                return self.error(error.retry_after(retry_after)).await;
            }
            Err(AuthError::Unavailable(message)) => {
                let error = Error::new(ErrorCode::Unavailable, message);
                return self.error(error).await;
            }
            Err(AuthError::Unauthenticated(message)) => {
                let error = Error::fatal(ErrorCode::Unauthenticated, message);
                let close = Close::With(CloseCode::Unauthenticated, "the token is not valid");
                return Err(self.answer_rest(error, close).await);
            }
        };
        if principal.user_id != self.principal.user_id {
            let message = "the token is of another user; reconnect to use it";
            return self.error(Error::new(ErrorCode::Forbidden, message)).await;
        }
        self.expiry.renew(&principal);
        let has_same_rights = principal.has_rights_of(&self.principal);
        let user = principal.user_id.clone();
        self.principal = principal.into();
        if let Some(present) = &self.present {
            present.renew(&self.principal, since);
        }
        let frame = ServerFrame::Authenticated(Authenticated { user });
        self.send(&frame).await?;
        if has_same_rights {
            return Ok(());
        }
        let (state, principal) = (&self.state, &self.principal);
        let resolve =
            |entity: &str, request: &SelectionRequest| state.resolve(principal, entity, request);
        let commands = self.rules.reauthorize(resolve);
        self.perform(commands).await
    }
}
