//! Properties of any text from a client. The fuzz targets run the same bodies.

mod filter_text;

pub(crate) use filter_text::filter_text;
use protocol::ClientFrame;
use rhtmx_sync_core::cursor::Cursor;
use rhtmx_sync_core::snapshot::Snapshot;

/// A text is a frame or an error with a message, and only an object is a frame.
pub(crate) fn client_frame(text: &str) {
    match ClientFrame::parse(text) {
        Ok(_) => assert!(text.trim().starts_with('{') && text.trim().ends_with('}')),
        Err(error) => assert!(!error.message.is_empty()),
    }
}

/// A cursor has one text.
pub(crate) fn cursor_text(text: &str) {
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
    }
    if let Ok(snapshot) = text.parse::<Snapshot>() {
        assert_eq!(snapshot.to_string(), text);
    }
}
