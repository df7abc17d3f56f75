//! What a rehearsal proved, in words. They are those of the k6 scripts, and mean the same.

use std::time::Duration;

use crate::domain::{OrderId, SaleDocument};
use crate::rehearsal::ledger::{Heard, Kind};
use crate::rehearsal::sale::{Units, places};
use crate::rehearsal::settings::Settings;
use crate::rehearsal::truth::{Part, Truth};

/// Of all requests, so many may get no answer at all: a connection may break anywhere.
const FAILED_OF: u64 = 1000;
/// So many orders are named.
const NAMED: usize = 5;

/// What can be wrong, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    Oversold,
    Lost,
    LostPayment,
    Stranded,
    Unserved,
    Pending,
    Contradicted,
    Unexplained,
    Unasked,
    UnaskedPayment,
    NotVerified,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// What is not true, or not proved; the worst first.
    pub broken: Vec<(Word, String)>,
    /// What is true, and was not fast or reliable enough.
    pub missed: Vec<String>,
}

impl Word {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oversold => "OVERSOLD",
            Self::Lost => "LOST",
            Self::LostPayment => "LOST PAYMENT",
            Self::Stranded => "STRANDED",
            Self::Unserved => "UNSERVED",
            Self::Pending => "PENDING",
            Self::Contradicted => "CONTRADICTED",
            Self::Unexplained => "UNEXPLAINED",
            Self::Unasked => "UNASKED",
            Self::UnaskedPayment => "UNASKED PAYMENT",
            Self::NotVerified => "NOT VERIFIED",
        }
    }

    /// Is a promise broken? Whoever served nobody, or could not be looked at, has broken none that is known of.
    fn is_untrue(self) -> bool {
        !matches!(self, Self::Unserved | Self::NotVerified)
    }
}

impl Verdict {
    /// All is true, proved, and fast enough.
    pub fn passed(&self) -> bool {
        self.broken.is_empty() && self.missed.is_empty()
    }

    /// Is a promise broken?
    pub fn is_untrue(&self) -> bool {
        self.broken.iter().any(|(word, _)| word.is_untrue())
    }

    /// It was cut short: what was until then may be true, and a part of it was never asked.
    pub(super) fn interrupted(&mut self, (after, of): (Duration, Duration), is_whole: bool) {
        let (after, of) = (after.as_secs_f64(), of.as_secs_f64());
        let rest =
            if is_whole { "what was until then was verified" } else { "what was until then was not all verified" };
        self.missed.insert(0, format!("INTERRUPTED: {after:.1} s after the first of {of} s; {rest}"));
    }

    /// What is wrong, a line each, the worst first.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let broken = self.broken.iter().map(|(word, said)| format!("{}: {said}", word.as_str()));
        broken.chain(self.missed.iter().cloned())
    }
}

