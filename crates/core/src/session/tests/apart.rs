//! A catch-up that brings shapes to different positions.

use super::*;

fn apart() -> (Session<TestBatch>, Commands) {
    let mut session = session();
    join(&mut session, "a", "a", 2);
    join(&mut session, "b", "b", 2);
    assert!(matches!(
        &session.overflowed()[..],
        [Command::CatchUp(shapes)] if shapes.len() == 2
    ));
    let reached = [(Shape::whole("a"), at(5)), (Shape::whole("b"), at(8))];
    let commands = session.caught_up_apart(&reached);
    (session, commands)
}

#[test]
fn no_cursor_is_sent_before_the_stream_has_reached_the_furthest() {
    let (mut session, commands) = apart();
    let awaited = Awaited::Position(at(8));
    assert_eq!(commands, [Command::Hub(HubCommand::Await(awaited))]);
    let is_cursor =
        |command: &Command<TestBatch>| matches!(command, Command::Send(Frame::Cursor(_)));
    assert!(!session.batch(batch(5, &["a", "b"])).iter().any(is_cursor));
    assert!(!session.batch(batch(6, &["a"])).iter().any(is_cursor));
    let commands = session.batch(batch(8, &[]));
    assert_eq!(commands, [Command::Send(Frame::Cursor(at(8)))]);
}

#[test]
fn each_shape_receives_what_it_has_not_been_sent() {
    let (mut session, _) = apart();
    for (position, receives) in [(5, &[][..]), (7, &["a"]), (8, &["a"]), (9, &["a", "b"])] {
        let commands = session.batch(batch(position, &["a", "b"]));
        let changes = commands.iter().filter_map(|command| match command {
            Command::Send(Frame::Changes { shape, .. }) => Some(shape.entity()),
            _ => None,
        });
        assert_eq!(changes.collect::<Vec<_>>(), receives, "{position}");
    }
}

/// Both ended where a batch ends, so that none is cut.
#[test]
fn batches_that_move_rows_follow() {
    let (mut session, _) = apart();
    for (follows, position) in [(5, 8), (8, 11)] {
        let commands = session.batch(TestBatch {
            moved: Some(("b", at(follows))),
            ..batch(position, &["b"])
        });
        let is_cut = |command: &Command<TestBatch>| matches!(command, Command::CatchUp(_));
        assert!(!commands.iter().any(is_cut), "{commands:?}");
    }
}
