//! Progress where every batch moves rows: a session whose reads end where a drain ends never reads the log again, however
//! many batches come. If only those do that continue, it does so once for each subscription that joins; with snapshots of
//! their own there is no such bound.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use protocol::{SelectionRequest, Subscribe, SubscriptionId};
use rhtmx_sync_core::cursor::Position;
use rhtmx_sync_core::session::{
    Batch, Command, Frame, ReadCommand, ReadEnd, Session, SessionLimits,
};
use rhtmx_sync_core::shape::Shape;

/// A batch that moves rows of every shape.
#[derive(Debug, Clone, PartialEq)]
struct Moving {
    position: Arc<Position>,
    follows: Arc<Position>,
}

impl Batch for Moving {
    fn position(&self) -> &Arc<Position> {
        &self.position
    }

    fn complete(&self) -> bool {
        true
    }

    fn bytes(&self) -> usize {
        1
    }

    fn touches(&self, _: &Shape) -> bool {
        true
    }

    fn changes_schema_of(&self, _: &Shape) -> bool {
        false
    }

    fn is_unclear_for(&self, _: &Shape) -> bool {
        false
    }

    fn moves(&self, _: &Shape) -> Option<&Arc<Position>> {
        Some(&self.follows)
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Writers commit.
    Commit,
    /// The listener drains.
    Drain,
    /// The session takes a batch.
    Take,
    /// The oldest read ends.
    Read,
    Subscribe,
}

/// Which reads have the snapshot of a drain.
#[derive(Debug, Clone, Copy, PartialEq)]
enum AtDrains {
    All,
    /// Those that continue.
    Later,
    None,
}

/// One session, its hub and its database. Positions are the numbers of commits.
struct World {
    session: Session<Moving>,
    at_drains: AtDrains,
    now: i64,
    hub: i64,
    mailbox: VecDeque<Moving>,
    /// The reads under way, and whether each continues.
    reads: VecDeque<(SubscriptionId, bool)>,
    subscriptions: usize,
    subscribed: usize,
    catch_ups: usize,
    continued: usize,
    cursor: i64,
}

fn at(id: i64) -> Arc<Position> {
    Arc::new(Position::log_id(id))
}

impl World {
    fn new(at_drains: AtDrains) -> Self {
        Self {
            session: Session::new(SessionLimits {
                subscriptions_max: usize::MAX,
                filter_work_max: usize::MAX,
                filter_bytes_max: usize::MAX,
            }),
            at_drains,
            now: 1,
            hub: 1,
            mailbox: VecDeque::new(),
            reads: VecDeque::new(),
            subscriptions: 0,
            subscribed: 0,
            catch_ups: 0,
            continued: 0,
            cursor: 0,
        }
    }

    fn drain(&mut self) {
        if self.hub < self.now {
            self.mailbox.push_back(Moving {
                position: at(self.now),
                follows: at(self.hub),
            });
            self.hub = self.now;
        }
    }

    /// Where a read ends. Meanwhile there are commits.
    fn read_to(&mut self, continues: bool) -> i64 {
        self.now += 2;
        match self.at_drains {
            AtDrains::All => self.drain(),
            AtDrains::Later if continues => self.drain(),
            AtDrains::Later | AtDrains::None => {}
        }
        let position = self.now;
        self.now += 2;
        position
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit => self.now += 1,
            Step::Drain => self.drain(),
            Step::Take => {
                if let Some(batch) = self.mailbox.pop_front() {
                    let commands = self.session.batch(batch);
                    self.perform(commands);
                }
            }
            Step::Read => {
                let Some((id, continues)) = self.reads.pop_front() else {
                    return;
                };
                let position = self.read_to(continues);
                let commands = self.session.read(&id, ReadEnd::Complete(at(position)));
                self.perform(commands);
            }
            Step::Subscribe => {
                self.subscriptions += 1;
                let entity = format!("e{}", self.subscriptions);
                let subscribe = Subscribe {
                    id: entity.as_str().into(),
                    entity,
                    selection: SelectionRequest::default(),
                    cursor: None,
                };
                let resolve = |subscribe: &Subscribe| Ok(Shape::whole(&subscribe.entity));
                let commands = self.session.subscribe(subscribe, resolve);
                self.perform(commands);
            }
        }
    }

    fn perform(&mut self, commands: Vec<Command<Moving>>) {
        for command in commands {
            match command {
                Command::Read(ReadCommand::Start { id, from, .. }) => {
                    self.continued += usize::from(from.is_some());
                    self.reads.push_back((id, from.is_some()));
                }
                Command::CatchUp(_) => {
                    self.catch_ups += 1;
                    let position = self.read_to(true);
                    let commands = self.session.caught_up(at(position));
                    self.perform(commands);
                }
                Command::Send(Frame::Subscribed { .. }) => self.subscribed += 1,
                Command::Send(Frame::Cursor(position)) => {
                    let Position::Log(position) = &*position else {
                        panic!("a position of another database")
                    };
                    assert!(position.id >= self.cursor);
                    self.cursor = position.id;
                }
                _ => {}
            }
        }
    }

    /// Batches come and are taken, with commits behind each of them.
    fn pass_batches(&mut self, batches: usize) {
        for _ in 0..batches {
            for step in [Step::Commit, Step::Drain, Step::Commit, Step::Read] {
                self.step(&step);
            }
            while !self.mailbox.is_empty() {
                self.step(&Step::Take);
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Commit),
        3 => Just(Step::Drain),
        3 => Just(Step::Take),
        3 => Just(Step::Read),
        1 => Just(Step::Subscribe),
    ]
}

/// The world after these steps, when all has become live.
fn settled(at_drains: AtDrains, steps: &[Step]) -> World {
    let mut world = World::new(at_drains);
    for step in steps {
        world.step(step);
    }
    world.pass_batches(20 + 2 * steps.len());
    world
}

proptest! {
    #[test]
    fn the_log_is_never_read_again(steps in prop::collection::vec(step(), 1..120)) {
        let world = settled(AtDrains::All, &steps);
        prop_assert_eq!(world.subscribed, world.subscriptions);
        prop_assert_eq!((world.catch_ups, world.continued), (0, 0));
        prop_assert!(world.subscriptions == 0 || world.cursor == world.hub);
    }

    /// A read that was not in time for a drain.
    #[test]
    fn each_subscription_costs_one_catch_up(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = settled(AtDrains::Later, &steps);
        prop_assert_eq!(world.subscribed, world.subscriptions);
        prop_assert!(world.catch_ups <= world.subscriptions, "{}", world.catch_ups);
        // A read goes on where a batch cuts it, and where a catch-up of the others has met it.
        let each = 1 + world.catch_ups;
        prop_assert!(world.continued <= each * world.subscriptions, "{}", world.continued);
        // From now on the log is not read any more, and each batch ends with a cursor.
        let (catch_ups, continued) = (world.catch_ups, world.continued);
        world.pass_batches(20);
        prop_assert_eq!((world.catch_ups, world.continued), (catch_ups, continued));
        prop_assert!(world.subscriptions == 0 || world.cursor == world.hub);
    }
}

/// What the bound is worth.
#[test]
fn with_snapshots_of_their_own_reads_have_no_end() {
    let mut world = World::new(AtDrains::None);
    world.step(&Step::Subscribe);
    world.step(&Step::Commit);
    world.step(&Step::Read);
    world.pass_batches(100);
    assert!(world.catch_ups >= 50, "{}", world.catch_ups);
}
