//! A database of its own for a test that needs one.

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
