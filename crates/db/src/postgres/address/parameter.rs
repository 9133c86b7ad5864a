//! The parameters of an address: libpq's, and those of other drivers that addresses are copied with.

use std::str::FromStr;
use std::time::Duration;

use super::{Address, Authorities, ChannelBinding, POSTGRES_PORT, TlsMode, split};

/// libpq waits at least this long for a connection.
const CONNECT_TIMEOUT_MIN: u64 = 2;

/// What is only known when all parameters are.
#[derive(Default)]
pub(super) struct Collected {
    mode: Option<TlsMode>,
    client_cert: Option<String>,
    client_key: Option<String>,
    sends_no_certificate: bool,
}

impl Collected {
    pub(super) fn finish(self, address: &mut Address) -> Result<(), String> {
        let tls = &mut address.tls;
        tls.mode = self.mode.unwrap_or_default();
        if tls.authorities == Authorities::System {
            match self.mode {
                None | Some(TlsMode::VerifyFull) => tls.mode = TlsMode::VerifyFull,
                // Anybody can have a certificate of a public authority.
                Some(_) => {
                    return Err(
                        "`sslrootcert=system` needs `sslmode=verify-full`, or none".to_owned()
                    );
                }
            }
        }
        tls.client = match (self.client_cert, self.client_key) {
            _ if self.sends_no_certificate => None,
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(_), None) => {
                return Err("`sslcert` needs `sslkey`, the file of its key".to_owned());
            }
            (None, Some(_)) => {
                return Err("`sslkey` needs `sslcert`, the file of its certificate".to_owned());
            }
        };
        Ok(())
    }
}

/// Takes a parameter, or says why not and what to do.
pub(super) fn take(
    address: &mut Address,
    collected: &mut Collected,
    name: &str,
    value: &str,
) -> Result<(), String> {
    let text = || (!value.is_empty()).then(|| value.to_owned());
    match name {
        "user" => address.user = text(),
        "password" => address.password = text().map(String::into_bytes),
        "dbname" => address.dbname = text(),
        "host" => address.hosts = value.split(',').map(str::to_owned).collect(),
        "hostaddr" => address.hostaddrs = list(name, value, |item| item.parse().ok())?,
        "port" => {
            address.ports = list(name, value, |item| match item {
                "" => Some(POSTGRES_PORT),
                item => split::port(item),
            })?;
        }
        "options" => address.options = text(),
        "application_name" => address.application_name = text(),
        "fallback_application_name" => address.fallback_application_name = text(),
        "connect_timeout" => {
            let seconds: i64 = number(name, value)?;
            let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
            address.connect_timeout =
                seconds.map(|seconds| Duration::from_secs(seconds.max(CONNECT_TIMEOUT_MIN)));
        }
        "keepalives" => address.keepalives.is_off = number::<i64>(name, value)? == 0,
        "keepalives_idle" => address.keepalives.idle = seconds(name, value)?,
        "keepalives_interval" => address.keepalives.interval = seconds(name, value)?,
        "keepalives_count" | "keepalives_retries" => {
            let count: i64 = number(name, value)?;
            address.keepalives.count = u32::try_from(count).ok().filter(|count| *count > 0);
        }
        "tcp_user_timeout" => {
            let milliseconds: i64 = number(name, value)?;
            let milliseconds = u64::try_from(milliseconds).unwrap_or(0);
            address.tcp_user_timeout = Some(Duration::from_millis(milliseconds));
        }
        "load_balance_hosts" => {
            address.is_random_host = one_of(name, value, &[("disable", false), ("random", true)])?;
        }
        "target_session_attrs" => match value {
            // Only a primary will do for the engine, which asks for it whatever is said here.
            "any" | "read-write" | "primary" => {}
            _ => {
                return Err(format!(
                    "`{name}`: the engine needs the primary, so any, read-write or primary; or leave it out"
                ));
            }
        },
        "channel_binding" => {
            address.channel_binding = Some(one_of(
                name,
                value,
                &[
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ],
            )?);
        }
        "sslmode" => {
            collected.mode = Some(one_of(
                name,
                value,
                &[
                    ("disable", TlsMode::Disable),
                    ("allow", TlsMode::Allow),
                    ("prefer", TlsMode::Prefer),
                    ("require", TlsMode::Require),
                    ("verify-ca", TlsMode::VerifyCa),
                    ("verify-full", TlsMode::VerifyFull),
                ],
            )?);
        }
        // JDBC's, which libpq takes too.
        "ssl" => {
            let mode = [("true", TlsMode::Require), ("false", TlsMode::Disable)];
            collected.mode = Some(one_of(name, value, &mode)?);
        }
        "requiressl" => {
            let mode = [("1", TlsMode::Require), ("0", TlsMode::Prefer)];
            collected.mode = Some(one_of(name, value, &mode)?);
        }
        "sslrootcert" => {
            address.tls.authorities = match value {
                "" => Authorities::Unnamed,
                "system" => Authorities::System,
                path => Authorities::File(path.to_owned()),
            };
        }
        "sslcert" => collected.client_cert = text(),
        "sslkey" => collected.client_key = text(),
        "sslcertmode" => match value {
            "allow" => collected.sends_no_certificate = false,
            "disable" => collected.sends_no_certificate = true,
            _ => return Err(format!("`{name}`: only allow and disable are supported")),
        },
        "sslnegotiation" => {
            address.tls.is_direct = one_of(name, value, &[("postgres", false), ("direct", true)])?;
        }
        "sslsni" => {
            address.tls.hides_name = one_of(name, value, &[("1", false), ("0", true)])?;
        }
        "ssl_min_protocol_version" => {
            address.tls.versions.without_12 = match value {
                "TLSv1.3" => true,
                "" | "TLSv1" | "TLSv1.1" | "TLSv1.2" => false,
                _ => return Err(format!("`{name}`: expected TLSv1.2 or TLSv1.3")),
            };
        }
        "ssl_max_protocol_version" => {
            address.tls.versions.without_13 = match value {
                "TLSv1.2" => true,
                "" | "TLSv1.3" => false,
                _ => return Err(format!("`{name}`: expected TLSv1.2 or TLSv1.3")),
            };
        }
        "client_encoding" => {
            if !["", "auto", "utf8", "utf-8", "unicode"].contains(&value.to_lowercase().as_str()) {
                return Err(format!(
                    "`{name}`: the engine speaks UTF8 only; leave it out"
                ));
            }
        }
        "gssencmode" => {
            if value == "require" {
                return Err(format!(
                    "`{name}`: GSSAPI is not supported; use disable, and TLS (`sslmode`) for encryption"
                ));
            }
        }
        _ if IGNORED.contains(&name) => {}
        "schema" | "currentSchema" if value == "public" => {}
        _ => return Err(refusal(name)),
    }
    Ok(())
}

