//! The commands of the README as a new user runs them, in order, in a fresh folder: those that need nothing but the program.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::{readme, shell_lines};

/// What needs more than the program: other servers, other programs, the sources. Each is run elsewhere, or by hand.
const NEED_MORE: &[&str] = &[
    "cargo ",
    "k6 ",
    "rushgate migrate --config",
    "rushgate serve   --config",
    "rushgate serve --config",
    "rushgate doctor --config",
    "rushgate rehearse",
    "rushgate top ",
];
/// The order in the README's answer.
const ORDER: &str = "6f1c…";
const PUBLIC: &str = "127.0.0.1:8080";

/// A folder, the program in the path, and a process that serves, as `rushgate serve` does but for its ports.
struct NewUser {
    folder: TempDir,
    serving: Child,
    public: String,
    admin: String,
    /// What the process told when it began.
    told: String,
}

impl NewUser {
    fn begin() -> Self {
        let folder = TempDir::new().expect("a folder");
        copy(Path::new("config"), &folder.path().join("config"));
        let mut serving = program("rushgate")
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(serving.stdout.take().expect("its output")).lines().map_while(Result::ok);
        let mut told: VecDeque<String> = VecDeque::new();
        // The sample sale is told last, and the line that shows it last of all.
        for line in lines {
            told.push_back(line);
            if told.back().is_some_and(|line| line.trim().starts_with("curl http") && line.ends_with("/v1/sales/demo"))
            {
                break;
            }
        }
        let address = |what: &str| {
            let line = told.iter().find_map(|line| line.strip_prefix(what)).unwrap_or_else(|| panic!("{told:?}"));
            line.trim().trim_start_matches("http://").to_owned()
        };
        let (public, admin) = (address("public "), address("admin "));
        let told = told.into_iter().collect::<Vec<_>>().join("\n");
        Self { folder, serving, public, admin, told }
    }

    /// Runs a line in a shell, and returns its output; it must succeed.
    fn run(&self, line: &str) -> String {
        let line = line.replace(PUBLIC, &self.public);
        let output = program("sh")
            .args(["-c", &line])
            .env("RUSHGATE_ADMIN_URL", format!("http://{}", self.admin))
            .current_dir(self.folder.path())
            .output()
            .expect("a shell");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{line}\n{out}\n{err}");
        out.into_owned()
    }
}

impl Drop for NewUser {
    fn drop(&mut self) {
        let _ = self.serving.kill();
        let _ = self.serving.wait();
    }
}

/// With the program before all else in the path, and none of the test's own settings.
fn program(name: &str) -> Command {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_rushgate"));
    let folder = binary.parent().expect("its folder").display().to_string();
    let mut command = Command::new(if name == "rushgate" { binary.as_os_str() } else { name.as_ref() });
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUSHGATE_")) {
        command.env_remove(name);
    }
    command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap_or_default())).stdin(Stdio::null());
    command
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("a file").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &to) } else { std::fs::copy(&path, to).map(drop).expect("a copy") }
    }
}

/// The first block of this language that has this in it.
fn block<'a>(readme: &'a str, language: &str, has: &str) -> &'a str {
    let fence = format!("```{language}\n");
    let mut blocks = readme.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.contains(has)).unwrap_or_else(|| panic!("the README shows no {language} with {has}"))
}

#[test]
fn a_new_user_does_what_the_readme_says() {
    let readme = readme();
    assert!(readme.contains("cargo run --release -- serve\n"), "the README begins otherwise");
    let user = NewUser::begin();
    assert!(user.told.contains(&format!("curl -i http://{}/v1/sales/demo/orders", user.public)), "{}", user.told);

    // Buy, look, and pay, by the README's own calls.
    let claim = block(&readme, "console", "curl").lines().next().and_then(|line| line.strip_prefix("$ "));
    let answer = user.run(claim.expect("the README buys a ticket"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let order: Value = serde_json::from_str(body).expect("an order");
    let id = order["order"].as_str().expect("an id");
    assert!(head.starts_with("HTTP/1.1 201 Created") && head.contains(&format!("location: /v1/orders/{id}")), "{head}");
    let shown = block(&readme, "console", "curl").lines().last().unwrap_or_default();
    for field in ["order", "sale", "status", "amount", "currency", "pay_by", "lines"] {
        assert!(shown.contains(&format!("\"{field}\"")) && !order[field].is_null(), "{field}: {shown}, {order}");
    }
    let lines: Vec<_> = block(&readme, "sh", ORDER).lines().collect();
    assert_eq!(lines.len(), 2, "each line has its answer here: {lines:?}");
    for (line, status) in lines.into_iter().zip(["held", "paid"]) {
        let answer: Value = serde_json::from_str(&user.run(&line.replace(ORDER, id))).expect("an answer");
        assert_eq!(answer["status"], status, "{line}: {answer}");
    }

    // The document that is shown is the one that makes the sale.
    std::fs::write(user.folder.path().join("concert-1.json"), block(&readme, "json", "pools")).expect("a file");
    let lines: Vec<_> = shell_lines(&readme).into_iter().filter(|line| !line.contains(ORDER)).collect();
    let (more, ours): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| NEED_MORE.iter().any(|need| line.trim_start().starts_with(need)));
    assert!(ours.len() >= 10 && more.len() < 12, "{ours:?} {more:?}");
    for line in ours {
        let out = user.run(line);
        assert!(!out.is_empty(), "{line} says nothing");
    }
    assert!(user.folder.path().join("plan/plan.html").exists());
    let balance: Value = serde_json::from_str(&user.run("rushgate sale balance concert-1 --json")).expect("a balance");
    assert_eq!(balance["legs"][0]["capacity"], 10_000, "{balance}");
    assert!(user.folder.path().join("rushgate.db").exists(), "the orders are in it");
}

#[test]
fn what_the_readme_gets_wrong_would_be_found() {
    let user = NewUser::begin();
    let fails = |line: &str| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| user.run(line))).is_err();
    assert!(fails("rushgate sale balance nothing") && fails("rushgate redy") && !fails("rushgate ready"));
}
