//! The journal of operations: what is under way, what was done, and what becomes of what was cut short.

use std::time::Duration;

use serde_json::Value;

use super::host::{Host, until};

fn operations(host: &Host) -> Vec<Value> {
    serde_json::from_str(&host.ok(&["operation", "list", "--format", "json"])).expect("JSON")
}

#[test]
fn what_was_done_is_kept_with_its_end() {
    let host = Host::new();
    host.launch("web01");
    host.fails(1, &["launch", "tiny", "bad", "--network", "nowhere"]);
    host.ok(&["create", "tiny", "db1"]);
    host.ok(&["delete", "--force", "web01"]);
    let all = operations(&host);
    let seen: Vec<_> =
        all.iter().map(|o| [&o["kind"], &o["subject"], &o["status"]].map(|v| v.as_str().unwrap())).collect();
    // What was refused before anything was done is no operation.
    let wanted = [
        ["delete", "web01", "done"],
        ["create", "db1", "done"],
        ["launch", "web01", "done"],
        ["template-import", "tiny", "done"],
    ];
    assert_eq!(seen, wanted);
    let launch = &all[2];
    assert_eq!((&launch["step"], &launch["params"]["template"]), (&Value::from(2), &Value::from("tiny")));
    let took = launch["ended_at"].as_i64().unwrap() - launch["created_at"].as_i64().unwrap();
    assert!((1..60_000).contains(&took), "{took} ms");
    let id = launch["id"].as_str().unwrap();
    let shown = host.ok(&["operation", "show", &id[..8]]);
    assert!(shown.contains("step:") && shown.contains("start (3 of 3)"), "{shown}");
    assert!(host.fails(1, &["operation", "show", "zz"]).contains("there is no operation 'zz'"));
}

#[test]
fn what_fails_says_why_and_leaves_nothing() {
    let host = Host::new();
    host.ok(&["create", "tiny", "first"]);
    // A container's directory that cannot be made: its files are the second step.
    let containers = host.state_dir().join("containers");
    let is_immutable = |on: bool| {
        super::host::run_tool("chattr", &[if on { "+i" } else { "-i" }, containers.to_str().unwrap()]);
    };
    is_immutable(true);
    let refused = host.nagaya(&["launch", "tiny", "second"]);
    is_immutable(false);
    assert!(!refused.status.success());
    let last = &operations(&host)[0];
    assert_eq!((&last["kind"], &last["status"]), (&Value::from("launch"), &Value::from("failed")));
    assert_eq!(last["step"], 1, "{last}");
    assert!(last["error"].as_str().unwrap().contains("cannot make"), "{last}");
    assert_eq!(host.list().len(), 1);
    host.launch("second");
}

/// A command that is killed while it works is listed by the next one as what it was, with its end.
#[test]
fn what_was_killed_is_ended_by_the_next_command() {
    let host = Host::new();
    let mut caught = false;
    for _ in 0..200 {
        let running = host.spawn(&["launch", "tiny", "victim"], b"");
        std::thread::sleep(Duration::from_millis(8));
        running.kill(true);
        drop(running.wait());
        let all = operations(&host);
        let newest = all.iter().find(|o| o["subject"] == "victim");
        if newest.is_some_and(|o| o["status"] == "failed") {
            caught = true;
            break;
        }
        host.nagaya(&["delete", "--force", "victim"]);
    }
    assert!(caught, "no launch was caught under way");
    until(20, "nothing is under way", || operations(&host).iter().all(|o| o["ended_at"].is_i64()));
    let killed = operations(&host).into_iter().find(|o| o["subject"] == "victim" && o["status"] == "failed");
    assert_eq!(killed.unwrap()["error"], "its command was killed");
    assert!(host.list().is_empty());
    host.launch("victim");
}
