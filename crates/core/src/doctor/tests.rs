//! From facts to findings.

use proptest::prelude::*;

use super::*;

fn setup() -> Setup {
    Setup {
        has_listen_url: false,
        connections: 18,
        pool_size: 16,
        log_bytes_max: 4 << 30,
        retention_hours: 168,
        retention_interval_ms: 60_000,
    }
}

fn table() -> TableFacts {
    TableFacts {
        entity: "todos".to_owned(),
        configured: "todos".to_owned(),
        name: "public.todos".to_owned(),
        kind: "r".to_owned(),
        schema: "public".to_owned(),
        owner: "app".to_owned(),
        may_use_schema: true,
        has_key: true,
        members: vec![MemberFacts {
            name: "public.todos".to_owned(),
            may_trigger: true,
            triggers: 4,
            disabled: Vec::new(),
        }],
        is_wanted: Some(true),
        ..TableFacts::default()
    }
}

fn facts() -> Facts {
    Facts {
        server: ServerFacts {
            version: "16.2".to_owned(),
            version_number: 160_002,
            connections_max: 100,
            connections_reserved: 3,
            database: "app".to_owned(),
            database_connections_max: -1,
            role_connections_max: -1,
            ..ServerFacts::default()
        },
        product: crate::incarnation::ProductFacts {
            version: "PostgreSQL 16.2".to_owned(),
            ..Default::default()
        },
        tried: vec![Tried {
            what: "snapshots",
            error: None,
        }],
        pool: ConnectionFacts {
            is_local: true,
            ..ConnectionFacts::default()
        },
        listener: ConnectionFacts::default(),
        is_notified: true,
        clock_ahead_ms: -3,
        role: RoleFacts {
            name: "sync".to_owned(),
            schema: Some("sync".to_owned()),
            may_create: true,
            log_schema: Some("sync".to_owned()),
            log_owner: Some("sync".to_owned()),
            owns_log: true,
            sees_sessions: true,
            ..RoleFacts::default()
        },
        tables: vec![table()],
        log: Some(LogFacts {
            bytes: 8192,
            reaches_back_s: Some(60.0),
            checkpoint_s: Some(3.0),
            ..LogFacts::default()
        }),
        transactions: Vec::new(),
    }
}

/// The findings that are not ok.
fn wrong(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = facts();
    change(&mut facts);
    let mut findings = examine(&facts, &setup());
    findings.retain(|finding| finding.level != Level::Ok);
    findings
}

#[test]
fn a_fit_database_has_no_other_findings_than_good_ones() {
    assert_eq!(wrong(|_| ()), []);
    let checks: Vec<Check> = examine(&facts(), &setup())
        .into_iter()
        .map(|finding| finding.check)
        .collect();
    for check in [
        Check::Product,
        Check::Listen,
        Check::Clock,
        Check::Rights,
        Check::RowSecurity,
        Check::Log,
        Check::Transactions,
    ] {
        assert!(checks.contains(&check), "{check:?}");
    }
}

type Change = fn(&mut Facts);

