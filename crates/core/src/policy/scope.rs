//! What a principal may see and write of one entity.

use protocol::SelectionRequest;

/// What a principal may see of an entity.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum ReadScope {
    /// Every row and every column.
    #[default]
    Everything,
    /// The rows and columns of this selection. The key's columns are always among them.
    Restricted(SelectionRequest),
}

/// Which rows of an entity a principal may write, in PostgreSQL's words for policies. Each field is a filter
/// with its parameters; none allows every row. Neither selects columns.
#[derive(Debug, Clone, Default)]
pub struct WriteScope {
    /// What a row must match before it is updated or deleted. Any other row does not exist for the
    /// principal.
    pub using: Option<SelectionRequest>,
    /// What a row must match after it is created or updated. A create that leaves its key to the database
    /// cannot be found again to be checked, so it is forbidden.
    pub check: Option<SelectionRequest>,
}

impl WriteScope {
    /// Allows every row, before and after.
    pub fn everything() -> Self {
        Self::default()
    }
}
