//! What a server tells all servers on its database. A message may be lost.

use serde::{Deserialize, Serialize};
use sync_core::policy::PrincipalMatch;

/// A message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerMessage {
    /// End the sessions of these principals.
    Disconnect(PrincipalMatch),
}
