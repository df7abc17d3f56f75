//! How a site looks in a terminal: fits 24 lines of 80 characters, and uses more where there is more.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table};

use crate::admin::live::snapshot::{BackendView, Claims, NodeView, Percentiles, SaleView, ShardView, Snapshot, State};
use crate::cli::top::picture::{Link, Picture};

/// Columns of a shard's bar.
const BAR: u16 = 22;
/// Outcomes with a sparkline of their own.
const SPARKS: usize = 6;
const HELP: &[&str] = &[
    "arrows  choose a sale: its shards are the lanes of the nodes",
    "p       hold the picture, and go on",
    "?       this help",
    "q       end",
    "",
    "A lane is what a node may still let through: █ of its fair part,",
    "▓ of its buffer, ░ what of both is taken.",
];

pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture) {
    let paint = Paint(picture.has_colours);
    let Some(snapshot) = &picture.snapshot else {
        let [title, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(frame.area());
        frame.render_widget(heading(picture, paint), title);
        return help(frame, picture, rest);
    };
    // A header each, and what has to be seen of it at least; claims get what is left.
    let sales = rows(snapshot.sales.len().clamp(1, 5), frame.area().height / 5);
    let nodes = rows(snapshot.nodes.len().max(1), frame.area().height / 3);
    let parts = [1, 3, sales, nodes].map(Constraint::Length);
    let rest = [Constraint::Fill(1), Constraint::Length(2), Constraint::Length(1)];
    let [title, health, sales, nodes, claims, latency, keys] =
        Layout::vertical(parts.into_iter().chain(rest)).areas(frame.area());
    frame.render_widget(heading(picture, paint), title);
    frame.render_widget(backends(snapshot, paint), health);
    frame.render_widget(sale_table(picture, snapshot, paint, sales), sales);
    frame.render_widget(lanes(picture, snapshot, paint), nodes);
    sparks(frame, picture, snapshot, claims);
    frame.render_widget(latencies(snapshot), latency);
    if picture.link != Link::Once {
        frame.render_widget(Line::styled("arrows sale   p hold   ? help   q end", paint.faint()), keys);
    }
    help(frame, picture, frame.area());
}

/// Lines for so many rows under a header, but not more than the share of the screen.
fn rows(count: usize, most: u16) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX).saturating_add(1).min(most.max(2))
}

/// Colours, or only what goes without them.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn colour(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        self.colour(Color::DarkGray)
    }

    fn header(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }
}

fn heading(picture: &Picture, paint: Paint) -> Line<'_> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled("rushgate", bold)];
    if let Some(snapshot) = &picture.snapshot {
        let at = snapshot.at.get(11..19).unwrap_or(&snapshot.at);
        spans.push(format!("  {}  {at} UTC  ", snapshot.node).into());
        spans.push(match (snapshot.draining, snapshot.ready) {
            (true, _) => Span::styled("draining", paint.bad()),
            (false, true) => Span::styled("ready", paint.colour(Color::Green)),
            (false, false) => Span::styled("not ready", paint.bad()),
        });
    }
    match &picture.link {
        Link::Opening => spans.push("  opening the feed …".into()),
        Link::Live | Link::Once => {}
        Link::Lost { why } => spans.push(Span::styled(format!("  LOST, trying again: {why}"), paint.bad())),
    }
    if picture.is_held {
        spans.push(Span::styled("  HELD", paint.bad()));
    }
    Line::from(spans)
}

fn backends(snapshot: &Snapshot, paint: Paint) -> Paragraph<'_> {
    let health = &snapshot.health;
    let mut first = Vec::new();
    for (name, backend) in [("inventory", &health.inventory), ("queue", &health.queue), ("store", &health.store)] {
        first.push(format!("{name} {} ", backend.backend).into());
        first.push(look(backend, paint));
        first.push("   ".into());
    }
    let known = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    let depths: Vec<_> = snapshot.lanes.iter().map(|lane| format!("{}:{}", lane.lane, lane.messages)).collect();
    let second = format!(
        "outbox {}   lanes {}   dead letters {}   writer lag {}",
        known(snapshot.outbox_entries),
        if depths.is_empty() { "-".to_owned() } else { depths.join(" ") },
        known(snapshot.dead_letters),
        snapshot.writer_lag_seconds.map_or("-".to_owned(), time),
    );
    let third = if snapshot.admission_closed.is_empty() {
        Line::default()
    } else {
        Line::styled(format!("closed to new grants: {}", snapshot.admission_closed.join(", ")), paint.bad())
    };
    Paragraph::new(vec![Line::from(first), Line::from(second), third])
}

