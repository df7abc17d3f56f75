//! Where the real servers of a test run are. `tests/run` starts them and sets these variables; a test whose server is missing
//! fails and names it.

/// `redis://…`
pub(crate) fn redis_url() -> String {
    url("RUSHGATE_TEST_REDIS_URL")
}

/// `amqp://…`
pub(crate) fn amqp_url() -> String {
    url("RUSHGATE_TEST_AMQP_URL")
}

/// `mysql://…/database`, of a user who may create databases: MariaDB or MySQL.
pub(crate) fn mysql_url() -> String {
    url("RUSHGATE_TEST_MYSQL_URL")
}

/// The same for a second server, a real MySQL, or `None` if the run was told to do without it.
pub(crate) fn real_mysql_url() -> Option<String> {
    let url = url("RUSHGATE_TEST_REAL_MYSQL_URL");
    (url != "none").then_some(url)
}

fn url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run tests/run, which starts the servers"))
}

/// A name that no other test run uses, for keys, exchanges and databases.
pub(crate) fn unique(prefix: &str) -> String {
    format!("{prefix}_{:08x}", fastrand::u32(..))
}
