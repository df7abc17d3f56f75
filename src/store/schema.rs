//! How the migrations that a schema has stand to those that are in the program.

use std::collections::HashMap;

use sqlx::FromRow;
use sqlx::migrate::{Migration, Migrator};

use super::failure::Failure;
use crate::finding::{Findings, remedy};
use crate::store::Schema;

/// A migration as the schema remembers it.
#[derive(FromRow)]
pub(super) struct AppliedColumns {
    version: i64,
    checksum: Vec<u8>,
    success: bool,
}

/// The migrations of the program that the schema does not have, the oldest first.
pub(super) fn missing<'m>(migrator: &'m Migrator, applied: &[AppliedColumns]) -> Vec<&'m Migration> {
    migrator.iter().filter(|migration| applied.iter().all(|row| row.version != migration.version)).collect()
}

/// Compares; a migration that broke half-way, or is not the one that the program knows by its number, is a failure.
pub(super) fn compare(migrator: &Migrator, applied: &[AppliedColumns]) -> Result<Schema, Failure> {
    let ours: HashMap<i64, &Migration> = migrator.iter().map(|migration| (migration.version, migration)).collect();
    for row in applied {
        let version = row.version;
        if !row.success {
            return Err(Failure::Broken(format!("migration {version} broke half-way; mend the schema by hand")));
        }
        match ours.get(&version) {
            None => return Ok(Schema::Ahead),
            Some(migration) if *migration.checksum != *row.checksum => {
                return Err(Failure::Broken(format!("migration {version} is not the one that this program has")));
            }
            Some(_) => {}
        }
    }
    match missing(migrator, applied).len() {
        0 => Ok(Schema::Current),
        missing => Ok(Schema::Behind { missing }),
    }
}

/// `0001 orders at rest`
pub(super) fn name(migration: &Migration) -> String {
    format!("{:04} {}", migration.version, migration.description)
}

/// Tells an operator how it stands. Returns whether it is the program's.
pub(super) fn tell(findings: &mut Findings, migrator: &Migrator, compared: Result<Schema, Failure>) -> bool {
    let last = migrator.iter().last().map(name).unwrap_or_default();
    let why = "no process starts until the schema is its own";
    match compared {
        Ok(Schema::Current) => findings.ok("schema", format!("current: {last}")),
        Ok(Schema::Behind { missing }) => {
            let found = format!("{missing} migrations behind {last}");
            findings.wrong("schema", found, remedy(why, "rushgate migrate --config FILE"));
            return false;
        }
        Ok(Schema::Ahead) => {
            let found = format!("newer than this program, whose last migration is {last}");
            findings.wrong(
                "schema",
                found,
                remedy(why, "use the version of rushgate that migrated it, or a later one"),
            );
            return false;
        }
        Err(failure) => {
            let mend = "config/README.md, section 'A migration', tells what to do with one that broke";
            findings.wrong("schema", failure.to_string(), remedy(why, mend));
            return false;
        }
    }
    true
}
