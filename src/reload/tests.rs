//! Reloads over a real file and a planted store.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Flag, Loaded, load};
use crate::domain::Buffer;
use crate::planted::{NOW, PlantedStore};

/// How long anything that must happen may take on a busy machine.
const ENOUGH: Duration = Duration::from_secs(20);

const GOOD: &str = "[shard]\nbuffer = 5\n";

struct Rig {
    reloader: Reloader,
    live: LiveSettings,
    store: Arc<PlantedStore>,
    meters: Meters,
    shutdown: Shutdown,
    folder: TempDir,
}

impl Rig {
    /// A process that began with this file, and with this key set by a flag.
    fn with(text: &str, set: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("c.toml"), text).unwrap();
        let flag = |(path, value): &(&str, &str)| {
            let (name, path, value) = ("--set".to_owned(), (*path).to_owned(), (*value).to_owned());
            Flag { name, path, value }
        };
        let (file, flags) = (Some(folder.path().join("c.toml")), set.iter().map(flag).collect());
        let sources = Sources { file, env: Vec::new(), flags, node_id: "n1".parse().unwrap() };
        let Loaded { settings, covered, .. } = load(&sources).unwrap();
        let (live, meters, shutdown) = (LiveSettings::new(&settings), Meters::new(), Shutdown::new());
        let store: Arc<PlantedStore> = Arc::default();
        let reloader = Reloader::new(Parts {
            source: Source { sources, logs: Logs::default(), covered },
            settings,
            live: live.clone(),
            store: Arc::clone(&store) as _,
            clock: Arc::new(ManualClock::at(NOW)),
            meters: meters.clone(),
            node: "n1".parse().unwrap(),
            shutdown: shutdown.clone(),
        });
        Self { reloader, live, store, meters, shutdown, folder }
    }

    fn new() -> Self {
        Self::with(GOOD, &[])
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join("c.toml"), text).unwrap();
    }

    async fn reload(&self) -> Result<Reloaded, Refused> {
        self.reloader.reload("local/ann", false).await
    }

    /// What is wrong, the file called `F`.
    async fn wrong(&self) -> String {
        match self.reload().await {
            Err(Refused::Wrong(problems)) => {
                problems.to_string().replace(&self.folder.path().join("c.toml").display().to_string(), "F")
            }
            other => panic!("must be wrong, is {other:?}"),
        }
    }

    fn buffer(&self) -> Buffer {
        self.live.shard.buffer.get()
    }

    fn metric(&self, line: &str) -> bool {
        self.meters.render().lines().any(|metric| metric == line)
    }

    /// The audit log: who, and from what to what.
    fn logged(&self) -> Vec<(String, Value, Value)> {
        let parsed = |text: &str| serde_json::from_str(text).unwrap();
        let log = self.store.lock();
        log.log
            .iter()
            .for_each(|line| assert_eq!((line.what.as_str(), line.subject.as_str()), ("config.reload", "n1")));
        log.log.iter().map(|line| (line.who.clone(), parsed(&line.before), parsed(&line.after))).collect()
    }

    /// Waits until it is so.
    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(ENOUGH, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    fn keep_reloading(&self) {
        self.shutdown.spawn(self.reloader.clone().keep_reloading());
    }

    async fn end(self) {
        self.shutdown.begin();
        assert!(self.shutdown.finish(ENOUGH).await);
    }
}

#[tokio::test]
async fn what_is_live_counts_at_once_and_is_in_the_audit_log() {
    let rig = Rig::new();
    rig.write("[shard]\nbuffer = \"20%\"\n[http]\nclaims_per_buyer = 3\n");
    let keys = rig.reload().await.unwrap().changed.into_iter().map(|changed| changed.key).collect::<Vec<_>>();
    assert_eq!(keys, ["http.claims_per_buyer", "shard.buffer"]);
    assert_eq!((rig.buffer(), rig.live.http.claims_per_buyer.get()), (Buffer::Fraction(0.2), 3));
    let (before, after) = (
        json!({"http.claims_per_buyer": 20, "shard.buffer": 5}),
        json!({"http.claims_per_buyer": 3, "shard.buffer": "20%"}),
    );
    assert_eq!(rig.logged(), [("local/ann".to_owned(), before, after)]);
    assert!(rig.reloader.show().contains("shard.buffer = \"20%\"\n"), "{}", rig.reloader.show());
    assert_eq!(rig.reload().await.unwrap().changed, []);
    assert_eq!(rig.logged().len(), 1, "a reload that changes nothing leaves no line");
    assert!(rig.metric("rushgate_config_last_reload_successful 1"));
    assert!(rig.metric("rushgate_config_last_reload_success_timestamp_seconds 1800000000"));
}