/// Compares what was heard with what is there. `to_come`: how many buyers were to come.
pub(super) fn judge(
    (settings, document): (&Settings, &SaleDocument),
    (heard, to_come): (&Heard, u64),
    truth: &Truth,
) -> Verdict {
    let mut broken = Vec::new();
    let mut say = |word, count: u64, said: String| {
        if count > 0 {
            broken.push((word, said));
        }
    };
    // These compare what buyers heard with rows: they mean something only where all rows were read.
    if truth.is_read(Part::Rows) {
        // What is on its way, stock that was added, and a payment that takes the units of an order again: each may explain that
        // more is promised, until it is known that there is none.
        let is_known = truth.is_read(Part::Audit) && truth.is_read(Part::Balance) && truth.unasked_payments.is_empty();
        for (place, pool) in places(document) {
            let of = |units: &Units| units.get(&place).copied().unwrap_or(0);
            let capacity = truth.capacities.get(&pool.id).copied().unwrap_or(0);
            let promised = of(&heard.promised).saturating_sub(of(&truth.ended));
            let beyond = promised.saturating_sub(capacity);
            let said = format!("{} of {place} are promised, and there are {capacity}", units(promised));
            if is_known {
                say(Word::Oversold, beyond, said);
            } else {
                say(Word::NotVerified, beyond, format!("{said}; some may have been given up since, or added"));
            }
        }
        let count = |orders: &[OrderId]| orders.len() as u64;
        let Truth { lost, unasked, lost_payments, unasked_payments, .. } = truth;
        if truth.is_read(Part::Audit) {
            say(Word::Lost, count(lost), format!("{} that heard yes and have no row{}", orders(lost), named(lost)));
            let said =
                format!("{} payments were confirmed, and their orders are not paid in the store", lost_payments.len());
            say(Word::LostPayment, count(lost_payments), format!("{said}{}", named(lost_payments)));
        } else {
            // They may be on their way: nobody has said that nothing is.
            let said = format!("{} that heard yes and have no row yet{}", orders(lost), named(lost));
            say(Word::NotVerified, count(lost), said);
            let said = format!("{} confirmed payments are not in the store yet", lost_payments.len());
            say(Word::NotVerified, count(lost_payments), format!("{said}{}", named(lost_payments)));
        }
        say(Word::Unasked, count(unasked), format!("{} in the store that no buyer heard yes for", orders(unasked)));
        let said = format!("{} orders are paid in the store, and nobody heard that", unasked_payments.len());
        say(Word::UnaskedPayment, count(unasked_payments), said);
    }
    let Truth { oversold, stranded, unexplained, .. } = truth;
    say(Word::Oversold, *oversold, format!("the store has {} beyond the capacity", units(*oversold)));
    say(Word::Stranded, *stranded, format!("{} that nobody has and nobody can buy", units(*stranded)));
    say(
        Word::Unexplained,
        *unexplained,
        format!("inventory, store and audit differ by {unexplained} (units, or orders)"),
    );
    let Heard { unserved, pending, odd, .. } = heard;
    say(
        Word::Unserved,
        *unserved,
        format!(
            "{unserved} claims or payments heard nothing but to ask again, or reached nobody, until patience ended"
        ),
    );
    say(Word::Pending, *pending, format!("of {pending} claims or payments nobody knows what became"));
    let said = format!("{odd} answers that the interface does not know, or that contradict others");
    say(Word::Contradicted, *odd, said);
    say(Word::NotVerified, u64::from(heard.came == 0), "nobody came, so nothing is proved of a crowd".to_owned());
    for said in unproven(truth) {
        say(Word::NotVerified, 1, said);
    }
    broken.sort();
    let mut missed = missed(settings, heard, to_come);
    if let Some(Err(why)) = &truth.closed {
        missed.insert(0, format!("NOT CLOSED: the sale may be open still: {why}"));
    }
    Verdict { broken, missed }
}

/// The parts that prove nothing.
fn unproven(truth: &Truth) -> Vec<String> {
    let unread: Vec<_> = Part::ALL.into_iter().filter(|part| !truth.is_read(*part)).collect();
    if unread.len() == Part::ALL.len() {
        return vec!["nothing was read at the end, so nothing is proved".to_owned()];
    }
    let said = |part| match part {
        Part::Gateways => {
            "at the end a gateway was away, or neither sold nor refused what is free, so units may be stranded"
                .to_owned()
        }
        part => format!("the {} could not be read to the end, so it proves nothing", part.as_str()),
    };
    unread.into_iter().map(said).collect()
}

fn missed(settings: &Settings, heard: &Heard, to_come: u64) -> Vec<String> {
    let mut missed = Vec::new();
    for (kind, name, bound) in
        [(Kind::Yes, "P99_YES_MS", settings.p99_yes_ms), (Kind::No, "P99_NO_MS", settings.p99_no_ms)]
    {
        let p99 = heard.times.get(&kind).map_or(0.0, |times| times.quantile(0.99));
        if p99 >= f64::from(bound) {
            let what = kind.meaning();
            missed
                .push(format!("{name}: 99 of 100 claims must be {what} in less than {bound} ms, and were in {p99:.0}"));
        }
    }
    if heard.failed * FAILED_OF >= heard.requests && heard.failed > 0 {
        let Heard { failed, requests, .. } = heard;
        missed.push(format!("NO ANSWER: {failed} of {requests} requests got none that the interface has for them; less than one in {FAILED_OF} may"));
    }
    if heard.away > to_come * u64::from(settings.away) / 100 {
        let may = settings.away;
        let away = heard.away;
        missed.push(format!(
            "AWAY: {away} of {to_come} buyers did not come, for {} were there already; {may} of 100 may stay away (--vus, or a slower --rate)",
            settings.vus
        ));
    }
    missed
}

fn units(count: u64) -> String {
    if count == 1 { "1 unit".to_owned() } else { format!("{count} units") }
}

fn orders(orders: &[OrderId]) -> String {
    if orders.len() == 1 { "1 order".to_owned() } else { format!("{} orders", orders.len()) }
}

