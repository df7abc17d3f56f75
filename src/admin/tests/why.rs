//! Why a claim was refused, asked over a real socket.

use tokio::time::Instant;

use super::*;
use crate::admin::why as desk;
use crate::admission::{pressure, refill};
use crate::config::Settings;
use crate::domain::Sale;
use crate::inventory::Changes;
use crate::queue::memory::ConfirmWhen;
use crate::queue::{self, Queue};

/// Lets this node hear how the sale stands.
async fn hear(running: &Running, sale: &Sale) {
    let stock = running.parts.inventory.stock(planted::SCOPE, &sale.id).await.unwrap();
    let shards = running.parts.shards.as_ref().unwrap();
    shards.learn(planted::SCOPE, &Changes { version: 1, sales: vec![sale.clone()], stock, granted: Vec::new() });
    shards.refill_all();
}

/// Lets this node hear of all that there is.
async fn hear_of_all(running: &Running) {
    let (shards, shutdown) = (running.parts.shards.clone().unwrap(), running.planted.shutdown.clone());
    let asked = (running.parts.epochs.clone(), Arc::clone(&running.parts.inventory));
    let refilled = shards.refilled(planted::SCOPE.partition);
    let filling = refill::keep_filled(
        shards.clone(),
        planted::SCOPE.partition,
        asked,
        Duration::from_millis(10),
        shutdown.clone(),
    );
    shutdown.spawn(filling);
    assert!(refilled.await);
}

async fn why(running: &Running, query: &str) -> Value {
    running.client.get(&format!("/admin/v1/why?{query}")).await.unwrap()
}

fn heard(answer: &Value) -> (&str, &str) {
    (answer["verdict"].as_str().unwrap(), answer["because"].as_str().unwrap())
}

#[tokio::test]
async fn a_buyer_who_may_have_it_would_be_granted() {
    let running = running("").await;
    let sale = running.planted.sale("s", 1);
    hear(&running, &sale).await;
    let answer = why(&running, "sale=s&buyer=ann").await;
    assert_eq!((heard(&answer).0, &answer["also"], &answer["told"]), ("would_be_granted", &json!([]), &json!([])));
    assert_eq!(answer["facts"]["stock"][0]["legs"][0]["free"], 10);
    assert_eq!(answer["facts"]["node"]["ready"], true);
}

#[tokio::test]
async fn a_buyer_at_the_limit_is_named_the_orders_that_are_in_the_way() {
    let running = running("").await;
    let sale = running.planted.sale("s", 1);
    let (first, second) = (
        running.planted.order(&sale, 1, "ann", OrderStatus::Held),
        running.planted.order(&sale, 2, "ann", OrderStatus::Paid),
    );
    running.planted.order(&sale, 3, "ann", OrderStatus::Expired);
    running.planted.order(&sale, 4, "bob", OrderStatus::Held);
    // Granted, and on its way to the store.
    let third = planted::order(&sale, 5, "ann");
    running.planted.inventory.plant_in_motion(&third);
    hear(&running, &sale).await;
    let answer = why(&running, "sale=s&buyer=ann&quantity=2").await;
    let (verdict, because) = heard(&answer);
    assert_eq!(verdict, "limit_reached");
    assert!(because.contains("may have 4") && because.contains("this one has 3"), "{because}");
    for order in [&first, &second, &third] {
        assert!(because.contains(&order.id.to_string()), "{because}");
    }
    assert_eq!(answer["facts"]["limit"], json!({"per_buyer": 4, "has": 3}));
    assert_eq!(answer["facts"]["orders"].as_array().unwrap().len(), 4, "the expired one is told too");
    assert_eq!(heard(&why(&running, "sale=s&buyer=ann&quantity=1").await).0, "would_be_granted");
}

#[tokio::test]
async fn an_order_counts_that_only_the_inventory_knows_and_where_that_is_silent_it_is_said() {
    let running = running("").await;
    let Running { planted, .. } = &running;
    let sale = planted.sale("s", 1);
    for id in 1..=4 {
        // Recorded since, while the store that is asked is behind; or behind a long outbox.
        planted.inventory.plant(&planted::order(&sale, id, "ann"), OrderStatus::Held);
    }
    // What the inventory has ended counts no more, whatever the store says still.
    planted.store.plant(&planted::order(&sale, 5, "ann"), OrderStatus::Held);
    hear(&running, &sale).await;
    let answer = why(&running, "sale=s&buyer=ann").await;
    assert_eq!((heard(&answer).0, &answer["facts"]["limit"]["has"]), ("limit_reached", &json!(4)));
    assert_eq!(answer["facts"]["orders"][0]["recorded"], false);
    planted.inventory.lock().down = true;
    let answer = why(&running, "sale=s&buyer=ann").await;
    let (verdict, because) = heard(&answer);
    assert_eq!((verdict, &answer["facts"]["limit"]["has"]), ("would_be_granted", &json!(1)));
    assert!(because.contains("not all is known"), "{because}");
    assert!(answer["facts"]["not_known"][1].as_str().unwrap().starts_with("orders that "), "{answer}");
}

