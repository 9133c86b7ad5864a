//! Clients that come and go, push, and check every frame against what they know.

mod resting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rhtmx_sync_tests::Dice;
use serde_json::Value;
use testkit::{ClientOptions, ClientState, ConnectError, Phase as SubscriptionPhase, SyncClient};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::resting::Sentinel;

use self::resting::Quiet;
use crate::pushes::Pushes;
use crate::scene::{Phase, Scene};
use crate::subscriptions::{Plan, plans};
use crate::watcher::Watcher;

/// How long a client waits for a frame: longer than the run waits for the client, whose failure says
/// more.
const PATIENCE: Duration = Duration::from_secs(180);

/// One client over many connections.
pub(crate) struct Client {
    number: usize,
    scene: Arc<Scene>,
    phase: watch::Receiver<Phase>,
    dice: Dice,
    options: ClientOptions,
    plans: BTreeMap<String, Plan>,
    state: Option<ClientState>,
    pushes: Pushes,
    watcher: Watcher,
    connections: u64,
}

/// Why a connection ended.
enum Left {
    Closed,
    /// The client reconnects, with its state.
    Chance,
    TheEnd,
}

impl Client {
    pub(crate) fn new(number: usize, scene: Arc<Scene>, mut dice: Dice) -> Self {
        let options = ClientOptions {
            gzip: dice.chance(40),
            patience: PATIENCE,
            ..ClientOptions::default()
        };
        let name = format!("c{number}");
        Self {
            number,
            phase: scene.phase.subscribe(),
            plans: plans(number, &name, scene.backend, &mut dice),
            pushes: Pushes::new(name, options.client_id),
            watcher: Watcher::new(number, scene.backend, dice.split()),
            scene,
            dice,
            options,
            state: None,
            connections: 0,
        }
    }

    /// Runs until the run ends.
    pub(crate) async fn run(mut self) {
        loop {
            match self.connect().await {
                Ok(client) => {
                    self.connections += 1;
                    match self.live(client).await {
                        Left::TheEnd => return,
                        Left::Chance if self.dice.chance(15) => self.be_away().await,
                        Left::Chance | Left::Closed => {}
                    }
                }
                Err(error) => {
                    self.scene
                        .say(self.number, format!("cannot connect: {error}"));
                    sleep(Duration::from_millis(self.dice.pick(20..200))).await;
                }
            }
            if *self.phase.borrow() == Phase::Stop {
                return;
            }
        }
    }

    /// Stays offline, perhaps longer than the retention; ends when all are to come to rest.
    async fn be_away(&mut self) {
        let away = Duration::from_millis(self.dice.pick(500..6000));
        let resting = self.phase.wait_for(|phase| *phase != Phase::Load);
        // Reconnects in either case.
        let _ = timeout(away, resting).await;
    }

    async fn connect(&mut self) -> Result<SyncClient, ConnectError> {
        self.scene.say(self.number, "connects".to_owned());
        let url = self.scene.address(&mut self.dice);
        let options = self.options.clone();
        let state = self.state.take();
        let connecting = async {
            match &state {
                Some(state) => SyncClient::try_reconnect(&url, options, state).await,
                None => {
                    let mut client = SyncClient::try_connect(&url, options).await?;
                    for (id, plan) in &self.plans {
                        client.subscribe_with(id.as_str(), plan.request()).await;
                    }
                    Ok(client)
                }
            }
        };
        // A connection attempt over a stalled network is abandoned.
        let connected = timeout(Duration::from_secs(5), connecting).await;
        self.watcher.connected();
        match connected {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => {
                self.state = state;
                Err(error)
            }
            Err(_) => {
                self.state = state;
                Err(ConnectError::Failed("no answer".to_owned()))
            }
        }
    }

