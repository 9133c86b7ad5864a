//! TLS as libpq does it: who may sign the server's certificate, whether its name counts, and which certificate the
//! client shows.

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme, version,
};

use super::address::{Authorities, TlsMode, TlsOptions};
use crate::error::{DbError, DbResult};

/// The name of PostgreSQL's protocol, which a server asks for when the handshake comes first.
const PROTOCOL: &[u8] = b"postgresql";

/// The configuration of rustls that does what an address says.
pub(super) fn client_config(options: &TlsOptions) -> DbResult<ClientConfig> {
    if options.mode == TlsMode::Disable {
        // Never used. The files need not be there.
        return client_config(&TlsOptions::default());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = [
        (!options.versions.without_12).then_some(&version::TLS12),
        (!options.versions.without_13).then_some(&version::TLS13),
    ];
    let versions: Vec<_> = versions.into_iter().flatten().collect();
    let unusable = |error: rustls::Error| DbError::Url(format!("TLS: {error}"));
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier {
            provider,
            trusted: trusted(options)?,
            checks_name: options.mode == TlsMode::VerifyFull,
        }));
    let mut config = match &options.client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates("sslcert", cert)?;
            ensure_private(key)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                DbError::Url(format!(
                    "sslkey {key:?}: {error}; it has to be an unencrypted PEM file"
                ))
            })?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| DbError::Url(format!("sslcert {cert:?} with sslkey: {error}")))?
        }
    };
    config.enable_sni = !options.hides_name;
    if options.is_direct {
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
    }
    Ok(config)
}

/// Whom to believe.
#[derive(Debug)]
struct Trusted {
    roots: RootCertStore,
    /// The same as they are in the file. A server may show one of them itself: a certificate that is its own authority,
    /// as the manual of PostgreSQL makes it.
    listed: Vec<CertificateDer<'static>>,
}

/// Who may sign the server's certificate; `None` when any certificate will do. As libpq does, a file is believed
/// whatever the mode, so `require` with one is `verify-ca`.
fn trusted(options: &TlsOptions) -> DbResult<Option<Trusted>> {
    let mut roots = RootCertStore::empty();
    let mut listed = Vec::new();
    match &options.authorities {
        Authorities::Unnamed if options.mode < TlsMode::VerifyCa => return Ok(None),
        Authorities::Unnamed => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Authorities::System => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(DbError::Url(
                    "sslrootcert=system: this system has no root certificates".to_owned(),
                ));
            }
        }
        Authorities::File(path) => {
            listed = certificates("sslrootcert", path)?;
            for certificate in &listed {
                roots
                    .add(certificate.clone())
                    .map_err(|error| DbError::Url(format!("sslrootcert {path:?}: {error}")))?;
            }
        }
    }
    Ok(Some(Trusted { roots, listed }))
}

fn certificates(name: &str, path: &str) -> DbResult<Vec<CertificateDer<'static>>> {
    let unreadable = |error| DbError::Url(format!("{name} {path:?}: {error}"));
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect();
    let certificates = certificates.map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(DbError::Url(format!(
            "{name} {path:?}: the file has no certificate in PEM format"
        )));
    }
    Ok(certificates)
}

/// As libpq does, a key that others may read is not used: only its owner may, or root's group if it is root's.
fn ensure_private(path: &str) -> DbResult<()> {
    let metadata =
        fs::metadata(path).map_err(|error| DbError::Url(format!("sslkey {path:?}: {error}")))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(DbError::Url(format!(
            "sslkey {path:?}: others may read the key; chmod 600 it"
        )));
    }
    Ok(())
}

/// Checks the server's certificate as far as the mode says.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trusted: Option<Trusted>,
    checks_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trusted) = &self.trusted {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            if !trusted.listed.contains(end_entity) {
                verify_server_cert_signed_by_trust_anchor(
                    &certificate,
                    &trusted.roots,
                    intermediates,
                    now,
                    algorithms,
                )?;
            }
            if self.checks_name {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Why a handshake failed in a way that the next attempt will too, and what to do. Of an error and its sources.
pub(super) fn lasting(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An error that IO wraps is not its source, but in it.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = inner.or_else(|| error.downcast_ref::<rustls::Error>()) {
            return lasting_of_tls(tls);
        }
        next = error.source();
    }
    None
}

fn lasting_of_tls(error: &rustls::Error) -> Option<String> {
    use CertificateError as Bad;
    let advice = match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "use a name of the certificate (among its subject's alternative names), or sslmode=verify-ca"
            }
            Bad::UnknownIssuer => {
                "name the authority that signed it: sslrootcert=FILE, or sslrootcert=system"
            }
            Bad::Expired | Bad::ExpiredContext { .. } => "the server needs a new one",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => "one of the two clocks is wrong",
            // Its own authority.
            Bad::Other(_) => {
                "name the certificate itself, if it is the server's own: sslrootcert=FILE"
            }
            _ => "the server needs another one",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                "the server asks for a client's certificate: sslcert and sslkey"
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => {
                "the server does not take the certificate of sslcert"
            }
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
                "the server offers neither TLS 1.2 nor 1.3 with a cipher that is still considered safe"
            }
            AlertDescription::NoApplicationProtocol => "remove sslnegotiation=direct",
            _ => return None,
        },
        rustls::Error::PeerIncompatible(_) => {
            "the server offers neither TLS 1.2 nor 1.3 with a cipher that is still considered safe"
        }
        _ => return None,
    };
    Some(format!("TLS: {error}; {advice}"))
}
