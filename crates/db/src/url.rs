//! Database addresses: parsing them, and showing them without their secrets.

use crate::error::DbError;

/// A database's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DatabaseUrl {
    /// A PostgreSQL connection string.
    Postgres(String),
    /// A SQLite file.
    SqliteFile(String),
    /// A SQLite database that lives as long as the pool.
    SqliteMemory,
}

impl DatabaseUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, DbError> {
        let url = url.trim();
        if url.starts_with("postgresql://") || url.starts_with("postgres://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        if matches!(url, "sqlite::memory:" | "sqlite://:memory:") {
            return Ok(Self::SqliteMemory);
        }
        match url.strip_prefix("sqlite://") {
            Some("") => Err(DbError::Url(
                "the path of the SQLite file is missing".to_owned(),
            )),
            Some(path) => Ok(Self::SqliteFile(path.to_owned())),
            None => Err(DbError::Url(format!("got {:?}", redact(url)))),
        }
    }
}

#[cfg(not(all(feature = "postgres", feature = "sqlite")))]
impl DatabaseUrl {
    /// The cargo feature of its backend.
    pub(crate) fn feature(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::SqliteFile(_) | Self::SqliteMemory => "sqlite",
        }
    }
}

/// The address without user, password and parameters, for logs.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url
            .split(':')
            .next()
            .unwrap_or_default()
            .chars()
            .take(16)
            .collect();
    };
    // A password may contain an unescaped `@`; the host follows the last one. What follows a `?` or stands where a port
    // should, may be a part of a password.
    let (before, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let host = host.split(['?', '#']).next().unwrap_or_default();
    let authority = host
        .split_once('/')
        .map_or(host, |(authority, _)| authority);
    let has_strange_port = authority.split(',').any(|host| {
        let port = host.rsplit_once(':').map_or("", |(_, port)| port);
        !port
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b']')
    });
    if scheme.starts_with("postgres") && (before.contains(['?', '#']) || has_strange_port) {
        return format!("{scheme}://…");
    }
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_an_address_is_parsed() {
        let parsed = |url| DatabaseUrl::parse(url).expect("an address");
        assert_eq!(
            parsed("postgresql://h/db"),
            DatabaseUrl::Postgres("postgresql://h/db".to_owned())
        );
        assert_eq!(
            parsed("postgres://h/db"),
            DatabaseUrl::Postgres("postgres://h/db".to_owned())
        );
        assert_eq!(
            parsed("sqlite://./dev.db"),
            DatabaseUrl::SqliteFile("./dev.db".to_owned())
        );
        assert_eq!(parsed("sqlite::memory:"), DatabaseUrl::SqliteMemory);
    }

    #[test]
    fn an_error_lists_the_accepted_forms_and_no_secrets() {
        let error = DatabaseUrl::parse("mysql://root:hunter2@h/db")
            .expect_err("unknown")
            .to_string();
        assert!(
            error.contains("postgresql://") && error.contains("sqlite::memory:"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
        assert!(DatabaseUrl::parse("sqlite://").is_err() && DatabaseUrl::parse("").is_err());
        assert_eq!(
            redact("postgres://u:p@ss@h:5/db?password=x"),
            "postgres://h:5/db"
        );
        for url in [
            "postgres://u:hunter?2@h/db",
            "postgres://h/db?password=x@hunter2",
            "postgres://u:hunter2/x",
        ] {
            assert_eq!(redact(url), "postgres://…");
        }
    }
}
