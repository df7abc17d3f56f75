//! What operators watch: `promtool` finds nothing wrong with the metrics of a live site, nor with the rules, and the rules keep their
//! own tests. `tests/run` brings the tool.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::site::{Site, concert, eventually};

/// Fails with all that the tool has to say.
fn promtool(arguments: &[&str], input: &str) {
    let tool = std::env::var("RUSHGATE_TEST_PROMTOOL");
    let tool = tool.expect("RUSHGATE_TEST_PROMTOOL is not set: run tests/run, which brings the tool");
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
}

#[test]
fn the_rules_are_right_and_keep_their_own_tests() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "config/monitoring/rules.yaml"], "");
    promtool(&["test", "rules", "config/monitoring/rules.test.yaml"], "");
    promtool(&["check", "config", "--syntax-only", "config/monitoring/prometheus.yaml"], "");
}

/// The queries of a dashboard's panels.
fn queries(panels: &Value) -> Vec<String> {
    let targets = panels.as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().replace("$sale", ".*")).collect()
}

#[test]
fn every_query_of_the_dashboard_can_be_asked() {
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string("config/monitoring/dashboard.json").unwrap()).unwrap();
    let queries = queries(&dashboard["panels"]);
    assert!(queries.len() > 30, "the dashboard shows hardly anything any more");
    let rules: Vec<_> =
        queries.iter().enumerate().map(|(at, expr)| json!({"record": format!("q:{at}"), "expr": expr})).collect();
    // JSON is YAML.
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("queries.yaml");
    std::fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_a_gateway_and_a_writer_keep_the_rules_of_their_collector() {
    let site = Site::cluster(1, 1, "").await;
    site.sale("concert", &concert(2)).await;
    for buyer in ["a", "b", "c"] {
        let reply = site.gateway(0).claim("concert", buyer, None, &json!({"quantity": 1})).await.unwrap();
        assert!(matches!(reply.status, 201 | 409), "{reply:?}");
    }
    site.audit("concert");
    for (node, told) in [(0, "rushgate_claims_total{sale=\"concert\""), (1, "rushgate_drift_units{sale=\"concert\"} 0")]
    {
        let text = eventually(told, || async {
            let reply = site.nodes[node].admin.get("/metrics", &[]).await?;
            let metrics = reply.body.as_str().unwrap_or_default().to_owned();
            if metrics.contains(told) { Ok(metrics) } else { Err(metrics) }
        })
        .await;
        promtool(&["check", "metrics"], &text);
    }
}
