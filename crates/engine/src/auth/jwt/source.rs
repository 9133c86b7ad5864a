//! Where published keys are read from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::jwt::{KEY_SET_BYTES_MAX, KeySet};
use hyper::Uri;
use tokio::io::AsyncReadExt as _;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::error::{JwtConfigError, ReadError};
use super::fetch;

/// A file or a URL.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Url {
        url: Uri,
        tls: Arc<ClientConfig>,
    },
    /// Of tests: answers are taken from a queue, and counted.
    #[cfg(test)]
    Queue(std::sync::Mutex<Queue>),
}

/// The number of reads, and the answers to the next ones, the last of them first.
#[cfg(test)]
type Queue = (usize, Vec<Result<Vec<u8>, ReadError>>);

impl Source {
    pub(super) fn file(path: PathBuf) -> Self {
        Self::File(path)
    }

    pub(super) fn url(url: Uri, certificates: Option<&Path>) -> Result<Self, JwtConfigError> {
        let host = url.host().unwrap_or_default();
        let is_local = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback());
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if is_local => {}
            Some("http") => {
                return Err(JwtConfigError::Url(
                    "http is for this machine only; use https",
                ));
            }
            _ => return Err(JwtConfigError::Url("it must begin with https://")),
        }
        if host.is_empty()
            || url
                .authority()
                .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(JwtConfigError::Url("it must name a host, and no user"));
        }
        let tls = Arc::new(tls(certificates)?);
        Ok(Self::Url { url, tls })
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "jwks_file",
            Self::Url { .. } => "jwks_url",
            #[cfg(test)]
            Self::Queue(_) => "queue",
        }
    }

    pub(super) async fn read(&self) -> Result<KeySet, ReadError> {
        let document = match self {
            Self::File(path) => read_file(path).await?,
            Self::Url { url, tls } => fetch::get(url, tls).await?,
            #[cfg(test)]
            Self::Queue(queue) => {
                let answer = {
                    let mut queue = queue.lock().expect("the queue");
                    queue.0 += 1;
                    queue.1.pop()
                };
                tokio::task::yield_now().await;
                answer.unwrap_or(Err(ReadError::Unreachable))?
            }
        };
        Ok(KeySet::read(&document)?)
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, ReadError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|_| ReadError::File)?;
    let mut document = Vec::new();
    // One byte more tells that there are more.
    let mut file = file.take(KEY_SET_BYTES_MAX as u64 + 1);
    file.read_to_end(&mut document)
        .await
        .map_err(|_| ReadError::File)?;
    Ok(document)
}

fn tls(certificates: Option<&Path>) -> Result<ClientConfig, JwtConfigError> {
    let mut roots = RootCertStore::empty();
    match certificates {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unreadable = |_| JwtConfigError::Certificates;
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                roots
                    .add(certificate)
                    .map_err(|_| JwtConfigError::Certificates)?;
            }
            if roots.is_empty() {
                return Err(JwtConfigError::Certificates);
            }
        }
    }
    // By name: the process may have chosen another provider, or none.
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| JwtConfigError::Certificates)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
