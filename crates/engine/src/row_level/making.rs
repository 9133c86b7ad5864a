//! Makes the plans of all entities whose policies decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use db::entity::{Entity, EntityMap};
use db::{CatalogVersion, DbResult, PolicyReader};
use filter::{Backend, Table};
use rls::{GuardDraft, Plan, RoleFacts, Scope, Sources, TableFacts, Uses};
use sha2::{Digest as _, Sha256};
use sync_core::membership::{AskedPlan, KnownRelations, TableGuards};
use tracing::warn;

use super::{EntityPlans, Plans, Rows, Sees};

/// What all plans are made from.
struct Making<'a> {
    reader: &'a PolicyReader,
    version: &'a CatalogVersion,
    all: &'a EntityMap,
    sources: Sources,
    relations: &'a Arc<KnownRelations>,
    search_path: Arc<str>,
    /// Those that mean something for a session alone.
    settings: Arc<BTreeSet<String>>,
}

/// Makes the plans of these entities; those that are known and still right are kept. One whose table is missing has none.
pub(super) async fn make(
    reader: &PolicyReader,
    entities: &BTreeSet<String>,
    all: &EntityMap,
    known: &Plans,
    relations: &Arc<KnownRelations>,
    version: &CatalogVersion,
) -> DbResult<Plans> {
    relations.set(reader.relations(all).await?);
    let making = Making {
        reader,
        version,
        all,
        sources: reader.sources().await?,
        relations,
        search_path: reader.search_path().into(),
        settings: Arc::new(reader.settings().await?),
    };
    let mut plans = Plans {
        version: version.clone(),
        settings: making.settings.clone(),
        entities: BTreeMap::new(),
    };
    for name in entities {
        let Some(entity) = all.get(name) else {
            continue;
        };
        let Some(made) = making.of_entity(entity).await? else {
            continue;
        };
        // What is as it was goes on.
        let known = known.entities.get(name).filter(|known| ***known == made);
        let kept = known.cloned().unwrap_or_else(|| Arc::new(made));
        plans.entities.insert(name.clone(), kept);
    }
    Ok(plans)
}

impl Making<'_> {
    async fn of_entity(&self, entity: &Entity) -> DbResult<Option<EntityPlans>> {
        let Some(facts) = self.reader.facts(entity, &[]).await? else {
            return Ok(None);
        };
        let mut roles = BTreeMap::new();
        for role in &facts.roles {
            if let Some(sees) = self.of_role(entity, &facts, role).await? {
                roles.insert(role.name.clone(), sees);
            }
        }
        self.tell_of_uncaptured(&entity.schema.entity, roles.values());
        Ok(Some(EntityPlans {
            fingerprint: entity.fingerprint.clone(),
            roles,
        }))
    }

    /// What a role sees; nothing when it may not even read the keys.
    async fn of_role(
        &self,
        entity: &Entity,
        facts: &TableFacts,
        role: &RoleFacts,
    ) -> DbResult<Option<Sees>> {
        let schema = &entity.schema;
        let key: Vec<&str> = schema.key_columns().map(|it| it.name.as_str()).collect();
        let reads_keys = key.iter().all(|column| role.readable.contains(*column));
        if !role.may_be_set || !role.enters_schema || !reads_keys {
            return Ok(None);
        }
        let rows = match Scope::of(facts, role, &key) {
            Scope::Everything(_) => Rows::All,
            Scope::Nothing(_) => Rows::None,
            Scope::Policies {
                permissive,
                restrictive,
            } => {
                let plan = self
                    .reader
                    .plan(facts, &permissive, &restrictive, schema)
                    .await?;
                let texts = plan.policies.iter().map(|policy| policy.text.as_str());
                let uses = self.sources.uses(texts);
                let guards = self.guards(&schema.entity, &plan, &uses).await?;
                Rows::Planned(Arc::new(AskedPlan {
                    schema: schema.clone(),
                    fingerprint: entity.fingerprint.as_str().into(),
                    settings: Arc::new(&uses.settings & &self.settings),
                    uses,
                    guards,
                    plan,
                    search_path: self.search_path.clone(),
                    relations: self.relations.clone(),
                    version: self.version_of(role),
                    is_outdated: AtomicBool::new(false),
                }))
            }
        };
        let columns = schema.columns.iter().map(|column| &column.name);
        let hidden = columns
            .filter(|name| !role.readable.contains(*name))
            .cloned();
        Ok(Some(Sees {
            rows,
            hidden: hidden.collect(),
        }))
    }

    /// The guards of the tables that policies of an entity read.
    async fn guards(
        &self,
        entity: &str,
        plan: &Plan,
        uses: &Uses,
    ) -> DbResult<BTreeMap<u32, TableGuards>> {
        let relations = self.relations.get();
        let mut guards = BTreeMap::new();
        for oid in uses.relations.difference(&uses.read_within) {
            let read = relations.entities.get(oid).and_then(|it| self.all.get(it));
            let Some(read) = read.filter(|read| read.schema.entity != entity) else {
                continue;
            };
            // A partition that is named beside its table: the changes of both are those of one entity.
            let of_entity = uses
                .relations
                .iter()
                .filter_map(|oid| relations.entities.get(oid));
            if of_entity
                .filter(|name| **name == read.schema.entity)
                .count()
                > 1
            {
                continue;
            }
            let draft = self.sources.name_of(*oid).and_then(|name| {
                let table = Table::new(&read.schema, Backend::Postgres);
                GuardDraft::new(plan, uses, &self.sources, &name, table)
            });
            let Some(draft) = draft else { continue };
            if let Some(found) = self.reader.guards(draft).await? {
                let of_table = TableGuards {
                    schema: read.schema.clone(),
                    guards: found,
                };
                guards.insert(*oid, of_table);
            }
        }
        Ok(guards)
    }

    /// What differs when a question of this role may have another answer though nothing was written.
    fn version_of(&self, role: &RoleFacts) -> Arc<str> {
        let hash = Sha256::digest(format!("{} {role:?}", self.version.own));
        URL_SAFE_NO_PAD.encode(hash).into()
    }

    /// Names the tables that policies read and that are not captured: what they say of them is asked each second.
    fn tell_of_uncaptured<'a>(&self, entity: &str, roles: impl Iterator<Item = &'a Sees>) {
        let plans = roles.filter_map(|sees| match &sees.rows {
            Rows::Planned(plan) => Some(plan),
            Rows::All | Rows::None => None,
        });
        let known = self.relations.get();
        let is_uncaptured =
            |oid: &u32| !known.entities.contains_key(oid) && !known.ignored.contains(oid);
        let read = plans.flat_map(|plan| plan.uses.relations.iter().copied());
        let uncaptured: BTreeSet<u32> = read.filter(is_uncaptured).collect();
        for table in self.sources.names(&uncaptured) {
            warn!(
                entity,
                table,
                "a policy of {entity:?} reads {table}, which is no entity: changes of it are noticed within a second, at the \
                 cost of a question for each group; make it an entity with internal = true"
            );
        }
    }
}
