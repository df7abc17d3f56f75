//! Pictures at the size of a small terminal, and at sizes that are too small.

use std::collections::BTreeMap;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::admin::live::snapshot::{Health, LaneView, Latency, PoolView, Rate};
use crate::cli::top::picture::Key;

fn node(name: &str, state: State, left: u32) -> NodeView {
    let shard = ShardView { left, fair: 100, buffer: 20 };
    NodeView {
        node: name.to_owned(),
        state,
        silent_seconds: Some(0.2),
        ready: Some(true),
        claims: [("held".to_owned(), 8.0)].into(),
        shards: [("concert-1".to_owned(), BTreeMap::from([("standard".to_owned(), shard)]))].into(),
        ..NodeView::default()
    }
}

fn snapshot() -> Snapshot {
    let well =
        |backend: &str| BackendView { backend: backend.to_owned(), ok: Some(true), seconds: Some(0.0006), why: None };
    let claims: Claims = [
        ("held".to_owned(), Rate { total: 1234, per_second: Some(56.0) }),
        ("sold_out".to_owned(), Rate { total: 99, per_second: Some(7.0) }),
    ]
    .into();
    let pool = PoolView { pool: "standard".to_owned(), capacity: 10_000, legs: 1, free: 9000, held: 600, sold: 400 };
    let sale = |id: &str| SaleView {
        sale: id.to_owned(),
        phase: "open".to_owned(),
        pools: vec![pool.clone()],
        claims: claims.clone(),
        drift_units: Some(0),
        ..SaleView::default()
    };
    Snapshot {
        at: "2026-11-26T17:20:00.000Z".to_owned(),
        node: "gw-a".to_owned(),
        ready: true,
        sales: (1..=9).map(|number| sale(&format!("concert-{number}"))).collect(),
        nodes: vec![
            NodeView { this: true, ..node("gw-a", State::Alive, 120) },
            node("gw-b", State::Late, 60),
            NodeView { claims: BTreeMap::new(), ..node("gw-c", State::Gone, 0) },
        ],
        claims: claims.clone(),
        latency: Latency { held: Some(Percentiles { p50: 0.004, p95: 0.008, p99: 0.012, p999: 1.5 }), refused: None },
        health: Health {
            inventory: well("redis"),
            queue: well("rabbitmq"),
            store: BackendView { ok: Some(false), why: Some("gone away".to_owned()), ..well("mysql") },
        },
        outbox_entries: Some(3),
        lanes: vec![LaneView { lane: "0".to_owned(), messages: 2, consumers: 1 }],
        dead_letters: Some(0),
        admission_closed: vec!["outbox".to_owned()],
        ..Snapshot::default()
    }
}

fn screen(picture: &Picture, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, picture)).unwrap();
    let rows = terminal.backend().buffer().content().chunks(usize::from(width));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() + "\n").collect()
}

fn learned(snapshot: Snapshot) -> Picture {
    let mut picture = Picture::new(false);
    picture.learn(snapshot);
    picture
}

#[track_caller]
fn shows(screen: &str, what: &[&str]) {
    for what in what {
        assert!(screen.contains(what), "{what} is not in\n{screen}");
    }
}

#[test]
fn all_of_it_is_seen_in_24_lines_of_80_characters() {
    let screen = screen(&learned(snapshot()), (80, 24));
    shows(
        &screen,
        &[
            "rushgate  gw-a  17:20:00 UTC  ready",
            "inventory redis ok 600 µs   queue rabbitmq ok 600 µs   store mysql DOWN: gone aw",
            "outbox 3   lanes 0:2   dead letters 0   writer lag -",
            "closed to new grants: outbox",
            "▶ concert-1      open     10000    9000    600     400     56      7       0",
            "* gw-a       alive   0.2s   ███████████████████▓▓▓ 120    100    20     8",
            "  gw-b       LATE",
            "███████████░░░░░░░░░░░ 60",
            "  gw-c       GONE",
            "░░░░░░░░░░░░░░░░░░░░░░ 0",
            "  held                 56.0         1234",
            "  held     p50 4.0 ms   p95 8.0 ms   p99 12.0 ms   p99.9 1.5 s",
            "  refused  nobody in the last ten seconds",
            "arrows sale   p hold   ? help   q end",
        ],
    );
}

#[test]
fn it_is_drawn_at_any_size() {
    let mut picture = learned(snapshot());
    for helps in [false, true] {
        for width in [1, 7, 40, 80, 300] {
            for height in [1, 2, 5, 10, 24, 90] {
                screen(&picture, (width, height));
            }
        }
        picture.helps = !helps;
    }
    screen(&Picture::new(true), (1, 1));
    screen(&learned(Snapshot::default()), (80, 24));
}

#[test]
fn the_chosen_sale_is_seen_however_far_down_it_is() {
    let mut picture = learned(snapshot());
    for _ in 0..7 {
        picture.press(Key::Next);
    }
    let screen = screen(&picture, (80, 24));
    shows(&screen, &["▶ concert-8"]);
    // No node tells of it.
    shows(&screen, &["* gw-a       alive   0.2s                          -"]);
}

#[test]
fn a_feed_that_is_lost_says_so_over_what_was_seen_last() {
    let mut picture = learned(snapshot());
    picture.lose("nobody answers".to_owned());
    shows(&screen(&picture, (80, 24)), &["LOST, trying again: nobody answers", "▶ concert-1"]);
    let mut opening = Picture::new(false);
    shows(&screen(&opening, (80, 24)), &["opening the feed"]);
    opening.press(Key::Help);
    shows(&screen(&opening, (80, 24)), &["┌ help", "hold the picture"]);
}

#[test]
fn without_colours_nothing_is_coloured() {
    let coloured = |has_colours| {
        let mut picture = Picture::new(has_colours);
        picture.learn(snapshot());
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &picture)).unwrap();
        terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(true) && !coloured(false));
}