fn named(orders: &[OrderId]) -> String {
    let names: Vec<_> = orders.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if orders.len() > NAMED { ", …" } else { "" };
    if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::ledger::Outcome;
    use crate::rehearsal::sale::concert;
    use crate::rehearsal::settings::tests::rush;

    const ORDER: &str = "00ff10ab5c0000000000000000123456";

    fn truth() -> Truth {
        Truth {
            parts: Part::ALL.map(|part| (part, Ok(()))).into(),
            capacities: [("standard".to_owned(), 300)].into(),
            ..Truth::default()
        }
    }

    fn judged(heard: Heard, truth: &Truth) -> Verdict {
        let heard = Heard { came: 1000, ..heard };
        judge((&rush(), &concert(300, Duration::from_secs(10))), (&heard, 1000), truth)
    }

    fn said(heard: Heard, truth: &Truth) -> String {
        judged(heard, truth).lines().collect::<Vec<_>>().join(" | ")
    }

    fn promised(units: u64) -> Heard {
        Heard { promised: Units::from([("standard/0".to_owned(), units)]), ..Heard::default() }
    }

    #[test]
    fn what_is_true_and_fast_passes() {
        let verdict = judged(promised(300), &truth());
        assert!(verdict.passed() && !verdict.is_untrue(), "{verdict:?}");
    }

    #[test]
    fn every_untruth_has_its_word_as_with_k6() {
        let (nothing, all) = (Heard::default, truth());
        let id: OrderId = ORDER.parse().unwrap();
        for (said, wanted) in [
            (said(promised(301), &all), "OVERSOLD: 301 units of standard/0 are promised, and there are 300"),
            (said(nothing(), &Truth { oversold: 1, ..truth() }), "OVERSOLD: the store has 1 unit beyond the capacity"),
            (said(nothing(), &Truth { stranded: 1, ..truth() }), "STRANDED: 1 unit that nobody has and nobody can buy"),
            (
                said(nothing(), &Truth { unexplained: 1, ..truth() }),
                "UNEXPLAINED: inventory, store and audit differ by 1 (units, or orders)",
            ),
            (
                said(Heard { unserved: 1, ..Heard::default() }, &all),
                "UNSERVED: 1 claims or payments heard nothing but to ask again, or reached nobody, until patience ended",
            ),
            (
                said(Heard { pending: 1, ..Heard::default() }, &all),
                "PENDING: of 1 claims or payments nobody knows what became",
            ),
            (
                said(Heard { odd: 1, ..Heard::default() }, &all),
                "CONTRADICTED: 1 answers that the interface does not know, or that contradict others",
            ),
            (
                said(nothing(), &Truth { lost: vec![id], ..truth() }),
                "LOST: 1 order that heard yes and have no row: 00ff10ab5c0000000000000000123456",
            ),
            (
                said(nothing(), &Truth { unasked: vec![id], ..truth() }),
                "UNASKED: 1 order in the store that no buyer heard yes for",
            ),
            (
                said(nothing(), &Truth { lost_payments: vec![id], ..truth() }),
                "LOST PAYMENT: 1 payments were confirmed, and their orders are not paid in the store: \
                 00ff10ab5c0000000000000000123456",
            ),
            (
                said(nothing(), &Truth { unasked_payments: vec![id], ..truth() }),
                "UNASKED PAYMENT: 1 orders are paid in the store, and nobody heard that",
            ),
        ] {
            assert_eq!(said, wanted);
        }
        let ended = Truth { ended: Units::from([("standard/0".to_owned(), 1)]), ..truth() };
        assert!(judged(promised(301), &ended).passed(), "who gave a unit back has none");
    }

    #[test]
    fn the_worst_comes_first_and_only_a_broken_promise_is_untrue() {
        let heard = Heard { pending: 1, ..Heard::default() };
        let verdict = judged(heard, &Truth { unexplained: 2, oversold: 1, ..truth() });
        let words: Vec<_> = verdict.broken.iter().map(|(word, _)| *word).collect();
        assert_eq!(words, [Word::Oversold, Word::Pending, Word::Unexplained]);
        assert!(verdict.is_untrue());
        let unserved = judged(Heard { unserved: 3, ..Heard::default() }, &truth());
        assert!(!unserved.passed() && !unserved.is_untrue());
    }

    #[test]
    fn what_was_not_read_proves_nothing_and_is_no_difference() {
        let without = |part| {
            let mut truth = Truth { lost: vec![ORDER.parse().unwrap()], ..truth() };
            truth.parts.insert(part, Err("away".to_owned()));
            said(promised(301), &truth)
        };
        assert_eq!(without(Part::Rows), "NOT VERIFIED: the rows could not be read to the end, so it proves nothing");
        assert!(
            without(Part::Audit)
                .ends_with("NOT VERIFIED: the audit could not be read to the end, so it proves nothing")
        );
        assert!(
            without(Part::Gateways)
                .contains("NOT VERIFIED: at the end a gateway was away, or neither sold nor refused")
        );
        let nothing = said(promised(301), &Truth::default());
        assert_eq!(nothing, "NOT VERIFIED: nothing was read at the end, so nothing is proved");
    }

    #[test]
    fn rows_that_may_be_on_their_way_are_not_lost_and_no_promise_is_broken() {
        let id: OrderId = ORDER.parse().unwrap();
        let mut truth = Truth { lost: vec![id], lost_payments: vec![id], ..truth() };
        assert!(judged(promised(300), &truth).is_untrue());
        truth.parts.insert(Part::Audit, Err("in motion".to_owned()));
        let verdict = judged(promised(300), &truth);
        assert!(!verdict.passed() && !verdict.is_untrue(), "{verdict:?}");
        let lines: Vec<_> = verdict.lines().collect();
        assert_eq!(lines[0], format!("NOT VERIFIED: 1 confirmed payments are not in the store yet: {ORDER}"));
        assert_eq!(lines[1], format!("NOT VERIFIED: 1 order that heard yes and have no row yet: {ORDER}"));
    }

    #[test]
    fn an_oversell_is_told_only_where_nothing_else_can_explain_it_and_it_never_passes() {
        let too_many = "301 units of standard/0 are promised, and there are 300";
        assert_eq!(said(promised(301), &truth()), format!("OVERSOLD: {too_many}"));
        for part in [Part::Audit, Part::Balance] {
            let mut truth = truth();
            truth.parts.insert(part, Err("away".to_owned()));
            let verdict = judged(promised(301), &truth);
            assert!(!verdict.passed() && !verdict.is_untrue(), "{verdict:?}");
            let told = format!("{too_many}; some may have been given up since, or added");
            assert!(verdict.broken.contains(&(Word::NotVerified, told)), "{verdict:?}");
            // The store's own count is of one instant, whatever is on its way.
            assert!(said(promised(301), &Truth { oversold: 1, ..truth }).starts_with("OVERSOLD: the store has 1 unit"));
        }
        let paid_again = Truth { unasked_payments: vec![ORDER.parse().unwrap()], ..truth() };
        assert!(
            !said(promised(301), &paid_again).contains("OVERSOLD") && judged(promised(301), &paid_again).is_untrue()
        );
    }

    #[test]
    fn where_nobody_came_or_the_sale_is_open_still_nothing_passes() {
        let document = concert(300, Duration::from_secs(10));
        let nobody = judge((&rush(), &document), (&Heard::default(), 1000), &truth());
        assert_eq!(nobody.lines().next().unwrap(), "NOT VERIFIED: nobody came, so nothing is proved of a crowd");
        let open = judged(promised(300), &Truth { closed: Some(Err("away".to_owned())), ..truth() });
        assert_eq!(open.missed, ["NOT CLOSED: the sale may be open still: away"]);
        assert!(!open.passed() && !open.is_untrue());
    }

    #[test]
    fn an_interruption_claims_no_more_than_was_read() {
        let said = |is_whole| {
            let mut verdict = Verdict::default();
            verdict.interrupted((Duration::from_millis(1500), Duration::from_secs(30)), is_whole);
            verdict.missed.remove(0)
        };
        assert_eq!(said(true), "INTERRUPTED: 1.5 s after the first of 30 s; what was until then was verified");
        assert!(said(false).ends_with("was not all verified"));
    }

    #[test]
    fn a_bound_that_is_missed_is_told_with_what_was_measured() {
        let mut heard = Heard { requests: 1000, failed: 1, away: 1, ..Heard::default() };
        heard.answer((Outcome::Held, Kind::Yes), Duration::from_millis(1234), None);
        heard.answer((Outcome::SoldOut, Kind::No), Duration::from_millis(499), None);
        let verdict = judged(heard, &truth());
        assert!(verdict.broken.is_empty() && !verdict.is_untrue());
        assert_eq!(
            verdict.missed[0],
            "P99_YES_MS: 99 of 100 claims must be granted in less than 1000 ms, and were in 1235"
        );
        assert!(
            verdict.missed[1].starts_with("NO ANSWER: 1 of 1000 requests")
                && verdict.missed[2].starts_with("AWAY: 1 of 1000")
        );
        assert_eq!(verdict.missed.len(), 3);
        assert!(judged(Heard { requests: 1001, failed: 1, ..Heard::default() }, &truth()).passed());
        let away = Settings { away: 10, ..rush() };
        let heard = Heard { came: 900, away: 100, ..Heard::default() };
        let document = concert(300, Duration::from_secs(10));
        assert!(judge((&away, &document), (&heard, 1000), &truth()).passed());
    }
}
