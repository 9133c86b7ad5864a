//! Connections to PostgreSQL: TLS according to `sslmode`, and errors classified by whether to try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::DbResult;
use crate::health::Unreadable;
use crate::{DbError, url};

/// The driver's message when a connection must be able to write, and is not.
const NO_WRITES: &str = "database does not allow writes";

/// When the system begins to ask whether an idle connection's other end is there, how often, and how many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay without the other system's confirmation.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// What is asked of a session at its start beside its statement time-out. Diesel passes an error's text on and not its
/// SQLSTATE, so texts must be English; only some roles may choose that.
const STARTS: [&str; 2] = ["-c lc_messages=C", ""];

/// A client, with the connection that the caller has to drive.
pub(crate) type Connected = (
    Client,
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>,
);

/// How to reach one PostgreSQL server.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    /// Whether the role may not choose the language, so that asking costs each connection another try.
    may_not_choose: Arc<AtomicBool>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// Parses a connection string. `sslmode` is libpq's: `disable` does not encrypt, `prefer` (the default)
    /// and `require` encrypt without checking the certificate; `verify-ca` and `verify-full` check it and the
    /// host's name, against `sslrootcert` or else the web's root certificates.
    pub(crate) fn new(connection_url: &str, connect_timeout: Duration) -> DbResult<Self> {
        let (plain, tls) = split_tls_options(connection_url);
        let mut config: Config = plain
            .parse()
            .map_err(|error| unparsable(connection_url, &error))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(DbError::Url(format!(
                "the host is missing: {}; for a socket, write ?host=/var/run/postgresql",
                url::redact(connection_url)
            )));
        }
        config.connect_timeout(connect_timeout);
        // A flow that the network dropped without a word fails within a minute. The address may say otherwise.
        if !connection_url.contains("keepalives") {
            config
                .keepalives_idle(KEEPALIVE_IDLE)
                .keepalives_interval(KEEPALIVE_INTERVAL)
                .keepalives_retries(KEEPALIVE_RETRIES);
        }
        if !connection_url.contains("tcp_user_timeout") {
            config.tcp_user_timeout(UNANSWERED_MAX);
        }
        // A hot standby's snapshots do not name the running transactions. Of several hosts, the primary is taken.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("rhtmx-sync");
        }
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls.client_config()?),
            may_not_choose: Arc::default(),
        })
    }

    /// Cancels the statement that a connection is running.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), tokio_postgres::Error> {
        token.cancel_query(self.tls.clone()).await
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
            match config.connect(self.tls.clone()).await {
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

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> DbResult<Connected> {
        self.config
            .connect(self.tls.clone())
            .await
            .map_err(|error| classify(&error))
    }
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

/// Names the parameter that is at fault, unless what looks like one may be a part of a password.
fn unparsable(connection_url: &str, error: &tokio_postgres::Error) -> DbError {
    let address = url::redact(connection_url);
    let parameters = connection_url
        .split_once('?')
        .map_or("", |(_, query)| query);
    let fault = std::error::Error::source(error).filter(|_| !parameters.contains('@'));
    DbError::Url(match fault {
        Some(fault) => format!("{fault}, in the address of {address}"),
        None => format!("{error}: {address}"),
    })
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
    let text = match source {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    // The driver's message when the server asks for a password and the address has none.
    if text.contains("password missing") {
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

#[derive(Debug, Default, PartialEq)]
struct TlsOptions {
    verify: bool,
    root_cert: Option<String>,
}

/// Removes from the address the TLS options that the driver does not know.
fn split_tls_options(url: &str) -> (String, TlsOptions) {
    let mut options = TlsOptions::default();
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), options);
    };
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslrootcert", path)) => options.root_cert = Some(path.replace("%2F", "/")),
            Some(("sslmode", "verify-ca" | "verify-full")) => {
                options.verify = true;
                kept.push("sslmode=require");
            }
            Some(("sslmode", "allow")) => kept.push("sslmode=prefer"),
            _ => kept.push(pair),
        }
    }
    let joined = if kept.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", kept.join("&"))
    };
    (joined, options)
}

impl TlsOptions {
    fn client_config(&self) -> DbResult<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| DbError::Unsupported(format!("TLS: {error}")))?;
        if !self.verify {
            let verifier = Arc::new(AnyCertificate(provider));
            return Ok(builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth());
        }
        let mut roots = RootCertStore::empty();
        match &self.root_cert {
            Some(path) => {
                let unreadable = |error| DbError::Url(format!("sslrootcert {path:?}: {error}"));
                for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                    let certificate = certificate.map_err(unreadable)?;
                    roots
                        .add(certificate)
                        .map_err(|error| DbError::Url(format!("sslrootcert {path:?}: {error}")))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Accepts any certificate, as libpq does below `verify-ca`: encryption without authentication.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Connector::new(url, Duration::from_secs(1))
            .expect_err("an address that cannot be used")
            .to_string()
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        for parameter in ["schema=public", "pgbouncer=true", "service=main"] {
            let error = refusal(&format!("postgresql://u:hunter2@h/db?{parameter}"));
            let name = parameter.split('=').next().expect("a name");
            assert!(
                error.contains(&format!("`{name}`")) && !error.contains("hunter2"),
                "{error}"
            );
        }
        let error = refusal("postgresql://u:p@h/db?sslmode=sometimes");
        assert!(error.contains("`sslmode`"), "{error}");
    }

    #[test]
    fn no_part_of_a_password_is_taken_for_a_parameter() {
        let error = refusal("postgresql://u:p@x?hunter=2@h/db");
        assert!(!error.contains("hunter"), "{error}");
    }

    #[test]
    fn an_address_without_a_host_is_refused() {
        let error = refusal("postgresql:///db");
        assert!(error.contains("host"), "{error}");
        assert!(Connector::new("postgresql:///db?host=/tmp", Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn tls_options_are_removed_from_the_address() {
        let (url, options) =
            split_tls_options("postgresql://h/db?sslmode=verify-full&a=b&sslrootcert=%2Fca.pem");
        assert_eq!(url, "postgresql://h/db?sslmode=require&a=b");
        assert_eq!(
            options,
            TlsOptions {
                verify: true,
                root_cert: Some("/ca.pem".to_owned())
            }
        );
        let (url, options) = split_tls_options("postgresql://h/db?sslmode=require");
        assert_eq!(
            (url.as_str(), options),
            ("postgresql://h/db?sslmode=require", TlsOptions::default())
        );
    }
}
