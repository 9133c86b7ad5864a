//! Which principals are meant, as a value that can be sent to other servers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Principal;

/// Principals by what is known of them: all that is given must be equal. Without anything it matches everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalMatch {
    /// Of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// With this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// With these claims, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, serde_json::Value>,
}

impl PrincipalMatch {
    /// The principals of a user.
    pub fn user(user_id: impl Into<String>) -> Self {
        Self {
            user_id: Some(user_id.into()),
            ..Self::default()
        }
    }

    /// Whether a principal is meant.
    pub fn matches(&self, principal: &Principal) -> bool {
        let equal =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let has = |(name, value): (&String, &serde_json::Value)| {
            principal.claims.get(name) == Some(value)
        };
        equal(&self.user_id, &principal.user_id)
            && equal(&self.role, &principal.role)
            && self.claims.iter().all(has)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_is_given_must_be_equal() {
        let mut ann = Principal::of_user("ann");
        ann.role = Some("editor".to_owned());
        ann.claims.insert("team".to_owned(), json!("red"));
        let read = |value: serde_json::Value| serde_json::from_value::<PrincipalMatch>(value);
        for (wanted, expected) in [
            (json!({}), true),
            (json!({ "user_id": "ann" }), true),
            (json!({ "user_id": "ben" }), false),
            (json!({ "user_id": "ann", "role": "admin" }), false),
            (
                json!({ "role": "editor", "claims": { "team": "red" } }),
                true,
            ),
            (json!({ "claims": { "team": "blue" } }), false),
            (json!({ "claims": { "tenant": null } }), false),
        ] {
            let wanted = read(wanted).expect("a match");
            assert_eq!(wanted.matches(&ann), expected, "{wanted:?}");
            let text = serde_json::to_string(&wanted).expect("JSON");
            assert_eq!(
                serde_json::from_str::<PrincipalMatch>(&text).ok(),
                Some(wanted)
            );
        }
        // What a later version adds must not be taken for less than it says.
        assert!(read(json!({ "user": "ann" })).is_err());
        assert!(!PrincipalMatch::user("ann").matches(&Principal::anonymous()));
    }
}
