//! The same users, lists and changes, where row level security of the database says who may see what.

use anyhow::Result;

use super::teams::Teams;
use super::{joins, revocation, steady};
use crate::report::{Bar, Figure};
use crate::stage::Stage;

pub(super) async fn run(stage: &Stage, by_policies: &Teams) -> Result<Vec<Figure>> {
    let teams = Teams::start_row_level(stage).await?;
    let (mut of_roles, mut of_policies) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        of_roles.push(teams.cost_of_a_change(stage).await?);
        of_policies.push(by_policies.cost_of_a_change(stage).await?);
    }
    let mut figures = vec![
        Figure::new("a change of a row", "µs", of_roles)
            .beside("configured policies", of_policies)
            .bar(Bar::RatioAtMost(1.5)),
    ];
    // A session of which one drain would move more reads its subscription again.
    figures.extend(joins::run(stage, &teams, &joins::SIZES[..2]).await?);
    figures.extend(steady::run(stage, &teams).await?);
    figures.extend(revocation::run(stage, &teams).await?);
    for figure in &mut figures {
        figure.name = format!("row level security: {}", figure.name.trim_start());
    }
    Ok(figures)
}
