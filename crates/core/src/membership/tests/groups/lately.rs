//! What the stream knows of sets that the database is asked for, at the position of a reader that resumes.

use super::*;
use crate::cursor::Position;
use crate::snapshot::Snapshot;

/// The moment of a commit, and the end of the drain behind it.
const COMMIT: u64 = 10;
const DRAINED: u64 = 5;

fn at(xid: u64) -> Arc<Position> {
    let snapshot = Snapshot::new(xid, xid, Vec::new()).expect("a snapshot");
    Arc::new(Position::Snapshot(snapshot))
}

proptest! {
    /// Each drain has one commit, and each reader stands at the end of one, or between two.
    #[test]
    fn what_a_group_saw_at_a_position_follows_from_the_stream(
        plan in plan(),
        worlds in prop::collection::vec(world(), 1..6),
        beyond in prop::option::weighted(0.3, world()),
    ) {
        let plan = of(plan);
        let shape = Shape::of_filter(&table(0), group(&plan).filter());
        let filter = group(&plan).filter();
        if filter.sets().len() == 0 {
            return Ok(());
        }
        let mut live = live(&filter);
        for (world, number) in worlds.iter().zip(1_u64..) {
            live.begin(&[entry("b", number * COMMIT, 1)], true);
            live.answer(vec![world.answer(&plan.plan)]);
            live.commit_at(&at(number * COMMIT + DRAINED));
        }
        let drained = worlds.len() as u64 * COMMIT;
        let newest = beyond.as_ref().map(|_| drained + COMMIT);
        let now = beyond.as_ref().unwrap_or(&worlds[worlds.len() - 1]);
        for xid in COMMIT..=drained + 2 * COMMIT {
            let position = at(xid);
            let seen = worlds.iter().zip(1_u64..);
            let seen = seen.filter(|(_, number)| position.contains(CommitId::Xid(number * COMMIT)));
            let was = match seen.last() {
                _ if newest.is_some_and(|newest| position.contains(CommitId::Xid(newest))) => now,
                Some((world, _)) => world,
                None => continue,
            };
            let last = newest.unwrap_or(drained);
            let entries: Vec<NetChange> = match position.contains(CommitId::Xid(last)) {
                true => Vec::new(),
                false => vec![entry("b", last, 1)],
            };
            let mut past = PastSets::new([&shape]);
            let sets: Vec<Set> = past.sets().iter().cloned().collect();
            let lately = sets.into_iter().filter_map(|set| {
                let lately = live.lately(&set, &position)?;
                Some((set, lately))
            });
            past.note_lately(lately.collect());
            past.begin(&entries);
            prop_assert_eq!(past.answer(vec![now.answer(&plan.plan)]), []);
            let is_at_a_drain = xid % COMMIT == DRAINED && xid <= drained + DRAINED;
            let is_certain = now.says == Says::Each && (entries.is_empty() || newest.is_none() && is_at_a_drain);
            prop_assert!(!is_certain || !past.is_unknown(&shape), "at {}", xid);
            if past.is_unknown(&shape) {
                continue;
            }
            let (before, after) = past.views();
            let touched = past.touched().pop().map(|(_, filter)| filter);
            for row in rows() {
                let read = values(&row);
                let (saw, sees) = (was.sees(&plan.plan, &row), now.sees(&plan.plan, &row));
                prop_assert_eq!(filter.matches(&read, &before) == Some(true), saw, "{:?} at {}", row, xid);
                prop_assert_eq!(filter.matches(&read, &after) == Some(true), sees, "{:?} now", row);
                if saw != sees {
                    let found = touched.as_ref().and_then(|it| it.matches(&read, &NoSets));
                    prop_assert_eq!(found, Some(true), "{:?} is not looked at", row);
                }
            }
        }
    }
}
