//! Is there room at the server for all connections and what stays prepared on them?

use sqlx::{AssertSqlSafe, Executor};

use super::{CONNECTIONS, Look, STATEMENTS, heard, text};
use crate::finding::remedy;

impl Look {
    /// `lanes`: recorders of a writer, each with a connection of its own.
    pub(super) async fn connections(&mut self, lanes: usize) {
        let most = self.value("@@GLOBAL.max_connections").await.ok().and_then(|most| most.parse::<usize>().ok());
        let open = self.status("Threads_connected").await;
        let (Some(most), Some(open)) = (most, open) else {
            return self.findings.unknown("connections", "it does not tell how many it takes, or has");
        };
        let needed = CONNECTIONS + lanes;
        let found = format!("{open} of {most} open; a process of this config takes {needed} at most");
        let why = "a process that finds none waits, and who pays waits with it";
        let mend = "SET GLOBAL max_connections to (gateways + writers) × that and what operators need";
        if most < needed || open + 1 > most {
            self.findings.wrong("connections", found, remedy(why, mend));
        } else if open + needed > most {
            self.findings.warn("connections", found, remedy(why, mend));
        } else {
            self.findings.ok("connections", found);
        }
    }

    async fn status(&mut self, name: &str) -> Option<usize> {
        let show = format!("SHOW GLOBAL STATUS LIKE '{name}'");
        let row = heard(&self.silence, self.conn.fetch_one(AssertSqlSafe(show))).await.ok()?;
        text(&row, 1)?.parse().ok()
    }

    /// The server counts the statements of all its sessions together, and a session keeps those that it has prepared.
    pub(super) async fn prepared_statements(&mut self, lanes: usize) {
        let most =
            self.value("@@GLOBAL.max_prepared_stmt_count").await.ok().and_then(|most| most.parse::<usize>().ok());
        let sessions = self.value("@@GLOBAL.max_connections").await.ok().and_then(|most| most.parse::<usize>().ok());
        let (Some(most), Some(sessions)) = (most, sessions) else {
            return self.findings.unknown("prepared statements", "it does not tell how many it keeps");
        };
        let (all, own) = (sessions * STATEMENTS, (CONNECTIONS + lanes) * STATEMENTS);
        let found = format!("max_prepared_stmt_count {most}; a process of this config keeps {own} at most");
        if most < all {
            let why = format!(
                "{sessions} sessions may keep {all} together; past the limit the server prepares no more (error 1461), \
                 and nothing is stored by whoever asks"
            );
            let mend = format!(
                "SET GLOBAL max_prepared_stmt_count = {}, and the same in its configuration",
                all.min(1_048_576)
            );
            self.findings.warn("prepared statements", found, remedy(why, mend));
        } else {
            self.findings.ok("prepared statements", found);
        }
    }
}
