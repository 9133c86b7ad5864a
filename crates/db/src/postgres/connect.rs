//! Connections to PostgreSQL: TLS according to `sslmode`, and errors classified by whether to try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use tokio_postgres::config::{
    ChannelBinding as DriverBinding, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs,
};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::address::{Address, ChannelBinding, TlsMode};
use super::cancel_stream::CancelStream;
use super::tls;
use crate::DbError;
use crate::error::DbResult;
use crate::health::Unreadable;

/// The driver's message when a connection must be able to write, and is not.
const NO_WRITES: &str = "database does not allow writes";

/// Its message when the server asks for a password and the address has none.
const NO_PASSWORD: &str = "password missing";
/// Its message when TLS is needed and the server has none.
const NO_TLS: &str = "server does not support TLS";
/// Its message when `channel_binding=require` cannot be met.
const NO_BINDING: &str = "channel binding";
/// When the system begins to ask whether an idle connection's other end is there, how often, and how many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay without the other system's confirmation.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// What is asked of a session at its start beside its statement time-out. Diesel passes an error's text on and not its
/// SQLSTATE, so texts must be English; only some roles may choose that.
const STARTS: [&str; 2] = ["-c lc_messages=C -c TimeZone=UTC", "-c TimeZone=UTC"];

/// A client, with the connection that the caller has to drive.
pub(crate) type Connected = (
    Client,
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>,
);

/// A connection that a task of its own drives. Dropping it ends what it does.
pub(crate) struct Driven {
    pub(crate) client: Client,
    _driving: AbortOnDropHandle<()>,
}

