//! A supervisor as the program meets it: sockets that were handed over, and what is told to whoever started it. Stands in for systemd:
//! what it would set up is set up by a shell, and what it would hear is heard by the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command that serves in this folder, under its own process id, with two sockets as 3 and 4 if it has them as input and output.
fn serve(folder: &TempDir, environment: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{environment} exec \"$@\" 3<&0 4<&1 </dev/null >&2");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_rushgate"), "serve"]).args(arguments);
    command.args(["--set", "node.drain_timeout=5s", "--set", "log.format=text"]);
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

const ALONE: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

/// Ends with the test.
struct Served(Child);

impl Served {
    fn stop(&mut self) {
        self.signal("-TERM");
        assert!(self.0.wait().unwrap().success(), "a process that is asked to stop ends well");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _it_may_have_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What is told to the supervisor, as it comes.
struct Told(UnixDatagram);

impl Told {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("the supervisor is told something");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Everything up to the first message that has this line.
    fn until(&self, line: &str) -> Vec<String> {
        let mut told = Vec::new();
        while !told.last().is_some_and(|last: &String| last.lines().any(|said| said == line)) {
            told.push(self.next());
        }
        told
    }
}

fn loopback() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One request on a connection of its own: its status, or what broke.
fn ask(address: SocketAddr, request: &str) -> Result<u16, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| format!("no answer: {answer:?}"))
}

