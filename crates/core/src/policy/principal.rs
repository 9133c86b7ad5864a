//! Who a session acts for.

use std::collections::BTreeMap;

/// Who a session acts for, as an authenticator established it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The user; none for an anonymous one.
    pub user_id: Option<String>,
    /// The role by which policies are chosen; none for the default.
    pub role: Option<String>,
    /// What else is known of the user, by name.
    pub claims: BTreeMap<String, serde_json::Value>,
    /// When this expires, in milliseconds since 1970-01-01 UTC; none for never.
    pub expires_at_ms: Option<u64>,
    /// The key that signed for it, as its authenticator names keys; none where no key did.
    pub key_id: Option<String>,
}

impl Principal {
    /// A principal without a user.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A user without a role and without claims.
    pub fn of_user(user_id: impl Into<String>) -> Self {
        Self {
            user_id: Some(user_id.into()),
            ..Self::default()
        }
    }

    /// Whether it has expired at this moment, in milliseconds since 1970-01-01 UTC.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|end| now_ms >= end)
    }

    /// Whether the two have the same rights: policies cannot tell them apart.
    pub fn has_rights_of(&self, other: &Self) -> bool {
        (&self.user_id, &self.role, &self.claims) == (&other.user_id, &other.role, &other.claims)
    }
}
