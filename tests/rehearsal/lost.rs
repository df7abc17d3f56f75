//! Terminals that go away, and keys that are pressed there again and again: each ends as its help says, and so does the sale.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::run::{FAILED, PASSED, Ran, all_closed, at, ended, rehearsals, rehearse};
use crate::site::{Backends, Site, concert};
use crate::terminal::{Bond, CTRL_C, Terminal};
use crate::trouble::{signal, the_crowd_has_come};

/// With its own screen, and without it again.
const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_whose_terminal_goes_away_is_interrupted_once_and_its_sale_is_closed() {
    let (site, dir) = (Site::start(Backends::Embedded, "").await, TempDir::new().unwrap());
    let ran = left(&site, (Bond::Controlled, "--duration 60s --rate 50 --stock 100000 --hold 60s"), dir.path()).await;
    ran.ended(FAILED, &[]);
    let report = report(dir.path());
    // All else is true: what was until then is verified.
    let missed = report["verdict"]["missed"].as_array().unwrap();
    assert_eq!((&report["interrupted"], &report["closed"]), (&json!(true), &json!(true)), "{report}");
    assert_eq!((&report["verdict"]["broken"], missed.len()), (&json!([]), 1), "{report}");
    all_closed(&site, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_that_is_not_to_mind_a_lost_terminal_goes_on_to_its_end() {
    let (site, dir) = (Site::start(Backends::Embedded, "").await, TempDir::new().unwrap());
    let ran = left(&site, (Bond::Heedless, "--duration 4s --rate 50 --stock 100"), dir.path()).await;
    // Everything is true, and nobody could be told so but by the report.
    ran.ended(FAILED, &[]);
    let report = report(dir.path());
    assert_eq!((&report["interrupted"], &report["closed"]), (&json!(false), &json!(true)), "{report}");
    assert_eq!(report["verdict"], json!({"passed": true, "broken": [], "missed": []}));
    assert_eq!(report["accepted"], 100, "{report}");
    all_closed(&site, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_interruption_waits_for_a_frozen_site_no_longer_than_for_its_last_word() {
    let ran = pressed(2).await;
    ran.ended(FAILED, &["interrupted twice: nothing was verified", "may be open still (no answer in time)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_interruption_waits_for_nothing_and_tells_how_to_close_the_sale() {
    let ran = pressed(3).await;
    ran.ended(FAILED, &["interrupted three times: nothing was verified", "may be open still (nobody waited for it)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_gives_its_terminal_back_whoever_ends_it() {
    let site = Site::start(Backends::Embedded, "").await;
    site.sale("concert-1", &concert(7)).await;
    for end in ["q", "Ctrl-C", "-TERM", "-INT"] {
        let mut terminal = Terminal::open();
        let running = terminal.start(&top(&site), Bond::Controlled);
        terminal.shows("concert-1").await;
        match end {
            "q" => terminal.type_in(b"q"),
            // No signal: the keys come as they are.
            "Ctrl-C" => terminal.type_in(CTRL_C),
            which => signal(which, &running.id().unwrap().to_string()),
        }
        let ran = terminal.ended(running).await;
        ran.ended(PASSED, &[TAKEN]);
        assert!(ran.out.rfind(GIVEN_BACK) > ran.out.rfind(TAKEN), "{end}: {:?}", ran.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_ends_with_its_terminal() {
    let site = Site::start(Backends::Embedded, "").await;
    site.sale("concert-1", &concert(7)).await;
    for bond in [Bond::Controlled, Bond::Heedless, Bond::Loose] {
        let mut terminal = Terminal::open();
        let running = terminal.start(&top(&site), bond);
        terminal.shows("concert-1").await;
        drop(terminal);
        ended(running).await.ended(PASSED, &[]);
    }
}

fn top(site: &Site) -> Command {
    let command = rehearse("");
    // The same program, and as little of the test's environment.
    let (program, environment) = (command.as_std().get_program().to_owned(), command.as_std().get_envs());
    let mut top = Command::new(program);
    for (name, _) in environment {
        top.env_remove(name);
    }
    top.args(["top", "--admin", site.admin().base()]);
    top
}

/// A rehearsal whose terminal goes away when its crowd has come.
async fn left(site: &Site, (bond, settings): (Bond, &str), reports: &Path) -> Ran {
    let mut terminal = Terminal::open();
    let mut command = at(site, settings);
    let running = terminal.start(command.arg("--out").arg(reports), bond);
    terminal.shows("yes ").await;
    the_crowd_has_come(site).await;
    drop(terminal);
    ended(running).await
}

fn report(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("rehearsal-rush.json")).unwrap()).unwrap()
}

/// A rehearsal at a site that is frozen when its crowd has come, and at whose terminal Ctrl-C is pressed so many times.
async fn pressed(times: usize) -> Ran {
    let site = Site::start(Backends::Embedded, "").await;
    let mut terminal = Terminal::open();
    let running = terminal.start(&at(&site, "--duration 60s --rate 50 --stock 100000 --hold 60s"), Bond::Controlled);
    the_crowd_has_come(&site).await;
    let node = site.nodes[0].child.id().to_string();
    signal("-STOP", &node);
    // Two signals of one kind that nobody has taken are one.
    for said in ["(again: at once)", "(again: without)", ""].iter().take(times) {
        terminal.type_in(CTRL_C);
        terminal.shows(said).await;
    }
    let ran = terminal.ended(running).await;
    signal("-CONT", &node);
    let sales = rehearsals(site.admin()).await;
    let close = format!("close it: rushgate sale close {}", sales[0].0);
    assert!(sales.len() == 1 && ran.out.contains(&close), "{sales:?}: {}", ran.out);
    // Whether it is open nobody knows; that it does not stay so it was made with.
    let sale = site.admin().get(&format!("/admin/v1/sales/{}", sales[0].0), &[]).await.unwrap();
    assert!(sale.body["closes_at"].is_string() || sale.body["document"]["closes_at"].is_string(), "{sale:?}");
    ran
}
