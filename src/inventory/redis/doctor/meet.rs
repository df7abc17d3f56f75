//! Why a Redis does not let us in, in the words of who has to mend it.

use redis::{ErrorKind, RedisError};

use crate::config::settings;
use crate::finding::{Remedy, remedy};

/// What a server that takes the connection and not the client has against it, and what mends that.
pub(super) fn refused(error: &RedisError, settings: &settings::Inventory) -> (&'static str, Remedy) {
    let text = error.to_string();
    let says = |code: &str| error.code() == Some(code) || text.contains(code);
    let why = "nothing is sold before it answers";
    if error.is_timeout() {
        let mend = "redis-cli PING on its machine; it is frozen or busy with a long command (SLOWLOG GET), or \
                    something else is on the port";
        return ("answers", remedy("it takes connections and says nothing", mend));
    }
    if error.kind() == ErrorKind::InvalidClientConfig {
        let mend =
            "set inventory.url to redis://USER:PASSWORD@HOST:PORT/NUMBER; the number of the database may be left out";
        return ("url", remedy(why, mend));
    }
    if error.kind() == ErrorKind::AuthenticationFailed || says("WRONGPASS") || says("invalid password") {
        let mend = format!("set the right user and password: RUSHGATE__INVENTORY__URL={}", example(settings));
        return ("authentication", remedy(why, mend));
    }
    if says("NOAUTH") {
        let mend = format!("it wants a password: RUSHGATE__INVENTORY__URL={}", example(settings));
        return ("authentication", remedy(why, mend));
    }
    if says("NOPERM") {
        return ("permission", remedy(why, "ACL SETUSER NAME +@all ~NAMESPACE:* &*"));
    }
    if says("DENIED") {
        return (
            "authentication",
            remedy(why, "it is in protected mode: give it a password (requirepass), or bind it to loopback"),
        );
    }
    if says("max number of clients") {
        return ("clients", remedy(why, "CONFIG SET maxclients 10000, or find who keeps connections: CLIENT LIST"));
    }
    if says("LOADING") {
        return (
            "loading",
            remedy("it reads its data; claims are refused until it has", "wait: INFO persistence, loading_eta_seconds"),
        );
    }
    if text.contains("DB index") || text.contains("database number") {
        let mend = "set inventory.url to a database that it has: redis-cli CONFIG GET databases; /0 is always there";
        return ("database", remedy(why, mend));
    }
    if error.code().is_some() {
        return ("refused", remedy(why, "it is Redis and says no, by these words of its own"));
    }
    ("connection", remedy(why, "is it Redis 6.2 or later that listens there?"))
}

/// The URL as it should look, without what must not be seen.
fn example(settings: &settings::Inventory) -> String {
    let scheme = settings.url.scheme().unwrap_or("redis");
    let (host, port) = settings.url.address().unwrap_or(("HOST", None));
    format!("{scheme}://USER:PASSWORD@{host}:{}", port.unwrap_or(6379))
}

/// Neither of its clients' errors holds a password; both may hold more than one line.
pub(super) fn told(error: &RedisError) -> String {
    error.to_string().replace(['\r', '\n'], " ")
}
