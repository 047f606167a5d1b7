//! Requests of `nagaya engine` that work on descriptors of whoever starts it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::host::{Host, Running, told, until};
use super::templates;

/// The engine with descriptors that the shell's `redirections` open for it.
fn start(host: &Host, request: &Value, redirections: &str) -> Running {
    let line = format!("exec \"$0\" engine {redirections}");
    let mut command = host.program("sh", &["-c", &line, env!("CARGO_BIN_EXE_nagaya")]);
    command.env("NAGAYA_INSTANCE", host.name());
    Running::start(command, request.to_string().as_bytes())
}

/// Its last line.
fn ask(host: &Host, request: &Value, redirections: &str) -> Value {
    let output = start(host, request, redirections).wait();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().unwrap_or_else(|| panic!("no line: {}", told(&output)));
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}"))
}

fn run(command: &[&str]) -> Value {
    json!({"request": "run_program", "name": "c", "command": command})
}

/// The request with more members.
fn with(mut request: Value, more: &Value) -> Value {
    let members = request.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    request
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("read what was printed")
}

#[test]
fn a_program_has_what_is_passed_to_it() {
    let host = Host::new();
    host.launch("c");
    let dir = tempfile::tempdir().expect("a directory");
    let [input, out, err] = ["in", "out", "err"].map(|name| dir.path().join(name));
    fs::write(&input, "typed\n").expect("write a file");
    let streams = format!("3<{} 4>{} 5>{}", input.display(), out.display(), err.display());
    let script = r#"cat; echo "$A in $(pwd)"; echo err >&2; exit 7"#;
    let request = with(
        run(&["sh", "-c", script]),
        &json!({"stdin": 3, "stdout": 4, "stderr": 5, "environment": {"A": "b"}, "directory": "/etc"}),
    );
    assert_eq!(ask(&host, &request, &streams), json!({"response": {"program": {"exited": 7}}}));
    assert_eq!((text(&out).as_str(), text(&err).as_str()), ("typed\nb in /etc\n", "err\n"));

    // What is not said is empty.
    let request = with(run(&["sh", "-c", "cat; echo here; echo lost >&2"]), &json!({"stdout": 4}));
    assert_eq!(ask(&host, &request, &streams)["response"]["program"], json!({"exited": 0}));
    assert_eq!(text(&out), "here\n");

    // A terminal of its own, with nobody at it.
    let size = json!({"terminal": {"rows": 33, "columns": 44}, "stdout": 4});
    assert_eq!(
        ask(&host, &with(run(&["stty", "size"]), &size), &streams)["response"]["program"],
        json!({"exited": 0})
    );
    assert_eq!(text(&out), "33 44\r\n");

    let detached = with(run(&["sh", "-c", "echo on > /tmp/on; sleep 1000"]), &json!({"detach": true}));
    assert_eq!(ask(&host, &detached, ""), json!({"response": {"program": "runs"}}));
    until(10, "it runs on", || host.exec("c", &["sh", "-c", "cat /tmp/on || true"]) == "on");
    let missing = &ask(&host, &run(&["no-such-program"]), "")["response"]["program"]["not_started"];
    assert_eq!(missing["code"], 127, "{missing}");
}

#[test]
fn only_what_was_passed_on_can_be_named() {
    let host = Host::new();
    host.launch("c");
    let refused = |request: &Value, redirections: &str| {
        let error = ask(&host, request, redirections)["error"].take();
        assert_eq!(error["code"], "descriptor_missing", "{request}: {error}");
    };
    // The numbers from 4 on are of what the engine opens itself: its broker, its database.
    for number in [-1, 0, 1, 2].into_iter().chain(4..10) {
        let redirections = "3</dev/null 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-";
        refused(&with(run(&["cat"]), &json!({"stdin": number})), redirections);
    }
    refused(&json!({"request": "attach_console", "name": "c", "output": 3}), "3<&-");
    refused(&json!({"request": "import_template", "name": "other", "archive": 9}), "3</dev/null 9<&-");
    let (code, other) = (host.nagaya(&["template", "show", "other"]).status.code(), "no template was made");
    assert_eq!(code, Some(1), "{other}");
}

#[test]
fn nothing_that_is_passed_on_reaches_a_guest_or_what_runs_for_it() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("a directory");
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret").expect("write a file");
    let redirections = format!("3<{0} 9<{0}", secret.display());
    let launch = json!({"request": "launch_container", "template": "tiny", "name": "c"});
    assert_eq!(ask(&host, &launch, &redirections), json!({"response": {"name": "c"}}));
    let request = with(run(&["sleep", "1000"]), &json!({"stdin": 3, "detach": true}));
    assert_eq!(ask(&host, &request, &redirections)["response"]["program"], "runs");
    let has_it = |pid: i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target == secret)
    };
    let holders: Vec<i32> = super::host::pids().filter(|pid| has_it(*pid)).collect();
    assert!(holders.is_empty(), "{holders:?}");
}

#[test]
fn a_console_and_an_archive_by_descriptors() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let archive = format!("7<{}", templates::tiny().display());
    let import = json!({"request": "import_template", "name": "other", "archive": 7});
    assert_eq!(ask(&host, &import, &archive)["response"]["template"]["name"], "other");
    assert_eq!(ask(&host, &import, &archive)["error"]["code"], "template_exists");

    host.launch("c");
    let attach = json!({"request": "attach_console", "name": "c", "output": 5, "plain": true});
    let shown = start(&host, &attach, &format!("5>{}", out.display()));
    until(10, "it is told that it is attached", || {
        shown.printed().contains(r#"{"event":{"type":"attached"}}"#)
    });
    until(10, "the boot is shown", || text(&out).contains("tiny: up"));
    let log = dir.path().join("log");
    let show = json!({"request": "show_log", "name": "c", "output": 3, "lines": 1000, "plain": true});
    assert_eq!(ask(&host, &show, &format!("3>{}", log.display())), json!({"response": {"done": null}}));
    assert_eq!(text(&log), host.ok(&["logs", "c"]));
    let full = ask(&host, &show, "3>/dev/full")["error"].take();
    assert_eq!(full["code"], "system_call", "{full}");
    host.ok(&["stop", "--force", "c"]);
    let done = shown.wait_for(Duration::from_secs(10));
    let last = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(last.ends_with("{\"response\":{\"console\":\"closed\"}}\n"), "{last}");
}
