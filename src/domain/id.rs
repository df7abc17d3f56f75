//! Names: parsed once at the door, printed back as they came.
//!
//! Every name is short visible text without spaces, so that it can stand in a key, a record line or a header without escapes.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Why a text is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {max} characters")]
    TooLong { max: usize },
    /// A text that stands for something else where names are written down.
    #[error("must not be {text:?}")]
    Reserved { text: &'static str },
    #[error("may contain only {allowed}")]
    OddCharacter { allowed: &'static str },
}

/// What stands in a record where there is no name.
pub(super) const NOBODY: &str = "-";
/// Names that are no names. The last two are steps in a path, which clients and proxies take before they ask.
const RESERVED: [&str; 3] = [NOBODY, ".", ".."];

fn check(text: &str, max: usize, allowed: &'static str, ok: fn(u8) -> bool) -> Result<(), BadId> {
    if let Some(text) = RESERVED.into_iter().find(|reserved| *reserved == text) {
        return Err(BadId::Reserved { text });
    }
    if text.is_empty() {
        return Err(BadId::Empty);
    }
    if text.len() > max {
        return Err(BadId::TooLong { max });
    }
    if text.bytes().all(ok) { Ok(()) } else { Err(BadId::OddCharacter { allowed }) }
}

fn slug(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn visible(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

fn visible_in_a_line(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'/' | b',')
}

const SLUG: &str = "letters, digits, '-', '_' and '.'";
const VISIBLE: &str = "visible ASCII characters";
const VISIBLE_IN_A_LINE: &str = "visible ASCII characters other than '/' and ','";

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr, $allowed:expr, $ok:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest that this name may be, in characters.
            pub const MAX_LEN: usize = $max;

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Is this text such a name?
            pub fn fits(text: &str) -> bool {
                check(text, Self::MAX_LEN, $allowed, $ok).is_ok()
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                check(text, Self::MAX_LEN, $allowed, $ok)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(/// A sale: an event, or one train run on one date.
    SaleId, 64, SLUG, slug);
name!(/// A pool inside a sale: a ticket tier, a seat class.
    PoolId, 32, SLUG, slug);
name!(/// A stop of a journey; the part between two adjacent stops is a leg.
    StopId, 32, SLUG, slug);
name!(/// A gateway or writer process.
    NodeId, 128, SLUG, slug);
name!(/// Who buys. The balancer, or the token, vouches for it.
    BuyerId, 128, VISIBLE, visible);
name!(/// Who travels; several may be on one order.
    PassengerId, 64, VISIBLE_IN_A_LINE, visible_in_a_line);
name!(/// An entry of a partition's outbox; later entries compare greater within one length.
    OutboxId, 64, SLUG, slug);
name!(/// What makes two requests of one buyer the same request.
    IdempotencyKey, 255, VISIBLE, visible);

/// The key of a deployment under which order ids are derived. It lives in the store, so that all nodes share it.
#[derive(Clone)]
pub struct OrderSecret {
    key: [u8; 32],
    /// The function after it has taken the key in, which is half of its work.
    keyed: Hmac<Sha256>,
}

impl OrderSecret {
    pub fn new(key: [u8; 32]) -> Self {
        let keyed = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).expect("HMAC takes a key of any length");
        Self { key, keyed }
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.key
    }
}

impl PartialEq for OrderSecret {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for OrderSecret {}

impl fmt::Debug for OrderSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrderSecret(…)")
    }
}

/// The id of an order: 128 bits, printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderId(pub [u8; 16]);

impl Hash for OrderId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (halves, _) = self.0.as_chunks();
        for half in halves {
            state.write_u64(u64::from_ne_bytes(*half));
        }
    }
}

/// Hashes what is made of an order's id, which is as good as random already: nobody without the secret can choose one.
#[derive(Debug, Clone, Copy, Default)]
pub struct ById(u64);

/// Builds [`ById`].
pub type BuildById = BuildHasherDefault<ById>;

