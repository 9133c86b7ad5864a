//! The demo's users: their tokens are made when the server starts, and given to anybody who asks.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use rhtmx_sync::{AuthError, Authenticator, Principal};
use uuid::Uuid;

/// Where a token is asked for; the user's name follows.
pub(super) const LOGIN: &str = "/demo/login/";
const NAMES: [&str; 2] = ["ann", "ben"];

/// Ann and Ben, each with a token. There is no key with which more could be made.
pub(crate) struct Users {
    tokens: [(&'static str, String); 2],
}

impl Users {
    pub(crate) fn new() -> Self {
        Self {
            tokens: NAMES.map(|name| (name, Uuid::new_v4().to_string())),
        }
    }

    /// `POST /demo/login/NAME` answers with the user's token.
    pub(super) fn routes(self: Arc<Self>) -> Router {
        Router::new()
            .route(&format!("{LOGIN}{{name}}"), post(login))
            .with_state(self)
    }
}

/// Without the tokens.
impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Users").finish_non_exhaustive()
    }
}

async fn login(
    State(users): State<Arc<Users>>,
    Path(name): Path<String>,
) -> Result<String, StatusCode> {
    let mut tokens = users.tokens.iter();
    let found = tokens.find(|(user, _)| *user == name);
    found
        .map(|(_, token)| token.clone())
        .ok_or(StatusCode::NOT_FOUND)
}

impl Authenticator for Users {
    /// A client without a token is nobody, who has the shared lists: the demo can be tried from a terminal.
    fn verify<'a>(
        &'a self,
        token: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<Principal, AuthError>> + Send + 'a>> {
        let principal = match token {
            None => Ok(Principal::anonymous()),
            Some(token) => {
                let mut tokens = self.tokens.iter();
                let found = tokens.find(|(_, own)| own == token);
                found
                    .map(|(user, _)| Principal::of_user(*user))
                    .ok_or_else(|| {
                        let message = "the demo has made no such token since it started";
                        AuthError::Unauthenticated(message.to_owned())
                    })
            }
        };
        Box::pin(std::future::ready(principal))
    }

    fn lets_anyone_in(&self) -> bool {
        true
    }
}
