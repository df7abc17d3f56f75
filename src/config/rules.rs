//! What must hold between values. A rule is checked when all the values that it speaks of could be read.

use std::net::SocketAddr;

use crate::config::settings::{Auth, InventoryBackend, PaymentProvider, QueueBackend, Role, Settings, StoreBackend};

/// A rule between values.
#[derive(Debug)]
pub struct Rule {
    /// Paths of the keys that it speaks of.
    pub keys: &'static [&'static str],
    /// What must hold, as a sentence.
    pub says: &'static str,
    pub holds: fn(&Settings) -> bool,
}

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        keys: &["admin.token", "admin.listen"],
        says: "admin.token must be set unless admin.listen is a loopback address",
        holds: |s| !s.admin.token.is_empty() || on_loopback(&s.admin.listen),
    },
    Rule {
        keys: &["http.jwt_secret", "http.auth"],
        says: "http.jwt_secret must be set for http.auth = \"jwt\"",
        holds: |s| s.http.auth != Auth::Jwt || !s.http.jwt_secret.is_empty(),
    },
    Rule {
        keys: &["payment.callback_secret", "payment.provider"],
        says: "payment.callback_secret must be set for payment.provider = \"signed-callback\"",
        holds: |s| s.payment.provider != PaymentProvider::SignedCallback || !s.payment.callback_secret.is_empty(),
    },
    Rule {
        keys: &["http.listen", "admin.listen"],
        says: "http.listen and admin.listen must be two addresses",
        holds: |s| s.http.listen != s.admin.listen || s.http.listen.ends_with(":0"),
    },
    Rule {
        keys: &["inventory.backend", "queue.backend"],
        says: "a memory inventory goes with a memory queue, a shared inventory with a shared queue: \
               what one node grants, any other must be able to publish",
        holds: |s| (s.inventory.backend == InventoryBackend::Memory) == (s.queue.backend == QueueBackend::Memory),
    },
    Rule {
        keys: &["inventory.backend", "node.roles"],
        says: "a memory inventory is known to its own process only, which must therefore have both roles",
        holds: |s| s.inventory.backend != InventoryBackend::Memory || has_both_roles(s),
    },
    Rule {
        keys: &["queue.backend", "node.roles"],
        says: "a memory queue is known to its own process only, which must therefore have both roles",
        holds: |s| s.queue.backend != QueueBackend::Memory || has_both_roles(s),
    },
    Rule {
        keys: &["store.backend", "node.roles"],
        says: "a sqlite store belongs to one process, which must therefore have both roles",
        holds: |s| s.store.backend != StoreBackend::Sqlite || has_both_roles(s),
    },
    Rule {
        keys: &["store.url", "store.backend"],
        says: "store.url must begin with mysql:// or mariadb:// for store.backend = \"mysql\", \
               with sqlite:// for \"sqlite\"",
        holds: |s| (s.store.backend == StoreBackend::Sqlite) == (s.store.url.scheme() == Some("sqlite")),
    },
    Rule {
        keys: &["store.read_url", "store.backend"],
        says: "store.read_url is for store.backend = \"mysql\": a sqlite store has no replica",
        holds: |s| s.store.backend == StoreBackend::Mysql || s.store.read_url.is_empty(),
    },
    Rule {
        keys: &["shard.node_timeout", "shard.refill_interval"],
        says: "shard.node_timeout must be at least three times shard.refill_interval: \
               each refill is a heartbeat, and one may be late",
        holds: |s| s.shard.node_timeout >= s.shard.refill_interval * 3,
    },
    Rule {
        keys: &["queue.relay_after", "queue.confirm_timeout"],
        says: "queue.relay_after must be longer than queue.confirm_timeout: \
               what is still on its way would be published twice",
        holds: |s| s.queue.relay_after > s.queue.confirm_timeout,
    },
    Rule {
        keys: &["trace.otlp_endpoint"],
        says: "trace.otlp_endpoint needs a program that was built with the feature otlp, and this one was not",
        holds: |s| cfg!(feature = "otlp") || s.trace.otlp_endpoint.is_empty(),
    },
];

fn on_loopback(listen: &str) -> bool {
    listen.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

fn has_both_roles(settings: &Settings) -> bool {
    [Role::Gateway, Role::Writer].iter().all(|role| settings.node.roles.contains(role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::Key;

    #[test]
    fn a_rule_speaks_of_known_keys_and_the_defaults_keep_it() {
        for rule in RULES {
            assert!(rule.keys.iter().all(|key| Key::position(key).is_some()), "{rule:?}");
            assert!((rule.holds)(&Settings::default()), "{rule:?}");
        }
    }
}
