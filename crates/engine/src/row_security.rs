//! Row level security for people: what the policies of a table let roles see, and how that is found out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use db::DbPool;
use db::entity::EntityConfig;
use filter::Policy;
#[cfg(feature = "postgres")]
use filter::{Backend, Table};
use rls::{Claims, Plan, Uses};
#[cfg(feature = "postgres")]
use rls::{Scope, Sources};
use sync_core::doctor::{Check, Finding, Level, Remedy};

use crate::error::SyncError;

/// What row level security means for an entity.
#[derive(Debug)]
pub(crate) struct Explanation {
    entity: String,
    relation: String,
    roles: Vec<OfRole>,
}

#[derive(Debug)]
struct OfRole {
    role: String,
    sees: Sees,
}

#[derive(Debug)]
#[cfg_attr(
    not(feature = "postgres"),
    expect(dead_code, reason = "SQLite has no policies")
)]
enum Sees {
    Everything(&'static str),
    Nothing(&'static str),
    Planned {
        plan: Plan,
        text: String,
        uses: Box<Uses>,
        relations: Vec<String>,
        /// Whether a row of the table may decide about another.
        reads_itself: bool,
    },
}

/// Checks the names of settings, and the claims that they are made from.
pub(crate) fn check_settings(settings: &BTreeMap<String, String>) -> Result<(), SyncError> {
    let wrong = |text: String| Err(SyncError::Config(text));
    for (name, claim) in settings {
        if !rls::is_custom_setting(name) {
            return wrong(format!(
                "auth.settings: {name:?} is no setting of an application's own, such as app.tenant_id"
            ));
        }
        let is_claim = Policy::new(claim).is_ok_and(|policy| policy.as_claim().is_some());
        if !is_claim {
            return wrong(format!(
                "auth.settings: {name:?} is made from {claim:?}, which is no claim, such as auth.tenant_id"
            ));
        }
    }
    Ok(())
}

/// Explains the row level security of an entity for roles; without names, for those that the engine's role may become and
/// that may read the table.
#[cfg(feature = "postgres")]
pub(crate) async fn explain(
    pool: &DbPool,
    entity: &EntityConfig,
    roles: &[String],
) -> Result<Explanation, SyncError> {
    let Some(reader) = pool.policy_reader().await? else {
        return Err(no_policies());
    };
    let described = reader.describe(entity).await?;
    let described = described.map_err(|reason| SyncError::Table {
        entity: entity.name.clone(),
        reason: reason.to_string(),
    })?;
    let facts = match &described {
        Some(described) => reader.facts(described, roles).await?,
        None => None,
    };
    let (Some(described), Some(facts)) = (described, facts) else {
        let table = match &entity.source {
            db::entity::EntitySource::Table(table) => table.clone(),
            db::entity::EntitySource::Log => String::new(),
        };
        return Err(SyncError::NoTable {
            entity: entity.name.clone(),
            table,
        });
    };
    if let Some(missing) = roles
        .iter()
        .find(|role| !facts.roles.iter().any(|known| known.name == **role))
    {
        return Err(SyncError::Config(format!("there is no role {missing:?}")));
    }
    let sources = reader.sources().await?;
    let table = Table::new(&described.schema, Backend::Postgres);
    let key = described.schema.key_columns();
    let key: Vec<&str> = key.map(|column| column.name.as_str()).collect();
    let mut explained = Vec::new();
    for role in &facts.roles {
        let sees = match Scope::of(&facts, role, &key) {
            Scope::Everything(why) => Sees::Everything(why),
            Scope::Nothing(why) => Sees::Nothing(why),
            Scope::Policies {
                permissive,
                restrictive,
            } => {
                let plan = reader
                    .plan(&facts, &permissive, &restrictive, &described.schema)
                    .await?;
                Sees::planned(plan, table, facts.oid, &sources)
            }
        };
        explained.push(OfRole {
            role: role.name.clone(),
            sees,
        });
    }
    Ok(Explanation {
        entity: entity.name.clone(),
        relation: facts.relation,
        roles: explained,
    })
}

/// Explains that there are none without PostgreSQL.
#[cfg(not(feature = "postgres"))]
pub(crate) async fn explain(
    _pool: &DbPool,
    _entity: &EntityConfig,
    _roles: &[String],
) -> Result<Explanation, SyncError> {
    Err(no_policies())
}

fn no_policies() -> SyncError {
    SyncError::Config("only PostgreSQL has row level security".to_owned())
}

/// What a doctor finds in it.
pub(crate) async fn examine(
    pool: &DbPool,
    entity: &EntityConfig,
) -> Result<Vec<Finding>, SyncError> {
    let finding = |level: Level, text: String, advice: Option<&str>| Finding {
        check: Check::RowSecurity,
        entity: Some(entity.name.clone()),
        level,
        text,
        remedy: advice.map(|advice| Remedy::Advice(advice.to_owned())),
    };
    let explained = match explain(pool, entity, &[]).await {
        Ok(explained) => explained,
        // The finding about the table says so.
        Err(SyncError::NoTable { .. } | SyncError::Table { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if explained.roles.is_empty() {
        let text = "the engine's role may become no role that may read the table".to_owned();
        let advice =
            "GRANT the roles of your tokens TO the engine's role, and SELECT on the table to them";
        return Ok(vec![finding(Level::Error, text, Some(advice))]);
    }
    let found = explained.roles.iter().map(|of_role| {
        let role = &of_role.role;
        match &of_role.sees {
            Sees::Everything(why) => finding(
                Level::Warning,
                format!("{role} sees every row: {why}"),
                Some("make sure that is meant"),
            ),
            Sees::Nothing(why) => finding(Level::Ok, format!("{role} sees no row: {why}"), None),
            Sees::Planned { plan, uses, .. } => match plan.reasons().next() {
                Some(why) => finding(
                    Level::Warning,
                    format!("{role}: per row, because {why}"),
                    Some("`rhtmx-sync explain-policy` says which condition, and what it costs"),
                ),
                None => {
                    let asked = asked(plan.questions.len(), uses);
                    finding(
                        Level::Ok,
                        format!("{role}: a changed row costs no statement; {asked}"),
                        None,
                    )
                }
            },
        }
    });
    Ok(found.collect())
}

#[cfg(feature = "postgres")]
impl Sees {
    fn planned(plan: Plan, table: Table<'_>, oid: u32, sources: &Sources) -> Self {
        let uses = sources.uses(plan.policies.iter().map(|policy| policy.text.as_str()));
        Self::Planned {
            text: plan.explain(table),
            relations: sources.names(&uses.relations),
            reads_itself: uses.is_dynamic || uses.relations.contains(&oid),
            uses: Box::new(uses),
            plan,
        }
    }
}

/// How often questions are asked.
fn asked(questions: usize, uses: &Uses) -> String {
    let questions = match questions {
        0 => return "nothing is asked".to_owned(),
        1 => "1 question".to_owned(),
        more => format!("{more} questions"),
    };
    let settings: BTreeSet<&str> = uses
        .settings
        .iter()
        .map(String::as_str)
        .filter(|name| !name.starts_with("request.jwt."))
        .collect();
    let claims = match &uses.claims {
        Claims::All => "claims, but exp, iat and nbf".to_owned(),
        Claims::Named(names) if names.is_empty() && settings.is_empty() => {
            return format!("{questions}, once for all sessions");
        }
        Claims::Named(names) => {
            let names = names.iter().map(String::as_str).chain(settings);
            names.collect::<Vec<&str>>().join(", ")
        }
    };
    format!("{questions}, once for all sessions with the same {claims}")
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: table {}", self.entity, self.relation)?;
        if self.roles.is_empty() {
            writeln!(
                f,
                "the engine's role may become no role that may read the table"
            )?;
        }
        self.roles.iter().try_for_each(|role| role.fmt(f))
    }
}

impl fmt::Display for OfRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nrole {}", self.role)?;
        match &self.sees {
            Sees::Everything(why) => writeln!(f, "  sees every row: {why}"),
            Sees::Nothing(why) => writeln!(f, "  sees no row: {why}"),
            Sees::Planned {
                plan,
                text,
                uses,
                relations,
                reads_itself,
            } => {
                for line in text.lines() {
                    writeln!(f, "  {line}")?;
                }
                if plan.is_per_row() {
                    let asked = asked(1, uses);
                    writeln!(
                        f,
                        "  asked: the keys of the visible rows, because a condition is per row; {asked}"
                    )?;
                } else {
                    writeln!(f, "  asked: {}", asked(plan.questions.len(), uses))?;
                }
                depends(f, uses, relations)?;
                match (plan.is_per_row(), reads_itself) {
                    (true, true) => writeln!(
                        f,
                        "  a changed row: one question for each group of sessions, about all rows, \
                         because one may decide about another"
                    ),
                    (true, false) => writeln!(
                        f,
                        "  a changed row: one question for each group of sessions, about that row"
                    ),
                    (false, _) => writeln!(f, "  a changed row: no question"),
                }
            }
        }
    }
}

fn depends(f: &mut fmt::Formatter<'_>, uses: &Uses, relations: &[String]) -> fmt::Result {
    if !relations.is_empty() {
        writeln!(
            f,
            "  asked again when these change: {}",
            relations.join(", ")
        )?;
    }
    if uses.is_dynamic {
        writeln!(
            f,
            "  and tables that are not named: a function puts statements together"
        )?;
    }
    if let Some(why) = &uses.apart {
        writeln!(f, "  each group is asked in a statement of its own: {why}")?;
    }
    if let Some(clock) = &uses.clock {
        writeln!(f, "  asked again as time passes: {clock}")?;
    }
    Ok(())
}
