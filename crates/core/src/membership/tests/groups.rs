//! Sets that the database is asked for, against the plan that says by itself what is visible.

mod lately;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use filter::{CompareOp, Condition, Membership};
use proptest::prelude::*;
use rls::{Answer as Told, Answers, Claims, Group, Plan, PlannedPolicy, Uses};

use super::*;

/// The oid of the table that the answers are read from, which is that of entity `b`.
const READ: u32 = 20_000;
/// The oid of a table whose changes nobody captures.
const UNCAPTURED: u32 = 20_001;

/// What the database would say at some moment.
#[derive(Debug, Clone)]
struct World {
    bit: bool,
    keys: BTreeSet<Option<i64>>,
    pairs: BTreeSet<(Option<i64>, Option<i64>)>,
    says: Says,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Each,
    /// The visible keys, because a question failed.
    Visible,
    Nothing,
}

fn world() -> impl Strategy<Value = World> {
    let value = || prop::option::weighted(0.8, 0_i64..3);
    let says =
        prop_oneof![4 => Just(Says::Each), 1 => Just(Says::Visible), 1 => Just(Says::Nothing)];
    let keys = prop::collection::btree_set(value(), 0..3);
    let pairs = prop::collection::btree_set((value(), value()), 0..3);
    (any::<bool>(), keys, pairs, says).prop_map(|(bit, keys, pairs, says)| World {
        bit,
        keys,
        pairs,
        says,
    })
}

