//! Two users and one table: each sees their own todos and those that the other shares, because the server says so.
//!
//! `cargo run -p multi_user` uses a SQLite file; `DATABASE_URL=postgresql://… cargo run -p multi_user` uses PostgreSQL.
//! The README says what to try.
//!
//! - `session.rs`: who somebody is. The login page, the cookie, and the middleware that tells the engine.
//! - `policies` below: what they may see and write. The page asks for the whole table and gets what is theirs.
//! - `complete_todo` below: a mutator, for the one thing that everybody may do to a todo that somebody else shares.
//! - `page.html`: the browser client, which knows of neither.

mod session;

use std::env;
use std::sync::Arc;

use anyhow::Context as _;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use rhtmx_sync::{
    ApplicationOnly, ColumnPolicy, DbPool, EntityPolicy, MutatorError, MutatorTx, Policies,
    PolicyError, Principal, Refusal, SyncConfig, SyncEngine, schemars,
};

/// The index is for first reads, in which the database evaluates the policy as ordinary SQL.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS todos (
        id text PRIMARY KEY NOT NULL,
        owner text NOT NULL,
        title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
        done boolean NOT NULL DEFAULT false,
        shared boolean NOT NULL DEFAULT false);
    CREATE INDEX IF NOT EXISTS todos_of_owner ON todos (owner);";

/// Everybody sees their own todos and the shared ones, and writes their own.
fn policies() -> Result<Policies, PolicyError> {
    let own = "owner = auth.sub";
    let todos = EntityPolicy {
        read: Some(format!("{own} OR shared")),
        create: Some(own.to_owned()),
        // Also what the row must be like afterwards: nobody gives a todo to somebody else.
        update: Some(own.into()),
        delete: Some(own.to_owned()),
        // The server fills it in, so the page need not say who it is, and cannot say otherwise.
        columns: [(
            "owner".to_owned(),
            ColumnPolicy {
                default: Some("auth.sub".to_owned()),
                ..ColumnPolicy::default()
            },
        )]
        .into(),
    };
    Policies::new([("todos".to_owned(), todos)])
}

/// Ticks a todo off, or not.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rhtmx_sync::schemars")]
struct CompleteTodo {
    id: String,
    done: bool,
}

/// Everybody may tick off a todo that is shared with them. No policy can say that: it would let them write the other columns
/// too. Here no policy applies, so the statement says whose todos it takes.
async fn complete_todo(tx: MutatorTx, args: CompleteTodo) -> Result<(), MutatorError> {
    let user = tx.principal().user_id.clone().unwrap_or_default();
    let statement = "UPDATE todos SET done = $1 WHERE id = $2 AND (owner = $3 OR shared)";
    let tick = sql_query(statement)
        .bind::<Bool, _>(args.done)
        .bind::<Text, _>(args.id)
        .bind::<Text, _>(user);
    let mut conn = tx.connection().await?;
    let ticked = if let Ok(postgres) = conn.postgres() {
        tick.execute(postgres).await?
    } else {
        tick.execute(conn.sqlite()?).await?
    };
    if ticked == 0 {
        return Err(Refusal::new("not_shared", "nobody shares this todo with you any more").into());
    }
    Ok(())
}

/// The page of the user who is signed in.
async fn page(user: Option<Extension<Principal>>) -> Response {
    match user.and_then(|Extension(principal)| principal.user_id) {
        // A name of `session::USERS`, so there is nothing in it to escape.
        Some(user) => Html(include_str!("page.html").replace("{user}", &user)).into_response(),
        None => Redirect::to("/login").into_response(),
    }
}

async fn create_table(db_pool: &DbPool) -> anyhow::Result<()> {
    match db_pool {
        DbPool::Postgres(pool) => pool.get().await?.batch_execute(TABLE).await?,
        DbPool::Sqlite(pool) => pool.get().await?.batch_execute(TABLE).await?,
        _ => anyhow::bail!("this example supports only PostgreSQL and SQLite"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://multi_user.db".to_owned());
    let db_pool = DbPool::from_url(&url).await?;
    create_table(&db_pool).await.context("creating the table")?;

    let mut config = SyncConfig::new(db_pool, vec!["todos"]);
    // Whom the middleware names is let in, and nobody else.
    config.auth.authenticator = Arc::new(ApplicationOnly);
    config.auth.authorizer = Arc::new(policies()?);
    config.mutator("complete_todo", complete_todo);
    let sync_engine = SyncEngine::new(config).await?;

    let sessions = session::Sessions::new(sync_engine.clone());
    let app = Router::new()
        .route("/", get(page))
        .merge(session::routes(sessions.clone()))
        .merge(sync_engine.routes())
        // Last, so that it is around the engine's routes too.
        .layer(from_fn_with_state(sessions, session::name_user));

    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:3002".to_owned());
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
