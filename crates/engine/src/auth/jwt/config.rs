//! The configuration of tokens, and what of it cannot be.

use std::fmt;
use std::path::PathBuf;

use ::jwt::{Algorithm, AlgorithmFamily, KeySet, LEEWAY_MS_MAX, Rules};
use hyper::Uri;

use super::error::JwtConfigError;
use super::source::Source;

/// How tokens are verified: one of `jwt_secret`, `jwks_file` and `jwks_url`, and what a token must say. There is one
/// source of keys, so the keys of two issuers are never mixed up.
#[derive(Clone)]
#[non_exhaustive]
pub struct JwtConfig {
    /// The secret of HS256, HS384 or HS512, at least 32 bytes.
    pub jwt_secret: Option<String>,
    /// A file with a JSON Web Key Set. It is read again like `jwks_url`.
    pub jwks_file: Option<PathBuf>,
    /// Where the issuer publishes its JSON Web Key Set: `https`, or `http` on this machine. Redirects are not followed,
    /// and no proxy is used.
    pub jwks_url: Option<String>,
    /// Certificates in PEM that `jwks_url` may be signed by, instead of those that browsers trust.
    pub jwks_ca_file: Option<PathBuf>,
    /// After how long the keys are read again, in milliseconds, at least 10,000. Default 300,000. A key that is no longer
    /// published is used for that long; then the connections end whose tokens it signed.
    pub jwks_refresh_ms: u64,
    /// For how long keys are used that could not be read again, in milliseconds. Afterwards no token can be
    /// verified (`unavailable`) until they can. Default 3,600,000.
    pub jwks_age_max_ms: u64,
    /// The algorithms that are accepted (`ES256`). Default: `HS256` with a secret, else `ES256`, `RS256` and `EdDSA`.
    pub algorithms: Vec<String>,
    /// `iss` must be one of these. Default: not checked.
    pub issuer: Vec<String>,
    /// `aud` must name one of these. Default: not checked, so a token that the same issuer made for another
    /// application is accepted as well.
    pub audience: Vec<String>,
    /// `role`, where a token has one, must be one of these. Default: any but `service_role`, `supabase_admin`,
    /// `postgres` and `none`.
    pub roles: Vec<String>,
    /// By how much clocks may differ, in milliseconds, at most 60,000. Default 30,000.
    pub leeway_ms: u64,
    /// Whether clients without a token are let in, with the role `anon`. Default: no.
    pub anonymous: bool,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwks_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_refresh_ms: 300_000,
            jwks_age_max_ms: 3_600_000,
            algorithms: Vec::new(),
            issuer: Vec::new(),
            audience: Vec::new(),
            roles: Vec::new(),
            leeway_ms: 30_000,
            anonymous: false,
        }
    }
}

impl fmt::Debug for JwtConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JwtConfig")
            .field("jwt_secret", &self.jwt_secret.as_ref().map(|_| "…"))
            .field("jwks_file", &self.jwks_file)
            .field("jwks_url", &self.jwks_url)
            .field("algorithms", &self.algorithms)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// What [`JwtConfig`] means.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) rules: Rules,
    pub(super) keys: Keys,
}

/// Where keys come from.
#[derive(Debug)]
pub(super) enum Keys {
    Fixed(KeySet),
    Published(Source),
}

impl JwtConfig {
    pub(super) fn check(&self) -> Result<Checked, JwtConfigError> {
        if self.leeway_ms > LEEWAY_MS_MAX {
            return Err(JwtConfigError::Leeway);
        }
        for (name, value) in [
            ("jwks_refresh_ms", self.jwks_refresh_ms),
            ("jwks_age_max_ms", self.jwks_age_max_ms),
        ] {
            if value == 0 {
                return Err(JwtConfigError::Zero(name));
            }
        }
        let (keys, source) = match (&self.jwt_secret, &self.jwks_file, &self.jwks_url) {
            (Some(secret), None, None) => {
                let keys = KeySet::from_secret(secret).map_err(JwtConfigError::Secret)?;
                (Keys::Fixed(keys), "a secret")
            }
            (None, Some(path), None) => (Keys::Published(Source::file(path.clone())), "a key set"),
            (None, None, Some(url)) => {
                let url: Uri = url.parse().map_err(|_| JwtConfigError::Url("not a URL"))?;
                let source = Source::url(url, self.jwks_ca_file.as_deref())?;
                (Keys::Published(source), "a key set")
            }
            _ => return Err(JwtConfigError::Source),
        };
        let rules = Rules {
            algorithms: self.algorithms(matches!(keys, Keys::Fixed(_)), source)?,
            issuers: self.issuer.clone(),
            audiences: self.audience.clone(),
            roles: self.roles.clone(),
            leeway_ms: self.leeway_ms,
        };
        Ok(Checked { rules, keys })
    }

