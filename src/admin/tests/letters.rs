//! What operators see of dead letters, and what becomes of those they act on.

use super::*;
use crate::domain::Order;
use crate::queue::envelope::Envelope;
use crate::store::DeadLetters;

fn message(orders: Vec<Order>) -> Vec<u8> {
    Envelope::orders(planted::SCOPE, None, orders).encode()
}

/// With three letters in the store: orders, odd bytes, a barrier.
async fn with_letters() -> (Running, [Vec<u8>; 3]) {
    let running = running("").await;
    let sale = running.planted.sale("s", 1);
    let barrier = Envelope::barrier(planted::SCOPE, 0).encode();
    let bodies = [message(vec![planted::order(&sale, 1, "b")]), b"\xff\x00".to_vec(), barrier];
    for body in &bodies {
        running.planted.store.keep_dead_letter("2", "it is odd", body).await.unwrap();
    }
    (running, bodies)
}

fn kept(planted: &Planted) -> Vec<u64> {
    planted.store.lock().letters.iter().map(|letter| letter.id).collect()
}

fn put(planted: &Planted) -> Vec<Vec<u8>> {
    planted.topology.put.lock().unwrap().clone()
}

#[tokio::test]
async fn dead_letters_are_listed_with_what_can_be_read_of_them() {
    let (Running { client, planted, .. }, bodies) = with_letters().await;
    *planted.topology.deep.lock().unwrap() = vec![(LaneId::Dead, 2), (LaneId::Number(0), 7)];
    let list = client.get("/admin/v1/dead-letters").await.unwrap();
    assert_eq!([&list["messages"], &list["in_queue"], &list["in_store"]], [5, 2, 3]);
    assert_eq!((&list["is_full"], &list["next"]), (&json!(false), &json!(null)));
    let first = json!({
        "id": 1, "at": planted::NOW.to_string(), "lane": "2", "reason": "it is odd", "bytes": bodies[0].len(),
        "holds": "orders", "orders": ["01".repeat(16)],
        "preview": String::from_utf8_lossy(&bodies[0]).replace('\n', " ").chars().take(160).collect::<String>(),
    });
    assert_eq!(list["letters"][0], first);
    let holds = list["letters"].as_array().unwrap().iter().map(|letter| &letter["holds"]).collect::<Vec<_>>();
    assert_eq!(holds, [&json!("orders"), &json!(null), &json!("barrier")]);
    let page = client.get("/admin/v1/dead-letters?after=1&limit=1").await.unwrap();
    assert_eq!((&page["letters"][0]["id"], &page["next"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn dead_letters_of_the_store_are_listed_while_the_broker_is_away() {
    let (Running { client, planted, .. }, _) = with_letters().await;
    planted.topology.is_silent.store(true, Ordering::Relaxed);
    let asked = tokio::time::timeout(Duration::from_secs(1), client.get("/admin/v1/dead-letters"));
    let list = asked.await.expect("an answer within a second").unwrap();
    assert_eq!((list["letters"].as_array().unwrap().len(), &list["in_store"]), (3, &json!(3)));
    assert_eq!((&list["messages"], &list["in_queue"]), (&json!(null), &json!(null)));
    assert_eq!(list["why_no_lanes"], "the broker has not answered within 500ms");
}

#[tokio::test]
async fn one_dead_letter_is_shown_with_its_whole_body() {
    let (Running { client, .. }, bodies) = with_letters().await;
    let text = client.get("/admin/v1/dead-letters/1").await.unwrap();
    assert_eq!((&text["text"], &text["hex"]), (&json!(String::from_utf8_lossy(&bodies[0])), &json!(null)));
    let bytes = client.get("/admin/v1/dead-letters/2").await.unwrap();
    assert_eq!((&bytes["text"], &bytes["hex"], &bytes["bytes"]), (&json!(null), &json!("ff00"), &json!(2)));
    assert_eq!(refused(client.get("/admin/v1/dead-letters/9").await), (404, "unknown_dead_letter".to_owned()));
}

#[tokio::test]
async fn a_replayed_letter_is_in_a_lane_again_and_leaves_the_store() {
    let (Running { client, planted, .. }, bodies) = with_letters().await;
    let path = "/admin/v1/dead-letters/1/replay";
    let told = client.post(&format!("{path}?dry_run=true"), None).await.unwrap();
    assert_eq!((&told["dry_run"], &told["before"]["id"]), (&json!(true), &json!(1)));
    assert_eq!((put(&planted), kept(&planted)), (vec![], vec![1, 2, 3]));
    let done = client.post(path, None).await.unwrap();
    assert_eq!((&done["before"], &done["after"], &done["dry_run"]), (&told["before"], &json!(null), &json!(false)));
    assert_eq!((put(&planted), kept(&planted)), (vec![bodies[0].clone()], vec![2, 3]));
    assert_eq!(refused(client.post(path, None).await), (404, "unknown_dead_letter".to_owned()));
    let log = planted.store.lock().log.clone();
    let told: Vec<_> = log.iter().map(|change| (change.what.as_str(), change.subject.as_str())).collect();
    assert_eq!(told, [("dead_letter.replay", "dead-letter/1")]);
    assert!(log[0].before.contains(&"01".repeat(16)), "the log names its orders: {}", log[0].before);
}

#[tokio::test]
async fn a_barrier_is_not_replayed_since_it_would_vouch_for_what_is_not_stored() {
    let (Running { client, planted, .. }, _) = with_letters().await;
    let refusal = refused(client.post("/admin/v1/dead-letters/3/replay", None).await);
    assert_eq!(refusal, (409, "not_possible".to_owned()));
    assert_eq!((put(&planted), kept(&planted)), (vec![], vec![1, 2, 3]));
}

#[tokio::test]
async fn a_letter_whose_replay_is_not_confirmed_stays() {
    let (Running { client, planted, .. }, _) = with_letters().await;
    planted.topology.is_mute.store(true, Ordering::Relaxed);
    assert_eq!(refused(client.post("/admin/v1/dead-letters/1/replay", None).await), (504, "unknown".to_owned()));
    assert_eq!(kept(&planted), [1, 2, 3]);
    assert!(planted.store.lock().log.is_empty());
}

#[tokio::test]
async fn a_dropped_letter_is_gone_and_the_log_tells_what_it_held() {
    let (Running { client, planted, .. }, _) = with_letters().await;
    client.delete("/admin/v1/dead-letters/2?dry_run=true").await.unwrap();
    assert_eq!(kept(&planted), [1, 2, 3]);
    client.delete("/admin/v1/dead-letters/2").await.unwrap();
    assert_eq!((put(&planted), kept(&planted)), (vec![], vec![1, 3]));
    assert_eq!(refused(client.delete("/admin/v1/dead-letters/2").await), (404, "unknown_dead_letter".to_owned()));
    let log = planted.store.lock().log.clone();
    assert_eq!((log.len(), log[0].what.as_str(), log[0].who.as_str()), (1, "dead_letter.drop", "local/ann"));
}
