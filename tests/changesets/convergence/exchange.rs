//! What goes between the databases.

use merge::ChangesetFilter;
use rhtmx_sync::{ReplicaError, Replication};
use rhtmx_sync_tests::Dice;

use super::sites::Site;
use crate::cursor_of;

/// How many pages are kept that may come again.
const PAGES_MAX: usize = 40;
/// A change needs two passes to be everywhere, and a third finds nothing.
const PASSES_MAX: usize = 6;

/// The pages that are under way, each with the site that it is of.
#[derive(Default)]
pub(super) struct Exchange {
    pages: Vec<(usize, String)>,
    cursors: [Option<String>; 3],
}

impl Exchange {
    /// Two databases meet, a changeset is taken, or one arrives: late, twice, or out of order.
    pub(super) async fn step(&mut self, sites: &[Site], dice: &mut Dice) {
        let from = dice.pick(0..sites.len() as u64) as usize;
        let to = (from + dice.pick(1..sites.len() as u64) as usize) % sites.len();
        match dice.pick(0..10) {
            0..3 => {
                round(&sites[from], &sites[to]).await;
            }
            3..6 => self.take(sites, from, dice).await,
            _ if !self.pages.is_empty() => {
                let (from, page) = &self.pages[dice.pick(0..self.pages.len() as u64) as usize];
                let to = (from + dice.pick(1..sites.len() as u64) as usize) % sites.len();
                let replica = &sites[to].replica;
                let merged = replica.merge(replica.read(page).expect("a page")).await;
                let merged = merged.unwrap_or_else(|error| panic!("{error}: {page}"));
                assert_eq!(merged.parked, 0, "{page}");
            }
            _ => {}
        }
    }

    async fn take(&mut self, sites: &[Site], from: usize, dice: &mut Dice) {
        let replica = &sites[from].replica;
        let mut filter = ChangesetFilter::default();
        let since = match dice.pick(0..4) {
            0 => None,
            1 => {
                filter.only_node = Some(replica.node().clone());
                None
            }
            _ => self.cursors[from].clone(),
        };
        let is_whole = !filter.leaves_out();
        let since = since.map(|since| since.parse().expect("a cursor"));
        let mut taken = Vec::new();
        let mut pages = replica
            .changeset(filter, since.as_ref())
            .await
            .expect("a changeset");
        while let Some(page) = pages.next().await.expect("a page") {
            taken.push(page.to_value(replica.names()).to_string());
        }
        if is_whole {
            self.cursors[from] = Some(cursor_of(&taken));
        }
        self.pages
            .extend(taken.into_iter().map(|page| (from, page)));
        while self.pages.len() > PAGES_MAX {
            self.pages
                .swap_remove(dice.pick(0..self.pages.len() as u64) as usize);
        }
    }
}

/// Creates rows in one database, and brings them to the others.
pub(super) async fn spread_rows(sites: &[Site], keys: std::ops::Range<u64>) {
    for id in keys {
        let sql = format!("INSERT INTO notes (id, tags) VALUES ({id}, '[]')");
        sites[0].db.execute(&sql).await;
    }
    for other in &sites[1..] {
        round(&sites[0], other).await;
    }
}

/// Lets all databases meet until none has anything new for another.
pub(super) async fn come_to_rest(sites: &[Site], dice: &mut Dice) {
    for _ in 0..PASSES_MAX {
        let mut pairs = vec![(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)];
        let mut changed = 0;
        while !pairs.is_empty() {
            let (one, two) = pairs.swap_remove(dice.pick(0..pairs.len() as u64) as usize);
            changed += round(&sites[one], &sites[two]).await;
        }
        if changed == 0 {
            return;
        }
    }
    panic!("the databases do not come to rest");
}

/// Returns how many records have changed something.
async fn round(one: &Site, two: &Site) -> u64 {
    let both = Replication::new(one.replica.clone(), two.replica.clone()).expect("two databases");
    let copied = both.round().await;
    let copied =
        copied.unwrap_or_else(|error: ReplicaError| panic!("{}, {}: {error}", one.name, two.name));
    assert_eq!(copied.there.parked + copied.back.parked, 0, "{copied:?}");
    copied.there.changed + copied.back.changed
}
