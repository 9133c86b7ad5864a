//! The entities in the configuration file: `[entities.NAME]` with its table and its policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::ensure;
use rhtmx_sync::{
    Authorizer, ColumnAccess, ColumnMerge, ColumnPolicy, ColumnRule, Comparison, Deletes,
    EntityConfig, EntityPolicy, FieldMergeStrategy, Policies, Rules, UpdatePolicy,
};
use serde::Deserialize;

/// One entity.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EntitySection {
    pub(crate) table: Option<String>,
    pub(crate) internal: bool,
    /// With which strategy rows merge by their fields.
    fields: Option<FieldMergeStrategy>,
    /// What a deletion means for them.
    deletes: Option<Deletes>,
    /// Whether PostgreSQL's row level security says who may see and write what.
    pub(crate) rls: bool,
    read: Option<String>,
    create: Option<String>,
    update: Option<Update>,
    delete: Option<String>,
    columns: Option<BTreeMap<String, Column>>,
}

/// One text for both, or one for the row before and one for the row after.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "`update` is a policy, or `{ using = \"…\", check = \"…\" }`"
)]
enum Update {
    Both(String),
    Each(BeforeAndAfter),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeforeAndAfter {
    using: String,
    check: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Column {
    readable: Option<Access>,
    writable: Option<Access>,
    default: Option<String>,
    merge: Option<Merge>,
    strategy: Option<FieldMergeStrategy>,
}

/// What a column's values are for the merge. How the greatest and the least compare follows from the column's type.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Merge {
    Register,
    Counter,
    Set,
    Max,
    Min,
    Text,
}

impl From<Merge> for ColumnMerge {
    fn from(merge: Merge) -> Self {
        match merge {
            Merge::Register => Self::Register,
            Merge::Counter => Self::Counter,
            Merge::Set => Self::Set,
            Merge::Max => Self::Max(Comparison::Json),
            Merge::Min => Self::Min(Comparison::Json),
            Merge::Text => Self::Text,
        }
    }
}

impl Column {
    fn has_policies(&self) -> bool {
        self.readable.is_some() || self.writable.is_some() || self.default.is_some()
    }

    /// Another merge than the entity's.
    fn rule(&self) -> Option<ColumnRule> {
        let is_ruled = self.merge.is_some() || self.strategy.is_some();
        is_ruled.then(|| ColumnRule {
            merge: self.merge.map(Into::into).unwrap_or_default(),
            strategy: self.strategy,
        })
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "`readable` and `writable` are true, false or a policy"
)]
enum Access {
    Always(bool),
    When(String),
}

impl EntitySection {
    /// How its rows merge by their fields; none where they are replaced whole. `strategy` is that of entities that have none
    /// of their own.
    ///
    /// # Errors
    /// When there are rules for fields and no strategy, or the rows cannot merge.
    pub(crate) fn rules(
        &self,
        strategy: Option<FieldMergeStrategy>,
    ) -> anyhow::Result<Option<Rules>> {
        let columns = self.columns.iter().flatten();
        let columns: BTreeMap<String, ColumnRule> = columns
            .filter_map(|(name, column)| Some((name.clone(), column.rule()?)))
            .collect();
        let strategy = strategy.filter(|_| !self.rls && !self.internal);
        let Some(strategy) = self.fields.or(strategy) else {
            ensure!(
                self.deletes.is_none() && columns.is_empty(),
                "`deletes`, and `merge` and `strategy` of columns, are for entities with `fields`"
            );
            return Ok(None);
        };
        ensure!(
            !self.rls,
            "rows that PostgreSQL's row level security decides about cannot merge by their fields; remove `fields` or `rls`"
        );
        Ok(Some(Rules {
            strategy,
            deletes: self.deletes.unwrap_or_default(),
            columns,
        }))
    }

