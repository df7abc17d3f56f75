//! How many claims one buyer, and one address, may send per second. The two are counted apart.
//!
//! Keys are hashes, so that an entry has one size whatever a client sends, and the table of [`Limiter`] has one size whoever comes.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::config::live;
use crate::config::settings::Http as Settings;
use crate::domain::BuyerId;
use crate::http::gcra::Limiter;
use crate::http::problem::{Code, Problem};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The rates of one listener.
pub(super) struct Rates {
    per_buyer: Limiter,
    per_address: Limiter,
    hasher: RandomState,
    proxies: Vec<IpNet>,
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

impl Rates {
    /// `Err` is the entry of `trusted_proxies` that is neither a network nor an address.
    pub(super) fn new(settings: &Settings, live: &live::Http) -> Result<Self, String> {
        let network = |text: &String| match text.parse::<IpNet>() {
            Ok(network) => Ok(network),
            Err(_) => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| text.clone()),
        };
        Ok(Self {
            per_buyer: Limiter::new(live.claims_per_buyer.clone()),
            per_address: Limiter::new(live.claims_per_address.clone()),
            hasher: RandomState::new(),
            proxies: settings.trusted_proxies.iter().map(network).collect::<Result<_, _>>()?,
        })
    }

    /// Counts a claim of this buyer.
    pub(super) fn buyer(&self, buyer: &BuyerId, now: Instant) -> Result<(), Problem> {
        if self.per_buyer.is_off() {
            return Ok(());
        }
        counted(self.per_buyer.count(self.hasher.hash_one(buyer.as_str()), now))
    }

    /// Counts a claim from the client's address.
    pub(super) fn address(&self, peer: IpAddr, headers: &HeaderMap, now: Instant) -> Result<(), Problem> {
        if self.per_address.is_off() {
            return Ok(());
        }
        counted(self.per_address.count(self.hasher.hash_one(network_of(self.client(peer, headers))), now))
    }

    /// The address of the client: the first from the right that is no proxy of ours. What stands left of it anybody can write.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.proxies.is_empty() {
            return client;
        }
        let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut hops = values.iter().rev().flat_map(|value| value.rsplit(','));
        while self.proxies.iter().any(|network| network.contains(&client)) {
            match hops.next().and_then(address) {
                Some(hop) => client = hop,
                None => break,
            }
        }
        client
    }
}

fn counted(count: Result<(), Duration>) -> Result<(), Problem> {
    count.map_err(|wait| {
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        Problem::from(Code::RateLimited).retry_after(seconds)
    })
}

/// A hop as proxies write it: an address, perhaps with a port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address = hop.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(with_port).or_else(in_brackets).map(|address: IpAddr| address.to_canonical())
}

/// One client has one IPv4 address, but a whole /64 of IPv6.
fn network_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn rates(per_buyer: u32, per_address: u32, proxies: &[&str]) -> Rates {
        let settings = Settings {
            claims_per_buyer: per_buyer,
            claims_per_address: per_address,
            trusted_proxies: proxies.iter().map(ToString::to_string).collect(),
            ..Settings::default()
        };
        Rates::new(&settings, &live::Http::from(&settings)).unwrap()
    }

    fn forwarded(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (FORWARDED_FOR, HeaderValue::from_str(value).unwrap())).collect()
    }

    fn client(proxies: &[&str], peer: &str, values: &[&str]) -> String {
        rates(0, 1, proxies).client(peer.parse().unwrap(), &forwarded(values)).to_string()
    }

    #[test]
    fn a_buyer_may_send_so_many_claims_at_once() {
        let (rates, now) = (rates(3, 0, &[]), Instant::now());
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(rates.buyer(&one, now), Ok(()));
        }
        let problem = rates.buyer(&one, now).unwrap_err();
        assert_eq!((problem.code, problem.retry_after), (Code::RateLimited, Some(1)));
        assert_eq!(rates.buyer(&other, now), Ok(()));
    }

    #[test]
    fn zero_is_no_limit() {
        let (rates, now) = (rates(0, 0, &[]), Instant::now());
        for _ in 0..1000 {
            assert_eq!(rates.buyer(&"b".parse().unwrap(), now), Ok(()));
            assert_eq!(rates.address([127, 0, 0, 1].into(), &HeaderMap::new(), now), Ok(()));
        }
    }

    #[test]
    fn a_forged_forwarded_for_does_not_move_the_client() {
        assert_eq!(client(&[], "203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(client(&["10.0.0.0/8"], "203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["1.2.3.4, 203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn hops_are_read_from_the_right_through_our_proxies() {
        let proxies = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"];
        assert_eq!(client(&proxies, "127.0.0.1", &["6.6.6.6, 203.0.113.9, 10.1.2.3"]), "203.0.113.9");
        assert_eq!(client(&proxies, "::ffff:127.0.0.1", &["6.6.6.6", "203.0.113.9:4711 , fd00::1"]), "203.0.113.9");
        assert_eq!(client(&proxies, "fd00::2", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(client(&proxies, "127.0.0.1", &["10.0.0.9"]), "10.0.0.9");
        assert_eq!(client(&proxies, "127.0.0.1", &["203.0.113.9, odd"]), "127.0.0.1");
        assert_eq!(client(&proxies, "127.0.0.1", &[]), "127.0.0.1");
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let (rates, now) = (rates(0, 2, &[]), Instant::now());
        for (address, expected) in
            [("2001:db8::1", true), ("2001:db8::ffff", true), ("2001:db8::2", false), ("2001:db8:0:1::1", true)]
        {
            let counted = rates.address(address.parse().unwrap(), &HeaderMap::new(), now);
            assert_eq!(counted.is_ok(), expected, "{address}");
        }
    }

    #[test]
    fn an_odd_proxy_is_named() {
        let settings = Settings { trusted_proxies: vec!["10.0.0.0/33".to_owned()], ..Settings::default() };
        assert_eq!(Rates::new(&settings, &live::Http::from(&settings)).unwrap_err(), "10.0.0.0/33");
    }

    proptest! {
        #[test]
        fn no_header_can_break_it(value in "[ -~]{0,60}") {
            rates(0, 1, &["127.0.0.0/8"]).client([127, 0, 0, 1].into(), &forwarded(&[&value]));
        }
    }
}
