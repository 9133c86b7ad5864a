//! Clients that connect with a token, one after another: what verifying it costs the server.
//!
//! A login is a connection, its upgrade, `hello` and `welcome`. The processor time that the token adds to it is
//! compared with that of a library that does nothing but verify the same tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{ITEMS, column};
use crate::load::client_text;
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Stage};

/// Connections at once.
const CLIENTS: usize = 32;
/// Users, each with a token of its own.
const USERS: usize = 500;
const KEY: &[u8] = include_bytes!("../../../jwt/tests/keys/p256.pem");
const KID: &str = "bench";
/// The rate that the project promises.
const LOGINS_PER_SECOND: f64 = 2_000.0;
/// The share of the library's speed that the project promises.
const OF_THE_LIBRARY: f64 = 0.7;

struct Round {
    with: Logins,
    without: Logins,
    /// Verifications of the library alone in a second of one processor.
    alone: f64,
}

struct Logins {
    per_second: f64,
    /// The server's processor time for each, in seconds.
    cpu_each: f64,
}

impl Round {
    /// Tokens verified in a second of one processor.
    fn verified(&self) -> f64 {
        let added = self.with.cpu_each - self.without.cpu_each;
        // Within the clock's noise nothing may be left of it.
        1.0 / added.max(1e-6)
    }
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let database = stage.database(stage::ITEMS).await?;
    let tokens: Arc<[String]> = tokens()?.into();
    let folder = TempDir::new()?;
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, json!({ "keys": [jwk()?] }).to_string())?;
    let keys = keys.display().to_string();
    let verifies = [
        ("RHTMX_SYNC_AUTH_JWKS_FILE", keys.as_str()),
        ("RHTMX_SYNC_AUTH_ALGORITHMS", "ES256"),
    ];
    let mut rounds = Vec::new();
    for _ in 0..stage.rounds {
        let time = stage.seconds(4.0);
        let engine = Engine::start_with(&database.url, &[ITEMS], &verifies).await;
        let with = logins(&engine, Some(tokens.clone()), time).await?;
        drop(engine);
        let engine = Engine::start(&database.url, &[ITEMS]).await;
        let without = logins(&engine, None, time).await?;
        drop(engine);
        let alone = library_alone(&tokens, time / 2)?;
        rounds.push(Round {
            with,
            without,
            alone,
        });
    }
    let figures = vec![
        Figure::new(
            "logins with a token (ES256)",
            "logins/s",
            column(&rounds, |round| round.with.per_second),
        )
        .beside(
            "without tokens",
            column(&rounds, |round| round.without.per_second),
        )
        .bar(Bar::AtLeast(LOGINS_PER_SECOND)),
        Figure::new(
            "tokens verified, by the processor time that they add",
            "tokens/s of one processor",
            column(&rounds, Round::verified),
        )
        .beside("jsonwebtoken alone", column(&rounds, |round| round.alone))
        .bar(Bar::RatioAtLeast(OF_THE_LIBRARY)),
    ];
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

/// Logs in again and again for so long.
async fn logins(engine: &Engine, tokens: Option<Arc<[String]>>, time: Duration) -> Result<Logins> {
    let count = Arc::new(AtomicU64::new(0));
    let address = engine.address();
    let mut clients = JoinSet::new();
    let (began, cpu_before) = (Instant::now(), engine.process().cpu_seconds()?);
    for _ in 0..CLIENTS {
        let (address, tokens, count) = (address.clone(), tokens.clone(), count.clone());
        clients.spawn(async move {
            while began.elapsed() < time {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let token = tokens.as_deref().map(|tokens| {
                    let user = usize::try_from(number).unwrap_or(0) % tokens.len();
                    tokens[user].as_str()
                });
                login(&address, number, token).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client.context("a client")??;
    }
    let (seconds, cpu_after) = (
        began.elapsed().as_secs_f64(),
        engine.process().cpu_seconds()?,
    );
    let count = count.load(Ordering::Relaxed) as f64;
    Ok(Logins {
        per_second: count / seconds,
        cpu_each: (cpu_after - cpu_before) / count,
    })
}

/// One connection, up to `welcome`.
async fn login(address: &str, number: u64, token: Option<&str>) -> Result<()> {
    let mut stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    // Otherwise this machine would run out of ports.
    stream.set_zero_linger()?;
    let upgrade = format!(
        "GET /api/sync/ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: rhtmx-sync.v1\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).await?;
    let mut hello = json!({
        "type": "hello", "protocol": 1,
        "client_id": format!("00000000-0000-4000-8000-{:012x}", number & 0xffff_ffff_ffff),
    });
    if let Some(token) = token {
        hello["token"] = token.into();
    }
    stream.write_all(&client_text(&hello.to_string())).await?;
    let mut answer = Vec::with_capacity(1024);
    while memchr::memmem::find(&answer, br#""type":"welcome""#).is_none() {
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("no welcome: {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(())
}

/// How many tokens the library verifies in a second of one processor.
fn library_alone(tokens: &[String], time: Duration) -> Result<f64> {
    let key = DecodingKey::from_jwk(&jwk()?)?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.validate_aud = false;
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        for token in tokens {
            let claims = decode::<Value>(token, &key, &validation)?.claims;
            ensure!(claims["sub"].is_string(), "no user");
            count += 1;
        }
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

fn jwk() -> Result<Jwk> {
    let mut key = Jwk::from_encoding_key(&EncodingKey::from_ec_pem(KEY)?, Algorithm::ES256)?;
    key.common.key_id = Some(KID.to_owned());
    Ok(key)
}

fn tokens() -> Result<Vec<String>> {
    let key = EncodingKey::from_ec_pem(KEY)?;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(KID.to_owned());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let expires = now.as_secs() + 24 * 3600;
    let token = |user| {
        let claims =
            json!({ "sub": format!("user-{user}"), "role": "authenticated", "exp": expires });
        Ok(encode(&header, &claims, &key)?)
    };
    (0..USERS).map(token).collect()
}
