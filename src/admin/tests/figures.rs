//! Balance, orders and metrics, as operators see them.

use super::*;
use crate::admin::plan::Preview;
use crate::domain::OrderId;
use crate::inventory::{Changes, NodeBeat};

#[tokio::test]
async fn a_balance_is_the_one_equation_with_what_is_on_its_way() {
    let Running { client, planted, parts, .. } = running("").await;
    let sale = planted.sale("s", 2);
    planted.order(&sale, 1, "b", OrderStatus::Held);
    planted.order(&sale, 2, "c", OrderStatus::Paid);
    planted.inventory.lock().version = 4;
    *planted.topology.deep.lock().unwrap() = vec![(LaneId::Number(0), 3)];
    let shards = parts.shards.unwrap();
    let stock = parts.inventory.stock(planted::SCOPE, &sale.id).await.unwrap();
    shards.learn(planted::SCOPE, &Changes { version: 4, sales: vec![sale.clone()], stock, granted: Vec::new() });
    shards.learn_nodes(vec![
        NodeBeat { node: "n1".parse().unwrap(), weight: 1.0, status: "{}".to_owned() },
        NodeBeat { node: "n2".parse().unwrap(), weight: 1.0, status: r#"{"shards":{"s":{"p":[4,5]}}}"#.to_owned() },
    ]);

    let balance = client.get("/admin/v1/sales/s/balance").await.unwrap();
    let first = json!({"pool": "p", "leg": 0, "from": "S0", "to": "S1", "capacity": 10, "free": 8, "held": 1, "sold": 1,
        "balanced": true, "store": {"capacity": 10, "live": 2, "held": 1, "paid": 1}});
    assert_eq!(balance["legs"][0], first);
    assert_eq!(balance["legs"].as_array().unwrap().len(), 2);
    assert_eq!(balance["orders"]["held"], json!({"orders": 1, "units": 1}));
    assert_eq!(balance["lanes"], json!([{"lane": "0", "messages": 3, "consumers": 1}]));
    assert_eq!(balance["drift"], json!({"units": 0, "in_motion": false, "orders": []}));
    assert_eq!(balance["nodes"][0], json!({"node": "n1", "weight": 1.0, "shards": {"p": [8, 10]}}));
    assert_eq!(balance["nodes"][1], json!({"node": "n2", "weight": 1.0, "shards": {"p": [4, 5]}}));
    let nodes = client.get("/admin/v1/nodes").await.unwrap();
    assert_eq!(nodes["this"], json!({"node": "n1", "roles": ["gateway"]}));
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_balance_does_not_wait_for_a_broker_that_is_away_and_says_what_is_not_known() {
    let Running { client, planted, .. } = running("").await;
    planted.sale("s", 1);
    planted.topology.is_silent.store(true, Ordering::Relaxed);
    let asked = tokio::time::timeout(Duration::from_secs(1), client.get("/admin/v1/sales/s/balance"));
    let balance = asked.await.expect("an answer within a second").unwrap();
    assert_eq!((&balance["legs"][0]["free"], &balance["legs"][0]["balanced"]), (&json!(10), &json!(true)));
    assert_eq!((&balance["lanes"], &balance["dead_letters"]), (&json!(null), &json!(null)));
    assert_eq!(balance["why_no_lanes"], "the broker has not answered within 500ms");
}

#[tokio::test]
async fn a_drift_names_the_orders_behind_it() {
    let Running { client, planted, .. } = running("").await;
    let sale = planted.sale("s", 1);
    planted.inventory.plant(&planted::order(&sale, 1, "b"), OrderStatus::Held);
    let balance = client.get("/admin/v1/sales/s/balance").await.unwrap();
    let expected = json!({"units": 1, "in_motion": false, "orders": [OrderId([1; 16]).to_string()]});
    assert_eq!(balance["drift"], expected);
}

#[tokio::test]
async fn orders_are_listed_walked_and_shown() {
    let Running { client, planted, .. } = running("").await;
    let sale = planted.sale("s", 2);
    for (id, status) in (1..).zip(OrderStatus::ALL) {
        planted.order(&sale, id, if id < 3 { "ann" } else { "bob|x" }, status);
    }
    let ids = |list: &Value| list["orders"].as_array().unwrap().iter().map(|o| o["order"].clone()).collect::<Vec<_>>();
    let anns = client.get("/admin/v1/orders?sale=s&buyer=ann").await.unwrap();
    assert_eq!((ids(&anns).len(), &anns["next"]), (2, &json!(null)));
    assert_eq!(ids(&client.get("/admin/v1/orders?buyer=bob%7Cx&status=expired").await.unwrap()).len(), 1);
    let first = client.get(&format!("/admin/v1/orders?limit=3&after={}", "0".repeat(32))).await.unwrap();
    let next = first["next"].as_str().unwrap();
    let second = client.get(&format!("/admin/v1/orders?limit=3&after={next}")).await.unwrap();
    assert_eq!((ids(&first).len(), ids(&second).len(), &second["next"]), (3, 2, &json!(null)));

    let paid = client.get(&format!("/admin/v1/orders/{}", "02".repeat(16))).await.unwrap();
    assert_eq!(paid["lines"][0]["from"], "S0");
    assert_eq!((&paid["history"][1]["status"], &paid["payments"][0]["state"]), (&json!("paid"), &json!("applied")));
    assert_eq!((&paid["status"], &paid["inventory_status"]), (&json!("paid"), &json!("paid")));
    planted.inventory.plant_in_motion(&planted::order(&sale, 9, "eve"));
    let moving = client.get(&format!("/admin/v1/orders/{}", "09".repeat(16))).await.unwrap();
    assert_eq!((&moving["status"], &moving["recorded_at"]), (&json!("held"), &json!(null)));
    assert_eq!(refused(client.get(&format!("/admin/v1/orders/{}", "ff".repeat(16))).await).1, "unknown_order");
}

#[tokio::test]
async fn an_operator_ends_orders_and_it_is_logged() {
    let Running { client, planted, .. } = running("secret").await;
    let sale = planted.sale("s", 1);
    let (held, paid) =
        (planted.order(&sale, 1, "b", OrderStatus::Held), planted.order(&sale, 2, "b", OrderStatus::Paid));
    planted.inventory.plant_in_motion(&planted::order(&sale, 3, "c"));
    let end = async |id: &str, how: &str| client.post(&format!("/admin/v1/orders/{id}/{how}"), None).await;
    assert_eq!(end(&held.id.to_string(), "cancel").await.unwrap()["after"]["status"], "cancelled");
    assert_eq!(end(&paid.id.to_string(), "refund").await.unwrap()["after"]["status"], "refunded");
    assert_eq!(refused(end(&paid.id.to_string(), "cancel").await), (409, "not_possible".to_owned()));
    assert_eq!(refused(end(&"03".repeat(16), "cancel").await), (409, "not_recorded".to_owned()));
    assert_eq!(refused(end(&"04".repeat(16), "cancel").await), (404, "unknown_order".to_owned()));
    let log = planted.store.lock().log.clone();
    let told: Vec<_> = log.iter().map(|change| (change.who.as_str(), change.what.as_str())).collect();
    assert_eq!(told, [("admin/ann", "order.cancel"), ("admin/ann", "order.refund")]);
    assert_eq!((log[0].before.as_str(), log[0].after.as_str()), (r#"{"status":"held"}"#, r#"{"status":"cancelled"}"#));
}

#[tokio::test]
async fn config_and_metrics_are_told() {
    let Running { address, parts, .. } = running("").await;
    let config = get(&address, "/admin/v1/config").await;
    assert!(config.contains("admin.token = \"…\"\n") && !config.contains("canary"), "{config}");
    parts.meters.counter("rushgate_expired_total", &[]).increment(3);
    let metrics = get(&address, "/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("rushgate_expired_total 3"), "{metrics}");
    let no_gateway = Parts { shards: None, ..parts };
    let nodes = Answers::new(no_gateway, Shutdown::new()).answer(Call::Nodes, "", b"").await;
    assert_eq!(nodes.unwrap_err().code, Code::NoGateway);
}

#[tokio::test(start_paused = true)]
async fn gauges_follow_what_they_measure() {
    let Running { planted, parts, .. } = running("").await;
    let sale = planted.sale("s", 1);
    planted.order(&sale, 1, "b", OrderStatus::Held);
    planted.inventory.lock().off = (-2, 0, 0);
    *planted.topology.deep.lock().unwrap() = vec![(LaneId::Number(0), 7)];
    parts.store.keep_dead_letter("0", "odd", b"x").await.unwrap();
    let stock = parts.inventory.stock(planted::SCOPE, &sale.id).await.unwrap();
    let shards = parts.shards.clone().unwrap();
    shards.learn(planted::SCOPE, &Changes { version: 1, sales: vec![sale.clone()], stock, granted: Vec::new() });
    shards.learn_nodes(
        ["n1", "n2"].map(|n| NodeBeat { node: n.parse().unwrap(), weight: 1.0, status: String::new() }).into(),
    );
    let wanted = crate::domain::Wanted { pool: 0, legs: sale.whole(), units: 5 };
    let permit = |units| shards.sale("s").unwrap().permit(&[crate::domain::Wanted { units, ..wanted }]).unwrap();
    // One of them beyond the fair part of four.
    permit(5).spend();
    shards.refill_all();
    permit(2).waste();
    planted.shutdown.spawn(gauges::keep_measured(parts.clone(), true, planted.shutdown.clone()));
    planted.shutdown.spawn(drift::keep_compared(parts.clone(), planted.shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let text = parts.meters.render();
    for line in [
        "rushgate_outbox_entries 0",
        "rushgate_ready 1",
        "rushgate_lane_messages{lane=\"0\"} 7",
        "rushgate_shard_units{sale=\"s\",pool=\"p\"} 7",
        "rushgate_shard_buffer_units{sale=\"s\",pool=\"p\"} 3",
        "rushgate_shard_buffer_advised_units{sale=\"s\",pool=\"p\"} 3",
        "rushgate_shard_stranded_units{sale=\"s\",pool=\"p\"} 0",
        "rushgate_shard_buffer_used_units_total{sale=\"s\",pool=\"p\"} 1",
        "rushgate_shard_buffer_wasted_units_total{sale=\"s\",pool=\"p\"} 0",
        "rushgate_inventory_units{sale=\"s\",pool=\"p\",state=\"free\"} 7",
        "rushgate_inventory_units{sale=\"s\",pool=\"p\",state=\"held\"} 1",
        "rushgate_dead_letters 1",
        "rushgate_drift_units{sale=\"s\"} 2",
        "rushgate_quarantined_orders{sale=\"s\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // While things move, a drift is no news.
    planted.inventory.plant_in_motion(&planted::order(&sale, 2, "c"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(parts.meters.render().contains("rushgate_drift_units{sale=\"s\"} 2"));
}

#[tokio::test]
async fn a_plan_tells_what_another_buffer_would_do() {
    let Running { client, planted, parts, .. } = running("").await;
    let sale = planted.sale("s", 1);
    let shards = parts.shards.clone().unwrap();
    let plan = async |query: &str| client.get(&format!("/admin/v1/sales/s/plan{query}")).await;
    assert_eq!(refused(plan("").await), (404, "unknown_sale".to_owned()));
    let stock = parts.inventory.stock(planted::SCOPE, &sale.id).await.unwrap();
    shards.learn(planted::SCOPE, &Changes { version: 1, sales: vec![sale.clone()], stock, granted: Vec::new() });
    let alone = plan("").await.unwrap();
    assert_eq!((&alone["nodes"], &alone["survive"], &alone["advised"]), (&json!(1), &json!(0), &json!("0%")));
    shards.learn_nodes(
        ["n1", "n2", "n3", "n4"]
            .map(|n| NodeBeat { node: n.parse().unwrap(), weight: 1.0, status: String::new() })
            .into(),
    );
    let told = plan("").await.unwrap();
    let expected = json!({"sale": "s", "node": "n1", "nodes": 4, "survive": 1, "skew": 1.0, "buffer": "5", "set": "5",
        "advised": "34%", "pools": [{"pool": "p", "capacity": 10, "free": 10, "free_max": 10, "fair_units": 3, "buffer_units": 5,
        "advised_units": 2, "stranded_units": 0, "needless_claims_max": 22, "buffer_used_units": 0,
        "buffer_wasted_units": 0}]});
    assert_eq!(told, expected);
    let bare = plan("?buffer=0&survive=2").await.unwrap();
    assert_eq!((&bare["buffer"], &bare["set"], &bare["advised"]), (&json!("0"), &json!("5"), &json!("100%")));
    assert_eq!(bare["pools"][0]["stranded_units"], 4, "two shards of three reach six of ten");
    for query in ["?survive=4", "?skew=0.5", "?skew=NaN"] {
        assert_eq!(refused(plan(query).await), (422, "invalid".to_owned()), "{query}");
    }
    let no_gateway = Parts { shards: None, ..parts };
    let preview = Preview { buffer: None, survive: None, skew: 1.0 };
    let answer = Answers::new(no_gateway, Shutdown::new()).answer(Call::Plan { sale: sale.id, preview }, "", b"").await;
    assert_eq!(answer.unwrap_err().code, Code::NoGateway);
}
