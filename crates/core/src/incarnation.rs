//! Whose numbers the engine's tables hold: whether a database goes on in its epoch, or must begin another.
//!
//! Positions, the log and the clients' marks are transaction numbers, which mean something in one epoch of
//! one database alone. A restored dump brings them into another one. A crash of PostgreSQL gives numbers out
//! again that nothing durable had used. A promoted standby goes on from a point that its former primary may
//! have passed. In each of these cases a new epoch begins, with a floor at the present.
//!
//! # What tells
//!
//! - **The identity**: cluster, database and timeline. A standby that is promoted gets another timeline.
//! - **The marker**, a row of an unlogged table. On PostgreSQL a crash, a restore from a base backup and a
//!   promotion empty such a table, and an orderly restart does not. Not all [products](Product) do so.
//! - **Who wrote the marker**: the row names the transaction that wrote it, and so does PostgreSQL itself
//!   (`xmin`). A dump copies the first, and its restore makes the second; so a restored dump is noticed even
//!   in the database that it was taken from.
//!
//! # Invariants
//!
//! 1. A database whose numbers may have been given out twice, or elsewhere, begins a new epoch before
//!    anything is read by them.
//! 2. An orderly restart of PostgreSQL itself begins none.
//! 3. A database that was prepared by an engine that recorded none of this goes on, unless its numbers are
//!    from the future.

use std::fmt;

use serde::Deserialize;

/// A database product, as far as the engine must tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// PostgreSQL itself, and services that run it as it is.
    PostgreSql,
    /// Supabase, which runs PostgreSQL as it is.
    Supabase,
    /// PostgreSQL with Citus, which distributes tables over several servers.
    Citus,
    /// Neon: every restart of a compute empties unlogged tables.
    Neon,
    /// Amazon Aurora: unlogged tables survive a crash and a failover.
    Aurora,
    /// Google AlloyDB. What a crash does to unlogged tables is not documented, so they are not trusted.
    AlloyDb,
    /// CockroachDB, whose transactions have no such numbers.
    CockroachDb,
    /// YugabyteDB, whose transaction numbers do not say what is visible.
    YugabyteDb,
}

/// What a database says about itself.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ProductFacts {
    /// `version()`.
    pub version: String,
    /// Whether PostgreSQL's own schema has a function `aurora_version`.
    pub has_aurora_version: bool,
    /// Whether there is a setting `neon.timeline_id`.
    pub has_neon_timeline: bool,
    /// Whether there are settings whose names begin with `alloydb.`.
    pub has_alloydb_settings: bool,
    /// Whether there is a role `supabase_admin`.
    pub has_supabase_admin: bool,
    /// Whether the extension `citus` is installed.
    pub has_citus: bool,
}

/// By what a crash shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashEvidence {
    /// The marker is gone.
    Marker,
    /// The server has started since the marker was written: each restart counts as a crash.
    StartTime,
}

impl Product {
    /// Recognises the product.
    pub fn recognise(facts: &ProductFacts) -> Self {
        if facts.version.starts_with("CockroachDB") {
            Self::CockroachDb
        } else if facts.version.contains("-YB-") {
            Self::YugabyteDb
        } else if facts.has_aurora_version {
            Self::Aurora
        } else if facts.has_neon_timeline {
            Self::Neon
        } else if facts.has_alloydb_settings {
            Self::AlloyDb
        } else if facts.has_citus {
            Self::Citus
        } else if facts.has_supabase_admin {
            Self::Supabase
        } else {
            Self::PostgreSql
        }
    }

    /// By what a crash of this product shows; `None` when its numbers do not say what is visible, so that
    /// the engine cannot work with it.
    pub fn crash_evidence(self) -> Option<CrashEvidence> {
        match self {
            Self::PostgreSql | Self::Supabase | Self::Citus | Self::Neon => {
                Some(CrashEvidence::Marker)
            }
            Self::Aurora | Self::AlloyDb => Some(CrashEvidence::StartTime),
            Self::CockroachDb | Self::YugabyteDb => None,
        }
    }

    /// What is less there than with PostgreSQL itself.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Self::PostgreSql | Self::Supabase => None,
            Self::Citus => {
                Some("only tables that are not distributed can be captured, on the coordinator")
            }
            Self::Neon => Some(
                "each restart of the compute begins a new epoch, and all clients refetch; keep it from scaling to zero",
            ),
            Self::Aurora | Self::AlloyDb => {
                Some("each restart and failover begins a new epoch, and all clients refetch")
            }
            Self::CockroachDb | Self::YugabyteDb => {
                Some("its transaction numbers do not say what is visible")
            }
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PostgreSql => "PostgreSQL",
            Self::Supabase => "Supabase",
            Self::Citus => "PostgreSQL with Citus",
            Self::Neon => "Neon",
            Self::Aurora => "Amazon Aurora",
            Self::AlloyDb => "Google AlloyDB",
            Self::CockroachDb => "CockroachDB",
            Self::YugabyteDb => "YugabyteDB",
        })
    }
}

