//! `rushgate serve`: runs the roles of this process.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Exit, Failure};
use crate::config::settings;
use crate::config::{Flag, Loaded};
use crate::cores::Cores;
use crate::reload::{Reloader, Source};
use crate::roles::{News, Server, Serving, Stopper};
use crate::supervisor::{Sockets, Supervisor};

/// Run; without a config, everything in one process, with a sample sale open.
///
/// A changed config is taken while it runs: when the file changes, on SIGHUP, by POST /admin/v1/reload. Flags and environment stay above the
/// file. All or nothing; `rushgate config explain KEY` says which keys need a restart. SIGTERM drains, a second one stops at once; where the
/// log goes to a terminal, SIGHUP does the same, for it means that the terminal is gone.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate serve
  rushgate serve --config config/writer.toml
  rushgate serve --config shop.toml --role gateway --listen 127.0.0.1:8081 --set shard.buffer=20%")]
pub(super) struct Serve {
    /// What this process does; above node.roles.
    #[arg(long)]
    role: Option<Role>,
    /// Where buyers come in; above http.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where operators come in; above admin.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Tell as one JSON document, when they listen, who serves where.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Gateway,
    Writer,
    All,
}

impl Serve {
    /// The settings that have a flag of their own.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let roles = self.role.map(|role| match role {
            Role::Gateway => "gateway".to_owned(),
            Role::Writer => "writer".to_owned(),
            Role::All => "gateway,writer".to_owned(),
        });
        let named = [
            ("--role", "node.roles", roles),
            ("--listen", "http.listen", self.listen.clone()),
            ("--admin-listen", "admin.listen", self.admin_listen.clone()),
        ];
        let given = named.into_iter().filter_map(|(name, path, value)| Some((name, path, value?)));
        given.map(|(name, path, value)| Flag { name: name.to_owned(), path: path.to_owned(), value }).collect()
    }

    pub(super) async fn run(self, loaded: Loaded, source: Source, handed: Sockets) -> Result<Exit, Failure> {
        // Whoever names no config wants to see something; whoever has one has sales of their own.
        let sample = source.sources.file.is_none();
        let is_gateway = loaded.settings.node.roles.contains(&settings::Role::Gateway);
        let cores = if is_gateway { Cores::start().context("starting the threads")? } else { Cores::default() };
        let server =
            Server::bind(loaded.settings, source, handed).await?.under(Supervisor::of_process()).on(cores.seats());
        heed_signals(server.stopper(), server.reloader())?;
        let in_time = server.run(sample, if self.json { tell_json } else { tell }).await;
        Ok(if in_time { Exit::Done } else { Exit::Failed })
    }
}

/// The first signal asks the process to stop, the second to stop where it is.
///
/// A hang-up stops a process whose terminal is gone. Any other wants the config read again; it must not end a node in the middle of a sale.
#[expect(
    clippy::disallowed_methods,
    reason = "a signal must be heard as long as the process is there, whatever it waits for"
)]
fn heed_signals(stopper: Stopper, reloader: Reloader) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let has_terminal = io::stderr().is_terminal();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => if !has_terminal {
                    reloader.ask();
                    continue;
                },
            }
            stopper.stop();
        }
    });
    Ok(())
}

/// Tells, on the standard output, what is served where.
fn tell(news: News<'_>) {
    let _reader_left = write_news(&mut io::stdout().lock(), news);
}

/// The same for a program: one document, and nothing after it.
fn tell_json(news: News<'_>) {
    let News::Serving(Serving { node, roles, public, admin }) = news else { return };
    let url = |address| format!("http://{address}");
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": node,
        "roles": names(roles),
        "public": public.map(url),
        "admin": url(*admin),
    });
    let mut out = io::stdout().lock();
    let _reader_left = writeln!(out, "{document:#}").and_then(|()| out.flush());
}

fn names(roles: &[settings::Role]) -> Vec<&'static str> {
    let name = |role: &settings::Role| match role {
        settings::Role::Gateway => "gateway",
        settings::Role::Writer => "writer",
    };
    roles.iter().map(name).collect()
}

fn write_news(out: &mut impl Write, news: News<'_>) -> io::Result<()> {
    match news {
        News::Serving(Serving { node, roles, public, admin }) => {
            writeln!(out, "rushgate {} · {node} · {}", env!("CARGO_PKG_VERSION"), names(roles).join(", "))?;
            if let Some(public) = public {
                writeln!(out, "public   http://{public}")?;
            }
            writeln!(out, "admin    http://{admin}")?;
        }
        News::SampleIsOpen { sale, public } => {
            writeln!(out, "\nA sample sale is open. Buy a ticket:\n")?;
            writeln!(out, "  curl -i http://{public}/v1/sales/{sale}/orders -H 'X-Buyer-Id: alice' \\")?;
            writeln!(out, "       -H 'Content-Type: application/json' -d '{{\"quantity\":1}}'\n")?;
            writeln!(out, "See what is left:\n\n  curl http://{public}/v1/sales/{sale}\n")?;
        }
    }
    out.flush()
}