#[tokio::test]
async fn one_wrong_key_and_nothing_of_it_is_taken_until_it_is_right() {
    let rig = Rig::new();
    rig.write("[shard]\nbuffer = 7\nbufer = 8\n[queue]\nlanes = 0\n");
    let wrong = rig.wrong().await;
    assert!(wrong.contains("F:3:1: unknown key `shard.bufer`; the nearest is `shard.buffer`"), "{wrong}");
    assert!(wrong.contains("F:5:9: queue.lanes must be"), "{wrong}");
    assert_eq!((rig.buffer(), rig.logged().len()), (Buffer::Units(5), 0));
    assert!(rig.metric("rushgate_config_last_reload_successful 0"));
    let note = "config: the last reload changed nothing; GET /admin/v1/config and the log tell why";
    assert_eq!(rig.reloader.notes(), [note], "anybody may read it");
    let shown = rig.reloader.show();
    assert!(shown.contains("\n# the last reload changed nothing:\n#   /"), "{shown}");
    assert!(shown.contains(":3:1: unknown key `shard.bufer`"), "{shown}");
    rig.write("[shard]\nbuffer = 7\n");
    rig.reload().await.unwrap();
    assert_eq!((rig.buffer(), rig.reloader.notes().len()), (Buffer::Units(7), 0));
    assert!(!rig.reloader.show().contains("changed nothing"));
    assert!(rig.metric("rushgate_config_last_reload_successful 1"));
}

#[tokio::test]
async fn of_many_errors_the_first_are_kept() {
    let rig = Rig::new();
    let keys: Vec<_> = (0..100).map(|number| format!("wrong{number} = 1")).collect();
    rig.write(format!("[shard]\n{}", keys.join("\n")));
    assert_eq!(rig.wrong().await.matches("unknown key").count(), 100);
    assert_eq!(rig.reloader.show().matches("unknown key").count(), KEPT);
}

#[test]
fn keys_that_wait_are_named_up_to_ten_and_their_values_never() {
    let keys = |count| {
        let changed = |number| Changed { key: format!("k{number}"), before: "canary".into(), after: "canary".into() };
        waiting(&(0..count).map(changed).collect::<Vec<_>>())
    };
    assert_eq!(keys(0), None);
    assert_eq!(keys(1).unwrap(), "config: k0 needs a restart");
    assert_eq!(keys(2).unwrap(), "config: k0, k1 need a restart");
    assert!(keys(10).unwrap().ends_with(", k9 need a restart"));
    assert!(keys(12).unwrap().ends_with(", k9 and 2 more need a restart"));
}

#[tokio::test]
async fn a_file_that_is_gone_or_cannot_be_read_changes_nothing() {
    let rig = Rig::new();
    let path = rig.folder.path().join("c.toml");
    std::fs::remove_file(&path).unwrap();
    assert!(rig.wrong().await.contains("F: cannot be read: No such file"));
    std::fs::create_dir(&path).unwrap();
    assert!(rig.wrong().await.contains("F: cannot be read: Is a directory"));
    std::fs::remove_dir(&path).unwrap();
    rig.write([b'#', 0xff]);
    assert!(rig.wrong().await.contains("F: cannot be read: stream did not contain valid UTF-8"));
    rig.write("#".repeat((1 << 20) + 1));
    assert!(rig.wrong().await.contains("F: cannot be read: it has more than 1048576 bytes"));
    assert_eq!(rig.buffer(), Buffer::Units(5));
    rig.write("");
    rig.reload().await.unwrap();
    assert_eq!(rig.buffer(), Buffer::Fraction(0.1), "an operator may mean an empty file");
}

#[tokio::test]
async fn what_needs_a_restart_is_told_and_does_not_count() {
    let rig = Rig::new();
    let secret = "[admin]\ntoken = \"canary\"\n";
    rig.write(format!("{GOOD}{secret}[inventory]\npartitions = 4\nnamespace = \"other\"\n"));
    let reloaded = rig.reload().await.unwrap();
    let keys: Vec<_> = reloaded.needs_restart.iter().map(|waiting| waiting.key.as_str()).collect();
    assert_eq!(keys, ["admin.token", "inventory.namespace", "inventory.partitions"]);
    assert_eq!((reloaded.changed.len(), rig.logged().len()), (0, 0));
    let (notes, shown) = (rig.reloader.notes(), rig.reloader.show());
    assert_eq!(notes, ["config: admin.token, inventory.namespace, inventory.partitions need a restart"]);
    assert!(shown.contains("inventory.partitions = 1\n"), "{shown}");
    assert!(shown.ends_with("# inventory.partitions = 4 after a restart\n"), "{shown}");
    assert!(!format!("{notes:?}{shown}{reloaded:?}").contains("canary"));
    rig.write("[shard]\nbuffer = 6\n[inventory]\npartitions = 4\n");
    assert_eq!(rig.reload().await.unwrap().needs_restart.len(), 1, "what is live is taken beside it");
    assert_eq!(rig.buffer(), Buffer::Units(6));
    rig.write(GOOD);
    rig.reload().await.unwrap();
    assert_eq!(rig.reloader.notes(), [""; 0], "what is as it was waits for nothing");
}

