//! `rhtmx-sync`: the engine as a server of its own, for use without an axum application.

mod changesets;
mod cli;
mod connections;
mod demo;
mod doctor;
mod entities;
mod serve;
mod settings;
mod socket;
mod status;
mod tail;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use rhtmx_sync::{DbPool, SyncEngine};

use cli::{Cli, Command};
use settings::Settings;

/// The system's allocator returns memory only from the end of its heap. This one has a thread that returns
/// what has been free for some ten seconds.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.log_format.start();
    match run(cli.command.unwrap_or(Command::Serve), &cli.common, cli.open).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rhtmx-sync: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command, common: &cli::Common, open: bool) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(common);
    let settings = match (settings, &command) {
        (Err(error), Command::Doctor { .. }) => return Ok(doctor::not_examined(&error)),
        (settings, _) => settings?,
    };
    match command {
        Command::Serve => serve::serve(settings, open).await?,
        Command::Migrate => migrate(&settings).await?,
        Command::Uncapture { entities } => uncapture(&settings, &entities).await?,
        Command::Status => status::status(&settings).await?,
        Command::Tail { entity, json } => tail::tail(settings, entity, json).await?,
        Command::ExplainPolicy { entity, roles } => {
            explain_policy(&settings, &entity, &roles).await?;
        }
        Command::Changeset(command) => return changesets::changeset(&settings, command).await,
        Command::Replicate(options) => return changesets::replicate(&settings, &options).await,
        Command::Doctor { json } => return Ok(doctor::doctor(settings, json).await),
    }
    Ok(ExitCode::SUCCESS)
}

async fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let pool = settings.connect().await?;
    pool.migrate(&settings.database).await?;
    println!("the tables of rhtmx-sync are up to date");
    Ok(())
}

async fn explain_policy(settings: &Settings, entity: &str, roles: &[String]) -> anyhow::Result<()> {
    let mut configured = settings.entities.iter();
    let found = configured.find(|known| known.name == entity).cloned();
    let found = found.unwrap_or_else(|| entity.into());
    let config = settings.sync_config(settings.connect().await?);
    let text = SyncEngine::explain_policies(&config, &found, roles).await?;
    // Nobody may read all of it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

async fn uncapture(settings: &Settings, entities: &[String]) -> anyhow::Result<()> {
    let pool: DbPool = settings.connect().await?;
    let only = (!entities.is_empty()).then_some(entities);
    let removed = SyncEngine::uncapture(&pool, only)
        .await
        .context("the triggers could not be removed")?;
    match removed.as_slice() {
        [] => println!("nothing to remove"),
        names => println!("no longer captured: {}", names.join(", ")),
    }
    Ok(())
}
