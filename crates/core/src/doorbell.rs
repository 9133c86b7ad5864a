//! The listener's side of the doorbell: when to drain the log, when to sleep, how never to miss a
//! change.
//!
//! A `NOTIFY` in every commit would cost a writer most of its speed, so writers ring only while
//! the listener sleeps. Both sides meet at one advisory lock, K:
//!
//! - A writer tries for K *shared*, without waiting, and keeps it until it has committed. Granted,
//!   it stays silent. Refused, it rings (`NOTIFY`).
//! - The listener sleeps by holding K *exclusively*, and lets go of it as soon as it is rung.
//!
//! The listener has two connections. L has said `LISTEN` and runs the drains; W takes and releases
//! K, because a connection that waits for a lock is told of no notification.
//!
//! # What PostgreSQL gives
//!
//! - **F1** At commit a transaction first becomes visible and then releases its locks
//!   (`CommitTransaction`: `ProcArrayEndTransaction` before the locks' `ResourceOwnerRelease`).
//! - **F2** A try for a lock fails when it conflicts with a holder *or with somebody in the queue*
//!   (`LockAcquireExtended` looks at `waitMask` first). Who holds K already is granted it again.
//! - **F3** A notification is delivered once its transaction is visible, and never if it rolled
//!   back. Whoever commits `LISTEN` first and looks at the tables after misses nothing (manual,
//!   `LISTEN`).
//! - **F4** A session's advisory lock outlives its transactions and ends with the session.
//!
//! # Invariants
//!
//! 1. *Awake means silent writers.* While awake, K is neither held nor asked for by the listener,
//!    but for the moment of a try or a release. So under load nobody rings.
//! 2. *Asleep means drained under K.* Asleep is entered only when a drain that began after K was
//!    granted has ended, and K has been held ever since.
//! 3. *Nothing heard is forgotten.* A ring or a wake is followed by a drain that begins after it
//!    was heard, whatever was under way.
//! 4. *Only the answer counts.* A queued request for K stays outstanding until its own answer
//!    comes. A cancel asks for an answer and is none: a grant that overtakes it is a grant.
//! 5. *It comes to rest.* Left alone, even beside a writer that stays open for hours, it ends in
//!    the queue or asleep after a bounded number of drains, and only the slow safety drain is left.
//!
//! No wake-up is lost: take a change that is visible while the listener is asleep and no drain is
//! due. If its writer held K shared, it did so before the listener was granted K, so it was visible
//! before that (F1), and the drain of invariant 2 saw it. If it was refused, its ring comes after
//! it was visible (F3), and the drain of invariant 3 sees it; or it was visible before we listened,
//! and the first drain saw it. The safety drain plays no part in this; it bounds the delay where
//! something broke that the argument rests on, such as a connection that died without a word.
//!
//! In the queue a ring is answered likewise. Only a writer that was silent before the queue formed
//! and ends before the last of its kind is waited for by no event: drains that grow rarer, up to
//! the safety drain's time, find its change, and at the latest the drain after the grant.
//!
//! `tests/doorbell_model.rs` runs this very machine through every interleaving of a few writers.
//!
//! # Driving it
//!
//! The driver executes one [`Command`] at a time and feeds its outcome to [`Doorbell::on`], which
//! answers with the next. A drain must take its snapshot after it was commanded. [`Event::Rung`],
//! [`Event::Woken`] and the answer to a queued request may be fed whenever they come: they end a
//! [`Command::Wait`], and are remembered during any other command. If either connection fails, the
//! driver closes both, opens both, says `LISTEN`, and feeds [`Event::Connected`].

/// The listener's pauses. All times are in milliseconds, and zero counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The wait between two drains while awake; the most a silent writer's change waits for its
    /// drain. Default 1.
    pub pause_between_drains_ms: u64,
    /// How long it must have been quiet before the listener tries to sleep. Smaller makes more
    /// writers ring, larger drains in vain for longer after each burst. Default 20.
    ///
    /// Only the waits between drains are counted, not the drains: where a drain is slow it takes
    /// longer to fall asleep, but no more drains.
    pub idle_before_sleep_ms: u64,
    /// The longest time between two drains, asleep or in the queue. Default 1,000.
    pub safety_drain_ms: u64,
    /// How many drains in a row must find something, each within `idle_before_sleep_ms` of the
    /// one before, for the listener to leave the queue: load is back. Default 5.
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

/// What the driver tells the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// L listens and W is open, both newly so. Whatever was known before is void.
    Connected,
    /// Outcome of [`Command::Drain`]: whether the log held anything new.
    Drained {
        /// The drain found changes.
        found: bool,
    },
    /// Outcome of [`Command::TryLock`].
    LockTried {
        /// K is ours now.
        granted: bool,
    },
    /// Outcome of [`Command::QueueLock`]: the request is on its way. Its answer comes later.
    LockQueued,
    /// Outcome of [`Command::CancelLock`]: the cancel is sent. The request's answer comes later.
    CancelSent,
    /// Outcome of [`Command::Unlock`].
    Unlocked,
    /// Outcome of [`Command::Wait`]: its time is over.
    Elapsed,
    /// A queued request's answer: K is ours now.
    LockGranted,
    /// A queued request's answer: it ended without K, because we cancelled it or anybody else did.
    LockCancelled,
    /// A notification came in.
    Rung,
    /// Somebody in this process wants a drain that begins after now.
    Woken,
}

