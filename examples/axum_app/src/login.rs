//! Session cookies: who signs in gets one that is signed and says until when it is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{FromRef, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use axum_extra::extract::cookie::{Cookie, Key, SameSite, SignedCookieJar};
use rhtmx_sync::Principal;
use serde::Deserialize;

const COOKIE: &str = "session";
/// How long a user stays signed in.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// What signs the cookies.
#[derive(Clone)]
pub(crate) struct Sessions {
    key: Key,
}

impl Sessions {
    /// With a key that lasts as long as this process: a real application keeps one.
    pub(crate) fn new() -> Self {
        Self {
            key: Key::generate(),
        }
    }
}

impl FromRef<Sessions> for Key {
    fn from_ref(sessions: &Sessions) -> Self {
        sessions.key.clone()
    }
}

#[derive(Deserialize)]
pub(crate) struct Login {
    user: String,
}

/// Signs a user in. A real application asks for more than a name.
pub(crate) async fn login(
    jar: SignedCookieJar,
    Json(Login { user }): Json<Login>,
) -> (SignedCookieJar, StatusCode) {
    let expires_at_ms = now_ms() + LIFETIME.as_millis() as u64;
    // Over HTTPS it should also be `Secure`.
    let cookie = Cookie::build((COOKIE, format!("{expires_at_ms} {user}")))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax);
    (jar.add(cookie), StatusCode::NO_CONTENT)
}

/// Signs a user out. Connections that are open stay so until the session would have expired.
pub(crate) async fn logout(jar: SignedCookieJar) -> (SignedCookieJar, StatusCode) {
    let cookie = Cookie::build(COOKIE).path("/");
    (jar.remove(cookie), StatusCode::NO_CONTENT)
}

/// Says who sent a request: to the application's own routes, and to the engine.
pub(crate) async fn name_user(
    State(sessions): State<Sessions>,
    mut request: Request,
    next: Next,
) -> Response {
    let jar = SignedCookieJar::from_headers(request.headers(), sessions.key);
    if let Some(principal) = jar.get(COOKIE).and_then(|cookie| principal(cookie.value())) {
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}

fn principal(session: &str) -> Option<Principal> {
    let (expires_at_ms, user) = session.split_once(' ')?;
    let expires_at_ms: u64 = expires_at_ms.parse().ok()?;
    let mut principal = Principal::of_user(user);
    // The engine refuses it from then on, and so do the application's routes.
    principal.expires_at_ms = Some(expires_at_ms);
    (now_ms() < expires_at_ms).then_some(principal)
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}
