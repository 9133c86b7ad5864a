//! What a client's frames mean.

use protocol::{
    Auth, Authenticated, ClientFrame, CloseCode, Error, ErrorCode, Ping, Pong, ServerFrame,
};

use super::transport::Transport;
use super::{Close, SessionTask};
use crate::auth::AuthError;

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
            ClientFrame::Subscribe(subscribe) => {
                let (state, principal) = (&self.state, &self.principal);
                self.rules.subscribe(subscribe, |subscribe| {
                    state.resolve(principal, &subscribe.entity, &subscribe.selection)
                })
            }
            ClientFrame::Unsubscribe(unsubscribe) => self.rules.unsubscribe(&unsubscribe.id),
            ClientFrame::Push(push) => self.rules.push(push),
        };
        self.perform(commands).await
    }

    /// Verifies a fresh token, which must give the same rights, because the shapes were resolved for them.
    async fn authenticate(&mut self, token: &str) -> Result<(), Close> {
        self.reads.give_up_turn();
        let authenticator = self.state.config.auth.authenticator.clone();
        let (code, error) = match authenticator.verify(Some(token)).await {
            Ok(principal) if !principal.has_rights_of(&self.principal) => {
                let message = "the token is for another principal; reconnect to use it";
                return self.error(Error::new(ErrorCode::Forbidden, message)).await;
            }
            Ok(principal) => {
                let user = principal.user_id.clone();
                self.principal = principal.into();
                return self
                    .send(&ServerFrame::Authenticated(Authenticated { user }))
                    .await;
            }
            Err(AuthError::Unavailable(message)) => {
                return self
                    .error(Error::new(ErrorCode::Unavailable, message))
                    .await;
            }
            Err(AuthError::Unauthenticated(message)) => (
                CloseCode::Unauthenticated,
                Error::fatal(ErrorCode::Unauthenticated, message),
            ),
        };
        self.error(error).await?;
        Err(Close::With(code, "the token is not valid"))
    }
}
