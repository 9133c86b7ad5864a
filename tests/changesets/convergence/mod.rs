//! Two PostgreSQL databases, a SQLite file and three devices, all written to on their own: programs with plain SQL, devices
//! offline, with clocks that are wrong by up to a day, at whichever server they find. Changesets go between the databases in any
//! order, late, twice or never. At rest all hold the same rows with the same metadata, and what every write to a row that is
//! never deleted has made of it.
//!
//! A game has databases of its own. `CONVERGENCE_SECONDS` plays games until so many seconds are over, with a seed each (one
//! game); `SEED` repeats the choices of one, whose timing differs from run to run.

mod copies;
mod devices;
mod exchange;
mod programs;
mod sites;
mod truth;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use merge::Deletes;
use rhtmx_sync_tests::Dice;
use tokio::sync::Mutex;

use devices::Device;
use exchange::Exchange;
use sites::Site;
use truth::Truth;

/// How often a game comes to rest, and how many things happen before.
const ROUNDS: usize = 6;
const STEPS: usize = 25;
const DEVICES: u8 = 3;
/// The rows that are there from the beginning and are never deleted: of those it is known what they must become.
const FIXED: u64 = 3;
/// How many rows come into being in each round that will be deleted, of which it is known, too.
const MORTALS: u64 = 4;
/// The keys of rows to which anything may happen.
const VOLATILE: std::ops::Range<u64> = 10..16;

/// Everything that takes part.
struct Game {
    sites: Vec<Site>,
    devices: Vec<Mutex<Device>>,
    exchange: Mutex<Exchange>,
    truth: Truth,
    rounds: u64,
}

impl Game {
    async fn start(deletes: Deletes, dice: &mut Dice) -> Self {
        let sites = Site::all(deletes).await;
        let truth = Truth::new(deletes);
        // Increments are told apart by the databases that know each other.
        exchange::come_to_rest(&sites, dice).await;
        let devices = (0..DEVICES).map(|number| Mutex::new(Device::new(number, sites.len())));
        Self {
            devices: devices.collect(),
            exchange: Mutex::default(),
            sites,
            truth,
            rounds: 0,
        }
    }

    /// One thing that happens.
    async fn act(&self, mut dice: Dice) {
        let site = &self.sites[dice.pick(0..self.sites.len() as u64) as usize];
        let device = &self.devices[dice.pick(0..self.devices.len() as u64) as usize];
        match dice.pick(0..11) {
            0..3 => programs::write(site, &self.truth, &mut dice).await,
            3 => {
                let other = dice.pick(1..self.devices.len() as u64) as usize;
                let mut one = self.devices[dice.pick(0..other as u64) as usize]
                    .lock()
                    .await;
                let mut other = self.devices[other].lock().await;
                one.edit_at_once(&mut other, &mut dice, &self.truth);
            }
            4..6 => device.lock().await.edit(&mut dice, &self.truth),
            6..9 => device.lock().await.visit(site, &mut dice).await,
            _ => {
                let mut exchange = self.exchange.lock().await;
                exchange.step(&self.sites, &mut dice).await;
            }
        }
    }

    async fn round(&mut self, dice: &mut Dice) {
        self.rounds += 1;
        let mortals = 100 + self.rounds * MORTALS;
        let mortals = mortals..mortals + MORTALS;
        self.truth.are_born(mortals.clone());
        exchange::spread_rows(&self.sites, mortals).await;
        for _ in 0..STEPS {
            let actions = (0..dice.pick(1..5)).map(|_| self.act(dice.split()));
            join_all(actions.collect::<Vec<_>>()).await;
        }
        for device in &self.devices {
            let mut device = device.lock().await;
            device.deliver_all(&self.sites, &self.truth, dice).await;
        }
        exchange::come_to_rest(&self.sites, dice).await;
        let held = copies::all_hold_the_same(&self.sites).await;
        self.truth.holds(&held);
        for device in &self.devices {
            let mut device = device.lock().await;
            let at = &self.sites[dice.pick(0..self.sites.len() as u64) as usize];
            device.holds_what_is_there(at, dice).await;
        }
    }
}

async fn play(deletes: Deletes, test: &str) {
    let seconds = std::env::var("CONVERGENCE_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    let ends = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let mut dice = Dice::new(test);
    loop {
        let mut game = Game::start(deletes, &mut dice).await;
        for _ in 0..ROUNDS {
            game.round(&mut dice).await;
        }
        game.truth.was_a_test();
        if Instant::now() >= ends {
            return;
        }
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        println!("{test}: SEED={seed}");
        dice = Dice::seeded(seed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_databases_and_devices_end_the_same_where_deletions_win() {
    Box::pin(play(Deletes::Win, "convergence, deletions win")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_databases_and_devices_end_the_same_where_edits_revive() {
    Box::pin(play(Deletes::Revive, "convergence, edits revive")).await;
}
