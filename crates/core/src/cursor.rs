//! What a reader has seen of a database, and the opaque text in which clients keep it.
//!
//! A [`Position`] is a set of visible changes: on PostgreSQL a snapshot, on SQLite (one writer, so
//! ids are in commit order) the newest entry of the log. A [`Cursor`] is a position with the epoch of
//! the database that it belongs to; its text is base64url, so that clients do not calculate with it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::RefetchReason;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::snapshot::{Snapshot, Xid};

/// The longest cursor text that is read, in bytes; no real snapshot is longer.
pub const CURSOR_BYTES_MAX: usize = 64 * 1024;

/// Names one incarnation of a database. It changes when a dump is restored, a standby promoted or a
/// crash recovered from, so that a cursor of another incarnation is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(String);

impl Epoch {
    /// Makes an epoch of letters, digits and hyphens; other characters are dropped.
    pub fn new(text: &str) -> Self {
        Self(
            text.chars()
                .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect(),
        )
    }

    /// The epoch's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of committed changes: everything up to some point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Position {
    /// The transactions that a PostgreSQL snapshot sees.
    Snapshot(Snapshot),
    /// Entries of a SQLite log up to and including one.
    Log(LogPosition),
}

/// An entry of a SQLite log, with everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// The entry's id.
    pub id: i64,
    /// The entry's hash, which tells it from another one that had the same id before a backup was restored;
    /// `None` where it is not known, and then the position cannot be resumed from.
    pub entry: Option<u64>,
}

/// What a position must contain to have seen an entry of the log: its transaction or its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitId {
    /// A PostgreSQL transaction.
    Xid(Xid),
    /// A SQLite log id.
    LogId(i64),
}

impl CommitId {
    /// Of something that no position of this database contains yet.
    pub fn after(position: &Position) -> Self {
        match position {
            Position::Snapshot(_) => Self::Xid(Xid::MAX),
            Position::Log(_) => Self::LogId(i64::MAX),
        }
    }
}

impl Position {
    /// The position at an entry of a SQLite log whose hash is not known.
    pub fn log_id(id: i64) -> Self {
        Self::Log(LogPosition { id, entry: None })
    }

    /// Whether the change with this commit id is part of this position.
    pub fn contains(&self, commit_id: CommitId) -> bool {
        match (self, commit_id) {
            (Self::Snapshot(snapshot), CommitId::Xid(xid)) => snapshot.contains(xid),
            (Self::Log(newest), CommitId::LogId(id)) => id <= newest.id,
            _ => false,
        }
    }

    /// Whether everything in `other` is part of this position.
    pub fn covers(&self, other: &Position) -> bool {
        match (self, other) {
            (Self::Snapshot(ours), Self::Snapshot(theirs)) => ours.covers(theirs),
            (Self::Log(ours), Self::Log(theirs)) => ours.id >= theirs.id,
            _ => false,
        }
    }

    /// The later of two positions of one epoch (of two incomparable ones, `self`).
    pub fn max(self, other: Position) -> Position {
        if other.covers(&self) { other } else { self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(snapshot) => write!(f, "p{snapshot}"),
            Self::Log(LogPosition { id, entry: None }) => write!(f, "s{id}"),
            Self::Log(LogPosition {
                id,
                entry: Some(entry),
            }) => write!(f, "s{id}.{entry:016x}"),
        }
    }
}

/// Returns why `from` cannot be resumed from in a database that is at `position` and may have pruned what
/// `floor` contains.
pub fn refuse(from: &Position, position: &Position, floor: &Position) -> Option<RefetchReason> {
    if !position.covers(from) {
        // `from` is in the future of this database, so the database was restored to an earlier state.
        return Some(RefetchReason::Epoch);
    }
    (!from.covers(floor)).then_some(RefetchReason::Expired)
}

/// The text is not a cursor of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor that this server has given out")]
pub struct CursorError;

impl FromStr for Position {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if let Some(snapshot) = text.strip_prefix('p') {
            return snapshot
                .parse()
                .map(Self::Snapshot)
                .map_err(|_| CursorError);
        }
        let plain = text.strip_prefix('s').ok_or(CursorError)?;
        let (id, entry) = match plain.split_once('.') {
            Some((id, entry)) => (id, Some(entry)),
            None => (plain, None),
        };
        let id: i64 = id.parse().map_err(|_| CursorError)?;
        let entry = entry
            .map(|entry| u64::from_str_radix(entry, 16).map_err(|_| CursorError))
            .transpose()?;
        let position = Self::Log(LogPosition { id, entry });
        // Each position has one spelling.
        if id < 0 || position.to_string() != text {
            return Err(CursorError);
        }
        Ok(position)
    }
}

/// A resume point: a position in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The epoch that the position belongs to.
    pub epoch: Epoch,
    /// What has been seen.
    pub position: Position,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{}/{}", self.epoch, self.position)))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(CursorError);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let plain = std::str::from_utf8(&bytes).map_err(|_| CursorError)?;
        let (epoch_text, position) = plain.split_once('/').ok_or(CursorError)?;
        let epoch = Epoch::new(epoch_text);
        if epoch.as_str() != epoch_text {
            return Err(CursorError);
        }
        Ok(Self {
            epoch,
            position: position.parse()?,
        })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        for position in ["p7:9:7,8", "p7:7:", "s0", "s42", "s42.00000000000000ff"] {
            let cursor = Cursor {
                epoch: Epoch::new("0f-1"),
                position: position.parse().expect("a position"),
            };
            assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }
    }

    #[test]
    fn other_texts_are_errors() {
        for text in ["", "x", "cDc6OTo", "p7:9:", "MC9zLTE", "!!!"] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text}");
        }
        for text in [
            "s-1",
            "s01",
            "s+1",
            "s",
            "s1.",
            "s1.ff",
            "s1.00000000000000FF",
            "q1",
            "p9:7:",
        ] {
            assert_eq!(text.parse::<Position>(), Err(CursorError), "{text}");
        }
    }

    #[test]
    fn of_two_positions_the_newer_covers_the_older() {
        let older: Position = "p7:9:7".parse().expect("a position");
        let newer: Position = "p9:9:".parse().expect("a position");
        assert!(newer.covers(&older) && !older.covers(&newer));
        assert_eq!(older.clone().max(newer.clone()), newer);
        assert!(newer.contains(CommitId::Xid(7)) && !older.contains(CommitId::Xid(7)));
        assert!(!newer.contains(CommitId::LogId(1)));
    }
}