/// The marker row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Whether the transaction that it names is the one that wrote it; `None` when it names none.
    pub written_here: Option<bool>,
    /// When the server had started that wrote it; `None` when it does not say.
    pub started_at: Option<String>,
}

/// What the engine's tables say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The identity to which the numbers belong; `None` when no engine has noted it.
    pub identity: Option<String>,
    /// The marker; `None` when it is gone.
    pub marker: Option<Marker>,
    /// Whether the log or its floor holds numbers that the database has yet to give out.
    pub is_from_the_future: bool,
}

/// What the database is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Its cluster, database and timeline.
    pub identity: String,
    /// By what a crash shows.
    pub crash_evidence: CrashEvidence,
    /// When the server started.
    pub started_at: String,
    /// Whether this engine has read further in this epoch than the database has come.
    pub is_behind_reader: bool,
}

/// Whether the epoch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// It goes on.
    Continues,
    /// It goes on, and its identity is to be noted, for the first time.
    Adopted,
    /// A new one begins.
    Ended(Reason),
}

/// Why a new epoch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The database has crashed, or a base backup was started.
    Crashed,
    /// The server has started again, and the product does not tell whether it had crashed.
    Restarted,
    /// The tables were copied here: a dump was restored.
    Restored,
    /// The cluster, the database or the timeline is another one.
    Moved,
    /// The database has gone back to an earlier state.
    WentBack,
    /// Somebody has emptied the engine's tables.
    Emptied,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crashed => "the database has recovered from a crash or a backup",
            Self::Restarted => "the database has started again",
            Self::Restored => "the engine's tables were restored from a dump",
            Self::Moved => "this is another cluster, database or timeline",
            Self::WentBack => "the database has gone back to an earlier state",
            Self::Emptied => "the engine's tables were emptied",
        })
    }
}

