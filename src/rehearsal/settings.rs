//! What a rehearsal is told. The names are those of the k6 scripts' settings.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::settings::Secret;
use crate::rehearsal::crowd::Crowd;

/// The shortest hold that a sale may have.
const LEAST_HOLD: Duration = Duration::from_secs(1);
/// The longest that anything may take; buyers are counted before they come.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most buyers per second, and at once. More than one process can be.
const MOST: u32 = 1_000_000;
/// The most buyers of one rehearsal: each order is remembered until the end, in about 50 bytes, so it is a GB where all are granted.
const MOST_BUYERS: u64 = 20_000_000;
/// Units that can be sold in a second before the crowd comes, at least; where it is slower, there is no use in a crowd.
const SELL_OUT_RATE: u32 = 10;
/// Beyond all that a buyer may wait for.
const MARGIN: Duration = Duration::from_secs(10);
/// After which a unit that is free and not to be had is stranded: many refills.
pub(super) const STRANDED_AFTER: Duration = Duration::from_secs(10);
/// For a last look at what may be stranded.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// For the sale to be closed, where there is no more patience.
pub(super) const LAST_WORD: Duration = Duration::from_secs(5);

/// What a crowd is by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    pub stock: u32,
    pub rate: u32,
    pub duration: Duration,
    pub hold: Duration,
    pub patience: Duration,
    pub repeat: u32,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub crowd: Crowd,
    /// Public listeners, or balancers before them, such as `http://127.0.0.1:8080`: a buyer asks any of them.
    pub gateways: Vec<String>,
    /// Empty: buyers are told by `X-Buyer-Id`. Else the HS256 key that their bearer tokens are signed with.
    pub jwt_secret: Secret,
    /// Empty: the sandbox provider. Else the key of the provider whom the rehearsal plays.
    pub callback_secret: Secret,
    /// Units; of the train's second class, with a tenth of it in the first.
    pub stock: u32,
    /// Buyers who come per second, at the peak.
    pub rate: u32,
    /// How long they come.
    pub duration: Duration,
    /// How long a hold waits for its payment.
    pub hold: Duration,
    /// How long a buyer asks on for an answer, and how long the end waits until all is quiet.
    pub patience: Duration,
    /// Of a hundred who have an order, how many ask for the same again, and for another one.
    pub repeat: u32,
    /// Buyers at once, at most.
    pub vus: usize,
    /// Of a hundred buyers, how many may stay away because none was free when they were to come.
    pub away: u32,
    /// Milliseconds within which 99 of 100 claims are granted, and refused.
    pub p99_yes_ms: u32,
    pub p99_no_ms: u32,
    /// Another seed is another crowd of the same size.
    pub seed: u64,
}

impl Settings {
    /// What of this cannot be, all at once, by the names of the flags.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |is_right: bool, what: &str| {
            if !is_right {
                wrong.push(what.to_owned());
            }
        };
        check(!self.gateways.is_empty(), "--gateway must be given");
        for gateway in &self.gateways {
            let right = is_address(gateway);
            check(right, &format!("--gateway {gateway}: must be an address such as http://10.0.0.1:8080, without TLS"));
        }
        check(self.stock > 0, "--stock must be at least 1");
        check((1..=MOST).contains(&self.rate), &format!("--rate must be 1 to {MOST}"));
        let in_time = !self.duration.is_zero() && self.duration <= LONGEST;
        check(in_time, "--duration must be longer than nothing, and at most a week");
        let buyers = f64::from(self.rate) * self.duration.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let can_be_remembered = buyers <= MOST_BUYERS as f64;
        let said = format!("at most {MOST_BUYERS} buyers may come, for every order is remembered");
        check(can_be_remembered, &format!("--rate times --duration is {buyers:.0}: {said}"));
        let can_be_remembered = !self.crowd.is_sold_out() || u64::from(self.stock) <= MOST_BUYERS;
        check(can_be_remembered, &format!("--stock is {}, and sold before the crowd comes: {said}", self.stock));
        let can_be = (LEAST_HOLD..=LONGEST).contains(&self.hold);
        check(can_be, "--hold must be at least 1s, for no sale's hold is shorter, and at most a week");
        let in_time = !self.patience.is_zero() && self.patience <= LONGEST;
        check(in_time, "--patience must be longer than nothing, and at most a week");
        check(self.repeat <= 100, "--repeat must be 0 to 100");
        check((1..=MOST as usize).contains(&self.vus), &format!("--vus must be 1 to {MOST}"));
        check(self.away <= 100, "--away must be 0 to 100");
        check(self.p99_yes_ms > 0 && self.p99_no_ms > 0, "--p99-yes-ms and --p99-no-ms must be at least 1");
        wrong
    }

    /// The longest that selling everything before the crowd comes may take.
    pub(super) fn longest_sell_out(&self) -> Duration {
        self.patience + MARGIN + Duration::from_secs(1) * self.stock.div_ceil(SELL_OUT_RATE)
    }

    /// The longest that a buyer is there: asking, coming back after a hold, asking again twice over, and paying late.
    pub(super) fn longest_visit(&self) -> Duration {
        self.hold * 2 + self.patience * 4 + MARGIN
    }

    /// The longest that the last buyers take, who come at once, until they have a unit or it is stranded; and then the closing of the
    /// sale, for which they leave a last word.
    pub(super) fn longest_end(&self) -> Duration {
        self.patience + STRANDED_AFTER + LAST_LOOK + LAST_WORD
    }

    /// The longest that the sale has to be open: made, offered by every gateway, sold out, visited by the crowd, and closed.
    pub(super) fn longest(&self) -> Duration {
        let sold_out = if self.crowd.is_sold_out() { self.longest_sell_out() } else { Duration::ZERO };
        MARGIN + self.patience + sold_out + self.duration + self.longest_visit() + self.longest_end()
    }

    /// As a report tells it: without secrets, times in seconds.
    pub(super) fn document(&self) -> Value {
        json!({
            "gateways": self.gateways,
            "stock": self.stock,
            "rate": self.rate,
            "duration": self.duration.as_secs_f64(),
            "hold": self.hold.as_secs_f64(),
            "patience": self.patience.as_secs_f64(),
            "repeat": self.repeat,
            "vus": self.vus,
            "away": self.away,
            "p99_yes_ms": self.p99_yes_ms,
            "p99_no_ms": self.p99_no_ms,
            "seed": self.seed,
        })
    }
}

