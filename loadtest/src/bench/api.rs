//! Ours, as its operators reach it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// An answer with its head, to have a peer answer the same.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("{self:?}"))
    }
}

/// One request over a connection of its own.
pub(super) async fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    (headers, body): (&str, &str),
) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) =
        text.split_once("\r\n\r\n").with_context(|| format!("no answer to {method} {path}: {text:?}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.get(9..12)).context("no status")?.parse()?;
    Ok(Answer { status, headers: lines.map(str::to_owned).collect(), body: body.to_owned() })
}

pub(super) async fn get(to: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    send(to, "GET", path, ("", "")).await
}

pub(super) async fn put(to: SocketAddr, path: &str, body: &Value) -> anyhow::Result<Answer> {
    send(to, "PUT", path, ("Content-Type: application/json\r\n", &body.to_string())).await
}

pub(super) async fn claim(to: SocketAddr, sale: &str, buyer: &str) -> anyhow::Result<Answer> {
    let headers = format!("Content-Type: application/json\r\nX-Buyer-Id: {buyer}\r\nIdempotency-Key: {buyer}\r\n");
    send(to, "POST", &format!("/v1/sales/{sale}/orders"), (&headers, r#"{"quantity":1}"#)).await
}

/// Looks again and again until there is something.
pub(super) async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let began = Instant::now();
    loop {
        let looked = look().await;
        if let Ok(Some(found)) = looked {
            return Ok(found);
        }
        let why = || looked.as_ref().err().map(ToString::to_string).unwrap_or_default();
        anyhow::ensure!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what} {}", why());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
