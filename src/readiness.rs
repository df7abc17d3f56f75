//! Is this process fit for traffic? Named checks that are answered from memory: a load balancer asks often.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Answers without I/O: `Err` says why not.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is worth knowing about a process that is ready all the same, one line each. Answers without I/O.
type Note = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The checks of one process, in the order in which they were added. It is ready when all of them hold.
#[derive(Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
    notes: Vec<Note>,
}

/// The state of something that is looked at in the background, and read by a check. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Standing(Arc<ArcSwap<Result<(), String>>>);

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.checks.iter().map(|(name, check)| (name, check()))).finish()
    }
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that is answered from memory.
    pub fn with(mut self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks.push((name, Box::new(check)));
        self
    }

    /// Adds what a full answer names although the process is ready.
    pub fn with_note(mut self, note: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        self.notes.push(Box::new(note));
        self
    }

    /// Adds a check that is answered by what was last seen.
    pub fn with_standing(self, name: &'static str, standing: &Standing) -> Self {
        let standing = standing.clone();
        self.with(name, move || standing.get())
    }

    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|(_, check)| check().is_ok())
    }

    /// The first check that does not hold, with its reason, on one line.
    pub fn failing(&self) -> Option<String> {
        let failed = |(name, check): &(&str, Check)| check().err().map(|why| format!("{name}: {}", on_one_line(&why)));
        self.checks.iter().find_map(failed)
    }

    /// All checks and notes, a line each, and the verdict. A process that drains is not ready.
    pub fn list(&self, draining: bool) -> String {
        let mut text = String::new();
        let mut ready = !draining;
        let shutdown = ("shutdown", if draining { Err("draining".to_owned()) } else { Ok(()) });
        for (name, said) in self.checks.iter().map(|(name, check)| (*name, check())).chain([shutdown]) {
            ready &= said.is_ok();
            // Writing to a String cannot fail.
            let _ = match said {
                Ok(()) => writeln!(text, "[+]{name} ok"),
                Err(why) => writeln!(text, "[-]{name}: {}", on_one_line(&why)),
            };
        }
        for note in self.notes.iter().flat_map(|note| note()) {
            let _ = writeln!(text, "[!]{}", on_one_line(&note));
        }
        text.push_str(if ready { "ready\n" } else { "not ready\n" });
        text
    }
}

/// Whatever a reason holds.
fn on_one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

impl Standing {
    /// Not fit until something is seen.
    pub fn not_seen() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Err("not looked at yet".to_owned()))))
    }

    pub fn set(&self, seen: Result<(), String>) {
        self.0.store(Arc::new(seen));
    }

    pub fn get(&self) -> Result<(), String> {
        (**self.0.load()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_check_holds() {
        let store = Standing::not_seen();
        let readiness = Readiness::new().with("inventory", || Ok(())).with_standing("store", &store);
        assert!(!readiness.is_ready());
        store.set(Ok(()));
        assert!(readiness.is_ready());
        store.set(Err("gone".to_owned()));
    }

    #[test]
    fn each_check_and_each_note_is_a_line() {
        let readiness =
            Readiness::new().with("inventory", || Ok(())).with("store", || Err("gone\nfor good".to_owned()));
        let list = "[+]inventory ok\n[-]store: gone for good\n[+]shutdown ok\nnot ready\n";
        assert_eq!(readiness.list(false), list);
        assert_eq!(readiness.failing().as_deref(), Some("store: gone for good"));
        let readiness =
            Readiness::new().with("inventory", || Ok(())).with_note(|| vec!["partition 1 is out".to_owned()]);
        assert_eq!(readiness.list(false), "[+]inventory ok\n[+]shutdown ok\n[!]partition 1 is out\nready\n");
        assert!(readiness.is_ready() && readiness.failing().is_none(), "a note is no reason");
        assert!(readiness.list(true).ends_with("[-]shutdown: draining\n[!]partition 1 is out\nnot ready\n"));
    }
}
