//! Every interleaving of a few writers, PostgreSQL, the driver and the listener of
//! `rhtmx_sync_core::doorbell`, which runs here as it is.
//!
//! A [`World`] is one state of all of them; [`World::next`] lists what may happen in it, each step
//! as small as PostgreSQL takes it. [`search`] walks all worlds that can be reached and checks:
//!
//! - where nothing has to happen any more (open transactions may stay so for ever), the listener
//!   sleeps on K and everything visible is drained, or it queues for K because somebody has K, and
//!   everything rung for is drained. Every poke was answered by a drain that began after it;
//! - without safety drains no run is endless. Writers do finitely much here, so the listener comes
//!   to rest by itself; with the check above, every run in which all writers end drains everything;
//! - awake and between commands, nothing of the listener's keeps a writer from K: no `NOTIFY` under
//!   load;
//! - asleep, K is held; and no command comes that K's state does not allow.
//!
//! A safety drain may happen at any time, but none is counted on. Time is abstract: a wait may end
//! as soon as it began.
//!
//! A search that cannot fail proves nothing, so broken listeners and a broken PostgreSQL are
//! searched too, and each must be caught.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use rhtmx_sync_core::doorbell::{Command, Doorbell, Event, Timing};

/// Timers that expire in one or two steps, and a load that two drains make.
const TIMING: Timing = Timing {
    pause_between_drains_ms: 1,
    idle_before_sleep_ms: 1,
    safety_drain_ms: 2,
    busy_drains: 2,
};

/// What may happen in a run, and what PostgreSQL promises in it.
#[derive(Clone, Copy)]
struct Setting {
    writers: usize,
    transactions_each: u8,
    writes_each: u8,
    pokes: u8,
    connection_losses: u8,
    /// At commit a transaction becomes visible before it releases its locks.
    visible_before_release: bool,
    /// A notification is delivered after its transaction became visible.
    visible_before_ring: bool,
}

const TWO_WRITERS: Setting = Setting {
    writers: 2,
    transactions_each: 2,
    writes_each: 2,
    pokes: 0,
    connection_losses: 0,
    visible_before_release: true,
    visible_before_ring: true,
};

const THREE_WRITERS: Setting = Setting {
    writers: 3,
    transactions_each: 1,
    ..TWO_WRITERS
};

// ------------------------------------------------------------------------------ listeners

trait Listener: Clone + Eq + Hash {
    fn on(&mut self, event: Event) -> Option<Command>;
    fn state_name(&self) -> &'static str;
}

impl Listener for Doorbell {
    fn on(&mut self, event: Event) -> Option<Command> {
        Doorbell::on(self, event)
    }

    fn state_name(&self) -> &'static str {
        Doorbell::state_name(self)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    SleepsWithoutFinalDrain,
    SleepsWithoutLock,
    DeafDuringDrain,
    DeafInQueue,
    /// Takes the drain that was under way when K was granted for the one that must follow.
    CountsEarlierDrain,
    IgnoresPokeAsleep,
    /// Takes the cancel itself for the answer.
    TrustsCancel,
    TriesAgainInsteadOfQueueing,
}

/// The real listener, with a fault between it and its driver.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Broken {
    inner: Doorbell,
    fault: Fault,
    under_way: Option<Command>,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self {
            inner: Doorbell::new(TIMING),
            fault,
            under_way: None,
        }
    }

    fn is_deaf_to(&self, event: Event) -> bool {
        match (self.fault, event) {
            (Fault::DeafDuringDrain, Event::Rung) => self.under_way == Some(Command::Drain),
            (Fault::DeafInQueue, Event::Rung) => self.inner.state_name() == "queued",
            (Fault::IgnoresPokeAsleep, Event::Poked) => self.inner.is_asleep(),
            (Fault::TrustsCancel, Event::LockGranted | Event::LockCancelled) => {
                self.inner.state_name() != "queued"
            }
            _ => false,
        }
    }

    /// Keeps a command from the driver, makes up its outcome, and returns the command after it.
    fn go_wrong(&mut self, command: Command, event: Event) -> Option<Command> {
        let inner = &mut self.inner;
        match (self.fault, command, event) {
            (Fault::SleepsWithoutFinalDrain, Command::Drain, _)
            | (Fault::CountsEarlierDrain, Command::Drain, Event::Drained { .. })
                if inner.state_name() == "settling" =>
            {
                inner.on(Event::Drained { found: false })
            }
            (Fault::SleepsWithoutLock, Command::TryLock, _) => {
                inner.on(Event::LockTried { granted: true })
            }
            (Fault::SleepsWithoutLock, Command::Unlock, _) => inner.on(Event::Unlocked),
            (Fault::TriesAgainInsteadOfQueueing, Command::QueueLock, _) => {
                let drain = inner.on(Event::LockQueued);
                inner.on(Event::LockCancelled).or(drain)
            }
            (Fault::TrustsCancel, _, Event::CancelSent) if inner.state_name() == "queued" => {
                inner.on(Event::LockCancelled).or(Some(command))
            }
            _ => None,
        }
    }
}