/// A condition of a policy, by number.
fn condition(number: usize, negated: bool) -> rls::Condition {
    let key = |columns: &[usize], question, membership| rls::Condition::Key {
        columns: columns.to_vec(),
        question,
        membership,
        negated,
    };
    match number {
        0 => rls::Condition::Session(0),
        1 => key(&[1], 1, Membership::In),
        2 => key(&[1], 1, Membership::Exists),
        3 => key(&[1, 2], 2, Membership::Exists),
        _ => rls::Condition::Row(Filter::of_condition(Condition::Compare {
            column: 2,
            op: CompareOp::Eq,
            value: Scalar::Int(1),
        })),
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let condition = (0_usize..5, any::<bool>()).prop_map(|(number, not)| condition(number, not));
    let terms = prop::collection::vec(prop::collection::vec(condition, 1..3), 1..3);
    let policy = (any::<bool>(), terms).prop_map(|(permissive, terms)| PlannedPolicy {
        name: String::new(),
        permissive,
        text: String::new(),
        terms,
    });
    let keys = |columns: &[usize]| rls::Question::Keys {
        query: String::new(),
        columns: columns.to_vec(),
    };
    let questions = vec![rls::Question::Bit(String::new()), keys(&[1]), keys(&[1, 2])];
    prop::collection::vec(policy, 1..4).prop_map(move |mut policies| {
        policies.sort_by_key(|policy| !policy.permissive);
        Plan {
            policies,
            questions: questions.clone(),
        }
    })
}

fn of(plan: Plan) -> Arc<AskedPlan> {
    let relations = KnownRelations::default();
    relations.set(Relations {
        entities: BTreeMap::from([(READ, "b".to_owned())]),
        ignored: BTreeSet::new(),
    });
    Arc::new(AskedPlan {
        schema: schema(0),
        fingerprint: "1".into(),
        plan,
        uses: Uses {
            claims: Claims::Named(BTreeSet::new()),
            settings: BTreeSet::new(),
            any_setting: false,
            clock: None,
            relations: BTreeSet::from([READ]),
            read_within: BTreeSet::new(),
            is_dynamic: false,
            apart: None,
        },
        guards: BTreeMap::new(),
        settings: Arc::default(),
        search_path: "".into(),
        relations: Arc::new(relations),
        version: "1".into(),
        is_outdated: AtomicBool::new(false),
    })
}

fn group(plan: &Arc<AskedPlan>) -> Arc<AskedGroup> {
    let group = Group {
        role: "r".to_owned(),
        ..Group::default()
    };
    AskedGroup::new(plan.clone(), group)
}

impl World {
    fn each(&self, plan: &Plan) -> Answers {
        let text = |value: &Option<i64>| value.map(|value| value.to_string());
        let keys: Vec<[Option<String>; 1]> = self.keys.iter().map(|it| [text(it)]).collect();
        let pairs = self.pairs.iter();
        let pairs: Vec<[Option<String>; 2]> = pairs.map(|(x, y)| [text(x), text(y)]).collect();
        let texts = [
            if self.bit { "t" } else { "f" }.to_owned(),
            serde_json::to_string(&keys).expect("JSON"),
            serde_json::to_string(&pairs).expect("JSON"),
        ];
        let schema = schema(0);
        let questions = plan.questions.iter().zip(&texts);
        let told = questions.map(|(question, text)| {
            let table = Table::new(&schema, Backend::Postgres);
            Told::read(question, text, table).expect("an answer")
        });
        Answers::Each(told.collect())
    }

    fn sees(&self, plan: &Plan, row: &Row) -> bool {
        let values = values(row);
        self.says != Says::Nothing && plan.is_visible(&values, &key(row), &self.each(plan))
    }

    fn answer(&self, plan: &Plan) -> Answer {
        let visible = || {
            rows()
                .filter(|row| self.sees(plan, row))
                .map(|row| key(&row))
        };
        let answers = match self.says {
            Says::Each => self.each(plan),
            Says::Visible => Answers::Visible(visible().collect()),
            Says::Nothing => Answers::Denied,
        };
        Answer::Group(Box::new(GroupAnswer {
            answers,
            read: BTreeSet::from([READ]),
            held: BTreeSet::new(),
            has_failed: self.says != Says::Each,
            guards: None,
        }))
    }
}

/// All rows that there could be.
fn rows() -> impl Iterator<Item = Row> {
    let values = || [None, Some(0), Some(1), Some(2)];
    let pairs = values()
        .into_iter()
        .flat_map(move |x| values().map(|y| (x, y)));
    (0..).zip(pairs).map(|(id, (x, y))| [Some(id), x, y])
}

fn values(row: &Row) -> RowValues {
    let reader = RowReader::new(Table::new(&schema(0), Backend::Postgres), [0, 1, 2]);
    reader.read(&json(row)).expect("a row")
}

fn entry(entity: &str, commit: u64, versions: usize) -> NetChange {
    let record = |id| UndoRecord {
        id,
        transaction: Some(commit),
        kind: ChangeKind::Update,
        old: None,
    };
    NetChange {
        id: 1,
        commit_id: CommitId::Xid(commit),
        entity: entity.to_owned(),
        key: Some("1".to_owned()),
        kind: ChangeKind::Update,
        created: 0,
        deleted: 0,
        truncated_at: None,
        mutation_id: None,
        row: None,
        metadata: None,
        undo: Some((0..).take(versions).map(record).collect()),
    }
}

fn live(filter: &Filter) -> LiveSets {
    let mut live = LiveSets::with_values_max(1000);
    filter.sets().for_each(|set| live.want(set));
    live
}

/// A group's answer, without any values.
fn nothing(read: &[u32], has_failed: bool) -> Vec<Answer> {
    let answer = GroupAnswer {
        answers: Answers::Each(Vec::new()),
        read: read.iter().copied().collect(),
        held: BTreeSet::new(),
        has_failed,
        guards: None,
    };
    vec![Answer::Group(Box::new(answer))]
}

proptest! {
    #[test]
    fn what_is_visible_follows_the_answers_before_each_drain_and_after_it(
        plan in plan(),
        worlds in prop::collection::vec((world(), any::<bool>()), 1..6),
    ) {
        let plan = of(plan);
        let filter = group(&plan).filter();
        let mut live = live(&filter);
        let mut known: Option<World> = None;
        for (world, is_published) in worlds {
            let entries = if known.is_some() { vec![entry("b", 7, 1)] } else { Vec::new() };
            let questions = live.begin(&entries, true);
            if filter.sets().len() == 0 {
                prop_assert_eq!(questions, []);
                break;
            }
            prop_assert_eq!(&questions[..], &[Question::Group(GroupQuestion::whole(group(&plan)))][..]);
            prop_assert_eq!(live.answer(vec![world.answer(&plan.plan)]), []);
            if let Some(known) = &known {
                let (before, now) = live.views();
                let touched = filter.touched(&|set| live.change(set));
                for row in rows() {
                    let read = values(&row);
                    let (was, is) = (known.sees(&plan.plan, &row), world.sees(&plan.plan, &row));
                    prop_assert_eq!(filter.matches(&read, &before) == Some(true), was, "{:?} before", row);
                    prop_assert_eq!(filter.matches(&read, &now) == Some(true), is, "{:?} now", row);
                    if was != is {
                        let found = touched.as_ref().and_then(|it| it.matches(&read, &NoSets));
                        prop_assert_eq!(found, Some(true), "{:?} is not looked at", row);
                    }
                }
            }
            if is_published || known.is_none() {
                live.commit();
                known = Some(world);
            } else {
                live.abort();
            }
        }
    }
}

fn session_plan() -> Arc<AskedPlan> {
    of(Plan {
        policies: vec![PlannedPolicy {
            name: String::new(),
            permissive: true,
            text: String::new(),
            terms: vec![vec![rls::Condition::Session(0)]],
        }],
        questions: vec![rls::Question::Bit("true".to_owned())],
    })
}

#[test]
fn a_group_is_asked_again_when_it_must_be_and_no_more() {
    let plan = session_plan();
    let filter = group(&plan).filter();
    let mut live = live(&filter);
    let ask = |live: &mut LiveSets, entries: &[NetChange], read: &[u32], failed| {
        let asked = live.begin(entries, true).len();
        live.answer(nothing(read, failed));
        live.commit();
        asked
    };
    assert_eq!(ask(&mut live, &[], &[READ], false), 1);
    assert_eq!(ask(&mut live, &[entry("c", 7, 1)], &[READ], false), 0);
    assert_eq!(ask(&mut live, &[entry("b", 7, 1)], &[READ], false), 1);
    assert!(!live.ask_groups_again(true));
    assert_eq!(ask(&mut live, &[], &[READ], false), 0);
    // What nobody captures is asked about as time passes, and what failed after a pause.
    assert_eq!(ask(&mut live, &[entry("b", 7, 1)], &[UNCAPTURED], false), 1);
    assert!(live.ask_groups_again(false) && live.is_asking());
    // Nobody would receive what a drain without a position of its own has found.
    assert_eq!(live.begin(&[], false), []);
    live.commit();
    assert!(live.is_asking());
    assert_eq!(ask(&mut live, &[], &[READ], true), 1);
    assert!(!live.ask_groups_again(false) && live.ask_groups_again(true));
    assert_eq!(ask(&mut live, &[], &[READ], false), 1);
    assert!(!live.is_asking());
    let entities: Vec<&str> = live.entities().collect();
    assert_eq!(entities, ["b"]);
    filter.sets().for_each(|set| live.release(set));
    assert!(live.is_unused() && live.groups() == 0);
}

/// A reader that joined in between may have seen rows by what the set was then.
#[test]
fn a_set_that_may_have_been_something_else_in_between_is_stirred() {
    let plan = session_plan();
    let filter = group(&plan).filter();
    for (entries, is_stirred) in [
        (vec![entry("b", 7, 1)], false),
        (vec![entry("b", 7, 1), entry("b", 8, 1)], true),
        (vec![entry("b", 7, 2)], true),
    ] {
        let mut live = live(&filter);
        live.begin(&[], true);
        live.answer(nothing(&[READ], false));
        live.commit();
        assert_eq!(live.begin(&entries, true).len(), 1);
        live.answer(nothing(&[READ], false));
        assert_eq!(live.stirred().is_empty(), !is_stirred, "{entries:?}");
    }
    // Nobody knows when what is not captured has changed, nor what a question that failed would have read.
    for (read, failed) in [(&[READ, UNCAPTURED][..], false), (&[READ], true)] {
        for entries in [vec![], vec![entry("b", 7, 1)]] {
            let mut live = live(&filter);
            live.begin(&[], true);
            live.answer(nothing(read, failed));
            live.commit();
            assert!(!entries.is_empty() || live.ask_groups_again(true));
            assert_eq!(live.begin(&entries, true).len(), 1);
            live.answer(nothing(&[READ], false));
            assert!(!live.stirred().is_empty(), "{read:?} {failed} {entries:?}");
        }
    }
}

#[test]
fn the_sets_of_a_plan_whose_place_another_has_taken_are_lost() {
    let plan = session_plan();
    let filter = group(&plan).filter();
    let mut live = live(&filter);
    live.begin(&[], true);
    live.answer(nothing(&[READ], false));
    live.commit();
    plan.is_outdated
        .store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(live.begin(&[], false), []);
    assert_eq!(live.lost().count(), 0, "nobody would hear of it");
    assert_eq!(live.begin(&[], true), []);
    assert_eq!(live.lost().count(), filter.sets().len());
}

#[test]
fn a_resume_knows_a_group_only_if_nothing_that_it_reads_has_changed() {
    let plan = session_plan();
    let table = table(0);
    let shape = Shape::of_filter(&table, group(&plan).filter());
    let resume = |entries: &[NetChange], read: &[u32], failed| {
        let mut past = PastSets::new([&shape]);
        assert_eq!(past.entities(), BTreeSet::from(["b".to_owned()]));
        assert_eq!(
            past.begin(entries),
            [Question::Group(GroupQuestion::whole(group(&plan)))]
        );
        assert_eq!(past.answer(nothing(read, failed)), []);
        past.is_unknown(&shape)
    };
    assert!(!resume(&[], &[READ], false));
    assert!(!resume(&[entry("c", 7, 1)], &[READ], false));
    assert!(resume(&[entry("b", 7, 1)], &[READ], false));
    assert!(resume(&[entry("b", 7, 1)], &[], false), "it is named");
    assert!(resume(&[], &[UNCAPTURED], false));
    assert!(resume(&[], &[READ], true));
}

#[test]
fn claims_decide_who_is_one_group() {
    let plan = session_plan();
    let of = |role: &str, claims: Option<&str>, settings: &[(&str, &str)]| {
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let group = Group {
            role: role.to_owned(),
            claims: claims.map(str::to_owned),
            settings: settings.collect(),
            apart: false,
        };
        let filter = AskedGroup::new(plan.clone(), group).filter();
        filter.text(Table::new(&schema(0), Backend::Postgres))
    };
    let all = [
        of("r", None, &[]),
        of("s", None, &[]),
        of("r", Some(""), &[]),
        of("r", Some("{}"), &[]),
        of("r", None, &[("a", "b")]),
        of("r", None, &[("a", "c")]),
    ];
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len());
    assert_eq!(of("r", Some("{}"), &[]), all[3]);
}
