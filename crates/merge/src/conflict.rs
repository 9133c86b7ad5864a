//! Values that lost a merge, as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::order::same;
use crate::rules::FieldMergeStrategy;

/// How many lost values of a field are kept: the newest.
pub const LOST_VALUES_MAX: usize = 20;

/// A value with its clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// The value.
    pub value: Value,
    /// When it was written.
    pub hlc: Clock,
}

/// Two values of a field, of which one is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// The column.
    pub field: String,
    /// What the field holds; none when its row is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Stamped>,
    /// What it does not hold.
    pub lost: Stamped,
    /// What decided.
    pub strategy: FieldMergeStrategy,
}

impl Conflict {
    /// The conflict between two values, unless they are the same.
    pub(crate) fn of(
        field: &str,
        kept: Option<Stamped>,
        lost: Stamped,
        strategy: FieldMergeStrategy,
    ) -> Option<Self> {
        let agrees = kept
            .as_ref()
            .is_some_and(|kept| same(&kept.value, &lost.value));
        let field = field.to_owned();
        (!agrees).then_some(Self {
            field,
            kept,
            lost,
            strategy,
        })
    }
}

/// The values of a row that lost, and whether somebody has seen to it: what keeping both keeps.
///
/// They merge by themselves, in any order: a value is there once it was told, and resolved once it was resolved; of a
/// field the newest [`LOST_VALUES_MAX`] are kept, resolved or not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LostValues(BTreeMap<String, BTreeMap<Clock, LostValue>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LostValue {
    value: Value,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resolved: bool,
}

impl LostValues {
    /// Keeps the value that lost a conflict.
    pub fn keep(&mut self, conflict: &Conflict) {
        let lost = LostValue {
            value: conflict.lost.value.clone(),
            resolved: false,
        };
        let kept = BTreeMap::from([(conflict.lost.hlc.clone(), lost)]);
        self.join(&Self(BTreeMap::from([(conflict.field.clone(), kept)])));
    }

    /// Marks a lost value as resolved. False when it is not there, or was resolved before: then somebody was faster.
    pub fn resolve(&mut self, field: &str, clock: &Clock) -> bool {
        let lost = self
            .0
            .get_mut(field)
            .and_then(|values| values.get_mut(clock));
        lost.is_some_and(|lost| !std::mem::replace(&mut lost.resolved, true))
    }

    /// Merges what another replica kept.
    pub fn join(&mut self, other: &Self) {
        for (field, theirs) in &other.0 {
            let ours = self.0.entry(field.clone()).or_default();
            for (clock, lost) in theirs {
                let kept = ours.entry(clock.clone()).or_insert_with(|| lost.clone());
                kept.resolved |= lost.resolved;
                if crate::order::compare(&lost.value, &kept.value).is_gt() {
                    kept.value = lost.value.clone();
                }
            }
            while ours.len() > LOST_VALUES_MAX {
                ours.pop_first();
            }
        }
    }

    /// The values that nobody has resolved and that the field does not hold, oldest first.
    pub fn open(&self, field: &str, current: Option<&Value>) -> Vec<Stamped> {
        let lost = self.0.get(field).into_iter().flatten();
        lost.filter(|(_, lost)| {
            !lost.resolved && !current.is_some_and(|now| same(now, &lost.value))
        })
        .map(|(clock, lost)| Stamped {
            value: lost.value.clone(),
            hlc: clock.clone(),
        })
        .collect()
    }

    /// Forgets what was written up to the horizon and resolved.
    pub fn fold(&mut self, horizon: &Clock) {
        for values in self.0.values_mut() {
            values.retain(|clock, lost| !lost.resolved || clock > horizon);
        }
        self.0.retain(|_, values| !values.is_empty());
    }
}
