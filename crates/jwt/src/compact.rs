//! The compact form of a signed token: three texts in base64url, with points between them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::TokenError;

/// The largest token, in bytes. Larger ones are refused before anything of them is looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token in its parts, none of them decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compact<'a> {
    /// What the signature is of.
    pub(crate) signed: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Compact<'a> {
    pub(crate) fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        match claims.bytes().filter(|byte| *byte == b'.').count() {
            0 => Ok(Self {
                signed,
                header,
                claims,
                signature,
            }),
            // Five parts are an encrypted token.
            2 => Err(TokenError::Unsupported),
            _ => Err(TokenError::Malformed),
        }
    }

    pub(crate) fn header(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.header)
    }

    pub(crate) fn claims(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.claims)
    }

    pub(crate) fn signature(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.signature)
    }
}

/// Decodes base64url without padding. Of several texts for the same bytes only one is accepted.
fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(token: &str) -> TokenError {
        let parts = Compact::split(token).and_then(|parts| {
            parts.header()?;
            parts.claims()?;
            parts.signature()
        });
        parts.expect_err(token)
    }

    #[test]
    fn only_three_texts_in_base64url_are_a_token() {
        for token in [
            "",
            ".",
            "..",
            "...",
            "YQ",
            "YQ.YQ",
            "YQ.YQ.",
            ".YQ.YQ",
            "YQ..YQ",
            "YQ.YQ.YQ.YQ",
            "YQ.YQ.YQ=",
            "YQ==.YQ.YQ",
            "YQ.YR.YQ",
            "Y+.YQ.YQ",
            "YQ.Y/.YQ",
            " YQ.YQ.YQ",
            "YQ.YQ.YQ ",
            "YQ.YQ\n.YQ",
            "YQ.YQ.\0",
            "é.YQ.YQ",
        ] {
            assert_eq!(error(token), TokenError::Malformed, "{token:?}");
        }
        assert_eq!(error("YQ.YQ.YQ.YQ.YQ"), TokenError::Unsupported);
        assert!(Compact::split("YQ.YQ.YQ").is_ok());
    }

    #[test]
    fn a_megabyte_is_refused_by_its_size() {
        assert_eq!(error(&"a.".repeat(500_000)), TokenError::TooLarge);
        assert_eq!(
            error(&"a".repeat(TOKEN_BYTES_MAX + 1)),
            TokenError::TooLarge
        );
        assert_eq!(error(&"a".repeat(TOKEN_BYTES_MAX)), TokenError::Malformed);
    }
}
