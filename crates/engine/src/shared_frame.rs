//! Frames as bytes: written once, and gzipped once if a client accepts gzip.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use protocol::version::GZIP_BYTES_MIN;

/// A frame that may go to many clients: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SharedFrame {
    text: Bytes,
    gzipped: Arc<OnceLock<Option<Bytes>>>,
}

impl SharedFrame {
    /// A frame of text, which must be UTF-8.
    pub(crate) fn new(text: impl Into<Bytes>) -> Self {
        Self {
            text: text.into(),
            gzipped: Arc::default(),
        }
    }

    /// The frame's text.
    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    /// The gzipped frame; none when it is too short or gzip does not make it smaller.
    pub(crate) fn gzipped(&self) -> Option<&Bytes> {
        self.gzipped.get_or_init(|| gzip(&self.text)).as_ref()
    }
}

/// Gzips a text; none when it is too short or gzip does not make it smaller.
fn gzip(text: &[u8]) -> Option<Bytes> {
    if text.len() <= GZIP_BYTES_MIN {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    encoder.write_all(text).ok()?;
    let zipped = encoder.finish().ok()?;
    (zipped.len() < text.len()).then(|| zipped.into())
}

/// Why a gzipped frame could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnzipError {
    /// It is above the size limit.
    TooLarge,
    /// It is not gzipped UTF-8.
    Malformed,
}

/// Unzips a client's frame, and stops at `bytes_max`.
pub(crate) fn unzip(bytes: &[u8], bytes_max: usize) -> Result<String, UnzipError> {
    let mut unzipped = Vec::new();
    let limit = bytes_max as u64 + 1;
    GzDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut unzipped)
        .map_err(|_| UnzipError::Malformed)?;
    if unzipped.len() > bytes_max {
        return Err(UnzipError::TooLarge);
    }
    String::from_utf8(unzipped).map_err(|_| UnzipError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gzipped_frame_above_the_limit_is_refused() {
        let text = "x".repeat(4000);
        let zipped = gzip(text.as_bytes()).expect("smaller");
        assert_eq!(unzip(&zipped, 4000), Ok(text));
        assert_eq!(unzip(&zipped, 3999), Err(UnzipError::TooLarge));
        assert_eq!(unzip(b"not gzip", 10), Err(UnzipError::Malformed));
    }
}
