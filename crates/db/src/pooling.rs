//! Who has the database sessions behind the connections.

/// Who has the database sessions behind a pool's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// Each connection has a session of its own: there is no pooler, or one in session mode.
    Session,
    /// A pooler gives a session to each transaction.
    Transaction,
}

impl Pooling {
    /// Its name in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}
