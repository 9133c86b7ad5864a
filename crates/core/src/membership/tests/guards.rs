//! Groups that only some rows of a table concern, against what the database would answer, and against groups without guards.
//!
//! The rows of `b` are memberships: of the user `x` in the list `y`. The user of a group is what its session says, or what the
//! row of `c` with its number says.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use filter::Membership;
use proptest::prelude::*;
use rls::{Answer as Told, Answers, Claims, Group, Guard, Plan, PlannedPolicy, Uses};

use super::*;

/// The oids of the tables behind `b` and `c`.
const MEMBERS: u32 = 20_000;
const USERS: u32 = 20_001;

/// How many groups there are. The first three are users by themselves, the next two are by a row of `c`; the value of the
/// last one's guard is not known.
const GROUPS: i64 = 6;

fn plan(is_guarded: bool) -> Arc<AskedPlan> {
    let relations = KnownRelations::default();
    relations.set(Relations {
        entities: BTreeMap::from([(MEMBERS, "b".to_owned()), (USERS, "c".to_owned())]),
        ignored: BTreeSet::new(),
    });
    let guards = TableGuards {
        schema: schema(1),
        guards: vec![Guard {
            column: 1,
            expr: String::new(),
        }],
    };
    let guards = is_guarded.then_some((MEMBERS, guards));
    let key = rls::Condition::Key {
        columns: vec![1],
        question: 0,
        membership: Membership::In,
        negated: false,
    };
    Arc::new(AskedPlan {
        schema: schema(0),
        fingerprint: "1".into(),
        plan: Plan {
            policies: vec![PlannedPolicy {
                name: String::new(),
                permissive: true,
                text: String::new(),
                terms: vec![vec![key]],
            }],
            questions: vec![rls::Question::Keys {
                query: String::new(),
                columns: vec![1],
            }],
        },
        uses: Uses {
            claims: Claims::Named(BTreeSet::new()),
            settings: BTreeSet::new(),
            any_setting: false,
            clock: None,
            relations: BTreeSet::from([MEMBERS, USERS]),
            read_within: BTreeSet::from([USERS]),
            is_dynamic: false,
            apart: None,
        },
        guards: guards.into_iter().collect(),
        settings: Arc::default(),
        search_path: "".into(),
        relations: Arc::new(relations),
        version: "1".into(),
        is_outdated: AtomicBool::new(false),
    })
}

fn group(plan: &Arc<AskedPlan>, number: i64) -> Arc<AskedGroup> {
    let group = Group {
        role: number.to_string(),
        ..Group::default()
    };
    AskedGroup::new(plan.clone(), group)
}

fn user(database: &Database, number: i64) -> Option<i64> {
    match number {
        3 | 4 => database.0[2].get(&number).and_then(|row| row[1]),
        number => Some(number),
    }
}

/// The lists of a group's user.
fn lists(database: &Database, number: i64) -> BTreeSet<Option<i64>> {
    let user = user(database, number);
    let rows = database.0[1].values();
    let rows = rows.filter(|row| row[1].is_some() && row[1] == user);
    rows.map(|row| row[2]).collect()
}

fn answer(database: &Database, question: &Question) -> Answer {
    let Question::Group(question) = question else {
        panic!("only groups are asked");
    };
    let number: i64 = question.group.group().role.parse().expect("a number");
    let text = |value: Option<i64>| value.map(|value| value.to_string());
    let lists = lists(database, number).into_iter();
    let keys: Vec<[Option<String>; 1]> = lists.map(|it| [text(it)]).collect();
    let schema = schema(0);
    let told = Told::read(
        &question.group.plan().plan.questions[0],
        &serde_json::to_string(&keys).expect("JSON"),
        Table::new(&schema, Backend::Postgres),
    );
    let read = match number {
        3 | 4 => vec![MEMBERS, USERS],
        _ => vec![MEMBERS],
    };
    let guards = question.group.plan().all_guards();
    let guards = guards.map(|_| text(user(database, number))).collect();
    Answer::Group(Box::new(GroupAnswer {
        answers: Answers::Each(vec![told.expect("an answer")]),
        read: read.into_iter().collect(),
        held: BTreeSet::new(),
        has_failed: false,
        guards: (number != 5).then_some(guards),
    }))
}

/// The set of the lists.
fn set(plan: &Arc<AskedPlan>, number: i64) -> Set {
    let filter = group(plan, number).filter();
    let mut sets = filter.sets();
    let found = sets.find(|set| set.asked().is_some_and(|asked| asked.part == 2));
    found.expect("a set").clone()
}

