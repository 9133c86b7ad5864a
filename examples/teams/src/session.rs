//! Who somebody is: a login page and a cookie. `examples/multi_user` says more of sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Names and passwords. A real application has a table with hashes.
const PEOPLE: [(&str, &str); 3] = [
    ("ann", "ann's password"),
    ("ben", "ben's password"),
    ("cat", "cat's password"),
];
/// Browsers send cookies to all ports of a host, so the name is this application's own.
const COOKIE: &str = "teams_session";

/// Who is signed in: a principal for each cookie.
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

    /// Starts a session and returns the value of its cookie. It says who somebody is, not what they are a member of: that
    /// stands in the tables, and may change while the session goes on.
    fn begin(&self, user: &str) -> String {
        let id = Uuid::new_v4().to_string();
        let mut principal = Principal::of_user(user);
        let claims = [
            ("email", format!("{user}@example.com")),
            ("session", id.clone()),
        ];
        let claims = claims.map(|(name, value)| (name.to_owned(), value.into()));
        principal.claims.extend(claims);
        self.lock().insert(id.clone(), principal);
        id
    }

    /// Ends a session, and its connections with it.
    fn end(&self, id: &str) {
        if self.lock().remove(id).is_some() {
            let id = id.to_owned();
            self.sync_engine.disconnect(move |principal| {
                principal.claims.get("session").and_then(|id| id.as_str()) == Some(&id)
            });
        }
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
    let principal = cookie.and_then(|cookie| sessions.lock().get(cookie.value()).cloned());
    if let Some(principal) = principal {
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}

async fn login_page() -> Html<&'static str> {
    Html(include_str!("login.html"))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(
    State(sessions): State<Sessions>,
    headers: HeaderMap,
    jar: CookieJar,
    Form(Login { user, password }): Form<Login>,
) -> Response {
    if is_of_a_foreign_page(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if !PEOPLE.contains(&(user.as_str(), password.as_str())) {
        return (StatusCode::UNAUTHORIZED, login_page().await).into_response();
    }
    end_session(&sessions, &jar);
    // Over HTTPS it should also be `Secure`.
    let cookie = Cookie::build((COOKIE, sessions.begin(&user)))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax);
    (jar.add(cookie), Redirect::to("/")).into_response()
}

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

/// Whether a page of somebody else submits the form. Browsers say where a request comes from.
fn is_of_a_foreign_page(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin")
}
