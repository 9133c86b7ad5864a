//! By whom limits count.

use std::net::IpAddr;
use std::sync::Arc;

use super::Identity;

/// By whom it is counted what a client does: its user, and without one its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Counted {
    User(Arc<str>),
    Address(IpAddr),
}

impl Identity {
    /// By whom the client is counted; none where neither is known.
    pub(crate) fn counted(&self) -> Option<Counted> {
        let user_id = self.principal.user_id.as_deref();
        let user = user_id.map(|user_id| Counted::User(user_id.into()));
        user.or_else(|| self.address.map(Counted::Address))
    }
}
