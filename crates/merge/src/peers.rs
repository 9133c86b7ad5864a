//! What other databases are known to have, so that nothing is folded or purged that one of them may not know of.
//!
//! A database refuses its clients' writes up to its *horizon*, which only rises. A replica that has merged all of what it had
//! when its horizon was H lacks nothing of it up to H, then or later. Each database passes on the horizons of others that it has
//! passed, and what it knows that others have passed (a matrix clock, G. Wuu and A. Bernstein, "Efficient Solutions to the
//! Replicated Log and Dictionary Problems", PODC 1984). The least of all is the *frontier*.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, NodeId};

/// How many databases a changeset may tell of.
pub const DATABASES_MAX: usize = 64;

/// For each database, the horizons of all that it has passed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Horizons(BTreeMap<NodeId, BTreeMap<NodeId, Clock>>);

/// The databases that come together with one, as it knows them.
#[derive(Debug, Clone)]
pub struct Peers {
    own: NodeId,
    horizons: Horizons,
    /// The known ones, with when they were last heard of, in milliseconds from 1970.
    heard_ms: BTreeMap<NodeId, u64>,
}

/// What is wrong with what a peer told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It was silent for so long that others have forgotten what it does not know. It must begin again.
    #[error("{peer} is not known, or not any more: it must begin again")]
    Unknown {
        /// Whose changeset it is.
        peer: NodeId,
    },
    /// It tells of more databases than [`DATABASES_MAX`].
    #[error("a changeset tells of at most {DATABASES_MAX} databases")]
    TooMany,
}

impl Peers {
    /// A database without peers.
    pub fn new(own: NodeId) -> Self {
        let (horizons, heard_ms) = (Horizons::default(), BTreeMap::new());
        Self {
            own,
            horizons,
            heard_ms,
        }
    }

    /// A database with what it has stored of itself, of its peers, and of those that they told of.
    pub fn stored(
        own: NodeId,
        peers: impl IntoIterator<Item = NodeId>,
        horizons: Horizons,
    ) -> Self {
        let told = horizons.iter().flat_map(|(who, whose, _)| [who, whose]);
        let told: Vec<NodeId> = told.filter(|node| **node != own).cloned().collect();
        let all = peers.into_iter().chain(told);
        let heard_ms = all.map(|peer| (peer, 0)).collect();
        Self {
            own,
            horizons,
            heard_ms,
        }
    }

    /// Whether no other database is known.
    pub fn is_alone(&self) -> bool {
        self.heard_ms.is_empty()
    }

    /// Begins with a peer, from nothing: it has, or will be given, everything that is here.
    pub fn add(&mut self, peer: NodeId, time_ms: u64) {
        self.heard_ms.insert(peer, time_ms);
    }

    /// Raises the own horizon: writes up to it are refused from now on. A lower one changes nothing.
    pub fn raise_horizon(&mut self, horizon: Clock) {
        let own = self.own.clone();
        self.horizons.pass(&own, &own, horizon);
    }

    /// Up to where writes are refused.
    pub fn horizon(&self) -> Option<&Clock> {
        self.horizons.0.get(&self.own)?.get(&self.own)
    }

    /// What the last page of a complete changeset tells.
    pub fn horizons(&self) -> &Horizons {
        &self.horizons
    }

    /// Whether a peer is known.
    pub fn knows(&self, peer: &NodeId) -> bool {
        self.heard_ms.contains_key(peer)
    }

    /// Takes what a peer told, *after* all pages of its complete changeset have been merged.
    ///
    /// # Errors
    /// When the peer is not known, which is to be asked before its pages are merged: none of them may be.
    pub fn hear(&mut self, peer: &NodeId, told: &Horizons, time_ms: u64) -> Result<(), PeerError> {
        let is_large = |map: &BTreeMap<NodeId, Clock>| map.len() > DATABASES_MAX;
        if told.0.len() > DATABASES_MAX || told.0.values().any(is_large) {
            return Err(PeerError::TooMany);
        }
        let heard_ms = self.heard_ms.get_mut(peer);
        let heard_ms = heard_ms.ok_or_else(|| PeerError::Unknown { peer: peer.clone() })?;
        *heard_ms = (*heard_ms).max(time_ms);
        for (who, passed) in &told.0 {
            for (whose, horizon) in passed {
                // Of itself each knows best.
                if *who != self.own {
                    self.horizons.pass(who, whose, horizon.clone());
                }
                if who == peer && *whose != self.own {
                    let own = self.own.clone();
                    self.horizons.pass(&own, whose, horizon.clone());
                }
            }
        }
        Ok(())
    }

    /// Up to where every known database has everything that any of them has admitted or will. Nothing above it is folded
    /// or purged. Without peers it is the own horizon.
    pub fn frontier(&self) -> Option<&Clock> {
        let all = || self.heard_ms.keys().chain([&self.own]);
        let passed = |who, whose| {
            self.horizons
                .0
                .get(who)
                .and_then(|passed| passed.get(whose))
        };
        all()
            .flat_map(|who| all().map(move |whose| passed(who, whose)))
            .min()
            .flatten()
    }

