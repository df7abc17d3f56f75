//! A Redis of a test's own, to be killed, frozen, emptied and put back to what it was a while ago.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::process::{Process, free_port, owned};

/// Ends with the test.
pub(crate) struct PrivateRedis {
    dir: TempDir,
    port: u16,
    persistence: Persistence,
    process: Process,
}

/// What outlives a crash of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    Nothing,
    /// Each write, before it is answered.
    Everything,
}

impl PrivateRedis {
    pub(crate) async fn start(persistence: Persistence) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let process = launch(&dir, port, persistence);
        let redis = Self { dir, port, persistence, process };
        redis.answers().await;
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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
        self.process = launch(&self.dir, self.port, self.persistence);
        self.answers().await;
    }

    /// Starts it again on the same port, with nothing.
    pub(crate) async fn restart_empty(&mut self) {
        self.process.kill();
        let _ = std::fs::remove_dir_all(self.data());
        self.restart().await;
    }

    /// A copy of its data as it is now, as an old snapshot or a lagging replica would have it.
    pub(crate) async fn copy(&self) -> TempDir {
        let copy = TempDir::new().expect("a temporary folder");
        let _: () = self.ask(&["SAVE"]).await;
        // Moved, or the next start would read it.
        let made = self.dir.path().join("dump.rdb");
        std::fs::copy(&made, copy.path().join("dump.rdb")).expect("the snapshot");
        std::fs::remove_file(made).expect("the snapshot");
        copy
    }

    /// Starts it again on the same port, with an older copy of its data.
    pub(crate) async fn restart_with(&mut self, copy: &TempDir) {
        self.process.kill();
        let _ = std::fs::remove_dir_all(self.data());
        std::fs::copy(copy.path().join("dump.rdb"), self.dir.path().join("dump.rdb")).expect("the snapshot");
        // A server that keeps a log reads no snapshot, so it begins the log from the snapshot that is read now.
        self.process = launch(&self.dir, self.port, Persistence::Nothing);
        self.answers().await;
        std::fs::remove_file(self.dir.path().join("dump.rdb")).expect("the snapshot");
        if self.persistence == Persistence::Everything {
            let _: () = self.ask(&["CONFIG", "SET", "appendonly", "yes"]).await;
        }
    }

    /// Says something to it as an administrator would.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub(crate) async fn try_ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T, redis::RedisError> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("appendonlydir")
    }

    async fn answers(&self) {
        let probe = || async { self.try_ask::<String>(&["PING"]).await.map(|_| ()).map_err(|error| error.to_string()) };
        self.process.answers(probe).await;
    }
}

fn launch(dir: &TempDir, port: u16, persistence: Persistence) -> Process {
    let mut command = owned("redis-server");
    let log = match persistence {
        Persistence::Nothing => ["no", "no"],
        Persistence::Everything => ["yes", "always"],
    };
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
    command.args(["--appendonly", log[0], "--appendfsync", log[1], "--enable-debug-command", "local"]);
    // So that a test may move its folder to a disk that is full.
    command.args(["--enable-protected-configs", "local"]);
    command.arg("--dir").arg(dir.path());
    Process::start("redis", command, &dir.path().join("log"))
}
