//! Plans as a whole: the same twice, honest about deaths, and refused where they make no sense.

use std::sync::mpsc;

use crate::inventory::memory::MemoryInventory;

use super::*;

fn scenario() -> Scenario {
    Scenario {
        stock: 400,
        nodes: 4,
        survive: 1,
        buyers: 1500,
        shape: Shape::Spike,
        within: Duration::from_secs(2),
        skew: 1.0,
        budget: 2000,
        round_trip: Duration::from_millis(20),
        gateway: Gateway::of(&Settings::default()),
    }
}

fn plan(scenario: &Scenario, buffers: &[Buffer], seed: u64) -> Plan {
    assert_eq!(scenario.wrong(), [""; 0]);
    simulate(scenario, buffers, seed, |clock| Arc::new(MemoryInventory::new(clock)), &AtomicBool::new(false)).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_another() {
    let buffers = [Buffer::Fraction(0.0), Buffer::Fraction(1.0)];
    let first = plan(&scenario(), &buffers, 7);
    assert_eq!(first, plan(&scenario(), &buffers, 7));
    assert_ne!(first.rows, plan(&scenario(), &buffers, 8).rows);
}

#[test]
fn every_unit_is_sold_once_whatever_the_buffer_and_whoever_dies() {
    for survive in [0, 1, 3] {
        let scenario = Scenario { survive, ..scenario() };
        for row in plan(&scenario, &usual_buffers(&scenario.expected().advice(), Buffer::Units(7)), 1).rows {
            let sold = row.sold_out_ms.is_some();
            assert!(sold && row.granted + row.pending == 400, "{row:?}");
            assert_eq!(row.false_refusals, 0, "an empty shard asks, and refuses nobody: {row:?}");
            assert_eq!(row.cut_off > 0, survive > 0, "the nodes died in the middle: {row:?}");
        }
    }
}

#[test]
fn a_larger_buffer_waits_less_and_asks_more_in_vain() {
    let rows = plan(&scenario(), &[Buffer::Fraction(3.0), Buffer::Fraction(0.0)], 3).rows;
    let [small, large] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((small.units, large.units), (0, 300), "in the order of their sizes");
    assert!(small.waited > large.waited, "{small:?} {large:?}");
    assert!(small.needless < large.needless, "{small:?} {large:?}");
}

#[test]
fn a_door_that_is_too_small_is_a_false_refusal() {
    let mut scenario = scenario();
    scenario.gateway.claims_at_once = 5;
    let row = &plan(&scenario, &[Buffer::Fraction(0.1)], 3).rows[0];
    assert!(row.false_refusals > row.false_refusals_in_death && row.false_refusals_in_death > 0, "{row:?}");
}

#[test]
fn a_crowd_that_is_too_small_does_not_sell_out() {
    let row = &plan(&Scenario { buyers: 100, ..scenario() }, &[Buffer::Fraction(0.1)], 3).rows[0];
    assert_eq!((row.sold_out_ms, row.granted), (None, 100), "{row:?}");
}

#[test]
fn a_small_budget_makes_the_sale_slow() {
    let sold = |budget| plan(&Scenario { budget, ..scenario() }, &[Buffer::Fraction(0.1)], 3).rows[0].clone();
    let (poor, rich) = (sold(60), sold(100_000));
    assert!(poor.sold_out_ms > rich.sold_out_ms, "{poor:?} {rich:?}");
    assert!(poor.calls.most_per_second <= 61, "{poor:?}");
}

#[test]
fn what_makes_no_sense_is_told_all_at_once() {
    let scenario = Scenario { stock: 0, nodes: 2, survive: 2, buyers: 0, skew: 3.0, budget: 1, ..scenario() };
    let wrong = scenario.wrong().join("\n");
    for part in ["stock", "one must be left", "must be buyers", "skew", "budget"] {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
}

#[test]
fn a_site_whose_nodes_would_never_hear_of_each_other_is_refused() {
    let with = |(nodes, budget), detection, round_trip| {
        let mut scenario = Scenario { nodes, budget, round_trip: Duration::from_millis(round_trip), ..scenario() };
        scenario.gateway.node_timeout = detection;
        scenario.wrong().join("\n")
    };
    let usual = Duration::from_secs(3);
    assert_eq!(with((4, 2000), usual, 20), "");
    for detection in [Duration::ZERO, Duration::from_millis(99), Duration::from_millis(300_001), Duration::MAX] {
        assert!(with((4, 2000), detection, 20).contains("noticed within 100ms to 5m"), "{detection:?}");
    }
    assert!(with((64, 10), usual, 20).contains("a call of Redis would take 12s 820ms"));
    assert!(with((4, 2000), usual, 300).contains("inventory.timeout, 250ms"));
    assert!(with((4, 2000), Duration::from_millis(100), 60).contains("half of the 100ms"));
}

#[test]
fn more_come_at_once_than_memory_takes_are_refused() {
    let peak = |buyers| Scenario { shape: Shape::Steady, within: Duration::from_secs(1), buyers, ..scenario() }.wrong();
    assert_eq!(peak(5_000_000), [""; 0]);
    assert!(peak(5_000_001).join("").contains("5000001 claims per second are too many, at the most 5000000"));
}

#[test]
fn what_is_too_large_to_be_simulated_is_planned_by_formula() {
    let large = Scenario { stock: MAX_STOCK + 1, within: Duration::from_secs(60), buyers: 1_000_000, ..scenario() };
    let slow = Scenario { shape: Shape::Steady, within: Duration::from_hours(20), ..scenario() };
    assert_eq!((large.wrong(), slow.wrong(), scenario().too_large()), (Vec::new(), Vec::new(), None));
    assert!(large.too_large().unwrap().contains("100000 units are simulated"));
    assert!(slow.too_large().unwrap().contains("would last 5h 20m"));
    let plan = Plan::by_formula(large, 1);
    assert_eq!((plan.advice.buffer, plan.rows.len(), plan.formula()), (Buffer::Fraction(0.34), 0, None));
}

#[test]
fn the_formula_counts_calls_in_batches() {
    let scenario = Scenario {
        stock: 10_000,
        nodes: 8,
        survive: 2,
        buyers: 500_000,
        within: Duration::from_secs(30),
        skew: 1.5,
        budget: 10_000,
        ..scenario()
    };
    assert_eq!(
        scenario.expected().advice().buffer,
        Buffer::Fraction(1.0),
        "of 84,000 claims per second 128 are a call"
    );
}

#[test]
fn a_plan_can_be_stopped() {
    let stop = AtomicBool::new(true);
    let inventory: MakeInventory = |clock| Arc::new(MemoryInventory::new(clock));
    assert!(simulate(&scenario(), &[Buffer::Units(1)], 1, inventory, &stop).is_err());
}

/// Simulates what would not end by itself, tells it to stop, and waits until it has.
fn stops(scenario: Scenario) {
    let stop = Arc::new(AtomicBool::new(false));
    let (done, ended) = mpsc::channel();
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        let inventory: MakeInventory = |clock| Arc::new(MemoryInventory::new(clock));
        done.send(simulate(&scenario, &[Buffer::Units(1)], 1, inventory, &told).is_err())
    });
    assert_eq!(
        ended.recv_timeout(Duration::from_millis(200)),
        Err(mpsc::RecvTimeoutError::Timeout),
        "it would not end"
    );
    stop.store(true, Ordering::Relaxed);
    assert_eq!(ended.recv_timeout(Duration::from_secs(30)), Ok(true), "it does not look whether it shall stop");
}

