//! What a principal may see and write of one entity.

use filter::{BoundPolicy, Filter, FilterError, Table};
use protocol::SelectionRequest;
use serde_json::Value;

/// What a principal may see of an entity.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum ReadScope {
    /// Every row and every column.
    #[default]
    Everything,
    /// The rows and columns of this selection. The key's columns are always among them.
    Restricted(SelectionRequest),
    /// The rows that policies allow, without some columns.
    Policies {
        /// The rows.
        rows: RowScope,
        /// The columns that do not exist for the principal. They must exist in the table.
        hidden: Vec<String>,
        /// Columns that the principal may read in some rows only. They must exist in the table.
        partial: Vec<(String, RowScope)>,
    },
    /// Nothing: the entity does not exist for the principal.
    Nothing,
}

impl ReadScope {
    /// Whether the principal may read this column in every row that it may read.
    pub fn reads_column(&self, column: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Restricted(request) => {
                let columns = request.columns.as_deref();
                columns.is_none_or(|columns| columns.iter().any(|name| name == column))
            }
            Self::Policies {
                hidden, partial, ..
            } => {
                let mut unread = hidden.iter().chain(partial.iter().map(|(name, _)| name));
                !unread.any(|name| name == column)
            }
            Self::Nothing => false,
        }
    }

    /// Whether it is known, without looking at the rows, that the principal may read each.
    pub fn reads_every_row(&self) -> bool {
        match self {
            Self::Everything => true,
            Self::Restricted(request) => request.filter.is_none(),
            Self::Policies { .. } | Self::Nothing => false,
        }
    }
}

/// Some rows of an entity.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RowScope {
    /// Those that match a filter with its parameters; its columns mean nothing.
    Request(SelectionRequest),
    /// Those that all of these policies allow.
    Policies(Vec<BoundPolicy>),
    /// Those of a filter that was made for the table of this fingerprint.
    Filter {
        /// The filter.
        filter: Filter,
        /// The table's.
        fingerprint: String,
    },
    /// None.
    Nothing,
}

impl From<SelectionRequest> for RowScope {
    fn from(request: SelectionRequest) -> Self {
        Self::Request(request)
    }
}

impl RowScope {
    /// The rows as a filter on their table.
    ///
    /// # Errors
    /// When the table has changed, so that the scope cannot be evaluated any more, or when it is too large.
    pub fn filter(&self, table: Table<'_>) -> Result<Filter, FilterError> {
        match self {
            Self::Request(request) => {
                let params = request.params.as_deref().unwrap_or_default();
                match &request.filter {
                    Some(text) => Filter::new(text, params, table),
                    None => Ok(Filter::everything()),
                }
            }
            Self::Policies(policies) => policies
                .iter()
                .try_fold(Filter::everything(), |all, policy| {
                    Ok(all.and(policy.filter(table)?))
                }),
            Self::Filter { filter, .. } => Ok(filter.clone()),
            Self::Nothing => Ok(Filter::nothing()),
        }
    }
}

/// Which rows of an entity a principal may write, in PostgreSQL's words for policies; none allows every row. And
/// which columns.
#[derive(Debug, Clone, Default)]
pub struct WriteScope {
    /// The rows that exist for the principal. A write to any other is answered as one to a row that does not exist. None
    /// for those that it may update or delete: then a row outside of `using` does not exist for it.
    pub visible: Option<RowScope>,
    /// What a row must match before it is updated or deleted.
    pub using: Option<RowScope>,
    /// What a row must match after it is created or updated.
    pub check: Option<RowScope>,
    /// The columns.
    pub columns: WriteColumns,
}

impl WriteScope {
    /// Allows every row, before and after.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Allows no row.
    pub fn nothing() -> Self {
        Self {
            visible: Some(RowScope::Nothing),
            using: Some(RowScope::Nothing),
            check: Some(RowScope::Nothing),
            columns: WriteColumns::default(),
        }
    }
}

/// What a principal may do with the columns of an entity when it writes.
#[derive(Debug, Clone, Default)]
pub struct WriteColumns {
    /// Those that the principal may read in no row: a reject does not name them.
    pub hidden: Vec<String>,
    /// Those that the principal may not write.
    pub unwritable: Vec<String>,
    /// Those that the server fills in when a row is created, with their values; any other value is rejected. None when
    /// there is no value for this principal, who can create no row then.
    pub defaults: Vec<(String, Option<Value>)>,
}

impl WriteColumns {
    /// Every column may be read and written.
    pub const ALL: &'static Self = &Self {
        hidden: Vec::new(),
        unwritable: Vec::new(),
        defaults: Vec::new(),
    };

    /// Whether a column does not exist for the principal.
    pub fn is_hidden(&self, column: &str) -> bool {
        self.hidden.iter().any(|hidden| hidden == column)
    }

    /// Whether the principal may write a column.
    pub fn is_writable(&self, column: &str) -> bool {
        !self.unwritable.iter().any(|other| other == column)
    }
}
