//! The listeners that are tested: the real one, and broken ones.

use std::hash::Hash;

use rhtmx_sync_core::doorbell::{Command, Doorbell, Event, Timing};

/// Timers that expire in one or two steps, and load after two busy drains.
pub(crate) const TIMING: Timing = Timing {
    pause_between_drains_ms: 1,
    idle_before_sleep_ms: 1,
    safety_drain_ms: 2,
    busy_drains: 2,
};

pub(crate) trait Listener: Clone + Eq + Hash {
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
pub(crate) enum Fault {
    SleepsWithoutFinalDrain,
    SleepsWithoutLock,
    IgnoresRingDuringDrain,
    IgnoresRingInQueue,
    /// Takes the drain that was under way when K was granted for the one that must follow the grant.
    CountsEarlierDrain,
    IgnoresWakeAsleep,
    /// Takes the cancel itself for the answer.
    TrustsCancel,
    TriesAgainInsteadOfQueueing,
}

/// The real listener, with a fault between it and its driver.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Broken {
    inner: Doorbell,
    fault: Fault,
    under_way: Option<Command>,
}

impl Broken {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            inner: Doorbell::new(TIMING),
            fault,
            under_way: None,
        }
    }

    fn ignores(&self, event: Event) -> bool {
        match (self.fault, event) {
            (Fault::IgnoresRingDuringDrain, Event::Rung) => self.under_way == Some(Command::Drain),
            (Fault::IgnoresRingInQueue, Event::Rung) => self.inner.state_name() == "queued",
            (Fault::IgnoresWakeAsleep, Event::Woken) => self.inner.is_asleep(),
            (Fault::TrustsCancel, Event::LockGranted | Event::LockCancelled) => {
                self.inner.state_name() != "queued"
            }
            _ => false,
        }
    }

    /// Hides a command from the driver, makes up its result, and returns the command after it.
    fn misbehave(&mut self, command: Command, event: Event) -> Option<Command> {
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
        if self.ignores(event) {
            let waits = matches!(self.under_way, Some(Command::Wait { .. }));
            return self.under_way.filter(|_| waits);
        }
        let mut command = self.inner.on(event)?;
        while let Some(instead) = self.misbehave(command, event) {
            command = instead;
        }
        self.under_way = Some(command);
        self.under_way
    }

    fn state_name(&self) -> &'static str {
        self.inner.state_name()
    }
}
