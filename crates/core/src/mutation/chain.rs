//! Which mutation a client's number stands for.
//!
//! A client counts its mutations, and the server applies each number once. But a store that was rolled back or
//! copied counts on from an old number, and anybody may use a client's id: then a number comes again with other
//! writes, and an ack for it would lose them. So the server keeps the chain of each client's last mutations.
//!
//! Invariants:
//! 1. A number is [`Turn::Next`] for exactly one number, the one after the last.
//! 2. A number whose chain is kept is [`Turn::Answered`] only with the writes, and after the mutations, with which
//!    it was `Next`.
//! 3. What cannot be compared any more is [`Turn::Forgotten`], never answered.

use protocol::Chain;
use protocol::chain::CHAIN_BYTES;
use sha2::{Digest as _, Sha256};

/// How many of a client's last mutations the server can compare: more than a client may have under way.
pub const CHAINS_KEPT: u64 = 64;

/// The size of [`KeptChains`] in bytes.
const KEPT_BYTES: usize = CHAINS_KEPT as usize * CHAIN_BYTES;

/// Stands for the writes of one mutation: the SHA-256 of their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WritesDigest(pub [u8; 32]);

impl WritesDigest {
    /// The digest of the `writes` array's text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// The chain of a mutation with these writes that comes after those of another chain.
    pub fn after(&self, before: Chain) -> Chain {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(before.0)
            .chain_update(self.0)
            .finalize()
            .into();
        let mut chain = Chain::START;
        chain.0.copy_from_slice(&hash[..CHAIN_BYTES]);
        chain
    }
}

/// What a mutation says of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub number: u64,
    /// The chain that the client gave it, if it keeps one.
    pub claimed: Option<Chain>,
    /// Its writes.
    pub digest: WritesDigest,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It comes next, and this is its chain.
    Next(Chain),
    /// It was answered before.
    Answered,
    /// Another number comes next.
    OutOfOrder {
        /// That number.
        expected: u64,
    },
    /// The number stands for other writes, or the mutations before it are others.
    Forked,
    /// It is older than the chains that are kept.
    Forgotten,
}

/// The chains of a client's last mutations, as they are stored: that of number `n` is at `n % CHAINS_KEPT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptChains {
    /// The last number, 0 before the first.
    last: u64,
    chains: Vec<u8>,
}

impl Default for KeptChains {
    fn default() -> Self {
        Self::stored(0, Vec::new())
    }
}

impl KeptChains {
    /// From what is stored. What is missing counts as unknown: mutations from before chains were kept.
    pub fn stored(last: u64, mut chains: Vec<u8>) -> Self {
        chains.resize(KEPT_BYTES, 0);
        Self { last, chains }
    }

    /// What to store.
    pub fn bytes(&self) -> &[u8] {
        &self.chains
    }

    /// The last number, 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The chain up to the last number; none when it is unknown.
    pub fn last_chain(&self) -> Option<Chain> {
        self.known(self.last)
    }

    /// Whose turn it is when this mutation comes.
    pub fn turn(&self, place: &Place) -> Turn {
        let Place {
            number, claimed, ..
        } = *place;
        let expected = self.last.saturating_add(1);
        if number == 0 || number > expected {
            return Turn::OutOfOrder { expected };
        }
        if number == expected {
            return match (self.chain_of(place), claimed) {
                (Some(chain), Some(claimed)) if chain != claimed => Turn::Forked,
                (Some(chain), _) => Turn::Next(chain),
                // The first chain after mutations from before chains were kept.
                (None, Some(claimed)) => Turn::Next(claimed),
                (None, None) => Turn::Next(place.digest.after(Chain::START)),
            };
        }
        if self.last - number >= CHAINS_KEPT {
            return Turn::Forgotten;
        }
        let Some(kept) = self.known(number) else {
            return Turn::Answered;
        };
        match (self.chain_of(place), claimed) {
            (Some(chain), _) if chain != kept => Turn::Forked,
            (_, Some(claimed)) if claimed != kept => Turn::Forked,
            (None, None) => self.without_a_predecessor(place, kept),
            _ => Turn::Answered,
        }
    }

    /// Takes the mutation that comes next.
    pub fn push(&mut self, chain: Chain) {
        self.last += 1;
        let at = at(self.last);
        self.chains[at..at + CHAIN_BYTES].copy_from_slice(&chain.0);
    }

    /// The turn of a number whose predecessor's chain is unknown, and that claims none.
    fn without_a_predecessor(&self, place: &Place, kept: Chain) -> Turn {
        if self.last - place.number == CHAINS_KEPT - 1 {
            Turn::Forgotten
        } else if place.digest.after(Chain::START) == kept {
            Turn::Answered
        } else {
            Turn::Forked
        }
    }