#[tokio::test]
async fn a_node_that_cannot_answer_says_so_before_what_it_remembers_and_does_not_deny_a_sale() {
    let running = running("").await;
    let Running { planted, .. } = &running;
    assert_eq!(heard(&why(&running, "sale=s&buyer=ann").await).0, "unavailable", "it has not heard of all sales");
    let sale = planted.sale("s", 1);
    for id in 1..=10 {
        planted.order(&sale, id, "bob", OrderStatus::Paid);
    }
    hear(&running, &sale).await;
    assert_eq!(heard(&why(&running, "sale=s&buyer=ann").await).0, "sold_out");
    planted.inventory.lock().fenced = true;
    running.parts.epochs.report(planted::SCOPE, &crate::inventory::Fault::Fenced("it is lost".to_owned()));
    let answer = why(&running, "sale=s&buyer=ann").await;
    assert_eq!((heard(&answer).0, &answer["also"][0]["code"]), ("recovering", &json!("sold_out")));
    assert_eq!(heard(&why(&running, "sale=t&buyer=ann").await).0, "recovering");
}

#[tokio::test]
async fn without_the_secret_of_order_ids_nothing_is_answered() {
    let mut running = running("").await;
    let sale = running.planted.sale("s", 1);
    hear(&running, &sale).await;
    let gate = running.parts.gate.as_mut().unwrap();
    gate.claims.secret = Arc::default();
    let question =
        desk::Question::Buyer { sale: sale.id.clone(), buyer: "ann".parse().unwrap(), wants: desk::Wants::default() };
    let Body::Json(answer) = desk::answer(&running.parts, question).await.unwrap().body else { panic!("no JSON") };
    assert_eq!(heard(&answer).0, "unavailable");
}

#[tokio::test]
async fn what_is_gone_is_sold_out_or_all_held_leg_by_leg() {
    let running = running("").await;
    let sale = running.planted.sale("s", 2);
    for id in 1..=10 {
        running.planted.order(&sale, id, &format!("b{id}"), OrderStatus::Paid);
    }
    hear(&running, &sale).await;
    let answer = why(&running, "sale=s&buyer=ann").await;
    assert_eq!(heard(&answer).0, "sold_out");
    assert_eq!(answer["facts"]["stock"][0]["stock"], "sold_out");
    assert_eq!(heard(&why(&running, "sale=s&buyer=ann&from=S1").await).0, "would_be_granted", "the second leg is free");
    let other = running.planted.sale("t", 1);
    for id in 11..=20 {
        let status = if id == 11 { OrderStatus::Held } else { OrderStatus::Paid };
        running.planted.order(&other, id, &format!("b{id}"), status);
    }
    hear(&running, &other).await;
    assert_eq!(heard(&why(&running, "sale=t&buyer=ann").await).0, "all_held");
}

#[tokio::test]
async fn a_sale_that_does_not_sell_says_why() {
    let running = running("").await;
    let Running { planted, client, .. } = &running;
    let sale = planted.sale("s", 1);
    hear(&running, &sale).await;
    let learn = async |change: &str| {
        client.post(&format!("/admin/v1/sales/s/{change}"), None).await.unwrap();
        let sale = planted.store.lock().sales[&sale.id].sale.clone();
        hear(&running, &sale).await;
    };
    learn("pause").await;
    assert_eq!(heard(&why(&running, "sale=s&buyer=ann").await).0, "paused");
    learn("close").await;
    let answer = why(&running, "sale=s&buyer=ann").await;
    assert_eq!(heard(&answer), ("closed", "An operator has closed the sale."));
    hear_of_all(&running).await;
    assert_eq!(heard(&why(&running, "sale=t&buyer=ann").await).0, "unknown_sale");
    let refused = refused(client.get("/admin/v1/why?sale=s&buyer=ann&quantity=0").await);
    assert_eq!(refused, (422, "invalid".to_owned()));
    assert_eq!(
        heard_invalid(client.get("/admin/v1/why?sale=s&buyer=ann&pool=q").await),
        "/lines/0/pool: must be one of p"
    );
}

