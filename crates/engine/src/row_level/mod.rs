//! Row level security of PostgreSQL, applied to reading: what each role sees of the entities whose policies decide.
//!
//! A plan is made for each entity and role when the engine starts, and afresh when the catalog has changed. A principal's
//! read scope follows from the plan of its role, from memory. Its sets are asked for by the drain, as all others.

mod authorizer;
#[cfg(feature = "postgres")]
mod looking;
#[cfg(feature = "postgres")]
mod making;
#[cfg(not(feature = "postgres"))]
mod without;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
#[cfg(feature = "postgres")]
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use filter::{ClaimPath, Filter, Policy};
use rls::Group;
use serde_json::{Map, Value};
#[cfg(feature = "postgres")]
use sync_core::membership::KnownRelations;
use sync_core::membership::{AskedGroup, AskedPlan};
use sync_core::policy::{Principal, ReadScope, RowScope};

pub(crate) use authorizer::Guarded;

use crate::config::SyncConfig;

/// What roles see, as far as it has been found out.
#[derive(Debug)]
pub(crate) struct RowLevel {
    /// The entities whose policies decide.
    entities: BTreeSet<String>,
    /// Settings that policies read beside the token, with the claims that they are made from.
    settings: Vec<(String, ClaimPath)>,
    plans: RwLock<Arc<Plans>>,
    #[cfg(feature = "postgres")]
    relations: Arc<KnownRelations>,
    /// What reads the catalog; none until it is needed, or after it has failed.
    #[cfg(feature = "postgres")]
    reader: tokio::sync::Mutex<Option<db::PolicyReader>>,
}

/// What each role sees of each entity.
#[derive(Debug, Default, Clone)]
struct Plans {
    /// Of the catalog from which they were made.
    #[cfg(feature = "postgres")]
    version: db::CatalogVersion,
    /// The settings that the database's code reads, and those that claims make. Each mutation makes all of them.
    settings: Arc<BTreeSet<String>>,
    entities: BTreeMap<String, Arc<EntityPlans>>,
}

/// What each role sees of an entity. Of a role that is not here nothing is known, so it sees nothing.
#[derive(Debug, PartialEq, Eq)]
struct EntityPlans {
    /// Of the table that they were made for.
    fingerprint: String,
    roles: BTreeMap<String, Sees>,
}

/// What a role sees of an entity.
#[derive(Debug, Clone)]
struct Sees {
    rows: Rows,
    /// The columns that it may not read.
    hidden: Vec<String>,
}

#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "postgres"),
    expect(dead_code, reason = "SQLite has no policies")
)]
enum Rows {
    All,
    None,
    Planned(Arc<AskedPlan>),
}

impl RowLevel {
    /// Nothing is known yet.
    pub(crate) fn new(config: &SyncConfig) -> Self {
        let entities = config.entities.iter().filter(|entity| entity.rls);
        let settings = config.auth.settings.iter().filter_map(|(name, claim)| {
            // They have been checked.
            let policy = Policy::new(claim).ok()?;
            Some((name.clone(), policy.as_claim()?.clone()))
        });
        Self {
            entities: entities.map(|entity| entity.name.clone()).collect(),
            settings: settings.collect(),
            plans: RwLock::default(),
            #[cfg(feature = "postgres")]
            relations: Arc::default(),
            #[cfg(feature = "postgres")]
            reader: tokio::sync::Mutex::default(),
        }
    }

    /// Whether policies decide for no entity.
    pub(crate) fn is_unused(&self) -> bool {
        self.entities.is_empty()
    }

    /// Whether the policies of an entity's table decide who sees its rows.
    pub(crate) fn decides(&self, entity: &str) -> bool {
        self.entities.contains(entity)
    }

    /// Whether it is not known yet what roles see of an entity.
    pub(crate) fn is_unknown(&self, entity: &str) -> bool {
        self.decides(entity) && !self.plans().entities.contains_key(entity)
    }

    fn plans(&self) -> Arc<Plans> {
        let plans = self.plans.read().unwrap_or_else(PoisonError::into_inner);
        plans.clone()
    }

    /// Puts other plans in the place of what was known. Returns the entities of which roles may see something else now.
    #[cfg(feature = "postgres")]
    fn replace(&self, plans: Plans) -> BTreeSet<String> {
        let mut known = self.plans.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, Arc::new(plans));
        let mut changed = BTreeSet::new();
        for (entity, before) in &before.entities {
            let is_kept = |now: &Arc<EntityPlans>| Arc::ptr_eq(now, before);
            if known.entities.get(entity).is_some_and(is_kept) {
                continue;
            }
            changed.insert(entity.clone());
            for sees in before.roles.values() {
                if let Rows::Planned(plan) = &sees.rows {
                    plan.is_outdated.store(true, Ordering::Relaxed);
                }
            }
        }
        changed
    }

    /// What a principal sees of an entity whose policies decide.
    fn read(&self, principal: &Principal, entity: &str) -> ReadScope {
        let plans = self.plans();
        let role = principal.role.as_deref().unwrap_or_default();
        let sees = plans.entities.get(entity).and_then(|of| of.roles.get(role));
        let Some(Sees { rows, hidden }) = sees else {
            return ReadScope::Nothing;
        };
        let filter = match rows {
            Rows::All => Filter::everything(),
            Rows::None => Filter::nothing(),
            Rows::Planned(plan) => {
                let (claims, settings) = self.told(principal);
                let group = Group::new(role, claims.as_ref(), &settings, &plan.uses);
                AskedGroup::new(plan.clone(), group).filter()
            }
        };
        ReadScope::Policies {
            rows: RowScope::Filter {
                filter,
                fingerprint: plans.entities[entity].fingerprint.clone(),
            },
            hidden: hidden.clone(),
            partial: Vec::new(),
        }
    }

    /// What PostgreSQL is told of a principal: its claims, none for somebody of whom nothing is known, and settings.
    fn told(
        &self,
        principal: &Principal,
    ) -> (Option<Map<String, Value>>, BTreeMap<String, String>) {
        let mut claims: Map<String, Value> = principal
            .claims
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let is_known = !claims.is_empty() || principal.user_id.is_some();
        for (name, value) in [("sub", &principal.user_id), ("role", &principal.role)] {
            if let Some(value) = value {
                let value = Value::from(value.as_str());
                claims.entry(name).or_insert(value);
            }
        }
        let settings = self.settings.iter().filter_map(|(name, path)| {
            let value = match principal.claim(path)? {
                Value::Null => return None,
                Value::String(text) => text,
                other => other.to_string(),
            };
            Some((name.clone(), value))
        });
        let settings = settings.collect();
        (is_known.then_some(claims), settings)
    }
}

impl PartialEq for Sees {
    fn eq(&self, other: &Self) -> bool {
        let same_rows = match (&self.rows, &other.rows) {
            (Rows::All, Rows::All) | (Rows::None, Rows::None) => true,
            (Rows::Planned(one), Rows::Planned(other)) => one.version == other.version,
            _ => false,
        };
        same_rows && self.hidden == other.hidden
    }
}

impl Eq for Sees {}
