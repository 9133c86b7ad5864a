//! An axum application with a table, routes and session cookies of its own, made live by adding the engine.
//!
//! `cargo run -p axum_app` uses a SQLite file; `DATABASE_URL=postgresql://… cargo run -p axum_app`
//! uses PostgreSQL. Then:
//!
//! ```text
//! curl -c jar -X POST localhost:3000/login -H 'content-type: application/json' -d '{"user":"ann"}'
//! curl -b jar -X POST localhost:3000/notes -H 'content-type: application/json' -d '{"text":"hello"}'
//! curl -b jar -N 'localhost:3000/api/sync/events?entity=notes'
//! ```
//!
//! The application writes as before; it does not know of its subscribers. The engine does not know of cookies: the
//! application's middleware puts the user into the request's extensions, and the engine believes it. Without the cookie
//! every way in is refused, and a page of another origin may not use it.

mod login;

use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection as _};
use rhtmx_sync::{ApplicationOnly, DbPool, Principal, SyncConfig, SyncEngine};
use serde::{Deserialize, Serialize};

/// The application's own state, which the engine's routes do not need.
#[derive(Clone)]
struct App {
    db_pool: DbPool,
}

#[derive(Serialize, QueryableByName)]
struct Note {
    #[diesel(sql_type = Text)]
    author: String,
    #[diesel(sql_type = Text)]
    text: String,
}

#[derive(Deserialize)]
struct NewNote {
    text: String,
}

async fn list(State(app): State<App>) -> Result<Json<Vec<Note>>, StatusCode> {
    let select = "SELECT author, text FROM notes ORDER BY id";
    let notes = match &app.db_pool {
        DbPool::Postgres(pool) => {
            sql_query(select)
                .load(&mut *pool.get().await.map_err(failed)?)
                .await
        }
        DbPool::Sqlite(pool) => {
            sql_query(select)
                .load(&mut *pool.get().await.map_err(failed)?)
                .await
        }
        _ => return Err(StatusCode::NOT_IMPLEMENTED),
    };
    notes.map(Json).map_err(failed)
}

async fn add(
    State(app): State<App>,
    user: Option<Extension<Principal>>,
    Json(note): Json<NewNote>,
) -> Result<StatusCode, StatusCode> {
    let user = user.and_then(|Extension(principal)| principal.user_id);
    let author = user.ok_or(StatusCode::UNAUTHORIZED)?;
    match &app.db_pool {
        DbPool::Postgres(pool) => {
            sql_query("INSERT INTO notes (author, text) VALUES ($1, $2)")
                .bind::<Text, _>(author)
                .bind::<Text, _>(note.text)
                .execute(&mut *pool.get().await.map_err(failed)?)
                .await
        }
        DbPool::Sqlite(pool) => {
            sql_query("INSERT INTO notes (author, text) VALUES (?, ?)")
                .bind::<Text, _>(author)
                .bind::<Text, _>(note.text)
                .execute(&mut *pool.get().await.map_err(failed)?)
                .await
        }
        _ => return Err(StatusCode::NOT_IMPLEMENTED),
    }
    .map(|_| StatusCode::CREATED)
    .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> StatusCode {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn create_table(db_pool: &DbPool) -> anyhow::Result<()> {
    match db_pool {
        DbPool::Postgres(pool) => {
            let table = "CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, author text NOT NULL, text text NOT NULL)";
            pool.get().await?.batch_execute(table).await?;
        }
        DbPool::Sqlite(pool) => {
            let table = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, author TEXT NOT NULL, text TEXT NOT NULL)";
            pool.get().await?.batch_execute(table).await?;
        }
        _ => anyhow::bail!("this example supports only PostgreSQL and SQLite"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://axum_app.db".to_owned());
    let db_pool = DbPool::from_url(&url).await?;
    create_table(&db_pool).await.context("creating the table")?;

    // The application as before.
    let sessions = login::Sessions::new();
    let app = Router::new()
        .route("/notes", get(list).post(add))
        .with_state(App {
            db_pool: db_pool.clone(),
        })
        .merge(
            Router::new()
                .route("/login", post(login::login))
                .route("/logout", post(login::logout))
                .with_state(sessions.clone()),
        );

    // The engine makes it live, for the users whom the middleware names.
    let mut config = SyncConfig::new(db_pool, vec!["notes"]);
    config.auth.authenticator = Arc::new(ApplicationOnly);
    let sync_engine = SyncEngine::new(config).await?;
    let app = app
        .merge(sync_engine.routes())
        .layer(from_fn_with_state(sessions, login::name_user));

    let bind = std::env::var("BIND").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
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