/// Decides whether the epoch goes on.
pub fn decide(kept: &Kept, present: &Present) -> Continuity {
    let Some(marker) = &kept.marker else {
        return Continuity::Ended(Reason::Crashed);
    };
    if marker.written_here == Some(false) {
        return Continuity::Ended(Reason::Restored);
    }
    if present.crash_evidence == CrashEvidence::StartTime
        && marker.started_at.as_ref() != Some(&present.started_at)
    {
        return Continuity::Ended(Reason::Restarted);
    }
    if kept.is_from_the_future || present.is_behind_reader {
        return Continuity::Ended(Reason::WentBack);
    }
    match &kept.identity {
        Some(identity) if *identity != present.identity => Continuity::Ended(Reason::Moved),
        Some(_) if marker.written_here.is_some() => Continuity::Continues,
        _ => Continuity::Adopted,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept() -> Kept {
        Kept {
            identity: Some("c-5-1".to_owned()),
            marker: Some(Marker {
                written_here: Some(true),
                started_at: None,
            }),
            is_from_the_future: false,
        }
    }

    fn present(crash_evidence: CrashEvidence) -> Present {
        Present {
            identity: "c-5-1".to_owned(),
            crash_evidence,
            started_at: "monday".to_owned(),
            is_behind_reader: false,
        }
    }

    fn decided(change: impl FnOnce(&mut Kept, &mut Present)) -> Continuity {
        let (mut kept, mut present) = (kept(), present(CrashEvidence::Marker));
        change(&mut kept, &mut present);
        decide(&kept, &present)
    }

    #[test]
    fn an_orderly_restart_continues_the_epoch() {
        assert_eq!(decided(|_, _| ()), Continuity::Continues);
        assert_eq!(
            decided(|_, present| present.started_at = "tuesday".to_owned()),
            Continuity::Continues
        );
    }

    #[test]
    fn each_evidence_begins_a_new_epoch() {
        type Change = fn(&mut Kept, &mut Present);
        let cases: [(Change, Reason); 5] = [
            (|kept, _| kept.marker = None, Reason::Crashed),
            (
                |kept, _| {
                    kept.marker = Some(Marker {
                        written_here: Some(false),
                        started_at: None,
                    });
                },
                Reason::Restored,
            ),
            (
                |_, present| present.identity = "c-5-2".to_owned(),
                Reason::Moved,
            ),
            (|kept, _| kept.is_from_the_future = true, Reason::WentBack),
            (
                |_, present| present.is_behind_reader = true,
                Reason::WentBack,
            ),
        ];
        for (change, reason) in cases {
            assert_eq!(decided(change), Continuity::Ended(reason));
        }
    }

    #[test]
    fn what_an_earlier_engine_left_is_adopted() {
        let unmarked = |kept: &mut Kept, _: &mut Present| {
            kept.identity = None;
            kept.marker = Some(Marker {
                written_here: None,
                started_at: None,
            });
        };
        assert_eq!(decided(unmarked), Continuity::Adopted);
        let restored = |kept: &mut Kept, present: &mut Present| {
            unmarked(kept, present);
            kept.is_from_the_future = true;
        };
        assert_eq!(decided(restored), Continuity::Ended(Reason::WentBack));
    }

    #[test]
    fn where_unlogged_tables_survive_a_crash_a_restart_counts_as_one() {
        let mut present = present(CrashEvidence::StartTime);
        let mut kept = kept();
        assert_eq!(
            decide(&kept, &present),
            Continuity::Ended(Reason::Restarted)
        );
        kept.marker = Some(Marker {
            written_here: Some(true),
            started_at: Some("monday".to_owned()),
        });
        assert_eq!(decide(&kept, &present), Continuity::Continues);
        present.started_at = "tuesday".to_owned();
        assert_eq!(
            decide(&kept, &present),
            Continuity::Ended(Reason::Restarted)
        );
    }

    #[test]
    fn products_are_recognised() {
        let plain = ProductFacts {
            version: "PostgreSQL 16.2 on x86_64-pc-linux-gnu".to_owned(),
            ..ProductFacts::default()
        };
        let versioned = |version: &str| ProductFacts {
            version: version.to_owned(),
            ..ProductFacts::default()
        };
        let cases = [
            (
                plain.clone(),
                Product::PostgreSql,
                Some(CrashEvidence::Marker),
            ),
            (
                ProductFacts {
                    has_neon_timeline: true,
                    ..plain.clone()
                },
                Product::Neon,
                Some(CrashEvidence::Marker),
            ),
            (
                ProductFacts {
                    has_aurora_version: true,
                    ..plain.clone()
                },
                Product::Aurora,
                Some(CrashEvidence::StartTime),
            ),
            (
                ProductFacts {
                    has_alloydb_settings: true,
                    ..plain.clone()
                },
                Product::AlloyDb,
                Some(CrashEvidence::StartTime),
            ),
            (
                ProductFacts {
                    has_citus: true,
                    ..plain.clone()
                },
                Product::Citus,
                Some(CrashEvidence::Marker),
            ),
            (
                ProductFacts {
                    has_supabase_admin: true,
                    ..plain
                },
                Product::Supabase,
                Some(CrashEvidence::Marker),
            ),
            (
                versioned("PostgreSQL 15.2-YB-2025.1.0.0-b0 on x86_64"),
                Product::YugabyteDb,
                None,
            ),
            (
                versioned("CockroachDB CCL v24.1.0"),
                Product::CockroachDb,
                None,
            ),
        ];
        for (facts, product, evidence) in cases {
            assert_eq!(Product::recognise(&facts), product);
            assert_eq!(product.crash_evidence(), evidence);
        }
    }

    proptest! {
        /// Whatever else is the case: only what was written here, at this identity, goes on.
        #[test]
        fn an_epoch_that_goes_on_is_this_database_s_own(
            identity in proptest::option::of("[ab]"),
            now in "[ab]",
            written_here in proptest::option::of(any::<bool>()),
            marked in any::<bool>(),
            started in proptest::option::of("[ab]"),
            started_at in "[ab]",
            is_from_the_future in any::<bool>(),
            is_behind_reader in any::<bool>(),
            by_start in any::<bool>(),
        ) {
            let crash_evidence = if by_start { CrashEvidence::StartTime } else { CrashEvidence::Marker };
            let kept = Kept {
                identity: identity.clone(),
                marker: marked.then(|| Marker { written_here, started_at: started.clone() }),
                is_from_the_future,
            };
            let present = Present { identity: now.clone(), crash_evidence, started_at: started_at.clone(), is_behind_reader };
            match decide(&kept, &present) {
                Continuity::Ended(_) => {}
                continuity => {
                    prop_assert!(marked && written_here != Some(false));
                    prop_assert!(!is_from_the_future && !is_behind_reader);
                    prop_assert!(identity.is_none() || identity == Some(now));
                    prop_assert!(!by_start || started == Some(started_at));
                    prop_assert_eq!(continuity == Continuity::Continues, identity.is_some() && written_here.is_some());
                }
            }
        }
    }
}
