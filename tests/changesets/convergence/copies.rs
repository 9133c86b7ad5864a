//! Whether all databases hold the same.

use std::collections::{BTreeMap, BTreeSet};

use super::sites::{Held, Site};

/// Compares all rows, with all that is known beside them, and returns them.
pub(super) async fn all_hold_the_same(sites: &[Site]) -> BTreeMap<String, Held> {
    let first = sites[0].held_in_one_form().await;
    for other in &sites[1..] {
        let held = other.held_in_one_form().await;
        let keys: BTreeSet<&String> = first.keys().chain(held.keys()).collect();
        let differing = keys
            .into_iter()
            .filter(|key| first.get(*key) != held.get(*key));
        let differing: Vec<String> = differing
            .map(|key| format!("{key}:\n{:#?}\n{:#?}", first.get(key), held.get(key)))
            .collect();
        assert!(
            differing.is_empty(),
            "{} and {} differ in {}",
            sites[0].name,
            other.name,
            differing.join("\n")
        );
        let digests = tokio::join!(
            sites[0].replica.digest("notes"),
            other.replica.digest("notes")
        );
        let (one, other) = (digests.0.expect("a digest"), digests.1.expect("a digest"));
        assert!(one.is_same(&other), "equal rows have equal digests");
    }
    first
}