/// How to reach one PostgreSQL server.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    /// With TLS or without it, after the first has failed because of that, as libpq does.
    second_mode: Option<SslMode>,
    /// Whether the role may not choose the language, so that asking costs each connection another try.
    may_not_choose: Arc<AtomicBool>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// Of a connection string, which may have a time-out of its own.
    pub(crate) fn new(connection_url: &str, connect_timeout: Duration) -> DbResult<Self> {
        let address = Address::parse(connection_url)?;
        let (first, second) = match address.tls.mode {
            TlsMode::Disable => (SslMode::Disable, None),
            TlsMode::Allow => (SslMode::Disable, Some(SslMode::Require)),
            TlsMode::Prefer => (SslMode::Prefer, Some(SslMode::Disable)),
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => (SslMode::Require, None),
        };
        let mut config = config(&address, connect_timeout);
        config.ssl_mode(first);
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls::client_config(&address.tls)?),
            second_mode: second,
            may_not_choose: Arc::default(),
        })
    }

    /// The same for any server, also one that takes no writes.
    pub(crate) fn to_any_server(&self) -> Self {
        let mut any = self.clone();
        any.config.target_session_attrs(TargetSessionAttrs::Any);
        any
    }

    /// Cancels the statement that a connection is running. Returns when the server has taken the request.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> DbResult<()> {
        let context = "cancelling a statement";
        let cancelled = match CancelStream::connect(&self.config).await {
            None => token.cancel_query(self.tls.clone()).await,
            Some(connected) => {
                let unreachable = |error: &dyn std::fmt::Display| {
                    DbError::Unreachable(format!("{context}: {error}"))
                };
                let (stream, name) = connected.map_err(|error| unreachable(&error))?;
                let mut tls = self.tls.clone();
                let tls = MakeTlsConnect::<CancelStream>::make_tls_connect(&mut tls, &name);
                let tls = tls.map_err(|error| unreachable(&error))?;
                token.cancel_query_raw(stream, tls).await
            }
        };
        cancelled.map_err(|error| failed(context, &error))
    }

    /// Opens a connection whose statements have this time-out, as an option of its start; zero is none. A `SET` would
    /// stay in the session, which a transaction pooler gives to an application next. A pooler that takes no such option
    /// gets none; then the role's own time-out holds.
    pub(crate) async fn connect_with_timeout(
        &self,
        statement_timeout: Duration,
    ) -> DbResult<Connected> {
        let given = self.config.get_options().unwrap_or_default();
        let timeout = format!("-c statement_timeout={}", statement_timeout.as_millis());
        let skipped = usize::from(self.may_not_choose.load(Ordering::Relaxed));
        let mut is_denied = false;
        for start in STARTS.iter().skip(skipped) {
            let mut config = self.config.clone();
            config.options(format!("{given} {timeout} {start}").trim());
            match self.open(&config).await {
                Ok(connected) => {
                    // Only this is for good: a pooler gives the same codes to what passes.
                    if is_denied {
                        self.may_not_choose.store(true, Ordering::Relaxed);
                    }
                    return Ok(connected);
                }
                Err(error) if error.code().is_some_and(refuses_options) => {
                    is_denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
                }
                Err(error) => return Err(classify(&error)),
            }
        }
        self.connect().await
    }

    /// Opens such a connection for Diesel, which prepares statements that make settings of its own. They are prepared,
    /// closed and taken back within one transaction, so that nothing of them stays in a pooler's session.
    pub(crate) async fn connect_diesel(
        &self,
        statement_timeout: Duration,
    ) -> DbResult<AsyncPgConnection> {
        let (client, mut connection) = self.connect_with_timeout(statement_timeout).await?;
        let context = "preparing a connection";
        let unreachable =
            |error: &dyn std::fmt::Display| DbError::Unreachable(format!("{context}: {error}"));
        tokio::select! {
            begun = client.batch_execute("BEGIN") => begun.map_err(|error| failed(context, &error))?,
            _ = &mut connection => return Err(unreachable(&"the connection ended")),
        }
        let opened = AsyncPgConnection::try_from_client_and_connection(client, connection).await;
        let mut conn = opened.map_err(|error| unreachable(&error))?;
        let ended = conn.batch_execute("ROLLBACK").await;
        ended.map_err(|error| unreachable(&error))?;
        Ok(conn)
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> DbResult<Connected> {
        self.open(&self.config)
            .await
            .map_err(|error| classify(&error))
    }

    /// Opens a connection, and drives it.
    pub(crate) async fn connect_driven(&self) -> DbResult<Driven> {
        let (client, connection) = self.connect().await?;
        let driving = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Driven {
            client,
            _driving: AbortOnDropHandle::new(driving),
        })
    }

    async fn open(&self, config: &Config) -> Result<Connected, tokio_postgres::Error> {
        let first = config.connect(self.tls.clone()).await;
        let (Err(error), Some(mode)) = (&first, self.second_mode) else {
            return first;
        };
        // The server takes no such connection, or TLS itself failed.
        let differs_by_tls = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
            || tls::lasting(error).is_some();
        if !differs_by_tls {
            return first;
        }
        let mut config = config.clone();
        let second = config.ssl_mode(mode).connect(self.tls.clone()).await;
        // What the attempt with TLS says is more to the point.
        if second.is_err() && mode == SslMode::Disable {
            return first;
        }
        second
    }
}

/// The driver's configuration.
fn config(address: &Address, connect_timeout: Duration) -> Config {
    let mut config = Config::new();
    if let Some(user) = &address.user {
        config.user(user);
    }
    if let Some(password) = &address.password {
        config.password(password);
    }
    if let Some(dbname) = &address.dbname {
        config.dbname(dbname);
    }
    for host in &address.hosts {
        config.host(host);
    }
    for hostaddr in &address.hostaddrs {
        config.hostaddr(*hostaddr);
    }
    for port in &address.ports {
        config.port(*port);
    }
    if let Some(options) = &address.options {
        config.options(options);
    }
    let named = address.application_name.as_deref();
    let named = named.or(address.fallback_application_name.as_deref());
    config.application_name(named.unwrap_or("rhtmx-sync"));
    config.connect_timeout(address.connect_timeout.unwrap_or(connect_timeout));
    // A flow that the network dropped without a word fails within a minute. The address may say otherwise.
    let keepalives = &address.keepalives;
    config
        .keepalives(!keepalives.is_off)
        .keepalives_idle(keepalives.idle.unwrap_or(KEEPALIVE_IDLE))
        .keepalives_interval(keepalives.interval.unwrap_or(KEEPALIVE_INTERVAL))
        .keepalives_retries(keepalives.count.unwrap_or(KEEPALIVE_RETRIES));
    let unanswered = address.tcp_user_timeout.unwrap_or(UNANSWERED_MAX);
    if !unanswered.is_zero() {
        config.tcp_user_timeout(unanswered);
    }
    if let Some(binding) = address.channel_binding {
        config.channel_binding(match binding {
            ChannelBinding::Disable => DriverBinding::Disable,
            ChannelBinding::Prefer => DriverBinding::Prefer,
            ChannelBinding::Require => DriverBinding::Require,
        });
    }
    if address.is_random_host {
        config.load_balance_hosts(LoadBalanceHosts::Random);
    }
    if address.tls.is_direct {
        config.ssl_negotiation(SslNegotiation::Direct);
    }
    // A hot standby's snapshots do not name the running transactions. Of several hosts, the primary is taken.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config
}

