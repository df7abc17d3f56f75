//! A rehearsal on paper: text for a terminal, one JSON document for programs, one page for people.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::domain::{SaleDocument, UnixMillis};
use crate::rehearsal::control::Balance;
use crate::rehearsal::ledger::{Ending, Heard, Kind, Outcome, SLICES};
use crate::rehearsal::settings::Settings;
use crate::rehearsal::truth::Truth;
use crate::rehearsal::verdict::Verdict;

mod charts;
mod page;
mod text;

/// What was done when.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) sale: String,
    pub(super) document: SaleDocument,
    pub(super) interrupted: bool,
    pub(super) began_at: UnixMillis,
    /// From the first buyer to the last.
    pub(super) lasted: Duration,
    pub(super) to_come: u64,
}

/// All that a rehearsal tells.
#[derive(Debug)]
pub struct Report {
    settings: Settings,
    run: Run,
    heard: Heard,
    truth: Truth,
    verdict: Verdict,
}

/// A name, how often, and what it means.
type Share = (&'static str, u64, &'static str);
/// Percentiles by name, in milliseconds.
type Percentiles = [(&'static str, f64); 5];

impl Report {
    pub(super) fn new(settings: Settings, run: Run, (heard, truth, verdict): (Heard, Truth, Verdict)) -> Self {
        Self { settings, run, heard, truth, verdict }
    }

    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        text::write(self)
    }

    /// One page that needs nothing else.
    pub fn page(&self) -> String {
        page::write(self)
    }

    /// For programs. Times in seconds, those of claims in milliseconds.
    pub fn document(&self) -> Value {
        let Self { settings, run, heard, truth, verdict } = self;
        let broken: Vec<_> = verdict.broken.iter().map(|(word, said)| format!("{}: {said}", word.as_str())).collect();
        let claims = self.times().into_iter().map(|(kind, count, values)| {
            let mut of = Map::from_iter(values.map(|(name, value)| (name.to_owned(), json!(value))));
            of.insert("count".to_owned(), count.into());
            (kind.as_str().to_owned(), Value::Object(of))
        });
        let closed = truth.closed.as_ref().is_some_and(Result::is_ok);
        json!({
            "crowd": settings.crowd.as_str(),
            "sale": run.sale,
            "closed": closed,
            "began_at": run.began_at.to_string(),
            "seconds": run.lasted.as_secs_f64(),
            "interrupted": run.interrupted,
            "verdict": {"passed": verdict.passed(), "broken": broken, "missed": verdict.missed},
            "settings": settings.document(),
            "document": run.document,
            "buyers": {"to_come": run.to_come, "came": heard.came, "away": heard.away},
            "requests": {"sent": heard.requests, "without_answer": heard.failed},
            "accepted": heard.accepted,
            "answers": object(&self.answers()),
            "endings": object(&self.endings()),
            "claims_ms": claims.collect::<Map<_, _>>(),
            "timeline": self.slices().map(|slice| json!({
                "at": slice.at, "yes": slice.answers[0], "no": slice.answers[1], "later": slice.answers[2], "p95": slice.p95,
            })).collect::<Vec<_>>(),
            "balance": truth.balance,
            "audit": truth.audit,
            "contradictions": heard.odd_said,
            "notes": self.notes(),
        })
    }

    fn answers(&self) -> Vec<Share> {
        let of = |outcome: Outcome| {
            let count = self.heard.answers.get(&outcome).copied().unwrap_or(0);
            (outcome.as_str(), count, outcome.meaning())
        };
        Outcome::ALL.into_iter().map(of).filter(|(_, count, _)| *count > 0).collect()
    }

    fn endings(&self) -> Vec<Share> {
        let of = |ending: Ending| {
            let count = self.heard.endings.get(&ending).copied().unwrap_or(0);
            (ending.as_str(), count, ending.meaning())
        };
        Ending::ALL.into_iter().map(of).filter(|(_, count, _)| *count > 0).collect()
    }

    /// How long claims took, by kind of answer.
    fn times(&self) -> Vec<(Kind, u64, Percentiles)> {
        let times = self.heard.times.iter().map(|(kind, times)| {
            let percentiles = [
                ("p50", times.quantile(0.5)),
                ("p95", times.quantile(0.95)),
                ("p99", times.quantile(0.99)),
                ("p99.9", times.quantile(0.999)),
                ("max", times.max()),
            ];
            (*kind, times.count(), percentiles)
        });
        times.collect()
    }

    fn slices(&self) -> impl Iterator<Item = Slice> {
        let lasts = self.settings.duration.as_secs_f64();
        self.heard.slices.iter().enumerate().map(move |(index, slice)| Slice {
            at: number(index as u64) * lasts / number(SLICES as u64),
            answers: Kind::ALL.map(|kind| slice.answers.get(&kind).copied().unwrap_or(0)),
            p95: if slice.times.count() > 0 { slice.times.quantile(0.95) } else { 0.0 },
        })
    }

    fn balance(&self) -> Option<&Balance> {
        self.truth.balance.as_ref()
    }

    /// What else should be known.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.truth.notes.clone();
        if let Some(Err(why)) = &self.truth.closed {
            let sale = &self.run.sale;
            notes.push(format!("the sale may be open still ({why}); close it: rushgate sale close {sale}"));
        }
        if self.heard.answers.contains_key(&Outcome::RateLimited) {
            notes.push("rate_limited: the whole crowd comes from one address; see http.claims_per_address".to_owned());
        }
        notes
    }

    /// The crowd in a sentence.
    fn crowd(&self) -> String {
        let Self { settings, run, heard, .. } = self;
        format!(
            "{} buyers in {:.1} s, up to {} a second, at {} gateway(s); seed {}",
            thousands(heard.came),
            run.lasted.as_secs_f64(),
            thousands(settings.rate.into()),
            settings.gateways.len(),
            settings.seed
        )
    }
}

