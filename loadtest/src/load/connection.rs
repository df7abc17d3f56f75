//! One keep-alive connection: a request out, its whole answer in. No pipelining.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than any answer of the peers.
const BUFFER: usize = 16 * 1024;
const HEADERS: usize = 32;

pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// An answer as the tally wants it: the status, and the `code` of a problem.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) code: &'a str,
}

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER], filled: 0 })
    }

    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.filled += read;
            if let Some((status, body)) = whole(&self.buffer[..self.filled])? {
                let body = &self.buffer[body..self.filled];
                return Ok(Answer { status, code: code(status, body) });
            }
        }
    }
}

/// The status and where the body begins, once all of the answer is there.
fn whole(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let odd = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes).map_err(|error| odd(&error.to_string()))? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(None),
    };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length = length.ok_or_else(|| odd("an answer without a length"))?;
    Ok((bytes.len() >= head + length).then_some((response.code.unwrap_or_default(), head)))
}

/// What a refusal says; nothing for what is none.
fn code(status: u16, body: &[u8]) -> &str {
    const FIELD: &[u8] = b"\"code\":\"";
    if status < 300 {
        return "";
    }
    let Some(at) = memchr::memmem::find(body, FIELD) else { return "" };
    let rest = &body[at + FIELD.len()..];
    let end = memchr::memchr(b'"', rest).unwrap_or(0);
    std::str::from_utf8(&rest[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 409 Conflict\r\nContent-Length: 19\r\n\r\n{\"code\":\"sold_out\"}";
        for cut in 0..answer.len() {
            assert_eq!(whole(&answer[..cut]).unwrap(), None, "{cut}");
        }
        let (status, body) = whole(answer).unwrap().unwrap();
        assert_eq!((status, code(status, &answer[body..])), (409, "sold_out"));
    }
}
