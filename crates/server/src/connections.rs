//! The server's connections: how many there may be, and how long one may say nothing.
//!
//! A connection is *silent* until its first request has arrived whole. When there are as many connections as may be, or
//! as the process may open files, the oldest silent one is closed for a newcomer, so that connections that say nothing
//! keep nobody out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tower_service::Service as _;
use tracing::{debug, warn};

use crate::socket::Socket;

/// Files that are left to the database's connections, temporary files and everything else.
const FILES_RESERVED: u64 = 64;
/// How long the end of the server waits for answers that are being sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The answer to a connection for which there is no room.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Limits of the server's connections.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionsConfig {
    /// The most connections; 0 for as many as the process may open files, less those that it needs itself.
    pub(crate) max: usize,
    /// The most connections from one address; 0 for no such limit.
    pub(crate) per_address_max: usize,
    /// How long a request's headers may take, and how long a connection may stay between two requests.
    pub(crate) header_timeout_ms: u64,
    /// How long a client may take nothing of an answer.
    pub(crate) write_timeout_ms: u64,
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            max: 0,
            per_address_max: 0,
            header_timeout_ms: 10_000,
            write_timeout_ms: 60_000,
        }
    }
}

/// The open connections.
#[derive(Debug)]
struct Connections {
    config: ConnectionsConfig,
    /// Files that the database's pool may need.
    files_reserved: u64,
    state: Mutex<State>,
    /// Notified when a connection closes.
    closed: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    of_address: HashMap<IpAddr, usize>,
    next: u64,
    /// The silent connections, oldest first, each with what closes it.
    silent: BTreeMap<u64, Arc<Notify>>,
}

/// One open connection, until its socket is closed.
#[derive(Debug)]
struct Open {
    connections: Arc<Connections>,
    id: u64,
    address: IpAddr,
    evicted: Arc<Notify>,
}

impl Connections {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    fn max(&self) -> usize {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let by_files = files.saturating_sub(self.files_reserved).max(1);
        let by_files = usize::try_from(by_files).unwrap_or(usize::MAX);
        match self.config.max {
            0 => by_files,
            max => max.min(by_files),
        }
    }

    /// Admits a connection, and closes the oldest silent one for it if need be; none when there is no room.
    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Open> {
        let max = self.max();
        let mut state = self.state();
        let of_address = state.of_address.get(&address).copied().unwrap_or_default();
        let per_address_max = self.config.per_address_max;
        let is_full = state.open >= max && !state.evict_oldest();
        let of_address_full = per_address_max > 0 && of_address >= per_address_max;
        if is_full || of_address_full {
            let limit = if is_full {
                "connections.max"
            } else {
                "connections.per_address_max"
            };
            metrics::counter!("rhtmx_sync_limits_reached_total", "limit" => limit).increment(1);
            return None;
        }
        let id = state.next;
        state.next += 1;
        state.open += 1;
        *state.of_address.entry(address).or_default() += 1;
        let evicted = Arc::new(Notify::new());
        state.silent.insert(id, evicted.clone());
        metrics::gauge!("rhtmx_sync_connections").set(state.open as f64);
        Some(Open {
            connections: self.clone(),
            id,
            address,
            evicted,
        })
    }
}

impl State {
    /// Closes the oldest silent connection. Returns false when there is none.
    fn evict_oldest(&mut self) -> bool {
        let Some((_, evicted)) = self.silent.pop_first() else {
            return false;
        };
        metrics::counter!("rhtmx_sync_connections_evicted_total").increment(1);
        evicted.notify_one();
        true
    }
}

impl Open {
    /// The connection has sent a request.
    fn has_spoken(&self) {
        self.connections.state().silent.remove(&self.id);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        state.open -= 1;
        state.silent.remove(&self.id);
        if let Some(count) = state.of_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.of_address.remove(&self.address);
            }
        }
        metrics::gauge!("rhtmx_sync_connections").set(state.open as f64);
        drop(state);
        self.connections.closed.notify_one();
    }
}

