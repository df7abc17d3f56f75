//! Money: who may say that an order is paid, and what that does.
//!
//! The store decides (see [`crate::store::Orders::pay`]); this module makes sure that only the provider is heard, and asks the
//! inventory for the units of an order that is paid too late. A notice is
//! signed over its raw bytes and its time, so that neither a changed nor an old one counts, and its event id counts once.
//!
//! ```text
//! Rushgate-Signature: t=1795262400,v1=5257a869…
//! v1 = hex(HMAC-SHA256(secret, "{t}.{body}"))
//! ```
//!
//! `v1` may come several times, while a provider changes its secret.
//!
//! # A payment that came too late
//!
//! Two systems have to agree, in three steps, each of which may be repeated: the store keeps the payment as late; the inventory sells
//! the units to the order once more, or refuses; the store makes the payment a refund due, or the order paid, if the inventory that
//! was asked is still the one that counts ([`crate::store::LatePayments::settle_late`]). Whoever dies on the way leaves a late
//! payment, which [`keep_settling`] finds, and the first verdict of the inventory comes back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::clock::Clock;
use crate::config::settings::{Payment as Settings, PaymentProvider};
use crate::crash::{self, CrashPoint};
use crate::domain::{Currency, Invalid, Money, Order, OrderId, SaleId, UnixMillis};
use crate::epochs::Epochs;
use crate::inventory::{Inventory, Revived};
use crate::meters::{Counter, Meters};
use crate::shutdown::Shutdown;
use crate::store::{Fault, Judged, LateClaim, LatePayment, PaymentEvent, PaymentOutcome, Store};

/// How far a notice's time may be from this process's, either way.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// The most signatures that one notice may carry; a change of secrets needs two.
const MAX_SIGNATURES: usize = 8;
/// The longest event id, in characters.
const MAX_EVENT_ID: usize = 128;

/// Between two looks for late payments. Most are settled by whoever took them.
const SETTLE_INTERVAL: Duration = Duration::from_millis(500);
/// Late payments in one look.
const LATE_LIMIT: u32 = 256;
/// Late payments whose partition is recovering are looked past, up to so many.
const MOST_WAITING: u32 = 1 << 16;

/// The payments of one process. Cheap to clone.
#[derive(Clone)]
pub struct Payments(Arc<Inner>);

struct Inner {
    parts: Parts,
    refund_due: Counter,
}

/// What payments are made of.
#[derive(Debug, Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub inventory: Arc<dyn Inventory>,
    pub epochs: Epochs,
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
}

/// What a provider's notice says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    Paid(PaymentEvent),
    /// Another state of the payment, which changes nothing here.
    Other,
}

/// The signature is not the provider's, or not of now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("no callback secret is configured, so no callback can be believed")]
    NoSecret,
    #[error("the Rushgate-Signature header is missing, or not of the form t=…,v1=…")]
    Malformed,
    #[error("the signature's time is too far from now")]
    Stale,
    #[error("the signature does not match the body")]
    Wrong,
}

impl fmt::Debug for Payments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payments").field("settings", &self.0.parts.settings).finish_non_exhaustive()
    }
}

impl Payments {
    pub fn new(parts: Parts, meters: &Meters) -> Self {
        let refund_due = meters.counter("rushgate_refund_due_total", &[]);
        Self(Arc::new(Inner { parts, refund_due }))
    }

    pub fn provider(&self) -> PaymentProvider {
        self.0.parts.settings.provider
    }

    /// Pays an order in the sandbox, where everybody has enough money. Paying it again is the same payment.
    pub async fn pay_in_sandbox(&self, order: &Order) -> Result<PaymentOutcome, Fault> {
        let event = PaymentEvent { id: format!("sandbox-{}", order.id), order: order.id, paid: order.price };
        self.apply(&event).await
    }

    /// Is this notice, byte by byte, the provider's and of now?
    pub fn verify(&self, signature: Option<&str>, body: &[u8]) -> Result<(), BadSignature> {
        let secret = &self.0.parts.settings.callback_secret.0;
        if secret.is_empty() {
            return Err(BadSignature::NoSecret);
        }
        verify(secret, signature.ok_or(BadSignature::Malformed)?, body, self.0.parts.clock.now())
    }

    /// Lets the store decide about a payment; of one that comes too late, after the inventory was asked for its units. If that cannot
    /// be known now, it is [`PaymentOutcome::Late`], and kept. The same event gets the same outcome again.
    pub async fn apply(&self, event: &PaymentEvent) -> Result<PaymentOutcome, Fault> {
        let judged = self.0.parts.store.pay(event, self.0.parts.settings.grace).await?;
        let outcome = self.counted(event, judged);
        let PaymentOutcome::Late(row) = outcome else { return Ok(outcome) };
        match self.settle(event, &row.order.sale).await {
            Ok(Some(settled)) => Ok(settled),
            // It is kept, whatever hinders its verdict.
            Ok(None) => Ok(PaymentOutcome::Late(row)),
            Err(fault) => {
                tracing::warn!(event = event.id, %fault, "a late payment is not settled yet");
                Ok(PaymentOutcome::Late(row))
            }
        }
    }