    /// Uses one connection until it ends.
    async fn live(&mut self, mut client: SyncClient) -> Left {
        let life = match self.dice.pick(0..10) {
            0..3 => self.dice.pick(10..800),
            3..6 => self.dice.pick(800..4000),
            _ => self.dice.pick(4000..30_000),
        };
        let ends = Instant::now() + Duration::from_millis(life);
        let mut next_push = Instant::now() + self.breath();
        let mut quiet = Quiet::default();
        loop {
            let phase = self.phase.borrow_and_update().clone();
            match &phase {
                Phase::Stop => return Left::TheEnd,
                Phase::Load => {
                    quiet = Quiet::default();
                    if Instant::now() > ends {
                        return self.leave(client, Left::Chance).await;
                    }
                    let pause = self.scene.pause(self.number);
                    if !pause.is_zero() {
                        // Stays connected and reads nothing.
                        sleep(pause).await;
                    }
                }
                Phase::Settle | Phase::Quiet(_) => {
                    if let Some(left) = self.rest(&mut client, &phase, &mut quiet).await {
                        return self.leave(client, left).await;
                    }
                }
            }
            if phase != Phase::Load {
                let transcript = client.transcript();
                self.scene
                    .say(self.number, format!("{phase:?}, {quiet:?}\n{transcript}"));
            }
            tokio::select! {
                frame = client.try_next_frame() => match frame {
                    Ok(frame) => self.saw(&client, &frame),
                    Err(closed) => {
                        self.scene.say(self.number, format!("{closed}\n{}", client.transcript()));
                        return self.leave(client, Left::Closed).await;
                    }
                },
                _ = self.phase.changed() => {}
                () = tokio::time::sleep_until(next_push), if phase == Phase::Load => {
                    next_push = Instant::now() + self.breath();
                    let number = client.next_mutation();
                    if let Some((number, writes)) = self.pushes.urgent(number) {
                        // Its answer was lost with a connection.
                        client.send_push(number, writes).await;
                    } else if self.pushes.unanswered() < 4 {
                        let writes = self.pushes.next(number, &mut self.dice);
                        client.send_push(number, writes).await;
                    }
                }
                // A connection over which nothing arrives any more is abandoned, as a real client
                // would.
                () = sleep(Duration::from_secs(45)), if quiet.moves() => {
                    let waits = client.subscriptions().iter().filter(|(_, one)| !one.is_live());
                    let waits: Vec<String> = waits.map(|(id, _)| id.to_string()).collect();
                    let unanswered = self.pushes.unanswered();
                    let note = format!(
                        "client {} receives nothing in {phase:?}: {waits:?} not live, {unanswered} unanswered",
                        self.number
                    );
                    self.scene.trace.note(note);
                    return self.leave(client, Left::Closed).await;
                }
            }
        }
    }

    fn breath(&mut self) -> Duration {
        Duration::from_millis(self.dice.pick(30..1500))
    }

    async fn leave(&mut self, client: SyncClient, left: Left) -> Left {
        self.pushes.record_answers(&client, &self.scene);
        let state = client.state();
        if self.dice.chance(20) {
            client.close().await;
        }
        // Now and then a client loses its disk, and starts again.
        let forgets = self.dice.chance(3);
        self.state = Some(state);
        if forgets && let Some(state) = &mut self.state {
            state
                .subscriptions
                .values_mut()
                .for_each(|saved| saved.cursor = None);
            self.watcher.forget();
        }
        left
    }

    /// Checks what a frame has changed.
    fn saw(&mut self, client: &SyncClient, frame: &Value) {
        if let Some(wrong) = self.watcher.saw(client, frame, &self.plans) {
            self.fail(client, &wrong);
        }
        match frame["type"].as_str() {
            Some("ack" | "reject") => self.pushes.record_answers(client, &self.scene),
            Some("cursor") => {
                let ledger = client.subscription("ledger");
                if ledger.is_live()
                    && let Some(wrong) = self.pushes.invisible(ledger.rows())
                {
                    self.fail(client, &wrong);
                }
            }
            _ => {}
        }
        for (id, subscription) in client.subscriptions() {
            if let SubscriptionPhase::Refused(code) = subscription.phase() {
                self.fail(
                    client,
                    &format!("the subscription {id} was rejected: {code}"),
                );
            }
        }
    }

    fn fail(&self, client: &SyncClient, what: &str) -> ! {
        let transcript = client.transcript();
        self.scene
            .trace
            .fail(&format!("client {}: {what}\n{transcript}", self.number))
    }
}