/// Serves until `stopped`, and then for as long as answers are being sent, but not for long.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    config: ConnectionsConfig,
    pool_size: u32,
    stopped: impl Future<Output = ()>,
) {
    let connections = Arc::new(Connections {
        config,
        files_reserved: FILES_RESERVED + u64::from(pool_size),
        state: Mutex::default(),
        closed: Notify::new(),
    });
    let (stopping, stop) = watch::channel(());
    let mut stopped = pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((stream, address)) => accept(&connections, stream, address, &app, &stop),
            Err(error) => {
                // Without a free file, most often. The connection stays in the queue of the system.
                if !connections.state().evict_oldest() {
                    warn!(%error, "no connection can be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    // Every connection notices, and closes after the answer that it is sending.
    drop(stopping);
    let all_closed = async {
        while connections.state().open > 0 {
            connections.closed.notified().await;
        }
    };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, all_closed)
        .await
        .is_err()
    {
        let open = connections.state().open;
        warn!(open, "stopping before all answers have been sent");
    }
}

fn accept(
    connections: &Arc<Connections>,
    stream: TcpStream,
    address: SocketAddr,
    app: &Router,
    stop: &watch::Receiver<()>,
) {
    let Some(open) = connections.admit(address.ip()) else {
        debug!(%address, "there is no room for a connection");
        let _ = stream.try_write(FULL);
        return;
    };
    // Without TCP_NODELAY a small frame waits until the previous one is acknowledged, up to 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set on a connection");
    }
    let (app, stop) = (app.clone(), stop.clone());
    tokio::spawn(connection((stream, address), open, app, stop));
}

/// Serves one connection until it closes or is upgraded.
async fn connection(
    (stream, address): (TcpStream, SocketAddr),
    open: Open,
    app: Router,
    mut stop: watch::Receiver<()>,
) {
    let config = &open.connections.config;
    let header_timeout = Duration::from_millis(config.header_timeout_ms.max(1));
    let write_timeout = Duration::from_millis(config.write_timeout_ms.max(1));
    let evicted = open.evicted.clone();
    let open = Arc::new(open);
    let socket = Socket::new(stream, open.clone(), write_timeout);
    // Only the socket keeps the connection counted: it outlives this task when it is upgraded.
    let spoken = Arc::downgrade(&open);
    drop(open);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        if let Some(open) = spoken.upgrade() {
            open.has_spoken();
        }
        app.clone().call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = evicted.notified() => return,
        // It fails when the server stops: nothing is ever sent.
        _ = stop.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max: usize, per_address_max: usize) -> Arc<Connections> {
        Arc::new(Connections {
            config: ConnectionsConfig {
                max,
                per_address_max,
                ..ConnectionsConfig::default()
            },
            files_reserved: 0,
            state: Mutex::default(),
            closed: Notify::new(),
        })
    }

    #[tokio::test]
    async fn a_newcomer_takes_the_place_of_the_oldest_silent_connection() {
        let connections = connections(2, 0);
        let address = IpAddr::from([127, 0, 0, 1]);
        let speaker = connections.admit(address).expect("room");
        speaker.has_spoken();
        let silent = connections.admit(address).expect("room");
        let newcomer = connections
            .admit(address)
            .expect("the place of the silent one");
        silent.evicted.notified().await;
        drop(silent);
        newcomer.has_spoken();
        assert!(connections.admit(address).is_none(), "both have spoken");
        drop(speaker);
        assert!(connections.admit(address).is_some());
    }

    #[test]
    fn one_address_has_no_more_connections_than_it_may() {
        let connections = connections(10, 1);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let open = connections.admit(one).expect("room");
        assert!(connections.admit(one).is_none());
        assert!(connections.admit(other).is_some());
        drop(open);
        assert!(connections.admit(one).is_some());
    }
}
