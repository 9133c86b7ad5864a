//! The floors of the crates that have rooms.

/// A crate with its rooms.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct House {
    /// The crate's directory, relative to the repository.
    pub(in super::super) directory: &'static str,
    /// From the ground to the top; the rooms of each floor. `lib` is the crate's root.
    pub(in super::super) floors: &'static [&'static [&'static str]],
}

/// Every crate whose rooms have floors, lowest first.
pub(in super::super) const HOUSES: &[House] = &[
    VALUE, FILTER, MERGE, DOCUMENTS, PROTOCOL, JWT, RLS, CORE, DB, ENGINE,
];

const VALUE: House = House {
    directory: "crates/value",
    floors: &[
        &["date", "decimal", "number", "schema"],
        &["timestamp"],
        &["lib"],
    ],
};

const FILTER: House = House {
    directory: "crates/filter",
    floors: &[
        &["claim", "error", "like", "scalar"],
        &["row", "syntax"],
        &["condition", "params", "token"],
        &["access", "canonical", "class", "eval", "parse", "print"],
        &["literal", "reader", "touched"],
        &["check", "window"],
        &["policy", "testing"],
        &["lib"],
    ],
};

/// From clocks and values to what one column holds, then to rows, what is written to them, and rows under way.
const MERGE: House = House {
    directory: "crates/merge",
    floors: &[
        &["amount", "clock", "order"],
        &["counter", "hybrid", "peers", "rules", "set"],
        &["cell", "conflict"],
        &["row"],
        &["metadata"],
        &["digest", "write"],
        &["changeset"],
        &["lib"],
    ],
};

/// From bytes to what updates hold, then to what is known of documents, and to the wires.
const DOCUMENTS: House = House {
    directory: "crates/documents",
    floors: &[
        &["limits", "tiles"],
        &["reader"],
        &["any", "json"],
        &["awareness", "clock", "content"],
        &["deletes", "presence", "state_vector", "writer"],
        &["update", "wire"],
        &["snapshot"],
        &["lib"],
    ],
};

/// What a frame carries, then the frames of a topic, then the lists of all frames.
const PROTOCOL: House = House {
    directory: "crates/protocol",
    floors: &[
        &["chain", "version"],
        &["push"],
        &["connect", "rows"],
        &["error", "json"],
        &["frame"],
        &["lib"],
    ],
};

/// What a token and a key are, then whether the one was signed with the other, and says what it must.
const JWT: House = House {
    directory: "crates/jwt",
    floors: &[
        &["error", "json", "key", "rules", "user_id"],
        &["claims", "compact", "header"],
        &["jwk"],
        &["key_set"],
        &["verify"],
        &["lib"],
    ],
};

/// From PostgreSQL's text to the classes of its conditions, then what is asked, then what the answers mean.
const RLS: House = House {
    directory: "crates/rls",
    floors: &[
        &["catalog", "family", "names", "parse", "scan"],
        &["row", "uses"],
        &["group", "key"],
        &["classify"],
        &["plan"],
        &["explain", "guard", "visible"],
        &["lib"],
    ],
};

/// From what an entry of the log *is* to what it means for a shape, then to what a session does about it.
const CORE: House = House {
    directory: "crates/core",
    floors: &[
        &[
            "address",
            "doorbell",
            "incarnation",
            "key",
            "limit",
            "policy",
            "rate",
            "schema",
            "snapshot",
            "turns",
        ],
        &["cursor", "doctor"],
        &["log", "metadata", "mutation"],
        &["undo"],
        &["shape"],
        &["effect"],
        &["membership", "session"],
        &["retry"],
        &["lib"],
    ],
};

/// What both databases share, then the twins, which do not know each other, then the pool in front of them.
const DB: House = House {
    directory: "crates/db",
    floors: &[
        &["health"],
        &[
            "backoff",
            "config",
            "crdt_node",
            "error",
            "fields",
            "fingerprint",
            "lanes",
            "pooling",
            "quote",
            "tables",
        ],
        &["mend"],
        &["entity", "migrations", "url"],
        &["sets"],
        &[
            "catalog",
            "folding",
            "read",
            "retention",
            "tombstones",
            "write",
        ],
        &["changeset", "feed"],
        &["listener"],
        &["postgres", "sqlite"],
        &["open_mutation", "schema_version"],
        &["pool"],
        &["lib"],
    ],
};

/// What is shared lies below what starts and stops: `state` knows nothing that runs.
const ENGINE: House = House {
    directory: "crates/engine",
    floors: &[
        &["clock", "crdt_nodes", "limits"],
        &[
            "auth",
            "bus",
            "change_batch",
            "error",
            "mailbox",
            "mutators",
            "server_message",
            "shared_frame",
        ],
        &["config"],
        &[
            "authors",
            "changesets",
            "field_stats",
            "principals",
            "rates",
            "row_level",
            "rows",
        ],
        &["state"],
        &["folding"],
        &["lost_values", "policy_watch", "retention", "row_security"],
        &["schema_watch"],
        &["admission", "mutations", "publisher"],
        &["change_tracker", "field_tracker", "session"],
        &["crdt_sync"],
        &["http", "startup"],
        &["engine"],
        &["crdt"],
        &["lib"],
    ],
};