#[tokio::test]
async fn what_is_live_is_not_taken_into_a_process_that_it_does_not_fit() {
    let rig = Rig::with("[queue]\nconfirm_timeout = \"10s\"\nrelay_after = \"20s\"\n", &[]);
    rig.write("[queue]\nconfirm_timeout = \"1s\"\nrelay_after = \"2s\"\n");
    assert!(rig.wrong().await.contains("until a restart it would be queue.relay_after = \"2s\""));
    assert_eq!(rig.live.queue.relay_after.get(), Duration::from_secs(20));
}

#[tokio::test]
async fn flags_stay_above_the_file() {
    let rig = Rig::with(GOOD, &[("shard.buffer", "9")]);
    rig.write("[shard]\nbuffer = 7\n[node]\nweight = 2.0\n");
    let covered = rig.reload().await.unwrap().covered;
    assert_eq!((rig.buffer(), rig.live.node.weight.get().to_string()), (Buffer::Units(9), "2".to_owned()));
    assert_eq!(covered.iter().map(|covered| covered.key.as_str()).collect::<Vec<_>>(), ["shard.buffer"]);
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let rig = Rig::new();
    rig.write("[shard]\nbuffer = 7\n");
    assert_eq!(rig.reloader.reload("local/ann", true).await.unwrap().changed[0].after, "7");
    rig.write("[shard]\nbufer = 7\n");
    assert!(matches!(rig.reloader.reload("local/ann", true).await, Err(Refused::Wrong(_))));
    assert_eq!((rig.buffer(), rig.logged().len(), rig.reloader.notes().len()), (Buffer::Units(5), 0, 0));
    assert!(rig.metric("rushgate_config_last_reload_successful 1"));
}

#[tokio::test]
async fn of_two_reloads_at_once_one_finds_nothing_left_to_change() {
    let rig = Rig::new();
    rig.write("[shard]\nbuffer = 7\n");
    let (one, other) = tokio::join!(rig.reload(), rig.reload());
    let changed = [one.unwrap().changed.len(), other.unwrap().changed.len()];
    assert_eq!((changed.iter().sum::<usize>(), rig.logged().len()), (1, 1));
}

#[tokio::test]
async fn a_change_counts_though_the_audit_log_cannot_be_written() {
    let rig = Rig::new();
    rig.store.lock().down = true;
    rig.write("[shard]\nbuffer = 7\n");
    rig.reload().await.unwrap();
    assert_eq!(rig.buffer(), Buffer::Units(7));
}