    /// The chain that a number has with these writes; none when its predecessor's is unknown.
    fn chain_of(&self, place: &Place) -> Option<Chain> {
        let before = match place.number {
            1 => Chain::START,
            number if self.last - (number - 1) >= CHAINS_KEPT => return None,
            number => self.known(number - 1)?,
        };
        Some(place.digest.after(before))
    }

    fn known(&self, number: u64) -> Option<Chain> {
        let mut chain = Chain::START;
        let at = at(number);
        chain.0.copy_from_slice(&self.chains[at..at + CHAIN_BYTES]);
        (number > 0 && chain != Chain::START).then_some(chain)
    }
}

/// Where a number's chain is stored.
fn at(number: u64) -> usize {
    usize::try_from(number % CHAINS_KEPT).unwrap_or(0) * CHAIN_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(number: u64, claimed: Option<Chain>, writes: &str) -> Place {
        Place {
            number,
            claimed,
            digest: WritesDigest::of(writes),
        }
    }

    #[test]
    fn the_chain_is_that_of_the_documentation() {
        let writes = r#"[{"entity":"todos","op":"create","values":{"title":"a","n":1.10}}]"#;
        let first = WritesDigest::of(writes).after(Chain::START);
        assert_eq!(first.to_string(), "f8b77715cbb420560d06d7c9b7bdc429");
        let second = WritesDigest::of(
            r#"[{"entity":"todos","op":"update","key":"1","values":{"title":"é 😀"}}]"#,
        )
        .after(first);
        assert_eq!(second.to_string(), "4f46c6effcf096a040222d6241357c6b");
    }

    #[test]
    fn numbers_from_before_chains_were_kept_are_answered() {
        let old = KeptChains::stored(40, Vec::new());
        assert_eq!(old.last_chain(), None);
        assert_eq!(old.turn(&place(40, None, "a")), Turn::Answered);
        let claimed = Chain([7; CHAIN_BYTES]);
        assert_eq!(
            old.turn(&place(41, Some(claimed), "a")),
            Turn::Next(claimed)
        );
    }

    proptest! {
        /// One store and its copy push into one server, each at its own pace and with its own writes.
        #[test]
        fn only_the_mutation_that_was_applied_is_answered(
            history in prop::collection::vec((0_u8..3, any::<bool>()), 1..150),
            pushes in prop::collection::vec((0_u64..160, 0_u8..3, any::<bool>()), 1..60),
        ) {
            let mut kept = KeptChains::default();
            let mut applied = vec![(String::new(), Chain::START)];
            for (writes, claims) in history {
                let (writes, number) = (writes.to_string(), kept.last() + 1);
                let chain = WritesDigest::of(&writes).after(applied[applied.len() - 1].1);
                let turn = kept.turn(&place(number, claims.then_some(chain), &writes));
                prop_assert_eq!(turn, Turn::Next(chain));
                kept.push(chain);
                applied.push((writes, chain));
            }
            let last = kept.last();
            prop_assert_eq!(kept.last_chain(), Some(applied[applied.len() - 1].1));
            for (number, writes, claims) in pushes {
                let writes = writes.to_string();
                let before = usize::try_from(number).unwrap_or(0).checked_sub(1);
                let before = before.and_then(|before| applied.get(before));
                let chain = before.map(|(_, before)| WritesDigest::of(&writes).after(*before));
                let turn = kept.turn(&place(number, chain.filter(|_| claims), &writes));
                let is_the_same = applied
                    .get(usize::try_from(number).unwrap_or(0))
                    .is_some_and(|(same, _)| *same == writes);
                match turn {
                    Turn::Next(_) => prop_assert_eq!(number, last + 1),
                    Turn::Answered => prop_assert!(is_the_same && number <= last),
                    Turn::Forked => prop_assert!(!is_the_same && number <= last),
                    Turn::OutOfOrder { expected } => {
                        prop_assert_eq!(expected, last + 1);
                        prop_assert!(number == 0 || number > last + 1);
                    }
                    Turn::Forgotten => prop_assert!(last - number >= CHAINS_KEPT - 1),
                }
            }
        }

        #[test]
        fn a_chain_of_other_mutations_is_never_taken(
            writes in prop::collection::vec(0_u8..3, 0..100),
            number in 1_u64..110,
        ) {
            let mut kept = KeptChains::default();
            for writes in writes {
                let chain = WritesDigest::of(&writes.to_string())
                    .after(kept.last_chain().unwrap_or(Chain::START));
                kept.push(chain);
            }
            let stranger = Chain([9; CHAIN_BYTES]);
            let turn = kept.turn(&place(number, Some(stranger), "0"));
            prop_assert!(!matches!(turn, Turn::Next(_) | Turn::Answered), "{:?}", turn);
        }
    }
}