impl Listener for Broken {
    fn on(&mut self, event: Event) -> Option<Command> {
        if self.is_deaf_to(event) {
            let waits = matches!(self.under_way, Some(Command::Wait { .. }));
            return self.under_way.filter(|_| waits);
        }
        let mut command = self.inner.on(event)?;
        while let Some(instead) = self.go_wrong(command, event) {
            command = instead;
        }
        self.under_way = Some(command);
        self.under_way
    }

    fn state_name(&self) -> &'static str {
        self.inner.state_name()
    }
}

// ------------------------------------------------------------------------------ the world

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Transaction {
    Idle,
    Open { writes: u8 },
    Committing { visible: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Writer {
    transactions_left: u8,
    transaction: Transaction,
    /// Holds K shared.
    silent: bool,
    /// Has called `pg_notify`.
    rings: bool,
}

impl Writer {
    /// The transaction is over when nothing of its commit is left to do.
    fn end_if_done(&mut self) {
        let done = Transaction::Committing { visible: true };
        if self.transaction == done && !self.silent && !self.rings {
            self.end();
        }
    }

    fn end(&mut self) {
        self.transactions_left -= 1;
        self.transaction = Transaction::Idle;
        self.silent = false;
        self.rings = false;
    }
}

/// The command the driver executes, and how far it got.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Doing {
    /// The connections are lost, or not there yet.
    Nothing,
    Drain,
    DrainWithSnapshot {
        found: bool,
    },
    TryLock {
        granted: Option<bool>,
    },
    QueueLock,
    CancelLock {
        done: bool,
    },
    Unlock {
        done: bool,
    },
    Wait,
}

/// The listener's request in K's queue.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Request {
    None,
    /// On its way to the server.
    Sent,
    Queued,
    /// Answered; the answer is on its way back.
    Answered {
        granted: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Nobody,
    Listener,
    /// The session of a lost connection, whose end the server has not noticed.
    Ghost,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World<L> {
    listener: L,
    doing: Doing,
    request: Request,
    /// Who holds K exclusively.
    holder: Holder,
    ghost_queues: bool,
    /// In order, because writers are alike: who is who makes no different world.
    writers: Vec<Writer>,
    /// Notifications on their way to the listener.
    rings: u8,
    /// Some change is visible that no drain's snapshot has seen.
    undrained: bool,
    /// The same of a change whose writer rings.
    undrained_rung: bool,
    poke_unanswered: bool,
    pokes_left: u8,
    losses_left: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Writes,
    RollsBack,
    Commits,
    BecomesVisible,
    ReleasesLock,
    SendsRing,
    Connects,
    LosesConnections,
    GhostEnds,
    RequestArrives,
    CommandTakesEffect,
    CommandEnds,
    AnswerArrives,
    RingArrives,
    Poke,
    PauseElapses,
    SafetyDrain,
}

impl Step {
    /// Whether it happens in the end, if it stays possible.
    fn has_to_happen(self) -> bool {
        !matches!(
            self,
            Self::Writes
                | Self::RollsBack
                | Self::Commits
                | Self::LosesConnections
                | Self::GhostEnds
                | Self::Poke
                | Self::SafetyDrain
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    LostChange,
    LostPoke,
    NeverSleeps,
    Endless,
    RingsUnderLoad,
    SleepsWithoutLock,
    WrongCommand,
}

type Next<L> = Result<Vec<(Step, World<L>)>, Failure>;

impl<L: Listener> World<L> {
    fn new(listener: L, setting: &Setting) -> Self {
        let writer = Writer {
            transactions_left: setting.transactions_each,
            transaction: Transaction::Idle,
            silent: false,
            rings: false,
        };
        Self {
            listener,
            doing: Doing::Nothing,
            request: Request::None,
            holder: Holder::Nobody,
            ghost_queues: false,
            writers: vec![writer; setting.writers],
            rings: 0,
            undrained: false,
            undrained_rung: false,
            poke_unanswered: false,
            pokes_left: setting.pokes,
            losses_left: setting.connection_losses,
        }
    }

    /// All that may happen in this world.
    fn next(&self, setting: &Setting) -> Next<L> {
        let mut steps = Vec::new();
        for (index, writer) in self.writers.iter().enumerate() {
            let duplicate = index > 0 && self.writers[index - 1] == *writer;
            if !duplicate {
                self.writer_steps(index, setting, &mut steps);
            }
        }
        self.server_steps(&mut steps);
        self.driver_steps(&mut steps)?;
        for (_, world) in &mut steps {
            world.grant_queued();
            world.writers.sort_unstable();
        }
        Ok(steps)
    }

    fn writer_steps(&self, index: usize, setting: &Setting, steps: &mut Vec<(Step, Self)>) {
        let writer = self.writers[index];
        let mut push = |step, change: &dyn Fn(&mut Self, &mut Writer)| {
            let mut world = self.clone();
            let mut writer = writer;
            change(&mut world, &mut writer);
            writer.end_if_done();
            world.writers[index] = writer;
            steps.push((step, world));
        };
        let write = |writes| {
            move |world: &mut Self, writer: &mut Writer| {
                writer.transaction = Transaction::Open { writes };
                if !writer.silent {
                    let granted = world.shared_try_succeeds();
                    writer.silent = granted;
                    writer.rings |= !granted;
                }
            }
        };
        match writer.transaction {
            Transaction::Idle if writer.transactions_left > 0 => push(Step::Writes, &write(1)),
            Transaction::Idle => {}
            Transaction::Open { writes } => {
                if writes < setting.writes_each {
                    push(Step::Writes, &write(writes + 1));
                }
                push(Step::RollsBack, &|_, writer| writer.end());
                push(Step::Commits, &|_, writer| {
                    writer.transaction = Transaction::Committing { visible: false };
                });
            }
            Transaction::Committing { visible } => {
                if !visible {
                    push(Step::BecomesVisible, &|world, writer| {
                        writer.transaction = Transaction::Committing { visible: true };
                        world.undrained = true;
                        // Whoever does not listen yet will not be told of this commit.
                        writer.rings &= world.doing != Doing::Nothing;
                        world.undrained_rung |= writer.rings;
                    });
                }
                if writer.silent && (visible || !setting.visible_before_release) {
                    push(Step::ReleasesLock, &|_, writer| writer.silent = false);
                }
                if writer.rings && (visible || !setting.visible_before_ring) {
                    push(Step::SendsRing, &|world, writer| {
                        writer.rings = false;
                        world.rings += 1;
                    });
                }
            }
        }
    }

    fn server_steps(&self, steps: &mut Vec<(Step, Self)>) {
        let mut push = |step, change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            steps.push((step, world));
        };
        if self.request == Request::Sent {
            push(Step::RequestArrives, &|world| {
                world.request = Request::Queued;
            });
        }
        if self.has_ghost() {
            push(Step::GhostEnds, &|world| {
                world.ghost_queues = false;
                if world.holder == Holder::Ghost {
                    world.holder = Holder::Nobody;
                }
            });
        }
        if self.doing != Doing::Nothing && self.losses_left > 0 {
            push(Step::LosesConnections, &Self::lose_connections);
        }
        match self.doing {
            Doing::Drain => push(Step::CommandTakesEffect, &|world| {
                world.doing = Doing::DrainWithSnapshot {
                    found: world.undrained,
                };
                world.undrained = false;
                world.undrained_rung = false;
                world.poke_unanswered = false;
            }),
            Doing::TryLock { granted: None } => push(Step::CommandTakesEffect, &|world| {
                let granted = world.exclusive_try_succeeds();
                if granted {
                    world.holder = Holder::Listener;
                }
                world.doing = Doing::TryLock {
                    granted: Some(granted),
                };
            }),
            Doing::CancelLock { done: false } => push(Step::CommandTakesEffect, &|world| {
                // Too early or too late, it does nothing.
                if world.request == Request::Queued {
                    world.request = Request::Answered { granted: false };
                }
                world.doing = Doing::CancelLock { done: true };
            }),
            Doing::Unlock { done: false } => push(Step::CommandTakesEffect, &|world| {
                world.holder = Holder::Nobody;
                world.doing = Doing::Unlock { done: true };
            }),
            _ => {}
        }
    }

    fn driver_steps(&self, steps: &mut Vec<(Step, Self)>) -> Result<(), Failure> {
        let mut push = |step, event, change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            world.tell(event)?;
            steps.push((step, world));
            Ok(())
        };
        if self.doing == Doing::Nothing {
            return push(Step::Connects, Event::Connected, &|_| {});
        }
        if let Request::Answered { granted } = self.request {
            let answer = if granted {
                Event::LockGranted
            } else {
                Event::LockCancelled
            };
            push(Step::AnswerArrives, answer, &|world| {
                world.request = Request::None;
            })?;
        }
        if self.rings > 0 {
            push(Step::RingArrives, Event::Rung, &|world| world.rings -= 1)?;
        }
        if self.pokes_left > 0 {
            push(Step::Poke, Event::Poked, &|world| {
                world.pokes_left -= 1;
                world.poke_unanswered = true;
            })?;
        }
        let ends = match self.doing {
            Doing::DrainWithSnapshot { found } => Event::Drained { found },
            Doing::TryLock {
                granted: Some(granted),
            } => Event::LockTried { granted },
            Doing::QueueLock => Event::LockQueued,
            Doing::CancelLock { done: true } => Event::CancelSent,
            Doing::Unlock { done: true } => Event::Unlocked,
            Doing::Wait if self.listener.state_name() == "awake" => {
                return push(Step::PauseElapses, Event::Elapsed, &|_| {});
            }
            Doing::Wait => return push(Step::SafetyDrain, Event::Elapsed, &|_| {}),
            _ => return Ok(()),
        };
        push(Step::CommandEnds, ends, &|_| {})
    }

    /// Feeds the listener, and starts the command that it answers with.
    fn tell(&mut self, event: Event) -> Result<(), Failure> {
        let latched = matches!(
            event,
            Event::Rung | Event::Poked | Event::LockGranted | Event::LockCancelled
        );
        let Some(command) = self.listener.on(event) else {
            let may_be_silent = latched && self.doing != Doing::Wait;
            return if may_be_silent {
                Ok(())
            } else {
                Err(Failure::WrongCommand)
            };
        };
        let is_free = self.holder != Holder::Listener && self.request == Request::None;
        let allowed = match command {
            Command::Drain | Command::Wait { .. } => true,
            Command::TryLock | Command::QueueLock => is_free,
            Command::CancelLock => self.request != Request::None,
            Command::Unlock => self.holder == Holder::Listener,
        };
        if !allowed || (latched && self.doing != Doing::Wait) {
            return Err(Failure::WrongCommand);
        }
        self.doing = match command {
            Command::Drain => Doing::Drain,
            Command::Wait { .. } => Doing::Wait,
            Command::TryLock => Doing::TryLock { granted: None },
            Command::QueueLock => {
                self.request = Request::Sent;
                Doing::QueueLock
            }
            Command::CancelLock => Doing::CancelLock { done: false },
            Command::Unlock => Doing::Unlock { done: false },
        };
        Ok(())
    }

    fn lose_connections(&mut self) {
        self.losses_left -= 1;
        let doing = std::mem::replace(&mut self.doing, Doing::Nothing);
        // A drain whose result never came did not move the cursor.
        self.undrained |= doing == Doing::DrainWithSnapshot { found: true };
        self.rings = 0;
        for writer in &mut self.writers {
            if writer.transaction == (Transaction::Committing { visible: true }) {
                writer.rings = false;
                writer.end_if_done();
            }
        }
        if self.holder == Holder::Listener {
            self.holder = Holder::Ghost;
        }
        // What was sent may still be carried out. A late try is less than a place in the queue.
        self.ghost_queues = matches!(self.request, Request::Sent | Request::Queued)
            || doing == Doing::TryLock { granted: None };
        self.request = Request::None;
    }

    fn has_ghost(&self) -> bool {
        self.holder == Holder::Ghost || self.ghost_queues
    }

    fn shared_try_succeeds(&self) -> bool {
        self.holder == Holder::Nobody && !self.ghost_queues && self.request != Request::Queued
    }

    fn exclusive_try_succeeds(&self) -> bool {
        self.shared_try_succeeds() && self.writers.iter().all(|writer| !writer.silent)
    }

    /// Gives a free K to the first in its queue.
    fn grant_queued(&mut self) {
        let is_free =
            self.holder == Holder::Nobody && self.writers.iter().all(|writer| !writer.silent);
        if is_free && self.ghost_queues {
            self.ghost_queues = false;
            self.holder = Holder::Ghost;
        } else if is_free && self.request == Request::Queued {
            self.request = Request::Answered { granted: true };
            self.holder = Holder::Listener;
        }
    }

    /// What must hold in every world.
    fn check(&self) -> Result<(), Failure> {
        let between = !matches!(
            self.doing,
            Doing::Nothing | Doing::TryLock { .. } | Doing::Unlock { .. }
        );
        match self.listener.state_name() {
            "awake" if between && !self.has_ghost() && !self.shared_try_succeeds() => {
                Err(Failure::RingsUnderLoad)
            }
            "asleep" if between && self.holder != Holder::Listener => {
                Err(Failure::SleepsWithoutLock)
            }
            _ => Ok(()),
        }
    }

    /// What must hold where nothing has to happen any more.
    fn check_at_rest(&self) -> Result<(), Failure> {
        let somebody_has_k = self.has_ghost() || self.writers.iter().any(|writer| writer.silent);
        match self.listener.state_name() {
            _ if self.poke_unanswered => Err(Failure::LostPoke),
            "asleep" if self.undrained => Err(Failure::LostChange),
            // Whoever fell silent before the queue formed may have to wait for a safety drain.
            "queued" if self.undrained_rung => Err(Failure::LostChange),
            "asleep" => Ok(()),
            "queued" if somebody_has_k => Ok(()),
            _ => Err(Failure::NeverSleeps),
        }
    }
}

// ------------------------------------------------------------------------------ the search

/// The hash of Firefox: worlds are many and small, and nobody attacks them.
#[derive(Default)]
struct Fx(u64);

impl Hasher for Fx {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Caught {
    failure: Failure,
    /// A shortest way there. Only read when a test prints it.
    #[allow(dead_code)]
    way: Vec<Step>,
}

struct Search<L> {
    numbers: HashMap<World<L>, usize, BuildHasherDefault<Fx>>,
    /// How each world was reached first: from which, and by what.
    reached_by: Vec<Option<(usize, Step)>>,
    /// All steps from one world to another, but for safety drains.
    steps: Vec<(usize, usize)>,
}

/// Walks every world, nearest first, and returns how many there are.
fn search<L: Listener>(listener: L, setting: &Setting) -> Result<usize, Caught> {
    let mut search = Search {
        numbers: HashMap::default(),
        reached_by: vec![None],
        steps: Vec::new(),
    };
    let first = World::new(listener, setting);
    search.numbers.insert(first.clone(), 0);
    let mut level = vec![(0, first)];
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for (number, world) in level {
            search
                .visit(number, &world, setting, &mut next_level)
                .map_err(|failure| search.caught(failure, number))?;
        }
        level = next_level;
    }
    match search.on_an_endless_run() {
        Some(number) => Err(search.caught(Failure::Endless, number)),
        None => Ok(search.reached_by.len()),
    }
}

impl<L: Listener> Search<L> {
    fn visit(
        &mut self,
        number: usize,
        world: &World<L>,
        setting: &Setting,
        next_level: &mut Vec<(usize, World<L>)>,
    ) -> Result<(), Failure> {
        world.check()?;
        let mut at_rest = true;
        for (step, next) in world.next(setting)? {
            at_rest &= !step.has_to_happen();
            let next_number = match self.numbers.entry(next) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let next_number = self.reached_by.len();
                    self.reached_by.push(Some((number, step)));
                    next_level.push((next_number, new.key().clone()));
                    *new.insert(next_number)
                }
            };
            if step != Step::SafetyDrain {
                self.steps.push((number, next_number));
            }
        }
        if at_rest {
            world.check_at_rest()
        } else {
            Ok(())
        }
    }

    /// A world from which one can go on for ever without a safety drain. Takes away, again and
    /// again, the worlds that no step leads to; what is left then is round in a circle.
    fn on_an_endless_run(&self) -> Option<usize> {
        let count = self.reached_by.len();
        let mut leading_here = vec![0_usize; count];
        let mut first_from = vec![0; count + 1];
        for &(from, to) in &self.steps {
            leading_here[to] += 1;
            first_from[from + 1] += 1;
        }
        for number in 0..count {
            first_from[number + 1] += first_from[number];
        }
        let mut free: Vec<usize> = (0..count)
            .filter(|&number| leading_here[number] == 0)
            .collect();
        while let Some(from) = free.pop() {
            // The search visited worlds in the order of their numbers, so their steps are sorted.
            for &(_, to) in &self.steps[first_from[from]..first_from[from + 1]] {
                leading_here[to] -= 1;
                if leading_here[to] == 0 {
                    free.push(to);
                }
            }
        }
        leading_here.iter().position(|&steps| steps > 0)
    }

    fn caught(&self, failure: Failure, mut number: usize) -> Caught {
        let mut way = Vec::new();
        while let Some((from, step)) = self.reached_by[number] {
            way.push(step);
            number = from;
        }
        way.reverse();
        Caught { failure, way }
    }
}

