//! The listener's side of the doorbell: when to drain the log, when to sleep, and how not to miss a
//! change.
//!
//! A `NOTIFY` in every commit would cost a writer most of its speed, so writers ring only while
//! the listener sleeps. Both sides meet at one advisory lock, K:
//!
//! - A writer tries for K *shared*, without waiting, and keeps it until it has committed. If K is
//!   granted, the writer stays silent; if not, it rings (`NOTIFY`).
//! - The listener sleeps by holding K *exclusively*, and releases it as soon as it is rung.
//!
//! The listener has two connections. L has executed `LISTEN` and runs the drains; W takes and releases
//! K, because a connection that waits for a lock receives no notifications.
//!
//! # What PostgreSQL gives
//!
//! - **F1** At commit a transaction first becomes visible and then releases its locks
//!   (`CommitTransaction`: `ProcArrayEndTransaction` before the locks' `ResourceOwnerRelease`).
//! - **F2** A try for a lock fails when it conflicts with a holder *or with a waiter in the queue*
//!   (`LockAcquireExtended` looks at `waitMask` first). A holder of K is granted it again.
//! - **F3** A notification is delivered once its transaction is visible, and never if it rolled
//!   back. A client that commits `LISTEN` first and reads the tables after that misses nothing (manual,
//!   `LISTEN`).
//! - **F4** An advisory lock of a database session outlives its transactions and ends with the session.
//!
//! # Invariants
//!
//! 1. *Awake means silent writers.* While awake, the listener neither holds nor requests K, except
//!    during a try or a release. So under load no writer rings.
//! 2. *Asleep means drained under K.* The listener falls asleep only when a drain that began after K
//!    was granted has ended, and K has been held ever since.
//! 3. *No event is forgotten.* A ring or a wake is followed by a drain that begins after it arrived,
//!    whatever was under way.
//! 4. *Only the answer counts.* A queued request for K stays outstanding until its own answer
//!    arrives. A cancel asks for an answer and is not one: a grant that overtakes it is a grant.
//! 5. *It comes to rest.* Left alone, even beside a writer that stays open for hours, the listener ends
//!    in the queue or asleep after a bounded number of drains, and only the slow safety drain is left.
//!
//! No wake-up is lost. Take a change that is visible while the listener is asleep and no drain is
//! due. If its writer held K shared, it did so before the listener was granted K, so the change was
//! visible before that (F1), and the drain of invariant 2 saw it. If the writer was refused K, its ring
//! arrives after the change is visible (F3), and the drain of invariant 3 sees it; or the change was
//! visible before `LISTEN`, and the first drain saw it. The safety drain plays no part in this; it
//! bounds the delay when something breaks that the argument rests on, such as a connection that dies
//! silently.
//!
//! A ring in the queue is answered in the same way. Only the end of a writer that was silent before the
//! queue formed, when another of them is still open, causes no event. Its change is found by drains at
//! growing intervals, up to the safety drain's time, and at the latest by the drain after the grant.
//!
//! `tests/doorbell_model` runs this same machine through every interleaving of a few writers.
//!
//! # Driving it
//!
//! The driver executes one [`Command`] at a time and feeds its result to [`Doorbell::on`], which
//! answers with the next. A drain must take its snapshot after it was commanded. [`Event::Rung`],
//! [`Event::Woken`] and the answer to a queued request may be fed whenever they arrive: they end a
//! [`Command::Wait`], and are remembered during any other command. If either connection fails, the
//! driver closes both, opens both, executes `LISTEN`, and feeds [`Event::Connected`].