fn heard_invalid(answer: Result<Value, ClientError>) -> String {
    let told = answer.unwrap_err().to_string();
    told.split_once("\n  ").unwrap().1.trim_end_matches(" (invalid)").to_owned()
}

#[tokio::test]
async fn a_node_in_trouble_names_it_and_what_cannot_be_asked() {
    let running = running("").await;
    let sale = running.planted.sale("s", 1);
    hear(&running, &sale).await;
    *running.planted.topology.deep.lock().unwrap() = vec![(LaneId::Number(0), 9)];
    let gate = running.parts.gate.clone().unwrap();
    let limits = pressure::Limits { outbox: 9.into(), lane: 1.into(), unconfirmed: Duration::from_secs(9).into() };
    let memory = queue::memory::open(&Settings::default().queue, &Meters::new(), ConfirmWhen::Stored);
    let sources = pressure::Sources {
        inventory: Arc::clone(&running.parts.inventory),
        queue: Queue { topology: Arc::clone(&running.parts.topology), ..memory },
        epochs: running.parts.epochs.clone(),
    };
    let shutdown = running.planted.shutdown.clone();
    running.planted.shutdown.spawn(pressure::keep_read(gate.claims.pressure, limits, sources, Meters::new(), shutdown));
    let closed = async {
        loop {
            let answer = why(&running, "sale=s&buyer=ann").await;
            if heard(&answer).0 == "busy" {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
    assert!(heard(&answer).1.contains("a lane has too many messages"), "{answer}");
    assert_eq!(answer["facts"]["node"]["closed_by"], json!(["lanes"]));
    running.planted.store.lock().down = true;
    let answer = why(&running, "sale=s&buyer=ann").await;
    assert!(answer["facts"]["not_known"][0].as_str().unwrap().starts_with("orders that are over"), "{answer}");
}

#[tokio::test]
async fn what_this_node_told_is_remembered_and_it_says_how_far_that_goes() {
    let running = running("").await;
    let sale = running.planted.sale("s", 1);
    hear(&running, &sale).await;
    let refusals = running.parts.gate.clone().unwrap().refusals;
    refusals.note(refusals.mark("s", "ann"), 0, Instant::now());
    let answer = why(&running, "sale=s&buyer=ann").await;
    assert_eq!((heard(&answer).0, &answer["told"][0]["code"]), ("would_be_granted", &json!("sold_out")));
    assert_eq!((&answer["memory"]["taken"], &answer["memory"]["node"]), (&json!(1), &json!("n1")));
    assert_eq!(why(&running, "sale=s&buyer=bob").await["told"], json!([]));
}

#[tokio::test]
async fn an_order_tells_its_whole_story() {
    let running = running("").await;
    let Running { planted, client, .. } = &running;
    let sale = planted.sale("s", 1);
    let held = planted.order(&sale, 1, "ann", OrderStatus::Held);
    let expired = planted.order(&sale, 2, "ann", OrderStatus::Expired);
    planted.inventory.plant_in_motion(&planted::order(&sale, 3, "ann"));
    let order = async |id: &str| why(&running, &format!("order={id}")).await;
    let steps = |answer: &Value| {
        let steps = answer["story"].as_array().unwrap().iter().map(|step| step["what"].as_str().unwrap().to_owned());
        steps.collect::<Vec<_>>().join(" ")
    };
    let answer = order(&held.id.to_string()).await;
    assert_eq!((heard(&answer).0, steps(&answer).as_str()), ("held", "granted recorded"));
    assert_eq!(answer["facts"]["buyer"], "ann");
    let answer = order(&expired.id.to_string()).await;
    assert!(heard(&answer).1.starts_with("It was not paid by "), "{answer}");
    assert_eq!(steps(&answer), "granted recorded expired units");
    assert!(heard(&order(&held.id.to_string()).await).1.contains("can be paid until"));
    planted.clock.advance(sale.hold);
    let answer = order(&held.id.to_string()).await;
    assert!(heard(&answer).1.starts_with("It is held, and was to be paid by "), "{answer}");
    client.post(&format!("/admin/v1/orders/{}/cancel", held.id), None).await.unwrap();
    let answer = order(&held.id.to_string()).await;
    assert!(heard(&answer).1.ends_with("by local/ann."), "{answer}");
    assert_eq!(heard(&order(&"03".repeat(16)).await).0, "held");
    let unknown = client.get(&format!("/admin/v1/why?order={}", "04".repeat(16))).await;
    assert_eq!(refused(unknown), (404, "unknown_order".to_owned()));
}
