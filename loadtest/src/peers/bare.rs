//! The ceiling: hyper, reading the body and answering the same bytes.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::peers::cores::Cores;

/// Hyper alone.
#[derive(Debug, Args)]
pub(crate) struct Bare {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    status: u16,
    /// `name: value`, as often as there are headers.
    #[arg(long = "header")]
    headers: Vec<String>,
    #[arg(long)]
    body: String,
    /// A runtime for each core, as ours; otherwise one for all, as is usual.
    #[arg(long)]
    on_cores: bool,
}

impl Bare {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let status = StatusCode::from_u16(self.status)?;
        let headers: Vec<(HeaderName, HeaderValue)> =
            self.headers.iter().map(|text| header(text)).collect::<Result<_, _>>()?;
        let body = Bytes::from(self.body);
        let cores = if self.on_cores { Cores::start()? } else { Cores::default() };
        super::serve(self.listen, cores.seats(), move |request| {
            let (headers, body) = (headers.clone(), body.clone());
            async move {
                let _read = request.into_body().collect().await;
                let mut answer = Response::new(Full::new(body));
                *answer.status_mut() = status;
                answer.headers_mut().extend(headers);
                answer
            }
        })
        .await
    }
}

fn header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(": ").with_context(|| format!("{text:?} is no header"))?;
    Ok((name.parse()?, value.parse()?))
}
