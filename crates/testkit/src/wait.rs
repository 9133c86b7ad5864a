//! Waiting for a state that announces itself by no event.

use std::time::Duration;

/// Ten seconds in all: long enough for a busy machine, and short enough to find a hang.
const TRIES: u32 = 400;
const PAUSE: Duration = Duration::from_millis(25);

/// Asks again until there is an answer, and panics with `what` when there never is.
///
/// For the size of a log table and the like; whatever arrives as a frame is awaited with
/// [`SyncClient::wait_until`](crate::SyncClient::wait_until).
pub async fn eventually<T, F, Answer>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Answer,
    Answer: Future<Output = Option<T>>,
{
    for _ in 0..TRIES {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("never happened: {what}");
}
