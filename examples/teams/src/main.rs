//! Organisations with teams, whose members share documents. Who sees what stands in tables, and follows them: a page fills
//! when its user is added to a team, and empties when they are removed.
//!
//! `cargo run -p teams` uses a SQLite file; `DATABASE_URL=postgresql://… cargo run -p teams` uses PostgreSQL. The README says
//! what to try.
//!
//! - `tables.sql`: the tables, as any application has them. The engine asks for nothing but a key.
//! - `policies.rs`: what their memberships mean.
//! - `accept_invitation` below: a mutator, because nobody may add themselves to a team but by an invitation.
//! - `session.rs`: who somebody is.
//! - `page.html`: the browser client.

mod policies;
mod session;

use std::env;
use std::sync::Arc;

use anyhow::Context as _;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use rhtmx_sync::{
    ApplicationOnly, DbPool, MutatorError, MutatorTx, Principal, Refusal, SyncConfig, SyncEngine,
    schemars,
};

const TABLES: &str = include_str!("tables.sql");

/// Takes an invitation.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rhtmx_sync::schemars")]
struct AcceptInvitation {
    id: String,
}

/// Makes a member of who is invited. No policies apply here, so the statements say whose invitation it is; both or neither
/// take effect.
async fn accept_invitation(tx: MutatorTx, args: AcceptInvitation) -> Result<(), MutatorError> {
    let user = tx.principal().user_id.clone().unwrap_or_default();
    let email = tx.principal().claims.get("email");
    let email = email.and_then(|email| email.as_str()).unwrap_or_default();
    let add = sql_query(
        "INSERT INTO team_members (team_id, person)
         SELECT team_id, $1 FROM invitations WHERE id = $2 AND email = $3 ON CONFLICT DO NOTHING",
    );
    let add = add.bind::<Text, _>(user);
    let add = add.bind::<Text, _>(&args.id).bind::<Text, _>(email);
    let close = sql_query("DELETE FROM invitations WHERE id = $1 AND email = $2");
    let close = close.bind::<Text, _>(&args.id).bind::<Text, _>(email);
    let mut conn = tx.connection().await?;
    let closed = if let Ok(postgres) = conn.postgres() {
        add.execute(postgres).await?;
        close.execute(postgres).await?
    } else {
        let sqlite = conn.sqlite()?;
        add.execute(sqlite).await?;
        close.execute(sqlite).await?
    };
    if closed == 0 {
        return Err(Refusal::new("withdrawn", "there is no such invitation any more").into());
    }
    Ok(())
}

/// The page of the user who is signed in.
async fn page(user: Option<Extension<Principal>>) -> Response {
    match user.and_then(|Extension(principal)| principal.user_id) {
        // A name of `session::PEOPLE`, so there is nothing in it to escape.
        Some(user) => Html(include_str!("page.html").replace("{user}", &user)).into_response(),
        None => Redirect::to("/login").into_response(),
    }
}

async fn create_tables(db_pool: &DbPool) -> anyhow::Result<()> {
    match db_pool {
        DbPool::Postgres(pool) => pool.get().await?.batch_execute(TABLES).await?,
        DbPool::Sqlite(pool) => pool.get().await?.batch_execute(TABLES).await?,
        _ => anyhow::bail!("this example supports only PostgreSQL and SQLite"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://teams.db".to_owned());
    let db_pool = DbPool::from_url(&url).await?;
    create_tables(&db_pool)
        .await
        .context("creating the tables")?;

    let mut config = SyncConfig::new(db_pool, policies::ENTITIES.to_vec());
    // Whom the middleware names is let in, and nobody else.
    config.auth.authenticator = Arc::new(ApplicationOnly);
    config.auth.authorizer = Arc::new(policies::policies()?);
    config.mutator("accept_invitation", accept_invitation);
    let sync_engine = SyncEngine::new(config).await?;

    let sessions = session::Sessions::new(sync_engine.clone());
    let app = Router::new()
        .route("/", get(page))
        .merge(session::routes(sessions.clone()))
        .merge(sync_engine.routes())
        // Last, so that it is around the engine's routes too.
        .layer(from_fn_with_state(sessions, session::name_user));

    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:3003".to_owned());
    let listener = tokio::net::TcpListener::bind(bind).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                sync_engine.shutdown().await;
            }
        })
        .await?;
    Ok(())
}
