//! Rows about the links: every pair of a process and a server, cut whole, one way, or off and on; and all of them slow.

use std::time::Duration;

use crate::deployment::Links;
use crate::matrix::scene::{Heard, Scene};
use crate::tcp_proxy::{Mode, Proxy, Rule, Way};

const SECOND: Duration = Duration::from_secs(1);
/// How long a link is cut.
const CUT: Duration = Duration::from_millis(1500);
/// Everything that a claim may hear while the gateway's links to the inventory and to the queue are broken.
const UNSERVED: [&str; 5] = ["202", "503 busy", "503 recovering", "503 unavailable", "no answer"];

type Pick = fn(&Links) -> &Proxy;

/// Cuts one link of one process in four ways, one after another.
async fn cut(scene: &mut Scene, process: usize, pick: Pick, names: [&'static str; 4]) -> Vec<Heard> {
    let [whole, asking, answering, flapping] = names;
    let mut heard = Vec::new();
    for (name, way) in [(whole, None), (asking, Some(Way::ToServer)), (answering, Some(Way::ToClient))] {
        let fault = scene.fault(name).await;
        let link = pick(&scene.deployment.links[process]);
        match way {
            None => link.set(Mode::Frozen),
            Some(way) => link.rule(way, Rule::Hold),
        }
        tokio::time::sleep(CUT).await;
        heard.push(scene.healed(fault).await);
    }
    let fault = scene.fault(flapping).await;
    for _ in 0..4 {
        let link = pick(&scene.deployment.links[process]);
        link.set(Mode::Refusing);
        link.reset();
        tokio::time::sleep(CUT / 8).await;
        link.heal();
        tokio::time::sleep(CUT / 8).await;
    }
    heard.push(scene.healed(fault).await);
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_cut_off_from_its_servers_breaks_no_promise_and_the_other_sells() {
    let mut scene = Scene::open(501).await;
    let redis = [
        "cut, gateway – Redis",
        "asking only, gateway – Redis",
        "answers only, gateway – Redis",
        "flapping, gateway – Redis",
    ];
    for heard in cut(&mut scene, 0, |links| &links.redis, redis).await {
        heard.at_most(&UNSERVED).within(8 * SECOND);
    }
    let amqp = [
        "cut, gateway – RabbitMQ",
        "asking only, gateway – RabbitMQ",
        "answers only, gateway – RabbitMQ",
        "flapping, gateway – RabbitMQ",
    ];
    for heard in cut(&mut scene, 0, |links| &links.amqp, amqp).await {
        heard.at_most(&UNSERVED).within(8 * SECOND);
    }
    let mysql = [
        "cut, gateway – MySQL",
        "asking only, gateway – MySQL",
        "answers only, gateway – MySQL",
        "flapping, gateway – MySQL",
    ];
    for heard in cut(&mut scene, 0, |links| &links.mysql, mysql).await {
        heard.at_most(&["202", "no answer"]).within(8 * SECOND);
    }
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_cut_off_from_its_servers_costs_no_sale() {
    let mut scene = Scene::unhurried(502).await;
    let writer = scene.writer();
    let redis = [
        "cut, writer – Redis",
        "asking only, writer – Redis",
        "answers only, writer – Redis",
        "flapping, writer – Redis",
    ];
    for heard in cut(&mut scene, writer, |links| &links.redis, redis).await {
        heard.at_most(&["202"]).within(5 * SECOND);
    }
    let amqp = [
        "cut, writer – RabbitMQ",
        "asking only, writer – RabbitMQ",
        "answers only, writer – RabbitMQ",
        "flapping, writer – RabbitMQ",
    ];
    for heard in cut(&mut scene, writer, |links| &links.amqp, amqp).await {
        heard.at_most(&["202"]).within(5 * SECOND);
    }
    let mysql = [
        "cut, writer – MySQL",
        "asking only, writer – MySQL",
        "answers only, writer – MySQL",
        "flapping, writer – MySQL",
    ];
    for heard in cut(&mut scene, writer, |links| &links.mysql, mysql).await {
        heard.at_most(&["202"]).within(5 * SECOND);
    }
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_costs_time_and_nothing_else() {
    let mut scene = Scene::open(503).await;
    let mut chance = fastrand::Rng::with_seed(503);
    let fault = scene.fault("every link is slow, 50 ms to 150 ms each way, and changes all the time").await;
    for _ in 0..20 {
        for link in scene.deployment.links.iter().flat_map(Links::all) {
            for way in [Way::ToServer, Way::ToClient] {
                link.rule(way, Rule::Delay(Duration::from_millis(chance.u64(50..150))));
            }
        }
        tokio::time::sleep(CUT / 8).await;
    }
    scene.healed(fault).await.at_most(&UNSERVED).within(8 * SECOND);
    scene.ends_clean().await;
}
