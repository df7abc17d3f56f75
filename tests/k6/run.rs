//! One run of k6, and what it left.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::site::Site;

/// Longer than any of these runs takes on a busy machine.
const LONGEST: Duration = Duration::from_secs(120);
/// What k6 ends with if a threshold was crossed.
pub(crate) const CROSSED: Option<i32> = Some(99);

/// What a run said and wrote.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    /// The report for the terminal.
    pub(crate) out: String,
    /// What k6 says by itself.
    pub(crate) err: String,
    /// The report for programs; null if there is none.
    pub(crate) report: Value,
    /// The report for people; empty if there is none.
    pub(crate) page: String,
}

/// Runs a script of `loadtest/k6` against all gateways of a site, with these settings.
pub(crate) async fn k6(site: &Site, script: &str, settings: &[(&str, &str)]) -> Ran {
    let gateways: Vec<_> = site.gateways().iter().map(|gateway| gateway.base().to_owned()).collect();
    let mut given = vec![
        // A test build on a machine that does a lot besides: how fast it is, is not what is tested.
        ("P99_YES_MS", "30000"),
        ("P99_NO_MS", "30000"),
        ("AWAY", "100"),
        ("PATIENCE", "30s"),
        ("RUSHGATE_ADMIN_URL", site.admin().base()),
    ];
    let gateways = gateways.join(",");
    given.push(("GATEWAYS", &gateways));
    given.extend(settings);
    bare(script, &given).await
}

/// Runs a script with nothing but these settings.
pub(crate) async fn bare(script: &str, settings: &[(&str, &str)]) -> Ran {
    let program = std::env::var("RUSHGATE_TEST_K6").unwrap_or_else(|_| {
        panic!("RUSHGATE_TEST_K6 does not name a k6: run tests/run, which installs one");
    });
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest/k6");
    let dir = TempDir::new().unwrap();
    let running = Command::new(program)
        .args(["run", "--no-usage-report", "--quiet", "--no-color", "--address", ""])
        .arg(scripts.join(format!("{script}.ts")))
        .env("OUT", dir.path())
        .envs(settings.iter().copied())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LONGEST, running).await.expect("the run ends").expect("k6 runs");
    let written = |kind: &str| std::fs::read_to_string(dir.path().join(format!("k6-{script}.{kind}"))).ok();
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        report: written("json").map_or(Value::Null, |text| serde_json::from_str(&text).unwrap()),
        page: written("html").unwrap_or_default(),
    }
}

impl Ran {
    /// Fails, with all that was said, unless it ended with this code.
    pub(crate) fn ended(&self, code: Option<i32>, script: &str) {
        assert_eq!(self.code, code, "{script}:\n{}\n{}", self.out, self.err);
    }

    /// How many answers of this kind to claims there were.
    pub(crate) fn answers(&self, outcome: &str) -> u64 {
        self.count(&format!("rushgate_answers{{outcome:{outcome}}}"))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "k6 counts in floats")]
    pub(crate) fn count(&self, metric: &str) -> u64 {
        self.report["metrics"][metric]["values"]["count"].as_f64().unwrap_or(0.0) as u64
    }
}
