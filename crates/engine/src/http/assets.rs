//! The browser client's files, for pages without a build step.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Feature;
use crate::state::EngineState;

pub(super) const FEATURE: Feature = Feature {
    name: "client",
    reserved: &[
        "client.js",
        "sync.js",
        "client-network.js",
        "client-fields.js",
    ],
    routes,
};

fn routes(prefix: &str) -> Router<Arc<EngineState>> {
    FILES.iter().fold(Router::new(), |routes, file| {
        let serve = async |headers: HeaderMap| file.serve(&headers);
        routes.route(&format!("{prefix}/{}", file.name), get(serve))
    })
}

/// One file of the client, built from `clients/typescript` and committed.
pub(super) struct ClientFile {
    pub(super) name: &'static str,
    text: &'static str,
    gzipped: OnceLock<Option<Bytes>>,
}

impl ClientFile {
    const fn new(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            text,
            gzipped: OnceLock::new(),
        }
    }

    /// Returns the file, or 304 when the browser's copy has the same tag.
    pub(super) fn serve(&self, headers: &HeaderMap) -> Response {
        let mut hasher = DefaultHasher::new();
        self.text.hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        let contains = |name, wanted: &str| {
            let values = headers.get_all(name).into_iter();
            values
                .filter_map(|value| value.to_str().ok())
                .any(|value| value.contains(wanted))
        };
        let common = [
            (header::ETAG, tag.clone()),
            (header::CACHE_CONTROL, "no-cache".to_owned()),
            (header::VARY, "accept-encoding".to_owned()),
        ];
        if contains(header::IF_NONE_MATCH, &tag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let zipped = self.gzipped.get_or_init(|| gzip(self.text.as_bytes()));
        let mut response = match zipped {
            Some(zipped) if contains(header::ACCEPT_ENCODING, "gzip") => {
                let gzip = [(header::CONTENT_ENCODING, "gzip")];
                (common, gzip, zipped.clone()).into_response()
            }
            _ => (common, self.text).into_response(),
        };
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/javascript; charset=utf-8"),
        );
        response
    }
}

/// Gzips as small as possible, because each file is gzipped only once.
fn gzip(text: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).ok()?;
    Some(encoder.finish().ok()?.into())
}

/// `client.js` for a script tag, `sync.js` to import, the half of both that is loaded once the page has been
/// painted, and what merges rows by their fields, for pages with such entities.
pub(super) static FILES: [ClientFile; 4] = [
    ClientFile::new(
        "client.js",
        include_str!("../../../../clients/typescript/dist/client.js"),
    ),
    ClientFile::new(
        "sync.js",
        include_str!("../../../../clients/typescript/dist/sync.js"),
    ),
    ClientFile::new(
        "client-network.js",
        include_str!("../../../../clients/typescript/dist/client-network.js"),
    ),
    ClientFile::new(
        "client-fields.js",
        include_str!("../../../../clients/typescript/dist/client-fields.js"),
    ),
];