fn is_ready(address: SocketAddr) -> Result<u16, String> {
    ask(address, "GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
}

#[test]
fn ready_is_said_once_when_every_check_holds_and_stopping_before_the_end() {
    let folder = TempDir::new().unwrap();
    let told = Told::at(&folder.path().join("notify"));
    let (admin, address) = loopback();
    let environment = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=admin NOTIFY_SOCKET=$PWD/notify";
    let mut command = serve(&folder, environment, &ALONE[..2]);
    let mut served = Served(command.stdin(OwnedFd::from(admin)).spawn().unwrap());
    let before = told.until("READY=1");
    assert!(before.iter().all(|said| said.starts_with("STATUS=not ready: ") || said == "READY=1\n"), "{before:?}");
    assert_eq!(is_ready(address), Ok(200), "what was said is so");
    assert_eq!(told.next(), "STATUS=ready\n");
    served.stop();
    // No drain delay, 5 s of drain, and the back's 10 s: longer than a supervisor may be set to wait.
    let stopping = "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000\nSTATUS=stopping: what is in flight is finished\n";
    assert_eq!(told.next(), stopping);
}

#[test]
fn a_backend_that_is_away_is_named_to_the_supervisor_and_ready_is_not_said() {
    let folder = TempDir::new().unwrap();
    let told = Told::at(&folder.path().join("notify"));
    let (closed, address) = loopback();
    drop(closed);
    let store = format!("store.url=mysql://nobody@{address}/nothing");
    let away = ["--set", "store.backend=mysql", "--set", &store];
    let mut served =
        Served(serve(&folder, "NOTIFY_SOCKET=$PWD/notify", &[&ALONE[..], &away].concat()).spawn().unwrap());
    let mut said = Vec::new();
    while !said.last().is_some_and(|last: &String| last.contains("not ready: store: the store: error communicating")) {
        said.push(told.next());
    }
    served.signal("-TERM");
    said.extend(told.until("STOPPING=1"));
    assert!(!said.iter().any(|said| said.contains("READY=1")), "{said:?}");
    assert!(served.0.wait().unwrap().success());
}

#[test]
fn the_watchdog_is_told_as_long_as_the_threads_take_their_turns() {
    let folder = TempDir::new().unwrap();
    let told = Told::at(&folder.path().join("notify"));
    let environment = "WATCHDOG_PID=$$ WATCHDOG_USEC=200000 NOTIFY_SOCKET=$PWD/notify";
    let mut served = Served(serve(&folder, environment, &ALONE).spawn().unwrap());
    for _ in 0..3 {
        told.until("WATCHDOG=1");
    }
    served.signal("-STOP");
    // All that it had said before is read; then there is silence.
    told.0.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut bytes = [0; 4096];
    while told.0.recv(&mut bytes).is_ok() {}
    served.signal("-CONT");
    told.0.set_read_timeout(Some(PATIENCE)).unwrap();
    told.until("WATCHDOG=1");
    served.stop();
}

#[test]
fn who_comes_while_a_node_is_restarted_behind_its_socket_waits_and_is_served() {
    let folder = TempDir::new().unwrap();
    let (public, address) = loopback();
    let start = || {
        let mut command =
            serve(&folder, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=public", &["--admin-listen", "127.0.0.1:0"]);
        Served(command.stdin(OwnedFd::from(public.try_clone().unwrap())).spawn().unwrap())
    };
    let mut served = start();
    let claim = |buyer: usize| {
        let body = r#"{"quantity":1}"#;
        let head =
            format!("POST /v1/sales/demo/orders HTTP/1.1\r\nhost: a\r\nx-buyer-id: b{buyer}\r\nconnection: close");
        let rest = format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        ask(address, &format!("{head}\r\n{rest}"))
    };
    // The sample sale is made when it is first ready.
    let begun = Instant::now();
    let mut buyer = 0;
    while claim(buyer) != Ok(201) {
        assert!(begun.elapsed() < PATIENCE, "nothing is sold");
        buyer += 1;
    }
    let (claim, done) = (&claim, &AtomicBool::new(false));
    let answers = std::thread::scope(|threads| {
        let crowd: Vec<_> = (1..=3)
            .map(|crowd| {
                threads.spawn(move || {
                    let mut answers = Vec::new();
                    while !done.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                        answers.push(claim(1000 * crowd + answers.len()));
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    answers
                })
            })
            .collect();
        let mut after_each = Vec::new();
        for restart in 1..=3 {
            served.stop();
            served = start();
            after_each.push(claim(9000 + restart));
        }
        done.store(true, Ordering::Relaxed);
        crowd.into_iter().flat_map(|one| one.join().unwrap()).chain(after_each).collect::<Vec<_>>()
    });
    let refused: Vec<_> = answers.iter().filter(|answer| !matches!(answer, Ok(201 | 409))).collect();
    assert!(answers.len() > 6 && refused.is_empty(), "of {} answers: {refused:?}", answers.len());
}

#[test]
fn a_node_that_cannot_join_answers_behind_its_socket_all_the_same_and_says_why() {
    let folder = TempDir::new().unwrap();
    let (public, address) = loopback();
    let away =
        ["--admin-listen", "127.0.0.1:0", "--set", "store.backend=mysql", "--set", "store.url=mysql://a@127.0.0.1:1/b"];
    let mut command = serve(&folder, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=public", &away);
    let _served = Served(command.stdin(OwnedFd::from(public)).spawn().unwrap());
    assert_eq!(is_ready(address), Ok(503));
}

/// What a start with these sockets comes to.
fn refused(environment: &str, first: OwnedFd, second: OwnedFd, arguments: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let mut command = serve(&folder, environment, arguments);
    let output: Output = command.stdin(first).stdout(second).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[test]
fn a_socket_that_cannot_be_used_is_named_before_anything_is_served() {
    let tcp = || OwnedFd::from(loopback().0);
    let handed = |names: &str| format!("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES={names}");
    let two = handed("public:admin");
    for (environment, sockets, arguments, why) in [
        (handed("public:gate"), (tcp(), tcp()), &[][..], "the socket 4 is called \"gate\""),
        (handed("public"), (tcp(), tcp()), &[], "2 sockets were handed over and 1 are named"),
        (handed("admin:admin"), (tcp(), tcp()), &[], "two sockets are called \"admin\""),
        (
            two.clone(),
            (tcp(), UdpSocket::bind("127.0.0.1:0").unwrap().into()),
            &[],
            "the socket admin (4) is no listener",
        ),
        (two.clone(), (tcp(), connected()), &[], "it does not listen"),
        (two, (tcp(), tcp()), &writer(), "this process is no gateway"),
    ] {
        let said = refused(&environment, sockets.0, sockets.1, arguments);
        assert!(said.contains(why), "{said}");
    }
}

/// A socket for TCP that is a connection.
fn connected() -> OwnedFd {
    let (listener, address) = loopback();
    let stream = TcpStream::connect(address).unwrap();
    drop(listener);
    stream.into()
}

fn writer() -> [&'static str; 10] {
    [
        "--role",
        "writer",
        "--set",
        "inventory.backend=redis",
        "--set",
        "queue.backend=rabbitmq",
        "--set",
        "store.backend=mysql",
        "--set",
        "store.url=mysql://a@127.0.0.1:1/b",
    ]
}

#[test]
fn sockets_of_another_process_are_not_taken() {
    let folder = TempDir::new().unwrap();
    let (public, address) = loopback();
    let told = Told::at(&folder.path().join("notify"));
    let environment = "LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=public NOTIFY_SOCKET=$PWD/notify";
    let mut command = serve(&folder, environment, &ALONE);
    let mut served = Served(command.stdin(OwnedFd::from(public.try_clone().unwrap())).spawn().unwrap());
    told.until("READY=1");
    drop((public, command));
    served.stop();
    assert!(TcpStream::connect(address).is_err(), "it was nobody's");
}

#[test]
fn whether_a_process_is_ready_can_be_asked_by_a_command() {
    let folder = TempDir::new().unwrap();
    let told = Told::at(&folder.path().join("notify"));
    let (admin, address) = loopback();
    let environment = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=admin NOTIFY_SOCKET=$PWD/notify";
    let mut served = Served(serve(&folder, environment, &ALONE[..2]).stdin(OwnedFd::from(admin)).spawn().unwrap());
    told.until("READY=1");
    let ready = |more: &[&str]| {
        let url = format!("http://{address}");
        Command::new(env!("CARGO_BIN_EXE_rushgate")).args(["ready", "--admin", &url]).args(more).output().unwrap()
    };
    let said = ready(&[]);
    assert_eq!(said.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&said.stdout).ends_with("[+]shutdown ok\nready\n"), "{said:?}");
    let json: serde_json::Value = serde_json::from_slice(&ready(&["--json"]).stdout).unwrap();
    assert_eq!(json["ready"], true);
    served.stop();
    assert_eq!(ready(&[]).status.code(), Some(1));
}
