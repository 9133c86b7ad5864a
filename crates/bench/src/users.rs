//! Users with tokens, and an engine whose policies ask who they are.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::server::Engine;

const SECRET: &str = "only this benchmark signs with this secret";
const VALID: Duration = Duration::from_secs(24 * 3600);

/// An engine with policies.
#[derive(Debug)]
pub(crate) struct GuardedEngine {
    pub(crate) engine: Engine,
}

impl GuardedEngine {
    /// Starts a server with `[entities.…]` sections such as this.
    pub(crate) async fn start(url: &str, entities: &str) -> Result<Self> {
        let settings = [("RHTMX_SYNC_AUTH_JWT_SECRET", SECRET)];
        Ok(Self {
            engine: Engine::start_configured(url, entities, &settings).await?,
        })
    }
}

/// A token of this user, with these claims besides.
pub(crate) fn token(user: usize, claims: Value) -> Result<String> {
    let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + VALID;
    let mut all = json!({ "sub": user.to_string(), "exp": expires.as_secs() });
    if let (Some(all), Value::Object(claims)) = (all.as_object_mut(), claims) {
        all.extend(claims);
    }
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    Ok(encode(&Header::default(), &all, &key)?)
}