/// What the driver is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Read the log once, on L, with a snapshot taken after this command.
    Drain,
    /// Wait for any event, and no longer than this.
    Wait {
        /// After so many milliseconds the wait ends with [`Event::Elapsed`].
        at_most_ms: u64,
    },
    /// Try for K on W, without waiting: `pg_try_advisory_lock`.
    TryLock,
    /// Send a request for K on W that waits in the lock's queue, and do not wait for its answer:
    /// `pg_advisory_lock`.
    QueueLock,
    /// Have the queued request cancelled, and do not wait for its answer.
    CancelLock,
    /// Release K on W: `pg_advisory_unlock`.
    Unlock,
}

/// What the listener knows of K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    /// Not ours and not asked for.
    Awake,
    /// Just refused, because a silent writer is still open.
    Refused,
    /// Asked for, in the queue. Newcomers ring already.
    Queued { busy_drains: u32 },
    /// Ours; the drain of invariant 2 has yet to begin.
    Granted,
    /// Ours; the drain of invariant 2 is under way.
    Settling,
    /// Ours, and that drain is done.
    Asleep,
}

/// The listener's state machine. See the [module](self) for what it guarantees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Doorbell {
    timing: Timing,
    state: State,
    under_way: Option<Command>,
    /// Something asks for a drain that has not begun.
    drain_due: bool,
    /// A ring came in after the last drain began.
    rung: bool,
    /// How long we have waited since a drain found something; no more than the safety drain's time.
    quiet_ms: u64,
}

impl Doorbell {
    /// A listener that does nothing until it hears [`Event::Connected`].
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

    /// Takes in one event, and answers with the next command if the one before has ended.
    ///
    /// `None` means that the command given before is still under way; the event is remembered.
    /// Every event but a latched one is answered: [`Event::Connected`], the outcome of the command
    /// under way, and anything at all during a [`Command::Wait`].
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
        self.learn(event);
        if ends_command {
            self.under_way = Some(self.next());
            self.under_way
        } else {
            None
        }
    }

    /// Whether K is held and everything committed before that is drained, so that nothing but a
    /// ring needs an answer.
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
            // Rings and pokes even before the first connection, whose drain answers them.
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

    fn learn(&mut self, event: Event) {
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
            Event::Drained { found } => self.learn_of_drain(found),
            Event::LockTried { granted: true } | Event::LockGranted => self.state = State::Granted,
            Event::LockTried { granted: false } => self.state = State::Refused,
            // Silent writers may have committed between the last drain and the request. Nobody
            // rings for them, and the grant may be long in coming.
            Event::LockQueued => self.drain_due = true,
            Event::CancelSent => {}
            // Writers fall silent from here on, so a full idle time of draining comes before the
            // next try.
            Event::LockCancelled | Event::Unlocked => {
                self.state = State::Awake;
                self.drain_due = true;
                self.quiet_ms = 0;
            }
        }
    }

    fn learn_of_drain(&mut self, found: bool) {
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

    /// Decides while nothing is under way.
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
            // A ring means that writers are at it, and they should fall silent. A wake says nothing
            // of writers: it is answered by a drain, and K is kept. That loses nothing, since
            // whoever writes meanwhile rings.
            State::Asleep if self.rung => {
                self.state = State::Awake;
                Command::Unlock
            }
            // Load is back, so newcomers should fall silent instead of ringing. The count starts
            // again, so that a cancel that came to nothing is repeated while the load lasts.
            State::Queued { busy_drains } if busy_drains >= self.timing.busy_drains.max(1) => {
                self.state = State::Queued { busy_drains: 0 };
                Command::CancelLock
            }
            _ if self.drain_due => self.drain(),
            State::Awake if self.quiet_ms >= self.idle_ms() => Command::TryLock,
            State::Awake => Command::Wait {
                at_most_ms: self.pause_ms(),
            },
            // Some writers that were silent before us in the queue may end long before the last of
            // them, and neither a ring nor the grant tells of it. So we look now and then, ever less
            // often: each is drained no later than the queue has been quiet.
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
    fn awake_a_find_starts_the_idle_time_again() {
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
    fn awake_a_ring_or_a_poke_drains_at_once() {
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
    fn what_comes_during_a_drain_drains_once_more() {
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
    fn granted_it_is_asleep_only_after_another_drain() {
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
    fn a_ring_during_the_final_drain_wakes() {
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
    fn rung_asleep_it_lets_go_and_then_drains_for_a_full_idle_time() {
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
    fn poked_asleep_it_drains_and_stays_asleep() {
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
    fn a_ring_during_a_poked_drain_wakes() {
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
    fn in_the_queue_it_looks_ever_less_often() {
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
    fn in_the_queue_finds_far_apart_are_no_load() {
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
    fn granted_in_the_queue_it_drains_and_sleeps() {
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
    fn cancelled_it_is_awake() {
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
    fn cancelled_by_somebody_else_it_waits_a_full_idle_time_before_it_tries_again() {
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
    fn a_grant_that_overtakes_the_cancel_is_taken_and_a_ring_gives_it_back() {
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
    fn a_cancel_that_came_to_nothing_is_repeated_under_load() {
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
    fn connected_anew_it_forgets_everything_and_drains() {
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
    fn times_of_zero_neither_spin_nor_stay_awake() {
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
    fn an_outcome_of_a_command_not_given_is_the_drivers_defect() {
        let _ = asleep().on(Event::Unlocked);
    }
}
