//! Charts as SVG; their colours are the page's.

use std::fmt::Write as _;

use crate::rehearsal::control::Leg;
use crate::rehearsal::ledger::Kind;
use crate::rehearsal::report::{Percentiles, Share, Slice, milliseconds, number, thousands};

const WIDTH: f64 = 760.0;
const KINDS: [&str; 3] = ["yes", "no", "later"];

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Answers per second as columns, the 95th percentile of their time as a line with its own axis.
pub(super) fn over_time(slices: &[Slice], seconds: f64) -> String {
    const LEFT: f64 = 60.0;
    const TOP: f64 = 16.0;
    const WIDE: f64 = WIDTH - 2.0 * LEFT;
    const HIGH: f64 = 216.0;
    let each = seconds / number(slices.len() as u64);
    let step = WIDE / number(slices.len() as u64);
    let rate = |slice: &Slice| number(slice.answers.iter().sum()) / each;
    let most = round_up(slices.iter().map(rate).fold(0.0, f64::max));
    let slowest = round_up(slices.iter().map(|slice| slice.p95).fold(0.0, f64::max));
    let mut drawn = String::new();
    for part in [0.0, 0.5, 1.0] {
        let y = TOP + HIGH * (1.0 - part);
        // Writing to a String cannot fail.
        let _ = write!(drawn, "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" class=\"grid\"/>", LEFT + WIDE);
        drawn += &label((LEFT - 8.0, y + 4.0), &tenths(most * part).to_string(), "end", "");
        let slow = format!("{} ms", tenths(slowest * part));
        drawn += &label((LEFT + WIDE + 8.0, y + 4.0), &slow, "start", "");
    }
    let mut points = String::new();
    for (index, slice) in slices.iter().enumerate() {
        let (x, mut base) = (LEFT + number(index as u64) * step, TOP + HIGH);
        for (kind, count) in KINDS.iter().zip(slice.answers) {
            let per_second = number(count) / each;
            let tall = per_second / most * HIGH;
            base -= tall;
            let told = format!("{:.1} s: {} {kind} a second", slice.at, milliseconds(per_second));
            drawn += &bar((x + 0.5, base), (step - 1.0, tall), kind, &told);
        }
        if slice.p95 > 0.0 {
            let _ = write!(points, "{:.1},{:.1} ", x + step / 2.0, TOP + HIGH * (1.0 - slice.p95 / slowest));
        }
    }
    let _ = write!(drawn, "<polyline points=\"{}\" class=\"curve\"/>", points.trim_end());
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = format!("{} s", tenths(seconds * part));
        drawn += &label((LEFT + WIDE * part, TOP + HIGH + 20.0), &at, "middle", "dim");
    }
    svg(TOP + HIGH + 28.0, "Answers per second, and the 95th percentile of their time", &drawn)
}

/// A bar for each, with what it means.
pub(super) fn shares(title: &str, shares: &[Share]) -> String {
    const LEFT: f64 = 130.0;
    const ROW: f64 = 26.0;
    const WIDE: f64 = WIDTH - LEFT - 330.0;
    let Some(most) = shares.iter().map(|(_, count, _)| *count).max() else { return String::new() };
    let mut drawn = String::new();
    for (index, (name, count, meaning)) in shares.iter().enumerate() {
        let y = number(index as u64) * ROW + 4.0;
        let kind = ["yes", "no"].into_iter().find(|kind| meaning.starts_with(&format!("{kind}:"))).unwrap_or("later");
        let long = (number(*count) / number(most.max(1)) * WIDE).max(1.0);
        drawn += &label((LEFT - 10.0, y + 14.0), name, "end", "");
        drawn += &bar((LEFT, y), (long, ROW - 8.0), kind, &format!("{name}: {}", thousands(*count)));
        drawn += &label((LEFT + long + 8.0, y + 14.0), &thousands(*count), "start", "");
        drawn += &label((WIDTH, y + 14.0), meaning, "end", "dim");
    }
    svg(number(shares.len() as u64) * ROW + 4.0, title, &drawn)
}

