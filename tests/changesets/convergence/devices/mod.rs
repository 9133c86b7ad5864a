//! Devices that edit offline and push later, wherever they are, with clocks that are wrong.

mod edits;
mod visits;

use std::collections::{BTreeMap, BTreeSet};

use merge::{Clock, NodeId};
use rhtmx_sync_tests::Dice;
use serde_json::Value;
use testkit::{ClientState, PushOutcome, SyncClient};
use uuid::Uuid;

pub(super) struct Device {
    client_id: Uuid,
    node: NodeId,
    /// How wrong its clock is.
    ahead_ms: i64,
    issued: BTreeSet<String>,
    /// The mutations that no server has been sent.
    queue: Vec<Queued>,
    /// What it has seen, wherever it was last.
    rows: BTreeMap<String, Value>,
    metadata: BTreeMap<String, Value>,
    online: Option<Online>,
    /// What it keeps of each site.
    kept: Vec<Kept>,
}

/// A mutation that waits.
struct Queued {
    writes: Value,
    /// It is sent to two servers, as by somebody who does not know what became of it at the first.
    is_sent_twice: bool,
}

/// Where it is connected.
struct Online {
    site: usize,
    client: SyncClient,
}

/// What it keeps of a site.
#[derive(Default)]
struct Kept {
    state: Option<ClientState>,
    /// By number, the writes and the answer.
    sent: BTreeMap<u64, (Value, Option<PushOutcome>)>,
}

impl Device {
    pub(super) fn new(number: u8, sites: usize) -> Self {
        // Two of them bear one name, as after somebody has copied an installation.
        let mut id = [0; 16];
        (id[4], id[15]) = (number.min(1), number);
        Self {
            client_id: Uuid::from_bytes(id),
            node: NodeId::of_client(&id),
            ahead_ms: 0,
            issued: BTreeSet::new(),
            queue: Vec::new(),
            rows: BTreeMap::new(),
            metadata: BTreeMap::new(),
            online: None,
            kept: (0..sites).map(|_| Kept::default()).collect(),
        }
    }

    /// The newest clock that it has seen of a row.
    fn seen(&self, key: &str) -> Option<Clock> {
        fn newest(value: &Value) -> Option<Clock> {
            match value {
                Value::String(text) => Clock::read(text).ok(),
                Value::Array(items) => items.iter().filter_map(newest).max(),
                Value::Object(members) => members.values().filter_map(newest).max(),
                _ => None,
            }
        }
        let members = self.metadata.get(key)?.as_object()?;
        let members = members.iter().filter(|(name, _)| *name != "lost");
        members.filter_map(|(_, value)| newest(value)).max()
    }

    /// A clock that it never issued before. Its time is that of the last half second, so that devices often agree.
    fn now(&mut self, above: Option<&Clock>) -> Clock {
        const TICK_MS: u64 = 500;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.expect("after 1970").as_millis() as u64;
        let millis = now_ms.saturating_add_signed(self.ahead_ms) / TICK_MS * TICK_MS;
        let mut clock = Clock::after(above, millis, &self.node).expect("a clock");
        while !self.issued.insert(clock.to_string()) {
            clock = Clock::after(Some(&clock), millis, &self.node).expect("a clock");
        }
        clock
    }

    /// Somebody sets its clock.
    fn set_clock(&mut self, dice: &mut Dice) {
        const DAY_MS: i64 = 86_400_000;
        const AHEAD_MS: [i64; 6] = [0, 0, -DAY_MS, -3_600_000, 2_000, DAY_MS];
        self.ahead_ms = AHEAD_MS[dice.pick(0..AHEAD_MS.len() as u64) as usize];
    }
}
