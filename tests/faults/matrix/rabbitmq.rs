//! Rows about the queue's server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties};
use sqlx::{AssertSqlSafe, Connection as _, Executor};
use tokio::sync::Mutex;

use crate::deployment::{Private, soon};
use crate::matrix::scene::{Scene, Stage, UNHURRIED};
use crate::private_mariadb::PrivateMariaDb;
use crate::private_rabbitmq::PrivateRabbitMq;
use crate::private_redis::{Persistence, PrivateRedis};
use crate::tcp_proxy::{Rule, Way};

const SECOND: Duration = Duration::from_secs(1);
/// What claims hear while nothing is confirmed.
const UNCONFIRMED: [&str; 4] = ["202", "503 busy", "503 unavailable", "no answer"];

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_loses_nothing_that_it_confirmed() {
    let mut scene = Scene::open(301).await;
    let fault = scene.fault("RabbitMQ: killed and started again").await;
    scene.private.rabbitmq.restart().await;
    scene.healed(fault).await.at_most(&UNCONFIRMED).within(60 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stands_still_confirms_late_and_loses_nothing() {
    let mut scene = Scene::open(302).await;

    let fault = scene.fault("RabbitMQ: frozen for 3 s (SIGSTOP)").await;
    scene.private.rabbitmq.process().freeze();
    tokio::time::sleep(3 * SECOND).await;
    scene.private.rabbitmq.process().resume();
    scene.healed(fault).await.at_most(&UNCONFIRMED).some(&UNCONFIRMED).within(10 * SECOND);

    let fault = scene.fault("RabbitMQ: the confirms of 2 s are swallowed").await;
    for links in &scene.deployment.links[..2] {
        links.amqp.rule(Way::ToClient, Rule::Swallow);
    }
    tokio::time::sleep(2 * SECOND).await;
    scene.healed(fault).await.at_most(&UNCONFIRMED).some(&UNCONFIRMED).within(10 * SECOND);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lets_nobody_in_is_asked_again_until_it_does() {
    let mut scene = Scene::open(303).await;
    let fault = scene.fault("RabbitMQ: connections closed, listeners suspended").await;
    scene.private.rabbitmq.control(&["suspend_listeners"]);
    scene.private.rabbitmq.control(&["close_all_connections", "a test"]);
    tokio::time::sleep(2 * SECOND).await;
    scene.private.rabbitmq.control(&["resume_listeners"]);
    scene.healed(fault).await.at_most(&UNCONFIRMED).some(&["503 unavailable"]).within(30 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_stands_still_costs_no_sale() {
    let mut scene = Scene::unhurried(304).await;
    let fault = scene.fault("RabbitMQ: nobody consumes for 3 s (the writer is frozen)").await;
    let writer = scene.writer();
    scene.deployment.freeze(writer);
    scene.sells(20).await;
    tokio::time::sleep(3 * SECOND).await;
    scene.healed(fault).await.at_most(&["202"]).within(3 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_alarm_makes_claims_wait_outside_until_it_takes_messages_again() {
    let mut scene = Scene::open(305).await;
    let fault = scene.fault("RabbitMQ: disk alarm").await;
    scene.private.rabbitmq.control(&["set_disk_free_limit", "10000000000000"]);
    tokio::time::sleep(2 * SECOND).await;
    scene.hears(&fault, "503 busy").await;
    scene.private.rabbitmq.control(&["set_disk_free_limit", "50MB"]);
    scene.healed(fault).await.at_most(&["202", "503 busy"]).some(&["503 busy"]).within(20 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_and_an_exchange_that_are_deleted_come_back_and_nothing_is_lost() {
    let mut scene = Scene::unhurried(306).await;
    let namespace = scene.deployment.sources().namespace.clone();

    let fault = scene.fault("RabbitMQ: a lane's queue is deleted").await;
    scene.private.rabbitmq.control(&["delete_queue", &format!("{namespace}.lane.1")]);
    scene.sells(20).await;
    scene.healed(fault).await.at_most(&UNCONFIRMED).within(20 * SECOND);

    let fault = scene.fault("RabbitMQ: the exchange of the open epoch is deleted").await;
    let broker = connect(&scene).await;
    let channel = broker.create_channel().await.unwrap();
    let exchange = format!("{namespace}.orders.p0.e1");
    channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
    broker.close(200, "".into()).await.unwrap();
    let heard = scene.healed(fault).await;
    heard.at_most(&["202", "503 busy", "503 recovering", "503 unavailable"]).within(30 * SECOND);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_five_times_and_backwards_are_stored_once() {
    let mut scene = Scene::open(307).await;
    let exchange: ShortString = format!("{}.orders.p0.e1", scene.deployment.sources().namespace).into();
    let broker = connect(&scene).await;
    let channel = broker.create_channel().await.unwrap();
    let tap = channel
        .queue_declare(
            "".into(),
            QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() },
            FieldTable::default(),
        )
        .await
        .unwrap();
    for lane in 0..scene.deployment.sources().lanes {
        let key = lane.to_string().into();
        let bound = channel.queue_bind(
            tap.name().clone(),
            exchange.clone(),
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
    }
    let fault = scene.fault("RabbitMQ: every message of a while comes five times more, backwards").await;
    scene.sells(20).await;
    let mut messages = Vec::new();
    while let Some(message) = channel.basic_get(tap.name().clone(), BasicGetOptions { no_ack: true }).await.unwrap() {
        messages.push(message.delivery);
    }
    channel.queue_delete(tap.name().clone(), QueueDeleteOptions::default()).await.unwrap();
    assert!(messages.len() >= 10, "{} messages", messages.len());
    for message in messages.iter().rev().cycle().take(5 * messages.len()) {
        let (key, options) = (message.routing_key.clone(), BasicPublishOptions::default());
        let published =
            channel.basic_publish(exchange.clone(), key, options, &message.data, message.properties.clone());
        published.await.unwrap();
    }
    scene.sells(20).await;
    broker.close(200, "".into()).await.unwrap();
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whom_the_broker_gives_up_subscribes_again() {
    let private = Private::shared().await;
    let patience = |timeout: u32, tick: u32| {
        let set = format!(
            "application:set_env(rabbit, consumer_timeout, {timeout}), application:set_env(rabbit, channel_tick_interval, {tick})."
        );
        private.rabbitmq.control(&["eval", &set]);
    };
    let usual = ["consumer_timeout", "channel_tick_interval"].map(|name| {
        let told = private.rabbitmq.control(&["eval", &format!("application:get_env(rabbit, {name}, 0).")]);
        told.trim().trim_start_matches("{ok,").trim_end_matches('}').parse::<u32>().unwrap()
    });
    patience(1500, 300);
    let mut scene = Scene::over(private, Stage { habits: UNHURRIED, ..Stage::default() }, 308).await;
    let fault = scene.fault("RabbitMQ: consumer timeout, while the store is locked").await;
    let mut session = scene.private.mariadb.connection().await;
    let orders = format!("LOCK TABLES {}.orders WRITE", scene.deployment.sources().namespace);
    session.execute(AssertSqlSafe(orders)).await.unwrap();
    let lane = format!("{}.lane.", scene.deployment.sources().namespace);
    soon("the broker gives the writer up", async || {
        let consumers = scene.private.rabbitmq.control(&["list_queues", "name", "consumers"]);
        let given_up = consumers.lines().any(|line| line.starts_with(&lane) && line.ends_with("\t0"));
        if given_up { Ok(()) } else { Err(consumers) }
    })
    .await;
    session.close().await.unwrap();
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);
    let set = format!(
        "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {}).",
        usual[0], usual[1]
    );
    scene.private.rabbitmq.control(&["eval", &set]);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_brokers_one_may_die_and_two_stop_the_sale_without_a_loss() {
    let first = PrivateRabbitMq::start().await;
    let (mut second, mut third) = (first.start_beside().await, first.start_beside().await);
    let (redis, mariadb) = tokio::join!(PrivateRedis::start(Persistence::Nothing), PrivateMariaDb::start());
    let private = Arc::new(Mutex::new(Private { redis, rabbitmq: first, mariadb })).lock_owned().await;
    let mut scene = Scene::over(private, Stage::default(), 309).await;

    let fault = scene.fault("RabbitMQ: one of three killed").await;
    third.process().kill();
    scene.healed(fault).await.at_most(&UNCONFIRMED).within(15 * SECOND);

    let fault = scene.fault("RabbitMQ: two of three killed for 3 s").await;
    second.process().kill();
    tokio::time::sleep(3 * SECOND).await;
    second.restart().await;
    scene.healed(fault).await.at_most(&UNCONFIRMED).some(&UNCONFIRMED).within(60 * SECOND);

    third.restart().await;
    let fault = scene.fault("RabbitMQ: the one of three that all are connected to is killed").await;
    scene.private.rabbitmq.process().kill();
    for links in &scene.deployment.links {
        links.amqp.redirect(SocketAddr::from(([127, 0, 0, 1], second.port())));
        links.amqp.cut();
    }
    scene.healed(fault).await.at_most(&UNCONFIRMED).within(30 * SECOND);

    scene.private.rabbitmq.restart().await;
    scene.ends_clean().await;
}

async fn connect(scene: &Scene) -> Connection {
    Connection::connect(&scene.private.rabbitmq.url(), ConnectionProperties::default()).await.unwrap()
}
