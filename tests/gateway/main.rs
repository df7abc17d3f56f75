//! The gateway from outside: real processes, real servers, HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod claims;
mod crowd;
mod live;
mod operations;
mod orders;
mod payments;
mod pressure;
mod proxies;
mod recovery;
mod reload;
mod repairs;
mod sales;
mod trouble;

#[path = "../support/client.rs"]
mod client;
#[path = "../support/database.rs"]
mod database;
#[expect(dead_code, reason = "the fault suite also kills and freezes it")]
#[path = "../support/private_rabbitmq.rs"]
mod private_rabbitmq;
#[expect(dead_code, reason = "the fault suite also kills and freezes it")]
#[path = "../support/private_redis.rs"]
mod private_redis;
#[expect(dead_code, reason = "the fault suite does more with it")]
#[path = "../support/process.rs"]
mod process;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/site.rs"]
mod site;
#[expect(dead_code, reason = "the fault suite misbehaves in more ways")]
#[path = "../support/tcp_proxy.rs"]
mod tcp_proxy;

/// Makes each test twice: over the embedded backends, and over the real ones.
macro_rules! over_both {
    ($($(#[$doc:meta])* async fn $name:ident($backends:ident: Backends) $body:block)*) => {
        $(
            $(#[$doc])*
            async fn $name($backends: crate::site::Backends) $body
        )*

        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::site::Backends::Embedded).await;
            })*
        }

        mod real {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::site::Backends::Real).await;
            })*
        }
    };
}
pub(crate) use over_both;
