//! What the catalog says of a table and of a role.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A table with its policies.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TableFacts {
    /// Its oid.
    pub oid: u32,
    /// Its name alone, as policies name it.
    pub name: String,
    /// Its quoted name with its schema.
    pub relation: String,
    /// Whether row level security is enabled.
    pub enabled: bool,
    /// Whether it holds for the owner, too.
    pub forced: bool,
    /// The policies, by name.
    pub policies: Vec<Policy>,
    /// The columns, in the table's order.
    pub columns: Vec<ColumnFacts>,
    /// The roles that were asked for, as far as they exist.
    pub roles: Vec<RoleFacts>,
}

/// The names under which PostgreSQL knows a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Its schema.
    pub schema: String,
    /// Its name alone.
    pub name: String,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Policy {
    /// Its name, unique in its table.
    pub name: String,
    /// Whether it grants; a restrictive one takes away.
    pub permissive: bool,
    /// What it is for.
    pub command: Command,
    /// The roles that it is for; 0 for all.
    pub roles: BTreeSet<u32>,
    /// `USING`, as PostgreSQL writes it.
    pub using: Option<String>,
    /// `WITH CHECK`, as PostgreSQL writes it.
    pub check: Option<String>,
}

/// What a policy is for, as the catalog names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Command {
    /// Everything, reading among it.
    #[serde(rename = "*")]
    All,
    /// Reading.
    #[serde(rename = "r")]
    Select,
    /// Creating rows.
    #[serde(rename = "a")]
    Insert,
    /// Updating rows.
    #[serde(rename = "w")]
    Update,
    /// Deleting rows.
    #[serde(rename = "d")]
    Delete,
}

/// A role, and what it may do with the table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// Its oid.
    pub oid: u32,
    /// Whether it is a superuser or has `BYPASSRLS`.
    pub bypasses: bool,
    /// Whether it has the rights of the table's owner.
    pub owns: bool,
    /// The roles whose rights it has without a `SET ROLE`, itself among them.
    pub has_rights_of: BTreeSet<u32>,
    /// Whether it may use the table's schema.
    pub enters_schema: bool,
    /// The columns that it may read.
    pub readable: BTreeSet<String>,
    /// Whether the engine's role may become it.
    pub may_be_set: bool,
}

impl Policy {
    /// Whether it counts when a role reads.
    pub fn is_for_reading_by(&self, role: &RoleFacts) -> bool {
        let reads = matches!(self.command, Command::All | Command::Select);
        let names_role = |named: &u32| *named == 0 || role.has_rights_of.contains(named);
        reads && self.roles.iter().any(names_role)
    }
}
