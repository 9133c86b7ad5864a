//! The words that are gone, and what to say instead.

/// A word that is not used any more.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Gone {
    pub(in super::super) word: &'static str,
    /// Goes after "Say".
    pub(in super::super) instead: &'static str,
    /// The beginnings of the paths where it is gone; everywhere when there are none. A word that means
    /// something else elsewhere needs them.
    pub(in super::super) under: &'static [&'static str],
}

const fn gone(word: &'static str, instead: &'static str) -> Gone {
    Gone {
        word,
        instead,
        under: &[],
    }
}

const fn gone_under(
    under: &'static [&'static str],
    word: &'static str,
    instead: &'static str,
) -> Gone {
    Gone {
        word,
        instead,
        under,
    }
}

/// The beginnings of the paths of files that may use every word: they tell of the words themselves, of the
/// past, or are generated.
pub(in super::super) const EXEMPT: &[&str] = &[
    "docs/glossary.md",
    "CHANGELOG.md",
    "xtask/src/architecture/",
    "clients/typescript/src/protocol/generated.ts",
];

const CORE: &[&str] = &["crates/core/"];
const DATABASE: &[&str] = &["crates/db/"];
const ENGINE: &[&str] = &["crates/engine/"];
const SESSION: &[&str] = &["crates/engine/src/session/"];
const VALUES: &[&str] = &["crates/value/", "crates/filter/"];
const SERVER_SIDE: &[&str] = &[
    "crates/filter/",
    "crates/protocol/",
    "crates/core/",
    "crates/db/",
    "crates/engine/",
];
const CLIENT: &[&str] = &["clients/typescript/src/"];

