//! Writes to the entities whose policies decide: PostgreSQL runs them as the principal's role, and decides by itself.

#[cfg(feature = "postgres")]
use std::collections::BTreeSet;
use std::sync::Arc;

use db::write::RunAs;
use rls::{Claims, Group, Sources, Uses};
use sync_core::policy::{Principal, WriteColumns, WriteScope};

use super::RowLevel;

impl RowLevel {
    /// As whom PostgreSQL runs a principal's writes to an entity; none where other policies decide, or where the principal has
    /// no role, and writes nothing.
    pub(crate) fn run_as(&self, principal: &Principal, entity: &str) -> Option<Arc<RunAs>> {
        let role = principal.role.as_deref().filter(|_| self.decides(entity))?;
        let (claims, settings) = self.told(principal);
        let group = Group::new(role, claims.as_ref(), &settings, &everything());
        let known = self.plans().settings.clone();
        Some(Arc::new(RunAs {
            role: role.to_owned(),
            settings: group.values(&known).into_iter().collect(),
        }))
    }

    /// What is known of a principal's rights before PostgreSQL decides: the columns that do not exist for its role.
    pub(super) fn write(&self, principal: &Principal, entity: &str) -> WriteScope {
        let Some(role) = &principal.role else {
            return WriteScope::nothing();
        };
        let plans = self.plans();
        let sees = plans.entities.get(entity).and_then(|of| of.roles.get(role));
        WriteScope {
            columns: WriteColumns {
                hidden: sees.map_or_else(Vec::new, |sees| sees.hidden.clone()),
                ..WriteColumns::default()
            },
            ..WriteScope::everything()
        }
    }

    /// The settings that each mutation makes: those that the database's code reads, and those that claims make.
    #[cfg(feature = "postgres")]
    pub(super) fn made(&self, read: &BTreeSet<String>) -> BTreeSet<String> {
        let of_claims = self.settings.iter().map(|(name, _)| name.clone());
        read.iter().cloned().chain(of_claims).collect()
    }
}

/// The code of a table may read more than its policies do.
fn everything() -> Uses {
    Uses {
        claims: Claims::All,
        any_setting: true,
        ..Sources::default().uses([])
    }
}
