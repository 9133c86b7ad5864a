//! Sets that PostgreSQL is asked for, because its row level security decides: as a role, with claims.
//!
//! What a role sees of a table is a [plan](rls::Plan) with questions. Sessions that the questions cannot tell apart are a
//! [group](rls::Group), which asks once; each answer is a set. Together they make an ordinary filter, so that everything
//! that holds for sets that rows make holds for these, too.
//!
//! Where a question fails, the keys of the visible rows are asked for in its place; so the filter is
//! `(answered AND policies) OR key IN visible`, and either side is false.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use filter::{
    AskedSet, AskedSource, Backend, Condition, Filter, Membership, RowReader, Scalar, Set, SetRows,
    Table,
};
use rls::{Answer, Answers, Group, Guard, Plan, Uses};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use value::schema::Schema;

use super::contents::Contents;
use super::guard::EntityGuard;
use super::values::Values;
use crate::key;

/// The bytes of a hash in the name of a group, enough that two groups with one name cannot be found.
const NAME_BYTES: usize = 18;
/// The set that is not empty when each question has been answered.
const ANSWERED: usize = 0;
/// The set of the keys of the visible rows.
const VISIBLE: usize = 1;
/// The set of the first question.
const QUESTIONS: usize = 2;

/// What decides which rows of an entity's table a role sees.
#[derive(Debug)]
pub struct AskedPlan {
    /// The table's columns.
    pub schema: Arc<Schema>,
    /// Of the table for which the plan was made.
    pub fingerprint: Arc<str>,
    /// The conditions and the questions.
    pub plan: Plan,
    /// What the answers depend on.
    pub uses: Uses,
    /// The tables of whose rows only some can change the answers, by their oids.
    pub guards: BTreeMap<u32, TableGuards>,
    /// The settings that policies read.
    pub settings: Arc<BTreeSet<String>>,
    /// The search path of sessions that set none.
    pub search_path: Arc<str>,
    /// What is behind the oids of tables, as it is now.
    pub relations: Arc<KnownRelations>,
    /// Differs when the catalog has changed: then the same question may have another answer.
    pub version: Arc<str>,
    /// Whether another plan has taken its place.
    pub is_outdated: AtomicBool,
}

/// The guards of a table.
#[derive(Debug)]
pub struct TableGuards {
    /// The table's columns.
    pub schema: Arc<Schema>,
    /// A row concerns a group if one of these is true.
    pub guards: Vec<Guard>,
}

/// What is behind the oids of the database's tables. What is not here is a table whose changes are not captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    /// Tables with the entities that capture them.
    pub entities: BTreeMap<u32, String>,
    /// What holds no rows of its own, such as a view, or is the engine's.
    pub ignored: BTreeSet<u32>,
}

/// The same, as it is found out again and again.
#[derive(Debug, Default)]
pub struct KnownRelations(RwLock<Arc<Relations>>);

impl KnownRelations {
    /// As they were found out last.
    pub fn get(&self) -> Arc<Relations> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// They have been found out again.
    pub fn set(&self, relations: Relations) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(relations);
    }
}

/// Sessions that are answered alike about an entity.
#[derive(Debug)]
pub struct AskedGroup {
    name: Box<str>,
    plan: Arc<AskedPlan>,
    group: Group,
}

/// What a group was answered.
#[derive(Debug, Clone)]
pub struct GroupAnswer {
    /// The answers.
    pub answers: Answers,
    /// The oids of what was read for them.
    pub read: BTreeSet<u32>,
    /// Those of which that is not known, because the transaction had locked them before.
    pub held: BTreeSet<u32>,
    /// Whether a question failed, so that it is not known what it read.
    pub has_failed: bool,
    /// The values of the [guards](AskedPlan::all_guards), as texts; none when they are not known.
    pub guards: Option<Vec<Option<String>>>,
}

/// When a group must be asked again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// When one of these entities has changed.
    pub entities: BTreeSet<String>,
    /// Of some of them the only rows that matter.
    pub guards: BTreeMap<String, EntityGuard>,
    /// As time passes: the clock counts, or a table whose changes are not captured.
    pub is_timed: bool,
    /// After a pause: something failed.
    pub has_failed: bool,
    /// Whether the group sees nothing, because it could not be asked.
    pub is_denied: bool,
}

impl AskedPlan {
    /// The entity.
    pub fn entity(&self) -> &str {
        &self.schema.entity
    }

