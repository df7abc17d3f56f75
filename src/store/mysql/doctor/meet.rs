//! The way to a session, and what a server has against whoever asks for one.

use sqlx::mysql::MySqlConnection;

use super::super::pool;
use super::PATIENCE;
use crate::config::settings::ServerUrl;
use crate::finding::{Findings, Remedy, remedy};
use crate::reach;
use crate::store::failure::{Failure, within};

/// Goes the whole way to a session that is set up as ours are.
pub(super) async fn meet(findings: &mut Findings, url: &ServerUrl, key: &'static str) -> Option<MySqlConnection> {
    reach::examine(findings, url, (key, "mysql")).await?;
    let connected = match pool(url.as_str(), PATIENCE) {
        Ok(pool) => pool.connect().await,
        Err(fault) => Err(Failure::Broken(fault.0)),
    };
    match connected {
        Ok(mut conn) => {
            findings.ok("authentication", "it lets this user in");
            database(findings, &mut conn, key).await.then_some(conn)
        }
        Err(failure) => {
            let (check, remedy) = refused(&failure, key);
            findings.wrong(check, told(&failure), remedy);
            None
        }
    }
}

/// Does the URL name a database? Without one the server lets in as well.
async fn database(findings: &mut Findings, conn: &mut MySqlConnection, key: &'static str) -> bool {
    let asked = within(PATIENCE, sqlx::query_scalar::<_, Option<String>>("SELECT DATABASE()").fetch_one(conn)).await;
    match asked {
        Ok(Some(name)) => findings.ok("database", name),
        Ok(None) => {
            let mend = format!("set {key} to mysql://USER:PASSWORD@HOST:3306/DATABASE; rushgate config explain {key}");
            findings.wrong("database", format!("{key} names none"), remedy("no process starts without one", mend));
            return false;
        }
        Err(failure) => {
            let (check, remedy) = refused(&failure, key);
            findings.wrong(check, told(&failure), remedy);
            return false;
        }
    }
    true
}

pub(super) fn told(failure: &Failure) -> String {
    failure.to_string().replace(['\r', '\n'], " ")
}

/// What a server that takes the connection and not the client has against it, and what mends that.
pub(super) fn refused(failure: &Failure, key: &str) -> (&'static str, Remedy) {
    let why = "no process starts without its store, and nothing is stored";
    let variable = format!("RUSHGATE__{}", key.replace('.', "__").to_uppercase());
    if matches!(failure, Failure::TooLate(_)) {
        let mend =
            "it takes connections and says nothing: mysqladmin ping on its machine; is it MySQL that listens there?";
        return ("answers", remedy(why, mend));
    }
    let text = told(failure).to_lowercase();
    if text.contains("does not support tls") {
        let mend = format!("give the server a certificate (ssl_cert, ssl_key), or {variable}=…?ssl-mode=PREFERRED");
        return ("tls", remedy(why, mend));
    }
    // A certificate that is not believed comes as a failure of the connection.
    if matches!(failure, Failure::Sql(sqlx::Error::Tls(_))) || text.contains("certificate") {
        let mend = format!(
            "{variable}=…?ssl-mode=VERIFY_CA&ssl-ca=FILE with the authority of its certificate, or ssl-mode=REQUIRED"
        );
        return ("tls", remedy(why, mend));
    }
    match failure.mysql_number() {
        Some(1045 | 1698) => {
            let mend = format!("set the right user and password: {variable}=mysql://USER:PASSWORD@HOST:3306/DATABASE");
            ("authentication", remedy(why, mend))
        }
        Some(1044) => {
            let mend = "GRANT SELECT, INSERT, UPDATE, DELETE ON DATABASE.* TO USER (all rights for rushgate migrate)";
            ("permission", remedy(why, mend))
        }
        Some(1049) => (
            "database",
            remedy(why, format!("CREATE DATABASE, then rushgate migrate --config FILE; or set {key} to the right one")),
        ),
        Some(1130) => {
            ("authentication", remedy(why, "CREATE USER for this machine's address: the user is known for others only"))
        }
        Some(1129) => (
            "authentication",
            remedy(why, "it has blocked this machine after too many broken connections: mysqladmin flush-hosts"),
        ),
        Some(1040 | 1203 | 1226) => {
            ("connections", remedy(why, "raise max_connections; SHOW PROCESSLIST tells who keeps them"))
        }
        Some(3159) => {
            ("tls", remedy(why, format!("it takes connections over TLS only: {variable}=…?ssl-mode=REQUIRED")))
        }
        Some(3118 | 4151) => ("authentication", remedy(why, "ALTER USER … ACCOUNT UNLOCK: this user is locked")),
        Some(1820 | 1862) => {
            ("authentication", remedy(why, "ALTER USER … IDENTIFIED BY a new password: that of this user has expired"))
        }
        Some(number) => {
            let mend = format!("it is MySQL or MariaDB and says no, by these words of its own (error {number})");
            ("refused", remedy(why, mend))
        }
        _ if text.contains("rsa") => {
            let mend = format!(
                "its user logs in by caching_sha2_password, which wants TLS: {variable}=…?ssl-mode=REQUIRED, or build \
                 with \
                                --features mysql-rsa"
            );
            ("authentication", remedy(why, mend))
        }
        _ => ("connection", remedy(why, "is it MySQL or MariaDB that listens there?")),
    }
}