/// A part of the crowd's time.
#[derive(Debug, Clone, Copy)]
struct Slice {
    /// Seconds since the crowd came.
    at: f64,
    /// Yes, no, ask again.
    answers: [u64; 3],
    /// Milliseconds.
    p95: f64,
}

fn object(shares: &[Share]) -> Map<String, Value> {
    shares.iter().map(|(name, count, _)| ((*name).to_owned(), (*count).into())).collect()
}

/// A number with a comma before every three digits.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds, with as many digits as say something.
fn milliseconds(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::control::tests::leg;
    use crate::rehearsal::control::{Balance, Drift};
    use crate::rehearsal::sale::concert;
    use crate::rehearsal::settings::tests::rush;
    use crate::rehearsal::verdict::Word;

    pub(super) fn report(verdict: Verdict) -> Report {
        let mut heard = Heard { came: 1234, away: 7, requests: 1300, ..Heard::default() };
        for millis in [3, 5, 250] {
            heard.answer((Outcome::Held, Kind::Yes), Duration::from_millis(millis), Some(0.5));
        }
        heard.answer((Outcome::SoldOut, Kind::No), Duration::from_millis(1), Some(0.9));
        heard.ended(Ending::Paid);
        let truth = Truth {
            balance: Some(Balance { legs: vec![leg()], drift: Drift::default() }),
            closed: Some(Ok(())),
            notes: vec!["1 payments are to be given back <soon>".to_owned()],
            ..Truth::default()
        };
        let run = Run {
            sale: "rehearsal-rush-1".to_owned(),
            document: concert(300, Duration::from_secs(10)),
            interrupted: false,
            began_at: UnixMillis(1_795_262_400_000),
            lasted: Duration::from_millis(30_500),
            to_come: 1241,
        };
        Report::new(rush(), run, (heard, truth, verdict))
    }

    fn oversold() -> Verdict {
        Verdict { broken: vec![(Word::Oversold, "301 units of <standard/0>".to_owned())], missed: Vec::new() }
    }

    #[test]
    fn the_first_lines_of_the_text_say_what_is_wrong() {
        let text = report(oversold()).text();
        assert!(text.starts_with("rushgate rush: FAILED\n  ✗ OVERSOLD: 301 units of <standard/0>\n\n"), "{text}");
        for line in [
            "sale     rehearsal-rush-1 · closed · 2,000 units · hold 300 s",
            "crowd    1,234 buyers in 30.5 s, up to 300 a second, at 1 gateway(s); seed 1",
            "         7 more did not come",
            "  held                     3  yes: an order is held",
            "  yes                 5.00",
            "  standard        300 = 0 free + 0 held + 300 sold · store 300 live",
            "note     1 payments are to be given back <soon>",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(report(Verdict::default()).text().starts_with("rushgate rush: PASSED\n  ✓ sold exactly"));
    }

    #[test]
    fn the_page_needs_nothing_else_and_escapes_what_it_tells() {
        let page = report(oversold()).page();
        assert!(page.contains("301 units of &lt;standard/0&gt;") && page.contains("back &lt;soon&gt;"), "{page}");
        assert_eq!(page.matches("<svg").count(), 5, "{page}");
        for fetches in ["<script", "<link", "<img", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(fetches), "{fetches}");
        }
    }

    #[test]
    fn the_document_has_the_figures_and_no_secret() {
        let document = report(oversold()).document();
        assert_eq!(document["verdict"]["broken"], json!(["OVERSOLD: 301 units of <standard/0>"]));
        assert_eq!((&document["answers"]["held"], &document["endings"]["paid"]), (&json!(3), &json!(1)));
        assert_eq!(document["claims_ms"]["yes"]["count"], 3);
        assert_eq!(document["timeline"][20]["yes"], 3);
        assert!(!document.to_string().contains("canary"));
    }

    #[test]
    fn numbers_are_told_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.123, 9.999, 10.04, 1234.5].map(milliseconds), ["0.12", "10.00", "10.0", "1234"]);
    }
}
