//! `rushgate audit`: proves the invariants from inventory, queue and store.

use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::audit::{Finding, Repair, Report, SaleReport, Verdict};
use crate::cli::progress::progress;
use crate::cli::remote::{Remote, table};
use crate::cli::{Exit, Failure};
use crate::config::Loaded;
use crate::domain::SaleId;

/// Prove the invariants from inventory, queue and store; exit with 2 if one is broken. Reads only, unless it is told to repair.
///
/// Asks a running process by its admin API. A sale that is clean has every order where it belongs; one that is in motion has
/// orders on their way, and can be asked about again.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate audit
  rushgate audit concert-1 --wait 30s --json
  rushgate audit --repair --dry-run
  rushgate audit concert-1 --repair")]
pub(super) struct Audit {
    /// The sale to audit; without it, all of them.
    sale: Option<SaleId>,
    /// How long to wait, at most, for what is in motion.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Repair what has one right answer, audit again, and exit with 2 if something is still broken.
    #[arg(long)]
    repair: bool,
    /// Say what would be repaired, and change nothing.
    #[arg(long, requires = "repair")]
    dry_run: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Audit {
    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        let client = self.remote.client(&loaded.settings)?;
        let sale = self.sale.as_ref().map(|sale| format!("&sale={sale}")).unwrap_or_default();
        if self.repair {
            let dry_run = self.dry_run;
            let path = format!("/admin/v1/audit/repair?wait={}ms&dry_run={dry_run}{sale}", self.wait.as_millis());
            let answer = progress("repairing", client.audit(&path)).await?;
            let repair: Repair =
                serde_json::from_value(answer.clone()).context("the answer is no report of a repair")?;
            return exit(repair.verdict()).after(self.remote.print(&answer, |_| shown_repair(&repair)));
        }
        let path = format!("/admin/v1/audit?wait={}ms{sale}", self.wait.as_millis());
        let answer = progress("auditing", client.audit(&path)).await?;
        let report: Report = serde_json::from_value(answer.clone()).context("the answer is no report of an audit")?;
        exit(report.verdict).after(self.remote.print(&answer, |_| shown(&report)))
    }
}

fn exit(verdict: Verdict) -> Exit {
    if verdict == Verdict::Broken { Exit::Broken } else { Exit::Done }
}

fn shown_repair(repair: &Repair) -> String {
    let mut lines = Vec::new();
    for action in &repair.actions {
        let (sign, why) = match (&action.why_not, action.done) {
            (Some(why), _) => ("NOT DONE", format!(" ({why})")),
            (None, true) => ("done", String::new()),
            (None, false) => ("would be done", String::new()),
        };
        lines.push(format!("{}: {}: {sign}{why}", action.subject, action.what));
        lines.extend(named(&action.orders, action.count));
    }
    if repair.actions.is_empty() {
        lines.push("There is nothing to repair that has one right answer.".to_owned());
    }
    let (when, report) = match &repair.after {
        Some(after) => ("Afterwards:", after),
        None => ("Nothing was changed. As it is:", &repair.before),
    };
    format!("{}\n\n{when}\n\n{}", lines.join("\n"), shown(report))
}

fn shown(report: &Report) -> String {
    let rows = report.sales.iter().map(|sale| {
        let findings = sale.findings.iter().filter(|finding| finding.confirmed).count();
        [sale.sale.clone(), sale.orders.to_string(), findings.to_string(), sale.verdict.to_string()]
    });
    let mut parts = vec![table(["SALE", "ORDERS", "BROKEN", "VERDICT"], rows).trim_end().to_owned()];
    parts.extend(report.sales.iter().filter_map(shown_sale));
    let of_all: Vec<_> = report.findings.iter().filter(|finding| finding.confirmed).flat_map(shown_finding).collect();
    if !of_all.is_empty() {
        parts.push(format!("all sales\n{}", of_all.join("\n")));
    }
    let motion = &report.motion;
    if !motion.is_quiet() {
        parts.push(format!(
            "On their way: {} outbox entries, {} messages, {} stock moves, {} late payments, {} definitions.",
            motion.outbox_entries,
            motion.lane_messages,
            motion.stock_moves,
            motion.late_payments,
            motion.unapplied_sales
        ));
    }
    if motion.dead_letters > 0 {
        parts.push(format!("{} dead letters wait for an operator.", motion.dead_letters));
    }
    let verdict = match report.verdict {
        Verdict::Clean => "Clean: every invariant holds.",
        Verdict::InMotion => "In motion: nothing is broken as far as can be seen; ask again, or wait longer by --wait.",
        Verdict::Broken => "BROKEN: an invariant does not hold.",
    };
    parts.push(verdict.to_owned());
    parts.join("\n\n") + "\n"
}

/// `None`: there is nothing to tell beside its row.
fn shown_sale(sale: &SaleReport) -> Option<String> {
    let mut lines = vec![sale.sale.clone()];
    if sale.awaited > 0 {
        lines.push(format!("  {} granted orders have no row yet", sale.awaited));
    }
    if sale.arrived > 0 {
        lines.push(format!(
            "  {} of the orders came meanwhile; their limits and histories the next audit proves",
            sale.arrived
        ));
    }
    lines.extend(sale.findings.iter().filter(|finding| finding.confirmed).flat_map(shown_finding));
    let moving = sale.findings.iter().filter(|finding| !finding.confirmed).count();
    if moving > 0 {
        lines.push(format!("  {moving} differences may be explained by what is on its way; --json tells them"));
    }
    lines.extend(sale.notes.iter().map(|note| format!("  note: {note}")));
    (lines.len() > 1).then(|| lines.join("\n"))
}

fn shown_finding(finding: &Finding) -> Vec<String> {
    let mut lines = vec![format!("  {:?}: {}", finding.invariant, finding.what)];
    lines.extend(named(&finding.orders, finding.count));
    lines
}

fn named(orders: &[String], count: u64) -> Vec<String> {
    let mut lines: Vec<_> = orders.iter().map(|order| format!("      {order}")).collect();
    if count > orders.len() as u64 && !orders.is_empty() {
        lines.push(format!("      … {count} in all"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Invariant, Motion};

    #[test]
    fn a_report_names_what_is_broken_and_what_moves() {
        let finding = Finding {
            invariant: Invariant::I9,
            confirmed: true,
            what: "stranded".to_owned(),
            count: 21,
            orders: vec!["ab".to_owned()],
        };
        let sale = SaleReport {
            sale: "s".to_owned(),
            verdict: Verdict::Broken,
            orders: 7,
            arrived: 2,
            awaited: 3,
            findings: vec![finding.clone(), Finding { confirmed: false, ..finding }],
            notes: vec!["1 payments are to be given back".to_owned()],
        };
        let motion = Motion { outbox_entries: 3, dead_letters: 2, ..Motion::default() };
        let text = shown(&Report { verdict: Verdict::Broken, sales: vec![sale], findings: Vec::new(), motion });
        for part in [
            "s     7       1       broken",
            "s\n  3 granted orders have no row yet\n  2 of the orders came meanwhile; their",
            "  I9: stranded\n      ab\n      … 21 in all\n  1 differences may be explained",
            "  note: 1 payments are to be given back\n",
            "On their way: 3 outbox entries, 0 messages",
            "2 dead letters wait",
            "BROKEN",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