    /// Gives up the peers that were silent for longer than `silent_ms_max`, so that they hold the frontier back no more.
    /// Those that come back are refused.
    pub fn forget_silent(&mut self, time_ms: u64, silent_ms_max: u64) -> Vec<NodeId> {
        let is_silent = |heard_ms: u64| time_ms.saturating_sub(heard_ms) > silent_ms_max;
        let silent = self
            .heard_ms
            .iter()
            .filter(|(_, heard_ms)| is_silent(**heard_ms));
        let silent: Vec<NodeId> = silent.map(|(peer, _)| peer.clone()).collect();
        for peer in &silent {
            self.heard_ms.remove(peer);
            self.horizons.0.remove(peer);
            for passed in self.horizons.0.values_mut() {
                passed.remove(peer);
            }
        }
        silent
    }
}

impl FromIterator<(NodeId, NodeId, Clock)> for Horizons {
    /// Of who has passed, whose, and up to where.
    fn from_iter<All: IntoIterator<Item = (NodeId, NodeId, Clock)>>(all: All) -> Self {
        let mut horizons = Self::default();
        for (who, whose, clock) in all {
            horizons.pass(&who, &whose, clock);
        }
        horizons
    }
}

impl Horizons {
    /// Who has passed, whose, and up to where.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &NodeId, &Clock)> {
        let all = self.0.iter();
        all.flat_map(|(who, passed)| passed.iter().map(move |(whose, clock)| (who, whose, clock)))
    }

    fn pass(&mut self, who: &NodeId, whose: &NodeId, horizon: Clock) {
        let passed = self.0.entry(who.clone()).or_default();
        let known = passed
            .entry(whose.clone())
            .or_insert_with(|| horizon.clone());
        if *known < horizon {
            *known = horizon;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a node id")
    }

    fn at(millis: u64) -> Clock {
        Clock::new(millis, 0, &node("horizon"))
    }

    /// Three databases that know each other.
    fn three() -> [Peers; 3] {
        let names = ["a", "b", "c"].map(node);
        [0, 1, 2].map(|own| {
            let mut peers = Peers::new(names[own].clone());
            for peer in names.iter().filter(|peer| **peer != names[own]) {
                peers.add(peer.clone(), 0);
            }
            peers
        })
    }

    fn tell(all: &mut [Peers; 3], from: usize, to: usize, time_ms: u64) -> Result<(), PeerError> {
        let (node, horizons) = (all[from].own.clone(), all[from].horizons().clone());
        all[to].hear(&node, &horizons, time_ms)
    }

    #[test]
    fn the_frontier_waits_for_a_silent_database_until_it_is_given_up_and_then_refuses_it() {
        let mut all = three();
        for (database, horizon) in all.iter_mut().zip([10, 20, 30]) {
            database.raise_horizon(at(horizon));
        }
        for _ in 0..2 {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (2, 1), (1, 0)] {
                tell(&mut all, from, to, 1).expect("they know each other");
            }
        }
        assert_eq!(all[0].frontier(), Some(&at(10)));
        // The third is silent; the others' horizons rise.
        for horizon in [50, 60] {
            all[0].raise_horizon(at(horizon));
            all[1].raise_horizon(at(horizon));
            tell(&mut all, 0, 1, horizon).expect("they know each other");
            tell(&mut all, 1, 0, horizon).expect("they know each other");
        }
        assert_eq!(all[0].frontier(), Some(&at(10)));
        assert_eq!(all[0].forget_silent(60, 50), [node("c")]);
        assert_eq!(all[0].frontier(), Some(&at(60)));
        let refused = tell(&mut all, 2, 0, 61);
        assert_eq!(refused, Err(PeerError::Unknown { peer: node("c") }));
    }

    #[test]
    fn what_a_database_says_of_another_reaches_a_third_through_it() {
        let mut all = three();
        for database in &mut all {
            database.raise_horizon(at(10));
        }
        // The first and the third never meet.
        for _ in 0..3 {
            for (from, to) in [(0, 1), (1, 2), (2, 1), (1, 0)] {
                tell(&mut all, from, to, 1).expect("they know each other");
            }
        }
        for database in &all {
            assert_eq!(database.frontier(), Some(&at(10)));
        }
    }

    #[test]
    fn a_horizon_never_sinks_and_nothing_is_known_before_all_have_told() {
        let mut all = three();
        all[0].raise_horizon(at(10));
        all[0].raise_horizon(at(5));
        assert_eq!(all[0].horizon(), Some(&at(10)));
        assert_eq!(all[0].frontier(), None);
        let alone = {
            let mut alone = Peers::new(node("alone"));
            alone.raise_horizon(at(10));
            alone
        };
        assert_eq!(alone.frontier(), Some(&at(10)));
    }
}