    /// Asks the inventory for a late payment's units, and tells the store what it said. `None`: it still waits.
    async fn settle(&self, event: &PaymentEvent, sale: &SaleId) -> Result<Option<PaymentOutcome>, Fault> {
        let Parts { store, inventory, epochs, .. } = &self.0.parts;
        let Ok(scope) = epochs.of_sale(sale) else { return Ok(None) };
        let claim = match inventory.revive(scope, event.order).await {
            Ok(Revived::Taken) => LateClaim::Taken(scope),
            Ok(Revived::Refused) => LateClaim::Refused,
            Err(fault) => {
                epochs.report(scope, &fault);
                tracing::warn!(%scope, event = event.id, %fault, "the units of a late payment cannot be asked for");
                return Ok(None);
            }
        };
        crash::reach(CrashPoint::LateRevived);
        let outcome = self.counted(event, store.settle_late(&event.id, claim).await?);
        Ok(Some(outcome).filter(|outcome| !matches!(outcome, PaymentOutcome::Late(_))))
    }

    /// Settles at most so many late payments. Returns how many still wait.
    async fn settle_some(&self, limit: u32) -> Result<u32, Fault> {
        let mut waiting = 0;
        for LatePayment { event, sale } in self.0.parts.store.late_payments(limit).await? {
            if self.settle(&event, &sale).await?.is_none() {
                waiting += 1;
            }
        }
        Ok(waiting)
    }

    /// Counts a payment that is to be given back, once: a provider's repetition is none.
    fn counted(&self, event: &PaymentEvent, Judged { outcome, is_new }: Judged) -> PaymentOutcome {
        if let (true, PaymentOutcome::RefundDue(_) | PaymentOutcome::Mismatch { .. }) = (is_new, &outcome) {
            self.0.refund_due.increment(1);
            tracing::warn!(event = event.id, order = %event.order, "a payment is to be given back");
        }
        outcome
    }
}

/// Settles late payments that wait, until the shutdown. Several may do so at once.
pub async fn keep_settling(payments: Payments, shutdown: Shutdown) {
    let mut waiting = 0;
    while !shutdown.sleep(SETTLE_INTERVAL).await {
        match payments.settle_some(LATE_LIMIT + waiting).await {
            Ok(still) => waiting = still.min(MOST_WAITING),
            Err(fault) => tracing::warn!(%fault, "late payments are not settled"),
        }
    }
}

impl Notice {
    /// Reads a notice. What a provider adds to it is passed over.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<Invalid>> {
        let notice: Value = serde_json::from_slice(body).map_err(|error| vec![Invalid::new("", error)])?;
        let mut wrong = Vec::new();
        let status = text(&notice, "/status", &mut wrong);
        if status.is_some_and(|status| status != "paid") {
            return Ok(Self::Other);
        }
        let id = text(&notice, "/event", &mut wrong).filter(|id| {
            let fits = (1..=MAX_EVENT_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
            if !fits {
                wrong.push(Invalid::new("/event", format!("must be 1 to {MAX_EVENT_ID} visible ASCII characters")));
            }
            fits
        });
        let order = parsed::<OrderId>(text(&notice, "/order", &mut wrong), "/order", &mut wrong);
        let currency = parsed::<Currency>(text(&notice, "/currency", &mut wrong), "/currency", &mut wrong);
        let amount = notice["amount"].as_i64();
        if amount.is_none() {
            wrong.push(Invalid::new("/amount", "must be a whole number of the currency's smallest unit"));
        }
        match (id, order, amount, currency) {
            (Some(id), Some(order), Some(amount), Some(currency)) if wrong.is_empty() => {
                Ok(Self::Paid(PaymentEvent { id: id.to_owned(), order, paid: Money { amount, currency } }))
            }
            _ => Err(wrong),
        }
    }
}

/// The header that makes a body a notice of this time.
pub fn sign(secret: &str, at: UnixMillis, body: &[u8]) -> String {
    let seconds = at.0.div_euclid(1000);
    let digest = mac(secret, &seconds.to_string(), body).finalize().into_bytes();
    format!("t={seconds},v1={}", hex::encode(digest))
}

/// Is this the header of a body that was signed with this secret, within [`TOLERANCE`] of now? Takes the same time for every wrong
/// signature.
pub fn verify(secret: &str, header: &str, body: &[u8], now: UnixMillis) -> Result<(), BadSignature> {
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=').ok_or(BadSignature::Malformed)? {
            ("t", text) if time.is_none() => time = Some(text),
            ("v1", text) if signatures.len() < MAX_SIGNATURES => signatures.push(text),
            ("t" | "v1", _) => return Err(BadSignature::Malformed),
            // A scheme that comes after this one.
            _ => {}
        }
    }
    let time = time.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let time = time.ok_or(BadSignature::Malformed)?;
    let at = time.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000)).ok_or(BadSignature::Malformed)?;
    if signatures.is_empty() {
        return Err(BadSignature::Malformed);
    }
    if u128::from(at.abs_diff(now.0)) > TOLERANCE.as_millis() {
        return Err(BadSignature::Stale);
    }
    let expected = mac(secret, time, body);
    let matches = |signature: &&str| {
        let mut digest = [0; 32];
        hex::decode_to_slice(signature, &mut digest).is_ok() && expected.clone().verify_slice(&digest).is_ok()
    };
    if signatures.iter().any(matches) { Ok(()) } else { Err(BadSignature::Wrong) }
}

