//! Has the file changed, and is whoever changes it done?
//!
//! It is looked at, ten times a second, and not waited for: one look is one call of the kernel, and it sees whatever a file can become. Editors
//! put a new file in the place of the old one, Kubernetes turns a link two folders above it, network and overlay file systems tell nobody,
//! and a watch on any of these is lost with what it was on. A watch would be sooner by a tenth of a second, and miss the rest.
//!
//! A file is taken when it has been the same for two looks, has not become empty, and is still the same once it is read: half a file may be a
//! right one that says something else. One that cannot be read is tried again each second: what is in the way may pass, as a want of file
//! descriptors does.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Sources;

/// Between two looks.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// So many looks it must have been the same.
const LOOKS: u32 = 2;
/// Between two attempts to read what cannot be read.
const RETRY: Duration = Duration::from_secs(1);

/// By what a file is known: where it is, how long it is, when it was last written and last changed in any way. `None`: it cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print(Option<[i128; 5]>);

impl Print {
    /// Links are followed to their end.
    pub(super) async fn of(path: &Path) -> Self {
        Self(tokio::fs::metadata(path).await.ok().map(|data| {
            let at = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
            let (written, changed) = (at(data.mtime(), data.mtime_nsec()), at(data.ctime(), data.ctime_nsec()));
            [data.dev().into(), data.ino().into(), data.size().into(), written, changed]
        }))
    }
}

/// What the looks have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// As the file was when it was last taken. `None`: it was read before anybody looked, and may have changed since.
    taken: Option<Print>,
    last: Option<Print>,
    /// How many looks in a row it was so before.
    same: u32,
}

impl Seen {
    /// Has the file changed since it was taken, and has it rested?
    pub(super) fn has_settled(&mut self, print: Print) -> bool {
        self.same = if self.last == Some(print) { self.same.saturating_add(1) } else { 0 };
        self.last = Some(print);
        self.taken != Some(print) && self.same >= LOOKS
    }

    /// What was last seen is taken.
    pub(super) fn take(&mut self) {
        self.taken = self.last;
    }

    /// Whatever is seen next is to be taken, also if it is what was taken before.
    pub(super) fn forget(&mut self) {
        self.taken = None;
    }
}

/// Is this something that can be read again? A file that is not there may come.
pub(super) async fn can_be_followed(path: &Path) -> bool {
    tokio::fs::metadata(path).await.map_or(true, |data| data.is_file() || data.is_dir())
}

/// That a file cannot be read: told once, and tried again.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<(Print, String, Instant)>);

impl Trouble {
    /// Is it too early to try this one again?
    pub(super) fn rests(&self, print: Print) -> bool {
        self.0.as_ref().is_some_and(|(of, _, tried)| *of == print && tried.elapsed() < RETRY)
    }

    /// Notes what is in the way of reading it. Returns whether that was not so before.
    pub(super) fn is_news(&mut self, print: Print, why: &io::Error) -> bool {
        let why = why.to_string();
        let known = self.0.as_ref().is_some_and(|(of, known, _)| (*of, known) == (print, &why));
        self.0 = Some((print, why, Instant::now()));
        !known
    }
}

/// What came of reading a file that rests.
#[derive(Debug)]
pub(super) enum Read {
    Text(String),
    Failed(io::Error),
    /// It did not rest.
    Moved,
}

/// Reads the file that has settled, if it is still that one, and nobody changes it meanwhile.
pub(super) async fn read_at_rest(path: &Path, settled: Print, sources: &Sources) -> Read {
    if Print::of(path).await != settled {
        return Read::Moved;
    }
    let sources = sources.clone();
    let read = tokio::task::spawn_blocking(move || sources.read_file_again()).await;
    if Print::of(path).await != settled {
        return Read::Moved;
    }
    match read {
        Ok(Some(Ok(text))) => Read::Text(text),
        Ok(Some(Err(why))) => Read::Failed(why),
        Ok(None) => Read::Moved,
        Err(gone) => Read::Failed(io::Error::other(gone)),
    }
}

