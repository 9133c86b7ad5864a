//! Snapshots of a running server, taken while transactions end in another order than they began.

use std::collections::BTreeMap;

use rhtmx_sync_tests::Dice;
use sync_core::snapshot::{Snapshot, Xid};
use testkit::TestDatabase;
use tokio_postgres::Client;

use crate::visibility::{includes, snapshot, visible};

const CONNECTIONS: usize = 10;
const STEPS: usize = 300;

/// Transactions that begin and end at random, one step at a time.
struct Traffic {
    dice: Dice,
    connections: Vec<Client>,
    /// The open transaction of each connection.
    open: Vec<Option<Xid>>,
    /// Every transaction, and whether it has ended.
    ended: BTreeMap<Xid, bool>,
}

impl Traffic {
    async fn new(db: &TestDatabase, dice: Dice) -> Self {
        db.execute("CREATE TABLE marks (id bigserial)").await;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(db.connect_postgres().await);
        }
        Self {
            dice,
            connections,
            open: vec![None; CONNECTIONS],
            ended: BTreeMap::new(),
        }
    }

    async fn step(&mut self) {
        let at = self.dice.pick(0..CONNECTIONS as u64) as usize;
        let conn = &self.connections[at];
        let Some(xid) = self.open[at] else {
            conn.batch_execute("BEGIN").await.expect("a transaction");
            let row = conn
                .query_one("SELECT pg_current_xact_id()::text", &[])
                .await;
            let xid = row
                .expect("a number")
                .get::<_, String>(0)
                .parse()
                .expect("a number");
            self.open[at] = Some(xid);
            self.ended.insert(xid, false);
            return;
        };
        let ending = match self.dice.pick(0..4) {
            0 => {
                // A subtransaction with a number of its own, which core's snapshots need not know.
                let nested = "SAVEPOINT s; INSERT INTO marks DEFAULT VALUES; RELEASE s";
                return conn.batch_execute(nested).await.expect("a savepoint");
            }
            1 => "ROLLBACK",
            _ => "COMMIT",
        };
        conn.batch_execute(ending).await.expect(ending);
        self.open[at] = None;
        self.ended.insert(xid, true);
    }
}

#[tokio::test]
async fn real_snapshots_contain_ended_transactions() {
    let mut dice = Dice::new("real_snapshots_see_what_has_ended");
    let db = TestDatabase::postgres().await;
    let observer = db.connect_postgres().await;
    let mut traffic = Traffic::new(&db, dice.split()).await;
    let mut taken: Vec<Snapshot> = Vec::new();
    for _ in 0..STEPS {
        traffic.step().await;
        let seen = snapshot(&observer).await;
        for (xid, ended) in &traffic.ended {
            assert_eq!(seen.contains(*xid), *ended, "{xid} in {seen}");
        }
        taken.push(seen);
    }
    assert!(
        taken.iter().any(|snapshot| snapshot.running().len() > 2),
        "nothing ran side by side"
    );

    let xids = traffic.ended.keys().copied();
    let pairs: Vec<(&Snapshot, Xid)> = taken
        .iter()
        .flat_map(|seen| xids.clone().map(move |xid| (seen, xid)))
        .collect();
    let expected = visible(&observer, &pairs).await;
    for ((snapshot, xid), expected) in pairs.into_iter().zip(expected) {
        assert_eq!(snapshot.contains(xid), expected, "{xid} in {snapshot}");
    }
}

/// Of two snapshots of one server the later one sees everything that the earlier one sees.
#[tokio::test]
async fn later_snapshots_cover_earlier_ones() {
    let mut dice = Dice::new("later_snapshots_cover_earlier_ones");
    let db = TestDatabase::postgres().await;
    let observer = db.connect_postgres().await;
    let mut traffic = Traffic::new(&db, dice.split()).await;
    let mut taken: Vec<Snapshot> = Vec::new();
    for _ in 0..STEPS {
        traffic.step().await;
        taken.push(snapshot(&observer).await);
    }
    for (at, later) in taken.iter().enumerate() {
        assert!(
            taken[..=at].iter().all(|earlier| later.covers(earlier)),
            "{later}"
        );
    }
    // And the reverse only where nothing has been added.
    let pairs: Vec<(&Snapshot, &Snapshot)> =
        taken.windows(2).map(|pair| (&pair[0], &pair[1])).collect();
    let expected = includes(&observer, &pairs).await;
    assert!(expected.contains(&true) && expected.contains(&false));
    for ((earlier, later), expected) in pairs.into_iter().zip(expected) {
        assert_eq!(earlier.covers(later), expected, "{earlier} covers {later}");
    }
}
