//! The terminal: keys in, pictures out, and its own state given back however it ends.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::admin::client::Client;
use crate::cli::top::picture::{Key, Picture};
use crate::cli::top::{RETRY, draw, next};
use crate::cli::{Exit, Failure};

/// Between two looks at the keys.
const KEYS: Duration = Duration::from_millis(50);

/// Gives the terminal back when it is dropped; a panic gives it back before it tells.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows pictures until a key or a signal ends it.
pub(super) async fn run(client: &Client) -> Result<Exit, Failure> {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let mut picture = Picture::new(!is_plain);
    let (mut terminated, mut hung_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut screen = Screen(ratatui::try_init()?);
    let mut keys = tokio::time::interval(KEYS);
    keys.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut coming = Box::pin(next(client, None, Duration::ZERO));
    screen.0.draw(|frame| draw::draw(frame, &picture))?;
    loop {
        let is_new = tokio::select! {
            biased;
            _ = terminated.recv() => return Ok(Exit::Done),
            _ = hung_up.recv() => return Ok(Exit::Done),
            _ = interrupted.recv() => return Ok(Exit::Done),
            _ = keys.tick() => match pressed(&mut picture)? {
                Pressed::Nothing => false,
                Pressed::Something => true,
                Pressed::Quit => return Ok(Exit::Done),
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
            screen.0.draw(|frame| draw::draw(frame, &picture))?;
        }
    }
}

enum Pressed {
    Nothing,
    Something,
    Quit,
}

/// Takes all that was typed since; a terminal of another size is drawn anew.
fn pressed(picture: &mut Picture) -> io::Result<Pressed> {
    let mut pressed = Pressed::Nothing;
    while event::poll(Duration::ZERO)? {
        pressed = Pressed::Something;
        let Event::Key(key) = event::read()? else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Ok(Pressed::Quit),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(Pressed::Quit),
            KeyCode::Down | KeyCode::Right | KeyCode::Char('j') => picture.press(Key::Next),
            KeyCode::Up | KeyCode::Left | KeyCode::Char('k') => picture.press(Key::Previous),
            KeyCode::Char('p') => picture.press(Key::Hold),
            KeyCode::Char('?' | 'h') => picture.press(Key::Help),
            _ => {}
        }
    }
    Ok(pressed)
}
