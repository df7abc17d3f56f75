//! `rushgate doctor`: what is wrong, why it matters, and what mends it.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::remote::{Remote, table};
use crate::cli::{Exit, Failure};
use crate::config;
use crate::doctor;
use crate::finding::{Finding, State};
use crate::reload::Source;

/// What is found of a check may be long; what is not well is told whole below the table.
const WIDTH: usize = 90;

/// Probe every backend and limit of these settings and say the true cause of what is wrong; exit 1 if something is.
///
/// For a deployment that does not start, and for one that runs: each backend by name, port, TLS, password and rights, then what the promises
/// need of its settings; this machine; what listens on the ports, and whether that is this version with these settings. Give it the
/// config and the environment of the process that is meant. It looks and changes nothing: what it writes to try its rights it rolls back, what
/// it publishes goes nowhere. (A listener that systemd holds is asked as well, which starts its process.)
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate doctor
  rushgate doctor --config config/gateway.toml
  rushgate doctor --config config/writer.toml --json

States: ok; warning, a risk that somebody should have chosen; wrong, it does not sell or breaks a promise; unknown, it
cannot be known from here. Exit code 1 if something is wrong, else 0.")]
pub(super) struct Doctor {
    #[command(flatten)]
    remote: Remote,
}

impl Doctor {
    pub(super) async fn run(self, source: Source) -> Result<Exit, Failure> {
        let findings = match config::load(&source.sources) {
            Ok(loaded) => {
                let asked = self.remote.asked(&loaded.settings)?;
                let progress = Progress::default();
                let findings = doctor::examine(&loaded, &asked, &|part| progress.seen(part)).await;
                progress.end();
                findings
            }
            // Where the settings are wrong, what they would have named is not known.
            Err(problems) => doctor::of_problems(&problems),
        };
        let worst = verdict(&findings);
        self.remote.print(&document(&findings, worst), |_| shown(&findings))?;
        Ok(if worst == State::Wrong { Exit::Failed } else { Exit::Done })
    }
}

/// Which parts were looked at, on a terminal.
#[derive(Debug, Default)]
struct Progress(Mutex<Vec<String>>);

impl Progress {
    fn seen(&self, part: &str) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(part.to_owned());
        if io::stderr().is_terminal() {
            let _nobody_sees_it = write!(io::stderr(), "\r\x1b[Klooked at {} …", parts.join(", "));
        }
    }

    /// Back to the line's beginning, and nothing left on it.
    fn end(self) {
        drop(self);
        if io::stderr().is_terminal() {
            let _nobody_sees_it = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// The worst that is known. What cannot be known from here is no judgement.
fn verdict(findings: &[Finding]) -> State {
    let known = findings.iter().map(|finding| finding.state).filter(|state| *state != State::Unknown);
    known.max().unwrap_or(State::Ok)
}

fn count(findings: &[Finding], state: State) -> usize {
    findings.iter().filter(|finding| finding.state == state).count()
}

fn document(findings: &[Finding], worst: State) -> Value {
    json!({
        "verdict": worst.as_str(),
        "wrong": count(findings, State::Wrong),
        "warnings": count(findings, State::Warning),
        "unknown": count(findings, State::Unknown),
        "findings": findings,
    })
}

fn shown(findings: &[Finding]) -> String {
    let rows = findings.iter().map(|finding| {
        let cell = |text: &str| text.to_owned();
        [cell(finding.part), cell(finding.check), cell(finding.state.as_str()), cut(finding)]
    });
    let mut parts = vec![table(["PART", "CHECK", "STATE", "FOUND"], rows)];
    let mut ill: Vec<_> = findings.iter().filter(|finding| finding.state > State::Unknown).collect();
    ill.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    parts.extend(ill.into_iter().map(|Finding { part, check, state, found, why, mend }| {
        format!("{} · {part} {check}: {found}\n  why   {why}\n  mend  {mend}\n", state.as_str().to_uppercase())
    }));
    let [wrong, warnings, unknown, ok] =
        [State::Wrong, State::Warning, State::Unknown, State::Ok].map(|state| count(findings, state));
    let settings_only = findings.iter().all(|finding| finding.part == "config");
    let rest = if settings_only { " The rest is looked at when the settings are right." } else { "" };
    parts.push(format!("{wrong} wrong, {warnings} warnings, {unknown} unknown, {ok} ok.{rest}\n"));
    parts.join("\n")
}

fn cut(finding: &Finding) -> String {
    if finding.state <= State::Unknown || finding.found.chars().count() <= WIDTH {
        return finding.found.clone();
    }
    finding.found.chars().take(WIDTH).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Findings, remedy};

    #[test]
    fn what_is_not_known_does_not_outrank_what_is_well() {
        let mut findings = Findings::of("redis");
        findings.ok("version", "Redis 7.0.15");
        findings.unknown("clock", "not told");
        assert_eq!(verdict(&findings.clone().done()), State::Ok);
        findings.unknown("clock", "not told");
        findings.warn("memory", "no maxmemory", remedy("killed", "set it"));
        assert_eq!(verdict(&findings.done()), State::Warning);
    }

    #[test]
    fn what_is_wrong_comes_first_with_its_reason_and_its_remedy() {
        let mut findings = Findings::of("redis");
        findings.ok("version", "Redis 7.0.15");
        findings.warn("memory", "no maxmemory", remedy("killed", "set it"));
        findings.wrong("eviction", "x".repeat(200), remedy("lost", "noeviction"));
        findings.unknown("clock", "not told");
        let findings = findings.done();
        let text = shown(&findings);
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in\n{text}"));
        assert!(place("WRONG · redis eviction: ") < place("WARNING · redis memory: "));
        assert!(text.contains("  why   lost\n  mend  noeviction\n") && text.contains("x…"), "{text}");
        assert!(text.ends_with("1 wrong, 1 warnings, 1 unknown, 1 ok.\n"), "{text}");
        let told = document(&findings, State::Wrong);
        assert_eq!((&told["verdict"], &told["findings"][2]["state"]), (&"wrong".into(), &"wrong".into()));
    }
}
