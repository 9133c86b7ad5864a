//! Checks of the server and of the connections to it.

use super::facts::{ConnectionFacts, Facts, Setup};
use super::{Check, Findings, Remedy};
use crate::incarnation::Product;

/// The oldest version that has what the capture needs.
const VERSION_MIN: i64 = 140_000;
/// The largest difference of clocks that is not reported.
const CLOCK_MS_MAX: i64 = 2_000;

pub(super) fn examine(findings: &mut Findings<'_>, facts: &Facts, setup: &Setup) {
    product(findings, facts);
    version(findings, facts);
    primary(findings, facts);
    tls(findings, facts, setup);
    pooler(findings, facts, setup);
    clock(findings, facts);
    connections(findings, facts, setup);
}

fn product(findings: &mut Findings<'_>, facts: &Facts) {
    let product = Product::recognise(&facts.product);
    let failed: Vec<String> = facts
        .tried
        .iter()
        .filter_map(|tried| Some(format!("{}: {}", tried.what, tried.error.as_ref()?)))
        .collect();
    if product.crash_evidence().is_none() {
        findings.error(
            Check::Product,
            format!("{product}: {}", product.limit().unwrap_or_default()),
            Remedy::advice("use PostgreSQL, or a service that runs it"),
        );
    } else if !failed.is_empty() {
        findings.error(
            Check::Product,
            format!(
                "{product}, which does not do what the engine needs: {}",
                failed.join("; ")
            ),
            Remedy::advice("ask the provider to allow it, or use PostgreSQL itself"),
        );
    } else if let Some(limit) = product.limit() {
        findings.warning(
            Check::Product,
            format!("{product}: {limit}"),
            Remedy::advice("see the notes on products in docs/postgresql-setup.md"),
        );
    } else {
        let tried = match facts.tried.len() {
            0 => "nothing could be tried".to_owned(),
            count => format!("the {count} things that the engine needs work"),
        };
        findings.ok(Check::Product, format!("{product}; {tried}"));
    }
}

fn version(findings: &mut Findings<'_>, facts: &Facts) {
    let version = &facts.server.version;
    if facts.server.version_number < VERSION_MIN {
        findings.error(
            Check::Version,
            format!("version {version} is too old"),
            Remedy::advice("upgrade to PostgreSQL 14 or later"),
        );
    } else {
        findings.ok(Check::Version, format!("version {version}"));
    }
}

fn primary(findings: &mut Findings<'_>, facts: &Facts) {
    if facts.server.is_standby {
        findings.error(
            Check::Primary,
            "this server is a hot standby, whose snapshots do not say which transactions are running",
            Remedy::setting("database.url = \"…\", with the address of the primary, or of all hosts"),
        );
    } else if facts.server.is_read_only {
        findings.error(
            Check::Primary,
            format!("transactions of the role {} are read-only", facts.role.name),
            Remedy::sql(
                "that role or a superuser",
                format!(
                    "ALTER ROLE {} SET default_transaction_read_only = off",
                    facts.role.name
                ),
            ),
        );
    } else if facts.listener.is_standby {
        findings.error(
            Check::Primary,
            "database.listen_url leads to a hot standby, where nothing can listen",
            Remedy::setting("database.listen_url = \"…\", with the address of the primary"),
        );
    } else {
        findings.ok(Check::Primary, "this server takes writes");
    }
}

fn tls(findings: &mut Findings<'_>, facts: &Facts, setup: &Setup) {
    let pool = ("database.url", &facts.pool);
    let listener = ("database.listen_url", &facts.listener);
    let both = if setup.has_listen_url {
        vec![pool, listener]
    } else {
        vec![pool]
    };
    for (key, connection) in both {
        tls_of(findings, key, connection);
    }
}

