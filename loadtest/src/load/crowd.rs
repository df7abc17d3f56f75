//! Who asks for what: the requests of one connection, one after another.

use std::io::Write as _;

use clap::Args;

/// Requests that a connection remembers, to repeat one of them.
const REMEMBERED: usize = 64;

/// What the crowd asks for.
#[derive(Debug, Clone, Args)]
pub(crate) struct Crowd {
    /// The sales that are asked for, at random; none: `get` is asked for instead.
    #[arg(long, value_delimiter = ',')]
    pub(crate) sales: Vec<String>,
    /// The body of a claim.
    #[arg(long, default_value = r#"{"quantity":1}"#)]
    pub(crate) body: String,
    /// How many of a hundred requests are the same as an earlier one.
    #[arg(long, default_value_t = 0)]
    pub(crate) repeats: u32,
    /// What the buyers' names begin with: another run, other buyers.
    #[arg(long, default_value = "b")]
    pub(crate) prefix: String,
    /// The path of a plain GET, for peers that have no claims.
    #[arg(long, default_value = "/")]
    pub(crate) get: String,
}

/// Everybody who comes over one connection.
pub(super) struct Visitor {
    pub(super) chance: fastrand::Rng,
    crowd: Crowd,
    connection: usize,
    came: u64,
    request: Vec<u8>,
    /// Sales and buyers of earlier requests.
    earlier: Vec<(usize, u64)>,
}

impl Crowd {
    pub(super) fn visitor(&self, connection: usize, seed: u64) -> Visitor {
        let mut request = Vec::with_capacity(1024);
        if self.sales.is_empty() {
            let _ = write!(request, "GET {} HTTP/1.1\r\nHost: bench.example\r\n\r\n", self.get);
        }
        Visitor {
            chance: fastrand::Rng::with_seed(seed ^ ((connection as u64) << 32)),
            crowd: self.clone(),
            connection,
            came: 0,
            request,
            earlier: Vec::new(),
        }
    }
}

impl Visitor {
    /// The next request: a new buyer with a key of their own, or one of the last ones once more.
    pub(super) fn next_request(&mut self) -> &[u8] {
        if self.crowd.sales.is_empty() {
            return &self.request;
        }
        let again = self.crowd.repeats > 0 && !self.earlier.is_empty() && self.chance.u32(..100) < self.crowd.repeats;
        let (sale, buyer) = if again {
            self.earlier[self.chance.usize(..self.earlier.len())]
        } else {
            self.came += 1;
            let fresh = (self.chance.usize(..self.crowd.sales.len()), self.came);
            if self.crowd.repeats > 0 {
                let at = usize::try_from(self.came).unwrap_or_default() % REMEMBERED;
                if at < self.earlier.len() { self.earlier[at] = fresh } else { self.earlier.push(fresh) }
            }
            fresh
        };
        let Crowd { sales, body, prefix, .. } = &self.crowd;
        let (sale, connection) = (&sales[sale], self.connection);
        self.request.clear();
        // Writing to a Vec cannot fail.
        let _ = write!(
            self.request,
            "POST /v1/sales/{sale}/orders HTTP/1.1\r\nHost: bench.example\r\nContent-Type: application/json\r\n\
             X-Buyer-Id: {prefix}-{connection}-{buyer}\r\nIdempotency-Key: {prefix}-{connection}-{buyer}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        &self.request
    }
}
