//! A plan as one page that needs nothing else: the curves, the table, what it was asked and how exact it is.

use std::fmt::Write as _;

use crate::plan::{ERROR, Plan, Row, chart};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2328;--dim:#57606a;--line:#d1d9e0;--best:#ddf4ff;--page:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--line:#3d444d;--best:#0c2d6b;--page:#0d1117}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:60rem;margin:2rem auto;padding:0 1rem}\
.table{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}caption{text-align:left;color:var(--dim)}\
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:right}th[scope=row],td:last-child{text-align:left}\
tr.best{background:var(--best)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:var(--dim)}dd{margin:0}\
svg{max-width:100%;height:auto}code{font-size:.95em}";

/// The table's columns, in the words of the table of the command.
pub const COLUMNS: [&str; 9] =
    ["BUFFER", "UNITS", "CALLS", "PEAK/S", "IN VAIN", "WAITED", "FALSE NO", "P99", "SOLD OUT IN"];

/// The cells of a row, in the order of the columns.
pub fn cells(row: &Row) -> [String; 9] {
    [
        row.buffer.clone(),
        row.units.to_string(),
        row.calls.all().to_string(),
        row.calls.most_per_second.to_string(),
        row.needless.to_string(),
        row.waited.to_string(),
        row.false_refusals.to_string(),
        format!("{} ms", row.p99_ms),
        row.sold_out_ms.map_or("-".to_owned(), |ms| format!("{}.{:03} s", ms / 1000, ms % 1000)),
    ]
}

/// What stands beside a row: recommended, formula, both or nothing.
pub fn mark(plan: &Plan, index: usize) -> &'static str {
    match (plan.recommended() == index, plan.formula() == Some(index)) {
        (true, true) => "recommended, formula",
        (true, false) => "recommended",
        (false, true) => "formula",
        (false, false) => "",
    }
}

/// What the plan was made for, as names and values.
pub fn asked(plan: &Plan) -> Vec<(&'static str, String)> {
    let scenario = &plan.scenario;
    let duration = |time| humantime::format_duration(time).to_string();
    vec![
        ("stock", format!("{} units", scenario.stock)),
        ("nodes", format!("{}, of which {} die when half is sold", scenario.nodes, scenario.survive)),
        ("buyers", format!("{} within {}, as a {}", scenario.buyers, duration(scenario.within), scenario.shape)),
        ("peak", format!("{:.0} claims per second", scenario.expected().peak)),
        ("busiest node", format!("{} times the average", scenario.skew)),
        ("deaths are noticed", format!("after {}", duration(scenario.gateway.node_timeout))),
        ("refill interval", duration(scenario.gateway.refill_interval)),
        (
            "batches",
            format!(
                "up to {} claims, {} at a time, answered within {}",
                scenario.gateway.batch_max,
                scenario.gateway.batches_in_flight,
                duration(scenario.gateway.inventory_timeout)
            ),
        ),
        ("Redis", format!("{} calls per second, {} away", scenario.budget, duration(scenario.round_trip))),
        ("seed", plan.seed.to_string()),
    ]
}

/// What the formula says, in a sentence.
pub fn formula(plan: &Plan) -> String {
    let advice = &plan.advice;
    let limit = if advice.needed > advice.affordable {
        format!(" (needed are {:.1}%, and the Redis budget affords less)", advice.needed * 100.0)
    } else {
        String::new()
    };
    format!(
        "By formula: {}{limit}, or {} units per node. It adds at most {} claims in vain when the last units go.",
        advice.buffer, advice.units, advice.needless
    )
}

/// The page.
pub fn write(plan: &Plan) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Rushgate: plan of a buffer</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>What buffer to set</h1>\n<p>{}</p>\n",
        formula(plan)
    );
    if let Some(row) = plan.rows.get(plan.recommended()) {
        let _ = writeln!(text, "<p>By simulation: <strong>{}</strong>.</p>", row.buffer);
    }
    text.push_str(&chart::draw(plan));
    text.push_str("<div class=\"table\"><table>\n<caption>The same crowd for every buffer</caption>\n<thead><tr>");
    for column in COLUMNS {
        let _ = write!(text, "<th scope=\"col\">{}</th>", column.to_lowercase());
    }
    text.push_str("<th scope=\"col\">remark</th></tr></thead>\n<tbody>\n");
    for (index, row) in plan.rows.iter().enumerate() {
        let class = if index == plan.recommended() { " class=\"best\"" } else { "" };
        let [buffer, rest @ ..] = cells(row);
        let (rest, mark) = (rest.join("</td><td>"), mark(plan, index));
        let _ = writeln!(text, "<tr{class}><th scope=\"row\">{buffer}</th><td>{rest}</td><td>{mark}</td></tr>");
    }
    text.push_str("</tbody>\n</table></div>\n<h2>What it was made for</h2>\n<dl>\n");
    for (name, value) in asked(plan) {
        let _ = writeln!(text, "<dt>{name}</dt><dd>{value}</dd>");
    }
    let _ = writeln!(
        text,
        "</dl>\n<h2>How to read it</h2>\n<p>Units: what the buffer is per node before anything is sold. In vain: claims that a shard \
         let through and the inventory had nothing for. Waited: claims that found the shard empty and waited for a look at the \
         inventory. False no: claims that heard no, or busy, while units were free. Calls and time to sell out of a live run are within {:.0} % of these as long as its machines are not busy.</p>\n</main>\n</body>\n</html>",
        ERROR * 100.0
    );
    text
}
