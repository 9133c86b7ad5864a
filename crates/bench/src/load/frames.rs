//! A WebSocket reader that parses only frame headers.

/// The length of the prefix that tells the frame's type: `{"type":"ch`.
const TYPE_BYTES: usize = 11;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Changes,
    Snapshot,
    Cursor,
    /// All others, which are read whole.
    Control,
}

/// Receives what the reader finds.
pub(crate) trait Sink {
    /// Takes a piece of a frame that is not read whole.
    fn piece(&mut self, kind: Kind, bytes: &[u8]);
    /// Takes the end of a frame that is not read whole.
    fn end(&mut self, kind: Kind);
    /// Takes a frame that is read whole.
    fn control(&mut self, text: &[u8]);
    /// Takes a ping, to be answered with the same bytes.
    fn ping(&mut self, payload: &[u8]);
    /// Takes a close frame.
    fn close(&mut self, payload: &[u8]);
}

/// The reader's state between two pieces of the stream.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Every text frame is a change, as from a server without a protocol of its own.
    plain: bool,
    header: [u8; 10],
    header_len: usize,
    /// Bytes of the payload still to come; none between two frames.
    left: Option<u64>,
    kind: Option<Kind>,
    /// The payload so far, while its kind is unknown or `Control`.
    text: Vec<u8>,
}

impl Frames {
    pub(crate) fn new(plain: bool) -> Self {
        Self {
            plain,
            header: [0; 10],
            header_len: 0,
            left: None,
            kind: None,
            text: Vec::new(),
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn read(&mut self, mut bytes: &[u8], sink: &mut impl Sink) {
        loop {
            let left = match self.left {
                Some(left) => left,
                None => match self.read_header(&mut bytes) {
                    Some(length) => length,
                    None => return,
                },
            };
            let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (payload, rest) = bytes.split_at(here);
            bytes = rest;
            self.payload(payload, sink);
            let left = left - here as u64;
            if left > 0 {
                self.left = Some(left);
                return;
            }
            self.end(sink);
            if bytes.is_empty() {
                return;
            }
        }
    }

    /// Returns the length of the payload once the header is complete.
    fn read_header(&mut self, bytes: &mut &[u8]) -> Option<u64> {
        loop {
            let needed = match (self.header_len, self.header[1] & 0x7f) {
                (0 | 1, _) => 2,
                (_, 126) => 4,
                (_, 127) => 10,
                _ => 2,
            };
            if self.header_len >= needed {
                break;
            }
            let (first, rest) = bytes.split_first()?;
            self.header[self.header_len] = *first;
            self.header_len += 1;
            *bytes = rest;
        }
        let length = match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        self.left = Some(length);
        Some(length)
    }

    fn opcode(&self) -> u8 {
        self.header[0] & 0x0f
    }

    fn payload(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        match self.kind {
            Some(Kind::Control) => self.text.extend_from_slice(bytes),
            Some(kind) => sink.piece(kind, bytes),
            None if self.opcode() != TEXT => {
                self.kind = Some(Kind::Control);
                self.text.extend_from_slice(bytes);
            }
            None if self.plain => {
                self.kind = Some(Kind::Changes);
                sink.piece(Kind::Changes, bytes);
            }
            None => {
                let whole = self.text.is_empty() && bytes.len() >= TYPE_BYTES;
                if !whole {
                    self.text.extend_from_slice(bytes);
                }
                let kind = match kind(if whole { bytes } else { &self.text }) {
                    Some(kind) => kind,
                    None => return,
                };
                self.kind = Some(kind);
                match kind {
                    Kind::Control if whole => self.text.extend_from_slice(bytes),
                    Kind::Control => {}
                    _ if whole => sink.piece(kind, bytes),
                    _ => {
                        sink.piece(kind, &self.text);
                        self.text.clear();
                    }
                }
            }
        }
    }

    fn end(&mut self, sink: &mut impl Sink) {
        match (self.opcode(), self.kind) {
            (PING, _) => sink.ping(&self.text),
            (CLOSE, _) => sink.close(&self.text),
            (TEXT, Some(kind)) if kind != Kind::Control => sink.end(kind),
            (TEXT, _) => sink.control(&self.text),
            _ => {}
        }
        self.text.clear();
        self.kind = None;
        self.left = None;
        self.header_len = 0;
    }
}

fn kind(text: &[u8]) -> Option<Kind> {
    let start = text.get(..TYPE_BYTES)?;
    Some(match start.strip_prefix(br#"{"type":""#) {
        Some(b"ch") => Kind::Changes,
        Some(b"sn") => Kind::Snapshot,
        Some(b"cu") => Kind::Cursor,
        _ => Kind::Control,
    })
}

/// A frame of a client. RFC 6455 requires a mask against intermediaries; there are none here, so it is zero.
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        medium @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

pub(crate) fn client_text(text: &str) -> Vec<u8> {
    client_frame(TEXT, text.as_bytes())
}

pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    client_frame(10, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Seen(Vec<String>, String);

    impl Sink for Seen {
        fn piece(&mut self, _: Kind, bytes: &[u8]) {
            self.1.push_str(std::str::from_utf8(bytes).unwrap());
        }
        fn end(&mut self, kind: Kind) {
            let text = std::mem::take(&mut self.1);
            self.0.push(format!("{kind:?} {}", text.len()));
        }
        fn control(&mut self, text: &[u8]) {
            self.0.push(String::from_utf8(text.to_vec()).unwrap());
        }
        fn ping(&mut self, payload: &[u8]) {
            self.0.push(format!("ping {}", payload.len()));
        }
        fn close(&mut self, _: &[u8]) {
            self.0.push("close".to_owned());
        }
    }

    fn server_frame(opcode: u8, payload: &str) -> Vec<u8> {
        let mut frame = client_frame(opcode, payload.as_bytes());
        let mask_at = frame.len() - payload.len() - 4;
        frame.drain(mask_at..mask_at + 4);
        frame[1] &= 0x7f;
        frame
    }

    #[test]
    fn frames_survive_any_cut() {
        let changes = format!(r#"{{"type":"changes","changes":[{:200}]}}"#, "");
        let snapshot = format!(r#"{{"type":"snapshot","rows":[{}]}}"#, " ".repeat(70_000));
        let stream = [
            server_frame(TEXT, r#"{"type":"welcome"}"#),
            server_frame(TEXT, &changes),
            server_frame(PING, "abc"),
            server_frame(PING, ""),
            server_frame(TEXT, r#"{"type":"cursor","cursor":"x"}"#),
            server_frame(TEXT, &snapshot),
            server_frame(TEXT, "{}"),
            server_frame(CLOSE, ""),
        ]
        .concat();
        let expected = [
            r#"{"type":"welcome"}"#.to_owned(),
            format!("Changes {}", changes.len()),
            "ping 3".to_owned(),
            "ping 0".to_owned(),
            "Cursor 30".to_owned(),
            format!("Snapshot {}", snapshot.len()),
            "{}".to_owned(),
            "close".to_owned(),
        ];
        for cut in (0..400).chain([stream.len() - 3]) {
            let (mut frames, mut seen) = (Frames::new(false), Seen::default());
            frames.read(&stream[..cut], &mut seen);
            frames.read(&stream[cut..], &mut seen);
            assert_eq!(seen.0, expected, "cut at {cut}");
        }
        let (mut frames, mut seen) = (Frames::new(false), Seen::default());
        for byte in &stream {
            frames.read(std::slice::from_ref(byte), &mut seen);
        }
        assert_eq!(seen.0, expected);
    }
}
