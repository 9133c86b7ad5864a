//! Who somebody is: a login page, a cookie that means nothing to anybody else, and a middleware that tells the engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use rhtmx_sync::{Principal, SyncEngine};
use serde::Deserialize;
use uuid::Uuid;

/// Names and passwords. A real application has a table of users, with hashes (argon2) in place of the passwords.
const USERS: [(&str, &str); 2] = [("ann", "ann's password"), ("ben", "ben's password")];
/// Browsers send cookies to all ports of a host, so the name is this application's own.
const COOKIE: &str = "multi_user_session";
/// How long somebody stays signed in.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Who is signed in: a principal for each cookie. A real application keeps them in its database.
#[derive(Clone)]
pub(crate) struct Sessions {
    principals: Arc<Mutex<HashMap<String, Principal>>>,
    sync_engine: SyncEngine,
}

impl Sessions {
    pub(crate) fn new(sync_engine: SyncEngine) -> Self {
        Self {
            principals: Arc::default(),
            sync_engine,
        }
    }

    /// Starts a session and returns the value of its cookie, which nobody can guess.
    fn begin(&self, user: &str) -> String {
        let id = Uuid::new_v4().to_string();
        let now = now_ms();
        let mut principal = Principal::of_user(user);
        // The engine ends its connections then, and the middleware does not believe the cookie any more.
        principal.expires_at_ms = Some(now + LIFETIME.as_millis() as u64);
        // A claim that no policy names; it says which connections end with this session.
        principal
            .claims
            .insert("session".to_owned(), id.clone().into());
        let mut principals = self.lock();
        principals.retain(|_, principal| !principal.is_expired(now));
        principals.insert(id.clone(), principal);
        id
    }

    /// Ends a session, and its connections with it.
    fn end(&self, id: &str) {
        // First the cookie, so that no connection comes back with it.
        if self.lock().remove(id).is_some() {
            let id = id.to_owned();
            self.sync_engine.disconnect(move |principal| {
                principal.claims.get("session").and_then(|id| id.as_str()) == Some(&id)
            });
        }
    }

    fn principal(&self, id: &str) -> Option<Principal> {
        let principal = self.lock().get(id).cloned();
        principal.filter(|principal| !principal.is_expired(now_ms()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Principal>> {
        self.principals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages to sign in and out.
pub(crate) fn routes(sessions: Sessions) -> Router {
    Router::new()
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .with_state(sessions)
}

/// Says who sent a request: to the application's own pages, and to the engine.
pub(crate) async fn name_user(
    State(sessions): State<Sessions>,
    jar: CookieJar,
    mut request: Request,
    next: Next,
) -> Response {
    let cookie = jar.get(COOKIE);
    if let Some(principal) = cookie.and_then(|cookie| sessions.principal(cookie.value())) {
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}

async fn login_page() -> Html<String> {
    login_form("")
}

fn login_form(message: &str) -> Html<String> {
    Html(include_str!("login.html").replace("{message}", message))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

/// Signs somebody in. A real application also limits how often one may try.
async fn login(
    State(sessions): State<Sessions>,
    headers: HeaderMap,
    jar: CookieJar,
    Form(Login { user, password }): Form<Login>,
) -> Response {
    if is_of_a_foreign_page(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if !USERS.contains(&(user.as_str(), password.as_str())) {
        let page = login_form("That is not a name and its password.");
        return (StatusCode::UNAUTHORIZED, page).into_response();
    }
    end_session(&sessions, &jar);
    // Over HTTPS it should also be `Secure`.
    let cookie = Cookie::build((COOKIE, sessions.begin(&user)))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax);
    (jar.add(cookie), Redirect::to("/")).into_response()
}

/// Signs somebody out: their connections end at once, in every tab.
async fn logout(State(sessions): State<Sessions>, headers: HeaderMap, jar: CookieJar) -> Response {
    if is_of_a_foreign_page(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    end_session(&sessions, &jar);
    let cookie = Cookie::build(COOKIE).path("/");
    (jar.remove(cookie), Redirect::to("/login")).into_response()
}

fn end_session(sessions: &Sessions, jar: &CookieJar) {
    if let Some(cookie) = jar.get(COOKIE) {
        sessions.end(cookie.value());
    }
}

/// Whether a page of somebody else submits the form: it could sign a visitor in as its author, who then reads what the
/// visitor writes. Browsers say where a request comes from; the engine's own routes ask for it by themselves.
fn is_of_a_foreign_page(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin")
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}