/// Whether it may be the options of a session's start that are refused.
fn refuses_options(state: &SqlState) -> bool {
    [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::PROTOCOL_VIOLATION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_PARAMETER_VALUE,
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::CANT_CHANGE_RUNTIME_PARAM,
    ]
    .contains(state)
}

/// Classifies a failure to connect.
fn classify(error: &tokio_postgres::Error) -> DbError {
    let refused = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    if let Some(db) = error.as_db_error() {
        let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        return if refused.contains(db.code()) {
            DbError::Refused(text)
        } else {
            DbError::Unreachable(text)
        };
    }
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    if io.is_some_and(|io| io.to_string() == NO_WRITES) {
        return DbError::Standby;
    }
    if let Some(why) = tls::lasting(error) {
        return DbError::Refused(why);
    }
    let text = match source {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    if text.contains(NO_TLS) {
        return DbError::Refused(format!(
            "{text}; turn it on there (ssl = on), or use another sslmode"
        ));
    }
    if text.contains(NO_PASSWORD) || text.contains(NO_BINDING) {
        DbError::Refused(text)
    } else {
        DbError::Unreachable(text)
    }
}

/// Classifies the failure of a statement on a connection outside of the pool.
pub(crate) fn failed(context: &'static str, error: &tokio_postgres::Error) -> DbError {
    match error.as_db_error() {
        Some(db) if !is_retryable(db.code()) => DbError::Statement {
            context,
            message: format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        },
        _ => DbError::Unreachable(format!("{context}: {error}")),
    }
}

/// Why something cannot be read, of the error of a statement that reads it alone.
pub(crate) fn unreadable(error: &tokio_postgres::Error) -> Unreadable {
    match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Unreadable::Locked,
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Unreadable::Denied,
        _ => Unreadable::Failing,
    }
}

/// Whether it is a serialization failure, a deadlock, a lack of resources, an operator's intervention, a
/// system error or a lock time-out.
fn is_retryable(state: &SqlState) -> bool {
    let code = state.code();
    ["40", "53", "57", "58"].contains(&&code[..2]) || *state == SqlState::LOCK_NOT_AVAILABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(parameters: &str) -> DbResult<Connector> {
        let url = format!("postgresql://u:hunter2@h/db?{parameters}");
        Connector::new(&url, Duration::from_secs(1))
    }

    #[test]
    fn an_address_is_passed_to_the_driver() {
        let config = connector("port=7&keepalives=0&options=-c%20a%3Db")
            .expect("an address")
            .config;
        assert_eq!(
            (config.get_ports(), config.get_keepalives()),
            ([7].as_slice(), false)
        );
        assert_eq!(config.get_password(), Some(b"hunter2".as_slice()));
        assert_eq!(config.get_options(), Some("-c a=b"));
        assert_eq!(config.get_application_name(), Some("rhtmx-sync"));
        let config = connector("fallback_application_name=x")
            .expect("an address")
            .config;
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(config.get_tcp_user_timeout(), Some(&UNANSWERED_MAX));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(1)));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        for parameters in [
            "sslmode=verify-ca&sslrootcert=/nowhere/ca.pem",
            "sslrootcert=/nowhere/ca.pem",
            "sslcert=/nowhere/ca.pem&sslkey=/nowhere/ca.pem",
        ] {
            let error = connector(parameters)
                .expect_err("there is no file")
                .to_string();
            assert!(
                error.contains("/nowhere/ca.pem") && !error.contains("hunter2"),
                "{error}"
            );
        }
        assert!(connector("sslmode=disable&sslrootcert=/nowhere/ca.pem").is_ok());
    }
}
