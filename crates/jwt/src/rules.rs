//! What the configuration asks of a token.

use jsonwebtoken::Algorithm;

/// The largest leeway, in milliseconds.
pub const LEEWAY_MS_MAX: u64 = 60_000;

/// The role of a client without a token, where these are let in.
pub const ANON_ROLE: &str = "anon";

/// Roles that a token must not have unless the configuration names them: they are for programs that see
/// everything, or are PostgreSQL's own.
pub const PRIVILEGED_ROLES: [&str; 4] = ["service_role", "supabase_admin", "postgres", "none"];

/// What the configuration asks of a token.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// `iss` must be one of these; not checked when empty.
    pub issuers: Vec<String>,
    /// `aud` must name one of these; not checked when empty.
    pub audiences: Vec<String>,
    /// `role`, if there is one, must be one of these; when empty, any but [`PRIVILEGED_ROLES`].
    pub roles: Vec<String>,
    /// By how much clocks may differ, in milliseconds, at most [`LEEWAY_MS_MAX`].
    pub leeway_ms: u64,
}

impl Rules {
    pub(crate) fn accepts_role(&self, role: &str) -> bool {
        if self.roles.is_empty() {
            !PRIVILEGED_ROLES.contains(&role)
        } else {
            self.roles.iter().any(|accepted| accepted == role)
        }
    }

    pub(crate) fn leeway_ms(&self) -> u64 {
        self.leeway_ms.min(LEEWAY_MS_MAX)
    }
}
