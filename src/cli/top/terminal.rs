//! The terminal: keys in, pictures out, and its own state given back however it ends.

use std::io;
use std::mem::ManuallyDrop;
use std::thread;
use std::time::Duration;

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::client::Client;
use crate::cli::top::picture::{Key, Picture};
use crate::cli::top::{RETRY, draw, next};
use crate::cli::{Exit, Failure};

/// Keys that were typed and not taken yet.
const TYPED: usize = 64;

/// Gives the terminal back when it is dropped; a panic gives it back before it tells.
struct Lent;

impl Drop for Lent {
    fn drop(&mut self) {
        // Where it is gone there is nothing to give back, and nobody to tell.
        let _gone = ratatui::try_restore();
        let _gone = execute!(io::stdout(), Show);
    }
}

/// Shows pictures until a key or a signal ends it, or there is nothing any more to show them on.
pub(super) async fn run(client: &Client) -> Result<Exit, Failure> {
    match show(client).await {
        // Its signal may come a moment later than this, or not at all.
        Err(why) if why.raw_os_error() == Some(Errno::IO.raw_os_error()) => {}
        shown => shown?,
    }
    Ok(Exit::Done)
}

async fn show(client: &Client) -> io::Result<()> {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let mut picture = Picture::new(!is_plain);
    let (mut terminated, mut hung_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut interrupted = signal(SignalKind::interrupt())?;
    // Before it is taken: what fails half way is given back too.
    let _lent = Lent;
    // It complains where the terminal is gone, to that terminal, and that is a panic: it is given back by `Lent` alone.
    let mut screen = ManuallyDrop::new(ratatui::try_init()?);
    let mut events = events()?;
    let mut coming = Box::pin(next(client, None, Duration::ZERO));
    screen.draw(|frame| draw::draw(frame, &picture))?;
    loop {
        let is_new = tokio::select! {
            biased;
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            event = events.recv() => match event {
                Some(event) => {
                    if !heed(&event?, &mut picture) {
                        return Ok(());
                    }
                    true
                }
                None => return Ok(()),
            },
            (came, watch) = &mut coming => {
                let pause = if came.is_ok() { Duration::ZERO } else { RETRY };
                match came {
                    Ok(snapshot) => picture.learn(snapshot),
                    Err(why) => picture.lose(why.to_string()),
                }
                coming = Box::pin(next(client, watch, pause));
                true
            }
        };
        if is_new {
            screen.draw(|frame| draw::draw(frame, &picture))?;
        }
    }
}

/// Reads on a thread of its own, which ends with the process: reading from a terminal that is gone may never return.
fn events() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (typed, events) = mpsc::channel(TYPED);
    let read = move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if typed.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(events)
}

/// Takes what was typed; a terminal of another size is drawn anew. Returns whether it goes on.
fn heed(event: &Event, picture: &mut Picture) -> bool {
    let Event::Key(key) = event else { return true };
    if key.kind != KeyEventKind::Press {
        return true;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Down | KeyCode::Right | KeyCode::Char('j') => picture.press(Key::Next),
        KeyCode::Up | KeyCode::Left | KeyCode::Char('k') => picture.press(Key::Previous),
        KeyCode::Char('p') => picture.press(Key::Hold),
        KeyCode::Char('?' | 'h') => picture.press(Key::Help),
        _ => {}
    }
    true
}
