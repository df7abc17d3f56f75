//! A database of its own for a test that needs one.

use std::time::Duration;

/// How long the removal of a database may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The URL with another database.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{name}")
}

pub(crate) async fn create_database(server: &str, name: &str) {
    let created = execute(server, format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
    created.expect("the test's MySQL makes a database");
}

/// From a `Drop`, where nothing can be awaited.
pub(crate) fn drop_database(server: &str, name: &str) {
    let (server, statement) = (server.to_owned(), format!("DROP DATABASE IF EXISTS {name}"));
    let dropping = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        // Its server may be dead or frozen, where servers are a test's own.
        runtime.block_on(async { tokio::time::timeout(PATIENCE, execute(&server, statement)).await })
    });
    // A test that fails for another reason should not fail for this one.
    let _ = dropping.join();
}

async fn execute(server: &str, statement: String) -> Result<(), sqlx::Error> {
    use sqlx::{Connection, Executor};
    let mut connection = sqlx::MySqlConnection::connect(server).await?;
    connection.execute(sqlx::AssertSqlSafe(statement)).await.map(|_| ())
}