    /// Whether what is asked may have another answer because one of these oids' tables has changed, and why else.
    pub fn reads(&self, answer: &GroupAnswer) -> Reads {
        let is_named = |oid: &&u32| self.uses.is_dynamic || self.uses.relations.contains(*oid);
        let held = answer.held.iter().filter(is_named);
        let mut reads = Reads {
            is_timed: self.uses.clock.is_some(),
            has_failed: answer.has_failed,
            is_denied: answer.answers == Answers::Denied,
            entities: BTreeSet::new(),
            guards: BTreeMap::new(),
        };
        let relations = self.relations.get();
        let mut guards = self.entity_guards(answer);
        for oid in answer.read.iter().chain(held) {
            match relations.entities.get(oid) {
                Some(entity) => {
                    reads.entities.insert(entity.clone());
                    let guard = guards
                        .remove(oid)
                        .filter(|guard| guard.schema.entity == *entity);
                    reads
                        .guards
                        .extend(guard.map(|guard| (entity.clone(), guard)));
                }
                None if relations.ignored.contains(oid) => {}
                None => reads.is_timed = true,
            }
        }
        if self.plan.is_per_row() || matches!(answer.answers, Answers::Visible(_)) {
            reads.entities.insert(self.entity().to_owned());
            reads.guards.remove(self.entity());
        }
        reads
    }

    /// The guards of all tables, in the order in which they are asked.
    pub fn all_guards(&self) -> impl Iterator<Item = &Guard> {
        self.guards.values().flat_map(|of_table| &of_table.guards)
    }

    /// The columns of the guards, each with its entity.
    pub fn guard_columns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.guards.values().flat_map(|of_table| {
            let schema = &of_table.schema;
            let columns = of_table.guards.iter().map(|guard| guard.column);
            columns.map(|column| (&*schema.entity, &*schema.columns[column].name))
        })
    }

    /// The guards of the tables, with their values. A value that is not known for certain guards nothing, and nor does one
    /// of somebody of whom something failed: what was read for that is not known.
    fn entity_guards(&self, answer: &GroupAnswer) -> BTreeMap<u32, EntityGuard> {
        let is_whole = match answer.answers {
            Answers::Each(_) => !self.plan.is_per_row(),
            Answers::Visible(_) => self.plan.is_per_row(),
            Answers::Denied => false,
        };
        let (Some(texts), true, false) = (&answer.guards, is_whole, answer.has_failed) else {
            return BTreeMap::new();
        };
        let mut texts = texts.iter();
        let of_tables = self.guards.iter().filter_map(|(oid, of_table)| {
            let table = Table::new(&of_table.schema, Backend::Postgres);
            // Each takes its texts, whatever they are.
            let texts: Vec<_> = of_table.guards.iter().map(|_| texts.next()).collect();
            let mut values = BTreeSet::new();
            for (guard, text) in of_table.guards.iter().zip(texts) {
                // Nothing equals null.
                let Some(text) = text? else { continue };
                values.insert((guard.column, guard.read(text, table)?));
            }
            let guard = EntityGuard {
                schema: of_table.schema.clone(),
                columns: of_table.guards.iter().map(|guard| guard.column).collect(),
                values: values.into_iter().collect(),
            };
            Some((*oid, guard))
        });
        of_tables.collect()
    }

    /// The entities that the answers may depend on, by the names in the policies. A function that puts statements together
    /// may read others.
    pub fn named_entities(&self) -> BTreeSet<String> {
        let relations = self.relations.get();
        let named = self.uses.relations.iter();
        let named = named.filter_map(|oid| relations.entities.get(oid));
        let mut entities: BTreeSet<String> = named.cloned().collect();
        if self.plan.is_per_row() {
            entities.insert(self.entity().to_owned());
        }
        entities
    }

    /// Whether a row of the table decides about no other: where nothing but some rows has changed, only about those it has
    /// to be asked.
    pub fn decides_row_by_row(&self) -> bool {
        let relations = self.relations.get();
        let mut own = relations.entities.iter();
        let own = own.find(|(_, entity)| *entity == self.entity());
        let names_itself = own.is_none_or(|(oid, _)| self.uses.relations.contains(oid));
        self.plan.is_per_row() && !self.uses.is_dynamic && !names_itself
    }

    fn table(&self) -> Table<'_> {
        Table::new(&self.schema, Backend::Postgres)
    }
}

impl PartialEq for AskedGroup {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for AskedGroup {}

impl AskedSource for AskedGroup {
    fn name(&self) -> &str {
        &self.name
    }
}

impl AskedGroup {
    /// A group of those who are asked for by a plan.
    pub fn new(plan: Arc<AskedPlan>, group: Group) -> Arc<Self> {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(plan.entity());
        add(&plan.fingerprint);
        add(&plan.version);
        add(&group.role);
        add(if group.claims.is_some() { "claims" } else { "" });
        add(group.claims.as_deref().unwrap_or_default());
        for (name, value) in &group.settings {
            add(name);
            add(value);
        }
        let name = URL_SAFE_NO_PAD.encode(&hash.finalize()[..NAME_BYTES]);
        Arc::new(Self {
            name: name.into(),
            plan,
            group,
        })
    }

    /// The group behind a set; none for a set that rows make.
    pub fn of(set: &Set) -> Option<Arc<Self>> {
        let source: Arc<dyn std::any::Any + Send + Sync> = set.asked()?.source.clone();
        source.downcast().ok()
    }

