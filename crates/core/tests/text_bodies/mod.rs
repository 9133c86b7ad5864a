//! Properties of any text from a client. The fuzz targets run the same bodies.

mod filter_text;
mod policy_text;

pub(crate) use filter_text::filter_text;
pub(crate) use policy_text::policy_text;
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

/// A text that carries a token is read as any JSON reader does, which takes no member of a name twice, and the token is not
/// in what a log could show of the frame.
pub(crate) fn auth_frame(text: &str) {
    let (token, shown) = match ClientFrame::parse(text) {
        Ok(ClientFrame::Auth(auth)) => (Some(auth.token.clone()), format!("{auth:?}")),
        Ok(ClientFrame::Hello(hello)) => (hello.token.clone(), format!("{hello:?}")),
        _ => return,
    };
    let object: serde_json::Value = serde_json::from_str(text).expect("a frame is JSON");
    assert_eq!(token.as_deref(), object["token"].as_str());
    // A short one may be in there by chance.
    if let Some(token) = token.filter(|token| token.len() > 8) {
        assert!(!shown.contains(&token), "{shown}");
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
