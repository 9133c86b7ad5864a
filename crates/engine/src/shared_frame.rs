//! Frames as bytes: written once, gzipped once where a client reads that.

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
    /// A frame of text, which is UTF-8.
    pub(crate) fn new(text: impl Into<Bytes>) -> Self {
        Self {
            text: text.into(),
            gzipped: Arc::default(),
        }
    }

    /// The frame as it is.
    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    /// The frame gzipped, where it is long enough and that makes it smaller.
    pub(crate) fn gzipped(&self) -> Option<&Bytes> {
        self.gzipped.get_or_init(|| gzip(&self.text)).as_ref()
    }
}

/// Gzipped bytes, where there are enough of them and that makes them fewer.
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
    /// It is larger than it may be.
    TooLarge,
    /// It is not gzipped UTF-8.
    Malformed,
}

/// Unzips a client's frame, reading no further than `bytes_max`.
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
    fn a_bomb_is_refused_and_an_honest_frame_is_read() {
        let honest = "x".repeat(4000);
        let zipped = gzip(honest.as_bytes()).expect("smaller");
        assert_eq!(unzip(&zipped, 4000), Ok(honest));
        assert_eq!(unzip(&zipped, 3999), Err(UnzipError::TooLarge));
        assert_eq!(unzip(b"not gzip", 10), Err(UnzipError::Malformed));
    }
}
