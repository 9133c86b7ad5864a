//! The chain of a client's mutations: how a number that was used for other writes is found out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The length of a chain, in bytes.
pub const CHAIN_BYTES: usize = 16;

/// Stands for a client's mutations up to one of them, in their order and with their writes. On the wire it is 32
/// lower-case hexadecimal digits.
///
/// The chain of a mutation is the first 16 bytes of `SHA-256(chain before it ‖ SHA-256(writes))`, where `writes` is
/// the UTF-8 text of the array as it is sent. Before the first mutation it is 16 zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chain(pub [u8; CHAIN_BYTES]);

/// A text that is not a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chain is 32 hexadecimal digits in lower case")]
pub struct NotAChain;

impl Chain {
    /// The chain before a client's first mutation.
    pub const START: Self = Self([0; CHAIN_BYTES]);
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({self})")
    }
}

impl From<Chain> for String {
    fn from(chain: Chain) -> Self {
        chain.to_string()
    }
}

impl FromStr for Chain {
    type Err = NotAChain;

    fn from_str(text: &str) -> Result<Self, NotAChain> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotAChain),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != CHAIN_BYTES || !rest.is_empty() {
            return Err(NotAChain);
        }
        let mut bytes = [0; CHAIN_BYTES];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Chain {
    type Error = NotAChain;

    fn try_from(text: String) -> Result<Self, NotAChain> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_32_digits_in_lower_case() {
        let text = "000102030405060708090a0b0c0d0eff";
        let chain: Chain = text.parse().expect("a chain");
        assert_eq!(chain.to_string(), text);
        let too_long = format!("{text}00");
        let upper_case = text.to_uppercase();
        for wrong in [
            "",
            "00",
            &text[1..],
            &too_long,
            &upper_case,
            "0001020304050607é8090a0b0c0d0e",
        ] {
            assert_eq!(wrong.parse::<Chain>(), Err(NotAChain), "{wrong}");
        }
    }
}
