//! A MariaDB of a test's own, to be killed, frozen and locked.

use std::path::Path;
use std::process::{Command, Stdio};

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::process::{Process, free_port, owned};

/// Ends with the test.
pub(crate) struct PrivateMariaDb {
    process: Process,
    port: u16,
    settings: String,
    zone: Option<String>,
    dir: TempDir,
}

impl PrivateMariaDb {
    pub(crate) async fn start() -> Self {
        Self::begin("--no-defaults".to_owned()).await
    }

    /// With the settings of this file, but for where it listens and keeps its data.
    pub(crate) async fn start_with(settings: &str) -> Self {
        Self::begin(format!("--defaults-file={settings}")).await
    }

    /// On a machine of this time zone, as POSIX writes it: `EST5` is five hours behind UTC.
    pub(crate) async fn start_in(zone: &str) -> Self {
        Self::begin_in("--no-defaults".to_owned(), Some(zone.to_owned())).await
    }

    async fn begin(settings: String) -> Self {
        Self::begin_in(settings, None).await
    }

    async fn begin_in(settings: String, zone: Option<String>) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("tmp")).expect("a folder");
        let mut install = Command::new("mariadb-install-db");
        install.arg("--no-defaults").args(options(dir.path()));
        install.args(["--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=normal"]);
        let output = install.stdin(Stdio::null()).output().expect("mariadb-install-db runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        // One statement per line. The server runs them before it greets anybody.
        let init = "CREATE DATABASE IF NOT EXISTS rushgate;\nCREATE USER IF NOT EXISTS root@'127.0.0.1';\n\
                    GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n\
                    CREATE USER IF NOT EXISTS rushgate@'127.0.0.1';\nGRANT ALL ON `rushgate%`.* TO rushgate@'127.0.0.1';\n";
        std::fs::write(dir.path().join("init.sql"), init).expect("its first statements");
        let port = free_port();
        let process = launch(&settings, zone.as_deref(), dir.path(), port);
        let server = Self { process, port, settings, zone, dir };
        server.answers().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/rushgate", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it again on the same port, with what is in its folder. A process that still runs is killed.
    pub(crate) async fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.settings, self.zone.as_deref(), self.dir.path(), self.port);
        self.answers().await;
    }

    /// Says something to it as an administrator would. The user `rushgate`, who is none, has all rights on databases of that name.
    pub(crate) async fn execute(&self, statement: &str) {
        let mut connection = self.connection().await;
        connection.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// A session of an administrator's own, such as for a lock that is held as long as it lives.
    pub(crate) async fn connection(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.url()).await.expect("the server answers")
    }

    async fn answers(&self) {
        let url = self.url();
        let probe = || async {
            let connection = MySqlConnection::connect(&url).await.map_err(|error| error.to_string())?;
            connection.close().await.map_err(|error| error.to_string())
        };
        self.process.answers(probe).await;
    }
}

fn options(dir: &Path) -> Vec<String> {
    // Its own tmpdir, because a server that starts clears it of others' tables; no native AIO, because its quota is the kernel's.
    let mut options = vec![
        format!("--datadir={}", dir.join("data").display()),
        format!("--tmpdir={}", dir.join("tmp").display()),
        "--innodb-use-native-aio=0".to_owned(),
    ];
    let id = Command::new("id").arg("-u").output().expect("id runs");
    if id.stdout.trim_ascii() == b"0" {
        options.push("--user=root".to_owned());
    }
    options
}

fn launch(settings: &str, zone: Option<&str>, dir: &Path, port: u16) -> Process {
    let mut command = owned("mariadbd");
    command.envs(zone.map(|zone| ("TZ", zone)));
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command.arg(settings).args(options(dir)).args([
        &format!("--init-file={}", dir.join("init.sql").display()),
        &format!("--socket={}", dir.join("sock").display()),
        &format!("--pid-file={}", dir.join("pid").display()),
        &format!("--port={port}"),
    ]);
    command.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--character-set-server=utf8mb4"]);
    command.args(["--innodb-log-file-size=64M", "--innodb-buffer-pool-size=128M"]);
    if settings == "--no-defaults" {
        command.args(["--max-connections=500", "--innodb-flush-log-at-trx-commit=1"]);
    }
    Process::start("mariadb", command, &dir.join("log"))
}
