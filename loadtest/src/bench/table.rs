//! The figures as text: a table per workload, and the goals.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::bench::figures::{Measured, Run};
use crate::bench::goals::{Bound, Figures, goals};

/// The columns of processes, in the order of an order's way.
const PROCESSES: [&str; 5] = ["gateway", "redis", "broker", "writer", "database"];

pub(super) fn markdown(run: &Run) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "`{}` · commit {} · {} · {}\n", run.command, run.commit, run.machine, run.versions);
    if run.quick {
        text.push_str("A quick run asserts that nothing is sold twice or lost; its times say nothing.\n\n");
    }
    text.push_str("| workload | design | connections | answers/s | p50 ms | p99 ms | p99.9 ms | µs of CPU per answer");
    let _ = writeln!(text, "{} | sum | also |", PROCESSES.map(|process| format!(" | {process}")).concat());
    let _ = writeln!(text, "|{}", "---|".repeat(8 + PROCESSES.len() + 2));
    for (workload, design, connections) in kinds(run) {
        row(&mut text, run, (&workload, &design, connections));
    }
    if !run.quick {
        text.push('\n');
        targets(&mut text, run);
    }
    text
}

/// Every kind of slice once, in the order of the run.
fn kinds(run: &Run) -> Vec<(String, String, usize)> {
    let mut seen = BTreeSet::new();
    let kind = |one: &Measured| (one.workload.clone(), one.design.clone(), one.connections);
    let mut kinds: Vec<_> = run.measured.iter().map(kind).filter(|kind| seen.insert(kind.clone())).collect();
    let mut workloads: Vec<String> = Vec::new();
    for (workload, ..) in &kinds {
        if !workloads.contains(workload) {
            workloads.push(workload.clone());
        }
    }
    kinds.sort_by_key(|(workload, design, connections)| {
        (
            workloads.iter().position(|one| one == workload),
            *connections,
            if workload == "sales" || workload == "nodes" { String::new() } else { design.clone() },
        )
    });
    kinds
}

fn row(text: &mut String, run: &Run, (workload, design, connections): (&str, &str, usize)) {
    let series = run.series(workload, design, Some(connections));
    let of = |of: &dyn Fn(&Measured) -> f64| series.median(of).unwrap_or(f64::NAN);
    let latency = |one: &Measured| if one.report.accepted.max > 0.0 { one.report.accepted } else { one.report.refused };
    let _ = write!(
        text,
        "| {workload} | {design} | {connections} | {:.0} | {:.2} | {:.2} | {:.2} |",
        of(&Measured::rate_of_answers),
        of(&|one| latency(one).p50),
        of(&|one| latency(one).p99),
        of(&|one| latency(one).p999),
    );
    for process in PROCESSES {
        let known = series.slices().any(|one| one.cpu.contains_key(process));
        let _ = if known { write!(text, " | {:.2}", of(&|one| one.cpu_of(&[process]))) } else { write!(text, " | ") };
    }
    let _ = write!(text, " | {:.1} | ", of(&Measured::cpu_of_all));
    let names: BTreeSet<_> = series.slices().flat_map(|one| one.figures.keys().cloned()).collect();
    let mut also: Vec<_> = names.iter().map(|name| format!("{name} {:.0}", of(&|one| one.figure(name)))).collect();
    let settled = of(&|one| one.settled);
    if settled > 0.001 {
        also.push(format!("stored after {settled:.2} s"));
    }
    let _ = writeln!(text, "{} |", also.join(", "));
}

fn targets(text: &mut String, run: &Run) {
    let goals = goals(run);
    let has_beside = goals.iter().any(|goal| goal.figures.beside.is_some());
    text.push_str(
        "| goal | bound | measured | | hyper on cores, or the parts alone | against naive in the batch class |",
    );
    text.push_str(if has_beside { " another build |\n" } else { "\n" });
    let _ = writeln!(text, "|{}", "---|".repeat(if has_beside { 7 } else { 6 }));
    for goal in goals {
        let bound = match goal.bound {
            Bound::AtLeast(bound) => format!("≥ {bound}"),
            Bound::AtMost(bound) => format!("≤ {bound}"),
        };
        let figure = |figure: f64| format!("{figure:.2}");
        let measured = goal.figures.ours.map_or("—".to_owned(), figure);
        let Figures { floor, alike, beside, .. } = goal.figures;
        let [floor, alike, beside] = [floor, alike, beside].map(|known| known.map_or(String::new(), figure));
        let verdict = match goal.is_met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        };
        let _ = write!(text, "| {} | {bound} | {measured} | {verdict} | {floor} | {alike} |", goal.what);
        let _ = if has_beside { writeln!(text, " {beside} |") } else { writeln!(text) };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::workloads::{BARE, BESIDE, OURS};
    use crate::load::tally::{Latency, Report};

    fn measured(design: &str, answers: u64) -> Measured {
        let (outcomes, errors) = (BTreeMap::new(), BTreeMap::new());
        let (accepted, refused) = (Latency::default(), Latency::default());
        Measured {
            workload: "sold out".to_owned(),
            design: design.to_owned(),
            connections: 64,
            repetition: 0,
            rate: None,
            cpu: BTreeMap::new(),
            settled: 0.0,
            report: Report { seconds: 1.0, answers, outcomes, errors, accepted, refused },
            figures: BTreeMap::new(),
        }
    }

    fn goals_of(designs: &[(&str, u64)]) -> String {
        let measured = designs.iter().map(|(design, answers)| measured(design, *answers)).collect();
        let [commit, machine, versions, command] = [const { String::new() }; 4];
        let mut text = String::new();
        targets(&mut text, &Run { commit, machine, versions, command, quick: false, measured });
        text
    }

    #[test]
    fn another_build_has_a_column_where_there_is_one() {
        let sold_out = |text: &str| text.lines().find(|line| line.contains("requests/s, of bare")).unwrap().to_owned();
        let ours = goals_of(&[(BARE, 100), (OURS, 95)]);
        assert_eq!(sold_out(&ours), "| sold out: requests/s, of bare hyper's | ≥ 0.92 | 0.95 | met |  |  |");
        let both = goals_of(&[(BARE, 100), (OURS, 95), (BESIDE, 80)]);
        assert_eq!(sold_out(&both), "| sold out: requests/s, of bare hyper's | ≥ 0.92 | 0.95 | met |  |  | 0.80 |");
        for text in [ours, both] {
            let columns: BTreeSet<_> = text.lines().map(|line| line.matches('|').count()).collect();
            assert_eq!(columns.len(), 1, "{text}");
        }
    }
}
