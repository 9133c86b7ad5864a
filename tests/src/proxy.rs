//! A TCP proxy: a network, or a database, that goes away and comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections to 127.0.0.1 to another address while it is open.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    network: Arc<Network>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Network {
    target: String,
    /// Counts the cuts. A cut ends every connection that was open before it.
    cuts: watch::Sender<u64>,
    /// Reads that returned data from clients.
    requests: AtomicU64,
    /// A new connection breaks after this many bytes from the target; 0 for never.
    bytes_max: AtomicU64,
    /// Whether a cut resets the connections, so that data in flight is lost.
    resets: AtomicBool,
    /// Counts the times that all connections were silenced.
    silences: watch::Sender<u64>,
    /// While true, nothing is forwarded; the connections stay open.
    stalled: watch::Sender<bool>,
    /// How long each read waits before it is forwarded, in milliseconds.
    delay_ms: AtomicU64,
}

impl TcpProxy {
    /// An open proxy to `target`, a `host:port`.
    pub async fn open_to(target: impl Into<String>) -> Self {
        let mut proxy = Self::closed_to(target).await;
        proxy.open().await;
        proxy
    }

    /// A proxy on whose port nothing listens until it is opened.
    pub async fn closed_to(target: impl Into<String>) -> Self {
        let address = listen("127.0.0.1:0".parse().expect("an address"))
            .await
            .local_addr()
            .expect("a bound socket has an address");
        let network = Network {
            target: target.into(),
            cuts: watch::Sender::new(0),
            requests: AtomicU64::new(0),
            bytes_max: AtomicU64::new(0),
            resets: AtomicBool::new(false),
            silences: watch::Sender::new(0),
            stalled: watch::Sender::new(false),
            delay_ms: AtomicU64::new(0),
        };
        Self {
            address,
            network: Arc::new(network),
            accepting: None,
        }
    }

    /// An open proxy to the server of a database URL, and the URL that leads through it.
    pub async fn of_database(url: &str) -> (Self, String) {
        let mut proxy = Self::closed_of_database(url).await;
        proxy.0.open().await;
        proxy
    }

    /// As [`of_database`](Self::of_database), closed.
    pub async fn closed_of_database(url: &str) -> (Self, String) {
        let (before, rest) = url
            .split_once('@')
            .expect("an address with a user and a host");
        let (server, after) = rest.split_once('/').expect("an address with a database");
        let server = if server.contains(':') {
            server.to_owned()
        } else {
            format!("{server}:5432")
        };
        let proxy = Self::closed_to(server).await;
        let url = format!("{before}@{}/{after}", proxy.address);
        (proxy, url)
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections.
    pub async fn open(&mut self) {
        let listener = listen(self.address).await;
        let network = self.network.clone();
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, network.clone()));
            }
        }));
    }

    /// Refuses new connections and cuts the existing ones.
    pub async fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // Wait until the port is free.
            let _ = accepting.await;
        }
        self.cut();
    }

    /// Cuts all connections; new ones are still accepted.
    pub fn cut(&self) {
        self.network.resets.store(false, Ordering::Relaxed);
        self.network.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// As [`cut`](Self::cut), with a reset: both sides lose what they have not read yet.
    pub fn reset(&self) {
        self.network.resets.store(true, Ordering::Relaxed);
        self.network.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forwards nothing while `stalled`; the connections stay open and silent.
    pub fn stall(&self, stalled: bool) {
        self.network.stalled.send_replace(stalled);
    }

    /// Forgets all connections, as a firewall does: they stay open, and nothing is forwarded on them any more. New
    /// ones work.
    pub fn silence(&self) {
        self.network.silences.send_modify(|silences| *silences += 1);
    }

    /// Delays everything by this much, as a long distance would; 0 for not at all.
    pub fn delay(&self, milliseconds: u64) {
        self.network.delay_ms.store(milliseconds, Ordering::Relaxed);
    }

    /// From now on breaks each new connection after this many bytes from the target, most likely in the
    /// middle of a message.
    pub fn break_after(&self, bytes: u64) {
        self.network.bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// The number of reads that returned data from clients.
    pub fn requests(&self) -> u64 {
        self.network.requests.load(Ordering::Relaxed)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        self.cut();
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address)
        .await
        .unwrap_or_else(|error| panic!("the proxy cannot listen on {address}: {error}"))
}

/// Forwards one connection until either side ends it or it is cut.
async fn carry(mut client: TcpStream, network: Arc<Network>) {
    let mut cuts = network.cuts.subscribe();
    let bytes_max = network.bytes_max.load(Ordering::Relaxed);
    let Ok(mut server) = TcpStream::connect(&network.target).await else {
        return;
    };
    for socket in [&client, &server] {
        // Fails only on a connection that has ended, which `copy` notices.
        let _ = socket.set_nodelay(true);
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let cut = tokio::select! {
        () = copy(from_client, to_server, 0, &network, true) => false,
        () = copy(from_server, to_client, bytes_max, &network, false) => false,
        _ = cuts.changed() => true,
    };
    if cut && network.resets.load(Ordering::Relaxed) {
        for socket in [&client, &server] {
            // As above.
            let _ = socket.set_zero_linger();
        }
    }
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    bytes_max: u64,
    network: &Network,
    is_request: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    let silences = *network.silences.borrow();
    let mut left = if bytes_max == 0 { u64::MAX } else { bytes_max };
    let mut stalled = network.stalled.subscribe();
    while left > 0 {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if is_request {
            network.requests.fetch_add(1, Ordering::Relaxed);
        }
        let delay_ms = network.delay_ms.load(Ordering::Relaxed);
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        // Fails only when the proxy has been dropped.
        let _ = stalled.wait_for(|stalled| !*stalled).await;
        if *network.silences.borrow() != silences {
            // Until the connection is cut.
            std::future::pending::<()>().await;
        }
        let passed = length.min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= passed as u64;
        if to.write_all(&buffer[..passed]).await.is_err() {
            return;
        }
    }
}