impl Hasher for ById {
    fn finish(&self) -> u64 {
        // Tables look at the highest bits and at the lowest ones, and a hint has none of the highest.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }
}

impl OrderId {
    /// The first 128 bits of HMAC-SHA256(secret, sale, buyer, key).
    ///
    /// The same request on any node, any number of times, is the same order; and nobody can guess another's. The parts are
    /// separated by a byte that none of them can contain.
    pub fn derive(secret: &OrderSecret, sale: &SaleId, buyer: &BuyerId, key: &IdempotencyKey) -> Self {
        let mut mac = secret.keyed.clone();
        for part in [sale.as_str(), "\n", buyer.as_str(), "\n", key.as_str()] {
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

/// The first 48 bits of an order id: enough to say that an order is certainly not among some, not enough to say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderHint(pub u64);

impl OrderHint {
    /// How many of the id's hexadecimal digits it has.
    pub const DIGITS: usize = 12;
}

impl OrderId {
    pub fn hint(self) -> OrderHint {
        let mut first = [0; 8];
        first[2..].copy_from_slice(&self.0[..6]);
        OrderHint(u64::from_be_bytes(first))
    }
}

impl fmt::Display for OrderHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = Self::DIGITS)
    }
}

impl FromStr for OrderHint {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let odd = BadId::OddCharacter { allowed: "12 hexadecimal digits" };
        if text.len() != Self::DIGITS {
            return Err(odd);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| odd)
    }
}

impl OrderId {
    /// Its 32 digits, without a place on the heap.
    pub fn digits(self) -> OrderDigits {
        let mut digits = [0; 32];
        hex::encode_to_slice(self.0, &mut digits).expect("16 bytes have 32 digits");
        OrderDigits(digits)
    }
}

/// The text of an [`OrderId`].
#[derive(Debug, Clone, Copy)]
pub struct OrderDigits([u8; 32]);

impl OrderDigits {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are text")
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits().as_str())
    }
}

impl fmt::Debug for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for OrderId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(|_| BadId::OddCharacter { allowed: "32 hexadecimal digits" })?;
        Ok(Self(id))
    }
}

/// What a request asked for, in 64 bits: the same key with another fingerprint is another request under a used key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The first 64 bits of SHA-256 over the canonical text of the request.
    pub fn of(canonical: &str) -> Self {
        let digest = Sha256::digest(canonical.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(sale: &str, buyer: &str, key: &str) -> OrderId {
        let secret = OrderSecret::new([7; 32]);
        OrderId::derive(&secret, &sale.parse().unwrap(), &buyer.parse().unwrap(), &key.parse().unwrap())
    }

    #[test]
    fn the_same_request_is_the_same_order() {
        assert_eq!(derived("s", "b", "k"), derived("s", "b", "k"));
    }

    #[test]
    fn parts_of_an_order_id_do_not_run_into_each_other() {
        assert_ne!(derived("s", "bk", "k"), derived("s", "b", "kk"));
        assert_ne!(derived("sb", "b", "k"), derived("s", "bb", "k"));
    }

    #[test]
    fn an_order_id_reads_back_what_it_prints() {
        let id = derived("s", "b", "k");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 32);
    }

    #[test]
    fn a_hint_is_how_the_id_begins() {
        let id = derived("s", "b", "k");
        assert_eq!(id.hint().to_string(), id.to_string()[..OrderHint::DIGITS]);
        assert_eq!(id.hint().to_string().parse(), Ok(id.hint()));
    }

    #[test]
    fn odd_names_are_refused_with_the_reason() {
        assert_eq!("".parse::<SaleId>(), Err(BadId::Empty));
        assert_eq!("x".repeat(65).parse::<SaleId>(), Err(BadId::TooLong { max: 64 }));
        for odd in ["a b", "a\n", "ü", "a/b", "\u{0}"] {
            assert!(odd.parse::<SaleId>().is_err(), "{odd:?}");
        }
        assert!("auth0|1/2,3".parse::<BuyerId>().is_ok());
        assert!("a/b".parse::<PassengerId>().is_err());
        for step in [".", ".."] {
            assert_eq!(step.parse::<SaleId>(), Err(BadId::Reserved { text: step }), "it would be taken out of a path");
        }
        assert_eq!("-".parse::<PassengerId>(), Err(BadId::Reserved { text: "-" }), "it stands for nobody in a record");
    }
}
