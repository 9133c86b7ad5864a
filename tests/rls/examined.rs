//! A table as the engine's part sees it: its plan for a role, and which rows it takes for visible.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use db::entity::{Entity, EntityConfig, RowsSql};
use db::{Asked, PolicyReader};
use filter::{Backend, RowReader, Table};
use rls::{Answers, Group, Plan, Scope, Sources, TableFacts, Uses};
use serde::Deserialize;
use serde_json::value::RawValue;
use testkit::TestDatabase;

/// A table with its policies.
pub(crate) struct Examined {
    pub(crate) entity: Arc<Entity>,
    pub(crate) facts: TableFacts,
    key: Vec<String>,
}

/// What decides for a role.
#[derive(Debug, Clone)]
pub(crate) enum Decides {
    Everything,
    Nothing,
    Plan(Box<Plan>),
}

/// What a group was answered by last.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) decides: Decides,
    pub(crate) asked: Option<Asked>,
    pub(crate) uses: Uses,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    row: Box<RawValue>,
}

impl Examined {
    /// Describes a table, `schema.table`.
    pub(crate) async fn new(reader: &PolicyReader, table: &str, roles: &[String]) -> Self {
        let config = EntityConfig::on_table(table, table);
        let described = reader.describe(&config).await.expect("a database");
        let described = described.expect("a table that can be synced");
        let entity = described.expect("a table");
        let facts = reader
            .facts(&entity, roles)
            .await
            .expect("a database")
            .expect("a table");
        let key = entity
            .schema
            .key_columns()
            .map(|column| column.name.clone())
            .collect();
        Self {
            entity: entity.into(),
            facts,
            key,
        }
    }

    pub(crate) fn table(&self) -> Table<'_> {
        Table::new(&self.entity.schema, Backend::Postgres)
    }

    /// The expression for a row's key, and the table.
    pub(crate) fn sql(&self) -> (&str, &str) {
        match &self.entity.rows {
            RowsSql::Table { key, from, .. } => (key, from),
            RowsSql::Query(_) => panic!("an entity with a table"),
        }
    }

    /// Reads the policies again.
    pub(crate) async fn read_again(&mut self, reader: &PolicyReader, roles: &[String]) {
        let facts = reader.facts(&self.entity, roles).await;
        self.facts = facts.expect("a database").expect("a table");
    }

    /// What decides for a role.
    pub(crate) async fn decides(&self, reader: &PolicyReader, role: &str) -> Decides {
        let role = self
            .facts
            .roles
            .iter()
            .find(|known| known.name == role)
            .expect("a role");
        let key: Vec<&str> = self.key.iter().map(String::as_str).collect();
        match Scope::of(&self.facts, role, &key) {
            Scope::Everything(_) => Decides::Everything,
            Scope::Nothing(_) => Decides::Nothing,
            Scope::Policies {
                permissive,
                restrictive,
            } => {
                let plan = reader
                    .plan(&self.facts, &permissive, &restrictive, self.table().schema)
                    .await;
                Decides::Plan(Box::new(plan.expect("a database")))
            }
        }
    }

    /// What the policies of a role depend on.
    pub(crate) fn uses(&self, sources: &Sources) -> Uses {
        let texts = self
            .facts
            .policies
            .iter()
            .filter_map(|policy| policy.using.as_deref());
        sources.uses(texts)
    }

    /// Asks for a group, alone and then twice in one statement: the first must leave nothing that changes the others' answers.
    pub(crate) async fn ask(
        &self,
        reader: &PolicyReader,
        decides: &Decides,
        group: &Group,
        known: &BTreeSet<String>,
    ) -> Option<Asked> {
        let alone = self.ask_all(reader, decides, std::slice::from_ref(group), known);
        let alone = alone.await?.remove(0);
        let twice = [group.clone(), group.clone()];
        let twice = self.ask_all(reader, decides, &twice, known).await?;
        assert_eq!(
            twice,
            [alone.clone(), alone.clone()],
            "two groups in one statement are answered differently"
        );
        Some(alone)
    }

    /// Asks for several groups in one call.
    pub(crate) async fn ask_all(
        &self,
        reader: &PolicyReader,
        decides: &Decides,
        groups: &[Group],
        known: &BTreeSet<String>,
    ) -> Option<Vec<Asked>> {
        let Decides::Plan(plan) = decides else {
            return None;
        };
        let asked = reader.ask(&self.entity, plan, groups, known).await;
        let asked = asked.expect("a database");
        assert_eq!(asked.len(), groups.len(), "an answer for each");
        Some(asked)
    }

    /// All rows, as their owner reads them.
    pub(crate) async fn rows(&self, db: &TestDatabase) -> BTreeMap<String, Box<RawValue>> {
        let RowsSql::Table { key, row, from, .. } = &self.entity.rows else {
            panic!("an entity with a table");
        };
        let sql = format!(
            "SELECT json_build_object('key', {key}, 'row', ({row})::json)::text FROM {from}"
        );
        let rows = db.query_text(&sql).await.into_iter().map(|text| {
            let row: Row = serde_json::from_str(&text.expect("a row")).expect("JSON");
            (row.key, row.row)
        });
        rows.collect()
    }

    /// The canonical keys of the rows that are visible by what is known.
    pub(crate) fn visible(
        &self,
        known: &Known,
        rows: &BTreeMap<String, Box<RawValue>>,
    ) -> BTreeSet<String> {
        let plan = match &known.decides {
            Decides::Everything => return rows.keys().cloned().collect(),
            Decides::Nothing => return BTreeSet::new(),
            Decides::Plan(plan) => plan,
        };
        let answers = &known.asked.as_ref().expect("a plan was asked").answers;
        let reader = RowReader::new(self.table(), plan.columns());
        let is_visible = |key: &str, row: &RawValue| {
            plan.is_visible(&reader.read(row).expect("a row"), key, answers)
        };
        let visible = rows.iter().filter(|(key, row)| is_visible(key, row));
        visible.map(|(key, _)| key.clone()).collect()
    }
}

/// Asks for all groups of each role in one call: each is answered as it was alone.
pub(crate) async fn compare_together(
    reader: &PolicyReader,
    examined: &Examined,
    known: &[(Group, &Known)],
    settings: &BTreeSet<String>,
) {
    let roles: BTreeSet<&String> = known.iter().map(|(group, _)| &group.role).collect();
    for role in roles {
        let of_role = known.iter().filter(|(group, _)| group.role == *role);
        let of_role: Vec<&(Group, &Known)> = of_role.collect();
        let groups: Vec<Group> = of_role.iter().map(|(group, _)| group.clone()).collect();
        let asked = examined.ask_all(reader, &of_role[0].1.decides, &groups, settings);
        for ((group, alone), together) in of_role.iter().zip(asked.await.into_iter().flatten()) {
            let alone = alone.asked.as_ref().expect("a plan was asked");
            assert_eq!(together.answers, alone.answers, "{group:?}");
            assert_eq!(together.failures, alone.failures, "{group:?}");
            assert!(together.read.is_superset(&alone.read), "{group:?}");
        }
    }
}

impl Known {
    /// Whether it may be wrong after these tables have changed.
    pub(crate) fn may_change(&self, changed: &BTreeSet<u32>) -> bool {
        let Some(asked) = &self.asked else {
            return false;
        };
        let failed = !asked.failures.is_empty() || asked.answers == Answers::Denied;
        failed || self.uses.clock.is_some() || !asked.read.is_disjoint(changed)
    }
}