fn tls_of(findings: &mut Findings<'_>, key: &str, connection: &ConnectionFacts) {
    let remedy = || {
        Remedy::setting(format!(
            "{key} = \"…?sslmode=verify-full&sslrootcert=FILE\", with the provider's certificate, or `system`"
        ))
    };
    if connection.is_local {
        findings.ok(Check::Tls, format!("{key} stays on this machine"));
    } else if !connection.is_encrypted {
        findings.warning(
            Check::Tls,
            format!(
                "{key} allows a connection without TLS: passwords and rows may travel in the open"
            ),
            remedy(),
        );
    } else if !connection.is_verified {
        findings.warning(
            Check::Tls,
            format!("{key} encrypts, and does not check with whom: sslmode=require takes any certificate"),
            remedy(),
        );
    } else {
        findings.ok(
            Check::Tls,
            format!("{key} is encrypted, and the server's certificate is checked"),
        );
    }
}

fn pooler(findings: &mut Findings<'_>, facts: &Facts, setup: &Setup) {
    let sessions = if facts.pool.is_pooled {
        "a pooler in transaction mode, which the engine's pool can use"
    } else {
        "each connection has a session of its own"
    };
    findings.ok(Check::Pooler, format!("database.url: {sessions}"));
    let key = if setup.has_listen_url {
        "database.listen_url"
    } else {
        "database.url"
    };
    if facts.listener.is_standby {
        // Nothing can be said of it.
        return;
    }
    if facts.is_notified {
        findings.ok(Check::Listen, format!("{key}: notifications arrive"));
    } else {
        findings.warning(
            Check::Listen,
            format!(
                "{key}: notifications do not arrive, so the engine polls: changes come later, and an idle server queries \
                 the database all the time"
            ),
            Remedy::setting(
                "database.listen_url = \"…\", with a direct address, or one of a pooler in session mode",
            ),
        );
    }
}

fn clock(findings: &mut Findings<'_>, facts: &Facts) {
    let ahead = facts.clock_ahead_ms;
    let direction = if ahead < 0 { "behind" } else { "ahead of" };
    let text = format!(
        "the database's clock is {} ms {direction} this machine's",
        ahead.unsigned_abs()
    );
    if ahead.abs() > CLOCK_MS_MAX {
        findings.warning(
            Check::Clock,
            format!("{text}: tokens may count as expired or not yet valid"),
            Remedy::advice("synchronise both clocks (NTP)"),
        );
    } else {
        findings.ok(Check::Clock, text);
    }
}

fn connections(findings: &mut Findings<'_>, facts: &Facts, setup: &Setup) {
    let (server, role) = (&facts.server, &facts.role);
    let needed = i64::from(setup.connections);
    if facts.pool.is_pooled {
        findings.ok(
            Check::Connections,
            format!("a server opens {needed} connections, those of its pool to the pooler"),
        );
        return;
    }
    if (0..needed).contains(&server.role_connections_max) {
        findings.error(
            Check::Connections,
            format!(
                "a server opens {needed} connections, and the role {} may have {}",
                role.name, server.role_connections_max
            ),
            Remedy::sql(
                "a superuser or the role's administrator",
                format!("ALTER ROLE {} CONNECTION LIMIT {needed}", role.name),
            ),
        );
        return;
    }
    if (0..needed).contains(&server.database_connections_max) {
        findings.error(
            Check::Connections,
            format!(
                "a server opens {needed} connections, and the database may have {}",
                server.database_connections_max
            ),
            Remedy::sql(
                "the owner of the database",
                format!("ALTER DATABASE {} CONNECTION LIMIT -1", server.database),
            ),
        );
        return;
    }
    let all = server.connections_max - server.connections_reserved;
    let free = all - server.connections_of_others;
    let fewer = |room: i64| {
        let beside = needed - i64::from(setup.pool_size);
        Remedy::setting(format!(
            "database.pool_size = {}, or a pooler, or a larger max_connections",
            (room - beside).max(4)
        ))
    };
    if needed > all {
        findings.error(
            Check::Connections,
            format!("a server opens {needed} connections, and the database allows {all}"),
            fewer(all),
        );
    } else if needed > free {
        findings.warning(
            Check::Connections,
            format!(
                "a server opens {needed} connections, and other roles have left {free} of {all} at the moment"
            ),
            fewer(free),
        );
    } else {
        findings.ok(
            Check::Connections,
            format!(
                "a server opens {needed} connections, of {all}, of which other roles have {}",
                server.connections_of_others
            ),
        );
    }
}
