//! Why a statement did not do what it should, and what follows from it for who asked.

use std::future::Future;
use std::time::Duration;

use sqlx::error::ErrorKind;
use sqlx::mysql::MySqlDatabaseError;

use crate::domain::{PoolId, SaleId};
use crate::store::{Fault, RecordFault};

/// What went wrong on the way to the server, on it, or with what it gave.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("no answer within {0:?}")]
    TooLate(Duration),
    /// What is stored contradicts itself or what was asked.
    #[error("{0}")]
    Broken(String),
    /// The capacity guard does not hold.
    #[error("the capacity guard of {sale}/{pool}/{leg} does not hold")]
    Guard { sale: SaleId, pool: PoolId, leg: u8 },
}

impl Failure {
    /// A key that was there already.
    pub(super) fn is_duplicate(&self) -> bool {
        self.kind() == Some(ErrorKind::UniqueViolation)
    }

    /// The server rolled the transaction back in favour of another, so doing it again is safe and likely to work:
    /// MySQL's deadlock (1213), MariaDB's changed snapshot (1020).
    pub(super) fn is_lost_race(&self) -> bool {
        matches!(self.mysql_number(), Some(1213 | 1020))
    }

    /// The connection broke, or went silent.
    pub(super) fn is_lost_connection(&self) -> bool {
        matches!(
            self,
            Self::TooLate(_) | Self::Sql(sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_))
        )
    }

    /// It took too long, by the clock of the caller or, for a lock, the server's: MySQL's 1205.
    fn is_late(&self) -> bool {
        matches!(self, Self::TooLate(_)) || self.mysql_number() == Some(1205)
    }

    /// The server refuses this very content, and will again: a check, a null, or what MySQL says of values that do not fit
    /// (out of range 1264, bad characters 1366, too long 1406, packet too large 1153).
    fn is_content(&self) -> bool {
        matches!(self.kind(), Some(ErrorKind::CheckViolation | ErrorKind::NotNullViolation))
            || matches!(self.mysql_number(), Some(1153 | 1264 | 1366 | 1406))
    }

    /// What is stored, or was asked, cannot be; it would be the same again.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Broken(_)) || self.is_content()
    }

    fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => Some(error.kind()),
            _ => None,
        }
    }

    /// MySQL's number of the error.
    pub(super) fn mysql_number(&self) -> Option<u16> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
            }
            _ => None,
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl From<Failure> for RecordFault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Guard { sale, pool, leg } => Self::Guard { sale, pool, leg },
            failure if failure.is_content() => Self::Rejected(failure.to_string()),
            failure if failure.is_late() => Self::Late(failure.into()),
            failure => Self::Unavailable(failure.into()),
        }
    }
}

/// Waits for work on a server, but not for ever. Who hears [`Failure::TooLate`] must drop the connection.
pub(super) async fn within<T, E: Into<Failure>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Failure::TooLate(limit)),
    }
}
