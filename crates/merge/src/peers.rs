//! What other databases are known to have, so that nothing is folded or purged that one of them may not know of.
//!
//! A database refuses its clients' writes up to its *horizon*, which only rises. A replica that has merged all of what it had
//! when its horizon was H lacks nothing of it up to H, then or later. Each database passes on the horizons of others that it has
//! passed, and what it knows that others have passed (a matrix clock, G. Wuu and A. Bernstein, "Efficient Solutions to the
//! Replicated Log and Dictionary Problems", PODC 1984). The least of all is the *frontier*.

use std::collections::{BTreeMap, BTreeSet};

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
    others: BTreeSet<NodeId>,
    horizons: Horizons,
}

/// A peer tells of more than [`DATABASES_MAX`] databases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("of at most {DATABASES_MAX} databases it is known which has what")]
pub struct TooManyDatabases;

impl Peers {
    /// Of a database with these peers, and those that they told of.
    pub fn new(own: NodeId, peers: impl IntoIterator<Item = NodeId>, horizons: Horizons) -> Self {
        let told = horizons.iter().flat_map(|(who, whose, _)| [who, whose]);
        let told: Vec<NodeId> = told.filter(|node| **node != own).cloned().collect();
        let others = peers.into_iter().chain(told).collect();
        Self {
            own,
            others,
            horizons,
        }
    }

    /// Whether no other database is known.
    pub fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    /// Raises the own horizon: writes up to it are refused from now on. A lower one changes nothing.
    pub fn raise_horizon(&mut self, horizon: Clock) {
        let own = self.own.clone();
        self.horizons.pass(&own, &own, horizon);
    }

    /// What the database tells the others.
    pub fn horizons(&self) -> &Horizons {
        &self.horizons
    }

    /// Takes what a peer told, *after* all that it had when it told so has been merged.
    ///
    /// # Errors
    /// When it tells of too many databases: nothing is taken then.
    pub fn hear(&mut self, peer: &NodeId, told: &Horizons) -> Result<(), TooManyDatabases> {
        let is_large = |map: &BTreeMap<NodeId, Clock>| map.len() > DATABASES_MAX;
        if told.0.len() > DATABASES_MAX || told.0.values().any(is_large) {
            return Err(TooManyDatabases);
        }
        let own = self.own.clone();
        self.others.insert(peer.clone());
        for (who, whose, horizon) in told.iter() {
            let others = [who, whose].into_iter().filter(|node| **node != own);
            self.others.extend(others.cloned());
            // Of itself each knows best.
            if *who != own {
                self.horizons.pass(who, whose, horizon.clone());
            }
            if who == peer && *whose != own {
                self.horizons.pass(&own, whose, horizon.clone());
            }
        }
        Ok(())
    }

    /// Up to where every known database has everything that any of them has admitted or will. Nothing above it is folded
    /// or purged. Without peers it is the own horizon; none while it is not known of every database what it has of each.
    pub fn frontier(&self) -> Option<&Clock> {
        let all = || self.others.iter().chain([&self.own]);
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
        [0, 1, 2].map(|own: usize| {
            let others = names.iter().filter(|peer| **peer != names[own]).cloned();
            Peers::new(names[own].clone(), others, Horizons::default())
        })
    }

    fn tell(all: &mut [Peers], from: usize, to: usize) {
        let (node, horizons) = (all[from].own.clone(), all[from].horizons().clone());
        all[to].hear(&node, &horizons).expect("there are few");
    }

    #[test]
    fn the_frontier_waits_for_a_silent_database() {
        let mut all = three();
        for (database, horizon) in all.iter_mut().zip([10, 20, 30]) {
            database.raise_horizon(at(horizon));
        }
        for _ in 0..2 {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (2, 1), (1, 0)] {
                tell(&mut all, from, to);
            }
        }
        assert_eq!(all[0].frontier(), Some(&at(10)));
        // The third is silent; the others' horizons rise.
        for horizon in [50, 60] {
            all[0].raise_horizon(at(horizon));
            all[1].raise_horizon(at(horizon));
            tell(&mut all, 0, 1);
            tell(&mut all, 1, 0);
        }
        assert_eq!(all[0].frontier(), Some(&at(10)));
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
                tell(&mut all, from, to);
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
        let own = node("a");
        let told: Vec<_> = all[0].horizons().iter().collect();
        assert_eq!(told, [(&own, &own, &at(10))]);
        assert_eq!(all[0].frontier(), None);
        let mut alone = Peers::new(node("alone"), [], Horizons::default());
        alone.raise_horizon(at(10));
        assert_eq!(alone.frontier(), Some(&at(10)));
    }

    #[test]
    fn who_is_told_of_is_waited_for_also_after_a_restart() {
        let mut first = Peers::new(node("a"), [node("b")], Horizons::default());
        first.raise_horizon(at(10));
        let told = Horizons::from_iter([
            (node("b"), node("b"), at(10)),
            (node("b"), node("a"), at(10)),
            (node("b"), node("c"), at(10)),
        ]);
        first.hear(&node("b"), &told).expect("there are few");
        assert_eq!(first.frontier(), None, "what the third has is not known");
        let again = Peers::new(node("a"), [node("b")], first.horizons().clone());
        assert_eq!(again.frontier(), None);
    }

    #[test]
    fn of_too_many_databases_nothing_is_taken() {
        let names = (0..=DATABASES_MAX).map(|number| node(&format!("n{number}")));
        let told = Horizons::from_iter(names.map(|name| (name.clone(), name, at(10))));
        let mut alone = Peers::new(node("alone"), [], Horizons::default());
        assert_eq!(alone.hear(&node("n0"), &told), Err(TooManyDatabases));
        assert!(alone.is_alone());
    }
}