/// The listener's pauses. All times are in milliseconds, and zero counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The wait between two drains while awake; the most a silent writer's change waits for its
    /// drain. Default 1.
    pub pause_between_drains_ms: u64,
    /// How long nothing must have been found before the listener tries to sleep. A smaller value
    /// makes more writers ring, a larger one drains in vain for longer after each burst. Default 20.
    ///
    /// Only the waits between drains are counted, not the drains: where drains are slow it takes
    /// longer to fall asleep, but not more drains.
    pub idle_before_sleep_ms: u64,
    /// The longest time between two drains, asleep or in the queue. Default 1,000.
    pub safety_drain_ms: u64,
    /// How many drains in a row must find something, each within `idle_before_sleep_ms` of the
    /// one before, for the listener to leave the queue because load is back. Default 5.
    pub busy_drains: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            pause_between_drains_ms: 1,
            idle_before_sleep_ms: 20,
            safety_drain_ms: 1_000,
            busy_drains: 5,
        }
    }
}

/// What has happened, as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// L listens and W is open, both on new connections. The state before is void.
    Connected,
    /// Result of [`Command::Drain`]: whether the log held anything new.
    Drained {
        /// The drain found changes.
        found: bool,
    },
    /// Result of [`Command::TryLock`].
    LockTried {
        /// K is ours now.
        granted: bool,
    },
    /// Result of [`Command::QueueLock`]: the request is on its way. Its answer comes later.
    LockQueued,
    /// Result of [`Command::CancelLock`]: the cancel is sent. The request's answer comes later.
    CancelSent,
    /// Result of [`Command::Unlock`].
    Unlocked,
    /// Result of [`Command::Wait`]: its time is over.
    Elapsed,
    /// A queued request's answer: K is ours now.
    LockGranted,
    /// A queued request's answer: it ended without K, cancelled by us or by somebody else.
    LockCancelled,
    /// A notification arrived.
    Rung,
    /// This process needs a drain that begins after now.
    Woken,
}

/// What the driver has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Read the log once, on L, with a snapshot taken after this command.
    Drain,
    /// Wait for any event, for a limited time.
    Wait {
        /// After this time the wait ends with [`Event::Elapsed`].
        at_most_ms: u64,
    },
    /// Try for K on W, without waiting: `pg_try_advisory_lock`.
    TryLock,
    /// Send a request for K on W that waits in the lock's queue, without waiting for its answer:
    /// `pg_advisory_lock`.
    QueueLock,
    /// Send a cancel for the queued request, without waiting for the request's answer.
    CancelLock,
    /// Release K on W: `pg_advisory_unlock`.
    Unlock,
}

/// What the listener knows of K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    /// Neither held nor requested.
    Awake,
    /// Just refused, because a silent writer is still open.
    Refused,
    /// Requested, in the queue. New writers ring already.
    Queued { busy_drains: u32 },
    /// Held; the drain of invariant 2 has yet to begin.
    Granted,
    /// Held; the drain of invariant 2 is under way.
    Settling,
    /// Held, and that drain is done.
    Asleep,
}

/// The listener's state machine. See the [module](self) for what it guarantees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Doorbell {
    timing: Timing,
    state: State,
    under_way: Option<Command>,
    /// A drain is needed that has not begun.
    drain_due: bool,
    /// A ring arrived after the last drain began.
    rung: bool,
    /// How long the listener has waited since a drain found something, at most the safety drain's time.
    quiet_ms: u64,
}

