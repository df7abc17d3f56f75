//! What an error of Redis means for the move that met it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::inventory::Fault;

/// Codes with which Redis refuses a command, or a script its first write, before anything was done.
const NOT_DONE: [&str; 7] = ["OOM", "MISCONF", "NOREPLICAS", "BUSY", "LOADING", "MASTERDOWN", "CLUSTERDOWN"];

/// Sorts an error by whether the move was made, may have been made, or can never be made in this scope.
pub(super) fn of(error: &RedisError) -> Fault {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => no_script(),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => Fault::Fenced(format!("the server is a replica: {text}")),
        ErrorKind::Server(_) | ErrorKind::Extension => of_server(error.code().unwrap_or_default(), text),
        ErrorKind::Io if error.is_connection_refusal() => Fault::NotDone(text),
        // It was sent, or may have been; and an answer that cannot be read is one of a move that was made.
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Fault::Unknown(text),
        // Anything else did not leave this process.
        _ => Fault::NotDone(text),
    }
}

/// The script cache is not the one that the recovery left.
pub(super) fn no_script() -> Fault {
    Fault::Fenced("the script is not there; the server has restarted, or it is another".to_owned())
}

fn of_server(code: &str, text: String) -> Fault {
    // Redis before 7 wraps what a command inside a script said: "ERR Error running script (call to f_…): …: -OOM …".
    let wrapped = |code: &str| text.contains(&format!(": -{code} "));
    if wrapped("READONLY") {
        return Fault::Fenced(text);
    }
    if NOT_DONE.iter().any(|known| *known == code || wrapped(known)) {
        return Fault::NotDone(text);
    }
    // A script that fails elsewhere met data that it cannot read: a key of another type, a torn value.
    if code == "WRONGTYPE" || text.contains("user_script") {
        return Fault::Fenced(format!("the data is broken: {text}"));
    }
    Fault::NotDone(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Fault {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an error is a value");
        of(&value.extract_error().expect_err("it is an error"))
    }

    #[test]
    fn what_an_older_server_says_inside_a_script_means_the_same() {
        let wrapped = |code: &str| {
            said(&format!("ERR Error running script (call to f_0): @user_script:9: @user_script: 9: -{code} not now"))
        };
        for code in NOT_DONE {
            assert!(matches!(said(&format!("{code} not now")), Fault::NotDone(_)), "{code}");
            assert!(matches!(wrapped(code), Fault::NotDone(_)), "{code}");
        }
        assert!(matches!(wrapped("READONLY"), Fault::Fenced(_)));
        assert!(matches!(said("READONLY You can't write against a read only replica."), Fault::Fenced(_)));
        assert!(matches!(said("NOSCRIPT No matching script."), Fault::Fenced(_)));
    }

    #[test]
    fn a_script_that_stumbles_over_its_data_fences() {
        assert!(matches!(said("WRONGTYPE Operation against a key"), Fault::Fenced(_)));
        assert!(matches!(
            said("ERR user_script:9: attempt to compare nil script: 0, on @user_script:9."),
            Fault::Fenced(_)
        ));
    }

    #[test]
    fn a_command_that_is_refused_was_not_done() {
        for line in ["NOAUTH Authentication required.", "NOPERM no permission", "ERR unknown command", "TRYAGAIN later"]
        {
            assert!(matches!(said(line), Fault::NotDone(_)), "{line}");
        }
    }
}
