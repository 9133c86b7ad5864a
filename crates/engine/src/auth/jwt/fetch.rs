//! One HTTP request, with bounds: no redirects, no compression, no proxy, so much time and so many bytes.

use std::sync::Arc;
use std::time::Duration;

use ::jwt::{KEY_SET_BYTES_MAX, KeySetError};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::ReadError;

/// How long a request may take, from looking up the name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the body of the answer.
pub(super) async fn get(url: &Uri, tls: &Arc<ClientConfig>) -> Result<Vec<u8>, ReadError> {
    let answer = tokio::time::timeout(TIMEOUT, connect(url, tls)).await;
    answer.unwrap_or(Err(ReadError::TimedOut))
}

async fn connect(url: &Uri, tls: &Arc<ClientConfig>) -> Result<Vec<u8>, ReadError> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|_| ReadError::Unreachable)?;
    if !secure {
        return exchange(url, stream).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ReadError::Tls)?;
    let connector = TlsConnector::from(tls.clone());
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|_| ReadError::Tls)?;
    exchange(url, stream).await
}

async fn exchange<S>(url: &Uri, stream: S) -> Result<Vec<u8>, ReadError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(
            header::USER_AGENT,
            concat!("rhtmx-sync/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ReadError::Answer)?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| ReadError::Answer)?;
    // Both run here, so that a time-out ends both.
    let answer = async move {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|_| ReadError::Answer)?;
        if answer.status() != StatusCode::OK {
            return Err(ReadError::Status(answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), KEY_SET_BYTES_MAX)
            .collect()
            .await;
        match body {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(error) if error.is::<LengthLimitError>() => Err(KeySetError::TooLarge.into()),
            Err(_) => Err(ReadError::Answer),
        }
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}