fn look(backend: &BackendView, paint: Paint) -> Span<'_> {
    match (backend.ok, backend.seconds, &backend.why) {
        (None, ..) => "…".into(),
        (Some(true), seconds, _) => {
            Span::styled(format!("ok {}", time(seconds.unwrap_or(0.0))), paint.colour(Color::Green))
        }
        (Some(false), _, why) => {
            Span::styled(format!("DOWN: {}", why.as_deref().unwrap_or("not known why")), paint.bad())
        }
    }
}

fn sale_table<'a>(picture: &'a Picture, snapshot: &'a Snapshot, paint: Paint, area: Rect) -> Table<'a> {
    // The chosen one is always among those that are shown.
    let shown = usize::from(area.height.saturating_sub(1)).max(1);
    let first = picture.chosen_at().saturating_sub(shown - 1);
    let row = |(at, sale): (usize, &'a SaleView)| {
        let units = |of: fn(&crate::admin::live::snapshot::PoolView) -> u32| {
            sale.pools.iter().map(|pool| u64::from(of(pool))).sum::<u64>().to_string()
        };
        let is_chosen = at == picture.chosen_at();
        let cells = [
            format!("{}{}", if is_chosen { "▶ " } else { "  " }, sale.sale),
            sale.phase.clone(),
            units(|pool| pool.capacity),
            units(|pool| pool.free),
            units(|pool| pool.held),
            units(|pool| pool.sold),
            rate(&sale.claims, |outcome| outcome == "held"),
            rate(&sale.claims, |outcome| !["held", "replayed", "pending"].contains(&outcome)),
            match sale.drift_units {
                None => "-".to_owned(),
                Some(units) => units.to_string(),
            },
        ];
        let style = if is_chosen { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        Row::new(cells).style(style)
    };
    let header = ["  SALE", "PHASE", "CAPACITY", "FREE", "HELD", "SOLD", "HELD/S", "NO/S", "DRIFT"];
    let widths = [
        Constraint::Min(14),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(5),
    ];
    let sales = snapshot.sales.iter().enumerate().skip(first).map(row);
    Table::new(sales, widths).header(Row::new(header).style(paint.header()))
}

/// Per second; a dash while it is not known.
fn rate(claims: &Claims, of: impl Fn(&str) -> bool) -> String {
    let rates = claims.iter().filter(|(outcome, _)| of(outcome)).filter_map(|(_, rate)| rate.per_second);
    let rates: Vec<_> = rates.collect();
    if rates.is_empty() && !claims.is_empty() { "-".to_owned() } else { format!("{:.0}", rates.iter().sum::<f64>()) }
}

fn lanes<'a>(picture: &'a Picture, snapshot: &'a Snapshot, paint: Paint) -> Table<'a> {
    let row = |node: &'a NodeView| {
        let (state, style) = match node.state {
            State::Alive if node.ready == Some(false) => ("unready", paint.colour(Color::Yellow)),
            State::Alive => ("alive", paint.colour(Color::Green)),
            State::Late => ("LATE", paint.bad()),
            State::Gone => ("GONE", paint.bad()),
            State::Left => ("left", paint.faint()),
        };
        let shard = picture.chosen().and_then(|sale| node.shards.get(&sale.sale)).map(|pools| sum(pools.values()));
        let units = |of: fn(&ShardView) -> u32| shard.as_ref().map_or("-".to_owned(), |shard| of(shard).to_string());
        let claims = node.claims.values().sum::<f64>();
        Row::new([
            Cell::from(format!("{}{}", if node.this { "* " } else { "  " }, node.node)),
            Cell::from(Span::styled(state, style)),
            Cell::from(node.silent_seconds.map_or("-".to_owned(), |silent| format!("{silent:.1}s"))),
            Cell::from(shard.as_ref().map_or(String::new(), bar)),
            Cell::from(units(|shard| shard.left)),
            Cell::from(units(|shard| shard.fair)),
            Cell::from(units(|shard| shard.buffer)),
            Cell::from(if node.claims.is_empty() { "-".to_owned() } else { format!("{claims:.0}") }),
        ])
    };
    let header = ["  NODE", "STATE", "SILENT", "SHARD", "LEFT", "FAIR", "BUFFER", "CLAIMS/S"];
    let widths = [
        Constraint::Min(12),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(BAR),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(8),
    ];
    Table::new(snapshot.nodes.iter().map(row), widths).header(Row::new(header).style(paint.header()))
}

