//! Frames as bytes: written once, and gzipped once if a client accepts gzip.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use protocol::version::GZIP_BYTES_MIN;

/// A frame that may go to many clients: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SharedFrame {
    pieces: Pieces,
    zipped: Arc<Zipped>,
}

/// A frame's text, in one piece or in several that are not copied together.
#[derive(Debug, Clone)]
enum Pieces {
    One(Bytes),
    Several(Arc<[Bytes]>),
}

#[derive(Debug, Default)]
struct Zipped {
    cached: OnceLock<Cached>,
    /// None when the frame is sent to one client, or is small.
    allowance: Option<Arc<Allowance>>,
}

#[derive(Debug)]
enum Cached {
    /// None when gzip does not make the frame smaller.
    Kept(Option<Bytes>),
    /// It is zipped for each client.
    NotKept,
}

/// How many bytes may still be kept with what they were made from, because making them again is slower.
#[derive(Debug)]
pub(crate) struct Allowance(AtomicUsize);

impl Allowance {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(AtomicUsize::new(bytes))
    }

    /// Takes some, if so many are left.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }
}

impl SharedFrame {
    /// A frame of text, which must be UTF-8.
    pub(crate) fn new(text: impl Into<Bytes>) -> Self {
        Self {
            pieces: Pieces::One(text.into()),
            zipped: Arc::default(),
        }
    }

    /// A frame of these pieces of text. Its gzipped form is kept as far as `allowance` goes.
    pub(crate) fn of_pieces(pieces: Vec<Bytes>, allowance: Arc<Allowance>) -> Self {
        Self {
            pieces: Pieces::Several(pieces.into()),
            zipped: Arc::new(Zipped {
                cached: OnceLock::new(),
                allowance: Some(allowance),
            }),
        }
    }

    /// The frame's text, in pieces.
    pub(crate) fn pieces(&self) -> &[Bytes] {
        match &self.pieces {
            Pieces::One(text) => std::slice::from_ref(text),
            Pieces::Several(pieces) => pieces,
        }
    }

    /// The size of the frame's text.
    pub(crate) fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// The gzipped frame; none when it is too short or gzip does not make it smaller.
    pub(crate) fn gzipped(&self) -> Option<Bytes> {
        let mut own = None;
        let cached = self.zipped.cached.get_or_init(|| {
            let zipped = gzip(self.pieces());
            let bytes = zipped.as_ref().map_or(0, Bytes::len);
            let allowance = &self.zipped.allowance;
            if allowance.as_ref().is_none_or(|left| left.take(bytes)) {
                return Cached::Kept(zipped);
            }
            own = Some(zipped);
            Cached::NotKept
        });
        match cached {
            Cached::Kept(zipped) => zipped.clone(),
            Cached::NotKept => own.unwrap_or_else(|| gzip(self.pieces())),
        }
    }
}

/// Gzips a text; none when it is too short or gzip does not make it smaller.
fn gzip(text: &[Bytes]) -> Option<Bytes> {
    let length = text.iter().map(Bytes::len).sum();
    if length <= GZIP_BYTES_MIN {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(length / 4), Compression::fast());
    for piece in text {
        encoder.write_all(piece).ok()?;
    }
    let zipped = encoder.finish().ok()?;
    (zipped.len() < length).then(|| zipped.into())
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
        let zipped = gzip(&[text.clone().into()]).expect("smaller");
        assert_eq!(unzip(&zipped, 4000), Ok(text));
        assert_eq!(unzip(&zipped, 3999), Err(UnzipError::TooLarge));
        assert_eq!(unzip(b"not gzip", 10), Err(UnzipError::Malformed));
    }

    #[test]
    fn a_frame_in_pieces_is_the_frame_in_one() {
        let text = "abc ".repeat(2000);
        let whole = SharedFrame::new(text.clone());
        for bytes in [0, 1_000_000] {
            let (one, other) = text.split_at(1234);
            let pieces = vec![Bytes::from(one.to_owned()), Bytes::from(other.to_owned())];
            let allowance = Arc::new(Allowance::new(bytes));
            let frame = SharedFrame::of_pieces(pieces, allowance.clone());
            assert_eq!(
                (frame.len(), frame.gzipped()),
                (whole.len(), whole.gzipped())
            );
            assert_eq!(frame.gzipped(), whole.gzipped(), "again");
            let zipped = whole.gzipped().expect("smaller").len();
            let left = bytes.saturating_sub(zipped);
            assert!(
                allowance.take(left) && !allowance.take(1),
                "what is kept is taken"
            );
        }
    }
}
