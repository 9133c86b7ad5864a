//! What many evaluations, one after another, ask of the same set.

use std::cell::RefCell;

use filter::{Lookup, Scalar, Set, Sets};

/// Sets, with the last answer that is the same for every row: that of a set which is looked up without values, so as a rule
/// only for whether it is empty. One such set may decide for thousands of shapes.
pub(super) struct Remembered<'a> {
    sets: &'a dyn Sets,
    last: RefCell<Option<(Set, Option<Lookup>)>>,
}

impl<'a> Remembered<'a> {
    pub(super) fn of(sets: &'a dyn Sets) -> Self {
        let last = RefCell::default();
        Self { sets, last }
    }
}

impl Sets for Remembered<'_> {
    fn look_up(&self, set: &Set, values: &[&Scalar]) -> Option<Lookup> {
        if !values.is_empty() {
            return self.sets.look_up(set, values);
        }
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((of, lookup)) if of == set => *lookup,
            _ => {
                let lookup = self.sets.look_up(set, values);
                *last = Some((set.clone(), lookup));
                lookup
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use filter::{Backend, Filter, SetRows};
    use value::schema::Schema;

    use super::*;

    /// Counts what it is asked.
    #[derive(Default)]
    struct Counting(Cell<usize>);

    impl Sets for Counting {
        fn look_up(&self, set: &Set, values: &[&Scalar]) -> Option<Lookup> {
            self.0.set(self.0.get() + 1);
            Some(Lookup {
                found: !values.is_empty(),
                is_empty: set.entity() == "a",
                has_null: false,
            })
        }
    }

    fn set(entity: &str) -> Set {
        Set::new(SetRows {
            schema: Arc::new(Schema {
                entity: entity.to_owned(),
                columns: Vec::new(),
                key: Vec::new(),
            }),
            fingerprint: "f".into(),
            backend: Backend::Postgres,
            filter: Filter::everything(),
            columns: Vec::new(),
            window: None,
            asked: None,
        })
    }

    #[test]
    fn only_what_is_the_same_for_each_row_is_remembered() {
        let counting = Counting::default();
        let sets = Remembered::of(&counting);
        let is_empty = |entity: &str| {
            let lookup = sets.look_up(&set(entity), &[]).expect("known");
            assert!(!lookup.found);
            lookup.is_empty
        };
        assert!(is_empty("a") && is_empty("a"));
        assert_eq!(counting.0.get(), 1);
        assert!(!is_empty("b") && is_empty("a"));
        assert_eq!(counting.0.get(), 3);
        for _ in 0..2 {
            let lookup = sets.look_up(&set("a"), &[&Scalar::Bool(true)]);
            assert!(lookup.expect("known").found);
        }
        assert_eq!(counting.0.get(), 5);
    }
}
