//! The curves of a plan, as an SVG that needs nothing else: light or dark as its reader likes, and told in words as well.

use std::fmt::Write as _;

use crate::plan::{Plan, Row};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const PANEL: f64 = 150.0;
/// Between the plots: the labels of the buffers, and the next title.
const BETWEEN: f64 = 72.0;
const TOP: f64 = 64.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.n{font-size:12px;fill:#57606a}\
.grid{stroke:#d1d9e0}.best{fill:#0969da;opacity:.12}.formula{stroke:#57606a;stroke-dasharray:2 4}\
.a{stroke:#0969da;fill:#0969da}.b{stroke:#bc4c00;fill:#bc4c00}.c{stroke:#8250df;fill:#8250df}\
polyline{fill:none!important;stroke-width:2}.b polyline{stroke-dasharray:7 4}.c polyline{stroke-dasharray:2 3}\
.key text{stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.grid{stroke:#3d444d}.best{fill:#4493f8;opacity:.2}\
.formula{stroke:#9198a1}.a{stroke:#4493f8;fill:#4493f8}.b{stroke:#f0883e;fill:#f0883e}.c{stroke:#ab7df8;fill:#ab7df8}}";

/// One curve: its name, and a figure for every row, where there is one.
type Series = (&'static str, fn(&Row) -> Option<f64>);

const PANELS: [(&str, &[Series]); 3] = [
    ("Redis calls until all is sold", &[("calls", |row| Some(count(row.calls.all())))]),
    (
        "Claims, by what the buffer did to them",
        &[
            ("waited for a look at the inventory", |row| Some(count(row.waited))),
            ("asked the inventory in vain", |row| Some(count(row.needless))),
            ("refused falsely", |row| Some(count(row.false_refusals))),
        ],
    ),
    ("Time to sell out, in seconds", &[("seconds", |row| row.sold_out_ms.map(|ms| count(ms) / 1000.0))]),
];
/// Curves of a panel differ by colour, by dashes and by the shape of their points.
const CLASSES: [&str; 3] = ["a", "b", "c"];

/// Draws a plan's curves.
pub fn draw(plan: &Plan) -> String {
    let mut body = String::new();
    let mut top = TOP;
    for (title, series) in PANELS {
        panel(&mut body, top, title, (plan, series));
        top += PANEL + BETWEEN;
    }
    let height = top - 24.0;
    let told = described(plan);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"plan-title plan-told\">\n<title id=\"plan-title\">What each buffer costs and is good for</title>\n\
         <desc id=\"plan-told\">{told}</desc>\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// The same in words, for who does not see it.
fn described(plan: &Plan) -> String {
    let best = plan.recommended();
    let row = |(index, row): (usize, &Row)| {
        let sold = row.sold_out_ms.map_or("not sold out".to_owned(), |ms| format!("sold out in {ms} ms"));
        let mark = if index == best { ", recommended" } else { "" };
        format!(
            "Buffer {}{mark}: {} calls, {} waited, {} in vain, {} refused falsely, {sold}.",
            row.buffer,
            row.calls.all(),
            row.waited,
            row.needless,
            row.false_refusals
        )
    };
    plan.rows.iter().enumerate().map(row).collect::<Vec<_>>().join(" ")
}

fn panel(body: &mut String, top: f64, title: &str, (plan, series): (&Plan, &[Series])) {
    let rows = &plan.rows;
    let figures = series.iter().flat_map(|(_, of)| rows.iter().filter_map(of));
    let most = round_up(figures.fold(0.0, f64::max));
    let step = (WIDTH - LEFT - RIGHT) / count(rows.len() as u64);
    let x = |index: usize| LEFT + step * (count(index as u64) + 0.5);
    let y = |figure: f64| top + PANEL * (1.0 - figure / most);
    // Writing to a String cannot fail.
    let _ = writeln!(body, "<text class=\"t\" x=\"8\" y=\"{}\">{title}</text>", top - 34.0);
    let best = plan.recommended();
    let _ = writeln!(
        body,
        "<rect class=\"best\" x=\"{:.1}\" y=\"{top}\" width=\"{step:.1}\" height=\"{PANEL}\"/>",
        x(best) - step / 2.0
    );
    if let Some(formula) = plan.formula() {
        let (x, bottom) = (x(formula), top + PANEL);
        let _ = writeln!(body, "<line class=\"formula\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>");
    }
    for part in [0.0, 0.5, 1.0] {
        let (at, right) = (y(most * part), WIDTH - RIGHT);
        let _ = writeln!(
            body,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"n\" x=\"{:.1}\" \
             y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            told(most * part)
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let mark = match (index == best, plan.formula() == Some(index)) {
            (true, true) => "recommended, formula",
            (true, false) => "recommended",
            (false, true) => "formula",
            (false, false) => "",
        };
        let _ = writeln!(
            body,
            "<text class=\"n\" x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"middle\">{2}</text><text class=\"n\" x=\"{0:.1}\" \
             y=\"{3:.1}\" text-anchor=\"middle\">{mark}</text>",
            x(index),
            top + PANEL + 16.0,
            row.buffer,
            top + PANEL + 31.0
        );
    }
    let mut key = LEFT;
    for ((name, of), class) in series.iter().zip(CLASSES) {
        let points: Vec<_> = rows.iter().enumerate().filter_map(|(i, row)| of(row).map(|f| (x(i), y(f), f))).collect();
        curve(body, class, name, &points);
        if series.len() > 1 {
            let _ = write!(body, "<g class=\"key {class}\">");
            point(body, class, (key + 5.0, top - 18.0));
            let _ =
                writeln!(body, "<text class=\"n\" x=\"{:.1}\" y=\"{:.1}\">{name}</text></g>", key + 16.0, top - 14.0);
            key += 40.0 + 6.4 * count(name.len() as u64);
        }
    }
}

fn curve(body: &mut String, class: &str, name: &str, points: &[(f64, f64, f64)]) {
    let line = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
    let _ = write!(body, "<g class=\"{class}\"><polyline points=\"{line}\"/>");
    for (x, y, figure) in points {
        let _ = write!(body, "<g><title>{name}: {}</title>", told(*figure));
        point(body, class, (*x, *y));
        body.push_str("</g>");
    }
    body.push_str("</g>\n");
}

/// A circle, a square or a diamond.
fn point(body: &mut String, class: &str, (x, y): (f64, f64)) {
    let _ = match class {
        "a" => write!(body, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"),
        "b" => write!(body, "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"/>", x - 3.5, y - 3.5),
        _ => write!(body, "<path d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\"/>", y - 5.0),
    };
}

/// The next number with one digit that is not 0; 1 for nothing.
fn round_up(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let unit = 10.0_f64.powf(most.log10().floor());
    (most / unit).ceil() * unit
}

fn told(figure: f64) -> String {
    let text = format!("{figure:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!([0.0, 0.7, 1.0, 842.0, 2001.0].map(round_up).map(told), ["1", "0.7", "1", "900", "3000"]);
    }
}