// ------------------------------------------------------------------------------ the tests

#[track_caller]
fn holds(setting: Setting) {
    let worlds = search(Doorbell::new(TIMING), &setting).expect("nothing goes wrong");
    println!("{worlds} worlds");
    assert!(
        worlds > 1_000,
        "only {worlds} worlds: the model does not move"
    );
}

#[track_caller]
fn is_caught(fault: Fault, setting: Setting, expected: Failure) {
    let caught = search(Broken::new(fault), &setting).expect_err("the fault has to show");
    println!("{caught:?}");
    assert_eq!(caught.failure, expected, "{caught:?}");
}

#[test]
fn two_writers_of_two_transactions_each() {
    holds(TWO_WRITERS);
}

#[test]
fn three_writers() {
    holds(THREE_WRITERS);
}

#[test]
fn three_writers_at_the_default_timing() {
    let listener = Doorbell::new(Timing::default());
    let worlds = search(listener, &THREE_WRITERS).expect("nothing goes wrong");
    println!("{worlds} worlds");
}

#[test]
fn two_writers_and_a_poke() {
    holds(Setting {
        pokes: 1,
        ..TWO_WRITERS
    });
}

#[test]
fn two_writers_and_lost_connections() {
    holds(Setting {
        connection_losses: 1,
        ..TWO_WRITERS
    });
}

