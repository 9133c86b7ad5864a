//! Waits for a state that no event announces.

use std::time::Duration;

/// A minute in all: long enough for a busy machine, and short enough to detect a hang.
const ATTEMPTS_MAX: u32 = 2_400;
const PAUSE: Duration = Duration::from_millis(25);

/// Calls `ask` until it returns an answer, and panics with `what` if it never does.
///
/// This is for states such as the size of the log; frames are awaited with
/// [`SyncClient::wait_until`](crate::SyncClient::wait_until).
pub async fn eventually<T, F, Answer>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Answer,
    Answer: Future<Output = Option<T>>,
{
    for _ in 0..ATTEMPTS_MAX {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("never happened: {what}");
}
