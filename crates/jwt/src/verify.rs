//! The verification of a token, from its size to its claims.

use crate::claims::VerifiedToken;
use crate::compact::Compact;
use crate::error::TokenError;
use crate::header::Header;
use crate::key_set::KeySet;
use crate::rules::Rules;

/// Verifies a token at a time, in milliseconds since 1970-01-01 UTC.
///
/// # Errors
/// When the token is not valid. [`TokenError::UnknownKey`] is found before any cryptography, so a caller may look
/// for newer keys and verify the token again.
pub fn verify(
    token: &str,
    keys: &KeySet,
    rules: &Rules,
    now_ms: u64,
) -> Result<VerifiedToken, TokenError> {
    let token = Compact::split(token)?;
    let header = Header::read(&token.header()?)?;
    if !rules.algorithms.contains(&header.algorithm) {
        return Err(TokenError::Algorithm);
    }
    let candidates = keys.candidates(header.kid.as_deref(), header.algorithm)?;
    let signature = token.signature()?;
    let signed = token.signed.as_bytes();
    let mut candidates = candidates.into_iter();
    let signer = candidates.find(|key| key.verifies(header.algorithm, signed, &signature));
    let signer = signer.ok_or(TokenError::Signature)?;
    Ok(VerifiedToken {
        key_id: signer.id.clone(),
        ..VerifiedToken::read(&token.claims()?, rules, now_ms)?
    })
}