/// Each thing that can be wrong, alone: its check, how bad it is, and what mends it.
const CASES: &[(Change, Check, Level, &str)] = &[
    (
        |facts| facts.product.version = "CockroachDB CCL v24".to_owned(),
        Check::Product,
        Level::Error,
        "PostgreSQL",
    ),
    (
        |facts| facts.product.has_neon_timeline = true,
        Check::Product,
        Level::Warning,
        "postgresql-setup.md",
    ),
    (
        |facts| facts.tried[0].error = Some("not implemented".to_owned()),
        Check::Product,
        Level::Error,
        "provider",
    ),
    (
        |facts| facts.server.version_number = 130_009,
        Check::Version,
        Level::Error,
        "14",
    ),
    (
        |facts| facts.server.is_standby = true,
        Check::Primary,
        Level::Error,
        "database.url",
    ),
    (
        |facts| {
            facts.listener.is_standby = true;
            facts.is_notified = false;
        },
        Check::Primary,
        Level::Error,
        "database.listen_url",
    ),
    (
        |facts| facts.server.is_read_only = true,
        Check::Primary,
        Level::Error,
        "ALTER ROLE sync SET default_transaction_read_only = off",
    ),
    (
        |facts| facts.pool.is_local = false,
        Check::Tls,
        Level::Warning,
        "sslmode=verify-full",
    ),
    (
        |facts| {
            facts.pool.is_local = false;
            facts.pool.is_encrypted = true;
        },
        Check::Tls,
        Level::Warning,
        "sslrootcert",
    ),
    (
        |facts| facts.is_notified = false,
        Check::Listen,
        Level::Warning,
        "database.listen_url",
    ),
    (
        |facts| facts.clock_ahead_ms = -9000,
        Check::Clock,
        Level::Warning,
        "NTP",
    ),
    (
        |facts| facts.server.role_connections_max = 10,
        Check::Connections,
        Level::Error,
        "ALTER ROLE sync CONNECTION LIMIT 18",
    ),
    (
        |facts| facts.server.database_connections_max = 10,
        Check::Connections,
        Level::Error,
        "ALTER DATABASE app CONNECTION LIMIT -1",
    ),
    (
        |facts| facts.server.connections_max = 20,
        Check::Connections,
        Level::Error,
        "database.pool_size = 15",
    ),
    (
        |facts| facts.server.connections_of_others = 90,
        Check::Connections,
        Level::Warning,
        "database.pool_size = 5",
    ),
    (
        |facts| facts.role.is_superuser = true,
        Check::Role,
        Level::Warning,
        "CREATE ROLE rhtmx_sync",
    ),
    (
        |facts| facts.role.language = Some("de_DE".to_owned()),
        Check::Role,
        Level::Error,
        "GRANT SET ON PARAMETER lc_messages TO sync",
    ),
    (
        |facts| facts.role.transaction_timeout_ms = 5000,
        Check::Role,
        Level::Warning,
        "ALTER ROLE sync SET transaction_timeout = 0",
    ),
    (
        |facts| {
            facts.role.log_schema = None;
            facts.role.may_create = false;
        },
        Check::Schema,
        Level::Error,
        "CREATE SCHEMA IF NOT EXISTS rhtmx_sync AUTHORIZATION sync",
    ),
    (
        |facts| facts.role.may_create = false,
        Check::Schema,
        Level::Error,
        "GRANT USAGE, CREATE ON SCHEMA sync TO sync",
    ),
    (
        |facts| {
            facts.role.owns_log = false;
            facts.role.log_owner = Some("other".to_owned());
        },
        Check::Schema,
        Level::Error,
        "with the role other",
    ),
    (
        |facts| facts.role.functions_of_others = vec!["sync.f()".to_owned()],
        Check::Schema,
        Level::Error,
        "ALTER FUNCTION sync.f() OWNER TO sync",
    ),
    (
        |facts| facts.tables[0].name.clear(),
        Check::Table,
        Level::Error,
        "create the table",
    ),
    (
        |facts| {
            facts.tables[0].name.clear();
            facts.tables[0].elsewhere = vec!["app.todos".to_owned()];
        },
        Check::Table,
        Level::Error,
        "entities.todos.table = \"app.todos\"",
    ),
    (
        |facts| facts.tables[0].kind = "v".to_owned(),
        Check::Table,
        Level::Error,
        "entities.todos.table",
    ),
    (
        |facts| facts.tables[0].has_key = false,
        Check::Table,
        Level::Error,
        "ALTER TABLE public.todos ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    ),
    (
        |facts| {
            facts.tables[0].has_key = false;
            facts.tables[0].has_id = true;
        },
        Check::Table,
        Level::Error,
        "ALTER TABLE public.todos ADD PRIMARY KEY (id)",
    ),
    (
        |facts| {
            facts.tables[0].has_key = false;
            facts.tables[0].key_index = Some("i".to_owned());
        },
        Check::Table,
        Level::Error,
        "ALTER TABLE public.todos ADD PRIMARY KEY USING INDEX i",
    ),
    (
        |facts| facts.tables[0].foreign = Some("public.far".to_owned()),
        Check::Table,
        Level::Error,
        "detach",
    ),
    (
        |facts| facts.tables[0].heirs = vec!["public.old".to_owned()],
        Check::Table,
        Level::Warning,
        "ALTER TABLE public.old NO INHERIT public.todos",
    ),
    (
        |facts| facts.tables[0].parents = vec!["public.all".to_owned()],
        Check::Table,
        Level::Warning,
        "ALTER TABLE public.todos NO INHERIT public.all",
    ),
    (
        |facts| facts.tables[0].may_use_schema = false,
        Check::Rights,
        Level::Error,
        "GRANT USAGE ON SCHEMA public TO sync",
    ),
    (
        |facts| facts.tables[0].lacks = vec!["SELECT".to_owned()],
        Check::Rights,
        Level::Error,
        "GRANT SELECT ON public.todos TO sync",
    ),
    (
        |facts| facts.tables[0].lacks = vec!["UPDATE".to_owned(), "DELETE".to_owned()],
        Check::Rights,
        Level::Warning,
        "GRANT UPDATE, DELETE ON public.todos TO sync",
    ),
    (
        |facts| facts.tables[0].sequences = vec!["public.s".to_owned()],
        Check::Rights,
        Level::Warning,
        "GRANT USAGE ON SEQUENCE public.s TO sync",
    ),
    (
        |facts| facts.tables[0].members[0].may_trigger = false,
        Check::Rights,
        Level::Error,
        "GRANT TRIGGER ON public.todos TO sync",
    ),
    (
        |facts| {
            facts.tables[0].members[0].triggers = 3;
            facts.tables[0].members[0].disabled = vec!["t".to_owned()];
        },
        Check::Triggers,
        Level::Error,
        "ALTER TABLE public.todos ENABLE TRIGGER t",
    ),
    (
        |facts| facts.tables[0].members[0].triggers = 0,
        Check::Triggers,
        Level::Error,
        "rhtmx-sync serve",
    ),
    (
        |facts| facts.tables[0].is_wanted = Some(false),
        Check::Triggers,
        Level::Warning,
        "rhtmx-sync serve",
    ),
    (
        |facts| facts.tables[0].has_row_security = true,
        Check::RowSecurity,
        Level::Warning,
        "[entities.todos] read",
    ),
    (
        |facts| {
            facts.tables[0].has_row_security = true;
            facts.tables[0].is_row_security_active = true;
        },
        Check::RowSecurity,
        Level::Error,
        "CREATE POLICY rhtmx_sync ON public.todos TO sync",
    ),
    (
        |facts| {
            facts.tables[0].has_row_security = true;
            facts.tables[0].is_row_security_active = true;
            facts.tables[0].row_policies = 1;
        },
        Check::RowSecurity,
        Level::Warning,
        "CREATE POLICY rhtmx_sync ON public.todos TO sync",
    ),
    (
        |facts| {
            facts.tables[0].has_row_security = true;
            facts.tables[0].is_row_security_active = true;
            facts.tables[0].row_policies = 1;
            facts.tables[0].shows_every_row = true;
        },
        Check::RowSecurity,
        Level::Warning,
        "[entities.todos] read",
    ),
    (
        |facts| facts.tables[0].rights = Rights::Closed,
        Check::Policies,
        Level::Warning,
        "[entities.todos] read",
    ),
    (
        |facts| facts.tables[0].rights = Rights::RowSecurity,
        Check::RowSecurity,
        Level::Warning,
        "ALTER TABLE public.todos ENABLE ROW LEVEL SECURITY",
    ),
    (
        |facts| facts.log.as_mut().expect("a log").bytes = 9 << 30,
        Check::Log,
        Level::Warning,
        "vacuum",
    ),
    (
        |facts| facts.log.as_mut().expect("a log").checkpoint_s = Some(7200.0),
        Check::Log,
        Level::Warning,
        "uncapture",
    ),
    (
        |facts| facts.log.as_mut().expect("a log").is_vacuumed_never = true,
        Check::Log,
        Level::Error,
        "ALTER SYSTEM SET autovacuum = on",
    ),
    (
        |facts| {
            let log = facts.log.as_mut().expect("a log");
            (log.is_vacuumed_never, log.is_vacuumed_never_here) = (true, true);
        },
        Check::Log,
        Level::Error,
        "ALTER TABLE sync._rhtmx_sync_log RESET (autovacuum_enabled)",
    ),
    (
        |facts| {
            facts.transactions = vec![OldTransaction {
                age_s: 1200.0,
                pid: Some(7),
                ..OldTransaction::default()
            }];
        },
        Check::Transactions,
        Level::Warning,
        "SELECT pg_terminate_backend(7)",
    ),
    (
        |facts| {
            facts.transactions = vec![OldTransaction {
                age_s: 1200.0,
                gid: Some("it's".to_owned()),
                ..OldTransaction::default()
            }];
        },
        Check::Transactions,
        Level::Warning,
        "ROLLBACK PREPARED 'it''s'",
    ),
    (
        |facts| facts.role.sees_sessions = false,
        Check::Transactions,
        Level::Warning,
        "GRANT pg_read_all_stats TO sync",
    ),
];

#[test]
fn each_thing_that_is_wrong_is_found_alone_with_what_mends_it() {
    for (at, (change, check, level, mends)) in CASES.iter().enumerate() {
        let found = wrong(*change);
        let [finding] = found.as_slice() else {
            panic!("case {at} ({check}, {mends}): {found:?}");
        };
        assert_eq!(
            (finding.check, finding.level),
            (*check, *level),
            "case {at}"
        );
        let remedy = format!("{:?}", finding.remedy)
            .replace("\\\"", "\"")
            .replace("\\'", "'");
        assert!(remedy.contains(mends), "case {at}: {remedy}");
    }
}

#[test]
fn a_pooler_needs_no_more_than_the_listener() {
    let pooled = |facts: &mut Facts| {
        facts.pool.is_pooled = true;
        facts.server.connections_max = 5;
    };
    assert_eq!(wrong(pooled), []);
}

proptest! {
    /// Whatever is wrong at the same time: each finding that is not good says what to do, and no check is left out.
    #[test]
    fn whatever_is_wrong_has_a_remedy(chosen in proptest::collection::vec(0..CASES.len(), 0..6)) {
        let mut facts = facts();
        for at in chosen {
            (CASES[at].0)(&mut facts);
        }
        let found = examine(&facts, &setup());
        for finding in &found {
            prop_assert_eq!(finding.level == Level::Ok, finding.remedy.is_none(), "{:?}", finding);
        }
        prop_assert!(found.iter().any(|finding| finding.check == Check::Transactions));
    }
}
