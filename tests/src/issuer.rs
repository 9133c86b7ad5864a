//! An issuer of tokens: it signs them, and publishes its keys on a socket, well or badly.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The keys that an issuer may sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKey {
    /// ES256, with the `kid` `first`.
    First,
    /// ES256, with the `kid` `second`.
    Second,
}

/// How the issuer answers who asks for its keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// With these keys.
    Keys(Vec<SigningKey>),
    /// With this text.
    Text(String),
    /// With this status and no body.
    Status(u16),
    /// With a redirect to a path of its own where its keys are.
    Redirect,
    /// With bytes without end.
    Endless,
    /// Not at all.
    Silence,
}

/// A running issuer. Dropping it stops it.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<Answer>,
    asked: AtomicUsize,
}

impl SigningKey {
    fn parts(self) -> (&'static str, EncodingKey) {
        let (kid, pem): (_, &[u8]) = match self {
            Self::First => (
                "first",
                include_bytes!("../../crates/jwt/tests/keys/p256.pem"),
            ),
            Self::Second => (
                "second",
                include_bytes!("../../crates/jwt/tests/keys/p256_second.pem"),
            ),
        };
        (kid, EncodingKey::from_ec_pem(pem).expect("a key"))
    }

    /// Signs claims; `exp` is an hour from now unless they have one.
    pub fn sign(self, claims: Value) -> String {
        let (kid, key) = self.parts();
        token(Algorithm::ES256, Some(kid), claims, &key)
    }

    /// The public key as it is published.
    pub fn jwk(self) -> Value {
        let (kid, key) = self.parts();
        let key = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a public key");
        let mut key = serde_json::to_value(key).expect("JSON");
        key["kid"] = json!(kid);
        key
    }
}

/// Signs claims with a secret; `exp` is an hour from now unless they have one.
pub fn sign_with_secret(secret: &str, claims: Value) -> String {
    token(
        Algorithm::HS256,
        None,
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn token(algorithm: Algorithm, kid: Option<&str>, mut claims: Value, key: &EncodingKey) -> String {
    if claims.get("exp").is_none() {
        claims["exp"] = json!(now() + 3600);
    }
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    encode(&header, &claims, key).expect("a token")
}

impl Issuer {
    /// Starts an issuer that answers so.
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            asked: AtomicUsize::new(0),
        });
        let app = Router::new()
            .route("/jwks", get(keys))
            .route("/elsewhere", get(elsewhere))
            .with_state(shared.clone());
        let serving = tokio::spawn(async move {
            // Ends only when aborted.
            let _ = axum::serve(listener, app).await;
        });
        Self {
            url,
            shared,
            serving,
        }
    }

    /// Where its keys are.
    pub fn jwks_url(&self) -> String {
        format!("{}/jwks", self.url)
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        *self
            .shared
            .answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How often somebody has asked, also for what a redirect points to.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn published(keys: &[SigningKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

async fn elsewhere(State(shared): State<Arc<Shared>>) -> String {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    published(&[SigningKey::First])
}

async fn keys(State(shared): State<Arc<Shared>>) -> Response {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let answer = shared
        .answer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match answer {
        Answer::Keys(keys) => published(&keys).into_response(),
        Answer::Text(text) => text.into_response(),
        Answer::Status(status) => StatusCode::from_u16(status)
            .expect("a status")
            .into_response(),
        Answer::Redirect => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
        Answer::Endless => {
            let spaces = stream::repeat_with(|| {
                Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 65_536]))
            });
            Body::from_stream(spaces).into_response()
        }
        Answer::Silence => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            StatusCode::OK.into_response()
        }
    }
}
