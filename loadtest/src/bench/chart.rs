//! The chart: what each design answers per second, as bars, in an SVG that needs nothing else.

use std::fmt::Write as _;

use crate::bench::figures::{Measured, Run};
use crate::bench::workloads::{AT_ONCE, BARE, BARE_ON_CORES, BESIDE, LOCK, NAIVE, NAIVE_IN_BATCH, OURS, PARTS};

const WIDTH: u32 = 760;
const LABELS: u32 = 170;
const BAR: u32 = 18;
const GAP: u32 = 6;
const HEAD: u32 = 40;

/// What stands in the chart: a title, the workload, its connections.
const PANELS: [(&str, &str, usize); 3] = [
    ("Sold out: refusals per second, 256 connections", "sold out", 256),
    ("Rush: accepted orders per second, 256 connections", "rush", 256),
    ("Rush to a committed row: orders per second, 256 connections", "end to end", 256),
];
const DESIGNS: [&str; 9] = [BARE, BARE_ON_CORES, PARTS, OURS, BESIDE, AT_ONCE, LOCK, NAIVE, NAIVE_IN_BATCH];

pub(super) fn draw(run: &Run) -> String {
    let mut body = String::new();
    let mut y = 16;
    for (title, workload, connections) in PANELS {
        y = panel(&mut body, y, title, &bars(run, workload, connections));
    }
    let style = "text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.n{font-size:12px;fill:#57606a}\
                 .bar{fill:#8c959f}.ours{fill:#0969da}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}\
                 .bar{fill:#656c76}.ours{fill:#4493f8}}";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" role=\"img\" \
         aria-label=\"Answers per second by design\">\n<style>{style}</style>\n{body}</svg>\n"
    )
}

/// What was measured of a panel, by design.
fn bars(run: &Run, workload: &str, connections: usize) -> Vec<(&'static str, f64)> {
    let median = |design: &'static str| {
        let figure = run.series(workload, design, Some(connections)).median(Measured::rate_of_answers)?;
        Some((design, figure))
    };
    DESIGNS.into_iter().filter_map(median).collect()
}

/// Draws one panel and returns where the next one begins.
fn panel(body: &mut String, top: u32, title: &str, bars: &[(&'static str, f64)]) -> u32 {
    if bars.is_empty() {
        return top;
    }
    let most = bars.iter().map(|(_, figure)| *figure).fold(1.0, f64::max);
    let room = f64::from(WIDTH - LABELS - 90);
    // Writing to a String cannot fail.
    let _ = writeln!(body, "<text class=\"t\" x=\"8\" y=\"{}\">{title}</text>", top + 8);
    let mut y = top + HEAD - 16;
    for (design, figure) in bars {
        let (length, class) = (room * figure / most, if design.starts_with(OURS) { "bar ours" } else { "bar" });
        let _ = writeln!(
            body,
            "<text x=\"8\" y=\"{}\">{design}</text><rect class=\"{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" \
             height=\"{BAR}\" rx=\"3\"/><text class=\"n\" x=\"{:.1}\" y=\"{}\">{figure:.0}</text>",
            y + 14,
            f64::from(LABELS) + length + 6.0,
            y + 14
        );
        y += BAR + GAP;
    }
    y + 24
}
