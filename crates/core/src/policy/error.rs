//! Why a policy cannot be used.

/// A policy that cannot be evaluated exactly, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entity {entity:?}, policy `{policy}`: {message}")]
pub struct PolicyError {
    /// The entity.
    pub entity: String,
    /// The policy, by its path in the configuration: `update.check`.
    pub policy: String,
    /// What is wrong, with the position in the policy's text.
    pub message: String,
}
