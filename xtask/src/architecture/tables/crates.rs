//! Which crates a crate may use, and which packages of others stay behind a wall.

/// A crate of ours.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Crate {
    /// Its directory, relative to the repository.
    pub(in super::super) directory: &'static str,
    /// The directories of the crates that its `[dependencies]` may name.
    pub(in super::super) may_use: &'static [&'static str],
}

/// Packages that only some crates may depend on.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Wall {
    pub(in super::super) packages: &'static [&'static str],
    pub(in super::super) side: Side,
    /// Goes after "but": what the wall is for.
    pub(in super::super) reason: &'static str,
}

/// The crates on the one side of a wall, by their directories.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Side {
    /// These may depend on the packages, no others.
    OnlyIn(&'static [&'static str]),
    /// These must not, all others may.
    NeverIn(&'static [&'static str]),
}

impl Wall {
    /// Whether a crate may depend on the packages.
    pub(in super::super) fn allows(&self, directory: &str) -> bool {
        match self.side {
            Side::OnlyIn(crates) => crates.contains(&directory),
            Side::NeverIn(crates) => !crates.contains(&directory),
        }
    }
}

/// Lowest first. Each crate of the repository has one line.
pub(in super::super) const CRATES: &[Crate] = &[
    Crate {
        directory: "crates/value",
        may_use: &[],
    },
    Crate {
        directory: "crates/filter",
        may_use: &["crates/value"],
    },
    // Clients use it too, so it knows neither tables nor frames.
    Crate {
        directory: "crates/merge",
        may_use: &["crates/value"],
    },
    Crate {
        directory: "crates/documents",
        may_use: &[],
    },
    Crate {
        directory: "crates/protocol",
        may_use: &[],
    },
    Crate {
        directory: "crates/jwt",
        may_use: &[],
    },
    Crate {
        directory: "crates/rls",
        may_use: &["crates/value", "crates/filter"],
    },
    Crate {
        directory: "crates/core",
        may_use: &[
            "crates/value",
            "crates/filter",
            "crates/merge",
            "crates/protocol",
            "crates/rls",
        ],
    },
    Crate {
        directory: "crates/db",
        may_use: &[
            "crates/value",
            "crates/filter",
            "crates/merge",
            "crates/protocol",
            "crates/rls",
            "crates/core",
        ],
    },
    Crate {
        directory: "crates/engine",
        may_use: &[
            "crates/value",
            "crates/filter",
            "crates/merge",
            "crates/protocol",
            "crates/jwt",
            "crates/rls",
            "crates/core",
            "crates/db",
        ],
    },
    Crate {
        directory: "crates/server",
        may_use: &["crates/engine"],
    },
    // It must be able to contradict the server, so it spells the protocol by itself.
    Crate {
        directory: "crates/testkit",
        may_use: &[],
    },
    Crate {
        directory: "crates/test-postgres",
        may_use: &[],
    },
    Crate {
        directory: "crates/bench",
        // Its clients stamp what they write.
        may_use: &["crates/merge", "crates/testkit", "crates/test-postgres"],
    },
    Crate {
        directory: "tests",
        may_use: &[
            "crates/value",
            "crates/filter",
            "crates/merge",
            "crates/protocol",
            "crates/rls",
            "crates/core",
            "crates/db",
            "crates/engine",
            "crates/testkit",
            "crates/test-postgres",
        ],
    },
    Crate {
        directory: "fuzz",
        may_use: &[
            "crates/value",
            "crates/filter",
            "crates/protocol",
            "crates/jwt",
            "crates/core",
        ],
    },
    Crate {
        directory: "examples/axum_app",
        may_use: &["crates/engine"],
    },
    Crate {
        directory: "examples/field_sync",
        // Its terminal is a client, which merges as the server does.
        may_use: &["crates/engine", "crates/merge"],
    },
    Crate {
        directory: "examples/list_per_user",
        may_use: &["crates/engine"],
    },
    Crate {
        directory: "examples/multi_user",
        may_use: &["crates/engine"],
    },
    Crate {
        directory: "examples/postgres_sync",
        may_use: &["crates/engine"],
    },
    Crate {
        directory: "examples/teams",
        may_use: &["crates/engine"],
    },
    Crate {
        directory: "xtask",
        may_use: &["crates/test-postgres"],
    },
];

/// The packages behind walls.
pub(in super::super) const WALLS: &[Wall] = &[
    Wall {
        packages: &["bb8", "diesel_migrations", "tokio-postgres-rustls"],
        side: Side::OnlyIn(&["crates/db"]),
        reason: "only crates/db opens the database that is synced",
    },
    // An application runs queries of its own on the pool that it gives to the engine.
    Wall {
        packages: &["diesel-async"],
        side: Side::OnlyIn(&[
            "crates/db",
            "tests",
            "examples/axum_app",
            "examples/field_sync",
            "examples/list_per_user",
            "examples/multi_user",
            "examples/teams",
        ]),
        reason: "only crates/db and applications with queries of their own know Diesel",
    },
    // The test kit and its users look at the database from outside, as another program would.
    Wall {
        packages: &["diesel", "libsqlite3-sys", "tokio-postgres"],
        side: Side::OnlyIn(&[
            "crates/db",
            "crates/testkit",
            "crates/bench",
            "tests",
            "examples/axum_app",
            "examples/multi_user",
            "examples/teams",
        ]),
        reason: "only crates/db knows SQL, beside tests and applications with queries of their own",
    },
    // A token is verified in one place. Tests sign tokens.
    Wall {
        packages: &["jsonwebtoken", "ring"],
        side: Side::OnlyIn(&["crates/jwt", "crates/bench", "fuzz", "tests"]),
        reason: "only crates/jwt verifies tokens",
    },
    Wall {
        packages: &["axum"],
        side: Side::OnlyIn(&[
            "crates/engine",
            "crates/server",
            "crates/testkit",
            "tests",
            "examples/axum_app",
            "examples/field_sync",
            "examples/list_per_user",
            "examples/multi_user",
            "examples/postgres_sync",
            "examples/teams",
        ]),
        reason: "only the engine, the server and applications speak HTTP with axum",
    },
    Wall {
        packages: &["futures-util", "hyper", "rand", "tokio", "tokio-util"],
        side: Side::NeverIn(&[
            "crates/value",
            "crates/filter",
            "crates/merge",
            "crates/documents",
            "crates/protocol",
            "crates/jwt",
            "crates/rls",
            "crates/core",
        ]),
        reason: "what decides has no effects: no runtime, no network, no randomness",
    },
];
