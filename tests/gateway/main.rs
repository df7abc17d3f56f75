//! The gateway from outside: real processes, real servers, HTTP.

mod claims;
mod crowd;
mod orders;
mod proxies;
mod sales;
mod trouble;

#[path = "../support/client.rs"]
mod client;
#[path = "../support/database.rs"]
mod database;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/site.rs"]
mod site;

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
