//! One state of the writers, PostgreSQL, the driver and the listener, and all steps from it.

use std::hash::Hash;

use rhtmx_sync_core::doorbell::{Command, Event};

use crate::listeners::Listener;

/// What may happen in a run, and which of PostgreSQL's promises hold.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) writers: usize,
    pub(crate) transactions_each: u8,
    pub(crate) writes_each: u8,
    pub(crate) wakes: u8,
    pub(crate) connection_losses: u8,
    /// At commit a transaction becomes visible before it releases its locks.
    pub(crate) visible_before_release: bool,
    /// A notification is delivered after its transaction has become visible.
    pub(crate) visible_before_ring: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Transaction {
    Idle,
    Open { writes: u8 },
    Committing { visible: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Writer {
    transactions_left: u8,
    transaction: Transaction,
    /// Holds K shared.
    silent: bool,
    /// Has called `pg_notify`.
    rings: bool,
}

impl Writer {
    /// Ends the transaction when every step of its commit is done.
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

/// The command that the driver executes, and its progress.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    /// The connections are lost, or not open yet.
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
pub(crate) enum Request {
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
pub(crate) enum Holder {
    Nobody,
    Listener,
    /// The database session of a lost connection, whose end PostgreSQL has not noticed.
    Ghost,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct World<L> {
    listener: L,
    doing: Doing,
    request: Request,
    /// The exclusive holder of K.
    holder: Holder,
    ghost_queues: bool,
    /// Sorted, because writers are alike: exchanging two of them makes the same world.
    writers: Vec<Writer>,
    /// Notifications on their way to the listener.
    rings: u8,
    /// Some change is visible that no drain's snapshot has seen.
    undrained: bool,
    /// One of those changes has a writer that rings.
    undrained_rung: bool,
    wake_unanswered: bool,
    wakes_left: u8,
    losses_left: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
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
    Wake,
    PauseElapses,
    SafetyDrain,
}

impl Step {
    /// Whether the step happens in the end, as long as it stays possible.
    pub(crate) fn has_to_happen(self) -> bool {
        !matches!(
            self,
            Self::Writes
                | Self::RollsBack
                | Self::Commits
                | Self::LosesConnections
                | Self::GhostEnds
                | Self::Wake
                | Self::SafetyDrain
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    LostChange,
    LostWake,
    NeverSleeps,
    Endless,
    RingsUnderLoad,
    SleepsWithoutLock,
    WrongCommand,
}

pub(crate) type Next<L> = Result<Vec<(Step, World<L>)>, Failure>;

impl<L: Listener> World<L> {
    pub(crate) fn new(listener: L, setting: &Setting) -> Self {
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
            wake_unanswered: false,
            wakes_left: setting.wakes,
            losses_left: setting.connection_losses,
        }
    }

    /// All steps that are possible in this world.
    pub(crate) fn next(&self, setting: &Setting) -> Next<L> {
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
                        // A listener that does not listen yet receives no ring of this commit.
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
                world.wake_unanswered = false;
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
                // A cancel that is too early or too late has no effect.
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
            world.feed(event)?;
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
        if self.wakes_left > 0 {
            push(Step::Wake, Event::Woken, &|world| {
                world.wakes_left -= 1;
                world.wake_unanswered = true;
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

    /// Feeds the listener an event, and starts the command that it returns.
    fn feed(&mut self, event: Event) -> Result<(), Failure> {
        let latched = matches!(
            event,
            Event::Rung | Event::Woken | Event::LockGranted | Event::LockCancelled
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
        // A drain whose result never arrived did not move the cursor.
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
        // A command that was sent may still take effect. A late try blocks less than a request in the queue.
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

    /// Grants a free K to the first in its queue.
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

    /// Checks what must hold in every world.
    pub(crate) fn check(&self) -> Result<(), Failure> {
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

    /// Checks what must hold where nothing has to happen any more.
    pub(crate) fn check_at_rest(&self) -> Result<(), Failure> {
        let somebody_has_k = self.has_ghost() || self.writers.iter().any(|writer| writer.silent);
        match self.listener.state_name() {
            _ if self.wake_unanswered => Err(Failure::LostWake),
            "asleep" if self.undrained => Err(Failure::LostChange),
            // The change of a writer that was silent before the queue formed may wait for a safety drain.
            "queued" if self.undrained_rung => Err(Failure::LostChange),
            "asleep" => Ok(()),
            "queued" if somebody_has_k => Ok(()),
            _ => Err(Failure::NeverSleeps),
        }
    }
}
