//! A look at the file for `rushgate doctor`: reads only, and makes nothing, not even the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::{MIGRATOR, SqliteStore, applied, connect};
use crate::clock::SystemClock;
use crate::config::settings;
use crate::finding::{Findings, remedy};
use crate::store::failure::{Failure, within};
use crate::store::{Schema, Store, schema};

const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes on the disk. Below the first the file cannot grow for long, below the second for no time.
const LITTLE_SPACE: u64 = 1 << 30;
const NO_SPACE: u64 = 64 << 20;

/// Looks at the file of these settings.
pub async fn examine(settings: &settings::Store, mut findings: Findings) {
    let url = settings.url.as_str();
    let options = match SqliteConnectOptions::from_str(url) {
        Ok(options) => options,
        Err(error) => {
            let why = "no process starts without its store";
            findings.wrong("file", format!("{url}: {error}"), remedy(why, "set store.url to sqlite://FILE"));
            return;
        }
    };
    let path = options.get_filename().to_owned();
    // A file system that is away answers nothing, for as long as it likes.
    let mut told = findings.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let goes_on = folder(&mut told, &path) && file(&mut told, &path);
        if goes_on {
            lock(&mut told, &path);
        }
        goes_on.then(|| untouched(options))
    });
    if let Ok(Some(options)) = looked.await {
        content(&mut findings, &options).await;
    }
}

/// The store of these settings, for reads that make and change nothing.
pub async fn opened(settings: &settings::Store) -> Result<Arc<dyn Store>, String> {
    let url = settings.url.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let options = SqliteConnectOptions::from_str(url.as_str()).map_err(|error| error.to_string())?;
        let path = options.get_filename().to_owned();
        if !path.exists() {
            return Err("looked at when the store is there".to_owned());
        }
        Ok(SqliteStore::over(path, &untouched(options.clone()), &untouched(options), Arc::new(SystemClock)))
    });
    let store = opened.await.map_err(|error| error.to_string())??;
    Ok(Arc::new(store))
}

/// Without its log nobody has the file open. To open it as others do, even for reading, would make the log and its index.
fn untouched(options: SqliteConnectOptions) -> SqliteConnectOptions {
    let mut log = options.get_filename().to_owned().into_os_string();
    log.push("-wal");
    let is_alone = !Path::new(&log).exists();
    options.read_only(true).create_if_missing(false).immutable(is_alone).disable_statement_logging()
}

/// The folder of the file, or of those that are there the one in which it would be made.
fn home(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().skip(1).find(|folder| folder.exists()).map(Path::to_owned).unwrap_or_default()
}

/// May there be a file, with those that SQLite puts beside it? Returns whether it makes sense to go on.
fn folder(findings: &mut Findings, path: &Path) -> bool {
    let folder = home(path);
    let told = folder.display();
    if let Err(error) = rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        let why = "the database has files beside it while it is open, and no process starts without them";
        findings.wrong(
            "folder",
            format!("{told}: {error}"),
            remedy(why, format!("chown the user of the process {told}")),
        );
        return false;
    }
    findings.ok("folder", format!("{told} can be written to"));
    match rustix::fs::statvfs(&folder) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let found = format!("{} MiB free at {told}", free >> 20);
            let why = "a full disk takes no order: claims hear 'busy', payments fail";
            let mend = "make room, or move store.url to a larger disk";
            match free {
                LITTLE_SPACE.. => findings.ok("disk", found),
                NO_SPACE..LITTLE_SPACE => findings.warn("disk", found, remedy(why, mend)),
                ..NO_SPACE => findings.wrong("disk", found, remedy(why, mend)),
            }
        }
        Err(error) => findings.unknown("disk", error.to_string()),
    }
    true
}

/// Is there a file that can be written to? Returns whether there is one to look into.
fn file(findings: &mut Findings, path: &Path) -> bool {
    let told = path.display();
    if !path.exists() {
        findings.ok("file", format!("{told} is not there yet: the first process makes it, with its schema"));
        return false;
    }
    match OpenOptions::new().write(true).open(path) {
        Ok(_untouched) => {
            findings.ok("file", format!("{told} can be written to"));
            true
        }
        Err(error) => {
            let why = "orders cannot be stored";
            findings.wrong(
                "file",
                format!("{told}: {error}"),
                remedy(why, format!("chown the user of the process {told}")),
            );
            false
        }
    }
}

fn lock(findings: &mut Findings, path: &Path) {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".lock");
    match File::open(&beside).map(|lock| lock.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => {
            findings.ok("lock", "a process serves from this file; a second one would refuse to");
        }
        Ok(Ok(())) => findings.ok("lock", "no process serves from this file"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            findings.ok("lock", "no process has served from this file");
        }
        Ok(Err(TryLockError::Error(error))) | Err(error) => {
            findings.unknown("lock", format!("{}: {error}", Path::new(&beside).display()));
        }
    }
}

async fn content(findings: &mut Findings, options: &SqliteConnectOptions) {
    let looked = within(PATIENCE, async {
        let mut conn = connect(options).await?;
        let rows = applied(&mut conn).await?;
        schema::compare(&MIGRATOR, &rows)
    });
    match looked.await {
        Err(Failure::Sql(error)) => {
            let why = "orders are believed when they are stored, and they cannot be";
            let mend = "is it the right file? PRAGMA integrity_check with the sqlite3 program; restore it from a \
                        backup if it is broken";
            findings.wrong("content", error.to_string(), remedy(why, mend));
        }
        Ok(Schema::Behind { missing }) => {
            findings.ok("schema", format!("{missing} migrations behind, which the process that starts brings up"));
        }
        compared => {
            schema::tell(findings, &MIGRATOR, compared);
        }
    }
}
