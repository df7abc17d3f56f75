//! What buyers heard, row by row: printed as each row ends, and all together in the target folder's `tmp/fault-matrix.md`.

use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) claims: String,
    pub(crate) orders: String,
    pub(crate) outage: Duration,
}

/// The rows of this run, in the order in which they ended.
static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

#[expect(clippy::print_stderr, reason = "whoever runs the suite wants to see what buyers noticed")]
pub(crate) fn add(row: Row) {
    eprintln!("{}", line(&row));
    let mut rows = ROWS.lock().expect("rows");
    rows.push(row);
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault-matrix.md"), text(&rows)).expect("the table");
}

fn text(rows: &[Row]) -> String {
    let mut text = String::from(
        "| fault | what claims heard | what was heard about orders | longest time without a yes |\n|---|---|---|---|\n",
    );
    for row in rows {
        writeln!(text, "{}", line(row)).expect("a string can be written");
    }
    text
}

fn line(row: &Row) -> String {
    format!("| {} | {} | {} | {:.1} s |", row.fault, row.claims, row.orders, row.outage.as_secs_f64())
}

mod tests {
    use super::*;

    #[test]
    fn a_row_tells_the_fault_the_answers_and_the_outage() {
        let row = Row {
            fault: "Redis is frozen for 2 s".to_owned(),
            claims: "201 ×3, 503 busy ×2".to_owned(),
            orders: "200 ×1".to_owned(),
            outage: Duration::from_millis(2345),
        };
        let told = "| Redis is frozen for 2 s | 201 ×3, 503 busy ×2 | 200 ×1 | 2.3 s |";
        assert_eq!(text(&[row]).lines().nth(2), Some(told));
    }
}