/// Parameters that change nothing here: libpq's for what is not used, and other drivers' for what the engine does as
/// they ask anyway, such as leaving no prepared statement in a pooler's session.
const IGNORED: [&str; 13] = [
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "min_protocol_version",
    "sslcompression",
    // Prisma, asyncpg, JDBC, lib/pq, node-postgres, Supabase's and Vercel's addresses.
    "pgbouncer",
    "statement_cache_size",
    "prepared_statement_cache_size",
    "prepareThreshold",
    "binary_parameters",
    "uselibpqcompat",
    "supa",
    "workaround",
];

/// Why a parameter is not taken, and what to do.
fn refusal(name: &str) -> String {
    let advice = match name {
        "connection_limit" | "pool_size" | "pool_max_conns" | "max_connections" => {
            "remove it, and set database.pool_size in the configuration"
        }
        "pool_timeout" => "remove it, and set database.connect_timeout_ms in the configuration",
        "statement_timeout" | "socket_timeout" => {
            "remove it, and set database.statement_timeout_ms in the configuration"
        }
        "schema" | "currentSchema" | "search_path" => {
            "remove it, and name the schema in the entity's table (table = \"schema.todos\"), or set the role's \
             search_path (ALTER ROLE … SET search_path = …)"
        }
        "sslaccept" => "that is Prisma's; use sslmode: require, verify-ca or verify-full",
        "sslidentity" => "a PKCS#12 file is not supported; use sslcert and sslkey, with PEM files",
        "sslpassword" => {
            "an encrypted key is not supported; decrypt it (openssl pkey -in … -out …)"
        }
        "sslcrl" | "sslcrldir" => "revocation lists are not supported; remove it",
        "passfile" => {
            "a password file is not supported; put the password in the address or in DATABASE_URL"
        }
        "service" | "servicefile" => {
            "a service file is not supported; write the host, user and database into the address"
        }
        "require_auth" => {
            "it is not supported; channel_binding=require makes sure of the server too"
        }
        "requirepeer" => "it is not supported; remove it",
        "replication" => "the engine uses no replication connection; remove it",
        "max_protocol_version" => "only protocol 3.0 is spoken; remove it",
        "socket" => "write host=/directory/of/the/socket",
        _ => "it is not one of libpq's, or not supported; remove it",
    };
    let is_name = name.len() <= 40 && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    if is_name {
        format!("the parameter `{name}` is not supported: {advice}")
    } else {
        "a parameter is not supported".to_owned()
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .trim()
        .parse()
        .map_err(|_| format!("`{name}`: expected a whole number"))
}

fn seconds(name: &str, value: &str) -> Result<Option<Duration>, String> {
    let seconds: i64 = number(name, value)?;
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    Ok(seconds.map(Duration::from_secs))
}

fn list<T>(name: &str, value: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let items: Option<Vec<T>> = value.split(',').map(parse).collect();
    items.ok_or_else(|| format!("`{name}`: one of its values cannot be right"))
}

fn one_of<T: Copy>(name: &str, value: &str, values: &[(&str, T)]) -> Result<T, String> {
    let found = values.iter().find(|(text, _)| *text == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let texts: Vec<&str> = values.iter().map(|(text, _)| *text).collect();
        format!("`{name}`: expected {}", texts.join(", "))
    })
}
