//! How the migrations that a schema has stand to those that are in the program.

use std::collections::HashMap;

use sqlx::FromRow;
use sqlx::migrate::{Migration, Migrator};

use super::failure::Failure;
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
