//! The report for a terminal.

use std::fmt::Write as _;

use crate::rehearsal::control::{Balance, Leg};
use crate::rehearsal::report::{Report, Share, milliseconds, thousands};

pub(super) fn write(report: &Report) -> String {
    let Report { settings, run, heard, truth, verdict } = report;
    let mut text = format!("rushgate {}: {}\n", settings.crowd, if verdict.passed() { "PASSED" } else { "FAILED" });
    // Writing to a String cannot fail.
    for said in verdict.lines() {
        let _ = writeln!(text, "  ✗ {said}");
    }
    if verdict.passed() {
        text.push_str("  ✓ sold exactly, every yes has its row, nothing is pending, stranded or unexplained\n");
    }
    let closed = if truth.closed.as_ref().is_some_and(Result::is_ok) { "closed" } else { "NOT CLOSED" };
    let (stock, hold) = (thousands(settings.stock.into()), settings.hold.as_secs_f64());
    let _ = writeln!(text, "\nsale     {} · {closed} · {stock} units · hold {hold} s", run.sale);
    let _ = writeln!(text, "crowd    {}", report.crowd());
    if heard.away > 0 {
        let away = thousands(heard.away);
        let _ =
            writeln!(text, "         {away} more did not come: no buyer was free for them (--vus, or a slower --rate)");
    }
    text.push_str("\nanswers\n");
    shares(&mut text, &report.answers());
    if !heard.endings.is_empty() {
        text.push_str("orders\n");
        shares(&mut text, &report.endings());
    }
    times(&mut text, report);
    balance(&mut text, report.balance());
    for note in heard.odd_said.iter().cloned().chain(report.notes()) {
        let _ = writeln!(text, "note     {note}");
    }
    text
}

fn shares(text: &mut String, shares: &[Share]) {
    for (name, count, meaning) in shares {
        let _ = writeln!(text, "  {name:<15} {:>10}  {meaning}", thousands(*count));
    }
}

fn times(text: &mut String, report: &Report) {
    let times = report.times();
    let Some((_, _, names)) = times.first() else { return };
    let _ = write!(text, "\n{:<17}", "claims, ms");
    for (name, _) in names {
        let _ = write!(text, "{name:>9}");
    }
    for (kind, _, values) in &times {
        let _ = write!(text, "\n  {:<15}", kind.as_str());
        for (_, value) in values {
            let _ = write!(text, "{:>9}", milliseconds(*value));
        }
    }
    text.push('\n');
}

fn balance(text: &mut String, balance: Option<&Balance>) {
    let Some(Balance { legs, drift }) = balance else { return text.push_str("\nbalance  could not be read\n") };
    text.push_str("\nbalance\n");
    let told = |count: &Option<u64>| count.map_or("–".to_owned(), |count| count.to_string());
    for leg in legs {
        let Leg { capacity, free, held, sold, balanced, store, .. } = leg;
        let mark = if *balanced { "" } else { "  ✗" };
        let store = store.map_or(String::new(), |guard| format!(" · store {} live", thousands(guard.live)));
        let [free, held, sold] = [free, held, sold].map(told);
        let _ =
            writeln!(text, "  {:<15} {capacity} = {free} free + {held} held + {sold} sold{mark}{store}", leg.name());
    }
    if drift.units > 0 {
        let _ = writeln!(text, "  {:<15} {} units {}", "drift", drift.units, drift.orders.join(" "));
    }
}
