//! The connection on which a statement is cancelled.
//!
//! The driver closes it as soon as the request is written. libpq waits until the other end has closed it, and PgBouncer 1.18
//! relies on that: when the client goes first, the pooler may end with a fatal error
//! (<https://github.com/pgbouncer/pgbouncer/pull/846>), and everybody behind it loses the database.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The port of an address without one.
const PORT: u16 = 5432;

/// A connection to the only server of an address.
#[derive(Debug)]
pub(super) enum CancelStream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl CancelStream {
    /// Connects; none when the address names several servers, of which only the driver knows the one that is meant.
    /// With the name that a certificate must have.
    pub(super) async fn connect(config: &Config) -> Option<io::Result<(Self, String)>> {
        let port = match config.get_ports() {
            [] => PORT,
            [port] => *port,
            _ => return None,
        };
        let name = match config.get_hosts() {
            [] => None,
            [Host::Tcp(name)] => Some(name),
            #[cfg(unix)]
            [Host::Unix(directory)] => {
                let connected = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}")));
                let connected = connected.await;
                return Some(connected.map(|stream| (Self::Unix(stream), String::new())));
            }
            _ => return None,
        };
        let connected = match (config.get_hostaddrs(), name) {
            ([], Some(name)) => TcpStream::connect((name.as_str(), port)).await,
            ([address], _) => TcpStream::connect((*address, port)).await,
            _ => return None,
        };
        let name = name.cloned().unwrap_or_default();
        Some(connected.map(|stream| (Self::Tcp(stream), name)))
    }

    fn stream(&mut self) -> Pin<&mut (dyn Stream + Send + Unpin)> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Stream for T {}

impl AsyncRead for CancelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for CancelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    /// Waits for the other end to close the connection, and does so then.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut bytes = [0; 64];
            let mut buf = ReadBuf::new(&mut bytes);
            let read = ready!(self.stream().poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                // Also when it was reset: the request has been heard.
                return self.stream().poll_shutdown(cx).map(|_| Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_other_end_closes_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut config = Config::new();
        config.host("127.0.0.1").port(address.port());
        let connected = CancelStream::connect(&config).await.expect("one server");
        let (mut stream, name) = connected.expect("a connection");
        assert_eq!(name, "127.0.0.1");
        let (mut other, _) = listener.accept().await.expect("a connection");
        let closing = tokio::spawn(async move {
            stream.write_all(b"c").await?;
            stream.shutdown().await
        });
        assert_eq!(other.read_u8().await.expect("the request"), b'c');
        // Nothing comes, not even the end, however long it is waited for.
        let end = tokio::time::timeout(Duration::from_millis(200), other.read_u8()).await;
        assert!(end.is_err(), "{end:?}");
        drop(other);
        closing.await.expect("no panic").expect("closed");
    }

    #[tokio::test]
    async fn of_several_servers_the_driver_knows_which() {
        let mut config = Config::new();
        config.host("127.0.0.1").host("127.0.0.2");
        assert!(CancelStream::connect(&config).await.is_none());
    }
}
