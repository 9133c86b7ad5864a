//! Frames are those of the clients that exist, byte for byte.

use proptest::prelude::*;
use rhtmx_sync_documents::wire::{Sync, hocuspocus, y_websocket};
use rhtmx_sync_documents::{FaultKind, ScanLimits, awareness_update, scan_awareness};

#[test]
fn messages_of_y_websocket_have_their_bytes() {
    use y_websocket::Message;
    for (bytes, message) in [
        (&[0, 0, 1, 0][..], Message::Sync(Sync::Step1(&[0]))),
        (&[0, 1, 2, 0, 0], Message::Sync(Sync::Step2(&[0, 0]))),
        (&[0, 2, 2, 0, 0], Message::Sync(Sync::Update(&[0, 0]))),
        (&y_websocket::KEEP_ALIVE, Message::Awareness(&[0])),
        (&[2, 0, 2, 0x6e, 0x6f], Message::Denied("no")),
        (&[3], Message::QueryAwareness),
        (&[102, 1, 7], Message::Durable(&[7])),
        (
            &[1, 6, 1, 1, 1, 2, 0x7b, 0x7d],
            Message::Awareness(&[1, 1, 1, 2, 0x7b, 0x7d]),
        ),
    ] {
        assert_eq!(Message::read(bytes), Ok(message));
        assert_eq!(message.to_frame(), bytes);
        let more = [bytes, &[0]].concat();
        if message != Message::QueryAwareness {
            assert_eq!(
                Message::read(&more).map_err(|fault| fault.kind),
                Err(FaultKind::Trailing)
            );
        }
    }
    // That of y-sweet has a buffer.
    assert_eq!(Message::read(&[3, 1, 0]), Ok(Message::QueryAwareness));
    assert_eq!(
        Message::read(&[4]).map_err(|fault| fault.kind),
        Err(FaultKind::Tag)
    );
}

#[test]
fn messages_of_hocuspocus_have_their_bytes() {
    use hocuspocus::{Frame, Message};
    let of_a = |message| Frame::Document {
        address: "a",
        message,
    };
    let token = Message::Token {
        token: "t",
        version: Some("4.8.0"),
    };
    let both: [(&[u8], Frame<'_>); 7] = [
        (
            &[1, 0x61, 2, 0, 1, 0x74, 5, 0x34, 0x2e, 0x38, 0x2e, 0x30],
            of_a(token),
        ),
        (
            &[1, 0x61, 0, 0, 1, 0],
            of_a(Message::Sync(Sync::Step1(&[0]))),
        ),
        (
            &[1, 0x61, 0, 1, 2, 0, 0],
            of_a(Message::Sync(Sync::Step2(&[0, 0]))),
        ),
        (
            &[1, 0x61, 7, 3, 0x62, 0x79, 0x65],
            of_a(Message::Close("bye")),
        ),
        (&[1, 0x61, 7], of_a(Message::Close(""))),
        (&[9], Frame::Ping),
        (&[10], Frame::Pong),
    ];
    for (bytes, frame) in both {
        assert_eq!(Frame::read(bytes), Ok(frame));
        assert_eq!(frame.to_bytes(), bytes);
    }
    let read_write = of_a(Message::Authenticated { may_write: true });
    assert_eq!(read_write.to_bytes(), b"\x01a\x02\x02\x0aread-write");
    let readonly = of_a(Message::Authenticated { may_write: false });
    assert_eq!(readonly.to_bytes(), b"\x01a\x02\x02\x08readonly");
    assert_eq!(
        of_a(Message::Denied("no")).to_bytes(),
        b"\x01a\x02\x01\x02no"
    );
    assert_eq!(of_a(Message::TokenWanted).to_bytes(), b"\x01a\x02\x00");
    assert_eq!(
        of_a(Message::SyncStatus { is_kept: true }).to_bytes(),
        b"\x01a\x08\x01"
    );
    assert_eq!(
        of_a(Message::SyncStatus { is_kept: false }).to_bytes(),
        b"\x01a\x08\x00"
    );
    // An older provider says no version; one with sessions says which.
    let older = Frame::read(b"\x03a\x00x\x02\x00\x01t");
    let token = Message::Token {
        token: "t",
        version: None,
    };
    assert_eq!(
        older,
        Ok(Frame::Document {
            address: "a\0x",
            message: token
        })
    );
    for refused in [
        &b"\x00\x00\x00\x01\x00"[..],
        b"\x01\x00\x00\x00\x01\x00",
        b"\x01a\x06\x01x",
        b"\x01a\x08\x01",
        b"\x01a\x02\x02\x01x",
        b"",
    ] {
        assert!(Frame::read(refused).is_err(), "{refused:?}");
    }
}

proptest! {
    #[test]
    fn no_frame_panics(bytes: Vec<u8>) {
        let _ = y_websocket::Message::read(&bytes);
        let _ = hocuspocus::Frame::read(&bytes);
    }

    #[test]
    fn what_is_written_of_awareness_is_read(clients in prop::collection::vec((0..1_u64 << 53, 0..1_u64 << 32, any::<bool>()), 0..20)) {
        let update: Vec<u8> = {
            let entries = clients.iter().map(|(client, clock, is_there)| rhtmx_sync_documents::AwarenessEntry {
                client: *client,
                clock: *clock,
                state: is_there.then_some("{\"a\":1}"),
            });
            awareness_update(entries)
        };
        let read = scan_awareness(&update, &ScanLimits::default()).expect("an update");
        let read: Vec<_> = read.iter().map(|entry| (entry.client, entry.clock, entry.state.is_some())).collect();
        prop_assert_eq!(read, clients);
    }
}
