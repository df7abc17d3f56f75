//! Is this process fit for traffic? Named checks that are answered from memory: a load balancer asks often.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Answers without I/O: `Err` says why not.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks of one process, in the order in which they were added. It is ready when all of them hold.
#[derive(Default)]
pub struct Readiness(Vec<(&'static str, Check)>);

/// The state of something that is looked at in the background, and read by a check. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Standing(Arc<ArcSwap<Result<(), String>>>);

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, check)| (name, check()))).finish()
    }
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that is answered from memory.
    pub fn with(mut self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.0.push((name, Box::new(check)));
        self
    }

    /// Adds a check that is answered by what was last seen.
    pub fn with_standing(self, name: &'static str, standing: &Standing) -> Self {
        let standing = standing.clone();
        self.with(name, move || standing.get())
    }

    pub fn is_ready(&self) -> bool {
        self.0.iter().all(|(_, check)| check().is_ok())
    }

    /// What every check says.
    pub fn checks(&self) -> impl Iterator<Item = (&'static str, Result<(), String>)> {
        self.0.iter().map(|(name, check)| (*name, check()))
    }
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
        let said: Vec<_> = readiness.checks().collect();
        assert_eq!(said, [("inventory", Ok(())), ("store", Err("gone".to_owned()))]);
    }
}
