//! Where the real servers of a test run are. `tests/run` starts them and sets these variables; a test whose server is missing
//! fails and names it.
#![expect(dead_code, reason = "each test binary uses the servers that it needs")]

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

/// The URL with another database.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{name}")
}

pub(crate) async fn create_database(server: &str, name: &str) {
    execute(server, format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
}

/// From a `Drop`, where nothing can be awaited.
pub(crate) fn drop_database(server: &str, name: &str) {
    let (server, statement) = (server.to_owned(), format!("DROP DATABASE IF EXISTS {name}"));
    let dropping = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(execute(&server, statement));
    });
    // A test that fails for another reason should not fail for this one.
    let _ = dropping.join();
}

async fn execute(server: &str, statement: String) {
    use sqlx::{Connection, Executor};
    let mut connection = sqlx::MySqlConnection::connect(server).await.expect("the test's MySQL answers");
    connection.execute(sqlx::AssertSqlSafe(statement)).await.expect("the statement works");
}