/// What is said of a file that has become empty.
pub(super) fn is_empty() -> io::Error {
    let why = "it is empty; if that is meant, ask for a reload by SIGHUP or POST /admin/v1/reload";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(number: i128) -> Print {
        Print(Some([number; 5]))
    }

    /// At which of these looks the file is taken.
    fn taken(looks: &[Print]) -> Vec<usize> {
        let mut seen = Seen::default();
        let mut take = |(at, print): (usize, &Print)| {
            let settled = seen.has_settled(*print);
            if settled {
                seen.take();
            }
            settled.then_some(at)
        };
        looks.iter().enumerate().filter_map(&mut take).collect()
    }

    #[test]
    fn a_file_is_taken_when_it_has_rested_and_once() {
        assert_eq!(taken(&[print(1); 9]), [2], "what it was at the start may be older than that");
        let changed = [print(1), print(1), print(1), print(2), print(2), print(2), print(2)];
        assert_eq!(taken(&changed), [2, 5]);
    }

    #[test]
    fn a_file_that_does_not_rest_is_not_taken() {
        let looks: Vec<_> = (0..100).map(|number| print(number / 2)).collect();
        assert_eq!(taken(&looks), [0; 0]);
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_has_not_changed() {
        let gone = Print(None);
        assert_eq!(taken(&[print(1), print(1), print(1), gone, gone, print(1), print(1), print(1)]), [2]);
        assert_eq!(taken(&[print(1), print(1), print(1), gone, gone, gone, gone]), [2, 5], "gone for good is a change");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_tried_again_each_second_and_told_once() {
        let (mut seen, mut trouble) = (Seen::default(), Trouble::default());
        let (one, other) = (io::Error::other("no descriptors"), io::Error::other("no memory"));
        assert!((0..=LOOKS).any(|_| seen.has_settled(print(1))));
        assert!(!trouble.rests(print(1)) && trouble.is_news(print(1), &one));
        seen.forget();
        assert!(seen.has_settled(print(1)), "it is not taken");
        tokio::time::advance(RETRY.mul_f64(0.999)).await;
        assert!(trouble.rests(print(1)) && !trouble.rests(print(2)), "another file is another matter");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!trouble.rests(print(1)));
        assert!(!trouble.is_news(print(1), &one) && trouble.rests(print(1)));
        assert!(trouble.is_news(print(1), &other) && trouble.is_news(print(2), &other));
    }

    #[tokio::test]
    async fn what_settled_is_what_is_read_or_nothing_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (path, node_id) = (file.path().to_owned(), "n".parse().unwrap());
        let sources = Sources { file: Some(path.clone()), env: Vec::new(), flags: Vec::new(), node_id };
        let settled = Print::of(&path).await;
        assert!(matches!(read_at_rest(&path, settled, &sources).await, Read::Text(_)));
        std::fs::write(&path, "[shard]").unwrap();
        assert!(matches!(read_at_rest(&path, settled, &sources).await, Read::Moved));
    }

    #[tokio::test]
    async fn a_file_is_known_by_its_place_and_its_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let gone = Print::of(&path).await;
        std::fs::write(&path, "a").unwrap();
        let first = Print::of(&path).await;
        assert_ne!(first, gone);
        assert_eq!(Print::of(&path).await, first);
        // Another file of the same text in its place, as editors do it.
        std::fs::write(folder.path().join("new"), "a").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_ne!(Print::of(&path).await, first);
    }

    #[tokio::test]
    async fn a_link_that_is_turned_above_the_file_is_a_change_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["one", "two"] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
            std::fs::write(folder.path().join(version).join("config.toml"), version).unwrap();
        }
        let (data, path) = (folder.path().join("..data"), folder.path().join("config.toml"));
        std::os::unix::fs::symlink("one", &data).unwrap();
        std::os::unix::fs::symlink("..data/config.toml", &path).unwrap();
        let before = Print::of(&path).await;
        std::os::unix::fs::symlink("two", folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), &data).unwrap();
        assert_ne!(Print::of(&path).await, before);
    }
}
