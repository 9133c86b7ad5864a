//! Sets of visible transactions: the result of `pg_current_snapshot()` as a value.
//!
//! A snapshot `xmin:xmax:xip` sees a transaction when it is below `xmax` and was not running
//! (`xip`). On one PostgreSQL primary, snapshots grow: of any two, one sees everything that the
//! other sees (transactions leave the list of running ones one after another, under a lock).
//! PostgreSQL documentation, section 9.28.5 "Transaction ID and Snapshot Information Functions".

use std::fmt;
use std::str::FromStr;

/// A PostgreSQL `xid8`: a transaction's number with its epoch, never reused.
pub type Xid = u64;

/// A set of committed transactions, as PostgreSQL's `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Snapshot {
    xmin: Xid,
    xmax: Xid,
    /// Running transactions in `xmin..xmax`, ascending, each once.
    running: Vec<Xid>,
}

/// The text is not a `pg_snapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot: expected `xmin:xmax:xip,xip,…` with xmin ≤ xip < xmax, ascending")]
pub struct SnapshotError;

impl Snapshot {
    /// Makes the snapshot that sees every transaction below `xmax` that is not in `running`.
    ///
    /// # Errors
    /// When `running` is not ascending or leaves `xmin..xmax`, or a number is zero.
    pub fn new(xmin: Xid, xmax: Xid, running: Vec<Xid>) -> Result<Self, SnapshotError> {
        let ascending = running.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = running.iter().all(|xid| (xmin..xmax).contains(xid));
        if xmin == 0 || xmax < xmin || !ascending || !inside {
            return Err(SnapshotError);
        }
        Ok(Self {
            xmin,
            xmax,
            running,
        })
    }

    /// The first transaction that had not begun.
    pub fn xmax(&self) -> Xid {
        self.xmax
    }

    /// The transactions below `xmax` that were still running.
    pub fn running(&self) -> &[Xid] {
        &self.running
    }

    /// Whether the snapshot sees transaction `xid` (provided that it committed).
    pub fn contains(&self, xid: Xid) -> bool {
        xid < self.xmax && self.running.binary_search(&xid).is_err()
    }

    /// Whether this snapshot sees everything that `other` sees.
    pub fn covers(&self, other: &Snapshot) -> bool {
        // Invisible here are `running` and everything from `xmax` on; `other` must not see those.
        if other.xmax > self.xmax && other.sees_any_in(self.xmax, other.xmax) {
            return false;
        }
        self.running.iter().all(|&xid| !other.contains(xid))
    }

    /// Whether the snapshot sees some transaction in `from..to`.
    fn sees_any_in(&self, from: Xid, to: Xid) -> bool {
        let first = self.running.partition_point(|&xid| xid < from);
        let running_in_range = self.running[first..]
            .iter()
            .take_while(|&&xid| xid < to)
            .count();
        running_in_range as u64 != to - from
    }
}

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(running), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SnapshotError);
        };
        let running = if running.is_empty() {
            Vec::new()
        } else {
            running.split(',').map(xid).collect::<Result<_, _>>()?
        };
        Self::new(xid(xmin)?, xid(xmax)?, running)
    }
}

/// Reads one transaction number, in digits without leading zeros, so that every snapshot has one text.
fn xid(text: &str) -> Result<Xid, SnapshotError> {
    let canonical = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if !canonical {
        return Err(SnapshotError);
    }
    text.parse().map_err(|_| SnapshotError)
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.running.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{xid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().expect("a snapshot")
    }

    #[test]
    fn a_snapshot_sees_what_had_committed() {
        let seen = snapshot("10:15:10,12");
        let visible: Vec<Xid> = (8..18).filter(|&xid| seen.contains(xid)).collect();
        assert_eq!(visible, [8, 9, 11, 13, 14]);
    }

    #[test]
    fn a_snapshot_covers_those_that_see_no_more() {
        assert!(snapshot("10:15:").covers(&snapshot("10:15:10,12")));
        assert!(!snapshot("10:15:10,12").covers(&snapshot("10:15:12")));
        assert!(snapshot("12:20:12").covers(&snapshot("10:15:10,12")));
        // Transactions 15 to 19 are running in the other, so it sees nothing more.
        assert!(snapshot("15:15:").covers(&snapshot("15:20:15,16,17,18,19")));
        assert!(!snapshot("15:15:").covers(&snapshot("15:20:15,16,17,19")));
    }

    #[test]
    fn a_text_that_postgresql_would_not_write_is_an_error() {
        for text in [
            "", "1:2", "1:2:3:4", "5:4:", "1:9:3,2", "1:9:9", "1:9:2,2", "a:b:", "1:9:,", "01:2:",
            "+1:2:", "0:1:",
        ] {
            assert_eq!(text.parse::<Snapshot>(), Err(SnapshotError), "{text}");
        }
    }
}
