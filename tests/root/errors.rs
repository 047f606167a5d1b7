//! Every way in which a command is refused: one line that says why, a hint where one helps, the
//! documented exit code, and nothing left of what was begun.

use std::process::Output;

use super::host::{Host, Running, told};
use super::leftovers;

/// Exit codes.
pub const REFUSED: i32 = 1;
const USAGE: i32 = 2;
pub const LACKING: i32 = 3;
pub const INTERRUPTED: i32 = 130;

/// What a command says on its way to an error.
const PROGRESS: [&str; 2] = ["importing template ", "building template "];

/// The error and the hint, after `error: ` and `hint: `; panics where there is anything else.
pub fn message(output: &Output) -> (String, Option<String>) {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().filter(|line| !PROGRESS.iter().any(|start| line.starts_with(start)));
    let error = lines.next().and_then(|line| line.strip_prefix("error: "));
    let error = error.unwrap_or_else(|| panic!("no error: {}", told(output))).to_owned();
    let hint = lines.next().map(|line| {
        line.strip_prefix("hint: ")
            .unwrap_or_else(|| panic!("neither error nor hint: {}", told(output)))
            .to_owned()
    });
    assert_eq!(lines.next(), None, "more than error and hint: {}", told(output));
    assert!(output.stdout.is_empty(), "an error with output: {}", told(output));
    (error, hint)
}

/// That `output` is error `code` with this text, whole or from its beginning (`…` at the end), and
/// a hint that contains `hint`; none where that is empty.
pub fn check(output: &Output, code: i32, error: &str, hint: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
    let (said, hinted) = message(output);
    match error.strip_suffix('…') {
        Some(start) => assert!(said.starts_with(start), "{said}"),
        None => assert_eq!(said, error),
    }
    match hinted {
        Some(hinted) => assert!(!hint.is_empty() && hinted.contains(hint), "{said}: {hinted}"),
        None => assert_eq!(hint, "", "{said}: no hint"),
    }
}

/// That `nagaya args` is refused as `check` says, and changes nothing.
pub fn refuses(host: &Host, args: &[&str], code: i32, error: &str, hint: &str) {
    let before = leftovers::of(host);
    check(&host.nagaya(args), code, error, hint);
    leftovers::gone(host, &before, &args.join(" "));
}

#[test]
fn names_that_mean_nothing() {
    let host = Host::new();
    host.ok(&["create", "tiny", "web01"]);
    for verb in ["start", "stop", "restart", "pause", "resume", "delete", "info", "logs", "console", "shell"]
    {
        refuses(&host, &[verb, "web02"], REFUSED, "there is no container 'web02'", "did you mean 'web01'?");
        refuses(&host, &[verb, "unlike"], REFUSED, "there is no container 'unlike'", "nagaya list");
    }
    let none = "there is no container 'web02'";
    refuses(&host, &["exec", "web02", "--", "id"], REFUSED, none, "did you mean 'web01'?");
    refuses(&host, &["rename", "web02", "db"], REFUSED, none, "did you mean 'web01'?");
    let none = "there is no template 'tinny'";
    for args in [&["launch", "tinny", "a"][..], &["create", "tinny"], &["template", "show", "tinny"]] {
        refuses(&host, args, REFUSED, none, "did you mean 'tiny'?");
    }
    refuses(&host, &["template", "delete", "tinny"], REFUSED, none, "did you mean 'tiny'?");
    let none = "there is no template 'debian21'";
    refuses(&host, &["template", "build", "debian21"], REFUSED, none, "did you mean 'debian");
    refuses(&host, &["launch", "zzzzzzzz"], REFUSED, "there is no template 'zzzzzzzz'", "template list");
}

#[test]
fn names_that_cannot_be() {
    let host = Host::new();
    host.ok(&["create", "tiny", "good"]);
    let long = "a".repeat(64);
    for bad in ["Web", "a_b", "-a", "a-", "123", "", "a.b", "a b", "ä", "a\n", "../a", &long] {
        for args in
            [&["launch", "tiny", "--", bad][..], &["create", "tiny", "--", bad], &["start", "--", bad]]
        {
            refuses(&host, args, REFUSED, "not a container's name: …", "RFC 1123");
        }
        refuses(&host, &["rename", "good", "--", bad], REFUSED, "not a container's name: …", "RFC 1123");
    }
    for bad in ["", "a b", "../x", "/etc", "-x", "a\nb", &"a".repeat(129)] {
        let args = ["template", "import", "/dev/null", &format!("--name={bad}")];
        refuses(&host, &args, REFUSED, "…", "letters, digits");
    }
    for bad in ["Up", "a/b", "..", "thirteen-char", "0a"] {
        let mut command = host.command(&["list"]);
        command.env("NAGAYA_INSTANCE", bad);
        let output = Running::start(command, b"").wait();
        check(&output, REFUSED, "cannot use NAGAYA_INSTANCE: …", "unset NAGAYA_INSTANCE");
    }
}

#[test]
fn names_that_are_taken() {
    let host = Host::new();
    host.ok(&["create", "tiny", "a"]);
    host.ok(&["create", "tiny", "b"]);
    for args in [&["launch", "tiny", "a"][..], &["create", "tiny", "a"]] {
        refuses(&host, args, REFUSED, "there is a container 'a' already", "nagaya delete a");
    }
    refuses(&host, &["rename", "b", "a"], REFUSED, "there is a container 'a' already", "nagaya delete a");
    let args = ["template", "import", "/etc/hostname", "--name", "tiny"];
    refuses(&host, &args, REFUSED, "there is a template 'tiny' already", "nagaya template delete tiny");
    let args = ["template", "delete", "tiny"];
    refuses(&host, &args, REFUSED, "template 'tiny' is used by a, b", "delete those containers");
}