#[test]
fn three_writers_a_poke_and_lost_connections() {
    holds(Setting {
        writes_each: 1,
        pokes: 1,
        connection_losses: 1,
        ..THREE_WRITERS
    });
}

#[test]
fn sleeping_without_the_final_drain_is_caught() {
    is_caught(
        Fault::SleepsWithoutFinalDrain,
        TWO_WRITERS,
        Failure::LostChange,
    );
}

#[test]
fn sleeping_without_the_lock_is_caught() {
    is_caught(
        Fault::SleepsWithoutLock,
        TWO_WRITERS,
        Failure::SleepsWithoutLock,
    );
}

#[test]
fn ignoring_a_ring_during_a_drain_is_caught() {
    is_caught(Fault::DeafDuringDrain, TWO_WRITERS, Failure::LostChange);
}

#[test]
fn ignoring_a_ring_in_the_queue_is_caught() {
    is_caught(Fault::DeafInQueue, TWO_WRITERS, Failure::LostChange);
}

#[test]
fn counting_a_drain_begun_before_the_grant_is_caught() {
    is_caught(Fault::CountsEarlierDrain, TWO_WRITERS, Failure::LostChange);
}

#[test]
fn ignoring_a_poke_is_caught() {
    let setting = Setting {
        pokes: 1,
        ..TWO_WRITERS
    };
    is_caught(Fault::IgnoresPokeAsleep, setting, Failure::LostPoke);
}

#[test]
fn taking_a_cancel_for_its_answer_is_caught() {
    is_caught(Fault::TrustsCancel, TWO_WRITERS, Failure::RingsUnderLoad);
}

#[test]
fn trying_again_instead_of_queueing_is_caught() {
    is_caught(
        Fault::TriesAgainInsteadOfQueueing,
        TWO_WRITERS,
        Failure::Endless,
    );
}

/// The argument rests on PostgreSQL's order at commit, so without it changes must get lost.
#[test]
fn a_lock_released_before_the_commit_is_visible_is_caught() {
    let setting = Setting {
        visible_before_release: false,
        ..TWO_WRITERS
    };
    let caught = search(Doorbell::new(TIMING), &setting).expect_err("the fault has to show");
    assert_eq!(caught.failure, Failure::LostChange, "{caught:?}");
}

#[test]
fn a_ring_before_the_commit_is_visible_is_caught() {
    let setting = Setting {
        visible_before_ring: false,
        ..TWO_WRITERS
    };
    let caught = search(Doorbell::new(TIMING), &setting).expect_err("the fault has to show");
    assert_eq!(caught.failure, Failure::LostChange, "{caught:?}");
}
