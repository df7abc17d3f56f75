//! A terminal of a test's own: what is typed there, what is shown there, and its end.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::ioctl_fionbio;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::run::{LONGEST, Ran};

/// Between two looks at what is shown.
const LOOK: Duration = Duration::from_millis(20);
/// What Ctrl-C types.
pub(crate) const CTRL_C: &[u8] = b"\x03";

/// The end at which a person would sit. Dropped, it is gone, as with a connection that breaks.
pub(crate) struct Terminal {
    person: File,
    seen: Vec<u8>,
}

/// How a program stands to its terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bond {
    /// As a shell starts it: it is told when the terminal goes away, and by Ctrl-C.
    Controlled,
    /// The same, but it is not to mind that the terminal goes away (`nohup`).
    Heedless,
    /// It only reads and writes there: that the terminal is gone it learns from that alone.
    Loose,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let person = openpt(flags()).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        ioctl_fionbio(&person, true).unwrap();
        tcsetwinsize(&person, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        Self { person: person.into(), seen: Vec::new() }
    }

    /// Starts this command here, with everything that it reads and writes.
    pub(crate) fn start(&self, command: &Command, bond: Bond) -> Child {
        let wrapped: &[&str] = match bond {
            // Also where the tests themselves were started not to mind.
            Bond::Controlled => &["--ctty", "env", "--default-signal=HUP"],
            Bond::Heedless => &["--ctty", "sh", "-c", "trap '' HUP; exec \"$@\"", "sh"],
            Bond::Loose => &[],
        };
        let command = command.as_std();
        // Each of these becomes the next one: it is one process from beginning to end.
        let mut here = Command::new("setsid");
        here.args(wrapped).arg(command.get_program()).args(command.get_args()).env("TERM", "xterm").kill_on_drop(true);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => here.env(name, value),
                None => here.env_remove(name),
            };
        }
        here.stdin(self.end()).stdout(self.end()).stderr(self.end()).spawn().unwrap()
    }

    fn end(&self) -> Stdio {
        let end: OwnedFd = ioctl_tiocgptpeer(&self.person, flags()).unwrap();
        end.into()
    }

    pub(crate) fn type_in(&mut self, keys: &[u8]) {
        self.person.write_all(keys).unwrap();
    }

    /// Waits until this has been shown.
    pub(crate) async fn shows(&mut self, what: &str) {
        let begun = Instant::now();
        while !self.seen().contains(what) {
            assert!(begun.elapsed() < LONGEST, "{what} is not shown:\n{}", self.seen());
            self.look();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks on until the program has ended.
    pub(crate) async fn ended(mut self, mut running: Child) -> Ran {
        let begun = Instant::now();
        let code = loop {
            let ended = running.try_wait().unwrap();
            // After its end once more: this is all that it has said.
            self.look();
            if let Some(status) = ended {
                break status.code();
            }
            assert!(begun.elapsed() < LONGEST, "it does not end:\n{}", self.seen());
            tokio::time::sleep(LOOK).await;
        };
        Ran::of(code, self.seen())
    }

    fn look(&mut self) {
        match self.person.read_to_end(&mut self.seen) {
            // Nobody is at the other end any more (EIO), or nothing is there to be read now.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(5) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

fn flags() -> OpenptFlags {
    OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC
}