/// Percentiles by kind of answer, on a logarithmic axis: a crowd's slowest are far from its middle.
pub(super) fn percentiles(times: &[(Kind, u64, Percentiles)]) -> String {
    const LEFT: f64 = 130.0;
    const ROW: f64 = 16.0;
    const WIDE: f64 = WIDTH - LEFT - 90.0;
    let values = || times.iter().flat_map(|(_, _, values)| values.iter().map(|(_, value)| value.max(0.001)));
    if times.is_empty() {
        return String::new();
    }
    let least = values().fold(f64::MAX, f64::min).log10().floor();
    let most = values().fold(0.01, f64::max).log10().ceil().max(least + 1.0);
    let x = |value: f64| LEFT + (value.max(0.001).log10().max(least) - least) / (most - least) * WIDE;
    let (mut drawn, mut y) = (String::new(), 4.0);
    for (kind, _, values) in times {
        let kind = kind.as_str();
        for (name, value) in values {
            let told = format!("{} ms", milliseconds(*value));
            drawn += &label((LEFT - 10.0, y + 11.0), &format!("{kind} {name}"), "end", "");
            drawn +=
                &bar((LEFT, y), ((x(*value) - LEFT).max(1.0), ROW - 4.0), kind, &format!("{kind}, {name}: {told}"));
            drawn += &label((x(*value).max(LEFT + 1.0) + 8.0, y + 11.0), &told, "start", "");
            y += ROW;
        }
        y += 10.0;
    }
    let mut grid = String::new();
    let mut power = least;
    while power <= most {
        let (at, value) = (x(10.0_f64.powf(power)), 10.0_f64.powf(power));
        let _ = write!(grid, "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{y}\" class=\"grid\"/>");
        grid += &label((at, y + 12.0), &format!("{value} ms"), "middle", "dim");
        power += 1.0;
    }
    svg(y + 18.0, "Time of claims by answer", &(grid + &drawn))
}

/// capacity = free + held + sold, a bar for each leg.
pub(super) fn equation(legs: &[Leg]) -> String {
    const LEFT: f64 = 170.0;
    const ROW: f64 = 30.0;
    const WIDE: f64 = WIDTH - LEFT - 10.0;
    let mut drawn = String::new();
    for (index, leg) in legs.iter().enumerate() {
        let y = number(index as u64) * ROW + 4.0;
        let parts =
            [("sold", leg.sold), ("held", leg.held), ("free", leg.free)].map(|(kind, of)| (kind, of.unwrap_or(0)));
        let whole = number(parts.iter().map(|(_, count)| count).sum::<u64>().max(leg.capacity).max(1));
        drawn += &label((LEFT - 10.0, y + 15.0), &leg.name(), "end", "");
        let mut at = LEFT;
        for (kind, count) in parts {
            let long = number(count) / whole * WIDE;
            drawn += &bar((at, y), (long, ROW - 8.0), kind, &format!("{count} {kind}"));
            if long > 60.0 {
                let told = format!("{} {kind}", thousands(count));
                drawn += &label((at + long / 2.0, y + 15.0), &told, "middle", "in");
            }
            at += long;
        }
    }
    svg(number(legs.len() as u64) * ROW + 4.0, "Capacity by leg: sold, held, free", &drawn)
}

fn svg(height: f64, title: &str, content: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">{content}</svg>")
}

fn label((x, y): (f64, f64), said: &str, anchor: &str, class: &str) -> String {
    let said = escaped(said);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{said}</text>")
}

fn bar((x, y): (f64, f64), (wide, high): (f64, f64), class: &str, told: &str) -> String {
    if wide <= 0.0 || high <= 0.0 {
        return String::new();
    }
    let told = escaped(told);
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" class=\"{class}\"><title>{told}</title></rect>"
    )
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A round number that is not below this one, for the end of an axis; 1 for nothing.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10.0_f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_that_is_not_below() {
        let ends = [0.0, 0.7, 1.0, 842.0, 2001.0].map(|value| milliseconds(round_up(value)));
        assert_eq!(ends, ["1.00", "0.80", "1.00", "1000", "2500"]);
    }

    #[test]
    fn where_nothing_was_heard_nothing_is_drawn() {
        assert_eq!([shares("Answers", &[]), percentiles(&[])], ["", ""]);
    }
}