/// Whether a set holds what the database says of the group.
fn is_right(sets: SetView<'_>, set: &Set, database: &Database, number: i64) -> bool {
    let lists = lists(database, number);
    (0..4).all(|list| {
        let found = sets.look_up(set, &[&Scalar::Int(list)]);
        found.is_some_and(|found| {
            found.found == lists.contains(&Some(list)) && found.has_null == lists.contains(&None)
        })
    })
}

fn live(plan: &Arc<AskedPlan>) -> LiveSets {
    let mut live = LiveSets::with_values_max(1000);
    for number in 0..GROUPS {
        let filter = group(plan, number).filter();
        filter.sets().for_each(|set| live.want(set));
    }
    live
}

/// A drain. Returns the numbers of the groups that were asked.
fn drain(live: &mut LiveSets, database: &Database, entries: &[NetChange]) -> BTreeSet<i64> {
    let questions = live.begin(entries, true);
    let numbers = questions.iter().map(|question| match question {
        Question::Group(question) => question.group.group().role.parse().expect("a number"),
        other => panic!("{other:?}"),
    });
    let numbers = numbers.collect();
    let answers = questions.iter().map(|it| answer(database, it)).collect();
    assert_eq!(live.answer(answers), []);
    numbers
}

fn write() -> impl Strategy<Value = Write> {
    let value = || prop::option::weighted(0.85, 0_i64..4);
    let values = prop::option::weighted(0.75, (value(), value()));
    let place = prop_oneof![3 => (Just(1_usize), 0_i64..5), 1 => (Just(2_usize), 3_i64..5)];
    (place, values).prop_map(|((table, id), values)| Write { table, id, values })
}

proptest! {
    #[test]
    fn guards_change_nothing_but_who_is_asked(
        drains in prop::collection::vec((prop::collection::vec(write(), 0..4), prop::bool::weighted(0.1)), 1..8),
    ) {
        let (guarded, plain) = (plan(true), plan(false));
        let (mut live, mut model) = (live(&guarded), live(&plain));
        let mut database = Database::default();
        drain(&mut live, &database, &[]);
        live.commit();
        drain(&mut model, &database, &[]);
        model.commit();
        let mut log = Log::default();
        // The states since then, and a log that begins with each.
        let mut states = vec![database.clone()];
        let mut resumes: Vec<(usize, Log)> = Vec::new();
        for (writes, forget) in drains {
            resumes.push((states.len() - 1, Log::default()));
            let first = states.len() - 1;
            for write in writes {
                let mut written = database.clone();
                log.write(&mut written, &write);
                for (_, log) in &mut resumes {
                    log.write(&mut database.clone(), &write);
                }
                database = written;
                states.push(database.clone());
            }
            let entries = log.drain(&database, forget);
            let asked = drain(&mut live, &database, &entries);
            let asked_by_model = drain(&mut model, &database, &entries);
            prop_assert!(asked.is_subset(&asked_by_model));
            for number in 0..GROUPS {
                let set = set(&guarded, number);
                let (before, now) = live.views();
                prop_assert!(is_right(before, &set, &states[first], number), "{} before", number);
                prop_assert!(is_right(now, &set, &database, number), "{} now", number);
                let mut between = states[first..].iter();
                if between.any(|state| lists(state, number) != lists(&database, number)) {
                    prop_assert!(live.stirred().contains(&set), "{} is not stirred", number);
                }
            }
            live.commit();
            model.commit();
            for number in 0..GROUPS {
                let [of_live, of_model] = [(&live, &guarded), (&model, &plain)]
                    .map(|(live, plan)| live.contents(&set(plan, number)));
                prop_assert_eq!(of_live, of_model);
            }
        }
        for (at, mut log) in resumes {
            let entries = log.drain(&database, false);
            for number in 0..GROUPS {
                let [of_live, of_model] = [&guarded, &plain].map(|plan| {
                    let shape = Shape::of_filter(&table(0), group(plan, number).filter());
                    let mut past = PastSets::new([&shape]);
                    let questions = past.begin(&entries);
                    past.answer(questions.iter().map(|it| answer(&database, it)).collect());
                    (past, shape)
                });
                let ((past, shape), (model, shape_of_model)) = (of_live, of_model);
                if past.is_unknown(&shape) {
                    prop_assert!(model.is_unknown(&shape_of_model));
                    continue;
                }
                let set = set(&guarded, number);
                let (before, now) = past.views();
                prop_assert!(is_right(before, &set, &states[at], number), "{} before", number);
                prop_assert!(is_right(now, &set, &database, number), "{} now", number);
                let mut between = states[at..].iter();
                if between.any(|state| lists(state, number) != lists(&database, number)) {
                    prop_assert!(past.is_stirred(&shape), "{} is not stirred", number);
                }
            }
        }
    }
}

