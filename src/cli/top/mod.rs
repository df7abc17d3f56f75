//! `rushgate top`: how a site stands, in a terminal.
//!
//! [`picture`] is what is known and `draw` how it looks; `terminal` is the loop that keeps both going.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::admin::client::{Client, ClientError, Watch};
use crate::admin::live::snapshot::Snapshot;
use crate::cli::remote::Remote;
use crate::cli::top::picture::{Link, Picture};
use crate::cli::{Exit, Failure};
use crate::config::Loaded;

mod draw;
mod picture;
mod terminal;

/// The size of a picture that is printed.
const WIDTH: u16 = 100;
const LEAST_HEIGHT: u16 = 24;
/// Between two tries to open a feed that was lost.
const RETRY: Duration = Duration::from_secs(1);

/// Show how a site stands, once a second: sales, nodes, claims, backends.
///
/// Asks a gateway's admin API. Keys: arrows choose a sale, p holds the picture, ? helps, q ends, as does a terminal that goes away. Colours only where `NO_COLOR` is not set.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate top
  rushgate top --admin http://10.0.0.1:9090
  rushgate top --once
  rushgate top --json | jq .claims")]
pub(super) struct Top {
    #[command(flatten)]
    remote: Remote,
    /// Print one picture as plain text, and end; so it is too where there is no terminal to draw on.
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        let client = self.remote.client(&loaded.settings)?;
        match (self.once, self.remote.json) {
            (true, json) => once(&client, json).await,
            (false, true) => lines(&client).await,
            (false, false) if io::stdout().is_terminal() && io::stdin().is_terminal() => terminal::run(&client).await,
            (false, false) => once(&client, false).await,
        }
    }
}

async fn once(client: &Client, json: bool) -> Result<Exit, Failure> {
    let snapshot = client.get("/admin/v1/live?once=true").await?;
    let text = if json { format!("{snapshot}\n") } else { plain(client.understand(&snapshot.to_string())?) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// Every snapshot on a line of its own, until whoever reads them has enough.
async fn lines(client: &Client) -> Result<Exit, Failure> {
    loop {
        let mut watch = client.watch().await?;
        while let Some(json) = watch.next().await? {
            match writeln!(io::stdout(), "{json}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
                written => written?,
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The picture of one snapshot, without colours.
fn plain(snapshot: Snapshot) -> String {
    let rows = snapshot.sales.len() + snapshot.nodes.len() + snapshot.claims.len();
    let height = u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(16).max(LEAST_HEIGHT);
    let mut picture = Picture::new(false);
    picture.learn(snapshot);
    picture.link = Link::Once;
    let Ok(mut terminal) = Terminal::new(TestBackend::new(WIDTH, height));
    let Ok(_drawn) = terminal.draw(|frame| draw::draw(frame, &picture));
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(WIDTH)).map(|row| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    let mut lines: Vec<_> = lines.collect();
    lines.dedup_by(|a, b| a.is_empty() && b.is_empty());
    lines.join("\n").trim_end().to_owned() + "\n"
}

/// The next snapshot of a feed, which is opened first where it is not, after a pause.
async fn next(
    client: &Client,
    watch: Option<Watch>,
    pause: Duration,
) -> (Result<Snapshot, ClientError>, Option<Watch>) {
    tokio::time::sleep(pause).await;
    let mut watch = watch;
    loop {
        let mut open = match watch.take() {
            Some(open) => open,
            None => match client.watch().await {
                Ok(open) => open,
                Err(error) => return (Err(error), None),
            },
        };
        match open.next().await {
            Ok(Some(json)) => return (client.understand(&json), Some(open)),
            // It ends in good order now and then, and is opened again.
            Ok(None) => {}
            Err(error) => return (Err(error), None),
        }
    }
}
