//! An axum application with a table and routes of its own, made live by adding the engine.
//!
//! `cargo run -p axum_app` uses a SQLite file; `DATABASE_URL=postgresql://… cargo run -p axum_app`
//! uses PostgreSQL. Then:
//!
//! ```text
//! curl -X POST localhost:3000/notes -H 'content-type: application/json' -d '{"text":"hello"}'
//! curl -N 'localhost:3000/api/sync/events?entity=notes'
//! ```
//!
//! The application writes as before; it does not know of its subscribers.

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection as _};
use rhtmx_sync::{DbPool, SyncConfig, SyncEngine};
use serde::{Deserialize, Serialize};

/// The application's own state, which the engine's routes do not need.
#[derive(Clone)]
struct App {
    db_pool: DbPool,
}

#[derive(Serialize, QueryableByName)]
struct Note {
    #[diesel(sql_type = Text)]
    text: String,
}

#[derive(Deserialize)]
struct NewNote {
    text: String,
}

async fn list(State(app): State<App>) -> Result<Json<Vec<Note>>, StatusCode> {
    let select = "SELECT text FROM notes ORDER BY id";
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

async fn add(State(app): State<App>, Json(note): Json<NewNote>) -> Result<StatusCode, StatusCode> {
    match &app.db_pool {
        DbPool::Postgres(pool) => {
            sql_query("INSERT INTO notes (text) VALUES ($1)")
                .bind::<Text, _>(note.text)
                .execute(&mut *pool.get().await.map_err(failed)?)
                .await
        }
        DbPool::Sqlite(pool) => {
            sql_query("INSERT INTO notes (text) VALUES (?)")
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
            let table =
                "CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL)";
            pool.get().await?.batch_execute(table).await?;
        }
        DbPool::Sqlite(pool) => {
            let table =
                "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)";
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
    let app = Router::new()
        .route("/notes", get(list).post(add))
        .with_state(App {
            db_pool: db_pool.clone(),
        });

    // The engine makes it live.
    let sync_engine = SyncEngine::new(SyncConfig::new(db_pool, vec!["notes"])).await?;
    let app = app.merge(sync_engine.routes());

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!(
        "http://{}/notes, live at /api/sync/ws",
        listener.local_addr()?
    );
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                sync_engine.shutdown().await;
            }
        })
        .await?;
    Ok(())
}