    /// What it is asked by.
    pub fn plan(&self) -> &Arc<AskedPlan> {
        &self.plan
    }

    /// Whom it is asked for.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Whether another plan has taken the place of its own.
    pub fn is_outdated(&self) -> bool {
        self.plan.is_outdated.load(Ordering::Relaxed)
    }

    /// The rows that are visible.
    pub fn filter(self: &Arc<Self>) -> Filter {
        let plan = &self.plan.plan;
        let visible = Condition::Member {
            columns: self.plan.schema.key.clone(),
            set: self.set(VISIBLE, &self.plan.schema.key),
            membership: Membership::Exists,
            negated: false,
        };
        if plan.is_per_row() {
            return Filter::of_condition(visible);
        }
        let of_policy = |policy: &rls::PlannedPolicy| {
            let terms = policy.terms.iter().map(|term| {
                let conditions = term.iter().map(|condition| self.condition(condition));
                Condition::And(conditions.collect())
            });
            Condition::Or(terms.collect())
        };
        let (permissive, restrictive): (Vec<_>, Vec<_>) =
            plan.policies.iter().partition(|policy| policy.permissive);
        let mut all = vec![Condition::Or(
            permissive.into_iter().map(of_policy).collect(),
        )];
        all.extend(restrictive.into_iter().map(of_policy));
        if plan.questions.is_empty() {
            return Filter::of_condition(Condition::And(all));
        }
        all.push(self.bit(ANSWERED));
        Filter::of_condition(Condition::Or(vec![Condition::And(all), visible]))
    }

    fn condition(self: &Arc<Self>, condition: &rls::Condition) -> Condition {
        match condition {
            rls::Condition::Row(filter) => filter.condition().clone(),
            rls::Condition::Session(question) => self.bit(QUESTIONS + question),
            rls::Condition::Key {
                columns,
                question,
                membership,
                negated,
            } => Condition::Member {
                columns: columns.clone(),
                set: self.set(QUESTIONS + question, columns),
                membership: *membership,
                negated: *negated,
            },
            rls::Condition::PerRow(_) => Condition::Constant(Some(false)),
        }
    }

    /// Whether a set is not empty.
    fn bit(self: &Arc<Self>, part: usize) -> Condition {
        Condition::Member {
            columns: Vec::new(),
            set: self.set(part, &[]),
            membership: Membership::Exists,
            negated: false,
        }
    }

    /// Whether a set is that of the visible rows' keys.
    pub(super) fn is_visible_rows(set: &Set) -> bool {
        set.asked().is_some_and(|asked| asked.part == VISIBLE)
    }

    fn set(self: &Arc<Self>, part: usize, columns: &[usize]) -> Set {
        Set::new(SetRows {
            schema: self.plan.schema.clone(),
            fingerprint: self.plan.fingerprint.clone(),
            backend: Backend::Postgres,
            filter: Filter::everything(),
            columns: columns.to_vec(),
            window: None,
            asked: Some(AskedSet {
                source: self.clone(),
                part,
            }),
        })
    }

    /// What one of its sets holds by the answers.
    pub fn contents(&self, set: &Set, answers: &Answers) -> Contents {
        let part = set.asked().map(|asked| asked.part);
        match (part, answers) {
            (Some(ANSWERED), Answers::Each(_)) => Contents::of_rows(1),
            (Some(VISIBLE), Answers::Visible(keys)) => self.visible(keys),
            (Some(part), Answers::Each(answers)) if part >= QUESTIONS => {
                match answers.get(part - QUESTIONS) {
                    Some(Answer::Bit(bit)) => Contents::of_rows(u64::from(*bit)),
                    Some(Answer::Keys(keys)) => {
                        let values = keys.keys().map(|key| key.iter().cloned().collect());
                        Contents::of_values(values, keys.has_null())
                    }
                    None => Contents::default(),
                }
            }
            _ => Contents::default(),
        }
    }

    /// The values behind canonical keys. A key that cannot be compared here makes its row invisible.
    fn visible(&self, keys: &BTreeSet<String>) -> Contents {
        let schema = &self.plan.schema;
        let reader = RowReader::new(self.plan.table(), schema.key.iter().copied());
        let read = |text: &String| -> Option<Values> {
            let values = key::split(&Value::from(text.as_str()), schema.key.len())?;
            let names = schema.key_columns().map(|column| column.name.clone());
            let row: serde_json::Map<String, Value> = names.zip(values).collect();
            let row = RawValue::from_string(Value::from(row).to_string()).ok()?;
            let row = reader.read(&row).ok()?;
            let values = schema.key.iter().map(|column| row.scalar(*column).cloned());
            values
                .collect::<Option<Vec<Scalar>>>()
                .map(|values| values.into_iter().collect())
        };
        Contents::of_values(keys.iter().filter_map(read), false)
    }
}
