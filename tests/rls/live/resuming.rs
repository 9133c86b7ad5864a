//! A client that was away.

use super::*;

#[tokio::test]
async fn one_who_was_away_receives_the_changes_while_no_membership_changed() {
    let live = Live::start().await;
    let state = live.subscriber(&user(ANN)).await.into_state();
    let update = "UPDATE todos SET title = 'new', visibility = 'private' WHERE id IN (1, 3, 5)";
    live.db.execute(update).await;
    // A token renewed while it was away.
    let claims = json!({ "sub": ANN, "role": "authenticated", "iat": 7 });
    let mut ann = SyncClient::reconnect(&live.server.ws_url(), options(&claims), &state).await;
    ann.wait_subscribed("t").await;
    assert_eq!(keys(&ann), these(["1", "2", "4"]));
    assert_eq!(ann.row("t", "1").expect("a row")["title"], "new");
    assert_eq!((ann.frames("refetch"), ann.frames("snapshot")), (0, 0));
}

#[tokio::test]
async fn one_who_was_away_receives_the_changes_though_others_memberships_changed() {
    let live = Live::start().await;
    let state = live.subscriber(&user(ANN)).await.into_state();
    let other = "cafe0000-0000-4000-8000-000000000003";
    live.db
        .execute(&format!(
            "INSERT INTO members VALUES (1, '{BEN}'), (7, '{other}'); \
             UPDATE members SET user_id = '{other}' WHERE user_id = '{BEN}'; \
             DELETE FROM members WHERE list_id = 7; UPDATE todos SET title = 'new' WHERE id IN (1, 3)"
        ))
        .await;
    let mut ann = SyncClient::reconnect(&live.server.ws_url(), options(&user(ANN)), &state).await;
    ann.wait_subscribed("t").await;
    assert_eq!(keys(&ann), these(["1", "2", "4", "5"]));
    assert_eq!(ann.row("t", "1").expect("a row")["title"], "new");
    assert_eq!((ann.frames("refetch"), ann.frames("snapshot")), (0, 0));
}

#[tokio::test]
async fn one_whose_membership_went_to_somebody_else_meanwhile_begins_again() {
    let live = Live::start().await;
    let state = live.subscriber(&user(ANN)).await.into_state();
    let hand_over = format!("UPDATE members SET user_id = '{BEN}' WHERE user_id = '{ANN}'");
    live.db.execute(&hand_over).await;
    let mut ann = SyncClient::reconnect(&live.server.ws_url(), options(&user(ANN)), &state).await;
    ann.wait_subscribed("t").await;
    assert_eq!(keys(&ann), these(["4", "5"]));
    assert_eq!(ann.frames("refetch"), 1);
}

#[tokio::test]
async fn one_who_was_away_begins_again_when_memberships_have_changed() {
    let live = Live::start().await;
    let state = live.subscriber(&user(ANN)).await.into_state();
    let leave = format!("DELETE FROM members WHERE user_id = '{ANN}'");
    live.db.execute(&leave).await;
    let mut ann = SyncClient::reconnect(&live.server.ws_url(), options(&user(ANN)), &state).await;
    for id in ["t", "f"] {
        ann.wait_subscribed(id).await;
    }
    assert_eq!(keys(&ann), these(["4", "5"]));
    // Only those whose policies read the members.
    assert_eq!(ann.frames("refetch"), 1);
}

/// What the policies answered meanwhile is known from another session of hers.
#[tokio::test]
async fn one_who_was_away_receives_the_difference_while_another_device_was_there() {
    let mut live = Live::start().await;
    let mut phone = live.subscriber(&user(ANN)).await;
    let state = live.subscriber(&user(ANN)).await.into_state();
    let change = format!(
        "DELETE FROM members WHERE user_id = '{ANN}'; INSERT INTO members VALUES (2, '{ANN}'); \
         UPDATE todos SET title = 'new' WHERE id IN (2, 4)"
    );
    live.db.execute(&change).await;
    live.fence(&mut phone).await;
    let mut ann = SyncClient::reconnect(&live.server.ws_url(), options(&user(ANN)), &state).await;
    for id in ["t", "f"] {
        ann.wait_subscribed(id).await;
    }
    assert_eq!(keys(&ann), these(["3", "4", "5"]));
    assert_eq!(ann.row("t", "4").expect("a row")["title"], "new");
    assert_eq!((ann.frames("refetch"), ann.frames("snapshot")), (0, 0));
}