    /// Whether it has policies of the configuration's own.
    pub(crate) fn has_policies(&self) -> bool {
        let texts = [&self.read, &self.create, &self.delete];
        let mut columns = self.columns.iter().flatten();
        texts.into_iter().any(Option::is_some)
            || self.update.is_some()
            || columns.any(|(_, column)| column.has_policies())
    }
}

/// The authorizer that these policies make, for the entities that are served. None when nothing says who may do what:
/// there are no policies, and every client is accepted as anonymous.
pub(crate) fn authorizer(
    sections: &BTreeMap<String, EntitySection>,
    served: &[EntityConfig],
    has_authenticator: bool,
) -> anyhow::Result<Option<Arc<dyn Authorizer>>> {
    let is_served = |name: &str| served.iter().any(|entity| entity.name == name);
    let sections = sections.iter();
    let policies = sections.filter(|(name, section)| section.has_policies() && is_served(name));
    let policies: Vec<(String, EntityPolicy)> = policies
        .map(|(name, section)| (name.clone(), section.clone().into()))
        .collect();
    if policies.is_empty() && !has_authenticator {
        return Ok(None);
    }
    Ok(Some(Arc::new(Policies::new(policies)?)))
}

impl From<EntitySection> for EntityPolicy {
    fn from(section: EntitySection) -> Self {
        let columns = section.columns.unwrap_or_default().into_iter();
        Self {
            read: section.read,
            create: section.create,
            update: section.update.map(Into::into),
            delete: section.delete,
            columns: columns
                .filter(|(_, column)| column.has_policies())
                .map(|(name, column)| (name, column.into()))
                .collect(),
        }
    }
}

impl From<Update> for UpdatePolicy {
    fn from(update: Update) -> Self {
        match update {
            Update::Both(using) => Self { using, check: None },
            Update::Each(BeforeAndAfter { using, check }) => Self { using, check },
        }
    }
}

impl From<Column> for ColumnPolicy {
    fn from(column: Column) -> Self {
        Self {
            readable: column.readable.map(Into::into),
            writable: column.writable.map(Into::into),
            default: column.default,
        }
    }
}

impl From<Access> for ColumnAccess {
    fn from(access: Access) -> Self {
        match access {
            Access::Always(always) => Self::Always(always),
            Access::When(text) => Self::When(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(file: &str) -> Result<EntityPolicy, String> {
        let section: Result<EntitySection, _> = toml::from_str(file);
        section.map(Into::into).map_err(|error| error.to_string())
    }

    #[test]
    fn policies_are_written_as_in_rust() {
        let file = r#"
            read = "owner = auth.sub"
            update = { using = "owner = auth.sub", check = "NOT locked" }
            delete = "FALSE"
            [columns.owner]
            default = "auth.sub"
            [columns.note]
            readable = "auth.role = 'admin'"
            writable = false
        "#;
        let found = policy(file).expect("policies");
        assert_eq!(found.read.as_deref(), Some("owner = auth.sub"));
        let update = found.update.expect("update");
        assert_eq!(
            (update.using.as_str(), update.check.as_deref()),
            ("owner = auth.sub", Some("NOT locked"))
        );
        assert_eq!(found.columns["owner"].default.as_deref(), Some("auth.sub"));
        assert_eq!(
            found.columns["note"].readable,
            Some("auth.role = 'admin'".into())
        );
        assert_eq!(found.columns["note"].writable, Some(false.into()));
        let both = policy("update = 'TRUE'")
            .expect("policies")
            .update
            .expect("update");
        assert_eq!((both.using.as_str(), both.check), ("TRUE", None));
    }

    #[test]
    fn a_misspelt_policy_is_an_error() {
        for (file, words) in [
            ("raed = 'TRUE'", "raed"),
            ("update = { use = 'TRUE' }", "using ="),
            ("update = true", "using ="),
            ("[columns.note]\nreadable = 1", "readable"),
            ("[columns.note]\nreadeble = true", "readeble"),
        ] {
            let error = policy(file).expect_err(file);
            assert!(error.contains(words), "{file}: {error}");
        }
    }

    #[test]
    fn rules_for_merging_are_no_policies() {
        let rules = |file: &str| -> Result<Option<Rules>, String> {
            let section: EntitySection = toml::from_str(file).map_err(|error| error.to_string())?;
            assert!(!section.has_policies());
            section.rules(None).map_err(|error| error.to_string())
        };
        assert_eq!(rules(""), Ok(None));
        let file = "fields = 'keep_both'\ndeletes = 'revive'\n[columns.likes]\nmerge = 'counter'\n\
                    [columns.best]\nmerge = 'max'\n[columns.title]\nstrategy = 'server_wins'";
        let found = rules(file).expect("rules").expect("fields merge");
        assert_eq!(found.deletes, Deletes::Revive);
        assert_eq!(found.merge("likes"), ColumnMerge::Counter);
        assert_eq!(found.merge("best"), ColumnMerge::Max(Comparison::Json));
        assert_eq!(found.strategy("title"), FieldMergeStrategy::ServerWins);
        assert_eq!(found.strategy("likes"), FieldMergeStrategy::KeepBoth);
        for (file, words) in [
            ("fields = 'newest_wins'", "last_write_wins"),
            ("fields = true", "string"),
            ("fields = 'keep_both'\ndeletes = 'lose'", "revive"),
            ("deletes = 'win'", "with `fields`"),
            ("[columns.likes]\nmerge = 'counter'", "with `fields`"),
            (
                "fields = 'keep_both'\nrls = true",
                "remove `fields` or `rls`",
            ),
        ] {
            let error = rules(file).expect_err(file);
            assert!(error.contains(words), "{file}: {error}");
        }
    }

    #[test]
    fn the_strategy_of_all_entities_is_for_those_that_can_merge_and_have_none() {
        let rules = |file: &str| {
            let section: EntitySection = toml::from_str(file).expect("a section");
            section.rules(Some(FieldMergeStrategy::ClientWins))
        };
        let strategy = |file: &str| rules(file).expect(file).map(|rules| rules.strategy);
        assert_eq!(strategy(""), Some(FieldMergeStrategy::ClientWins));
        let own = "fields = 'keep_both'";
        assert_eq!(strategy(own), Some(FieldMergeStrategy::KeepBoth));
        assert_eq!(strategy("rls = true"), None);
        assert_eq!(strategy("internal = true"), None);
        let counter = "[columns.likes]\nmerge = 'counter'";
        let found = rules(counter).expect("rules").expect("fields merge");
        assert_eq!(found.merge("likes"), ColumnMerge::Counter);
        assert!(rules(&format!("rls = true\n{counter}")).is_err());
    }

    #[test]
    fn without_policies_and_authenticator_there_is_no_authorizer() {
        let of = |file: &str, served: &[&str], has_authenticator| {
            let sections = toml::from_str(file).expect("sections");
            let served: Vec<EntityConfig> = served.iter().map(|&name| name.into()).collect();
            authorizer(&sections, &served, has_authenticator).expect("policies")
        };
        assert!(of("[todos]", &["todos"], false).is_none());
        assert!(of("[todos]\nread = 'TRUE'", &["other"], false).is_none());
        let some = of("[todos]\nread = 'TRUE'", &["todos", "notes"], false).expect("policies");
        assert!(some.is_closed("notes") && !some.is_closed("todos"));
        assert!(
            of("[todos]", &["todos"], true)
                .expect("all are closed")
                .is_closed("todos")
        );
    }
}