impl Doorbell {
    /// Makes a listener that does nothing until [`Event::Connected`].
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            state: State::Awake,
            under_way: None,
            drain_due: false,
            rung: false,
            quiet_ms: 0,
        }
    }

    /// Takes in one event, and returns the next command if the one before has ended.
    ///
    /// `None` means that the command before is still under way; the event is remembered. These events
    /// return a command: [`Event::Connected`], the result of the command under way, and any event during a
    /// [`Command::Wait`].
    ///
    /// # Panics
    ///
    /// With debug assertions, when the event cannot follow the commands given: a defect of the
    /// driver. Without them such an event is ignored.
    pub fn on(&mut self, event: Event) -> Option<Command> {
        if !self.is_expected(event) {
            debug_assert!(false, "{event:?} cannot come now: {self:?}");
            return None;
        }
        let ends_command = self.ends_command(event);
        self.take_in(event);
        if ends_command {
            self.under_way = Some(self.next());
            self.under_way
        } else {
            None
        }
    }

    /// Whether K is held and everything committed before that is drained, so that only a ring needs
    /// an answer.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.state == State::Asleep
    }

    /// The state as a word, for logs and metrics: `awake`, `queued`, `settling` or `asleep`.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Awake | State::Refused => "awake",
            State::Queued { .. } => "queued",
            State::Granted | State::Settling => "settling",
            State::Asleep => "asleep",
        }
    }

    fn is_expected(&self, event: Event) -> bool {
        match event {
            // A ring or a wake may even come before the first connection, whose drain answers it.
            Event::Connected | Event::Rung | Event::Woken => true,
            Event::LockGranted | Event::LockCancelled => matches!(self.state, State::Queued { .. }),
            _ => self.ends_command(event),
        }
    }

    fn ends_command(&self, event: Event) -> bool {
        use Command::{CancelLock, Drain, QueueLock, TryLock, Unlock, Wait};
        match event {
            Event::Connected => true,
            Event::Drained { .. } => self.under_way == Some(Drain),
            Event::LockTried { .. } => self.under_way == Some(TryLock),
            Event::LockQueued => self.under_way == Some(QueueLock),
            Event::CancelSent => self.under_way == Some(CancelLock),
            Event::Unlocked => self.under_way == Some(Unlock),
            Event::Elapsed
            | Event::LockGranted
            | Event::LockCancelled
            | Event::Rung
            | Event::Woken => matches!(self.under_way, Some(Wait { .. })),
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Connected => {
                *self = Self::new(self.timing);
                self.drain_due = true;
            }
            Event::Rung => {
                self.rung = true;
                self.drain_due = true;
            }
            Event::Woken => self.drain_due = true,
            Event::Elapsed => {
                if let Some(Command::Wait { at_most_ms }) = self.under_way {
                    let quiet_ms = self.quiet_ms.saturating_add(at_most_ms);
                    self.quiet_ms = quiet_ms.min(self.longest_wait_ms());
                }
                self.drain_due = true;
            }
            Event::Drained { found } => self.take_in_drain(found),
            Event::LockTried { granted: true } | Event::LockGranted => self.state = State::Granted,
            Event::LockTried { granted: false } => self.state = State::Refused,
            // Silent writers may have committed between the last drain and the request. Nobody
            // rings for them, and the grant may take long.
            Event::LockQueued => self.drain_due = true,
            Event::CancelSent => {}
            // Writers are silent from here on, so a full idle time of draining precedes the next try.
            Event::LockCancelled | Event::Unlocked => {
                self.state = State::Awake;
                self.drain_due = true;
                self.quiet_ms = 0;
            }
        }
    }

    fn take_in_drain(&mut self, found: bool) {
        let load = self.quiet_ms < self.idle_ms();
        match &mut self.state {
            State::Settling => self.state = State::Asleep,
            State::Queued { busy_drains } if found && load => *busy_drains += 1,
            State::Queued { busy_drains } if found => *busy_drains = 1,
            _ => {}
        }
        if found {
            self.quiet_ms = 0;
        }
    }

    /// Decides on the next command, when none is under way.
    fn next(&mut self) -> Command {
        match self.state {
            State::Refused => {
                self.state = State::Queued { busy_drains: 0 };
                Command::QueueLock
            }
            State::Granted => {
                self.state = State::Settling;
                self.drain()
            }
            // A ring means that there are writers, which should fall silent. A wake says nothing about
            // writers: a drain answers it, and K is kept. That loses nothing, since a writer rings
            // meanwhile.
            State::Asleep if self.rung => {
                self.state = State::Awake;
                Command::Unlock
            }
            // Load is back, so new writers should be silent instead of ringing. The count starts
            // again, so that a cancel without effect is repeated while the load lasts.
            State::Queued { busy_drains } if busy_drains >= self.timing.busy_drains.max(1) => {
                self.state = State::Queued { busy_drains: 0 };
                Command::CancelLock
            }
            _ if self.drain_due => self.drain(),
            State::Awake if self.quiet_ms >= self.idle_ms() => Command::TryLock,
            State::Awake => Command::Wait {
                at_most_ms: self.pause_ms(),
            },
            // A silent writer ahead in the queue may end long before the last of them, and neither a ring
            // nor the grant reports it. So drains continue at growing intervals: each wait is as long as
            // the queue has been quiet.
            State::Queued { .. } => Command::Wait {
                at_most_ms: self.quiet_ms.max(self.idle_ms()),
            },
            State::Settling | State::Asleep => Command::Wait {
                at_most_ms: self.longest_wait_ms(),
            },
        }
    }

    fn drain(&mut self) -> Command {
        self.drain_due = false;
        self.rung = false;
        Command::Drain
    }

    fn pause_ms(&self) -> u64 {
        self.timing.pause_between_drains_ms.max(1)
    }

    fn idle_ms(&self) -> u64 {
        self.timing.idle_before_sleep_ms.max(1)
    }

    fn longest_wait_ms(&self) -> u64 {
        self.timing.safety_drain_ms.max(self.idle_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        pause_between_drains_ms: 1,
        idle_before_sleep_ms: 2,
        safety_drain_ms: 8,
        busy_drains: 2,
    };
    const FOUND: Event = Event::Drained { found: true };
    const FOUND_NOTHING: Event = Event::Drained { found: false };
    const GRANTED: Event = Event::LockTried { granted: true };
    const REFUSED: Event = Event::LockTried { granted: false };

    fn wait(at_most_ms: u64) -> Option<Command> {
        Some(Command::Wait { at_most_ms })
    }

    #[track_caller]
    fn follow(doorbell: &mut Doorbell, script: &[(Event, Option<Command>)]) {
        for (step, &(event, command)) in script.iter().enumerate() {
            assert_eq!(doorbell.on(event), command, "step {step}, {event:?}");
        }
    }

    /// Awake, with the first drain under way.
    fn awake() -> Doorbell {
        let mut doorbell = Doorbell::new(TIMING);
        follow(&mut doorbell, &[(Event::Connected, Some(Command::Drain))]);
        doorbell
    }

    /// Awake, with a try under way.
    fn trying() -> Doorbell {
        let mut doorbell = awake();
        follow(
            &mut doorbell,
            &[
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, Some(Command::TryLock)),
            ],
        );
        doorbell
    }

    /// Asleep, waiting.
    fn asleep() -> Doorbell {
        let mut doorbell = trying();
        follow(
            &mut doorbell,
            &[(GRANTED, Some(Command::Drain)), (FOUND_NOTHING, wait(8))],
        );
        doorbell
    }

    /// In the queue, waiting.
    fn queued() -> Doorbell {
        let mut doorbell = trying();
        follow(
            &mut doorbell,
            &[
                (REFUSED, Some(Command::QueueLock)),
                (Event::LockQueued, Some(Command::Drain)),
                (FOUND_NOTHING, wait(2)),
            ],
        );
        doorbell
    }

    /// In the queue, where the second busy drain has just made it send a cancel.
    fn cancelling() -> Doorbell {
        let mut doorbell = queued();
        follow(
            &mut doorbell,
            &[
                (Event::Rung, Some(Command::Drain)),
                (FOUND, wait(2)),
                (Event::Rung, Some(Command::Drain)),
                (FOUND, Some(Command::CancelLock)),
            ],
        );
        doorbell
    }

    #[test]
    fn an_awake_listener_that_finds_changes_restarts_the_idle_time() {
        let mut doorbell = awake();
        follow(
            &mut doorbell,
            &[
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, Some(Command::TryLock)),
            ],
        );
    }

    #[test]
    fn an_awake_listener_drains_at_once_on_a_ring_or_a_wake() {
        let mut doorbell = awake();
        follow(
            &mut doorbell,
            &[
                (FOUND_NOTHING, wait(1)),
                (Event::Rung, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
                (Event::Woken, Some(Command::Drain)),
            ],
        );
    }

    #[test]
    fn a_ring_or_a_wake_during_a_drain_causes_one_more() {
        for event in [Event::Rung, Event::Woken] {
            let mut doorbell = awake();
            follow(
                &mut doorbell,
                &[
                    (event, None),
                    (event, None),
                    (FOUND, Some(Command::Drain)),
                    (FOUND_NOTHING, wait(1)),
                ],
            );
        }
    }

    #[test]
    fn a_listener_that_is_granted_the_lock_sleeps_only_after_another_drain() {
        let mut doorbell = trying();
        follow(&mut doorbell, &[(GRANTED, Some(Command::Drain))]);
        assert_eq!(doorbell.state_name(), "settling");
        assert!(!doorbell.is_asleep());
        follow(&mut doorbell, &[(FOUND, wait(8))]);
        assert_eq!(doorbell.state_name(), "asleep");
        assert!(doorbell.is_asleep());
    }

    #[test]
    fn a_ring_during_the_try_is_answered_by_the_drain_that_follows() {
        let mut doorbell = trying();
        follow(
            &mut doorbell,
            &[
                (Event::Rung, None),
                (GRANTED, Some(Command::Drain)),
                (FOUND, wait(8)),
            ],
        );
    }

    #[test]
    fn a_ring_during_the_final_drain_releases_the_lock() {
        let mut doorbell = trying();
        follow(
            &mut doorbell,
            &[
                (GRANTED, Some(Command::Drain)),
                (Event::Rung, None),
                (FOUND_NOTHING, Some(Command::Unlock)),
                (Event::Unlocked, Some(Command::Drain)),
            ],
        );
    }

    #[test]
    fn a_ring_wakes_a_sleeping_listener_for_a_full_idle_time() {
        let mut doorbell = asleep();
        follow(&mut doorbell, &[(Event::Rung, Some(Command::Unlock))]);
        assert!(!doorbell.is_asleep());
        follow(
            &mut doorbell,
            &[
                (Event::Unlocked, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, Some(Command::TryLock)),
            ],
        );
    }

    #[test]
    fn a_wake_makes_a_sleeping_listener_drain_and_sleep_on() {
        let mut doorbell = asleep();
        follow(
            &mut doorbell,
            &[
                (Event::Woken, Some(Command::Drain)),
                (FOUND, wait(8)),
                (Event::Elapsed, Some(Command::Drain)),
                (Event::Woken, None),
                (FOUND_NOTHING, Some(Command::Drain)),
                (FOUND_NOTHING, wait(8)),
            ],
        );
        assert!(doorbell.is_asleep());
    }

    #[test]
    fn a_ring_during_the_drain_of_a_wake_releases_the_lock() {
        let mut doorbell = asleep();
        follow(
            &mut doorbell,
            &[
                (Event::Woken, Some(Command::Drain)),
                (Event::Rung, None),
                (FOUND, Some(Command::Unlock)),
                (Event::Unlocked, Some(Command::Drain)),
            ],
        );
    }

    #[test]
    fn a_queued_listener_drains_at_growing_intervals() {
        let mut doorbell = queued();
        follow(
            &mut doorbell,
            &[
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, wait(4)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, wait(8)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, wait(8)),
            ],
        );
        assert_eq!(doorbell.state_name(), "queued");
    }

    #[test]
    fn a_queued_listener_does_not_take_rare_changes_for_load() {
        let mut doorbell = queued();
        for _ in 0..5 {
            follow(
                &mut doorbell,
                &[
                    (Event::Rung, Some(Command::Drain)),
                    (FOUND, wait(2)),
                    (Event::Elapsed, Some(Command::Drain)),
                    (FOUND_NOTHING, wait(2)),
                ],
            );
        }
    }

    #[test]
    fn a_queued_listener_drains_and_sleeps_when_granted_the_lock() {
        let mut doorbell = queued();
        follow(
            &mut doorbell,
            &[(Event::LockGranted, Some(Command::Drain)), (FOUND, wait(8))],
        );
        assert!(doorbell.is_asleep());
    }

    #[test]
    fn a_drain_begun_before_the_grant_is_not_the_final_one() {
        let mut doorbell = queued();
        follow(
            &mut doorbell,
            &[
                (Event::Rung, Some(Command::Drain)),
                (Event::LockGranted, None),
                (FOUND, Some(Command::Drain)),
                (FOUND, wait(8)),
            ],
        );
        assert!(doorbell.is_asleep());
    }

    #[test]
    fn a_listener_that_cancelled_its_request_is_awake() {
        let mut doorbell = cancelling();
        follow(
            &mut doorbell,
            &[
                (Event::CancelSent, wait(2)),
                (Event::LockCancelled, Some(Command::Drain)),
                (FOUND, wait(1)),
            ],
        );
        assert_eq!(doorbell.state_name(), "awake");
    }

    #[test]
    fn a_listener_whose_request_somebody_cancels_waits_a_full_idle_time_before_the_next_try() {
        let mut doorbell = queued();
        follow(
            &mut doorbell,
            &[
                (Event::LockCancelled, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, Some(Command::TryLock)),
            ],
        );
    }

    #[test]
    fn a_grant_that_overtakes_the_cancel_counts_until_a_ring() {
        let mut doorbell = cancelling();
        follow(
            &mut doorbell,
            &[
                (Event::LockGranted, None),
                (Event::CancelSent, Some(Command::Drain)),
                (Event::Rung, None),
                (FOUND, Some(Command::Unlock)),
                (Event::Unlocked, Some(Command::Drain)),
            ],
        );
        assert_eq!(doorbell.state_name(), "awake");
    }

    #[test]
    fn a_cancel_without_effect_is_repeated_under_load() {
        let mut doorbell = cancelling();
        follow(
            &mut doorbell,
            &[
                (Event::Rung, None),
                (Event::CancelSent, Some(Command::Drain)),
                (Event::Rung, None),
                (FOUND, Some(Command::Drain)),
                (Event::Rung, None),
                (FOUND, Some(Command::CancelLock)),
                (Event::CancelSent, Some(Command::Drain)),
            ],
        );
    }

    #[test]
    fn a_new_connection_resets_the_listener_to_its_first_drain() {
        for mut doorbell in [awake(), trying(), queued(), cancelling(), asleep()] {
            follow(&mut doorbell, &[(Event::Connected, Some(Command::Drain))]);
            assert_eq!(doorbell, awake());
        }
    }

    #[test]
    fn before_the_first_connection_nothing_is_commanded() {
        let mut doorbell = Doorbell::new(TIMING);
        follow(
            &mut doorbell,
            &[
                (Event::Woken, None),
                (Event::Rung, None),
                (Event::Connected, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
            ],
        );
    }

    #[test]
    fn a_listener_with_times_of_zero_neither_spins_nor_stays_awake() {
        let mut doorbell = Doorbell::new(Timing {
            pause_between_drains_ms: 0,
            idle_before_sleep_ms: 0,
            safety_drain_ms: 0,
            busy_drains: 0,
        });
        follow(
            &mut doorbell,
            &[
                (Event::Connected, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
                (Event::Elapsed, Some(Command::Drain)),
                (FOUND_NOTHING, Some(Command::TryLock)),
                (GRANTED, Some(Command::Drain)),
                (FOUND_NOTHING, wait(1)),
            ],
        );
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "cannot come now")]
    fn a_result_of_a_command_that_was_not_given_panics() {
        let _ = asleep().on(Event::Unlocked);
    }
}