#[tokio::test]
async fn a_process_that_stops_takes_nothing_new() {
    let rig = Rig::new();
    rig.keep_reloading();
    rig.write("[shard]\nbuffer = 7\n");
    rig.shutdown.begin();
    rig.reloader.ask();
    assert_eq!(rig.reload().await, Err(Refused::Stopping));
    let (live, store) = (rig.live.clone(), Arc::clone(&rig.store));
    rig.end().await;
    assert_eq!((live.shard.buffer.get(), store.lock().log.len()), (Buffer::Units(5), 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_keeps_no_change_waiting_and_no_process_that_stops() {
    let rig = Rig::new();
    rig.store.lock().log_hangs = true;
    rig.keep_reloading();
    for buffer in [7, 8, 9] {
        rig.write(format!("[shard]\nbuffer = {buffer}\n"));
        rig.reloader.ask();
        rig.until("it counts", || rig.buffer() == Buffer::Units(buffer)).await;
    }
    rig.write("[shard]\nbuffer = 10\n");
    tokio::time::timeout(PATIENCE, rig.reload()).await.expect("an answer").unwrap();
    rig.shutdown.begin();
    assert!(rig.shutdown.finish(PATIENCE).await, "what is logged too late is given up");
}

#[tokio::test]
async fn lines_that_cannot_be_written_do_not_pile_up() {
    let rig = Rig::new();
    rig.store.lock().log_hangs = true;
    for buffer in 10..20 + LINES {
        rig.write(format!("[shard]\nbuffer = {buffer}\n"));
        rig.reloader.read_and_take("signal", false).await.unwrap();
    }
    assert_eq!((rig.reloader.0.lines.available_permits(), rig.buffer()), (0, Buffer::Units(35)));
    rig.shutdown.force();
    rig.shutdown.finish(ENOUGH).await;
    assert_eq!(rig.reloader.0.lines.available_permits(), LINES, "a line that is given up leaves its place");
}

#[tokio::test(start_paused = true)]
async fn who_asks_by_a_signal_while_another_reload_hangs_is_heard_when_it_ends() {
    let rig = Rig::new();
    rig.keep_reloading();
    let turn = rig.reloader.0.turn.lock().await;
    // Who follows the file does not take an empty one; who is asked does.
    rig.write("");
    rig.reloader.ask();
    tokio::time::sleep(PATIENCE * 3).await;
    assert_eq!(rig.buffer(), Buffer::Units(5));
    drop(turn);
    rig.until("it is done", || rig.buffer() == Buffer::Fraction(0.1)).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_while_a_reload_hangs_stops() {
    let rig = Rig::new();
    rig.keep_reloading();
    let _turn = rig.reloader.0.turn.lock().await;
    rig.reloader.ask();
    tokio::time::sleep(Duration::from_millis(1)).await;
    rig.shutdown.begin();
    assert!(rig.shutdown.finish(Duration::from_millis(1)).await);
}

#[tokio::test]
async fn what_can_be_read_once_is_neither_followed_nor_read_again() {
    let rig = Rig::new();
    let path = rig.folder.path().join("c.toml");
    assert!(follow::can_be_followed(&path).await);
    std::fs::remove_file(&path).unwrap();
    assert!(follow::can_be_followed(&path).await, "it may come");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(!follow::can_be_followed(&path).await);
    let wrong = tokio::time::timeout(ENOUGH, rig.wrong()).await.expect("nobody writes into it");
    assert!(wrong.contains("F: cannot be read: it can be read once; restart to change it"), "{wrong}");
    assert_eq!(rig.buffer(), Buffer::Units(5));
}

#[tokio::test]
async fn a_file_that_was_away_and_is_the_same_again_is_in_order_again() {
    let rig = Rig::new();
    let (path, real) = (rig.folder.path().join("c.toml"), rig.folder.path().join("real"));
    std::fs::rename(&path, &real).unwrap();
    std::os::unix::fs::symlink("real", &path).unwrap();
    rig.keep_reloading();
    tokio::time::sleep(follow::INTERVAL * 5).await;
    std::fs::remove_file(&path).unwrap();
    rig.until("gone", || rig.metric("rushgate_config_last_reload_successful 0")).await;
    std::os::unix::fs::symlink("real", &path).unwrap();
    rig.until("there again", || rig.metric("rushgate_config_last_reload_successful 1")).await;
    rig.end().await;
}

#[tokio::test]
async fn who_asks_a_thousand_times_is_heard_and_the_change_is_one() {
    let rig = Rig::new();
    rig.keep_reloading();
    rig.write("[shard]\nbuffer = 7\n");
    for _ in 0..1000 {
        rig.reloader.ask();
    }
    rig.until("the buffer is 7", || rig.buffer() == Buffer::Units(7)).await;
    rig.until("it is logged", || rig.logged().len() == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn a_file_is_followed_however_it_is_changed_and_half_of_one_is_not_taken() {
    let rig = Rig::new();
    rig.keep_reloading();
    rig.write("[shard]\nbuffer = 7\n");
    rig.until("written over", || rig.buffer() == Buffer::Units(7)).await;
    assert_eq!(rig.logged()[0].0, "file");
    let path = rig.folder.path().join("c.toml");
    std::fs::write(rig.folder.path().join("new"), "[shard]\nbuffer = 8\n").unwrap();
    std::fs::rename(rig.folder.path().join("new"), &path).unwrap();
    rig.until("replaced", || rig.buffer() == Buffer::Units(8)).await;
    // Cut off, as by an editor that dies, or on a full disk.
    rig.write("");
    rig.until("empty", || rig.reloader.show().contains("it is empty")).await;
    std::fs::remove_file(&path).unwrap();
    rig.until("gone", || rig.reloader.show().contains("No such file")).await;
    assert_eq!(rig.buffer(), Buffer::Units(8));
    rig.write("[shard]\nbuffer = 9\n");
    rig.until("there again", || rig.buffer() == Buffer::Units(9)).await;
    rig.end().await;
}

#[tokio::test]
async fn a_process_may_begin_with_an_empty_file() {
    let rig = Rig::with("", &[]);
    assert!(!rig.reloader.would_change(""));
    assert!(rig.reloader.would_change(GOOD) && Rig::new().reloader.would_change(""));
}