/// Renamed identifiers, compared with their case.
pub(in super::super) const IDENTIFIERS: &[Gone] = &[
    // Crates and files.
    gone("rhtmx-sync-cluster", "`rhtmx-sync-test-postgres`"),
    gone("rhtmx_sync_cluster", "`test_postgres`"),
    gone("sqlite_listener", "`db::sqlite::listen`"),
    // Values, filters and shapes.
    gone_under(VALUES, "Moment", "`Timestamp`"),
    gone_under(VALUES, "Day", "`Date`"),
    gone_under(SERVER_SIDE, "Cover", "`Access`"),
    gone("CoverKey", "`AccessKey`"),
    gone("misfits", "`outdated`"),
    gone("PartParameters", "`SelectionRequest`"),
    gone_under(SERVER_SIDE, "Wanted", "`SelectionRequest`"),
    gone_under(ENGINE, "Asked", "`SelectionRequest`"),
    gone_under(SERVER_SIDE, "Verdict", "`RowEffect`"),
    gone_under(SERVER_SIDE, "verdict", "`effect`"),
    gone_under(
        &["crates/core/src/shape/", "crates/db/", "crates/engine/"],
        "Outcome",
        "`RowOp` for a shape's row, `Applied` for a mutation",
    ),
    // Cursors, the log and what its entries mean.
    gone_under(SERVER_SIDE, "Mark", "`CommitId`"),
    gone_under(&["crates/db/src/postgres/"], "Place", "`Cursor`"),
    gone("make_mark", "`make_checkpoint`"),
    gone("_rhtmx_sync_mark", "`_rhtmx_sync_checkpoint`"),
    gone("LogConfig", "`RetentionConfig`"),
    gone("Reshape", "`SchemaChange`"),
    gone("reshaped", "`schema_changed`"),
    gone(
        "reshapes",
        "`changes_schema_of`, or `schema_changes` for several",
    ),
    gone("reshaped_shapes", "`outdated_shapes`"),
    gone("NewestEntry", "`NetChange`"),
    gone(
        "is_passing",
        "`is_transient` for a row, `is_retryable` for an error",
    ),
    gone_under(
        &["crates/db/src/error.rs"],
        "is_transient",
        "`is_retryable`",
    ),
    gone("Learned", "`Effect`"),
    gone("learn_of", "`effect_on`"),
    gone_under(SERVER_SIDE, "States", "`RowVersions`"),
    gone_under(&["crates/core/src/"], "Step", "`UndoRecord`"),
    gone_under(CORE, "Walk", "`Undo`"),
    gone("HistoryColumns", "`OldValueColumns`"),
    gone_under(SERVER_SIDE, "histories", "`old_value_columns`"),
    // Sessions and mutations.
    gone("PushAction", "`Push`"),
    gone("begin_anew", "`restart`"),
    gone_under(CORE, "let_go", "`release`"),
    gone_under(CORE, "go_on", "`resume_read`"),
    gone_under(SERVER_SIDE, "Pull", "`CatchUp`"),
    gone_under(SERVER_SIDE, "pulled", "`caught_up`"),
    gone("must_pull", "`has_overflowed`"),
    gone("PullEnded", "`FramesEnd`"),
    gone("ReadEnded", "`PagesEnd`"),
    gone("ReadPart", "`RowStream` or `ChangeStream`"),
    gone("PartStream", "`RowStream` or `ChangeStream`"),
    gone_under(
        &["crates/core/src/", "crates/protocol/", "crates/db/"],
        "Origin",
        "`MutationId`; an origin is a web page's",
    ),
    gone_under(DATABASE, "Device", "`ClientState`"),
    gone("lock_device", "`lock_client`"),
    gone("write_on", "`mutation_steps`"),
    // The engine.
    gone_under(ENGINE, "Inner", "`EngineState`"),
    gone_under(ENGINE, "Sink", "`Publisher`"),
    gone("ChangeSink", "`LogSubscriber`"),
    gone_under(
        &["crates/db/src/feed.rs", "crates/engine/"],
        "Drained",
        "`LogBatch`",
    ),
    gone_under(&["crates/db/", "crates/engine/"], "Pace", "`Pacer`"),
    gone("poke", "`wake`"),
    gone("Poked", "`Woken`"),
    gone("in_log", "`with_missing`"),
    gone_under(ENGINE, "Crowd", "`Backpressure`"),
    gone_under(ENGINE, "Ear", "`Recipient`"),
    gone_under(ENGINE, "Seat", "`Mailbox`"),
    gone_under(ENGINE, "Attached", "`Subscriber`"),
    gone("SessionKey", "`SessionId`"),
    gone_under(ENGINE, "Delivery", "`Batch`"),
    gone("ToldCursor", "`CursorFrame`"),
    gone("LastTold", "`CursorFrameCache`"),
    gone("HubFigures", "`HubStats`"),
    gone("ShapeFigures", "`ShapeStats`"),
    gone("HubTotals", "`HubCounters`"),
    gone_under(ENGINE, "Figures", "`Stats`"),
    gone_under(
        &["crates/engine/src/session/"],
        "Connection",
        "`SessionTask`",
    ),
    gone_under(ENGINE, "Wire", "`Transport`"),
    gone_under(SESSION, "Socket", "`WebSocket`"),
    gone_under(SESSION, "Events", "`EventStream`"),
    gone(
        "beats_unheard",
        "`missed_heartbeats`, in TypeScript `missedHeartbeats`",
    ),
    gone_under(SESSION, "Gone", "`Disconnected`"),
    gone_under(SESSION, "Ended", "`Close`"),
    // The browser client.
    gone_under(CLIENT, "Keeper", "`FallbackStore`"),
    gone_under(CLIENT, "Copy", "`QueryRows`"),
    gone_under(CLIENT, "Outcome", "`WriteResult`"),
    gone_under(CLIENT, "Written", "`PendingWrite`"),
    gone_under(CLIENT, "Channel", "`TabChannel`"),
    gone_under(CLIENT, "Query", "`Selection`"),
    gone_under(CLIENT, "takeOffice", "`takeOver`"),
    gone_under(CLIENT, "bury", "`addRejections`"),
    gone_under(CLIENT, "wishes", "`wanted`"),
    gone_under(CLIENT, "thawed", "`resumed`"),
];

/// English, compared without case.
pub(in super::super) const ENGLISH: &[Gone] = &[
    gone("anew", "\"again\""),
    gone("whoever", "\"a client that\", \"the session that\""),
    gone("news", "\"changes\""),
    gone("he", "\"the session\", \"the client\", or \"it\""),
    gone("himself", "\"itself\""),
];
