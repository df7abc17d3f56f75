//! The headers that nearly every request is asked about, found in one pass: a look into the map for each hashes as many names, and took two in
//! a hundred of the instructions of a refusal.

use hyper::HeaderMap;
use hyper::header::HeaderValue;

/// A header whose value is found in the pass. All others are looked for in the map: a request's future has no room for more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Buyer,
    ContentType,
    IdempotencyKey,
    RequestId,
}

/// What the headers of a request say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Headers<'a> {
    /// All of them.
    pub(super) map: &'a HeaderMap,
    /// By [`Name`].
    first: [Option<&'a HeaderValue>; Name::COUNT],
    /// A bit for each name that came more than once.
    repeated: u8,
    pub(super) has_content_encoding: bool,
    pub(super) has_transfer_encoding: bool,
}

impl Name {
    const COUNT: usize = Self::RequestId as usize + 1;
}

impl<'a> Headers<'a> {
    pub(super) fn of(map: &'a HeaderMap) -> Self {
        let first = [None; Name::COUNT];
        let mut headers = Self { map, first, repeated: 0, has_content_encoding: false, has_transfer_encoding: false };
        for (name, value) in map {
            match name.as_str() {
                "content-type" => headers.add(Name::ContentType, value),
                "x-buyer-id" => headers.add(Name::Buyer, value),
                "idempotency-key" => headers.add(Name::IdempotencyKey, value),
                "x-request-id" => headers.add(Name::RequestId, value),
                "content-encoding" => headers.has_content_encoding = true,
                "transfer-encoding" => headers.has_transfer_encoding = true,
                _ => {}
            }
        }
        headers
    }

    fn add(&mut self, name: Name, value: &'a HeaderValue) {
        match &mut self.first[name as usize] {
            Some(_) => self.repeated |= 1 << name as usize,
            first => *first = Some(value),
        }
    }

    /// Its value, or the first of several.
    pub(super) fn first(&self, name: Name) -> Option<&'a HeaderValue> {
        self.first[name as usize]
    }

    /// Its value, if it came once.
    pub(super) fn only(&self, name: Name) -> Option<&'a HeaderValue> {
        self.first(name).filter(|_| !self.is_repeated(name))
    }

    pub(super) fn is_repeated(&self, name: Name) -> bool {
        self.repeated & 1 << name as usize != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [(&str, Name); Name::COUNT] = [
        ("x-buyer-id", Name::Buyer),
        ("content-type", Name::ContentType),
        ("idempotency-key", Name::IdempotencyKey),
        ("x-request-id", Name::RequestId),
    ];
    const ENCODINGS: [&str; 2] = ["content-encoding", "transfer-encoding"];

    proptest! {
        #[test]
        fn the_pass_finds_what_the_map_does(sent in prop::collection::vec((0..7_usize, "[a-z]{0,3}"), 0..12)) {
            let mut map = HeaderMap::new();
            for (at, value) in sent {
                let name = NAMES.iter().map(|(name, _)| *name).chain(ENCODINGS).nth(at).unwrap_or("host");
                map.append(name, value.parse().unwrap());
            }
            let headers = Headers::of(&map);
            for (text, name) in NAMES {
                let all: Vec<_> = map.get_all(text).iter().collect();
                prop_assert_eq!(headers.first(name), all.first().copied());
                prop_assert_eq!(headers.only(name), (all.len() == 1).then(|| all[0]));
                prop_assert_eq!(headers.is_repeated(name), all.len() > 1);
            }
            let found = [headers.has_content_encoding, headers.has_transfer_encoding];
            prop_assert_eq!(found, ENCODINGS.map(|name| map.contains_key(name)));
        }
    }
}
