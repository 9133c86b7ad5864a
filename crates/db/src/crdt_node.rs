//! What the nodes of the family of CRDTs over SQL have. Their protocol acknowledges nothing and asks by clocks that say
//! nothing of this database, so it is remembered here.

/// How many nodes are remembered of each user, those that were seen last. Another one begins again from all rows.
pub const NODES_OF_USER_MAX: i64 = 1_000;

/// What a node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrdtNode {
    /// Up to where it has all changes, as a cursor's text; none where it is to get all rows.
    pub reached: Option<String>,
    /// The newest clock that it was sent up to there.
    pub sent: Option<String>,
    /// The clock up to which everything that it has written is taken.
    pub taken: Option<String>,
}

impl From<(Option<String>, Option<String>, Option<String>)> for CrdtNode {
    fn from((reached, sent, taken): (Option<String>, Option<String>, Option<String>)) -> Self {
        Self {
            reached,
            sent,
            taken,
        }
    }
}
