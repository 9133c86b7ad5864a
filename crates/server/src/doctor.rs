//! `rhtmx-sync doctor`: examines the database and says what mends it.

use std::io::Write as _;
use std::process::ExitCode;

use rhtmx_sync::{Finding, Level, Remedy, SyncEngine};

use crate::demo;
use crate::settings::Settings;

/// The status with which it exits when something has to be mended, and when the database could not be examined.
const MUST_BE_MENDED: u8 = 1;
const NOT_EXAMINED: u8 = 2;

/// Prints the findings.
pub(crate) async fn doctor(settings: Settings, json: bool) -> ExitCode {
    let findings = match examine(settings).await {
        Ok(findings) => findings,
        Err(error) => return not_examined(&error),
    };
    let text = if json {
        format!("{:#}\n", serde_json::json!({ "findings": findings }))
    } else {
        let lines = findings.iter().map(line);
        lines.chain([summary(&findings)]).collect()
    };
    // Nobody may read all of it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let worst = findings.iter().map(|finding| finding.level).max();
    match worst {
        Some(Level::Error) => ExitCode::from(MUST_BE_MENDED),
        _ => ExitCode::SUCCESS,
    }
}

/// Says why the database could not be examined.
pub(crate) fn not_examined(error: &anyhow::Error) -> ExitCode {
    eprintln!("rhtmx-sync: the database could not be examined: {error:#}");
    ExitCode::from(NOT_EXAMINED)
}

async fn examine(mut settings: Settings) -> anyhow::Result<Vec<Finding>> {
    if settings.database_url.is_none() {
        settings.database_url = Some(demo::DATABASE_URL.to_owned());
    }
    let pool = settings.connect().await?;
    Ok(SyncEngine::examine(&settings.sync_config(pool)).await?)
}

fn line(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Error => "ERROR",
    };
    let entity = match &finding.entity {
        Some(entity) => format!("{entity}: "),
        None => String::new(),
    };
    let remedy = match &finding.remedy {
        None => String::new(),
        Some(Remedy::Sql { run, by }) => format!("{:23}as {by}:\n{:23}{run};\n", "", ""),
        Some(Remedy::Setting(line)) => format!("{:23}set {line}\n", ""),
        Some(Remedy::Advice(advice)) => format!("{:23}{advice}\n", ""),
    };
    format!(
        "{level:<8} {:<13} {entity}{}\n{remedy}",
        finding.check, finding.text
    )
}

fn summary(findings: &[Finding]) -> String {
    let of = |level| {
        findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    };
    let (errors, warnings) = (of(Level::Error), of(Level::Warning));
    match errors {
        0 => format!("nothing keeps the server from working; warnings: {warnings}\n"),
        _ => format!("to be mended: {errors}; warnings: {warnings}\n"),
    }
}
