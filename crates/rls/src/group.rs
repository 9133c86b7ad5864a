//! The sessions that PostgreSQL answers alike, and the settings under which it is asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::uses::{Claims, Uses};

/// The settings that are made for every group, beside those that policies read: as PostgREST and Supabase make them.
pub const KNOWN_SETTINGS: [&str; 4] = [
    CLAIMS,
    "request.jwt.claim.sub",
    "request.jwt.claim.role",
    "request.jwt.claim.email",
];

const CLAIMS: &str = "request.jwt.claims";
const CLAIM: &str = "request.jwt.claim.";

/// Sessions with the same role and the same claims, as far as policies read them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The role.
    pub role: String,
    /// The claims, as a JSON object; none for a session without a token.
    pub claims: Option<String>,
    /// Other settings, by name.
    pub settings: BTreeMap<String, String>,
    /// Whether it must be asked apart from other groups ([`Uses::apart`]).
    pub apart: bool,
}

impl Group {
    /// The group of a session, by what policies read of its claims and settings.
    pub fn new(
        role: &str,
        claims: Option<&Map<String, Value>>,
        settings: &BTreeMap<String, String>,
        uses: &Uses,
    ) -> Self {
        let projected = |claims: &Map<String, Value>| {
            // A map keeps its members in the order of their names, so equal claims are equal texts.
            let kept = claims.iter().filter(|(name, _)| uses.claims.read(name));
            let kept: BTreeMap<&String, &Value> = kept.collect();
            serde_json::to_string(&kept).expect("claims are JSON")
        };
        let settings = settings.iter().filter(|(name, _)| uses.reads_setting(name));
        Self {
            role: role.to_owned(),
            claims: claims.map(projected),
            settings: settings
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            apart: uses.apart.is_some(),
        }
    }

    /// Every setting that is known, with its value for this group: the empty text for one that it does not have. A custom
    /// setting that a transaction has made is empty afterwards, not null, for as long as the connection lives; so null
    /// could not be had on a connection that has been used, and the same session would be answered differently by chance.
    pub fn values(&self, known: &BTreeSet<String>) -> Vec<(String, String)> {
        let claims: Map<String, Value> = self
            .claims
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let names = KNOWN_SETTINGS.iter().map(|name| (*name).to_owned());
        let names: BTreeSet<String> = names
            .chain(known.iter().cloned())
            .chain(self.settings.keys().cloned())
            .collect();
        let value = |name: String| {
            let value = match (self.settings.get(&name), name.strip_prefix(CLAIM)) {
                (Some(value), _) => value.clone(),
                (None, _) if name == CLAIMS => self.claims.clone().unwrap_or_default(),
                (None, Some(claim)) => match claims.get(claim) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                },
                (None, None) => String::new(),
            };
            (name, value)
        };
        names
            .into_iter()
            .filter(|name| is_custom_setting(name))
            .map(value)
            .collect()
    }
}

/// Whether a setting is an application's own, which any role may make: one with a dot in its name, as PostgreSQL spells them.
pub fn is_custom_setting(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.starts_with(|first: char| first.is_ascii_digit() || first == '$')
            && !part.is_empty()
            && part
                .chars()
                .all(|one| one.is_ascii_alphanumeric() || "_$".contains(one))
    };
    name.contains('.') && name.split('.').all(is_part)
}

impl Claims {
    /// Whether policies may read the claim of this name.
    pub fn read(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            // They differ in every token, and say nothing of the user.
            Self::All => !matches!(name, "exp" | "iat" | "nbf"),
        }
    }
}
