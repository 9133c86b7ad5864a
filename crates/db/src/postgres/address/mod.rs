//! The address of a PostgreSQL server, read as libpq reads it.
//!
//! Invariants: parsing panics on no text. An error contains no text of the address but the name of a parameter, and that
//! only where it cannot be a part of a password.

mod parameter;
mod split;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use crate::error::{DbError, DbResult};
use crate::url;
use split::Parts;

/// What an address says of a PostgreSQL server, and of the connection to it.
#[derive(Default, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) dbname: Option<String>,
    /// Names, addresses, or directories of sockets, in the order in which they are tried.
    pub(crate) hosts: Vec<String>,
    /// Where to connect instead of looking the hosts' names up.
    pub(crate) hostaddrs: Vec<IpAddr>,
    /// One for all hosts, or one for each.
    pub(crate) ports: Vec<u16>,
    pub(crate) options: Option<String>,
    pub(crate) application_name: Option<String>,
    pub(crate) fallback_application_name: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) keepalives: Keepalives,
    /// Zero is the system's own.
    pub(crate) tcp_user_timeout: Option<Duration>,
    pub(crate) channel_binding: Option<ChannelBinding>,
    pub(crate) is_random_host: bool,
    pub(crate) tls: TlsOptions,
}

impl Address {
    /// Whether the other end is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let is_here = |host: &String| {
            let ip = host.parse::<IpAddr>();
            host.starts_with(['/', '@'])
                || host == "localhost"
                || ip.is_ok_and(|ip| ip.is_loopback())
        };
        self.hosts.iter().all(is_here) && self.hostaddrs.iter().all(IpAddr::is_loopback)
    }
}

/// Without the password, and without what may contain one.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("hosts", &self.hosts)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

/// Whether and how the system asks if an idle connection's other end is there; what is absent is the engine's own.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Keepalives {
    pub(crate) is_off: bool,
    pub(crate) idle: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) count: Option<u32>,
}

/// Whether a password is bound to the encrypted connection over which it is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// libpq's `sslmode`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsMode {
    /// Never.
    Disable,
    /// When the server takes no other connection.
    Allow,
    /// When the server offers it.
    #[default]
    Prefer,
    /// Always, with whatever certificate, unless an authority is named.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// The same, for the host's name.
    VerifyFull,
}

/// Who may sign the server's certificate.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum Authorities {
    /// Nobody was named.
    #[default]
    Unnamed,
    /// Those of the system's own store.
    System,
    /// Those of a file.
    File(String),
}

/// What an address says of TLS.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    pub(crate) mode: TlsMode,
    pub(crate) authorities: Authorities,
    /// The files of the client's certificate and its key.
    pub(crate) client: Option<(String, String)>,
    /// Without PostgreSQL's own question before the handshake.
    pub(crate) is_direct: bool,
    /// Whether the server's name is not told before the encryption.
    pub(crate) hides_name: bool,
    /// Whether at least TLS 1.3 is wanted, or at most TLS 1.2.
    pub(crate) versions: TlsVersions,
}

/// The versions of TLS that may be used.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TlsVersions {
    pub(crate) without_12: bool,
    pub(crate) without_13: bool,
}

impl Address {
    /// Parses `postgresql://…` or `postgres://…`.
    pub(crate) fn parse(text: &str) -> DbResult<Self> {
        let refused = |why: String| DbError::Url(format!("{why}; in {}", url::redact(text)));
        let text_of_parts = ["postgresql://", "postgres://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .ok_or_else(|| refused("the beginning is not postgresql://".to_owned()))?;
        let parts = Parts::split(text_of_parts).map_err(refused)?;
        Self::of_parts(&parts).map_err(refused)
    }

    fn of_parts(parts: &Parts<'_>) -> Result<Self, String> {
        let mut address = Self::default();
        let credential = "the user or the password";
        if let Some(user) = parts.user.filter(|user| !user.is_empty()) {
            address.user = Some(split::decode_text(user, credential)?);
        }
        if let Some(password) = parts.password.filter(|password| !password.is_empty()) {
            if password == "[YOUR-PASSWORD]" {
                return Err(
                    "the password is still the placeholder [YOUR-PASSWORD]; put the database's own there".to_owned(),
                );
            }
            address.password = Some(split::decode(password, credential)?);
        }
        if !parts.dbname.is_empty() {
            address.dbname = Some(split::decode_text(parts.dbname, "the database's name")?);
        }
        address.take_hosts(parts.hosts)?;
        let mut collected = parameter::Collected::default();
        for (name, value) in parts.parameters()? {
            parameter::take(&mut address, &mut collected, &name, &value)
                .map_err(|why| parts.without_a_secret(why))?;
        }
        collected.finish(&mut address)?;
        address.check()?;
        Ok(address)
    }

    fn take_hosts(&mut self, hosts: &str) -> Result<(), String> {
        if hosts.is_empty() {
            return Ok(());
        }
        let mut ports = Vec::new();
        for host in hosts.split(',') {
            let (name, port) = split::host(host).ok_or(
                "the host cannot be read: write host, host:port or [address]:port, and percent-encode the special \
                 characters of a password (@ is %40, / is %2F, # is %23, ? is %3F)",
            )?;
            if !name.is_empty() {
                self.hosts.push(split::decode_text(name, "the host")?);
            }
            ports.push(port);
        }
        if ports.iter().any(Option::is_some) {
            self.ports = ports
                .into_iter()
                .map(|port| port.unwrap_or(POSTGRES_PORT))
                .collect();
        }
        Ok(())
    }

    /// What only shows when everything is known.
    fn check(&mut self) -> Result<(), String> {
        if self.hosts.is_empty() {
            self.hosts = self.hostaddrs.iter().map(IpAddr::to_string).collect();
        }
        if self.hosts.is_empty() {
            return Err(
                "the host is missing; for a socket, write ?host=/var/run/postgresql".to_owned(),
            );
        }
        if ![0, self.hosts.len()].contains(&self.hostaddrs.len()) {
            return Err("`hostaddr` needs one address for each host".to_owned());
        }
        if ![0, 1, self.hosts.len()].contains(&self.ports.len()) {
            return Err("`port` needs one number for all hosts, or one for each".to_owned());
        }
        let tls = &mut self.tls;
        if tls.is_direct && tls.mode < TlsMode::Require {
            return Err(
                "`sslnegotiation=direct` needs `sslmode=require`, `verify-ca` or `verify-full`"
                    .to_owned(),
            );
        }
        // Over a socket of this machine nothing is encrypted, whatever `sslmode` says.
        if self.hosts.iter().all(|host| host.starts_with('/')) {
            tls.mode = TlsMode::Disable;
        }
        Ok(())
    }
}

const POSTGRES_PORT: u16 = 5432;
