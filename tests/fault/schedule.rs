//! The order of the faults, from the seed alone.

use rhtmx_sync_tests::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillServer,
    TerminateServer,
    KillLeader,
    /// The connections that listen, lead or follow, and drain.
    CutListeners,
    /// The connections that hold or wait for the doorbell.
    CutDoorbells,
    CutPools,
    CutAllConnections,
    StopPostgres,
    CutClients,
    StallClients,
    DelayClients,
    ResetClients,
    CutDatabase,
    StallDatabase,
    DelayDatabase,
    ResetDatabase,
    DeafClients,
    Burst,
    LongTransaction,
    Retention,
    AlterTable,
    LockedTable,
    UnreadableRow,
    /// The database is dumped, and the restored one takes its place.
    RestoreDump,
    /// A newer version of the engine runs beside the others.
    NewerVersion,
    WrongClocks,
    Pooler,
}

/// Every fault once; then the deck is shuffled again.
const ALL: [Fault; 27] = [
    Fault::KillServer,
    Fault::TerminateServer,
    Fault::KillLeader,
    Fault::CutListeners,
    Fault::CutDoorbells,
    Fault::CutPools,
    Fault::CutAllConnections,
    Fault::StopPostgres,
    Fault::CutClients,
    Fault::StallClients,
    Fault::DelayClients,
    Fault::ResetClients,
    Fault::CutDatabase,
    Fault::StallDatabase,
    Fault::DelayDatabase,
    Fault::ResetDatabase,
    Fault::DeafClients,
    Fault::Burst,
    Fault::LongTransaction,
    Fault::Retention,
    Fault::AlterTable,
    Fault::LockedTable,
    Fault::UnreadableRow,
    Fault::RestoreDump,
    Fault::NewerVersion,
    Fault::WrongClocks,
    Fault::Pooler,
];

/// Rounds of faults; after each round everything comes to rest.
#[derive(Debug)]
pub(crate) struct Schedule {
    dice: Dice,
    deck: Vec<Fault>,
    /// The faults to draw from: `FAULT_ONLY` and `FAULT_WITHOUT` restrict them.
    chosen: Vec<Fault>,
}

impl Schedule {
    pub(crate) fn new(dice: Dice) -> Self {
        let named = |variable: &str| std::env::var(variable).unwrap_or_default();
        let (only, without) = (named("FAULT_ONLY"), named("FAULT_WITHOUT"));
        let is_in =
            |list: &str, fault: &Fault| list.split(',').any(|name| name == format!("{fault:?}"));
        let chosen = ALL
            .into_iter()
            .filter(|fault| only.is_empty() || is_in(&only, fault));
        let chosen = chosen.filter(|fault| !is_in(&without, fault)).collect();
        Self {
            dice,
            deck: Vec::new(),
            chosen,
        }
    }

    /// The faults of the next round, in order.
    pub(crate) fn round(&mut self) -> Vec<Fault> {
        (0..self.dice.pick(2..6)).map(|_| self.draw()).collect()
    }

    fn draw(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = self.chosen.clone();
            for last in (1..self.deck.len()).rev() {
                self.deck
                    .swap(last, self.dice.pick(0..last as u64 + 1) as usize);
            }
        }
        self.deck.pop().expect("the deck was filled")
    }
}