#[test]
fn verbs_at_the_wrong_time() {
    let host = Host::new();
    host.launch("up");
    host.ok(&["create", "tiny", "down"]);
    refuses(&host, &["start", "up"], REFUSED, "container 'up' is running already", "nagaya restart up");
    refuses(&host, &["delete", "up"], REFUSED, "container 'up' is running", "--force");
    refuses(&host, &["rename", "up", "x"], REFUSED, "container 'up' is running", "nagaya stop up");
    refuses(&host, &["resume", "up"], REFUSED, "container 'up' is not paused", "");
    for args in [&["exec", "down", "--", "id"][..], &["exec", "-t", "down", "--", "id"], &["shell", "down"]] {
        refuses(&host, args, REFUSED, "container 'down' is not running", "nagaya start down");
    }
    for verb in ["stop", "pause", "resume", "console"] {
        refuses(&host, &[verb, "down"], REFUSED, "container 'down' is not running", "nagaya start down");
    }
    host.ok(&["pause", "up"]);
    for args in [&["exec", "up", "--", "id"][..], &["start", "up"], &["pause", "up"]] {
        refuses(&host, args, REFUSED, "container 'up' is paused", "nagaya resume up");
    }
    refuses(&host, &["delete", "up"], REFUSED, "container 'up' is running", "--force");
    host.ok(&["delete", "--force", "up"]);
    refuses(&host, &["start", "up"], REFUSED, "there is no container 'up'", "nagaya list");
}

#[test]
fn programs_that_cannot_run_in_a_guest() {
    let host = Host::new();
    host.launch("a");
    let exec = |args: &[&'static str], code: i32, error: &str| {
        let output = host.nagaya(&[&["exec"], args].concat());
        check(&output, code, error, "");
    };
    exec(&["a", "--", "nope"], 127, "'nope' is not in the guest");
    exec(&["a", "--", "/bin/nope"], 127, "'/bin/nope' is not in the guest");
    exec(&["a", "--", "/etc/passwd"], 126, "cannot execute '/etc/passwd' in the guest: Permission denied");
    exec(&["a", "--", "/etc"], 126, "cannot execute '/etc' in the guest: Permission denied");
    exec(&["a", "--user", "nobody-here", "--", "id"], 126, "the guest has no user 'nobody-here'");
    exec(&["a", "--user", "65536", "--", "id"], 126, "id 65536 is beyond the container's 65536");
    exec(&["a", "--cwd", "/nope", "--", "id"], 126, "cannot enter the directory '/nope' in the guest: …");
    assert_eq!(host.nagaya(&["exec", "a", "--", "sh", "-c", "exit 70"]).status.code(), Some(70));
    assert_eq!(host.nagaya(&["exec", "a", "--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
}

#[test]
fn wrong_usage() {
    let host = Host::new();
    for args in [
        &["frobnicate"][..],
        &["launch"],
        &["start"],
        &["exec", "a"],
        &["template"],
        &["template", "import", "x.tar"],
        &["setup", "--id-ranges", "1"],
        &["setup", "--subnet", "10.0.0.1"],
        &["setup", "--yes"],
        &["stop", "a", "--timeout", "soon"],
        &["list", "--format", "yaml"],
    ] {
        let output = host.nagaya(args);
        assert_eq!(output.status.code(), Some(USAGE), "{}", told(&output));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.starts_with("error: ") || text.contains("Usage:"), "{text}");
    }
}

#[test]
fn several_at_once_of_which_one_is_bad() {
    let host = Host::new();
    for name in ["a", "b"] {
        host.ok(&["create", "tiny", name]);
    }
    let states = || -> Vec<String> {
        host.list().iter().map(|c| format!("{} {}", c["name"], c["state"]).replace('"', "")).collect()
    };
    // A name that no container can have stops all: it was not meant so.
    refuses(&host, &["start", "a", "b", "No!"], REFUSED, "not a container's name: …", "RFC 1123");
    assert_eq!(states(), ["a stopped", "b stopped"]);
    // One that does not exist stops only itself.
    let none = "unlike: there is no container 'unlike'";
    check(&host.nagaya(&["start", "a", "unlike", "b"]), REFUSED, none, "nagaya list");
    assert_eq!(states(), ["a running", "b running"]);
    host.see_links();
    let output = host.nagaya(&["stop", "--force", "b", "unlike"]);
    check(&output, REFUSED, none, "nagaya list");
    assert_eq!(states(), ["a running", "b stopped"]);
    let output = host.nagaya(&["delete", "a", "b"]);
    check(&output, REFUSED, "a: container 'a' is running", "nagaya stop a");
    assert_eq!(states(), ["a running"]);
}

#[test]
fn a_container_that_is_created_is_started_later() {
    let host = Host::new();
    assert_eq!(host.ok(&["create", "tiny", "a"]), "a\n");
    assert_eq!(host.list()[0]["state"], "stopped");
    host.ok(&["start", "a"]);
    host.see_links();
    assert_eq!(host.sh("a", "hostname"), "a");
}