/// Over the pools of a sale.
fn sum<'a>(pools: impl Iterator<Item = &'a ShardView>) -> ShardView {
    pools.fold(ShardView::default(), |sum, pool| ShardView {
        left: sum.left + pool.left,
        fair: sum.fair + pool.fair,
        buffer: sum.buffer + pool.buffer,
    })
}

/// Of the fair part what is left, of the buffer what is left, and what of both is taken; the buffer is taken first.
fn bar(shard: &ShardView) -> String {
    let all = u64::from(shard.fair + shard.buffer).max(u64::from(shard.left)).max(1);
    let columns = |units: u32| usize::try_from((u64::from(units) * u64::from(BAR)).div_ceil(all)).unwrap_or(0);
    let left = columns(shard.left);
    let fair = columns(shard.left.min(shard.fair));
    let taken = usize::from(BAR).saturating_sub(left);
    format!("{}{}{}", "█".repeat(fair), "▓".repeat(left.saturating_sub(fair)), "░".repeat(taken))
}

fn sparks(frame: &mut Frame<'_>, picture: &Picture, snapshot: &Snapshot, area: Rect) {
    let paint = Paint(picture.has_colours);
    let mut outcomes: Vec<_> = snapshot.claims.iter().collect();
    outcomes.sort_by_key(|(_, rate)| std::cmp::Reverse(rate.total));
    let lines = Layout::vertical(vec![Constraint::Length(1); outcomes.len().min(SPARKS) + 1]).split(area);
    frame.render_widget(
        Line::styled("  CLAIMS         PER SECOND        TOTAL", paint.header()),
        lines[0].intersection(area),
    );
    for ((outcome, rate), line) in outcomes.into_iter().zip(lines.iter().skip(1)) {
        let line = line.intersection(area);
        if line.is_empty() {
            break;
        }
        let [text, spark] = Layout::horizontal([Constraint::Length(42), Constraint::Fill(1)]).areas(line);
        let per_second = rate.per_second.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
        frame.render_widget(format!("  {outcome:<15}{per_second:>10} {:>12}", rate.total), text);
        let seconds: Vec<_> = picture.history.get(outcome).into_iter().flatten().copied().collect();
        let shown = &seconds[seconds.len().saturating_sub(usize::from(spark.width))..];
        let colour = if outcome == "held" { Color::Green } else { Color::Yellow };
        frame.render_widget(Sparkline::default().data(shown).style(paint.colour(colour)), spark);
    }
}

fn latencies(snapshot: &Snapshot) -> Paragraph<'_> {
    let line = |name: &str, percentiles: Option<Percentiles>| {
        Line::from(match percentiles {
            None => format!("  {name:<8} nobody in the last ten seconds"),
            Some(Percentiles { p50, p95, p99, p999 }) => {
                format!("  {name:<8} p50 {}   p95 {}   p99 {}   p99.9 {}", time(p50), time(p95), time(p99), time(p999))
            }
        })
    };
    Paragraph::new(vec![line("held", snapshot.latency.held), line("refused", snapshot.latency.refused)])
}

fn time(seconds: f64) -> String {
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

fn help(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    if !picture.helps {
        return;
    }
    let height = u16::try_from(HELP.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [middle] = Layout::vertical([Constraint::Length(height)]).flex(ratatui::layout::Flex::Center).areas(area);
    let [middle] = Layout::horizontal([Constraint::Length(70)]).flex(ratatui::layout::Flex::Center).areas(middle);
    frame.render_widget(Clear, middle);
    let lines: Vec<_> = HELP.iter().map(|line| Line::from(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" help ")), middle);
}

#[cfg(test)]
mod tests;
