//! The guard's rows: units of many pools and legs are taken, and given back, in few statements.

use sqlx::QueryBuilder;
use sqlx::mysql::{MySql, MySqlConnection};

use super::portions;
use crate::store::failure::Failure;
use crate::store::guard::{RowUnits, Units};

/// How the guard is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Many rows in one statement, so that a train of many legs, or a batch of many sales, is not as many round trips with rows locked
    /// that everyone wants.
    Together,
    /// Each alone, to name the one that does not hold.
    OneByOne,
}

#[derive(Clone, Copy)]
enum Way {
    Taken,
    GivenBack,
}

/// Takes units, in the order of the guard's rows; units that are not there undo the whole transaction.
pub(super) async fn take_units(conn: &mut MySqlConnection, units: &Units, guard: Guard) -> Result<(), Failure> {
    let rows: Vec<_> = units.rows().collect();
    let portions: Vec<&[RowUnits<'_>]> = match guard {
        Guard::Together => portions(&rows).collect(),
        Guard::OneByOne => rows.chunks(1).collect(),
    };
    for rows in portions {
        if !all_moved(conn, rows, Way::Taken).await? {
            let RowUnits { sale, pool, leg, .. } = rows[0];
            return Err(Failure::Guard { sale: sale.clone(), pool: pool.clone(), leg });
        }
    }
    Ok(())
}

/// Gives units back that orders had; they must be there.
pub(super) async fn give_back(conn: &mut MySqlConnection, units: &Units) -> Result<(), Failure> {
    let rows: Vec<_> = units.rows().collect();
    for rows in portions(&rows) {
        if !all_moved(conn, rows, Way::GivenBack).await? {
            let RowUnits { sale, pool, .. } = rows[0];
            return Err(Failure::Broken(format!(
                "the guard does not have what orders give back, from {sale}/{pool} on"
            )));
        }
    }
    Ok(())
}

/// Moves these rows, each of which must be there, and must not get more live units than it has, nor fewer than none. The list comes first
/// in the join, so the rows are locked in its order, each by its key, whatever the statistics say of a young table; the casts say what a parameter is, whatever a server makes of it.
async fn all_moved(conn: &mut MySqlConnection, rows: &[RowUnits<'_>], way: Way) -> Result<bool, Failure> {
    let mut query = QueryBuilder::<MySql>::new("UPDATE (");
    for (at, row) in rows.iter().enumerate() {
        query.push(if at == 0 { "SELECT CAST(" } else { " UNION ALL SELECT CAST(" });
        query.push_bind(row.sale.as_str()).push(" AS CHAR(64)) COLLATE utf8mb4_bin AS sale_id, CAST(");
        query.push_bind(row.pool.as_str()).push(" AS CHAR(32)) COLLATE utf8mb4_bin AS pool_id, CAST(");
        query.push_bind(i64::from(row.leg)).push(" AS SIGNED) AS leg, CAST(");
        let units = i64::from(row.units);
        query.push_bind(match way {
            Way::Taken => units,
            Way::GivenBack => -units,
        });
        query.push(" AS SIGNED) AS units");
    }
    query.push(
        ") AS moved STRAIGHT_JOIN pool_legs AS guard FORCE INDEX (PRIMARY) \
         ON guard.sale_id = moved.sale_id AND guard.pool_id = moved.pool_id AND guard.leg = moved.leg \
         SET guard.live = guard.live + moved.units \
         WHERE guard.live + moved.units BETWEEN 0 AND guard.capacity",
    );
    let moved = query.build().execute(conn).await?;
    Ok(moved.rows_affected() == rows.len() as u64)
}