fn mac(secret: &str, time: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

fn text<'a>(notice: &'a Value, at: &str, wrong: &mut Vec<Invalid>) -> Option<&'a str> {
    let text = notice.pointer(at).and_then(Value::as_str);
    if text.is_none() {
        wrong.push(Invalid::new(at, "must be a text"));
    }
    text
}

fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
    text: Option<&str>,
    at: &str,
    wrong: &mut Vec<Invalid>,
) -> Option<T> {
    text?.parse().map_err(|error| wrong.push(Invalid::new(at, error))).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "whsec";
    const NOW: UnixMillis = UnixMillis(1_795_262_400_500);
    const BODY: &[u8] = br#"{"event":"e-1","order":"abababababababababababababababab","amount":55350,"currency":"CNY","status":"paid"}"#;

    #[test]
    fn what_was_signed_is_believed() {
        assert_eq!(verify(SECRET, &sign(SECRET, NOW, BODY), BODY, NOW), Ok(()));
    }

    #[test]
    fn a_known_signature_stays_the_same() {
        let header = sign("secret", UnixMillis(1_000_000), b"{}");
        assert_eq!(header, "t=1000,v1=026360fb6284f077f1148b1ae7c62679730497810a6a0321574de01e8b009e7a");
    }

    #[test]
    fn a_changed_body_or_another_secret_is_not_believed() {
        let header = sign(SECRET, NOW, BODY);
        for bit in 0..BODY.len() * 8 {
            let mut changed = BODY.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(SECRET, &header, &changed, NOW), Err(BadSignature::Wrong));
        }
        assert_eq!(verify("other", &header, BODY, NOW), Err(BadSignature::Wrong));
    }

    #[test]
    fn a_time_that_was_moved_is_not_believed() {
        let header = sign(SECRET, NOW, BODY).replace("t=1795262400", "t=1795262401");
        assert_eq!(verify(SECRET, &header, BODY, NOW), Err(BadSignature::Wrong));
    }

    #[test]
    fn a_notice_is_good_for_five_minutes_either_way() {
        let signed = UnixMillis(NOW.0 - NOW.0 % 1000);
        let header = sign(SECRET, signed, BODY);
        for (later, expected) in [
            (300_000, Ok(())),
            (-300_000, Ok(())),
            (300_001, Err(BadSignature::Stale)),
            (-300_001, Err(BadSignature::Stale)),
        ] {
            assert_eq!(verify(SECRET, &header, BODY, UnixMillis(signed.0 + later)), expected, "{later}");
        }
    }

    #[test]
    fn one_good_signature_of_several_is_enough() {
        let good = sign(SECRET, NOW, BODY);
        let (time, v1) = good.split_once(',').unwrap();
        let both = format!("{time},v1={},{v1},v2=later", "0".repeat(64));
        assert_eq!(verify(SECRET, &both, BODY, NOW), Ok(()));
    }

    #[test]
    fn odd_headers_are_malformed() {
        let many = format!("t=1{}", ",v1=00".repeat(MAX_SIGNATURES + 1));
        let odd =
            ["", "t", "t=1", "v1=00", "t=,v1=00", "t=-1,v1=00", "t=1,t=2,v1=00", "t=99999999999999999999,v1=00", &many];
        for header in odd {
            assert_eq!(verify(SECRET, header, BODY, NOW), Err(BadSignature::Malformed), "{header}");
        }
    }

    #[test]
    fn a_notice_is_read() {
        let event = PaymentEvent {
            id: "e-1".to_owned(),
            order: OrderId([0xab; 16]),
            paid: Money { amount: 55350, currency: Currency::CNY },
        };
        assert_eq!(Notice::parse(BODY), Ok(Notice::Paid(event)));
        assert_eq!(Notice::parse(br#"{"event":"e","order":"x","status":"failed","more":1}"#), Ok(Notice::Other));
    }

    #[test]
    fn all_that_is_wrong_with_a_notice_is_said_at_once() {
        let body = br#"{"event":"a b","order":"x","amount":1.5,"currency":"cny","status":"paid"}"#;
        let at: Vec<_> = Notice::parse(body).unwrap_err().into_iter().map(|invalid| invalid.at).collect();
        assert_eq!(at, ["/event", "/order", "/currency", "/amount"]);
        assert_eq!(Notice::parse(b"{}").unwrap_err().len(), 5);
    }

    proptest! {
        #[test]
        fn no_header_and_no_notice_can_break_it(header in ".{0,80}", body in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(verify(SECRET, &header, &body, NOW).is_err());
            let _ = Notice::parse(&body);
        }
    }
}