    fn algorithms(
        &self,
        secret: bool,
        source: &'static str,
    ) -> Result<Vec<Algorithm>, JwtConfigError> {
        if self.algorithms.is_empty() {
            return Ok(match secret {
                true => vec![Algorithm::HS256],
                false => vec![Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA],
            });
        }
        let named = self.algorithms.iter().map(|name| {
            let fits =
                |algorithm: &Algorithm| (algorithm.family() == AlgorithmFamily::Hmac) == secret;
            let algorithm = name.parse().ok().filter(fits);
            algorithm.ok_or_else(|| JwtConfigError::Algorithm(name.clone(), source))
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of the tests, longer than 32 bytes";

    fn error(change: impl FnOnce(&mut JwtConfig)) -> String {
        let mut config = JwtConfig::default();
        change(&mut config);
        config
            .check()
            .expect_err("cannot be configured")
            .to_string()
    }

    /// CVE-2026-49998: two issuers with one `kid`.
    #[test]
    fn there_is_exactly_one_source_of_keys() {
        assert!(error(|_| {}).contains("set one of"));
        let both = error(|config| {
            config.jwt_secret = Some(SECRET.to_owned());
            config.jwks_url = Some("https://id.example/jwks".to_owned());
        });
        assert!(both.contains("set one of"));
    }

    #[test]
    fn what_is_no_secret_is_refused_without_showing_it() {
        for (secret, reason) in [
            ("hunter2", "32 bytes"),
            ("-----BEGIN PUBLIC KEY-----\nMIIBIjAN", "public keys"),
        ] {
            let refused = error(|config| config.jwt_secret = Some(secret.to_owned()));
            assert!(
                refused.contains(reason) && !refused.contains(secret),
                "{refused}"
            );
        }
        let config = JwtConfig {
            jwt_secret: Some(SECRET.to_owned()),
            ..JwtConfig::default()
        };
        assert!(!format!("{config:?}").contains(SECRET));
    }

    /// CVE-2026-48522: keys of `file:`. CVE-2026-32301: an address made from claims, of which there is none here.
    #[test]
    fn a_url_is_https_or_on_this_machine() {
        let check = |url: &str| {
            JwtConfig {
                jwks_url: Some(url.to_owned()),
                ..JwtConfig::default()
            }
            .check()
        };
        for url in [
            "https://id.example/jwks",
            "https://id.example:8443/a?b=c",
            "http://127.0.0.1:1/",
            "http://localhost/",
            "http://[::1]:9/",
        ] {
            assert!(check(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "id.example",
            "/jwks",
            "http://id.example/jwks",
            "file:///etc/passwd",
            "data:text/plain,x",
            "ftp://id.example/",
            "https://user:word@id.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "https://",
        ] {
            assert!(matches!(check(url), Err(JwtConfigError::Url(_))), "{url}");
        }
    }

    #[test]
    fn algorithms_fit_the_keys() {
        let with = |algorithms: &[&str], secret: bool| {
            let mut config = JwtConfig {
                algorithms: algorithms.iter().map(|name| (*name).to_owned()).collect(),
                ..JwtConfig::default()
            };
            if secret {
                config.jwt_secret = Some(SECRET.to_owned());
            } else {
                config.jwks_url = Some("https://id.example/jwks".to_owned());
            }
            config.check().map(|checked| checked.rules.algorithms)
        };
        assert_eq!(with(&[], true).ok(), Some(vec![Algorithm::HS256]));
        assert_eq!(with(&["PS256"], false).ok(), Some(vec![Algorithm::PS256]));
        assert!(
            !with(&[], false)
                .expect("defaults")
                .contains(&Algorithm::HS256)
        );
        for (algorithms, secret) in [
            (["RS256"], true),
            (["HS256"], false),
            (["none"], true),
            (["none"], false),
            (["es256"], false),
        ] {
            assert!(with(&algorithms, secret).is_err(), "{algorithms:?}");
        }
    }

    #[test]
    fn leeway_is_at_most_a_minute() {
        let refused = error(|config| {
            config.jwt_secret = Some(SECRET.to_owned());
            config.leeway_ms = 60_001;
        });
        assert!(refused.contains("leeway_ms"), "{refused}");
    }
}
