//! The broker's first words, which have its version, and which the client library keeps to itself.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::finding::{Findings, remedy};
use crate::reach::Stream;

const OLDEST: (u64, u64) = (3, 10);
/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// They have a page of what the broker can do.
const MAX_GREETING: usize = 64 * 1024;

/// Hears the broker's first words, which have its version. Returns whether it is a broker.
pub(super) async fn greet(findings: &mut Findings, stream: &mut Box<dyn Stream>) -> bool {
    let why = "nothing is granted that cannot be published";
    match timeout(PATIENCE, greeting(stream)).await {
        Err(_) => {
            let mend = "it is starting, frozen, or out of file descriptors: rabbitmq-diagnostics check_running; its \
                        log tells which";
            findings.wrong(
                "answers",
                format!("it takes connections and says nothing within {PATIENCE:?}"),
                remedy(why, mend),
            );
            false
        }
        Ok(Err(error)) => {
            let mend =
                "is it RabbitMQ that listens there, and on this port without TLS? rabbitmq-diagnostics listeners";
            findings.wrong("answers", format!("it does not speak AMQP 0-9-1: {error}"), remedy(why, mend));
            false
        }
        Ok(Ok(words)) => {
            version(findings, &words);
            true
        }
    }
}

/// The payload of the frame that begins a connection.
async fn greeting(stream: &mut Box<dyn Stream>) -> std::io::Result<Vec<u8>> {
    let odd = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    // A method, on the connection's own channel.
    if head[..3] != [1, 0, 0] || size > MAX_GREETING {
        return Err(odd("its first words are none of a broker"));
    }
    let mut words = vec![0; size];
    stream.read_exact(&mut words).await?;
    // connection.start
    if words.starts_with(&[0, 10, 0, 10]) { Ok(words) } else { Err(odd("it does not begin a connection")) }
}

/// A text of the table in the greeting: its name, its type, its length in four bytes, itself.
fn property(words: &[u8], name: &str) -> Option<String> {
    let mut mark = vec![u8::try_from(name.len()).ok()?];
    mark.extend_from_slice(name.as_bytes());
    mark.push(b'S');
    let at = words.windows(mark.len()).position(|window| window == mark)? + mark.len();
    let length = u32::from_be_bytes(words.get(at..at + 4)?.try_into().ok()?) as usize;
    let text = words.get(at + 4..at.checked_add(4 + length)?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn version(findings: &mut Findings, words: &[u8]) {
    let product = property(words, "product").unwrap_or_else(|| "a broker".to_owned());
    let Some(version) = property(words, "version") else {
        return findings.unknown("version", format!("{product} does not tell it"));
    };
    let mut numbers = version.split('.').filter_map(|number| number.parse::<u64>().ok());
    let found = format!("{product} {version}");
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        let (major, minor) = OLDEST;
        let why = format!("quorum queues do what is asked of them from {major}.{minor} on");
        findings.wrong("version", found, remedy(why, "upgrade the broker"));
    } else {
        findings.ok("version", found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_of_the_greeting_is_found_and_a_torn_one_is_not() {
        let words = b"\x00\x0a\x00\x0a..\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x064.1.10rest";
        assert_eq!(property(words, "product").as_deref(), Some("RabbitMQ"));
        assert_eq!(property(words, "version").as_deref(), Some("4.1.10"));
        assert_eq!(property(words, "platform"), None);
        assert_eq!(property(b"\x07versionS\x00\x00\x00\x064.1", "version"), None);
        assert_eq!(property(b"\x07versionS\xff\xff\xff\xff4.1", "version"), None);
    }
}