/// Is this `http://`, a host and perhaps a port, and nothing more?
fn is_address(text: &str) -> bool {
    let Some(authority) = text.strip_prefix("http://") else { return false };
    let host = !authority.is_empty() && !authority.contains(['/', '?', '#', '@']);
    host && text.parse::<hyper::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn rush() -> Settings {
        let Defaults { stock, rate, duration, hold, patience, repeat } = Crowd::Rush.defaults();
        Settings {
            crowd: Crowd::Rush,
            gateways: vec!["http://127.0.0.1:8080".to_owned()],
            jwt_secret: Secret("canary".to_owned()),
            callback_secret: Secret::default(),
            stock,
            rate,
            duration,
            hold,
            patience,
            repeat,
            vus: 300,
            away: 0,
            p99_yes_ms: 1000,
            p99_no_ms: 500,
            seed: 1,
        }
    }

    #[test]
    fn all_that_cannot_be_is_said_at_once() {
        assert_eq!(rush().wrong(), [""; 0]);
        let (hold, patience) = (Duration::from_millis(999), Duration::MAX);
        let wrong = Settings { stock: 0, hold, patience, repeat: 101, away: 101, ..rush() }.wrong();
        let flags: Vec<_> = wrong.iter().map(|said| said.split(' ').next().unwrap()).collect();
        assert_eq!(flags, ["--stock", "--hold", "--patience", "--repeat", "--away"]);
    }

    #[test]
    fn no_more_buyers_come_than_can_be_remembered_and_the_bound_is_named() {
        let of =
            |crowd, rate, stock| Settings { crowd, rate, stock, duration: Duration::from_secs(1000), ..rush() }.wrong();
        assert_eq!(of(Crowd::Rush, 20_000, u32::MAX), [""; 0]);
        let said = "at most 20000000 buyers may come, for every order is remembered";
        assert_eq!(of(Crowd::Rush, 20_001, 1), [format!("--rate times --duration is 20001000: {said}")]);
        let sold = format!("--stock is 20000001, and sold before the crowd comes: {said}");
        assert_eq!((of(Crowd::TooLate, 1, 20_000_000), of(Crowd::TooLate, 1, 20_000_001)), (Vec::new(), vec![sold]));
    }

    #[test]
    fn the_sale_has_to_be_open_for_as_long_as_all_of_the_plan_may_take() {
        let seconds = |crowd| {
            let [duration, hold, patience] = [30, 300, 20].map(Duration::from_secs);
            Settings { crowd, stock: 100_000, duration, hold, patience, ..rush() }.longest().as_secs()
        };
        // Made, offered, the crowd, two holds and four patiences of its last one, the last buyers, closed.
        let crowd = 10 + 20 + 30 + (600 + 80 + 10) + (20 + 10 + 1) + 5;
        assert_eq!(seconds(Crowd::Rush), crowd);
        // Ten units a second.
        assert_eq!(seconds(Crowd::TooLate), crowd + 20 + 10 + 10_000);
    }

    #[test]
    fn a_gateway_is_a_host_and_a_port_without_tls() {
        for (gateway, right) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://gate.example", true),
            ("https://gate.example", false),
            ("http://", false),
            ("http://:80", false),
            ("http://gate.example/v1", false),
            ("http://user@gate.example", false),
            ("10.0.0.1:8080", false),
        ] {
            let settings = Settings { gateways: vec![gateway.to_owned()], ..rush() };
            assert_eq!(settings.wrong().is_empty(), right, "{gateway}");
        }
    }

    #[test]
    fn a_report_tells_no_secret() {
        assert!(!rush().document().to_string().contains("canary"));
        assert!(!format!("{:?}", rush()).contains("canary"));
    }
}
