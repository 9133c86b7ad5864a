//! Policies as they are configured: texts, not read yet.

use std::collections::BTreeMap;

/// The policies of one entity. What has none is not allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntityPolicy {
    /// Which rows may be seen. What may not be seen can be neither updated nor deleted, whatever the others say.
    pub read: Option<String>,
    /// What a row must be like when it is created.
    pub create: Option<String>,
    /// Which rows may be updated, and what they must be like afterwards.
    pub update: Option<UpdatePolicy>,
    /// Which rows may be deleted.
    pub delete: Option<String>,
    /// What is special about single columns.
    pub columns: BTreeMap<String, ColumnPolicy>,
}

/// Which rows may be updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatePolicy {
    /// What a row must be like before.
    pub using: String,
    /// What it must be like afterwards; none for the same.
    pub check: Option<String>,
}

/// What is special about a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnPolicy {
    /// Who may see it, and in which rows; none for everybody who may see the row. Where it may not be seen it is left out
    /// of the row, and it can be neither named in a filter nor found out by one.
    pub readable: Option<ColumnAccess>,
    /// Who may write it; none for everybody who may write the row. It depends on who asks, not on the row.
    pub writable: Option<ColumnAccess>,
    /// The claim with which it is filled in when a row is created, such as `auth.sub`.
    pub default: Option<String>,
}

/// Who may use a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnAccess {
    /// Everybody, or nobody.
    Always(bool),
    /// Those for whom this policy is true.
    When(String),
}

impl From<bool> for ColumnAccess {
    fn from(always: bool) -> Self {
        Self::Always(always)
    }
}

impl From<&str> for ColumnAccess {
    fn from(text: &str) -> Self {
        Self::When(text.to_owned())
    }
}

impl From<&str> for UpdatePolicy {
    fn from(text: &str) -> Self {
        Self {
            using: text.to_owned(),
            check: None,
        }
    }
}
