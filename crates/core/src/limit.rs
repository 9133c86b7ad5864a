//! The limits at which a client is refused or made to wait, by their names in the configuration.

use protocol::ErrorCode;

/// A limit that a client can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The bytes of a frame, or of a body.
    FrameBytes,
    /// The subscriptions of a connection.
    Subscriptions,
    /// The distinct shapes of a user.
    ShapesOfUser,
    /// The writes of a mutation.
    Writes,
    /// What a connection's filters cost.
    FilterWork,
    /// What the filters on an entity cost that no index finds.
    EntityFilterWork,
    /// The memory of a connection's filters.
    FilterBytes,
    /// The memory of all filters.
    FilterBytesTotal,
    /// The connections of a user.
    ConnectionsOfUser,
    /// The connections of an address.
    ConnectionsOfAddress,
    /// The mutations of a user in a second.
    PushesOfUser,
    /// The writes of a user in a second.
    WritesOfUser,
    /// The reads of a user at once.
    ReadsOfUser,
    /// The invalid tokens of an address in a second.
    WrongTokens,
    /// The values of all sets that subqueries make.
    SetValuesTotal,
    /// The rows of a window.
    WindowRows,
    /// The time that the database takes to find out what a subquery selects.
    SubqueryTime,
    /// The rows of a first read.
    RowsOfRead,
    /// The reads that wait.
    ReadsWaiting,
    /// The requests that wait for changes.
    LongPolls,
}

impl Limit {
    /// Every one.
    pub const ALL: [Self; 20] = [
        Self::FrameBytes,
        Self::Subscriptions,
        Self::ShapesOfUser,
        Self::Writes,
        Self::FilterWork,
        Self::EntityFilterWork,
        Self::FilterBytes,
        Self::FilterBytesTotal,
        Self::SetValuesTotal,
        Self::ConnectionsOfUser,
        Self::ConnectionsOfAddress,
        Self::PushesOfUser,
        Self::WritesOfUser,
        Self::ReadsOfUser,
        Self::WrongTokens,
        Self::WindowRows,
        Self::SubqueryTime,
        Self::RowsOfRead,
        Self::ReadsWaiting,
        Self::LongPolls,
    ];

    /// The name in the configuration, with its section.
    pub fn name(self) -> &'static str {
        match self {
            Self::FrameBytes => "limits.frame_bytes_max",
            Self::Subscriptions => "limits.subscriptions_max",
            Self::ShapesOfUser => "limits.shapes_of_user_max",
            Self::Writes => "limits.writes_max",
            Self::FilterWork => "limits.filter_work_max",
            Self::EntityFilterWork => "limits.entity_filter_work_max",
            Self::FilterBytes => "limits.filter_bytes_max",
            Self::FilterBytesTotal => "limits.filter_bytes_total_max",
            Self::SetValuesTotal => "limits.set_values_total_max",
            Self::ConnectionsOfUser => "limits.connections_of_user_max",
            Self::ConnectionsOfAddress => "limits.connections_of_address_max",
            Self::PushesOfUser => "limits.pushes_per_second_of_user",
            Self::WritesOfUser => "limits.writes_per_second_of_user",
            Self::ReadsOfUser => "limits.reads_of_user_max",
            Self::WrongTokens => "limits.wrong_tokens_per_second",
            Self::WindowRows => "limits.window_rows_max",
            Self::SubqueryTime => "reads.subquery_timeout_ms",
            Self::RowsOfRead => "reads.rows_max",
            Self::ReadsWaiting => "reads.waiting_max",
            Self::LongPolls => "reads.long_polls_max",
        }
    }

    /// What a client is told that reaches it; none where it only waits. A mutation with too many writes is rejected with
    /// a code of the same name.
    pub fn code(self) -> Option<ErrorCode> {
        match self {
            Self::Subscriptions | Self::ShapesOfUser => Some(ErrorCode::TooManySubscriptions),
            Self::FrameBytes
            | Self::Writes
            | Self::FilterWork
            | Self::EntityFilterWork
            | Self::FilterBytes
            | Self::FilterBytesTotal
            | Self::SetValuesTotal
            | Self::WindowRows
            | Self::SubqueryTime
            | Self::RowsOfRead => Some(ErrorCode::TooLarge),
            Self::ConnectionsOfUser
            | Self::ConnectionsOfAddress
            | Self::PushesOfUser
            | Self::WritesOfUser
            | Self::WrongTokens
            | Self::ReadsWaiting
            | Self::LongPolls => Some(ErrorCode::RateLimited),
            Self::ReadsOfUser => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the document's table whose metric names the limit.
    #[test]
    fn the_document_has_each_limit_with_its_code() {
        let document = include_str!("../../../docs/limits.md");
        let counted = document
            .lines()
            .filter(|line| line.starts_with("| `") && line.contains("| limits reached |"));
        assert_eq!(counted.count(), Limit::ALL.len());
        for limit in Limit::ALL {
            let begin = format!("| `{}` |", limit.name());
            let row = document.lines().find(|line| line.starts_with(&begin));
            let row = row.unwrap_or_else(|| panic!("{begin} is missing"));
            let code = match limit.code() {
                Some(code) => serde_json::to_string(&code)
                    .expect("JSON")
                    .replace('"', "`"),
                None => "waits".to_owned(),
            };
            let cell = row.split('|').nth(4).expect("a cell");
            assert!(cell.contains(&code), "{row}: {code}");
        }
    }
}
