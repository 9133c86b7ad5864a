//! Users who see the rows of the lists that they are members of, as another table says: what a change costs, how soon a
//! membership is live and ends, and what the sets need; and the first rows in an order.

mod asking;
mod joins;
mod keys;
mod revocation;
mod row_level;
mod steady;
mod switch;
mod teams;
mod windows;

use anyhow::Result;

use crate::report::{Figure, Findings};
use crate::stage::Stage;

/// Who is a member of which list.
const MEMBERS: &str = "list_members";

/// The same where row level security of the database says who may see what, and what it is asked for.
pub(super) async fn run_row_level(stage: &Stage) -> Result<Findings> {
    let mut figures = asking::run(stage).await?;
    let teams = teams::Teams::start(stage).await?;
    figures.extend(row_level::run(stage, &teams).await?);
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let mut figures: Vec<Figure> = Vec::new();
    let teams = teams::Teams::start(stage).await?;
    figures.extend(teams::cost(stage, &teams).await?);
    figures.extend(joins::run(stage, &teams, &joins::SIZES).await?);
    figures.extend(steady::run(stage, &teams).await?);
    figures.extend(revocation::run(stage, &teams).await?);
    drop(teams);
    figures.extend(switch::run(stage).await?);
    figures.extend(keys::run(stage).await?);
    figures.extend(windows::run(stage).await?);
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}