/// Memberships of the users 0, 1 and 2 in a list each, and the sets of all groups.
fn members() -> (Database, Log, LiveSets, Arc<AskedPlan>) {
    let plan = plan(true);
    let (mut database, mut log, mut live) = (Database::default(), Log::default(), live(&plan));
    for id in 0..3 {
        let values = Some((Some(id), Some(id)));
        let table = 1;
        log.write(&mut database, &Write { table, id, values });
    }
    log.drain(&database, false);
    drain(&mut live, &database, &[]);
    live.commit();
    (database, log, live, plan)
}

/// The groups that are asked after these writes, each a row of the memberships.
fn asked(writes: &[(i64, Option<(i64, i64)>)], change: impl Fn(&mut NetChange)) -> Vec<i64> {
    let (mut database, mut log, mut live, _) = members();
    for (id, values) in writes {
        let write = Write {
            table: 1,
            id: *id,
            values: values.map(|(x, y)| (Some(x), Some(y))),
        };
        log.write(&mut database, &write);
    }
    let mut entries = log.drain(&database, false);
    entries.iter_mut().for_each(change);
    drain(&mut live, &database, &entries).into_iter().collect()
}

#[test]
fn a_change_has_those_asked_whom_the_row_concerns_or_concerned() {
    let nothing = |_: &mut NetChange| {};
    // The last group has no guard.
    assert_eq!(asked(&[(3, Some((1, 3)))], nothing), [1, 5]);
    assert_eq!(asked(&[(1, None)], nothing), [1, 5]);
    assert_eq!(asked(&[(1, Some((2, 1)))], nothing), [1, 2, 5]);
    assert_eq!(asked(&[(1, Some((9, 1)))], nothing), [1, 5]);
    assert_eq!(asked(&[(3, Some((9, 1)))], nothing), [5]);
    // Somebody's in between.
    assert_eq!(asked(&[(3, Some((0, 1))), (3, None)], nothing), [0, 5]);
    // It is not known what has changed.
    let all: Vec<i64> = (0..GROUPS).collect();
    let row = [(3, Some((9, 1)))];
    assert_eq!(asked(&row, |entry| entry.undo = None), all);
    assert_eq!(asked(&row, |entry| entry.truncated_at = Some(1)), all);
    assert_eq!(asked(&row, |entry| entry.kind = ChangeKind::Unread), all);
    assert_eq!(
        asked(&row, |entry| entry.kind = ChangeKind::SchemaChange),
        all
    );
    let without = RawValue::from_string("{\"id\":3}".to_owned()).expect("JSON");
    assert_eq!(asked(&row, |entry| entry.row = Some(without.clone())), all);
}

#[test]
fn changes_of_others_do_not_make_it_unclear_when_a_set_changed() {
    let (mut database, mut log, mut live, plan) = members();
    let membership = |id, x| Write {
        table: 1,
        id,
        values: Some((Some(x), Some(3))),
    };
    // Each in a commit of its own: what the last group's set was between them is not known.
    for (id, x) in [(3, 0), (4, 9)] {
        log.write(&mut database, &membership(id, x));
    }
    let entries = log.drain(&database, false);
    drain(&mut live, &database, &entries);
    let stirred: BTreeSet<Set> = live.stirred().into_iter().cloned().collect();
    live.commit();
    let is_stirred = |number| {
        group(&plan, number)
            .filter()
            .sets()
            .any(|set| stirred.contains(set) && *set != self::set(&plan, number))
    };
    assert!(!is_stirred(0) && is_stirred(5));
    assert!(stirred.contains(&set(&plan, 0)) && !stirred.contains(&set(&plan, 1)));
}

#[test]
fn the_columns_of_guards_are_read_while_a_group_is_in_use() {
    let plan = plan(true);
    let mut live = live(&plan);
    assert_eq!(live.columns().collect::<Vec<_>>(), [("b", "x")]);
    let version = live.columns_version();
    for number in 0..GROUPS {
        assert_eq!(live.columns_version(), version);
        let filter = group(&plan, number).filter();
        filter.sets().for_each(|set| live.release(set));
    }
    assert_eq!(live.columns().count(), 0);
    assert_ne!(live.columns_version(), version);
    assert!(live.is_unused());
    assert_eq!(live.entities().count(), 0);
}
