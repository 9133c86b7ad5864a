//! The mutations of one client, and their answers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use merge::{Clock, NodeId};

use rhtmx_sync_tests::Dice;
use serde_json::{Value, json};
use testkit::{PushOutcome, SyncClient};
use uuid::Uuid;

use crate::scene::Scene;

/// For how many of a client's last numbers the server knows its answers.
const NUMBERS_KEPT: u64 = 64;

/// A mutation: a number of rows of the ledger with one tag, and other writes.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) tag: String,
    pub(crate) entries: usize,
    writes: Value,
    /// The last write breaks a constraint, so nothing of it may be applied.
    doomed: bool,
    /// A write of it was made before it was pushed.
    stamped: bool,
    /// Whether it was acked, once that is known.
    pub(crate) acked: Option<bool>,
    /// Whether the client has seen its rows.
    seen: bool,
}

#[derive(Debug)]
pub(crate) struct Pushes {
    client: String,
    node: NodeId,
    sent: BTreeMap<u64, Pushed>,
}

impl Pushes {
    pub(crate) fn new(client: String, client_id: Uuid) -> Self {
        Self {
            client,
            node: NodeId::of_client(client_id.as_bytes()),
            sent: BTreeMap::new(),
        }
    }

    /// The writes of the next mutation.
    pub(crate) fn next(&mut self, number: u64, dice: &mut Dice) -> Value {
        let tag = format!("{}/{number}", self.client);
        let entries = dice.pick(1..5) as usize;
        let entry = json!({ "entity": "ledger", "op": "create", "values": { "client": self.client, "tag": tag } });
        let mut writes = vec![entry; entries];
        let item = |dice: &mut Dice, title: Value| {
            json!({ "entity": "items", "op": "upsert", "values": {
                "id": dice.pick(1..400), "list": dice.pick(0..12), "n": dice.pick(0..1000), "title": title,
            } })
        };
        let node = &self.node;
        // Made a while ago, it merges with what has been written since, or loses against it.
        let made_before = |dice: &mut Dice, mut write: Value| {
            if dice.chance(50) {
                let ago = Duration::from_millis(dice.pick(0..20_000));
                let made = SystemTime::now() - ago;
                let millis = made
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_millis();
                write["hlc"] = json!(Clock::new(millis as u64, 0, node));
            }
            write
        };
        let mut doomed = false;
        match dice.pick(0..10) {
            0..3 => {
                let title = json!(format!("t{}", dice.pick(0..5)));
                let write = item(dice, title);
                writes.push(made_before(dice, write));
            }
            3 => {
                doomed = true;
                writes.push(item(dice, json!("forbidden")));
            }
            _ => {}
        }
        let pushed = Pushed {
            tag,
            entries,
            doomed,
            stamped: writes.iter().any(|write| write.get("hlc").is_some()),
            writes: json!(writes),
            acked: None,
            seen: false,
        };
        let writes = pushed.writes.clone();
        self.sent.entry(number).or_insert(pushed);
        writes
    }

    /// Records the answers that have arrived.
    pub(crate) fn record_answers(&mut self, client: &SyncClient, scene: &Scene) {
        for (number, pushed) in &mut self.sent {
            // A server that prunes at once refuses writes that were made before.
            let mut is_stale = false;
            let acked = match client.outcome(*number) {
                Some(PushOutcome::Acked { .. }) => true,
                Some(PushOutcome::Rejected(rejection)) if rejection.code == "out_of_order" => {
                    continue;
                }
                Some(PushOutcome::Rejected(rejection)) => {
                    is_stale = pushed.stamped && rejection.code == "clock";
                    false
                }
                None => continue,
            };
            if pushed.acked.is_some_and(|before| before != acked) {
                let transcript = client.transcript();
                scene.trace.fail(&format!(
                    "{} was answered in two ways\n{transcript}",
                    pushed.tag
                ));
            }
            if acked == pushed.doomed && !is_stale {
                let outcome = client.outcome(*number);
                let transcript = client.transcript();
                scene.trace.fail(&format!(
                    "{} was answered with {outcome:?}\n{transcript}",
                    pushed.tag
                ));
            }
            pushed.acked = Some(acked);
        }
    }

    /// The oldest mutation without an answer, if the server will soon not know any more how it answered.
    pub(crate) fn urgent(&self, next: u64) -> Option<(u64, Value)> {
        let mut unanswered = self
            .sent
            .iter()
            .filter(|(_, pushed)| pushed.acked.is_none());
        let (number, pushed) = unanswered.next()?;
        (number + NUMBERS_KEPT / 2 < next).then(|| (*number, pushed.writes.clone()))
    }

    /// The number of mutations without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.sent
            .values()
            .filter(|pushed| pushed.acked.is_none())
            .count()
    }

    /// The unanswered mutations that the connection does not push again by itself.
    pub(crate) fn forgotten(&self, waiting: &[u64]) -> Vec<(u64, Value)> {
        self.sent
            .iter()
            .filter(|(number, pushed)| pushed.acked.is_none() && !waiting.contains(number))
            .map(|(number, pushed)| (*number, pushed.writes.clone()))
            .collect()
    }

    /// An acked mutation is visible as a whole from the next cursor on.
    pub(crate) fn invisible(&mut self, ledger: &BTreeMap<String, Value>) -> Option<String> {
        for pushed in self
            .sent
            .values_mut()
            .filter(|pushed| pushed.acked == Some(true) && !pushed.seen)
        {
            let found = ledger
                .values()
                .filter(|row| row["tag"] == json!(pushed.tag))
                .count();
            if found != pushed.entries {
                return Some(format!(
                    "{} was acked, and {found} of its {} rows are here",
                    pushed.tag, pushed.entries
                ));
            }
            pushed.seen = true;
        }
        None
    }

    /// Hands over all mutations.
    pub(crate) fn take(&mut self) -> Vec<Pushed> {
        std::mem::take(&mut self.sent).into_values().collect()
    }
}
