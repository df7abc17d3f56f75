//! Rows about wall clocks, by libfaketime under a gateway and a writer: what is due is decided by the store's clock, and not by a
//! process's.

use std::path::PathBuf;
use std::time::Duration;

use crate::deployment::{Deployment, Private};
use crate::matrix::scene::{Scene, Stage};
use crate::run::Run;

const SECOND: Duration = Duration::from_secs(1);
/// How long a clock is wrong; longer than a hold of these sales lasts.
const WRONG: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_and_a_writer_whose_clocks_jump_let_nothing_expire_early_or_late() {
    let private = Private::shared().await;
    let mut deployment = Deployment::over(&private, "").await;
    let clock = tempfile::NamedTempFile::new().unwrap();
    let (file, library) = (clock.path().to_str().unwrap(), library());
    std::fs::write(file, "+0").unwrap();
    let faked = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", file),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    for (role, environment) in [("gateway", &faked[..]), ("gateway", &[]), ("writer", &faked)] {
        deployment.add(role, environment).await;
    }
    deployment.ready().await;
    let Stage { sale, habits, buyers, .. } = Stage::default();
    let run = Run::begin(&deployment, vec![sale], habits, buyers, 601).await;
    let mut scene = Scene { private, deployment, run };

    for (name, offset) in [
        ("clock: a gateway and the writer are an hour ahead", "+1h"),
        ("clock: a gateway and the writer are an hour behind", "-1h"),
        ("clock: a gateway and the writer are ten minutes ahead", "+10m"),
        ("clock: a gateway and the writer are ten minutes behind", "-10m"),
    ] {
        let fault = scene.fault(name).await;
        std::fs::write(file, offset).unwrap();
        tokio::time::sleep(WRONG).await;
        std::fs::write(file, "+0").unwrap();
        let heard = scene.healed(fault).await;
        heard.at_most(&["202"]).orders_at_most(&["202", "503 busy"]).within(3 * SECOND);
    }
    scene.ends_clean().await;
}

/// Debian keeps it under the machine's name.
fn library() -> PathBuf {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let library = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    library.expect("libfaketime is installed: tests/run does that")
}
