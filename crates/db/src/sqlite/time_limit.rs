//! The time that a statement may take. SQLite knows none, so a condition on each of its rows looks at the clock: once the
//! time is up no row matches any more, and the statement ends soon.

use std::cell::RefCell;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// The condition.
pub(super) const IN_TIME: &str = "rhtmx_in_time()";

thread_local! {
    /// A statement runs on one thread from its beginning to its end.
    static LIMIT: RefCell<Option<Limit>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Limit {
    until: Instant,
    ended: CancellationToken,
    is_up: bool,
}

/// Runs statements with [`IN_TIME`] among their conditions until then, or until they are of no use any more. None when their
/// time was up: what they returned is not everything.
pub(super) fn within<T>(
    until: Instant,
    ended: &CancellationToken,
    run: impl FnOnce() -> T,
) -> Option<T> {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            LIMIT.take();
        }
    }
    let _reset = Reset;
    let ended = ended.clone();
    LIMIT.set(Some(Limit {
        until,
        ended,
        is_up: false,
    }));
    let done = run();
    let is_up = LIMIT.with_borrow(|limit| limit.as_ref().is_some_and(|limit| limit.is_up));
    (!is_up).then_some(done)
}

/// Whether the time of the statement that runs on this thread is not up.
pub(super) fn is_in_time() -> bool {
    LIMIT.with_borrow_mut(|limit| {
        let Some(limit) = limit else {
            return true;
        };
        limit.is_up |= Instant::now() >= limit.until || limit.ended.is_cancelled();
        !limit.is_up
    })
}
