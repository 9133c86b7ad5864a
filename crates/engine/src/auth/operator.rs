//! The operator's token: who shows it is told how the server and all its clients are doing.

use std::fmt;
use std::hint::black_box;

/// The fewest bytes of an operator's token.
const BYTES_MIN: usize = 32;

/// A secret that operators show to read `status` in full.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorToken(String);

/// The token could be guessed, or cannot stand in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an operator's token has at least {BYTES_MIN} bytes, all of them visible ASCII characters")]
pub struct OperatorTokenError;

impl OperatorToken {
    /// Takes a token of at least 32 bytes.
    ///
    /// # Errors
    /// When it is shorter, or has other characters than visible ASCII.
    pub fn new(token: impl Into<String>) -> Result<Self, OperatorTokenError> {
        let token = token.into();
        let is_usable =
            token.len() >= BYTES_MIN && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_usable.then_some(Self(token)).ok_or(OperatorTokenError)
    }

    /// The token, for a request's header.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Whether this is the token. It takes as long for every text of one length.
    pub(crate) fn is(&self, shown: &str) -> bool {
        let (own, shown) = (self.0.as_bytes(), shown.as_bytes());
        let differences = own
            .iter()
            .zip(shown)
            .fold(0, |differences, (own, shown)| differences | (own ^ shown));
        own.len() == shown.len() && black_box(differences) == 0
    }
}

/// Without the secret.
impl fmt::Debug for OperatorToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OperatorToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let text = "0123456789abcdef0123456789abcdef";
        let token = OperatorToken::new(text).expect("a token");
        assert!(token.is(text));
        for other in ["", &text[1..], &text.to_uppercase(), &format!("{text}0")] {
            assert!(!token.is(other), "{other}");
        }
        assert!(!format!("{token:?}").contains("0123"));
        for bad in [&text[1..], &"é".repeat(32), &format!("{text} ")] {
            assert_eq!(OperatorToken::new(bad), Err(OperatorTokenError), "{bad}");
        }
    }
}