#[test]
fn a_site_whose_nodes_never_hear_of_each_other_can_be_stopped() {
    let mut scenario = scenario();
    scenario.gateway.node_timeout = Duration::ZERO;
    stops(scenario);
}

#[test]
fn a_crowd_that_leaves_no_time_to_sleep_can_be_stopped() {
    stops(Scenario { buyers: 1_000_000_000_000, within: Duration::from_millis(1), ..scenario() });
}

fn row(buffer: &str, false_refusals: u64, (sold_out_ms, calls): (u64, u64)) -> Row {
    Row {
        buffer: buffer.to_owned(),
        units: 0,
        sold_out_ms: Some(sold_out_ms),
        calls: Calls { confirm: calls, ..Calls::default() },
        needless: 0,
        waited: 0,
        false_refusals,
        false_refusals_in_death: 0,
        pending: 0,
        cut_off: 0,
        granted: 0,
        p99_ms: 0,
    }
}

fn with(rows: Vec<Row>) -> Plan {
    Plan { scenario: scenario(), seed: 1, advice: scenario().expected().advice(), rows }
}

#[test]
fn honest_is_better_than_fast_and_fast_is_better_than_cheap() {
    let rows = vec![row("0%", 3, (100, 1)), row("5%", 0, (300, 2)), row("34%", 0, (200, 9)), row("50%", 0, (209, 8))];
    let plan = with(rows);
    assert_eq!(plan.recommended(), 3, "one in twenty more time is as fast");
    assert_eq!(plan.formula(), Some(2));
    let waited = |row: Row, waited| Row { waited, ..row };
    let rows =
        vec![row("0%", 0, (100, 40)), row("5%", 0, (100, 41)), row("10%", 0, (100, 41)), row("25%", 0, (100, 41))];
    let plan = with(rows.into_iter().zip([99, 50, 40, 39]).map(|(row, times)| waited(row, times)).collect());
    assert_eq!(plan.recommended(), 2, "one wait less, and one call more, is chance");
}

#[test]
fn the_page_has_every_figure_in_words_and_needs_nothing_else() {
    let plan = with(vec![row("0%", 0, (1234, 77)), row("34%", 0, (2000, 99))]);
    let page = page::write(&plan);
    for part in [
        "<html lang=\"en\">",
        "<caption>",
        "scope=\"row\"",
        "role=\"img\"",
        "prefers-color-scheme:dark",
        "1.234 s",
        "recommended",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // The name space of SVG is no address that anybody asks.
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    for part in ["http", "src=", "href=", "<script", "url(", "@import"] {
        assert!(!addresses.contains(part), "{part}");
    }
    assert_eq!(page.matches("<tr").count(), 3);
    let svg = chart::draw(&plan);
    assert!(svg.contains("Buffer 0%, recommended: 77 calls"), "{svg}");
    assert_eq!(svg.matches("<polyline").count(), 5);
}

#[test]
fn false_refusals_are_those_of_the_whole_run_by_which_a_row_is_chosen() {
    let rows = vec![Row { false_refusals_in_death: 3, ..row("0%", 17, (100, 1)) }];
    assert_eq!(page::cells(&rows[0])[6], "17");
    assert!(chart::draw(&with(rows)).contains("17 refused falsely"));
}
