//! The report as one page that needs nothing else: no script, no font, no picture from anywhere.

use std::fmt::Write as _;

use crate::rehearsal::control::Leg;
use crate::rehearsal::report::charts::{self, escaped};
use crate::rehearsal::report::{Report, thousands};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#57606a;--page:#fff;--line:#d0d7de;\
--yes:#1a7f37;--no:#9a6700;--later:#8250df;--bad:#cf222e;--free:#6e7781;--mark:#0969da}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--page:#0d1117;--line:#3d444d;\
--yes:#3fb950;--no:#d29922;--later:#ab7df8;--bad:#f85149;--free:#8b949e;--mark:#4493f8}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{margin:0;font-size:1.6rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}ul{margin:.4rem 0;padding-left:1.2rem}\
.verdict{border-left:.5rem solid var(--yes);padding:.2rem 1rem}.verdict strong{color:var(--yes)}\
.failed{border-color:var(--bad)}.failed strong,.failed li{color:var(--bad)}\
svg{width:100%;height:auto}text{fill:var(--ink);font-size:12px}text.dim{fill:var(--dim)}text.in{fill:var(--page);font-weight:600}\
.yes,.sold{fill:var(--yes)}.no,.held{fill:var(--no)}.later{fill:var(--later)}.free{fill:var(--free)}\
.grid{stroke:var(--line)}.curve{fill:none;stroke:var(--mark);stroke-width:2}\
.key span{margin-right:1.2rem;white-space:nowrap}.key i{display:inline-block;width:.8em;height:.8em;margin-right:.4em}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}td,th{text-align:right;padding:.25rem .5rem;\
border-bottom:1px solid var(--line)}th[scope=row]{text-align:left}.wide{overflow-x:auto}.dim,footer{color:var(--dim)}";

pub(super) fn write(report: &Report) -> String {
    let Report { settings, run, heard, verdict, .. } = report;
    let (class, word) = if verdict.passed() { ("verdict", "passed") } else { ("verdict failed", "failed") };
    let crowd = settings.crowd;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Rushgate {crowd}: {word}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<header class=\"{class}\"><h1>{crowd}: <strong>{word}</strong></h1>\n"
    );
    said(&mut page, report);
    page.push_str("</header>\n");
    let away = match heard.away {
        0 => String::new(),
        away => format!("; {} more did not come, for no buyer was free for them", thousands(away)),
    };
    let units = thousands(settings.stock.into());
    // Writing to a String cannot fail.
    let _ = writeln!(page, "<p>{}; for {units} units{away}.</p>", escaped(&report.crowd()));
    let slices: Vec<_> = report.slices().collect();
    if !slices.is_empty() {
        let key = key(&[("yes", "yes"), ("no", "no"), ("later", "ask again"), ("mark", "95th percentile, ms")]);
        section(&mut page, "Over time", &(key + &charts::over_time(&slices, settings.duration.as_secs_f64())));
    }
    section(&mut page, "What buyers heard", &charts::shares("Answers by outcome", &report.answers()));
    section(&mut page, "What became of the orders", &charts::shares("Orders by their end", &report.endings()));
    section(&mut page, "How long a claim took", &charts::percentiles(&report.times()));
    section(&mut page, "capacity = free + held + sold", &balance(report));
    let gateways = escaped(&settings.gateways.join(", "));
    let _ =
        writeln!(page, "<footer>{}, from {}; {gateways}</footer>\n</main>\n</body>\n</html>", run.sale, run.began_at);
    page
}

fn said(page: &mut String, report: &Report) {
    if report.verdict.passed() {
        page.push_str("<p>Sold exactly; every yes has its row; nothing is pending, stranded or unexplained.</p>\n");
    } else {
        page.push_str("<ul>");
        for line in report.verdict.lines() {
            let _ = write!(page, "<li>{}</li>", escaped(&line));
        }
        page.push_str("</ul>\n");
    }
    for note in report.heard.odd_said.iter().cloned().chain(report.notes()) {
        let _ = writeln!(page, "<p class=\"dim\">{}</p>", escaped(&note));
    }
}

fn section(page: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        let _ = writeln!(page, "<section><h2>{title}</h2>{content}</section>");
    }
}

fn key(entries: &[(&str, &str)]) -> String {
    let entry =
        |(colour, name): &(&str, &str)| format!("<span><i style=\"background:var(--{colour})\"></i>{name}</span>");
    format!("<p class=\"key\">{}</p>", entries.iter().map(entry).collect::<String>())
}

fn balance(report: &Report) -> String {
    let Some(balance) = report.balance() else { return "<p class=\"dim\">It could not be read.</p>".to_owned() };
    let mut text = key(&[("yes", "sold"), ("no", "held"), ("free", "free")]) + &charts::equation(&balance.legs);
    text.push_str("<div class=\"wide\"><table><thead><tr><th scope=\"col\"></th>");
    for name in ["capacity", "free", "held", "sold", "live in the store", "paid in the store"] {
        let _ = write!(text, "<th scope=\"col\">{name}</th>");
    }
    text.push_str("</tr></thead><tbody>");
    for leg in &balance.legs {
        let Leg { capacity, free, held, sold, store, .. } = leg;
        let _ = write!(text, "<tr><th scope=\"row\">{}</th>", escaped(&leg.name()));
        for figure in
            [Some(*capacity), *free, *held, *sold, store.map(|guard| guard.live), store.map(|guard| guard.paid)]
        {
            let _ = write!(text, "<td>{}</td>", figure.map_or("–".to_owned(), thousands));
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table></div>");
    if balance.drift.units > 0 {
        let (units, orders) = (balance.drift.units, escaped(&balance.drift.orders.join(" ")));
        let _ = write!(text, "<p>Inventory and store differ by {units} units: {orders}</p>");
    }
    text
}
